"""The plain gradients are those that autograd finds for the formulas, and so is what autograd makes of them."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from ganblocks import functional
from ganblocks.ops import _closed_forms
from strategies import fill
from tolerances import for_dtype

float64 = torch.float64


def draw(*shape: int, seed: int) -> Tensor:
    return fill(shape, "normal", seed=seed).requires_grad_()


@pytest.mark.parametrize("slope", [0.2, 0.0, 1.0])
def test_the_two_maps_are_the_gradient_of_the_activation_and_its_gradient(slope: float) -> None:
    x, bias, g = draw(2, 3, 4, seed=1), draw(3, seed=2), draw(2, 3, 4, seed=3)
    y = functional.bias_act(x, bias, slope=slope, scale=0.7)
    first = torch.autograd.grad(y, [x, bias], g, create_graph=True)
    found = _closed_forms.adjoint(g, y, slope, 0.7, float64)
    v, w = draw(2, 3, 4, seed=4), draw(3, seed=5)
    (second,) = torch.autograd.grad(first, g, [v, w])
    for mine, theirs in zip((*found, _closed_forms.rectified(v, w, y, slope, 0.7)), (*first, second), strict=True):
        torch.testing.assert_close(mine, theirs, **for_dtype(float64))
    assert _closed_forms.adjoint(g, y, slope, 0.7, None)[1] is None


def test_the_gradient_of_the_normalisation_is_autograds() -> None:
    x, g, rho = draw(2, 3, 4, seed=1), draw(2, 3, 4, seed=2), draw(2, 1, 4, seed=3)
    r = (x.square().mean(1, keepdim=True) + 0.1).rsqrt()
    for extra in (None, rho):
        (expected,) = torch.autograd.grad([x * r, r], x, [g, torch.zeros_like(rho) if extra is None else extra], True)
        torch.testing.assert_close(
            _closed_forms.normalized_gradient(g, x * r, r, extra), expected, **for_dtype(float64)
        )


@pytest.mark.parametrize("with_rho", [False, True])
def test_its_own_gradient_is_autograds_and_goes_on(with_rho: bool) -> None:
    g, y, r, v = draw(2, 3, 4, seed=1), draw(2, 3, 4, seed=2), draw(2, 1, 4, seed=3), draw(2, 3, 4, seed=4)
    rho = draw(2, 1, 4, seed=5) if with_rho else None
    inputs = [g, y, r] if rho is None else [g, y, r, rho]
    expected = torch.autograd.grad(_closed_forms.normalized_gradient(g, y, r, rho), inputs, v)
    found = _closed_forms.normalized_second(v, g, y, r, rho)
    for mine, theirs in zip(found, expected, strict=False):
        torch.testing.assert_close(mine, theirs, **for_dtype(float64))
    assert (found[3] is None) == (rho is None)
    assert gradcheck(lambda v, g, y, r: _closed_forms.normalized_second(v, g, y, r, rho)[:3], (v, g, y, r))


def test_low_precision_is_computed_in_float32() -> None:
    g = torch.full((1, 1024, 2), 300.0, dtype=torch.float16)  # the sum of squares is 9e7
    y, r = torch.ones_like(g), torch.ones(1, 1, 2)
    assert torch.equal(_closed_forms.normalized_gradient(g, y, r, None), torch.zeros_like(g))
    by_x, by_bias = _closed_forms.adjoint(
        g[:, :2].expand(400, 2, 2), y[:, :2].expand(400, 2, 2), 0.2, 1.0, torch.float32
    )
    assert by_x.dtype == torch.float16
    assert by_bias is not None
    torch.testing.assert_close(by_bias, torch.full((2,), 240000.0), **for_dtype(torch.float32))
