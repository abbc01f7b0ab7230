"""DRAGAN's gradient penalty: in the neighbourhood of the real images, without looking at generated ones."""

import math
from typing import Literal

import torch
from torch import Tensor

from ganblocks._checks import require, require_rank, require_same_shape
from ganblocks.functional.draws import draw
from ganblocks.losses.penalties import Critic, gradient_penalty

__all__ = ["dragan_penalty"]


def dragan_penalty(
    critic: Critic,
    real_images: Tensor,
    *,
    target_norm: float = 1.0,
    spread: float = 0.5,
    one_sided: bool = False,
    noise: Tensor | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    autocast: Literal[False] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """DRAGAN's penalty (||grad D(x)||_2 - target_norm)^2 at real images with noise on them.

    Source: Kodali et al. 2017, section 2.3. There are two published forms. This is the one of the authors' programs,
    ``x + 0.5 * std(x) * u`` with u uniform on [0, 1) for every element, and std(x) one number, the standard deviation
    of all elements of the batch about their common mean. The text has x + N(0, c I) instead.

    Norm, target and mean are in at least float32. A zero gradient has norm 0 and contributes no gradient. Because
    std(x) is that of the batch, the points of one image depend on its neighbours.

    Args:
        critic: Any callable, images [N, ...] -> scores [N]; see
            `input_gradients`.
        real_images: [N, ...], detached.
        target_norm: The norm asked for, k in the paper, 1 there.
        spread: Largest noise in standard deviations of the batch, 0 or more; 0 asks at the real images themselves.
        one_sided: Whether only norms above the target count: max(0, norm - target)^2.
        noise: u, of the shape of the images; None draws it.
        reduction: ``"mean"`` or ``"sum"`` over the batch, or ``"none"`` for [N].
        autocast: None runs the critic in the ambient autocast, False in at least float32, autocast off.
        generator: Draws the noise, on its own device; None uses the global generator of the images' device. Leave it
            None, or give the noise, inside ``torch.compile``.

    Returns:
        A scalar, or [N] for ``reduction="none"``, in at least float32, unweighted (no lambda; the paper's is 10).

    Raises:
        ValueError: If the batch is empty, the noise has another shape, both ``noise`` and ``generator`` are given, or
            an option is out of range.
        TypeError: If the images are not a floating-point tensor.
        RuntimeError: If the critic is compiled by itself.
    """
    require_rank(real_images, "real_images", 2)
    require(real_images.is_floating_point(), "real_images", real_images.dtype, "floating point", TypeError)
    require(real_images.shape[0] >= 1, "real_images", tuple(real_images.shape), "of at least one image")
    require(0 <= spread < math.inf, "spread", spread, "0 or more, and finite")
    wide = real_images.detach().to(torch.promote_types(real_images.dtype, torch.float32))
    step = spread * wide.std(correction=0) * _uniform(noise, wide, generator)
    points = (wide + step).to(real_images.dtype)
    return gradient_penalty(
        critic,
        points,
        points,  # the point between two equal ones is that point, whatever the weights
        mixing=points.new_zeros(len(points)),
        target_norm=target_norm,
        one_sided=one_sided,
        reduction=reduction,
        autocast=autocast,
    )


def _uniform(noise: Tensor | None, images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform numbers on [0, 1), in the images' dtype; drawn in float32, so the same for every dtype."""
    if noise is not None:
        require(generator is None, "generator", generator, "None when `noise` is given")
        require_rank(noise, "noise", 2)
        require_same_shape(images, noise, "real_images", "noise")
        return noise.detach().to(images)
    device = images.device if generator is None else generator.device
    return draw(torch.rand, tuple(images.shape), generator, device=device).to(images)
