"""Images of one size that are all in memory, as batches: for small sets, of any size in pixels."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from ganblocks._checks import require, require_rank
from ganblocks.data.sampler import ResumableSampler
from ganblocks.data.source import ImageSource
from ganblocks.errors import EmptyDatasetError

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
        self.sampler = ResumableSampler(len(images), seed=seed)

    def batch(self, images_seen: int, count: int, resolution: int | None) -> tuple[Tensor, Tensor | None]:
        """``[count, ...]`` that owns its memory, and labels ``[count]`` or ``None``; ``resolution`` is not used."""
        indices = torch.from_numpy(self.sampler.indices(images_seen, count)).to(self.images.device)
        images = self.images.index_select(0, indices)  # whole rows: several times faster than `images[indices]`
        if self.mirror:
            flipped = torch.from_numpy(self.sampler.mirror(images_seen, count)).to(images.device)
            images[flipped] = images[flipped].flip(-1)
        return images, None if self.labels is None else self.labels[indices.to(self.labels.device)]


def read_images(
    source: ImageSource, resolution: int, *, indices: Iterable[int] | None = None
) -> tuple[Tensor, Tensor | None]:
    """Read images of a source into memory.

    Args:
        source: Where they come from.
        resolution: Their side in pixels; any, not only powers of two.
        indices: Which images, in this order; ``None`` = all.

    Returns:
        Images uint8 ``[N, C, resolution, resolution]``, and labels int64 ``[N]`` or ``None``.

    Raises:
        EmptyDatasetError: There is no image.
        DataError: An image cannot be read.
        ValueError: An index or the resolution is out of range.
    """
    chosen = np.arange(len(source)) if indices is None else np.array(list(indices), dtype=np.int64)
    if len(chosen) == 0:
        raise EmptyDatasetError("there is no image to read")
    require(resolution >= 1, "resolution", resolution, "at least 1")
    images = np.empty((len(chosen), source.image_channels, resolution, resolution), dtype=np.uint8)
    for position, index in enumerate(chosen):
        images[position] = source.read(int(index), resolution)
    labels = None if source.labels is None else torch.from_numpy(source.labels[chosen].astype(np.int64))
    return torch.from_numpy(images), labels
