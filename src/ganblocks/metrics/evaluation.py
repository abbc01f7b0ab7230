"""From two sets of images to a table of scores: one pass over each set, every feature computed once."""

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ganblocks._checks import require, require_rank
from ganblocks.errors import EmptyDatasetError
from ganblocks.functional.image_range import to_uint8
from ganblocks.metrics.features import Extracted, FeatureExtractor
from ganblocks.metrics.frechet import frechet_distance
from ganblocks.metrics.inception_score import inception_score
from ganblocks.metrics.kid import kernel_distance
from ganblocks.metrics.ms_ssim import ms_ssim_diversity
from ganblocks.metrics.nearest import memorisation
from ganblocks.metrics.prdc import prdc
from ganblocks.metrics.score import Score
from ganblocks.metrics.sharding import gather_rows, largest_of_all
from ganblocks.metrics.statistics import RunningStatistics, Statistics
from ganblocks.metrics.swd import progan_swd

__all__ = ["METRICS", "Evaluation", "evaluate"]

Options = Mapping[str, Any]

_OF_FEATURES = frozenset({"statistics", "rows", "logits"})
LARGEST_SUBSET = 1000  # images of a subset of the kernel distance, where there are as many
LARGEST_SWD = 16_384  # images of each kind for the sliced Wasserstein distance: as many as the ProGAN paper takes
LARGEST_DIVERSITY = 2048  # images from which the pairs of the structural similarity are drawn


@dataclass(frozen=True)
class Evaluation:
    """The scores of one comparison, in the order in which they were asked for.

    Attributes:
        scores: By name.
    """

    scores: Mapping[str, Score]

    def __getitem__(self, name: str) -> Score:
        return self.scores[name]

    def to_dict(self) -> list[dict[str, Any]]:
        """All scores, as JSON can hold them."""
        return [score.to_dict() for score in self.scores.values()]

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("score", "value", "spread", "real", "fake", "fingerprint")]
        for score in self.scores.values():
            spread = "" if score.spread is None else f"{score.spread:.3g}"
            real = score.counts.get("real", score.counts.get("train"))
            counts = ["" if count is None else f"{count:,}" for count in (real, score.counts.get("fake"))]
            rows.append((score.name, f"{score.value:.6g}", spread, *counts, score.fingerprint))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for row in rows:
            numbers = [cell.rjust(width) for cell, width in zip(row[1:5], widths[1:5], strict=True)]
            lines.append("  ".join([row[0].ljust(widths[0]), *numbers, row[5]]).rstrip())
        return "\n".join(lines)


@dataclass
class _Set:
    """What one pass over a set of images has left."""

    count: int = 0
    statistics: Statistics | None = None
    rows: Tensor = field(default_factory=lambda: torch.empty(0))  # [N, D]
    logits: Tensor = field(default_factory=lambda: torch.empty(0))  # [N, K]
    images: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.uint8))  # [N, C, H, W]


@dataclass(frozen=True)
class _Sets:
    """All sets of one comparison, and how they became features."""

    real: _Set
    fake: _Set
    held_out: _Set | None
    extractor: str | None
    seed: int


def _frechet(sets: _Sets, options: Options) -> list[Score]:
    real, fake = sets.real.statistics, sets.fake.statistics
    assert real is not None
    assert fake is not None
    return [frechet_distance(real, fake, **options)]


def _kernel(sets: _Sets, options: Options) -> list[Score]:
    size = min(LARGEST_SUBSET, sets.real.count, sets.fake.count)
    chosen = {"subset_size": size, "seed": sets.seed, **options}
    return [kernel_distance(sets.real.rows, sets.fake.rows, extractor=sets.extractor, **chosen)]


def _inception(sets: _Sets, options: Options) -> list[Score]:
    chosen = {"shuffle_seed": sets.seed, **options}
    return [inception_score(sets.fake.logits, extractor=sets.extractor, **chosen)]


def _prdc(sets: _Sets, options: Options) -> list[Score]:
    return list(prdc(sets.real.rows, sets.fake.rows, extractor=sets.extractor, **options).values())


