"""Augmentation that gradients pass through, so that a discriminator never sees an image without it.

Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training", section 3: reals and fakes are both
augmented, in the updates of both networks. The strengths are the paper's.

Each transform is a pure function of the images and of a few uniform numbers a sample. All take floating-point images
[N, C, H, W], nominally in [-1, 1] so that 0 is mid-grey, keep dtype, device and memory format, accept empty batches,
and are differentiable any number of times. The draw happens on the generator's device and the result is moved, so a
generator on the CPU gives the same augmentation for every device. Nothing waits for a GPU.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ganblocks._checks import require, require_rank
from ganblocks.functional.draws import draw

__all__ = ["color", "cutout", "diff_augment", "translation"]


def color(
    images: Tensor,
    draws: Tensor | None = None,
    *,
    brightness: float = 0.5,
    saturation: float = 1.0,
    contrast: float = 0.5,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Change the brightness, then the saturation, then the contrast of every sample; nothing is clamped.

    With t = 2 u - 1 of that sample: brightness adds ``brightness * t`` to all values; saturation multiplies the
    distance of each value to the mean over the channels of its pixel by ``1 + saturation * t``; contrast does the same
    with the distance to the mean of the whole image. The means are taken in at least float32.

    Args:
        images: [N, C, H, W]. Images of one channel have no saturation, and it does nothing to them.
        draws: [N, 3]: u of brightness, saturation and contrast, uniform on [0, 1); 0.5 leaves a sample as it is, to the
            bit. None draws them.
        brightness: Largest change of the values, 0 or more.
        saturation: Largest change of the factor, 0 to 1; at 1 the factor lies in [0, 2).
        contrast: Largest change of the factor, 0 to 1.
        generator: Where drawn numbers come from; None is torch's global generator of the images' device.

    Returns:
        [N, C, H, W]; values may lie outside [-1, 1].

    Raises:
        ValueError: wrong shapes, a strength out of range, or both ``draws`` and ``generator``.
        TypeError: ``images`` or ``draws`` are not floating-point.
    """
    _require_images(images)
    require(brightness >= 0 and math.isfinite(brightness), "brightness", brightness, "0 or more, and finite")
    require(0 <= saturation <= 1, "saturation", saturation, "0 to 1")
    require(0 <= contrast <= 1, "contrast", contrast, "0 to 1")
    wide = torch.promote_types(images.dtype, torch.float32)
    swing = 2 * _given_or_drawn(images, draws, 3, generator).to(wide)[:, :, None, None, None] - 1  # [N, 3, 1, 1, 1]
    # lerp(mean, value, factor) = mean + factor * (value - mean), with `value` itself at the factor 1
    values = images + brightness * swing[:, 0]  # wide from here on
    values = torch.lerp(values.mean(1, keepdim=True), values, 1 + saturation * swing[:, 1])
    values = torch.lerp(values.mean((1, 2, 3), keepdim=True), values, 1 + contrast * swing[:, 2])
    return values.to(images.dtype)


