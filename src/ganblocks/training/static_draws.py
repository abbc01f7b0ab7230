"""The random numbers of a training step in buffers that stay where they are, for a CUDA graph that reads them there.

A graph could draw by itself, from a generator of the GPU that is registered with it. That generator has a state that
goes on from replay to replay, so the numbers would depend on how the run came here, and a resumed run would have
others. Here the numbers come from the same generators on the CPU as without a graph, each a pure function of seed,
images seen and purpose, and are copied to the buffers before each replay. So a replay has the numbers that the step
would have drawn, bit for bit, and nothing has to be kept for an exact resume.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ganblocks.functional.draws import PreparedGenerator, draw
from ganblocks.training.randomness import StepContext

__all__ = ["DrawTape", "TapedContext", "copy_to"]

Make = Callable[[torch.Generator], Tensor]


class _Opened(NamedTuple):
    """One generator that a step asked for: how many it had asked for before, what for, and for which part."""

    number: int
    purpose: str
    part: int
    parts: int


class _Draw(NamedTuple):
    opened: _Opened
    make: Make
    buffer: Tensor


class DrawTape:
    """Every draw of a step in its order, and where its numbers lie.

    A step that runs with a `TapedContext` writes them down while `recording` is true. Afterwards it must ask for the
    same numbers in the same order, and gets the buffers, which `refill` has filled before.

    Args:
        device: Of the buffers.

    Attributes:
        recording: Whether draws are written down.
        networks_draw: Whether, while recording, something took numbers from torch's global generators (dropout), which
            cannot be prepared.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.recording: bool = True
        self.networks_draw: bool = False
        self._draws: list[_Draw] = []
        self._opened = self._taken = 0

    def rewind(self) -> None:
        """The step begins."""
        self._opened = self._taken = 0

    def open(self, context: StepContext, purpose: str) -> _Opened:
        """The step asks for a generator."""
        self._opened += 1
        return _Opened(self._opened - 1, purpose, context.part, context.parts)

    def take(self, opened: _Opened, make: Make, generator: torch.Generator | None) -> Tensor:
        """The next numbers, made with ``generator`` while recording and only then.

        Raises:
            RuntimeError: If these are not the numbers that were written down here.
        """
        if self.recording and generator is not None:
            value = make(generator)
            self._draws.append(_Draw(opened, make, torch.empty_like(value, device=self.device).copy_(value)))
        if self._taken >= len(self._draws) or self._draws[self._taken].opened != opened:
            raise RuntimeError(f"the step draws {opened.purpose!r} now, but did not when its draws were written down")
        self._taken += 1
        return self._draws[self._taken - 1].buffer

    def refill(self, context: StepContext) -> None:
        """Fill the buffers with what a step in this context draws."""
        generators: dict[_Opened, torch.Generator] = {}
        for opened, make, buffer in self._draws:
            if opened not in generators:
                whose = StepContext(
                    context.seed, context.images_seen, context.phase, part=opened.part, parts=opened.parts
                )
                generators[opened] = whose.generator(opened.purpose)
            copy_to(buffer, make(generators[opened]))


@dataclasses.dataclass(frozen=True)
class TapedContext(StepContext):
    """A `StepContext` whose random numbers come from a tape.

    Attributes:
        tape: The tape.
    """

    tape: DrawTape = dataclasses.field(kw_only=True)

    def generator(self, purpose: str) -> torch.Generator:
        """A generator from which `ganblocks.functional.draws.draw` takes what the tape has."""
        return _TapedGenerator(self.tape, self.tape.open(self, purpose), self._source(purpose))

    def drawn(self, purpose: str, make: Make, device: torch.device) -> Tensor:
        """What the tape has, where ``device`` is its own."""
        return self.tape.take(self.tape.open(self, purpose), make, self._source(purpose)).to(device)

    def _source(self, purpose: str) -> torch.Generator | None:
        return super().generator(purpose) if self.tape.recording else None

    def seeded(self, seed: int, device: torch.device) -> contextlib.AbstractContextManager[None]:
        """As in `StepContext` while recording. Then nothing: a graph cannot set seeds, and nothing draws."""
        return self._watched(seed, device) if self.tape.recording else contextlib.nullcontext()

    @contextlib.contextmanager
    def _watched(self, seed: int, device: torch.device) -> Iterator[None]:
        with super().seeded(seed, device):
            before = _global_states(device)
            yield
            now = _global_states(device)
            self.tape.networks_draw |= any(not torch.equal(a, b) for a, b in zip(before, now, strict=True))


class _TapedGenerator(PreparedGenerator):
    def __new__(cls, *arguments: object) -> "_TapedGenerator":
        return super().__new__(cls)

    def __init__(self, tape: DrawTape, opened: _Opened, generator: torch.Generator | None) -> None:
        super().__init__()
        self.tape, self.opened, self.source = tape, opened, generator

    def prepared(self, function: Callable[..., Tensor], shape: tuple[int, ...], **options: Any) -> Tensor:
        def make(generator: torch.Generator) -> Tensor:
            return draw(function, shape, generator, **options)

        return self.tape.take(self.opened, make, self.source)


def copy_to(buffer: Tensor, value: Tensor) -> None:
    """Copy to a buffer; on the way from the CPU to a GPU through pinned memory, so that the host need not wait."""
    if buffer.is_cuda and value.device.type == "cpu" and not value.is_pinned():
        value = value.pin_memory()
    buffer.copy_(value, non_blocking=True)


def _global_states(device: torch.device) -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
