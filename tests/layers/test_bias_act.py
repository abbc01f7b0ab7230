"""The BiasAct module: a learnt bias per channel, then a leaky ReLU."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call

import oracles
from ganblocks.layers import BiasAct
from strategies import fill, shapes, tensors
from tolerances import for_dtype

float64 = torch.float64


@given(
    x=tensors(shape=shapes(max_rank=4).filter(lambda shape: shape[1] > 0)),
    slope=st.sampled_from([0.2, 0.0, 0.01]),
    scale=st.sampled_from([1.0, 0.5]),
    with_bias=st.booleans(),
)
def test_equals_the_loop(x: Tensor, slope: float, scale: float, with_bias: bool) -> None:
    layer = BiasAct(x.shape[1], slope=slope, scale=scale, bias=with_bias).to(x.dtype)
    if with_bias:
        nn.init.normal_(layer.bias)
    y = layer(x)
    assert y.dtype == x.dtype
    bias = oracles.to_array(layer.bias) if with_bias else None
    oracles.assert_matches(y, oracles.bias_act(oracles.to_array(x), bias, slope, scale), magnitude=oracles.largest(x))


def test_starts_as_a_leaky_relu_of_slope_one_fifth() -> None:
    layer = BiasAct(3)
    assert isinstance(layer.bias, nn.Parameter)
    assert torch.equal(layer.bias, torch.zeros(3))
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(layer(x), F.leaky_relu(x, 0.2), **for_dtype(torch.float32))


def test_the_scale_does_not_touch_the_bias() -> None:
    layer = BiasAct(1, scale=100.0)
    nn.init.ones_(layer.bias)
    assert layer(torch.zeros(1, 1)).item() == 1.0


def test_state_is_the_bias() -> None:
    assert list(BiasAct(3).state_dict()) == ["bias"]
    without = BiasAct(3, bias=False)
    assert without.bias is None
    assert not without.state_dict()


@pytest.mark.parametrize("bias", [True, False])
def test_a_deep_copy_is_equal_and_independent(bias: bool) -> None:
    layer = BiasAct(3, slope=0.1, scale=2.0, bias=bias)
    x = torch.randn(2, 3, 2, 2)
    before = layer(x).detach().clone()
    twin = copy.deepcopy(layer)
    assert torch.equal(twin(x), before)
    if bias:
        nn.init.ones_(twin.bias)
    assert torch.equal(layer(x), before)


def test_first_and_second_gradients() -> None:
    layer = BiasAct(3, scale=0.5).double()
    x = fill((2, 3, 2, 2), "normal", seed=1).requires_grad_()
    bias = torch.tensor([3.0, -3.0, 0.0], dtype=float64, requires_grad=True)

    def function(images: Tensor, offsets: Tensor) -> Tensor:
        return functional_call(layer, {"bias": offsets}, (images,))

    assert torch.autograd.gradcheck(function, (x, bias))
    assert torch.autograd.gradgradcheck(function, (x, bias))


def test_the_printout_names_every_option() -> None:
    text = repr(BiasAct(3, slope=0.25, scale=0.5))
    assert "3" in text
    assert "slope=0.25" in text
    assert "scale=0.5" in text


def test_refuses_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="slope"):
        BiasAct(3, slope=-0.1)(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="3"):
        BiasAct(3)(torch.zeros(2, 4))
    with pytest.raises(TypeError):
        BiasAct(3, 0.2)  # type: ignore[misc]
