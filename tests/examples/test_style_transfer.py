"""The example that paints: three ways on drawn pictures, weights from a file, a stop on the way, what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from example_runs import Outcome, call, load
from PIL import Image
from safetensors.torch import save_file

from ganblocks.models.painting_classifier import PaintingCNN, PaintingCNNConfig
from ganblocks.training import Callback

SMALL = ["--threads", "1", "--device", "cpu", "--precision", "fp32"]
WIDTHS, COUNTS = (64, 128, 256, 512, 512), (2, 2, 4, 4, 4)  # of VGG19

example = load("examples/style_transfer.py")


def run(out: Path, *arguments: object) -> Outcome:
    return call(example, *SMALL, "--out", out, *arguments)


def picture(path: Path, width: int = 40, height: int = 24, seed: int = 0) -> Path:
    """Smooth colours."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(path)
    return path


def pixels(path: Path) -> np.ndarray:
    """[H, W, 3] of an RGB file."""
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image)


@pytest.fixture
def pair(tmp_path: Path) -> list[object]:
    content, style = picture(tmp_path / "photo.png"), picture(tmp_path / "painting.png", 30, 50, seed=1)
    return ["--content", content, "--style", style]


@pytest.fixture
def painters(tmp_path: Path) -> Path:
    """A painting classifier as artist_classifier.py leaves it: small, so that it serves all tests here."""
    config = PaintingCNNConfig(32, 3, 3, (4, 5, 6, 7), 8)
    torch.manual_seed(0)
    path = tmp_path / "classifier.safetensors"
    about = {"model": "painting_cnn", "config": json.dumps(config.to_dict())}
    save_file(PaintingCNN(config).state_dict(), path, {"format": "pt", **about})
    return path


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_an_optimisation_leaves_the_figures_of_the_text(tmp_path: Path, pair: list[object], painters: Path) -> None:
    out = tmp_path / "run"
    options = [*pair, "--extractor", "painting", "--weights", painters, "--steps", 12, "--scales", 1]
    outcome = run(out, *options)
    assert outcome.code == 0, outcome.err
    names = ["10_content", "11_style", "12_short", "13_long", "14_high_frequency", "15_variation"]
    assert sorted(path.stem for path in (out / "figures").glob("*.png")) == names
    assert pixels(out / "results" / "photo.png").shape == (24, 40, 3)
    with Image.open(out / "progress.gif") as animation:
        assert animation.n_frames > 5  # type: ignore[attr-defined]
    assert "15 variation" in (out / "report.html").read_text()
    losses = [record for record in records(out) if "loss" in record]
    assert [record["images_seen"] for record in losses] == list(range(1, 25))
    first, second = losses[:12], losses[12:]
    assert first[-1]["loss"] < first[0]["loss"]
    assert second[-1]["loss"] < second[0]["loss"]
    assert second[-1]["variation"] < first[-1]["variation"]  # the second run is the one with this term
    again = run(out, *options)  # from the start, over what is there
    assert again.code == 0, again.err
    assert len([record for record in records(out) if "loss" in record]) == 24
    other = run(out, *options, "--style-weight", 3)
    assert (other.code, "RunMismatchError" in other.err) == (2, True)


