"""Images of one size that are all in memory, as batches: for small sets, of any size in pixels."""

import math
import os
from collections.abc import Iterable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ganblocks._checks import require, require_rank
from ganblocks.data.sampler import ResumableSampler
from ganblocks.data.source import ImageSource
from ganblocks.data.unreadable import ErrorPolicy, LeftOut, OnError
from ganblocks.errors import DataError, EmptyDatasetError

__all__ = ["TensorBatches", "read_images"]


class TensorBatches:
    """Batches of one tensor of images, in an order that is a pure function of seed and position.

    Args:
        images: ``[N, ...]``, uint8 or float; not copied.
        labels: ``[N]``; ``None`` = no labels.
        seed: Order and mirroring are pure functions of it and the position.
        mirror: Whether each image is flipped along its last dimension with probability 1/2.

    Raises:
        EmptyDatasetError: There is no image.
        ValueError: The labels are not one for each image, or images to mirror have fewer than 2 dimensions each.
    """

    def __init__(self, images: Tensor, labels: Tensor | None = None, *, seed: int = 0, mirror: bool = False) -> None:
        require_rank(images, "images", 3 if mirror else 1)
        if len(images) == 0:
            raise EmptyDatasetError("`images` has none")
        if labels is not None:
            require_rank(labels, "labels", 1, 1)
            require(len(labels) == len(images), "labels", tuple(labels.shape), f"[{len(images)}], one an image")
        self.images = images
        self.labels = labels
        self.mirror = mirror
        self.sampler: ResumableSampler = ResumableSampler(len(images), seed=seed)

    def batch(self, images_seen: int, count: int, resolution: int | None) -> tuple[Tensor, Tensor | None]:
        """``[count, ...]`` that owns its memory, and labels ``[count]`` or ``None``; ``resolution`` is not used."""
        indices = torch.from_numpy(self.sampler.indices(images_seen, count)).to(self.images.device)
        images = self.images.index_select(0, indices)  # whole rows: several times faster than `images[indices]`
        if self.mirror:
            flipped = torch.from_numpy(self.sampler.mirror(images_seen, count)).to(images.device)
            images[flipped] = images[flipped].flip(-1)
        return images, None if self.labels is None else self.labels[indices.to(self.labels.device)]


def read_images(
    source: ImageSource,
    resolution: int,
    *,
    indices: Iterable[int] | None = None,
    on_error: OnError = "raise",
    quarantine: str | os.PathLike[str] | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Read images of a source into memory.

    Args:
        source: Where they come from.
        resolution: Their side in pixels; any, not only powers of two.
        indices: Which images, in this order; ``None`` = all.
        on_error: What to do with an image that the source cannot read (``DataError``): "raise"; "skip" = leave it out,
            keep the order of the others, and warn once; "quarantine" = as "skip", and write the list to ``quarantine``.
        quarantine: File for the list, JSON; given for "quarantine" only. Nothing of the source is moved.

    Returns:
        Images uint8 ``[N, C, resolution, resolution]``, and labels int64 ``[N]`` or ``None``; N is the number of those
        that were read.

    Raises:
        EmptyDatasetError: There is no image, or none that can be read.
        DataError: An image cannot be read, or all of them do not fit in memory.
        ValueError: An index or the resolution is out of range; ``on_error`` does not go with ``quarantine``.

    Warns:
        UserWarning: Images were left out; the message says how many.
    """
    policy = ErrorPolicy(on_error, quarantine)
    chosen = np.arange(len(source)) if indices is None else np.array(list(indices), dtype=np.int64)
    if len(chosen) == 0:
        raise EmptyDatasetError("there is no image to read")
    require(resolution >= 1, "resolution", resolution, "at least 1")
    shape = (len(chosen), source.image_channels, resolution, resolution)
    try:
        images = np.empty(shape, dtype=np.uint8)
    except MemoryError as error:
        needed = math.prod(map(int, shape))
        raise DataError(
            f"images of shape {list(shape)} need {needed:,} bytes of memory, more than there is; use fewer images or a "
            "lower resolution"
        ) from error
    used: list[int] = []
    left_out: list[LeftOut] = []
    for index in map(int, chosen):
        image = policy.attempt(source, index, partial(source.read, index, resolution))
        if isinstance(image, LeftOut):
            left_out.append(image)
        else:
            images[len(used)] = image
            used.append(index)
    policy.conclude(left_out, len(chosen), stacklevel=2)
    labels = None if source.labels is None else torch.from_numpy(source.labels[used].astype(np.int64))
    return torch.from_numpy(images[: len(used)]), labels
