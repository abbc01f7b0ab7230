"""The numbers of a run as one picture: a panel for losses, penalty, scores, distances, learning rate.

Drawn with matplotlib's objects alone: no window, no pyplot, no global setting is touched.
"""

import math
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ganblocks._checks import require
from ganblocks._files import written_atomically
from ganblocks.visualization.canvas import COLORS, FAINT, FRAME, INK, MUTED
from ganblocks.visualization.run_reader import Record, read_records

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["save_curves"]

Series = tuple[np.ndarray, np.ndarray]

_PANELS = (
    "Losses",
    "Reconstruction",
    "Divergence",
    "Penalty",
    "Critic scores",
    "Probability of being real",
    "Gradient norms",
    "Accuracy",
    "Quality and variety",
    "Distances",
    "Patch distances x 1000",
    "Learning rate",
)
_PATCH_DISTANCE = re.compile(r"(patch_)?swd_[0-9]+")
# Where positive values may span orders of magnitude:
_LOGARITHMIC = ("Penalty", "Gradient norms", "Distances", "Patch distances x 1000", "Learning rate")
_FEW = 40  # a series this short is drawn as dots on a line, not smoothed
_COLUMNS = 1000  # a longer raw series is drawn by the extremes in this many intervals


def save_curves(
    records: Iterable[Record] | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    keys: Sequence[str] | None = None,
    x: str = "images_seen",
    title: str | None = None,
) -> None:
    """Draw logged numbers, one panel per kind, replacing an older picture in a single step.

    The thin line is what was logged, the thick one an exponential moving average of it; its length, a fiftieth of the
    records, stands below the picture. A learning rate, and a series of at most 40 numbers, is shown as it is. A null or
    non-finite number is a gap. Where ``x`` falls back, as after a resume, the later numbers replace the earlier ones.
    A smoothed panel is cut to the middle 98 % of the raw numbers; penalty, distances and learning rate are logarithmic
    if they span more than two orders of magnitude. Where ``resolution`` changes a dotted line says so, and fades
    (``alpha`` below 1) are shaded.

    Args:
        records: dictionaries, or the path of a ``log.jsonl`` with one JSON object a line. Lines that are not whole (the
            last one of a run that was killed) and records without ``x`` are passed over.
        path: ends in ".png" (1200 pixels wide) or ".svg". Missing folders are made.
        keys: what to draw, in this order of colours; a key that fits no known panel gets its own. None draws all
            losses, penalties, scores, accuracies, precision to coverage, distances and learning rates found, no other.
        x: key of the horizontal axis; "images_seen" is shown in thousands.
        title: stands above everything; None for no title.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: another suffix, or no number to draw.
        OSError: the log could not be read or the picture not be written.
    """
    suffix = Path(path).suffix.lower()
    require(suffix in (".png", ".svg"), "path", str(path), 'a name that ends in ".png" or ".svg"')
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('curves need matplotlib: pip install "ganblocks[train]"') from error

    logged = read_records(records) if isinstance(records, (str, os.PathLike)) else list(records)
    panels = {
        name: drawn for name, members in _grouped(logged, keys).items() if (drawn := _all_series(logged, members, x))
    }
    if not panels:
        raise ValueError(f"`records` holds {len(logged)} records, but none with {x!r} and a number to draw")
    unit = 1000.0 if x == "images_seen" else 1.0

    heading = 0.45 if title else 0.1
    figure = Figure(figsize=(12, heading + 0.75 + 2.3 * len(panels)), dpi=100, layout="constrained", facecolor="white")
    axes: list[Axes] = list(figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0])
    smoothed = [
        _draw_panel(panel, name, series, unit) for panel, (name, series) in zip(axes, panels.items(), strict=True)
    ]
    _draw_stages(axes, logged, x, unit)
    axes[-1].set_xlabel("thousand images seen" if x == "images_seen" else x.replace("_", " "), color=INK)
    if title:
        figure.suptitle(title, x=0.012, ha="left", fontsize=15, fontweight="bold", color=INK)
    if spans := sorted({span for span in smoothed if span}):
        lengths = " or ".join(str(span) for span in spans)
        note = f"thin: as logged;  thick: exponential moving average over {lengths} records"
        figure.supxlabel(note, x=0.99, ha="right", fontsize=8.5, color=MUTED)
    with written_atomically(path) as file:
        figure.savefig(file, format=suffix[1:], metadata={"Date": None} if suffix == ".svg" else None)


