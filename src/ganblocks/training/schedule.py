"""Training schedules as pure functions of the number of real images seen."""

import abc
import dataclasses
import math
from collections.abc import Mapping, Sequence

from ganblocks._checks import require

__all__ = ["ConstantSchedule", "CosineSchedule", "Phase", "ProgressiveSchedule", "Schedule"]


@dataclasses.dataclass(frozen=True)
class Phase:
    """What holds for one batch.

    Attributes:
        batch_size: Real images in the batch.
        learning_rate: Of all optimizers.
        resolution: Side of the images in pixels; ``None`` where training does not grow.
        alpha: Share of the newest layers, 0 to 1.
        stage: Index of the resolution, 0 for the first.
        fading: Whether new layers are being faded in.
        stage_images: Images seen since the stage began.
    """

    batch_size: int
    learning_rate: float
    resolution: int | None = None
    alpha: float = 1.0
    stage: int = 0
    fading: bool = False
    stage_images: int = 0

    def scaled(self, factor: float) -> "Phase":
        """The same, with a learning rate ``factor`` times as high."""
        return self if factor == 1 else dataclasses.replace(self, learning_rate=factor * self.learning_rate)


class Schedule(abc.ABC):
    """A pure function from images seen to a `Phase`, with an end."""

    @property
    @abc.abstractmethod
    def total_images(self) -> int:
        """Images after which training ends."""

    @abc.abstractmethod
    def phase(self, images_seen: int) -> Phase:
        """What holds for the batch that starts after ``images_seen`` images."""


