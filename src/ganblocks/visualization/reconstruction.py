"""What a network rebuilds, below what it was given."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ganblocks._checks import require, require_same_shape
from ganblocks.visualization.canvas import (
    MUTED,
    Canvas,
    checked_path,
    finished,
    shown_size,
    text_width,
    to_pixels,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["reconstruction_rows"]


def reconstruction_rows(
    originals: Tensor,
    reconstructed: Tensor,
    *,
    noisy: Tensor | None = None,
    count: int = 10,
    errors: bool = False,
    row_names: Sequence[str] | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> "Figure":
    """Draw originals, what was made of them, and in between, if given, what the network saw: one column an image.

    Args:
        originals: [N, C, H, W] with C = 1 or 3; floating point in ``value_range``, or uint8.
        reconstructed: Of the same shape; values outside of ``value_range`` are clamped, as for ``noisy``.
        noisy: Of the same shape; ``None`` leaves the row out.
        count: How many images, the first ones; at most 40. Fewer are shown if there are fewer.
        errors: Whether the mean squared difference to the original, black being 0 and white 1, stands below each image.
        row_names: A name for each row from top to bottom; ``None`` = original, (noisy,) reconstructed.
        value_range: What is black and what is white, for images of floating point: (0, 1) or (-1, 1).
        title: Stands above everything; ``None`` for no title.
        path: Where the figure is also written; ends in ".png", ".svg" or ".pdf". ``None`` writes nothing.

    Returns:
        The figure; no window is opened.

    Raises:
        ImportError: matplotlib is missing.
        TypeError: Images neither floating point nor uint8.
        ValueError: Shapes that differ or are wrong, NaN, originals of another range, or an option out of range.
        OSError: The figure could not be written.
    """
    checked_path(path)
    require(1 <= count <= 40, "count", count, "1 to 40")
    batches = {"originals": originals, "noisy": noisy, "reconstructed": reconstructed}
    images = {name: batch for name, batch in batches.items() if batch is not None}
    for name, batch in images.items():
        require_same_shape(originals, batch, "originals", name)
    rows = {
        name: to_pixels(batch, name, value_range, data=name == "originals", most=count)
        for name, batch in images.items()
    }
    names = [name.removesuffix("s") for name in rows] if row_names is None else list(row_names)
    require(len(names) == len(rows), "row_names", names, f"{len(rows)} names")

    clean = rows["originals"]
    width, height = shown_size(clean, 112)
    gap, size, small = 8, 10.5, 7.5
    under = 26 if errors else 0
    margin = 16
    left = margin + round(min(260.0, max(text_width(name, size) for name in names))) + 14
    columns = len(clean)
    canvas = Canvas(
        left + columns * (width + gap) - gap + margin,
        2 * margin + len(rows) * (height + gap) - gap + under * (len(rows) - 1),
        title=title,
    )
    top = margin
    for number, (name, (key, pixels)) in enumerate(zip(names, rows.items(), strict=True)):
        canvas.write(left - 14, top + height / 2, name, size=size, ha="right", limit=260)
        told = _mean_squares(images[key][:columns], originals[:columns], value_range) if errors and number else []
        for column in range(columns):
            place = left + column * (width + gap)
            canvas.place(pixels[column], place, top, width, height)
            for error in told[column : column + 1]:
                middle = place + width / 2
                canvas.write(middle, top + height + 15, f"{error:.4f}", size=small, ha="center", color=MUTED)
        top += height + gap + (under if number else 0)
    return finished(canvas.figure, path)


def _mean_squares(images: Tensor, originals: Tensor, value_range: tuple[float, float]) -> list[float]:
    """Of each image, with black at 0 and white at 1; nothing is clamped or rounded."""

    def scaled(batch: Tensor) -> Tensor:
        low, high = (0.0, 255.0) if batch.dtype == torch.uint8 else value_range
        return (batch.detach().cpu().double() - low) / (high - low)

    errors: list[float] = (scaled(images) - scaled(originals)).square().flatten(1).mean(1).tolist()
    return errors
