"""weight_scale: gain / sqrt(fan_in), the constant of equalised learning rate."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganblocks.functional.weight_scale import weight_scale
from tolerances import named


@pytest.mark.parametrize(
    ("fan_in", "gain", "expected"),
    [
        (2, 2**0.5, 1.0),
        (1, 1.0, 1.0),
        (4, 1.0, 0.5),
        (9, 3.0, 1.0),
        (512 * 9, 1.0, 1 / (48 * 2**0.5)),
        (512, 2**0.5 / 4, 1 / 64),  # the first dense layer of ProGAN
        (512 * 16, 2**0.5, 1 / 64),  # the same layer as a transposed 4x4 convolution
    ],
)
def test_known_values(fan_in: int, gain: float, expected: float) -> None:
    assert weight_scale(fan_in, gain=gain) == pytest.approx(expected)


def test_gain_is_an_amplitude_and_defaults_to_the_square_root_of_two() -> None:
    assert weight_scale(8) == pytest.approx(0.5)
    assert weight_scale(8) == pytest.approx(torch.nn.init.calculate_gain("relu") / math.sqrt(8))


@given(fan_in=st.integers(1, 10**7), gain=st.floats(1e-3, 1e3))
def test_squared_and_summed_over_the_fan_in_it_is_the_squared_gain(fan_in: int, gain: float) -> None:
    assert weight_scale(fan_in, gain=gain) ** 2 * fan_in == pytest.approx(gain**2)


@given(fan_in=st.integers(1, 10**6))
def test_linear_in_the_gain(fan_in: int) -> None:
    assert weight_scale(fan_in, gain=3.0) == pytest.approx(3.0 * weight_scale(fan_in, gain=1.0))


def test_scaled_normal_weights_give_unit_variance_with_gain_one() -> None:
    x, w = torch.randn(300, 400), torch.randn(400, 300)
    y = x @ (w * weight_scale(400, gain=1.0))
    torch.testing.assert_close(y.square().mean(), torch.tensor(1.0), **named("sample_moment"))


def test_returns_a_python_float() -> None:
    assert type(weight_scale(3)) is float
    assert type(weight_scale(1, gain=1)) is float


@pytest.mark.parametrize("fan_in", [0, -1, -512])
def test_refuses_a_fan_in_below_one(fan_in: int) -> None:
    with pytest.raises(ValueError, match=rf"fan_in.*{fan_in}"):
        weight_scale(fan_in)


def test_gain_is_keyword_only() -> None:
    with pytest.raises(TypeError):
        weight_scale(3, 1.0)  # type: ignore[misc]
