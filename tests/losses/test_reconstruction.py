"""Reconstruction losses against SciPy's densities, hand-computed numbers and each other."""

import functools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit, log_expit
from scipy.stats import norm
from torch import Tensor

from ganblocks.losses.reconstruction import bernoulli, gaussian, squared_error
from strategies import lay_out
from tolerances import for_dtype, named

Array = NDArray[np.float64]

LOSSES: dict[str, Callable[..., Tensor]] = {
    "squared error": squared_error,
    "bernoulli": bernoulli,
    "bernoulli of logits": functools.partial(bernoulli, logits=True),
    "gaussian": functools.partial(gaussian, log_var=-0.7),
}
ORACLES: dict[str, Callable[[Array, Array], Array]] = {  # one number a pixel
    "squared error": lambda y, x: (x - y) ** 2,
    "bernoulli": lambda y, x: -x * np.log(y) - (1 - x) * np.log1p(-y),
    "bernoulli of logits": lambda y, x: -x * log_expit(y) - (1 - x) * log_expit(-y),
    "gaussian": lambda y, x: -norm.logpdf(x, y, math.exp(-0.35)),
}
each_loss = pytest.mark.parametrize("name", LOSSES)


def pair(shape: tuple[int, ...], *, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Values in (0.05, 0.95), away from every border."""
    rng = torch.Generator().manual_seed(seed)
    drawn = [torch.rand(shape, generator=rng, dtype=torch.float64) * 0.9 + 0.05 for _ in range(2)]
    return drawn[0].to(dtype), drawn[1].to(dtype)


@each_loss
@given(
    shape=st.lists(st.integers(0, 4), min_size=2, max_size=4).map(tuple),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    layout=st.sampled_from(["contiguous", "channels_last", "sliced"]),
    seed=st.integers(0, 99),
)
def test_sums_over_pixels_of_the_formula(
    name: str, shape: tuple[int, ...], dtype: torch.dtype, layout: str, seed: int
) -> None:
    y, x = pair(shape, seed=seed, dtype=dtype)
    sums = LOSSES[name](lay_out(y, layout), x, reduction="none")
    assert (sums.shape, sums.dtype) == (shape[:1], dtype)
    expected = ORACLES[name](y.double().numpy(), x.double().numpy()).reshape(shape[0], math.prod(shape[1:])).sum(1)
    np.testing.assert_allclose(sums.numpy(), expected, **for_dtype(dtype))
    if len(x):
        mean = LOSSES[name](y, x)
        assert mean.shape == ()
        np.testing.assert_allclose(mean.item(), expected.mean(), **for_dtype(dtype))


@each_loss
def test_vectors_have_one_number_an_image(name: str) -> None:
    y, x = pair((5,))
    expected = ORACLES[name](y.numpy(), x.numpy())
    np.testing.assert_allclose(LOSSES[name](y, x, reduction="none").numpy(), expected, **for_dtype(torch.float64))


def test_worked_numbers() -> None:
    x, y = torch.tensor([[1.0, 0.0, 0.5]]), torch.tensor([[0.5, 0.5, 0.5]])
    assert squared_error(y, x).item() == 0.5
    np.testing.assert_allclose(bernoulli(y, x).item(), 3 * math.log(2), **for_dtype(torch.float32))
    np.testing.assert_allclose(gaussian(y, x).item(), 1.5 * math.log(2 * math.pi) + 0.25, **for_dtype(torch.float32))


@each_loss
def test_first_and_second_derivatives_in_both_arguments(name: str) -> None:
    y, x = (tensor.requires_grad_() for tensor in pair((3, 2, 2)))
    for reduction in ("mean", "none"):
        loss = functools.partial(LOSSES[name], reduction=reduction)
        assert torch.autograd.gradcheck(loss, (y, x))
        assert torch.autograd.gradgradcheck(loss, (y, x))


@pytest.mark.parametrize("shape", [(), (3, 2, 2)])
def test_a_learnt_variance_one_or_one_a_pixel(shape: tuple[int, ...]) -> None:
    y, x = pair((3, 2, 2))
    log_var = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    expected = -norm.logpdf(x.numpy(), y.numpy(), np.exp(log_var.detach().numpy() / 2)).reshape(3, -1).sum(1)
    sums = gaussian(y, x, log_var=log_var, reduction="none")
    np.testing.assert_allclose(sums.detach().numpy(), expected, **for_dtype(torch.float64))
    call = functools.partial(_with_variance, y.requires_grad_(), x)
    assert torch.autograd.gradcheck(call, (log_var,))
    assert torch.autograd.gradgradcheck(call, (log_var,))


def _with_variance(y: Tensor, x: Tensor, log_var: Tensor) -> Tensor:
    return gaussian(y, x, log_var=log_var)


def test_squared_error_is_the_gaussian_of_variance_one_half_but_for_a_constant() -> None:
    y, x = pair((4, 3, 2))
    constant = 6 * math.log(math.pi) / 2
    log_var = math.log(0.5)
    torch.testing.assert_close(gaussian(y, x, log_var=log_var), squared_error(y, x) + constant, **for_dtype(y.dtype))


@given(st.lists(st.floats(-12, 12), min_size=1, max_size=6), st.integers(0, 9))
def test_logits_and_their_probabilities_agree(logits: list[float], seed: int) -> None:
    z = torch.tensor([logits], dtype=torch.float64)
    x = torch.rand(z.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    p = torch.from_numpy(expit(z.numpy()))
    torch.testing.assert_close(bernoulli(z, x, logits=True), bernoulli(p, x, eps=1e-15), **named("float64_eps"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_sure_network_has_a_finite_loss_and_its_logits_a_gradient(dtype: torch.dtype) -> None:
    x = torch.tensor([[1.0, 0.0, 1.0, 0.0]], dtype=dtype)
    z = torch.tensor([[-1e4, 1e4, 1e4, -1e4]], dtype=dtype, requires_grad=True)
    loss = bernoulli(z, x, logits=True)
    (gradient,) = torch.autograd.grad(loss, z)
    assert loss.dtype == torch.float32
    np.testing.assert_allclose(loss.item(), 2 * z.detach().double()[0, 1].item(), **for_dtype(torch.float32))
    assert gradient.tolist() == [[-1.0, 1.0, 0.0, 0.0]]
    p = z.detach().sigmoid().requires_grad_()
    loss = bernoulli(p, x)
    (gradient,) = torch.autograd.grad(loss, p)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    half = bernoulli(p, x, eps=0.25)
    np.testing.assert_allclose(half.item(), -2 * math.log(0.25) - 2 * math.log(0.75), **for_dtype(torch.float32))


@pytest.mark.parametrize("name", ["bernoulli", "squared error", "gaussian"])
def test_the_best_reconstruction_is_the_image(name: str) -> None:
    y, x = pair((6, 5))
    best = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(LOSSES[name](best, x), best)
    torch.testing.assert_close(gradient, torch.zeros_like(x), **for_dtype(torch.float64))
    assert (LOSSES[name](y, x, reduction="none") > LOSSES[name](x, x, reduction="none")).all()


@each_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    y, x = pair((2, 3, 4), dtype=dtype)
    loss = LOSSES[name](y, x)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, LOSSES[name](y.float(), x.float()), **named("exact"))


@each_loss
def test_what_does_not_fit_is_refused(name: str) -> None:
    loss = LOSSES[name]
    y, x = pair((2, 3))
    with pytest.raises(ValueError, match=r"shape \(2, 3\) and `images` has shape \(2, 1\)"):
        loss(y, x[:, :1])
    with pytest.raises(ValueError, match="`reduction` is 'sum'"):
        loss(y, x, reduction="sum")
    with pytest.raises(ValueError, match=r"`images` is \(0, 3\), but must be at least one"):
        loss(y[:0], x[:0])
    with pytest.raises(TypeError, match=r"`images` is torch.uint8"):
        loss(y, x.to(torch.uint8))
    with pytest.raises(TypeError, match=r"is torch.int64"):
        loss(y.long(), x)
    with pytest.raises(ValueError, match="must have 1 to any dimensions"):
        loss(y[0, 0], x)


def test_settings_out_of_range_are_named() -> None:
    y, x = pair((2, 3))
    for eps in (0.0, 0.5):
        with pytest.raises(ValueError, match="`eps` is"):
            bernoulli(y, x, eps=eps)
    with pytest.raises(ValueError, match=r"`log_var` has shape \(3,\)"):
        gaussian(y, x, log_var=torch.zeros(3))
