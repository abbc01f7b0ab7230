"""The mean and spread of one image's features, given to those of another."""

import torch
from torch import Tensor

from ganblocks._checks import require, require_rank

__all__ = ["adaptive_instance_norm"]


def adaptive_instance_norm(content: Tensor, style: Tensor, *, eps: float = 1e-5) -> Tensor:
    """Give each feature map the mean and the standard deviation that the style's has.

    ``sigma(y) (x - mu(x)) / sigma(x) + mu(y)`` (Huang and Belongie 2017, equation 8), over the places of each image and
    channel, with ``sigma = sqrt(variance + eps)`` and the variance divided by the number of places. Computed in at
    least float32.

    Args:
        content: x, ``[N, C, H, W]``, floating-point.
        style: y, ``[N, C, H', W']``, or ``[1, C, H', W']`` for all; maps of any size.
        eps: Added to both variances, above 0: a flat map has no spread to take or to give.

    Returns:
        The shape and dtype of ``content``.

    Raises:
        TypeError: If an argument is not a floating-point tensor.
        ValueError: If the shapes do not go together, a map has no place, or ``eps`` is not positive.

    Differentiable to any order.
    """
    for name, features in (("content", content), ("style", style)):
        require_rank(features, name, 4, 4)
        require(features.is_floating_point(), name, features.dtype, "of a floating-point dtype", TypeError)
        require(features.shape[2:].numel() > 0, name, tuple(features.shape), "[N, C, H, W] with at least one place")
    N, C = content.shape[:2]
    fits = style.shape[1] == C and style.shape[0] in (1, N)
    require(fits, "style", tuple(style.shape), f"[{N}, {C}, H, W] or [1, {C}, H, W]")
    require(eps > 0, "eps", eps, "above 0")
    x, y = (part if part.dtype in (torch.float32, torch.float64) else part.float() for part in (content, style))
    if N == 0:
        return content.clone()
    (x_var, x_mean), (y_var, y_mean) = (torch.var_mean(part, dim=(2, 3), correction=0, keepdim=True) for part in (x, y))
    scale = torch.sqrt((y_var + eps) / (x_var + eps))
    return ((x - x_mean) * scale + y_mean).to(content.dtype)
