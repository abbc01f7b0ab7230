"""Resizing before a feature network sees an image: on floats, in batches, on any device.

The filter alone moves a Frechet distance by some percent, up to a fifth (Parmar et al. 2022), so each one here is
pinned to a definition: Pillow's filters in float mode, or TensorFlow 1's bilinear, which made the first scores.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ganblocks._checks import require, require_rank

__all__ = ["RESIZE_MODES", "ResizeMode", "resize_images"]

ResizeMode = Literal["bicubic", "bilinear", "bilinear_tf1"]
RESIZE_MODES: tuple[ResizeMode, ...] = get_args(ResizeMode)
"""What `resize_images` can do."""


def resize_images(
    images: Tensor, size: int | tuple[int, int], *, mode: ResizeMode = "bicubic", antialias: bool = True
) -> Tensor:
    """Resize images without rounding or clipping them.

    Args:
        images: [N, C, H, W], floating-point on any scale; H and W at least 1.
        size: Side of a square, or (height, width), in pixels.
        mode: ``"bicubic"`` and ``"bilinear"`` take pixel centres at half-pixel places (``align_corners=False``); with
            ``antialias`` they are Pillow's filters in float mode. ``"bilinear_tf1"`` is the resize of TensorFlow 1:
            pixel i of the result lies at ``i * in / out`` of the source, with no shift by half a pixel and no filter.
        antialias: Widen the filter when shrinking, as Pillow does; without it most source pixels do not count.
            Bicubic uses the coefficient -0.5 with it and -0.75 without, as ``torch.nn.functional.interpolate``.
            ``"bilinear_tf1"`` never does.

    Returns:
        [N, C, height, width], in at least float32. Images of that size already are returned as they are. Bicubic may
        overshoot the range of the source by up to some tenths of it.

    Raises:
        TypeError: ``images`` is not floating-point.
        ValueError: A wrong shape, size or mode.
    """
    require_rank(images, "images", 4, 4)
    require(images.is_floating_point(), "images.dtype", images.dtype, "floating-point", TypeError)
    require(min(images.shape[2:]) >= 1, "images.shape", tuple(images.shape), "at least one pixel high and wide")
    require(mode in RESIZE_MODES, "mode", mode, f"one of {', '.join(RESIZE_MODES)}")
    height, width = (size, size) if isinstance(size, int) else size
    require(min(height, width) >= 1, "size", size, "at least 1")
    images = images.to(torch.promote_types(images.dtype, torch.float32))
    if images.shape[2:] == (height, width):
        return images
    if images.numel() == 0:
        return images.new_empty(*images.shape[:2], height, width)
    if mode == "bilinear_tf1":
        return _tf1(_tf1(images, width, dim=3), height, dim=2)
    if width == 1:  # antialias to a width of one pixel gives wrong values on CPUs (torch 2.15), to a height of one not
        columns = images.transpose(2, 3).contiguous()
        return F.interpolate(columns, (width, height), mode=mode, align_corners=False, antialias=antialias).mT
    return F.interpolate(images, (height, width), mode=mode, align_corners=False, antialias=antialias)


def _tf1(images: Tensor, length: int, dim: int) -> Tensor:
    """Linear interpolation along one dimension on TensorFlow 1's grid, computed in float32 as there."""
    source = images.shape[dim]
    scale = torch.tensor(source / length, dtype=torch.float32, device=images.device)
    places = torch.arange(length, dtype=torch.float32, device=images.device) * scale
    below = places.long().clamp(max=source - 1)
    above = (below + 1).clamp(max=source - 1)
    weights = (places - below).to(images.dtype).view(-1, *(1,) * (images.dim() - 1 - dim))
    low, high = images.index_select(dim, below), images.index_select(dim, above)
    return low + (high - low) * weights