def translation(
    images: Tensor,
    draws: Tensor | None = None,
    *,
    share: float = 0.125,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Shift every sample by whole pixels, down or up and right or left; what comes in from outside is exactly 0.

    A shift along a side of S pixels is one of -R ... R with R = floor(share S), all equally likely.

    Args:
        images: [N, C, H, W].
        draws: [N, 2], uniform on [0, 1): 0 shifts up and left the most, 1 would shift down and right; 0.5 leaves a
            sample as it is. None draws them.
        share: Longest shift as a share of the side, 0 to 1.
        generator: As in `color`.

    Returns:
        [N, C, H, W].

    Raises:
        ValueError: wrong shapes, ``share`` out of range, or both ``draws`` and ``generator``.
        TypeError: ``images`` or ``draws`` are not floating-point.
    """
    _require_images(images)
    require(0 <= share <= 1, "share", share, "0 to 1")
    C, H, W = images.shape[1:]
    draws = _given_or_drawn(images, draws, 2, generator)
    if images.numel() == 0:
        return images
    rows, columns = (_shifted(draws[:, axis], side, share) for axis, side in enumerate((H, W)))  # [N, H], [N, W]
    outside = ((rows < 0) | (rows >= H))[:, :, None] | ((columns < 0) | (columns >= W))[:, None, :]  # [N, H, W]
    # Around the border and in again on the other side: no pixel is read twice, so the gradient adds nothing up.
    source = ((rows % H)[:, :, None] * W + (columns % W)[:, None, :]).flatten(1)  # [N, H * W]
    if images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous():
        pixels = images.permute(0, 2, 3, 1).flatten(1, 2)  # [N, H * W, C], a view
        moved = pixels.gather(1, source[:, :, None].expand(-1, -1, C)).view(-1, H, W, C).permute(0, 3, 1, 2)
    else:
        moved = images.flatten(2).gather(2, source[:, None].expand(-1, C, -1)).view(-1, C, H, W)
    return moved.where(~outside[:, None], 0.0)  # keeps the memory format, which `masked_fill` does not


def cutout(
    images: Tensor,
    draws: Tensor | None = None,
    *,
    share: float = 0.5,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Set a rectangle of every sample to exactly 0: a square of half the side where the image is square.

    Its sides are floor(share H) and floor(share W) pixels. Its centre lies anywhere in the image with equal
    probability, so a part of the rectangle may lie outside (DeVries & Taylor 2017, section 3.2): the centre of an odd
    side is the middle of a pixel, that of an even side an edge between two, or of the image.

    Args:
        images: [N, C, H, W].
        draws: [N, 2], uniform on [0, 1): the place of the centre down and across; 2 puts the rectangle wholly outside
            and leaves a sample as it is. None draws them.
        share: Side of the rectangle as a share of the image's, 0 to 1.
        generator: As in `color`.

    Returns:
        [N, C, H, W].

    Raises:
        ValueError: wrong shapes, ``share`` out of range, or both ``draws`` and ``generator``.
        TypeError: ``images`` or ``draws`` are not floating-point.
    """
    _require_images(images)
    require(0 <= share <= 1, "share", share, "0 to 1")
    draws = _given_or_drawn(images, draws, 2, generator)
    rows, columns = (_covered(draws[:, axis], side, share) for axis, side in enumerate(images.shape[2:]))
    return images.where(~(rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


class _Transform(NamedTuple):
    apply: Callable[[Tensor, Tensor], Tensor]
    draws: int  # numbers it takes a sample
    neutral: float  # all of them this: the sample stays as it is


_TRANSFORMS = {
    "color": _Transform(color, 3, 0.5),
    "translation": _Transform(translation, 2, 0.5),
    "cutout": _Transform(cutout, 2, 2.0),
}


def diff_augment(
    images: Tensor,
    policy: Sequence[str] = ("color", "translation", "cutout"),
    *,
    probability: float | Tensor = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Apply the transforms of a policy one after the other, each to each sample with the given probability.

    The same generator state gives the same augmentation, whatever the images: reals and fakes of one step want states
    of their own, a penalty that must see the same augmentation again wants the same state. A sample that a transform
    is not applied to passes it unchanged, to the bit.

    Args:
        images: [N, C, H, W], nominally in [-1, 1].
        policy: Any of ``"color"``, ``"translation"`` and ``"cutout"``, in the order of their application; empty for no
            augmentation.
        probability: 0 to 1, of each transform and sample independently. A number of 1 draws no coins, and 0 draws
            nothing. A tensor without dimensions is taken as it is, without a look at its value (which would wait for
            the device); with the value 1 it gives the same images as the number.
        generator: Where the numbers come from; None is torch's global generator of the images' device.

    Returns:
        [N, C, H, W]; values may lie outside [-1, 1].

    Raises:
        ValueError: ``images`` are not of rank 4, the policy has an unknown name, or the probability is out of range or
            a tensor with dimensions.
        TypeError: ``images`` are not floating-point, or the policy is one string.
    """
    _require_images(images)
    require(not isinstance(policy, str), "policy", policy, "a sequence of names, such as ('color',)", TypeError)
    known = all(name in _TRANSFORMS for name in policy)
    require(known, "policy", tuple(policy), f"made of {', '.join(map(repr, _TRANSFORMS))}")
    if isinstance(probability, Tensor):
        require(
            probability.dim() == 0, "probability", tuple(probability.shape), "a number or a tensor without dimensions"
        )
    else:
        require(0 <= probability <= 1, "probability", probability, "between 0 and 1")
    transforms = [_TRANSFORMS[name] for name in policy]
    if not transforms or (not isinstance(probability, Tensor) and probability == 0):
        return images
    every = _uniform(images, sum(transform.draws for transform in transforms), generator)
    columns = list(torch.split(every, [transform.draws for transform in transforms], dim=1))
    if isinstance(probability, Tensor) or probability < 1:
        if isinstance(probability, Tensor):
            probability = probability.to(images.device, non_blocking=True)
        heads = _uniform(images, len(transforms), generator) < probability  # [N, transforms]
        for i, transform in enumerate(transforms):
            columns[i] = columns[i].where(heads[:, i : i + 1], transform.neutral)
    for transform, draws in zip(transforms, columns, strict=True):
        images = transform.apply(images, draws)
    return images


def _require_images(images: Tensor) -> None:
    require_rank(images, "images", 4, 4)
    require(images.is_floating_point(), "images", images.dtype, "a floating-point tensor", TypeError)


def _uniform(images: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """[N, count] on [0, 1) where the images are, in float32 for all of their dtypes: one augmentation for all."""
    device = images.device if generator is None else generator.device
    drawn = draw(torch.rand, (len(images), count), generator, device=device, dtype=torch.float32)
    return drawn.to(images.device, non_blocking=True)


def _given_or_drawn(images: Tensor, draws: Tensor | None, count: int, generator: torch.Generator | None) -> Tensor:
    if draws is None:
        return _uniform(images, count, generator)
    require(generator is None, "generator", generator, "None when `draws` are given")
    require(draws.shape == (len(images), count), "draws", tuple(draws.shape), f"of shape {(len(images), count)}")
    require(draws.is_floating_point(), "draws", draws.dtype, "a floating-point tensor", TypeError)
    return draws.to(images.device)


def _pixels(share: float, side: int) -> int:
    return math.floor(round(share * side, 6))  # 0.29 of 100 pixels are 29, whatever 0.29 * 100 rounds to


def _choice(draws: Tensor, count: int) -> Tensor:
    """One of 0 ... count - 1 for uniform numbers on [0, 1)."""
    return (draws * count).floor().long()


def _shifted(draws: Tensor, side: int, share: float) -> Tensor:
    """Where each of ``side`` places comes from [N, side]; outside 0 ... side - 1 where nothing does."""
    reach = _pixels(share, side)
    shift = _choice(draws, 2 * reach + 1) - reach
    return torch.arange(side, device=draws.device) - shift[:, None]


def _covered(draws: Tensor, side: int, share: float) -> Tensor:
    """Which of ``side`` places lie within the covered stretch [N, side], bool."""
    length = _pixels(share, side)
    start = _choice(draws, side + 1 - length % 2) - length // 2
    place = torch.arange(side, device=draws.device) - start[:, None]
    return (place >= 0) & (place < length)
