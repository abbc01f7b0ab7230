"""From two sets of images to a table of scores: one pass over each set, every feature computed once."""

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ganblocks._checks import require
from ganblocks.errors import DistributedError
from ganblocks.metrics.features import FeatureExtractor
from ganblocks.metrics.frechet import frechet_distance
from ganblocks.metrics.image_set import ImageSet, collect_images
from ganblocks.metrics.inception_score import inception_score
from ganblocks.metrics.kid import kernel_distance
from ganblocks.metrics.ms_ssim import ms_ssim_diversity
from ganblocks.metrics.nearest import memorisation
from ganblocks.metrics.prdc import prdc
from ganblocks.metrics.score import Score
from ganblocks.metrics.statistics import Statistics
from ganblocks.metrics.swd import progan_swd

__all__ = ["METRICS", "Evaluation", "evaluate"]

Options = Mapping[str, Any]

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
        """The score of that name.

        Raises:
            KeyError: There is none; names those there are.
        """
        if name not in self.scores:
            raise KeyError(f"there is no score {name!r}, but: {', '.join(self.scores)}")
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


@dataclass(frozen=True)
class _Sets:
    """All sets of one comparison; ``real_statistics`` where they stand for the real images."""

    real: ImageSet
    fake: ImageSet
    held_out: ImageSet
    real_statistics: Statistics | None
    preparation: str
    seed: int

    @property
    def pixels(self) -> dict[str, Any]:
        """What the scores of pixels depend on besides their options."""
        return {"image": list(self.fake.shape), "preparation": self.preparation}


def _frechet(sets: _Sets, options: Options) -> list[Score]:
    options = dict(options)
    ddof = options.pop("ddof", 1)
    running = sets.real.statistics, sets.fake.statistics
    real, fake = (None if moments is None else moments.compute(ddof=ddof) for moments in running)
    real = sets.real_statistics or real
    assert real is not None
    assert fake is not None
    return [frechet_distance(real, fake, **options)]


def _kernel(sets: _Sets, options: Options) -> list[Score]:
    size = min(LARGEST_SUBSET, sets.real.count, sets.fake.count)
    chosen = {"subset_size": size, "seed": sets.seed, **options}
    return [kernel_distance(sets.real.rows, sets.fake.rows, extractor=sets.fake.fingerprint, **chosen)]


def _inception(sets: _Sets, options: Options) -> list[Score]:
    chosen = {"shuffle_seed": sets.seed, **options}
    return [inception_score(sets.fake.logits, extractor=sets.fake.fingerprint, **chosen)]


def _prdc(sets: _Sets, options: Options) -> list[Score]:
    return list(prdc(sets.real.rows, sets.fake.rows, extractor=sets.fake.fingerprint, **options).values())


def _swd(sets: _Sets, options: Options) -> list[Score]:
    chosen = {"smallest": 16, "patches_per_image": 128, "patch_size": 7, "num_directions": 512, "seed": sets.seed}
    chosen |= options
    most = chosen.pop("num_images", LARGEST_SWD)
    real, fake = sets.real.images[:most], sets.fake.images[:most]
    distances = progan_swd(torch.split(real, 64), torch.split(fake, 64), **chosen)
    counts, settings = {"real": len(real), "fake": len(fake)}, {**chosen, **sets.pixels}
    return [Score(f"swd_{size}", value, counts=counts, settings=settings) for size, value in distances.items()]


def _ms_ssim(sets: _Sets, options: Options) -> list[Score]:
    score = ms_ssim_diversity(sets.fake.images[:LARGEST_DIVERSITY], **{"seed": sets.seed, **options})
    return [replace(score, settings={**score.settings, **sets.pixels})]


def _memorisation(sets: _Sets, options: Options) -> list[Score]:
    real, fake, held_out = sets.real, sets.fake, sets.held_out
    in_pixels = memorisation(fake.images, real.images, held_out.images, **options)
    in_features = memorisation(fake.rows, real.rows, held_out.rows, extractor=fake.fingerprint, **options)
    return [
        replace(in_pixels, name="memorisation_pixels", settings={**in_pixels.settings, **sets.pixels}),
        replace(in_features, name="memorisation_features"),
    ]


@dataclass(frozen=True)
class _Metric:
    """How a metric is computed, and what it needs of which kind of set.

    Attributes:
        compute: From the sets and the options.
        function: The one that takes the options.
        features: ``"statistics"``, ``"rows"`` or ``"logits"``, and of which sets.
        images: The most images kept, by kind of set.
        more_options: Besides those of the function.
    """

    compute: Callable[[_Sets, Options], list[Score]]
    function: Callable[..., Any]
    features: tuple[str, tuple[str, ...]] = ("", ())
    images: Mapping[str, int] = field(default_factory=dict)
    more_options: tuple[str, ...] = ()

    @property
    def options(self) -> list[str]:
        """What may be chosen."""
        parameters = inspect.signature(self.function).parameters.values()
        named = {parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY}
        return sorted((named - {"extractor", "labels"}).union(self.more_options))


