"""The first images of a set, each with its class."""

import numpy as np
import pytest
import torch
from drawn import assert_readable, position, rendered, written

from ganblocks.visualization.panel import sample_panel


def counted(count, shape=(1, 28, 28)):
    """Image k is grey of level k."""
    return torch.arange(count, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(count, *shape)


def test_the_first_twenty_five_stand_row_by_row_with_the_class_below():
    labels = torch.arange(40) % 7
    names = [f"class {k}" for k in range(7)]
    figure = sample_panel(counted(40), labels, classes=names, title="all")
    extents = [image.get_extent() for image in figure.axes[0].images]
    shown = rendered(figure)
    offset = shown.shape[0] - round(figure.axes[0].get_ylim()[0])
    middles = [(round((left + right) / 2), round((top + bottom) / 2)) for left, right, bottom, top in extents]
    assert [int(shown[y + offset, x, 0]) for x, y in middles] == list(range(25))
    assert [y for _, y in middles] == sorted(y for _, y in middles)
    assert len({x for x, _ in middles}) == len({y for _, y in middles}) == 5
    captions = [text for text in figure.axes[0].texts if text.get_text().startswith("class")]
    assert [text.get_text() for text in captions] == [names[k % 7] for k in range(25)]
    for text, (left, right, bottom, _) in zip(captions, extents, strict=True):
        assert text.get_position()[0] == (left + right) / 2
        assert 0 < text.get_position()[1] - bottom < 30
    assert_readable(figure)


def test_without_labels_there_is_no_text():
    assert written(sample_panel(counted(25))) == []


def test_few_images_make_a_small_panel():
    figure = sample_panel(counted(3), torch.tensor([0, 1, 2]))
    assert written(figure) == ["0", "1", "2"]
    assert len({image.get_extent()[3] for image in figure.axes[0].images}) == 1
    assert_readable(figure)


def test_rows_and_columns_are_as_told():
    figure = sample_panel(counted(30), columns=4, rows=2)
    extents = [image.get_extent() for image in figure.axes[0].images]
    assert len(extents) == 8
    assert len({extent[0] for extent in extents}) == 4


def test_images_that_are_not_square_keep_their_proportions():
    (image,) = sample_panel(counted(1, (3, 20, 50))).axes[0].images
    left, right, bottom, top = image.get_extent()
    assert (right - left) / (bottom - top) == 2.5


def test_long_names_do_not_run_into_one_another():
    figure = sample_panel(counted(25), torch.zeros(25, dtype=torch.long), classes=["a very long name of a class"])
    assert_readable(figure)


def test_strange_names_are_only_text():
    figure = sample_panel(counted(2), torch.tensor([0, 1]), classes=["$x$", "_hidden"])
    assert written(figure) == ["$x$", "_hidden"]
    assert position(figure, "$x$") != position(figure, "_hidden")


def test_minus_one_is_black_where_the_range_says_so():
    images = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1)
    figure = sample_panel(images, value_range=(-1, 1))
    assert [int(np.asarray(image.get_array()).max()) for image in figure.axes[0].images] == [0, 255]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"columns": 0}, "columns"),
        ({"rows": 41}, "rows"),
        ({"labels": torch.tensor([0])}, "labels"),
        ({"labels": torch.tensor([0, 5]), "classes": ["a", "b"]}, "classes"),
        ({"images": torch.full((2, 1, 4, 4), -0.9)}, "value_range"),
        ({"path": "panel.jpg"}, "path"),
    ],
)
def test_mistakes_are_named(change, match):
    with pytest.raises(ValueError, match=match):
        sample_panel(**{"images": counted(2), "labels": torch.tensor([0, 1]), **change})
