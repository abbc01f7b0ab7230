"""Slow NumPy versions of the building blocks: loops over every index, in float64, sharing nothing with the library.

Each function takes and returns plain arrays. Reading one of them should leave no doubt about what the block computes.
"""

import math
from itertools import product

import numpy as np
import numpy.typing as npt
import torch

from tolerances import for_dtype

Array = npt.NDArray[np.float64]


def to_array(tensor: torch.Tensor) -> Array:
    """The values of ``tensor`` as float64, which is exact for every floating dtype."""
    return tensor.detach().double().cpu().numpy()


def assert_matches(actual: torch.Tensor, expected: Array, *, magnitude: float = 1.0) -> None:
    """``actual`` has the shape of ``expected`` and its values, to the tolerance of the dtype of ``actual``.

    ``magnitude`` is the size of the intermediate values: rounding errors are proportional to it, not to a result in
    which they cancelled. Below 1 it counts as 1.
    """
    tolerance = for_dtype(actual.dtype)
    tolerance["atol"] *= max(1.0, magnitude)
    torch.testing.assert_close(actual.detach().double(), torch.from_numpy(np.asarray(expected)), **tolerance)


def largest(tensor: torch.Tensor) -> float:
    """The largest absolute value, 0 for an empty tensor."""
    return float(tensor.detach().double().abs().max()) if tensor.numel() else 0.0


def pixel_norm(x: Array, eps: float = 1e-8) -> Array:
    y = np.zeros_like(x)
    for n in range(x.shape[0]):
        for place in product(*(range(size) for size in x.shape[2:])):
            total = 0.0
            for c in range(x.shape[1]):
                total += x[(n, c, *place)] ** 2
            for c in range(x.shape[1]):
                y[(n, c, *place)] = x[(n, c, *place)] / math.sqrt(total / x.shape[1] + eps)
    return y


def group_size_for(batch: int, group_size: int | None) -> int:
    """Counts down from ``group_size`` to a divisor of ``batch``; reaching 1 unasked means the whole batch."""
    if group_size is None or group_size == 1:
        return group_size or batch
    for candidate in range(group_size, 1, -1):
        if batch % candidate == 0:
            return candidate
    return batch


def minibatch_std(
    x: Array,
    group_size: int | None = 4,
    num_channels: int = 1,
    unbiased: bool = False,
    eps: float = 1e-8,
    chunks: int = 1,
) -> Array:
    N, C, H, W = x.shape
    if chunks > 1:
        size = N // chunks
        parts = [x[i * size : (i + 1) * size] for i in range(chunks)]
        return np.concatenate([minibatch_std(part, group_size, num_channels, unbiased, eps) for part in parts])
    y = np.zeros((N, C + num_channels, H, W))
    y[:, :C] = x
    if N == 0:
        return y
    G = group_size_for(N, group_size)
    M = N // G
    width = C // num_channels
    for m in range(M):
        members = [n for n in range(N) if n % M == m]
        assert len(members) == G
        for f in range(num_channels):
            deviations = []
            for c, h, w in product(range(f * width, (f + 1) * width), range(H), range(W)):
                values = [x[n, c, h, w] for n in members]
                mean = sum(values) / G
                squares = sum((value - mean) ** 2 for value in values)
                divisor = G - 1 if unbiased else G
                variance = squares / divisor if divisor else 0.0
                deviations.append(math.sqrt(variance + eps))
            for n in members:
                y[n, C + f] = sum(deviations) / len(deviations) if deviations else 0.0
    return y


def bias_act(x: Array, bias: Array | None = None, slope: float = 0.2, scale: float = 1.0) -> Array:
    y = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        value = scale * x[index] + (0.0 if bias is None else bias[index[1]])
        y[index] = value if value > 0 else slope * value
    return y


def fade_in(old: Array, new: Array, alpha: float) -> Array:
    y = np.zeros_like(old)
    for index in np.ndindex(*old.shape):
        y[index] = (1.0 - alpha) * old[index] + alpha * new[index]
    return y


Pair = tuple[int, int]


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Array:
    """Cross-correlation; ``weight`` is [out, in/groups, kh, kw]."""
    N, _, H, W = x.shape
    out_channels, width, kh, kw = weight.shape
    out_h = (H + 2 * padding[0] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    out_w = (W + 2 * padding[1] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    y = np.zeros((N, out_channels, out_h, out_w))
    for n, o, i, j in np.ndindex(*y.shape):
        first = o // (out_channels // groups) * width
        total = 0.0 if bias is None else bias[o]
        for c, a, b in np.ndindex(width, kh, kw):
            h = i * stride[0] + a * dilation[0] - padding[0]
            w = j * stride[1] + b * dilation[1] - padding[1]
            if 0 <= h < H and 0 <= w < W:
                total += x[n, first + c, h, w] * weight[o, c, a, b]
        y[n, o, i, j] = total
    return y


def conv_transpose2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    output_padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Array:
    """Every input pixel stamps its kernel onto the output; ``weight`` is [in, out/groups, kh, kw]."""
    N, in_channels, H, W = x.shape
    _, width, kh, kw = weight.shape
    out_h = (H - 1) * stride[0] - 2 * padding[0] + dilation[0] * (kh - 1) + output_padding[0] + 1
    out_w = (W - 1) * stride[1] - 2 * padding[1] + dilation[1] * (kw - 1) + output_padding[1] + 1
    y = np.zeros((N, width * groups, out_h, out_w))
    for n, c, h, w in np.ndindex(*x.shape):
        first = c // (in_channels // groups) * width
        for o, a, b in np.ndindex(width, kh, kw):
            i = h * stride[0] + a * dilation[0] - padding[0]
            j = w * stride[1] + b * dilation[1] - padding[1]
            if 0 <= i < out_h and 0 <= j < out_w:
                y[n, first + o, i, j] += x[n, c, h, w] * weight[c, o, a, b]
    return y if bias is None else y + bias.reshape(1, -1, 1, 1)


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """``weight`` is [out, in]; ``x`` is [N, in]."""
    y = np.zeros((x.shape[0], weight.shape[0]))
    for n, o in np.ndindex(*y.shape):
        y[n, o] = sum((x[n, i] * weight[o, i] for i in range(x.shape[1])), 0.0 if bias is None else bias[o])
    return y
