"""The first images of a set with their classes."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ganblocks._checks import require
from ganblocks.visualization.canvas import (
    Canvas,
    checked_class_names,
    checked_labels,
    checked_path,
    finished,
    shown_size,
    to_pixels,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["sample_panel"]


def sample_panel(
    images: Tensor,
    labels: Tensor | None = None,
    *,
    classes: Sequence[str] | None = None,
    columns: int = 5,
    rows: int = 5,
    value_range: tuple[float, float] = (0.0, 1.0),
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> "Figure":
    """Draw the first images of a set, 5 x 5 unless told otherwise, with the class below each.

    Args:
        images: [N, C, H, W] with C = 1 or 3; floating point in ``value_range``, or uint8.
        labels: [N] whole numbers from 0; ``None`` for images without class.
        classes: Name of each class; ``None`` = the numbers.
        columns: Images in a row, at most 40.
        rows: At most so many rows, at most 40; fewer images make fewer.
        value_range: What is black and what is white, for images of floating point: (0, 1) or (-1, 1).
        title: Stands above everything; ``None`` for no title.
        path: Where the figure is also written; ends in ".png", ".svg" or ".pdf". ``None`` writes nothing.

    Returns:
        The figure; no window is opened.

    Raises:
        ImportError: matplotlib is missing.
        TypeError: Images neither floating point nor uint8, or labels that are no whole numbers.
        ValueError: A wrong shape, NaN, images of another range, too few ``classes``, or an option out of range.
        OSError: The figure could not be written.
    """
    checked_path(path)
    for name, number in (("columns", columns), ("rows", rows)):
        require(1 <= number <= 40, name, number, "1 to 40")
    pixels = to_pixels(images, "images", value_range, data=True, most=columns * rows)
    captions: list[str] = []
    if labels is not None:
        numbers = checked_labels(labels, len(images))
        names = checked_class_names(classes, int(numbers.max()))
        captions = [names[number] for number in numbers[: len(pixels)]]

    width, height = shown_size(pixels, 168)
    gap, margin, size, under = 20, 20, 9, 40 if captions else 8
    columns = min(columns, len(pixels))
    lines = -(-len(pixels) // columns)
    canvas = Canvas(
        2 * margin + columns * (width + gap) - gap, 2 * margin + lines * (height + under) - (8 if captions else under),
        title=title,
    )  # fmt: skip
    for index, image in enumerate(pixels):
        row, column = divmod(index, columns)
        left, top = margin + column * (width + gap), margin + row * (height + under)
        canvas.place(image, left, top, width, height)
        if captions:
            middle = left + width / 2
            canvas.write(middle, top + height + 17, captions[index], size=size, ha="center", limit=width + gap - 6)
    return finished(canvas.figure, path)
