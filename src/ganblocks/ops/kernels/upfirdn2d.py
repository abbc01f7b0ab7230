"""Insert zeros, filter with a small kernel, take every so many pixels: one pass, whose adjoint is one more of its kind.

A program takes a tile of rows of the result, as they lie in memory: rows of pixels where images are stored channel by
channel, pixels where channels are stored last. The input is read by its strides, so it may lie in any way.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ganblocks.ops.kernels._runtime import device_guard

__all__ = ["filter_images"]

TILE = 1024  # elements of a program
WIDEST = 256  # lanes of a tile


def filter_images(
    x: Tensor,
    taps: Tensor,
    up: int,
    down: int,
    before: tuple[int, int],
    size: tuple[int, int],
    *,
    flipped: bool,
    channels_last: bool,
) -> Tensor:
    """``y[i, j] = sum_ab f[a, b] z[i * down + a - top, j * down + b - left]`` with ``z[h * up, w * up] = x[h, w]``.

    Args:
        x: [N, C, H, W] in float16, bfloat16 or float32; the sums run in float32.
        taps: [K], the same filter along both axes, or [K, L].
        up: At least 1; z is zero between the pixels of x, and outside.
        down: At least 1.
        before: ``(top, left)``; any integers.
        size: Height and width of the result.
        flipped: Whether the filter is read from its end.
        channels_last: How the result is laid out.

    Returns:
        [N, C, *size] in the dtype of ``x``.
    """
    N, C, H, W = x.shape
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    result = torch.empty((N, C, *size), dtype=x.dtype, device=x.device, memory_format=memory_format)
    if result.numel() == 0:
        return result
    if x.numel() == 0:
        return result.zero_()
    lanes = C if channels_last else size[1]
    rows = result.numel() // lanes
    block_lanes = min(triton.next_power_of_2(lanes), WIDEST)
    block_rows = min(triton.next_power_of_2(rows), TILE // block_lanes)
    taps = taps.contiguous()
    with device_guard(x):
        _filter[(triton.cdiv(rows, block_rows) * triton.cdiv(lanes, block_lanes),)](
            x,
            taps,
            result,
            rows,
            lanes,
            C,
            H,
            W,
            *size,
            *x.stride(),
            *before,
            ACC=tl.float64 if x.dtype == torch.float64 else tl.float32,
            UP=up,
            DOWN=down,
            ROWS=taps.shape[0],
            COLUMNS=taps.shape[-1],
            SEPARABLE=taps.dim() == 1,
            FLIPPED=flipped,
            CHANNELS_LAST=channels_last,
            BLOCK_R=block_rows,
            BLOCK_L=block_lanes,
        )
    return result


@triton.jit  # type: ignore[untyped-decorator]
def _filter(  # type: ignore[no-untyped-def]
    x_ptr,
    taps_ptr,
    result_ptr,
    rows,
    lanes,
    channels,
    height,
    width,
    result_height,
    result_width,
    image_stride,
    channel_stride,
    row_stride,
    column_stride,
    top,
    left,
    ACC: tl.constexpr,
    UP: tl.constexpr,
    DOWN: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SEPARABLE: tl.constexpr,
    FLIPPED: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_L: tl.constexpr,
):
    lane_blocks = tl.cdiv(lanes, BLOCK_L)
    program = tl.program_id(0).to(tl.int64)
    row = (program // lane_blocks) * BLOCK_R + tl.arange(0, BLOCK_R)
    lane = (program % lane_blocks) * BLOCK_L + tl.arange(0, BLOCK_L)
    inside = (row < rows)[:, None] & (lane < lanes)[None, :]
    if CHANNELS_LAST:  # a row is a pixel, a lane a channel
        pixel = row // result_width
        down_row = (pixel % result_height) * DOWN - top
        down_column = (row % result_width) * DOWN - left
        base = ((pixel // result_height) * image_stride)[:, None] + (lane * channel_stride)[None, :]
    else:  # a row is a row of pixels, a lane a pixel
        plane = row // result_height
        down_row = (row % result_height) * DOWN - top
        down_column = lane * DOWN - left
        base = ((plane // channels) * image_stride + (plane % channels) * channel_stride)[:, None]
    total = tl.zeros((BLOCK_R, BLOCK_L), ACC)
    for a in tl.static_range(ROWS):
        p = down_row + a
        h = p // UP
        in_rows = (p >= 0) & (h < height) & (p % UP == 0)
        for b in tl.static_range(COLUMNS):
            q = down_column + b
            w = q // UP
            in_columns = (q >= 0) & (w < width) & (q % UP == 0)
            a_tap = ROWS - 1 - a if FLIPPED else a
            b_tap = COLUMNS - 1 - b if FLIPPED else b
            if SEPARABLE:
                tap = tl.load(taps_ptr + a_tap).to(ACC) * tl.load(taps_ptr + b_tap).to(ACC)
            else:
                tap = tl.load(taps_ptr + a_tap * COLUMNS + b_tap).to(ACC)
            if CHANNELS_LAST:
                offset = base + (h * row_stride + w * column_stride)[:, None]
                value = tl.load(x_ptr + offset, mask=inside & (in_rows & in_columns)[:, None], other=0.0)
            else:
                offset = base + (h * row_stride)[:, None] + (w * column_stride)[None, :]
                value = tl.load(x_ptr + offset, mask=inside & in_rows[:, None] & in_columns[None, :], other=0.0)
            total += value.to(ACC) * tap
    place = row[:, None] * lanes + lane[None, :]
    tl.store(result_ptr + place, total.to(result_ptr.dtype.element_ty), mask=inside)