def _number(value: Any) -> float | None:
    """Read a number, NaN for null, and None for what is no number (text, lists, truth values)."""
    if value is None:
        return math.nan
    if isinstance(value, (bool, str, list, tuple, dict)):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None


def _panel(key: str) -> str | None:
    """Name the panel that a key belongs to."""
    if _PATCH_DISTANCE.fullmatch(key):
        return "Patch distances x 1000"
    if "distance" in key or "swd" in key:
        return "Distances"
    if "penalty" in key:
        return "Penalty"
    if key in ("loss", "val_loss") or key.endswith("_loss"):
        return "Losses"
    if key in ("reconstruction", "val_reconstruction"):
        return "Reconstruction"
    if key in ("kl", "val_kl"):
        return "Divergence"
    if key in ("real_score", "fake_score"):
        return "Critic scores"
    if key in ("real_probability", "fake_probability", "fake_probability_after"):
        return "Probability of being real"
    if key.endswith("gradient_norm"):
        return "Gradient norms"
    if key in ("precision", "recall", "density", "coverage"):
        return "Quality and variety"
    if key.endswith("accuracy"):
        return "Accuracy"
    return "Learning rate" if "learning_rate" in key else None


def _grouped(records: Sequence[Record], keys: Sequence[str] | None) -> dict[str, list[str]]:
    """{panel: keys}: the known panels in their order, then one for each other key that was asked for."""
    found = keys if keys is not None else dict.fromkeys(key for record in records for key in record)
    groups: dict[str, list[str]] = {name: [] for name in _PANELS}
    for key in found:
        panel = _panel(key)
        if panel is not None:
            groups[panel].append(key)
        elif keys is not None:
            groups[key.replace("_", " ").capitalize()] = [key]
    return groups


def _series(records: Sequence[Record], key: str, x: str) -> Series:
    """Positions and values of one key; where the position falls back, what lay beyond it is dropped."""
    positions: list[float] = []
    values: list[float] = []
    for record in records:
        position, value = _number(record.get(x)), _number(record[key]) if key in record else None
        if position is None or value is None or not math.isfinite(position):
            continue
        if positions and position < positions[-1]:
            while positions and positions[-1] >= position:
                positions.pop()
                values.pop()
        positions.append(position)
        values.append(value if math.isfinite(value) else math.nan)
    return np.array(positions), np.array(values)


def _all_series(records: Sequence[Record], keys: Sequence[str], x: str) -> dict[str, Series]:
    """{key: series} of those keys that have a finite number."""
    series = {key: _series(records, key, x) for key in keys}
    return {key: pair for key, pair in series.items() if np.isfinite(pair[1]).any()}


def _smooth(values: np.ndarray, span: int) -> np.ndarray:
    """Exponential moving average of weight 2 / (span + 1), corrected for its start; gaps stay gaps."""
    decay = 1 - 2 / (span + 1)
    total = weight = 0.0
    result = np.full_like(values, math.nan)
    for index in np.flatnonzero(np.isfinite(values)):
        total, weight = decay * total + values[index], decay * weight + 1
        result[index] = total / weight
    return result


def _extremes(positions: np.ndarray, values: np.ndarray) -> Series:
    """Thin a long series to the smallest and the largest value of each interval, in order."""
    if len(values) <= 2 * _COLUMNS:
        return positions, values
    kept: set[int] = set()
    for part in np.array_split(np.arange(len(values)), _COLUMNS):
        inside = values[part]
        if np.isnan(inside).all():
            kept.add(int(part[0]))
        else:
            kept.update((int(part[np.nanargmin(inside)]), int(part[np.nanargmax(inside)])))
    order = sorted(kept)
    return positions[order], values[order]


