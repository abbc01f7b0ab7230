"""Training that goes wrong without a NaN, noticed while it can still be stopped."""

import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ganblocks._checks import require
from ganblocks.training.callbacks import Callback

if TYPE_CHECKING:
    from ganblocks.training.trainer import Trainer

__all__ = ["DivergenceWatch"]


class DivergenceWatch(Callback):
    """Looks at each line of the log, and writes an event and a ``RuntimeWarning`` when a run comes apart.

    Two signs, each told once until it has gone away:

    - a loss or the penalty is ``loss_factor`` times its typical size, the median of the first ``warm_up`` records;
    - the discriminator tells every real image from every fake for ``patience`` records on end: the mean real score is
      above ``separation``, the mean fake score below its negative. At 5, a sigmoid gives 0.993 and 0.007. Scores of a
      Wasserstein critic have no fixed size: give ``separation=None`` there.

    Args:
        loss_factor: Above 1.
        warm_up: Records that define the typical size, at least 1.
        separation: Above 0, or ``None`` to look at losses only.
        patience: At least 1.
        stop: Whether the run also ends there, after a checkpoint, as if it were interrupted.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        *,
        loss_factor: float = 1e6,
        warm_up: int = 5,
        separation: float | None = 5.0,
        patience: int = 20,
        stop: bool = False,
    ) -> None:
        require(loss_factor > 1, "loss_factor", loss_factor, "above 1")
        require(warm_up >= 1, "warm_up", warm_up, "at least 1")
        require(separation is None or separation > 0, "separation", separation, "above 0, or None")
        require(patience >= 1, "patience", patience, "at least 1")
        self.loss_factor = loss_factor
        self.warm_up = warm_up
        self.separation = separation
        self.patience = patience
        self.stop = stop
        self._first: dict[str, list[float]] = {}
        self._apart = 0
        self._told: list[str] = []

    def on_record(self, trainer: "Trainer", record: Mapping[str, Any]) -> None:
        """Compare the record with what is typical."""
        for key, value in record.items():
            if key == "penalty" or key == "loss" or key.endswith("_loss"):
                self._look_at_loss(trainer, key, float(value))
        if self.separation is not None and "real_score" in record and "fake_score" in record:
            apart = record["real_score"] > self.separation and record["fake_score"] < -self.separation
            self._apart = self._apart + 1 if apart else 0
            text = f"the discriminator has told every real from every fake image for {self._apart} records"
            self._tell(trainer, "separation", text, self._apart >= self.patience)

    def _look_at_loss(self, trainer: "Trainer", key: str, value: float) -> None:
        first = self._first.setdefault(key, [])
        if len(first) < self.warm_up:
            first.append(abs(value))
            return
        typical = max(sorted(first)[len(first) // 2], 1e-3)
        grown = not math.isfinite(value) or abs(value) > self.loss_factor * typical
        self._tell(trainer, key, f"{key} is {value:.4g}, but began with a size of {typical:.4g}", grown)

    def _tell(self, trainer: "Trainer", sign: str, text: str, present: bool) -> None:
        if not present:
            self._told = [told for told in self._told if told != sign]
        elif sign not in self._told:
            self._told.append(sign)
            trainer.event("divergence", sign=sign, message=text)
            warnings.warn(f"at {trainer.images_seen} images: {text}", RuntimeWarning, stacklevel=2)
            if self.stop:
                trainer.request_stop()

    def state_dict(self) -> dict[str, Any]:
        """What was seen so far."""
        return {"first": self._first, "apart": self._apart, "told": self._told}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self._first = {key: list(values) for key, values in state["first"].items()}
        self._apart = int(state["apart"])
        self._told = list(state["told"])
