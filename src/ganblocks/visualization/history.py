"""Loss, accuracy and squared error of a classifier while it learned: training, validation, and where that was best."""

import math
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from ganblocks._checks import require
from ganblocks.visualization.canvas import COLORS, FAINT, FRAME, INK, MUTED, checked_path, empty_figure, finished
from ganblocks.visualization.run_reader import Record, finite, read_records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["history_figure"]

Series = tuple[np.ndarray, np.ndarray]

_PANELS = (
    ("loss", "Loss", np.nanargmin),
    ("accuracy", "Accuracy", np.nanargmax),
    ("mse", "Mean squared error", np.nanargmin),
)
_TRAINING, _VALIDATION, _BEST = COLORS[1], COLORS[2], COLORS[0]  # red, green, blue
_FEW = 60  # a series this short is drawn with a mark at each number


def history_figure(
    records: Iterable[Record] | str | os.PathLike[str],
    *,
    best: Literal["dot"] | None = "dot",
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> "Figure":
    """Draw a panel each for loss, accuracy and mean squared error: training red, validation green.

    The first best validation is chosen by what it measures, so its value flatters: a test set has the last word.

    Args:
        records: Dictionaries, or the path of a ``log.jsonl`` with one JSON object a line, with any of the keys
            ``loss``, ``accuracy``, ``mse``, and these with ``val_`` in front. The horizontal axis is ``epoch`` where
            all of these records have it, else ``images_seen``, in thousands; records without it are passed over. Where
            it falls back, as after a resume, the later records replace the earlier ones. A null is a gap.
        best: "dot" = a blue dot at the smallest validation loss and squared error and at the highest validation
            accuracy, the first one of equals, labelled "best epoch = n"; without ``epoch`` n counts the validations
            from 1. ``None`` = no dots.
        title: Stands above everything; ``None`` for no title.
        path: Where the figure is also written; ends in ".png", ".svg" or ".pdf". ``None`` writes nothing.

    Returns:
        The figure; no window is opened. A panel without any number is left out.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: No number to draw, another suffix, or another ``best``.
        OSError: The log could not be read or the figure not be written.
    """
    checked_path(path)
    require(best in ("dot", None), "best", best, '"dot" or None')
    logged = read_records(records) if isinstance(records, (str, os.PathLike)) else list(records)
    keys = [key for name, *_ in _PANELS for key in (name, f"val_{name}")]
    used = [record for record in logged if any(key in record for key in keys)]
    by_epoch = bool(used) and all(finite(record.get("epoch")) is not None for record in used)
    x = "epoch" if by_epoch else "images_seen"
    series = {key: found for key in keys if np.isfinite((found := _series(used, key, x))[1]).any()}
    if not series:
        raise ValueError(
            f"`records` holds {len(logged)} records, but none with {x!r} and a number of {', '.join(keys)}"
        )
    shown = [panel for panel in _PANELS if panel[0] in series or f"val_{panel[0]}" in series]
    figure = empty_figure(5.2 * len(shown), 3.9 if title else 3.6, constrained=True)
    for axes, (name, heading, best_of) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for key, label, color in ((name, "training", _TRAINING), (f"val_{name}", "validation", _VALIDATION)):
            if key in series:
                positions, values = series[key]
                marker = "o" if len(values) <= _FEW else ""
                width = 1.6 if marker or label == "validation" else 0.8
                axes.plot(_scaled(positions, x), values, color=color, label=label, linewidth=width, marker=marker, ms=3)
        if best is not None and f"val_{name}" in series:
            positions, values = series[f"val_{name}"]
            index = int(best_of(values))
            epoch = f"{positions[index]:g}" if by_epoch else f"{index + 1}"
            place = _scaled(positions[index : index + 1], x)
            axes.plot(place, values[index : index + 1], "o", color=_BEST, ms=8, zorder=4, label=f"best epoch = {epoch}")
        _dress(axes, heading, "epoch" if by_epoch else "thousand images seen")
    if title:
        figure.suptitle(title, fontsize=13, fontweight="bold", color=INK, parse_math=False)
    return finished(figure, path)


def _series(records: Sequence[Record], key: str, x: str) -> Series:
    """Positions and values of one key, NaN for a gap; where the position falls back, what lay beyond is dropped."""
    kept: list[tuple[float, float]] = []
    for record in records:
        position = finite(record.get(x))
        if position is None or key not in record:
            continue
        while kept and kept[-1][0] >= position:
            kept.pop()
        value = finite(record[key])
        kept.append((position, math.nan if value is None else value))
    table = np.array(kept, dtype=float).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _scaled(positions: np.ndarray, x: str) -> np.ndarray:
    return positions / 1000 if x == "images_seen" else positions


def _dress(axes: "Axes", heading: str, x_name: str) -> None:
    axes.set_title(heading, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_xlabel(x_name, fontsize=9.5, color=INK)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FRAME)
    axes.tick_params(colors=MUTED, labelsize=9, length=3)
