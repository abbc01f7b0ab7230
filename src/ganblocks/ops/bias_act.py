"""Scale, bias and leaky ReLU in one pass, and so every order of its gradient.

With ``k(y)`` the slope where ``y`` is not positive and 1 elsewhere, two linear maps, each the adjoint of the other, are
all there is:

==========  ==================================================
rectified   ``k(y) * (scale * v + w)``, from ``v`` and ``w`` [C]
adjoint     ``scale * k(y) * g`` and the sum of ``k(y) * g``
==========  ==================================================

The result ``y`` has the sign of what the activation was given, so it is all that is saved. The gradient is the adjoint,
the gradient of that is the first map, and so on; none of them depends on ``y`` other than by its sign.
"""

from typing import Any

import torch
from torch import Tensor

from ganblocks import functional
from ganblocks._checks import require, require_rank
from ganblocks.ops import _closed_forms
from ganblocks.ops._function import Function
from ganblocks.ops._graph import is_followed, is_wanted, is_wrapped
from ganblocks.ops._switch import uses_kernel
from ganblocks.ops.leaky_relu import leaky_relu

__all__ = ["bias_act"]


def bias_act(x: Tensor, bias: Tensor | None = None, *, slope: float = 0.2, scale: float = 1.0) -> Tensor:
    """Leaky ReLU of ``scale * x + bias``; the fast twin of `ganblocks.functional.bias_act`.

    One kernel on GPUs, computing in float32 whatever the dtype: a wider bias is not rounded to that of ``x``. The
    formula elsewhere, without its second-order tensor of zeros. Memory formats are kept; autocast changes nothing.

    Args:
        x: Features ``[N, C, ...]``.
        bias: ``[C]``, added on dimension 1 and not scaled; ``None`` adds nothing.
        slope: Factor for negative values, 0 to 1. 0 is the plain ReLU, 1 the identity.
        scale: Factor in front of ``x``.

    Returns:
        Tensor of the shape, dtype and memory format of ``x``.

    Raises:
        ValueError: If ``x`` has fewer than 2 dimensions, ``bias`` is not ``[C]`` or ``slope`` lies outside 0 to 1.

    Differentiable to any order, in reverse and forward mode, under ``torch.func`` and ``torch.vmap``.
    """
    require_rank(x, "x", 2)
    require(0.0 <= slope <= 1.0, "slope", slope, "between 0 and 1")
    C = x.shape[1]
    if bias is not None:
        require(bias.dim() == 1 and bias.shape[0] == C, "bias", tuple(bias.shape), f"of shape ({C},)")
    if uses_kernel(x, bias):
        result: Tensor = _BiasAct.apply(x, bias, slope, scale)
        return result
    if torch.compiler.is_compiling() or torch._C._is_tracing() or not torch.is_grad_enabled():
        return functional.bias_act(x, bias, slope=slope, scale=scale)
    shifted = x if scale == 1.0 else x * scale
    if bias is not None:
        shifted = shifted + bias.to(x.dtype).reshape(C, *(1 for _ in x.shape[2:]))
    return leaky_relu(shifted, slope, inplace=shifted is not x)


class _BiasAct(Function):
    @staticmethod
    def forward(x: Tensor, bias: Tensor | None, slope: float, scale: float) -> Tensor:
        from ganblocks.ops.kernels import bias_act as kernels

        return kernels.rectify(x, bias, None, slope, scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, bias, ctx.slope, ctx.scale = inputs
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        return *_adjoint(gradients[0], ctx), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor | None:
        return _rectified(tangents[0], tangents[1], ctx)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Tensor, int]:
        x, bias, slope, scale = arguments
        x, bias = _among_channels(x, in_dims[0], info), _among_channels(bias, in_dims[1], info, axis=0)
        return _apart(_BiasAct.apply(x, bias, slope, scale), info), 1


