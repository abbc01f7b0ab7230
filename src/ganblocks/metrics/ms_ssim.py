"""Structural similarity of two images, at one scale and at several, and how alike the images of one set are.

Single scale: Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity". Several
scales: Wang, Simoncelli and Bovik 2003, "Multi-scale structural similarity for image quality assessment". As a measure
of diversity: Odena et al. 2017, "Conditional image synthesis with auxiliary classifier GANs", and Karras et al. 2018,
table 1: the mean over random pairs of generated images; the higher, the less varied the set.

Everything is computed in float64 and without gradients.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ganblocks._checks import require, require_rank, require_same_shape
from ganblocks.metrics.rows import require_finite
from ganblocks.metrics.score import Score

__all__ = ["MS_SSIM_WEIGHTS", "ms_ssim", "ms_ssim_diversity", "ssim"]

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, finest first (Wang et al. 2003, section 3.2)."""

_C1 = 0.01**2  # (K1 L)^2 with L = 1, the range of the values computed with
_C2 = 0.03**2
_COLUMNS = 64  # filtered at a time
_BLOCK_ELEMENTS = 2**19  # pixel values of a block of pairs: 4 MB for each map in float64


@torch.no_grad()
def ssim(a: Tensor, b: Tensor, *, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Compare images pairwise at their own resolution (Wang et al. 2004, equation 13).

    The mean of ``(2 m_a m_b + c1) (2 s_ab + c2) / ((m_a^2 + m_b^2 + c1) (s_a^2 + s_b^2 + c2))`` over the channels and
    all places where the window fits, with means m, variances s^2 and covariance s_ab weighted by a Gaussian window.

    Args:
        a: [N, C, H, W], uint8, or floating point in [-1, 1]; what lies outside is clamped. Both kinds are brought to
            [0, 1] (for the constants c1 and c2 the zero is black), floats without rounding to bytes.
        b: Of the same shape; its dtype may differ.
        window: Side of the window in pixels. It shrinks to the shorter side of smaller images, and sigma with it.
        sigma: Standard deviation of a full window in pixels; the window used has ``sigma * its side / window``.

    Returns:
        [N] in float64, at most 1 and 1 for equal images; negative where structures are opposite.

    Raises:
        TypeError: Neither uint8 nor floating point.
        ValueError: Shapes that are wrong or differ, images below 2 pixels, or an option out of range.
        MetricError: A value is NaN or infinite.
    """
    _require_pair(a, b)
    _require_window(window, sigma)
    everything = torch.arange(len(a))
    return _over_pairs(a, b, everything, everything, lambda x, y: _terms(x, y, window, sigma)[0])


@torch.no_grad()
def ms_ssim(a: Tensor, b: Tensor, *, scales: int = 5, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Compare images pairwise at several resolutions (Wang et al. 2003, equation 7).

    The product over the scales of the mean contrast-and-structure term, at the coarsest scale of the mean `ssim`, each
    to the power of its weight. Scales are halved by averaging 2 x 2 pixels; an odd last row or column is left out.
    Negative means count as 0, so that a fractional power is never NaN.

    **Small images.** The window shrinks at each scale as in `ssim`. A scale is used if its shorter side has at least 2
    pixels: five scales from 32 pixels on, 4 at 16, 3 at 8, 2 at 4 and 1 at 2 or 3 pixels. The weights of the
    remaining (finest) scales are multiplied by one factor, so that their sum stays that of the ``scales`` asked for.
    Values of different resolutions are different quantities.

    Args:
        a: [N, C, H, W], as for `ssim`.
        b: Of the same shape; its dtype may differ.
        scales: At most this many, 1 to 5, with the first of `MS_SSIM_WEIGHTS`.
        window: Side of the window in pixels; see `ssim`.
        sigma: Of a full window; see `ssim`.

    Returns:
        [N] in float64, from 0 to 1; 1 for equal images.

    Raises:
        TypeError: Neither uint8 nor floating point.
        ValueError: Shapes that are wrong or differ, images below 2 pixels, or an option out of range.
        MetricError: A value is NaN or infinite.
    """
    _require_pair(a, b)
    _require_window(window, sigma)
    weights = _weights(a, scales)
    everything = torch.arange(len(a))
    return _over_pairs(a, b, everything, everything, lambda x, y: _multi_scale(x, y, weights, window, sigma))


@torch.no_grad()
def ms_ssim_diversity(
    images: Tensor,
    *,
    num_pairs: int = 10_000,
    seed: int = 0,
    labels: Tensor | None = None,
    scales: int = 5,
    window: int = 11,
    sigma: float = 1.5,
) -> Score:
    """Measure how alike the images of a set are: the mean `ms_ssim` over random pairs of different images.

    Pairs are drawn independently, each of two different places in ``images``; a pair may come twice. Lower means more
    varied. Compare with the value of as many real images: noise is varied too.

    Args:
        images: [N, C, H, W] with N >= 2, as for `ssim`.
        num_pairs: Pairs drawn, at least 2.
        seed: Of the pairs, which depend on nothing else but the counts. The global random state is neither used nor
            changed.
        labels: [N], whole numbers. With them, both images of a pair are of one class (Odena et al. 2017), and the
            classes take turns, so that each counts alike; every class needs 2 images. ``None`` pairs all with all.
        scales: See `ms_ssim`.
        window: See `ssim`.
        sigma: See `ssim`.

    Returns:
        "ms_ssim", with the standard deviation over the pairs as spread. Settings: ``scales`` is the number that fits
        the images. Details: ``standard_error`` of the mean; with labels ``smallest_class_mean`` and
        ``largest_class_mean``, the latter pointing at a class that has collapsed.

    Raises:
        TypeError: Images that are neither uint8 nor floating point, or labels that are not whole numbers.
        ValueError: Fewer than 2 images (of a class), fewer pairs than 2 or than classes, images below 2 pixels, or an
            option out of range.
        MetricError: A value is NaN or infinite.
    """
    _require_images(images, "images")
    _require_window(window, sigma)
    require(num_pairs >= 2, "num_pairs", num_pairs, "at least 2")
    require(len(images) >= 2, "images.shape", tuple(images.shape), "at least 2 images")
    weights = _weights(images, scales)
    if labels is None:
        classes = torch.zeros(len(images), dtype=torch.int64)
    else:
        require_rank(labels, "labels", 1, 1)
        require(len(labels) == len(images), "labels.shape", tuple(labels.shape), f"of {len(images)} images")
        whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
        require(whole, "labels.dtype", labels.dtype, "whole numbers", TypeError)
        classes = labels.detach().cpu()
    first, second, turns = _draw_pairs(classes, num_pairs, torch.Generator().manual_seed(seed))
    values = _over_pairs(
        images, images, first, second, lambda x, y: _multi_scale(x, y, weights, window, sigma)
    ).cpu()  # [P]
    spread = float(values.std())
    details = {"standard_error": spread / num_pairs**0.5}
    if labels is not None:
        class_means = [float(values[turns == turn].mean()) for turn in range(int(turns.max()) + 1)]
        details |= {"smallest_class_mean": min(class_means), "largest_class_mean": max(class_means)}
    settings = {
        "num_pairs": num_pairs,
        "seed": seed,
        "same_class": labels is not None,
        "resolution": list(images.shape[2:]),
        "scales": len(weights),
        "weights": list(weights),
        "window": window,
        "sigma": sigma,
    }
    return Score("ms_ssim", float(values.mean()), spread, {"fake": len(images)}, settings, details)


def _draw_pairs(classes: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Places of ``count`` pairs of different images, and which class (0, 1, ...) each is of; the classes take turns."""
    names, sizes = torch.unique(classes, return_counts=True)
    lonely = names[sizes < 2].tolist()
    require(not lonely, "labels", lonely, "of at least 2 images a class; these have 1")
    require(count >= len(names), "num_pairs", count, f"at least 1 for each of {len(names)} classes")
    turns = torch.arange(count) % len(names)
    size, start = sizes[turns], (sizes.cumsum(0) - sizes)[turns]
    uniform = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    place = (uniform[:, 0] * size).long().minimum(size - 1)
    step = (uniform[:, 1] * (size - 1)).long().minimum(size - 2) + 1  # never 0 modulo the size: another image
    members = classes.argsort(stable=True)
    return members[start + place], members[start + (place + step) % size], turns


def _over_pairs(
    a: Tensor, b: Tensor, first: Tensor, second: Tensor, measure: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """``measure`` of the images a[first] and b[second], a block of pairs at a time: [P] in float64."""
    length = max(1, _BLOCK_ELEMENTS // a[0].numel()) if len(a) else 1
    blocks = [
        measure(_intensities(a[i.to(a.device)]), _intensities(b[j.to(b.device)]))
        for i, j in zip(torch.split(first, length), torch.split(second, length), strict=True)
    ]
    return torch.cat(blocks)


def _multi_scale(a: Tensor, b: Tensor, weights: tuple[float, ...], window: int, sigma: float) -> Tensor:
    result = torch.ones(len(a), dtype=a.dtype, device=a.device)
    for scale, weight in enumerate(weights):
        similarity, contrast = _terms(a, b, window, sigma)
        if scale == len(weights) - 1:
            return result * similarity.clamp(min=0) ** weight
        result = result * contrast.clamp(min=0) ** weight
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return result


def _terms(a: Tensor, b: Tensor, window: int, sigma: float) -> tuple[Tensor, Tensor]:
    """Means over places and channels of the whole similarity and of its contrast-and-structure part, [N] each."""
    side = min(window, *a.shape[2:])
    mean_a, mean_b, squares, product = (
        _filtered(images, side, sigma * side / window) for images in (a, b, a * a + b * b, a * b)
    )
    mean_squares, mean_product = mean_a * mean_a + mean_b * mean_b, mean_a * mean_b
    contrast = (2 * (product - mean_product) + _C2) / (squares - mean_squares + _C2)
    luminance = (2 * mean_product + _C1) / (mean_squares + _C1)
    return (luminance * contrast).flatten(1).mean(1), contrast.flatten(1).mean(1)


def _filtered(images: Tensor, side: int, sigma: float) -> Tensor:
    """Gaussian window of ``side`` pixels in both directions, only where it fits."""
    offsets = torch.arange(side, dtype=torch.float64, device=images.device) - (side - 1) / 2
    taps = torch.softmax(-(offsets**2) / (2 * sigma**2), 0)
    return _along_rows(_along_rows(images, taps).mT, taps).mT


def _along_rows(images: Tensor, taps: Tensor) -> Tensor:
    """The last dimension filtered by products with a banded matrix, some columns at a time.

    Convolutions in float64 have no fast kernel on a CPU; matrix products do.
    """
    overlap, places = len(taps) - 1, images.shape[-1] - len(taps) + 1
    width = min(places, _COLUMNS)
    band = images.new_zeros(width + overlap, width)
    for start in range(len(taps)):
        band.diagonal(-start).fill_(taps[start])
    columns = []
    for start in range(0, places, width):
        count = min(width, places - start)
        columns.append(images[..., start : start + count + overlap] @ band[: count + overlap, :count])
    return torch.cat(columns, dim=-1)


def _intensities(images: Tensor) -> Tensor:
    """Bytes or values in [-1, 1] as float64 in [0, 1]."""
    if images.dtype == torch.uint8:
        return images.double() / 255
    return ((images.double() + 1) / 2).clamp(0, 1)


def _weights(images: Tensor, scales: int) -> tuple[float, ...]:
    """Exponents of the scales that fit the images, finest first."""
    require(1 <= scales <= len(MS_SSIM_WEIGHTS), "scales", scales, f"from 1 to {len(MS_SSIM_WEIGHTS)}")
    wanted = MS_SSIM_WEIGHTS[:scales]
    fitting = wanted[: int(min(images.shape[2:])).bit_length() - 1]  # floor(log2(side)): the coarsest has 2 or 3 pixels
    factor = sum(wanted) / sum(fitting)
    return tuple(weight * factor for weight in fitting)


def _require_pair(a: Tensor, b: Tensor) -> None:
    _require_images(a, "a")
    _require_images(b, "b")
    require_same_shape(a, b, "a", "b")


def _require_images(images: Tensor, name: str) -> None:
    require_rank(images, name, 4, 4)
    real = images.dtype == torch.uint8 or images.is_floating_point()
    require(real, f"{name}.dtype", images.dtype, "floating point or uint8", TypeError)
    sized = images.shape[1] >= 1 and min(images.shape[2:]) >= 2
    require(sized, f"{name}.shape", tuple(images.shape), "of at least 1 channel and 2 pixels high and wide")
    require_finite(images, name)


def _require_window(window: int, sigma: float) -> None:
    require(window >= 1, "window", window, "at least 1")
    require(0 < sigma < float("inf"), "sigma", sigma, "positive and finite")
