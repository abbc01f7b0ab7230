"""Curves: what is drawn, read from the artists of the figure, and a few real pictures."""

import json
import math
import sys

import matplotlib
import matplotlib.figure
import numpy as np
import pytest
import torch
from PIL import Image

from ganblocks.visualization.curves import save_curves
from tolerances import for_dtype


def keep_figures(monkeypatch, *, render):
    figures = []

    class Kept(matplotlib.figure.Figure):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            figures.append(self)

        def savefig(self, *args, **kwargs):
            if render:
                super().savefig(*args, **kwargs)

    monkeypatch.setattr(matplotlib.figure, "Figure", Kept)
    return figures


@pytest.fixture
def drawn(monkeypatch):
    """Every Figure that is made, in order; none is rendered, which would take most of the time."""
    return keep_figures(monkeypatch, render=False)


@pytest.fixture
def rendered(monkeypatch):
    """Every Figure that is made and rendered, in order."""
    return keep_figures(monkeypatch, render=True)


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


def line(axes, index=0):
    """The index-th line with data: x, y."""
    lines = [found for found in axes.lines if len(found.get_xdata()) > 1 and found.get_linestyle() == "-"]
    lines = [found for found in lines if found.get_color() != "#b0b0b0"]
    return np.asarray(lines[index].get_xdata()), np.asarray(lines[index].get_ydata())


def progressive_log(count=100):
    return [
        {
            "images_seen": 1000 * n,
            "resolution": 4 if n < 30 else 8,
            "alpha": 0.5 if 30 <= n < 50 else 1.0,
            "discriminator_loss": math.sin(n),
            "generator_loss": math.cos(n),
            "penalty": 0.1,
            "real_score": 1.0,
            "fake_score": -1.0,
            "learning_rate": 1e-3,
            "images_per_second": 7.0,
            "note": "text",
        }
        for n in range(count)
    ] + [
        {"images_seen": 50000, "a_distance": 3.0, "recall": 0.5},
        {"images_seen": 90000, "a_distance": 2.0, "patch_swd_16": 30.0, "swd_16": 20.0},
    ]


def test_each_kind_has_its_panel_and_unknown_keys_have_none(tmp_path, rendered):
    save_curves(progressive_log(), tmp_path / "curves.png", title="a run")
    (figure,) = rendered
    assert titles(figure) == [
        "Losses",
        "Penalty",
        "Critic scores",
        "Quality and variety",
        "Distances",
        "Patch distances x 1000",
        "Learning rate",
    ]
    keys = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert [key.rsplit("  ")[0] for key in keys] == ["discriminator loss", "generator loss"]
    patches = [text.get_text() for text in figure.axes[5].get_legend().get_texts()]
    assert [key.rsplit("  ")[0] for key in patches] == ["patch swd 16", "swd 16"]
    assert figure.axes[-1].get_xlabel() == "thousand images seen"
    assert figure.get_suptitle() == "a run"
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width == 1200
        assert len(picture.convert("L").getcolors()) > 50


def test_terms_of_a_bound_probabilities_and_gradients_have_panels_of_their_own(tmp_path, drawn):
    keys = {
        "Reconstruction": ["reconstruction", "val_reconstruction"],
        "Divergence": ["kl", "val_kl"],
        "Probability of being real": ["real_probability", "fake_probability", "fake_probability_after"],
        "Gradient norms": ["discriminator_gradient_norm", "generator_gradient_norm"],
    }
    every = [key for panel in keys.values() for key in panel]
    records = [{"images_seen": n, "loss": 2.0, **dict.fromkeys(every, 10.0**n)} for n in range(10)]
    save_curves(records, tmp_path / "curves.png")
    assert titles(drawn[0]) == ["Losses", *keys]
    for axes, expected in zip(drawn[0].axes[1:], keys.values(), strict=True):
        shown = [text.get_text().rsplit("  ")[0] for text in axes.get_legend().get_texts()]
        assert shown == [key.replace("_", " ") for key in expected]
    assert [axes.get_yscale() for axes in drawn[0].axes[1:]] == ["linear"] * 3 + ["log"]


