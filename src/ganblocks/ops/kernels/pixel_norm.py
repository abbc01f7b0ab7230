"""Pixelwise normalisation, alone or after scale, bias and leaky ReLU, and its first and second gradient.

In all of them a program holds some pixels with all their channels, or, where these are too many, goes over them twice.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ganblocks.ops.kernels._layout import Pixels, as_pixels, dense, empty_statistics, laid_out_like
from ganblocks.ops.kernels._runtime import device_guard

__all__ = ["Activation", "gradient", "normalize", "second"]

TILE = 8192  # elements that a program holds, where neighbouring pixels lie side by side ...
TILE_OF_ROWS = 2048  # ... and where neighbouring channels do
FEWEST_PIXELS = 16  # side by side, below which memory is read in pieces too small


class Activation(NamedTuple):
    """What is done before the normalisation: leaky ReLU of ``scale * x + bias``.

    Attributes:
        slope: Factor of negative values.
        scale: Factor in front of ``x``.
        bias_dtype: Of the bias, where there is one and its gradient is asked for.
    """

    slope: float
    scale: float
    bias_dtype: torch.dtype | None = None


def normalize(x: Tensor, bias: Tensor | None, eps: float, activation: Activation | None) -> tuple[Tensor, Tensor]:
    """``y = r h`` and ``r = (m(h^2) + eps)^-1/2``, with ``h`` the activation of ``x``, or ``x`` itself.

    Args:
        x: [N, C, ...] in float16, bfloat16 or float32; anything is computed in float32.
        bias: [C], of the activation; None adds nothing.
        eps: Added under the root.
        activation: None for none.

    Returns:
        ``y`` [N, C, ...] in the dtype of ``x``, dense, and ``r`` [N, 1, ...] in float32.
    """
    x = dense(x)
    y, r = torch.empty_like(x), empty_statistics(x, _wide(x))
    if x.numel() == 0:
        return y, r
    pixels = as_pixels(x)
    options, programs = _options(pixels, x, activation)
    with device_guard(x):
        _normalize[(programs,)](
            x, x if bias is None else bias.contiguous(), y, r, *_places(pixels, activation), float(eps),
            HAS_BIAS=bias is not None, **options,
        )  # fmt: skip
    return y, r


def gradient(
    g: Tensor, y: Tensor, r: Tensor, rho: Tensor | None, activation: Activation | None
) -> tuple[Tensor, Tensor | None]:
    """The gradient by ``x``, ``q = r (g - y m(g y)) - rho r^2 y / C``, taken back through the activation; and by bias.

    Args:
        g: Gradient of ``y``, [N, C, ...].
        y: As :func:`normalize` returned it.
        r: The same.
        rho: Gradient of ``r``; None for zero.
        activation: That of the forward pass.

    Returns:
        [N, C, ...], laid out like ``y`` in the dtype of ``g``, and [C] or None.
    """
    g, rho = laid_out_like(g, y), None if rho is None else laid_out_like(rho, r)
    result, C = torch.empty_like(g), y.shape[1]
    bias_dtype = None if activation is None else activation.bias_dtype
    if y.numel() == 0:
        return result, None if bias_dtype is None else y.new_zeros(C, dtype=bias_dtype)
    pixels = as_pixels(y)
    options, programs = _options(pixels, y, activation)
    partial = None if bias_dtype is None else torch.empty((programs, C), dtype=r.dtype, device=y.device)
    with device_guard(y):
        _gradient[(programs,)](
            g, y, r, r if rho is None else rho, result, r if partial is None else partial,
            *_places(pixels, activation), HAS_RHO=rho is not None, HAS_BIAS=partial is not None, **options,
        )  # fmt: skip
    return result, None if partial is None else partial.sum(0).to(bias_dtype)


def second(
    v: Tensor, w: Tensor | None, g: Tensor, y: Tensor, r: Tensor, activation: Activation | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of :func:`gradient` without ``rho`` by ``g``, ``y`` and ``r``, with ``v`` and ``w`` its results'.

    With ``s`` the image of ``v`` and ``w`` under the adjoint of the activation's gradient, or ``v`` itself:
    ``r (s - y m(s y))``, ``-r (s m(g y) + g m(s y))`` and the sum of ``s (g - y m(g y))`` over channels.

    Args:
        v: Gradient of the first result, [N, C, ...].
        w: Gradient of the second, [C]; None for zero.
        g: As given to :func:`gradient`.
        y: The same.
        r: The same.
        activation: The same.

    Returns:
        Two tensors [N, C, ...] in the dtypes of ``g`` and ``y``, one [N, 1, ...] in that of ``r``.
    """
    v, g = laid_out_like(v, y), laid_out_like(g, y)
    by_g, by_y, by_r = torch.empty_like(g), torch.empty_like(y), torch.empty_like(r)
    if y.numel() == 0:
        return by_g, by_y, by_r
    pixels = as_pixels(y)
    options, programs = _options(pixels, y, activation)
    with device_guard(y):
        _second[(programs,)](
            v, v if w is None else w.contiguous(), g, y, r, by_g, by_y, by_r, *_places(pixels, activation),
            HAS_BIAS=w is not None, **options,
        )  # fmt: skip
    return by_g, by_y, by_r


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _places(pixels: Pixels, activation: Activation | None) -> tuple[float, ...]:
    """The numbers that every kernel takes."""
    slope, scale = (1.0, 1.0) if activation is None else (float(activation.slope), float(activation.scale))
    return *pixels[1:], slope, scale


