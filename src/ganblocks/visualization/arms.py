"""Accuracies of an experiment's arms: every run a dot, so that a reader sees how much is luck."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from ganblocks._checks import require
from ganblocks.visualization.canvas import COLORS, FAINT, FRAME, INK, MUTED, checked_path, empty_figure, finished

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["arms_curve", "arms_figure"]

_ROW = 0.55  # inches
_MOST_ARMS = len(COLORS)


def arms_figure(
    accuracies: Mapping[str, Sequence[float]],
    intervals: Mapping[str, tuple[float, float]] | None = None,
    *,
    chance: float | None = None,
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> "Figure":
    """Draw a row for each arm: a dot for each run, a stroke at their mean, and a bar for an interval.

    Args:
        accuracies: For each arm the accuracy of each of its runs, 0 to 1; at most 10 arms.
        intervals: For each arm, such as that of `ganblocks.metrics.wilson_interval`; ``None`` = no bars.
        chance: What an answer without looking reaches, such as the share of the largest class: a broken line.
        title: Stands above everything; ``None`` for no title.
        path: Where the figure is also written; ends in ".png", ".svg" or ".pdf". ``None`` writes nothing.

    Returns:
        The figure; no window is opened.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: No arm or too many, an arm without run, a number that is no share, or an interval of no arm.
        OSError: The figure could not be written.
    """
    checked_path(path)
    names = _checked_arms(accuracies)
    for name in intervals or {}:
        require(name in accuracies, "intervals", name, f"of the arms {names}")
    for low, high in (intervals or {}).values():
        require(0 <= low <= high <= 1, "intervals", (low, high), "two shares from 0 to 1, the lower one first")
    require(chance is None or 0 <= chance <= 1, "chance", chance, "a share from 0 to 1, or None")
    figure = empty_figure(7.2, 1.1 + _ROW * len(names), constrained=True)
    axes = figure.add_subplot()
    for row, name in enumerate(names):
        color, values = COLORS[row], np.asarray(accuracies[name], dtype=float)
        if intervals and name in intervals:
            low, high = intervals[name]
            axes.barh(row, 100 * (high - low), left=100 * low, height=0.5, color=color, alpha=0.18, linewidth=0)
        offsets = _swarm(values)
        axes.plot(100 * values, row + offsets, "o", color=color, markersize=4.5, alpha=0.8, markeredgewidth=0)
        axes.vlines(100 * float(values.mean()), row - 0.3, row + 0.3, color=INK, linewidth=1.8)
    if chance is not None:
        axes.axvline(100 * chance, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    _dress(axes, "x", title)
    return finished(figure, path)


def arms_curve(
    accuracies: Mapping[str, Mapping[int, Sequence[float]]],
    *,
    x_name: str = "real images of each class",
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> "Figure":
    """Draw the accuracy of each arm over the size of the data: a dot for each run, a line through the means.

    Args:
        accuracies: For each arm and each size, above 0, the accuracy of each run, 0 to 1; at most 10 arms.
        x_name: What the sizes are; their axis is logarithmic.
        title: Stands above everything; ``None`` for no title.
        path: Where the figure is also written; ends in ".png", ".svg" or ".pdf". ``None`` writes nothing.

    Returns:
        The figure; no window is opened.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: No arm or too many, an arm without size, a size without run, or a number out of range.
        OSError: The figure could not be written.
    """
    checked_path(path)
    require(1 <= len(accuracies) <= _MOST_ARMS, "accuracies", list(accuracies), f"1 to {_MOST_ARMS} arms")
    for name, sizes in accuracies.items():
        require(len(sizes) >= 1, f"accuracies[{name!r}]", sizes, "of one size or more")
        require(min(sizes) > 0, f"accuracies[{name!r}]", list(sizes), "sizes above 0")
        _checked_arms({str(size): values for size, values in sizes.items()}, most=None)
    figure = empty_figure(7.2, 4.6, constrained=True)
    axes = figure.add_subplot()
    ticks = sorted({size for sizes in accuracies.values() for size in sizes})
    for number, (name, sizes) in enumerate(accuracies.items()):
        color, shift = COLORS[number], 1.03 ** (number - (len(accuracies) - 1) / 2)  # side by side where sizes agree
        found = sorted(sizes)
        means = [100 * float(np.mean(sizes[size])) for size in found]
        axes.plot([size * shift for size in found], means, "-", color=color, linewidth=1.8, label=name)
        for size in found:
            values = 100 * np.asarray(sizes[size], dtype=float)
            axes.plot(np.full(len(values), size * shift), values, "o", color=color, markersize=3.5, alpha=0.5, mew=0)
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(x_name, color=INK, parse_math=False)
    legend = axes.legend(loc="lower right", frameon=False, labelcolor=INK)
    for text in legend.get_texts():
        text.set_parse_math(False)
    _dress(axes, "y", title)
    return finished(figure, path)


def _checked_arms(accuracies: Mapping[str, Sequence[float]], most: int | None = _MOST_ARMS) -> list[str]:
    names = list(accuracies)
    require(len(names) >= 1 and (most is None or len(names) <= most), "accuracies", names, f"1 to {most} arms")
    for name, values in accuracies.items():
        require(len(values) >= 1, f"accuracies[{name!r}]", values, "of one run or more")
        fits = all(math.isfinite(value) and 0 <= value <= 1 for value in values)
        require(fits, f"accuracies[{name!r}]", list(values), "shares from 0 to 1")
    return names


def _swarm(values: np.ndarray) -> np.ndarray:
    """How far each dot lies from the middle of its row, so that equal values do not hide one another."""
    offsets = np.zeros(len(values))
    cells = np.round(values * 200)  # half a point of percent
    for cell in np.unique(cells):
        chosen = np.flatnonzero(cells == cell)
        step = min(0.11, 0.44 / len(chosen))
        offsets[chosen] = step * (np.arange(len(chosen)) - (len(chosen) - 1) / 2)
    return offsets


def _dress(axes: "Axes", direction: Literal["x", "y"], title: str | None) -> None:
    """Grid along the accuracies, no frame but one side, and the title."""
    label = "accuracy in percent; a dot is one run"
    axes.grid(axis=direction, color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    (axes.set_xlabel if direction == "x" else axes.set_ylabel)(label, color=INK)
    for side in ("top", "right", "left" if direction == "x" else "bottom"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FRAME)
    axes.tick_params(colors=INK, length=0)
    if title is not None:
        axes.set_title(title, loc="left", fontsize=10.5, color=INK, parse_math=False)
