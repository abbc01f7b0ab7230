"""The example of stacked autoencoders: every form runs, leaves what it promises, goes on, refuses what is wrong."""

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

from ganblocks.models.stacked import StackedClassifier, StackedClassifierConfig
from ganblocks.training import Callback, Trainer, evaluate_classifier

SMALL = ["--device", "cpu", "--widths", "12", "8", "--pretrain-epochs", "2", "--epochs", "12", "--batch-size", "8"]

example = load("examples/stacked_autoencoder_mnist.py")


def run(out: Path, *arguments: object, **environment: str) -> Outcome:
    """Call the example as its command line would, with a tiny network."""
    return call(example, *SMALL, "--out", out, *arguments, environment=environment)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains without pictures, which cost more than tiny networks do."""
    for name in ("Summary", "Report", "Figures"):
        monkeypatch.setattr(example, name, plain_callback)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """IDX files of 6x6 images, class k the brighter the larger k is."""
    folder = tmp_path_factory.mktemp("data") / "mnist"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 48), ("t10k", 12)):
        labels = (np.arange(count) % 3).astype(np.uint8)
        pixels = (rng.integers(0, 60, (count, 6, 6)) + 60 * labels[:, None, None]).astype(np.uint8)
        for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            (folder / f"{prefix}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "classifier" / "classifier.safetensors")


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_whole_run_leaves_what_it_promises(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "run"
    outcome = run(out, "--data", data, "--unrolled-epochs", 1, "--tied", "--verbose")
    assert (outcome.code, outcome.err, outcome.warnings) == (0, "", [])
    assert "48 images, 48 labels to train on, 12 images to measure on" in outcome.out
    assert names(out) == {"autoencoder-1", "autoencoder-2", "unrolled", "classifier", "results.json"}
    folder = out / "classifier"
    assert {"classifier.safetensors", "report.html", "curves.png", "figures"} <= names(folder)
    assert names(folder / "figures") == {"samples.png", "answers.png", "confusion.png", "confusion_percent.png"}
    for path in (folder / "figures").iterdir():
        with Image.open(path) as image:
            image.load()
    (result,) = json.loads((out / "results.json").read_text())["results"]
    with safe_open(folder / "classifier.safetensors", framework="pt") as file:
        about = file.metadata()
    assert about["model"] == "stacked"
    classifier = StackedClassifier(StackedClassifierConfig.from_json(about["config"]))
    classifier.load_state_dict(weights(out))
    images = example.read_data(example.parse([*SMALL, "--data", str(data)]))
    measured = evaluate_classifier(classifier, images.test_images, images.test_labels)
    assert measured["val_accuracy"] == result["val_accuracy"] == json.loads(about["val_accuracy"])
    assert result["val_accuracy"] > 0.6
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert len([record for record in log if "val_accuracy" in record]) == 12  # one an epoch


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("arguments", "stages"),
    [
        (("--stacking", "latent_reuse"), {"autoencoder-1"}),
        (("--document",), {"autoencoder-1"}),
        (("--stacking", "none"), set()),
        (("--freeze", "--loss", "bernoulli", "--masking", "0.1"), {"autoencoder-1", "autoencoder-2"}),
    ],
)
def test_the_other_forms(arguments: tuple[str, ...], stages: set[str], tmp_path: Path, data: Path) -> None:
    outcome = run(tmp_path / "run", "--data", data, *arguments)
    assert (outcome.code, outcome.err, outcome.warnings) == (0, "", [])
    assert names(tmp_path / "run") == stages | {"classifier", "results.json"}


@pytest.mark.usefixtures("bare")
def test_one_run_a_seed_and_few_labels(tmp_path: Path, data: Path) -> None:
    outcome = run(
        tmp_path / "run", "--dataset", "mnist", "--labels", 12, "--seeds", 3, 4, GANBLOCKS_DATA=str(data.parent)
    )
    assert (outcome.code, outcome.err) == (0, "")
    assert "48 images, 12 labels" in outcome.out
    assert "2 seeds: test accuracy" in outcome.out
    assert names(tmp_path / "run") == {"seed-3", "seed-4", "results.json"}
    assert not equal(weights(tmp_path / "run" / "seed-3"), weights(tmp_path / "run" / "seed-4"))
    report = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [result["seed"] for result in report["results"]] == [3, 4]
    lines = (tmp_path / "run" / "seed-3" / "classifier" / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["images_seen"] == 12 * 12


class StopAt(Callback):
    """Asks for the end of a run after so many images."""

    images = 40

    def on_step(self, trainer: Trainer, previous: int) -> None:
        if previous < self.images <= trainer.images_seen:
            trainer.request_stop()


@pytest.mark.usefixtures("bare")
def test_a_run_that_is_stopped_in_every_stage_gives_the_same_file(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(tmp_path / "whole", "--data", data).code == 0
    with monkeypatch.context() as patched:
        patched.setattr(example, "ProgressBar", StopAt)
        for stages in (1, 2, 2):
            outcome = run(tmp_path / "parts", "--data", data)
            assert outcome.code == 0
            assert "stopped; the same command goes on" in outcome.out
            assert len(names(tmp_path / "parts") - {"classifier"}) == stages
    assert not (tmp_path / "parts" / "results.json").exists()
    assert run(tmp_path / "parts", "--data", data).code == 0
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    again = run(tmp_path / "parts", "--data", data)  # only says so
    assert again.code == 0
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


@pytest.mark.usefixtures("bare")
def test_other_settings_are_refused_unless_it_is_to_start_anew(tmp_path: Path, data: Path) -> None:
    short = ("--data", data, "--stacking", "none", "--epochs", 1)
    assert run(tmp_path / "run", *short).code == 0
    outcome = run(tmp_path / "run", *short, "--learning-rate", 0.5)
    assert outcome.code == 2
    assert "RunMismatchError" in outcome.err
    assert run(tmp_path / "run", *short, "--learning-rate", 0.5, "--fresh").code == 0
    assert (tmp_path / "run-2").is_dir()


@pytest.mark.usefixtures("bare")
def test_the_digits_of_scikit_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    outcome = run(tmp_path / "run", "--pretrain-epochs", 1, "--epochs", 1, "--batch-size", 64)
    assert (outcome.code, outcome.err) == (0, "")
    assert "1,797 digits (8 px) of scikit-learn" in outcome.out
    assert "1,438 images, 1,438 labels to train on, 359 images to measure on" in outcome.out
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    outcome = run(tmp_path / "none")
    assert outcome.code == 2
    assert 'pip install "ganblocks[metrics]"' in outcome.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--epochs", "0"), "--epochs is 0"),
        (("--widths", "4", "0"), "--widths is 0"),
        (("--labels", "0"), "--labels is 0"),
        (("--seeds", "1", "1"), r"--seeds are \[1, 1\]"),
        (("--device", "abacus"), "--device is abacus"),
        (("--dataset", "fashion_mnist"), "neither --data nor GANBLOCKS_DATA"),
        (("--masking", "1"), "ValueError: `masking`"),
        (("--stacking", "latent_reuse", "--unrolled-epochs", "1"), "ValueError: `unrolled_epochs`"),
        (("--stacking", "latent_reuse", "--widths", "4"), "ValueError: `widths`"),
        (("--data", "nowhere"), "DataError: .* does not exist"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_and_nothing_is_begun(
    arguments: tuple[str, ...], words: str, tmp_path: Path, data: Path
) -> None:
    given = () if {"--data", "--dataset"} & set(arguments) else ("--data", data)
    outcome = run(tmp_path / "run", *given, *arguments)
    assert outcome.code == 2
    line = outcome.err.strip().splitlines()[-1]
    assert re.search(words, line), line
    assert not (tmp_path / "run").exists()
