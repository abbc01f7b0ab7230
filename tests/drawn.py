"""What stands on a figure, as it is rendered: the pixels, and the boxes of the texts."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text


def rendered(figure: Figure) -> np.ndarray:
    """[height, width, 3] bytes, the top row first."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def written(figure: Figure) -> list[str]:
    """All texts that are not empty, in the order in which they were made."""
    return [text.get_text() for text in _texts(figure)]


def position(figure: Figure, text: str) -> tuple[float, float]:
    """Where a text is anchored, in data coordinates; it must stand there once."""
    (found,) = [drawn for drawn in _texts(figure) if drawn.get_text() == text]
    return found.get_position()


def assert_readable(figure: Figure) -> None:
    """No text leaves the figure, and none lies on another."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [(drawn, drawn.get_window_extent(canvas.get_renderer())) for drawn in _texts(figure)]
    for drawn, box in boxes:
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
        assert inside, f"{drawn.get_text()!r} leaves the figure: {box}"
    x0, y0, x1, y1 = np.array([box.extents for _, box in boxes]).reshape(-1, 4).T
    across = (x0[:, None] < x1) & (x0 < x1[:, None])
    down = (y0[:, None] < y1) & (y0 < y1[:, None])
    slanted = np.array([drawn.get_rotation() % 90 != 0 for drawn, _ in boxes])  # their boxes overlap, they do not
    meeting = np.triu(across & down & ~np.outer(slanted, slanted), 1)
    for i, j in np.argwhere(meeting):
        raise AssertionError(f"{boxes[i][0].get_text()!r} lies on {boxes[j][0].get_text()!r}")


def _texts(figure: Figure) -> list[Text]:
    unseen = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        unseen |= {tick.label1 for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high}
    return [text for text in figure.findobj(Text) if text.get_text() and text.get_visible() and text not in unseen]
