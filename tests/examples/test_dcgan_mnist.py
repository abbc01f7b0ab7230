"""The example of the DCGAN: a trial run leaves what it promises, goes on after a stop, and judges by a classifier."""

import gzip
import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from example_runs import Outcome, call, load
from PIL import Image

from ganblocks.cli import main as ganblocks
from ganblocks.models.classifier import ClassifierConfig, SmallClassifier
from ganblocks.training import Callback
from ganblocks.training.checkpoint_directory import read_newest_checkpoint
from ganblocks.training.saved_weights import write_weights

SMALL = ["--device", "cpu", "--threads", "1", "--base-channels", "4", "--batch-size", "64"]

example = load("examples/dcgan_mnist.py")


def run(out: Path, *arguments: object) -> Outcome:
    return call(example, "--out", out, *arguments)


def records(run_dir: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "event" not in line]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("dcgan") / "run"
    return folder, run(folder, "--smoke", "--device", "cpu", "--ema-decay", "0.9")


def test_a_trial_leaves_pictures_animation_log_and_report(smoke: tuple[Path, Outcome]) -> None:
    folder, outcome = smoke
    assert (outcome.code, outcome.err) == (0, "")
    assert "1,438 images to train on, 23 batches an epoch" in outcome.out
    for name in ("curves.png", "report.html", "nearest.png", "real_beside_fake.png"):
        assert (folder / name).stat().st_size > 0, name
    with Image.open(folder / "progress.gif") as film:
        assert film.n_frames == 2  # one an epoch
    assert len(list((folder / "samples").iterdir())) == 2


def test_it_prints_the_line_of_the_text(smoke: tuple[Path, Outcome]) -> None:
    folder, outcome = smoke
    number = r"\d+\.\d{4}"
    pattern = rf"\[\d/2\]\[\d+/23\] Loss_D: {number} Loss_G: {number} D\(x\): {number} D\(G\(z\)\): {number} / {number}"
    lines = [line for line in outcome.out.splitlines() if re.fullmatch(pattern, line)]
    assert len(lines) == 10  # batches 0, 5, 10, 15 and 20 of two epochs
    assert len([record for record in records(folder) if "real_probability" in record]) == 10


def test_scores_are_in_the_log(smoke: tuple[Path, Outcome]) -> None:
    assert records(smoke[0])[-1]["frechet_distance"] > 0


def test_its_checkpoint_is_sampled_by_the_command(
    smoke: tuple[Path, Outcome], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ganblocks(["sample", "--run", str(smoke[0]), "--count", "4", "--out", str(tmp_path / "four.png")]) == 0
    assert "4 images of 8x8 px" in capsys.readouterr().out


def test_a_stopped_run_ends_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [*SMALL, "--epochs", "1", "--form", "tutorial"]
    assert run(tmp_path / "whole", *arguments).code == 0

    class Stop(example.ProgressBar):  # type: ignore[misc, name-defined]
        def on_step(self, trainer: example.Trainer, previous: int) -> None:  # type: ignore[name-defined]
            super().on_step(trainer, previous)
            if previous < 640 <= trainer.images_seen:
                trainer.request_stop()

    assert issubclass(Stop, Callback)
    monkeypatch.setattr(example, "ProgressBar", Stop)
    assert "stopped" in run(tmp_path / "parts", *arguments).out
    monkeypatch.undo()
    assert "finished" in run(tmp_path / "parts", *arguments).out
    whole, parts = (
        read_newest_checkpoint(tmp_path / name / "checkpoints").state["step"] for name in ("whole", "parts")
    )
    for network in ("generator", "discriminator"):
        assert all(torch.equal(value, parts[network][key]) for key, value in whole[network].items())
    names = [sorted(path.name for path in (tmp_path / name / "samples").iterdir()) for name in ("whole", "parts")]
    assert names[0] == names[1]


@pytest.fixture
def idx(tmp_path: Path) -> Path:
    """MNIST's four files with a hundred and forty pictures of noise."""
    folder, draws = tmp_path / "mnist", np.random.default_rng(0)
    folder.mkdir()
    for part, count in (("train", 140), ("t10k", 40)):
        pixels = draws.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for name, array in ((f"{part}-images-idx3-ubyte", pixels), (f"{part}-labels-idx1-ubyte", labels)):
            header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
            (folder / f"{name}.gz").write_bytes(gzip.compress(header + array.tobytes()))
    return folder


def test_a_classifier_judges_the_samples(idx: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ClassifierConfig(channels=(2, 4), feature_dim=8)
    about = {"format": "pt", "model": "classifier", "config": config.to_dict()}
    (tmp_path / "classifier").mkdir()
    weights = SmallClassifier(config).state_dict()
    write_weights(tmp_path / "classifier" / "classifier.safetensors", weights, about)
    out = tmp_path / "run"
    arguments = [*SMALL, "--epochs", "1", "--data", idx, "--classifier", tmp_path / "classifier"]
    outcome = run(out, *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    assert "140 images to train on, 3 batches an epoch" in outcome.out
    log = {key: value for record in records(out) for key, value in record.items()}
    assert 0.1 <= log["classifier_confidence"] <= 1
    assert 1 <= log["classes_found"] <= 10
    assert {"frechet_distance", "precision", "recall"} <= set(log)


@pytest.mark.parametrize(
    ("form", "parameters"),
    [("pytorch", "759,680 and discriminator 138,624"), ("tutorial", "2,305,472 and discriminator 212,865")],
)
def test_the_networks_of_both_forms(idx: Path, tmp_path: Path, form: str, parameters: str) -> None:
    outcome = run(tmp_path / "run", "--data", idx, "--form", form, "--dry-run", "--device", "cpu", "--threads", "1")
    assert f"generator {parameters} parameters" in outcome.out
    assert "Nothing was trained" in outcome.out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--epochs", "0"], "--epochs is 0"),
        (["--dataset", "mnist"], "neither --data nor GANBLOCKS_DATA"),
        (["--device", "gpu"], "--device is gpu"),
    ],
)
def test_a_bad_command_line_is_refused(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GANBLOCKS_DATA", raising=False)
    with pytest.raises(SystemExit):
        example.main(["--out", str(tmp_path / "run"), *arguments])
    assert told in capsys.readouterr().err


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    outcome = run(tmp_path / "run", "--data", tmp_path)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    outcome = run(tmp_path / "run", *SMALL, "--classifier", tmp_path)
    assert (outcome.code, "train to the end first" in outcome.err) == (2, True)
