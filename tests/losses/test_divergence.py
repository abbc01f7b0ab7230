"""The divergence from the prior: against other routes to the same number, and at the ends of the range."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.distributions import Normal
from torch.distributions import kl_divergence as oracle

from ganblocks.functional.latent import reparameterize
from ganblocks.losses.divergence import free_bits, kl_divergence, monte_carlo_kl
from tolerances import for_dtype, named


def gaussians(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    mean = 2 * torch.randn(shape, generator=rng, dtype=torch.float64)
    log_var = torch.randn(shape, generator=rng, dtype=torch.float64)
    return mean.to(dtype), log_var.to(dtype)


@given(
    shape=st.lists(st.integers(0, 4), min_size=1, max_size=3).map(tuple),
    N=st.integers(1, 5),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    seed=st.integers(0, 99),
)
def test_it_is_that_of_torch_distributions(shape: tuple[int, ...], N: int, dtype: torch.dtype, seed: int) -> None:
    mean, log_var = gaussians(N, *shape, seed=seed, dtype=dtype)
    posterior = Normal(mean.double(), (log_var.double() / 2).exp())
    each = oracle(posterior, Normal(torch.zeros_like(posterior.mean), 1.0)).flatten(1).sum(1)
    result = kl_divergence(mean, log_var, reduction="none")
    assert result.shape == (N,)
    torch.testing.assert_close(result.double(), each, **for_dtype(dtype))
    torch.testing.assert_close(kl_divergence(mean, log_var).double(), each.mean(), **for_dtype(dtype))


def test_it_is_a_mean_of_sums_by_hand() -> None:
    mean = torch.tensor([[0.0, 3.0], [0.0, 0.0]])
    log_var = torch.tensor([[0.0, 0.0], [math.log(4.0), 0.0]])
    assert kl_divergence(mean, log_var, reduction="none").tolist() == pytest.approx([4.5, (4 - 1 - math.log(4)) / 2])
    assert kl_divergence(mean, log_var).item() == pytest.approx((4.5 + (3 - math.log(4)) / 2) / 2)


@given(
    mean=st.floats(-1e10, 1e10, width=32),
    log_var=st.floats(-80, 80, width=32) | st.floats(-(2.0**-10), 2.0**-10, width=32),
)
def test_it_is_never_negative_however_near_the_prior(mean: float, log_var: float) -> None:
    value = kl_divergence(torch.tensor([[mean]]), torch.tensor([[log_var]])).item()
    assert value >= 0
    assert math.isfinite(value)
    if abs(mean) > 1e-10 or abs(log_var) > 1e-2:
        assert value > 0


def test_it_is_zero_at_the_prior_and_only_there() -> None:
    zeros = torch.zeros(3, 4)
    assert kl_divergence(zeros, zeros, reduction="none").tolist() == [0.0] * 3
    for move in ({"mean": 1e-3}, {"log_var": 1e-3}, {"log_var": -1e-3}):
        moved = {name: zeros + move.get(name, 0.0) for name in ("mean", "log_var")}
        assert (kl_divergence(**moved, reduction="none") > 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    mean, log_var = gaussians(4, 100, dtype=dtype)
    result = kl_divergence(mean, log_var)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, kl_divergence(mean.float(), log_var.float()), **named("exact"))


def test_it_is_differentiable_twice() -> None:
    inputs = tuple(part.requires_grad_() for part in gaussians(3, 2))
    assert gradcheck(lambda *x: kl_divergence(*x, reduction="none"), inputs)
    assert gradgradcheck(lambda *x: kl_divergence(*x, reduction="none"), inputs)
    latents = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda *x: monte_carlo_kl(*x, reduction="none"), (latents, *inputs))
    assert gradgradcheck(lambda *x: monte_carlo_kl(*x, reduction="none"), (latents, *inputs))
    assert gradcheck(lambda *x: free_bits(*x, nats=1.0), inputs)


def test_one_draw_written_out_with_densities() -> None:
    mean, log_var = gaussians(5, 3)
    latents = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    z, m, s = latents.numpy(), mean.numpy(), np.exp(log_var.numpy() / 2)
    log_q = (-np.log(s * np.sqrt(2 * np.pi)) - ((z - m) / s) ** 2 / 2).sum(1)
    log_p = (-np.log(np.sqrt(2 * np.pi)) - z**2 / 2).sum(1)
    result = monte_carlo_kl(latents, mean, log_var, reduction="none")
    np.testing.assert_allclose(result.numpy(), log_q - log_p, **for_dtype(torch.float64))
    np.testing.assert_allclose(monte_carlo_kl(latents, mean, log_var).item(), (log_q - log_p).mean())


def test_the_mean_of_many_draws_is_the_closed_form() -> None:
    mean, log_var = (part.expand(20_000, 2) for part in gaussians(1, 2))
    latents = reparameterize(mean, log_var, generator=torch.Generator().manual_seed(0))
    draws = monte_carlo_kl(latents, mean, log_var, reduction="none")
    standard_error = draws.std() / len(draws) ** 0.5
    assert abs(draws.mean() - kl_divergence(mean, log_var)) < 4 * standard_error


def test_free_bits_limit_the_mean_of_each_latent() -> None:
    mean, log_var = gaussians(6, 4)
    each = oracle(Normal(mean, (log_var / 2).exp()), Normal(torch.zeros_like(mean), 1.0)).mean(0).tolist()
    nats = sorted(each)[1] + 0.01  # two of the four lie below
    double = for_dtype(torch.float64)
    expected = torch.tensor(sum(max(nats, value) for value in each), dtype=torch.float64)
    torch.testing.assert_close(free_bits(mean, log_var, nats=nats), expected, **double)
    torch.testing.assert_close(free_bits(mean, log_var, nats=0), kl_divergence(mean, log_var), **double)


def test_what_is_free_has_no_gradient() -> None:
    mean = torch.tensor([[0.1, 3.0], [-0.1, 2.0]], requires_grad=True)
    free_bits(mean, torch.zeros(2, 2), nats=0.5).backward()
    assert mean.grad is not None
    assert mean.grad[:, 0].tolist() == [0.0, 0.0]
    assert mean.grad[:, 1].tolist() == [1.5, 1.0]  # mean / N


def test_what_does_not_fit_is_told() -> None:
    mean, log_var = gaussians(3, 2)
    with pytest.raises(ValueError, match=r"`mean` has shape \(3, 2\) and `log_var` has shape \(3, 1\)"):
        kl_divergence(mean, log_var[:, :1])
    with pytest.raises(ValueError, match=r"`mean` has shape \(3,\)"):
        kl_divergence(mean[:, 0], log_var[:, 0])
    with pytest.raises(ValueError, match="`reduction` is 'sum'"):
        kl_divergence(mean, log_var, reduction="sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one image"):
        kl_divergence(mean[:0], log_var[:0])
    assert kl_divergence(mean[:0], log_var[:0], reduction="none").shape == (0,)
    with pytest.raises(ValueError, match="`latents` has shape"):
        monte_carlo_kl(mean[:1], mean, log_var)
    for nats in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="`nats` is"):
            free_bits(mean, log_var, nats=nats)
    with pytest.raises(ValueError, match="at least one image"):
        free_bits(mean[:0], log_var[:0], nats=1.0)
