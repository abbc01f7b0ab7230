"""One pass over a set of images, and what of it the metrics need afterwards."""

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ganblocks._checks import require_rank
from ganblocks.errors import DistributedError, EmptyDatasetError
from ganblocks.metrics.features import Extracted, FeatureExtractor, as_bytes
from ganblocks.metrics.sharding import gather_rows, largest_of_all, require_same_text
from ganblocks.metrics.statistics import RunningStatistics

__all__ = ["ImageSet", "collect_images"]


@dataclass
class ImageSet:
    """What a pass over a set of images has left.

    Attributes:
        count: Images.
        shape: Of an image, C, H and W.
        fingerprint: Of the features: extractor, size of the images, preparation. ``None`` without features.
        statistics: Moments of the features, where they were asked for.
        rows: Features ``[N, D]``, or nothing.
        logits: ``[N, K]``, or nothing.
        images: The first ones as bytes ``[M, C, H, W]``, as many as were asked for.
    """

    count: int = 0
    shape: tuple[int, ...] = ()
    fingerprint: str | None = None
    statistics: RunningStatistics | None = None
    rows: Tensor = field(default_factory=lambda: torch.empty(0))
    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    images: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.uint8))


def collect_images(
    kind: str,
    batches: Iterable[Tensor],
    *,
    extractor: FeatureExtractor | None = None,
    features: frozenset[str] = frozenset(),
    most_images: int = 0,
    preparation: str = "",
    sharded: bool = False,
    progress: Callable[[int], None] | None = None,
) -> ImageSet:
    """Read a set once.

    Args:
        kind: What the set is called in messages.
        batches: Images ``[N, C, H, W]`` of one size, uint8 or in [-1, 1].
        extractor: Makes the features; needed where some are asked for.
        features: Of ``"statistics"``, ``"rows"`` and ``"logits"``.
        most_images: Images kept as bytes, the first ones.
        preparation: How the images came to this size, for the fingerprint.
        sharded: Whether every process reads its part, rank r the images r, r + world size, and so on.
        progress: Called with the images read so far.

    Raises:
        EmptyDatasetError: There is no image.
        ValueError: Images of several sizes, values outside [-1, 1], or logits from a network that gives none.
        MetricError: A value is NaN or infinite.
        DistributedError: Another process failed, or has images of another size or another extractor.
    """
    found, failure = ImageSet(), None
    try:
        found = _read(kind, batches, extractor, features, most_images, preparation, progress)
    except Exception as error:
        failure = error
    if sharded and largest_of_all(int(failure is not None)) and failure is None:
        raise DistributedError(f"another process could not read its part of `{kind}`; its own message tells why")
    if failure is not None:
        raise failure
    if not sharded:
        return found
    require_same_text(f"{found.shape} {found.fingerprint}", f"the parts of `{kind}`")
    return ImageSet(
        count=len(gather_rows(torch.zeros(found.count, dtype=torch.uint8))),
        shape=found.shape,
        fingerprint=found.fingerprint,
        statistics=None if found.statistics is None else found.statistics.reduce(),
        rows=gather_rows(found.rows),
        logits=gather_rows(found.logits),
        images=gather_rows(found.images)[:most_images],
    )


def _read(
    kind: str,
    batches: Iterable[Tensor],
    extractor: FeatureExtractor | None,
    features: frozenset[str],
    most_images: int,
    preparation: str,
    progress: Callable[[int], None] | None,
) -> ImageSet:
    """The pass of one process."""
    kept: list[Tensor] = []
    found = ImageSet()

    def watched() -> Iterator[Tensor]:
        for batch in batches:
            require_rank(batch, kind, 4, 4)
            if len(batch) == 0:
                continue
            pixels = as_bytes(batch, kind)
            found.shape = found.shape or tuple(pixels.shape[1:])
            if tuple(pixels.shape[1:]) != found.shape:
                raise ValueError(
                    f"`{kind}` has images of {_size(found.shape)} and of {_size(pixels.shape[1:])}; all must have one "
                    "size"
                )
            room = max(0, most_images - sum(map(len, kept)))
            if room:
                kept.append(pixels[:room].cpu())
            yield pixels
            found.count += len(batch)
            if progress is not None:
                progress(found.count)

    stream = watched()
    first = next(stream, None)
    if first is None:
        raise EmptyDatasetError(f"`{kind}` has no image")
    rest = itertools.chain([first], stream)
    if extractor is None or not features:
        collections.deque(rest, maxlen=0)
    else:
        made: Extracted = extractor.extract(
            rest,
            statistics="statistics" in features,
            rows="rows" in features,
            logits="logits" in features,
            preparation=preparation,
        )
        found.fingerprint, found.statistics = made.fingerprint, made.statistics
        found.rows = found.rows if made.rows is None else made.rows
        found.logits = found.logits if made.logits is None else made.logits
    if kept:
        found.images = torch.cat(kept)
    return found


def _size(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))
