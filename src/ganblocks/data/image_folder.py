"""A folder or a zip archive of images, read as it lies there.

How a file becomes pixels stands in :mod:`ganblocks.data.decode`; this file says which files count, in which order, and
what their labels are.

- Counted are regular files, and links to regular files, whose name ends in one of ``EXTENSIONS`` (any case), at any
  depth. Left out are hidden files and folders (a name that starts with a dot), ``__MACOSX``, linked folders (they may
  lead in a circle), links that lead nowhere, pipes and devices.
- The order is that of the relative names, compared by code point; it does not depend on the file system.
- A zip archive is read in place, never extracted. Of two entries of one name the later counts, as for ``unzip``.
- Labels: folders that hold *all* images are peeled off first (the one folder that wraps a whole archive). If the rest
  has sub-folders, the first level is the class. Without sub-folders there are no labels. Images beside sub-folders
  with images are a mistake and raise ``DataError``.
"""

import hashlib
import io
import json
import operator
import os
import stat
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import IO, Any, Protocol, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from ganblocks._checks import require
from ganblocks.data.decode import RULES_VERSION, Crop, decode_image, image_size, square_pixels
from ganblocks.errors import DataError, EmptyDatasetError, ImageDecodeError, ImageTooLargeError

__all__ = ["EXTENSIONS", "ImageFolder"]

