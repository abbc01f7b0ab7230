"""Items of a data set as pure functions of (seed, position), random augmentations and all."""

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganblocks._checks import require
from ganblocks.data.sampler import ITEM, random_words
from ganblocks.errors import DataError, GanblocksError

__all__ = ["as_pair", "kept_generators", "load_batch", "seed_generators"]


def load_batch(
    dataset: Any,
    indices: Sequence[int],
    *,
    seed: int,
    position: int,
    before_item: Callable[[int], None] | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Load the items ``indices`` of a data set, which stand at ``position`` and after in the stream.

    Before each item the global generators are seeded for its position and left as the item leaves them; see
    `kept_generators`. So item p is the same in every batch and every process, if its random numbers come from those
    generators.

    Args:
        dataset: Has ``__getitem__``; items are image tensors, or pairs of an image tensor and a label.
        indices: At least one.
        seed: An integer, 0 or above.
        position: Of the first item in the stream, 0 or above.
        before_item: Called with each item's position before it is loaded; ``None`` = nothing is.

    Returns:
        Images ``[N, ...]`` and labels ``[N]`` or ``None``, without history of gradients.

    Raises:
        DataError: If an item cannot be loaded (caused by what the data set raised), or the items cannot be stacked:
            their shapes differ, or memory is full.
            A `GanblocksError` that the data set raised passes as it is, with a note that names the item.
        TypeError: If an image is no tensor.
    """
    pairs = []
    for item_position, index in enumerate(map(int, indices), start=position):
        if before_item is not None:
            before_item(item_position)
        seed_generators(seed, item_position)
        pairs.append(as_pair(_item(dataset, index, item_position)))
    try:
        images = torch.stack([image for image, _ in pairs]).detach()
        labels = [label for _, label in pairs if label is not None]
        return images, torch.stack(labels).detach() if labels else None
    except (MemoryError, RuntimeError) as error:  # torch reports a full memory as RuntimeError on the CPU
        where = f"positions {position} to {position + len(pairs) - 1}"
        if isinstance(error, MemoryError) or "allocate" in str(error):
            shape = [len(pairs), *pairs[0][0].shape]
            raise DataError(
                f"the items at {where}, a batch of shape {shape}, do not fit in memory: use a smaller batch ({error})"
            ) from error
        raise DataError(f"the items at {where} do not make one batch, all shapes must be equal: {error}") from error


def seed_generators(seed: int, position: int) -> None:
    """Seed the global generators of Python, NumPy (legacy) and torch (CPU) with words of their own.

    CUDA generators are left alone, which ``torch.manual_seed`` would not do.

    Args:
        seed: An integer, 0 or above.
        position: An integer, 0 or above.
    """
    words = random_words(seed, ITEM, position, 9)
    random.seed(int.from_bytes(words[:4].astype("<u8").tobytes(), "little"))
    np.random.seed(words[4:8].astype("<u8").view("<u4").astype(np.uint32))
    torch.default_generator.manual_seed(int(words[8]) >> 1)


@contextlib.contextmanager
def kept_generators() -> Iterator[None]:
    """Put the global generators of Python, NumPy (legacy) and torch (CPU) back at the end, whatever happened."""
    states = random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def as_pair(item: Any) -> tuple[Tensor, Tensor | None]:
    """Images and labels of what a data set or an iterable gives: a tensor, or a tuple or list that begins with both.

    Args:
        item: A tensor alone (in a tuple or not) has no labels, nor has one with ``None``.

    Raises:
        TypeError: If the images are no tensor.
    """
    images, labels = (*item, None, None)[:2] if isinstance(item, (tuple, list)) else (item, None)
    require(isinstance(images, Tensor), "images", type(images).__name__, "a tensor", TypeError)
    return images, None if labels is None else torch.as_tensor(labels)


def _item(dataset: Any, index: int, position: int) -> Any:
    try:
        return dataset[index]
    except GanblocksError as error:
        error.add_note(f"This was item {index} of the data set, at position {position} of the stream.")
        raise
    except Exception as error:
        raise DataError(
            f"item {index} of the data set (position {position} of the stream) could not be loaded: "
            f"{type(error).__name__}: {error}"
        ) from error
