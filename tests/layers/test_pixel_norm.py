"""The PixelNorm module: the formula with its eps, and nothing to learn."""

import copy

import pytest
import torch
from hypothesis import given
from torch import Tensor

import oracles
from ganblocks.layers import PixelNorm
from strategies import shapes, tensors
from tolerances import for_dtype

float64 = torch.float64


@given(x=tensors(shape=shapes()))
def test_equals_the_loop(x: Tensor) -> None:
    y = PixelNorm()(x)
    assert y.dtype == x.dtype
    oracles.assert_matches(y, oracles.pixel_norm(oracles.to_array(x)))


def test_eps_is_1e_minus_8_unless_given() -> None:
    x = torch.full((2, 4, 1, 1), 1e-4, dtype=float64)
    torch.testing.assert_close(PixelNorm()(x), torch.full_like(x, 0.5**0.5), **for_dtype(float64))
    torch.testing.assert_close(PixelNorm(eps=3e-8)(x), torch.full_like(x, 0.5), **for_dtype(float64))


def test_normalises_latents_without_trailing_dimensions() -> None:
    latents = torch.randn(5, 512, dtype=float64)
    lengths = PixelNorm(eps=0.0)(latents).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full((5,), 512.0**0.5, dtype=float64), **for_dtype(float64))


def test_has_no_state_and_no_mode() -> None:
    layer = PixelNorm()
    assert not layer.state_dict()
    assert not list(layer.parameters())
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(layer.train()(x), layer.eval()(x))
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))


def test_first_and_second_gradients() -> None:
    x = torch.randn(2, 3, 2, 2, dtype=float64, requires_grad=True)
    assert torch.autograd.gradcheck(PixelNorm(), (x,))
    assert torch.autograd.gradgradcheck(PixelNorm(), (x,))


def test_the_printout_names_eps() -> None:
    assert "eps=0.25" in repr(PixelNorm(eps=0.25))


def test_refuses_input_without_channels() -> None:
    with pytest.raises(ValueError, match="dimensions"):
        PixelNorm()(torch.zeros(5))


def test_eps_is_keyword_only() -> None:
    with pytest.raises(TypeError):
        PixelNorm(1e-8)  # type: ignore[misc]
