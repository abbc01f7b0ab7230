"""The example of the R3GAN: a trial run leaves what it promises, goes on after a stop, pads, crops and augments."""

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
from ganblocks.functional.image_range import to_uint8
from ganblocks.models.classifier import ClassifierConfig, SmallClassifier
from ganblocks.models.r3gan import Generator
from ganblocks.training import Callback
from ganblocks.training.checkpoint_directory import read_newest_checkpoint
from ganblocks.training.saved_weights import write_weights

SMALL = ["--device", "cpu", "--threads", "1", "--epochs", "1"]

example = load("examples/r3gan_mnist.py")


def run(out: Path, *arguments: object) -> Outcome:
    return call(example, "--out", out, *arguments)


def records(run_dir: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "event" not in line]


def settings(run_dir: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads((run_dir / "config.json").read_text())
    return found


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("r3gan") / "run"
    return folder, run(folder, "--smoke", "--device", "cpu", "--gamma", "3")


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
        assert sheet.size == (8 * (8 * 8 + 2) + 2, 4 * (8 * 8 + 2) + 2)


def test_losses_scores_and_penalty_are_printed_and_in_the_log(smoke: tuple[Path, Outcome]) -> None:
    folder, outcome = smoke
    names = ("discriminator loss", "generator loss", "real score", "fake score", "penalty")
    pattern = r" *[\d,]+ images  " + ", ".join(rf"{name} -?[\d.e-]+" for name in names)
    lines = [line for line in outcome.out.splitlines() if re.fullmatch(pattern, line)]
    assert len(lines) == 9  # every fifth of 46 batches
    assert len([record for record in records(folder) if "penalty" in record]) == 9
    assert records(folder)[-1]["frechet_distance"] > 0


def test_the_recipe_is_that_of_the_paper_with_half_of_gamma(smoke: tuple[Path, Outcome]) -> None:
    found = settings(smoke[0])
    recipe = found["recipe"]
    told = [recipe[name] for name in ("loss", "penalty", "penalty_weight", "ema_decay")]
    assert told == ["relativistic", "r1_r2", 1.5, 0.9]
    assert found["config"]["widths"] == [16, 8]
    assert found["augment"] == ["none"]


def test_its_sheets_are_of_the_moving_average(smoke: tuple[Path, Outcome]) -> None:
    checkpoint = read_newest_checkpoint(smoke[0] / "checkpoints")
    average = Generator(example.R3GANConfig.from_dict(checkpoint.metadata["config"]))
    average.load_state_dict(checkpoint.state["step"]["ema"]["module"])
    images = to_uint8(average.sample(32, seed=example.SHEET_SEED))
    with Image.open(max((smoke[0] / "samples").iterdir())) as sheet:  # the last
        pixels = torch.from_numpy(np.asarray(sheet.convert("L")).copy())
    for row, column in ((0, 0), (3, 6)):
        top, left = 2 + 66 * row, 2 + 66 * column
        assert torch.equal(pixels[top : top + 64 : 8, left : left + 64 : 8], images[8 * row + column, 0])


def test_its_checkpoint_is_sampled_by_the_command(
    smoke: tuple[Path, Outcome], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ganblocks(["sample", "--run", str(smoke[0]), "--count", "4", "--out", str(tmp_path / "four.png")]) == 0
    assert "4 images of 8x8 px" in capsys.readouterr().out


@pytest.mark.slow
def test_a_stopped_run_with_labels_and_augmentation_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*SMALL, "--widths", "8", "8", "--labels", "--augment", "translation,cutout", "--total-images", "384"]
    assert run(tmp_path / "whole", *arguments).code == 0

    class Stop(example.ProgressBar):  # type: ignore[misc, name-defined]
        def on_step(self, trainer: example.Trainer, previous: int) -> None:  # type: ignore[name-defined]
            super().on_step(trainer, previous)
            if previous < 192 <= trainer.images_seen:
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
        assert whole[network]["embedding.weight"].shape == (10, 64)
    assert float(whole["augment"]["probability"]) == 1.0
    assert all(torch.equal(value, parts["ema"]["module"][key]) for key, value in whole["ema"]["module"].items())
    sheets = [sorted((tmp_path / name / "samples").iterdir()) for name in ("whole", "parts")]
    assert [path.read_bytes() for path in sheets[0]] == [path.read_bytes() for path in sheets[1]]
    with Image.open(sheets[0][0]) as sheet:
        assert sheet.size == (10 * (8 * 8 + 2) + 2, 4 * (8 * 8 + 2) + 2)  # a column for a class
    assert settings(tmp_path / "whole")["augment"] == ["translation", "cutout"]


# --- other data, a judge, refusals ---


@pytest.fixture
def idx(tmp_path: Path) -> Path:
    """MNIST's four files with seventy bright pictures of noise."""
    folder, draws = tmp_path / "mnist", np.random.default_rng(0)
    folder.mkdir()
    for part, count in (("train", 70), ("t10k", 20)):
        pixels = draws.integers(128, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for name, array in ((f"{part}-images-idx3-ubyte", pixels), (f"{part}-labels-idx1-ubyte", labels)):
            header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
            (folder / f"{name}.gz").write_bytes(gzip.compress(header + array.tobytes()))
    return folder


def test_pictures_of_28_pixels_get_a_black_border_and_samples_lose_it(
    idx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    class Batches(example.TensorBatches):  # type: ignore[misc, name-defined]
        def __init__(self, images: torch.Tensor, labels: torch.Tensor, **options: object) -> None:
            seen.append((images, labels))
            super().__init__(images, labels, **options)

    def spoiled(self: Generator, latents: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        images = forward(self, latents, labels)
        if self.training:
            return images
        frame = torch.ones_like(images)
        frame[..., 2:-2, 2:-2] = -1  # white around black
        return frame

    forward = Generator.forward
    monkeypatch.setattr(example, "TensorBatches", Batches)
    monkeypatch.setattr(Generator, "forward", spoiled)
    config = ClassifierConfig(channels=(2, 4), feature_dim=8)
    about = {"format": "pt", "model": "classifier", "config": config.to_dict()}
    (tmp_path / "classifier").mkdir()
    write_weights(tmp_path / "classifier" / "classifier.safetensors", SmallClassifier(config).state_dict(), about)
    monkeypatch.setattr(example, "CONFIDENT", 20)
    out = tmp_path / "run"
    widths = ["--widths", "8", "8", "8", "4"]
    outcome = run(out, *SMALL, *widths, "--data", idx, "--classifier", tmp_path / "classifier")
    assert (outcome.code, outcome.err) == (0, "")
    assert "70 images to train on, 2 batches an epoch" in outcome.out
    ((images, labels),) = seen
    assert images.shape == (70, 1, 32, 32)
    source = example.idx_images(idx, "train")
    assert all(np.array_equal(images[n, :, 2:-2, 2:-2].numpy(), source.read(n, 28)) for n in range(70))
    assert int(images[..., 2:-2, 2:-2].sum()) == int(images.sum())  # nothing but black around
    assert labels.tolist() == [n % 10 for n in range(70)]
    (path,) = (out / "samples").iterdir()
    with Image.open(path) as sheet:
        assert sheet.size == (8 * (2 * 28 + 2) + 2, 4 * (2 * 28 + 2) + 2)
        first = np.asarray(sheet.convert("L"))[2 : 2 + 56, 2 : 2 + 56]
    assert first.max() == 0  # of the white frame, nothing is left
    log = {key: value for record in records(out) for key, value in record.items()}
    assert 0.1 <= log["classifier_confidence"] <= 1
    assert log["classes_found"] == 1
    assert {"frechet_distance", "precision", "recall"} <= set(log)


def test_the_usual_widths_fit_28_pixels(idx: Path, tmp_path: Path) -> None:
    outcome = run(tmp_path / "run", "--data", idx, "--dry-run", "--device", "cpu", "--threads", "1")
    config = example.R3GANConfig.small32(image_channels=1, widths=(96, 64, 32, 16), blocks_per_stage=1)
    counts = [sum(p.numel() for p in network(config).parameters()) for network in (Generator, example.Discriminator)]
    assert f"generator {counts[0]:,} and discriminator {counts[1]:,} parameters" in outcome.out
    assert "Nothing was trained" in outcome.out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--epochs", "0"], "--epochs is 0"),
        (["--blocks", "0"], "--blocks is 0"),
        (["--gamma", "-1"], "--gamma is -1.0, but must be 0 or more"),
        (["--gamma", "nan"], "--gamma is nan"),
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


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--classifier", "nowhere"], "train to the end first"),
        (["--widths", "8", "8", "8"], "2 numbers, for the sides (4, 8)"),
        (["--augment", "colour"], "colour"),
    ],
)
def test_what_does_not_fit_is_one_line(arguments: list[str], told: str, tmp_path: Path) -> None:
    outcome = run(tmp_path / "run", *SMALL, *arguments)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert told in outcome.err
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    outcome = run(tmp_path / "run", "--data", tmp_path)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
