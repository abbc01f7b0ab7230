"""Painters and what they have in common: a graph through art movements, and bars of how many pictures there are."""

import importlib
import math
import os
from collections.abc import Collection, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from ganblocks._checks import require
from ganblocks.visualization.canvas import (
    COLORS,
    FAINT,
    INK,
    MUTED,
    Canvas,
    checked_path,
    finished,
    shortened,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["count_bars", "draw_movements", "movement_graph"]

_NAME = 9  # points
_LONGEST_NAME = 330  # pixels
_LINE = 26  # pixels between names around the circle
_ROW = 34  # pixels of a line of the legend, or of a bar
_MARGIN = 24
_BAR = 620  # pixels of the longest bar
_DASHES = ("solid", (0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))  # the colours come again with another line


def movement_graph(painters: Sequence[str], movements: Sequence[Collection[str]]) -> Any:
    """Link painters who share a movement.

    Args:
        painters: [K] names, each there once.
        movements: [K], the names of the movements of each; may be empty.

    Returns:
        A ``networkx.Graph``: the painters are its nodes, in this order, each with the sorted tuple ``movements``; an
        edge has the sorted tuple of the movements that its two painters share as ``movements``.

    Raises:
        ImportError: networkx is missing.
        TypeError: The movements of a painter are one text rather than a collection of texts.
        ValueError: No painter, one twice, or lengths that differ.
    """
    require(len(painters) >= 1, "painters", painters, "of at least one name")
    require(len(set(painters)) == len(painters), "painters", list(painters), "different names")
    require(len(movements) == len(painters), "movements", f"of {len(movements)} rows", f"of {len(painters)}")
    for own in movements:
        require(not isinstance(own, str), "movements", own, "a collection of names for each painter", TypeError)
    try:
        networkx = importlib.import_module("networkx")
    except ImportError as error:
        raise ImportError('the graph needs networkx: pip install "ganblocks[examples]"') from error
    graph = networkx.Graph()
    for painter, own in zip(painters, movements, strict=True):
        graph.add_node(painter, movements=tuple(sorted(set(own))))
    for first, second in combinations(painters, 2):
        if shared := sorted(set(graph.nodes[first]["movements"]) & set(graph.nodes[second]["movements"])):
            graph.add_edge(first, second, movements=tuple(shared))
    return graph


def draw_movements(
    painters: Sequence[str],
    movements: Sequence[Collection[str]],
    *,
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> "Figure":
    """Draw the `movement_graph`: painters around a circle, a line for each movement that two of them share.

    Painters stand beside those of the same movement: of several, the one with most painters counts. The legend names
    the movements that link, with their numbers of painters; who shares none stands at the end, grey.

    Args:
        painters: [K] names, each there once.
        movements: [K], the names of the movements of each.
        title: Stands above everything; None for no title.
        path: Ends in ".png", ".svg" or ".pdf"; None writes no file.

    Returns:
        The figure.

    Raises:
        ImportError: networkx or matplotlib is missing.
        TypeError: As for `movement_graph`.
        ValueError: As for `movement_graph`; or another suffix.
        OSError: The file could not be written.
    """
    checked_path(path)
    graph = movement_graph(painters, movements)
    members: dict[str, int] = {}
    for own in graph.nodes.values():
        for movement in own["movements"]:
            members[movement] = members.get(movement, 0) + 1
    linking = sorted((name for name, count in members.items() if count > 1), key=lambda name: (-members[name], name))
    rank = {name: number for number, name in enumerate(linking)}

    def main_of(painter: str) -> int:
        return min((rank[name] for name in graph.nodes[painter]["movements"] if name in rank), default=len(linking))

    order = sorted(graph.nodes, key=lambda painter: (main_of(painter), painter))
    texts = [shortened(painter, _NAME, _LONGEST_NAME) for painter in order]
    radius = max(200.0, len(order) * _LINE / (2 * math.pi))
    half = radius + 18 + max(text_width(text, _NAME) for text in texts) + _MARGIN
    legend = [f"{shortened(name, _NAME, _LONGEST_NAME)} ({members[name]})" for name in linking]
    column = 70 + max((text_width(text, _NAME) for text in legend), default=0) + _MARGIN
    height = max(2 * half, _ROW * len(legend) + 2 * _MARGIN)
    canvas = Canvas(2 * half + (column if legend else 0), height, title=title)

    place: dict[str, tuple[float, float]] = {}
    for number, (painter, text) in enumerate(zip(order, texts, strict=True)):
        angle = 2 * math.pi * (number + 0.5) / len(order)
        x, y = math.cos(angle), math.sin(angle)
        place[painter] = (half + radius * x, half + radius * y)
        left = x < -1e-9
        canvas.write(
            half + (radius + 16) * x,
            half + (radius + 16) * y,
            text,
            size=_NAME,
            ha="right" if left else "left",
            va="center",
            rotation=(180 if left else 0) - math.degrees(angle),  # y grows downwards
            rotation_mode="anchor",
        )
    for name in reversed(linking):  # the rarer above the common
        _draw_links(canvas, graph, name, place, half, rank[name])
    for painter, (x, y) in place.items():
        main = main_of(painter)
        color = MUTED if main == len(linking) else COLORS[main % len(COLORS)]
        canvas.axes.plot([x], [y], marker="o", markersize=5, color=color, zorder=3)
    top = half - _ROW * len(legend) / 2
    for number, text in enumerate(legend):
        y = top + (number + 0.5) * _ROW
        canvas.axes.plot([2 * half, 2 * half + 50], [y, y], **_line(number), linewidth=2)
        canvas.write(2 * half + 62, y, text, size=_NAME)
    return finished(canvas.figure, path)


def _line(number: int) -> dict[str, Any]:
    return {"color": COLORS[number % len(COLORS)], "linestyle": _DASHES[number // len(COLORS) % len(_DASHES)]}


def _draw_links(
    canvas: Canvas, graph: Any, movement: str, place: dict[str, tuple[float, float]], centre: float, number: int
) -> None:
    """A curve between any two painters of a movement; those of other movements bend in another measure."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    bend = 0.75 - 0.5 * (number % 5) / 4  # share of the way from the centre to the middle of the chord
    points: list[tuple[float, float]] = []
    for first, second, own in graph.edges(data="movements"):
        if movement in own:
            (x0, y0), (x1, y1) = place[first], place[second]
            middle = (centre + bend * ((x0 + x1) / 2 - centre), centre + bend * ((y0 + y1) / 2 - centre))
            points += [(x0, y0), middle, (x1, y1)]
    codes = [Path.MOVETO, Path.CURVE3, Path.CURVE3] * (len(points) // 3)
    style = _line(number)
    canvas.axes.add_patch(
        PathPatch(
            Path(points, codes), fill=False, edgecolor=style["color"], linestyle=style["linestyle"], alpha=0.6, zorder=2
        )
    )


def count_bars(
    names: Sequence[str],
    counts: Sequence[int],
    *,
    expected: Sequence[int | None] | None = None,
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> "Figure":
    """Draw how many there are of each class, most first, of equal numbers by name.

    Beside each bar stand its number and its share of all; the largest share is what always naming that class gets
    right.

    Args:
        names: [K] names of the classes.
        counts: [K] whole numbers, 0 or above.
        expected: [K], how many there should be, None where nobody knows; where that is another number, a line shows
            where the bar should end, and "of" tells it. None for none of it.
        title: Stands above everything; None for no title.
        path: Ends in ".png", ".svg" or ".pdf"; None writes no file.

    Returns:
        The figure.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: No class, lengths that differ, a negative number, or another suffix.
        OSError: The file could not be written.
    """
    checked_path(path)
    require(len(names) >= 1, "names", names, "of at least one class")
    require(len(counts) == len(names), "counts", f"of {len(counts)} numbers", f"of {len(names)}, as `names`")
    wanted: Sequence[int | None] = [None] * len(names) if expected is None else expected
    require(len(wanted) == len(names), "expected", f"of {len(wanted)} numbers", f"of {len(names)}, as `names`")
    for argument, numbers in (("counts", counts), ("expected", wanted)):
        for number in numbers:
            require(number is None or number >= 0, argument, number, "0 or above")
    total = sum(counts)
    longest = max(1, *counts, *(number or 0 for number in wanted))
    rows = sorted(zip(names, counts, wanted, strict=True), key=lambda row: (-row[1], row[0]))
    labels = [shortened(name, _NAME, _LONGEST_NAME) for name, _, _ in rows]
    told = [
        f"{count:,}"
        + (f" of {should:,}" if should not in (None, count) else "")
        + (f"  ({100 * count / total:.1f} %)" if total else "")
        for _, count, should in rows
    ]
    left = _MARGIN + max(text_width(label, _NAME) for label in labels) + 14
    width = left + _BAR + 14 + max(text_width(text, _NAME) for text in told) + _MARGIN
    canvas = Canvas(width, _ROW * len(rows) + 2 * _MARGIN, title=title)
    for number, ((_, count, should), label, text) in enumerate(zip(rows, labels, told, strict=True)):
        y = _MARGIN + _ROW * (number + 0.5)
        canvas.write(left - 12, y, label, size=_NAME, ha="right")
        canvas.bar(left, y - 11, _BAR, 22, FAINT)
        canvas.bar(left, y - 11, _BAR * count / longest, 22, COLORS[0])
        if should is not None and should != count:
            canvas.bar(left + _BAR * should / longest - 1.5, y - 14, 3, 28, INK)
        canvas.write(left + _BAR + 14, y, text, size=_NAME, color=MUTED)
    return finished(canvas.figure, path)
