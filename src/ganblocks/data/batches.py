"""Where a training loop gets its batches from: positions in an endless, repeatable stream of images."""

import math
from collections.abc import Iterable, Iterator, Sized
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganblocks._checks import require
from ganblocks.data.items import as_pair, kept_generators, load_batch, seed_generators
from ganblocks.data.multi_resolution import MultiResolutionImages
from ganblocks.data.sampler import ResumableSampler
from ganblocks.data.workers import WorkerBatches
from ganblocks.errors import DataError, EmptyDatasetError

__all__ = [
    "Batches",
    "DatasetBatches",
    "IterableBatches",
    "LoadsAhead",
    "ProgressiveBatches",
    "as_batches",
    "part_of_batch",
]


@runtime_checkable
class Batches(Protocol):
    """A stream of images that can be entered at any position."""

    def batch(self, images_seen: int, count: int, resolution: int | None) -> tuple[Tensor, Tensor | None]:
        """Images ``images_seen`` to ``images_seen + count - 1`` of the stream, and their labels or ``None``."""
        ...


@runtime_checkable
class LoadsAhead(Batches, Protocol):
    """A stream that loads a batch before it is asked for.

    Attributes:
        parts: Processes that share each batch: what this one is asked for next begins ``count * parts`` images later.
            `part_of_batch` sets it.
    """

    parts: int


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
        self.sampler: ResumableSampler = ResumableSampler(len(images) if indices is None else indices, seed=seed)

    def batch(self, images_seen: int, count: int, resolution: int | None) -> tuple[Tensor, Tensor | None]:
        """``[count, C, R, R]`` uint8 and labels ``[count]`` or ``None``; R is the largest for ``None``."""
        indices = self.sampler.indices(images_seen, count)
        mirror = self.sampler.mirror(images_seen, count) if self.mirror else None
        size = max(self.images.resolutions) if resolution is None else resolution
        return self.images.batch(indices, size, mirror=mirror), self.images.labels_of(indices)


class DatasetBatches:
    """Batches of any map-style data set: items are image tensors, or pairs of an image tensor and a label.

    The item at a position of the stream is a pure function of the seed, the position and the data set, whatever the
    number of workers, the size of the batches and the position where a run goes on: before each item the global
    generators of Python, NumPy (``np.random.random()`` and the like) and torch (CPU) are seeded from seed and position,
    so random augmentations of the data set's differ between items and between epochs, and repeat in a repeated run.
    Outside of the data set the generators are as if nothing had been drawn. Generators that the data set makes for
    itself are its own business.

    Args:
        dataset: Has ``__len__`` and ``__getitem__``. With workers it is pickled and sent to each of them, so its class
            stands in a module or behind ``if __name__ == "__main__":`` in a script, not in a notebook.
        seed: Order and random numbers are pure functions of it and the position.
        workers: Processes that load ahead; 0 = items are loaded when they are asked for, in this process. Each has one
            thread and takes a second or so to start, the first time a batch is asked for.
        timeout_seconds: Longest wait for one batch of the workers, above 0.

    Raises:
        EmptyDatasetError: If the data set has no items.
        ValueError: If a number is out of range.
    """

    def __init__(self, dataset: Any, *, seed: int = 0, workers: int = 0, timeout_seconds: float = 300.0) -> None:
        require(workers >= 0, "workers", workers, "0 or above")
        require(0 < timeout_seconds < math.inf, "timeout_seconds", timeout_seconds, "above 0 and finite")
        if len(dataset) == 0:
            raise EmptyDatasetError("`dataset` has no items")
        self.dataset = dataset
        self.sampler: ResumableSampler = ResumableSampler(len(dataset), seed=seed)
        self.workers = workers
        self.parts = 1  # processes that share each batch
        self._workers: WorkerBatches | None = None
        if workers:
            self._workers = WorkerBatches(dataset, self.sampler, workers=workers, timeout_seconds=timeout_seconds)

    def batch(self, images_seen: int, count: int, resolution: int | None) -> tuple[Tensor, Tensor | None]:
        """``count`` items, at least 1, stacked; ``resolution`` is not used.

        Raises:
            DataError: If an item cannot be loaded, or the items do not make one batch.
            WorkerDiedError: If a worker was killed, ended, or gave nothing within ``timeout_seconds``. A later call
                starts new ones.
            TypeError: If an image is no tensor, or the data set cannot be sent to a worker.
        """
        require(count >= 1, "count", count, "at least 1")
        if self._workers is not None:
            return self._workers.batch(images_seen, count, stride=count * self.parts)
        indices = self.sampler.indices(images_seen, count).tolist()
        with kept_generators():
            return load_batch(self.dataset, indices, seed=self.sampler.seed, position=images_seen)

    def close(self) -> None:
        """End the workers; also done when nothing refers to the stream any more. May be called again."""
        if self._workers is not None:
            self._workers.close()