def _swd(sets: _Sets, options: Options) -> list[Score]:
    most = options.get("num_images", LARGEST_SWD)
    options = {name: value for name, value in options.items() if name != "num_images"}
    real, fake = sets.real.images[:most], sets.fake.images[:most]
    chosen = {"patches_per_image": 128, "patch_size": 7, "num_directions": 512, "seed": sets.seed, **options}
    distances = progan_swd(_batched(real, 64), _batched(fake, 64), **chosen)
    counts = {"real": len(real), "fake": len(fake)}
    return [Score(f"swd_{size}", value, counts=counts, settings=chosen) for size, value in distances.items()]


def _ms_ssim(sets: _Sets, options: Options) -> list[Score]:
    return [ms_ssim_diversity(sets.fake.images[:LARGEST_DIVERSITY], **{"seed": sets.seed, **options})]


def _memorisation(sets: _Sets, options: Options) -> list[Score]:
    real, fake, held_out = sets.real, sets.fake, sets.held_out
    if held_out is None:
        raise ValueError("`held_out` is None, but memorisation is measured against images kept from training")
    in_pixels = memorisation(fake.images, real.images, held_out.images, **options)
    in_features = memorisation(fake.rows, real.rows, held_out.rows, extractor=sets.extractor, **options)
    return [
        replace(in_pixels, name="memorisation_pixels"),
        replace(in_features, name="memorisation_features"),
    ]


@dataclass(frozen=True)
class _Metric:
    compute: Callable[[_Sets, Options], list[Score]]
    needs: frozenset[str]


_METRICS = {
    "fd": _Metric(_frechet, frozenset({"statistics"})),
    "kid": _Metric(_kernel, frozenset({"rows"})),
    "is": _Metric(_inception, frozenset({"logits"})),
    "prdc": _Metric(_prdc, frozenset({"rows"})),
    "swd": _Metric(_swd, frozenset({"images"})),
    "ms_ssim": _Metric(_ms_ssim, frozenset({"images"})),
    "memorisation": _Metric(_memorisation, frozenset({"images", "rows"})),
}
METRICS = tuple(_METRICS)
"""What `evaluate` can be asked for."""


def evaluate(
    real: Iterable[Tensor] | Statistics,
    fake: Iterable[Tensor],
    metrics: Sequence[str] = ("fd", "kid", "prdc", "swd"),
    *,
    extractor: FeatureExtractor | None = None,
    held_out: Iterable[Tensor] | None = None,
    options: Mapping[str, Options] | None = None,
    seed: int = 0,
    batch_size: int = 64,
    sharded: bool = False,
    progress: Callable[[str, int], None] | None = None,
) -> Evaluation:
    """Compare generated images with real ones.

    Every set is read once, batch by batch. ``fd`` and ``is`` need memory for the features' moments and logits only;
    ``kid``, ``prdc`` and ``memorisation`` keep a feature row an image, and ``swd``, ``ms_ssim`` and ``memorisation``
    keep the images as bytes. The global random state and the modes of networks are left as they are.

    Args:
        real: Images ``[N, C, H, W]``, uint8 or in [-1, 1]: one tensor, or batches of it. For ``fd`` alone, also
            `Statistics` made with the same extractor.
        fake: Likewise for the generated images.
        metrics: Of `METRICS`: ``fd`` Frechet distance, ``kid`` kernel distance, ``is`` inception score, ``prdc``
            precision, recall, density and coverage, ``swd`` sliced Wasserstein distances of patches, ``ms_ssim``
            similarity among the fakes, ``memorisation`` whether fakes lie too near to the real images, which are then
            the training set.
        extractor: Makes features; ``None`` = only ``swd`` and ``ms_ssim`` can be computed.
        held_out: Real images kept from training; needed by ``memorisation`` only.
        options: Arguments by metric, such as ``{"kid": {"num_subsets": 50}}``. ``swd`` also takes ``num_images``, the
            most images of each kind (default 16,384, as in the paper).
        seed: Of subsets, patches, directions and pairs.
        batch_size: Images of a batch where a set is one tensor.
        sharded: Whether every process of the default process group gives a part of each set, rank r the images r,
            r + world size, and so on. All get the scores of the whole sets.
        progress: Called with ``"real"``, ``"fake"`` or ``"held_out"`` and the images read so far.

    Returns:
        The scores by name.

    Raises:
        ValueError: No metric, an unknown one, options of one that was not asked for, sets that do not fit it, or an
            extractor without logits for ``is``.
        EmptyDatasetError: A set has no image.
        MetricError: A value is NaN or infinite.
        FingerprintMismatchError: The statistics come from another extractor.
    """
    metrics, options = tuple(metrics), dict(options or {})
    require(len(metrics) > 0, "metrics", metrics, f"at least one of {', '.join(METRICS)}")
    for name in (*metrics, *options):
        require(name in _METRICS, "metrics", name, f"one of {', '.join(METRICS)}")
    surplus = sorted(options.keys() - set(metrics))
    require(not surplus, "options", surplus, "of metrics that are asked for")
    needs = frozenset().union(*(_METRICS[name].needs for name in metrics))
    if needs & _OF_FEATURES:
        require(extractor is not None, "extractor", extractor, f"given for {', '.join(metrics)}")
    fingerprint = None if extractor is None else extractor.fingerprint
    if isinstance(real, Statistics):
        require(metrics == ("fd",), "metrics", metrics, "fd alone where `real` is Statistics")

    def collect(kind: str, images: Iterable[Tensor], kept: frozenset[str]) -> _Set:
        told = (lambda done: progress(kind, done)) if progress is not None else (lambda done: None)
        return _collect(kind, _batched(images, batch_size), extractor, kept, sharded, told)

    whole = _Set(real.count, real) if isinstance(real, Statistics) else collect("real", real, needs - {"logits"})
    sets = _Sets(
        real=whole,
        fake=collect("fake", fake, needs),
        held_out=None if held_out is None else collect("held_out", held_out, needs & {"rows", "images"}),
        extractor=fingerprint,
        seed=seed,
    )
    scores = [score for name in metrics for score in _METRICS[name].compute(sets, options.get(name, {}))]
    return Evaluation({score.name: score for score in scores})


