"""All images at every resolution that progressive growing passes through, computed once and kept.

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
import sys
import time
import uuid
import warnings
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from .._checks import require
from ..errors import DataError, EmptyDatasetError
from .source import ImageSource

__all__ = ["MultiResolutionImages"]

_FORMAT = 1
_CHUNK_BYTES = 2**24
_STALE_SECONDS = 7 * 24 * 3600.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
_in_progress: set[str] = set()  # temporary folders this process is writing

Images = NDArray[np.uint8]


class MultiResolutionImages:
    """The images of a source as uint8 arrays [N, C, R, R] for R = resolution, resolution / 2, ..., smallest.

    The largest comes from ``source.read``; each smaller one is the average of 2x2 pixels of the next larger, rounded
    half up, as progressive growing needs (Karras et al. 2018, section 3: the reals are downscaled to match).

    Args:
        source: Where the images come from. It is read during construction only, and not at all when the cache exists.
        resolution: Largest resolution, a power of two.
        smallest: Smallest resolution, a power of two up to ``resolution``.
        cache_dir: Folder in which to keep the arrays, as memory-mapped files; made if missing. The same source and
            resolutions are found there again, also by other processes. None = keep them in memory, write nothing.
        workers: Threads that read images; the result does not depend on it.
        progress: Whether to show a progress bar while building; None = only if the standard error is a terminal.

    Attributes:
        resolutions: The resolutions, ascending.
        image_channels: C.
        labels: int64 [N], or None.
        classes: Names of the classes.
        fingerprint: The fingerprint of the source.
        median_side: Median over the images of the shorter side, in pixels, before any resize.

    Raises:
        ValueError: a resolution that is no power of two, or an image from the source with another shape or dtype.
        EmptyDatasetError: the source has no image.
        DataError: the disk is too small; also whatever ``source.read`` raises. No half-written cache is left.

    Warns:
        UserWarning: ``resolution`` is above ``median_side``: most images are enlarged.
    """

    def __init__(
        self,
        source: ImageSource,
        *,
        resolution: int,
        smallest: int = 4,
        cache_dir: str | os.PathLike[str] | None = None,
        workers: int = 1,
        progress: bool | None = None,
    ) -> None:
        _require_power_of_two(resolution, "resolution")
        _require_power_of_two(smallest, "smallest")
        require(smallest <= resolution, "smallest", smallest, f"at most `resolution`, which is {resolution}")
        require(workers >= 1, "workers", workers, "at least 1")
        if len(source) == 0:
            raise EmptyDatasetError("the source has no image")
        self._count = len(source)
        self.resolutions = tuple(2**power for power in range(smallest.bit_length() - 1, resolution.bit_length()))
        self.image_channels = source.image_channels
        self.labels = source.labels
        self.classes = source.classes
        self.fingerprint = source.fingerprint
        show = sys.stderr.isatty() if progress is None else progress
        with contextlib.closing(_read_levels(source, self.resolutions, workers, show)) as levels:
            if cache_dir is None:
                self._folder: Path | None = None
                self._arrays, self.median_side = _fill_arrays(levels, self._shapes())
            else:
                cache = _Cache(Path(cache_dir), self.fingerprint, self._shapes())
                self._folder = cache.folder
                self._arrays, self.median_side = cache.open_or_build(levels)
        if resolution > self.median_side:
            warnings.warn(
                f"`resolution` is {resolution}, but the median shorter side of the images is "
                f"{self.median_side:g} pixels: most of them are enlarged and show no more detail",
                UserWarning,
                stacklevel=2,
            )

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        where = "in memory" if self._folder is None else f"in {self._folder}"
        return f"MultiResolutionImages({len(self)} images, C={self.image_channels}, {self.resolutions}, {where})"

    def __getstate__(self) -> dict[str, Any]:
        """A worker process gets the name of the folder, not the pixels."""
        return self.__dict__ if self._folder is None else {**self.__dict__, "_arrays": {}}

    def at(self, resolution: int) -> Images:
        """All images at one of ``resolutions``: a read-only uint8 array [N, C, R, R], mapped from disk or in memory.

        Raises:
            ValueError: the resolution is not there.
        """
        require(resolution in self.resolutions, "resolution", resolution, f"one of {self.resolutions}")
        if resolution not in self._arrays:
            assert self._folder is not None
            self._arrays[resolution] = _open_array(self._folder, resolution)
        return self._arrays[resolution]

    def batch(
        self,
        indices: Sequence[int] | NDArray[np.integer[Any]] | Tensor,
        resolution: int,
        *,
        mirror: NDArray[np.bool_] | None = None,
    ) -> Tensor:
        """The chosen images, a uint8 tensor [n, C, R, R] that owns its memory.

        Args:
            indices: Which images, integers [n] from 0 to N - 1, in any order, repeated if wanted.
            resolution: One of ``resolutions``.
            mirror: Which of them to flip left to right, bool [n]; None = none.

        Raises:
            ValueError: an index, the resolution or the shape of ``mirror`` does not fit.
        """
        chosen = self._checked(indices)
        images = self.at(resolution)[chosen]
        if mirror is not None:
            flipped = np.asarray(mirror)
            if flipped.dtype != np.bool_ or flipped.shape != chosen.shape:
                raise ValueError(
                    f"`mirror` is {flipped.dtype} of shape {flipped.shape}, but must be bool [{len(chosen)}]"
                )
            images[flipped] = images[flipped, :, :, ::-1]
        return torch.from_numpy(images)

    def labels_of(self, indices: Sequence[int] | NDArray[np.integer[Any]] | Tensor) -> Tensor | None:
        """The labels of the chosen images, int64 [n]; None where there are no labels.

        Raises:
            ValueError: an index is out of range.
        """
        chosen = self._checked(indices)
        return None if self.labels is None else torch.from_numpy(self.labels[chosen].astype(np.int64, copy=False))

    def _shapes(self) -> dict[int, tuple[int, int, int, int]]:
        return {size: (self._count, self.image_channels, size, size) for size in self.resolutions}

    def _checked(self, indices: Sequence[int] | NDArray[np.integer[Any]] | Tensor) -> NDArray[np.int64]:
        chosen = indices.cpu().numpy() if isinstance(indices, Tensor) else np.asarray(indices)
        if chosen.ndim != 1 or (chosen.size and not np.issubdtype(chosen.dtype, np.integer)):
            raise ValueError(f"`indices` is {chosen.dtype} of shape {chosen.shape}, but must be integers [n]")
        if chosen.size and (chosen.min() < 0 or chosen.max() >= len(self)):
            raise ValueError(
                f"`indices` reaches from {chosen.min()} to {chosen.max()}, but must be in 0 to {len(self) - 1}"
            )
        return chosen.astype(np.int64, copy=False)


# One chunk of consecutive images: the array [n, C, R, R] of every resolution, and the n shorter sides.
_Chunk = tuple[dict[int, Images], list[int]]


def _require_power_of_two(value: int, argument: str) -> None:
    if value < 1 or value & (value - 1):
        below = 1 << max(value.bit_length() - 1, 0) if value > 0 else 1
        nearest = f"{below} or {2 * below}" if value > 0 else "1 or 2"
        raise ValueError(f"`{argument}` is {value}, but must be a power of two; the nearest are {nearest}")


def _halve(images: Images) -> Images:
    """Average of 2x2 pixels, rounded half up: [n, C, 2R, 2R] to [n, C, R, R]."""
    total = images[..., 0::2, 0::2].astype(np.uint16)
    total += images[..., 0::2, 1::2]
    total += images[..., 1::2, 0::2]
    total += images[..., 1::2, 1::2]
    total += 2
    return (total >> 2).astype(np.uint8)


def _read_levels(
    source: ImageSource, resolutions: tuple[int, ...], workers: int, show: bool
) -> Generator[_Chunk, None, None]:
    """All images in order, in chunks of about 16 MiB, with every smaller resolution derived."""
    shape = (source.image_channels, resolutions[-1], resolutions[-1])
    length = max(1, _CHUNK_BYTES // int(np.prod(shape)))

    def read(index: int) -> tuple[Images, int]:
        image = source.read(index, shape[1])
        if image.shape != shape or image.dtype != np.uint8:
            raise ValueError(
                f"the source returned image {index} as {image.dtype} {image.shape}, but must return uint8 {shape}"
            )
        return image, min(source.size(index))

    with (
        tqdm(total=len(source), desc="reading images", unit=" images", disable=not show) as bar,
        contextlib.closing(_in_order(read, len(source), workers)) as results,
    ):
        for start in range(0, len(source), length):
            count = min(length, len(source) - start)
            images = np.empty((count, *shape), dtype=np.uint8)
            sides = []
            for position in range(count):
                images[position], side = next(results)
                sides.append(side)
                bar.update()
            levels = {resolutions[-1]: images}
            for smaller in reversed(resolutions[:-1]):
                levels[smaller] = _halve(levels[2 * smaller])
            yield levels, sides


def _in_order(read: Any, count: int, workers: int) -> Generator[tuple[Images, int], None, None]:
    """``read(0)``, ``read(1)``, ... with up to four images per thread under way."""
    if workers == 1:
        yield from map(read, range(count))
        return
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[tuple[Images, int]]] = deque()
    try:
        for index in range(count):
            waiting.append(pool.submit(read, index))
            if len(waiting) == 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _fill_arrays(
    levels: Iterator[_Chunk], shapes: dict[int, tuple[int, int, int, int]]
) -> tuple[dict[int, Images], float]:
    arrays = {size: np.empty(shape, dtype=np.uint8) for size, shape in shapes.items()}
    sides: list[int] = []
    for images, more_sides in levels:
        for size, array in arrays.items():
            array[len(sides) : len(sides) + len(more_sides)] = images[size]
        sides += more_sides
    for array in arrays.values():
        array.flags.writeable = False
    return arrays, float(np.median(sides))


def _open_array(folder: Path, size: int) -> Images:
    """A read-only plain array over the mapped file."""
    return np.asarray(np.load(folder / f"{size}.npy", mmap_mode="r", allow_pickle=False))


class _Cache:
    """One folder of arrays under ``directory``, named after everything its content depends on."""

    def __init__(self, directory: Path, fingerprint: str, shapes: dict[int, tuple[int, int, int, int]]) -> None:
        self.directory = directory
        self.shapes = shapes
        self.headers = {size: _header(shape) for size, shape in shapes.items()}
        self.bytes = {size: len(self.headers[size]) + int(np.prod(shape)) for size, shape in shapes.items()}
        self.manifest: dict[str, Any] = {
            "format": _FORMAT,
            "fingerprint": fingerprint,
            "files": {f"{size}.npy": {"shape": list(shapes[size]), "bytes": self.bytes[size]} for size in shapes},
        }
        identity = json.dumps([_FORMAT, fingerprint, max(shapes), min(shapes), shapes[max(shapes)][1]])
        self.folder = directory / hashlib.sha256(identity.encode()).hexdigest()[:16]

    def open_or_build(self, levels: Iterator[_Chunk]) -> tuple[dict[int, Images], float]:
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
            manifest = json.loads((self.folder / "manifest.json").read_bytes())
            median_side = float(manifest.pop("median_side"))
            if manifest != self.manifest or not median_side > 0:
                return None
            for size, expected in self.bytes.items():
                if (self.folder / f"{size}.npy").stat().st_size != expected:
                    return None
            arrays = {size: _open_array(self.folder, size) for size in self.shapes}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError):
            return None
        whole = all(
            arrays[size].shape == shape and arrays[size].dtype == np.uint8 for size, shape in self.shapes.items()
        )
        return (arrays, median_side) if whole else None

    def _write(self, temporary: Path, levels: Iterator[_Chunk]) -> None:
        sides: list[int] = []
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
            with self._explained():
                for file in files.values():
                    file.flush()
                    os.fsync(file.fileno())
        with self._explained():
            with open(temporary / "manifest.json", "x", encoding="utf-8") as text:
                json.dump({**self.manifest, "median_side": float(np.median(sides))}, text, indent=1)
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