class IterableBatches:
    """Any iterable of batches, begun anew whenever it ends. The iterable decides the size of its batches.

    To go on at a position, the iterable is started and the batches before the position are passed over. Whenever it is
    asked for a batch, the global generators of Python, NumPy and torch are seeded for the position, and put back
    afterwards. So what a ``DataLoader`` draws from them (its shuffling, the seeds of its workers, random augmentations)
    is the same in a resumed run, differs between epochs, and does not disturb training. An iterable with a generator
    of its own must begin anew with the same state.

    Args:
        batches: Its items are image tensors ``[N, ...]``, or pairs of images and labels.
        seed: What is drawn from the global generators is a pure function of it and the position.
    """

    def __init__(self, batches: Iterable[Any], *, seed: int = 0) -> None:
        self.batches = batches
        self.seed = seed
        self.position: int = 0
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
            with kept_generators():
                seed_generators(self.seed, self.position)
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
            images, labels = as_pair(item)
            if len(images) > 0:
                return images, labels
        raise EmptyDatasetError("`batches` gives no images (an iterator that is used up? pass an iterable)")


def part_of_batch(
    batches: Batches, images_seen: int, count: int, resolution: int | None, *, part: int, parts: int
) -> tuple[Tensor, Tensor | None]:
    """One of several equal parts of a batch, for a process that shares it with others.

    Args:
        batches: The stream.
        images_seen: Where the whole batch begins.
        count: Images of the whole batch.
        resolution: As `Batches.batch` takes it.
        part: Which part, 0 to ``parts - 1``; they follow each other in the batch.
        parts: How many.

    Raises:
        ValueError: If ``count`` cannot be divided by ``parts``.
        DataError: If the size of a batch of an iterable cannot.
    """
    if parts == 1:
        return batches.batch(images_seen, count, resolution)
    if isinstance(batches, IterableBatches):  # it decides the size itself, so everyone looks at all of it
        images, labels = batches.batch(images_seen, count, resolution)
        if len(images) % parts:
            raise DataError(f"a batch of {len(images)} images cannot be divided among {parts} processes")
        rows = slice(part * len(images) // parts, (part + 1) * len(images) // parts)
        return images[rows], None if labels is None else labels[rows]
    require(count % parts == 0, "count", count, f"divisible by the number of processes, {parts}")
    size = count // parts
    if isinstance(batches, LoadsAhead):
        batches.parts = parts  # what is loaded ahead lies beyond the others' parts
    return batches.batch(images_seen + part * size, size, resolution)


def as_batches(data: Any, *, seed: int = 0, workers: int = 0) -> Batches:
    """Make a stream of whatever the user has.

    Args:
        data: A `Batches` (returned as it is), a `MultiResolutionImages`, a map-style data set, or an iterable of
            batches such as a ``DataLoader``.
        seed: Of the order, where we choose it.
        workers: Processes that load the items of a map-style data set; see `DatasetBatches`. 0 for everything else,
            which either loads by itself or has nothing to wait for.

    Raises:
        TypeError: If ``data`` is none of these. A single tensor is not: its first axis could be images or batches.
        ValueError: If ``workers`` is below 0, or not 0 for something else than a map-style data set.
    """
    stream: Batches
    if isinstance(data, MultiResolutionImages):
        stream = ProgressiveBatches(data, seed=seed)
    elif isinstance(data, Batches):
        stream = data
    elif isinstance(data, torch.utils.data.Dataset) and isinstance(data, Sized) and hasattr(data, "__getitem__"):
        return DatasetBatches(data, seed=seed, workers=workers)
    else:
        kind = type(data).__name__
        wanted = "a data set or an iterable of batches; TensorBatches(images) makes one of a tensor of images"
        require(not isinstance(data, torch.Tensor), "data", kind, wanted, TypeError)
        require(isinstance(data, Iterable), "data", kind, "a data set or an iterable of batches", TypeError)
        stream = IterableBatches(data, seed=seed)
    require(workers == 0, "workers", workers, f"0 for a {type(data).__name__}: only a map-style data set has workers")
    return stream
