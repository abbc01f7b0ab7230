"""Changing the resolution of images, and low-pass filtering them, as growing networks do.

All functions take floating-point images [N, C, H, W], keep dtype and memory format, accept empty batches, and are
differentiable any number of times.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from ganblocks._checks import require, require_rank

__all__ = ["blur", "downsample_box", "upsample_nearest"]

BlurPadding = Literal["zeros", "reflect"]


def upsample_nearest(x: Tensor, factor: int = 2) -> Tensor:
    """Repeat every pixel ``factor`` times in both directions (Karras et al. 2018, section 3 and figure 2).

    It is ``factor**2`` times the adjoint of :func:`downsample_box`: ``<up(x), y> = factor**2 * <x, down(y)>``.

    Args:
        x: [N, C, H, W].
        factor: At least 1; 1 returns ``x`` itself.

    Returns:
        [N, C, H * factor, W * factor].

    Raises:
        ValueError: ``x`` is not of rank 4, or ``factor`` is less than 1.
        TypeError: ``x`` is not a floating-point tensor.
    """
    _require_images(x, factor)
    if factor == 1:
        return x
    N, C, H, W = x.shape
    if x.numel() == 0:
        return x.reshape(N, C, H * factor, W * factor)
    # "nearest-exact" looks up pixel centres; plain "nearest" looks up edges, where one rounding picks a neighbour.
    return F.interpolate(x, scale_factor=float(factor), mode="nearest-exact")


def downsample_box(x: Tensor, factor: int = 2) -> Tensor:
    """Average disjoint squares of ``factor`` x ``factor`` pixels (Karras et al. 2018, section 3 and figure 2).

    ``downsample_box(upsample_nearest(x))`` is ``x``.

    Args:
        x: [N, C, H, W] with H and W divisible by ``factor``.
        factor: At least 1; 1 returns ``x`` itself.

    Returns:
        [N, C, H / factor, W / factor].

    Raises:
        ValueError: ``x`` is not of rank 4, ``factor`` is less than 1, or does not divide H and W.
        TypeError: ``x`` is not a floating-point tensor.
    """
    _require_images(x, factor)
    N, C, H, W = x.shape
    if H % factor or W % factor:
        raise ValueError(f"`factor` is {factor}, but must divide the height and the width of `x`, {H} x {W}")
    if factor == 1:
        return x
    if x.numel() == 0:
        return x.reshape(N, C, H // factor, W // factor)
    return F.avg_pool2d(x, factor)


def blur(
    x: Tensor,
    kernel: Sequence[float] | Tensor = (1.0, 2.0, 1.0),
    *,
    padding: BlurPadding = "zeros",
    normalize: bool = True,
) -> Tensor:
    """Filter every channel with one small kernel; the size stays.

    The kernel is laid over the image as it stands (a correlation, as in ``torch.nn.functional.conv2d``). With K taps,
    (K - 1) // 2 pixels are added before and K // 2 after, so an even kernel reaches one pixel further down and right.
    The sums run in at least float32, inside autocast too. Default: the binomial filter of Karras et al. 2019
    (StyleGAN), appendix C.

    Args:
        x: [N, C, H, W].
        kernel: K numbers or a tensor [K]: a separable filter, the same along both axes. A tensor [K, L]: any filter,
            K rows and L columns. A tensor may require gradients.
        padding: "zeros", or "reflect" about the border pixel, which keeps a constant image constant.
        normalize: Divide the kernel by its sum, so the gain for a constant is 1. Numbers that sum to zero raise; a
            tensor is not looked at, because that would make a GPU wait.

    Returns:
        [N, C, H, W].

    Raises:
        ValueError: wrong rank, an empty kernel, numbers that sum to zero, an unknown ``padding``, or an image too small
            to reflect.
        TypeError: ``x`` is not a floating-point tensor.
    """
    _require_images(x)
    require(padding in ("zeros", "reflect"), "padding", padding, '"zeros" or "reflect"')
    taps = _taps(kernel, normalize)
    rows, columns = taps.shape if isinstance(taps, Tensor) and taps.dim() == 2 else (len(taps), len(taps))
    H, W = x.shape[2:]
    if x.numel() == 0:
        return x.clone()
    if padding == "reflect" and (rows // 2 >= H or columns // 2 >= W):
        raise ValueError(
            f"`padding` is 'reflect', but a kernel of {rows} x {columns} taps needs images of more than "
            f"{rows // 2} x {columns // 2} pixels and these have {H} x {W}; use 'zeros'"
        )

    wide = x.float() if x.dtype.itemsize < 4 else x
    pads = ((columns - 1) // 2, columns // 2, (rows - 1) // 2, rows // 2)
    wide = F.pad(wide, pads, mode="constant" if padding == "zeros" else "reflect")
    if isinstance(taps, Tensor) and taps.dim() == 2:
        filtered = _correlate(wide.narrow(2, 0, H), taps[0], dim=3)
        for row in range(1, rows):
            filtered = filtered + _correlate(wide.narrow(2, row, H), taps[row], dim=3)
    else:
        filtered = _correlate(_correlate(wide, taps, dim=3), taps, dim=2)
    return filtered.to(x.dtype)


def _taps(kernel: Sequence[float] | Tensor, normalize: bool) -> Sequence[float] | Tensor:
    """The kernel, checked and divided by its sum if asked."""
    if isinstance(kernel, Tensor):
        require(kernel.dim() in (1, 2) and kernel.numel() > 0, "kernel", tuple(kernel.shape), "of shape [K] or [K, L]")
        return kernel / kernel.sum() if normalize else kernel
    require(len(kernel) > 0, "kernel", kernel, "at least one number")
    if not normalize:
        return kernel
    total = math.fsum(kernel)
    require(total != 0, "kernel", kernel, "numbers with a sum other than 0, or given with `normalize=False`")
    return [tap / total for tap in kernel]


def _correlate(x: Tensor, taps: Sequence[float] | Tensor, *, dim: int) -> Tensor:
    """Sum of shifted copies along ``dim``, which gets shorter by K - 1; plain sums stay as precise under autocast."""
    size = x.shape[dim] - (len(taps) - 1)
    total = x.narrow(dim, 0, size) * taps[0]
    for shift in range(1, len(taps)):
        total = total + x.narrow(dim, shift, size) * taps[shift]
    return total


def _require_images(x: Tensor, factor: int = 1) -> None:
    require_rank(x, "x", 4, 4)
    require(x.is_floating_point(), "x", x.dtype, "a floating-point tensor", TypeError)
    require(isinstance(factor, int) and factor >= 1, "factor", factor, "an integer of at least 1")
