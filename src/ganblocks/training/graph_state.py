"""All that a step changes: kept, put back, compared, and watched for what moves to another place in memory."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ganblocks.training.adversarial_step import AdversarialStep
from ganblocks.training.state import flatten

__all__ = ["Snapshot", "StepState", "difference"]

_PLAIN = (bool, int, float, str, tuple, type(None))

Bits = tuple[dict[str, Tensor], Any]
Slot = tuple[dict[Any, Any], Any]  # where a tensor is found: a dict of a module or an optimizer, and its key there


class Snapshot:
    """Values of a step's state at one moment.

    Args:
        state: Of the step.
    """

    def __init__(self, state: "StepState") -> None:
        self._state = state
        self._kept = [(owner, key, owner[key], owner[key].detach().clone()) for owner, key in state.slots()]
        self._with_moments = [(optimizer, set(optimizer.state)) for optimizer in state.optimizers]
        self._rates = [(group, group["lr"]) for optimizer in state.optimizers for group in optimizer.param_groups]
        self._counts = state.counts()

    @torch.no_grad()
    def restore(self) -> None:
        """Put the same tensors back where they were, with their values; moments that are new are forgotten."""
        for owner, key, tensor, value in self._kept:
            owner[key] = tensor
            tensor.copy_(value)
        for optimizer, parameters in self._with_moments:
            for parameter in set(optimizer.state) - parameters:
                del optimizer.state[parameter]
        for group, rate in self._rates:
            group["lr"] = rate
        self._state.set_counts(self._counts)


class StepState:
    """The state of an `AdversarialStep` as tensors in their places.

    Args:
        step: The step, whose `FiniteGuard` counts on the device (`FiniteGuard.follow`).

    Attributes:
        optimizers: Of both networks.
    """

    def __init__(self, step: AdversarialStep) -> None:
        self.step = step
        self.optimizers: tuple[torch.optim.Optimizer, ...] = (step.generator_optimizer, step.discriminator_optimizer)
        networks = [step.generator, step.discriminator, *([] if step.ema is None else [step.ema.module])]
        modules = [module for network in networks for module in network.modules()]
        owners: list[dict[Any, Any]] = [owner for module in modules for owner in (module._parameters, module._buffers)]
        self._weights: list[Slot] = [(owner, key) for owner in owners for key in owner if owner[key] is not None]

    def slots(self) -> list[Slot]:
        """Where weights, buffers and averages, moments, and counts of updates left out are found."""
        moments = [
            (state, key)
            for optimizer in self.optimizers
            for state in optimizer.state.values()
            for key, value in state.items()
            if isinstance(value, Tensor)
        ]
        return [*self._weights, *moments, *((owner, key) for owner in self.step.guard.counters() for key in owner)]

    def places(self) -> tuple[list[int], list[bool]]:
        """Where each tensor lies, and which weights are trained; asked for at each replay, so it is quick."""
        weights = [owner[key] for owner, key in self._weights]
        moments = [
            value
            for optimizer in self.optimizers
            for state in optimizer.state.values()
            for value in state.values()
            if type(value) is Tensor or isinstance(value, Tensor)
        ]
        counters: list[Any] = [value for owner in self.step.guard.counters() for value in owner.values()]
        return [tensor.data_ptr() for tensor in (*weights, *moments, *counters)], [w.requires_grad for w in weights]

    def settings(self) -> tuple[object, ...]:
        """What a graph has built in: the plain numbers of the step, its average and its optimizers, and its parts."""
        step = self.step
        public = [(k, v) for k, v in vars(step).items() if k[0] != "_" and k != "calls"]
        found: list[object] = [(k, v if isinstance(v, _PLAIN) else id(v)) for k, v in public]
        if step.ema is not None:
            found += [("decay", step.ema.decay), ("half_life_images", step.ema.half_life_images)]
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                found += [(k, v) for k, v in group.items() if isinstance(v, _PLAIN) and k != "lr"]
        return tuple(found)

    def counts(self) -> tuple[int, int]:
        """Calls of the step, and updates of its average."""
        return self.step.calls, 0 if self.step.ema is None else self.step.ema.updates

    def set_counts(self, counts: tuple[int, int]) -> None:
        """Put back what `counts` gave."""
        self.step.calls = counts[0]
        if self.step.ema is not None:
            self.step.ema.updates = counts[1]

    def advance(self, calls: int, updates: int) -> None:
        """Count what a replay did, which runs no Python."""
        before = self.counts()
        self.set_counts((before[0] + calls, before[1] + updates))

    @contextlib.contextmanager
    def counted(self) -> Iterator[Callable[[], tuple[int, int]]]:
        """Counts go back at the end; the function says afterwards how far they had gone."""
        before = self.counts()
        gone = before

        yield lambda: (gone[0] - before[0], gone[1] - before[1])
        gone = self.counts()
        self.set_counts(before)

    def drop_gradients(self) -> None:
        """No weight has a gradient any more."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def snapshot(self) -> Snapshot:
        """The values as they are."""
        return Snapshot(self)

    def of(self, logs: list[dict[str, Tensor]]) -> Bits:
        """The step's whole state, and what it returned, on the CPU."""
        return flatten({"state": self.step.state_dict(), "values": logs})


def difference(one: Bits, other: Bits) -> str | None:
    """The name of the first tensor that differs in a bit, or what else differs; ``None`` if nothing does."""
    if one[0].keys() != other[0].keys() or one[1] != other[1]:
        return "numbers that are no tensors"
    return next((name for name, tensor in one[0].items() if not _same_bits(tensor, other[0][name])), None)


def _same_bits(one: Tensor, other: Tensor) -> bool:
    same = one.shape == other.shape and one.dtype == other.dtype
    return same and torch.equal(_bytes(one), _bytes(other))


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)
