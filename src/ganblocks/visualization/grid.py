"""Many images on one sheet.

Written without loss and in one step: a reader never sees half a file.
"""

import math
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganblocks._checks import require, require_rank
from ganblocks._files import written_atomically
from ganblocks.functional.image_range import to_uint8

__all__ = ["image_grid", "save_image_grid"]

Color = int | tuple[int, int, int]


def image_grid(
    images: Tensor,
    *,
    columns: int | None = None,
    padding: int = 2,
    scale: int = 1,
    background: Color = 255,
) -> Image.Image:
    """Lay images out row by row on one sheet.

    Args:
        images: [N, C, H, W] with N >= 1 and C = 1 (grey) or 3 (colour); floating point in [-1, 1] (values outside,
            infinite ones too, are clamped), or uint8, which is taken as it is.
        columns: images in a row. None makes the sheet nearly square: the square root of N, rounded up.
        padding: pixels between two images and around the sheet; not scaled.
        scale: each pixel becomes ``scale`` x ``scale`` pixels.
        background: colour of the padding and of empty places, one number or (red, green, blue) in 0..255.

    Returns:
        A Pillow image of mode "L" for C = 1 and "RGB" for C = 3. Values are rounded, not truncated:
        ``round(127.5 * x + 127.5)``.

    Raises:
        TypeError: ``images`` is neither floating point nor uint8.
        ValueError: a wrong shape, no image, NaN, or an option out of range.
    """
    pixels = _to_pixels(images)
    count, height, width, channels = pixels.shape
    columns = math.ceil(math.sqrt(count)) if columns is None else columns
    require(columns >= 1, "columns", columns, "at least 1")
    require(padding >= 0, "padding", padding, "at least 0")
    require(scale >= 1, "scale", scale, "at least 1")
    columns = min(columns, count)
    rows = math.ceil(count / columns)

    cell_height, cell_width = height * scale + padding, width * scale + padding
    sheet_shape = (rows * cell_height + padding, columns * cell_width + padding, channels)
    sheet = np.empty(sheet_shape, dtype=np.uint8)
    sheet[:] = _background_color(background, channels)
    for index, image in enumerate(pixels):
        row, column = divmod(index, columns)
        top, left = row * cell_height + padding, column * cell_width + padding
        enlarged = image.repeat(scale, axis=0).repeat(scale, axis=1)
        sheet[top : top + height * scale, left : left + width * scale] = enlarged
    return Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet)


def save_image_grid(
    images: Tensor,
    path: str | os.PathLike[str],
    *,
    columns: int | None = None,
    padding: int = 2,
    scale: int = 1,
    background: Color = 255,
) -> None:
    """Write :func:`image_grid` to a PNG file, replacing an older one in a single step.

    Args:
        images: see :func:`image_grid`, as for all options.
        path: a name that ends in ".png"; other formats would lose detail. Missing folders are made.
        columns: images in a row; None for nearly square.
        padding: pixels between two images and around the sheet.
        scale: each pixel becomes ``scale`` x ``scale`` pixels.
        background: colour of the padding.

    Raises:
        TypeError: as :func:`image_grid`.
        ValueError: as :func:`image_grid`, or another suffix.
        OSError: the file could not be written; an older one is then untouched.
    """
    require(Path(path).suffix.lower() == ".png", "path", str(path), 'a name that ends in ".png"')
    sheet = image_grid(images, columns=columns, padding=padding, scale=scale, background=background)
    with written_atomically(path) as file:
        sheet.save(file, format="PNG")


def _to_pixels(images: Tensor) -> np.ndarray:
    """Bring [N, C, H, W] to [N, H, W, C] of bytes on the CPU."""
    require_rank(images, "images", 4, 4)
    count, channels, height, width = images.shape
    require(count > 0 and height > 0 and width > 0, "images.shape", tuple(images.shape), "of at least one pixel")
    require(channels in (1, 3), "images.shape[1]", channels, "1 (grey) or 3 (colour) channels")
    if images.dtype != torch.uint8:
        require(images.is_floating_point(), "images.dtype", images.dtype, "floating point or uint8", TypeError)
        images = images.detach()
        if images.isnan().any():
            raise ValueError(f"`images` holds {int(images.isnan().sum())} NaN values, but must hold none")
        images = to_uint8(images)
    return images.permute(0, 2, 3, 1).cpu().numpy()


def _background_color(background: Color, channels: int) -> tuple[int, ...]:
    """One byte per channel."""
    color = (background,) * channels if isinstance(background, int) else tuple(background)
    valid = len(color) == channels and all(isinstance(value, int) and 0 <= value <= 255 for value in color)
    require(valid, "background", background, f"one number in 0..255, or {channels} of them")
    return color
