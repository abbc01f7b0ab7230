"""The order of training images as a pure function of (seed, images seen), so restarts and workers do not matter."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ganblocks._checks import require

__all__ = ["ITEM", "ResumableSampler", "random_words", "split"]

# What a stream of random words is for; part of its seed, so that no two uses share a stream.
_ORDER, _MIRROR, _SPLIT = 1, 2, 3
ITEM = 4  # the random numbers of one item of a data set, see `ganblocks.data.items`; 5 and 6 are those of `stratified`
_BLOCK = 4096  # positions whose mirror bits are drawn together


class ResumableSampler:
    """An endless stream of image indices, one shuffled epoch after another, that can be entered at any position.

    There is no state to save: position p of the stream depends on the seed and p alone, however the stream is cut
    into batches. It is made of the raw words of a bit generator, which NumPy keeps the same in all versions.

    Args:
        size: The number of images N (the stream then holds 0 to N - 1), or the indices themselves, such as the train
            part of ``split``; an index that stands there twice is drawn twice an epoch.
        seed: An integer, 0 or above.

    Attributes:
        size: Images in an epoch.
        seed: The seed.

    Raises:
        ValueError: no image, a negative index, a negative seed.
        TypeError: indices that are no integers.
    """

    def __init__(self, size: int | Sequence[int] | NDArray[np.int64], *, seed: int) -> None:
        self._indices: NDArray[np.int64] | None = None
        if isinstance(size, int | np.integer):
            self.size: int = int(size)
            require(self.size >= 1, "size", self.size, "at least 1")
        else:
            self._indices = _as_indices(size)
            self.size = len(self._indices)
        require(seed >= 0, "seed", seed, "0 or above")
        self.seed = seed
        self._epochs: dict[int, NDArray[np.int64]] = {}

    def __repr__(self) -> str:
        return f"ResumableSampler(size={self.size}, seed={self.seed})"

    def indices(self, images_seen: int, count: int) -> NDArray[np.int64]:
        """The indices at positions ``images_seen`` to ``images_seen + count - 1`` of the stream, int64 [count].

        Args:
            images_seen: Images consumed before, 0 or above.
            count: Images wanted; they may span several epochs.
        """
        _require_range(images_seen, count)
        result = np.empty(count, dtype=np.int64)
        filled = 0
        while filled < count:
            epoch, offset = divmod(images_seen + filled, self.size)
            part = self._epoch(epoch)[offset : offset + count - filled]
            result[filled : filled + len(part)] = part
            filled += len(part)
        return result

    def mirror(self, images_seen: int, count: int) -> NDArray[np.bool_]:
        """Whether to flip the image at each of these positions left to right, bool [count]; true with probability 1/2.

        Args:
            images_seen: Images consumed before, 0 or above.
            count: Images wanted.
        """
        _require_range(images_seen, count)
        if count == 0:
            return np.zeros(0, dtype=np.bool_)
        first = images_seen // _BLOCK
        last = (images_seen + count - 1) // _BLOCK
        words = np.concatenate(
            [random_words(self.seed, _MIRROR, block, _BLOCK // 64) for block in range(first, last + 1)]
        )
        bits = np.unpackbits(words.astype("<u8").view(np.uint8), bitorder="little").view(np.bool_)
        start = images_seen - first * _BLOCK
        return bits[start : start + count].copy()

    def _epoch(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._epochs:
            order = _permutation(self.size, self.seed, _ORDER, epoch)
            if len(self._epochs) == 2:  # enough for a batch that ends one epoch and begins the next
                del self._epochs[next(iter(self._epochs))]
            self._epochs[epoch] = order if self._indices is None else self._indices[order]
        return self._epochs[epoch]


def split(count: int, held_out: int, *, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide ``count`` images at random, the same way every time, into a train part and a held-out part.

    Args:
        count: The number of images.
        held_out: Images in the second part; at least one stays in the first.
        seed: An integer, 0 or above; another seed, another division.

    Returns:
        The indices to train on [count - held_out] and the held-out ones [held_out], int64, each ascending. Together
        they are 0 to count - 1.

    Raises:
        ValueError: ``held_out`` is not in [0, count), or the seed is negative.
    """
    require(0 <= held_out < count, "held_out", held_out, f"from 0 to below `count`, which is {count}")
    require(seed >= 0, "seed", seed, "0 or above")
    order = _permutation(count, seed, _SPLIT, 0)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def random_words(seed: int, purpose: int, block: int, count: int) -> NDArray[np.uint64]:
    """Random words as a pure function of what they are for and where they stand, the same in all versions of NumPy.

    Args:
        seed: An integer, 0 or above.
        purpose: What they are for, one of the constants above.
        block: Which stretch of that stream, 0 or above.
        count: Words wanted.

    Returns:
        uint64 [count], uniform over all values. The first n of more words are the n of fewer.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(purpose, block))
    return np.random.Philox(sequence).random_raw(count)


def _permutation(size: int, seed: int, purpose: int, block: int) -> NDArray[np.int64]:
    """0 to size - 1 in the order of as many random words (``Generator.permutation`` may change between versions)."""
    return np.argsort(random_words(seed, purpose, block, size), kind="stable").astype(np.int64, copy=False)


def _as_indices(values: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    indices = np.asarray(values)
    if indices.ndim != 1 or indices.size == 0:
        raise ValueError(f"`size` has shape {indices.shape}, but must be a number or a non-empty list of indices")
    if not np.issubdtype(indices.dtype, np.integer):
        raise TypeError(f"`size` holds {indices.dtype}, but indices must be integers")
    if indices.min() < 0:
        raise ValueError(f"`size` holds the index {indices.min()}, but indices must be 0 or above")
    return indices.astype(np.int64)


def _require_range(images_seen: int, count: int) -> None:
    require(images_seen >= 0, "images_seen", images_seen, "0 or above")
    require(count >= 0, "count", count, "0 or above")
