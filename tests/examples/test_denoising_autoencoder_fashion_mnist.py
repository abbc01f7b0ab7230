"""The example of the denoiser: it beats the noise and principal components, and leaves what it promises."""

import gzip
import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from example_runs import Outcome, call, load, plain_callback
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from ganblocks.functional.corruption import gaussian_noise
from ganblocks.functional.image_range import intensities
from ganblocks.models.autoencoder import ConvDenoiser, ConvDenoiserConfig
from tolerances import for_dtype

FILE = "denoiser.safetensors"
SMALL = ("--channels", 3, 2)

example = load("examples/denoising_autoencoder_fashion_mnist.py")


def run(out: Path, *arguments: object, **environment: str) -> Outcome:
    return call(example, "--device", "cpu", "--threads", "1", "--out", out, *arguments, environment=environment)


@pytest.fixture(autouse=True)
def without_data_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests know the digits and what they write themselves, whatever lies on this machine."""
    monkeypatch.delenv("GANBLOCKS_DATA", raising=False)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains without pictures and events, which cost more than tiny networks do."""
    for name in ("TensorBoard", "Summary", "Report", "Reconstructions"):
        monkeypatch.setattr(example, name, plain_callback)


def errors(run_dir: Path) -> dict[str, float]:
    with safe_open(run_dir / FILE, framework="pt") as file:
        return json.loads(file.metadata()["mse"])


def equal(a: Path, b: Path) -> bool:
    first, second = (load_file(run_dir / FILE) for run_dir in (a, b))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def write_idx(folder: Path, train: int = 40, test: int = 12) -> Path:
    """IDX files of 8x8 images, each even but for a little noise; without labels, which are not needed."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for prefix, count in (("train", train), ("t10k", test)):
        levels = rng.integers(0, 200, (count, 1, 1))
        pixels = (rng.integers(0, 20, (count, 8, 8)) + levels).astype(np.uint8)
        head = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in pixels.shape)
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + pixels.tobytes()))
    return folder


def write_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for index in range(10):
        Image.new("RGB", (10, 10), (20 * index, 5 * index, 0)).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A whole run on the built-in digits."""
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    out = tmp_path_factory.mktemp("runs") / "digits"
    return out, run(out, "--epochs", 3, "--noise-level", 0.4)


class TestDigits:
    def test_it_finishes_without_a_warning_and_removes_noise(self, digits: tuple[Path, Outcome]) -> None:
        out, outcome = digits
        assert (outcome.code, outcome.err, outcome.warnings) == (0, "", [])
        assert "1,797 digits (8 px) of scikit-learn" in outcome.out
        assert "1,438 images to train on, 359 to measure on" in outcome.out
        assert "decoder.0 (ConvTranspose2d)" in outcome.out
        measured = errors(out)
        noisy, denoised, components = measured.values()
        assert denoised < 0.7 * noisy
        assert components < noisy
        for error in measured.values():
            assert f"{error:.5f}" in outcome.out

    def test_it_leaves_what_it_promises(self, digits: tuple[Path, Outcome]) -> None:
        out, _ = digits
        for name in ("figures/denoising.png", FILE, "curves.png", "report.html", "log.jsonl", "config.json"):
            assert (out / name).is_file(), name
        assert (out / "checkpoints").is_dir()
        assert "denoising" in (out / "report.html").read_text()
        records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        assert len([record for record in records if "val_mse" in record]) == 3  # one an epoch

    def test_the_file_of_weights_is_the_network_that_was_measured(self, digits: tuple[Path, Outcome]) -> None:
        out, _ = digits
        with safe_open(out / FILE, framework="pt") as file:
            config = ConvDenoiserConfig.from_json(file.metadata()["config"])
        model = ConvDenoiser(config)
        model.load_state_dict(load_file(out / FILE))
        clean = intensities(example.read_data(example.parse([])).test_images)
        noisy = gaussian_noise(clean, 0.4, generator=torch.Generator().manual_seed(7))
        with torch.no_grad():
            error = (model(noisy) - clean).square().mean().item()
        assert abs(error - errors(out)["denoised"]) < 0.1 * error  # other noise of the same level


def test_the_best_number_of_components_is_found_and_they_are_those_of_the_singular_vectors() -> None:
    """Images that vary in two directions only, under noise that hides neither."""
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(16, 2)))[0].T
    codes = rng.uniform(-1, 1, size=(400, 2)) * (200, 120)
    images = torch.from_numpy((128 + codes @ directions).clip(0, 255).astype(np.uint8)).reshape(400, 1, 4, 4)
    clean = intensities(images[:50])

    def corruption(images: torch.Tensor, /, *, generator: torch.Generator) -> torch.Tensor:
        return gaussian_noise(images, 0.1, clip=None, generator=generator)

    noisy = corruption(clean, generator=torch.Generator().manual_seed(1))
    denoised, count = example.denoised_by_components(images, corruption, noisy, seed=3)
    assert count == 2
    training = images.flatten(1).double().numpy() / 255
    span = np.linalg.svd(training - training.mean(0))[2][:2]
    expected = (noisy.flatten(1).numpy() - training.mean(0)) @ span.T @ span + training.mean(0)
    np.testing.assert_allclose(denoised.flatten(1).numpy(), expected.clip(0, 1), **for_dtype(torch.float32))


