"""bias_act_pixel_norm: the activation, then the normalisation, and nothing else."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import oracles
from ganblocks.functional.bias_act_pixel_norm import bias_act_pixel_norm
from strategies import fill, shapes, tensors
from tolerances import for_dtype

float64 = torch.float64


@given(x=tensors(shape=shapes(), dtypes=[float64]), slope=st.sampled_from([0.2, 0.0, 1.0]))
def test_equals_the_two_oracles_in_their_order(x: Tensor, slope: float) -> None:
    bias = fill((x.shape[1],), "normal", seed=1)
    y = bias_act_pixel_norm(x, bias, slope=slope, scale=0.5, eps=0.1)
    activated = oracles.bias_act(oracles.to_array(x), oracles.to_array(bias), slope, 0.5)
    oracles.assert_matches(y, oracles.pixel_norm(activated, 0.1))


def test_hand_computed() -> None:
    x = torch.tensor([[1.0, -8.0]], dtype=float64)
    y = bias_act_pixel_norm(x, torch.tensor([1.0, -2.0], dtype=float64), scale=2.0, slope=0.5, eps=0.0)
    # 2 + 1 = 3 and (-16 - 2) / 2 = -9, of mean square 45
    torch.testing.assert_close(y * 45**0.5, torch.tensor([[3.0, -9.0]], dtype=float64), **for_dtype(float64))


def test_defaults_are_those_of_the_two() -> None:
    x = fill((2, 3, 2, 2), "tiny", seed=2)
    torch.testing.assert_close(
        bias_act_pixel_norm(x), bias_act_pixel_norm(x, None, slope=0.2, scale=1.0, eps=1e-8), **for_dtype(float64)
    )


def test_first_and_second_gradients() -> None:
    x, bias = fill((2, 3, 2), "normal", seed=3).requires_grad_(), fill((3,), "normal", seed=4).requires_grad_()
    assert gradcheck(bias_act_pixel_norm, (x, bias), fast_mode=True)
    assert gradgradcheck(bias_act_pixel_norm, (x, bias), fast_mode=True)


def test_wrong_arguments_are_refused() -> None:
    x = torch.zeros(2, 3, 4)
    with pytest.raises(ValueError, match="`bias` is"):
        bias_act_pixel_norm(x, torch.zeros(4))
    with pytest.raises(ValueError, match="`slope` is 2"):
        bias_act_pixel_norm(x, slope=2.0)
    with pytest.raises(ValueError, match="`eps` is -1"):
        bias_act_pixel_norm(x, eps=-1.0)
    with pytest.raises(ValueError, match="`x` has shape"):
        bias_act_pixel_norm(x[0, 0])
