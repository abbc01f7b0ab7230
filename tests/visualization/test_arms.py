"""Figures of arms: what is drawn is what was given, nothing hides anything, and wrong numbers are named."""

import numpy as np
import pytest
from drawn import assert_readable, written

from ganblocks.visualization.arms import arms_curve, arms_figure

RUNS = {"real": [0.8, 0.82, 0.82, 0.82], "real + generated": [0.85, 0.75]}


def dots(axes):
    """Every marker, as (x, y)."""
    lines = [line for line in axes.lines if line.get_marker() == "o"]
    return [(float(x), float(y)) for line in lines for x, y in zip(*line.get_data(), strict=True)]


def test_every_run_is_a_dot_in_the_row_of_its_arm_and_no_two_are_at_one_place():
    figure = arms_figure(RUNS, title="two arms")
    found = dots(figure.axes[0])
    assert sorted(round(x, 6) for x, y in found if abs(y) < 0.5) == [80, 82, 82, 82]
    assert sorted(round(x, 6) for x, y in found if abs(y - 1) < 0.5) == [75, 85]
    assert len(set(found)) == 6
    assert {"real", "real + generated", "two arms"} <= set(written(figure))
    assert_readable(figure)


def test_a_hundred_equal_runs_stay_in_their_row():
    found = dots(arms_figure({"a": [0.5] * 100, "b": [0.5]}).axes[0])
    assert max(y for _, y in found[:100]) < 0.5
    assert len(set(found)) == 101


def test_the_stroke_stands_at_the_mean_and_the_bar_covers_the_interval():
    axes = arms_figure(RUNS, {"real": (0.7, 0.9)}, chance=0.61).axes[0]
    means = [segment[0][0] for collection in axes.collections for segment in collection.get_segments()]
    assert means == pytest.approx([100 * np.mean(values) for values in RUNS.values()])
    (bar,) = axes.patches
    assert (bar.get_x(), bar.get_x() + bar.get_width()) == pytest.approx((70, 90))
    (chance,) = [line for line in axes.lines if line.get_marker() != "o"]
    assert list(chance.get_xdata()) == [61, 61]


def test_a_curve_goes_through_the_means_of_each_size():
    curve = {"real": {10: [0.5, 0.6], 100: [0.9]}, "both": {100: [0.95], 10: [0.7]}}
    figure = arms_curve(curve, title="few images")
    axes = figure.axes[0]
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.lines if line.get_marker() != "o"}
    assert lines == {"real": pytest.approx([55, 90]), "both": pytest.approx([70, 95])}
    assert sorted(round(y, 6) for _, y in dots(axes)) == [50, 60, 70, 90, 95]
    assert {"10", "100", "real", "both", "few images"} <= set(written(figure))
    assert_readable(figure)


def test_names_are_never_read_as_mathematics():
    assert "$x_1$" in written(arms_figure({"$x_1$": [0.5]}))
    assert "$x_1$" in written(arms_curve({"$x_1$": {1: [0.5]}}))


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_figure_is_written_where_it_is_wanted(tmp_path, suffix):
    arms_figure(RUNS, path=tmp_path / f"arms.{suffix}")
    assert (tmp_path / f"arms.{suffix}").stat().st_size > 1000


@pytest.mark.parametrize(
    ("accuracies", "options", "match"),
    [
        ({}, {}, "accuracies"),
        ({str(number): [0.5] for number in range(11)}, {}, "accuracies"),
        ({"a": []}, {}, "one run"),
        ({"a": [1.5]}, {}, "shares"),
        ({"a": [float("nan")]}, {}, "shares"),
        ({"a": [0.5]}, {"intervals": {"b": (0, 1)}}, "intervals"),
        ({"a": [0.5]}, {"intervals": {"a": (0.9, 0.1)}}, "intervals"),
        ({"a": [0.5]}, {"chance": 61}, "chance"),
        ({"a": [0.5]}, {"path": "arms.jpg"}, "path"),
    ],
)
def test_what_cannot_be_drawn_is_named(accuracies, options, match):
    with pytest.raises(ValueError, match=match):
        arms_figure(accuracies, **options)


@pytest.mark.parametrize("curve", [{}, {"a": {}}, {"a": {0: [0.5]}}, {"a": {1: []}}, {"a": {1: [2.0]}}])
def test_a_curve_of_nothing_is_refused(curve):
    with pytest.raises(ValueError, match=r"accuracies"):
        arms_curve(curve)
