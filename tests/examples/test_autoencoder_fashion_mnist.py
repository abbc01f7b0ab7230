"""The example of the dense autoencoder: it learns, leaves what it promises, and goes on after a stop."""

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

from ganblocks.models.autoencoder import AutoencoderConfig, DenseAutoencoder
from ganblocks.training.autoencoder_step import evaluate_autoencoder
from tolerances import for_dtype

FILE = "autoencoder.safetensors"
SMALL = ("--widths", 6)

example = load("examples/autoencoder_fashion_mnist.py")


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
    return out, run(out, "--epochs", 6, "--learning-rate", 0.01)


class TestDigits:
    def test_it_finishes_without_a_warning_and_has_learnt(self, digits: tuple[Path, Outcome]) -> None:
        out, outcome = digits
        assert (outcome.code, outcome.err, outcome.warnings) == (0, "", [])
        assert "1,797 digits (8 px) of scikit-learn" in outcome.out
        assert "1,438 images to train on, 359 to measure on" in outcome.out
        assert "encoder.1 (Linear)" in outcome.out
        measured = errors(out)
        assert measured.keys() == {"autoencoder", "principal components", "mean image"}
        assert measured["principal components"] < measured["autoencoder"] < 0.6 * measured["mean image"]
        for error in measured.values():
            assert f"{error:.5f}" in outcome.out

    def test_it_leaves_what_it_promises(self, digits: tuple[Path, Outcome]) -> None:
        out, _ = digits
        for name in ("figures/reconstruction.png", FILE, "curves.png", "report.html", "log.jsonl", "config.json"):
            assert (out / name).is_file(), name
        assert (out / "checkpoints").is_dir()
        assert "reconstruction" in (out / "report.html").read_text()
        records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        assert len([record for record in records if "val_mse" in record]) == 6  # one an epoch
        with Image.open(out / "figures" / "reconstruction.png") as figure:
            assert figure.width > figure.height

    def test_the_file_of_weights_is_the_network_that_was_measured(self, digits: tuple[Path, Outcome]) -> None:
        out, _ = digits
        with safe_open(out / FILE, framework="pt") as file:
            config = AutoencoderConfig.from_json(file.metadata()["config"])
        model = DenseAutoencoder(config)
        model.load_state_dict(load_file(out / FILE))
        data = example.read_data(example.parse([]))
        measured = evaluate_autoencoder(model, data.test_images)["val_mse"]
        np.testing.assert_allclose(measured, errors(out)["autoencoder"], **for_dtype(torch.float32))


def test_principal_components_are_those_of_the_singular_vectors() -> None:
    pytest.importorskip("sklearn")
    rng = torch.Generator().manual_seed(0)
    images, test_images = (torch.randint(0, 256, (n, 1, 4, 4), generator=rng, dtype=torch.uint8) for n in (60, 20))
    training, testing = (part.flatten(1).double().numpy() / 255 for part in (images, test_images))
    _, _, directions = np.linalg.svd(training - training.mean(0))
    span = directions[:5]
    left = testing - training.mean(0)
    expected = ((left - left @ span.T @ span) ** 2).mean()
    measured = example.principal_components_mse(images, test_images, 5)
    np.testing.assert_allclose(measured, expected, **for_dtype(torch.float32))
    assert example.principal_components_mse(images, images, 99) < for_dtype(torch.float32)["atol"]  # all of them


@pytest.mark.usefixtures("bare")
def test_without_scikit_learn_the_comparison_is_left_out(tmp_path: Path) -> None:
    with mock.patch.dict("sys.modules", {"sklearn.decomposition": None}):
        outcome = run(tmp_path / "run", "--data", write_idx(tmp_path / "mnist"), "--epochs", 1, *SMALL)
    assert outcome.code == 0
    assert "needs ganblocks[metrics]" in outcome.out


@pytest.mark.usefixtures("bare")
def test_options_reach_the_network_and_the_loss(tmp_path: Path) -> None:
    options = ("--data", write_idx(tmp_path / "mnist"), "--epochs", 1, "--widths", 9, 4, "--tied")
    assert run(tmp_path / "run", *options, "--loss", "bernoulli").code == 0
    weights = load_file(tmp_path / "run" / FILE)
    shapes = {name: tuple(value.shape) for name, value in weights.items() if name.endswith("weight")}
    assert shapes == {"encoder.1.weight": (9, 64), "encoder.3.weight": (4, 9)}
    assert '"loss": "bernoulli"' in json.dumps(json.loads((tmp_path / "run" / "config.json").read_text()))


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
    for recipe, decay in (("dense", True), ("document", False)):
        assert run(tmp_path / recipe, *options, "--recipe", recipe).code == 0
        settings = json.loads((tmp_path / recipe / "config.json").read_text())
        assert f'"decay": {str(decay).lower()}' in json.dumps(settings)


@pytest.mark.usefixtures("bare")
def test_with_patience_a_run_that_stands_still_ends_and_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_idx(tmp_path / "fashion_mnist")
    original = example.evaluate_autoencoder
    standing = {"val_loss": 1.0, "val_mse": 1.0}
    monkeypatch.setattr(example, "evaluate_autoencoder", lambda *given, **options: {**original(*given), **standing})
    options = ("--data", data, "--epochs", 9, "--batch-size", 8, *SMALL, "--patience", 2)
    outcome = run(tmp_path / "run", *options)
    assert (outcome.code, outcome.err) == (0, "")
    assert "finished" in outcome.out
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert len([record for record in records if "val_mse" in record]) == 3
    assert [record["key"] for record in records if record.get("event") == "early_stopping"] == ["val_mse"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "--epochs is 0, but must be at least 1"),
        (["--widths", "3", "0"], "but must be at least 1"),
        (["--device", "abacus"], "--device is abacus"),
        (["--recipe", "secret"], "invalid choice"),
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