def test_tiles_and_a_mask(tmp_path: Path, pair: list[object], painters: Path) -> None:
    looking = ["--extractor", "painting", "--weights", painters, "--steps", 2, "--scales", 1, "--no-comparison"]
    large = ["--content", picture(tmp_path / "wide.png", 150, 70), *pair[2:]]
    outcome = run(tmp_path / "tiles", *large, *looking, "--tile", 64, "--overlap", 16)
    assert outcome.code == 0, outcome.err
    assert pixels(tmp_path / "tiles" / "results" / "wide.png").shape == (70, 150, 3)
    mask = np.zeros((24, 40), dtype=np.uint8)
    mask[:, 20:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    outcome = run(tmp_path / "mask", *pair, *looking, "--mask", tmp_path / "mask.png")
    assert outcome.code == 0, outcome.err
    before, after = (pixels(path) for path in (tmp_path / "photo.png", tmp_path / "mask" / "results" / "photo.png"))
    assert (before[:, :20] == after[:, :20]).all()
    assert (before[:, 20:] != after[:, 20:]).any()


@pytest.mark.parametrize("method", ["feedforward", "adain"])
def test_a_network_learns_stops_goes_on_and_paints_other_pictures(
    tmp_path: Path, pair: list[object], painters: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        picture(tmp_path / f"data{number}.png", 40, 40, seed=number)
    (tmp_path / "data").mkdir()
    for path in tmp_path.glob("data?.png"):
        path.rename(tmp_path / "data" / path.name)
    out = tmp_path / "run"
    options = [
        "--method", method, "--data", tmp_path / "data", "--extractor", "painting", "--weights", painters,
        "--training-side", 32, "--images", 12, "--batch-size", 2,
    ]  # fmt: skip

    class Stop(Callback):
        def on_step(self, trainer: Any, previous: int) -> None:
            if trainer.images_seen == 6:
                trainer.request_stop()

    with monkeypatch.context() as patched:
        patched.setattr(example, "ProgressBar", Stop)
        stopped = run(out, *options, *pair)
    assert "goes on from here" in stopped.out
    ended = run(out, *options, *pair)
    assert ended.code == 0, ended.err
    assert "12 images in" in ended.out
    assert "in one pass of" in ended.out
    assert pixels(out / "results" / "photo.png").shape == (24, 40, 3)
    assert (out / "network.safetensors").is_file()
    other = ["--content", picture(tmp_path / "other.png", 48, 32, seed=9), *pair[2:]]
    again = run(out, *options, *other)
    assert again.code == 0, again.err
    assert pixels(out / "results" / "other.png").shape == (32, 48, 3)


def test_a_trial_runs_without_any_file(tmp_path: Path) -> None:
    outcome = run(tmp_path / "run", "--smoke", "--no-comparison")
    assert outcome.code == 0, outcome.err
    assert "The features are random" in outcome.out.replace("the", "The")
    assert (tmp_path / "run" / "results" / "drawn.png").is_file()


def test_weights_of_vgg_change_what_is_seen_and_wrong_ones_are_refused(tmp_path: Path, pair: list[object]) -> None:
    generator, state, place, before = torch.Generator().manual_seed(1), {}, 0, 3
    for count, width in zip(COUNTS, WIDTHS, strict=True):
        for _ in range(count):
            scale = (2 / (9 * before)) ** 0.5
            state[f"features.{place}.weight"] = scale * torch.randn(width, before, 3, 3, generator=generator)
            state[f"features.{place}.bias"] = torch.zeros(width)
            place, before = place + 2, width
        place += 1
    save_file(state, tmp_path / "vgg19.safetensors")
    layers = ["--content-layers", "block1_conv2", "--style-layers", "block1_conv1", "--steps", 2, "--scales", 1]
    results = []
    for name, weights in (("random", []), ("file", ["--weights", tmp_path / "vgg19.safetensors"])):
        outcome = run(tmp_path / name, *pair, *layers, "--no-comparison", *weights)
        assert outcome.code == 0, outcome.err
        results.append(pixels(tmp_path / name / "results" / "photo.png"))
    assert (results[0] != results[1]).any()
    state["features.0.weight"] = state["features.0.weight"][:10]
    save_file(state, tmp_path / "wrong.safetensors")
    outcome = run(tmp_path / "wrong", *pair, *layers, "--weights", tmp_path / "wrong.safetensors")
    assert (outcome.code, "not those of torchvision's vgg19" in outcome.err) == (2, True)


def test_bad_pictures_are_named_with_the_reason(tmp_path: Path, pair: list[object]) -> None:
    good = pair[1]
    picture(tmp_path / "dot.png", 1, 1)
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(Path(str(good)).read_bytes()[:60])
    picture(tmp_path / "strip.png", 400, 8)
    for name, reason in (
        ("missing.png", "missing.png"),
        ("dot.png", "at least"),
        ("text.png", "text.png"),
        ("cut.png", "cut.png"),
        ("strip.png", "at least"),
    ):
        for option, other in (("--content", "--style"), ("--style", "--content")):
            outcome = run(tmp_path / "run", option, tmp_path / name, other, good, "--steps", 1)
            assert outcome.code == 2, name
            assert reason in outcome.err, outcome.err
    mask = picture(tmp_path / "mask.png", 10, 10)
    outcome = run(
        tmp_path / "run", *pair, "--mask", mask, "--steps", 1, "--scales", 1, "--content-layers", "block1_conv1"
    )
    assert (outcome.code, "of one size" in outcome.err) == (2, True), outcome.err
    assert not (tmp_path / "run" / "results").exists()


def test_odd_pictures_are_painted(tmp_path: Path) -> None:
    grey = Image.fromarray(np.arange(0, 250, 10, dtype=np.uint8).repeat(30).reshape(25, 30))
    grey.save(tmp_path / "grey.png")
    alpha = Image.new("RGBA", (32, 20), (200, 30, 60, 100))
    alpha.save(tmp_path / "alpha.png")
    outcome = run(
        tmp_path / "run", "--content", tmp_path / "grey.png", "--style", tmp_path / "alpha.png", "--smoke",
        "--no-comparison", "--scales", 1,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert pixels(tmp_path / "run" / "results" / "grey.png").shape == (25, 30, 3)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "--content is missing"),
        (["--smoke", "--side", "8"], "--side is 8"),
        (["--smoke", "--strength", "2"], "--strength is 2"),
        (["--smoke", "--tile", "3"], "--tile is 3"),
        (["--content", "a.png", "--style", "b.png", "--extractor", "painting"], "needs --weights"),
        (["--smoke", "--device", "nowhere"], "--device is nowhere"),
    ],
)
def test_bad_options_are_refused(tmp_path: Path, arguments: list[str], reason: str) -> None:
    outcome = run(tmp_path / "run", *arguments)
    assert (outcome.code, reason in outcome.err) == (2, True), outcome.err


def test_training_without_pictures_says_what_is_missing(tmp_path: Path, pair: list[object], painters: Path) -> None:
    outcome = run(
        tmp_path / "run", *pair, "--method", "adain", "--extractor", "painting", "--weights", painters, "--images", 2
    )
    assert (outcome.code, "--data is missing" in outcome.err) == (2, True)
