"""Filtering of images on a CPU as one convolution in which every channel is a group of its own.

The formula passes over the images once for each tap of a row and once for each of a column. The depthwise convolution
of oneDNN, which PyTorch calls, reads and writes them once. A batch of 96 channels takes an eighth of the time; maps of
some thousand numbers take less by the formula.
"""

import functools
import platform
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from ganblocks.ops._geometry import Pair
from ganblocks.ops._graph import is_plain
from ganblocks.ops._switch import is_open_to_cpu

__all__ = ["constant_taps", "filter_images", "pays"]

FEWEST_CHANNELS = 8  # a vector of float32; with fewer the formula was as fast ...
FEWEST_ELEMENTS = 2**15  # ... and with fewer of these too: a convolution takes some time to set up


def pays(x: Tensor, *taps: Tensor) -> bool:
    """Whether the convolution runs on these images in the place of the formula.

    What is transformed, mapped or differentiated forwards is left to the formula.

    Args:
        x: [N, C, H, W].
        taps: The filter, if it is a tensor.
    """
    if x.numel() < FEWEST_ELEMENTS or x.shape[1] < FEWEST_CHANNELS or not is_open_to_cpu(x, *taps) or is_plain(x):
        return False
    return _is_measured() and torch._C._get_mkldnn_enabled()


def filter_images(
    x: Tensor, taps: Tensor, up: int, down: int, before: Pair, size: Pair, *, flipped: bool, channels_last: bool
) -> Tensor:
    """Insert zeros, pad, filter and take every ``down``-th pixel; ``up`` or ``down`` is 1.

    Sums run in at least float32 and are rounded once, inside autocast too.

    Args:
        x: [N, C, H, W], of any strides.
        taps: [K], the same along both axes, or [K, L].
        up: At least 1.
        down: At least 1.
        before: Zeros above and to the left; negative numbers cut.
        size: Height and width of the result.
        flipped: Whether the filter is read from its end.
        channels_last: How the result is laid out.

    Returns:
        [N, C, *size], in the dtype of ``x``.
    """
    matrix = _matrix(taps)
    if flipped != (up > 1):  # a transposed convolution writes with the taps that a convolution reads with, mirrored
        matrix = matrix.flip(0, 1)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    dtype = _dtype(x, matrix, up)
    weight = matrix.to(dtype).expand(x.shape[1], 1, *matrix.shape)
    with torch.autocast("cpu", enabled=False) if torch.is_autocast_enabled("cpu") else nullcontext():
        wide = x.contiguous(memory_format=layout).to(dtype)
        result = _spread(wide, weight, up, before, size) if up > 1 else _gathered(wide, weight, down, before, size)
        return result.to(x.dtype).contiguous(memory_format=layout)


@functools.lru_cache(maxsize=64)
def constant_taps(taps: tuple[float, ...], dtype: torch.dtype) -> Tensor:
    """The products of all pairs of taps [K, K], in this dtype if that holds every one exactly, else in float32."""
    with torch.inference_mode(False), torch._C._DisableFuncTorch(), _disable_current_modes():
        values = torch.tensor(taps, dtype=torch.float64, device="cpu")
        matrix = torch.outer(values, values)
        narrow = matrix.to(dtype)
        return narrow if torch.equal(narrow.double(), matrix) else matrix.float()


def _matrix(taps: Tensor) -> Tensor:
    """The filter [K, L]; products of its taps are not rounded to less than float32."""
    if taps.dim() == 2:
        return taps
    wide = taps.float() if taps.dtype.itemsize < 4 else taps
    return torch.outer(wide, wide)


def _dtype(x: Tensor, matrix: Tensor, up: int) -> torch.dtype:
    """What the convolution computes in.

    In bfloat16 it takes its sums in float32 as well, so nothing is lost if the filter is in bfloat16 already. Of the
    transposed one in bfloat16, and of float16, oneDNN has slow forms only.
    """
    if x.dtype.itemsize >= 4:
        return x.dtype
    exact = x.dtype == matrix.dtype == torch.bfloat16
    return torch.bfloat16 if exact and up == 1 and _computes_bfloat16() else torch.float32


def _gathered(x: Tensor, weight: Tensor, down: int, before: Pair, size: Pair) -> Tensor:
    """Pad, filter, and take every ``down``-th pixel."""
    sides = list(zip(x.shape[2:], before, size, weight.shape[2:], strict=True))
    margin = before
    if min(before) < 0 or any((side + 2 * b - taps) // down + 1 != new for side, b, new, taps in sides):
        margin = (0, 0)
        x = _fitted(x, before, [(new - 1) * down + taps for _, _, new, taps in sides])
    return torch.convolution(x, weight, None, [down, down], margin, [1, 1], False, [0, 0], x.shape[1])


def _spread(x: Tensor, weight: Tensor, up: int, before: Pair, size: Pair) -> Tensor:
    """Insert zeros, pad and filter."""
    sides = list(zip(x.shape[2:], before, size, weight.shape[2:], strict=True))
    cut = [taps - 1 - b for _, b, _, taps in sides]  # off the start of all that the pixels reach
    extra = [new - ((side - 1) * up + taps - 2 * c) for (side, _, new, taps), c in zip(sides, cut, strict=True)]
    direct = min(cut) >= 0 and all(0 <= e < up for e in extra)
    margin, end = (cut, extra) if direct else ([0, 0], [0, 0])
    result = torch.convolution(x, weight, None, [up, up], margin, [1, 1], True, end, x.shape[1])
    return result if direct else _fitted(result, (-cut[0], -cut[1]), list(size))


def _fitted(x: Tensor, before: Pair, size: list[int]) -> Tensor:
    """Zeros before, or cut, then zeros after, or cut, up to this height and width."""
    (top, left), (H, W) = before, x.shape[2:]
    pads = (left, size[1] - W - left, top, size[0] - H - top)
    if max(pads) > 0:  # first, for what is cut may be more than there is
        x = F.pad(x, [max(pad, 0) for pad in pads])
    return F.pad(x, [min(pad, 0) for pad in pads]) if min(pads) < 0 else x


@functools.cache
def _is_measured() -> bool:
    """Whether this is a machine of the kind on which the convolution has been seen to be faster."""
    return torch._C._has_mkldnn and platform.machine().lower() in ("x86_64", "amd64")


@functools.cache
def _computes_bfloat16() -> bool:
    """Whether oneDNN computes with bfloat16 on this CPU, and not PyTorch's own convolution, which rounds sums."""
    supported: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return supported
