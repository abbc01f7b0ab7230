"""Points by class: all of them, in turn, each class told from the rest."""

import re

import numpy as np
import pytest
import scipy.stats
import torch
from drawn import assert_readable, written

from ganblocks.visualization.canvas import COLORS
from ganblocks.visualization.scatter import draw_scatter
from tolerances import for_dtype


def blobs(K, count=40, distance=10.0):
    """K round clouds in a row, and their labels."""
    generator = np.random.default_rng(0)
    centres = np.stack([distance * np.arange(K), np.zeros(K)], axis=1)
    points = (centres[:, None] + generator.normal(size=(K, count, 2))).reshape(-1, 2)
    return points, torch.arange(K).repeat_interleave(count)


def draw(points, labels=None, classes=None, **options):
    options = {"most_points": 10_000, "axis_names": ("z1", "z2"), "title": None, **options}
    return draw_scatter(points, labels, classes, **options)


def clouds(figure):
    """{(colour, marker): points} of all that is drawn, and the order of colours."""
    found, order = {}, []
    for line in figure.axes[0].lines:
        if len(line.get_xdata()):
            found.setdefault((line.get_color(), line.get_marker()), []).extend(zip(*line.get_data(), strict=True))
            order.append(line.get_color())
    return found, order


def test_every_point_is_drawn_once_in_the_style_of_its_class():
    points, labels = blobs(12)
    found, _ = clouds(draw(points, labels))
    assert len(found) == 12
    assert {color for color, _ in found} == set(COLORS)
    for cloud in found.values():
        (k,) = {round(x / 10) for x, _ in cloud}
        assert sorted(cloud) == sorted(map(tuple, points[labels.numpy() == k]))


def test_classes_are_drawn_in_turn():
    points, labels = blobs(2, count=400, distance=0.0)
    _, order = clouds(draw(points, labels))
    assert order == list(COLORS[:2]) * (len(order) // 2)
    assert len(order) >= 20


def test_the_legend_names_the_classes_that_occur():
    points, labels = blobs(3)
    figure = draw(points, 2 * labels, ["a", "not here", "$b$", "nor here", "_c", "nor this"], title="$title")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "$b$", "_c"]
    assert [handle.get_color() for handle in legend.get_lines()] == [COLORS[k] for k in (0, 2, 4)]


def test_a_name_stands_on_its_cloud():
    points, labels = blobs(4, count=200)
    figure = draw(points, labels, ["ant", "bee", "cat", "dog"])
    for k, name in enumerate(("ant", "bee", "cat", "dog")):
        (text,) = [text for text in figure.axes[0].texts if text.get_text() == name]
        assert abs(text.get_position()[0] - 10 * k) < 1.5
        assert abs(text.get_position()[1]) < 2
    assert_readable(figure)


def test_classes_on_top_of_one_another_are_named_in_the_legend_only():
    points, labels = blobs(4, count=300)
    points[300:600] = points[600:900] = points[:300]  # three in one heap, the last by itself
    figure = draw(points, labels, list("abcd"))
    assert [text.get_text() for text in figure.axes[0].texts] == ["d"]
    assert len(figure.legends[0].get_texts()) == 4


def test_one_unit_is_equally_long_on_both_axes_and_nothing_is_cut_off():
    generator = np.random.default_rng(0)
    points = generator.normal(size=(50, 2)) * (100, 1)
    axes = draw(points).axes[0]
    units = axes.transData.transform([(0, 0), (1, 1)])
    np.testing.assert_allclose(*(units[1] - units[0]), **for_dtype(torch.float64))
    pixels = axes.transData.transform(points)
    assert all(axes.bbox.contains(x, y) for x, y in pixels)


def test_without_labels_there_is_one_colour_and_no_legend():
    figure = draw(blobs(2)[0])
    assert set(clouds(figure)[0]) == {(COLORS[0], "o")}
    assert figure.legends == []


def test_of_many_points_some_are_drawn_always_alike_and_the_figure_says_so():
    points, labels = blobs(2, count=500)
    first, second = (clouds(draw(points, labels, most_points=100))[0] for _ in range(2))
    assert first == second
    assert sum(map(len, first.values())) == 100
    assert all(20 < len(cloud) < 80 for cloud in first.values())
    assert "100 of 1,000 points are shown" in written(draw(points, labels, most_points=100))
    assert not re.search("shown", " ".join(written(draw(points, labels))))


def test_circles_hold_shares_of_a_standard_normal():
    figure = draw(blobs(1)[0], prior=True)
    radii = [patch.get_radius() for patch in figure.axes[0].patches]
    shares = scipy.stats.chi2(2).cdf(np.square(radii))
    np.testing.assert_allclose(shares, [0.5, 0.9, 0.99], **for_dtype(torch.float64))
    assert [text for text in written(figure) if text.endswith(" %")] == ["50 %", "90 %", "99 %"]


@pytest.mark.parametrize("K", [1, 10, 64])
def test_legends_of_any_length_can_be_read(K):
    points, labels = blobs(K, count=2)
    figure = draw(points, labels, [f"a class of a long name {k}" for k in range(K)], title="all of them")
    assert_readable(figure)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(texts) == min(K, 61)
    assert (texts[-1] == "and 4 more") == (K == 64)


def test_a_single_point_is_drawn():
    assert_readable(draw(np.zeros((1, 2)), torch.tensor([3])))


def test_mistakes_are_named():
    points, labels = blobs(2)
    for change, match in (
        ({"most_points": 0}, "most_points"),
        ({"axis_names": ("x",)}, "axis_names"),
        ({"classes": ["a"]}, "classes"),
        ({"labels": labels[1:]}, "labels"),
    ):
        with pytest.raises(ValueError, match=match):
            draw(**{"points": points, "labels": labels, **change})
