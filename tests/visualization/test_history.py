"""The history of a classifier: what is drawn, read from the artists of the figure."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ganblocks.visualization.canvas import COLORS
from ganblocks.visualization.history import history_figure

VAL_LOSS = [0.9, 0.5, 0.4, 0.45]
VAL_ACCURACY = [0.5, 0.8, 0.7, 0.8]


def log(*, epochs: bool = False) -> list[dict[str, Any]]:
    """Four epochs of 100 images: two lines of training and one of validation each."""
    records: list[dict[str, Any]] = [{"images_seen": 0, "event": "start"}]
    for epoch in range(4):
        for part in (50, 100):
            records.append({"images_seen": 100 * epoch + part, "loss": 1.0 / (epoch + 1), "accuracy": 0.1 * epoch})
        records.append(
            {"images_seen": 100 * epoch + 100, "val_loss": VAL_LOSS[epoch], "val_accuracy": VAL_ACCURACY[epoch]}
        )
    return [{**record, "epoch": record["images_seen"] / 100} for record in records] if epochs else records


def lines(axes: Any) -> dict[str, tuple[list[float], list[float], str]]:
    return {
        line.get_label(): (line.get_xdata().tolist(), line.get_ydata().tolist(), line.get_color())
        for line in axes.get_lines()
    }


def test_training_is_red_validation_green_and_a_blue_dot_marks_the_best_of_each_panel() -> None:
    loss, accuracy = history_figure(log()).axes
    assert [loss.get_title(loc="left"), accuracy.get_title(loc="left")] == ["Loss", "Accuracy"]
    assert loss.get_xlabel() == accuracy.get_xlabel() == "thousand images seen"
    found = lines(loss)
    assert found.keys() == {"training", "validation", "best epoch = 3"}
    positions, values, color = found["training"]
    assert positions == [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4]
    assert values == [1.0, 1.0, 1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 4, 1 / 4]
    assert color == COLORS[1]
    assert found["validation"] == ([0.1, 0.2, 0.3, 0.4], VAL_LOSS, COLORS[2])
    assert found["best epoch = 3"] == ([0.3], [0.4], COLORS[0])
    assert lines(accuracy)["validation"][1] == VAL_ACCURACY
    assert lines(accuracy)["best epoch = 2"] == ([0.2], [0.8], COLORS[0])  # the first one of equals
    legend = [text.get_text() for text in accuracy.get_legend().get_texts()]
    assert legend == ["training", "validation", "best epoch = 2"]


def test_the_squared_error_has_a_panel_where_it_is_told() -> None:
    records = [{"epoch": n, "val_loss": 1.0, "val_mse": value} for n, value in enumerate([0.3, 0.1, 0.2], start=1)]
    _, axes = history_figure(records).axes
    assert axes.get_title(loc="left") == "Mean squared error"
    assert lines(axes)["validation"] == ([1, 2, 3], [0.3, 0.1, 0.2], COLORS[2])
    assert lines(axes)["best epoch = 2"] == ([2], [0.1], COLORS[0])


def test_where_records_tell_their_epoch_it_is_the_axis_and_the_name_of_the_best() -> None:
    records = [{"epoch": 10 + n, "loss": 1.0, "val_loss": value} for n, value in enumerate(VAL_LOSS)]
    (axes,) = history_figure(records).axes
    assert axes.get_xlabel() == "epoch"
    assert lines(axes)["best epoch = 12"][:2] == ([12.0], [0.4])
    some = [*log(epochs=True), {"images_seen": 450, "loss": 0.1}]
    assert history_figure(some).axes[0].get_xlabel() == "thousand images seen"
    assert history_figure(log(epochs=True)).axes[0].get_xlabel() == "epoch"


def test_dots_can_be_left_out_and_need_validation() -> None:
    assert all(lines(axes).keys() == {"training", "validation"} for axes in history_figure(log(), best=None).axes)
    training = [{key: value for key, value in record.items() if "val" not in key} for record in log()]
    assert all(lines(axes).keys() == {"training"} for axes in history_figure(training).axes)


def test_a_null_is_a_gap_that_is_never_the_best_and_counts_as_an_epoch() -> None:
    records = [{"images_seen": n, "val_loss": value} for n, value in enumerate([None, math.nan, 3.0, 2.0, math.inf])]
    (axes,) = history_figure(records).axes
    assert np.isnan(lines(axes)["validation"][1]).tolist() == [True, True, False, False, True]
    assert lines(axes)["best epoch = 4"][1] == [2.0]


def test_after_a_resume_the_later_records_stand() -> None:
    again = [{"images_seen": 200, "val_loss": 0.1}, {"images_seen": 300, "val_loss": 0.2}]
    loss = history_figure([*log(), *again]).axes[0]
    assert lines(loss)["validation"][:2] == ([0.1, 0.2, 0.3], [0.9, 0.1, 0.2])
    assert lines(loss)["best epoch = 2"][1] == [0.1]


def test_it_is_written_from_a_log_file_and_names_are_not_mathematics(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text("\n".join(map(json.dumps, log())) + '\n{"images_s', encoding="utf-8")
    figure = history_figure(file, title="a $1 run_$", path=tmp_path / "a.png")
    assert len(figure.axes) == 2
    with Image.open(tmp_path / "a.png") as picture:
        colors = {color for _, color in picture.convert("RGB").getcolors(2**24) or []}
    for color in COLORS[:3]:
        assert tuple(bytes.fromhex(color[1:])) in colors
    for suffix in ("svg", "pdf"):
        history_figure(log(), path=tmp_path / f"a.{suffix}")
        assert (tmp_path / f"a.{suffix}").stat().st_size > 1000


def test_a_long_series_has_no_marks() -> None:
    many = [{"images_seen": n, "loss": 1.0} for n in range(100)]
    assert history_figure(many).axes[0].get_lines()[0].get_marker() == ""
    assert history_figure(many[:10]).axes[0].get_lines()[0].get_marker() == "o"


@pytest.mark.parametrize("records", [[], [{"loss": 1.0}], [{"images_seen": 1, "loss": None}], [{"images_seen": 1}]])
def test_nothing_to_draw_is_told(records: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match=f"`records` holds {len(records)} records, but none with 'images_seen'"):
        history_figure(records)


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`best` is 'star'"):
        history_figure(log(), best="star")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r'ends in "\.png"'):
        history_figure(log(), path=tmp_path / "a.gif")


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"ganblocks\[train\]"):
        history_figure(log())
