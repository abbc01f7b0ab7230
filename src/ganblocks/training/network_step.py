"""What the steps that train a single network have in common: everything but the science of a batch."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks.training.guard import FiniteGuard, finite_buffers
from ganblocks.training.micro_batches import Part, mean_of, parts_of
from ganblocks.training.precision import Precision, set_memory_format
from ganblocks.training.randomness import StepContext, own_randomness
from ganblocks.training.weights import load_weights, plain_weights

__all__ = ["NetworkStep"]


class NetworkStep:
    """One network, its optimizer, and an update that is left out where it is not finite.

    A subclass sets the network as an attribute and adds `_inputs` and `_loss`.

    Args:
        attribute: Name of the attribute that holds the network, and of its weights in a checkpoint.
        optimizer: Over the network's parameters. Its learning rate is the phase's, times the ``lr_factor`` of a
            parameter group that has one.
        precision: Of the forward pass; ``None`` = float32 on the CPU.
        max_skipped_updates: Updates that may be left out because the loss or a gradient is not finite, before the
            trainer raises `NonFiniteError`; see `ganblocks.training.guard`.
        called: What messages call the network; ``None`` = as the attribute.
        micro_batch: Images that pass through the network at once, at most; the gradients of the parts of a larger batch
            are added up, as few equal parts as possible. ``None`` = all images at once.

    Raises:
        ValueError: If ``max_skipped_updates`` is negative or ``micro_batch`` below 1.
    """

    def __init__(
        self,
        attribute: str,
        *,
        optimizer: torch.optim.Optimizer,
        precision: Precision | None,
        max_skipped_updates: int,
        called: str | None = None,
        micro_batch: int | None = None,
    ) -> None:
        require(micro_batch is None or micro_batch >= 1, "micro_batch", micro_batch, "at least 1, or None")
        self.optimizer = optimizer
        self.precision: Precision = precision or Precision("fp32", torch.device("cpu"))
        self.micro_batch = micro_batch
        self.calls: int = 0
        self.guard: FiniteGuard = FiniteGuard((called or attribute,), max_skipped=max_skipped_updates)
        self.scaler: torch.amp.GradScaler = torch.amp.GradScaler(
            self.precision.device.type, enabled=self.precision.name == "fp16"
        )
        self._attribute = attribute
        self._called = called or attribute
        self._memory_format: torch.memory_format | None = None

    def __call__(self, images: Tensor, labels: Tensor | None, context: StepContext) -> dict[str, Tensor]:
        """Train on one batch of images and, where the network needs them, labels.

        Returns:
            ``loss`` of this batch before its update, and what else the step logs: 0-d tensors without graph.
        """
        images, labels = self._inputs(images, labels)
        self._follow(images, context)
        logs = []

        def loss_of(part: Part) -> Tensor:
            with own_randomness(part.context, self.precision.device):
                loss, log = self._loss(*part)
            logs.append(log)
            return loss

        parts = parts_of(images, labels, context, self.micro_batch)
        with finite_buffers(self._network):
            loss = self.guard.update(
                self._called, map(loss_of, parts), self.optimizer, self.scaler,
                call=self.calls + 1, parts=len(parts), replicas=context.replicas,
            )  # fmt: skip
        self.calls += 1
        return {"loss": loss, **mean_of(logs)}

    def _inputs(self, images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What `_loss` takes, on the device."""
        raise NotImplementedError

    def _loss(self, images: Tensor, labels: Tensor | None, context: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss of these images, and what else to log of them."""
        raise NotImplementedError

    @property
    def _network(self) -> nn.Module:
        network: nn.Module = getattr(self, self._attribute)
        return network

    def _follow(self, inputs: Tensor, context: StepContext) -> None:
        """Bring the learning rate to what the phase says, and the weights to the memory format of the inputs."""
        for group in self.optimizer.param_groups:
            group["lr"] = context.phase.learning_rate * group.get("lr_factor", 1.0)
        memory_format = self.precision.memory_format(inputs.shape[-1])
        if inputs.dim() == 4 and memory_format != self._memory_format:
            self._memory_format = memory_format
            set_memory_format(memory_format, [self._network], [self.optimizer])

    def skipped_updates(self) -> int:
        """Updates left out so far because the loss or a gradient was not finite.

        Raises:
            NonFiniteError: If they are more than ``max_skipped_updates``.
        """
        return self.guard.skipped_updates()

    def state_dict(self) -> dict[str, Any]:
        """The network, its optimizer and scaler, and the number of calls."""
        return {
            "calls": self.calls,
            "guard": self.guard.state_dict(),
            self._attribute: plain_weights(self._network),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            CheckpointError: If names or shapes of the weights differ.
        """
        self.calls = int(state["calls"])
        self.guard.load_state_dict(state["guard"])
        load_weights(self._network, state[self._attribute])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self._memory_format = None  # the optimizer's state came in the order of the file
