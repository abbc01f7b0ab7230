"""Intervals and tests of proportions, against scipy, closed forms and numbers worked out by hand."""

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganblocks.metrics.proportions import mcnemar_test, paired_difference, wilson_interval
from tolerances import for_dtype, named

CLOSE = {"rel": for_dtype(torch.float64)["rtol"], "abs": for_dtype(torch.float64)["atol"]}
Z95 = 1.959963984540054


def answers(both: int, only_a: int, only_b: int, neither: int) -> tuple[list[bool], list[bool]]:
    a = [True] * both + [True] * only_a + [False] * only_b + [False] * neither
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return a, b


@pytest.mark.parametrize(("right", "count", "low", "high"), [(45, 51, 0.766, 0.945), (88, 94, 0.868, 0.970)])
def test_the_intervals_of_the_published_accuracies(right: int, count: int, low: float, high: float) -> None:
    digits = named("three_digits")["atol"]
    assert wilson_interval(right, count) == pytest.approx((low, high), abs=digits)


@given(count=st.integers(1, 5000), data=st.data(), confidence=st.floats(0.01, 0.9999))
def test_the_interval_is_that_of_scipy(count: int, data: st.DataObject, confidence: float) -> None:
    successes = data.draw(st.integers(0, count))
    expected = scipy.stats.binomtest(successes, count).proportion_ci(confidence, method="wilson")
    low, high = wilson_interval(successes, count, confidence=confidence)
    assert (low, high) == pytest.approx((expected.low, expected.high), **CLOSE)
    assert 0 <= low <= successes / count <= high <= 1


@given(count=st.integers(1, 10**6), data=st.data())
def test_both_ends_are_proportions_from_which_the_observed_one_lies_z_deviations_away(
    count: int, data: st.DataObject
) -> None:
    share = (successes := data.draw(st.integers(1, count))) / count
    low, high = wilson_interval(successes, count)
    for end in {low, high} - {0.0, 1.0}:
        deviations = abs(share - end) / math.sqrt(end * (1 - end) / count)
        assert deviations == pytest.approx(Z95, rel=named("float64_eps")["rtol"])


def test_the_ends_are_exact_where_nothing_or_everything_succeeds() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    for count in range(1, 200):
        assert wilson_interval(0, count)[0] == 0.0
        assert wilson_interval(count, count)[1] == 1.0
        # at 0 of n the upper end is z^2 / (n + z^2)
        assert wilson_interval(0, count)[1] == pytest.approx(Z95**2 / (count + Z95**2), **CLOSE)


@given(count=st.integers(1, 300), data=st.data())
def test_failures_have_the_mirrored_interval(count: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, count))
    low, high = wilson_interval(successes, count)
    assert wilson_interval(count - successes, count) == pytest.approx((1 - high, 1 - low), **CLOSE)


