"""The study of generated scans: nothing leaks, arms differ in nothing else, and the document's sizes come out."""

import contextlib
import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from example_runs import Outcome, call, load, plain_callback
from PIL import Image

from ganblocks.data import read_generated
from ganblocks.training import Callback, Trainer

SMALL = ["--device", "cpu", "--threads", "1"]
TINY = [
    *("--resolution", "16", "--gan-resolution", "16", "--gan-channels", "4", "--gan-steps", "2", "--gans", "1"),
    *("--seeds", "1", "--updates", "4", "--batch-size", "8", "--epochs", "1", "--folds", "2"),
]

example = load("examples/augmented_classifier_brain_mri.py")


def run(out: Path, *arguments: object) -> Outcome:
    return call(example, *SMALL, "--out", out, *arguments)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies without pictures, which cost more than tiny networks do."""
    for name in ("Summary", "SampleSheets", "ProgressBar"):
        monkeypatch.setattr(example, name, plain_callback)
    for name in (
        "arms_figure",
        "confusion_matrix",
        "history_figure",
        "sample_panel",
        "save_image_grid",
        "write_report",
    ):
        monkeypatch.setattr(example, name, lambda *_, **__: None)


def write_scans(folder: Path, no: int, yes: int) -> Path:
    """Noise of 40x40 pixels, no two alike."""
    rng = np.random.default_rng(0)
    for name, count in (("no", no), ("yes", yes)):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8))
            coarse.resize((40, 40)).save(folder / name / f"{index:03d}.png")
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    out = tmp_path_factory.mktemp("study")
    return out, run(out, "--smoke")


def test_a_trial_leaves_everything_that_is_promised(finished: tuple[Path, Outcome]) -> None:
    out, outcome = finished
    assert outcome.code == 0, outcome.err
    text = (out / "comparison.md").read_text()
    assert text in outcome.out
    for arm in example.ARMS:
        assert f"| {arm} | 2" in text
    assert "real + generated: " in text
    figures = {path.name for path in (out / "figures").iterdir()}
    assert {"arms.png", "samples.png", "curves_real.png", "confusion_real_both.png"} <= figures
    assert {"split_gan_0_no.png", "split_gan_0_yes.png"} <= figures
    assert (out / "report.html").stat().st_size > 10_000
    assert "SmallClassifier" in (out / "classifier.txt").read_text()


def test_all_arms_make_the_same_number_of_updates_of_one_size(finished: tuple[Path, Outcome]) -> None:
    runs = [folder for folder in (finished[0] / "split").iterdir() if not folder.name.startswith("gan-")]
    assert len(runs) == 8
    ends = set()
    for folder in runs:
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        ends.add((lines[-1]["images_seen"], max(line.get("step", 0) for line in lines)))
    assert ends == {(48, 6)}


def test_generated_pictures_say_so_and_are_as_many_as_the_real_ones(finished: tuple[Path, Outcome]) -> None:
    out, _ = finished
    rows = table(out / "pictures.csv")
    assert {row["provenance"] for row in rows} == {"real"}
    for name in ("no", "yes"):
        files = sorted((out / "split" / "gan-0" / "generated" / name).iterdir())
        assert len(files) == sum(row["class"] == name and row["part"] == "training" for row in rows)
        about = read_generated(files[0])
        assert about is not None
        assert (about["class"], about["gan"], about["model"]) == (name, 0, "dcgan")


def test_the_same_command_reads_what_is_there(finished: tuple[Path, Outcome]) -> None:
    out, outcome = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("answers.safetensors")}
    again = run(out, "--smoke")
    assert again.code == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("answers.safetensors")} == before
    assert again.out.split("\n# ")[1] == outcome.out.split("\n# ")[1]


def test_copies_and_near_copies_never_lie_on_both_sides(tmp_path: Path, bare: None) -> None:
    data = write_scans(tmp_path / "scans", 20, 24)
    for name in ("no", "yes"):
        for index in range(8):
            source = Image.open(data / name / f"{index:03d}.png")
            source.save(data / name / f"copy_{index:03d}.png", compress_level=1)
            source.resize((90, 90)).save(data / name / f"larger_{index:03d}.png")
    outcome = run(tmp_path / "run", "--data", data, *TINY, "--arms", "real")
    assert outcome.code == 0, outcome.err
    assert "16 copies left out" in outcome.out
    parts = {row["picture"]: row["part"] for row in table(tmp_path / "run" / "pictures.csv")}
    assert len(parts) == 60
    for name in ("no", "yes"):
        for index in range(8):
            small = f"{name}/{index:03d}.png"
            kept = small if small in parts else f"{name}/copy_{index:03d}.png"
            assert parts[kept] == parts[f"{name}/larger_{index:03d}.png"]


@pytest.mark.parametrize("gan", ["dcgan", "wgan_gp"])
def test_the_gan_sees_the_training_part_and_nothing_else(
    tmp_path: Path, bare: None, monkeypatch: pytest.MonkeyPatch, gan: str
) -> None:
    seen: list[torch.Tensor] = []
    original = example.Study._trained_generator

    def watched(self: Any, training: Any, *rest: Any) -> Any:
        seen.append(training.gan_images)
        return original(self, training, *rest)

    monkeypatch.setattr(example.Study, "_trained_generator", watched)
    data = write_scans(tmp_path / "scans", 10, 14)
    command = ["--data", data, *TINY, "--gan", gan, "--arms", "real", "real + generated"]
    assert run(tmp_path / "run", *command).code == 0
    assert len(seen) == (2 if gan == "wgan_gp" else 1)
    rows = table(tmp_path / "run" / "pictures.csv")
    options = example.parse([*SMALL, *TINY, "--data", str(data)])
    with contextlib.redirect_stdout(io.StringIO()):
        pictures, *_ = example.open_data(options)
    pixels = {image.numpy().tobytes() for images in seen for image in images}
    part_of = {row["picture"]: row["part"] for row in rows}
    for name, image in zip(pictures.names, pictures.gan_images, strict=True):
        assert (image.numpy().tobytes() in pixels) == (part_of[name] == "training")


def test_a_stopped_study_goes_on_and_ends_as_an_uninterrupted_one(
    tmp_path: Path, bare: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_scans(tmp_path / "scans", 10, 14)
    command = ["--data", data, *TINY, "--arms", "real", "real + generated"]
    assert run(tmp_path / "whole", *command).code == 0

    class Stop(Callback):
        def on_step(self, trainer: Trainer, previous: int) -> None:
            trainer.request_stop()

    monkeypatch.setattr(example, "ProgressBar", Stop)
    stopped = run(tmp_path / "parts", *command)
    assert stopped.code == 130
    assert "the same command goes on" in stopped.out
    assert run(tmp_path / "parts", *command).code == 130
    monkeypatch.setattr(example, "ProgressBar", lambda: Callback())
    assert run(tmp_path / "parts", *command).code == 0
    assert (tmp_path / "parts" / "comparison.md").read_text() == (tmp_path / "whole" / "comparison.md").read_text()


def test_the_document_protocol_has_the_documents_sizes(
    tmp_path: Path, bare: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_scans(tmp_path / "scans", 98, 155)

    class Fake(torch.nn.Module):
        def sample(self, count: int, *, seed: int, labels: torch.Tensor) -> torch.Tensor:
            return torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1

    monkeypatch.setattr(example.Study, "_trained_generator", lambda *_: Fake())
    outcome = run(tmp_path / "run", "--data", data, *TINY, "--protocol", "document")
    assert outcome.code == 0, outcome.err
    text = (tmp_path / "run" / "comparison.md").read_text()
    assert "| real | 202 / 51 | 26 |" in text
    assert "| mixed | 375 / 94 | 47 |" in text
    rows = table(tmp_path / "run" / "pictures_mixed.csv")
    counts = {(name, kind): 0 for name in ("no", "yes") for kind in ("real", "generated")}
    for row in rows:
        counts[row["class"], row["provenance"]] += 1
    assert counts == {("no", "real"): 98, ("no", "generated"): 108, ("yes", "real"): 155, ("yes", "generated"): 108}
    assert "generated ones" in text  # that are in the test part


def test_each_picture_is_held_out_once(tmp_path: Path, bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_scans(tmp_path / "scans", 10, 14)
    tested: list[str] = []
    original = example.Study.arm

    def watched(self: Any, name: str, training: Any, test: Any, *rest: Any) -> Any:
        assert not set(training.names) & set(test.names)
        tested.extend(test.names)
        return original(self, name, training, test, *rest)

    monkeypatch.setattr(example.Study, "arm", watched)
    outcome = run(tmp_path / "run", "--data", data, *TINY, "--arms", "real", "--protocol", "cross-validation")
    assert outcome.code == 0, outcome.err
    assert sorted(tested) == sorted(row["picture"] for row in table(tmp_path / "run" / "pictures.csv"))
    assert "| real | 1 |" in (tmp_path / "run" / "comparison.md").read_text()


def test_a_picture_that_does_not_say_that_it_is_generated_is_refused(tmp_path: Path, bare: None) -> None:
    data = write_scans(tmp_path / "scans", 10, 14)
    command = ["--data", data, *TINY, "--arms", "real + generated"]
    assert run(tmp_path / "run", *command).code == 0
    folder = tmp_path / "run" / "split" / "gan-0" / "generated" / "no"
    Image.new("L", (16, 16)).save(folder / "stranger.png")
    outcome = run(tmp_path / "run", *command)
    assert outcome.code == 2
    assert "do not say that they are generated" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seeds", "0"), "--seeds is 0"),
        (("--generated-per-real", "0"), "--generated-per-real is 0.0"),
        (("--weights", "w.safetensors"), "the small classifier has none"),
        (("--device", "quantum"), "--device is quantum"),
        (("--smoke", "--data", "scans"), "a trial has drawn scans"),
        (("--data", "nowhere"), "nowhere"),
        (("--smoke", "--model", "resnet0"), "resnet0"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    outcome = run(tmp_path / "run", *arguments)
    assert outcome.code == 2
    assert message in outcome.err


def test_other_settings_are_refused(finished: tuple[Path, Outcome]) -> None:
    outcome = run(finished[0], "--smoke", "--updates", "7")
    assert outcome.code == 2
    assert "updates: 6 there, 7 now" in outcome.err


@pytest.mark.slow
def test_a_backbone_runs_the_documents_protocol(tmp_path: Path, bare: None) -> None:
    data = write_scans(tmp_path / "scans", 6, 6)
    command = ["--data", data, *TINY, "--resolution", "32", "--model", "mobilenet_v3_small", "--arms", "real"]
    outcome = run(tmp_path / "run", *command)
    assert outcome.code == 0, outcome.err
    assert "starts from random numbers" in outcome.out
    assert "from random weights" in (tmp_path / "run" / "comparison.md").read_text()
