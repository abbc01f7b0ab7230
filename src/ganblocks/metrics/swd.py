"""Sliced Wasserstein distance, plain and in the form of the ProGAN paper.

The plain distance projects two sets of samples on random directions and averages the exact one-dimensional
Wasserstein distances (Rabin et al. 2011). ProGAN (Karras et al. 2018, section 5) applies it to small patches of each
level of a Laplacian pyramid (Burt and Adelson 1983), so that each resolution gets its own number.
"""

from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ganblocks._checks import require, require_rank
from ganblocks.errors import MetricError
from ganblocks.functional.image_range import from_uint8
from ganblocks.metrics.rows import require_finite

__all__ = [
    "laplacian_pyramid",
    "patch_descriptors",
    "progan_swd",
    "reconstruct",
    "sliced_wasserstein_distance",
]

_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
_BLOCK_ELEMENTS = 2**24  # projections held at a time: 64 MB in float32
_CONSTANT_STD = 1e-6  # a channel that varies less is rounding noise around a constant


@torch.no_grad()
def sliced_wasserstein_distance(
    a: Tensor,
    b: Tensor,
    *,
    num_directions: int = 512,
    seed: int = 0,
    power: Literal[1, 2] = 1,
    chunk: int | None = None,
) -> float:
    """Measure how far two sets of samples are apart, averaged over random one-dimensional views.

    With F and G the distributions of both sets projected on a unit vector, the distance in that direction is
    ``integral |F^-1(t) - G^-1(t)|^power dt`` over t in [0, 1], computed exactly: for equal counts it is the mean over
    the pairs of sorted values, otherwise the integral of the two step functions.

    Args:
        a: [N, ...] with N >= 1; each sample is flattened. Any real dtype.
        b: [M, ...] with M >= 1 and as many values a sample; on the device of ``a``.
        num_directions: random directions, uniform on the unit sphere.
        seed: of the directions, which depend on nothing but the seed, their number and the dimension: they are drawn
            in float64 on the CPU, then cast. The global random state is neither used nor changed.
        power: 1 returns the mean over the directions of the distances W1; 2 returns the root of the mean of the W2^2.
        chunk: directions projected at a time; None keeps a block of projections below 2^24 values. It changes the
            memory needed, not the result beyond rounding.

    Returns:
        The distance, at least 0, in the unit of the samples. Projections are computed outside autocast, in float64 if
        either set is float64 and in float32 otherwise; the average over the directions is taken in float64.

    Raises:
        TypeError: a complex or boolean tensor.
        ValueError: an empty set, different dimensions, or an option out of range.
        MetricError: a value is NaN or infinite, or the distance overflows.
    """
    a, b = _as_rows(a, "a"), _as_rows(b, "b")
    require(a.shape[1] == b.shape[1], "b", tuple(b.shape), f"samples of {a.shape[1]} values, as those of `a`")
    require(num_directions >= 1, "num_directions", num_directions, "at least 1")
    require(power in (1, 2), "power", power, "1 or 2")
    require(chunk is None or chunk >= 1, "chunk", chunk, "None or at least 1")
    dtype = torch.float64 if torch.float64 in (a.dtype, b.dtype) else torch.float32
    a, b = a.to(dtype), b.to(dtype)

    directions = _unit_directions(num_directions, a.shape[1], seed).to(device=a.device, dtype=dtype)  # [K, D]
    chunk = chunk or max(1, _BLOCK_ELEMENTS // max(len(a), len(b)))
    with torch.autocast(a.device.type, enabled=False):
        powers = [
            _one_dimensional(block @ a.T, block @ b.T, power) for block in torch.split(directions, chunk)
        ]  # [k] each
    mean = float(torch.cat(powers).cpu().double().mean())
    distance = mean if power == 1 else mean**0.5
    if not mean < float("inf"):
        raise MetricError(f"the sliced Wasserstein distance is {distance}: values too large for {dtype}")
    return distance


def laplacian_pyramid(images: Tensor, smallest: int = 16) -> list[Tensor]:
    """Split images into one band of detail per resolution (Burt and Adelson 1983; Karras et al. 2018, section 5).

    Each level is the image minus the enlarged version of its half-size image; the last level is the smallest image.
    Shrinking blurs with the binomial kernel (1, 4, 6, 4, 1)/16 in both directions, borders mirrored, and keeps every
    second pixel; enlarging inserts zeros and blurs with twice that kernel in each direction.

    Args:
        images: [N, C, H, W], floating point (float64 stays, anything less becomes float32) or uint8, which is mapped
            to [-1, 1] first. H and W at least 3.
        smallest: halving stops before the shorter side would fall below this, in pixels, at least 3.

    Returns:
        The levels, finest first: [N, C, H, W], [N, C, ceil(H/2), ceil(W/2)], ...

    Raises:
        TypeError: another dtype.
        ValueError: a wrong shape, or ``smallest`` below 3.
    """
    require_rank(images, "images", 4, 4)
    require(smallest >= 3, "smallest", smallest, "at least 3")
    require(min(images.shape[2:]) >= 3, "images.shape", tuple(images.shape), "at least 3 pixels high and wide")
    if images.dtype == torch.uint8:
        images = from_uint8(images)
    require(images.is_floating_point(), "images.dtype", images.dtype, "floating point or uint8", TypeError)
    images = images.to(torch.promote_types(images.dtype, torch.float32))
    levels = []
    while min(images.shape[2:]) // 2 >= smallest:
        half = _blur(images)[:, :, ::2, ::2]
        levels.append(images - _enlarge(half, images.shape[2], images.shape[3]))
        images = half
    return [*levels, images]


def reconstruct(pyramid: list[Tensor]) -> Tensor:
    """Add the levels of :func:`laplacian_pyramid` up again, from the smallest to the images [N, C, H, W].

    Raises:
        ValueError: no level.
    """
    require(len(pyramid) > 0, "pyramid", pyramid, "at least one level")
    images = pyramid[-1]
    for level in reversed(pyramid[:-1]):
        images = level + _enlarge(images, level.shape[2], level.shape[3])
    return images


def patch_descriptors(level: Tensor, *, count_per_image: int = 128, patch_size: int = 7, seed: int = 0) -> Tensor:
    """Cut random patches out of one pyramid level and standardise them (Karras et al. 2018, section 5).

    Each channel is brought to mean 0 and standard deviation 1 over all patches of the set, so that contrast and
    brightness do not count. A channel with a standard deviation below 1e-6 counts as constant and becomes 0.

    Args:
        level: [N, C, H, W], floating point.
        count_per_image: patches of an image, at places drawn uniformly and independently.
        patch_size: side of a patch in pixels; the paper uses 7.
        seed: of the places; equal seeds and sizes give equal places.

    Returns:
        [N * count_per_image, C * patch_size * patch_size].

    Raises:
        TypeError: ``level`` is not floating point.
        ValueError: a wrong shape, an empty set, a level smaller than a patch, or an option out of range.
    """
    require_rank(level, "level", 4, 4)
    require(level.is_floating_point(), "level.dtype", level.dtype, "floating point", TypeError)
    require(level.shape[0] > 0 and level.shape[1] > 0, "level.shape", tuple(level.shape), "of at least one image")
    return _standardised(_patches(level, count_per_image, patch_size, torch.Generator().manual_seed(seed)))


@torch.no_grad()
def progan_swd(
    real_images: Tensor | Iterable[Tensor],
    fake_images: Tensor | Iterable[Tensor],
    *,
    smallest: int = 16,
    patches_per_image: int = 128,
    patch_size: int = 7,
    num_directions: int = 512,
    seed: int = 0,
) -> dict[int, float]:
    """Compare generated images with real ones at every resolution (Karras et al. 2018, section 5 and table 1).

    The paper uses 16,384 images of each kind as bytes, 128 patches of 7 x 7 pixels an image and 4 x 128 directions.
    Fewer images give larger numbers: compare only scores made with equal counts. Floating-point images are not
    rounded to bytes here; pass uint8 to measure what a viewer would see.

    Args:
        real_images: [N, C, H, W] in [-1, 1] or uint8, or batches of it; the split into batches does not matter.
            Patches, not images, are kept in memory: 75 kB per level for a colour image, on the device of the images.
        fake_images: the same for generated images; the count may differ.
        smallest: resolution of the last level in pixels.
        patches_per_image: patches of an image at each level.
        patch_size: side of a patch in pixels.
        num_directions: see :func:`sliced_wasserstein_distance`.
        seed: of places and directions; both sets use the same places.

    Returns:
        {resolution: distance * 1000}, finest first; the resolution is the shorter side of the level in pixels.

    Raises:
        TypeError: neither floating point nor uint8.
        ValueError: no image, images smaller than ``smallest`` or than a patch, or of two different sizes.
        MetricError: a value is NaN or infinite.
    """
    asked = smallest, patches_per_image, patch_size, seed
    real_shape, real_patches = _pyramid_patches(real_images, "real_images", *asked)
    fake_shape, fake_patches = _pyramid_patches(fake_images, "fake_images", *asked)
    if real_shape != fake_shape:
        raise ValueError(f"`fake_images` are of {fake_shape} and `real_images` of {real_shape}; they must be equal")
    scores = {}
    for size in list(real_patches):
        real, fake = _standardised(real_patches.pop(size)), _standardised(fake_patches.pop(size))
        scores[size] = 1000 * sliced_wasserstein_distance(real, fake, num_directions=num_directions, seed=seed)
    return scores


def _as_rows(samples: Tensor, name: str) -> Tensor:
    """Check one set of samples and flatten it to [N, D]."""
    require_rank(samples, name, 1)
    allowed = not samples.is_complex() and samples.dtype != torch.bool
    require(allowed, f"{name}.dtype", samples.dtype, "a real number", TypeError)
    require(samples.numel() > 0, f"{name}.shape", tuple(samples.shape), "at least one sample of at least one value")
    require_finite(samples, name)
    return samples.reshape(len(samples), -1)


def _unit_directions(count: int, dimension: int, seed: int) -> Tensor:
    """[count, dimension] in float64, uniform on the sphere: normal vectors divided by their length."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, dimension, generator=generator, dtype=torch.float64), dim=1, eps=1e-300)


def _one_dimensional(a: Tensor, b: Tensor, power: int) -> Tensor:
    """W_p^p between the rows of a [k, N] and b [k, M]: the integral of the difference of their quantile functions."""
    a, b = _sorted_rows(a), _sorted_rows(b)
    count_a, count_b = a.shape[1], b.shape[1]
    if count_a == count_b:
        return (a - b).abs().pow(power).mean(dim=1)
    # In units of 1/(N M) the quantile functions step at the integers i M and j N: no rounding decides a comparison.
    steps_a = torch.arange(count_a, device=a.device) * count_b
    steps_b = torch.arange(count_b, device=a.device) * count_a
    starts = torch.unique(torch.cat([steps_a, steps_b]))
    ends = torch.cat([starts[1:], starts.new_tensor([count_a * count_b])])
    weights = (ends - starts).to(a.dtype) / (count_a * count_b)
    return (a[:, starts // count_b] - b[:, starts // count_a]).abs().pow(power) @ weights


def _sorted_rows(values: Tensor) -> Tensor:
    """Each row in ascending order, in the memory of ``values`` on a CPU, where NumPy sorts several times faster."""
    if values.device.type != "cpu":
        return values.sort(dim=1).values
    values.numpy().sort(axis=1)
    return values


def _blur(images: Tensor, gain: float = 1.0) -> Tensor:
    """Binomial blur in both directions times ``gain``, borders mirrored without repeating the edge pixel."""
    N, C, H, W = images.shape
    kernel = images.new_tensor(_BINOMIAL) * gain**0.5
    with torch.autocast(images.device.type, enabled=False):
        padded = F.pad(images.reshape(N * C, 1, H, W), (2, 2, 2, 2), mode="reflect")
        return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, 5)), kernel.view(1, 1, 5, 1)).view(N, C, H, W)


def _enlarge(images: Tensor, height: int, width: int) -> Tensor:
    """Insert zeros up to [N, C, height, width] and blur; the gain of 4 makes up for the zeros."""
    sparse = images.new_zeros(*images.shape[:2], height, width)
    sparse[:, :, ::2, ::2] = images
    return _blur(sparse, gain=4.0)


def _patches(level: Tensor, count: int, size: int, generator: torch.Generator) -> Tensor:
    """[N, C, H, W] to [N * count, C, size * size], at places drawn image by image."""
    N, C, H, W = level.shape
    require(count >= 1, "patches per image", count, "at least 1")
    require(1 <= size <= min(H, W), "patch_size", size, f"1 to {min(H, W)}, the shorter side of the level")
    places = torch.randint(0, 2**62, (N, count, 2), generator=generator)
    top = (places[:, :, 0] % (H - size + 1)).to(level.device)
    left = (places[:, :, 1] % (W - size + 1)).to(level.device)
    windows = level.unfold(2, size, 1).unfold(3, size, 1)  # a view: [N, C, H - size + 1, W - size + 1, size, size]
    image = torch.arange(N, device=level.device)[:, None]
    return windows[image, :, top, left].reshape(N * count, C, size * size)


def _standardised(patches: Tensor) -> Tensor:
    """[M, C, P] to [M, C * P] with mean 0 and standard deviation 1 in each channel; a constant one becomes 0."""
    variance, mean = torch.var_mean(patches, dim=(0, 2), correction=0, keepdim=True)
    std = variance.sqrt()
    return torch.where(std > _CONSTANT_STD, (patches - mean) / std, torch.zeros_like(patches)).flatten(1)


def _pyramid_patches(
    images: Tensor | Iterable[Tensor], name: str, smallest: int, count: int, patch_size: int, seed: int
) -> tuple[tuple[int, ...], dict[int, Tensor]]:
    """[C, H, W], and {resolution: [M, C, P]} over all batches.

    Each level draws from its own stream, so batches do not matter.
    """
    shape: tuple[int, ...] = ()
    collected: dict[int, list[Tensor]] = {}
    streams: dict[int, torch.Generator] = {}
    for batch in [images] if isinstance(images, Tensor) else images:
        require_rank(batch, name, 4, 4)
        require(min(batch.shape[2:]) >= smallest, name, tuple(batch.shape), f"at least {smallest} pixels high and wide")
        if batch.shape[0] == 0:
            continue
        shape = shape or tuple(batch.shape[1:])
        require(tuple(batch.shape[1:]) == shape, name, tuple(batch.shape[1:]), f"all of one size, {shape} as the first")
        require_finite(batch, name)
        for level in laplacian_pyramid(batch, smallest):
            size = min(level.shape[2:])
            stream = streams.setdefault(size, torch.Generator().manual_seed(seed))
            collected.setdefault(size, []).append(_patches(level, count, patch_size, stream))
    require(len(collected) > 0, name, images, "at least one image")
    return shape, {size: torch.cat(batches) for size, batches in sorted(collected.items(), reverse=True)}
