"""Averages of disjoint squares without a second derivative of zeros.

An average is linear: the derivative of its gradient by the images is zero. PyTorch hands it on as a tensor of zeros,
and everything below in a network then computes with it; in the gradient of a penalty that is a backward pass through
every layer in front of the first average. Here there is no such tensor.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ganblocks.functional import resample
from ganblocks.ops._function import Function
from ganblocks.ops._graph import is_followed, is_transformed, is_wrapped

__all__ = ["downsample_box"]


def downsample_box(x: Tensor, factor: int = 2) -> Tensor:
    """Average disjoint squares; the call, values and errors of :func:`ganblocks.functional.resample.downsample_box`.

    Differentiable to any order, in reverse and forward mode, under ``torch.func`` and ``torch.vmap``. Without a
    gradient to record, and while a compiler or exporter is tracing, it *is* the formula.

    Args:
        x: [N, C, H, W] with H and W divisible by ``factor``.
        factor: At least 1; 1 returns ``x`` itself.

    Returns:
        [N, C, H / factor, W / factor], in the memory format of ``x``.

    Raises:
        ValueError: ``x`` is not of rank 4, ``factor`` is less than 1, or does not divide H and W.
        TypeError: ``x`` is not a floating-point tensor.
    """
    recorded = torch.is_grad_enabled() and (x.requires_grad or is_transformed())
    if not recorded or torch.compiler.is_compiling() or torch._C._is_tracing():
        return resample.downsample_box(x, factor)
    if factor == 1 or x.numel() == 0 or x.dim() != 4 or factor < 1 or x.shape[2] % factor or x.shape[3] % factor:
        return resample.downsample_box(x, factor)  # which says what is wrong
    result: Tensor = _Down.apply(x, factor)
    return result


class _Down(Function):
    """``y[i, j]`` = mean of a square of ``x``."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, factor: int) -> Tensor:
        return F.avg_pool2d(x, factor)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.factor = inputs
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        return _spread(gradients[0], ctx.factor), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor | None:
        return _averaged(tangents[0], ctx.factor)


class _Up(Function):
    """Its transpose: each ``g[i, j] / factor^2`` on a whole square."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, factor: int) -> Tensor:
        return _repeated(gradient, factor)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.factor = inputs
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        return _averaged(gradients[0], ctx.factor), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor | None:
        return _spread(tangents[0], ctx.factor)


def _averaged(x: Tensor | None, factor: int) -> Tensor | None:
    """`_Down`, where somebody may differentiate it; nothing stays nothing."""
    if x is None:
        return None
    result: Tensor = _Down.apply(x, factor) if is_followed() or is_wrapped(x) else F.avg_pool2d(x, factor)
    return result


def _spread(gradient: Tensor | None, factor: int) -> Tensor | None:
    """`_Up`, where somebody may differentiate it; nothing stays nothing."""
    if gradient is None:
        return None
    if not is_followed() and not is_wrapped(gradient):  # spare the call of a Function
        return _repeated(gradient, factor)
    result: Tensor = _Up.apply(gradient, factor)
    return result


def _repeated(gradient: Tensor, factor: int) -> Tensor:
    if is_transformed():  # `vmap` has no rule for the interpolation
        return (gradient / factor**2).repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    return F.interpolate(gradient / factor**2, scale_factor=float(factor), mode="nearest-exact")
