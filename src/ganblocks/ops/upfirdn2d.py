"""Filtering and resampling of images by one kernel, for every order of gradient.

The operation is linear in the image, and its adjoint is one more of its kind: ``up`` and ``down`` trade places, the
filter is read from its end, and the padding becomes what it lacks to a full one. So the gradient, the gradient of that
and all others are the same kernel.
"""

import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ganblocks.functional.upfirdn2d import upfirdn2d as formula
from ganblocks.ops import _depthwise
from ganblocks.ops._function import Function
from ganblocks.ops._graph import is_followed, is_transformed, is_wrapped
from ganblocks.ops._switch import uses_kernel

__all__ = ["Path", "Plan", "filtered", "path_of", "tap_counts", "upfirdn2d"]

MOST_TAPS = 64  # of a filter, rows times columns; each is a load in the kernel's one straight run

Path = Literal["kernel", "convolution"]


def upfirdn2d(
    x: Tensor,
    kernel: Sequence[float] | Tensor,
    *,
    up: int = 1,
    down: int = 1,
    padding: int | tuple[int, int] = 0,
) -> Tensor:
    """Insert zeros, pad, filter and take every ``down``-th pixel; the fast twin of `functional.upfirdn2d`.

    For filters of up to 64 taps it is one kernel on GPUs and, for batches of 8 channels and 32,768 numbers or more, one
    convolution on CPUs if ``up`` or ``down`` is 1, with sums in float32. Elsewhere it is the formula, and for a filter
    that a gradient is wanted of. The memory format is kept; autocast changes nothing.

    Args:
        x: Images [N, C, H, W].
        kernel: K numbers or a tensor [K], the same filter along both axes, or a tensor [K, L].
        up: At least 1.
        down: At least 1.
        padding: Zeros before and after, along both axes; negative numbers cut. One number stands for both.

    Returns:
        [N, C, H', W'] with ``H' = (H * up + before + after - K) // down + 1``, in the dtype of ``x``.

    Raises:
        ValueError: Wrong rank, an empty kernel, a factor below 1, or images too small for the filter.
        TypeError: ``x`` is not a floating-point tensor.

    Differentiable to any order, in reverse and forward mode, under ``torch.func`` and ``torch.vmap``.
    """
    path = path_of(x, kernel, up, down)
    if path is not None and up >= 1 and down >= 1:
        before, after = (padding, padding) if isinstance(padding, int) else padding
        rows, columns = tap_counts(kernel)
        sizes = [
            (length * up + before + after - count) // down + 1
            for length, count in zip(x.shape[2:], (rows, columns), strict=True)
        ]
        if min(sizes) >= 1:
            plan = Plan(up, down, (before, before), (sizes[0], sizes[1]), (rows, columns), path=path)
            return filtered(x, kernel, plan)
    return formula(x, kernel, up=up, down=down, padding=padding)


class Plan(NamedTuple):
    """The numbers of one filtering.

    Attributes:
        up: Factor of the zeros inserted.
        down: Every so many pixels are taken.
        before: Zeros above and to the left.
        size: Height and width of the result.
        taps: Rows and columns of the filter.
        flipped: Whether the filter is read from its end.
        channels_last: How the result is laid out; None is as the input is.
        path: What computes it, and all its gradients.
    """

    up: int
    down: int
    before: tuple[int, int]
    size: tuple[int, int]
    taps: tuple[int, int]
    flipped: bool = False
    channels_last: bool | None = None
    path: Path = "kernel"

    def adjoint(self, size: tuple[int, int], channels_last: bool | None) -> "Plan":
        """The plan that leads from a gradient of the result to that of an input of this size."""
        before = (self.taps[0] - 1 - self.before[0], self.taps[1] - 1 - self.before[1])
        return Plan(self.down, self.up, before, size, self.taps, not self.flipped, channels_last, self.path)


def path_of(x: Tensor, kernel: Sequence[float] | Tensor, up: int = 1, down: int = 1) -> Path | None:
    """What runs on these images, with this filter as a constant; None is the formula."""
    if torch.compiler.is_compiling() or not isinstance(x, Tensor) or x.dim() != 4:
        return None  # before what a compiler cannot trace
    tensors = [x]
    if isinstance(kernel, Tensor):
        if (
            kernel.dim() not in (1, 2)
            or kernel.requires_grad
            or torch._C._functorch.is_functorch_wrapped_tensor(kernel)
        ):
            return None
        tensors.append(kernel)
    rows, columns = tap_counts(kernel)
    if not 0 < rows * columns <= MOST_TAPS:
        return None
    if uses_kernel(*tensors):
        return "kernel"
    return "convolution" if min(up, down) == 1 and _depthwise.pays(*tensors) else None


