"""No update with a NaN in it: whether an optimizer step happens is decided on the device that holds the gradients."""

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks.errors import NonFiniteError
from ganblocks.training.distributed import ALONE, Replicas

__all__ = ["FiniteGuard", "applied_norm", "decides_itself", "finite_buffers", "gradient_norm", "not_finite"]


class FiniteGuard:
    """Makes optimizer steps, and leaves out those whose loss or gradient is NaN or infinite.

    Parameters, moments and step counts stay as they were where a step is left out. A fused optimizer decides on the
    device, by the ``found_inf`` that gradient scalers hand it, so the host never waits for a GPU. Other optimizers can
    only be called or not: there the host reads the verdict, one wait an update. On a CPU, where reading costs nothing,
    it always does.

    A gradient counts as infinite, too, if the sum of its squares overflows its dtype: norms above 1.8e19 in float32.

    With an enabled gradient scaler (float16) the scaler itself leaves steps out while it looks for its scale, which is
    its normal work: nothing is counted then.

    Args:
        names: The updates of a step, such as ``("discriminator", "generator")``.
        max_skipped: Updates of each that may be left out in a run before `skipped_updates` raises; 0 = none.

    Raises:
        ValueError: If ``max_skipped`` is negative.
    """

    def __init__(self, names: Sequence[str], *, max_skipped: int = 0) -> None:
        require(max_skipped >= 0, "max_skipped", max_skipped, "0 or more")
        self.max_skipped = max_skipped
        self._skipped: dict[str, Tensor | int] = dict.fromkeys(names, 0)
        self._last: dict[str, Tensor | int] = dict.fromkeys(names, 0)
        self._clock: Tensor | None = None

    def update(
        self,
        name: str,
        loss: Tensor | Iterable[Tensor],
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        *,
        call: int,
        parts: int = 1,
        replicas: Replicas = ALONE,
    ) -> Tensor:
        """Gradients of ``loss``, then one optimizer step if all of it is finite.

        Args:
            name: One of ``names``.
            loss: Scalar with a graph; or those of equal parts of a batch, each asked for when the graph of the one
                before is gone.
            optimizer: Its gradients are replaced; no other leaf of the graph gets one.
            scaler: Enabled for float16, disabled otherwise.
            call: Number of this training step, from 1; `skipped_updates` names it.
            parts: How many losses there are.
            replicas: Processes that share the batch; all of them take part.

        Returns:
            The loss of the whole batch, 0-d without graph.
        """
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for parameter in parameters:
            parameter.grad = None  # what `zero_grad` does, without its hooks
        # Named, so that no gradient is taken by another leaf, such as the images of a penalty.
        trained = [parameter for parameter in parameters if parameter.requires_grad] or None
        losses = []
        for part in [loss] if isinstance(loss, Tensor) else loss:
            share = part if parts == 1 else part / parts
            torch.autograd.backward(scaler.scale(share), inputs=trained)
            losses.append(share.detach())
        loss = replicas.average_gradients(parameters, losses[0] if parts == 1 else torch.stack(losses).sum())
        if scaler.is_enabled():
            scaler.unscale_(optimizer)  # gradients are what they say, for whoever looks at them afterwards
            scaler.step(optimizer)
            scaler.update()
            return loss
        if loss.device.type == "cpu" and self._clock is None:  # the host need not wait to know
            if _finite_on_host(loss, optimizer):
                optimizer.step()
            else:
                self._skipped[name], self._last[name] = self._skipped[name] + 1, call
            return loss
        bad = not_finite(loss, optimizer)
        if self._clock is None:
            self._skipped[name] = self._skipped[name] + bad
            self._last[name] = torch.where(bad, torch.full_like(bad, call, dtype=torch.int64), self._last[name])
        else:
            counter: Any = self._skipped[name]
            latest: Any = self._last[name]
            counter.add_(bad)
            latest.copy_(torch.where(bad, self._clock, latest))
        if decides_itself(optimizer):
            gated: Any = optimizer
            gated.grad_scale, gated.found_inf = None, bad.float()
            try:
                optimizer.step()
            finally:
                del gated.grad_scale, gated.found_inf
        elif not bad:
            optimizer.step()
        return loss

    def follow(self, clock: Tensor) -> None:
        """Count in place, and never on the host, as a CUDA graph must that makes the updates again and again.

        Args:
            clock: 0-d int64 on the device of the losses, which holds the number of the training step from 1; ``call``
                is not looked at any more.
        """
        self._clock = clock
        for numbers in (self._skipped, self._last):
            for name, value in numbers.items():
                numbers[name] = torch.full_like(clock, int(value))

    def counters(self) -> tuple[dict[str, Tensor | int], dict[str, Tensor | int]]:
        """Updates left out, and the last step at which that happened, by name: after `follow`, tensors that stay."""
        return self._skipped, self._last

    def skipped_updates(self) -> int:
        """How many updates were left out so far. This is where the host waits for the device.

        Raises:
            NonFiniteError: If there were more than ``max_skipped`` of one kind; names it and the step.
        """
        for name, value in self._skipped.items():
            if (count := int(value)) > self.max_skipped:
                raise NonFiniteError(
                    f"the loss or a gradient of the {name} was not finite at step {int(self._last[name])}; "
                    f"{count} of its updates were left out, {self.max_skipped} are allowed. Nothing that is not finite "
                    "was applied or saved, and the last checkpoint is kept: lower the learning rate, or use precision "
                    "bf16 or fp32"
                )
        return sum(int(value) for value in self._skipped.values())

    def state_dict(self) -> dict[str, Any]:
        """Counts of updates left out, and the last step of each at which that happened."""
        return {
            "skipped": {name: int(value) for name, value in self._skipped.items()},
            "last": {name: int(value) for name, value in self._last.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self._skipped = dict(state["skipped"])
        self._last = dict(state["last"])
        if self._clock is not None:
            self.follow(self._clock)


def not_finite(loss: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    """Whether a loss, or any gradient that an optimizer would apply, holds NaN or infinity. One pass over memory.

    Args:
        loss: One number, without history.
        optimizer: Its parameters' gradients are looked at; those that are ``None`` do not matter.

    Returns:
        A 0-d bool on the loss's device; the host does not wait for it.
    """
    norms = [norm.to(loss.device, torch.float32) for norm in _gradient_norms(optimizer)]
    return torch.stack([loss.float().reshape(()), *norms]).isfinite().all().logical_not()


@contextlib.contextmanager
def finite_buffers(*modules: nn.Module) -> Iterator[None]:
    """Running statistics that become NaN or infinite inside go back to what they were; no host waits for a GPU.

    Args:
        *modules: Networks with such statistics, of batch normalisation for one, as buffers that are written in place.
    """
    every = [buffer for module in modules for buffer in module.buffers()]
    kept = [(buffer, buffer.clone()) for buffer in every if buffer.is_floating_point()]
    yield
    if not kept:
        return
    buffers = [buffer for buffer, _ in kept]
    on_host = all(buffer.device.type == "cpu" for buffer in buffers)  # reading a number costs nothing there
    if on_host and all(math.isfinite(norm.item()) for norm in torch._foreach_norm(buffers)):
        return
    with torch.no_grad():
        for buffer, before in kept:
            buffer.copy_(torch.where(buffer.isfinite().all(), buffer, before))


def gradient_norm(optimizer: torch.optim.Optimizer) -> Tensor:
    """Euclidean norm of all gradients of the last update together, a 0-d float32 tensor; the host does not wait.

    Args:
        optimizer: Its parameters' gradients are looked at; 0 if there is none.
    """
    norms = _gradient_norms(optimizer)
    return torch.stack([norm.to(norms[0].device, torch.float32) for norm in norms]).norm() if norms else torch.zeros(())


def applied_norm(optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> Tensor:
    """`gradient_norm` for the log: 0 where an enabled scaler left the update out, which is no fault."""
    norm = gradient_norm(optimizer)
    return norm.nan_to_num(0.0, 0.0) if scaler.is_enabled() else norm


def _finite_on_host(loss: Tensor, optimizer: torch.optim.Optimizer) -> bool:
    """The opposite of `not_finite`, in a fraction of its time where reading a number costs nothing."""
    return math.isfinite(loss.item()) and all(math.isfinite(norm.item()) for norm in _gradient_norms(optimizer))


def _gradient_norms(optimizer: torch.optim.Optimizer) -> Sequence[Tensor]:
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return torch._foreach_norm(gradients) if gradients else ()


def decides_itself(optimizer: torch.optim.Optimizer) -> bool:
    """Whether it is fused and reads ``found_inf``; one that is fused but does not would apply what is not finite."""
    fused = all(group.get("fused") for group in optimizer.param_groups)
    return fused and bool(getattr(optimizer, "_step_supports_amp_scaling", False))