class _Rectified(Function):
    """``k(y) * (scale * v + w)``, by ``v`` and ``w``."""

    @staticmethod
    def forward(v: Tensor, w: Tensor | None, y: Tensor, slope: float, scale: float) -> Tensor:
        from ganblocks.ops.kernels import bias_act as kernels

        return kernels.rectify(v, w, y, slope, scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, w, y, ctx.slope, ctx.scale = inputs
        ctx.bias_dtype = None if w is None else w.dtype
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(y)
        ctx.save_for_forward(y)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        return *_adjoint(gradients[0], ctx), None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor | None:
        return _rectified(tangents[0], tangents[1], ctx)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Tensor, int]:
        v, w, y, slope, scale = arguments
        v, y = _among_channels(v, in_dims[0], info), _among_channels(y, in_dims[2], info)
        w = _among_channels(w, in_dims[1], info, axis=0)
        return _apart(_Rectified.apply(v, w, y, slope, scale), info), 1


class _Adjoint(Function):
    """``scale * k(y) * g`` and, where a dtype is given, the sum of ``k(y) * g``, by ``g``."""

    @staticmethod
    def forward(
        gradient: Tensor, y: Tensor, slope: float, scale: float, bias_dtype: torch.dtype | None
    ) -> tuple[Tensor, Tensor | None]:
        from ganblocks.ops.kernels import bias_act as kernels

        return kernels.adjoint(gradient, y, slope, scale, bias_dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor | None]) -> None:
        _, y, ctx.slope, ctx.scale, ctx.bias_dtype = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(y)
        ctx.save_for_forward(y)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        return _rectified(gradients[0], gradients[1], ctx), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        tangent = tangents[0]
        if tangent is None:
            return None, None
        (y,) = ctx.saved_tensors
        result: tuple[Tensor, Tensor | None] = _Adjoint.apply(tangent, y, ctx.slope, ctx.scale, ctx.bias_dtype)
        return result

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        gradient, y, *others = arguments
        gradient, y = _among_channels(gradient, in_dims[0], info), _among_channels(y, in_dims[1], info)
        by_x, by_bias = _Adjoint.apply(gradient, y, *others)
        if by_bias is None:
            return (_apart(by_x, info), None), (1, None)
        return (_apart(by_x, info), _apart(by_bias, info, axis=0)), (1, 0)


def _adjoint(gradient: Tensor | None, ctx: Any) -> tuple[Tensor | None, Tensor | None]:
    """What a gradient becomes by the first two arguments, as far as it is wanted; no gradient stays none."""
    if gradient is None:
        return None, None
    (y,) = ctx.saved_tensors
    bias_dtype = ctx.bias_dtype if is_wanted(ctx, 1) else None
    if is_wrapped(gradient):
        return _closed_forms.adjoint(gradient, y, ctx.slope, ctx.scale, bias_dtype)
    if is_followed():
        result: tuple[Tensor, Tensor | None] = _Adjoint.apply(gradient, y, ctx.slope, ctx.scale, bias_dtype)
        return result
    from ganblocks.ops.kernels import bias_act as kernels

    return kernels.adjoint(gradient, y, ctx.slope, ctx.scale, bias_dtype)


def _rectified(v: Tensor | None, w: Tensor | None, ctx: Any) -> Tensor | None:
    """The first map, of what is there."""
    if v is None and w is None:
        return None
    (y,) = ctx.saved_tensors
    if v is None:
        v = torch.zeros_like(y)
    if is_wrapped(v, w):
        return _closed_forms.rectified(v, w, y, ctx.slope, ctx.scale)
    if is_followed():
        result: Tensor = _Rectified.apply(v, w, y, ctx.slope, ctx.scale)
        return result
    from ganblocks.ops.kernels import bias_act as kernels

    return kernels.rectify(v, w, y, ctx.slope, ctx.scale)


# Under vmap the mapped dimension becomes part of the channels: a bias, and a sum, may then differ along it.


def _among_channels(tensor: Tensor | None, dim: int | None, info: Any, axis: int = 1) -> Tensor | None:
    if tensor is None:
        return None
    if dim is None:
        tensor, dim = tensor.expand(info.batch_size, *tensor.shape), 0
    return tensor.movedim(dim, axis).flatten(axis, axis + 1)


def _apart(tensor: Tensor, info: Any, axis: int = 1) -> Tensor:
    return torch.unflatten(tensor, axis, (info.batch_size, -1))
