"""What all figures share: colours, checks of what comes in, and a canvas on which every pixel of an image is a square.

Drawn with matplotlib's objects alone: no window, no pyplot, no global setting is touched. Text is never read as
mathematics: a class may be called ``$x_1$``.
"""

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ganblocks._checks import require, require_rank
from ganblocks._files import written_atomically
from ganblocks.functional.image_range import rescale, to_uint8

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLORS",
    "DPI",
    "FAINT",
    "FRAME",
    "INK",
    "MUTED",
    "RIGHT",
    "WRONG",
    "Canvas",
    "checked_class_names",
    "checked_labels",
    "checked_path",
    "empty_figure",
    "finished",
    "shortened",
    "shown_size",
    "text_width",
    "to_pixels",
]

# Okabe and Ito's eight, then wine and indigo of Tol: any two differ by 16 in CIELAB for the colour-blind too.
COLORS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#222222", "#F0E442", "#882255", "#332288",
)  # fmt: skip
INK = "#222222"
MUTED = "#707070"
FRAME = "#b0b0b0"
FAINT = "#e6e6e6"
RIGHT = COLORS[0]
WRONG = COLORS[1]
DPI = 150

_LONGEST_TITLE = 120  # characters
_MOST_CLASSES = 10_000


def empty_figure(width: float, height: float, *, constrained: bool = False) -> "Figure":
    """A white figure of ``width`` x ``height`` inches.

    Raises:
        ImportError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('figures need matplotlib: pip install "ganblocks[train]"') from error
    figure: Figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    if constrained:
        figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
    return figure


def checked_path(path: str | os.PathLike[str] | None) -> None:
    """Raise ``ValueError`` unless ``path`` is None or ends in one of the three suffixes; call it before all work."""
    known = path is None or Path(path).suffix.lower() in (".png", ".svg", ".pdf")
    require(known, "path", path if path is None else str(path), 'a name that ends in ".png", ".svg" or ".pdf"')


def finished(figure: "Figure", path: str | os.PathLike[str] | None) -> "Figure":
    """Write the figure, if there is a path, in a single step, and return it."""
    if path is not None:
        suffix = Path(path).suffix.lower()[1:]
        undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
        with written_atomically(path) as file:
            figure.savefig(file, format=suffix, dpi=DPI, facecolor="white", metadata=undated.get(suffix))
    return figure


def to_pixels(
    images: Tensor, name: str, value_range: tuple[float, float], *, data: bool = False, most: int | None = None
) -> np.ndarray:
    """Bring [N, C, H, W] images to [N, H, W, 3] bytes on the CPU.

    Args:
        images: Grey or colour; uint8, or floating point in ``value_range``, beyond which values are clamped.
        name: How the caller calls them, for the errors.
        value_range: What is black and what is white.
        data: Whether these are data, whose mean must then lie in the range or within a tenth of it beside; the output
            of a network may be anything.
        most: Only so many are converted; all are checked for their shape, those for their values.

    Raises:
        TypeError: Neither floating point nor uint8.
        ValueError: A wrong shape, no image, NaN, or data of another range.
    """
    require_rank(images, name, 4, 4)
    count, channels, height, width = images.shape
    require(min(count, height, width) > 0, f"{name}.shape", tuple(images.shape), "of at least one pixel")
    require(channels in (1, 3), f"{name}.shape[1]", channels, "1 (grey) or 3 (colour) channels")
    low, high = value_range
    require(low < high, "value_range", value_range, "(black, white) with black below white")
    images = images.detach()[:most]
    if images.dtype != torch.uint8:
        require(images.is_floating_point(), f"{name}.dtype", images.dtype, "floating point or uint8", TypeError)
        images = images.to(torch.promote_types(images.dtype, torch.float32))
        if images.isnan().any():
            raise ValueError(f"`{name}` holds {int(images.isnan().sum())} NaN values, but must hold none")
        mean, margin = float(images.mean()), 0.1 * (high - low)
        fits = not data or low - margin <= mean <= high + margin
        expected = f"in `value_range`, {low:g} to {high:g}: say what is black and what is white"
        require(fits, name, f"of mean {mean:.3g}", expected)
        images = to_uint8(rescale(images, (low, high)))
    return images.permute(0, 2, 3, 1).expand(-1, -1, -1, 3).cpu().numpy()


def shown_size(pixels: np.ndarray, side: float) -> tuple[int, int]:
    """(width, height) for [N, H, W, 3] images that are to be about ``side`` wide: small ones by a whole factor."""
    height, width = pixels.shape[1:3]
    if width <= side:
        factor = max(1, round(side / width))
        return width * factor, height * factor
    return round(side), max(1, round(height * side / width))


def checked_labels(labels: Tensor, count: int, name: str = "labels") -> np.ndarray:
    """[count] whole numbers from 0, as an array.

    Raises:
        TypeError: Not a tensor of whole numbers.
        ValueError: Another shape, or a number below 0 or above 9,999.
    """
    require_rank(labels, name, 1, 1)
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    require(whole, f"{name}.dtype", labels.dtype, "whole numbers", TypeError)
    require(len(labels) == count, f"{name}.shape", tuple(labels.shape), f"[{count}], one for each")
    array: np.ndarray = labels.detach().cpu().long().numpy()
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    require(low >= 0 and high < _MOST_CLASSES, name, f"from {low} to {high}", f"from 0, below {_MOST_CLASSES:,}")
    return array


def checked_class_names(classes: Sequence[str] | None, largest: int) -> tuple[str, ...]:
    """A name for each class from 0 to ``largest`` at least; the numbers themselves for None."""
    if classes is None:
        return tuple(map(str, range(largest + 1)))
    require(not isinstance(classes, str), "classes", classes, "a sequence of names", TypeError)
    names = tuple(map(str, classes))
    require(len(names) > largest, "classes", names, f"names of at least {largest + 1} classes, as the labels say")
    return names


@functools.cache
def _renderer() -> Any:
    from matplotlib.backends.backend_agg import RendererAgg

    return RendererAgg(1, 1, DPI)  # type: ignore[no-untyped-call]


def text_width(text: str, size: float, *, weight: str = "normal") -> float:
    """Width of a line of text in pixels of the canvas; ``size`` in points."""
    from matplotlib.font_manager import FontProperties

    width, _, _ = _renderer().get_text_width_height_descent(text, FontProperties(size=size, weight=weight), False)
    return float(width)


def shortened(text: str, size: float, limit: float, *, weight: str = "normal") -> str:
    """The text in one line, its end replaced by an ellipsis if it is wider than ``limit`` pixels."""
    text = " ".join(text.split())[:300]
    if text_width(text, size, weight=weight) <= limit:
        return text
    fitting, wide = 0, len(text)
    while wide - fitting > 1:
        middle = (fitting + wide) // 2
        if text_width(f"{text[:middle].rstrip()}\N{HORIZONTAL ELLIPSIS}", size, weight=weight) <= limit:
            fitting = middle
        else:
            wide = middle
    return f"{text[:fitting].rstrip()}\N{HORIZONTAL ELLIPSIS}"


class Canvas:
    """A figure of whole pixels with one invisible pair of axes over all of it: units are pixels, y grows downwards.

    Args:
        width: Of the figure in pixels; a title that needs more makes it wider.
        height: Of the figure in pixels, without the title, which has its own room above y = 0.
        title: Stands above everything, in one line; None for no title.
    """

    def __init__(self, width: float, height: float, *, title: str | None = None) -> None:
        margin, size = 20, 13
        heading = 0
        if title:
            title = " ".join(title.split())
            title = title if len(title) <= _LONGEST_TITLE else title[: _LONGEST_TITLE - 1] + "\N{HORIZONTAL ELLIPSIS}"
            heading = 64
        self.figure: Figure = empty_figure(1, 1)
        if title:
            width = max(width, text_width(title, size, weight="bold") + 2 * margin)
        self.width: int = round(width)
        self.height: int = round(height) + heading
        self.figure.set_size_inches(self.width / DPI, self.height / DPI)
        self.axes: Axes = self.figure.add_axes((0, 0, 1, 1), frameon=False, xticks=[], yticks=[])
        self.axes.set(xlim=(0, self.width), ylim=(self.height - heading, -heading))
        if title:
            self.write(margin, 8 - heading / 2, title, size=size, weight="bold", va="center")

    def place(self, pixels: np.ndarray, left: int, top: int, width: int, height: int) -> None:
        """Show an [H, W, 3] image in a rectangle; without blur where that is larger than the image."""
        enlarged = width >= pixels.shape[1] and height >= pixels.shape[0]
        self.axes.imshow(
            pixels,
            extent=(left, left + width, top + height, top),
            interpolation="nearest" if enlarged else "antialiased",
            aspect="auto",
            clip_on=False,
        )

    def write(
        self, x: float, y: float, text: str, *, size: float = 9, limit: float | None = None, **style: Any
    ) -> None:
        """Write a line of text; above ``limit`` pixels of width its end is left out."""
        if limit is not None:
            text = shortened(text, size, limit, weight=style.get("weight", "normal"))
        style = {"color": INK, "va": "center", "ha": "left", **style}
        self.axes.text(x, y, text, fontsize=size, parse_math=False, **style)

    def bar(self, left: float, top: float, width: float, height: float, color: str) -> None:
        """Fill a rectangle."""
        from matplotlib.patches import Rectangle

        self.axes.add_patch(Rectangle((left, top), width, height, facecolor=color, linewidth=0))