def _draw_panel(axes: "Axes", name: str, panel: dict[str, Series], unit: float) -> int:
    """Draw all series of one panel; the length of the moving average, 0 without one."""
    longest, bounds = 0, []
    for index, (key, (positions, values)) in enumerate(panel.items()):
        color = COLORS[index % len(COLORS)]
        finite = values[np.isfinite(values)]
        if len(values) <= _FEW or name == "Learning rate":
            shown, marker = values, "o" if len(values) <= _FEW else ""
            axes.plot(positions / unit, values, color=color, linewidth=1.6, marker=marker, markersize=4, zorder=3)
            bounds.extend([finite.min(), finite.max()])
        else:
            span = max(5, round(len(values) / 50))
            longest, shown = max(longest, span), _smooth(values, span)
            raw_positions, raw_values = _extremes(positions, values)
            axes.plot(raw_positions / unit, raw_values, color=color, linewidth=0.6, alpha=0.3, zorder=2)
            bounds.extend(np.percentile(finite, [1, 99]))
            axes.plot(positions / unit, shown, color=color, linewidth=1.9, zorder=3)
        last = shown[np.isfinite(shown)][-1]
        axes.plot([], [], color=color, linewidth=2.2, label=f"{key.replace('_', ' ')}  {last:.3g}")
    _dress(
        axes, name, min(bounds), max(bounds), all((pair[1][np.isfinite(pair[1])] > 0).all() for pair in panel.values())
    )
    return longest


def _dress(axes: "Axes", name: str, low: float, high: float, positive: bool) -> None:
    """Title, key, limits and a quiet frame."""
    if name in _LOGARITHMIC and positive and high > 100 * low:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.3, high * 1.3)
    else:
        constant = high - low <= 1e-6 * abs(high)
        margin = (0.5 * abs(high) or 1.0) if constant else 0.06 * (high - low)
        axes.set_ylim(low - margin, high + margin)
        if low < 0 < high:
            axes.axhline(0, color=FRAME, linewidth=0.8, zorder=1)
    axes.set_title(name, loc="left", fontsize=12, fontweight="bold", color=INK, pad=8)
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=6,
        frameon=False,
        fontsize=9.5,
        labelcolor="linecolor",
        handlelength=1.1,
        borderaxespad=0.1,
    )
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FRAME)
    axes.tick_params(colors=MUTED, labelsize=9.5, length=3)
    axes.margins(x=0.005)


def _draw_stages(panels: Sequence["Axes"], records: Sequence[Record], x: str, unit: float) -> None:
    """Mark where the resolution changes and shade where the new layers fade in."""
    positions, sizes = _series(records, "resolution", x)
    left, right = panels[0].get_xlim()
    changes = [index for index, size in enumerate(sizes) if index == 0 or size != sizes[index - 1]]
    changes = [index for index in changes if math.isfinite(sizes[index])]
    last_label = -math.inf
    for index in changes:
        place = positions[index] / unit
        for axes in panels:
            if index:
                axes.axvline(place, color="#909090", linewidth=1.0, linestyle=":", zorder=1)
        if place - last_label >= 0.05 * (right - left):  # a stage too short for its label goes without
            last_label = place
            size = f"{sizes[index]:.0f}x{sizes[index]:.0f}"
            panels[0].annotate(
                size,
                (place, 1),
                xycoords=("data", "axes fraction"),
                xytext=(4, -3),
                textcoords="offset points",
                va="top",
                fontsize=9,
                color=MUTED,
                zorder=4,
                bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 1},
            )
    for start, end in _fades(records, x):
        for axes in panels:
            axes.axvspan(start / unit, end / unit, color="#f3f0e6", linewidth=0, zorder=0)


def _fades(records: Sequence[Record], x: str) -> list[tuple[float, float]]:
    """(start, end) of each stretch with alpha below 1; it ends where alpha is 1 again, or with the log."""
    positions, alphas = _series(records, "alpha", x)
    fades: list[tuple[float, float]] = []
    start: float | None = None
    for position, alpha in zip(positions, alphas, strict=True):
        if alpha < 1 and start is None:
            start = position
        elif alpha >= 1 and start is not None:
            fades.append((start, position))
            start = None
    if start is not None and positions[-1] > start:
        fades.append((start, positions[-1]))
    return fades
