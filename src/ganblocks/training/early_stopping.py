"""Ends a run that no longer gets better."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from ganblocks._checks import require
from ganblocks.training.callbacks import Callback
from ganblocks.training.improvement import Improvement

if TYPE_CHECKING:
    from ganblocks.training.trainer import Trainer

__all__ = ["EarlyStopping"]


class EarlyStopping(Callback):
    """Ends the run when a measured value has not reached a new best for some measurements on end.

    The run is then finished, not interrupted: the last callbacks do what they do at an end, the same command again
    trains no further, and the log has an event ``"early_stopping"`` with the best value and where it was. The weights
    are those of the last step; those of the lowest measurement are kept by ``Trainer(keep_best=1, best_key=key)`` and
    read by ``trainer.checkpoints.best_valid()``. Where higher is better, log the negative as well and keep by that.

    Args:
        key: Of a value in the log, such as ``"val_loss"``, which `Validation` or `Measurements` writes there.
        patience: Measurements on end without a new best after which the run ends, at least 1 (as in Keras).
        mode: ``"min"`` where lower is better, ``"max"`` where higher is.
        min_delta: Gains up to this count as none, in the value's own unit.

    Attributes:
        stopped_at: Images seen when the run was ended; ``None`` if it was not.

    Raises:
        ValueError: If a number or the mode is out of range.
    """

    def __init__(self, key: str, *, patience: int, mode: Literal["min", "max"] = "min", min_delta: float = 0.0) -> None:
        require(patience >= 1, "patience", patience, "at least 1")
        self.key = key
        self.patience = patience
        self.improvement: Improvement = Improvement(mode, min_delta)
        self.best_at: int | None = None
        self.stopped_at: int | None = None

    def on_start(self, trainer: "Trainer") -> None:
        """A run that was ended here stays ended."""
        if self.stopped_at is not None:
            trainer.total_images = self.stopped_at

    def on_record(self, trainer: "Trainer", record: Mapping[str, Any]) -> None:
        """End the run if the value has stood still for too long."""
        if self.key not in record:
            return
        if self.improvement.update(record[self.key]):
            self.best_at = trainer.images_seen
        elif self.improvement.waited >= self.patience and trainer.images_seen < trainer.total_images:
            self.stopped_at = trainer.total_images = trainer.images_seen
            trainer.event("early_stopping", key=self.key, best=self.improvement.best, best_at=self.best_at)

    def state_dict(self) -> dict[str, Any]:
        """The best value, how long it has stood, and whether the run was ended."""
        return {**self.improvement.state_dict(), "best_at": self.best_at, "stopped_at": self.stopped_at}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.improvement.load_state_dict(dict(state))
        self.best_at, self.stopped_at = state["best_at"], state["stopped_at"]
