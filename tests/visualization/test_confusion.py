"""Confusion matrices: what stands in which cell, in which colour, and that all of it can be read."""

import numpy as np
import pytest
import torch
from drawn import assert_readable, position, rendered, written

from ganblocks.visualization.confusion import confusion_matrix

COUNTS = [[51, 4, 7], [20, 113, 0], [6, 0, 24]]  # 62, 133, 30 of a class
NAMES = ("ant", "bee", "cat")


def cells(figure):
    """[K, K] texts by their place in the image of the matrix."""
    left, right, bottom, top = figure.axes[0].images[0].get_extent()
    K = figure.axes[0].images[0].get_array().shape[0]
    table = [[""] * K for _ in range(K)]
    for text in figure.axes[0].texts:
        x, y = text.get_position()
        if left < x < right and top < y < bottom:
            table[int((y - top) / (bottom - top) * K)][int((x - left) / (right - left) * K)] = text.get_text()
    return table


def colors(figure):
    return np.asarray(figure.axes[0].images[0].get_array()).astype(int)


def test_rows_are_true_classes_unless_told_otherwise():
    figure = confusion_matrix(COUNTS, classes=NAMES)
    assert cells(figure) == [[str(number) for number in row] for row in COUNTS]
    assert position(figure, "true class")[0] < position(figure, "predicted class")[0]
    turned = confusion_matrix(COUNTS, classes=NAMES, orientation="true_on_x")
    assert cells(turned) == [[str(number) for number in row] for row in zip(*COUNTS, strict=True)]
    assert position(turned, "predicted class")[0] < position(turned, "true class")[0]
    assert np.array_equal(colors(turned), colors(figure).transpose(1, 0, 2))


@pytest.mark.parametrize("orientation", ["true_on_y", "true_on_x"])
def test_percent_add_up_along_the_true_class(orientation):
    figure = confusion_matrix(COUNTS, values="percent", orientation=orientation)
    table = np.array(cells(figure), dtype=float)
    table = table if orientation == "true_on_y" else table.T
    expected = [[round(100 * number / sum(row), 1) for number in row] for row in COUNTS]
    assert table.tolist() == expected
    assert abs(table.sum(1) - 100).max() <= 0.15


def test_recall_or_support_stands_beside_its_class():
    figure = confusion_matrix(COUNTS, classes=NAMES)
    heights = {text.get_text(): text.get_position()[1] for text in figure.axes[0].texts}
    left = {name: heights[name] for name in ("82.3 %", "85.0 %", "80.0 %")}
    assert list(left) == sorted(left, key=left.get)
    turned = confusion_matrix(COUNTS, classes=NAMES, orientation="true_on_x", values="percent")
    places = [position(turned, text)[0] for text in ("62", "133", "30")]
    assert places == sorted(places)
    assert "images" in written(turned)
    assert "recall" in written(figure)


def test_the_share_that_is_right_is_told():
    assert "83.56 % of 225 are right (blue)" in written(confusion_matrix(COUNTS))


def test_right_ones_are_blue_and_mistakes_orange_by_the_share_of_the_true_class():
    shown = colors(confusion_matrix([[90, 10], [100, 900]]))
    assert shown[0, 0].tolist() == shown[1, 1].tolist()
    assert shown[0, 1].tolist() == shown[1, 0].tolist()
    red, _, blue = shown[0, 0]
    assert blue > red
    red, _, blue = shown[0, 1]
    assert red > blue
    rare = colors(confusion_matrix([[99, 1], [0, 5]]))
    assert rare[1, 0].tolist() == [255, 255, 255]
    assert 255 - rare[0, 1].min() >= 25  # one in a hundred can be seen


def test_a_class_that_never_occurs_has_dashes_but_its_column_counts():
    figure = confusion_matrix([[3, 1], [0, 0]], values="percent")
    assert cells(figure) == [["75.0", "25.0"], ["\N{EN DASH}", "\N{EN DASH}"]]
    assert "\N{EN DASH}" in written(confusion_matrix([[3, 1], [0, 0]]))


def test_numbers_on_dark_cells_are_light():
    figure = confusion_matrix([[99, 1], [50, 50]])
    ink = {text.get_text(): text.get_color() for text in figure.axes[0].texts}
    assert ink["99"] == "white"
    assert ink["1"] != "white"


@pytest.mark.parametrize("orientation", ["true_on_y", "true_on_x"])
@pytest.mark.parametrize(
    ("K", "name"), [(1, "x"), (2, "healthy"), (10, "Ankle boot"), (21, "a very long name of some painter")]
)
def test_all_texts_can_be_read(K, name, orientation):
    counts = torch.eye(K, dtype=torch.long) * 12_345 + torch.arange(K)
    figure = confusion_matrix(counts, classes=[f"{name} {k}" for k in range(K)], orientation=orientation, title="all")
    assert_readable(figure)


def test_many_classes_are_drawn_without_zeros_and_very_many_without_numbers():
    counts = torch.eye(30, dtype=torch.long) * 12
    assert {text for row in cells(confusion_matrix(counts)) for text in row} == {"12", ""}
    figure = confusion_matrix(torch.eye(60, dtype=torch.long) * 12_345)
    assert {text for row in cells(figure) for text in row} == {""}
    assert colors(figure).shape == (60, 60, 3)


def test_a_report_of_metrics_and_arrays_are_taken():
    expected = rendered(confusion_matrix(COUNTS))
    assert np.array_equal(rendered(confusion_matrix(tuple(map(tuple, COUNTS)))), expected)
    assert np.array_equal(rendered(confusion_matrix(torch.tensor(COUNTS, dtype=torch.int32))), expected)
    assert np.array_equal(rendered(confusion_matrix(np.array(COUNTS))), expected)


@pytest.mark.parametrize(
    ("counts", "options", "error", "match"),
    [
        ([[1, 2]], {}, ValueError, r"`counts\.shape`"),
        ([[1, 2], [3]], {}, ValueError, "`counts`"),
        ([[0.5]], {}, TypeError, r"`counts\.dtype`"),
        ([[1, -1], [0, 1]], {}, ValueError, "`counts` is -1"),
        ([[0]], {}, ValueError, "`counts` is 'all zero'"),
        ([[1]], {"classes": ["a", "b"]}, ValueError, "`classes`"),
        ([[1]], {"values": "share"}, ValueError, "`values`"),
        ([[1]], {"orientation": "x"}, ValueError, "`orientation`"),
        ([[1]], {"path": "matrix.bmp"}, ValueError, "`path`"),
    ],
)
def test_mistakes_are_named(counts, options, error, match):
    with pytest.raises(error, match=match):
        confusion_matrix(counts, **options)