@pytest.mark.usefixtures("bare")
def test_without_scikit_learn_the_comparison_is_left_out(tmp_path: Path) -> None:
    with mock.patch.dict("sys.modules", {"sklearn.decomposition": None}):
        outcome = run(tmp_path / "run", "--data", write_idx(tmp_path / "mnist"), "--epochs", 1, *SMALL)
    assert outcome.code == 0
    assert "need scikit-learn" in outcome.out
    assert errors(tmp_path / "run").keys() == {"noisy", "denoised"}


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(("noise", "share"), [("masking", 0.5), ("salt_and_pepper", 0.2)])
def test_other_noise_has_its_own_level(tmp_path: Path, noise: str, share: float) -> None:
    options = ("--data", write_idx(tmp_path / "mnist"), "--epochs", 1, *SMALL, "--noise", noise)
    assert run(tmp_path / "run", *options, "--loss", "bernoulli").code == 0
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    assert f'"noise": "{noise}", "noise_level": {share}' in json.dumps(settings)
    assert '"loss": "bernoulli"' in json.dumps(settings)


@pytest.mark.usefixtures("bare")
def test_a_stopped_run_goes_on_and_ends_with_the_same_weights(tmp_path: Path) -> None:
    data = write_idx(tmp_path / "fashion_mnist")
    options = ("--data", data, "--epochs", 4, "--batch-size", 8, *SMALL)
    assert run(tmp_path / "whole", *options).code == 0
    stopped = run(tmp_path / "parts", *options, "--total-images", 72)
    assert "72 images" in stopped.out
    rest = run(tmp_path / "parts", *options)
    assert rest.code == 0
    assert equal(tmp_path / "whole", tmp_path / "parts")
    assert run(tmp_path / "other", *options, "--seed", 1).code == 0
    assert not equal(tmp_path / "whole", tmp_path / "other")


@pytest.mark.usefixtures("bare")
def test_the_environment_names_the_data_and_both_parts_are_used(tmp_path: Path) -> None:
    write_idx(tmp_path / "fashion_mnist")
    outcome = run(tmp_path / "run", "--epochs", 1, *SMALL, GANBLOCKS_DATA=str(tmp_path))
    assert (outcome.code, outcome.err) == (0, "")
    assert "40 images to train on, 12 to measure on" in outcome.out
    held_out = run(tmp_path / "run2", "--epochs", 1, *SMALL, "--held-out", 5, GANBLOCKS_DATA=str(tmp_path))
    assert "35 images to train on, 5 to measure on" in held_out.out


@pytest.mark.usefixtures("bare")
def test_a_folder_of_colour_images_will_do(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "images")
    outcome = run(tmp_path / "run", "--data", data, "--epochs", 1, "--resolution", 8, *SMALL)
    assert (outcome.code, outcome.err) == (0, "")
    assert "8 images to train on, 2 to measure on" in outcome.out
    assert "[N, 3, 8, 8]" in outcome.out


@pytest.mark.usefixtures("bare")
def test_a_dry_run_leaves_nothing_and_fresh_takes_another_directory(tmp_path: Path) -> None:
    options = ("--data", write_idx(tmp_path / "mnist"), "--epochs", 1, *SMALL)
    assert "Nothing was trained" in run(tmp_path / "run", *options, "--dry-run").out
    assert not (tmp_path / "run").exists()
    for _ in range(2):
        assert run(tmp_path / "run", *options, "--fresh").code == 0
    assert (tmp_path / "run-2" / FILE).is_file()


@pytest.mark.usefixtures("bare")
def test_the_documents_recipe_keeps_the_rate(tmp_path: Path) -> None:
    options = ("--data", write_idx(tmp_path / "mnist"), "--epochs", 1, *SMALL)
    for recipe, decay in (("denoising", True), ("document", False)):
        assert run(tmp_path / recipe, *options, "--recipe", recipe).code == 0
        settings = json.loads((tmp_path / recipe / "config.json").read_text())
        assert f'"decay": {str(decay).lower()}' in json.dumps(settings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "--epochs is 0, but must be at least 1"),
        (["--channels", "3", "0"], "but must be at least 1"),
        (["--device", "abacus"], "--device is abacus"),
        (["--recipe", "secret"], "invalid choice"),
        (["--noise", "masking", "--noise-level", "2"], "`noise_level` is 2.0, but must be 0 to 1"),
        (["--resolution", "9"], "`resolution` is 9, but must be a multiple of 2"),
        (["--data", "nowhere"], "nowhere"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    outcome = run(tmp_path / "run", *arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "run").exists()


def test_without_scikit_learn_the_digits_say_what_to_install(tmp_path: Path) -> None:
    with mock.patch.dict("sys.modules", {"sklearn.datasets": None}):
        outcome = run(tmp_path / "run")
    assert outcome.code == 2
    assert 'pip install "ganblocks[metrics]"' in outcome.err
