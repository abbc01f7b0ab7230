"""Where the elements of a dense tensor [N, C, ...] lie, in the two views that the kernels take of it.

A tensor is dense if its elements fill one stretch of memory, each place once: NCHW, channels-last and every other order
of the dimensions. Let ``inner`` be the distance of two neighbouring channels. Memory is then an array
[outer, C, inner], and any such tensor is one of two cases: channels side by side (``inner`` is 1) or not.
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Matrix", "Pixels", "as_matrix", "as_pixels", "dense", "empty_statistics", "laid_out_like"]


class Matrix(NamedTuple):
    """A tensor as rows of elements side by side, for work on single elements.

    Attributes:
        rows: Number of rows.
        lanes: Elements of a row.
        channels: C; the channel is the number of the lane, or of the row modulo C.
        on_lanes: Which of the two.
    """

    rows: int
    lanes: int
    channels: int
    on_lanes: bool


class Pixels(NamedTuple):
    """A tensor as pixels of C elements each, for work on whole pixels; strides count elements.

    Attributes:
        outers: Number of groups of pixels.
        lanes: Pixels of a group.
        channels: C.
        outer_stride: From one group to the next.
        pixel_stride: From one pixel to the next.
        channel_stride: From one channel to the next.
    """

    outers: int
    lanes: int
    channels: int
    outer_stride: int
    pixel_stride: int
    channel_stride: int


def as_matrix(x: Tensor) -> Matrix:
    """The rows of a dense, non-empty tensor of two dimensions or more."""
    size, C = x.numel(), x.shape[1]
    if C == 1:  # its stride means nothing
        return Matrix(1, size, 1, False)
    inner = x.stride(1)
    return Matrix(size // C, C, C, True) if inner == 1 else Matrix(size // inner, inner, C, False)


def as_pixels(x: Tensor) -> Pixels:
    """The pixels of a dense, non-empty tensor of two dimensions or more."""
    size, C = x.numel(), x.shape[1]
    if C == 1:
        return Pixels(1, size, 1, 0, 1, 1)
    inner = x.stride(1)
    if inner == 1:
        return Pixels(1, size // C, C, 0, C, 1)
    return Pixels(size // (C * inner), inner, C, C * inner, 1, inner)


def empty_statistics(x: Tensor, dtype: torch.dtype) -> Tensor:
    """One uninitialised number per pixel of a dense tensor, [N, 1, ...], in the order of the pixels in memory."""
    C, inner = x.shape[1], x.stride(1)
    shape = [1 if axis == 1 else length for axis, length in enumerate(x.shape)]
    strides = [stride if C == 1 or stride < inner else max(1, stride // C) for stride in x.stride()]
    return torch.empty_strided(shape, strides, dtype=dtype, device=x.device)


def dense(x: Tensor) -> Tensor:
    """The tensor itself if it is dense, otherwise a copy that is."""
    if x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)):
        return x
    expected = 1
    for stride, length in sorted((s, n) for s, n in zip(x.stride(), x.shape, strict=True) if n != 1):
        if stride != expected:
            return torch.empty_like(x, memory_format=torch.contiguous_format).copy_(x)
        expected *= length
    return x


def laid_out_like(x: Tensor, y: Tensor) -> Tensor:
    """``x`` in the places of ``y``, which is dense and of its shape: itself where it lies there, otherwise a copy.

    A gradient may come with any strides, and as a tensor of zeros that has no memory at all.
    """
    fits = x.stride() == y.stride() or all(
        length == 1 or mine == theirs for length, mine, theirs in zip(x.shape, x.stride(), y.stride(), strict=True)
    )
    if x._is_zerotensor():
        return torch.zeros_like(y, dtype=x.dtype)
    return x if fits and not x.is_neg() else torch.empty_like(y, dtype=x.dtype).copy_(x)
