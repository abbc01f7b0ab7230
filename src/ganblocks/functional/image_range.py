"""The range of pixel values: images are floats in [-1, 1] in this library and bytes in files."""

import math

import torch
from torch import Tensor

from ganblocks._checks import require

__all__ = ["from_uint8", "intensities", "rescale", "to_uint8"]


def to_uint8(images: Tensor) -> Tensor:
    """Turn images in [-1, 1] into bytes: ``round(clamp(images * 127.5 + 127.5, 0, 255))``, in at least float32.

    Every one of the 256 levels survives ``to_uint8(from_uint8(levels))``, in bfloat16 too. Values outside the range,
    infinities included, go to 0 or 255; NaN becomes 0 (black). No gradient passes.

    Args:
        images: Any shape, floating-point.

    Raises:
        TypeError: ``images`` is not floating-point; bytes would be scaled a second time.
    """
    require(images.is_floating_point(), "images", images.dtype, "a floating-point tensor in [-1, 1]", TypeError)
    images = images.detach()
    images = images.float() if images.dtype.itemsize < 4 else images
    images = torch.nan_to_num(images, nan=-1.0, posinf=1.0, neginf=-1.0)
    return images.mul(127.5).add(127.5).clamp(0, 255).round().to(torch.uint8)


def from_uint8(images: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Turn bytes into images in [-1, 1]: ``images / 127.5 - 1``, so 0 is -1 and 255 is 1 exactly.

    Args:
        images: Any shape, uint8.
        dtype: Of the result; the arithmetic runs in at least float32.

    Raises:
        TypeError: ``images`` is not uint8, or ``dtype`` is not floating-point.
    """
    require(images.dtype == torch.uint8, "images", images.dtype, "a uint8 tensor", TypeError)
    require(dtype.is_floating_point, "dtype", dtype, "a floating-point type", TypeError)
    wide = torch.float32 if dtype.itemsize < 4 else dtype
    return images.to(wide).div_(127.5).sub_(1).to(dtype)  # in place: the copy is ours


def intensities(images: Tensor) -> Tensor:
    """Turn images into intensities in [0, 1], as autoencoders take and return them: ``x / 255`` or ``(x + 1) / 2``.

    Black is 0 and white is 1, exactly. Both kinds of the same image agree to the last rounding or two.

    Args:
        images: Any shape: uint8, or floating-point in [-1, 1]. Nothing is clamped; images that are intensities already
            cannot be told from others and would be squeezed into [0.5, 1].

    Returns:
        float32 for uint8, else the dtype of ``images``; differentiable in floating-point images.

    Raises:
        TypeError: ``images`` are neither uint8 nor floating-point.
    """
    if images.dtype == torch.uint8:
        return images.float().div_(255)  # in place: the copy is ours
    floating = images.is_floating_point()
    require(floating, "images", images.dtype, "uint8, or a floating-point tensor in [-1, 1]", TypeError)
    return (images + 1).div_(2)


def rescale(
    images: Tensor, source: tuple[float, float] = (0.0, 1.0), target: tuple[float, float] = (-1.0, 1.0)
) -> Tensor:
    """Map the interval ``source`` linearly to ``target``; nothing is clamped, and a reversed interval inverts.

    Args:
        images: Any shape, floating-point.
        source: The two values that become the two of ``target``; they must differ.
        target: Where they go.

    Raises:
        ValueError: a value is not finite, or the two of ``source`` are equal.
        TypeError: ``images`` is not floating-point.
    """
    require(images.is_floating_point(), "images", images.dtype, "a floating-point tensor", TypeError)
    require(all(map(math.isfinite, source)) and source[0] != source[1], "source", source, "two different finite values")
    require(all(map(math.isfinite, target)), "target", target, "two finite values")
    scale = (target[1] - target[0]) / (source[1] - source[0])
    return (images - source[0]) * scale + target[0]