def _batched(images: Iterable[Tensor], batch_size: int) -> Iterable[Tensor]:
    return torch.split(images, batch_size) if isinstance(images, Tensor) else images


def _collect(
    kind: str,
    batches: Iterable[Tensor],
    extractor: FeatureExtractor | None,
    needs: frozenset[str],
    sharded: bool,
    progress: Callable[[int], None],
) -> _Set:
    """One pass over a set; features and images that are asked for, of all processes where it is sharded."""
    images: list[Tensor] = []
    count = 0

    def watched() -> Iterator[Tensor]:
        nonlocal count
        for batch in batches:
            require_rank(batch, kind, 4, 4)
            if len(batch) == 0:
                continue
            if "images" in needs:
                images.append((batch if batch.dtype == torch.uint8 else to_uint8(batch)).cpu())
            yield batch
            count += len(batch)
            progress(count)

    stream = watched()
    first = next(stream, None)
    found: Extracted | None = None
    if first is not None:
        rest = itertools.chain([first], stream)
        if extractor is not None and needs & _OF_FEATURES:
            found = extractor.extract(
                rest, statistics="statistics" in needs, rows="rows" in needs, logits="logits" in needs
            )
        else:
            collections.deque(rest, maxlen=0)
    together = gather_rows if sharded else _as_they_are
    count = len(together(torch.zeros(count, dtype=torch.uint8)))
    if count == 0:
        raise EmptyDatasetError(f"`{kind}` has no image")
    moments = None if found is None else found.statistics
    if extractor is not None and sharded and "statistics" in needs:
        dimension = largest_of_all(0 if moments is None else moments.dimension)
        moments = moments or RunningStatistics(dimension, fingerprint=extractor.fingerprint)
        moments = moments.reduce()
    empty = torch.empty(0)
    rows, logits = (empty, empty) if found is None else (found.rows, found.logits)
    return _Set(
        count=count,
        statistics=None if moments is None else moments.compute(),
        rows=together(empty if rows is None else rows),
        logits=together(empty if logits is None else logits),
        images=together(torch.cat(images) if images else empty.byte()),
    )


def _as_they_are(rows: Tensor) -> Tensor:
    return rows