@dataclasses.dataclass(frozen=True)
class ConstantSchedule(Schedule):
    """The same batch size and learning rate from start to end.

    Attributes:
        images: Images after which training ends, at least 1.
        batch_size: Real images in a batch.
        learning_rate: Of all optimizers.
        resolution: Side of the images where the data comes in several; ``None`` = as it is.
        epoch_images: Images in a pass over the data: a batch never reaches into the next pass, so that the last one of
            each is smaller where the batch size does not divide it. A single image that is left joins the batch before
            it, as batch normalisation wants two. ``None`` = all batches are full.
    """

    images: int
    batch_size: int
    learning_rate: float
    resolution: int | None = None
    epoch_images: int | None = None

    def __post_init__(self) -> None:
        require(self.images >= 1, "total_images", self.images, "at least 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        require(self.epoch_images is None or self.epoch_images >= 1, "epoch_images", self.epoch_images, "at least 1")

    @property
    def total_images(self) -> int:
        """Images after which training ends."""
        return self.images

    def phase(self, images_seen: int) -> Phase:
        """The one phase there is; its batch may be smaller, or larger by one, where an epoch ends.

        Raises:
            ValueError: If ``images_seen`` is negative.
        """
        require(images_seen >= 0, "images_seen", images_seen, "0 or more")
        size = self.batch_size
        if self.epoch_images is not None:
            left = self.epoch_images - images_seen % self.epoch_images
            size = left if left == size + 1 > 2 else min(size, left)
        return Phase(size, self.learning_rate, resolution=self.resolution, stage_images=images_seen)


@dataclasses.dataclass(frozen=True)
class CosineSchedule(Schedule):
    """One batch size, and a learning rate that rises in a line and then falls in half a cosine to 0 at the end.

    Loshchilov and Hutter 2017 (SGDR), equation 5, one period and no restart; the rise is that of Goyal et al. 2017,
    section 2.2.

    Attributes:
        images: Images after which training ends, at least 1.
        batch_size: Real images in a batch.
        learning_rate: The highest, of all optimizers, at the end of the rise.
        warmup_images: Images of the rise, which begins one batch above 0; 0 = none.
        resolution: Side of the images where the data comes in several; ``None`` = as it is.
    """

    images: int
    batch_size: int
    learning_rate: float
    warmup_images: int = 0
    resolution: int | None = None

    def __post_init__(self) -> None:
        require(self.images >= 1, "total_images", self.images, "at least 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        shorter = 0 <= self.warmup_images < self.images
        require(shorter, "warmup_images", self.warmup_images, f"from 0 to below all {self.images} images")

    @property
    def total_images(self) -> int:
        """Images after which training ends."""
        return self.images

    def phase(self, images_seen: int) -> Phase:
        """What holds for the batch that starts after ``images_seen`` images; beyond the end, the learning rate is 0.

        Raises:
            ValueError: If ``images_seen`` is negative.
        """
        require(images_seen >= 0, "images_seen", images_seen, "0 or more")
        if images_seen < self.warmup_images:
            share = min(1.0, (images_seen + self.batch_size) / self.warmup_images)
        else:
            fall = min(1.0, (images_seen - self.warmup_images) / (self.images - self.warmup_images))
            share = (1 + math.cos(math.pi * fall)) / 2
        rate = share * self.learning_rate
        return Phase(self.batch_size, rate, resolution=self.resolution, stage_images=images_seen)


@dataclasses.dataclass(frozen=True)
class ProgressiveSchedule(Schedule):
    """Growing resolutions: hold the first, then for each doubling fade its layers in and hold.

    Karras et al. 2018, section 2 and appendix A.1. Within a stage ``alpha = min(1, stage images / fade images)``.

    Attributes:
        resolutions: Doubling sides in pixels, smallest first.
        fade_images: Images of the fade of each stage, 0 or more; the paper has 0 in the first stage.
        stable_images: Images of each stage after its fade, 0 or more.
        batch_sizes: Images in a batch, for each stage.
        learning_rates: For each stage.
        first_alpha: Lower bound of alpha within a fade; the paper has 0.
    """

    resolutions: tuple[int, ...]
    fade_images: tuple[int, ...]
    stable_images: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    learning_rates: tuple[float, ...]
    first_alpha: float = 0.0

    def __post_init__(self) -> None:
        require(len(self.resolutions) >= 1, "resolutions", self.resolutions, "at least one")
        doubling = all(2 * a == b for a, b in zip(self.resolutions, self.resolutions[1:], strict=False))
        require(doubling, "resolutions", self.resolutions, "each the double of the one before")
        for name in ("fade_images", "stable_images", "batch_sizes", "learning_rates"):
            values: Sequence[float] = getattr(self, name)
            require(len(values) == len(self.resolutions), name, values, f"one for each of {self.resolutions}")
        require(min(self.fade_images) >= 0, "fade_images", self.fade_images, "0 or more")
        require(min(self.stable_images) >= 0, "stable_images", self.stable_images, "0 or more")
        lengths = self.stage_lengths
        require(min(lengths) >= 1, "fade_images + stable_images", lengths, "at least 1 in each stage")
        require(min(self.batch_sizes) >= 1, "batch_sizes", self.batch_sizes, "at least 1")
        require(min(self.learning_rates) > 0, "learning_rates", self.learning_rates, "above 0")
        require(0 <= self.first_alpha <= 1, "first_alpha", self.first_alpha, "between 0 and 1")

    @classmethod
    def build(
        cls,
        resolutions: Sequence[int],
        *,
        phase_images: int,
        batch_sizes: Mapping[int, int] | int,
        learning_rates: Mapping[int, float] | float,
        fade_first: bool = False,
        first_alpha: float = 0.0,
    ) -> "ProgressiveSchedule":
        """The paper's form: every fade and every hold takes ``phase_images``.

        Args:
            resolutions: Doubling sides in pixels, smallest first.
            phase_images: Images of each fade and each hold (600,000 in the paper's code; 800,000 in its first form).
            batch_sizes: One for all stages, or by resolution.
            learning_rates: One for all stages, or by resolution.
            fade_first: Whether the first stage has a fade too.
            first_alpha: Lower bound of alpha within a fade.

        Raises:
            ValueError: If a number is out of range or a resolution is missing from a mapping.
        """
        for name, mapping in (("batch_sizes", batch_sizes), ("learning_rates", learning_rates)):
            missing = [r for r in resolutions if isinstance(mapping, Mapping) and r not in mapping]
            require(not missing, name, mapping, f"defined for {missing} too")
        fades = [phase_images if index or fade_first else 0 for index in range(len(resolutions))]
        return cls(
            resolutions=tuple(resolutions),
            fade_images=tuple(fades),
            stable_images=(phase_images,) * len(resolutions),
            batch_sizes=tuple(batch_sizes[r] if isinstance(batch_sizes, Mapping) else batch_sizes for r in resolutions),
            learning_rates=tuple(
                learning_rates[r] if isinstance(learning_rates, Mapping) else learning_rates for r in resolutions
            ),
            first_alpha=first_alpha,
        )

    @property
    def stage_lengths(self) -> tuple[int, ...]:
        """Images of each stage."""
        return tuple(fade + stable for fade, stable in zip(self.fade_images, self.stable_images, strict=True))

    @property
    def stage_starts(self) -> tuple[int, ...]:
        """Images seen when each stage begins."""
        return tuple(sum(self.stage_lengths[:index]) for index in range(len(self.resolutions)))

    @property
    def total_images(self) -> int:
        """Images after which training ends."""
        return sum(self.stage_lengths)

    def phase(self, images_seen: int) -> Phase:
        """What holds for the batch that starts after ``images_seen`` images; beyond the end, the last stage goes on.

        Raises:
            ValueError: If ``images_seen`` is negative.
        """
        require(images_seen >= 0, "images_seen", images_seen, "0 or more")
        starts = self.stage_starts
        stage = max(index for index, start in enumerate(starts) if start <= images_seen)
        within = images_seen - starts[stage]
        fade = self.fade_images[stage]
        fading = within < fade
        alpha = max(within / fade, self.first_alpha) if fading else 1.0
        return Phase(
            batch_size=self.batch_sizes[stage],
            learning_rate=self.learning_rates[stage],
            resolution=self.resolutions[stage],
            alpha=alpha,
            stage=stage,
            fading=fading,
            stage_images=within,
        )

    def lod(self, images_seen: int) -> float:
        """Level of detail as the authors' code counts it: doublings still missing to the largest resolution.

        ``len(resolutions) - 1`` at the start, falling with alpha to 0.
        """
        phase = self.phase(images_seen)
        shown = phase.stage - 1 + phase.alpha if phase.stage else 0.0
        return len(self.resolutions) - 1 - shown

    def largest_phase(self) -> Phase:
        """A batch in the middle of the last fade: the one that needs the most memory."""
        resolution = self.resolutions[-1]
        alpha = 0.5 if math.prod((len(self.resolutions) > 1, self.fade_images[-1])) else 1.0
        return Phase(self.batch_sizes[-1], self.learning_rates[-1], resolution, alpha, len(self.resolutions) - 1, True)
