"""bias_act: leaky_relu(scale * x + bias)."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import oracles
from ganblocks.functional.bias_act import bias_act
from strategies import fill, lay_out, shapes, tensors
from tolerances import for_dtype, named

float64 = torch.float64


@given(
    x=tensors(shape=shapes(max_rank=4)),
    with_bias=st.booleans(),
    slope=st.sampled_from([0.2, 0.0, 0.01, 1.0]),
    scale=st.sampled_from([1.0, 0.25, -2.0]),
)
def test_equals_the_loop(x: Tensor, with_bias: bool, slope: float, scale: float) -> None:
    bias = fill((x.shape[1],), "normal", seed=1, dtype=x.dtype) if with_bias else None
    y = bias_act(x, bias, slope=slope, scale=scale)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    expected = oracles.bias_act(oracles.to_array(x), None if bias is None else oracles.to_array(bias), slope, scale)
    oracles.assert_matches(y, expected, magnitude=abs(scale) * oracles.largest(x))


def test_hand_computed() -> None:
    x = torch.tensor([[1.0, 1.0], [-2.0, -2.0]], dtype=float64)
    bias = torch.tensor([0.5, -3.0], dtype=float64)
    expected = torch.tensor([[2.5, -0.2], [-0.7, -1.4]], dtype=float64)  # of 2.5, -1, -3.5, -7
    torch.testing.assert_close(bias_act(x, bias, scale=2.0), expected, **for_dtype(float64))


def test_defaults_are_slope_one_fifth_and_scale_one() -> None:
    x = torch.tensor([[3.0, -5.0]], dtype=float64)
    torch.testing.assert_close(bias_act(x), torch.tensor([[3.0, -1.0]], dtype=float64), **for_dtype(float64))


def test_the_scale_does_not_touch_the_bias() -> None:
    found = bias_act(torch.zeros(1, 2, dtype=float64), torch.tensor([1.0, -1.0], dtype=float64), scale=100.0)
    torch.testing.assert_close(found, torch.tensor([[1.0, -0.2]], dtype=float64), **for_dtype(float64))


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 3), (4, 3, 3, 3), (2, 3, 3, 3, 3)])
def test_the_bias_belongs_to_dim_one_in_every_rank(shape: tuple[int, ...]) -> None:
    found = bias_act(torch.zeros(shape, dtype=float64), torch.tensor([1.0, 2.0, 3.0], dtype=float64))
    for channel, value in enumerate((1.0, 2.0, 3.0)):
        assert bool((found[:, channel] == value).all())


def test_equals_the_activations_of_torch() -> None:
    x = torch.randn(3, 4, 5, 5, dtype=float64)
    bias = torch.randn(4, dtype=float64)
    before = x + bias.view(1, 4, 1, 1)
    torch.testing.assert_close(bias_act(x, bias), F.leaky_relu(before, 0.2), **for_dtype(float64))
    torch.testing.assert_close(bias_act(x, bias, slope=0.0), F.relu(before), **for_dtype(float64))
    torch.testing.assert_close(bias_act(x, bias, slope=1.0), before, **for_dtype(float64))


@given(factor=st.floats(0.0, 100.0), slope=st.floats(0.0, 1.0))
def test_positively_homogeneous_and_the_maximum_of_two_lines(factor: float, slope: float) -> None:
    x = fill((2, 3, 2, 2), "normal", seed=2)
    y = bias_act(x, slope=slope)
    torch.testing.assert_close(y, torch.maximum(slope * x, x), **for_dtype(float64))
    torch.testing.assert_close(bias_act(factor * x, slope=slope), factor * y, **for_dtype(float64))


def test_scale_may_be_applied_before() -> None:
    x, bias = torch.randn(2, 3, 4, 4, dtype=float64), torch.randn(3, dtype=float64)
    torch.testing.assert_close(bias_act(x, bias, scale=0.3), bias_act(0.3 * x, bias), **for_dtype(float64))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("with_bias", [True, False])
def test_keeps_memory_format_and_dtype(layout: str, dtype: torch.dtype, with_bias: bool) -> None:
    formats = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    x = lay_out(fill((2, 3, 4, 5), "normal", seed=0, dtype=dtype), layout)
    y = bias_act(x, torch.ones(3, dtype=dtype) if with_bias else None, scale=0.5)
    assert y.is_contiguous(memory_format=formats[layout])
    assert y.dtype == dtype


def test_leaves_its_input_alone() -> None:
    x, bias = torch.randn(2, 3, 4, 4), torch.randn(3)
    before = x.clone(), bias.clone()
    bias_act(x, bias)
    bias_act(x, None)
    assert torch.equal(x, before[0])
    assert torch.equal(bias, before[1])


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
def test_the_gradient_at_exactly_zero_is_that_of_the_negative_side(slope: float) -> None:
    x = torch.zeros(2, 3, dtype=float64, requires_grad=True)
    bias = torch.zeros(3, dtype=float64, requires_grad=True)
    to_x, to_bias = torch.autograd.grad(bias_act(x, bias, slope=slope, scale=3.0).sum(), (x, bias))
    torch.testing.assert_close(to_x, torch.full_like(x, 3.0 * slope), **for_dtype(float64))
    torch.testing.assert_close(to_bias, torch.full_like(bias, 2 * slope), **for_dtype(float64))
    (reference,) = torch.autograd.grad(F.leaky_relu(x, slope).sum(), x)
    torch.testing.assert_close(to_x, 3.0 * reference, **for_dtype(float64))


def away_from_the_kink(shape: tuple[int, ...], bias: Tensor, scale: float) -> Tensor:
    """Inputs whose pre-activation lies in [-1.5, -0.5] or [0.5, 1.5]."""
    before = torch.rand(shape, dtype=float64) + 0.5
    before = before * torch.where(torch.rand(shape) < 0.5, -1.0, 1.0)
    return (before - bias.view(1, -1, *([1] * (len(shape) - 2)))) / scale


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 2, 2), (1, 1, 1, 1), (0, 3, 2, 2)])
@pytest.mark.parametrize(("slope", "scale"), [(0.2, 1.0), (0.0, 0.3), (1.0, 2.0), (0.2, -0.7)])
def test_first_and_second_gradients(shape: tuple[int, ...], slope: float, scale: float) -> None:
    bias = torch.randn(shape[1], dtype=float64)
    x = away_from_the_kink(shape, bias, scale).requires_grad_()
    bias.requires_grad_()

    def function(images: Tensor, offsets: Tensor) -> Tensor:
        return bias_act(images, offsets, slope=slope, scale=scale)

    assert torch.autograd.gradcheck(function, (x, bias))
    assert torch.autograd.gradgradcheck(function, (x, bias))


def test_gradients_without_a_bias_and_in_channels_last() -> None:
    x = lay_out(away_from_the_kink((2, 3, 2, 2), torch.zeros(3, dtype=float64), 1.0), "channels_last").requires_grad_()
    assert torch.autograd.gradcheck(bias_act, (x,))
    assert torch.autograd.gradgradcheck(bias_act, (x,))


@pytest.mark.parametrize("slope", [-0.2, -1e-9])
def test_refuses_a_negative_slope(slope: float) -> None:
    with pytest.raises(ValueError, match="slope"):
        bias_act(torch.zeros(1, 2), slope=slope)


@pytest.mark.parametrize("length", [0, 1, 2, 4])
@pytest.mark.parametrize("shape", [(2, 3), (3, 3, 4, 4)])
def test_refuses_a_bias_of_another_length(shape: tuple[int, ...], length: int) -> None:
    # A bias of length 1 or 4 would broadcast without a word.
    with pytest.raises(ValueError, match="bias"):
        bias_act(torch.zeros(shape), torch.zeros(length))


def test_refuses_a_bias_of_another_rank() -> None:
    with pytest.raises(ValueError, match="bias"):
        bias_act(torch.zeros(2, 3, 4, 4), torch.zeros(1, 3, 1, 1))


def test_extreme_values_stay_what_they_are() -> None:
    x = torch.tensor([[torch.inf, -torch.inf, torch.nan]], dtype=float64)
    found = bias_act(x)
    expected = torch.tensor([[torch.inf, -torch.inf, torch.nan]], dtype=float64)
    torch.testing.assert_close(found, expected, equal_nan=True, **named("exact"))
