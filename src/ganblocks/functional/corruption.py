"""Noise that an autoencoder has to remove: Gaussian, masking, salt and pepper (Vincent et al. 2010, section 4.3).

Pure functions of images and a ``torch.Generator``. The draw happens on the generator's device and the result is moved,
so a generator on the CPU gives the same noise for every device. All work on any shape: images and codes alike.
"""

import math

import torch
from torch import Tensor

from ganblocks._checks import require
from ganblocks.functional.draws import draw

__all__ = ["gaussian_noise", "masking_noise", "salt_and_pepper"]


def gaussian_noise(
    images: Tensor,
    std: float = 0.2,
    *,
    clip: tuple[float, float] | None = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Add independent normal noise to every value, then clamp: ``clamp(images + std * N(0, 1), *clip)``.

    Differentiable in ``images`` where nothing is clamped; the gradient is 0 where something is.

    Args:
        images: Any shape, floating-point; intensities in [0, 1] for the default ``clip``.
        std: Standard deviation of the noise in the unit of the images, 0 or more.
        clip: Lowest and highest value of the result; ``None`` = nothing is clamped.
        generator: Where the numbers come from; ``None`` = torch's global generator of the images' device.

    Returns:
        Shape, dtype and device of ``images``. Types of 16 bits get noise drawn in float32.

    Raises:
        TypeError: ``images`` are not floating-point.
        ValueError: ``std`` is negative or not finite, or ``clip`` is reversed.
    """
    _require_floating(images)
    require(std >= 0 and math.isfinite(std), "std", std, "0 or more, and finite")
    require(clip is None or clip[0] <= clip[1], "clip", clip, "the lower bound, then the higher, or None")
    device, dtype = _drawn_as(images, generator)
    noise = draw(torch.randn, tuple(images.shape), generator, device=device, dtype=dtype).to(images.device)
    noisy = images.add(noise, alpha=std).to(images.dtype)
    return noisy if clip is None else noisy.clamp(*clip)


def masking_noise(images: Tensor, p: float, *, generator: torch.Generator | None = None) -> Tensor:
    """Set every value to 0 with probability ``p``, independently: what is left keeps its size, unlike in dropout.

    The paper sets a fixed share of each image to 0; here the share is ``p`` on average.

    Args:
        images: Any shape, floating-point.
        p: Probability, 0 to 1.
        generator: As in `gaussian_noise`.

    Returns:
        Shape, dtype and device of ``images``.

    Raises:
        TypeError: ``images`` are not floating-point.
        ValueError: ``p`` is out of range.
    """
    uniform = _uniform(images, p, generator)
    return torch.where(uniform < p, torch.zeros_like(images), images)


def salt_and_pepper(
    images: Tensor,
    p: float,
    *,
    levels: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Set every value with probability ``p`` to one of two levels, by a fair coin; independently.

    Args:
        images: Any shape, floating-point.
        p: Probability that a value is lost, 0 to 1.
        levels: Pepper and salt: the lowest and the highest value of an image.
        generator: As in `gaussian_noise`.

    Returns:
        Shape, dtype and device of ``images``.

    Raises:
        TypeError: ``images`` are not floating-point.
        ValueError: ``p`` is out of range.
    """
    uniform = _uniform(images, p, generator)
    peppered = torch.where(uniform < p / 2, torch.full_like(images, levels[0]), images)
    return torch.where((uniform >= p / 2) & (uniform < p), torch.full_like(images, levels[1]), peppered)


def _require_floating(images: Tensor) -> None:
    require(images.is_floating_point(), "images", images.dtype, "a floating-point tensor", TypeError)


def _drawn_as(images: Tensor, generator: torch.Generator | None) -> tuple[torch.device, torch.dtype]:
    """Device and dtype of the draw."""
    device = images.device if generator is None else generator.device
    return device, torch.promote_types(images.dtype, torch.float32)


def _uniform(images: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
    """One number on [0, 1) for every value, where the images are."""
    _require_floating(images)
    require(0 <= p <= 1, "p", p, "a probability, 0 to 1")
    device, dtype = _drawn_as(images, generator)
    return draw(torch.rand, tuple(images.shape), generator, device=device, dtype=dtype).to(images.device)
