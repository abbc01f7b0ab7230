"""A folder or a zip archive of images, read as it lies there.

Which files count, and in which order, stands in :mod:`ganblocks.data.image_files`; how a file becomes pixels in
:mod:`ganblocks.data.decode`. This file puts the two together, and says what the labels are:

- Folders that hold *all* images are peeled off first (the one folder that wraps a whole archive).
- If the rest has sub-folders, the first level is the class. Without sub-folders there are no labels.
- Images beside sub-folders with images are a mistake and raise ``DataError``.
"""

import hashlib
import io
import json
import operator
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import IO, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from ganblocks._checks import require
from ganblocks.data.decode import RULES_VERSION, Crop, decode_image, image_size, square_pixels
from ganblocks.data.image_files import EXTENSIONS, ImageFiles, open_source
from ganblocks.data.zip_members import ZipLimits
from ganblocks.errors import DataError, EmptyDatasetError, ImageDecodeError, ImageTooLargeError

__all__ = ["ImageFolder"]

# An honest file is smaller than this: uncompressed 128-bit pixels and 64 MiB of metadata.
_BYTES_PER_PIXEL, _METADATA_BYTES = 16, 64 * 2**20


class ImageFolder:
    """The images of a folder (with its sub-folders) or of a zip archive.

    Several threads may read at once. It can be sent to other processes, and survives a fork.

    Args:
        source: the folder or the .zip file.
        image_channels: 3 for RGB, 1 for grey.
        crop: "center" cuts the centred square, "squash" squeezes the whole image into a square.
        background: RGB in 0..255 behind transparent pixels.
        max_pixels: largest width * height of an image, checked by its header before it is decoded.
        fast_jpeg: whether `read` may decode a JPEG at 1/2, 1/4 or 1/8 of its side where that leaves at least twice the
            resolution asked for. It takes less time and gives nearly the same pixels: other rounding, and the cut-out
            square lies up to half a pixel of the result aside. Other formats and small images are read as ever.
        zip_limits: what an archive may claim to hold; None = `ZipLimits()`.

    Attributes:
        names: relative names with forward slashes, sorted.
        classes: class names, sorted; empty without labels.
        labels: [N] int64, indices into ``classes``; None without labels.
        stamps: (size in bytes, time of change in nanoseconds (folder) or CRC-32 (zip)) of each file.
        fingerprint: SHA-256 in hex over names, sizes, times of change (folder) or checksums (zip), the options above,
            and the version of the decoding rules.

    Raises:
        DataError: ``source`` is missing, unreadable, or a file that is no zip; images beside class folders.
        SecurityError: an archive claims more than ``zip_limits`` allow, or contradicts itself.
        EmptyDatasetError: no image was found.
        ValueError: an option is out of its range.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        image_channels: int = 3,
        crop: Crop = "center",
        background: tuple[int, int, int] = (255, 255, 255),
        max_pixels: int = 64_000_000,
        fast_jpeg: bool = False,
        zip_limits: ZipLimits | None = None,
    ) -> None:
        require(image_channels in (1, 3), "image_channels", image_channels, "1 (grey) or 3 (RGB)")
        require(crop in get_args(Crop), "crop", crop, 'one of "center", "squash"')
        levels = tuple(background)
        require(
            len(levels) == 3 and all(isinstance(level, int) and 0 <= level <= 255 for level in levels),
            "background",
            background,
            "three integers from 0 to 255",
        )
        require(max_pixels >= 1, "max_pixels", max_pixels, "at least 1")
        self.source: Path = Path(source)
        self.image_channels = image_channels
        self.crop: Crop = crop
        self.background: tuple[int, int, int] = (levels[0], levels[1], levels[2])
        self.max_pixels = max_pixels
        self.fast_jpeg = fast_jpeg
        self._files: ImageFiles = open_source(self.source, zip_limits=zip_limits)
        self.names: tuple[str, ...] = self._files.names
        self.stamps: tuple[tuple[int, int], ...] = tuple(self._files.stamps)
        if not self.names:
            raise EmptyDatasetError(f"{str(source)!r} holds no image; looked for {', '.join(EXTENSIONS)}")
        self.classes: tuple[str, ...]
        self.labels: npt.NDArray[np.int64] | None
        self.classes, self.labels = _class_labels(self.names)
        self.fingerprint: str = self.fingerprint_of(range(len(self)))

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        classes = f", {len(self.classes)} classes" if self.classes else ""
        return f"ImageFolder({str(self.source)!r}, {len(self)} images{classes}, {self.image_channels} channels)"

    def fingerprint_of(self, indices: Sequence[int]) -> str:
        """The fingerprint of some of the images, in this order.

        It is that of a folder that holds only them; but where they would have other classes there, the classes are part
        of it too.

        Raises:
            IndexError: An index is out of range.
        """
        options: list[object] = [RULES_VERSION, self.image_channels, self.crop, list(self.background), self.max_pixels]
        options += ["fast_jpeg"] if self.fast_jpeg else []  # nothing for the default: caches made before it was there
        names = [self.names[index] for index in indices]
        content: list[object] = [options, names, [self.stamps[index] for index in indices]]
        if self.labels is not None:
            kept = self.labels[np.asarray(indices, dtype=np.int64)]
            try:
                classes, labels = _class_labels(tuple(names))
            except (DataError, ValueError):
                classes, labels = (), None
            if classes != self.classes or labels is None or not np.array_equal(labels, kept):
                content += [self.classes, kept.tolist()]
        # JSON in ASCII, so that any file name can be hashed
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def size(self, index: int) -> tuple[int, int]:
        """Return (width, height) of the upright image, from its header alone.

        Raises:
            DataError: the file has vanished or changed since the folder was read.
            ImageDecodeError: no image, or a damaged header.
            ImageTooLargeError: more than ``max_pixels`` pixels.
            IndexError: ``index`` is out of range.
        """
        name = self.names[index]
        with self._stream(index) as stream:
            return image_size(stream, name, max_pixels=self.max_pixels)

    def encoded(self, index: int) -> bytes:
        """Return the bytes of the file, as they are.

        Raises:
            DataError: the file has vanished or changed since the folder was read.
            ImageDecodeError: the entry of an archive is damaged or encrypted.
            ImageTooLargeError: the file is larger than ``max_pixels`` pixels can need.
            IndexError: ``index`` is out of range.
        """
        size = self.stamps[index][0]
        with self._stream(index) as stream:
            encoded = stream.read(size + 1)  # not all of a file that grows without end
        if len(encoded) != size:
            raise DataError(f"{self.names[index]!r} of {str(self.source)!r} has changed since the folder was read")
        return encoded

    def load(self, index: int) -> Image.Image:
        """Return the whole upright image in mode "RGB" (3 channels) or "L" (1 channel).

        Raises:
            DataError: the file has vanished or changed since the folder was read, or its values are out of range.
            ImageDecodeError: no image, or a damaged one.
            ImageTooLargeError: more than ``max_pixels`` pixels.
            IndexError: ``index`` is out of range.
        """
        return self._load(index)

    def read(self, index: int, resolution: int) -> npt.NDArray[np.uint8]:
        """Return the image as a square, uint8 [C, resolution, resolution].

        The filter is Lanczos if any side shrinks and bicubic if none does; see :func:`decode.square_pixels`. With
        ``fast_jpeg``, a large JPEG is decoded smaller first; see :func:`decode.decode_image`.

        Raises:
            DataError: as for :meth:`load`; or a side below 4 pixels with ``crop="center"``.
            ValueError: ``resolution`` is below 1.
        """
        require(resolution >= 1, "resolution", resolution, "at least 1")
        image = self._load(index, fast_jpeg_for=resolution if self.fast_jpeg else None)
        return square_pixels(image, resolution, self.crop, self.names[index])

    def _load(self, index: int, *, fast_jpeg_for: int | None = None) -> Image.Image:
        return decode_image(
            io.BytesIO(self.encoded(index)),
            self.names[index],
            image_channels=self.image_channels,
            background=self.background,
            max_pixels=self.max_pixels,
            fast_jpeg_for=fast_jpeg_for,
        )

    @contextmanager
    def _stream(self, index: int) -> Iterator[IO[bytes]]:
        """Open one file, with every failure named."""
        position = range(len(self))[operator.index(index)]
        name, limit = self.names[position], _BYTES_PER_PIXEL * self.max_pixels + _METADATA_BYTES
        try:
            stream = self._files.open(position)
        except OSError as error:
            raise DataError(
                f"{name!r} of {str(self.source)!r} could not be opened; has it vanished? ({error})"
            ) from error
        except (zipfile.BadZipFile, RuntimeError, ValueError) as error:  # RuntimeError: encrypted, unknown method
            raise ImageDecodeError(f"{name!r} of {str(self.source)!r} could not be unpacked ({error})") from error
        with stream:
            size = self.stamps[position][0]
            if size > limit:
                raise ImageTooLargeError(f"{name!r} has {size} bytes, more than {self.max_pixels} pixels can need")
            try:
                yield stream
            except DataError:
                raise
            except Exception as error:  # zlib.error, BadZipFile, EOFError, OSError, ...
                raise ImageDecodeError(f"{name!r} could not be read ({type(error).__name__}: {error})") from error


def _class_labels(names: tuple[str, ...]) -> tuple[tuple[str, ...], npt.NDArray[np.int64] | None]:
    """Return the classes and the label of each name, by the rule at the top of this file."""
    folders = [name.split("/")[:-1] for name in names]
    # What the first and the last have in common, all have in common.
    depth = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(min(folders), max(folders), strict=False)))
    tops = [folder[depth] if len(folder) > depth else None for folder in folders]
    classes = sorted({top for top in tops if top is not None})
    if not classes:
        return (), None
    if None in tops:
        stray, inside = names[tops.index(None)], next(n for n, top in zip(names, tops, strict=True) if top is not None)
        raise DataError(
            f"{stray!r} lies beside the sub-folders with images, such as that of {inside!r}: has it a class?"
        )
    position = {name: index for index, name in enumerate(classes)}
    labels = np.array([position[top] for top in tops if top is not None], dtype=np.int64)
    labels.flags.writeable = False
    return tuple(classes), labels
