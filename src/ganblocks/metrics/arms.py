"""Arms of an experiment, several runs each, compared on the same test images.

An arm is a way of training a classifier, such as with and without generated images. A single run of each says little:
another seed gives another classifier, another seed of the GAN other generated images, another test set other images.
The intervals here hold all of these, as far as the runs show them.

Owen 2007, "The pigeonhole bootstrap" (rows and columns of a table are resampled independently); Davison and Hinkley
1997, "Bootstrap methods and their application", section 3.8 (clusters first, then what is inside).
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganblocks._checks import require
from ganblocks.metrics.proportions import McNemar, PairedDifference, mcnemar_test, wilson_interval

__all__ = ["ArmComparison", "ArmResult", "compare_arms"]

Right = Tensor | NDArray[np.bool_] | Sequence[Sequence[bool]]

_FEWEST_RESAMPLES = 100
_DRAWN_AT_ONCE = 2_000_000  # images, 16 bytes each
_ABSENT = "-"


@dataclass(frozen=True)
class ArmResult:
    """What `compare_arms` found out about one arm.

    Attributes:
        name: Of the arm.
        runs: R, how many classifiers were trained.
        clusters: How many groups of runs that belong together there are, as of one GAN; R where each stands for itself.
        images: N, the test images.
        accuracy: Share of right answers, 0 to 1: mean over runs and images.
        standard_deviation: Of the accuracy between the runs, with R - 1 in the denominator; ``None`` for one run.
        vote_right: Images that more than half of the runs had right, and every second one of the ties: otherwise an arm
            with an even number of runs would be at a disadvantage.
        vote_interval: Wilson's interval of the share of these images, which leaves out the luck of training.
        difference: Accuracy less that of the baseline, with its bootstrap interval; ``None`` for the baseline itself.
        mcnemar: Exact test between the votes, the baseline's being the first; ``None`` for the baseline itself.
    """

    name: str
    runs: int
    clusters: int
    images: int
    accuracy: float
    standard_deviation: float | None
    vote_right: int
    vote_interval: tuple[float, float]
    difference: PairedDifference | None
    mcnemar: McNemar | None


@dataclass(frozen=True)
class ArmComparison:
    """What `compare_arms` found.

    Attributes:
        arms: One result each, the baseline first.
        confidence: Of all intervals.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
    """

    arms: tuple[ArmResult, ...]
    confidence: float
    resamples: int
    seed: int

    def markdown(self, extra: Mapping[str, Mapping[str, Sequence[float]]] | None = None) -> str:
        """A table with a row for each arm; accuracies in percent, differences in points of percent.

        Args:
            extra: More columns, by their heading: for each arm numbers, one a run, such as
                ``{"cross-entropy": {"real": [0.31, 0.28], "generated": [0.25, 0.3]}}``. Shown as mean and standard
                deviation; an arm without numbers gets a dash. ``None`` = no more columns.

        Raises:
            ValueError: If ``extra`` names an arm that there is none of.
        """
        extra = {} if extra is None else extra
        names = [arm.name for arm in self.arms]
        for column, values in extra.items():
            unknown = [name for name in values if name not in names]
            require(not unknown, f"extra[{column!r}]", unknown, f"of the arms {', '.join(names)}")
        share = f"{100 * self.confidence:g} %"
        head = ["arm", "runs", "accuracy", f"vote ({share} interval)", f"difference ({share} interval)", "McNemar p"]
        rows = [[*head, *extra], *(self._row(arm, extra) for arm in self.arms)]
        lines = ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
        return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]]) + "\n"

    def _row(self, arm: ArmResult, extra: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
        low, high = arm.vote_interval
        runs = f"{arm.runs}" if arm.clusters == arm.runs else f"{arm.runs} in {arm.clusters} groups"
        accuracy = f"{100 * arm.accuracy:.1f}"
        if arm.standard_deviation is not None:
            accuracy += f" +- {100 * arm.standard_deviation:.1f}"
        vote = f"{arm.vote_right}/{arm.images} ({100 * low:.1f} to {100 * high:.1f} %)"
        difference = p_value = _ABSENT
        if arm.difference is not None and arm.mcnemar is not None:
            change, least, most = arm.difference
            difference = f"{_points(change)} ({_points(least)} to {_points(most)})"
            p_value = f"{arm.mcnemar.p_value:.2g}"
        more = [_mean_and_deviation(values.get(arm.name, ())) for values in extra.values()]
        return [arm.name, runs, f"{accuracy} %", vote, difference, p_value, *more]

    def sentence(self) -> str:
        """A line for each arm but the baseline: by how many points of percent it is better, and what that shows.

        There is evidence of a difference where the interval does not hold 0. Nothing is corrected for the number of
        arms: of many equal ones some will seem to differ.
        """
        lines = []
        for arm in self.arms[1:]:
            assert arm.difference is not None
            change, low, high = arm.difference
            verdict = "evidence that it is better" if low > 0 else "evidence that it is worse"
            verdict = "no evidence of a difference" if low <= 0 <= high else verdict
            lines.append(
                f"{arm.name}: {_points(change)} points over {self.arms[0].name} "
                f"({100 * self.confidence:g} % interval {_points(low)} to {_points(high)}): {verdict}"
            )
        return "\n".join(lines)


def compare_arms(
    right: Mapping[str, Right],
    *,
    clusters: Mapping[str, Sequence[Hashable]] | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> ArmComparison:
    """Compare ways of training a classifier by the answers of several runs each for the same test images.

    The interval of a difference of mean accuracies is the percentile one of a bootstrap: each resample draws test
    images, the same for all arms, and for each arm by itself runs, with replacement. Where runs are clustered, clusters
    are drawn first and then runs inside of each. So it holds the luck of the test set, of the seeds of the classifier
    and of those of the GAN. It cannot show more luck than the runs do: with few runs or clusters it is too narrow, and
    with one run of each arm it is about test images alone. The order of the runs, and what clusters are called, does
    not matter.

    Args:
        right: By name of the arm, [R, N] booleans: whether run r had image n right. R may differ between arms; the
            first arm is the baseline.
        clusters: By name of the arm, for every arm, [R]: which runs belong together, as a number of the GAN whose
            images they saw. For an arm whose runs share nothing, ``range(R)``. ``None`` = no runs belong together.
        resamples: Of the bootstrap, at least 100.
        confidence: Of the intervals, between 0 and 1.
        seed: Of the bootstrap, an integer, 0 or above; the global random state is neither used nor changed.

    Raises:
        TypeError: Values that are not booleans.
        ValueError: No arm, an arm without runs or images, arms with different numbers of images, clusters that do not
            fit, or a number out of its range.
    """
    require(len(right) >= 1, "right", list(right), "of at least one arm, the baseline")
    require(type(resamples) is int, "resamples", resamples, "a whole number", TypeError)
    require(resamples >= _FEWEST_RESAMPLES, "resamples", resamples, f"at least {_FEWEST_RESAMPLES}")
    require(type(seed) is int, "seed", seed, "a whole number", TypeError)
    require(0 <= seed < 2**63, "seed", seed, "0 or above, and below 2**63")
    require(0 < confidence < 1, "confidence", confidence, "between 0 and 1")
    tables = {name: _table(values, f"right[{name!r}]") for name, values in right.items()}
    baseline = next(iter(tables))
    N = tables[baseline].shape[1]
    for name, table in tables.items():
        expected = f"[R, {N}], for the same images as {baseline!r}"
        require(table.shape[1] == N, f"right[{name!r}].shape", tuple(table.shape), expected)
    if clusters is not None:
        missing = [name for name in tables if name not in clusters]
        unknown = [name for name in clusters if name not in tables]
        require(not missing, "clusters", list(clusters), f"for every arm, also for {missing}")
        require(not unknown, "clusters", list(clusters), f"for the arms {list(tables)} alone")
    sizes = {}
    for name, table in tables.items():
        own = range(len(table)) if clusters is None else clusters[name]
        require(len(own) == len(table), f"clusters[{name!r}]", f"{len(own)} long", f"[{len(table)}], one for each run")
        tables[name], sizes[name] = _in_one_order(table, own)

    resampled = _resampled_accuracies(list(tables.values()), list(sizes.values()), resamples, seed)
    votes = {name: _vote(table) for name, table in tables.items()}
    results: list[ArmResult] = []
    for index, (name, table) in enumerate(tables.items()):
        right_of_runs = table.sum(1)
        accuracy = int(right_of_runs.sum()) / (len(table) * N)
        difference = mcnemar = None
        if index > 0:
            tail = (1 - confidence) / 2
            low, high = np.quantile((resampled[index] - resampled[0]).numpy(), [tail, 1 - tail])
            difference = PairedDifference(accuracy - results[0].accuracy, float(low), float(high))
            mcnemar = mcnemar_test(votes[baseline], votes[name])
        results.append(
            ArmResult(
                name=name,
                runs=len(table),
                clusters=len(sizes[name]),
                images=N,
                accuracy=accuracy,
                standard_deviation=float((right_of_runs / N).std(ddof=1)) if len(table) > 1 else None,
                vote_right=int(votes[name].sum()),
                vote_interval=wilson_interval(int(votes[name].sum()), N, confidence=confidence),
                difference=difference,
                mcnemar=mcnemar,
            )
        )
    return ArmComparison(tuple(results), confidence, resamples, seed)


def _table(values: Right, argument: str) -> NDArray[np.bool_]:
    table: NDArray[np.bool_] = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    expected = "[R, N], at least one run and one image"
    require(table.ndim == 2 and table.size > 0, f"{argument}.shape", table.shape, expected)
    require(table.dtype == np.bool_, argument, str(table.dtype), "booleans: prediction == label", TypeError)
    return table


def _vote(table: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[N]: what the majority of the runs says; the ties, in the order of the images, are right and wrong in turn."""
    right = 2 * table.sum(0, dtype=np.int64)
    vote: NDArray[np.bool_] = right > len(table)
    vote[np.flatnonzero(right == len(table))[::2]] = True
    return vote


