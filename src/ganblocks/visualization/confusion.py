"""Which classes are taken for which."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from ganblocks._checks import require
from ganblocks.visualization.canvas import (
    DPI,
    FRAME,
    INK,
    MUTED,
    RIGHT,
    WRONG,
    Canvas,
    checked_class_names,
    checked_path,
    finished,
    shortened,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["confusion_matrix"]

_SMALLEST = 4.5  # points: smaller numbers are left out
_MOST_ZEROS = 20  # classes up to which a cell says 0
_GAMMA = 0.5  # a share of 1 % takes a tenth of the way from white: mistakes are rare and must be seen


def confusion_matrix(
    counts: torch.Tensor | Sequence[Sequence[int]],
    *,
    classes: Sequence[str] | None = None,
    values: Literal["counts", "percent"] = "counts",
    orientation: Literal["true_on_y", "true_on_x"] = "true_on_y",
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> "Figure":
    """Draw how often each class was taken for each other, right ones in blue, mistakes in orange.

    The strength of a colour is the square root of the share of the true class, so that classes of different sizes
    compare. Beside the matrix stands for each true class its recall, or with ``"percent"``, where the recall is on the
    diagonal, the number of its images.

    Args:
        counts: [K, K] whole numbers with the true class in rows, predicted in columns, whatever ``orientation`` says:
            ``ClassificationReport.confusion`` for example.
        classes: [K] names; ``None`` = the numbers.
        values: What stands in the cells: ``"counts"``, or ``"percent"`` of the true class, which add up to 100 along
            it (a class that never occurs has none).
        orientation: ``"true_on_y"`` has true classes in rows, as usual; ``"true_on_x"`` in columns.
        title: Stands above everything; ``None`` for no title.
        path: Where the figure is also written; ends in ".png", ".svg" or ".pdf". ``None`` writes nothing.

    Returns:
        The figure; no window is opened. Of more than 20 classes zeros are left out, and cells
        too small for their number have none.

    Raises:
        ImportError: matplotlib is missing.
        TypeError: ``counts`` are no whole numbers.
        ValueError: ``counts`` are not square, negative, or all zero; another number of names, or an unknown option.
        OSError: The figure could not be written.
    """
    checked_path(path)
    require(values in ("counts", "percent"), "values", values, "'counts' or 'percent'")
    known = orientation in ("true_on_y", "true_on_x")
    require(known, "orientation", orientation, "'true_on_y' or 'true_on_x'")
    table = _checked_counts(counts)
    K, support = len(table), table.sum(1)
    names = checked_class_names(classes, K - 1)
    require(len(names) == K, "classes", names, f"{K} names")

    shares = table / np.maximum(support, 1)[:, None]
    texts = [[_cell(table[i, j], shares[i, j], support[i], values) for j in range(K)] for i in range(K)]
    colors = _cell_colors(shares)
    recalls = [f"{100 * shares[k, k]:.1f} %" if support[k] else "\N{EN DASH}" for k in range(K)]
    sides = recalls if values == "counts" else [f"{number:,}" for number in support]
    side_name = "recall" if values == "counts" else "images"
    on_x = orientation == "true_on_x"
    if on_x:
        texts, colors = [list(column) for column in zip(*texts, strict=True)], colors.transpose(1, 0, 2)

    right, total = int(table.trace()), int(table.sum())
    note = f"{100 * right / total:.2f} % of {total:,} are right (blue)"
    return finished(_drawn(names, texts, colors, sides, side_name, on_x, note, title).figure, path)


def _drawn(
    names: Sequence[str],
    texts: Sequence[Sequence[str]],
    colors: np.ndarray,
    sides: Sequence[str],
    side_name: str,
    true_on_x: bool,
    note: str,
    title: str | None,
) -> Canvas:
    """Lay the matrix out, in pixels."""
    K = len(texts)
    cell = round(min(108.0, max(24.0, 1350 / K)))
    size = min(10.0, 0.8 * cell * 72 / DPI)
    line = size * DPI / 72 * 1.3
    names = [shortened(name, size, 300) for name in names]
    widest = max(text_width(name, size) for name in names)
    turn = 0 if widest <= 0.94 * cell else 45 if 0.7 * cell >= line else 90
    side_size = min(9.0, size)
    widest_side = max(text_width(side, side_size) for side in sides)
    side_turned = true_on_x and widest_side > 0.94 * cell

    margin = 20
    left = round(margin + 44 + widest + 14)
    beside = round(widest_side if side_turned else side_size * DPI / 72 * 1.3)
    top = margin + (36 + beside + 12 if true_on_x else 0)
    right = margin if true_on_x else round(14 + widest_side + 44 + margin)
    below = round(10 + (line, 0.71 * (widest + line), widest)[turn // 45])
    edge, foot = left + K * cell, top + K * cell
    canvas = Canvas(
        max(edge + right, text_width(note, 9) + 2 * margin), foot + below + 36 + 40 + margin // 2, title=title
    )
    canvas.place(np.rint(255 * colors).astype(np.uint8), left, top, K * cell, K * cell)
    gap = 2 if K <= 20 else 1
    for k in range(1, K):
        canvas.bar(left + k * cell - gap / 2, top, gap, K * cell, "white")
        canvas.bar(left, top + k * cell - gap / 2, K * cell, gap, "white")
    _write_cells(canvas, texts, colors, left, top, cell)

    slanted = {"ha": "right", "va": "center", "rotation": turn, "rotation_mode": "anchor"}
    upright = {"ha": "center"}
    for k, (name, side) in enumerate(zip(names, sides, strict=True)):
        x, y = left + (k + 0.5) * cell, top + (k + 0.5) * cell
        canvas.write(left - 14, y, name, size=size, ha="right")
        canvas.write(x, foot + 10 + (0 if turn else line / 2), name, size=size, **(slanted if turn else upright))
        if not true_on_x:
            canvas.write(edge + 14, y, side, size=side_size, color=MUTED)
        elif side_turned:
            canvas.write(x, top - 12, side, size=side_size, color=MUTED, rotation=90, ha="center", va="bottom")
        else:
            canvas.write(x, top - 12, side, size=side_size, color=MUTED, ha="center", va="bottom")
    across, down = ("true class", "predicted class") if true_on_x else ("predicted class", "true class")
    middle_x, middle_y = (left + edge) / 2, (top + foot) / 2
    canvas.write(middle_x, foot + below + 22, across, size=11, ha="center")
    canvas.write(margin + 14, middle_y, down, size=11, ha="center", rotation=90)
    if true_on_x:
        canvas.write(middle_x, margin + 10, side_name, size=9.5, color=MUTED, ha="center")
    else:
        canvas.write(edge + right - margin - 10, middle_y, side_name, size=9.5, color=MUTED, ha="center", rotation=90)
    canvas.write(canvas.width - margin, foot + below + 62, note, size=9, color=MUTED, ha="right")
    return canvas


def _checked_counts(counts: Any) -> np.ndarray:
    """[K, K] as int64."""
    try:
        table = torch.as_tensor(counts).detach().cpu().numpy()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"`counts` must be a table of [K, K] whole numbers: {error}") from error
    require(table.dtype.kind in "iu", "counts.dtype", table.dtype.name, "whole numbers", TypeError)
    square = table.ndim == 2 and table.shape[0] == table.shape[1] >= 1
    require(square, "counts.shape", tuple(table.shape), "[K, K] with K >= 1")
    require(table.min() >= 0, "counts", int(table.min()), "0 or above")
    require(table.sum() > 0, "counts", "all zero", "of at least one sample")
    return table.astype(np.int64)


def _cell(count: int, share: float, support: int, values: str) -> str:
    if values == "counts":
        return f"{count}"
    return f"{100 * share:.1f}" if support else "\N{EN DASH}"


def _cell_colors(shares: np.ndarray) -> np.ndarray:
    """[K, K, 3] in 0..1: from white to blue on the diagonal, to orange elsewhere."""
    ends = np.array([[int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)] for color in (RIGHT, WRONG)])
    full = np.where(np.eye(len(shares), dtype=bool)[..., None], ends[0], ends[1])
    colors: np.ndarray = 1 - shares[..., None] ** _GAMMA * (1 - full)
    return colors


def _write_cells(
    canvas: Canvas, texts: Sequence[Sequence[str]], colors: np.ndarray, left: int, top: int, cell: int
) -> None:
    """Numbers as large as the longest allows, white on dark; zeros are faint, and left out of many classes."""
    longest = max(text_width(text, 10) for text in {text for row in texts for text in row})
    size = min(10.5, 10 * 0.8 * cell / longest)
    if size < _SMALLEST:
        return
    luminance = colors @ (0.2126, 0.7152, 0.0722)
    for i, row in enumerate(texts):
        for j, text in enumerate(row):
            nothing = text in ("0", "0.0", "\N{EN DASH}")
            if nothing and len(texts) > _MOST_ZEROS:
                continue
            color = FRAME if nothing else "white" if luminance[i, j] < 0.55 else INK
            x, y = left + (j + 0.5) * cell, top + (i + 0.5) * cell
            canvas.write(x, y, text, size=size, color=color, ha="center")
