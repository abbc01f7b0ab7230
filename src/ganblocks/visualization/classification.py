"""What a classifier makes of single images."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ganblocks._checks import require, require_rank
from ganblocks.visualization.canvas import (
    INK,
    MUTED,
    RIGHT,
    WRONG,
    Canvas,
    checked_class_names,
    checked_labels,
    checked_path,
    finished,
    shortened,
    shown_size,
    text_width,
    to_pixels,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["class_bars"]

_OTHER = "#c4c4c4"
_BAR, _FULL, _LINE = 7.5, 150, 21  # points of the names; pixels of a bar of 100 %; pixels from bar to bar
_ROW_SUM_TOLERANCE = 0.02  # a softmax in bfloat16 adds up to 1 within a few roundings of 2^-8


def class_bars(
    images: Tensor,
    probabilities: Tensor,
    labels: Tensor,
    *,
    classes: Sequence[str] | None = None,
    count: int = 15,
    columns: int = 3,
    most_classes: int = 12,
    value_range: tuple[float, float] = (0.0, 1.0),
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> "Figure":
    """Draw images, each beside a bar for every class that says how probable a classifier finds it.

    The bar of the true class is blue, that of another class which is predicted orange, the rest grey. Below an image
    stands what is predicted, and where that is wrong what is true.

    Args:
        images: [N, C, H, W] with C = 1 or 3; floating point in ``value_range``, or uint8.
        probabilities: [N, K], each row from 0 to 1 and adding up to 1 within 0.02.
        labels: [N], the true classes: whole numbers from 0 to K - 1.
        classes: [K] names; ``None`` = the numbers.
        count: How many images, the first ones; at most 100.
        columns: Images side by side.
        most_classes: Of more classes only so many bars are drawn: the most probable and the true class, in the order of
            the classes.
        value_range: What is black and what is white, for images of floating point: (0, 1) or (-1, 1).
        title: Stands above everything; ``None`` for no title.
        path: Where the figure is also written; ends in ".png", ".svg" or ".pdf". ``None`` writes nothing.

    Returns:
        The figure; no window is opened.

    Raises:
        ImportError: matplotlib is missing.
        TypeError: Images neither floating point nor uint8, or labels that are no whole numbers.
        ValueError: Shapes that are wrong or do not fit, NaN, numbers that are no probabilities (logits, say), a class
            out of range, images of another range, or an option out of range.
        OSError: The figure could not be written.
    """
    checked_path(path)
    require(1 <= count <= 100, "count", count, "1 to 100")
    require(1 <= columns <= 10, "columns", columns, "1 to 10")
    require(2 <= most_classes <= 100, "most_classes", most_classes, "2 to 100")
    pixels = to_pixels(images, "images", value_range, data=True, most=count)
    shares = _checked_probabilities(probabilities, len(images))[:count]
    K = shares.shape[1]
    true = checked_labels(labels, len(images))
    require(int(true.max()) < K, "labels", int(true.max()), f"below {K}, the columns of `probabilities`")
    names = checked_class_names(classes, K - 1)
    require(len(names) == K, "classes", names, f"{K} names, for the columns of `probabilities`")

    width, height = shown_size(pixels, 168)
    bars = min(K, most_classes)
    written = [shortened(name, _BAR, 190) for name in names]
    column = round(max(text_width(name, _BAR) for name in written))
    gap, margin, foot = 34, 24, 66
    panel_width = width + 22 + column + 10 + _FULL + 54
    panel_height = max(height + foot, bars * _LINE) + gap
    columns = min(columns, len(pixels))
    lines = -(-len(pixels) // columns)
    canvas = Canvas(
        max(2 * margin + columns * (panel_width + gap) - gap, 620),
        2 * margin + lines * panel_height + 10,
        title=title,
    )
    for index, image in enumerate(pixels):
        row, place = divmod(index, columns)
        left, top = margin + place * (panel_width + gap), margin + row * panel_height
        predicted, label = int(shares[index].argmax()), int(true[index])
        canvas.place(image, left, top, width, height)
        share = _percent(shares[index, predicted])
        told = f"{shortened(names[predicted], 8.5, width - text_width(share, 8.5))}: {share}"
        color = RIGHT if predicted == label else WRONG
        canvas.write(left, top + height + 20, told, size=8.5, color=color)
        if predicted != label:
            canvas.write(left, top + height + 46, f"is {names[label]}", size=8.5, color=RIGHT, limit=width + 6)
        baseline = left + width + 22 + column + 10
        middle = top + _LINE / 2
        for k in _shown_classes(shares[index], label, bars):
            color = RIGHT if k == label else WRONG if k == predicted else _OTHER
            marked = INK if k in (label, predicted) else MUTED
            canvas.write(baseline - 10, middle, written[k], size=_BAR, ha="right", color=marked)
            canvas.bar(baseline, middle - 7, max(2.0, _FULL * shares[index, k]), 14, color)
            if shares[index, k] >= 0.005:
                end = baseline + _FULL * shares[index, k] + 7
                canvas.write(end, middle, _percent(shares[index, k]), size=_BAR, color=marked)
            middle += _LINE
    _write_key(canvas, margin, 2 * margin + lines * panel_height - 24)
    return finished(canvas.figure, path)


def _write_key(canvas: Canvas, left: float, middle: float) -> None:
    for color, told in ((RIGHT, "true class"), (WRONG, "predicted, but wrong"), (_OTHER, "other classes")):
        canvas.bar(left, middle - 8, 24, 16, color)
        canvas.write(left + 33, middle, told, size=8.5)
        left += 33 + text_width(told, 8.5) + 36


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _shown_classes(shares: np.ndarray, label: int, most: int) -> list[int]:
    """At most ``most`` classes in their order: the most probable ones (the first of equals), and the true one."""
    order = [int(k) for k in np.argsort(-shares, kind="stable")]
    kept = order[:most]
    return sorted(kept if label in kept else [*kept[:-1], label])


def _checked_probabilities(probabilities: Tensor, count: int) -> np.ndarray:
    require_rank(probabilities, "probabilities", 2, 2)
    shape = tuple(probabilities.shape)
    fits = shape[0] == count and shape[1] >= 1
    require(fits, "probabilities.shape", shape, f"[{count}, K], a row for each image")
    shares: np.ndarray = probabilities.detach().cpu().double().numpy()
    expected = "probabilities from 0 to 1 that add up to 1 in each row; of logits, take the softmax first"
    worst = float(abs(shares.sum(1) - 1).max())
    valid = bool((shares >= 0).all()) and worst <= _ROW_SUM_TOLERANCE  # NaN fails
    require(valid, "probabilities", f"from {shares.min():.3g} to {shares.max():.3g}", expected)
    return shares
