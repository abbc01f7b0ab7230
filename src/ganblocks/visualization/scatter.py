"""Points in the plane by class, so that none covers another and every class can be told from the rest."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ganblocks._checks import require
from ganblocks.visualization.canvas import (
    COLORS,
    DPI,
    FAINT,
    FRAME,
    INK,
    MUTED,
    checked_class_names,
    checked_labels,
    empty_figure,
    shortened,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_scatter"]

_MARKERS = ("o", "^", "s", "D", "v", "P", "X", "p", "<", ">")
_SIZES = {"D": 0.85, "s": 0.92, "^": 1.12, "v": 1.12, "<": 1.12, ">": 1.12, "P": 1.2, "X": 1.15}  # of equal weight
_ROUNDS = 12  # the classes take turns: each draws a twelfth of its points at a time
_MOST_IN_LEGEND, _LEGEND_COLUMN = 60, 30
_GRID = 28  # cells along each side, in which the places of the names are looked for
_PRIOR = ((0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"))
_NAME = 11  # points
_RASTERED = 2000  # points from which an SVG holds them as pixels


def draw_scatter(
    points: np.ndarray,
    labels: Tensor | None,
    classes: Sequence[str] | None,
    *,
    most_points: int,
    axis_names: tuple[str, str],
    title: str | None,
    prior: bool = False,
) -> "Figure":
    """Draw [N, 2] finite points; the arguments and the errors are those of `latent_scatter`."""
    require(most_points >= 1, "most_points", most_points, "at least 1")
    require(len(axis_names) == 2, "axis_names", axis_names, "two names")
    N = len(points)
    numbers = np.zeros(N, dtype=np.int64) if labels is None else checked_labels(labels, N)
    names = checked_class_names(classes, int(numbers.max()) if labels is not None else 0)
    present = np.unique(numbers)
    kept = np.random.default_rng(0).permutation(N)[:most_points]
    points, numbers = points[kept], numbers[kept]

    figure = empty_figure(9 if labels is None else 10.4, 7.6, constrained=True)
    axes = figure.subplots()
    size = float(np.clip(280 / np.sqrt(len(points)), 2.8, 6.5))
    for turn in range(_ROUNDS):
        for k in present:
            part = points[numbers == k][turn::_ROUNDS]
            (drawn,) = axes.plot(part[:, 0], part[:, 1], **_style(int(k), size), alpha=0.7, zorder=2)
            drawn.set_rasterized(len(points) > _RASTERED)
    if prior:
        _draw_prior(axes)
    _dress(axes, axis_names)
    if labels is not None:
        _write_legend(figure, axes, [int(k) for k in present], names)
    if len(points) < N:
        note = f"{len(points):,} of {N:,} points are shown"
        figure.supxlabel(note, x=0.99, ha="right", fontsize=9, color=MUTED)
    if title:
        figure.suptitle(title, x=0.012, ha="left", fontsize=13, fontweight="bold", color=INK, parse_math=False)
    figure.draw_without_rendering()  # now the layout is known, in which names must not run into one another
    if labels is not None:
        _name_regions(axes, points, numbers, names)
    return figure


def _style(k: int, size: float) -> dict[str, Any]:
    """Colour and marker of a class; from the eleventh on colours come again, with other markers."""
    color = COLORS[k % len(COLORS)]
    marker = _MARKERS[(k + k // len(COLORS)) % len(_MARKERS)]
    edge = {"markeredgecolor": "#8a7f00", "markeredgewidth": 0.25 if color == "#F0E442" else 0}
    return {"color": color, "marker": marker, "linestyle": "none", "markersize": size * _SIZES.get(marker, 1), **edge}


def _draw_prior(axes: "Axes") -> None:
    """Circles around the origin that hold so much of a standard normal distribution."""
    from matplotlib.patches import Circle

    for share, told in _PRIOR:
        radius = float(np.sqrt(-2 * np.log(1 - share)))
        axes.add_patch(
            Circle((0, 0), radius, fill=False, edgecolor=INK, linewidth=1.0, linestyle=(0, (4, 3)), zorder=3)
        )
        axes.annotate(told, (0, radius), ha="center", va="center", fontsize=8, color=INK, zorder=4, bbox=_BACKED)


_BACKED = {"facecolor": "white", "alpha": 0.85, "linewidth": 0, "pad": 1.2}


def _dress(axes: "Axes", axis_names: tuple[str, str]) -> None:
    axes.margins(0.03)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel(axis_names[0], fontsize=11, color=INK, parse_math=False)
    axes.set_ylabel(axis_names[1], fontsize=11, color=INK, parse_math=False)
    axes.grid(color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FRAME)
    axes.tick_params(colors=MUTED, labelsize=9.5, length=3)


def _write_legend(figure: "Figure", axes: "Axes", present: Sequence[int], names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    shown = present[:_MOST_IN_LEGEND]
    handles = [Line2D([], [], **_style(k, 8.0)) for k in shown]
    texts = [shortened(names[k], 10, 300) for k in shown]
    if len(shown) < len(present):
        handles.append(Line2D([], [], linestyle="none"))
        texts.append(f"and {len(present) - len(shown)} more")
    legend = figure.legend(
        handles,
        ["class"] * len(handles),
        loc="outside right upper",
        ncols=-(-len(handles) // _LEGEND_COLUMN),
        frameon=False,
        fontsize=10,
        labelcolor=INK,
        handletextpad=0.3,
        labelspacing=0.55,
    )
    for entry, text in zip(legend.get_texts(), texts, strict=True):
        entry.set_parse_math(False)
        entry.set_text(text)


def _name_regions(axes: "Axes", points: np.ndarray, numbers: np.ndarray, names: Sequence[str]) -> None:
    """Write the name of each class where it is densest among cells that are mostly its own."""
    from matplotlib.patheffects import withStroke

    frame = axes.bbox
    cells = ((axes.transData.transform(points) - frame.p0) / frame.size * _GRID).astype(int).clip(0, _GRID - 1)
    present, order = np.unique(numbers, return_inverse=True)
    counts = np.zeros((len(present), _GRID, _GRID))
    np.add.at(counts, (order, cells[:, 0], cells[:, 1]), 1)
    counts = _spread(counts)
    share = counts / np.maximum(counts.sum(0), 1e-12)
    scores = np.where(share >= 0.5, counts * share, 0).reshape(len(present), -1)
    halo = [withStroke(linewidth=3.5, foreground="white")]
    taken: list[np.ndarray] = []  # centre and half sides of the names that stand
    for k in np.argsort(-scores.max(1), kind="stable"):
        name = shortened(names[present[k]], _NAME, 260, weight="bold")
        half = np.array([text_width(name, _NAME, weight="bold"), 1.3 * _NAME * DPI / 72]) / 2 + 4
        for cell in np.argsort(-scores[k], kind="stable")[:40]:
            if scores[k, cell] <= 0.005 * counts[k].sum():
                break
            centre = (np.array(divmod(int(cell), _GRID)) + 0.5) / _GRID * frame.size
            inside = bool((centre >= half).all() and (centre <= frame.size - half).all())
            if inside and not any((abs(centre - other[0]) < half + other[1]).all() for other in taken):
                taken.append(np.stack([centre, half]))
                x, y = axes.transData.inverted().transform(frame.p0 + centre)
                text = axes.text(x, y, name, ha="center", va="center", fontsize=_NAME, fontweight="bold", color=INK)
                text.set(parse_math=False, path_effects=halo, zorder=5)
                break


def _spread(counts: np.ndarray) -> np.ndarray:
    """The mean over 3 x 3 cells of each class: a single cell says little."""
    padded = np.pad(counts, ((0, 0), (1, 1), (1, 1)))
    side = counts.shape[1]
    parts = [padded[:, i : i + side, j : j + side] for i, j in itertools.product(range(3), repeat=2)]
    return np.mean(parts, axis=0)
