"""Pixelwise normalisation in one pass, its gradient in one, its second gradient in one.

The result ``y = r x`` and its factor ``r = (m(x^2) + eps)^-1/2``, one number per pixel, are all that is saved. ``r`` is
an output of its own, by which a gradient may arrive: the gradient by ``x`` is a polynomial of ``y`` and ``r``, so its
own gradient is one too, and goes on through them.
"""

from typing import Any

import torch
from torch import Tensor

from ganblocks import functional
from ganblocks._checks import require, require_rank
from ganblocks.ops import _closed_forms
from ganblocks.ops._function import Function
from ganblocks.ops._graph import is_followed, is_plain, is_wrapped
from ganblocks.ops._switch import uses_kernel

__all__ = ["pixel_norm"]


def pixel_norm(x: Tensor, *, eps: float = 1e-8) -> Tensor:
    """Divide each pixel's feature vector by its root mean square; the fast twin of `ganblocks.functional.pixel_norm`.

    One kernel on GPUs, computing in float32 whatever the dtype; the formula elsewhere. Memory formats are kept;
    autocast changes nothing.

    Args:
        x: Features ``[N, C, ...]``; any trailing dimensions, none included (latents ``[N, Z]``).
        eps: Added under the root, at least 0; with 0 an all-zero pixel gives NaN.

    Returns:
        Tensor of the shape, dtype and memory format of ``x``.

    Raises:
        TypeError: If ``x`` is not a floating-point tensor.
        ValueError: If ``x`` has fewer than 2 dimensions or ``eps`` is negative.

    Differentiable to any order, in reverse and forward mode, under ``torch.func`` and ``torch.vmap``; to second order
    in reverse mode by kernels, beyond and elsewhere by the same formulas in plain PyTorch.
    """
    require_rank(x, "x", 2)
    require(eps >= 0, "eps", eps, "at least 0")
    if not uses_kernel(x):
        return functional.pixel_norm(x, eps=eps)
    result: tuple[Tensor, Tensor] = _PixelNorm.apply(x, eps)
    return result[0]


class _PixelNorm(Function):
    """``y`` and ``r``."""

    @staticmethod
    def forward(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        from ganblocks.ops.kernels import pixel_norm as kernels

        return kernels.normalize(x, None, eps, None)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output)
        ctx.save_for_forward(*output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        g, rho = gradients
        if g is None and rho is None:
            return None, None
        y, r = ctx.saved_tensors
        if g is None:
            g = torch.zeros_like(y)
        if is_plain(g, rho):
            return _closed_forms.normalized_gradient(g, y, r, rho), None
        if is_followed():
            return _Gradient.apply(g, y, r, rho), None
        from ganblocks.ops.kernels import pixel_norm as kernels

        return kernels.gradient(g, y, r, rho, None)[0], None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        tangent = tangents[0]
        if tangent is None:
            return None, None
        y, r = ctx.saved_tensors
        along = (tangent.to(r.dtype) * y.to(r.dtype)).mean(1, keepdim=True)
        return _closed_forms.normalized_gradient(tangent, y, r, None), -r.square() * along

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[tuple[Tensor, ...], tuple[int, int]]:
        x, eps = arguments
        x = x.movedim(in_dims[0], 0).flatten(0, 1)
        y, r = _PixelNorm.apply(x, eps)
        return (torch.unflatten(y, 0, (info.batch_size, -1)), torch.unflatten(r, 0, (info.batch_size, -1))), (0, 0)


class _Gradient(Function):
    """The gradient by ``x`` of what :class:`_PixelNorm` returns."""

    @staticmethod
    def forward(g: Tensor, y: Tensor, r: Tensor, rho: Tensor | None) -> Tensor:
        from ganblocks.ops.kernels import pixel_norm as kernels

        return kernels.gradient(g, y, r, rho, None)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        v = gradients[0]
        if v is None:
            return None, None, None, None
        g, y, r, rho = ctx.saved_tensors
        if rho is not None or is_followed() or is_wrapped(v):
            return _closed_forms.normalized_second(v, g, y, r, rho)
        from ganblocks.ops.kernels import pixel_norm as kernels

        return *kernels.second(v, None, g, y, r, None), None