def _options(pixels: Pixels, x: Tensor, activation: Activation | None) -> tuple[dict[str, Any], int]:
    """The constants that every kernel takes, and the number of programs.

    Where each of them leaves a sum per channel behind, programs are fewer and larger.
    """
    channels = triton.next_power_of_2(pixels.channels)
    if pixels.pixel_stride == 1:
        block_channels = min(channels, TILE // FEWEST_PIXELS)
        block_pixels = min(
            triton.next_power_of_2(pixels.lanes), max(32, 2048 // block_channels), TILE // block_channels
        )
    else:
        block_channels = min(channels, TILE_OF_ROWS)
        tile = TILE_OF_ROWS if activation is None or activation.bias_dtype is None else TILE
        block_pixels = min(triton.next_power_of_2(pixels.lanes), tile // block_channels)
    options = {
        "ACC": tl.float64 if x.dtype == torch.float64 else tl.float32,
        "ACTIVATED": activation is not None,
        "WHOLE": block_channels >= pixels.channels,
        "BLOCK_P": block_pixels,
        "BLOCK_C": block_channels,
        "num_warps": min(8, max(1, block_pixels * block_channels // 512)),
    }
    return options, pixels.outers * triton.cdiv(pixels.lanes, block_pixels)


@triton.jit  # type: ignore[untyped-decorator]
def _tile(lanes, channels, outer_stride, pixel_stride, channel_stride, start, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):  # type: ignore[no-untyped-def]  # fmt: skip  # noqa: E501
    """Offsets and mask of a tile [pixels, channels], the channels, and offsets and mask of its pixels' statistics."""
    blocks = tl.cdiv(lanes, BLOCK_P)
    program = tl.program_id(0).to(tl.int64)
    outer = program // blocks
    lane = (program % blocks) * BLOCK_P + tl.arange(0, BLOCK_P)
    channel = start + tl.arange(0, BLOCK_C).to(tl.int64)
    offset = outer * outer_stride + lane[:, None] * pixel_stride + channel[None, :] * channel_stride
    inside = (lane < lanes)[:, None] & (channel < channels)[None, :]
    return offset, inside, channel, outer * lanes + lane, lane < lanes


@triton.jit  # type: ignore[untyped-decorator]
def _activated(x_ptr, bias_ptr, offset, inside, channel, channels, slope, scale, ACC: tl.constexpr, ACTIVATED: tl.constexpr, HAS_BIAS: tl.constexpr):  # type: ignore[no-untyped-def]  # fmt: skip  # noqa: E501
    t = tl.load(x_ptr + offset, mask=inside, other=0.0).to(ACC)
    if ACTIVATED:
        t = t * scale
        if HAS_BIAS:
            t += tl.load(bias_ptr + channel, mask=channel < channels, other=0.0).to(ACC)[None, :]
        t = tl.where(t > 0, t, t * slope)
    return t


@triton.jit  # type: ignore[untyped-decorator]
def _adjoined(v_ptr, w_ptr, y, offset, inside, channel, channels, slope, scale, ACC: tl.constexpr, ACTIVATED: tl.constexpr, HAS_BIAS: tl.constexpr):  # type: ignore[no-untyped-def]  # fmt: skip  # noqa: E501
    s = tl.load(v_ptr + offset, mask=inside, other=0.0).to(ACC)
    if ACTIVATED:
        s = s * scale
        if HAS_BIAS:
            s += tl.load(w_ptr + channel, mask=channel < channels, other=0.0).to(ACC)[None, :]
        s = tl.where(y > 0, s, s * slope)
    return s


@triton.jit  # type: ignore[untyped-decorator]
def _normalize(  # type: ignore[no-untyped-def]
    x_ptr,
    bias_ptr,
    y_ptr,
    r_ptr,
    lanes,
    channels,
    outer_stride,
    pixel_stride,
    channel_stride,
    slope,
    scale,
    eps,
    ACC: tl.constexpr,
    ACTIVATED: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    WHOLE: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    offset, inside, channel, place, there = _tile(
        lanes, channels, outer_stride, pixel_stride, channel_stride, 0, BLOCK_P, BLOCK_C
    )
    h = _activated(x_ptr, bias_ptr, offset, inside, channel, channels, slope, scale, ACC, ACTIVATED, HAS_BIAS)
    # Beyond the last channel a bias is not loaded, so these are zeros; beyond the last pixel nobody looks.
    squares = tl.sum(h * h, axis=1)
    if not WHOLE:
        for start in range(BLOCK_C, channels, BLOCK_C):
            offset, inside, channel, place, there = _tile(
                lanes, channels, outer_stride, pixel_stride, channel_stride, start, BLOCK_P, BLOCK_C
            )
            h = _activated(x_ptr, bias_ptr, offset, inside, channel, channels, slope, scale, ACC, ACTIVATED, HAS_BIAS)
            squares += tl.sum(h * h, axis=1)
    if ACC == tl.float64:  # noqa: SIM300
        r = 1.0 / tl.sqrt(squares / channels + eps)
    else:  # by default both are approximations on a GPU
        r = tl.div_rn(1.0, tl.sqrt_rn(squares / channels + eps))
    tl.store(r_ptr + place, r, mask=there)
    if WHOLE:
        tl.store(y_ptr + offset, (h * r[:, None]).to(y_ptr.dtype.element_ty), mask=inside)
    else:
        for start in range(0, channels, BLOCK_C):
            offset, inside, channel, place, there = _tile(
                lanes, channels, outer_stride, pixel_stride, channel_stride, start, BLOCK_P, BLOCK_C
            )
            h = _activated(x_ptr, bias_ptr, offset, inside, channel, channels, slope, scale, ACC, ACTIVATED, HAS_BIAS)
            tl.store(y_ptr + offset, (h * r[:, None]).to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _gradient(  # type: ignore[no-untyped-def]
    g_ptr,
    y_ptr,
    r_ptr,
    rho_ptr,
    result_ptr,
    partial_ptr,
    lanes,
    channels,
    outer_stride,
    pixel_stride,
    channel_stride,
    slope,
    scale,
    ACC: tl.constexpr,
    ACTIVATED: tl.constexpr,
    HAS_RHO: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    WHOLE: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    offset, inside, channel, place, there = _tile(
        lanes, channels, outer_stride, pixel_stride, channel_stride, 0, BLOCK_P, BLOCK_C
    )
    r = tl.load(r_ptr + place, mask=there, other=0.0)
    g = tl.load(g_ptr + offset, mask=inside, other=0.0).to(ACC)
    y = tl.load(y_ptr + offset, mask=inside, other=0.0).to(ACC)
    products = tl.sum(g * y, axis=1)
    if not WHOLE:
        for start in range(BLOCK_C, channels, BLOCK_C):
            offset, inside, channel, place, there = _tile(
                lanes, channels, outer_stride, pixel_stride, channel_stride, start, BLOCK_P, BLOCK_C
            )
            g = tl.load(g_ptr + offset, mask=inside, other=0.0).to(ACC)
            y = tl.load(y_ptr + offset, mask=inside, other=0.0).to(ACC)
            products += tl.sum(g * y, axis=1)
    factor = r * (products / channels)
    if HAS_RHO:
        factor += tl.load(rho_ptr + place, mask=there, other=0.0) * r * r / channels
    for start in range(0, channels, BLOCK_C):
        if not WHOLE:
            offset, inside, channel, place, there = _tile(
                lanes, channels, outer_stride, pixel_stride, channel_stride, start, BLOCK_P, BLOCK_C
            )
            g = tl.load(g_ptr + offset, mask=inside, other=0.0).to(ACC)
            y = tl.load(y_ptr + offset, mask=inside, other=0.0).to(ACC)
        q = g * r[:, None] - y * factor[:, None]
        if ACTIVATED:
            q = tl.where(y > 0, q, q * slope)
            if HAS_BIAS:
                sums = tl.sum(q, axis=0)  # zeros beyond the last pixel
                partial = tl.program_id(0).to(tl.int64) * channels + channel
                tl.store(partial_ptr + partial, sums, mask=channel < channels)
            q = q * scale
        tl.store(result_ptr + offset, q.to(result_ptr.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _second(  # type: ignore[no-untyped-def]
    v_ptr,
    w_ptr,
    g_ptr,
    y_ptr,
    r_ptr,
    by_g_ptr,
    by_y_ptr,
    by_r_ptr,
    lanes,
    channels,
    outer_stride,
    pixel_stride,
    channel_stride,
    slope,
    scale,
    ACC: tl.constexpr,
    ACTIVATED: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    WHOLE: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    offset, inside, channel, place, there = _tile(
        lanes, channels, outer_stride, pixel_stride, channel_stride, 0, BLOCK_P, BLOCK_C
    )
    r = tl.load(r_ptr + place, mask=there, other=0.0)
    g = tl.load(g_ptr + offset, mask=inside, other=0.0).to(ACC)
    y = tl.load(y_ptr + offset, mask=inside, other=0.0).to(ACC)
    s = _adjoined(v_ptr, w_ptr, y, offset, inside, channel, channels, slope, scale, ACC, ACTIVATED, HAS_BIAS)
    of_g, of_s, of_both = tl.sum(g * y, axis=1), tl.sum(s * y, axis=1), tl.sum(s * g, axis=1)
    if not WHOLE:
        for start in range(BLOCK_C, channels, BLOCK_C):
            offset, inside, channel, place, there = _tile(
                lanes, channels, outer_stride, pixel_stride, channel_stride, start, BLOCK_P, BLOCK_C
            )
            g = tl.load(g_ptr + offset, mask=inside, other=0.0).to(ACC)
            y = tl.load(y_ptr + offset, mask=inside, other=0.0).to(ACC)
            s = _adjoined(v_ptr, w_ptr, y, offset, inside, channel, channels, slope, scale, ACC, ACTIVATED, HAS_BIAS)
            of_g += tl.sum(g * y, axis=1)
            of_s += tl.sum(s * y, axis=1)
            of_both += tl.sum(s * g, axis=1)
    tl.store(by_r_ptr + place, of_both - of_g * (of_s / channels), mask=there)
    of_g = r * (of_g / channels)
    of_s = r * (of_s / channels)
    for start in range(0, channels, BLOCK_C):
        if not WHOLE:
            offset, inside, channel, place, there = _tile(
                lanes, channels, outer_stride, pixel_stride, channel_stride, start, BLOCK_P, BLOCK_C
            )
            g = tl.load(g_ptr + offset, mask=inside, other=0.0).to(ACC)
            y = tl.load(y_ptr + offset, mask=inside, other=0.0).to(ACC)
            s = _adjoined(v_ptr, w_ptr, y, offset, inside, channel, channels, slope, scale, ACC, ACTIVATED, HAS_BIAS)
        by_g = s * r[:, None] - y * of_s[:, None]
        by_y = -(s * of_g[:, None] + g * of_s[:, None])
        tl.store(by_g_ptr + offset, by_g.to(by_g_ptr.dtype.element_ty), mask=inside)
        tl.store(by_y_ptr + offset, by_y.to(by_y_ptr.dtype.element_ty), mask=inside)
