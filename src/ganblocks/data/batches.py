"""Where a training loop gets its batches from: positions in an endless, repeatable stream of images."""

from collections.abc import Iterable, Iterator, Sized
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganblocks._checks import require
from ganblocks.data.multi_resolution import MultiResolutionImages
from ganblocks.data.sampler import ResumableSampler
from ganblocks.errors import DataError, EmptyDatasetError

__all__ = ["Batches", "DatasetBatches", "IterableBatches", "ProgressiveBatches", "as_batches"]


@runtime_checkable
class Batches(Protocol):
    """A stream of images that can be entered at any position."""

    def batch(self, images_seen: int, count: int, resolution: int | None) -> tuple[Tensor, Tensor | None]:
        """Images ``images_seen`` to ``images_seen + count - 1`` of the stream, and their labels or ``None``."""
        ...


class ProgressiveBatches:
    """Batches of a `MultiResolutionImages`, in any of its resolutions.

    Args:
        images: The cache.
        indices: Images that take part (a training split); ``None`` = all.
        seed: Order and mirroring are pure functions of it and the position.
        mirror: Whether each image is flipped left-right with probability 1/2.
    """

    def __init__(
        self,
        images: MultiResolutionImages,
        *,
        indices: NDArray[np.int64] | None = None,
        seed: int = 0,
        mirror: bool = True,
    ) -> None:
        self.images = images
        self.mirror = mirror
        self.sampler = ResumableSampler(len(images) if indices is None else indices, seed=seed)

    def batch(self, images_seen: int, count: int, resolution: int | None) -> tuple[Tensor, Tensor | None]:
        """``[count, C, R, R]`` uint8 and labels ``[count]`` or ``None``; R is the largest for ``None``."""
        indices = self.sampler.indices(images_seen, count)
        mirror = self.sampler.mirror(images_seen, count) if self.mirror else None
        size = max(self.images.resolutions) if resolution is None else resolution
        return self.images.batch(indices, size, mirror=mirror), self.images.labels_of(indices)


class DatasetBatches:
    """Batches of any map-style data set: items are image tensors, or pairs of an image tensor and a label.

    Args:
        dataset: Has ``__len__`` and ``__getitem__``.
        seed: The order is a pure function of it and the position.

    Raises:
        EmptyDatasetError: If the data set has no items.
    """

    def __init__(self, dataset: Any, *, seed: int = 0) -> None:
        if len(dataset) == 0:
            raise EmptyDatasetError("`dataset` has no items")
        self.dataset = dataset
        self.sampler = ResumableSampler(len(dataset), seed=seed)

    def batch(self, images_seen: int, count: int, resolution: int | None) -> tuple[Tensor, Tensor | None]:
        """``count`` items, stacked; ``resolution`` is not used."""
        return _stacked([self.dataset[int(index)] for index in self.sampler.indices(images_seen, count)])


class IterableBatches:
    """Any iterable of batches, begun anew whenever it ends. The iterable decides the size of its batches.

    To go on at a position, the iterable is started and the batches before the position are passed over. So a resumed
    run sees the same images only where the iterable gives the same ones each time.

    Args:
        batches: Its items are image tensors ``[N, ...]``, or pairs of images and labels.
    """

    def __init__(self, batches: Iterable[Any]) -> None:
        self.batches = batches
        self.position = 0
        self._iterator: Iterator[Any] | None = None

    def batch(self, images_seen: int, count: int, resolution: int | None) -> tuple[Tensor, Tensor | None]:
        """The next batch at position ``images_seen``; ``count`` and ``resolution`` are not used.

        Raises:
            EmptyDatasetError: If the iterable gives nothing.
            DataError: If no batch of the iterable begins at that position.
        """
        if images_seen < self.position:
            self._iterator, self.position = None, 0
        while True:
            images, labels = self._next()
            start, self.position = self.position, self.position + len(images)
            if start == images_seen:
                return images, labels
            if start > images_seen:
                raise DataError(f"no batch begins after {images_seen} images: has the size of the batches changed?")

    def _next(self) -> tuple[Tensor, Tensor | None]:
        for _ in range(2):
            if self._iterator is None:
                self._iterator = iter(self.batches)
            try:
                item = next(self._iterator)
            except StopIteration:
                self._iterator = None
                continue
            images, labels = _pair(item)
            if len(images) > 0:
                return images, labels
        raise EmptyDatasetError("`batches` gives no images (an iterator that is used up? pass an iterable)")


def as_batches(data: Any, *, seed: int = 0) -> Batches:
    """Make a stream of whatever the user has.

    Args:
        data: A `Batches` (returned as it is), a `MultiResolutionImages`, a map-style data set, or an iterable of
            batches such as a ``DataLoader``.
        seed: Of the order, where we choose it.

    Raises:
        TypeError: If ``data`` is none of these.
    """
    if isinstance(data, MultiResolutionImages):
        return ProgressiveBatches(data, seed=seed)
    if isinstance(data, Batches):
        return data
    if isinstance(data, torch.utils.data.Dataset) and isinstance(data, Sized) and hasattr(data, "__getitem__"):
        return DatasetBatches(data, seed=seed)
    require(isinstance(data, Iterable), "data", type(data).__name__, "a data set or an iterable of batches", TypeError)
    return IterableBatches(data)


def _pair(item: Any) -> tuple[Tensor, Tensor | None]:
    images, labels = (item[0], item[1]) if isinstance(item, (tuple, list)) else (item, None)
    require(isinstance(images, Tensor), "images", type(images).__name__, "a tensor", TypeError)
    return images, None if labels is None else torch.as_tensor(labels)


def _stacked(items: list[Any]) -> tuple[Tensor, Tensor | None]:
    pairs = [_pair(item) for item in items]
    images = torch.stack([image for image, _ in pairs])
    labels = [label for _, label in pairs if label is not None]
    return images, torch.stack(labels) if labels else None
