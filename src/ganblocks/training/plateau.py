"""Lowers the learning rate when a run no longer gets better."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from ganblocks._checks import require
from ganblocks.training.callbacks import Callback
from ganblocks.training.improvement import Improvement

if TYPE_CHECKING:
    from ganblocks.training.trainer import Trainer

__all__ = ["ReduceOnPlateau"]


class ReduceOnPlateau(Callback):
    """Multiplies the learning rate by a factor when a measured value has reached no new best for some measurements.

    The factor is applied to whatever the schedule says, from the next batch on, and is part of the checkpoint, so that
    a resumed run goes on with the same bits. Each time, the log gets an event ``"learning_rate_reduced"``.

    Args:
        key: Of a value in the log, such as ``"val_loss"``.
        factor: What the rate is multiplied by, between 0 and 1.
        patience: Measurements on end without a new best after which the rate is lowered, at least 1 (as in Keras;
            ``torch.optim.lr_scheduler.ReduceLROnPlateau`` waits for one more).
        mode: ``"min"`` where lower is better, ``"max"`` where higher is.
        min_delta: Gains up to this count as none, in the value's own unit.
        cooldown: Measurements after a reduction that are not counted against ``patience``.
        min_learning_rate: The rate is lowered no further than this.

    Attributes:
        scale: What the schedule's rate is multiplied by.

    Raises:
        ValueError: If a number or the mode is out of range; when the run starts, if there are two of them.
    """

    def __init__(
        self,
        key: str,
        *,
        factor: float = 0.1,
        patience: int = 10,
        mode: Literal["min", "max"] = "min",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_learning_rate: float = 0.0,
    ) -> None:
        require(0 < factor < 1, "factor", factor, "between 0 and 1, both excluded")
        require(patience >= 1, "patience", patience, "at least 1")
        require(cooldown >= 0, "cooldown", cooldown, "0 or more")
        bounded = 0 <= min_learning_rate < math.inf
        require(bounded, "min_learning_rate", min_learning_rate, "0 or more, and finite")
        self.key = key
        self.factor = factor
        self.patience = patience
        self.cooldown = cooldown
        self.min_learning_rate = min_learning_rate
        self.improvement: Improvement = Improvement(mode, min_delta)
        self.scale: float = 1.0
        self.cooling: int = 0

    def on_start(self, trainer: "Trainer") -> None:
        """Go on with the rate that was reached.

        Raises:
            ValueError: If the trainer has two of this kind, which would undo each other's work.
        """
        alike = sum(isinstance(callback, ReduceOnPlateau) for callback in trainer.callbacks)
        require(alike == 1, "callbacks", f"{alike} of ReduceOnPlateau", "one of them")
        trainer.learning_rate_scale = self.scale

    def on_record(self, trainer: "Trainer", record: Mapping[str, Any]) -> None:
        """Lower the rate if the value has stood still for too long."""
        if self.key not in record:
            return
        self.improvement.update(record[self.key])
        if self.cooling > 0:
            self.cooling -= 1
            self.improvement.waited = 0
        if self.improvement.waited < self.patience:
            return
        self.improvement.waited, self.cooling = 0, self.cooldown
        before = trainer.phase.learning_rate
        if before <= self.min_learning_rate:
            return
        after = max(self.factor * before, self.min_learning_rate)
        self.scale *= after / before
        trainer.learning_rate_scale = self.scale
        trainer.event("learning_rate_reduced", key=self.key, best=self.improvement.best, learning_rate=after)

    def state_dict(self) -> dict[str, Any]:
        """The best value, how long it has stood, and the scale."""
        return {**self.improvement.state_dict(), "scale": self.scale, "cooling": self.cooling}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.improvement.load_state_dict(dict(state))
        self.scale, self.cooling = float(state["scale"]), int(state["cooling"])
