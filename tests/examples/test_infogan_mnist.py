"""The example of the InfoGAN: a trial run leaves what it promises, goes on after a stop, and tells what is pure."""

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
from ganblocks.models.infogan import Generator, InfoGANConfig
from ganblocks.training import Callback
from ganblocks.training.checkpoint_directory import read_newest_checkpoint
from ganblocks.training.saved_weights import write_weights
from tolerances import for_dtype

SMALL = ["--device", "cpu", "--threads", "1", "--base-channels", "4", "--batch-size", "64", "--epochs", "1"]
TINY = InfoGANConfig(8, 1, 3, 4, 2, base_channels=2, dense_width=6, code_width=5)

example = load("examples/infogan_mnist.py")


def run(out: Path, *arguments: object) -> Outcome:
    return call(example, "--out", out, *arguments)


def lines_of(run_dir: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("infogan") / "run"
    return folder, run(folder, "--smoke", "--device", "cpu", "--ema-decay", "0.9")


def test_a_trial_leaves_pictures_animation_log_and_report(smoke: tuple[Path, Outcome]) -> None:
    folder, outcome = smoke
    assert (outcome.code, outcome.err) == (0, "")
    assert "1,438 images to train on, 23 batches an epoch" in outcome.out
    figures = ("figures/continuous_1.png", "figures/continuous_2.png")
    for name in ("curves.png", "report.html", "nearest.png", "real_beside_fake.png", *figures):
        assert (folder / name).stat().st_size > 0, name
    with Image.open(folder / "progress.gif") as film:
        assert film.n_frames == 2  # one an epoch
    sheets = list((folder / "samples").iterdir())
    assert len(sheets) == 2
    for path in (*sheets, *(folder / name for name in figures)):
        with Image.open(path) as sheet:
            assert sheet.size == (10 * (8 * 8 + 2) + 2, 10 * (8 * 8 + 2) + 2)  # ten categories, ten columns
    assert any(re.match(r"\[1/2\]\[\d+/23\] Loss_D: ", line) for line in outcome.out.splitlines())


def test_purity_and_information_are_in_the_log_and_the_table_in_log_and_report(smoke: tuple[Path, Outcome]) -> None:
    folder, outcome = smoke
    lines = lines_of(folder)
    found = [line["test_purity"] for line in lines if "test_purity" in line]
    assert len(found) == 10  # nine on the way
    assert all(0 < value <= 1 for value in found)
    (event,) = [line for line in lines if line.get("event") == "categories"]
    counts = np.array(event["counts"])
    assert counts.shape == (10, 10)
    assert counts.sum() == 359  # the test images
    assert event["purity"] == found[-1] == counts.max(1).sum() / 359
    assert len(event["digits"]) == 10
    assert event["digits_found"] == len({row.argmax() for row in counts if row.any()})
    assert f"purity {found[-1]:.4f} of 359 test images" in outcome.out
    page = (folder / "report.html").read_text()
    for line in event["digits"]:
        assert line in outcome.out
        assert line in page
    keys = {key for line in lines for key in line}
    assert {"category_information", "continuous_information", "frechet_distance", "generator_category_loss"} <= keys


def test_its_checkpoint_is_sampled_by_the_command(
    smoke: tuple[Path, Outcome], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ganblocks(["sample", "--run", str(smoke[0]), "--count", "4", "--out", str(tmp_path / "four.png")]) == 0
    assert "4 images of 8x8 px" in capsys.readouterr().out


@pytest.mark.slow
def test_a_stopped_run_ends_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(tmp_path / "whole", *SMALL).code == 0

    class Stop(example.ProgressBar):  # type: ignore[misc, name-defined]
        def on_step(self, trainer: example.Trainer, previous: int) -> None:  # type: ignore[name-defined]
            super().on_step(trainer, previous)
            if previous < 640 <= trainer.images_seen:
                trainer.request_stop()

    assert issubclass(Stop, Callback)
    monkeypatch.setattr(example, "ProgressBar", Stop)
    assert "stopped" in run(tmp_path / "parts", *SMALL).out
    monkeypatch.undo()
    assert "finished" in run(tmp_path / "parts", *SMALL).out
    whole, parts = (
        read_newest_checkpoint(tmp_path / name / "checkpoints").state["step"] for name in ("whole", "parts")
    )
    for network in ("generator", "discriminator"):
        assert all(torch.equal(value, parts[network][key]) for key, value in whole[network].items())
    tables = [[line for line in lines_of(tmp_path / name) if "counts" in line] for name in ("whole", "parts")]
    assert [table["counts"] for table in tables[0]] == [table["counts"] for table in tables[1]]
    rates = [
        state["param_groups"][0]["lr"] for state in (whole["generator_optimizer"], whole["discriminator_optimizer"])
    ]
    assert rates == pytest.approx([1e-3, 2e-4])


# --- sheets and purity by hand ---


def test_purity_is_the_share_of_the_most_frequent_digits() -> None:
    categories = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2])
    digits = torch.tensor([3, 3, 1, 0, 0, 0, 2, 2])
    counts = example.counted(categories, digits, 4, 5)
    expected = [[0, 1, 0, 2, 0], [3, 0, 1, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]
    assert counts.tolist() == expected
    assert example.purity(counts) == (2 + 3 + 1) / 8
    assert example.digits_found(counts) == 3
    assert example.digits_found(torch.tensor([[0, 3], [1, 2], [0, 0]])) == 1  # pure, but both the same digit
    assert example.meaning(counts) == [
        "category 0: 3 (66.7 % of 3)",
        "category 1: 0 (75.0 % of 4)",
        "category 2: 2 (100.0 % of 1)",
        "category 3: never",
    ]


def test_the_sheet_has_a_row_for_a_category_and_a_column_for_a_noise() -> None:
    generator = Generator(TINY)
    sheet = example.category_sheet(generator)
    assert generator.training
    assert sheet.shape == (40, 1, 8, 8)
    drawn = generator.sample_latents(10, seed=example.SHEET_SEED)
    generator.eval()
    for row, column in ((0, 0), (1, 7), (3, 9)):
        latents = drawn[column : column + 1].clone()
        latents[:, 3:7] = torch.eye(4)[row]
        with torch.no_grad():
            image = generator(latents)
        torch.testing.assert_close(sheet[10 * row + column : 10 * row + column + 1], image, **for_dtype(torch.float32))


@pytest.mark.parametrize("which", [0, 1])
def test_one_continuous_code_runs_from_minus_two_to_two(which: int) -> None:
    generator = Generator(TINY).eval()
    sheet = example.continuous_sheet(generator, which)
    noise = generator.sample_latents(1, seed=example.SHEET_SEED)[:, :3]
    for row, column, value in ((0, 0, -2.0), (2, 9, 2.0), (3, 3, -2 / 3)):
        codes = torch.zeros(1, 2)
        codes[0, which] = value
        with torch.no_grad():
            image = generator(torch.cat([noise, torch.eye(4)[row : row + 1], codes], dim=1))
        torch.testing.assert_close(sheet[10 * row + column : 10 * row + column + 1], image, **for_dtype(torch.float32))


# --- other data, a judge, refusals ---


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


def test_a_classifier_judges_the_samples(idx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (example.SCORED, example.GLANCED) == (10_000, 1000)
    monkeypatch.setattr(example, "SCORED", 603)
    monkeypatch.setattr(example, "GLANCED", 20)
    config = ClassifierConfig(channels=(2, 4), feature_dim=8)
    about = {"format": "pt", "model": "classifier", "config": config.to_dict()}
    (tmp_path / "classifier").mkdir()
    weights = SmallClassifier(config).state_dict()
    write_weights(tmp_path / "classifier" / "classifier.safetensors", weights, about)
    out = tmp_path / "run"
    outcome = run(out, *SMALL, "--data", idx, "--classifier", tmp_path / "classifier")
    assert (outcome.code, outcome.err) == (0, "")
    assert "140 images to train on, 3 batches an epoch" in outcome.out
    lines = lines_of(out)
    of_test_images, event = (line for line in lines if line.get("event") == "categories")
    assert sum(map(sum, of_test_images["counts"])) == 40
    assert [sum(row) for row in event["counts"]] == [61, 61, 61] + [60] * 7  # categories in turn
    assert event["of"] == "603 samples, their digits found by the classifier"
    assert 0.1 <= event["purity"] <= 1
    assert {"test_purity", "sample_purity", "frechet_distance", "precision", "recall"} <= {
        key for line in lines for key in line
    }


def test_the_networks_have_the_paper_s_sizes_at_28_pixels(idx: Path, tmp_path: Path) -> None:
    outcome = run(tmp_path / "run", "--data", idx, "--dry-run", "--device", "cpu", "--threads", "1")
    assert "generator 6,645,121 and discriminator 6,691,151 parameters" in outcome.out
    assert "Nothing was trained" in outcome.out
    assert not (tmp_path / "run").exists()
    fewer = ["--noise-dim", "16", "--fixed-variance"]
    outcome = run(tmp_path / "run", "--data", idx, "--dry-run", "--device", "cpu", "--threads", "1", *fewer)
    sizes = 6_645_121 - 46 * 1024, 6_691_151 - 2 * (128 + 1)
    assert "generator {:,} and discriminator {:,} parameters".format(*sizes) in outcome.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--epochs", "0"], "--epochs is 0"),
        (["--batch-size", "1"], "--batch-size is 1, but must be at least 2"),
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
