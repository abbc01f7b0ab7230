"""fade_in: old + alpha * (new - old)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import ganblocks.layers
import oracles
from ganblocks.functional.fade import fade_in
from strategies import DTYPES, LAYOUTS, fill, lay_out, shapes, tensors
from tolerances import for_dtype, named

float64 = torch.float64


@given(
    old=tensors(shape=shapes()),
    alpha=st.floats(0.0, 1.0),
    new_layout=st.sampled_from(LAYOUTS),
    as_tensor=st.booleans(),
)
def test_equals_the_loop(old: Tensor, alpha: float, new_layout: str, as_tensor: bool) -> None:
    new = lay_out(fill(old.shape, "normal", seed=1, dtype=old.dtype), new_layout)
    faded = fade_in(old, new, torch.tensor(alpha, dtype=float64) if as_tensor else alpha)
    assert faded.dtype == old.dtype
    expected = oracles.fade_in(oracles.to_array(old), oracles.to_array(new), alpha)
    oracles.assert_matches(faded, expected, magnitude=oracles.largest(old))


def test_hand_computed() -> None:
    old, new = torch.tensor([[0.0, 4.0]]), torch.tensor([[8.0, 0.0]])
    torch.testing.assert_close(fade_in(old, new, 0.25), torch.tensor([[2.0, 3.0]]), **named("exact"))
    torch.testing.assert_close(fade_in(old, new, torch.tensor(0.75)), torch.tensor([[6.0, 1.0]]), **named("exact"))


@pytest.mark.parametrize("alpha", [0, 0.0])
def test_at_zero_returns_old_itself(alpha: float) -> None:
    old, new = torch.randn(1, 2, requires_grad=True), torch.full((1, 2), torch.nan, requires_grad=True)
    assert fade_in(old, new, alpha) is old


@pytest.mark.parametrize("alpha", [1, 1.0])
def test_at_one_returns_new_itself(alpha: float) -> None:
    old, new = torch.full((1, 2), torch.inf, requires_grad=True), torch.randn(1, 2, requires_grad=True)
    assert fade_in(old, new, alpha) is new


@pytest.mark.parametrize("alpha", [0, 1])
def test_the_branch_that_is_not_used_receives_no_gradient(alpha: int) -> None:
    inputs = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    (2 * fade_in(inputs[0], inputs[1], alpha)).sum().backward()
    used, unused = inputs[alpha], inputs[1 - alpha]
    assert unused.grad is None
    assert used.grad is not None
    assert torch.equal(used.grad, torch.full((2, 3), 2.0))


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_tensor_at_the_ends_keeps_its_gradient(alpha: float) -> None:
    old, new = torch.randn(2, 3, dtype=float64), torch.randn(2, 3, dtype=float64)
    weight = torch.tensor(alpha, dtype=float64, requires_grad=True)
    faded = fade_in(old, new, weight)
    torch.testing.assert_close(faded, new if alpha else old, **for_dtype(float64))
    (gradient,) = torch.autograd.grad(faded.sum(), weight)
    torch.testing.assert_close(gradient, (new - old).sum(), **for_dtype(float64))


@given(alpha=st.floats(0.0, 1.0))
def test_fading_between_equals_changes_nothing(alpha: float) -> None:
    x = fill((2, 3, 2, 2), "mixed", seed=1, dtype=torch.float32)
    assert torch.equal(fade_in(x, x.clone(), alpha), x)


@given(alpha=st.floats(0.0, 1.0))
def test_exchanging_the_images_exchanges_alpha(alpha: float) -> None:
    old, new = fill((2, 3), "normal", seed=1), fill((2, 3), "normal", seed=2)
    torch.testing.assert_close(fade_in(old, new, alpha), fade_in(new, old, 1 - alpha), **for_dtype(float64))


@given(alpha=st.floats(0.0, 1.0))
def test_images_in_the_range_stay_in_the_range(alpha: float) -> None:
    old, new = torch.full((1, 4), -1.0, dtype=float64), torch.full((1, 4), 1.0, dtype=float64)
    expected = torch.full((1, 4), 2 * alpha - 1, dtype=float64)
    torch.testing.assert_close(fade_in(old, new, alpha), expected, **for_dtype(float64))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("alpha", [0.3, torch.tensor(0.3), torch.tensor(0.3, dtype=float64)])
def test_keeps_memory_format_and_dtype(layout: str, dtype: torch.dtype, alpha: float | Tensor) -> None:
    formats = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    old, new = (lay_out(fill((2, 3, 4, 5), "normal", seed=seed, dtype=dtype), layout) for seed in (1, 2))
    faded = fade_in(old, new, alpha)
    assert faded.dtype == dtype
    assert faded.is_contiguous(memory_format=formats[layout])


def test_leaves_its_inputs_alone() -> None:
    old, new = torch.zeros(2, 3), torch.ones(2, 3)
    fade_in(old, new, 0.5)
    assert torch.equal(old, torch.zeros(2, 3))
    assert torch.equal(new, torch.ones(2, 3))


@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 2, 2), (0, 3, 2, 2), ()])
@pytest.mark.parametrize("alpha", [0.3, torch.tensor(0.0), torch.tensor(1.0)])
def test_first_and_second_gradients(shape: tuple[int, ...], alpha: float | Tensor) -> None:
    inputs = [torch.randn(shape, dtype=float64, requires_grad=True) for _ in range(2)]

    def function(old: Tensor, new: Tensor) -> Tensor:
        return fade_in(old, new, alpha)

    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("alpha", [0.2, 0.3, 0.9])
def test_gradients_with_respect_to_alpha(alpha: float) -> None:
    inputs = [torch.randn(2, 3, dtype=float64, requires_grad=True) for _ in range(2)]
    weight = torch.tensor(alpha, dtype=float64, requires_grad=True)
    assert torch.autograd.gradcheck(fade_in, (*inputs, weight))
    assert torch.autograd.gradgradcheck(fade_in, (*inputs, weight))


@pytest.mark.parametrize("alpha", [-1e-6, -1, 1 + 1e-6, 2, float("inf"), float("-inf"), float("nan")])
def test_refuses_a_number_outside_zero_to_one(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        fade_in(torch.zeros(1, 2), torch.zeros(1, 2), alpha)


@pytest.mark.parametrize("alpha", [0, 0.5, 1, torch.tensor(0.5)])
@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (2, 1, 4, 4), (2, 3, 8, 8), (3, 4, 4), ()])
def test_refuses_images_of_unequal_shapes(shape: tuple[int, ...], alpha: float | Tensor) -> None:
    # Most of these would broadcast without a word.
    with pytest.raises(ValueError, match=r"old.*new|shape"):
        fade_in(torch.zeros(2, 3, 4, 4), torch.zeros(shape), alpha)


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 1, 1, 1)])
def test_refuses_an_alpha_tensor_with_dimensions(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="alpha"):
        fade_in(torch.zeros(2, 3, 3, 3), torch.zeros(2, 3, 3, 3), torch.full(shape, 0.5))


def test_layers_export_the_same_function() -> None:
    assert ganblocks.layers.fade_in is fade_in
