"""The colours of one image given to another, and its brightness alone."""

import torch
from torch import Tensor

from ganblocks._checks import require, require_rank, require_same_shape

__all__ = ["match_color", "with_luminance"]

_LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue (Rec. 601)


def match_color(images: Tensor, target: Tensor, *, eps: float = 1e-6) -> Tensor:
    """Change colours by one linear map, so that their mean and covariance over the image become those of the target.

    ``A (x - mean_x) + mean_y`` with ``A = C_y^(1/2) C_x^(-1/2)`` (Gatys, Bethge, Hertzmann and Shechtman 2016,
    arXiv:1606.05897, section 4.1, the form of the image analogies). Computed in float64.

    Args:
        images: x, ``[N, C, H, W]``, floating-point.
        target: y, ``[N, C, H', W']``, or ``[1, C, H', W']`` for all.
        eps: Added to the diagonal of both covariances, above 0, for images of one colour.

    Returns:
        The shape and dtype of ``images``. Values may leave the range of both.

    Raises:
        TypeError: If an argument is not a floating-point tensor.
        ValueError: If the shapes do not go together, an image has no pixel, or ``eps`` is not positive.
    """
    for name, part in (("images", images), ("target", target)):
        require_rank(part, name, 4, 4)
        require(part.is_floating_point(), name, part.dtype, "of a floating-point dtype", TypeError)
        require(part.shape[2:].numel() > 0, name, tuple(part.shape), "[N, C, H, W] with at least one pixel")
    N, C = images.shape[:2]
    fits = target.shape[1] == C and target.shape[0] in (1, N)
    require(fits, "target", tuple(target.shape), f"[{N}, {C}, H, W] or [1, {C}, H, W]")
    require(eps > 0, "eps", eps, "above 0")
    (x, x_mean, x_cov), (_, y_mean, y_cov) = (_moments(part, eps) for part in (images, target))
    matched = _power(y_cov, 0.5) @ _power(x_cov, -0.5) @ (x - x_mean) + y_mean
    return matched.reshape(images.shape).to(images.dtype)


def with_luminance(images: Tensor, luminance_of: Tensor) -> Tensor:
    """The colours of the first with the brightness of the second (arXiv:1606.05897, section 4.2).

    The same is added to red, green and blue, which in YIQ leaves I and Q as they are: ``x + Y(y) - Y(x)``, with Y of
    Rec. 601.

    Args:
        images: x, ``[N, 3, H, W]``, floating-point.
        luminance_of: y, of the same shape.

    Returns:
        ``[N, 3, H, W]``. Values may leave [0, 1].

    Raises:
        TypeError: If an argument is not a floating-point tensor.
        ValueError: If a shape does not fit.
    """
    require_same_shape(images, luminance_of, "images", "luminance_of")
    require_rank(images, "images", 4, 4)
    require(images.shape[1] == 3, "images", tuple(images.shape), "[N, 3, H, W]")
    for name, part in (("images", images), ("luminance_of", luminance_of)):
        require(part.is_floating_point(), name, part.dtype, "of a floating-point dtype", TypeError)
    weights = torch.tensor(_LUMINANCE, dtype=images.dtype, device=images.device)
    return images + torch.einsum("nchw,c->nhw", luminance_of - images, weights)[:, None]


def _moments(images: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels [N, C, P] in float64, their mean [N, C, 1] and covariance [N, C, C]."""
    pixels = images.double().flatten(2)
    mean = pixels.mean(2, keepdim=True)
    centred = pixels - mean
    identity = torch.eye(pixels.shape[1], dtype=pixels.dtype, device=pixels.device)
    return pixels, mean, centred @ centred.mT / pixels.shape[2] + eps * identity


def _power(cov: Tensor, exponent: float) -> Tensor:
    """Of a symmetric, positive definite matrix."""
    values, vectors = torch.linalg.eigh(cov)
    return vectors * values.clamp(min=torch.finfo(values.dtype).tiny).pow(exponent)[:, None, :] @ vectors.mT
