"""Answers of a trained classifier: equal however often training was stopped, read back bit for bit, never mixed up."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ganblocks.data import TensorBatches
from ganblocks.errors import CheckpointError, RunMismatchError
from ganblocks.training import Callback, ClassifierAnswers, ClassifierStep, ConstantSchedule, Trainer, train_for_answers


class Network(nn.Module):
    """One dense layer and a penalty of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 2)

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.dense(self.features(images))
        return logits

    def penalty(self, features: Tensor | None = None) -> Tensor:
        penalty = self.dense.weight.square().sum()
        return penalty if features is None else penalty + features.abs().sum() / len(features)


IMAGES = torch.randint(0, 256, (20, 1, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(20) % 2
TEST = IMAGES[:6].flip(-1)


def answers(run_dir: Path, callbacks: tuple[Callback, ...] = (), **options: object) -> ClassifierAnswers | None:
    torch.manual_seed(0)
    network = Network()
    penalty = bool(options.pop("penalty", False))
    step = ClassifierStep(network, optimizer=torch.optim.SGD(network.parameters(), lr=0.1), penalty=penalty)
    data = TensorBatches(IMAGES, LABELS, seed=3)
    values = {"settings": {"a": 1}, "validation": (IMAGES[:4], LABELS[:4]), "measurements": 2, **options}
    return train_for_answers(
        step,
        data,
        ConstantSchedule(40, 4, 0.1),
        values.pop("test", TEST),
        run_dir=run_dir,
        callbacks=callbacks,
        **values,
    )  # type: ignore[arg-type]


class StopAfter(Callback):
    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_step(self, trainer: Trainer, previous: int) -> None:
        if trainer.steps == self.steps:
            trainer.request_stop()


class Never(Callback):
    def on_step(self, trainer: Trainer, previous: int) -> None:
        pytest.fail("it trains although there are answers")


def test_what_is_read_back_is_what_was_answered(tmp_path: Path) -> None:
    first = answers(tmp_path, (StopAfter(-1),))
    again = answers(tmp_path, (Never(),))
    assert first is not None
    assert again is not None
    assert torch.equal(first.logits, again.logits)
    assert first.logits.shape == (6, 2)
    assert not (tmp_path / "checkpoints").exists()
    assert (tmp_path / "log.jsonl").read_text().count("val_loss") == 2


def test_a_stopped_training_has_no_answers_and_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = answers(tmp_path / "whole", (StopAfter(-1),))
    assert answers(tmp_path / "stopped", (StopAfter(4),)) is None
    assert not (tmp_path / "stopped" / "answers.safetensors").exists()
    ended = answers(tmp_path / "stopped", (StopAfter(-1),))
    assert whole is not None
    assert ended is not None
    assert torch.equal(whole.logits, ended.logits)


def test_checkpoints_stay_where_they_are_wanted(tmp_path: Path) -> None:
    answers(tmp_path, keep_checkpoints=True)
    assert any((tmp_path / "checkpoints").iterdir())


def test_answers_of_other_settings_are_refused(tmp_path: Path) -> None:
    answers(tmp_path)
    with pytest.raises(RunMismatchError, match="a: 1 there, 2 now"):
        answers(tmp_path, settings={"a": 2})
    with pytest.raises(RunMismatchError, match="test_images"):
        answers(tmp_path, test=TEST[:5])


@pytest.mark.parametrize("damage", [b"", b"\x00" * 50])
def test_damaged_answers_are_an_error_and_not_trained_over(tmp_path: Path, damage: bytes) -> None:
    answers(tmp_path)
    (tmp_path / "answers.safetensors").write_bytes(damage)
    with pytest.raises(CheckpointError, match="remove it to train anew"):
        answers(tmp_path)


def test_the_penalty_is_that_of_the_last_weights_on_the_test_images(tmp_path: Path) -> None:
    found = answers(tmp_path, penalty=True)
    again = answers(tmp_path, penalty=True)
    assert found is not None
    assert again is not None
    assert found.penalty == again.penalty
    pixels = TEST.float() / 127.5 - 1
    activity = float(pixels.abs().sum()) / len(TEST)
    assert found.penalty > activity  # and the rest is the sum of squares of the weights
    assert answers(tmp_path / "none").penalty == 0  # type: ignore[union-attr]


def test_the_numbers_by_hand() -> None:
    found = ClassifierAnswers(torch.tensor([[2.0, 0.0], [0.0, 0.0], [-1.0, 3.0]]), 0.0)
    labels = torch.tensor([0, 1, 0])
    assert found.right(labels).tolist() == [True, False, False]  # of equal logits the first counts
    assert found.accuracy(labels) == pytest.approx(1 / 3)
    logs = [torch.tensor(value).exp().log1p().item() for value in (-2.0, 0.0, 4.0)]
    assert found.cross_entropy(labels) == pytest.approx(sum(logs) / 3)
    assert found.confusion(labels).tolist() == [[1, 1], [1, 0]]
    with pytest.raises(ValueError, match="labels"):
        found.right(labels[:2])
