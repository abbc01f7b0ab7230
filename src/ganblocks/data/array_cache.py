"""A folder of uint8 arrays that is either whole or not there.

A cache is a folder of one .npy file per resolution and a manifest. Its name is a hash of everything its content depends
on. It is written under a temporary name, synced, and renamed when complete, so a folder with the final name is whole.
Files are written front to back, not through a memory map: on a full disk a write raises, but a mapped page kills the
process.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ganblocks._json import read_json
from ganblocks.data.unreadable import LeftOut
from ganblocks.errors import DataError

__all__ = ["ArrayCache", "Chunk", "Images", "open_array"]

_FORMAT = 1
_STALE_SECONDS = 7 * 24 * 3600.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
_in_progress: set[str] = set()  # temporary folders this process is writing

Images = NDArray[np.uint8]

# One chunk of consecutive images: the array [n, C, R, R] of every resolution, and the n shorter sides.
Chunk = tuple[dict[int, Images], list[int]]


def open_array(folder: Path, size: int) -> Images:
    """A read-only plain array over the mapped file."""
    return np.asarray(np.load(folder / f"{size}.npy", mmap_mode="r", allow_pickle=False))


class ArrayCache:
    """One folder of arrays under ``directory``, named after everything its content depends on.

    Args:
        directory: Of all caches.
        fingerprint: Of the source.
        shapes: ``[N, C, R, R]`` by resolution R.
        left_out: An empty list for the images of the source that are not in the arrays, whose first dimension is
            shorter by as many: whoever yields the chunks adds to it, and `open` fills it from the manifest. ``None`` =
            none may be left out; such a cache has another name.
    """

    def __init__(
        self,
        directory: Path,
        fingerprint: str,
        shapes: dict[int, tuple[int, int, int, int]],
        *,
        left_out: list[LeftOut] | None = None,
    ) -> None:
        self.directory = directory
        self.shapes = shapes
        self.left_out = left_out
        self.headers: dict[int, bytes] = {size: _header(shape) for size, shape in shapes.items()}
        self.bytes: dict[int, int] = {
            size: len(self.headers[size]) + int(np.prod(shape)) for size, shape in shapes.items()
        }
        self._fingerprint = fingerprint
        parts = [_FORMAT, fingerprint, max(shapes), min(shapes), shapes[max(shapes)][1]]
        identity = json.dumps(parts if left_out is None else [*parts, "left out"])
        self.folder: Path = directory / hashlib.sha256(identity.encode()).hexdigest()[:16]

    def open_or_build(self, levels: Iterator[Chunk]) -> tuple[dict[int, Images], float]:
        """The arrays by resolution and the median side, from disk if they are there and whole; ``levels`` if not."""
        opened = self.open()
        if opened is not None:
            return opened
        with self._explained():
            self.directory.mkdir(parents=True, exist_ok=True)
            self._sweep()
            self._discard(self.folder)
            self._check_space()
            temporary = self._temporary()
            _in_progress.add(temporary.name)
            temporary.mkdir()
        try:
            self._write(temporary, levels)
            with self._explained():
                return self._publish(temporary)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)  # gone already if all went well
            _in_progress.discard(temporary.name)

    def open(self) -> tuple[dict[int, Images], float] | None:
        """What is in the folder, or None unless it is exactly what was written."""
        try:
            path = self.folder / "manifest.json"
            if not path.is_file():  # reading a pipe would wait for ever
                return None
            manifest = read_json(path.read_bytes())
            median_side = float(manifest.pop("median_side"))
            left_out = [] if self.left_out is None else self._recorded(manifest.pop("left_out"))
            shapes = self._shapes_without(len(left_out))
            if manifest != self._description(shapes) or not median_side > 0:
                return None
            for name, file in manifest["files"].items():
                if (self.folder / name).stat().st_size != file["bytes"]:
                    return None
            for size, shape in shapes.items():
                header = _header(shape)
                with open(self.folder / f"{size}.npy", "rb") as array:
                    if array.read(len(header)) != header:  # so that no other header is ever parsed
                        return None
            arrays = {size: open_array(self.folder, size) for size in shapes}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, OverflowError):
            return None
        if not all(arrays[size].shape == shape and arrays[size].dtype == np.uint8 for size, shape in shapes.items()):
            return None
        if self.left_out is not None:
            self.left_out[:] = left_out
        return arrays, median_side

    def _description(self, shapes: dict[int, tuple[int, int, int, int]]) -> dict[str, Any]:
        files = {}
        for size, shape in shapes.items():
            files[f"{size}.npy"] = {"shape": list(shape), "bytes": len(self.headers[size]) + int(np.prod(shape))}
        return {"format": _FORMAT, "fingerprint": self._fingerprint, "files": files}

    def _shapes_without(self, missing: int) -> dict[int, tuple[int, int, int, int]]:
        return {size: (count - missing, *rest) for size, (count, *rest) in self.shapes.items()}  # type: ignore[misc]

    def _recorded(self, entries: Any) -> list[LeftOut]:
        """What the manifest says was left out: each once, in order, and not all of them."""
        left_out = [LeftOut.from_dict(entry) for entry in entries]
        indices = [entry.index for entry in left_out]
        count = self.shapes[max(self.shapes)][0]
        if indices != sorted(set(indices)) or not set(indices) < set(range(count)):
            raise ValueError("the manifest names images that are not there")
        return left_out

    def _write(self, temporary: Path, levels: Iterator[Chunk]) -> None:
        sides: list[int] = []
        shapes = self.shapes
        with contextlib.ExitStack() as stack:
            with self._explained():
                files = {}
                for size in self.shapes:
                    files[size] = open(temporary / f"{size}.npy", "xb")  # noqa: SIM115
                    stack.callback(self._close, files[size])
                    files[size].write(self.headers[size])
            for images, more_sides in levels:  # outside of _explained: the source's errors are its own
                sides += more_sides
                with self._explained():
                    for size, file in files.items():
                        file.write(images[size].data)
            if self.left_out:
                shapes = self._shapes_without(len(self.left_out))
            with self._explained():
                for size, file in files.items():
                    if shapes is not self.shapes:  # only now is it known how many there are
                        header = _header(shapes[size])
                        assert len(header) == len(self.headers[size])  # NumPy leaves room for any number of rows
                        file.seek(0)
                        file.write(header)
                    file.flush()
                    os.fsync(file.fileno())
        with self._explained():
            with open(temporary / "manifest.json", "x", encoding="utf-8") as text:
                manifest = {**self._description(shapes), "median_side": float(np.median(sides))}
                if self.left_out is not None:
                    manifest["left_out"] = [entry.to_dict() for entry in self.left_out]
                json.dump(manifest, text, indent=1)
                text.flush()
                os.fsync(text.fileno())
            _sync_folder(temporary)

    def _close(self, file: BinaryIO) -> None:
        with self._explained():  # closing writes what is still buffered
            file.close()

    def _publish(self, temporary: Path) -> tuple[dict[int, Images], float]:
        """Give the complete folder its name; if another process was first, use what that one wrote."""
        failure: OSError | None = None
        for _ in range(3):
            try:
                os.rename(temporary, self.folder)
                _sync_folder(self.directory)
            except OSError as error:  # most likely the name is taken; open() tells by what
                failure = error
            opened = self.open()
            if opened is not None:
                return opened
            self._discard(self.folder)
        raise DataError(f"the image cache {self.folder} was written, but cannot be opened") from failure

    def _check_space(self) -> None:
        free = shutil.disk_usage(self.directory).free
        needed = sum(self.bytes.values())
        if free < needed:
            raise DataError(f"the image cache needs {needed:,} bytes in {self.directory}, but only {free:,} are free")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Failures to write become a DataError that says where, and how much room is needed."""
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                needed = sum(self.bytes.values())
                raise DataError(
                    f"the image cache needs {needed:,} bytes in {self.directory}, but the disk is full"
                ) from error
            raise DataError(f"the image cache in {self.directory} cannot be written: {error}") from error

    def _temporary(self) -> Path:
        return self.directory / f".{self.folder.name}.{_host()}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"

    def _discard(self, folder: Path) -> None:
        """Remove a folder so that nobody sees half of it: under its name it is either there or gone."""
        aside = self._temporary()
        with contextlib.suppress(FileNotFoundError):
            os.rename(folder, aside)
            if aside.is_dir() and not aside.is_symlink():
                shutil.rmtree(aside, ignore_errors=True)
            else:
                aside.unlink()

    def _sweep(self) -> None:
        """Remove what builds that died have left behind."""
        for folder in self.directory.glob(".*.tmp"):
            if folder.is_dir() and not folder.is_symlink() and _is_stale(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _header(shape: tuple[int, ...]) -> bytes:
    """The first bytes of the .npy file of a uint8 array."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def _host() -> str:
    return socket.gethostname().replace(".", "-")


def _is_stale(folder: Path) -> bool:
    """Whether nobody writes this temporary folder any more: its process is gone, or it did not change for a week."""
    match = re.fullmatch(r"\.[0-9a-f]{16}\.(.*)\.([0-9]+)\.[0-9a-f]{8}\.tmp", folder.name)
    if match is None:
        return False
    host, pid = match[1], int(match[2])
    if host == _host():
        if pid == os.getpid():
            return folder.name not in _in_progress
        if not _is_alive(pid):
            return True
    try:
        newest = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    except OSError:  # it was renamed or removed meanwhile
        return False
    return time.time() - newest > _STALE_SECONDS


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # there, signal 0 would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; Windows does so by itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
