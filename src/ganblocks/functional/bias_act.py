"""Scale, bias and leaky ReLU in one step."""

import torch.nn.functional as F
from torch import Tensor

from ganblocks._checks import require, require_rank

__all__ = ["bias_act"]


def bias_act(x: Tensor, bias: Tensor | None = None, *, slope: float = 0.2, scale: float = 1.0) -> Tensor:
    """Leaky ReLU of ``scale * x + bias``.

    The epilogue of a convolution. ``scale`` is the place for the constant of the equalised learning rate:
    ``conv(u, c * w) + b`` equals ``c * conv(u, w) + b``, and folding ``c`` here saves a pass over the weights.

    Args:
        x: Features ``[N, C, ...]``.
        bias: ``[C]``, added on dimension 1 and not scaled; ``None`` adds nothing.
        slope: Factor for negative values, 0 to 1. 0 is the plain ReLU, 1 the identity.
        scale: Factor in front of ``x``.

    Returns:
        Tensor of the shape and memory format of ``x``. In the dtype of ``x``: a wider bias is rounded to it.

    Raises:
        ValueError: If ``x`` has fewer than 2 dimensions, ``bias`` is not ``[C]`` or ``slope`` lies outside 0 to 1.

    Differentiable to any order (the second derivative is zero wherever it exists; at 0 the slope side is taken).
    """
    require_rank(x, "x", 2)
    require(0.0 <= slope <= 1.0, "slope", slope, "between 0 and 1")
    if scale != 1.0:
        x = x * scale
    if bias is not None:
        C = x.shape[1]
        require(bias.dim() == 1 and bias.shape[0] == C, "bias", tuple(bias.shape), f"of shape ({C},)")
        x = x + bias.to(x.dtype).reshape(C, *(1 for _ in x.shape[2:]))
    return F.leaky_relu(x, slope)