def tap_counts(kernel: Sequence[float] | Tensor) -> tuple[int, int]:
    """Rows and columns of a filter."""
    if isinstance(kernel, Tensor) and kernel.dim() == 2:
        return kernel.shape[0], kernel.shape[1]
    return len(kernel), len(kernel)


def filtered(x: Tensor, kernel: Sequence[float] | Tensor, plan: Plan) -> Tensor:
    """Run what the plan says; the filter [K] or [K, L] is taken as a constant."""
    if not isinstance(kernel, Tensor):
        taps = tuple(map(float, kernel))
        convolved = plan.path == "convolution"
        kernel = _depthwise.constant_taps(taps, x.dtype) if convolved else _on_device(taps, x.device)
    result: Tensor = _Filter.apply(x, kernel, plan)
    return result


@functools.lru_cache(maxsize=64)
def _on_device(taps: tuple[float, ...], device: torch.device) -> Tensor:
    """The filter where the kernel reads it; copied once, since a copy would make the GPU wait each time."""
    with torch.inference_mode(False), torch._C._DisableFuncTorch():
        return torch.tensor(taps, dtype=torch.float32, device=device)


class _Filter(Function):
    @staticmethod
    def forward(x: Tensor, taps: Tensor, plan: Plan) -> Tensor:
        return _launch(x, taps, plan)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, taps, ctx.plan = inputs
        ctx.size = x.shape[2], x.shape[3]
        ctx.channels_last = None if is_transformed() else _is_channels_last(x)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(taps)
        ctx.save_for_forward(taps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        if gradient is None or not ctx.needs_input_grad[0]:
            return None, None, None
        (taps,) = ctx.saved_tensors
        plan: Plan = ctx.plan.adjoint(ctx.size, ctx.channels_last)
        if is_wrapped(gradient):
            return _plainly(gradient, taps, plan), None, None
        return (_Filter.apply if is_followed() else _launch)(gradient, taps, plan), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor | None:
        if tangents[0] is None:
            return None
        (taps,) = ctx.saved_tensors
        result: Tensor = _Filter.apply(tangents[0], taps, ctx.plan)
        return result

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Tensor, int]:
        x, taps, plan = arguments
        result: Tensor = _Filter.apply(x.movedim(in_dims[0], 0).flatten(0, 1), taps, plan)
        return torch.unflatten(result, 0, (info.batch_size, -1)), 0


def _launch(x: Tensor, taps: Tensor, plan: Plan) -> Tensor:
    if x._is_zerotensor() or x.is_neg():
        x = x.clone()
    channels_last = _is_channels_last(x) if plan.channels_last is None else plan.channels_last
    if plan.path == "convolution":
        filter_images = _depthwise.filter_images
    else:
        from ganblocks.ops.kernels.upfirdn2d import filter_images
    return filter_images(
        x, taps, plan.up, plan.down, plan.before, plan.size, flipped=plan.flipped, channels_last=channels_last
    )


def _plainly(x: Tensor, taps: Tensor, plan: Plan) -> Tensor:
    """The same by the formula, for tensors that stand for several."""
    taps = taps.flip(tuple(range(taps.dim()))) if plan.flipped else taps
    matrix = torch.outer(taps, taps) if taps.dim() == 1 else taps
    top, left = plan.before
    # Both axes are brought to one padding: the larger, with rows or columns of zeros in front of the filter.
    before = max(top, left)
    matrix = torch.nn.functional.pad(matrix, (before - left, 0, before - top, 0))
    lacking = [
        (size - 1) * plan.down + count - length * plan.up - before
        for size, count, length in zip(plan.size, matrix.shape, x.shape[2:], strict=True)
    ]
    result = formula(x, matrix, up=plan.up, down=plan.down, padding=(before, max(lacking)))
    return result.narrow(2, 0, plan.size[0]).narrow(3, 0, plan.size[1])


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