def test_values_stand_at_thousands_of_images(tmp_path, drawn):
    records = [{"images_seen": 500 * n, "loss": float(n * n)} for n in range(10)]
    save_curves(records, tmp_path / "curves.svg")
    x, y = line(drawn[0].axes[0])
    assert x.tolist() == [0.5 * n for n in range(10)]
    assert y.tolist() == [n * n for n in range(10)]


def test_another_axis_is_left_in_its_unit(tmp_path, drawn):
    save_curves([{"epoch": n, "val_loss": 1.0} for n in range(3)], tmp_path / "curves.svg", x="epoch")
    assert line(drawn[0].axes[0])[0].tolist() == [0, 1, 2]
    assert drawn[0].axes[0].get_xlabel() == "epoch"


def test_only_the_keys_asked_for_are_drawn_known_or_not(tmp_path, drawn):
    save_curves(progressive_log(), tmp_path / "curves.svg", keys=["images_per_second", "penalty", "absent"])
    assert titles(drawn[0]) == ["Penalty", "Images per second"]


def test_the_thick_line_is_the_corrected_moving_average_and_says_so(tmp_path, drawn):
    values = np.random.default_rng(0).normal(size=400)
    values[7] = math.nan
    save_curves([{"images_seen": n, "loss": v} for n, v in enumerate(values.tolist())], tmp_path / "curves.svg")
    span = 8  # a fiftieth of 400
    expected = []
    for n in range(400):
        past = [m for m in range(n + 1) if m != 7]
        weights = [(1 - 2 / (span + 1)) ** sum(1 for other in past if other > m) for m in past]
        mean = sum(w * values[m] for w, m in zip(weights, past, strict=True)) / sum(weights)
        expected.append(math.nan if n == 7 else mean)
    raw, smooth = line(drawn[0].axes[0], 0)[1], line(drawn[0].axes[0], 1)[1]
    assert np.array_equal(raw, values, equal_nan=True)
    np.testing.assert_allclose(smooth, expected, **for_dtype(torch.float64))
    assert "over 8 records" in drawn[0].get_supxlabel()


def test_stages_are_labelled_and_fades_shaded(tmp_path, drawn):
    save_curves(progressive_log(), tmp_path / "curves.svg")
    for axes in drawn[0].axes:
        assert [found.get_xdata()[0] for found in axes.lines if found.get_linestyle() == ":"] == [30.0]
        (shade,) = axes.patches
        assert (shade.get_x(), shade.get_x() + shade.get_width()) == (30.0, 50.0)
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["4x4", "8x8"]


def test_a_fade_that_still_runs_is_shaded_to_the_end(tmp_path, drawn):
    records = [{"images_seen": 1000 * n, "loss": 1.0, "alpha": min(1.0, n / 20)} for n in range(10)]
    save_curves(records, tmp_path / "curves.svg")
    (shade,) = drawn[0].axes[0].patches
    assert shade.get_width() == 9.0


def test_labels_of_short_stages_do_not_pile_up(tmp_path, drawn):
    records = [{"images_seen": n, "loss": 1.0, "resolution": 4 if n < 99 else 8} for n in range(100)]
    save_curves(records, tmp_path / "curves.svg")
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["4x4", "8x8"]
    records = [{"images_seen": n, "loss": 1.0, "resolution": 2 ** min(n, 5)} for n in range(1000)]
    save_curves(records, tmp_path / "curves.svg")
    assert [text.get_text() for text in drawn[1].axes[0].texts] == ["1x1"]


def test_torn_lines_are_passed_over(tmp_path, drawn):
    log = tmp_path / "log.jsonl"
    lines = [json.dumps({"images_seen": n, "loss": n}) for n in range(5)]
    torn_character = '{"images_seen": 9, "name": "é'.encode()[:-1]
    text = "\n".join([*lines[:3], '{"images_seen": 2, "lo' + lines[3], "[1]", "", lines[4]]) + "\n"
    log.write_bytes(text.encode() + torn_character)
    save_curves(log, tmp_path / "curves.png")
    assert line(drawn[0].axes[0])[1].tolist() == [0, 1, 2, 4]


