"""The IDX format, in which MNIST and its relatives are published, read with distrust.

A file is two zero bytes, a byte for the type, one for the number of dimensions, each size as a big-endian 32-bit
number, and the values, big-endian, the last dimension fastest (LeCun, Cortes, Burges, "The MNIST database of
handwritten digits", section "the IDX file format"). Files packed with gzip are recognised by their bytes, not their
names.
"""

import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ganblocks._checks import require
from ganblocks.data.array_images import ArrayImages
from ganblocks.errors import DataError

__all__ = ["FASHION_MNIST_CLASSES", "idx_images", "read_idx"]

FASHION_MNIST_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
"""What the labels 0 to 9 of Fashion-MNIST mean (Xiao, Rasul, Vollgraf 2017, table 2)."""

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_PREFIXES = {"train": ("train",), "test": ("t10k", "test")}
_FORMS = ("{}-{}-idx{}-ubyte", "{}-{}.idx{}-ubyte")  # as published, and as some archives unpack it
_MOST_DIMENSIONS = 32  # that every NumPy can hold
_LARGEST_LABEL = 65_535  # above, it is a damaged number rather than one of billions of classes
_BLOCK = 2**20  # bytes read at a time: memory follows what is there, not what the header claims


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def read_idx(path: str | os.PathLike[str], *, max_bytes: int = 2**31) -> NDArray[Any]:
    """Read one IDX file, plain or packed with gzip.

    Args:
        path: The file.
        max_bytes: Largest size of the values, by the header; nothing beyond it is read or unpacked.

    Returns:
        uint8, int8, int16, int32, float32 or float64 in this machine's byte order, with the sizes of the header. It
        owns its memory and may be written to.

    Raises:
        DataError: The file is missing, no IDX file, shorter or longer than its header says, damaged, or too large.
        ValueError: ``max_bytes`` is below 1.
    """
    require(max_bytes >= 1, "max_bytes", max_bytes, "at least 1")
    path = Path(path)
    with _opened(path) as file:
        zeros, code, dimensions = struct.unpack(">HBB", _exactly(file, 4, path, "header"))
        if zeros != 0 or code not in _DTYPES or not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise DataError(f"{str(path)!r} is no IDX file: it begins with {zeros:04x} {code:02x} {dimensions:02x}")
        shape = struct.unpack(f">{dimensions}I", _exactly(file, 4 * dimensions, path, "header"))
        dtype = np.dtype(_DTYPES[code])
        size = math.prod(shape) * dtype.itemsize
        if size > max_bytes:
            raise DataError(f"{str(path)!r} claims {shape}, which is {size} bytes, but `max_bytes` is {max_bytes}")
        content = _exactly(file, size, path, f"{shape} of {dtype.name}")
        if file.read(1):  # reads on to the checksum of a gzip file as well
            raise DataError(f"{str(path)!r} goes on after its {shape} of {dtype.name}")
    try:
        return np.ndarray(shape, dtype, buffer=content).astype(dtype.newbyteorder("="), copy=False)
    except ValueError as error:  # a size of 0 beside others that overflow
        raise DataError(f"{str(path)!r} claims {shape}, which no array can have") from error


def idx_images(
    source: str | os.PathLike[str],
    split: Literal["train", "test"] = "train",
    *,
    classes: Sequence[str] | None = None,
) -> ArrayImages:
    """The images of MNIST, Fashion-MNIST or another set of the same form, with their labels.

    Args:
        source: A folder with files of the published names (``train-images-idx3-ubyte``, ``t10k-labels-idx1-ubyte`` and
            so on, with or without ``.gz``), or one file of images. The labels are looked for beside the images, under
            the same name with ``labels`` and ``idx1``; without such a file there are none.
        split: Which of the two parts of a folder; a file is what it is.
        classes: Name of each class, such as `FASHION_MNIST_CLASSES`; ``None`` = the numbers as text. The files cannot
            tell.

    Returns:
        Grey images in memory, in the order of the file.

    Raises:
        DataError: A file is missing or damaged, or images and labels do not fit each other.
        EmptyDatasetError: There is no image.
        ValueError: ``split`` is unknown, or there are too few ``classes``.
    """
    require(split in _PREFIXES, "split", split, "'train' or 'test'")
    source = Path(source)
    path = _find_images(source, split) if source.is_dir() else source
    images = read_idx(path)
    if images.dtype != np.uint8 or images.ndim != 3:
        raise DataError(f"{str(path)!r} holds {images.dtype} of shape {images.shape}, but images are uint8 [N, H, W]")
    labels_path = _find_labels(path)
    if labels_path is None:
        return ArrayImages(images)
    labels = read_idx(labels_path)
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise DataError(
            f"{str(labels_path)!r} holds {labels.dtype} of shape {labels.shape}, but the labels of {len(images)} "
            f"images are as many integers from 0"
        )
    odd = np.flatnonzero((labels < 0) | (labels > _LARGEST_LABEL))
    if odd.size:
        raise DataError(
            f"{str(labels_path)!r} holds the label {labels[odd[0]]} in row {odd[0]} (counted from 0)"
            + (f" and {odd.size - 1} more such" if odd.size > 1 else "")
            + f", but labels are from 0 to {_LARGEST_LABEL}"
        )
    return ArrayImages(images, labels, classes=classes)


@contextmanager
def _opened(path: Path) -> Iterator[_Readable]:
    """Open a regular file and unpack it if need be; whatever goes wrong on the way becomes a ``DataError``."""
    if not path.is_file():  # opening a FIFO would wait for ever
        raise DataError(f"{str(path)!r} " + ("is no regular file" if os.path.lexists(path) else "does not exist"))
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if not packed:
                yield raw
                return
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield unpacked
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{str(path)!r} could not be read ({type(error).__name__}: {error})") from error


def _exactly(file: _Readable, size: int, path: Path, what: str) -> bytearray:
    """The next ``size`` bytes."""
    content = bytearray()
    while len(content) < size:
        block = file.read(min(_BLOCK, size - len(content)))
        if not block:
            raise DataError(f"{str(path)!r} ends after {len(content)} of the {size} bytes of its {what}")
        content += block
    return content


def _find_images(folder: Path, split: str) -> Path:
    names = [form.format(prefix, "images", 3) for prefix in _PREFIXES[split] for form in _FORMS]
    for path in (folder / f"{name}{suffix}" for name in names for suffix in ("", ".gz")):
        if path.is_file():
            return path
    raise DataError(f"{str(folder)!r} holds no {names[0]}, with or without .gz")


def _find_labels(images: Path) -> Path | None:
    """The file of labels that belongs to a file of images, packed or not; None where there is none."""
    plain = images.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    if "images" not in images.name:
        return None
    for path in (images.with_name(f"{plain}{suffix}") for suffix in ("", ".gz")):
        if path.is_file():
            return path
    return None
