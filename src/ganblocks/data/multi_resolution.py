"""All images at every resolution that progressive growing passes through, computed once and kept."""

import contextlib
import os
import sys
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ganblocks._checks import require
from ganblocks.data.array_cache import ArrayCache, Chunk, Images, open_array
from ganblocks.data.source import ImageSource
from ganblocks.data.unreadable import ErrorPolicy, LeftOut, OnError, fingerprint_of
from ganblocks.errors import DataError, EmptyDatasetError

__all__ = ["MultiResolutionImages"]

_CHUNK_BYTES = 2**24


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
        on_error: What to do with an image that the source cannot read (``DataError``): "raise"; "skip" = leave it out,
            keep the order of the others, and warn once; "quarantine" = as "skip", and write the list to ``quarantine``.
            What was left out when a cache was built stays out as long as that cache is used.
        quarantine: File for the list, JSON; given for "quarantine" only. Nothing of the source is moved.

    Attributes:
        resolutions: The resolutions, ascending.
        image_channels: C.
        labels: int64 [N], or None.
        classes: Names of the classes.
        fingerprint: The fingerprint of the source; where images were left out, that of the others alone, which does
            not change when those left out are removed from a folder.
        left_out: What was left out, and why; empty with "raise".
        indices: int64 [N], which images of the source these are.
        median_side: Median over the images of the shorter side, in pixels, before any resize.

    Raises:
        ValueError: a resolution that is no power of two, an image from the source with another shape or dtype, or an
            ``on_error`` that is none of the three or does not go with ``quarantine``.
        EmptyDatasetError: the source has no image, or none that can be read.
        DataError: the disk or the memory is too small; also whatever ``source.read`` raises. No half-written cache is
            left.

    Warns:
        UserWarning: ``resolution`` is above ``median_side``: most images are enlarged. Images were left out.
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
        on_error: OnError = "raise",
        quarantine: str | os.PathLike[str] | None = None,
    ) -> None:
        _require_power_of_two(resolution, "resolution")
        _require_power_of_two(smallest, "smallest")
        require(smallest <= resolution, "smallest", smallest, f"at most `resolution`, which is {resolution}")
        require(workers >= 1, "workers", workers, "at least 1")
        policy = ErrorPolicy(on_error, quarantine)
        if len(source) == 0:
            raise EmptyDatasetError("the source has no image")
        powers = range(smallest.bit_length() - 1, resolution.bit_length())
        self.resolutions: tuple[int, ...] = tuple(2**power for power in powers)
        self.image_channels: int = source.image_channels
        self.classes: tuple[str, ...] = source.classes
        shapes = {size: (len(source), self.image_channels, size, size) for size in self.resolutions}
        show = sys.stderr.isatty() if progress is None else progress
        self.median_side: float
        left_out: list[LeftOut] = []
        with contextlib.closing(_read_levels(source, self.resolutions, workers, show, policy, left_out)) as levels:
            if cache_dir is None:
                self._folder: Path | None = None
                self._arrays, self.median_side = _fill_arrays(levels, shapes)
            else:
                told = left_out if policy.leaves_out else None
                cache = ArrayCache(Path(cache_dir), source.fingerprint, shapes, left_out=told)
                self._folder = cache.folder
                self._arrays, self.median_side = cache.open_or_build(levels)
        policy.conclude(left_out, len(source), stacklevel=2)
        self.left_out: tuple[LeftOut, ...] = tuple(left_out)
        self.indices: NDArray[np.int64] = np.delete(np.arange(len(source)), [entry.index for entry in left_out])
        self.fingerprint: str = fingerprint_of(source, self.indices.tolist()) if left_out else source.fingerprint
        labels = source.labels
        self.labels: NDArray[np.int64] | None = labels[self.indices] if labels is not None and left_out else labels
        if resolution > self.median_side:
            warnings.warn(
                f"`resolution` is {resolution}, but the median shorter side of the images is "
                f"{self.median_side:g} pixels: most of them are enlarged and show no more detail",
                UserWarning,
                stacklevel=2,
            )

    def __len__(self) -> int:
        return len(self.indices)

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
            self._arrays[resolution] = open_array(self._folder, resolution)
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
            DataError: the batch does not fit in memory.
            ValueError: an index, the resolution or the shape of ``mirror`` does not fit.
        """
        chosen = self._checked(indices)
        try:
            images = self.at(resolution)[chosen]
        except MemoryError as error:
            shape = [len(chosen), self.image_channels, resolution, resolution]
            raise DataError(f"a batch of shape {shape} does not fit in memory: use a smaller one ({error})") from error
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

    def _checked(self, indices: Sequence[int] | NDArray[np.integer[Any]] | Tensor) -> NDArray[np.int64]:
        chosen = indices.cpu().numpy() if isinstance(indices, Tensor) else np.asarray(indices)
        if chosen.ndim != 1 or (chosen.size and not np.issubdtype(chosen.dtype, np.integer)):
            raise ValueError(f"`indices` is {chosen.dtype} of shape {chosen.shape}, but must be integers [n]")
        if chosen.size and (chosen.min() < 0 or chosen.max() >= len(self)):
            raise ValueError(
                f"`indices` reaches from {chosen.min()} to {chosen.max()}, but must be in 0 to {len(self) - 1}"
            )
        return chosen.astype(np.int64, copy=False)


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
    source: ImageSource,
    resolutions: tuple[int, ...],
    workers: int,
    show: bool,
    policy: ErrorPolicy,
    left_out: list[LeftOut],
) -> Generator[Chunk, None, None]:
    """All images in order, in chunks of about 16 MiB, with every smaller resolution derived; the rest in left_out."""
    shape = (source.image_channels, resolutions[-1], resolutions[-1])
    length = max(1, _CHUNK_BYTES // int(np.prod(shape)))

    def read(index: int) -> tuple[Images, int] | LeftOut:
        return policy.attempt(source, index, lambda: load(index))

    def load(index: int) -> tuple[Images, int]:
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
            sides: list[int] = []
            for result in islice(results, count):
                if isinstance(result, LeftOut):
                    left_out.append(result)
                else:
                    images[len(sides)] = result[0]
                    sides.append(result[1])
                bar.update()
            levels = {resolutions[-1]: images[: len(sides)]}
            for smaller in reversed(resolutions[:-1]):
                levels[smaller] = _halve(levels[2 * smaller])
            yield levels, sides
    if len(left_out) == len(source):  # before anything is made of nothing
        policy.conclude(left_out, len(source))


def _in_order(
    read: Callable[[int], tuple[Images, int] | LeftOut], count: int, workers: int
) -> Generator[tuple[Images, int] | LeftOut, None, None]:
    """``read(0)``, ``read(1)``, ... with up to four images per thread under way."""
    if workers == 1:
        yield from map(read, range(count))
        return
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[tuple[Images, int] | LeftOut]] = deque()
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
    levels: Iterator[Chunk], shapes: dict[int, tuple[int, int, int, int]]
) -> tuple[dict[int, Images], float]:
    try:
        arrays = {size: np.empty(shape, dtype=np.uint8) for size, shape in shapes.items()}
    except MemoryError as error:
        largest, needed = shapes[max(shapes)], sum(int(np.prod(shape)) for shape in shapes.values())
        raise DataError(
            f"images of shape {list(largest)} and their smaller copies need {needed:,} bytes of memory, more than "
            "there is; give `cache_dir` to keep them on disk, or use a lower resolution"
        ) from error
    sides: list[int] = []
    for images, more_sides in levels:
        for size, array in arrays.items():
            array[len(sides) : len(sides) + len(more_sides)] = images[size]
        sides += more_sides
    for size in arrays:
        arrays[size] = arrays[size][: len(sides)]
        arrays[size].flags.writeable = False
    return arrays, float(np.median(sides))
