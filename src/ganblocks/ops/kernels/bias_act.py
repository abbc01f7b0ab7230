"""Scale, bias and leaky ReLU, and its adjoint: one pass each, of which every order of gradient is made."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ganblocks.ops.kernels._layout import Matrix, as_matrix, dense, laid_out_like
from ganblocks.ops.kernels._runtime import device_guard

__all__ = ["adjoint", "rectify"]

TILE = 2048  # elements of one step of a program
WIDEST = 1024  # lanes of a tile
STEPS = 8  # tiles of a program that sums over rows, where there are tiles enough
MANY = 2**22  # elements from which on there are


def rectify(x: Tensor, bias: Tensor | None, sign: Tensor | None, slope: float, scale: float) -> Tensor:
    """``t = scale * x + bias``, times ``slope`` where ``sign``, or ``t`` itself for None, is not positive.

    Args:
        x: [N, C, ...] in float16, bfloat16 or float32; anything is computed in float32.
        bias: [C] in any of these dtypes; None adds nothing.
        sign: [N, C, ...], dense; the result is laid out like it.
        slope: Factor of negative values.
        scale: Factor in front of ``x``.

    Returns:
        [N, C, ...] in the dtype of ``x``, dense.
    """
    x = dense(x) if sign is None else laid_out_like(x, sign)
    result = torch.empty_like(x)
    if x.numel() == 0:
        return result
    matrix = as_matrix(x)
    block_rows, block_lanes = _tile(matrix)
    programs = triton.cdiv(matrix.rows, block_rows) * triton.cdiv(matrix.lanes, block_lanes)
    with device_guard(x):
        _rectify[(programs,)](
            x,
            x if bias is None else bias.contiguous(),
            x if sign is None else sign,
            result,
            matrix.rows,
            matrix.lanes,
            matrix.channels,
            float(slope),
            float(scale),
            ACC=tl.float64 if x.dtype == torch.float64 else tl.float32,
            HAS_BIAS=bias is not None,
            HAS_SIGN=sign is not None,
            ON_LANES=matrix.on_lanes,
            BLOCK_R=block_rows,
            BLOCK_L=block_lanes,
        )
    return result


def adjoint(
    gradient: Tensor, y: Tensor, slope: float, scale: float, bias_dtype: torch.dtype | None
) -> tuple[Tensor, Tensor | None]:
    """The adjoint of :func:`rectify` with the sign of ``y``: what its gradient becomes by ``x`` and by the bias.

    The sum over pixels is taken in two passes, in an order that the shape alone decides.

    Args:
        gradient: [N, C, ...] in float16, bfloat16 or float32.
        y: The result of the forward pass, dense.
        slope: Factor where ``y`` is not positive.
        scale: Factor of the first result.
        bias_dtype: Of the second result; None where nobody asks for it.

    Returns:
        [N, C, ...], laid out like ``y`` in the dtype of ``gradient``, and [C] or None.
    """
    gradient = laid_out_like(gradient, y)
    result = torch.empty_like(gradient)
    C = y.shape[1]
    if y.numel() == 0:
        return result, None if bias_dtype is None else y.new_zeros(C, dtype=bias_dtype)
    matrix = as_matrix(y)
    block_rows, block_lanes = _tile(matrix)
    steps = STEPS if matrix.on_lanes and bias_dtype is not None and y.numel() >= MANY else 1
    row_blocks, lane_blocks = triton.cdiv(matrix.rows, block_rows * steps), triton.cdiv(matrix.lanes, block_lanes)
    wide = torch.float64 if y.dtype == torch.float64 else torch.float32
    partial = None
    if bias_dtype is not None:
        shape = (row_blocks, matrix.lanes) if matrix.on_lanes else (lane_blocks, matrix.rows)
        partial = torch.empty(shape, dtype=wide, device=y.device)
    with device_guard(y):
        _adjoint[(row_blocks * lane_blocks,)](
            gradient,
            y,
            result,
            result if partial is None else partial,
            matrix.rows,
            matrix.lanes,
            float(slope),
            float(scale),
            ACC=tl.float64 if wide == torch.float64 else tl.float32,
            HAS_BIAS=partial is not None,
            ON_LANES=matrix.on_lanes,
            BLOCK_R=block_rows,
            BLOCK_L=block_lanes,
            STEPS=steps,
        )
    if partial is None:
        return result, None
    return result, partial.view(-1, C).sum(0).to(bias_dtype)


def _tile(matrix: Matrix) -> tuple[int, int]:
    """Rows and lanes of a tile, powers of 2."""
    lanes = min(triton.next_power_of_2(matrix.lanes), WIDEST if matrix.rows > 1 else TILE)
    return min(triton.next_power_of_2(matrix.rows), TILE // lanes), lanes


@triton.jit  # type: ignore[untyped-decorator]
def _rectify(  # type: ignore[no-untyped-def]
    x_ptr,
    bias_ptr,
    sign_ptr,
    result_ptr,
    rows,
    lanes,
    channels,
    slope,
    scale,
    ACC: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_SIGN: tl.constexpr,
    ON_LANES: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_L: tl.constexpr,
):
    lane_blocks = tl.cdiv(lanes, BLOCK_L)
    program = tl.program_id(0).to(tl.int64)
    row = (program // lane_blocks) * BLOCK_R + tl.arange(0, BLOCK_R)
    lane = (program % lane_blocks) * BLOCK_L + tl.arange(0, BLOCK_L)
    inside = (row < rows)[:, None] & (lane < lanes)[None, :]
    offset = row[:, None] * lanes + lane[None, :]
    t = tl.load(x_ptr + offset, mask=inside, other=0.0).to(ACC) * scale
    if HAS_BIAS:
        if ON_LANES:
            t += tl.load(bias_ptr + lane, mask=lane < lanes, other=0.0).to(ACC)[None, :]
        else:
            t += tl.load(bias_ptr + row % channels, mask=row < rows, other=0.0).to(ACC)[:, None]
    if HAS_SIGN:
        positive = tl.load(sign_ptr + offset, mask=inside, other=0.0).to(ACC) > 0
    else:
        positive = t > 0
    t = tl.where(positive, t, t * slope)
    tl.store(result_ptr + offset, t.to(result_ptr.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _adjoint(  # type: ignore[no-untyped-def]
    gradient_ptr,
    y_ptr,
    result_ptr,
    partial_ptr,
    rows,
    lanes,
    slope,
    scale,
    ACC: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    ON_LANES: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_L: tl.constexpr,
    STEPS: tl.constexpr,
):
    lane_blocks = tl.cdiv(lanes, BLOCK_L)
    program = tl.program_id(0).to(tl.int64)
    row_block = program // lane_blocks
    lane_block = program % lane_blocks
    lane = lane_block * BLOCK_L + tl.arange(0, BLOCK_L)
    total = tl.zeros((BLOCK_R, BLOCK_L), ACC)
    for step in range(STEPS):
        row = (row_block * STEPS + step) * BLOCK_R + tl.arange(0, BLOCK_R)
        inside = (row < rows)[:, None] & (lane < lanes)[None, :]
        offset = row[:, None] * lanes + lane[None, :]
        t = tl.load(gradient_ptr + offset, mask=inside, other=0.0).to(ACC)
        y = tl.load(y_ptr + offset, mask=inside, other=0.0).to(ACC)
        t = tl.where(y > 0, t, t * slope)
        tl.store(result_ptr + offset, (t * scale).to(result_ptr.dtype.element_ty), mask=inside)
        total += t
        if HAS_BIAS and not ON_LANES:  # one step only
            tl.store(partial_ptr + lane_block * rows + row, tl.sum(t, axis=1), mask=row < rows)
    if HAS_BIAS and ON_LANES:
        tl.store(partial_ptr + row_block * lanes + lane, tl.sum(total, axis=0), mask=lane < lanes)
