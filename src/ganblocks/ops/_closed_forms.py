"""The gradients that the kernels compute, in plain PyTorch.

They stand in wherever a kernel cannot: for tensors that a transform has wrapped, and where the gradient of a gradient
is itself to be differentiated, because autograd can follow them to any order. The kernels are compared with them.

``m`` is the mean over channels, ``k(y)`` the slope where ``y`` is not positive and 1 elsewhere. Statistics are taken in
at least float32.
"""

import torch
from torch import Tensor

__all__ = ["adjoint", "normalized_gradient", "normalized_second", "rectified", "sum_over_pixels"]


def rectified(v: Tensor, w: Tensor | None, y: Tensor, slope: float, scale: float) -> Tensor:
    """``k(y) * (scale * v + w)``.

    Args:
        v: [N, C, ...].
        w: [C] or None.
        y: [N, C, ...], of which the sign is read.
        slope: Factor where ``y`` is not positive.
        scale: Factor of ``v``.
    """
    t = _wide(v) * scale
    if w is not None:
        t = t + w.to(t.dtype).reshape(-1, *(1 for _ in y.shape[2:]))
    return torch.where(y > 0, t, t * slope).to(v.dtype)


def adjoint(
    gradient: Tensor, y: Tensor, slope: float, scale: float, bias_dtype: torch.dtype | None
) -> tuple[Tensor, Tensor | None]:
    """``scale * k(y) * g``, and the sum of ``k(y) * g`` over all but channels if a dtype is given for it."""
    t = _wide(gradient)
    t = torch.where(y > 0, t, t * slope)
    return (t * scale).to(gradient.dtype), None if bias_dtype is None else sum_over_pixels(t).to(bias_dtype)


def normalized_gradient(g: Tensor, y: Tensor, r: Tensor, rho: Tensor | None) -> Tensor:
    """The gradient of ``y = r x`` with ``r = (m(x^2) + eps)^-1/2`` by ``x``.

    ``r (g - y m(g y)) - rho r^2 y / C``, in the dtype of ``g``.

    Args:
        g: Gradient of ``y``, [N, C, ...].
        y: [N, C, ...].
        r: [N, 1, ...].
        rho: Gradient of ``r``; None for zero.
    """
    dtype, g, y = g.dtype, _wide(g), _wide(y)
    result = r * (g - y * (g * y).mean(1, keepdim=True))
    if rho is not None:
        result = result - rho * r.square() * y / y.shape[1]
    return result.to(dtype)


def normalized_second(
    v: Tensor, g: Tensor, y: Tensor, r: Tensor, rho: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The gradients of :func:`normalized_gradient`, with ``v`` the gradient of its result, by ``g, y, r, rho``.

    By ``g``: ``r (v - y m(v y))``. By ``y``: ``-r (v m(g y) + g m(v y))``. By ``r``: the sum of ``v (g - y m(g y))``.
    They are taken as if ``y`` and ``r`` did not depend on each other; that they do is the matter of whoever made them.
    """
    dtype, v, g, y = v.dtype, _wide(v), _wide(g), _wide(y)
    C = y.shape[1]
    of_g, of_v = (g * y).mean(1, keepdim=True), (v * y).mean(1, keepdim=True)
    by_g = r * (v - y * of_v)
    by_y = -r * (v * of_g + g * of_v)
    by_r = C * ((v * g).mean(1, keepdim=True) - of_g * of_v)
    by_rho = None
    if rho is not None:
        by_y = by_y - rho * r.square() * v / C
        by_r = by_r - 2 * r * rho * of_v
        by_rho = -r.square() * of_v
    return by_g.to(dtype), by_y.to(dtype), by_r, by_rho


def sum_over_pixels(x: Tensor) -> Tensor:
    """[N, C, ...] to [C]."""
    return x.sum([axis for axis in range(x.dim()) if axis != 1])


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
