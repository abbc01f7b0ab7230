"""What an archive may claim before it is believed, and members that are read no further than they say.

A zip archive is read in place: nothing is ever written to a disk, so a name cannot lead out of a folder, and an archive
inside an archive is not opened. What is left is memory and time, and a reader that is made to believe what is not so:

==========================  ==========================================================================================
claim                       rule
==========================  ==========================================================================================
number of members           at most ``max_members``, counted before they are read into memory
size of a member            at most ``max_member_bytes``; all images together at most ``max_total_bytes``
size against packed size    at most ``max_ratio``, above 1 MiB: deflate cannot give more than 1032 bytes for one
bytes of a member           unpacked in small steps, never beyond its size; fewer than its size are an error, and so is
                            another checksum. Going back in it starts anew, for at most 16 times its size
two members of one place    refused: each byte of the archive belongs to one member at most (Fifield 2019, "A better zip
                            bomb", section "overlapping files")
names                       ``..`` and NUL are refused; an absolute name counts as a relative one, a backslash separates
                            folders; device names are names like others
links, pipes, devices       left out
encrypted; bzip2; LZMA      refused when opened: a password is not asked for, one packed byte of bzip2 may become a
that takes above 64 MiB     million in one step, and LZMA reserves what its head asks for
==========================  ==========================================================================================

The numbers are those of `ZipLimits`.
"""

import dataclasses
import io
import os
import stat
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, cast

from ganblocks._checks import require
from ganblocks.errors import ImageDecodeError, SecurityError

__all__ = ["ZipLimits", "is_regular_member", "open_archive", "open_member", "require_harmless"]

_BLOCK = 2**16  # unpacked at a time
_PACKED_BLOCK = 4096  # taken at a time from LZMA, which unpacks all of it: at most 28 MiB
_SMALL = 2**20  # a member of so many bytes may be packed as well as it can
_SMALLEST_RECORD = 46  # bytes of the directory that describe a member, without its name
_MOST_RECORD = 512  # on average, with name, extra fields and comment
_RECORD_MARK = b"PK\x01\x02"
_LOCAL_HEADER = 30  # bytes before the name and the content of a member
_LARGEST_DICTIONARY = 2**26  # of LZMA; what the usual programs choose at most
_ENCRYPTED = 0x41  # flags: by a password, or strongly
_READINGS = 16  # how often a member may be unpacked by one who goes to and fro in it


@dataclasses.dataclass(frozen=True)
class ZipLimits:
    """What an archive of images may claim. Who has a larger one and trusts it raises a number.

    Args:
        max_members: Entries of the directory, of any kind. A million take about 1 GiB of memory.
        max_member_bytes: Size of one image file, unpacked.
        max_total_bytes: Of all image files together, unpacked.
        max_ratio: Size over packed size of an image file of more than 1 MiB.

    Raises:
        ValueError: A number is below 1.
    """

    max_members: int = 2_000_000
    max_member_bytes: int = 2**32
    max_total_bytes: int = 2**42
    max_ratio: float = 1100

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            require(value >= 1, field.name, value, "at least 1")


def open_archive(path: Path, limits: ZipLimits) -> zipfile.ZipFile:
    """Open an archive whose directory is within the limits.

    Args:
        path: The file.
        limits: Only ``max_members`` counts here.

    Returns:
        The archive; closing it closes the file.

    Raises:
        OSError: It cannot be read.
        SecurityError: It has too many members.
        ValueError: A name is not what the archive says it is.
        zipfile.BadZipFile: It is damaged.
    """
    archive = _Archive(_GuardedFile(path, limits.max_members))
    if len(archive.infolist()) > limits.max_members:
        archive.close()
        raise _too_many(path, limits.max_members)
    return archive


def is_regular_member(info: zipfile.ZipInfo) -> bool:
    """Whether a member is a file: no folder, link, pipe or device. An archive that does not say holds files."""
    return not info.is_dir() and stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)


def require_harmless(
    archive: zipfile.ZipFile, images: Iterable[zipfile.ZipInfo], path: Path, limits: ZipLimits
) -> None:
    """Check what the directory of an archive claims; no member is read.

    Args:
        archive: The archive.
        images: Those of its members that will be read.
        path: What to call it in errors.
        limits: See there.

    Raises:
        SecurityError: A claim is beyond the limits, or contradicts another.
    """
    total = 0
    for info in images:
        name = info.orig_filename
        if "\0" in name or ".." in info.filename.replace("\\", "/").split("/"):
            raise SecurityError(f"{str(path)!r} is refused: an image has the name {name!r}")
        if info.file_size > limits.max_member_bytes:
            raise SecurityError(
                f"{str(path)!r} is refused: {name!r} claims {info.file_size} bytes, but `max_member_bytes` is "
                f"{limits.max_member_bytes}"
            )
        if info.file_size > max(_SMALL, limits.max_ratio * info.compress_size):
            raise SecurityError(
                f"{str(path)!r} is refused: {name!r} claims {info.file_size} bytes in {info.compress_size} packed "
                f"ones, but `max_ratio` is {limits.max_ratio}"
            )
        total += info.file_size
    if total > limits.max_total_bytes:
        raise SecurityError(
            f"{str(path)!r} is refused: its images claim {total} bytes, but `max_total_bytes` is "
            f"{limits.max_total_bytes}"
        )
    end, previous = 0, ""
    for info in sorted(archive.infolist(), key=lambda member: member.header_offset):
        if info.header_offset < end:
            raise _contradiction(path, f"{previous!r} and {info.orig_filename!r} lie over each other")
        end, previous = info.header_offset + _LOCAL_HEADER + len(info.orig_filename) + info.compress_size, info.filename
    if end > archive.start_dir:
        raise _contradiction(path, f"{previous!r} reaches into the directory")


