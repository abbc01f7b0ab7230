"""The example of the conditional GANs: a trial of each leaves what it promises, goes on, and tells what is right."""

import argparse
import gzip
import json
import re
import struct
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from example_runs import Outcome, call, load
from PIL import Image

from ganblocks.cli import main as ganblocks
from ganblocks.functional.image_range import to_uint8
from ganblocks.functional.latent import normal_latents
from ganblocks.models.classifier import ClassifierConfig, SmallClassifier
from ganblocks.models.registry import generator_from_metadata
from ganblocks.training import Callback
from ganblocks.training.checkpoint_directory import read_newest_checkpoint
from ganblocks.training.saved_weights import write_weights

SMALL = ["--device", "cpu", "--threads", "1", "--epochs", "1", "--base-channels", "4", "--batch-size", "64"]

example = load("examples/conditional_gan_mnist.py")


def run(out: Path, *arguments: object) -> Outcome:
    return call(example, "--out", out, *arguments)


def lines_of(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("conditional") / "run"
    return folder, run(folder, "--smoke", "--device", "cpu")


def test_a_trial_leaves_pictures_animation_log_and_report(smoke: tuple[Path, Outcome]) -> None:
    folder, outcome = smoke
    assert (outcome.code, outcome.err) == (0, "")
    assert "1,438 images to train on, 23 batches an epoch" in outcome.out
    for name in ("curves.png", "report.html", "nearest.png", "real_beside_fake.png"):
        assert (folder / name).stat().st_size > 0, name
    with Image.open(folder / "progress.gif") as film:
        assert film.n_frames == 2  # one an epoch
    sheets = list((folder / "samples").iterdir())
    assert len(sheets) == 2
    with Image.open(sheets[0]) as sheet:
        assert sheet.size == (8 * (8 * 8 + 2) + 2, 10 * (8 * 8 + 2) + 2)  # eight latents, ten classes
    assert re.search(r"^ +320 images  discriminator loss [\d.]+, generator loss [\d.]+, real score ", outcome.out, re.M)
    assert any("frechet_distance" in line for line in lines_of(folder))


def test_its_checkpoint_is_sampled_by_the_command(
    smoke: tuple[Path, Outcome], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ganblocks(["sample", "--run", str(smoke[0]), "--count", "4", "--out", str(tmp_path / "four.png")]) == 0
    assert "4 images of 8x8 px" in capsys.readouterr().out


def require_sheet(run_dir: Path, *, around: int) -> None:
    """The last sheet has a row for a class and a column for a latent, and of each image the inner 8 pixels."""
    checkpoint = read_newest_checkpoint(run_dir / "checkpoints")
    state, (Z, side) = (
        checkpoint.state["step"],
        (checkpoint.metadata["config"][n] for n in ("latent_dim", "resolution")),
    )
    assert side == 8 + 2 * around
    trained = generator_from_metadata(checkpoint.metadata).eval()
    trained.load_state_dict(state["generator"] if state["ema"] is None else state["ema"]["module"])
    with Image.open(max((run_dir / "samples").iterdir())) as sheet:
        assert sheet.size == (8 * (8 * 8 + 2) + 2, 10 * (8 * 8 + 2) + 2)
        pixels = torch.from_numpy(np.asarray(sheet.convert("L")).copy())
    drawn = normal_latents(8, Z, seed=example.SHEET_SEED)
    for row in (0, 3, 9):
        with torch.no_grad():
            images = to_uint8(trained(drawn, torch.full((8,), row)))[
                ..., around : side - around, around : side - around
            ]
        for column in (0, 7):
            top, left = 2 + 66 * row, 2 + 66 * column
            enlarged = images[column, 0].repeat_interleave(8, 0).repeat_interleave(8, 1)
            assert torch.equal(pixels[top : top + 64, left : left + 64], enlarged), (row, column)


def test_the_sheet_has_a_row_for_a_class_and_a_column_for_a_latent(smoke: tuple[Path, Outcome]) -> None:
    require_sheet(smoke[0], around=0)


def test_an_r3gan_learns_on_8_pixels_and_shows_its_average(tmp_path: Path) -> None:
    outcome = run(tmp_path / "run", *SMALL, "--model", "r3gan", "--total-images", "320")
    assert (outcome.code, outcome.err) == (0, "")
    require_sheet(tmp_path / "run", around=0)
    checkpoint = read_newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert checkpoint.state["step"]["ema"] is not None
    config = checkpoint.metadata["config"]
    assert [config[name] for name in ("widths", "blocks_per_stage", "group_size")] == [[8, 4], 1, 8]


@pytest.mark.slow
def test_a_stopped_wgan_gp_on_16_pixels_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*SMALL, "--model", "wgan_gp", "--batch-size", "50", "--total-images", "500"]
    outcome = run(tmp_path / "whole", *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    require_sheet(tmp_path / "whole", around=4)

    class Stop(example.ProgressBar):  # type: ignore[misc, name-defined]
        def on_step(self, trainer: example.Trainer, previous: int) -> None:  # type: ignore[name-defined]
            super().on_step(trainer, previous)
            if previous < 300 <= trainer.images_seen:
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
    sheets = [sorted((tmp_path / name / "samples").iterdir()) for name in ("whole", "parts")]
    assert [path.read_bytes() for path in sheets[0]] == [path.read_bytes() for path in sheets[1]]
    logged = [line for line in lines_of(tmp_path / "whole") if "penalty" in line]
    assert [line["images_seen"] for line in logged] == [250, 500]
    assert all("generator_loss" in line for line in logged)  # 7 batches would be a quarter of an epoch


# --- what is right, by hand ---


class Told(torch.nn.Module):
    """A classifier that takes a picture for its first pixel, in tenths."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.config = ClassifierConfig(num_classes=3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot((10 * images[:, 0, 0, 0]).round().long(), 3).float()


def data_of(count: int, classes: tuple[str, ...]) -> Any:
    images, labels = torch.zeros(count, 1, 8, 8, dtype=torch.uint8), torch.arange(count) % len(classes)
    return example.Data(images, labels, images, labels, classes, ())


def test_right_samples_are_counted_by_class(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (example.SCORED, example.GLANCED) == (10_000, 1000)
    monkeypatch.setattr(example, "SCORED", 610)  # 204 zeros, 203 ones, 203 twos
    monkeypatch.setattr(example, "GLANCED", 4)
    monkeypatch.setattr(example, "load_classifier", lambda path: Told())
    monkeypatch.setattr(example, "classifier_extractor", lambda classifier: None)
    seeds: list[int] = []

    def sample(labels: torch.Tensor, seed: int) -> torch.Tensor:
        seeds.append(seed)
        made = labels.clone()
        if len(labels) > 4:
            ones = (labels == 1).nonzero()[:10, 0]
            made[ones] = 2  # ten ones of each batch look like a two
        return (made / 10)[:, None, None, None].expand(-1, 1, 8, 8)

    options = argparse.Namespace(classifier="there", device="cpu")
    _, measurements = example.judges(options, data_of(30, ("nought", "one", "two")), sample)
    trainer = mock.Mock(images_seen=5, total_images=10)
    assert measurements.measure(trainer) == {"right_samples": 1.0}
    trainer.event.assert_not_called()
    trainer.images_seen = 10
    assert measurements.measure(trainer) == {"right_samples": pytest.approx(590 / 610)}
    assert capsys.readouterr().out == "96.7 % of 610 samples are what they should be; weakest: one with 90.1 %\n"
    (call,) = trainer.event.call_args_list
    assert call.args == ("right_samples",)
    assert call.kwargs["of"] == 610
    assert call.kwargs["classes"] == ["nought: 100.0 %", "one: 90.1 %", "two: 100.0 %"]
    assert call.kwargs["shares"] == [1.0, pytest.approx(183 / 203), 1.0]
    assert seeds == [example.SCORE_SEED, example.SCORE_SEED, example.SCORE_SEED + 1]


def test_a_classifier_of_other_classes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example, "load_classifier", lambda path: Told())
    options = argparse.Namespace(classifier="there", device="cpu")
    with pytest.raises(ValueError, match="--classifier knows 3 classes, but must know the 2 of the data"):
        example.judges(options, data_of(30, ("nought", "one")), None)


# --- other data, a judge, refusals ---


@pytest.fixture
def idx(tmp_path: Path) -> Path:
    """The four files of Fashion-MNIST with seventy pictures of noise."""
    folder, draws = tmp_path / "fashion_mnist", np.random.default_rng(0)
    folder.mkdir()
    for part, count in (("train", 70), ("t10k", 40)):
        pixels = draws.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for name, array in ((f"{part}-images-idx3-ubyte", pixels), (f"{part}-labels-idx1-ubyte", labels)):
            header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
            (folder / f"{name}.gz").write_bytes(gzip.compress(header + array.tobytes()))
    return folder


def test_a_classifier_judges_the_samples(idx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example, "SCORED", 40)
    monkeypatch.setattr(example, "GLANCED", 20)
    config = ClassifierConfig(channels=(2, 4), feature_dim=8)
    about = {"format": "pt", "model": "classifier", "config": config.to_dict()}
    (tmp_path / "classifier").mkdir()
    write_weights(tmp_path / "classifier" / "classifier.safetensors", SmallClassifier(config).state_dict(), about)
    out = tmp_path / "run"
    outcome = run(out, *SMALL, "--data", idx, "--classifier", tmp_path / "classifier")
    assert (outcome.code, outcome.err) == (0, "")
    lines = lines_of(out)
    (event,) = [line for line in lines if line.get("event") == "right_samples"]
    shares = [line["right_samples"] for line in lines if "right_samples" in line]
    assert len(event["shares"]) == 10
    assert shares[-1] == pytest.approx(sum(event["shares"]) / 10)
    assert event["classes"][9].startswith("Ankle boot: ")
    weakest = event["classes"][event["shares"].index(min(event["shares"]))].replace(":", " with")
    told = f"{100 * shares[-1]:.1f} % of 40 samples are what they should be; weakest: {weakest}"
    assert told in outcome.out.splitlines()
    page = (out / "report.html").read_text()
    assert all(told in page for told in event["classes"])
    assert {"frechet_distance", "precision", "recall"} <= {key for line in lines for key in line}


@pytest.mark.parametrize(("model", "around"), [("dcgan", 0), ("wgan_gp", 2), ("r3gan", 2)])
def test_pictures_of_28_pixels_get_the_border_that_the_networks_need(
    model: str, around: int, idx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    class Batches(example.TensorBatches):  # type: ignore[misc, name-defined]
        def __init__(self, images: torch.Tensor, labels: torch.Tensor, **options: object) -> None:
            seen.append((images, labels))
            super().__init__(images, labels, **options)

    monkeypatch.setattr(example, "TensorBatches", Batches)
    small = ["--base-channels", "8", "--device", "cpu", "--threads", "1"]
    outcome = run(tmp_path / "run", *small, "--data", idx, "--model", model, "--dry-run")
    assert (outcome.code, outcome.err) == (0, "")
    assert "Nothing was trained" in outcome.out
    assert not (tmp_path / "run").exists()
    ((images, labels),) = seen
    side = 28 + 2 * around
    assert images.shape == (70, 1, side, side)
    inner = images[..., around : side - around, around : side - around]
    source = example.idx_images(idx, "train")
    assert all(np.array_equal(inner[n].numpy(), source.read(n, 28)) for n in range(70))
    assert int(inner.sum()) == int(images.sum())  # nothing but black around
    assert labels.tolist() == [n % 10 for n in range(70)]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--epochs", "0"], "--epochs is 0"),
        (["--model", "progan"], "--model: invalid choice"),
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
