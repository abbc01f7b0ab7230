"""Leaky ReLU without a second derivative of zeros.

The gradient of a leaky ReLU depends on its input by the sign only, so the derivative of that gradient by the input is
zero wherever it exists. PyTorch hands it on as a tensor of zeros, and everything below in a network then computes with
it: where the gradient of a penalty runs through a critic, one backward pass in three is spent on zeros. Here there is
no such tensor.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ganblocks._checks import require
from ganblocks.ops._function import Function
from ganblocks.ops._graph import is_followed, is_transformed, is_wrapped

__all__ = ["leaky_relu"]


def leaky_relu(x: Tensor, slope: float = 0.2, *, inplace: bool = False) -> Tensor:
    """``x`` where it is positive, ``slope * x`` elsewhere; the values and gradients of ``F.leaky_relu``.

    Differentiable to any order, in reverse and forward mode, under ``torch.func`` and ``torch.vmap``. Without a
    gradient to record, and while a compiler or exporter is tracing, it *is* PyTorch's function.

    Args:
        x: Tensor of any shape and floating dtype.
        slope: Factor of negative values, 0 to 1. At 0 the derivative is the slope.
        inplace: Whether the result takes the memory of ``x``, as far as a transform of ``torch.func`` does not forbid
            it.

    Returns:
        Tensor of the shape, dtype and memory format of ``x``.

    Raises:
        ValueError: If ``slope`` lies outside 0 to 1.
    """
    require(0.0 <= slope <= 1.0, "slope", slope, "between 0 and 1")
    transformed = is_transformed()
    if torch.compiler.is_compiling() or torch._C._is_tracing() or not torch.is_grad_enabled():
        return F.leaky_relu(x, slope, inplace=inplace)
    if not (x.requires_grad or transformed) or not x.is_floating_point():
        return F.leaky_relu(x, slope, inplace=inplace)
    result: Tensor = _LeakyReLU.apply(x, slope, inplace and not transformed)
    return result


class _LeakyReLU(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, slope: float, inplace: bool) -> Tensor:
        return F.leaky_relu(x, slope, inplace=inplace)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.slope, ctx.inplace = inputs
        ctx.set_materialize_grads(False)
        if ctx.inplace:
            ctx.mark_dirty(x)
        ctx.save_for_backward(output)  # its sign is that of the input
        ctx.save_for_forward(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        return _times_slope(gradients[0], ctx), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor | None:
        tangent = tangents[0]
        result = _times_slope(tangent, ctx)
        return result if tangent is None or not ctx.inplace else tangent.copy_(result)  # type: ignore[arg-type]


class _Gradient(Function):
    """A gradient ``g`` where ``y`` is positive, ``slope * g`` elsewhere: linear in ``g``, constant in ``y``."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, y: Tensor, slope: float) -> Tensor:
        result: Tensor = torch.ops.aten.leaky_relu_backward(gradient, y, slope, True)
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, y, ctx.slope = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(y)
        ctx.save_for_forward(y)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        return _times_slope(gradients[0], ctx), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor | None:
        return _times_slope(tangents[0], ctx)


def _times_slope(gradient: Tensor | None, ctx: Any) -> Tensor | None:
    """The gradient handed on; no gradient stays none."""
    if gradient is None:
        return None
    (y,) = ctx.saved_tensors
    if not is_followed() and not is_wrapped(gradient):  # nobody will differentiate it: spare the call of a Function
        result: Tensor = torch.ops.aten.leaky_relu_backward(gradient, y, ctx.slope, True)
    else:
        result = _Gradient.apply(gradient, y, ctx.slope)
    return result
