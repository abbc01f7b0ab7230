"""The example of the classifier: it learns, leaves a file that loads, goes on after a stop, refuses what is wrong."""

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
from ganblocks.models.registry import load_classifier
from ganblocks.training import evaluate_classifier

SMALL = ["--device", "cpu", "--threads", "1", "--channels", "4", "8", "--feature-dim", "16"]

example = load("examples/classifier_mnist.py")


def run(out: Path, *arguments: object, **environment: str) -> Outcome:
    """Call the example as its command line would, with a tiny network."""
    return call(example, *SMALL, "--out", out, *arguments, environment=environment)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains without pictures and events, which cost more than tiny networks do."""
    for name in ("TensorBoard", "Summary", "Report"):
        monkeypatch.setattr(example, name, plain_callback)


def records(run_dir: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]


def metadata(run_dir: Path) -> dict[str, str]:
    with safe_open(run_dir / "classifier.safetensors", framework="pt") as file:
        return file.metadata()


def final_weights(run_dir: Path) -> dict[str, Tensor]:
    return load_file(run_dir / "classifier.safetensors")


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def write_idx(folder: Path, train: int = 40, test: int = 12, classes: int = 3) -> Path:
    """IDX files of 9x9 images, class k the brighter the larger k is."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for prefix, count in (("train", train), ("t10k", test)):
        labels = (np.arange(count) % classes).astype(np.uint8)
        pixels = (rng.integers(0, 60, (count, 9, 9)) + 60 * labels[:, None, None]).astype(np.uint8)
        for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            (folder / f"{prefix}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))
    return folder


def write_folder(folder: Path, *names: str) -> Path:
    for value, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for index in range(6):
            Image.new("RGB", (10, 10), (80 * value, 5 * index, 0)).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A whole run on the built-in digits, of three epochs."""
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    out = tmp_path_factory.mktemp("runs") / "digits"
    return out, run(out, "--epochs", 3, "--learning-rate", 0.01)


class TestDigits:
    def test_it_finishes_without_a_warning_and_has_learnt(self, digits: tuple[Path, Outcome]) -> None:
        out, outcome = digits
        assert (outcome.code, outcome.err, outcome.warnings) == (0, "", [])
        assert "1,797 digits (8 px) of scikit-learn" in outcome.out
        assert "1,438 images to train on, 359 to measure on" in outcome.out
        assert "finished" in outcome.out
        measured = [record["val_accuracy"] for record in records(out) if "val_accuracy" in record]
        assert len(measured) == 3  # one an epoch
        assert measured[-1] > 0.8  # type: ignore[operator]

    def test_it_leaves_what_it_promises(self, digits: tuple[Path, Outcome]) -> None:
        out, _ = digits
        promised = {"classifier.safetensors", "curves.png", "report.html", "log.jsonl", "tensorboard"}
        assert {path.name for path in out.iterdir()} == promised | {"checkpoints", "config.json", ".lock"}
        with Image.open(out / "curves.png") as image:
            image.load()
        assert "val accuracy" in (out / "report.html").read_text().replace("_", " ")

    def test_the_keys_of_the_log(self, digits: tuple[Path, Outcome]) -> None:
        lines = [record for record in records(digits[0]) if "event" not in record]
        assert {"loss", "accuracy", "learning_rate"} <= lines[0].keys()
        assert {"val_loss", "val_accuracy"} <= lines[-1].keys()

    def test_the_table_has_intervals_and_agrees_with_the_log_and_the_file(self, digits: tuple[Path, Outcome]) -> None:
        out, outcome = digits
        last = next(line for line in outcome.out.splitlines() if line.startswith("accuracy"))
        _, accuracy, low, to, high, count = last.split()
        assert (to, count) == ("to", "359")
        assert float(low) < float(accuracy) < float(high)
        about = metadata(out)
        assert float(accuracy) == round(json.loads(about["val_accuracy"]), 3)
        logged = [record["val_accuracy"] for record in records(out) if "val_accuracy" in record]
        assert json.loads(about["val_accuracy"]) == logged[-1]

    def test_the_file_gives_the_classifier_back(
        self, digits: tuple[Path, Outcome], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("GANBLOCKS_DATA", raising=False)
        out, _ = digits
        classifier = load_classifier(out)
        assert (classifier.config.resolution, classifier.config.num_classes) == (8, 10)
        assert classifier.config.to_dict() == json.loads((out / "config.json").read_text())["config"]
        data = example.read_data(example.parse([*SMALL, "--out", str(out)]))
        result = evaluate_classifier(classifier, data.test_images, data.test_labels)
        about = metadata(out)
        assert result["val_accuracy"] == json.loads(about["val_accuracy"])
        assert json.loads(about["classes"]) == list("0123456789")
        assert (about["model"], about["val_images"]) == ("classifier", "359")

    def test_the_finished_run_only_says_so_again(self, digits: tuple[Path, Outcome]) -> None:
        out, first = digits
        before = final_weights(out)
        again = run(out, "--epochs", 3, "--learning-rate", 0.01)
        assert (again.code, again.err) == (0, "")
        assert again.out.splitlines()[-1] == first.out.splitlines()[-1]
        assert equal(final_weights(out), before)


IDX = ("--epochs", 6, "--batch-size", 8)


@pytest.mark.usefixtures("bare")
class TestData:
    def test_idx_files_are_measured_on_their_test_part(self, tmp_path: Path) -> None:
        data = write_idx(tmp_path / "fashion_set")
        outcome = run(tmp_path / "run", "--data", data, *IDX)
        assert (outcome.code, outcome.err) == (0, "")
        assert "40 images to train on, 12 to measure on" in outcome.out
        assert json.loads(metadata(tmp_path / "run")["config"])["resolution"] == 9
        assert json.loads(metadata(tmp_path / "run")["classes"]) == list(FASHION_MNIST_CLASSES)
        settings = json.loads((tmp_path / "run" / "config.json").read_text())
        assert len(settings["data"]) == 2

    def test_images_can_be_held_out_of_the_training_part(self, tmp_path: Path) -> None:
        data = write_idx(tmp_path / "set")
        names = ("--class-names", "dark", "grey", "light")
        outcome = run(tmp_path / "run", "--data", data, "--held-out", 10, *names, *IDX)
        assert outcome.code == 0, outcome.err
        assert "30 images to train on, 10 to measure on" in outcome.out
        assert json.loads(metadata(tmp_path / "run")["classes"]) == ["dark", "grey", "light"]

    def test_a_folder_for_each_class(self, tmp_path: Path) -> None:
        data = write_folder(tmp_path / "pictures", "cats", "dogs")
        outcome = run(tmp_path / "run", "--data", data, "--resolution", 8, "--epochs", 2, "--batch-size", 5)
        assert (outcome.code, outcome.err) == (0, "")
        assert "10 images to train on, 2 to measure on" in outcome.out
        assert load_classifier(tmp_path / "run").config.image_channels == 3
        assert json.loads(metadata(tmp_path / "run")["classes"]) == ["cats", "dogs"]

    def test_the_variable_names_a_root(self, tmp_path: Path) -> None:
        write_idx(tmp_path / "data" / "mnist")
        outcome = run(tmp_path / "run", "--dry-run", GANBLOCKS_DATA=str(tmp_path / "data"))
        assert outcome.code == 0, outcome.err
        assert "40 images to train on" in outcome.out
        assert "Nothing was trained" in outcome.out
        assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("bare")
class TestStop:
    def test_a_run_in_two_parts_gives_the_same_file(self, tmp_path: Path) -> None:
        data = write_idx(tmp_path / "set")
        assert run(tmp_path / "whole", "--data", data, *IDX).code == 0
        stopped = run(tmp_path / "parts", "--data", data, *IDX, "--total-images", 104)
        assert stopped.code == 0
        assert "104 images in" in stopped.out
        before = final_weights(tmp_path / "parts")
        assert run(tmp_path / "parts", "--data", data, *IDX).code == 0
        assert not equal(before, final_weights(tmp_path / "parts"))
        assert equal(final_weights(tmp_path / "whole"), final_weights(tmp_path / "parts"))

    def test_other_settings_need_another_directory(self, tmp_path: Path) -> None:
        data = write_idx(tmp_path / "set")
        assert run(tmp_path / "run", "--data", data, *IDX).code == 0
        outcome = run(tmp_path / "run", "--data", data, *IDX, "--feature-dim", 8)
        assert outcome.code == 2
        assert "RunMismatchError" in outcome.err
        assert "config" in outcome.err
        outcome = run(tmp_path / "run", "--data", data, *IDX, "--feature-dim", 8, "--fresh")
        assert outcome.code == 0
        assert load_classifier(tmp_path / "run-2").config.feature_dim == 8


def nothing(folder: Path) -> None:
    pass


def without_labels(folder: Path) -> None:
    for path in write_idx(folder).glob("*labels*"):
        path.unlink()


def one_folder(folder: Path) -> None:
    write_folder(folder, "all")


def torn(folder: Path) -> None:
    path = write_idx(folder) / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:100])


def one_class_too_many(folder: Path) -> None:
    write_idx(folder, classes=4)


@pytest.mark.parametrize(
    ("prepare", "arguments", "words"),
    [
        (nothing, (), "DataError: .* does not exist"),
        (without_labels, (), "DataError: .* has no labels"),
        (one_folder, (), "DataError: .* has no labels"),
        (torn, (), "DataError: .*train-images-idx3-ubyte.gz"),
        (one_class_too_many, ("--class-names", "a", "b", "c"), "ValueError: `classes`"),
        (write_idx, ("--held-out", "40"), "ValueError: `held_out`"),
        (write_idx, ("--resolution", "3"), "ValueError: `resolution`"),
        (write_idx, ("--epochs", "0"), "--epochs is 0"),
        (write_idx, ("--channels", "4", "0"), "--channels is 0"),
        (write_idx, ("--device", "abacus"), "--device is abacus"),
        (one_folder, ("--class-names", "a"), "--class-names is given"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_and_nothing_is_begun(
    prepare: object, arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    prepare(tmp_path / "data")  # type: ignore[operator]
    outcome = run(tmp_path / "run", "--data", tmp_path / "data", *arguments)
    assert outcome.code == 2
    line = outcome.err.strip().splitlines()[-1]
    assert re.search(words, line), line
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("bare")
def test_without_scikit_learn_the_accuracy_is_there_and_the_digits_name_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sklearn", "sklearn.metrics", "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    outcome = run(tmp_path / "none")
    assert outcome.code == 2
    assert 'pip install "ganblocks[metrics]"' in outcome.err
    outcome = run(tmp_path / "run", "--data", write_idx(tmp_path / "set"), *IDX)
    assert outcome.code == 0, outcome.err
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("accuracy")]
    assert "of 12 images" in line
    assert "ganblocks[metrics]" in line
    assert load_classifier(tmp_path / "run").config.num_classes == 3
