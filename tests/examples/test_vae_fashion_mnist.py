"""The example of the variational autoencoder: it learns, draws, goes on after a stop, and refuses what is wrong."""

import gzip
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from example_runs import Outcome, call, load, plain_callback
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from ganblocks.data import FASHION_MNIST_CLASSES
from ganblocks.models.vae import VAE
from ganblocks.models.vae_config import VAEConfig
from ganblocks.training.vae_step import evaluate_vae

SMALL = ["--device", "cpu", "--threads", "1"]

example = load("examples/vae_fashion_mnist.py")


def run(out: Path, *arguments: object) -> Outcome:
    return call(example, *SMALL, "--out", out, *arguments)


@pytest.fixture(autouse=True)
def without_data_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests know the digits and what they write themselves, whatever lies on this machine."""
    monkeypatch.delenv("GANBLOCKS_DATA", raising=False)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains without pictures and events, which cost more than tiny networks do."""
    for name in ("TensorBoard", "Summary", "Report", "Figures"):
        monkeypatch.setattr(example, name, plain_callback)
    monkeypatch.setattr(example, "pca_scatter", plain_callback)


def metadata(run_dir: Path) -> dict[str, str]:
    with safe_open(run_dir / "vae.safetensors", framework="pt") as file:
        return file.metadata()


def final_weights(run_dir: Path) -> dict[str, Tensor]:
    return load_file(run_dir / "vae.safetensors")


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def write_idx(folder: Path, train: int = 40, test: int = 12) -> Path:
    """IDX files of 8x8 images, class k the brighter the larger k is."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for prefix, count in (("train", train), ("t10k", test)):
        labels = (np.arange(count) % 3).astype(np.uint8)
        pixels = (rng.integers(0, 60, (count, 8, 8)) + 60 * labels[:, None, None]).astype(np.uint8)
        for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            (folder / f"{prefix}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A whole run on the built-in digits, of ten epochs."""
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    out = tmp_path_factory.mktemp("runs") / "digits"
    return out, run(out, "--epochs", 10)


class TestDigits:
    def test_it_finishes_without_a_warning_and_the_bound_has_improved(self, digits: tuple[Path, Outcome]) -> None:
        out, outcome = digits
        assert (outcome.code, outcome.err, outcome.warnings) == (0, "", [])
        assert "1,438 images to train on, 359 to measure on" in outcome.out
        log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        losses = [record["val_loss"] for record in log if "val_loss" in record]
        assert len(losses) == 10
        untrained = evaluate_vae(VAE(VAEConfig(resolution=8)), example.read_data(example.parse([])).test_images)
        assert losses[-1] < losses[0] < untrained["val_loss"]
        assert {"loss", "reconstruction", "kl"} <= set().union(*log)

    def test_codes_tell_classes_apart_better_than_principal_components(self, digits: tuple[Path, Outcome]) -> None:
        scores = json.loads(metadata(digits[0])["scores"])
        assert scores["vae_neighbor_accuracy"] > 0.3
        assert 0.5 < scores["principal_components_neighbor_accuracy"] < 0.7
        assert f"{scores['vae_neighbor_accuracy']:.4f}" in digits[1].out

    def test_it_leaves_what_it_promises(self, digits: tuple[Path, Outcome]) -> None:
        out, _ = digits
        promised = {"vae.safetensors", "curves.png", "report.html", "log.jsonl", "tensorboard", "figures"}
        assert {path.name for path in out.iterdir()} == promised | {"checkpoints", "config.json", ".lock"}
        figures = {"codes_before", "codes_after", "decoder_grid", "principal_components", "samples", "reconstruction"}
        assert {path.stem for path in (out / "figures").iterdir()} == figures
        for path in (out / "figures").iterdir():
            with Image.open(path) as image:
                image.load()
        before, after = (out / "figures" / f"codes_{moment}.png" for moment in ("before", "after"))
        assert before.read_bytes() != after.read_bytes()

    def test_the_file_gives_the_network_back(self, digits: tuple[Path, Outcome]) -> None:
        out, _ = digits
        about = metadata(out)
        model = VAE(VAEConfig.from_json(about["config"]))
        model.load_state_dict(final_weights(out))
        scores = json.loads(about["scores"])
        test_images = example.read_data(example.parse([])).test_images
        assert evaluate_vae(model, test_images) == {name: scores[name] for name in evaluate_vae(model, test_images)}


