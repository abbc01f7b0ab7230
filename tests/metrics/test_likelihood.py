"""The bound on the likelihood, on a model whose likelihood has a closed form: linear and Gaussian throughout."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from torch import Tensor

from ganblocks.errors import EmptyDatasetError
from ganblocks.metrics.likelihood import active_units, importance_weighted_bound
from tolerances import for_dtype

Z, D = 3, 5


class LinearGaussian:
    """z ~ N(0, 1), x = W z + b + N(0, s^2): then x ~ N(b, W W' + s^2) and p(z | x) is known (Bishop 2006, 12.2)."""

    def __init__(self, *, seed: int = 0, widen: float = 1.0) -> None:
        rng = np.random.default_rng(seed)
        # Orthogonal columns make the posterior diagonal, as the proposals are.
        self.W = np.linalg.qr(rng.normal(size=(D, Z)))[0] * rng.uniform(0.5, 2.0, size=Z)
        self.b = rng.normal(size=D)
        self.s = 0.7
        self.widen = widen
        self.x = self.b + rng.normal(size=(40, Z)) @ self.W.T + self.s * rng.normal(size=(40, D))

    @property
    def images(self) -> Tensor:
        return torch.from_numpy(self.x)

    def log_p(self) -> np.ndarray:
        return multivariate_normal(self.b, self.W @ self.W.T + self.s**2 * np.eye(D)).logpdf(self.x)

    def posterior(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        variance = 1 / (1 + (self.W**2).sum(0) / self.s**2)
        mean = variance * ((x - self.b) @ self.W) / self.s**2
        return mean, np.broadcast_to(variance, mean.shape)

    def proposal(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The true posterior, or one that is wider and beside it."""
        mean, variance = self.posterior(x.numpy())
        beside = 0.3 * (self.widen != 1)
        return torch.from_numpy(mean + beside), torch.from_numpy(np.log(variance * self.widen))

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        error = (x.numpy() - self.b - z.numpy() @ self.W.T) / self.s
        return torch.from_numpy(-(error**2).sum(1) / 2 - D * np.log(self.s * np.sqrt(2 * np.pi)))

    def bound(self, samples: int, **options: int) -> Tensor:
        return importance_weighted_bound(
            self.images, self.proposal, self.log_likelihood, samples=samples, batch_size=16, **options
        )

    def elbo(self) -> np.ndarray:
        """In closed form: log p(x) minus the divergence of the proposal from the true posterior."""
        mean, variance = self.posterior(self.x)
        proposed_mean, proposed_log_var = (part.numpy() for part in self.proposal(self.images))
        proposed = np.exp(proposed_log_var)
        divergence = (
            proposed / variance + (proposed_mean - mean) ** 2 / variance - 1 - np.log(proposed / variance)
        ) / 2
        return self.log_p() - divergence.sum(1)


def test_the_true_posterior_gives_the_likelihood_with_a_single_draw() -> None:
    """All weights are p(x) then, whatever was drawn."""
    model = LinearGaussian()
    for samples in (1, 7):
        np.testing.assert_allclose(model.bound(samples).numpy(), model.log_p(), **for_dtype(torch.float64))


def test_the_evidence_lower_bound_lies_below_the_likelihood() -> None:
    model = LinearGaussian(widen=2.0)
    assert (model.elbo() < model.log_p()).all()
    estimates = np.stack([model.bound(1, seed=seed).numpy() for seed in range(400)])
    standard_error = estimates.std(0) / len(estimates) ** 0.5
    assert (abs(estimates.mean(0) - model.elbo()) < 4.5 * standard_error).all()


def test_more_samples_bring_the_bound_up_to_the_likelihood() -> None:
    model = LinearGaussian(widen=2.0)
    gaps = []
    for samples, repeats in ((1, 200), (5, 100), (50, 20), (2000, 2)):
        mean = np.mean([model.bound(samples, seed=seed).numpy().mean() for seed in range(repeats)])
        gaps.append(model.log_p().mean() - mean)
    assert all(wide > narrow for wide, narrow in itertools.pairwise(gaps))
    assert gaps[0] > 0.5
    assert abs(gaps[-1]) < 0.01


def test_the_estimate_written_out_from_densities() -> None:
    """Every density by NumPy from the draws that the documented generator makes."""
    model = LinearGaussian(widen=1.5)
    x, K = model.x[:4], 6
    result = importance_weighted_bound(
        model.images[:4], model.proposal, model.log_likelihood, samples=K, samples_at_once=6, seed=3
    )
    noise = torch.randn((K, 4, Z), generator=torch.Generator().manual_seed(3)).double().numpy()
    mean, log_var = (part.numpy() for part in model.proposal(model.images[:4]))
    z = mean + np.exp(log_var / 2) * noise
    log_q = (-(noise**2) / 2 - log_var / 2 - np.log(2 * np.pi) / 2).sum(2)
    log_prior = (-(z**2) / 2 - np.log(2 * np.pi) / 2).sum(2)
    error = (x - model.b - z @ model.W.T) / model.s
    log_x = (-(error**2) / 2 - np.log(model.s * np.sqrt(2 * np.pi))).sum(2)
    expected = logsumexp(log_x + log_prior - log_q, axis=0) - np.log(K)
    np.testing.assert_allclose(result.numpy(), expected, **for_dtype(torch.float64))


def test_it_is_a_function_of_the_seed_and_leaves_the_global_generator_alone() -> None:
    model = LinearGaussian(widen=2.0)
    before = torch.get_rng_state()
    first, again, other = model.bound(5), model.bound(5), model.bound(5, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first.dtype, first.shape) == (torch.float64, (40,))


@pytest.mark.parametrize("at_once", [1, 4, 100])
def test_samples_of_any_number_at_once_are_all_counted(at_once: int) -> None:
    """The weights of a proposal that is the prior, with p(x | z) constant: every bound is that constant."""
    images = torch.zeros(3, 2, dtype=torch.float64)
    calls: list[int] = []

    def log_likelihood(x: Tensor, z: Tensor) -> Tensor:
        assert len(x) == len(z)
        calls.append(len(z))
        return torch.full((len(z),), -1000.0, dtype=torch.float64)  # whose exponential is 0

    bound = importance_weighted_bound(
        images,
        lambda x: (torch.zeros_like(x), torch.zeros_like(x)),
        log_likelihood,
        samples=10,
        samples_at_once=at_once,
    )
    assert sum(calls) == 30
    np.testing.assert_allclose(bound.numpy(), -1000.0, **for_dtype(torch.float64))


def test_an_image_meets_its_own_latents() -> None:
    """Proposals with variance almost 0: each image is decoded at its own mean, whatever the sizes of the parts."""
    images = torch.arange(7, dtype=torch.float64).reshape(7, 1)
    bound = importance_weighted_bound(
        images,
        lambda x: (x, torch.full_like(x, -50.0)),
        lambda x, z: -((x - z) ** 2).sum(1) * 1e6,
        samples=3,
        batch_size=3,
        samples_at_once=2,
    )
    # what is left is the prior's -x^2/2 and the constant of log q
    drift = bound + images[:, 0] ** 2 / 2
    assert (drift - drift.mean()).abs().max() < 3


def test_likelihood_that_is_impossible_is_minus_infinity() -> None:
    images = torch.zeros(2, 1)
    flat = importance_weighted_bound(
        images, lambda x: (x, x), lambda x, z: torch.full((len(z),), -math.inf), samples=4, samples_at_once=3
    )
    assert flat.tolist() == [-math.inf] * 2


def test_active_units_are_those_whose_mean_varies() -> None:
    rng = torch.Generator().manual_seed(0)
    means = torch.randn(500, 4, generator=rng) * torch.tensor([1.0, 0.0, 0.05, 0.2]) + 3.0
    assert active_units(means).tolist() == [True, False, False, True]
    assert active_units(means, threshold=0.001).tolist() == [True, False, True, True]
    two = torch.tensor([[0.0], [1.0]])  # variance 1/2 with N - 1
    assert active_units(two, threshold=0.49).item()
    assert not active_units(two, threshold=0.5).item()


def test_what_does_not_fit_is_told() -> None:
    model = LinearGaussian()
    with pytest.raises(EmptyDatasetError):
        importance_weighted_bound(model.images[:0], model.proposal, model.log_likelihood)
    for name in ("samples", "batch_size", "samples_at_once"):
        with pytest.raises(ValueError, match=f"`{name}` is 0"):
            importance_weighted_bound(model.images, model.proposal, model.log_likelihood, **{name: 0})
    with pytest.raises(ValueError, match=r"`log_likelihood` is \(\), but must be of shape \(80,\)"):
        importance_weighted_bound(model.images, model.proposal, lambda x, z: z.sum(), samples=2)
    with pytest.raises(ValueError, match=r"`mean` is \(1, 3\), but must be \[40, Z\]"):
        importance_weighted_bound(
            model.images, lambda x: (torch.zeros(1, 3), torch.zeros(1, 3)), model.log_likelihood, samples=2
        )
    with pytest.raises(ValueError, match="`log_var` has shape"):
        importance_weighted_bound(model.images, lambda x: (x, x[:, :1]), model.log_likelihood)
    with pytest.raises(ValueError, match="N at least 2"):
        active_units(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="`threshold` is -1"):
        active_units(torch.zeros(3, 2), threshold=-1)
