"""What becomes of the bytes of an image file: one rule per kind of image, the same everywhere.

The result is always 8-bit RGB (3 channels) or 8-bit grey (1 channel), upright.

================================  ====================================================================================
kind of image                     rule
================================  ====================================================================================
RGB                               as it is
L (grey)                          as it is; repeated for 3 channels
1 (black and white)               0 and 255
RGBA, LA, PA                      composited on ``background``: (colour * alpha + background * (255 - alpha)) / 255
P (palette)                       looked up
P, L, RGB, 1, I;16 with a         transparent where the file says so, then as RGBA
transparent colour or table
CMYK, YCbCr, LAB, others          Pillow's ``convert("RGB")``: CMYK as (255-C)(255-K)/255, YCbCr as in JFIF
I;16, I;16B (16-bit grey)         round(value / 257): 0 to 65535 becomes 0 to 255, whatever range the values use
I (32-bit integer grey)           taken as 16-bit: round(value / 257); a value outside 0..65535 raises ``DataError``
F (floating-point grey)           round(value * 255); a value outside 0..1, or NaN, raises ``DataError``
16-bit RGB, RGBA, LA (PNG)        Pillow hands over the upper 8 bits of each value
EXIF orientation 1 to 8           applied once, wherever the file keeps it; unreadable EXIF counts as none
several frames (GIF, APNG, ...)   the first frame (APNG: the default image)
ICC profile, gamma                ignored: the stored numbers are used
JPEG, if the caller allows it     decoded at 1/2, 1/4 or 1/8 of its side, then by the rules above: see `decode_image`
================================  ====================================================================================

One channel from colour takes the weights of ITU-R BT.601, (299 R + 587 G + 114 B) / 1000, after compositing: Pillow's
``convert("L")``.

The format is found by the first bytes, not by the name: BMP, GIF, JPEG, PBM/PGM/PPM, PNG, TIFF or WebP. Others are
refused, also those Pillow would hand to another program (EPS). The number of pixels is taken from the header and
checked before anything is decoded. Pillow's own global limit is not changed; it counts only for GIF, TIFF
and WebP, whose readers apply it themselves.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from ganblocks.errors import DataError, ImageDecodeError, ImageTooLargeError

__all__ = [
    "MINIMUM_SIDE",
    "RULES_VERSION",
    "Crop",
    "ImageHeader",
    "decode_image",
    "image_header",
    "image_size",
    "square_pixels",
]

Crop = Literal["center", "squash"]
"""How an image becomes square: its centre is cut out, or its longer side is squeezed."""

RULES_VERSION = 1
"""Part of every fingerprint; grows when a rule of this file changes."""

MINIMUM_SIDE = 4
"""Shortest side in pixels of an image that is cropped; there is no picture in less."""

# A JPEG decoded smaller keeps this many times the resolution asked for, so that the resize filters it once more.
_FAST_JPEG_MARGIN = 2

# (first bytes, reader). The readers are called directly, because Image.open applies Pillow's own pixel limit and tries
# every format that is installed.
_SIGNATURES: tuple[tuple[tuple[bytes, ...], type[ImageFile.ImageFile]], ...] = (
    ((b"\xff\xd8\xff",), JpegImagePlugin.JpegImageFile),
    ((b"\x89PNG\r\n\x1a\n",), PngImagePlugin.PngImageFile),
    ((b"GIF87a", b"GIF89a"), GifImagePlugin.GifImageFile),
    ((b"BM",), BmpImagePlugin.BmpImageFile),
    ((b"RIFF",), WebPImagePlugin.WebPImageFile),
    ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), TiffImagePlugin.TiffImageFile),
    (tuple(b"P%d" % kind for kind in range(1, 7)), PpmImagePlugin.PpmImageFile),
)

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageHeader(NamedTuple):
    """What the header of an image tells.

    Attributes:
        format: As Pillow names it, such as "PNG".
        mode: As Pillow names it, such as "RGB".
        width: Of the upright image, in pixels.
        height: Of the upright image, in pixels.
    """

    format: str
    mode: str
    width: int
    height: int


def image_size(stream: IO[bytes], name: str, *, max_pixels: int) -> tuple[int, int]:
    """Return (width, height) of the upright image, from its header alone; arguments and errors as `image_header`."""
    header = image_header(stream, name, max_pixels=max_pixels)
    return header.width, header.height


def image_header(stream: IO[bytes], name: str, *, max_pixels: int) -> ImageHeader:
    """Return what the header alone tells.

    Args:
        stream: the encoded image, seekable.
        name: what to call it in errors.
        max_pixels: largest width * height.

    Raises:
        ImageDecodeError: no image, or a damaged header.
        ImageTooLargeError: more than ``max_pixels`` pixels.
    """
    with _decode_errors(name):
        image = _open(stream, name, max_pixels)
        width, height = image.size
        if _orientation(image, stream) in (5, 6, 7, 8):
            width, height = height, width
        return ImageHeader(image.format or "", image.mode, width, height)


def decode_image(
    stream: IO[bytes],
    name: str,
    *,
    image_channels: int,
    background: tuple[int, int, int],
    max_pixels: int,
    fast_jpeg_for: int | None = None,
) -> Image.Image:
    """Decode by the table above.

    Args:
        stream: the encoded image, seekable.
        name: what to call it in errors.
        image_channels: 3 for mode "RGB", 1 for mode "L".
        background: RGB in 0..255 behind transparent pixels.
        max_pixels: largest width * height.
        fast_jpeg_for: the resolution that the image will be resized to. A JPEG is then decoded at 1/8, 1/4 or 1/2 of
            its width and height (rounded down) if both stay at least twice this resolution (and ``MINIMUM_SIDE``): from
            fewer coefficients of each 8x8 block, so that most of the work is never done. None, and any other format:
            all pixels.

    Raises:
        DataError: values out of the range that the rule for I or F expects.
        ImageDecodeError: no image, or a damaged one.
        ImageTooLargeError: the header claims more than ``max_pixels`` pixels; nothing was decoded.
    """
    with _decode_errors(name):
        image: Image.Image = _open(stream, name, max_pixels)
        orientation = _orientation(image, stream)
        if fast_jpeg_for is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
            image = _load_small(image, max(_FAST_JPEG_MARGIN * fast_jpeg_for, MINIMUM_SIDE))
        image.load()
        pixels, mode = _flatten(image, name, background), "RGB" if image_channels == 3 else "L"
        pixels = pixels if pixels.mode == mode else pixels.convert(mode)  # which copies in any case
        if orientation in _UPRIGHT:
            pixels = pixels.transpose(_UPRIGHT[orientation])
        pixels.info.clear()  # the orientation is used up; nobody shall apply it a second time
        return pixels


def square_pixels(image: Image.Image, resolution: int, crop: Crop, name: str) -> npt.NDArray[np.uint8]:
    """Make ``image`` square and resize it.

    "center" cuts the largest centred square (one pixel nearer to the top or left where the rest is odd); "squash"
    uses the whole image. The filter is Lanczos (a = 3) if any side shrinks, bicubic if none does, both antialiased
    and on the stored values; an image that fits is left alone.

    Returns:
        [C, resolution, resolution], uint8, contiguous.

    Raises:
        DataError: "center" and a side shorter than ``MINIMUM_SIDE`` pixels.
    """
    width, height = image.size
    if crop == "center":
        side = min(width, height)
        if side < MINIMUM_SIDE:
            raise DataError(
                f"{name!r} is {width} x {height} pixels, but a centre crop needs at least {MINIMUM_SIDE} on each side; "
                'remove it or use crop="squash"'
            )
        if width != height:
            top, left = (height - side) // 2, (width - side) // 2
            image = image.crop((left, top, left + side, top + side))
    if image.size != (resolution, resolution):
        shrinks = max(image.size) > resolution
        resample = Image.Resampling.LANCZOS if shrinks else Image.Resampling.BICUBIC
        image = image.resize((resolution, resolution), resample)
    pixels = np.asarray(image)  # [H, W] or [H, W, C]
    return np.array(pixels.reshape(resolution, resolution, -1).transpose(2, 0, 1), order="C")


@contextmanager
def _decode_errors(name: str) -> Iterator[None]:
    """Turn whatever a damaged file makes Pillow raise into an ``ImageDecodeError`` that names the file."""
    try:
        yield
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError(f"{name!r} is above Pillow's own limit ({error}); it was not decoded") from error
    except Exception as error:  # OSError, SyntaxError, ValueError, struct.error, zlib.error, MemoryError, ...
        raise ImageDecodeError(f"{name!r} could not be decoded ({type(error).__name__}: {error})") from error


def _open(stream: IO[bytes], name: str, max_pixels: int) -> ImageFile.ImageFile:
    """Read the header."""
    start = stream.read(16)
    stream.seek(0)
    for signatures, reader in _SIGNATURES:
        if start.startswith(signatures):
            image = reader(stream, "")
            width, height = image.size
            if width * height > max_pixels:
                raise ImageTooLargeError(
                    f"{name!r} claims {width} x {height} pixels, but `max_pixels` is {max_pixels}; it was not decoded"
                )
            return image
    raise ImageDecodeError(f"{name!r} is no BMP, GIF, JPEG, PNG, PPM, TIFF or WebP image: it starts with {start!r}")


def _load_small(image: JpegImagePlugin.JpegImageFile, least_side: int) -> Image.Image:
    """Decode at the smallest of 1/8, 1/4, 1/2 and 1/1 that leaves ``least_side`` pixels on each side."""
    drafted = image.draft(None, (least_side, least_side))  # no mode: "L" would be JPEG's own grey, not the table's
    image.load()
    if drafted is None or drafted[1][2:] == image.size:
        return image
    # Where the fraction does not divide a side, the last pixels lie partly outside of the picture.
    left, top, right, bottom = drafted[1]
    return image.resize((int(right), int(bottom)), Image.Resampling.LANCZOS, box=(left, top, right, bottom))


def _orientation(image: Image.Image, stream: IO[bytes]) -> int:
    """Return the EXIF orientation that remains to be applied, 1 if there is none."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return 1  # Pillow turns a TIFF while loading
    with suppress(Exception):  # damaged EXIF must not cost the picture
        if isinstance(image, PngImagePlugin.PngImageFile) and "exif" not in image.info:
            late_exif = _png_exif(stream)
            if late_exif is not None:
                image.info["exif"] = late_exif
        # The method of the base class: that of a PNG would decode the pixels.
        value = Image.Image.getexif(image).get(_ORIENTATION_TAG)
        if value in _UPRIGHT:
            return int(value)
    return 1


