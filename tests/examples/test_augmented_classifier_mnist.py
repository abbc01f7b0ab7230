"""The study over the number of real images: what is chosen, what a trial leaves, that it goes on, what it refuses."""

import json
import re
from pathlib import Path

import pytest
import torch
from example_runs import Outcome, call, load

from ganblocks.training import Callback, Trainer

TINY = ["--smoke", "--device", "cpu", "--seeds", "1", "--updates", "4", "--gan-images", "128"]

example = load("examples/augmented_classifier_mnist.py")


def run(out: Path, *arguments: object) -> Outcome:
    return call(example, *TINY, "--out", out, *arguments)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    out = tmp_path_factory.mktemp("study")
    return out, run(out)


def test_a_trial_leaves_everything_that_is_promised(finished: tuple[Path, Outcome]) -> None:
    out, outcome = finished
    assert outcome.code == 0, outcome.err
    text = (out / "comparison.md").read_text()
    assert "## 4 real images of each class" in text
    for arm in example.ARMS:
        assert f"| {arm} | 1 |" in text
    assert text.count("- real + both: ") == 2
    assert re.search(r"- real \+ both: [+-][\d.]+ points over real \+ classical ", text)
    figures = {path.name for path in (out / "figures").iterdir()}
    assert figures == {"curve.png", "arms_0004.png", "real_beside_generated_0004.png"}
    assert (out / "report.html").stat().st_size > 10_000


def test_all_arms_make_the_same_number_of_updates_of_one_size(finished: tuple[Path, Outcome]) -> None:
    logs = list((finished[0] / "images-4" / "0").glob("real*/log.jsonl"))
    assert len(logs) == 4
    last = [json.loads(log.read_text().splitlines()[-1]) for log in logs]
    assert {(line["images_seen"], line["step"]) for line in last} == {(256, 4)}


def test_a_stopped_study_goes_on_and_ends_as_an_uninterrupted_one(
    finished: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Callback):
        def on_step(self, trainer: Trainer, previous: int) -> None:
            trainer.request_stop()

    for name in ("arms_figure", "arms_curve", "save_image_grid", "write_report"):
        monkeypatch.setattr(example, name, lambda *_, **__: None)
    with monkeypatch.context() as stopping:
        stopping.setattr(example, "ProgressBar", Stop)
        assert run(tmp_path).code == 130
        assert run(tmp_path).code == 130
    assert run(tmp_path).code == 0
    assert (tmp_path / "comparison.md").read_text() == (finished[0] / "comparison.md").read_text()


def test_more_images_of_one_choice_contain_fewer_and_classes_are_even() -> None:
    labels = torch.arange(200) % 10
    images = example.Images(torch.arange(200, dtype=torch.uint8).reshape(-1, 1, 1, 1), labels)
    few, many, other = (example.chosen(images, count, seed) for count, seed in ((3, 1), (12, 1), (3, 2)))
    pixels = [set(part.images.flatten().tolist()) for part in (few, many, other)]
    assert pixels[0] < pixels[1]
    assert pixels[0] != pixels[2]
    assert torch.bincount(many.labels).tolist() == [12] * 10
    assert torch.equal(labels[many.images.flatten().long()], many.labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--per-class", "0"), "--per-class has 0"),
        (("--per-class", "500"), "there are only"),
        (("--seeds", "0"), "--seeds is 0"),
        (("--gan-learning-rate", "0"), "--gan-learning-rate is 0.0"),
        (("--device", "quantum"), "--device is quantum"),
        (("--data", "digits"), "a trial has the built-in digits"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    outcome = run(tmp_path / "run", *arguments)
    assert outcome.code == 2
    assert message in outcome.err


def test_other_settings_are_refused(finished: tuple[Path, Outcome]) -> None:
    outcome = run(finished[0], "--generated", "9")
    assert outcome.code == 2
    assert "generated: 8 there, 9 now" in outcome.err
