"""What counts as better."""

import math

import pytest

from ganblocks.training.improvement import Improvement


def waits(improvement: Improvement, values: list[float]) -> list[int]:
    return [improvement.update(value) or improvement.waited for value in values]


def test_the_first_value_is_the_best_so_far_and_an_equal_one_is_not() -> None:
    improvement = Improvement("min", 0.0)
    assert [improvement.update(value) for value in (3.0, 3.0, 2.0, 2.5)] == [True, False, True, False]
    assert (improvement.best, improvement.waited) == (2.0, 1)


def test_higher_is_better_for_max() -> None:
    improvement = Improvement("max", 0.0)
    assert [improvement.update(value) for value in (-3.0, -2.0, -4.0)] == [True, True, False]
    assert improvement.best == -2.0


def test_small_gains_do_not_count_and_do_not_move_the_mark() -> None:
    # Were the mark moved by each small gain, a slow descent would never count.
    improvement = Improvement("min", 0.5)
    assert [improvement.update(value) for value in (3.0, 2.7, 2.5, 2.4)] == [True, False, False, True]


def test_nan_is_never_better_and_infinity_is_beaten_by_any_number() -> None:
    improvement = Improvement("min", 0.0)
    assert [improvement.update(value) for value in (math.nan, math.inf, 1.0, math.nan)] == [False, True, True, False]
    assert improvement.best == 1.0


def test_its_state_goes_on_in_another() -> None:
    first, second = Improvement("min", 0.0), Improvement("min", 0.0)
    assert waits(first, [3.0, 4.0, 5.0]) == [True, 1, 2]
    second.load_state_dict(first.state_dict())
    assert waits(second, [3.0, 2.0]) == [3, True]


@pytest.mark.parametrize(("mode", "min_delta"), [("lowest", 0.0), ("min", -1.0), ("min", math.nan), ("max", math.inf)])
def test_bad_arguments_are_refused(mode: str, min_delta: float) -> None:
    with pytest.raises(ValueError, match="`m"):
        Improvement(mode, min_delta)  # type: ignore[arg-type]
