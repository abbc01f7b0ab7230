"""Codes as points in the plane, and the plane as the decoder sees it."""

import itertools
import math
import os
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ganblocks._checks import require, require_rank
from ganblocks.visualization.canvas import (
    MUTED,
    Canvas,
    checked_path,
    finished,
    shown_size,
    text_width,
    to_pixels,
)
from ganblocks.visualization.scatter import draw_scatter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["decoder_grid", "latent_scatter", "pca_scatter"]

_CHUNK = 256  # latents decoded at a time

Rectangle = tuple[tuple[float, float], tuple[float, float]]


def latent_scatter(
    codes: Tensor,
    labels: Tensor | None = None,
    *,
    classes: Sequence[str] | None = None,
    prior: bool = False,
    most_points: int = 10_000,
    axis_names: tuple[str, str] = ("z1", "z2"),
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> "Figure":
    """Draw two-dimensional codes, coloured by class; one unit is equally long on both axes.

    Points of all classes are drawn in turn, so that none covers the others. The name of a class stands where the class
    is densest, unless it makes up less than half of the points everywhere: then it is named in the legend only.

    Args:
        codes: [N, 2], such as the means that an encoder gives. For more dimensions see `pca_scatter`.
        labels: [N] whole numbers from 0; ``None`` = one colour for all, no legend.
        classes: Name of each class; ``None`` = the numbers.
        prior: Whether circles that hold 50, 90 and 99 % of a standard normal distribution are drawn.
        most_points: Of more points so many are drawn, chosen at random but always alike, and a note says so.
        axis_names: Of the horizontal and the vertical axis.
        title: Stands above everything; ``None`` for no title.
        path: Where the figure is also written; ends in ".png", ".svg" or ".pdf". ``None`` writes nothing.

    Returns:
        The figure; no window is opened.

    Raises:
        ImportError: matplotlib is missing.
        TypeError: Labels that are no whole numbers.
        ValueError: Codes of another shape or not finite, labels or ``classes`` that do not fit, or an option out of
            range.
        OSError: The figure could not be written.
    """
    checked_path(path)
    points = _checked_points(codes, "codes")
    require(points.shape[1] == 2, "codes.shape", tuple(codes.shape), "[N, 2]; `pca_scatter` takes more dimensions")
    figure = draw_scatter(
        points, labels, classes, most_points=most_points, axis_names=axis_names, title=title, prior=prior
    )
    return finished(figure, path)


def pca_scatter(
    data: Tensor,
    labels: Tensor | None = None,
    *,
    fit_data: Tensor | None = None,
    classes: Sequence[str] | None = None,
    most_points: int = 10_000,
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> "Figure":
    """Draw images, or codes of any size, by their first two principal components, as `latent_scatter` draws codes.

    The components are those of scikit-learn; the share of the variance that each explains stands at its axis.

    Args:
        data: [N, ...] with N >= 2; all dimensions after the first are flattened, bytes count as numbers.
        labels: [N] whole numbers from 0; ``None`` = one colour for all, no legend.
        fit_data: [M, ...] with as many values each, from which the components are computed; ``None`` = ``data``.
        classes: Name of each class; ``None`` = the numbers.
        most_points: Of more points so many are drawn; the components are computed from all.
        title: Stands above everything; ``None`` for no title.
        path: Where the figure is also written; ends in ".png", ".svg" or ".pdf". ``None`` writes nothing.

    Returns:
        The figure; no window is opened.

    Raises:
        ImportError: scikit-learn or matplotlib is missing.
        TypeError: Labels that are no whole numbers.
        ValueError: Data of a wrong shape, not finite or all equal, labels or ``classes`` that do not fit, or an option
            out of range.
        OSError: The figure could not be written.
    """
    checked_path(path)
    try:
        from sklearn.decomposition import PCA
    except ImportError as error:
        raise ImportError('principal components need scikit-learn: pip install "ganblocks[metrics]"') from error
    shown = _checked_points(data, "data")
    fitted = shown if fit_data is None else _checked_points(fit_data, "fit_data")
    name, shape = ("data", data.shape) if fit_data is None else ("fit_data", fit_data.shape)
    valid = len(fitted) >= 2 and fitted.shape[1] >= 2 and fitted.shape[1] == shown.shape[1]
    expected = f"of at least 2 samples with {max(2, shown.shape[1])} values each"
    require(valid, f"{name}.shape", tuple(shape), expected)
    require(bool(np.ptp(fitted, axis=0).any()), name, "all equal", "of some variance")
    pca = PCA(2, svd_solver="full" if fitted.size < 10**6 else "auto", random_state=0).fit(fitted)
    first, second = (100 * share for share in pca.explained_variance_ratio_)
    axis_names = (
        f"first component, {first:.1f} % of the variance",
        f"second component, {second:.1f} % of the variance",
    )
    figure = draw_scatter(
        pca.transform(shown), labels, classes, most_points=most_points, axis_names=axis_names, title=title
    )
    return finished(figure, path)


def decoder_grid(
    decode: Callable[[Tensor], Tensor],
    *,
    n: int = 15,
    coverage: float = 0.9,
    rectangle: Rectangle | None = None,
    device: torch.device | str | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> "Figure":
    """Draw what a decoder makes of a grid of two-dimensional latents: z1 grows to the right, z2 upwards.

    Args:
        decode: Takes latents [M, 2] in float32, M up to 256, and returns images [M, C, H, W] with C = 1 or 3, floating
            point in ``value_range`` (beyond which values are clamped) or uint8. It is called without gradients; a
            module should be in evaluation mode.
        n: Latents along each side, 2 to 50.
        coverage: Without a rectangle the latents are quantiles of the standard normal distribution, evenly spaced in
            probability, and each side covers so much of it, at most 0.9999: 0.9 goes from the quantile of 5 % to that
            of 95 %.
        rectangle: ((lowest, highest) z1, (lowest, highest) z2), in which latents are evenly spaced; ``None`` =
            quantiles.
        device: Where the latents are made; ``None`` = the CPU.
        value_range: What is black and what is white, for images of floating point: (0, 1) or (-1, 1).
        title: Stands above everything; ``None`` for no title.
        path: Where the figure is also written; ends in ".png", ".svg" or ".pdf". ``None`` writes nothing.

    Returns:
        The figure; no window is opened.

    Raises:
        ImportError: matplotlib is missing.
        TypeError: The images are neither floating point nor uint8.
        ValueError: An option out of range, or images of a wrong shape or with NaN.
        OSError: The figure could not be written.
    """
    checked_path(path)
    require(2 <= n <= 50, "n", n, "2 to 50")
    across, up = _grid_axes(n, coverage, rectangle)
    latents = torch.tensor([(x, y) for y in reversed(up) for x in across], dtype=torch.float32, device=device)
    with torch.no_grad():
        images = torch.cat([decode(latents[k : k + _CHUNK]) for k in range(0, n * n, _CHUNK)])
    pixels = to_pixels(images, "decode(latents)", value_range)
    require(len(pixels) == n * n, "decode(latents).shape", tuple(images.shape), f"of {n * n} images, one a latent")

    width, height = shown_size(pixels, min(168, max(12, 1260 / n)))
    mosaic = pixels.reshape(n, n, *pixels.shape[1:]).transpose(0, 2, 1, 3, 4)
    mosaic = mosaic.reshape(n * pixels.shape[1], n * pixels.shape[2], 3)
    size, margin, foot = 8, 24, 70
    left = 54 + round(max(text_width(text, size) for text in _written(up))) + 10
    top = margin
    canvas = Canvas(left + n * width + margin, top + n * height + foot + margin // 2, title=title)
    canvas.place(mosaic, left, top, n * width, n * height)
    written_across, written_up = _written(across), _written(up)
    every = math.ceil(max(text_width(text, size) + 14 for text in written_across) / width)
    for k in range(0, n, every):
        place = left + (k + 0.5) * width
        canvas.write(place, top + n * height + 18, written_across[k], size=size, ha="center", color=MUTED)
    every = math.ceil(24 / height)
    for k in range(0, n, every):
        canvas.write(left - 10, top + (n - k - 0.5) * height, written_up[k], size=size, ha="right", color=MUTED)
    canvas.write(left + n * width / 2, top + n * height + 54, "z1", size=10.5, ha="center")
    canvas.write(22, top + n * height / 2, "z2", size=10.5, ha="center", rotation=90)
    return finished(canvas.figure, path)


def _grid_axes(n: int, coverage: float, rectangle: Rectangle | None) -> tuple[list[float], list[float]]:
    """Latents from left to right and from bottom to top."""
    if rectangle is None:
        require(0 < coverage <= 0.9999, "coverage", coverage, "above 0, at most 0.9999")
        edge = (1 - coverage) / 2
        quantiles = [NormalDist().inv_cdf(edge + coverage * k / (n - 1)) for k in range(n)]
        return quantiles, quantiles
    valid = np.shape(rectangle) == (2, 2) and all(
        math.isfinite(low) and math.isfinite(high) and low < high for low, high in rectangle
    )
    require(valid, "rectangle", rectangle, "((lowest, highest) z1, (lowest, highest) z2), finite numbers")
    across, up = (np.linspace(low, high, n).tolist() for low, high in rectangle)
    return across, up


def _written(values: Sequence[float]) -> list[str]:
    """With two decimals, or as many as neighbours need to differ."""
    step = min(later - earlier for earlier, later in itertools.pairwise(values))
    decimals = max(2, 1 - math.floor(math.log10(max(step, 1e-8))))
    rounded = [round(value, decimals) + 0.0 for value in values]  # no negative zero
    return [f"{value:.{decimals}f}".replace("-", "\N{MINUS SIGN}") for value in rounded]


def _checked_points(data: Tensor, name: str) -> np.ndarray:
    """[N, D] in float64."""
    require_rank(data, name, 2)
    require(data.numel() > 0, f"{name}.shape", tuple(data.shape), "of at least one sample")
    require(not data.is_complex(), f"{name}.dtype", data.dtype, "real numbers", TypeError)
    points: np.ndarray = data.detach().cpu().flatten(1).double().numpy()
    require(bool(np.isfinite(points).all()), name, f"{np.count_nonzero(~np.isfinite(points))} values", "finite")
    return points
