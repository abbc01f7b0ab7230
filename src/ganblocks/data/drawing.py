"""Drawing with signed distances: a canvas, a few figures, a few colours.

A figure is the zero set of a signed distance, negative inside. A pixel's coverage is the part of it, one pixel wide,
that lies inside: clip(1/2 - distance/pixel, 0, 1). So edges are antialiased, and a figure is the same at all
resolutions. Coordinates run from -1 to 1, x to the right, y downwards; planes are float32 [H, W]; colours are RGB in
0..255.
"""

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "Canvas",
    "Colour",
    "Plane",
    "arc",
    "blend",
    "box",
    "disc",
    "egg",
    "ellipse",
    "grey",
    "mix",
    "pastel",
    "pick",
    "rotate",
    "stroke",
]

Plane: TypeAlias = npt.NDArray[np.float32]
"""One number per pixel, [H, W]."""

Colour: TypeAlias = tuple[float, float, float]
"""Red, green and blue in 0..255."""


class Canvas:
    """A picture to paint on.

    Args:
        side: width and height in pixels.

    Attributes:
        x: coordinates of the pixel centres to the right, [H, W].
        y: coordinates of the pixel centres downwards, [H, W].
        pixels: [3, H, W] in 0..255, black at first.
    """

    def __init__(self, side: int) -> None:
        centres = ((np.arange(side, dtype=np.float32) + np.float32(0.5)) / np.float32(side)) * 2 - 1
        self.x: Plane = np.tile(centres, (side, 1))
        self.y: Plane = np.repeat(centres[:, None], side, axis=1)
        self.pixels: Plane = np.zeros((3, side, side), dtype=np.float32)
        self._pixels_per_unit = np.float32(side / 2)

    def part(self, left: float, top: float, right: float, bottom: float) -> "Canvas":
        """Return a rectangle of this canvas; what is painted there is painted here, at less cost."""
        rows = slice(*np.searchsorted(self.y[:, 0], (top, bottom)))
        columns = slice(*np.searchsorted(self.x[0], (left, right)))
        rectangle = Canvas.__new__(Canvas)
        rectangle.x, rectangle.y = self.x[rows, columns], self.y[rows, columns]
        rectangle.pixels = self.pixels[:, rows, columns]
        rectangle._pixels_per_unit = self._pixels_per_unit
        return rectangle

    def fill(self, colour: Colour) -> None:
        """Paint everything."""
        self.pixels[:] = np.array(colour, dtype=np.float32)[:, None, None]

    def paint(self, distance: Plane, colour: Colour, *, opacity: float = 1.0) -> None:
        """Lay ``colour`` over the pixels whose signed distance [H, W] is negative."""
        coverage = np.clip(np.float32(0.5) - distance * self._pixels_per_unit, 0, 1)
        if opacity != 1:
            coverage *= np.float32(opacity)
        for channel, level in zip(self.pixels, colour, strict=True):
            channel += coverage * (np.float32(level) - channel)


# Signed distances, exact or exact to first order at the edge.


def disc(x: Plane, y: Plane, radius: float) -> Plane:
    """A disc around the origin."""
    return np.sqrt(x * x + y * y) - np.float32(radius)


def ellipse(x: Plane, y: Plane, half_width: float, half_height: float) -> Plane:
    """An ellipse around the origin, to first order: ``f / |grad f|`` with ``f = |(x/a, y/b)| - 1``."""
    u: Plane = x / np.float32(half_width)
    v: Plane = y / np.float32(half_height)
    squared: Plane = u * u + v * v + np.float32(1e-9)
    u, v = u / np.float32(half_width), v / np.float32(half_height)
    distance: Plane = np.divide(squared - np.sqrt(squared), np.sqrt(u * u + v * v + np.float32(1e-9)))
    return distance


def egg(x: Plane, y: Plane, half_width: float, half_height: float, chin: float) -> Plane:
    """An ellipse that narrows downwards by the part ``chin``."""
    return ellipse(
        x / (1 - np.float32(chin) * np.clip(y / np.float32(half_height), -0.3, 1.2)), y, half_width, half_height
    )


def box(x: Plane, y: Plane, half_width: float, half_height: float) -> Plane:
    """A rectangle around the origin."""
    return np.maximum(abs(x) - np.float32(half_width), abs(y) - np.float32(half_height))


def arc(x: Plane, y: Plane, half_width: float, bend: float) -> Plane:
    """Unsigned, to the parabola y = -bend (x / half_width)^2; its ends are ``bend`` above its middle."""
    nearest = np.clip(x, np.float32(-half_width), np.float32(half_width))
    across = nearest / np.float32(half_width)
    rise = y + np.float32(bend) * across * across
    slope = np.float32(2 * bend / half_width) * across
    beyond = x - nearest
    return np.sqrt(beyond * beyond + rise * rise / (1 + slope * slope))


def stroke(distance: Plane, half_thickness: float) -> Plane:
    """A line along the edge of a figure."""
    return abs(distance) - np.float32(half_thickness)


def rotate(x: Plane, y: Plane, angle: float) -> tuple[Plane, Plane]:
    """Coordinates in a system that is turned clockwise by ``angle`` in radians."""
    cosine, sine = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    return cosine * x + sine * y, cosine * y - sine * x


def pick(random: np.random.Generator, palette: Sequence[Colour]) -> Colour:
    """One of the palette, a little lighter or darker."""
    return mix(palette[int(random.integers(len(palette)))], grey(random.uniform(0, 255)), 0.12)


def mix(first: Colour, second: Colour, weight: float) -> Colour:
    """From the first colour at weight 0 to the second at weight 1."""
    mixed = [(1 - weight) * a + weight * b for a, b in zip(first, second, strict=True)]
    return mixed[0], mixed[1], mixed[2]


def blend(palette: Sequence[Colour], position: float) -> Colour:
    """Between neighbours of the palette, 0 for its first colour and 1 for its last."""
    step = min(int(position * (len(palette) - 1)), len(palette) - 2)
    return mix(palette[step], palette[step + 1], position * (len(palette) - 1) - step)


def grey(level: float) -> Colour:
    """A grey."""
    return level, level, level


def pastel(hue: float) -> Colour:
    """A light colour; ``hue`` in radians goes round from red by green and blue."""
    red, green, blue = (206 + 34 * math.cos(hue - shift) for shift in (0, 2 * math.pi / 3, 4 * math.pi / 3))
    return red, green, blue
