"""Large images through a function in overlapping tiles, whose results are blended."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from ganblocks._checks import require, require_rank

__all__ = ["in_tiles", "tile_starts"]


def in_tiles(function: Callable[[Tensor], Tensor], image: Tensor, *, tile: int = 512, overlap: int = 64) -> Tensor:
    """Apply ``function`` to overlapping tiles of ``image`` and blend the results, so that no seam shows.

    The memory that ``function`` takes is then that for a tile, whatever the size of the image (under ``torch.no_grad``:
    gradients pass, but keep what ``function`` saves for every tile). Where two tiles overlap, the weight of one falls
    linearly to 0 at its border while that of the other rises; the weights of a pixel always sum to 1.

    A function of each pixel alone gives what it gives without tiles, up to rounding; one that looks r pixels around
    does so where no tile over the pixel ends within r inside the image. One that depends on the whole image, as with
    instance normalisation, sees a tile at a time.

    Args:
        function: Takes a tile ``[N, C, h, w]``, a copy that it may change, and returns ``[N, C', h, w]``,
            floating-point, with the same C' for each. All tiles have one size.
        image: ``[N, C, H, W]``, floating-point, with at least one pixel; it stays as it is.
        tile: Longest side of a tile in pixels; tiles are ``min(tile, H)`` x ``min(tile, W)``.
        overlap: Pixels that two neighbours share at least, 0 to ``tile // 2``.

    Returns:
        ``[N, C', H, W]`` in the dtype and on the device of the results; sums are taken in at least float32. For an
        image not larger than a tile it is ``function(image)`` itself.

    Raises:
        TypeError: ``image`` or a result is not a floating-point tensor.
        ValueError: A shape does not fit, or ``tile`` or ``overlap`` is out of range.
    """
    require_rank(image, "image", 4, 4)
    require(image.is_floating_point(), "image", image.dtype, "of a floating-point dtype", TypeError)
    N, _, H, W = image.shape
    require(H > 0 and W > 0, "image", tuple(image.shape), "[N, C, H, W] with at least one pixel")
    require(tile >= 1, "tile", tile, "at least 1")
    require(0 <= overlap <= tile // 2, "overlap", overlap, f"between 0 and half of `tile`, {tile // 2}")
    if max(H, W) <= tile:
        return _checked(function(image), (N, None, H, W))

    height, width = min(tile, H), min(tile, W)
    tops, lefts = tile_starts(H, tile, overlap), tile_starts(W, tile, overlap)
    rows, columns = _weights(tops, height), _weights(lefts, width)
    blended: Tensor | None = None
    for (top, row), (left, column) in itertools.product(zip(tops, rows, strict=True), zip(lefts, columns, strict=True)):
        place = (..., slice(top, top + height), slice(left, left + width))
        channels = None if blended is None else blended.shape[1]
        result = _checked(function(image[place].clone()), (N, channels, height, width))
        if blended is None:
            blended = result.new_zeros((N, result.shape[1], H, W), dtype=_wide(result.dtype))
        blended[place].addcmul_(result.to(blended) * row.to(blended)[:, None], column.to(blended))
    assert blended is not None
    return blended.to(result.dtype)


def tile_starts(side: int, tile: int, overlap: int) -> list[int]:
    """Where the tiles along one side of an image begin.

    They are as few as can be, and spread evenly: the steps from one to the next differ by at most one pixel.

    Args:
        side: Of the image in pixels, at least 1.
        tile: Side of a tile, at least 1.
        overlap: Pixels that two neighbours share at least, 0 to ``tile - 1``.

    Returns:
        Ascending, from 0 to ``side - tile``, in steps of at most ``tile - overlap``; ``[0]`` if a tile covers the side.

    Raises:
        ValueError: An argument is out of range.
    """
    require(side >= 1, "side", side, "at least 1")
    require(tile >= 1, "tile", tile, "at least 1")
    require(0 <= overlap < tile, "overlap", overlap, f"between 0 and `tile` - 1, {tile - 1}")
    if side <= tile:
        return [0]
    steps = -(-(side - tile) // (tile - overlap))  # rounded up
    return [step * (side - tile) // steps for step in range(steps + 1)]


def _weights(starts: list[int], size: int) -> list[Tensor]:
    """The weight of each place in each tile along one side, ``[size]`` in float64.

    Let r_k rise from 0 to 1 over the overlap of the tiles k - 1 and k. The weight of tile k is ``r_k - r_{k+1}``, with
    1 for the r before all and 0 for that behind all, so the sum is 1 by telescoping. Overlaps follow one another at
    both ends, so r_k > r_{k+1} all over tile k: no weight is negative, where three tiles meet neither.
    """
    centers = torch.arange(size, dtype=torch.float64) + 0.5
    weights = []
    for index, start in enumerate(starts):
        weight = torch.ones_like(centers)
        if index > 0:
            weight = _ramp(centers, 0, starts[index - 1] + size - start)
        if index + 1 < len(starts):
            weight = weight - _ramp(centers, starts[index + 1] - start, size)
        weights.append(weight)
    return weights


def _ramp(centers: Tensor, begin: int, end: int) -> Tensor:
    """0 up to ``begin``, 1 from ``end``, linear between; a step where both are one: no centre of a pixel lies there."""
    return ((centers - begin) / (end - begin)).clamp(0, 1)


def _checked(result: Tensor, shape: tuple[int, int | None, int, int]) -> Tensor:
    """Return what ``function`` returned; raise unless it has ``shape``, where None stands for any number."""
    require_rank(result, "function(tile)", 4, 4)
    require(result.is_floating_point(), "function(tile)", result.dtype, "of a floating-point dtype", TypeError)
    fits = all(wanted in (None, found) for wanted, found in zip(shape, result.shape, strict=True))
    N, channels, height, width = shape
    expected = f"[{N}, {'any' if channels is None else channels}, {height}, {width}]"
    require(fits, "function(tile)", tuple(result.shape), expected)
    return result


def _wide(dtype: torch.dtype) -> torch.dtype:
    """At least float32."""
    return torch.float32 if dtype.itemsize < 4 else dtype
