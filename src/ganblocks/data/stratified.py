"""Parts of a data set with the same mix of classes, and no picture in two of them.

Split the *real* images first, before anything is learned or generated from them: a test part that a generator has seen,
or that holds its images, measures something else.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ganblocks._checks import require
from ganblocks.data.sampler import random_words

__all__ = ["balanced_rows", "cross_validation_folds", "stratified_split"]

Indices = NDArray[np.int64]

_STRATIFIED, _FOLDS = 5, 6  # streams of random words, see `ganblocks.data.sampler`
_SUM_TOLERANCE = Fraction(1, 10**9)  # of decimal fractions that add up to 1


def stratified_split(
    labels: ArrayLike, fractions: Sequence[float], *, seed: int = 0, groups: ArrayLike | None = None
) -> list[Indices]:
    """Divide rows into parts, each with the same share of every class, the same way every time.

    Of a class with n rows, part p gets n * fractions[p] of them, rounded down or up. What is left over by rounding down
    goes to the parts with the largest remainders; what a part has lacked or got too much in other classes, taken from
    the largest class to the smallest, is added to its remainder, so that the sizes of whole parts come out right too.
    For example, 98 + 155 images in 0.8 and 0.2 are 202 and 51, and 206 + 263 are 375 and 94.

    Args:
        labels: [N], the class of each row, integers.
        fractions: The share of each part, above 0, adding up to 1.
        seed: An integer, 0 or above; another seed, another division of the same sizes.
        groups: [N] integers; rows with the same number stay in one part, as copies of one picture must, see
            :mod:`ganblocks.data.duplicates`. The largest groups choose first, each the part that lacks most of it; the
            sizes are then met as nearly as that allows. ``None`` = each row for itself.

    Returns:
        The row numbers of each part, int64, ascending. Together they are 0 to N - 1.

    Raises:
        TypeError: Labels or groups that are no integers.
        ValueError: Not one dimension, lengths that differ, fractions that do not add up to 1, a negative seed, or a
            part that would stay empty.
    """
    names = _integers(labels, "labels")
    shares = _shares(fractions)
    require(seed >= 0, "seed", seed, "0 or above")
    part_of = _assign(names, shares, _groups(groups, len(names)), random_words(seed, _STRATIFIED, 0, len(names)))
    parts = [np.flatnonzero(part_of == part) for part in range(len(shares))]
    for part, rows in enumerate(parts):
        expected = f"larger: of {len(names)} rows, part {part} would stay empty"
        require(len(rows) > 0, f"fractions[{part}]", fractions[part], expected)
    return parts


def cross_validation_folds(
    labels: ArrayLike, k: int, *, seed: int = 0, groups: ArrayLike | None = None
) -> list[tuple[Indices, Indices]]:
    """Divide rows into k parts as `stratified_split` does, and hold out each of them once.

    Args:
        labels: [N], the class of each row, integers.
        k: Folds, 2 or above.
        seed: An integer, 0 or above.
        groups: [N] integers; rows with the same number stay in one fold; ``None`` = each row for itself.

    Returns:
        For each fold the rows to train on and the rows held out, int64, ascending. Each row is held out exactly once.

    Raises:
        TypeError: Labels or groups that are no integers.
        ValueError: Not one dimension, lengths that differ, a negative seed, or k below 2 or so large that a fold would
            stay empty.
    """
    names = _integers(labels, "labels")
    require(k >= 2, "k", k, "2 or above")
    require(seed >= 0, "seed", seed, "0 or above")
    words = random_words(seed, _FOLDS, 0, len(names))
    part_of = _assign(names, [Fraction(1, k)] * k, _groups(groups, len(names)), words)
    used = len(np.unique(part_of))
    require(used == k, "k", k, f"at most {used}, as these rows and groups fill no more folds")
    return [(np.flatnonzero(part_of != part), np.flatnonzero(part_of == part)) for part in range(k)]


def balanced_rows(labels: ArrayLike) -> Indices:
    """Row numbers among which every class is as often as the largest one: a training part without a majority.

    The rows of smaller classes come again and again, each as often as the others of its class or once more. Only for
    rows that are trained on, after they were split; `ResumableSampler` takes the result for its indices.

    Args:
        labels: [N], the class of each row, integers; a class that no row has plays no part.

    Returns:
        int64 [number of classes * size of the largest], ascending.

    Raises:
        TypeError: Labels that are no integers.
        ValueError: Not one dimension.
    """
    names = _integers(labels, "labels")
    classes, counts = np.unique(names, return_counts=True)
    most = int(counts.max(initial=0))
    rows = [np.resize(np.flatnonzero(names == number), most) for number in classes]
    return np.sort(np.concatenate([*rows, np.zeros(0, dtype=np.int64)])).astype(np.int64)


def _assign(labels: Indices, shares: Sequence[Fraction], groups: Indices, words: NDArray[np.uint64]) -> Indices:
    """The part of each row."""
    _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    missing = _sizes(sizes.tolist(), shares)  # [K, P], the rows of each class that each part still lacks
    _, group_of, members = np.unique(groups, return_inverse=True, return_counts=True)
    part_of = np.full(len(labels), -1, dtype=np.int64)

    together = np.flatnonzero(members > 1)
    first_word = words[np.unique(group_of, return_index=True)[1]] if len(labels) else words
    for group in together[np.lexsort((first_word[together], -members[together]))]:
        rows = np.flatnonzero(group_of == group)
        of_class = np.bincount(classes[rows], minlength=len(sizes))
        part = int((of_class @ missing).argmax())  # where the sum of squares of what is missing shrinks most
        part_of[rows] = part
        missing[:, part] -= of_class

    alone = np.flatnonzero(part_of < 0)
    alone = alone[np.argsort(words[alone], kind="stable")]
    for number in range(len(sizes)):
        rows = alone[classes[alone] == number]
        part_of[rows] = np.repeat(np.arange(len(shares)), _within(missing[number], len(rows)))
    return part_of


def _sizes(sizes: Sequence[int], shares: Sequence[Fraction]) -> NDArray[np.int64]:
    """How many rows of each class go to each part, [K, P]; the largest class first."""
    result = np.zeros((len(sizes), len(shares)), dtype=np.int64)
    lacking = [Fraction(0)] * len(shares)  # over all classes so far
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        wanted = [share * sizes[number] for share in shares]
        counts = [int(value) for value in wanted]
        lacking = [lack + value - count for lack, value, count in zip(lacking, wanted, counts, strict=True)]
        rounded = [part for part, value in enumerate(wanted) if value.denominator > 1]
        for part in sorted(rounded, key=lambda part: -lacking[part])[: sizes[number] - sum(counts)]:
            counts[part] += 1
            lacking[part] -= 1
        result[number] = counts
    return result


def _within(missing: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """What each part gets of ``count`` rows: what it lacks, after the parts with too many have made the others wait."""
    counts = np.maximum(missing, 0)
    while (excess := int(counts.sum()) - count) > 0:  # from those that lack most, so that the differences stay small
        most = counts == counts.max()
        lower = int(counts[~most].max()) if not most.all() else 0
        each = min(int(counts.max()) - lower, max(1, excess // int(most.sum())))
        chosen = np.flatnonzero(most)[: max(1, min(int(most.sum()), excess))]
        counts[chosen] -= each if each * len(chosen) <= excess else 1
    return counts


def _shares(fractions: Sequence[float]) -> list[Fraction]:
    """As exact numbers, 0.1 as a tenth, that add up to exactly 1."""
    require(len(fractions) >= 1, "fractions", fractions, "of at least one part")
    for fraction in fractions:
        require(0 < fraction <= 1, "fractions", fractions, "shares above 0 that add up to 1")
    shares = [Fraction(repr(float(fraction))) for fraction in fractions]
    total = sum(shares, Fraction(0))
    require(abs(total - 1) <= _SUM_TOLERANCE, "fractions", fractions, "shares above 0 that add up to 1")
    return [share / total for share in shares]


def _groups(groups: ArrayLike | None, count: int) -> Indices:
    if groups is None:
        return np.arange(count, dtype=np.int64)
    numbers = _integers(groups, "groups")
    require(len(numbers) == count, "groups", f"of {len(numbers)} rows", f"of {count}, as `labels`")
    return numbers


def _integers(values: ArrayLike, argument: str) -> Indices:
    numbers = np.asarray(values)
    require(numbers.ndim == 1, f"{argument}.shape", numbers.shape, "[N]")
    if len(numbers):  # an empty list has no type of its own
        require(
            np.issubdtype(numbers.dtype, np.integer), f"{argument}.dtype", str(numbers.dtype), "integers", TypeError
        )
    return numbers.astype(np.int64)