_BOTH, _THREE = ("real", "fake"), ("real", "fake", "held_out")
_METRICS = {
    "fd": _Metric(_frechet, frechet_distance, ("statistics", _BOTH), more_options=("ddof",)),
    "kid": _Metric(_kernel, kernel_distance, ("rows", _BOTH)),
    "is": _Metric(_inception, inception_score, ("logits", ("fake",))),
    "prdc": _Metric(_prdc, prdc, ("rows", _BOTH)),
    "swd": _Metric(_swd, progan_swd, images=dict.fromkeys(_BOTH, LARGEST_SWD), more_options=("num_images",)),
    "ms_ssim": _Metric(_ms_ssim, ms_ssim_diversity, images={"fake": LARGEST_DIVERSITY}),
    "memorisation": _Metric(_memorisation, memorisation, ("rows", _THREE), dict.fromkeys(_THREE, sys.maxsize)),
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
    preparation: str = "",
    batch_size: int = 64,
    sharded: bool = False,
    progress: Callable[[str, int], None] | None = None,
) -> Evaluation:
    """Compare generated images with real ones of the same size.

    Every set is read once, batch by batch. ``fd`` and ``is`` need memory for the features' moments and logits only;
    ``kid``, ``prdc`` and ``memorisation`` keep a feature row an image, and ``memorisation`` (all), ``swd`` (16,384 of
    each kind) and ``ms_ssim`` (2,048 fakes) keep images as bytes. The global random state and the modes of networks are
    left as they are.

    Args:
        real: Images ``[N, C, H, W]``, uint8 or in [-1, 1]: one tensor, or batches of it. For ``fd`` alone, also
            `Statistics` made with the same extractor from images of the same size.
        fake: Likewise for the generated images.
        metrics: Of `METRICS`: ``fd`` Frechet distance, ``kid`` kernel distance, ``is`` inception score, ``prdc``
            precision, recall, density and coverage, ``swd`` sliced Wasserstein distances of patches, ``ms_ssim``
            similarity among the fakes, ``memorisation`` whether fakes lie too near to the real images, which are then
            the training set.
        extractor: Makes features; ``None`` = only ``swd`` and ``ms_ssim`` can be computed.
        held_out: Real images kept from training; needed by ``memorisation`` only.
        options: Arguments by metric, such as ``{"kid": {"num_subsets": 50}}``. ``swd`` also takes ``num_images``, the
            most images of each kind, and ``fd`` takes ``ddof``.
        seed: Of subsets, patches, directions and pairs.
        preparation: How the images came to their size, such as ``"center crop"``. Part of every fingerprint, as is the
            size itself.
        batch_size: Images of a batch where a set is one tensor.
        sharded: Whether every process of the default process group gives a part of each set, rank r the images r,
            r + world size, and so on, at least one each. All get the scores of the whole sets.
        progress: Called with ``"real"``, ``"fake"`` or ``"held_out"`` and the images read so far.

    Returns:
        The scores by name.

    Raises:
        ValueError: No metric, an unknown one, an unknown option, images of several sizes or outside [-1, 1], or an
            extractor without logits for ``is``. What is wrong with the call is told before any image is read.
        EmptyDatasetError: A set has no image.
        MetricError: A value is NaN or infinite.
        FingerprintMismatchError: The statistics come from another extractor, or from images of another size.
        DistributedError: ``sharded`` without a process group, or another process failed.
    """
    metrics, options = tuple(metrics), dict(options or {})
    _require_sense(metrics, options, extractor, held_out is not None, isinstance(real, Statistics))
    if sharded and not dist.is_initialized():
        raise DistributedError("`sharded` is True, but there is no process group: call init_process_group first")

    def collect(kind: str, images: Iterable[Tensor]) -> ImageSet:
        asked = [(_METRICS[name], options.get(name, {})) for name in metrics]
        return collect_images(
            kind,
            torch.split(images, batch_size) if isinstance(images, Tensor) else images,
            extractor=extractor,
            features=frozenset(metric.features[0] for metric, _ in asked if kind in metric.features[1]),
            most_images=max(chosen.get("num_images", metric.images.get(kind, 0)) for metric, chosen in asked),
            preparation=preparation,
            sharded=sharded,
            progress=None if progress is None else lambda done: progress(kind, done),
        )

    sets = _Sets(
        real=ImageSet() if isinstance(real, Statistics) else collect("real", real),
        fake=collect("fake", fake),
        held_out=ImageSet() if held_out is None or "memorisation" not in metrics else collect("held_out", held_out),
        real_statistics=real if isinstance(real, Statistics) else None,
        preparation=preparation,
        seed=seed,
    )
    for kind, other in (("fake", sets.fake), ("held_out", sets.held_out)):
        if sets.real.shape and other.shape and other.shape != sets.real.shape:
            raise ValueError(
                f"`{kind}` has images [C, H, W] of {list(other.shape)} and `real` of {list(sets.real.shape)}: bring "
                "both to one size first, for scores see the difference"
            )
    scores = [score for name in metrics for score in _METRICS[name].compute(sets, options.get(name, {}))]
    return Evaluation({score.name: score for score in scores})


def _require_sense(
    metrics: tuple[str, ...],
    options: Mapping[str, Options],
    extractor: FeatureExtractor | None,
    has_held_out: bool,
    has_statistics: bool,
) -> None:
    """Raise ValueError for what can be known to fail before anything is read."""
    require(len(metrics) > 0, "metrics", metrics, f"at least one of {', '.join(METRICS)}")
    for name in (*metrics, *options):
        require(name in _METRICS, "metrics", name, f"one of {', '.join(METRICS)}")
    surplus = sorted(options.keys() - set(metrics))
    require(not surplus, "options", surplus, "of metrics that are asked for")
    for name, chosen in options.items():
        unknown = sorted(chosen.keys() - set(_METRICS[name].options))
        require(not unknown, f"options[{name!r}]", unknown, f"of {', '.join(_METRICS[name].options)}")
    of_features = [name for name in metrics if _METRICS[name].features[0]]
    require(extractor is not None or not of_features, "extractor", extractor, f"given for {', '.join(of_features)}")
    needs_held_out = "memorisation" in metrics
    require(has_held_out or not needs_held_out, "held_out", None, "images kept from training, for memorisation")
    require(metrics == ("fd",) or not has_statistics, "metrics", metrics, "fd alone where `real` is Statistics")
