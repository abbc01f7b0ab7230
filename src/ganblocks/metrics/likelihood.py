"""How likely a latent variable model holds images to be, and how many of its latents it uses.

`importance_weighted_bound` is the estimate of ``log p(x)`` under which variational autoencoders are compared (Burda,
Grosse, Salakhutdinov, "Importance weighted autoencoders", ICLR 2016; arXiv:1509.00519). The prior is N(0, 1).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ganblocks._checks import require, require_rank, require_same_shape
from ganblocks.errors import EmptyDatasetError

__all__ = ["active_units", "importance_weighted_bound"]


@torch.no_grad()
def importance_weighted_bound(
    images: Tensor,
    proposal: Callable[[Tensor], tuple[Tensor, Tensor]],
    log_likelihood: Callable[[Tensor, Tensor], Tensor],
    *,
    samples: int = 200,
    batch_size: int = 100,
    samples_at_once: int = 20,
    seed: int = 0,
) -> Tensor:
    """A lower bound of ``log p(x)`` for each image, by importance sampling.

    ``log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x)`` with ``z_k`` drawn from q (section 3 there). In expectation it
    never exceeds ``log p(x)``, grows with K, and reaches it in the limit; with K = 1 it is the evidence lower bound.
    The draws are a function of ``seed``, ``batch_size`` and ``samples_at_once``.

    Args:
        images: ``[N, ...]``, as the two functions take them.
        proposal: Images ``[B, ...]`` to mean and log-variance of q(z | x), ``[B, Z]`` each. Any proposal gives a
            bound, a better one a tighter bound.
        log_likelihood: Images ``[M, ...]`` and latents ``[M, Z]`` to ``log p(x | z)``, ``[M]``, in nats.
        samples: K, at least 1.
        batch_size: Images B at a time.
        samples_at_once: Latents of each image at a time: M is up to ``batch_size * samples_at_once``.
        seed: Of the draws, which are made on the CPU: the same on every device.

    Returns:
        float64 ``[N]`` on the CPU, in nats. Its mean is the number that papers give.

    Raises:
        EmptyDatasetError: If there is no image.
        ValueError: If a number is below 1, or the functions give other shapes.
    """
    for name, value in (("samples", samples), ("batch_size", batch_size), ("samples_at_once", samples_at_once)):
        require(value >= 1, name, value, "at least 1")
    if len(images) == 0:
        raise EmptyDatasetError("`images` has none")
    generator = torch.Generator().manual_seed(seed)
    bounds = []
    for part in torch.split(images, batch_size):
        mean, log_var = proposal(part)
        require_rank(mean, "mean", 2, 2)
        require_same_shape(mean, log_var, "mean", "log_var")
        require(len(mean) == len(part), "mean", tuple(mean.shape), f"[{len(part)}, Z], one row an image")
        total = torch.full((len(part),), -math.inf, dtype=torch.float64)
        for start in range(0, samples, samples_at_once):
            count = min(samples_at_once, samples - start)
            weights = _log_weights(part, mean, log_var, log_likelihood, count, generator)
            total = torch.logaddexp(total, torch.logsumexp(weights, dim=0))
        bounds.append(total - math.log(samples))
    return torch.cat(bounds)


def _log_weights(
    images: Tensor,
    mean: Tensor,
    log_var: Tensor,
    log_likelihood: Callable[[Tensor, Tensor], Tensor],
    count: int,
    generator: torch.Generator,
) -> Tensor:
    """``log p(x | z) + log p(z) - log q(z | x)`` of ``count`` draws for each image: float64 ``[count, B]``, CPU."""
    noise = torch.randn((count, *mean.shape), generator=generator).to(mean)
    latents = mean + torch.exp(log_var / 2) * noise  # [count, B, Z]
    # The constants of the two Gaussians are equal and fall out.
    ratio = (noise.double().square() + log_var.double() - latents.double().square()).sum(2) / 2
    repeated = images.expand(count, *images.shape).flatten(0, 1)
    likelihood = log_likelihood(repeated, latents.flatten(0, 1))
    wanted = (count * len(images),)
    require(tuple(likelihood.shape) == wanted, "log_likelihood", tuple(likelihood.shape), f"of shape {wanted}")
    return (likelihood.double().reshape(count, -1) + ratio).cpu()


def active_units(means: Tensor, *, threshold: float = 0.01) -> Tensor:
    """Which latents carry something: those whose posterior mean varies over the images.

    ``Var_x(E_q[z_u]) > threshold`` (Burda et al. 2016, section 5.2); a latent that the model has given up has the
    prior's mean for every image.

    Args:
        means: Posterior means ``[N, Z]`` of at least 2 images; a model's ``encode`` gives them.
        threshold: Of the variance (with N - 1); 0.01 is the paper's.

    Returns:
        bool ``[Z]``; its sum is the number of active units.

    Raises:
        ValueError: If there are fewer than 2 images, or the threshold is negative.
    """
    require_rank(means, "means", 2, 2)
    require(len(means) >= 2, "means", tuple(means.shape), "[N, Z] with N at least 2")
    require(threshold >= 0, "threshold", threshold, "0 or more")
    return means.double().var(0, correction=1) > threshold