def _png_exif(stream: IO[bytes]) -> bytes | None:
    """Return the eXIf chunk of a PNG, which may stand behind the pixels; the stream stays where it is."""
    position = stream.tell()
    try:
        stream.seek(8)
        while len(head := stream.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"eXIf":
                return stream.read(length)
            stream.seek(length + 4, 1)  # the data and the checksum
        return None
    finally:
        stream.seek(position)


def _flatten(image: Image.Image, name: str, background: tuple[int, int, int]) -> Image.Image:
    """Return ``image`` without alpha, palette or more than 8 bits, in mode "L" or "RGB"."""
    alpha: Image.Image | None = None
    if image.mode == "F" or image.mode.startswith("I"):
        colour = _deep_grey(image, name)
        transparent = image.info.get("transparency")
        if transparent is not None:
            alpha = Image.fromarray(np.where(np.asarray(image) == transparent, 0, 255).astype(np.uint8))
    elif image.has_transparency_data:
        straight = image.convert("RGBA")
        colour, alpha = straight.convert("RGB"), straight.getchannel("A")
    else:
        colour = image.convert("L" if image.mode in ("1", "L") else "RGB")
    if alpha is None:
        return colour
    canvas = Image.new("RGB", image.size, background)
    canvas.paste(colour.convert("RGB"), mask=alpha)
    return canvas


def _deep_grey(image: Image.Image, name: str) -> Image.Image:
    """Scale grey of 16 bits, 32 bits or floating point to 8 bits."""
    values = np.asarray(image)
    white, kind = (1, "floating-point") if image.mode == "F" else (65535, "integer")
    if values.size and not (values.min() >= 0 and values.max() <= white):  # written so that NaN fails
        raise DataError(
            f"{name!r} has {kind} grey values from {values.min()} to {values.max()}, but 0 to {white} are expected"
        )
    if image.mode == "F":
        grey = np.floor(values.astype(np.float64) * 255 + 0.5)
    else:
        grey = (values.astype(np.int64) + 128) // 257
    return Image.fromarray(grey.astype(np.uint8))
