"""All images of a source once, in order, at one resolution, batch by batch: what a measurement reads."""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganblocks._checks import require
from ganblocks.data.source import ImageSource
from ganblocks.errors import DataError, EmptyDatasetError

__all__ = ["ImageStream", "chosen_indices", "common_side", "warn_of_compression"]

_LOSSY = {".jpg", ".jpeg", ".jfif", ".webp"}


class ImageStream:
    """Batches ``[N, C, resolution, resolution]`` of bytes; can be read any number of times, and memory holds one batch.

    Args:
        source: Where the images come from.
        resolution: Side in pixels.
        indices: Which of them, in this order; ``None`` = all.
        batch_size: Images of a batch; the last one may have fewer.
        skip_damaged: Whether an image that cannot be read is left out (and listed in ``skipped``) instead of raising.
        workers: Threads that read.

    Attributes:
        skipped: Index of each image left out by the newest reading, and why.

    Raises:
        ValueError: A number is below 1.
    """

    def __init__(
        self,
        source: ImageSource,
        resolution: int,
        *,
        indices: Sequence[int] | None = None,
        batch_size: int = 64,
        skip_damaged: bool = False,
        workers: int = 1,
    ) -> None:
        for name, value in (("resolution", resolution), ("batch_size", batch_size), ("workers", workers)):
            require(value >= 1, name, value, "at least 1")
        self.source = source
        self.resolution = resolution
        self.indices: list[int] = list(range(len(source))) if indices is None else [int(index) for index in indices]
        self.batch_size = batch_size
        self.skip_damaged = skip_damaged
        self.workers = workers
        self.skipped: dict[int, str] = {}

    def __len__(self) -> int:
        """Images to be read, damaged ones included."""
        return len(self.indices)

    def __iter__(self) -> Iterator[Tensor]:
        """Read them once.

        Raises:
            DataError: An image cannot be read, and is not to be left out.
            EmptyDatasetError: There is none, or none that can be read.
        """
        self.skipped = {}
        waiting: list[NDArray[np.uint8]] = []
        with ThreadPoolExecutor(self.workers) as pool:
            seen = 0
            for start in range(0, len(self.indices), self.batch_size):
                for index, image in pool.map(self._read, self.indices[start : start + self.batch_size]):
                    if isinstance(image, str):
                        self.skipped[index] = image
                    else:
                        waiting.append(image)
                        seen += 1
                while len(waiting) >= self.batch_size:
                    yield _stacked(waiting[: self.batch_size])
                    waiting = waiting[self.batch_size :]
            if waiting:
                yield _stacked(waiting)
        if not seen:
            reasons = "; ".join(list(self.skipped.values())[:3])
            raise EmptyDatasetError(
                f"none of the {len(self.indices)} images could be read: {reasons or 'there is none'}"
            )

    def _read(self, index: int) -> tuple[int, NDArray[np.uint8] | str]:
        try:
            return index, self.source.read(index, self.resolution)
        except DataError as error:
            if not self.skip_damaged:
                raise
            return index, str(error)


def chosen_indices(count: int, most: int | None, *, seed: int = 0) -> list[int]:
    """At most ``most`` of ``count`` images, drawn without replacement, in their own order; all where they are fewer.

    Raises:
        ValueError: ``most`` is below 1.
    """
    require(most is None or most >= 1, "most", most, "None or at least 1")
    if most is None or count <= most:
        return list(range(count))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return sorted(order[:most].tolist())


def common_side(source: ImageSource, *, skip_damaged: bool = False, option: str = "resolution") -> int:
    """The shorter side in pixels that all images of a source share, by their headers.

    Args:
        source: Where the images come from.
        skip_damaged: Whether an image whose header cannot be read does not count instead of raising.
        option: What the message tells to give instead.

    Raises:
        DataError: A header cannot be read.
        ValueError: There are several sizes; nothing is chosen in silence, because it decides what is measured.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    for index in range(len(source)):
        try:
            sizes[source.size(index)] += 1
        except DataError:
            if not skip_damaged:
                raise
    require(len(sizes) > 0, "source", source, "a source with an image that can be read")
    sides = {min(size) for size in sizes}
    if len(sides) > 1:
        smallest, largest = min(sizes, key=_area), max(sizes, key=_area)
        raise ValueError(
            f"the images have {len(sizes)} different sizes, from {smallest[0]}x{smallest[1]} to "
            f"{largest[0]}x{largest[1]}: say `{option}`, the side in pixels to which all are brought"
        )
    return sides.pop()


def warn_of_compression(names: Sequence[str], what: str) -> None:
    """Warn where lossy and lossless files lie side by side: distances see compression as a difference of content.

    Args:
        names: Of the files.
        what: They are, for the message.
    """
    lossy = sum(PurePosixPath(name).suffix.lower() in _LOSSY for name in names)
    if 0 < lossy < len(names):
        warnings.warn(
            f"{what}: {lossy} of {len(names)} images are compressed with loss (JPEG, WebP), the others are not; "
            "distances to other images see that. Keep all of them in one format, generated ones as PNG",
            UserWarning,
            stacklevel=2,
        )


def _stacked(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(images))


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]
