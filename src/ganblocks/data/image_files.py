"""Which files of a folder or a zip archive are images, and how to open them; what is in them is not looked at.

- Counted are regular files, and links to regular files, whose name ends in one of ``EXTENSIONS`` (any case), at any
  depth. Left out are hidden files and folders (a name that starts with a dot), ``__MACOSX``, linked folders (they may
  lead in a circle), links that lead nowhere, pipes and devices.
- The order is that of the relative names, compared by code point; it does not depend on the file system.
- A zip archive is read in place, never extracted. Of two entries of one name the later counts, as for ``unzip``. What
  it may claim stands in :mod:`ganblocks.data.zip_members`.
"""

import os
import stat
import struct
import threading
import zipfile
from pathlib import Path
from typing import IO, Any, Protocol

from ganblocks.data.zip_members import ZipLimits, is_regular_member, open_archive, open_member, require_harmless
from ganblocks.errors import DataError

__all__ = ["EXTENSIONS", "ImageFiles", "open_source"]

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


class ImageFiles(Protocol):
    """Named files with a stamp each: (size in bytes, a number that changes with the content)."""

    names: tuple[str, ...]
    stamps: list[tuple[int, int]]

    def open(self, index: int) -> IO[bytes]:
        """Open a file, as bytes and seekable; one that is not the file that was found raises ``DataError``."""


def open_source(source: Path, *, zip_limits: ZipLimits | None = None) -> ImageFiles:
    """Look for images in a folder or an archive.

    Args:
        source: The folder or the archive.
        zip_limits: What an archive may claim; ``None`` = the limits as they are.

    Raises:
        DataError: ``source`` is missing, unreadable, or a file that is no zip.
        SecurityError: An archive claims more than ``zip_limits`` allow, or contradicts itself.
    """
    try:
        mode = source.stat().st_mode
        if stat.S_ISDIR(mode):
            return _FolderFiles(source)
        if not stat.S_ISREG(mode) or not zipfile.is_zipfile(source):
            raise DataError(f"{str(source)!r} is neither a folder nor a zip archive")
        return _ZipFiles(source, zip_limits or ZipLimits())
    except FileNotFoundError as error:
        raise DataError(f"{str(source)!r} does not exist") from error
    except (OSError, ValueError, OverflowError, struct.error, zipfile.BadZipFile, NotImplementedError) as error:
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

    def __init__(self, path: Path, limits: ZipLimits) -> None:
        self._path = path
        self._limits = limits
        self._local = threading.local()
        self._status = _status(path)
        with open_archive(path, limits) as archive:
            images = [info for info in archive.infolist() if info.filename.lower().endswith(EXTENSIONS)]
            require_harmless(archive, images, path, limits)
            found = {}
            for info in images:
                parts = [part for part in info.filename.replace("\\", "/").split("/") if part not in ("", ".")]
                if is_regular_member(info) and not any(map(_is_left_out, parts)):
                    found["/".join(parts)] = info
        self.names: tuple[str, ...] = tuple(sorted(found))
        self._infos = [found[name] for name in self.names]
        self.stamps = [(info.file_size, info.CRC) for info in self._infos]

    def open(self, index: int) -> IO[bytes]:
        """Open an entry through an archive of this thread's own: file positions cannot be shared."""
        if getattr(self._local, "process", None) != os.getpid():
            if _status(self._path) != self._status:
                raise DataError(f"{str(self._path)!r} has changed since it was read")
            self._local.archive = open_archive(self._path, self._limits)
            self._local.process = os.getpid()
        archive: zipfile.ZipFile = self._local.archive
        return open_member(archive, self._infos[index])

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
