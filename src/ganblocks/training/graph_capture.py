"""Recording what a function does on a GPU, to have it done again by one launch."""

import gc
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Capture", "CudaCapture", "Outputs", "first_error"]

Outputs = dict[str, Tensor]


class Capture(Protocol):
    """One recording. The function reads and writes tensors that stay where they are; nothing else of it is recorded."""

    def warm_up(self, function: Callable[[], Outputs]) -> None:
        """Run the function as it is to be recorded, for what happens the first time only."""
        ...

    def record(self, function: Callable[[], Outputs]) -> Outputs:
        """Record the function without its work being done; returns the tensors that hold its results after `replay`."""
        ...

    def replay(self) -> None:
        """Do the work."""
        ...

    def release(self) -> None:
        """Give the memory back."""
        ...


class CudaCapture:
    """A `torch.cuda.CUDAGraph` with memory of its own.

    Warm-up and recording use one side stream, since autograd ties the accumulation of gradients to the stream on which
    it first happened. Calls of other threads (a loader that pins memory) do not disturb the recording.

    Args:
        device: A CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._graph = torch.cuda.CUDAGraph()

    def warm_up(self, function: Callable[[], Outputs]) -> None:
        """Run the function on the side stream, between what the current one has done and will do."""
        current = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            function()
        current.wait_stream(self._stream)

    def record(self, function: Callable[[], Outputs]) -> Outputs:
        """Capture the function on the side stream.

        Raises:
            RuntimeError: If the function does what a graph cannot hold, such as reading a number on the host.
        """
        gc.collect()  # what is left of earlier steps would tie this one to their stream
        with (
            torch.cuda.device(self.device),
            torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"),
        ):
            return function()

    def replay(self) -> None:
        """One launch on the current stream."""
        self._graph.replay()

    def release(self) -> None:
        """The graph's memory goes back to the allocator once no result refers to it."""
        self._graph.reset()


def first_error(error: BaseException) -> str:
    """The first of a chain of errors, in a line: where a recording breaks, ending it fails too and hides the cause."""
    first = error
    while error.__context__ is not None:
        error = error.__context__
        first = error if isinstance(error, RuntimeError) else first
    lines = [line.strip() for line in str(first).splitlines() if line.strip()]
    return f"{type(first).__name__}: {lines[0].rstrip('.')}" if lines else type(first).__name__
