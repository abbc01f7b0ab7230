"""Bars of probabilities: their lengths, their colours, and what stands below the image."""

import numpy as np
import pytest
import torch
from drawn import assert_readable, rendered, written
from matplotlib.colors import to_hex

from ganblocks.visualization.canvas import RIGHT, WRONG
from ganblocks.visualization.classification import class_bars
from tolerances import named

NAMES = ("ant", "bee", "cat")


def one(shares, label, **options):
    return class_bars(torch.zeros(1, 1, 28, 28), torch.tensor([shares]), torch.tensor([label]), **options)


def bars(figure):
    """(length as a share, colour) from top to bottom, without the key."""
    patches = [patch for patch in figure.axes[0].patches if patch.get_height() == 14]
    return [(patch.get_width() / 150, to_hex(patch.get_facecolor()).upper()) for patch in patches]


def test_a_bar_is_as_long_as_its_class_is_probable():
    shares = [0.125, 0.5, 0.375]
    figure = one(shares, 1, classes=NAMES)
    np.testing.assert_allclose([length for length, _ in bars(figure)], shares, **named("exact"))
    assert written(figure)[:7] == ["bee: 50 %", "ant", "12 %", "bee", "50 %", "cat", "38 %"]


def test_blue_is_true_and_orange_is_a_wrong_prediction():
    right = [color for _, color in bars(one([0.2, 0.7, 0.1], 1))]
    assert right[1] == RIGHT
    assert len({right[0], right[2]} - {RIGHT, WRONG}) == 1
    figure = one([0.2, 0.7, 0.1], 2, classes=NAMES)
    wrong = [color for _, color in bars(figure)]
    assert wrong == [right[0], WRONG, RIGHT]
    colors = {text.get_text(): text.get_color() for text in figure.axes[0].texts}
    assert (colors["bee: 70 %"], colors["is cat"]) == (WRONG, RIGHT)


def test_what_is_right_is_not_said_twice():
    assert not [text for text in written(one([0.2, 0.7, 0.1], 1)) if text.startswith("is ")]


def test_of_many_classes_the_most_probable_and_the_true_one_are_shown():
    shares = [0.0] * 50
    shares[30], shares[10], shares[20], shares[5] = 0.4, 0.3, 0.2, 0.1
    shown = one(shares, 49, most_classes=4, classes=[f"c{k}" for k in range(50)])
    names = [text for text in written(shown) if text.startswith("c") and ":" not in text]
    assert names == ["c10", "c20", "c30", "c49"]
    assert [color for _, color in bars(shown)][2:] == [WRONG, RIGHT]
    names = [text for text in written(one(shares, 20, most_classes=4)) if text in map(str, range(50))]
    assert names == ["5", "10", "20", "30"]


@pytest.mark.parametrize("side", [28, 5, 200])
@pytest.mark.parametrize("long", [False, True])
def test_all_texts_can_be_read(side, long):
    shares = torch.rand(5, 10, generator=torch.Generator().manual_seed(0)).softmax(1)
    names = [f"{'a long name of a class ' * long}{k}" for k in range(10)]
    figure = class_bars(torch.zeros(5, 3, side, side), shares, torch.arange(5), classes=names, title="five")
    assert len(figure.axes[0].images) == 5
    assert_readable(figure)


def test_a_certain_class_keeps_its_number_inside():
    figure = class_bars(torch.zeros(3, 1, 28, 28), torch.eye(3), torch.tensor([0, 1, 0]))
    assert_readable(figure)


def test_images_stand_in_order():
    images = torch.arange(8, dtype=torch.uint8).reshape(8, 1, 1, 1)
    figure = class_bars(images, torch.full((8, 2), 0.5), torch.zeros(8, dtype=torch.long), columns=2, count=7)
    extents = [image.get_extent() for image in figure.axes[0].images]
    shown = rendered(figure)
    values = [
        int(shown[round((top + bottom) / 2), round((left + right) / 2), 0]) for left, right, bottom, top in extents
    ]
    assert values == list(range(7))
    assert extents[0][3] == extents[1][3] < extents[2][3]


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"probabilities": torch.tensor([[3.0, -1.0], [0.5, 0.5]])}, ValueError, "softmax"),
        ({"probabilities": torch.tensor([[0.5, torch.nan], [0.5, 0.5]])}, ValueError, "softmax"),
        ({"probabilities": torch.tensor([[0.5, 0.3], [0.5, 0.5]])}, ValueError, "softmax"),
        ({"probabilities": torch.tensor([[0.5, 0.5]])}, ValueError, "probabilities"),
        ({"labels": torch.tensor([0, 2])}, ValueError, "labels"),
        ({"labels": torch.tensor([0.0, 1.0])}, TypeError, "labels"),
        ({"classes": ["a", "b", "c"]}, ValueError, "classes"),
        ({"classes": ["a"]}, ValueError, "classes"),
        ({"count": 0}, ValueError, "count"),
        ({"columns": 0}, ValueError, "columns"),
        ({"most_classes": 1}, ValueError, "most_classes"),
        ({"path": "bars"}, ValueError, "path"),
    ],
)
def test_mistakes_are_named(change, error, match):
    arguments = {
        "images": torch.zeros(2, 1, 4, 4),
        "probabilities": torch.full((2, 2), 0.5),
        "labels": torch.tensor([0, 1]),
    }
    with pytest.raises(error, match=match):
        class_bars(**{**arguments, **change})
