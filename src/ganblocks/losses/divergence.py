"""How far a diagonal Gaussian is from the standard normal: the second term of a variational autoencoder's loss.

Everything is in nats and sums over the latent dimensions; a mean is over images only. Dividing by the number of latents
or pixels, which a mean over all entries does, would change the balance with the reconstruction.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from ganblocks._checks import require, require_rank, require_same_shape

__all__ = ["free_bits", "kl_divergence", "monte_carlo_kl"]


def kl_divergence(mean: Tensor, log_var: Tensor, *, reduction: Literal["mean", "none"] = "mean") -> Tensor:
    """Kullback-Leibler divergence of N(mean, exp(log_var)) from N(0, 1), in closed form.

    ``-1/2 sum(1 + log_var - mean^2 - exp(log_var))`` over all dimensions but the first (Kingma and Welling 2014,
    appendix B). Never negative, and 0 only where the mean is 0 and the variance 1. Differentiable any number of times.

    Args:
        mean: ``[N, Z]``, or ``[N, ...]``.
        log_var: Logarithm of the variance, not of the standard deviation; the shape of ``mean``.
        reduction: ``"mean"`` over the images, or ``"none"``.

    Returns:
        A scalar, or ``[N]``; at least float32.

    Raises:
        ValueError: Unequal shapes, no dimension of images, no image to take the mean of, or an unknown reduction.
    """
    return _reduce(_kl_of_each_latent(mean, log_var).flatten(1).sum(1), reduction)


def monte_carlo_kl(
    latents: Tensor, mean: Tensor, log_var: Tensor, *, reduction: Literal["mean", "none"] = "mean"
) -> Tensor:
    """The same divergence, estimated by one draw: ``log q(z) - log p(z)`` at ``latents`` drawn from N(mean, var).

    Its expectation over the draws is `kl_divergence` (Kingma and Welling 2014, equation 6). One draw may be negative.

    Args:
        latents: What was drawn; the shape of ``mean``.
        mean: ``[N, Z]``, or ``[N, ...]``.
        log_var: Logarithm of the variance of what was drawn; the shape of ``mean``.
        reduction: ``"mean"`` over the images, or ``"none"``.

    Returns:
        A scalar, or ``[N]``; at least float32.

    Raises:
        ValueError: As in `kl_divergence`.
    """
    require_same_shape(latents, mean, "latents", "mean")
    mean, log_var = _checked(mean, log_var)
    latents = latents.to(mean.dtype)
    # log q has -z^2/2 with z standardised, log p with z as it is; their constants are equal.
    standardised = (latents - mean) * torch.exp(-log_var / 2)
    each = (latents.square() - standardised.square() - log_var) / 2
    return _reduce(each.flatten(1).sum(1), reduction)


def free_bits(mean: Tensor, log_var: Tensor, *, nats: float) -> Tensor:
    """The divergence of the whole batch, of which each latent may have a share free of charge.

    ``sum_z max(nats, mean_n KL_nz)`` (Kingma et al. 2016, "Improving variational inference with inverse autoregressive
    flow", free bits): a latent that carries less than this is not pushed further towards the prior, which early in
    training would switch it off for good.

    Args:
        mean: ``[N, Z]``, or ``[N, ...]``.
        log_var: Logarithm of the variance; the shape of ``mean``.
        nats: Free share of each latent, 0 or more; 0 gives `kl_divergence`. One bit is 0.693 nats.

    Returns:
        A scalar, at least float32. There is no form for each image: the limit holds for the mean of the batch.

    Raises:
        ValueError: As in `kl_divergence`, or ``nats`` is negative or not finite.
    """
    require(0 <= nats < math.inf, "nats", nats, "0 or more, and finite")
    each = _kl_of_each_latent(mean, log_var)
    require(len(each) > 0, "mean", tuple(mean.shape), "of at least one image")
    return each.mean(0).clamp(min=nats).sum()


def _kl_of_each_latent(mean: Tensor, log_var: Tensor) -> Tensor:
    mean, log_var = _checked(mean, log_var)
    # expm1 keeps the digits that 1 + s - exp(s) loses near s = 0, where the result must not come out below 0.
    return (mean.square() + (torch.expm1(log_var) - log_var)) / 2


def _checked(mean: Tensor, log_var: Tensor) -> tuple[Tensor, Tensor]:
    """Both in at least float32."""
    require_rank(mean, "mean", 2)
    require_same_shape(mean, log_var, "mean", "log_var")
    dtype = torch.promote_types(torch.promote_types(mean.dtype, log_var.dtype), torch.float32)
    return mean.to(dtype), log_var.to(dtype)


def _reduce(values: Tensor, reduction: str) -> Tensor:
    require(reduction in ("mean", "none"), "reduction", reduction, "'mean' or 'none'")
    if reduction == "none":
        return values
    require(len(values) > 0, "mean", tuple(values.shape), "of at least one image")
    return values.mean()
