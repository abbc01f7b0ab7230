"""The comparison of networks that name painters: equal updates, one table and plot, nothing replaced in silence."""

import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from example_runs import Outcome, call, load
from PIL import Image

SMALL = ["--device", "cpu", "--threads", "1"]
TINY = ["--size", "16", "--channels", "4", "--artists", "2", "--updates", "6", "--batch-size", "8", "--augment", "none"]

single = load("examples/artist_classifier.py")  # which the comparison imports as its neighbour
example = load("examples/artist_comparison.py")


def run(out: Path, *arguments: object) -> Outcome:
    """Call the example as its command line would, each model without figures of its own."""
    figures = ("history_figure", "confusion_matrix", "class_bars", "sample_panel", "write_report")
    with mock.patch.multiple(example.single, **dict.fromkeys(figures, mock.DEFAULT)):
        return call(example, *SMALL, "--out", out, *arguments)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    out = tmp_path_factory.mktemp("comparison")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "timm", None)
        return out, run(out, *TINY, "--seeds", "2", "--models", "simple", "cnn", "painting_cnn", "nasnet")


def test_all_models_make_the_same_updates_on_the_same_pictures(finished: tuple[Path, Outcome]) -> None:
    out, outcome = finished
    assert outcome.code == 0, outcome.err
    found = read(out / "comparison.json")
    trained = {name: summary for name, summary in found.items() if name != "nasnet"}
    assert list(trained) == ["simple", "cnn", "painting_cnn"]
    runs = [run for summary in trained.values() for run in summary["seeds"]]
    assert {run["updates"] for run in runs} == {6}
    assert len(runs) == 6
    assert len({(summary["majority"], summary["data"], str(summary["images"])) for summary in trained.values()}) == 1


def test_the_table_has_each_accuracy_beside_the_majority(finished: tuple[Path, Outcome]) -> None:
    out, outcome = finished
    text = (out / "comparison.md").read_text(encoding="utf-8")
    assert text in outcome.out
    found = read(out / "comparison.json")
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines() if line.startswith("| ")}
    for name in ("simple", "cnn", "painting_cnn"):
        summary = found[name]
        mean, deviation = 100 * summary["accuracy_mean"], 100 * summary["accuracy_deviation"]
        assert f"| {mean:.1f} ± {deviation:.1f} % |" in rows[name]
        assert rows[name].endswith(f"| {100 * summary['majority']:.1f} % |")
        assert f"| random | 16 | {summary['parameters']:,} | 6 |" in rows[name]
        assert rows[name].count("|") == rows["model"].count("|")


def test_a_model_without_its_library_is_left_out_and_said_so(finished: tuple[Path, Outcome]) -> None:
    out, outcome = finished
    assert "nasnet is left out: timm is needed" in outcome.out
    row = next(line for line in (out / "comparison.md").read_text().splitlines() if line.startswith("| nasnet"))
    assert "left out" in row
    assert 'pip install "ganblocks[vision]"' in row
    assert not (out / "nasnet").exists()


def test_plots_and_page_are_there(finished: tuple[Path, Outcome]) -> None:
    out, _ = finished
    for name in ("curves.png", "accuracy.png"):
        with Image.open(out / "figures" / name) as picture:
            assert min(picture.size) > 200
    assert (out / "report.html").stat().st_size > 10_000
    assert (out / "simple" / "classifier.safetensors").is_file()


def test_the_same_command_trains_nothing_again(finished: tuple[Path, Outcome]) -> None:
    out, _ = finished
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/seed-*/*")}
    again = run(out, *TINY, "--seeds", "2", "--models", "simple")
    assert again.code == 0, again.err
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/seed-*/*")} == before
    other = run(out, *TINY, "--updates", "7", "--models", "simple")
    assert other.code == 2
    assert "RunMismatchError" in other.err


def test_a_trial_leaves_the_large_networks_out() -> None:
    options, own = example.parse([*SMALL, "--smoke"])
    assert list(own) == ["simple", "cnn", "painting_cnn"]
    assert {one.updates for one in own.values()} == {options.updates} == {6}
    _, own = example.parse([*SMALL, "--data", "x"])
    assert list(own) == list(single.MODELS)
    assert own["nasnet"].size == 224
    assert {single.make_recipe(one).early_stopping for one in own.values()} == {None}


@pytest.mark.parametrize(
    "weights", ["densenet121", "simple=x.safetensors", "vgg16=", "vgg16=x.safetensors", "=x.safetensors"]
)
def test_weights_belong_to_one_of_the_backbones_that_are_compared(tmp_path: Path, weights: str) -> None:
    outcome = run(tmp_path, "--models", "simple", "densenet121", "--weights", weights)
    assert outcome.code == 2
    assert "must be MODEL=FILE" in outcome.err
    _, own = example.parse([*SMALL, "--data", "x", "--models", "vgg16", "simple", "--weights", "vgg16=a.safetensors"])
    assert (own["vgg16"].weights, own["simple"].weights) == (Path("a.safetensors"), None)
