"""An exponential moving average of a network's weights."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks.training.weights import load_weights, plain_weights

__all__ = ["ExponentialMovingAverage"]


class ExponentialMovingAverage:
    """Keeps a copy of a network whose weights follow the trained ones smoothly; samples are drawn from it.

    Karras et al. 2018, appendix A.1 (decay 0.999 a step). The copy holds every layer from the start, so it survives
    growing: layers that do not take part yet are equal in both.

    Args:
        module: The trained network. Its copy, `module`, is in evaluation mode and needs no gradient.
        decay: Share of the old average kept at each update, 0 to 1. Exactly one of ``decay`` and
            ``half_life_images`` is given.
        half_life_images: Images after which an old weight counts half; independent of the batch size.

    Raises:
        ValueError: If both or none of the two are given, or one is out of range.
    """

    def __init__(self, module: nn.Module, *, decay: float | None = None, half_life_images: float | None = None) -> None:
        one = (decay is None) != (half_life_images is None)
        require(one, "decay, half_life_images", (decay, half_life_images), "given one at a time")
        require(decay is None or 0 <= decay <= 1, "decay", decay, "between 0 and 1")
        positive = half_life_images is None or half_life_images > 0
        require(positive, "half_life_images", half_life_images, "above 0")
        self.decay = decay
        self.half_life_images = half_life_images
        self.updates: int = 0
        self.module: nn.Module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module, *, images: int = 1) -> None:
        """Move the average towards ``module``; its buffers are copied.

        Args:
            module: The trained network.
            images: Images of the step, used with ``half_life_images``.
        """
        decay = self.decay if self.half_life_images is None else 0.5 ** (images / self.half_life_images)
        assert decay is not None  # one of the two is always given
        averages: list[Tensor] = list(self.module.parameters())
        weights = [weight.detach() for weight in module.parameters()]
        torch._foreach_lerp_(averages, weights, 1.0 - decay)
        for target, source in zip(self.module.buffers(), module.buffers(), strict=True):
            target.copy_(source)
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """Averaged weights, and the number of updates."""
        return {"updates": self.updates, "module": plain_weights(self.module)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            CheckpointError: If names or shapes of the weights differ.
        """
        weights: dict[str, Tensor] = state["module"]
        load_weights(self.module, weights)
        self.updates = int(state["updates"])