def open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    """Open a member for reading, as bytes and seekable.

    Reading raises ``ImageDecodeError`` where the content is shorter than its size, and whatever ``zipfile`` raises
    where it is damaged.

    Raises:
        ImageDecodeError: It is encrypted, or packed in a way that is not read.
        zipfile.BadZipFile: It is damaged.
    """
    reason = ""
    if info.flag_bits & _ENCRYPTED:
        reason = "it is encrypted; unpack the archive with its password and use the folder"
    elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        reason = f"packed by method {info.compress_type}, but only 0 (stored), 8 (deflate) and 14 (LZMA) are read"
    elif info.compress_type == zipfile.ZIP_LZMA and _lzma_dictionary(archive, info) > _LARGEST_DICTIONARY:
        reason = f"unpacking takes more than {_LARGEST_DICTIONARY} bytes of memory"
    if reason:
        raise ImageDecodeError(f"{info.filename!r} of {str(archive.filename)!r} could not be unpacked ({reason})")
    return cast(IO[bytes], _Member(archive.open(info), info))


def _lzma_dictionary(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> int:
    """Bytes of memory that the head of a member asks for (APPNOTE 6.3.10, section 5.8.8)."""
    file = archive.fp
    if file is None:
        raise ValueError("the archive is closed")
    file.seek(info.header_offset + _LOCAL_HEADER - 4)
    lengths = file.read(4)
    file.seek(int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little"), os.SEEK_CUR)
    return int.from_bytes(file.read(9)[5:], "little")


def _too_many(path: Path, limit: int) -> SecurityError:
    return SecurityError(f"{str(path)!r} is refused: it has more members than `max_members`, which is {limit}")


def _contradiction(path: Path, what: str) -> SecurityError:
    return SecurityError(
        f"{str(path)!r} is refused: {what}. It is damaged, made to hurt, or written by a program that cannot write "
        "archives of this size; if you trust it, unpack it and use the folder"
    )


class _GuardedFile(io.BufferedReader):
    """A file that looks at the directory of an archive before it is taken apart, which takes 10 times its memory."""

    def __init__(self, path: Path, max_members: int) -> None:
        super().__init__(io.FileIO(path))
        self._path, self._max_members = path, max_members
        self._size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """Read; more than 1 MiB at a time is the directory."""
        wanted = self._size - self.tell() if size is None or size < 0 else size
        if wanted <= _SMALL:
            return super().read(size)
        if wanted > _MOST_RECORD * self._max_members + _SMALL:
            raise SecurityError(
                f"{str(self._path)!r} is refused: its directory has {wanted} bytes, more than the members need that "
                f"`max_members` allows, which is {self._max_members}"
            )
        content = super().read(size)
        if wanted > _SMALLEST_RECORD * self._max_members and content.count(_RECORD_MARK) > self._max_members:
            raise _too_many(self._path, self._max_members)
        return content


class _Archive(zipfile.ZipFile):
    """An archive that closes the file it was given."""

    def __init__(self, file: _GuardedFile) -> None:
        self._guarded = file
        try:
            super().__init__(file)
        except BaseException:
            file.close()
            raise

    def close(self) -> None:
        """Close the archive and its file."""
        super().close()
        self._guarded.close()


class _Member(io.BufferedIOBase):
    """The bytes of a member: as many as its size says, unpacked block by block."""

    def __init__(self, stream: IO[bytes], info: zipfile.ZipInfo) -> None:
        self._stream = stream
        self._name, self._size = info.filename, info.file_size
        self._block = _PACKED_BLOCK if info.compress_type == zipfile.ZIP_LZMA else _BLOCK
        self._position = 0  # of the next byte that is unpacked
        self._wanted = 0  # of the next byte that is read
        self._budget = _READINGS * (info.file_size + _SMALL)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._wanted

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Nothing is unpacked before the next read."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._wanted, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"{self._name!r}: there is no position {base + offset}")
        self._wanted = base + offset
        return self._wanted

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self._size - self._wanted)
        size = left if size is None or size < 0 else min(size, left)
        if not size:
            return b""
        if self._wanted < self._position:
            self._stream.seek(0)
            self._position = 0
        while self._position < self._wanted:
            self._unpack(self._wanted - self._position)
        content = bytearray()
        while len(content) < size:
            content += self._unpack(size - len(content))
        self._wanted = self._position
        return bytes(content)

    def read1(self, size: int = -1, /) -> bytes:
        return self.read(size)

    def close(self) -> None:
        self._stream.close()
        super().close()

    def _unpack(self, size: int) -> bytes:
        block = self._stream.read(min(size, self._block))
        self._position += len(block)
        self._budget -= len(block)
        if not block:
            raise ImageDecodeError(
                f"{self._name!r} ends after {self._position} of the {self._size} bytes that it claims"
            )
        if self._budget < 0:
            raise ImageDecodeError(f"{self._name!r} leads to and fro: it would be unpacked more than {_READINGS} times")
        return block
