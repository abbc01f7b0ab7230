"""What stands in for a CUDA graph on a CPU: it runs the function again, and holds it to the rules of a graph.

While it records or replays, operations that a graph cannot hold are errors: reading a number on the host, drawing
random numbers, bringing numbers of Python to a device. A replay runs Python, which a graph does not, so tests that want
to see what a graph would have built in ask for `now`.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

FORBIDDEN = (
    "_local_scalar_dense",
    "is_nonzero",
    "nonzero",
    "lift_fresh",
    "rand",
    "randn",
    "randint",
    "randperm",
    "bernoulli",
    "bernoulli_",
    "normal_",
    "uniform_",
    "random_",
    "native_dropout",
)

Outputs = dict[str, Tensor]


class Rules(TorchDispatchMode):
    """What is forbidden while a graph is recorded."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        if name in FORBIDDEN and name not in FakeCapture.allowed:
            raise RuntimeError(f"operation not permitted when stream is capturing: {function}")
        return function(*args, **(kwargs or {}))


class FakeCapture:
    """As `ganblocks.training.graph_capture.CudaCapture`.

    Attributes:
        made: All of them since a test began.
        allowed: What a test allows all the same, since it happens on CPUs only.
        now: ``"recording"``, ``"replaying"`` or nothing.
        warm_ups: Calls of `warm_up`.
        replays: Calls of `replay`.
        released: Whether `release` was called.
    """

    made: ClassVar[list["FakeCapture"]] = []
    allowed: tuple[str, ...] = ()
    now = ""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.warm_ups = self.replays = 0
        self.released = False
        FakeCapture.made.append(self)

    def warm_up(self, function: Callable[[], Outputs]) -> None:
        self.warm_ups += 1
        function()

    def record(self, function: Callable[[], Outputs]) -> Outputs:
        self.function = function
        self.outputs = self._run("recording")
        return self.outputs

    def replay(self) -> None:
        assert not self.released
        self.replays += 1
        for name, value in self._run("replaying").items():
            self.outputs[name].copy_(value)

    def release(self) -> None:
        self.released = True
        self.function = self.outputs = None  # type: ignore[assignment]

    def _run(self, now: str) -> Outputs:
        FakeCapture.now = now
        try:
            with Rules():
                return self.function()
        finally:
            FakeCapture.now = ""
