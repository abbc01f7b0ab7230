"""Generated images say so themselves, in the file: a text beside the pixels of a PNG.

The mark is a tEXt chunk (PNG specification, third edition, section 11.3.3.2) before the pixels, with the keyword
``ganblocks:generated`` and a JSON object. Any program that writes the picture anew may drop it, so that a file without
a mark is not known to be real; a file with one is known to be generated.
"""

import json
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Literal

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ganblocks._checks import require, require_rank
from ganblocks._files import written_atomically
from ganblocks._json import read_json
from ganblocks.errors import DataError
from ganblocks.functional.image_range import to_uint8

__all__ = ["Provenance", "read_generated", "write_generated"]

Provenance = Literal["real", "generated"]
"""Where an image comes from: a camera or a scanner, or a network."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEYWORD = b"ganblocks:generated\0"
_LONGEST = 2**20  # bytes of a mark, and of all that is read to find it


def write_generated(image: Tensor, path: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None) -> None:
    """Write one generated image as a PNG that says it is generated.

    Args:
        image: [C, H, W] with C = 1 or 3: floating point in [-1, 1] (values outside are clamped), or uint8 as it is.
        path: A name that ends in ".png". Missing folders are made, an older file is replaced in one step.
        metadata: What else to say, such as the model, its checkpoint and the seed: texts, finite numbers, booleans,
            None, lists and mappings of these, at most 1 MiB of JSON. Anyone who has the file can read it. None = {}.

    Raises:
        TypeError: A kind of pixels, or a value of the metadata, that cannot be written.
        ValueError: A wrong shape or suffix, NaN among pixels or metadata, or too much metadata.
        OSError: The file could not be written; an older one is then untouched.
    """
    require(Path(path).suffix.lower() == ".png", "path", str(path), 'a name that ends in ".png"')
    text = json.dumps(dict(metadata or {}), allow_nan=False, sort_keys=True)  # ASCII
    require(len(text) + len(_KEYWORD) <= _LONGEST, "metadata", f"of {len(text)} bytes", "1 MiB of JSON at most")
    mark = PngInfo()
    mark.add_text(_KEYWORD[:-1].decode(), text)
    picture = Image.fromarray(_pixels(image))
    with written_atomically(path) as file:
        picture.save(file, format="PNG", pnginfo=mark)


def read_generated(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Read what a generated image says of itself; no pixel is decoded.

    Args:
        path: Any file.

    Returns:
        The metadata of `write_generated`; None for a file without the mark, PNG or not.

    Raises:
        DataError: The file cannot be read, or its mark is damaged.
    """
    try:
        with Path(path).open("rb") as file:
            return _find_mark(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{str(path)!r} could not be asked whether it is generated ({error})") from error


def _find_mark(file: IO[bytes]) -> dict[str, Any] | None:
    if file.read(len(_SIGNATURE)) != _SIGNATURE:
        return None
    while file.tell() <= 64 * _LONGEST and len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in (b"IDAT", b"IEND"):
            return None
        if kind != b"tEXt" or not len(_KEYWORD) <= length <= _LONGEST:
            file.seek(length + 4, os.SEEK_CUR)  # the data and the checksum
            continue
        data, checksum = file.read(length), file.read(4)
        if data.startswith(_KEYWORD):
            if checksum != struct.pack(">I", zlib.crc32(kind + data)):
                raise ValueError("the checksum of its mark is wrong")
            metadata = read_json(data[len(_KEYWORD) :])
            if not isinstance(metadata, dict):
                raise ValueError("its mark holds no JSON object")
            return metadata
    return None


def _pixels(image: Tensor) -> Any:
    """[C, H, W] as Pillow takes it: [H, W] or [H, W, 3] of bytes."""
    require_rank(image, "image", 3, 3)
    shape = tuple(image.shape)
    require(shape[0] in (1, 3) and min(shape[1:]) >= 1, "image.shape", shape, "[1 or 3, H, W] with pixels")
    if image.dtype != torch.uint8:
        require(image.is_floating_point(), "image.dtype", image.dtype, "floating point or uint8", TypeError)
        require(not bool(image.isnan().any()), "image", "NaN in places", "numbers from -1 to 1")
        image = to_uint8(image)
    pixels = image.detach().cpu()
    return (pixels[0] if shape[0] == 1 else pixels.permute(1, 2, 0)).contiguous().numpy()
