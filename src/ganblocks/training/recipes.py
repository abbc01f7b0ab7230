"""Recipes: everything about an experiment that is not architecture."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, Self

import torch
from torch import nn

from ganblocks._checks import require
from ganblocks.training.classifier_step import ClassifierStep
from ganblocks.training.ema import ExponentialMovingAverage
from ganblocks.training.precision import Precision
from ganblocks.training.progressive_step import ProgressiveStep
from ganblocks.training.schedule import CosineSchedule, ProgressiveSchedule
from ganblocks.training.steps import latent_sampler

__all__ = ["ClassifierRecipe", "ProGANRecipe", "document", "karras2018", "small_classifier"]

_KARRAS_BATCHES = {4: 128, 8: 128, 16: 128, 32: 64, 64: 32, 128: 16, 256: 8, 512: 4, 1024: 4}
_KARRAS_RATES = {**dict.fromkeys((4, 8, 16, 32, 64, 128, 256, 512), 0.001), 1024: 0.0015}
_DOCUMENT_BATCHES = {4: 32, 8: 32, 16: 32, 32: 16, 64: 16, 128: 16, 256: 16, 512: 8, 1024: 4}


@dataclasses.dataclass(frozen=True)
class ProGANRecipe:
    """How a ProGAN is trained. The defaults are Karras et al. 2018, as their published program has it for one GPU.

    That differs from appendix A.1 of the paper in the images of a phase (800,000 there), batches, the last learning
    rate and the moments of Adam, of which the text says nothing; the guide's page on ProGAN has the list.

    Attributes:
        start_resolution: Side of the first stage's images in pixels.
        phase_images: Images of each fade and each hold.
        fade_first: Whether the first stage begins with a fade.
        first_alpha: Lower bound of alpha within a fade.
        batch_sizes: By resolution.
        learning_rates: By resolution.
        betas: Of Adam.
        adam_eps: Of Adam.
        reset_moments: Whether Adam forgets its moments at both ends of each fade.
        penalty_weight: Lambda of the gradient penalty, 0 or more; 0 = none is computed.
        drift_weight: Weight of the mean squared score of the reals.
        n_critic: Discriminator updates for each generator update.
        reuse_fakes: Whether the generator is updated on the fakes that the discriminator was trained on.
        blend_reals: Whether reals are cross-faded as well.
        sampler: Latents that the finished generator is sampled with, ``"normal"`` or ``"truncnorm"``; training always
            draws N(0, 1).
        truncation: Bound of the truncated normal.
        ema_decay: Of the generator's moving average, a step; ``None`` for no average, unless
            ``ema_half_life_images`` is given, which comes first.
        ema_half_life_images: The same as a half-life.
        mirror: Whether images are mirrored at random.
        recompute_from: Resolution from which the blocks of both networks keep no features for the backward pass, but
            compute them again, which takes less memory and more time; see `ganblocks.models.progan.Generator`.
            ``None`` = all are kept.
    """

    start_resolution: int = 4
    phase_images: int = 600_000
    fade_first: bool = False
    first_alpha: float = 0.0
    batch_sizes: dict[int, int] = dataclasses.field(default_factory=lambda: dict(_KARRAS_BATCHES))
    learning_rates: dict[int, float] = dataclasses.field(default_factory=lambda: dict(_KARRAS_RATES))
    betas: tuple[float, float] = (0.0, 0.99)
    adam_eps: float = 1e-8
    reset_moments: bool = True
    penalty_weight: float = 10.0
    drift_weight: float = 1e-3
    n_critic: int = 1
    reuse_fakes: bool = False
    blend_reals: bool = True
    sampler: Literal["normal", "truncnorm"] = "normal"
    truncation: float = 0.7
    ema_decay: float | None = 0.999
    ema_half_life_images: float | None = None
    mirror: bool = True
    recompute_from: int | None = None

    def replace(self, **changes: Any) -> Self:
        """A copy with other values in the named fields."""
        return dataclasses.replace(self, **changes)

    def schedule(self, resolution: int, *, stage_images: Sequence[int] | None = None) -> ProgressiveSchedule:
        """The schedule from `start_resolution` to ``resolution``.

        Args:
            resolution: Of the last stage, a power of two.
            stage_images: Images of each stage instead of what `phase_images` gives: half of them fade and half hold,
                all of them hold in a first stage without fade. One number for each stage.

        Raises:
            ValueError: If the resolution is below the start or the numbers do not fit.
        """
        start = self.start_resolution
        require(resolution >= start, "resolution", resolution, f"at least the first resolution {start}")
        resolutions = [start]
        while resolutions[-1] < resolution:
            resolutions.append(2 * resolutions[-1])
        require(resolutions[-1] == resolution, "resolution", resolution, f"{start} times a power of two")
        schedule = ProgressiveSchedule.build(
            resolutions,
            phase_images=self.phase_images,
            batch_sizes=self.batch_sizes,
            learning_rates=self.learning_rates,
            fade_first=self.fade_first,
            first_alpha=self.first_alpha,
        )
        if stage_images is None:
            return schedule
        require(len(stage_images) == len(resolutions), "stage_images", stage_images, f"one for each of {resolutions}")
        fades = [count // 2 if index or self.fade_first else 0 for index, count in enumerate(stage_images)]
        holds = [count - fade for count, fade in zip(stage_images, fades, strict=True)]
        return dataclasses.replace(schedule, fade_images=tuple(fades), stable_images=tuple(holds))

    def build_step(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        latent_dim: int,
        conditional: bool = False,
        precision: Precision | None = None,
        **options: Any,
    ) -> ProgressiveStep:
        """Optimizers, moving average and step for two growing networks, which must already be on their device.

        Args:
            generator: See `ProgressiveStep`.
            discriminator: See `ProgressiveStep`.
            latent_dim: Size of a latent vector.
            conditional: Whether labels are used.
            precision: ``None`` = float32 on the CPU.
            **options: Of `ProgressiveStep`, such as ``augment``.

        Raises:
            TypeError: If features are to be computed again by networks that have no ``recompute_from``.
        """
        if self.recompute_from is not None:
            for network in (generator, discriminator):
                known, name = hasattr(network, "recompute_from"), type(network).__name__
                require(known, "recompute_from", self.recompute_from, f"None: {name} cannot compute anew", TypeError)
                network.recompute_from = self.recompute_from  # type: ignore[assignment]
        average = None
        if self.ema_half_life_images is not None:
            average = ExponentialMovingAverage(generator, half_life_images=self.ema_half_life_images)
        elif self.ema_decay is not None:
            average = ExponentialMovingAverage(generator, decay=self.ema_decay)
        if not self.penalty_weight:
            options.setdefault("penalty", None)
        return ProgressiveStep(
            generator,
            discriminator,
            generator_optimizer=self._adam(generator),
            discriminator_optimizer=self._adam(discriminator),
            sampler=latent_sampler(latent_dim),
            penalty_weight=self.penalty_weight,
            drift_weight=self.drift_weight,
            n_critic=self.n_critic,
            reuse_fakes=self.reuse_fakes,
            conditional=conditional,
            ema=average,
            precision=precision,
            blend_reals=self.blend_reals,
            reset_moments=self.reset_moments,
            **options,
        )

    def _adam(self, module: nn.Module) -> torch.optim.Adam:
        rate = self.learning_rates[self.start_resolution]
        return torch.optim.Adam(module.parameters(), lr=rate, betas=self.betas, eps=self.adam_eps, fused=True)


def karras2018(**overrides: Any) -> ProGANRecipe:
    """The authors' training: WGAN-GP, Adam (0, 0.99), 600,000 images a phase, moments reset, average of 0.999."""
    return ProGANRecipe(**overrides)


