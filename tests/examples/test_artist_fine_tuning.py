"""The sweep over sizes and frozen stages: what is trained, what goes on from what, one table, and what is refused."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from example_runs import Outcome, call, load
from PIL import Image
from safetensors.torch import load_file

pytest.importorskip("torchvision", reason="the backbones are of torchvision")

TINY = [
    "--model", "densenet121", "--artists", "2", "--updates", "2", "--batch-size", "4", "--augment", "none",
    "--seeds", "2", "--device", "cpu", "--threads", "1",
]  # fmt: skip
STEPS = ["--steps", "32:features.denseblock4", "32:features.denseblock3"]

single = load("examples/artist_classifier.py")  # which the sweep imports as its neighbour
example = load("examples/artist_fine_tuning.py")


def run(out: Path, *arguments: object) -> Outcome:
    """Call the example as its command line would, each step without figures of its own."""
    figures = ("history_figure", "confusion_matrix", "class_bars", "sample_panel", "write_report", "model_summary")
    with mock.patch.multiple(example.single, **dict.fromkeys(figures, mock.Mock(return_value=""))):
        return call(example, *TINY, "--out", out, *arguments)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    out = tmp_path_factory.mktemp("fine")
    with mock.patch.object(single, "DRAWN", 12):
        outcome = run(out, *STEPS, "--path")
    assert outcome.code == 0, outcome.err
    return out, outcome


def weights(out: Path, step: str, seed: int) -> dict[str, torch.Tensor]:
    return load_file(out / step / f"seed-{seed}" / "classifier.safetensors")


def test_each_seed_goes_on_from_its_own_and_what_is_frozen_does_not_move(finished: tuple[Path, Outcome]) -> None:
    out, _ = finished
    for seed in (0, 1):
        before, after = weights(out, "1-32-features.denseblock4", seed), weights(out, "2-32-features.denseblock3", seed)
        frozen = [key for key in before if "denseblock3" in key or "denseblock1" in key]
        assert frozen
        assert all(torch.equal(before[key], after[key]) for key in frozen)
        trained = [key for key in before if "denseblock4" in key and key.endswith("conv1.weight")]
        assert trained
        assert not any(torch.equal(before[key], after[key]) for key in trained)
    first, second = (weights(out, "1-32-features.denseblock4", seed) for seed in (0, 1))
    assert not torch.equal(first["backbone.features.conv0.weight"], second["backbone.features.conv0.weight"])


def test_the_table_tells_what_was_trained(finished: tuple[Path, Outcome]) -> None:
    out, outcome = finished
    text = (out / "fine_tuning.md").read_text(encoding="utf-8")
    assert text in outcome.out
    rows: list[dict[str, Any]] = json.loads((out / "fine_tuning.json").read_text())
    assert [row["frozen_through"] for row in rows] == ["features.denseblock4", "features.denseblock3"]
    head_and_norm = 1024 * 2 + 2 + 2 * 1024  # the new layer, and the normalisation behind the last block
    assert rows[0]["trained_parameters"] == head_and_norm
    assert rows[1]["trained_parameters"] > 1_000_000
    lines = [line for line in text.splitlines() if line.startswith(("| 1 ", "| 2 "))]
    assert lines[0].startswith(f"| 1 | 32 | features.denseblock4 | random | {head_and_norm:,} | 2 |")
    assert "| the step before |" in lines[1]
    for row, line in zip(rows, lines, strict=True):
        assert f"{100 * row['accuracy_mean']:.1f} ± {100 * row['accuracy_deviation']:.1f} % |" in line
    assert (out / "figures" / "accuracy.png").is_file()


def test_another_list_of_steps_is_another_run(finished: tuple[Path, Outcome]) -> None:
    outcome = run(finished[0], *STEPS)
    assert outcome.code == 2
    assert "RunMismatchError" in outcome.err


def test_sizes_of_different_pictures_are_no_sweep(tmp_path: Path) -> None:
    """As of two zips, one for each size: a path would learn in one step what the next is tested on."""
    for side in (32, 64):
        with zipfile.ZipFile(tmp_path / f"pictures_{side}px.zip", "w") as archive:
            for painter in ("Anna", "Bert"):
                for number in range(10):
                    picture = io.BytesIO()
                    Image.new("RGB", (side, side), (25 * number, 9 * side, len(painter) * 20)).save(picture, "PNG")
                    archive.writestr(f"{painter}/{number}.png", picture.getvalue())
    outcome = run(tmp_path / "run", "--data", tmp_path, "--steps", "32:none", "64:none")
    assert outcome.code == 2
    assert "has other pictures for other sizes" in outcome.err


def test_steps_of_the_source_are_the_default_of_its_network() -> None:
    options, steps = example.parse(["--device", "cpu", "--data", "x"])
    assert options.model == "inception_resnet_v2"
    assert [(step.size, step.freeze) for step in steps] == [(250, "700"), (300, "700"), (300, "600")]
    assert {step.options.start for step in steps} == {None}
    _, steps = example.parse(["--device", "cpu", "--data", "x", "--path", "--weights", "w.safetensors"])
    assert [step.options.weights for step in steps] == [Path("w.safetensors"), None, None]
    assert steps[2].options.start == options.out / "2-300-700"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "--steps is missing"),
        (["--steps", "32"], "must be SIZE:STAGE"),
        (["--steps", "0:none"], "must be SIZE:STAGE"),
        (["--steps", "32:none", "--size", "64"], "each of --steps has its own"),
        (["--steps", "32:no_such_stage"], "features.denseblock4"),
    ],
)
def test_what_does_not_go_is_told(arguments: list[str], told: str, tmp_path: Path) -> None:
    outcome = run(tmp_path, *arguments)
    assert outcome.code == 2
    assert told in outcome.err
