"""2-D convolutions whose gradients, of every order, are ordinary convolution kernels.

A convolution is linear in the image and linear in the weight. With ``<.,.>`` the sum of products, the one number
``<g, conv(x, w)>`` defines three bilinear maps, each the gradient of the number with respect to one of its factors:

====================  ===================  ===========================================
map                   result shaped like   computed as
====================  ===================  ===========================================
``conv(x, w)``        ``g``                convolution
``transposed(g, w)``  ``x``                transposed convolution
``correlate(x, g)``   ``w``                the weight-gradient kernel of a convolution
====================  ===================  ===========================================

The gradients of each map are the other two, so the maps are closed under differentiation and every order works.

Why not leave it to PyTorch: its own second order computes the weight gradient as a convolution with an image-sized
kernel over N channels. In bfloat16 on CPUs with AMX that returns numbers unrelated to the truth (3x3 kernels, even
batches up to 12), and a gradient penalty trains with exactly that gradient. The weight-gradient kernel is right, and
does less work.

In float32 on a CPU, layers with far more weights than positions are computed as products of matrices, which is faster
there; see `_matrix_product`. Their values are those of PyTorch up to rounding.
"""

import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ganblocks.ops._function import Function
from ganblocks.ops._geometry import Geometry, Pair
from ganblocks.ops._graph import are_wanted, is_transformed
from ganblocks.ops._matrix_product import MatrixProduct, pays

__all__ = ["conv2d", "conv_transpose2d"]


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve images; the same call, values, dtypes, memory formats and errors as ``torch.nn.functional.conv2d``.

    Differentiable to any order, in reverse and forward mode, under ``torch.func`` and ``torch.vmap``. Without a
    gradient to record, while a compiler or exporter is tracing, and for integer and complex tensors it *is* PyTorch's
    function. Under autocast the floating arguments other than float64 are cast as PyTorch casts them.

    Args:
        input: Images [N, C, H, W] or one image [C, H, W].
        weight: [out_channels, C / groups, kernel height, kernel width].
        bias: [out_channels], or None for no bias.
        stride: Pixels between two positions of the kernel; one number or (height, width).
        padding: Rows and columns of zeros on every side, or ``"valid"`` (none), or ``"same"`` (output as large as the
            input; stride 1 only).
        dilation: Pixels between two taps of the kernel; one number or (height, width).
        groups: Number of groups of channels that do not see each other.

    Returns:
        [N, out_channels, H', W'], or [out_channels, H', W'] for one image.

    Raises:
        RuntimeError: As in PyTorch, for shapes, dtypes or numbers that do not fit.
    """
    steps, spread = _pair(stride), _pair(dilation)
    margin = (0, 0) if padding in ("valid", "same") else _pair(padding)
    if (
        steps is None
        or spread is None
        or margin is None
        or (padding == "same" and steps != (1, 1))
        or not _is_recorded(input, weight, bias)
    ):
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    if padding == "same":
        totals = [gap * (size - 1) for gap, size in zip(spread, weight.shape[2:], strict=True)]
        margin = (totals[0] // 2, totals[1] // 2)
        if totals[0] % 2 or totals[1] % 2:  # an odd total puts the extra row or column at the end
            input = F.pad(input, (0, totals[1] % 2, 0, totals[0] % 2))
    return _convolve(input, weight, bias, Geometry(steps, margin, spread, groups))


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    """Apply a transposed convolution; the same call and results as ``torch.nn.functional.conv_transpose2d``.

    Differentiability, autocast and the cases handed to PyTorch are those of :func:`conv2d`.

    Args:
        input: Images [N, C, H, W] or one image [C, H, W].
        weight: [C, out_channels / groups, kernel height, kernel width].
        bias: [out_channels], or None for no bias.
        stride: Pixels between the places that two neighbouring input pixels write to; one number or (height, width).
        padding: Rows and columns cut from every side of the full result.
        output_padding: Rows and columns added at the end of the result, below the larger of stride and dilation.
        groups: Number of groups of channels that do not see each other.
        dilation: Pixels between two taps of the kernel; one number or (height, width).

    Returns:
        [N, out_channels, H', W'], or [out_channels, H', W'] for one image, with
        ``H' = (H - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1``.

    Raises:
        RuntimeError: As in PyTorch, for shapes, dtypes or numbers that do not fit.
    """
    steps, margin, extra, spread = _pair(stride), _pair(padding), _pair(output_padding), _pair(dilation)
    if (
        steps is None
        or margin is None
        or extra is None
        or spread is None
        or not _is_recorded(input, weight, bias)
        or min(steps) < 1
        or any(not 0 <= e < max(s, d) for e, s, d in zip(extra, steps, spread, strict=True))
    ):
        return F.conv_transpose2d(input, weight, bias, stride, padding, output_padding, groups, dilation)
    # An output padding of a whole stride is one more row of zeros in the input; what remains is below the stride.
    (rows, remaining_rows), (columns, remaining_columns) = (divmod(e, s) for e, s in zip(extra, steps, strict=True))
    if rows or columns:
        input = F.pad(input, (0, columns, 0, rows))
    remaining = (remaining_rows, remaining_columns)
    return _convolve(input, weight, bias, Geometry(steps, margin, spread, groups, True, remaining))


def _convolve(input: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Cast and shape the arguments for the Function."""
    channels_last = _is_channels_last(input) or _is_channels_last(weight)
    geometry = geometry.of(weight.shape[2], weight.shape[3], channels_last)
    input = input.to(_autocast_dtype(input))  # weight and bias follow inside, where a cast is no node of the graph
    output: Tensor
    if input.dim() == 3:
        output = _Convolution.apply(input.unsqueeze(0), weight, bias, geometry)
        return output.squeeze(0)
    output = _Convolution.apply(input, weight, bias, geometry)
    return output


