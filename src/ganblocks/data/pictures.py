"""One picture from a file, whole, as a tensor in [0, 1], and back into a file."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganblocks._checks import require, require_rank
from ganblocks._files import written_atomically
from ganblocks.data.decode import decode_image
from ganblocks.functional.image_range import intensities

__all__ = ["read_picture", "write_picture"]

_BACKGROUND = (255, 255, 255)  # behind transparent pixels, as for folders of images
_JPEG: dict[str, Any] = {"format": "JPEG", "quality": 95, "subsampling": 0}  # 0: colours at full resolution
_OPTIONS: dict[str, dict[str, Any]] = {".png": {"format": "PNG"}, ".jpg": _JPEG, ".jpeg": _JPEG}


def read_picture(
    path: str | os.PathLike[str],
    longest: int | None = None,
    *,
    image_channels: int = 3,
    max_pixels: int = 64_000_000,
) -> Tensor:
    """Read one picture, upright and uncut, by the rules of :mod:`ganblocks.data.decode`, transparent pixels on white.

    A larger picture is shrunk by Pillow's Lanczos filter (a = 3, antialiased, on the stored 8-bit values, as in folders
    of images): its longer side becomes ``longest``, the other is rounded to the nearest (halves up) and at least 1.
    A smaller picture stays as it is.

    Args:
        path: BMP, GIF, JPEG, PNG, PPM, TIFF or WebP; the content counts, not the name.
        longest: Longer side of the result in pixels, if the picture has more. ``None`` = any size.
        image_channels: 3 for colour, 1 for grey.
        max_pixels: Largest width * height in the file, checked by its header before it is decoded.

    Returns:
        ``[1, image_channels, H, W]``, float32 in [0, 1], contiguous.

    Raises:
        DataError: Values out of the range that the rule of a deep grey image expects.
        FileNotFoundError: There is nothing at ``path``.
        ImageDecodeError: No image, or a damaged one.
        ImageTooLargeError: More than ``max_pixels`` pixels; nothing was decoded.
        OSError: The file cannot be opened.
        ValueError: An argument is out of range, or ``path`` is a folder.
    """
    require(longest is None or longest >= 1, "longest", longest, "at least 1, or None")
    require(image_channels in (1, 3), "image_channels", image_channels, "1 (grey) or 3 (colour)")
    require(max_pixels >= 1, "max_pixels", max_pixels, "at least 1")
    file = Path(path)
    if not file.exists():
        raise FileNotFoundError(f"`path` is {str(file)!r}, but there is nothing of this name")
    require(file.is_file(), "path", str(file), "a file, not a folder or a device")
    with file.open("rb") as stream:
        picture = decode_image(
            stream, str(file), image_channels=image_channels, background=_BACKGROUND, max_pixels=max_pixels
        )
    if longest is not None and max(picture.size) > longest:
        picture = picture.resize(_shrunk(picture.size, longest), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(picture)).view(picture.height, picture.width, image_channels)
    return intensities(pixels.permute(2, 0, 1)[None].contiguous())


def write_picture(path: str | os.PathLike[str], image: Tensor) -> None:
    """Write one picture to a file, whole or not at all; each value becomes the nearest of 256 levels.

    What :func:`read_picture` has read from 8-bit grey or colour comes back bit by bit from a PNG. A JPEG, of quality 95
    and with colours at full resolution, loses a little.

    Args:
        path: A name that ends in ".png", ".jpg" or ".jpeg"; an older file is replaced, missing folders are made.
        image: ``[1, C, H, W]`` or ``[C, H, W]``, C = 1 (grey) or 3 (colour), floating-point in [0, 1].

    Raises:
        OSError: The file could not be written; an older one is then untouched.
        TypeError: ``image`` is not a floating-point tensor.
        ValueError: Another ending, another shape, NaN, or a value outside [0, 1].
    """
    options = _OPTIONS.get(Path(path).suffix.lower())
    if options is None:
        raise ValueError(f"`path` is {str(path)!r}, but must be a name that ends in .png, .jpg or .jpeg")
    pixels = _to_pixels(image)
    with written_atomically(path) as file:
        Image.fromarray(pixels).save(file, **options)


def _shrunk(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Width and height with ``longest`` as the longer; in integers, so that halves are halves."""
    longer = max(size)
    width, height = (max(1, (2 * side * longest + longer) // (2 * longer)) for side in size)
    return width, height


def _to_pixels(image: Tensor) -> np.ndarray:
    """Bring the image to bytes ``[H, W]`` or ``[H, W, 3]`` on the CPU."""
    require_rank(image, "image", 3, 4)
    require(image.is_floating_point(), "image", image.dtype, "of a floating-point dtype", TypeError)
    shape = tuple(image.shape)
    single = image.dim() == 3 or shape[0] == 1
    fits = single and shape[-3] in (1, 3) and 0 not in shape
    require(fits, "image", shape, "[1, C, H, W] or [C, H, W] with C = 1 or 3 and at least one pixel")
    image = image.detach().reshape(shape[-3:])
    image = image.float() if image.dtype.itemsize < 4 else image  # 255 x has too many digits for half precision
    low, high = (float(bound) for bound in image.aminmax())
    if not (low >= 0 and high <= 1):  # written so that NaN fails
        raise ValueError(f"`image` has values from {low} to {high}, but must have none outside [0, 1], and no NaN")
    levels = image.mul(255).round().to(torch.uint8).cpu()
    return (levels[0] if len(levels) == 1 else levels.permute(1, 2, 0)).numpy()
