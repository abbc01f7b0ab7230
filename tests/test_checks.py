"""Complaints name the argument, its value and what was expected."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganblocks._checks import require, require_rank, require_same_shape

shapes = st.lists(st.integers(0, 3), max_size=4).map(tuple)


@given(st.one_of(st.integers(), st.text(), st.none(), st.tuples(st.integers())))
def test_require_is_silent_when_the_condition_holds(value: object) -> None:
    assert require(True, "eps", value, "anything") is None


@given(st.one_of(st.integers(), st.text(), st.none(), st.tuples(st.integers())))
def test_require_names_argument_value_and_expectation(value: object) -> None:
    with pytest.raises(ValueError, match=r"^`") as caught:
        require(False, "eps", value, "above 0")
    assert str(caught.value) == f"`eps` is {value!r}, but must be above 0"


def test_require_raises_the_error_asked_for() -> None:
    with pytest.raises(TypeError, match=r"^`data` is 'int', but must be a tensor$"):
        require(False, "data", "int", "a tensor", TypeError)


@given(shapes, st.integers(0, 4), st.one_of(st.none(), st.integers(0, 4)))
def test_require_rank_accepts_exactly_the_ranks_in_between(
    shape: tuple[int, ...], minimum: int, maximum: int | None
) -> None:
    tensor = torch.zeros(shape)
    if minimum <= len(shape) <= (99 if maximum is None else maximum):
        assert require_rank(tensor, "images", minimum, maximum) is None
    else:
        with pytest.raises(ValueError, match=r"^`images` has shape ") as caught:
            require_rank(tensor, "images", minimum, maximum)
        assert str(shape) in str(caught.value)


@pytest.mark.parametrize(
    ("minimum", "maximum", "words"),
    [
        (4, 4, "must have 4 dimensions"),
        (2, 3, "must have 2 to 3 dimensions"),
        (2, None, "must have 2 to any dimensions"),
    ],
)
def test_require_rank_says_which_ranks_are_allowed(minimum: int, maximum: int | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        require_rank(torch.zeros(3), "images", minimum, maximum)


@pytest.mark.parametrize("value", [None, [1.0], 3])
def test_require_rank_wants_a_tensor(value: object) -> None:
    with pytest.raises(TypeError, match=f"^`x` is a {type(value).__name__}, but must be a tensor$"):
        require_rank(value, "x", 0)  # type: ignore[arg-type]


@given(shapes, shapes)
def test_require_same_shape_accepts_equal_shapes_only(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    """Shapes that broadcast are refused as well."""
    a, b = torch.zeros(first), torch.zeros(second)
    if first == second:
        assert require_same_shape(a, b, "real_logits", "fake_logits") is None
    else:
        with pytest.raises(ValueError, match=r"^`real_logits` has shape .* and `fake_logits` has shape ") as caught:
            require_same_shape(a, b, "real_logits", "fake_logits")
        assert str(first) in str(caught.value)
        assert str(second) in str(caught.value)


def test_require_same_shape_refuses_what_would_broadcast() -> None:
    with pytest.raises(ValueError, match="they must be equal"):
        require_same_shape(torch.zeros(3), torch.zeros(3, 1), "a", "b")