def _in_one_order(table: NDArray[np.bool_], clusters: Sequence[Hashable]) -> tuple[NDArray[np.bool_], list[int]]:
    """The runs cluster by cluster, in an order that only their answers decide, and the sizes of the clusters."""
    groups: dict[Hashable, list[tuple[bytes, int]]] = {}
    for run, cluster in enumerate(clusters):
        groups.setdefault(cluster, []).append((table[run].tobytes(), run))
    ordered = sorted((sorted(group) for group in groups.values()), key=lambda group: [answers for answers, _ in group])
    return table[[run for group in ordered for _, run in group]], [len(group) for group in ordered]


def _resampled_accuracies(
    tables: Sequence[NDArray[np.bool_]], sizes: Sequence[Sequence[int]], resamples: int, seed: int
) -> Tensor:
    """[arms, resamples], float64. All arms see the same images; an arm's numbers do not depend on arms behind it."""
    generator = torch.Generator().manual_seed(seed)
    N = tables[0].shape[1]
    counted = torch.cat([torch.from_numpy(table) for table in tables]).double().T  # [N, all runs]
    parts = []
    for count in _portions(resamples, max(1, _DRAWN_AT_ONCE // N)):
        drawn = torch.randint(N, (count, N), generator=generator)
        drawn += torch.arange(count)[:, None] * N
        times = torch.bincount(drawn.flatten(), minlength=count * N).reshape(count, N)
        parts.append(times.double() @ counted)  # whole numbers, so exact in any order
    right_of_runs = torch.split(torch.cat(parts), [len(table) for table in tables], dim=1)
    accuracies = []
    for own, own_sizes in zip(right_of_runs, sizes, strict=True):
        weights = _run_weights(own_sizes, resamples, generator)
        accuracies.append((own * weights).sum(1) / (weights.sum(1) * N))
    return torch.stack(accuracies)


def _portions(count: int, most: int) -> list[int]:
    return [min(most, count - start) for start in range(0, count, most)]


def _run_weights(sizes: Sequence[int], resamples: int, generator: torch.Generator) -> Tensor:
    """[resamples, R], float64: how often each run is drawn, as many clusters as there are and each with its size."""
    size = torch.tensor(sizes)
    first = size.cumsum(0) - size
    cluster = torch.randint(len(sizes), (resamples, len(sizes)), generator=generator)
    weights = torch.zeros(resamples, int(size.sum()), dtype=torch.float64)
    for place in range(max(sizes)):  # of a run inside its cluster
        drawn = torch.rand(cluster.shape, generator=generator, dtype=torch.float64)
        inside = (drawn * size[cluster]).long()
        weights.scatter_add_(1, first[cluster] + inside, (place < size[cluster]).double())
    return weights


def _mean_and_deviation(values: Sequence[float]) -> str:
    if len(values) == 0:
        return _ABSENT
    numbers = np.asarray(values, dtype=np.float64)
    text = f"{numbers.mean():.3g}"
    return text if len(numbers) == 1 else f"{text} +- {numbers.std(ddof=1):.2g}"


def _points(share: float) -> str:
    return f"{100 * share:+z.1f}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