def document(*, dataset_images: int = 30_000, epochs: int = 30, **overrides: Any) -> ProGANRecipe:
    """The course text's training: each stage fades in for half of its epochs, then holds; no average, nothing reset.

    Args:
        dataset_images: Images in the data set (30,000 in CelebA-HQ).
        epochs: Passes over it in each stage.
        **overrides: Fields of `ProGANRecipe`. The text starts at 128 pixels, without any smaller stage before;
            ``start_resolution=4`` grows from the beginning.
    """
    values: dict[str, Any] = {
        "start_resolution": 128,
        "phase_images": epochs * dataset_images // 2,
        "fade_first": True,
        "first_alpha": 1e-5,
        "batch_sizes": dict(_DOCUMENT_BATCHES),
        "learning_rates": dict.fromkeys(_DOCUMENT_BATCHES, 0.001),
        "reset_moments": False,
        "reuse_fakes": True,
        "blend_reals": False,
        "ema_decay": None,
        "sampler": "truncnorm",
    }
    return ProGANRecipe(**{**values, **overrides})


@dataclasses.dataclass(frozen=True)
class ClassifierRecipe:
    """How a small classifier is trained. No augmentation; the learning rate rises in a line and falls in a cosine.

    Attributes:
        epochs: Passes over the data set.
        batch_size: Images in a batch.
        learning_rate: The highest.
        warmup: Share of all images over which the learning rate rises, 0 to below 1.
        betas: Of Adam.
        adam_eps: Of Adam.
        label_smoothing: See `ClassifierStep`.
    """

    epochs: int = 4
    batch_size: int = 128
    learning_rate: float = 3e-3
    warmup: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    adam_eps: float = 1e-8
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(0 <= self.warmup < 1, "warmup", self.warmup, "from 0 to below 1")

    def replace(self, **changes: Any) -> Self:
        """A copy with other values in the named fields."""
        return dataclasses.replace(self, **changes)

    def schedule(self, dataset_images: int, *, updates: int | None = None) -> CosineSchedule:
        """The schedule for a data set with this many images.

        Args:
            dataset_images: Images in the data set.
            updates: Training ends after this many, whatever `epochs` says: a smaller and a larger data set are compared
                fairly after the same number. ``None`` = after `epochs`.

        Raises:
            ValueError: If a number is out of range.
        """
        require(updates is None or updates >= 1, "updates", updates, "at least 1, or None")
        images = self.epochs * dataset_images if updates is None else updates * self.batch_size
        return CosineSchedule(images, self.batch_size, self.learning_rate, warmup_images=int(self.warmup * images))

    def build_step(self, classifier: nn.Module, *, precision: Precision | None = None) -> ClassifierStep:
        """Optimizer and step for a classifier, which must already be on its device.

        Args:
            classifier: See `ClassifierStep`.
            precision: ``None`` = float32 on the CPU.
        """
        optimizer = torch.optim.Adam(
            classifier.parameters(), lr=self.learning_rate, betas=self.betas, eps=self.adam_eps, fused=True
        )
        return ClassifierStep(
            classifier, optimizer=optimizer, label_smoothing=self.label_smoothing, precision=precision
        )


def small_classifier(**overrides: Any) -> ClassifierRecipe:
    """For `ganblocks.models.classifier` on MNIST and its relatives: Adam, four epochs at batch 128, highest rate 0.003.

    Args:
        **overrides: Fields of `ClassifierRecipe`.
    """
    return ClassifierRecipe(**overrides)