class _Convolution(Function):
    """``conv(x, w) + b``, or ``transposed(g, w) + b`` where the geometry says so."""

    generate_vmap_rule = True

    @staticmethod
    def forward(input: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        weight, bias = weight.to(input.dtype), None if bias is None else bias.to(input.dtype)
        with _autocast_off(input):
            product = _product(input, weight, bias, geometry)
            if product is not None:
                size = geometry.size((input.shape[2], input.shape[3]))
                apply = product.transposed if geometry.transposed else product.forward
                return apply(input, weight, bias, size)
            return torch.convolution(
                _in_format(input, geometry),
                weight,
                bias,
                geometry.stride,
                geometry.padding,
                geometry.dilation,
                geometry.transposed,
                geometry.output_padding,
                geometry.groups,
            )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, weight, _, ctx.geometry = inputs
        ctx.set_materialize_grads(False)  # a missing gradient is zero, and costs nothing
        ctx.save_for_backward(input, weight)
        ctx.save_for_forward(input, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        if gradient is None:
            return None, None, None, None
        input, weight = ctx.saved_tensors
        geometry: Geometry = ctx.geometry
        wanted = are_wanted(ctx, 3)
        if not torch.is_grad_enabled():
            return *_first_order(gradient, input, weight.to(input.dtype), geometry, wanted), None
        by_input = by_weight = by_bias = None
        image, result = (gradient, input) if geometry.transposed else (input, gradient)
        if wanted[0]:
            opposite = geometry.forwards() if geometry.transposed else geometry.backwards(image.shape, result.shape)
            by_input = _Convolution.apply(gradient, weight, None, opposite)
        if wanted[1]:
            by_weight = _WeightGradient.apply(image, result, geometry).to(weight.dtype)
        if wanted[2]:
            by_bias = gradient.sum((0, 2, 3))
        return by_input, by_weight, by_bias, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor | None:
        input, weight = ctx.saved_tensors
        by_input, by_weight, by_bias, _ = tangents
        return _sum_of(
            None if by_input is None else _Convolution.apply(by_input, weight, None, ctx.geometry),
            None if by_weight is None else _Convolution.apply(input, by_weight, None, ctx.geometry),
            None if by_bias is None else by_bias.to(input.dtype).view(-1, 1, 1),
        )


class _WeightGradient(Function):
    """``correlate(x, g)``: the gradient of a convolution by its weight."""

    generate_vmap_rule = True

    @staticmethod
    def forward(image: Tensor, result: Tensor, geometry: Geometry) -> Tensor:
        shape = (result.shape[1], image.shape[1] // geometry.groups, *geometry.kernel)
        weight = image.new_empty(shape)  # only its shape is read
        gradient = _first_order(result, image, weight, geometry.forwards(), (False, True, False))[1]
        assert gradient is not None
        return gradient

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        image, result, ctx.geometry = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(image, result)
        ctx.save_for_forward(image, result)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        if gradient is None:
            return None, None, None
        image, result = ctx.saved_tensors
        geometry: Geometry = ctx.geometry
        wanted = are_wanted(ctx, 3)
        by_image = by_result = None
        if wanted[0]:
            upwards = geometry.backwards(image.shape, result.shape)
            by_image = _Convolution.apply(result, gradient, None, upwards)
        if wanted[1]:
            by_result = _Convolution.apply(image, gradient, None, geometry.forwards())
        return by_image, by_result, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor | None:
        image, result = ctx.saved_tensors
        by_image, by_result, _ = tangents
        return _sum_of(
            None if by_image is None else _WeightGradient.apply(by_image, result, ctx.geometry),
            None if by_result is None else _WeightGradient.apply(image, by_result, ctx.geometry),
        )


def _first_order(
    gradient: Tensor, input: Tensor, weight: Tensor, geometry: Geometry, wanted: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The wanted gradients by input, weight and bias, without a graph of them."""
    product = _product(input, weight, None, geometry)
    if product is not None:
        image, result = (gradient, input) if geometry.transposed else (input, gradient)
        apply, size = product.forward if geometry.transposed else product.transposed, (input.shape[2], input.shape[3])
        return (
            apply(gradient, weight, None, size) if wanted[0] else None,
            product.correlate(image, result, weight.shape) if wanted[1] else None,
            gradient.sum((0, 2, 3)) if wanted[2] else None,
        )
    gradients: tuple[Tensor | None, Tensor | None, Tensor | None] = torch.ops.aten.convolution_backward(
        _in_format(gradient, geometry),
        _in_format(input, geometry),
        weight,
        [gradient.shape[1]],
        geometry.stride,
        geometry.padding,
        geometry.dilation,
        geometry.transposed,
        geometry.output_padding,
        geometry.groups,
        [*wanted[:2], False],
    )
    # PyTorch's own sum for the bias takes longer than the rest where a transposed convolution runs in bfloat16.
    return gradients[0], gradients[1], gradient.sum((0, 2, 3)) if wanted[2] else None


def _product(input: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> MatrixProduct | None:
    """The convolution as matrix products, where that is faster than a convolution kernel.

    What does not fit together is left to PyTorch and its messages.
    """
    if input.device.type != "cpu" or input.dtype != torch.float32 or is_transformed():
        return None
    taken, given = (0, 1) if geometry.transposed else (1, 0)
    fits = input.shape[1] == weight.shape[taken] and (bias is None or bias.shape == weight.shape[given : given + 1])
    if not fits or geometry.groups > 1 or geometry.dilation != (1, 1) or min(geometry.stride) < 1:
        return None
    sides = (input.shape[2], input.shape[3]), geometry.size((input.shape[2], input.shape[3]))
    image, result = reversed(sides) if geometry.transposed else sides
    if min(geometry.padding) < 0 or not pays(input.shape[0], image, result, geometry.kernel, weight.numel()):
        return None
    return MatrixProduct(geometry.kernel, geometry.stride, geometry.padding, geometry.channels_last)


def _sum_of(*terms: Tensor | None) -> Tensor | None:
    """Add what is there."""
    present = [term for term in terms if term is not None]
    return functools.reduce(torch.add, present) if present else None


def _pair(value: str | int | Sequence[int]) -> Pair | None:
    """(height, width), or None for what PyTorch shall refuse in its own words."""
    if isinstance(value, int):
        return value, value
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) not in (1, 2):
        return None
    return value[0], value[-1]


def _is_recorded(input: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether a gradient may be asked for, of arguments that a Function of ours can take."""
    if torch.compiler.is_compiling() or torch._C._is_tracing() or not torch.is_grad_enabled():
        return False
    tensors = (input, weight) if bias is None else (input, weight, bias)
    if not all(isinstance(tensor, Tensor) for tensor in tensors) or input.dim() not in (3, 4) or weight.dim() != 4:
        return False
    dtypes = {tensor.dtype for tensor in tensors}
    if 0 in weight.shape or not all(dtype.is_floating_point for dtype in dtypes):
        return False
    if len(dtypes) > 1 and (torch.float64 in dtypes or not _autocast_enabled(input.device.type)):
        return False
    # Inside vmap the flag is down even where a transform around it takes the gradient.
    return any(tensor.requires_grad for tensor in tensors) or is_transformed()


def _is_channels_last(tensor: Tensor) -> bool:
    """Whether the tensor is laid out as NHWC and not as NCHW; not to be asked inside vmap."""
    if is_transformed() or tensor.dim() != 4:
        return False
    if not tensor.is_contiguous(memory_format=torch.channels_last):
        return False
    _, C, H, W = tensor.shape
    return tensor.stride(1) == 1 and H * W > 1 if C == 1 else not tensor.is_contiguous()  # one channel: as it is meant


def _in_format(tensor: Tensor, geometry: Geometry) -> Tensor:
    """Lay out the factor as the operation was first given it, whatever layout the gradient arrived in."""
    if geometry.channels_last and not is_transformed():
        return tensor.contiguous(memory_format=torch.channels_last)
    return tensor


def _autocast_enabled(device_type: str) -> bool:
    return torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)


def _autocast_dtype(tensor: Tensor) -> torch.dtype:
    """The dtype that autocast computes a convolution of the tensor in; float64 keeps its own."""
    dtype, device_type = tensor.dtype, tensor.device.type
    if not _autocast_enabled(device_type) or dtype == torch.float64 or not dtype.is_floating_point:
        return dtype
    return torch.get_autocast_dtype(device_type)


def _autocast_off(tensor: Tensor) -> AbstractContextManager[Any]:
    """Keep dtypes as they are: a backward pass may run inside an autocast that its forward pass did not see."""
    if tensor.dtype == _autocast_dtype(tensor):  # it is off, or has nothing to cast
        return nullcontext()
    return torch.autocast(tensor.device.type, enabled=False)
