"""The cross-fade between two resolutions of a growing network."""

import math

import torch
from torch import Tensor

from ganblocks._checks import require, require_same_shape

__all__ = ["fade_in"]


def fade_in(old: Tensor, new: Tensor, alpha: float | Tensor) -> Tensor:
    """Blend ``old + alpha * (new - old)``.

    Karras et al. 2018, section 2 and figure 2.

    Args:
        old: Result of the branch that is being replaced.
        new: Result of the branch that takes over, of the same shape.
        alpha: 0 = old, 1 = new. A Python number must lie within 0 to 1; exactly 0 and 1 return ``old`` and ``new``
            themselves, so the other branch receives no gradient. A 0-d tensor is taken as it is, without a look at its
            value (which would wait for the device), and is differentiable.

    Returns:
        Tensor of the shape of ``old``.

    Raises:
        ValueError: If shapes differ, or ``alpha`` is a number outside 0 to 1 or a tensor with dimensions.

    Differentiable to any order.
    """
    require_same_shape(old, new, "old", "new")
    if isinstance(alpha, Tensor):
        require(alpha.dim() == 0, "alpha", tuple(alpha.shape), "a number or a tensor without dimensions")
        wide = torch.promote_types(new.dtype, torch.float32)  # bfloat16 would round an alpha of 0.998 to 1
        blend = torch.lerp(old.to(wide), new.to(wide), alpha.to(dtype=wide, device=new.device))
        return blend.to(new.dtype)
    require(math.isfinite(alpha) and 0.0 <= alpha <= 1.0, "alpha", alpha, "between 0 (old) and 1 (new)")
    if alpha == 0:
        return old
    if alpha == 1:
        return new
    return torch.lerp(old, new, alpha)
