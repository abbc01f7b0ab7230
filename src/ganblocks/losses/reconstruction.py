"""How far a reconstruction is from its image: one number an image, summed over its pixels.

Each is a negative log-likelihood, but for the constants of the first: `squared_error` is the Gaussian one of variance
1/2 without its normalisation. Sums over pixels make them the first term of the evidence bound of a variational
autoencoder (Kingma & Welling 2014, equation 10); ``loss / pixels`` is the mean that other libraries show.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ganblocks._checks import require, require_rank, require_same_shape

__all__ = ["Reduction", "bernoulli", "gaussian", "squared_error"]

Reduction = Literal["mean", "none"]
"""``"mean"``: over the batch, of each image's sum; ``"none"``: the sums, ``[N]``."""


def squared_error(reconstructed: Tensor, images: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Sum of squared differences: ``sum (reconstructed - images)^2`` over all dimensions but the first.

    Args:
        reconstructed: ``[N, ...]``, floating-point.
        images: The same shape; nothing is broadcast.
        reduction: ``"mean"`` over the batch, or ``"none"``.

    Returns:
        A scalar, or ``[N]``; in at least float32. Twice differentiable in both.

    Raises:
        TypeError: An argument is no floating-point tensor.
        ValueError: The shapes differ, there is no image to average over, or the reduction is unknown.
    """
    reconstructed, images = _checked(reconstructed, images, "reconstructed")
    if reduction == "mean" and len(images):
        return F.mse_loss(reconstructed, images, reduction="sum") / len(images)  # one pass over memory
    return _reduced((reconstructed - images).square(), reduction)


def bernoulli(
    reconstructed: Tensor, images: Tensor, *, logits: bool = False, eps: float = 1e-7, reduction: Reduction = "mean"
) -> Tensor:
    """Binary cross-entropy, in nats: ``-sum x log p + (1 - x) log(1 - p)`` over all dimensions but the first.

    The negative log-likelihood of pixels that are 0 or 1 (Kingma & Welling 2014, appendix C.1). With grey images it is
    no likelihood, but still smallest at p = x, where it is the entropy of the pixels and not 0.

    Args:
        reconstructed: ``[N, ...]``: probabilities p in [0, 1], or with ``logits`` any numbers z, p = sigmoid(z). Logits
            are finite in value and gradient however sure the network is.
        images: The same shape, in [0, 1]; values are not looked at, which would make the host wait for a GPU.
        logits: Whether ``reconstructed`` are logits.
        eps: Probabilities are clamped to [eps, 1 - eps] first, above 0 and below 1/2: nothing is infinite, and what is
            clamped has no gradient. Without effect on logits.
        reduction: ``"mean"`` over the batch, or ``"none"``.

    Returns:
        A scalar, or ``[N]``; in at least float32. Twice differentiable in both.

    Raises:
        TypeError: An argument is no floating-point tensor.
        ValueError: The shapes differ, there is no image to average over, or a setting is out of range.
    """
    reconstructed, images = _checked(reconstructed, images, "reconstructed")
    require(0 < eps < 0.5, "eps", eps, "above 0 and below 1/2")
    if logits:
        return _reduced(F.softplus(reconstructed) - reconstructed * images, reduction)
    p = reconstructed.clamp(eps, 1 - eps)
    return _reduced(-(images * p.log() + (1 - images) * (1 - p).log()), reduction)


def gaussian(mean: Tensor, images: Tensor, *, log_var: Tensor | float = 0.0, reduction: Reduction = "mean") -> Tensor:
    """Negative log-density of a normal distribution, in nats, summed over all dimensions but the first.

    ``sum (log(2 pi) + log_var + (images - mean)^2 exp(-log_var)) / 2`` (Kingma & Welling 2014, appendix C.2). It falls
    below 0 where densities rise above 1.

    Args:
        mean: ``[N, ...]``, floating-point: the reconstructed images.
        images: The same shape; nothing is broadcast.
        log_var: Logarithm of the variance: one number, a 0-d tensor (a parameter that is learnt), or one for each pixel
            in the shape of ``images``.
        reduction: ``"mean"`` over the batch, or ``"none"``.

    Returns:
        A scalar, or ``[N]``; in at least float32. Twice differentiable in all three.

    Raises:
        TypeError: An argument is no floating-point tensor.
        ValueError: The shapes differ, there is no image to average over, or the reduction is unknown.
    """
    mean, images = _checked(mean, images, "mean")
    spread = log_var if isinstance(log_var, Tensor) else mean.new_tensor(log_var)
    if spread.dim():
        require_same_shape(spread, images, "log_var", "images")
    spread = spread.to(torch.promote_types(spread.dtype, torch.float32))
    squared = (images - mean).square() * (-spread).exp()
    return _reduced((math.log(2 * math.pi) + spread + squared) / 2, reduction)


def _checked(first: Tensor, images: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Both tensors in at least float32, or what is wrong with them."""
    for tensor, argument in ((first, name), (images, "images")):
        require_rank(tensor, argument, 1)
        require(tensor.is_floating_point(), argument, tensor.dtype, "a floating-point tensor", TypeError)
    require_same_shape(first, images, name, "images")
    dtype = torch.promote_types(torch.promote_types(first.dtype, images.dtype), torch.float32)
    return first.to(dtype), images.to(dtype)


def _reduced(values: Tensor, reduction: Reduction) -> Tensor:
    """Sum over all dimensions but the first, then the batch."""
    require(reduction in ("mean", "none"), "reduction", reduction, "'mean' or 'none'")
    sums = values.flatten(1).sum(1) if values.dim() > 1 else values
    if reduction == "none":
        return sums
    require(len(sums) >= 1, "images", tuple(values.shape), "at least one, for a mean")
    return sums.mean()
