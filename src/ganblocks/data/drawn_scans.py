"""Drawn pictures that are a little like scans of heads, for trials of what is meant for real ones: nobody's brain."""

from typing import Any

import numpy as np

from ganblocks._checks import require
from ganblocks.data.array_images import ArrayImages

__all__ = ["drawn_scans"]


def drawn_scans(count: int, side: int, *, spot: bool) -> ArrayImages:
    """Draw grey ovals with a bright rim and two dark hollows, and a bright spot in each or in none.

    The same arguments always give the same pictures; no two are alike.

    Args:
        count: Pictures, at least 1.
        side: Of each in pixels, at least 8.
        spot: Whether each has a spot, as the two classes of brain scans are with and without a tumour.

    Returns:
        RGB, all of them in memory, without labels.

    Raises:
        ValueError: If a number is out of range.
    """
    require(count >= 1, "count", count, "at least 1")
    require(side >= 8, "side", side, "at least 8")
    rng = np.random.default_rng([side, spot])
    y, x = np.mgrid[:side, :side] * (2 / (side - 1)) - 1  # -1 to 1

    def uniform(low: float, high: float) -> Any:
        return rng.uniform(low, high, (count, 1, 1))

    def inside(r: Any, sharpness: float = side / 2) -> Any:
        return 1 / (1 + np.exp(np.clip(sharpness * (r - 1), -50, 50)))

    u, v = x - uniform(-0.06, 0.06), y - uniform(-0.06, 0.06)
    width, height, angle = uniform(0.62, 0.8), uniform(0.78, 0.92), uniform(-0.15, 0.15)
    u, v = (u * np.cos(angle) + v * np.sin(angle)) / width, (v * np.cos(angle) - u * np.sin(angle)) / height
    r = np.hypot(u, v)
    pixels = uniform(0.6, 0.9) * (inside(r) - inside(r / 0.9)) + uniform(0.3, 0.45) * inside(r / 0.84)
    hollow = np.hypot((np.abs(u) - uniform(0.12, 0.2)) / 0.1, (v - uniform(-0.15, 0.1)) / uniform(0.2, 0.35))
    pixels = pixels - 0.25 * inside(hollow, side / 16)
    if spot:
        where, distance = uniform(0, 2 * np.pi), uniform(0.3, 0.55)
        of_spot = np.hypot(u - distance * np.cos(where), v - distance * np.sin(where)) / uniform(0.12, 0.25)
        pixels = pixels + uniform(0.35, 0.5) * inside(of_spot, side / 16)
    pixels = pixels + rng.normal(0, 0.01, pixels.shape)
    return ArrayImages(np.clip(pixels, 0, 1), layout="NHW", image_channels=3)
