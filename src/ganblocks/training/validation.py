"""Validation at the end of each epoch, and the history of a run epoch by epoch."""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ganblocks._checks import require
from ganblocks.training.callbacks import Callback, describe, print_above_bar
from ganblocks.training.random_state import preserved_random_state

if TYPE_CHECKING:
    from ganblocks.training.trainer import Trainer

__all__ = ["Validation"]

_BOOKKEEPING = ("images_seen", "step", "resolution", "alpha", "learning_rate")


class Validation(Callback):
    """Measures on images kept from training after each pass over the others, and keeps the history of both.

    Args:
        measure: Maps the trainer to numbers by log key, such as ``val_loss`` and ``val_accuracy``
            (`evaluate_classifier`, `evaluate_autoencoder`, `evaluate_vae` give them). It must leave networks and
            optimizers as they are; the global random state is put back after it.
        epoch_images: Images in a pass, at least 1: the size of the training set.
        show: Whether the numbers are also printed, above the progress bar.

    Attributes:
        history: Numbers by key, one an epoch: ``images_seen``, what the step logged (``loss``, ``accuracy``: means over
            the epoch's lines of the log, over all of its batches where ``log_images`` is the batch size) and what was
            measured. NaN where an epoch has none. An unfinished last epoch is there too, where the schedule ends.

    Raises:
        ValueError: If ``epoch_images`` is below 1; when the run starts, if epochs are too short to be logged.
    """

    def __init__(
        self, measure: Callable[["Trainer"], Mapping[str, float]], epoch_images: int, *, show: bool = False
    ) -> None:
        require(epoch_images >= 1, "epoch_images", epoch_images, "at least 1")
        self.measure = measure
        self.epoch_images = epoch_images
        self.show = show
        self.history: dict[str, list[float]] = {"images_seen": []}
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def on_start(self, trainer: "Trainer") -> None:
        """Look whether every epoch will have a line of the log."""
        lines = trainer.log_images <= self.epoch_images
        require(lines, "log_images", trainer.log_images, f"at most epoch_images, {self.epoch_images}")

    def on_record(self, trainer: "Trainer", record: Mapping[str, Any]) -> None:
        """Add the numbers to those of the epoch."""
        for key, value in record.items():
            if key not in _BOOKKEEPING and isinstance(value, (int, float)):
                self._sums[key] = self._sums.get(key, 0.0) + value
                self._counts[key] = self._counts.get(key, 0) + 1

    def on_step(self, trainer: "Trainer", previous: int) -> None:
        """Measure at the end of an epoch, and where the schedule ends; not where a run is only cut short."""
        ended = previous < trainer.schedule.total_images <= trainer.images_seen
        if not ended and trainer.images_seen // self.epoch_images == previous // self.epoch_images:
            return
        with preserved_random_state():
            measured = self.measure(trainer)
        trainer.record(measured)
        self._close_epoch(trainer.images_seen)
        if self.show:
            print_above_bar(describe(trainer, measured))

    def _close_epoch(self, images_seen: int) -> None:
        means = {key: self._sums[key] / self._counts[key] for key in self._sums}
        epochs = len(self.history["images_seen"])
        for key, value in {"images_seen": images_seen, **means}.items():
            self.history.setdefault(key, [math.nan] * epochs).append(value)
        for values in self.history.values():
            values += [math.nan] * (epochs + 1 - len(values))
        self._sums, self._counts = {}, {}

    def state_dict(self) -> dict[str, Any]:
        """The history, and what the unfinished epoch has so far; ``None`` stands for NaN."""
        history = {
            key: [None if math.isnan(value) else value for value in values] for key, values in self.history.items()
        }
        return {"history": history, "sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.history = {
            key: [math.nan if value is None else value for value in values] for key, values in state["history"].items()
        }
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])
