"""The example that finds similar works: its tables beside a loop, its answers, a stop on the way, what it refuses."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from example_runs import Outcome, call, clean_environment, load
from PIL import Image

from ganblocks.models.registry import load_classifier
from ganblocks.models.two_head_classifier import TwoHeadClassifier
from ganblocks.training import Callback, predict_features, predict_logits

TINY = [
    "--artists", "3", "--size", "16", "--channels", "4", "--seeds", "1", "--epochs", "1", "--batch-size", "16",
    "--augment", "none", "--autoencoder-epochs", "1", "--components", "4", "--count", "3", "--threads", "1",
    "--device", "cpu",
]  # fmt: skip

example = load("examples/similar_paintings.py")


def run(out: Path, *arguments: object) -> Outcome:
    return call(example, *TINY, "--out", out, *arguments)


def study_of(out: Path) -> Any:
    with clean_environment():
        options = example.parse([*TINY, "--out", str(out)])
    with contextlib.redirect_stdout(io.StringIO()):
        return example.Study(options, example.single.open_data(options), out)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("similar")
    with contextlib.redirect_stdout(io.StringIO()):
        options = example.parse(TINY)
        data = example.single.open_data(options)
    picture = folder / "one of them.png"
    Image.fromarray(np.moveaxis(data.training.images[5].numpy(), 0, 2)).save(picture)
    outcome = run(folder / "run", "--query", picture)
    assert outcome.code == 0, outcome.err
    return folder / "run", outcome


def test_precision_is_that_of_a_loop_over_the_test_pictures(finished: tuple[Path, Outcome]) -> None:
    out, _ = finished
    found = json.loads((out / "results.json").read_text())
    study = study_of(out)
    network = load_classifier(out)
    assert isinstance(network, TwoHeadClassifier)
    queries, pictures = study.collection.queries, study.collection.pictures
    a, b = (
        predict_features(network, part.images, precision=study.precision).double().numpy()
        for part in (queries, pictures)
    )
    table = study.data.painter_movements
    same, shared, nearest = [], [], []
    for row, label in zip(a, queries.labels.tolist(), strict=True):
        cosines = (b @ row) / (np.linalg.norm(b, axis=1) * np.linalg.norm(row) + 1e-300)
        order = np.argsort(-cosines, kind="stable")[:3]
        labels = pictures.labels[order].tolist()
        same.append(np.mean([other == label for other in labels]))
        nearest.append(labels[0] == label)
        shared.append(np.mean([bool((table[other] & table[label]).any()) for other in labels]))
    (told,) = found["precision"]["two heads"]
    assert told == {
        "painter": pytest.approx(np.mean(same)),
        "nearest": pytest.approx(np.mean(nearest)),
        "movement": pytest.approx(np.mean(shared)),
    }


def test_every_way_has_its_row_and_chance_is_what_lots_give(finished: tuple[Path, Outcome]) -> None:
    out, _ = finished
    found = json.loads((out / "results.json").read_text())
    assert list(found["precision"]) == [
        "two heads", "one head", "autoencoder", "components", "pixels", "untrained", "chance",
    ]  # fmt: skip
    text = (out / "results.md").read_text()
    assert all(f"\n| {name} | " in text for name in found["precision"])
    study = study_of(out)
    every = torch.arange(len(study.collection.pictures)).expand(len(study.collection.queries), -1)
    assert study.chance() == pytest.approx({**study.precisions(every), "nearest": study.chance()["painter"]})


def test_heads_are_counted_right(finished: tuple[Path, Outcome]) -> None:
    out, _ = finished
    (told,) = json.loads((out / "results.json").read_text())["told"]["two heads"]
    study = study_of(out)
    network = load_classifier(out)
    painters = predict_logits(network, study.collection.queries.images, precision=study.precision).argmax(
        1
    )  # through the whole network
    assert told["accuracy"] == pytest.approx(float((painters == study.collection.queries.labels).double().mean()))
    counts = example._counts(torch.tensor([[True, False], [True, True]]), torch.tensor([[True, True], [False, True]]))
    assert counts == {"right": [1, 1], "false": [1, 0], "missed": [0, 1], "f1": pytest.approx(2 / 3)}


def test_a_picture_of_the_collection_is_not_its_own_answer(finished: tuple[Path, Outcome]) -> None:
    out, outcome = finished
    lines = outcome.out.split("one of them.png: ", 1)[1].splitlines()
    assert lines[0].startswith("Painter ")
    names = [line.split("  ")[-1] for line in lines[1:4]]
    assert len(set(names)) == 3
    own = study_of(out).data.training.names[5]
    assert own not in names
    assert all(name.startswith("drawn picture ") for name in names)
    assert (out / "figures" / "query_one_of_them.png").is_file()


def test_pictures_and_page_are_there(finished: tuple[Path, Outcome]) -> None:
    out, _ = finished
    for name in ("similar.png", "similar_components.png", "precision.png"):
        with Image.open(out / "figures" / name) as picture:
            assert min(picture.size) > 200
    assert (out / "report.html").stat().st_size > 10_000
    movements = (out / "movements.md").read_text()
    assert all(f"| {name} |" in movements for name in ("Horizontal", "Tall", "Slanted"))


def test_the_same_command_trains_nothing_again_and_another_is_refused(finished: tuple[Path, Outcome]) -> None:
    out, _ = finished
    files = [*out.glob("*/classifier.safetensors"), *out.glob("*/autoencoder.safetensors")]
    assert len(files) == 3
    before = [path.stat().st_mtime_ns for path in files]
    text = (out / "results.json").read_text()
    again = run(out)
    assert again.code == 0, again.err
    assert [path.stat().st_mtime_ns for path in files] == before
    assert (out / "results.json").read_text() == text
    other = run(out, "--movement-weight", "2")
    assert other.code == 2
    assert "RunMismatchError" in other.err


def test_a_stopped_run_goes_on_to_the_same_end(
    finished: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Callback):
        def on_step(self, trainer: Any, previous: int) -> None:
            if trainer.steps == 2:
                trainer.request_stop()

    for name in ("neighbor_rows", "arms_figure", "write_report"):  # pictures cost more than tiny networks
        monkeypatch.setattr(example, name, lambda *_, **__: None)
    with monkeypatch.context() as patch:
        patch.setattr(example, "ProgressBar", Stop)
        stopped = run(tmp_path)
    assert stopped.code == 130, stopped.err
    assert "goes on from here" in stopped.out
    assert run(tmp_path).code == 0
    assert (tmp_path / "results.json").read_text() == (finished[0] / "results.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--preset", "document"], "--preset is document"),
        (["--balance", "weights"], "--balance is weights"),
        (["--early-stopping", "3"], "--early-stopping is 3"),
        (["--count", "0"], "--count is 0"),
        (["--movement-weight", "-1"], "--movement-weight is -1"),
        (["--query", "no_such.png"], "no such file"),
        (["--size", "20"], "multiple of 8"),
    ],
)
def test_what_does_not_go_is_told(arguments: list[str], told: str, tmp_path: Path) -> None:
    outcome = run(tmp_path, *arguments)
    assert outcome.code == 2
    assert told in outcome.err


def test_painters_without_movements_are_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for painter in ("A", "B"):
        (tmp_path / "data" / painter).mkdir(parents=True)
        for number in range(5):
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / painter / f"{number}.png")
    outcome = run(tmp_path / "run", "--data", tmp_path / "data", "--artists", "2")
    assert outcome.code == 2
    assert "name the table of painters as --table" in outcome.err
