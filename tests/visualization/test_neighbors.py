"""Queries and what was found for them: each image in its place, its words below it, the bars as they fit."""

from pathlib import Path

import pytest
import torch
from drawn import assert_readable, written
from matplotlib.patches import Rectangle
from PIL import Image

from ganblocks.visualization.canvas import RIGHT
from ganblocks.visualization.neighbors import neighbor_rows

QUERIES = torch.tensor([10, 20], dtype=torch.uint8)[:, None, None, None].expand(2, 3, 8, 8)
FOUND = torch.tensor([[11, 12, 13], [21, 22, 23]], dtype=torch.uint8)[:, :, None, None, None].expand(2, 3, 3, 8, 8)
BELOW = ["one\nfirst", "two"]
NAMES = [["a", "b\nsecond line", "c"], ["d", "e", "f"]]


def test_every_image_stands_in_the_row_of_its_query() -> None:
    figure = neighbor_rows(QUERIES, FOUND, query_captions=BELOW, captions=NAMES, title="similar")
    images = figure.axes[0].images
    levels = [int(image.get_array()[0, 0, 0]) for image in images]
    assert levels == [10, 11, 12, 13, 20, 21, 22, 23]
    extents = [image.get_extent() for image in images]
    tops, lefts = [extent[3] for extent in extents], [extent[0] for extent in extents]
    assert len(set(tops[:4])) == len(set(tops[4:])) == 1
    assert tops[0] < tops[4]
    assert lefts[:4] == lefts[4:] == sorted(lefts[:4])
    assert lefts[1] - lefts[0] > lefts[2] - lefts[1]  # the query stands apart
    assert written(figure) == ["similar", "one", "first", "a", "b", "second line", "c", "two", "d", "e", "f"]
    assert_readable(figure)


def test_a_thick_bar_below_what_fits() -> None:
    fits = torch.tensor([[True, False, True], [False, False, True]])
    figure = neighbor_rows(QUERIES, FOUND, fits=fits)
    bars = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle) and patch.get_width() > 10]
    images = [image for row in (0, 1) for image in figure.axes[0].images[4 * row + 1 : 4 * row + 4]]
    assert len(bars) == len(images) == 6
    from matplotlib.colors import to_rgba

    for bar, image, fit in zip(bars, images, fits.flatten().tolist(), strict=True):
        left, right, bottom, _ = image.get_extent()
        assert (bar.get_x(), bar.get_width()) == (left, right - left)
        assert bottom < bar.get_y() < bottom + 10
        assert (bar.get_facecolor() == to_rgba(RIGHT)) is fit
        assert (bar.get_height() > 3) is fit


def test_without_words_and_bars_there_are_images_alone(tmp_path: Path) -> None:
    floats = FOUND.float() / 255
    figure = neighbor_rows(QUERIES.float() / 255, floats, path=tmp_path / "sheet.png")
    assert written(figure) == []
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.width > picture.height


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(ValueError, match="queries"):
        neighbor_rows(QUERIES[:1], FOUND)
    with pytest.raises(ValueError, match=r"queries\.dtype"):
        neighbor_rows(QUERIES.float() / 255, FOUND)
    with pytest.raises(ValueError, match="of 0 queries"):
        neighbor_rows(QUERIES[:0], FOUND[:0])
    with pytest.raises(ValueError, match="1 texts"):
        neighbor_rows(QUERIES, FOUND, query_captions=BELOW[:1])
    with pytest.raises(ValueError, match="2 texts"):
        neighbor_rows(QUERIES, FOUND, captions=[NAMES[0], NAMES[1][:2]])
    with pytest.raises(ValueError, match="of 1 queries"):
        neighbor_rows(QUERIES, FOUND, captions=NAMES[:1])
    with pytest.raises(TypeError, match="fits"):
        neighbor_rows(QUERIES, FOUND, fits=torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"fits` is \(3, 2\)"):
        neighbor_rows(QUERIES, FOUND, fits=torch.zeros(3, 2, dtype=torch.bool))
