"""Pixelwise feature normalisation."""

import torch
from torch import Tensor

from ganblocks._checks import require, require_rank

__all__ = ["pixel_norm"]


def pixel_norm(x: Tensor, *, eps: float = 1e-8) -> Tensor:
    """Divide each pixel's feature vector by its root mean square: ``x / sqrt(mean_c(x^2) + eps)``.

    Karras et al. 2018, section 4.2. The mean runs over dimension 1. It is computed in at least float32, so half
    precision neither loses ``eps`` nor overflows in the square.

    Args:
        x: Features ``[N, C, ...]``; any trailing dimensions, none included (latents ``[N, Z]``).
        eps: Added under the root, at least 0; with 0 an all-zero pixel gives NaN.

    Returns:
        Tensor of the shape, dtype and memory format of ``x``.

    Raises:
        TypeError: If ``x`` is not a floating-point tensor.
        ValueError: If ``x`` has fewer than 2 dimensions or ``eps`` is negative.

    Differentiable to any order.
    """
    require_rank(x, "x", 2)
    require(x.is_floating_point(), "x", x.dtype, "of a floating-point dtype", TypeError)
    require(eps >= 0, "eps", eps, "at least 0")
    wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
    return (wide * torch.rsqrt(wide.square().mean(dim=1, keepdim=True) + eps)).to(x.dtype)
