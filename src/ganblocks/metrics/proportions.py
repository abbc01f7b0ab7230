"""How sure a proportion is, such as an accuracy on a few dozen images, and whether two classifiers really differ.

Wilson 1927, "Probable inference, the law of succession, and statistical inference"; McNemar 1947, "Note on the sampling
error of the difference between correlated proportions or percentages"; Bonett and Price 2012, "Adjusted Wald confidence
interval for a difference of binomial proportions based on paired data".

None of these includes the luck of training: another seed gives another classifier.
"""

import math
import operator
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganblocks._checks import require

__all__ = ["McNemar", "PairedDifference", "mcnemar_test", "paired_difference", "wilson_interval"]

Answers = Tensor | NDArray[np.bool_] | Sequence[bool]


class McNemar(NamedTuple):
    """What `mcnemar_test` found.

    Attributes:
        statistic: The smaller of ``only_a`` and ``only_b``, which the exact test takes from a binomial distribution.
        p_value: How often two equally good classifiers would differ at least as much; two-sided, in (0, 1].
        both: Images that both had right.
        only_a: Images that only the first had right.
        only_b: Images that only the second had right.
        neither: Images that neither had right.
    """

    statistic: int
    p_value: float
    both: int
    only_a: int
    only_b: int
    neither: int


class PairedDifference(NamedTuple):
    """What `paired_difference` found, as shares in [-1, 1].

    Attributes:
        difference: Accuracy of the second minus accuracy of the first.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    difference: float
    low: float
    high: float


def wilson_interval(successes: int, count: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson interval of a proportion.

    With p = successes / count, n = count and z the normal quantile of (1 + confidence) / 2, its ends are
    ``(p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)``: the proportions from which p lies z
    standard deviations away. The interval covers the true proportion about as often as ``confidence`` says, for few
    samples and near 0 and 1 too, if the samples are independent.

    Two intervals that overlap do not show that two proportions are equal; for two classifiers on the *same* images see
    `mcnemar_test`.

    Args:
        successes: How often it happened, 0 to ``count``.
        count: Samples, 0 or above.
        confidence: Between 0 and 1.

    Returns:
        The two ends in [0, 1]; (0, 1) for no sample. The lower one is exactly 0 for no success, the upper one exactly 1
        for nothing but successes.

    Raises:
        TypeError: A count that is no integer.
        ValueError: An argument is out of its range.
    """
    successes, count = operator.index(successes), operator.index(count)
    require(count >= 0, "count", count, "0 or above")
    require(0 <= successes <= count, "successes", successes, f"from 0 to `count`, which is {count}")
    z = _normal_quantile(confidence)
    if count == 0:
        return (0.0, 1.0)
    # All multiplied by count, so that nothing small is squared.
    center = successes + z * z / 2
    spread = z * math.sqrt(successes * (count - successes) / count + z * z / 4)
    low = 0.0 if successes == 0 else (center - spread) / (count + z * z)
    high = 1.0 if successes == count else (center + spread) / (count + z * z)
    return (low, high)


def mcnemar_test(right_a: Answers, right_b: Answers) -> McNemar:
    """Test whether two classifiers that answered for the same images are equally often right: McNemar's exact test.

    Only images where one is right and the other wrong count. If both are equally good, each of these is a fair coin, so
    the smaller count has a binomial distribution; the p-value is twice the probability of as few or fewer, at most 1.

    Args:
        right_a: [N] booleans, whether the first classifier had image i right; N >= 1.
        right_b: [N], the same for the second one and the same images in the same order.

    Returns:
        The p-value with the four counts; 1 where the two never differ.

    Raises:
        TypeError: Values that are not booleans.
        ValueError: Not one dimension, different lengths, or no image.
    """
    import scipy.special  # here, as it takes longer to import than all that is ours

    both, only_a, only_b, neither = _table(right_a, right_b)
    fewer = min(only_a, only_b)
    p_value = min(1.0, 2 * float(scipy.special.bdtr(fewer, only_a + only_b, 0.5)))
    return McNemar(fewer, p_value, both, only_a, only_b, neither)


def paired_difference(right_a: Answers, right_b: Answers, *, confidence: float = 0.95) -> PairedDifference:
    """The difference of two accuracies on the same images, with an interval.

    Of Bonett and Price: with ``p = (only_b + 1) / (N + 2)`` and ``q = (only_a + 1) / (N + 2)`` the interval is
    ``p - q -+ z sqrt((p + q - (p - q)^2) / (N + 2))``, cut at -1 and 1.

    Args:
        right_a: [N] booleans, whether the first classifier had image i right; N >= 1.
        right_b: [N], the same for the second one and the same images in the same order.
        confidence: Between 0 and 1.

    Returns:
        The observed difference, second minus first, and the interval, which is not centred on it.

    Raises:
        TypeError: Values that are not booleans.
        ValueError: Not one dimension, different lengths, no image, or a confidence outside (0, 1).
    """
    z = _normal_quantile(confidence)
    both, only_a, only_b, neither = _table(right_a, right_b)
    count = both + only_a + only_b + neither
    p, q = (only_b + 1) / (count + 2), (only_a + 1) / (count + 2)
    spread = z * math.sqrt((p + q - (p - q) ** 2) / (count + 2))
    return PairedDifference((only_b - only_a) / count, max(-1.0, p - q - spread), min(1.0, p - q + spread))


def _normal_quantile(confidence: float) -> float:
    """How many standard deviations around the mean hold this share of a normal distribution."""
    import scipy.special

    require(0 < confidence < 1, "confidence", confidence, "between 0 and 1")
    return -float(scipy.special.ndtri((1 - confidence) / 2))


def _table(right_a: Answers, right_b: Answers) -> tuple[int, int, int, int]:
    """How many images both, only the first, only the second, and neither had right."""
    a, b = _answers(right_a, "right_a"), _answers(right_b, "right_b")
    require(len(a) == len(b), "right_b", f"of {len(b)} images", f"of the {len(a)} images of `right_a`")
    return int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), int((~a & ~b).sum())


def _answers(values: Answers, argument: str) -> NDArray[np.bool_]:
    answers: NDArray[np.bool_] = (
        values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    )
    require(answers.ndim == 1 and len(answers) >= 1, f"{argument}.shape", answers.shape, "[N] with N of at least 1")
    require(answers.dtype == np.bool_, argument, str(answers.dtype), "booleans: prediction == label", TypeError)
    return answers