EXTENSIONS = (
    ".bmp",
    ".gif",
    ".jfif",
    ".jpeg",
    ".jpg",
    ".pbm",
    ".pgm",
    ".png",
    ".pnm",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
"""A file counts as an image if its name ends in one of these, in any case."""

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

    Attributes:
        names: relative names with forward slashes, sorted.
        classes: class names, sorted; empty without labels.
        labels: [N] int64, indices into ``classes``; None without labels.
        fingerprint: SHA-256 in hex over names, sizes, times of change (folder) or checksums (zip), the options above,
            and the version of the decoding rules.

    Raises:
        DataError: ``source`` is missing, unreadable, or a file that is no zip; images beside class folders.
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
        self.source = Path(source)
        self.image_channels = image_channels
        self.crop: Crop = crop
        self.background: tuple[int, int, int] = (levels[0], levels[1], levels[2])
        self.max_pixels = max_pixels
        self._files: _Files = _open_source(self.source)
        self.names: tuple[str, ...] = self._files.names
        if not self.names:
            raise EmptyDatasetError(f"{str(source)!r} holds no image; looked for {', '.join(EXTENSIONS)}")
        self.classes, self.labels = _class_labels(self.names)
        options = [RULES_VERSION, image_channels, crop, list(self.background), max_pixels]
        content = json.dumps([options, self.names, self._files.stamps])  # ASCII, so that any file name can be hashed
        self.fingerprint: str = hashlib.sha256(content.encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        classes = f", {len(self.classes)} classes" if self.classes else ""
        return f"ImageFolder({str(self.source)!r}, {len(self)} images{classes}, {self.image_channels} channels)"

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

    def load(self, index: int) -> Image.Image:
        """Return the whole upright image in mode "RGB" (3 channels) or "L" (1 channel).

        Raises:
            DataError: the file has vanished or changed since the folder was read, or its values are out of range.
            ImageDecodeError: no image, or a damaged one.
            ImageTooLargeError: more than ``max_pixels`` pixels.
            IndexError: ``index`` is out of range.
        """
        name = self.names[index]
        with self._stream(index) as stream:
            encoded = io.BytesIO(stream.read())
        return decode_image(
            encoded,
            name,
            image_channels=self.image_channels,
            background=self.background,
            max_pixels=self.max_pixels,
        )

    def read(self, index: int, resolution: int) -> npt.NDArray[np.uint8]:
        """Return the image as a square, uint8 [C, resolution, resolution].

        The filter is Lanczos if any side shrinks and bicubic if none does; see :func:`decode.square_pixels`.

        Raises:
            DataError: as for :meth:`load`; or a side below 4 pixels with ``crop="center"``.
            ValueError: ``resolution`` is below 1.
        """
        require(resolution >= 1, "resolution", resolution, "at least 1")
        return square_pixels(self.load(index), resolution, self.crop, self.names[index])

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
            size = self._files.stamps[position][0]
            if size > limit:
                raise ImageTooLargeError(f"{name!r} has {size} bytes, more than {self.max_pixels} pixels can need")
            try:
                yield stream
            except DataError:
                raise
            except Exception as error:  # zlib.error, BadZipFile, EOFError, OSError, ...
                raise ImageDecodeError(f"{name!r} could not be read ({type(error).__name__}: {error})") from error


class _Files(Protocol):
    """Named files with a stamp each: (size in bytes, a number that changes with the content)."""

    names: tuple[str, ...]
    stamps: list[tuple[int, int]]

    def open(self, index: int) -> IO[bytes]: ...


def _open_source(source: Path) -> _Files:
    """Look at a folder or an archive."""
    try:
        mode = source.stat().st_mode
        if stat.S_ISDIR(mode):
            return _FolderFiles(source)
        if not stat.S_ISREG(mode) or not zipfile.is_zipfile(source):
            raise DataError(f"{str(source)!r} is neither a folder nor a zip archive")
        return _ZipFiles(source)
    except FileNotFoundError as error:
        raise DataError(f"{str(source)!r} does not exist") from error
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"{str(source)!r} could not be read ({error})") from error


class _FolderFiles:
    """The image files below a folder; the stamp's second number is the time of change in nanoseconds."""

    def __init__(self, root: Path) -> None:
        self._root = root
        found: dict[str, tuple[int, int]] = {}
        pending = [""]
        while pending:
            prefix = pending.pop()
            with os.scandir(root / prefix) as entries:
                for entry in entries:
                    if _is_left_out(entry.name):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(f"{prefix}{entry.name}/")
                    elif entry.name.lower().endswith(EXTENSIONS):
                        stamp = _regular_file_stamp(entry)
                        if stamp is not None:
                            found[prefix + entry.name] = stamp
        self.names: tuple[str, ...] = tuple(sorted(found))
        self.stamps = [found[name] for name in self.names]

    def open(self, index: int) -> IO[bytes]:
        """Open a file; one that is not the file that was found raises ``DataError``."""
        # A pipe may have taken the place of the file; opening it must not wait for a writer.
        descriptor = os.open(
            self._root / self.names[index], os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or (status.st_size, status.st_mtime_ns) != self.stamps[index]:
            os.close(descriptor)
            raise DataError(f"{self.names[index]!r} of {str(self._root)!r} has changed since the folder was read")
        return os.fdopen(descriptor, "rb")


def _regular_file_stamp(entry: os.DirEntry[str]) -> tuple[int, int] | None:
    """Return (size, time of change) of a regular file, None for anything else, such as a link that leads nowhere."""
    try:
        status = entry.stat()
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


class _ZipFiles:
    """The image files in an archive; the stamp's second number is the CRC-32 of the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._status = _status(path)
        with zipfile.ZipFile(path) as archive:
            found = {}
            for info in archive.infolist():
                parts = [part for part in info.filename.replace("\\", "/").split("/") if part not in ("", ".")]
                is_image = not info.is_dir() and info.filename.lower().endswith(EXTENSIONS)
                if is_image and not any(map(_is_left_out, parts)):
                    found["/".join(parts)] = info
        self.names: tuple[str, ...] = tuple(sorted(found))
        self._infos = [found[name] for name in self.names]
        self.stamps = [(info.file_size, info.CRC) for info in self._infos]

    def open(self, index: int) -> IO[bytes]:
        """Open an entry through an archive of this thread's own: file positions cannot be shared."""
        if getattr(self._local, "process", None) != os.getpid():
            if _status(self._path) != self._status:
                raise DataError(f"{str(self._path)!r} has changed since it was read")
            self._local.archive = zipfile.ZipFile(self._path)
            self._local.process = os.getpid()
        archive: zipfile.ZipFile = self._local.archive
        return archive.open(self._infos[index])

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._local = threading.local()


def _status(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _is_left_out(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


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
