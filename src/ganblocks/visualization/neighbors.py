"""Images and, to the right of each, those that were found for it."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ganblocks._checks import require, require_rank
from ganblocks.visualization.canvas import (
    FRAME,
    MUTED,
    RIGHT,
    Canvas,
    checked_path,
    finished,
    shown_size,
    to_pixels,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["neighbor_rows"]

_MOST = 40


def neighbor_rows(
    queries: Tensor,
    neighbors: Tensor,
    *,
    query_captions: Sequence[str] | None = None,
    captions: Sequence[Sequence[str]] | None = None,
    fits: Tensor | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> "Figure":
    """Draw a row for each query: the query, a line, and its neighbours from the nearest to the farthest.

    Args:
        queries: [N, C, H, W] with C = 1 or 3, N from 1 to 40; floating point in ``value_range``, or uint8.
        neighbors: [N, k, C, H, W] of the same dtype, k from 1 to 40.
        query_captions: For each query what stands below it, in one or more lines; ``None`` = nothing.
        captions: For each query the same of its k neighbours.
        fits: Bool [N, k]: below a neighbour that fits stands a thick coloured bar, below the others a thin grey one.
            ``None`` draws none.
        value_range: What is black and what is white, for images of floating point: (0, 1) or (-1, 1).
        title: Stands above everything; ``None`` for no title.
        path: Where the figure is also written; ends in ".png", ".svg" or ".pdf". ``None`` writes nothing.

    Returns:
        The figure; no window is opened.

    Raises:
        ImportError: matplotlib is missing.
        TypeError: Images neither floating point nor uint8, or ``fits`` that is not bool.
        ValueError: A wrong shape, NaN, images of another range, or captions of another number.
        OSError: The figure could not be written.
    """
    checked_path(path)
    require_rank(neighbors, "neighbors", 5, 5)
    N, k = neighbors.shape[:2]
    require(1 <= N <= _MOST, "neighbors", f"of {N} queries", f"of 1 to {_MOST}")
    require(1 <= k <= _MOST, "neighbors", f"{k} of a query", f"1 to {_MOST}")
    expected = f"[{N}, C, H, W] with the images of `neighbors` {tuple(neighbors.shape)}"
    require(queries.shape == (N, *neighbors.shape[2:]), "queries", tuple(queries.shape), expected)
    require(queries.dtype == neighbors.dtype, "queries.dtype", queries.dtype, f"{neighbors.dtype}, as `neighbors`")
    if fits is not None:
        require(fits.dtype == torch.bool, "fits.dtype", fits.dtype, "bool", TypeError)
        require(tuple(fits.shape) == (N, k), "fits", tuple(fits.shape), f"{[N, k]}")
    for name, lists, count in (("query_captions", [query_captions], N), ("captions", captions or [], k)):
        for given in lists:
            require(given is None or len(given) == count, name, f"{len(given or ())} texts", f"{count}")
    require(captions is None or len(captions) == N, "captions", f"of {len(captions or ())} queries", f"of {N}")

    every = torch.cat([queries[:, None], neighbors], dim=1).flatten(0, 1)
    pixels = to_pixels(every, "images", value_range, data=True, most=len(every))
    of_queries, of_neighbors = query_captions or [""] * N, captions or [[""] * k] * N
    texts = [[of_queries[row], *of_neighbors[row]] for row in range(N)]
    lines = max(len(text.split("\n")) if text else 0 for row in texts for text in row)

    width, height = shown_size(pixels, 150)
    gap, margin, apart, line, under, size = 16, 20, 44, 19, 12, 8.5
    step = height + under + lines * line + 14
    canvas = Canvas(2 * margin + (k + 1) * (width + gap) + apart - gap, 2 * margin + N * step - 14, title=title)
    for row in range(N):
        top = margin + row * step
        middle = margin + width + (gap + apart) / 2
        canvas.bar(middle, top, 1, height, FRAME)
        for place in range(k + 1):
            left = margin + place * (width + gap) + (apart if place else 0)
            canvas.place(pixels[row * (k + 1) + place], left, top, width, height)
            if fits is not None and place:
                fit = bool(fits[row, place - 1])
                canvas.bar(left, top + height + 3, width, 5 if fit else 1.5, RIGHT if fit else MUTED)
            for number, text in enumerate(texts[row][place].split("\n") if texts[row][place] else []):
                y = top + height + under + (number + 0.5) * line
                color = {} if number == 0 else {"color": MUTED}
                canvas.write(left + width / 2, y, text, size=size, ha="center", limit=width + gap - 4, **color)
    return finished(canvas.figure, path)
