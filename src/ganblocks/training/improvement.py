"""Whether a measured value still gets better: what early stopping and falling learning rates both ask."""

import math
from typing import Any, Literal

from ganblocks._checks import require

__all__ = ["Improvement"]


class Improvement:
    """The best value so far, and how many measurements ago it was made.

    Args:
        mode: ``"min"`` where lower is better, ``"max"`` where higher is.
        min_delta: By how much more than this a value must be better to count, 0 or more, in the value's own unit.

    Attributes:
        best: The best value so far; ``None`` before the first.
        waited: Measurements since then, all of them no better.

    Raises:
        ValueError: If the mode is unknown or ``min_delta`` is out of range.
    """

    def __init__(self, mode: Literal["min", "max"], min_delta: float) -> None:
        require(mode in ("min", "max"), "mode", mode, "'min' or 'max'")
        require(0 <= min_delta < math.inf, "min_delta", min_delta, "0 or more, and finite")
        self.mode = mode
        self.min_delta = min_delta
        self.best: float | None = None
        self.waited: int = 0

    def update(self, value: float) -> bool:
        """Take in the next measurement; whether it is the best so far. NaN never is."""
        gain = math.inf if self.best is None else self.best - value if self.mode == "min" else value - self.best
        better = gain > self.min_delta and not math.isnan(value)
        if better:
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        return better

    def state_dict(self) -> dict[str, Any]:
        """What the next answer depends on."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.best, self.waited = state["best"], int(state["waited"])