IDX = ("--epochs", 6, "--batch-size", 8, "--hidden-dims", 8)


@pytest.mark.usefixtures("bare")
class TestRuns:
    def test_a_run_in_two_parts_gives_the_same_file(self, tmp_path: Path) -> None:
        data = write_idx(tmp_path / "set")
        assert run(tmp_path / "whole", "--data", data, *IDX).code == 0
        stopped = run(tmp_path / "parts", "--data", data, *IDX, "--total-images", 104)
        assert "104 images in" in stopped.out
        before = final_weights(tmp_path / "parts")
        assert run(tmp_path / "parts", "--data", data, *IDX).code == 0
        assert not equal(before, final_weights(tmp_path / "parts"))
        assert equal(final_weights(tmp_path / "whole"), final_weights(tmp_path / "parts"))

    def test_options_reach_the_network_and_the_recipe(self, tmp_path: Path) -> None:
        data = write_idx(tmp_path / "fashion_set")
        form = ("--sampling", "log_sigma", "--epsilon-std", 0.1, "--kl-weight", 0.5, "--annealing", 0.25)
        outcome = run(tmp_path / "run", "--data", data, *IDX, *form, "--channels", 3, "--likelihood", "gaussian")
        assert (outcome.code, outcome.err) == (0, "")
        settings = json.loads((tmp_path / "run" / "config.json").read_text())
        config, recipe = settings["config"], settings["recipe"]
        assert (config["sampling"], config["epsilon_std"], config["channels"]) == ("log_sigma", 0.1, [3])
        assert (config["likelihood"], config["hidden_dims"]) == ("gaussian", [8])
        assert (recipe["kl_weight"], recipe["annealing"], recipe["epochs"]) == (0.5, 0.25, 6)
        data_read = example.read_data(example.parse(["--data", str(data)]))
        assert data_read.classes == FASHION_MNIST_CLASSES
        outcome = run(tmp_path / "run", "--data", data, *IDX)
        assert outcome.code == 2
        assert "RunMismatchError" in outcome.err

    def test_without_scikit_learn_there_is_a_network_and_a_hint(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = write_idx(tmp_path / "set")
        for name in ("sklearn", "sklearn.decomposition", "sklearn.neighbors", "sklearn.datasets"):
            monkeypatch.setitem(sys.modules, name, None)
        outcome = run(tmp_path / "run", "--data", data, *IDX)
        assert outcome.code == 0, outcome.err
        assert 'pip install "ganblocks[metrics]"' in outcome.out
        assert (tmp_path / "run" / "vae.safetensors").exists()
        assert run(tmp_path / "none").code == 2


def test_codes_of_more_numbers_and_of_images_without_labels_are_drawn_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TensorBoard", "Summary", "Report"):
        monkeypatch.setattr(example, name, plain_callback)
    data = write_idx(tmp_path / "set")
    for path in data.glob("*labels*"):
        path.unlink()
    outcome = run(tmp_path / "run", "--data", data, "--epochs", 1, "--latent-dim", 3, "--hidden-dims")
    assert (outcome.code, outcome.err) == (0, "")
    names = {path.stem for path in (tmp_path / "run" / "figures").iterdir()}
    assert {"codes_before", "codes_after", "principal_components"} <= names
    assert "decoder_grid" not in names
    assert "nearest neighbours" not in outcome.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--data", "nowhere"), "DataError: .* does not exist"),
        (("--epsilon-std", "-1"), "ValueError: `epsilon_std` is -1"),
        (("--channels", "4", "4", "4", "4"), "ValueError: `resolution` is 8"),
        (("--annealing", "2"), "ValueError: `annealing` is 2"),
        (("--latent-dim", "0"), "--latent-dim is 0"),
        (("--device", "abacus"), "--device is abacus"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_and_nothing_is_begun(
    arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    outcome = run(tmp_path / "run", *arguments)
    assert outcome.code == 2
    line = outcome.err.strip().splitlines()[-1]
    assert re.search(words, line), line
    assert not (tmp_path / "run").exists()
