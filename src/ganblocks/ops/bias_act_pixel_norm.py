"""Scale, bias, leaky ReLU and pixelwise normalisation in one pass, and its gradients in one each.

The gradient is that of the normalisation followed by that of the activation, which reads the sign of the result: the
factor between them is positive. So the result and one number per pixel are all that is saved, as in `pixel_norm`.
"""

from typing import Any

import torch
from torch import Tensor

from ganblocks._checks import require, require_rank
from ganblocks.ops import _closed_forms
from ganblocks.ops._function import Function
from ganblocks.ops._graph import is_followed, is_plain, is_transformed, is_wanted, is_wrapped
from ganblocks.ops._switch import uses_kernel
from ganblocks.ops.bias_act import bias_act
from ganblocks.ops.pixel_norm import pixel_norm

__all__ = ["bias_act_pixel_norm"]


def bias_act_pixel_norm(
    x: Tensor, bias: Tensor | None = None, *, slope: float = 0.2, scale: float = 1.0, eps: float = 1e-8
) -> Tensor:
    """Normalise every pixel of the leaky ReLU of ``scale * x + bias``.

    The fast twin of `ganblocks.functional.bias_act_pixel_norm`: one kernel on GPUs, computing in float32 whatever the
    dtype, and under transforms of ``torch.func`` two; the formula elsewhere. Memory formats are kept; autocast changes
    nothing.

    Args:
        x: Features ``[N, C, ...]``; any trailing dimensions, none included.
        bias: ``[C]``, added on dimension 1 and not scaled; ``None`` adds nothing.
        slope: Factor for negative values, 0 to 1. With 0 a pixel may be all zeros.
        scale: Factor in front of ``x``.
        eps: Added under the root of the mean square, at least 0; with 0 an all-zero pixel gives NaN.

    Returns:
        Tensor of the shape, dtype and memory format of ``x``.

    Raises:
        TypeError: If ``x`` is not a floating-point tensor.
        ValueError: If ``x`` has fewer than 2 dimensions, ``bias`` is not ``[C]``, ``slope`` lies outside 0 to 1 or
            ``eps`` is negative.

    Differentiable to any order, in reverse and forward mode, under ``torch.func`` and ``torch.vmap``. Where the result
    rounds to zero, in float16 below 6e-8 of the pixel's root mean square, gradients take the slope side.
    """
    require_rank(x, "x", 2)
    require(x.is_floating_point(), "x", x.dtype, "of a floating-point dtype", TypeError)
    require(0.0 <= slope <= 1.0, "slope", slope, "between 0 and 1")
    require(eps >= 0, "eps", eps, "at least 0")
    if bias is not None:
        C = x.shape[1]
        require(bias.dim() == 1 and bias.shape[0] == C, "bias", tuple(bias.shape), f"of shape ({C},)")
    if torch.compiler.is_compiling() or is_transformed() or not uses_kernel(x, bias):
        activated = bias_act(x, bias, slope=slope, scale=scale)
        return pixel_norm(activated, eps=eps)
    result: tuple[Tensor, Tensor] = _BiasActPixelNorm.apply(x, bias, slope, scale, eps)
    return result[0]


class _BiasActPixelNorm(Function):
    """The result ``y`` and the factor ``r``."""

    @staticmethod
    def forward(x: Tensor, bias: Tensor | None, slope: float, scale: float, eps: float) -> tuple[Tensor, Tensor]:
        from ganblocks.ops.kernels import pixel_norm as kernels

        return kernels.normalize(x, bias, eps, kernels.Activation(slope, scale))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        _, bias, ctx.slope, ctx.scale, _ = inputs
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output)
        ctx.save_for_forward(*output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        g, rho = gradients
        if g is None and rho is None:
            return None, None, None, None, None
        y, r = ctx.saved_tensors
        if g is None:
            g = torch.zeros_like(y)
        bias_dtype = ctx.bias_dtype if is_wanted(ctx, 1) else None
        if is_plain(g, rho):
            q = _closed_forms.normalized_gradient(g, y, r, rho)
            return *_closed_forms.adjoint(q, y, ctx.slope, ctx.scale, bias_dtype), None, None, None
        if is_followed():
            return *_Gradient.apply(g, y, r, rho, ctx.slope, ctx.scale, bias_dtype), None, None, None
        from ganblocks.ops.kernels import pixel_norm as kernels

        return *kernels.gradient(g, y, r, rho, kernels.Activation(ctx.slope, ctx.scale, bias_dtype)), None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        by_x, by_bias = tangents[:2]
        if by_x is None and by_bias is None:
            return None, None
        y, r = ctx.saved_tensors
        moved = torch.zeros_like(y) if by_x is None else by_x
        moved = _closed_forms.rectified(moved, by_bias, y, ctx.slope, ctx.scale)
        along = (moved.to(r.dtype) * y.to(r.dtype)).mean(1, keepdim=True)
        return _closed_forms.normalized_gradient(moved, y, r, None), -r.square() * along


class _Gradient(Function):
    """The gradient by ``x`` and, where a dtype is given for it, by the bias."""

    @staticmethod
    def forward(
        g: Tensor,
        y: Tensor,
        r: Tensor,
        rho: Tensor | None,
        slope: float,
        scale: float,
        bias_dtype: torch.dtype | None,
    ) -> tuple[Tensor, Tensor | None]:
        from ganblocks.ops.kernels import pixel_norm as kernels

        return kernels.gradient(g, y, r, rho, kernels.Activation(slope, scale, bias_dtype))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor | None]) -> None:
        *tensors, ctx.slope, ctx.scale, _ = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        v, w = gradients
        if v is None and w is None:
            return None, None, None, None, None, None, None
        g, y, r, rho = ctx.saved_tensors
        if v is None:
            v = torch.zeros_like(y)
        if rho is not None or is_followed() or is_wrapped(v, w):
            s = _closed_forms.rectified(v, w, y, ctx.slope, ctx.scale)
            return *_closed_forms.normalized_second(s, g, y, r, rho), None, None, None
        from ganblocks.ops.kernels import pixel_norm as kernels

        return *kernels.second(v, w, g, y, r, kernels.Activation(ctx.slope, ctx.scale)), None, None, None, None
