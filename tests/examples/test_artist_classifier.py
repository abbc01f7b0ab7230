"""The example that names painters: what it leaves, that it goes on after a stop, odd files, and what it refuses."""

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from example_runs import Outcome, call, clean_environment, load
from PIL import Image
from safetensors.torch import load_file

from ganblocks.models.backbones import PooledClassifierConfig, VGGClassifierConfig
from ganblocks.models.painting_classifier import PaintingCNN
from ganblocks.models.registry import load_classifier
from ganblocks.training import Callback, EarlyStopping, predict_logits
from ganblocks.training.painting_recipes import document_cnn, document_comparison
from ganblocks.training.precision import Precision

SMALL = ["--device", "cpu", "--threads", "1"]
TINY = ["--size", "16", "--channels", "4", "--seeds", "1", "--epochs", "1", "--batch-size", "8", "--augment", "none"]

example = load("examples/artist_classifier.py")


def run(out: Path, *arguments: object, **environment: str) -> Outcome:
    return call(example, *SMALL, "--out", out, *arguments, environment=environment)


def parsed(*arguments: str) -> Any:
    with clean_environment():
        return example.parse([*SMALL, *arguments])


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without pictures, which cost more than tiny networks do."""
    for name in ("history_figure", "confusion_matrix", "class_bars", "sample_panel", "write_report"):
        monkeypatch.setattr(example, name, lambda *_, **__: None)


COUNTS = {"Albrecht Dürer": 12, "Edgar Degas": 10, "Titian": 9, "Paul Gauguin": 3}


def write_paintings(root: Path, *, extra: str | None = None) -> Path:
    """Folders in another spelling than the table; grey, CMYK and transparent pictures, wrong and upper-case endings."""
    rng = np.random.default_rng(0)
    folders = {
        "Albrecht Dürer": "Albrecht_Durer",
        **{name: name.replace(" ", "_") for name in COUNTS if name[0] != "A"},
    }
    for number, (name, count) in enumerate(COUNTS.items()):
        folder = root / "pictures" / folders[name]
        folder.mkdir(parents=True)
        for index in range(count):
            levels = rng.integers(60 * number, 60 * number + 60, (20, 24, 3), dtype=np.uint8)
            picture = Image.fromarray(levels)
            mode, kind, ending = (("RGB", "JPEG", "jpg"), ("L", "JPEG", "JPG"), ("CMYK", "JPEG", "jpg"),
                                  ("RGBA", "PNG", "jpg"))[index % 4]  # fmt: skip
            picture.convert(mode).save(folder / f"{folder.name}_{index}.{ending}", kind)
    if extra is not None:
        (root / "pictures" / extra).mkdir()
        Image.new("RGB", (8, 8)).save(root / "pictures" / extra / "1.png")
    rows = [f'{name},1400-1500,"Baroque,Cubism",Dutch,{count}' for name, count in COUNTS.items()]
    text = "\n".join(["name,years,genre,nationality,paintings", *rows, "Frida Kahlo,1907-1954,Surrealism,Mexican,5"])
    (root / "artists.csv").write_text(text + "\n", encoding="utf-8")
    return root / "pictures"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    out = tmp_path_factory.mktemp("artists")
    return out, run(out, "--smoke")


def test_a_trial_leaves_everything_that_is_promised(finished: tuple[Path, Outcome]) -> None:
    out, outcome = finished
    assert outcome.code == 0, outcome.err
    assert {path.name for path in (out / "figures").iterdir()} == {
        "confusion_counts.png", "confusion_percent.png", "curves.png", "misclassified.png", "samples.png",
        "test_picture.png",
    }  # fmt: skip
    assert (out / "report.html").stat().st_size > 10_000
    assert "PaintingCNN" in (out / "classifier.txt").read_text()
    assert (out / "results.md").read_text() in outcome.out
    assert (out / "report.txt").read_text() in outcome.out
    assert "Always naming the painter with most pictures" in outcome.out
    assert not (out / "seed-0" / "checkpoints").exists()


def test_numbers_are_those_of_the_answers_over_both_seeds(finished: tuple[Path, Outcome]) -> None:
    out, _ = finished
    results = read(out / "results.json")
    data = example.open_data(parsed("--smoke"))
    accuracies = []
    for seed in range(2):
        logits = load_file(out / f"seed-{seed}" / "answers.safetensors")["logits"]
        accuracies.append(float((logits.argmax(1) == data.test.labels).double().mean()))
        assert results["seeds"][seed]["accuracy"] == accuracies[-1]
    assert results["accuracy_mean"] == np.mean(accuracies)
    assert results["accuracy_deviation"] == pytest.approx(np.std(accuracies, ddof=1))
    assert results["images"] == {"training": 100, "validation": 25, "test": 31}
    first = load_file(out / "seed-0" / "answers.safetensors")["logits"]
    second = load_file(out / "seed-1" / "answers.safetensors")["logits"]
    assert not torch.equal(first, second)


def test_the_classifier_comes_back_and_gives_the_answers(finished: tuple[Path, Outcome]) -> None:
    out, _ = finished
    classifier = load_classifier(out)
    assert type(classifier) is PaintingCNN
    precision = Precision.resolve("auto", "cpu")  # as the run had it
    logits = predict_logits(classifier, example.open_data(parsed("--smoke")).test.images, precision=precision)
    assert torch.equal(logits, load_file(out / "seed-0" / "answers.safetensors")["logits"])


def test_the_same_command_reads_what_is_there(finished: tuple[Path, Outcome], bare: None) -> None:
    out, _ = finished
    before = {path: path.stat().st_mtime_ns for path in out.glob("seed-*/*")}
    assert run(out, "--smoke").code == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("seed-*/*")} == before
    other = run(out, "--smoke", "--learning-rate", "0.5")
    assert other.code == 2
    assert "RunMismatchError" in other.err


def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path: Path, bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [*TINY, "--epochs", "3", "--artists", "3", "--augment", "light", "--preset", "document"]
    assert run(tmp_path / "a", *arguments).code == 0

    class Stops(example.Clock):  # type: ignore[name-defined, misc]
        def on_step(self, trainer: Any, previous: int) -> None:
            if trainer.steps == 20:
                trainer.request_stop()

    with monkeypatch.context() as patch:
        patch.setattr(example, "Clock", Stops)
        stopped = run(tmp_path / "b", *arguments)
    assert stopped.code == 130
    assert "goes on from here" in stopped.out
    assert run(tmp_path / "b", *arguments).code == 0
    a, b = (load_file(tmp_path / name / "classifier.safetensors") for name in "ab")
    assert all(torch.equal(a[key], b[key]) for key in a)
    histories = [read(tmp_path / name / "results.json")["seeds"][0]["history"] for name in "ab"]
    assert histories[0] == histories[1]


def test_odd_files_and_spellings_are_painters_of_the_table(tmp_path: Path, bare: None) -> None:
    data = write_paintings(tmp_path)
    outcome = run(tmp_path / "out", "--data", data, *TINY, "--artists", "3")
    assert outcome.code == 0, outcome.err
    results = read(tmp_path / "out" / "results.json")
    assert results["classes"] == ["Albrecht Dürer", "Edgar Degas", "Titian"]
    assert sum(results["images"].values()) == 31
    everyone = run(tmp_path / "all", "--data", data, *TINY, "--artists", "all", "--shares", "0.5", "0.5")
    assert everyone.code == 0, everyone.err
    results = read(tmp_path / "all" / "results.json")
    assert len(results["classes"]) == 4
    assert results["images"] == {"training": 17, "validation": 0, "test": 17}
    assert results["majority"] == pytest.approx(6 / 17)


def test_a_painter_without_a_row_and_a_table_that_is_none_are_told(tmp_path: Path, bare: None) -> None:
    data = write_paintings(tmp_path, extra="Nobody_Known")
    outcome = run(tmp_path / "out", "--data", data, *TINY)
    assert outcome.code == 2
    assert "DataError" in outcome.err
    assert "Nobody_Known" in outcome.err
    (tmp_path / "artists.csv").write_text("name\nTitian\n")
    outcome = run(tmp_path / "out", "--data", data, *TINY)
    assert outcome.code == 2
    assert "lacks the columns" in outcome.err
    (tmp_path / "artists.csv").unlink()
    outcome = run(tmp_path / "out", "--data", data, *TINY, "--artists", "9")
    assert outcome.code == 2
    assert "No --table" in outcome.out
    assert "`k` is 9" in outcome.err


def test_a_damaged_picture_is_an_error_or_left_out(tmp_path: Path, bare: None) -> None:
    data = write_paintings(tmp_path)
    (data / "Titian" / "Titian_0.jpg").write_bytes(b"\xff\xd8\xff nothing")
    outcome = run(tmp_path / "a", "--data", data, *TINY, "--artists", "3")
    assert outcome.code == 2
    assert "Titian_0.jpg" in outcome.err
    with pytest.warns(UserWarning, match="Titian_0"):
        images = example.open_data(parsed("--data", str(data), *TINY, "--artists", "3", "--on-error", "skip"))
    assert sum(len(part) for part in (images.training, images.validation, images.test)) == 30


@pytest.mark.parametrize("balance", ["weights", "sampling"])
def test_rare_painters_can_count_as_much(tmp_path: Path, bare: None, balance: str) -> None:
    arguments = [*TINY, "--artists", "2", "--balance", balance, "--shares", "0.5", "0.5"]
    with mock.patch.object(example, "library", wraps=example.library):
        assert run(tmp_path, *arguments).code == 0
    lines = [json.loads(line) for line in (tmp_path / "seed-0" / "log.jsonl").read_text().splitlines()]
    images = 60 if balance == "sampling" else 56  # 30 + 30 of the two painters, or 30 + 26
    assert math.ceil(images / 8) * 8 == lines[-1]["images_seen"]


def test_a_run_begins_where_another_ended_at_another_size(tmp_path: Path, bare: None) -> None:
    assert run(tmp_path / "a", *TINY, "--artists", "2").code == 0
    arguments = [*TINY, "--artists", "2", "--start", tmp_path / "a", "--size", "24", "--learning-rate", "1e-30"]
    assert run(tmp_path / "b", *arguments, "--weight-decay", "0").code == 0
    a, b = (load_file(tmp_path / name / "classifier.safetensors") for name in "ab")
    assert torch.equal(a["head.weight"], b["head.weight"])
    other = run(tmp_path / "c", *arguments, "--channels", "5")
    assert other.code == 2
    assert "is of another network" in other.err
    for changed in (["--seed", "1"], ["--shares", "0.5", "0.5"]):
        leaking = run(tmp_path / "d", *arguments, *changed)
        assert leaking.code == 2
        assert "may know some of the test" in leaking.err


def test_presets_are_those_of_the_sources() -> None:
    options = parsed("--preset", "document")
    assert (options.size, options.augment, options.test_with) == (300, "keras", "last")
    assert example.make_recipe(options) == document_cnn()
    with torch.device("meta"):
        document = PaintingCNN(example.make_config(options, 49, 3))
    assert sum(p.numel() for p in document.parameters()) == 11_244_881
    for model, size in (("simple", 100), ("cnn", 100), ("vgg16", 100), ("densenet121", 100), ("nasnet", 224)):
        options = parsed("--preset", "document", "--model", model)
        assert (options.size, options.augment, options.test_with) == (size, "document", "best")
        assert example.make_recipe(options) == document_comparison()
    totals = {"simple": 3_000_605, "cnn": 47_207_237, "densenet121": 6_958_981}
    totals |= {"vgg16": 50_394_949, "vgg19": 55_704_645}
    for model, total in totals.items():
        config = example.make_config(parsed("--preset", "document", "--model", model), 5, 3)
        with torch.device("meta"):
            assert sum(p.numel() for p in example.make_classifier(config, None, None).parameters()) == total
    options = parsed()
    config = example.make_config(options, 10, 3)
    assert (options.size, options.augment, config.norm, config.pooling) == (64, "light", True, "average")
    fixed = example.make_recipe(parsed("--preset", "document", "--model", "simple", "--updates", "7"))
    assert (fixed.early_stopping, fixed.plateau) == (None, None)


def test_a_backbone_is_frozen_by_a_stage_or_the_documents_number(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        model = example.make_classifier(PooledClassifierConfig(), None, "features.denseblock2")
        assert model.frozen_through == "features.denseblock2"
        assert example.make_classifier(VGGClassifierConfig(), None, "features.4").frozen_through == "features.4"
    stub = SimpleNamespace(freeze_through=lambda stage: stage)
    monkeypatch.setattr(example, "PooledClassifier", lambda *_: stub)
    assert example.make_classifier(PooledClassifierConfig("inception_resnet_v2"), None, "700") == "repeat_2.4"
    assert example.make_classifier(PooledClassifierConfig("nasnetalarge"), None, "700") == "700"


def test_the_reason_of_the_end_is_told() -> None:
    stop = EarlyStopping("val_loss", patience=5)
    trainer: Any = SimpleNamespace(images_seen=1100, steps=44, schedule=SimpleNamespace(total_images=10_000))
    assert example.how_it_ended(trainer, [stop], 100)["stopped_early"] is False
    stop.stopped_at, stop.best_at = 1100, 600
    end = example.how_it_ended(trainer, [Callback(), stop], 100)
    assert end["stopped"] == (
        "stopped early after 11 of at most 100 epochs, as val_loss had not fallen for 5 since epoch 6"
    )
    assert (end["epochs"], end["best_epoch"]) == (11, 6)


def test_the_zip_that_fits_the_size_is_taken(tmp_path: Path) -> None:
    assert example.archive(tmp_path, 64) == tmp_path
    names = ["images_256px.zip", "images_64px.zip"]
    for name in names:
        (tmp_path / name).touch()
    taken = {size: example.archive(tmp_path, size).name for size in (32, 64, 100, 300)}
    assert taken == {32: names[1], 64: names[1], 100: names[0], 300: names[0]}
    for name in names:
        (tmp_path / name).rename(tmp_path / name.replace("px", ""))
    with pytest.raises(example.DataError, match="name one of them as --data"):
        example.archive(tmp_path, 64)


def test_measures_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    labels = torch.tensor([0, 1, 1])
    with mock.patch.object(example, "predict_logits", return_value=logits):
        found = example.measures(torch.nn.Identity(), example.Part(torch.zeros(3), labels), None)
    p = np.exp(logits.double().numpy())
    p /= p.sum(1, keepdims=True)
    assert found["val_accuracy"] == pytest.approx(2 / 3)
    assert found["val_loss"] == pytest.approx(-np.log([p[0, 0], p[1, 1], p[2, 1]]).mean())
    assert found["val_mse"] == pytest.approx(((np.eye(2)[[0, 1, 1]] - p) ** 2).mean())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--artists", "1"], "--artists is 1, but must be a number from 2, or all"),
        (["--artists", "some"], "--artists is some"),
        (["--size", "0"], "--size is 0"),
        (["--freeze", "x"], "--freeze is given, but painting_cnn has no backbone"),
        (["--smoke", "--data", "x"], "a trial has drawn pictures"),
        (["--shares", "1.0"], "must be two or three"),
        (["--model", "simple", "--preset", "document", "--shares", "0.8", "0.2"], "training looks at it"),
        (["--device", "abacus"], "must be cpu, cuda"),
    ],
)
def test_command_lines_that_are_refused(tmp_path: Path, arguments: list[str], words: str) -> None:
    outcome = run(tmp_path, *arguments)
    assert outcome.code == 2
    assert words in outcome.err


def test_a_missing_library_is_told_before_anything_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    outcome = run(tmp_path / "out", "--model", "nasnet", "--size", "32", "--artists", "2")
    assert outcome.code == 2
    assert "timm is needed" in outcome.err
    assert not (tmp_path / "out").exists()