def test_what_is_not_finite_is_a_gap_and_what_is_no_number_is_absent(tmp_path, drawn):
    log = tmp_path / "log.jsonl"
    values = ["1.0", "NaN", "Infinity", "null", '"text"', "true", "[1]", "2.0", "1" + "0" * 400]
    log.write_text("".join(f'{{"images_seen": {n}, "loss": {value}}}\n' for n, value in enumerate(values)))
    save_curves(str(log), tmp_path / "curves.png")
    x, y = line(drawn[0].axes[0])
    assert (1000 * x).round().tolist() == [0, 1, 2, 3, 7]
    assert np.array_equal(y, [1.0, math.nan, math.nan, math.nan, 2.0], equal_nan=True)


def test_tensors_are_numbers(tmp_path, drawn):
    save_curves([{"images_seen": n, "loss": torch.tensor(0.5)} for n in range(3)], tmp_path / "curves.png")
    assert line(drawn[0].axes[0])[1].tolist() == [0.5] * 3


def test_a_resumed_run_replaces_what_it_repeats(tmp_path, drawn):
    before = [{"images_seen": n, "loss": 1.0, "penalty": 5.0} for n in (0, 1000, 2000, 3000)]
    after = [{"images_seen": n, "loss": 2.0} for n in (2000, 3000, 4000)]
    save_curves(before + after, tmp_path / "curves.svg")
    x, y = line(drawn[0].axes[0])
    assert x.tolist() == [0, 1, 2, 3, 4]
    assert y.tolist() == [1, 1, 2, 2, 2]


def test_a_spike_does_not_flatten_the_panel_and_wide_penalties_are_logarithmic(tmp_path, rendered):
    records = [{"images_seen": n, "loss": 1.0 + n / 1000, "penalty": 10.0 ** (-n / 200)} for n in range(1000)]
    records[500]["loss"] = 1e6
    records[999]["loss"] = -1e6
    save_curves(records, tmp_path / "curves.svg")
    losses, penalty = rendered[0].axes
    assert losses.get_yscale() == "linear"
    assert 0.5 < losses.get_ylim()[0] < 1.1
    assert 1.9 < losses.get_ylim()[1] < 2.5
    assert penalty.get_yscale() == "log"
    assert penalty.get_ylim()[0] > 0
    assert (tmp_path / "curves.svg").read_text().startswith("<?xml")


def test_long_logs_are_drawn_by_their_extremes(tmp_path, drawn):
    values = np.random.default_rng(0).normal(size=20000)
    save_curves([{"images_seen": n, "loss": v} for n, v in enumerate(values.tolist())], tmp_path / "curves.png")
    x, y = line(drawn[0].axes[0])
    assert len(y) <= 2000
    assert {values.max(), values.min()} <= set(y)
    assert (np.diff(x) > 0).all()


def test_no_global_state_of_matplotlib_changes(tmp_path):
    settings = dict(matplotlib.rcParams)
    loaded = "matplotlib.pyplot" in sys.modules
    save_curves([{"images_seen": 1, "loss": 1.0}], tmp_path / "curves.png")
    assert dict(matplotlib.rcParams) == settings
    assert ("matplotlib.pyplot" in sys.modules) == loaded


def test_a_missing_matplotlib_names_the_command(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'pip install "ganblocks\[train\]"'):
        save_curves([{"images_seen": 1, "loss": 1.0}], tmp_path / "curves.png")


@pytest.mark.parametrize("records", [[], [{"images_seen": 1}], [{"loss": 1.0}], [{"images_seen": 1, "loss": math.nan}]])
def test_nothing_to_draw_is_an_error(tmp_path, records):
    with pytest.raises(ValueError, match="none with 'images_seen' and a number"):
        save_curves(records, tmp_path / "curves.png")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_suffix_and_a_missing_log_are_errors(tmp_path):
    with pytest.raises(ValueError, match=r"\.svg"):
        save_curves([{"images_seen": 1, "loss": 1.0}], tmp_path / "curves.pdf")
    with pytest.raises(FileNotFoundError, match="absent"):
        save_curves(tmp_path / "absent.jsonl", tmp_path / "curves.png")


def test_a_single_record_and_constant_numbers_draw(tmp_path, rendered):
    save_curves([{"images_seen": 0, "loss": 0.0, "penalty": 0.0, "resolution": 4}], tmp_path / "curves.png")
    low, high = rendered[0].axes[0].get_ylim()
    assert low < 0 < high
