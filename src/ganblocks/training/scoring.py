"""Metrics of :mod:`ganblocks.metrics` during a run, which goes on as if they had not been computed."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks._modes import evaluation_mode
from ganblocks.errors import GanblocksError
from ganblocks.functional.image_range import to_uint8
from ganblocks.metrics.evaluation import Evaluation, evaluate
from ganblocks.metrics.features import FeatureExtractor
from ganblocks.metrics.nearest import nearest_neighbors
from ganblocks.training.callbacks import Callback, passed, print_above_bar
from ganblocks.training.random_state import preserved_random_state
from ganblocks.visualization.grid import save_image_grid

if TYPE_CHECKING:
    from ganblocks.training.trainer import Trainer

__all__ = ["Images", "NearestSheet", "Scores", "networks_of"]

Images = Iterable[Tensor] | Callable[["Trainer"], Iterable[Tensor]]
"""Images as `evaluate` takes them, or what makes them from the state of a run."""


class Scores(Callback):
    """Computes scores at the end of the run, and before it where asked to, into the log.

    The values become a record of the log (``frechet_distance``, ``precision``, ...), so that curves show them; the
    scores with counts, settings and fingerprints become an event ``"scores"``, which the report shows. All networks of
    the step are in evaluation mode meanwhile; modes and global random state are put back.

    Scores that cannot be computed (images of another size, a network that has come to give NaN) are an event
    ``"scores_failed"`` and a ``RuntimeWarning``: they do not cost the run.

    Args:
        real: Real images, a tensor or a list of batches, or a function of the trainer that gives them.
        fake: A function of the trainer that makes generated images, always from the same latents. Values outside
            [-1, 1] are clamped, as saving them would do.
        metrics: As for `ganblocks.metrics.evaluate`.
        extractor: As there.
        held_out: As there; images, or a function of the trainer.
        options: As there.
        seed: As there.
        fractions: Points of a stage, as shares of its length, besides the run's end.
        every_stage: Whether those points are taken in every stage instead of the last one only.
        show: Whether the scores are also printed, above the progress bar.

    Raises:
        TypeError: If images are given that can be read only once.
    """

    def __init__(
        self,
        real: Images,
        fake: Callable[["Trainer"], Iterable[Tensor]],
        metrics: Sequence[str] = ("fd", "prdc"),
        *,
        extractor: FeatureExtractor | None = None,
        held_out: Images | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        seed: int = 0,
        fractions: Sequence[float] = (),
        every_stage: bool = False,
        show: bool = False,
    ) -> None:
        for name, images in (("real", real), ("held_out", held_out)):
            once = isinstance(images, Iterator)
            require(not once, name, images, "a tensor, a list of batches, or a function that gives them", TypeError)
        self.real = real
        self.fake = fake
        self.metrics: tuple[str, ...] = tuple(metrics)
        self.extractor = extractor
        self.held_out = held_out
        self.options = options
        self.seed = seed
        self.fractions: tuple[float, ...] = tuple(fractions)
        self.every_stage = every_stage
        self.show = show

    def on_step(self, trainer: "Trainer", previous: int) -> None:
        """Compute and log the scores if they are due."""
        schedule = trainer.schedule
        last = trainer.phase.stage == schedule.phase(schedule.total_images - 1).stage
        due = (last or self.every_stage) and passed(trainer, previous, self.fractions)
        if not due and not previous < trainer.total_images <= trainer.images_seen:
            return
        try:
            with preserved_random_state(), evaluation_mode(*networks_of(trainer.step)):
                evaluation = self.compute(trainer)
        except (GanblocksError, ValueError, TypeError) as error:  # a run of days must not end without its checkpoint
            trainer.event("scores_failed", message=str(error))
            warnings.warn(f"the scores of this moment cannot be computed: {error}", RuntimeWarning, stacklevel=2)
            return
        trainer.record({name: score.value for name, score in evaluation.scores.items()})
        trainer.event("scores", scores=evaluation.to_dict())
        if self.show:
            print_above_bar(f"{trainer.images_seen:>9,} images\n{evaluation}")

    def compute(self, trainer: "Trainer") -> Evaluation:
        """The scores of this moment."""
        return evaluate(
            _images(self.real, trainer),
            _clamped(self.fake(trainer)),
            self.metrics,
            extractor=self.extractor,
            held_out=None if self.held_out is None else _images(self.held_out, trainer),
            options=self.options,
            seed=self.seed,
        )


class NearestSheet(Callback):
    """Saves ``nearest.png`` at the end of a run: samples, each beside the real image that is nearest to it in pixels.

    What memorisation looks like, beside what the score of that name says.

    Args:
        draw: Makes the samples from the state of a run, always from the same latents.
        real: Real images, all of those trained on, or a function of the trainer that gives them.
        pairs: Samples shown; four pairs make a row.
        size: Side of one image on the sheet in pixels; smaller images are enlarged by whole factors.
    """

    def __init__(self, draw: Callable[["Trainer"], Tensor], real: Images, *, pairs: int = 16, size: int = 64) -> None:
        self.draw = draw
        self.real = real
        self.pairs = pairs
        self.size = size

    def on_end(self, trainer: "Trainer", finished: bool) -> None:
        """Find the neighbours, batch by batch of the real images, and draw."""
        if trainer.run_dir is None or not finished:
            return
        with preserved_random_state(), evaluation_mode(*networks_of(trainer.step)):
            fakes = to_uint8(self.draw(trainer)[: self.pairs]).cpu()
            nearest, found = fakes.clone(), torch.full((len(fakes),), math.inf, dtype=torch.float64)
            for batch in _images(self.real, trainer):
                reals = batch.cpu() if batch.dtype == torch.uint8 else to_uint8(batch).cpu()
                distances, places = (answer[:, 0] for answer in nearest_neighbors(fakes, reals))
                nearer = distances < found
                found[nearer], nearest[nearer] = distances[nearer], reals[places[nearer]]
        sheet = torch.stack([fakes, nearest], dim=1).flatten(0, 1)
        scale = max(1, self.size // sheet.shape[-1])
        save_image_grid(sheet, trainer.run_dir / "nearest.png", columns=8, scale=scale)


def networks_of(holder: object) -> list[nn.Module]:
    """All networks that an object holds.

    Args:
        holder: A step, for one: modules are found in its attributes, in lists and mappings there, and in the attribute
            ``module`` of an attribute (a moving average).
    """
    return list(_networks(getattr(holder, "__dict__", {}).values()))


def _networks(values: Iterable[object]) -> Iterator[nn.Module]:
    for value in values:
        if isinstance(value, nn.Module):
            yield value
        elif isinstance(value, Mapping):
            yield from _networks(value.values())
        elif isinstance(value, list | tuple):
            yield from _networks(value)
        elif isinstance(module := getattr(value, "module", None), nn.Module):
            yield module


def _clamped(images: Iterable[Tensor]) -> Iterable[Tensor]:
    """Floating-point images within [-1, 1]; NaN stays."""
    parts = [images] if isinstance(images, Tensor) else images
    return (part.clamp(-1, 1) if part.is_floating_point() else part for part in parts)


def _images(images: Images, trainer: "Trainer") -> Iterable[Tensor]:
    return images(trainer) if callable(images) else images