@pytest.mark.parametrize(("successes", "count", "name"), [(-1, 3, "successes"), (4, 3, "successes"), (0, -1, "count")])
def test_impossible_counts_raise(successes: int, count: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` is"):
        wilson_interval(successes, count)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95, -0.5, math.nan])
def test_a_confidence_outside_0_and_1_raises(confidence: float) -> None:
    with pytest.raises(ValueError, match="`confidence` is"):
        wilson_interval(1, 2, confidence=confidence)
    with pytest.raises(ValueError, match="`confidence` is"):
        paired_difference([True], [True], confidence=confidence)


def test_a_share_instead_of_a_count_raises() -> None:
    with pytest.raises(TypeError):
        wilson_interval(0.9, 10)  # type: ignore[arg-type]


def test_mcnemar_by_hand() -> None:
    # 1 against 5: P(at most 1 of 6 heads) = 7 / 64, twice that
    assert mcnemar_test(*answers(20, 1, 5, 4)) == pytest.approx((1, 14 / 64, 20, 1, 5, 4), **CLOSE)
    assert mcnemar_test(*answers(20, 5, 1, 4)).p_value == pytest.approx(14 / 64, **CLOSE)
    assert mcnemar_test(*answers(0, 0, 6, 0)).p_value == pytest.approx(2 / 64, **CLOSE)
    assert mcnemar_test(*answers(7, 3, 3, 2)).p_value == 1.0
    assert mcnemar_test(*answers(7, 0, 0, 2)) == (0, 1.0, 7, 0, 0, 2)


@given(both=st.integers(0, 9), only_a=st.integers(0, 40), only_b=st.integers(0, 40), neither=st.integers(1, 9))
def test_mcnemar_is_the_sign_test_of_the_images_that_differ(both: int, only_a: int, only_b: int, neither: int) -> None:
    found = mcnemar_test(*answers(both, only_a, only_b, neither))
    tail = sum(math.comb(only_a + only_b, k) for k in range(min(only_a, only_b) + 1))
    exact = min(Fraction(1), Fraction(2 * tail, 2 ** (only_a + only_b)))
    assert found.p_value == pytest.approx(float(exact), **CLOSE)
    if only_a + only_b:
        assert found.p_value == pytest.approx(scipy.stats.binomtest(only_a, only_a + only_b).pvalue, **CLOSE)
    assert found[2:] == (both, only_a, only_b, neither)
    assert found.p_value == mcnemar_test(*answers(both, only_b, only_a, neither)).p_value


def test_tensors_arrays_and_lists_say_the_same() -> None:
    a, b = answers(3, 2, 4, 1)
    expected = mcnemar_test(a, b)
    assert mcnemar_test(torch.tensor(a), np.array(b)) == expected
    assert paired_difference(np.array(a), torch.tensor(b)) == paired_difference(a, b)


def test_the_paired_difference_by_hand() -> None:
    found = paired_difference(*answers(20, 2, 8, 10))
    # p = 9 / 42, q = 3 / 42: 1/7 -+ z sqrt((2/7 - 1/49) / 42)
    spread = Z95 * math.sqrt((2 / 7 - 1 / 49) / 42)
    assert found == pytest.approx((6 / 40, 1 / 7 - spread, 1 / 7 + spread), **CLOSE)
    swapped = paired_difference(*answers(20, 8, 2, 10))
    assert swapped == pytest.approx((-found.difference, -found.high, -found.low), **CLOSE)


def test_the_interval_of_the_difference_covers_the_truth_as_often_as_it_says() -> None:
    """All outcomes of 40 images, each with its probability, for four true states."""
    count, coverages = 40, []
    for only_a, only_b in [(0.1, 0.1), (0.05, 0.2), (0.3, 0.2), (0.02, 0.1)]:
        covered = 0.0
        for i in range(count + 1):
            for j in range(count + 1 - i):
                found = paired_difference(*answers(count - i - j, i, j, 0))
                if found.low <= only_b - only_a <= found.high:
                    rest = 1 - only_a - only_b
                    ways = math.comb(count, i) * math.comb(count - i, j)
                    covered += ways * only_a**i * only_b**j * rest ** (count - i - j)
        coverages.append(covered)
    assert min(coverages) > 0.94
    assert max(coverages) < 0.99


def test_an_interval_stays_within_minus_one_and_one() -> None:
    assert paired_difference([False], [True]).high == 1.0
    assert paired_difference([True], [False]).low == -1.0


@pytest.mark.parametrize("test", [mcnemar_test, paired_difference])
def test_answers_of_a_wrong_kind_raise(test) -> None:
    with pytest.raises(ValueError, match="`right_b` is 'of 2 images', but must be of the 1 images"):
        test([True], [True, False])
    with pytest.raises(ValueError, match=r"`right_a.shape` is \(0,\)"):
        test([], [])
    with pytest.raises(ValueError, match=r"`right_b.shape` is \(1, 1\)"):
        test([True], [[True]])
    with pytest.raises(TypeError, match="`right_a` is 'int64', but must be booleans"):
        test(torch.tensor([0, 1]), torch.tensor([0, 1]))
