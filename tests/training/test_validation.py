"""Measured after every pass; the history is the log's means, epoch by epoch, however the run was cut."""

import math
from pathlib import Path
from typing import Any

import pytest
from scripted_runs import EPOCH_IMAGES, scripted_run

from ganblocks.training import EarlyStopping, Trainer, Validation

FILLER = [0.0] * 3  # epochs of the run; the values of its own measurements play no part here


def validation(**options: Any) -> Validation:
    def measure(trainer: Trainer) -> dict[str, float]:
        return {"val_accuracy": trainer.images_seen / 100}

    return Validation(measure, options.pop("epoch_images", EPOCH_IMAGES), **options)


def same(a: dict[str, list[float]], b: dict[str, list[float]]) -> bool:
    return repr(a) == repr(b)  # NaN is equal to NaN in it, and floats are exact


def test_one_number_an_epoch_by_hand() -> None:
    check = validation()
    scripted_run(None, FILLER, check).fit()
    # The loss of a batch is the number of images before it: 0 and 4, 8 and 12, 16 and 20.
    assert check.history == {
        "images_seen": [8, 16, 24],
        "loss": [2.0, 10.0, 18.0],
        "val_loss": [0.0, 0.0, 0.0],
        "val_accuracy": [0.08, 0.16, 0.24],
    }


def test_it_measures_at_an_unfinished_last_epoch_too() -> None:
    check = validation(epoch_images=16)
    scripted_run(None, FILLER, check).fit()
    assert check.history["images_seen"] == [16, 24]
    assert check.history["loss"] == [6.0, 18.0]


def test_a_value_that_an_epoch_lacks_is_nan() -> None:
    def measure(trainer: Trainer) -> dict[str, float]:
        return {"late": 1.0} if trainer.images_seen == 24 else {"early": 2.0}

    check = Validation(measure, EPOCH_IMAGES)
    scripted_run(None, FILLER, check).fit()
    assert check.history["early"][:2] == [2.0, 2.0]
    assert math.isnan(check.history["early"][2])
    assert [math.isnan(value) for value in check.history["late"]] == [True, True, False]


def test_what_it_measures_is_in_the_log_for_others_to_decide_by(tmp_path: Path) -> None:
    check = validation()
    result = scripted_run(tmp_path, FILLER, check, EarlyStopping("val_accuracy", patience=1)).fit()
    assert result.images_seen == 16  # 0.16 is no better than 0.08 where lower is
    assert (tmp_path / "log.jsonl").read_text().count("val_accuracy") == 3  # two measurements, and the event


@pytest.mark.parametrize("stop", [4, 8, 12, 20])
def test_the_history_of_a_resumed_run_is_that_of_the_whole(tmp_path: Path, stop: int) -> None:
    whole = validation()
    scripted_run(None, FILLER, whole).fit()
    scripted_run(tmp_path, FILLER, validation(), stop=stop).fit()
    resumed = validation()
    assert scripted_run(tmp_path, FILLER, resumed).fit().finished
    assert same(resumed.history, whole.history)


def test_nan_survives_a_checkpoint() -> None:
    check = validation()
    check.history = {"images_seen": [8.0], "late": [math.nan]}
    other = validation()
    other.load_state_dict(check.state_dict())
    assert same(other.history, check.history)


def test_it_shows_a_line_where_asked(capsys: pytest.CaptureFixture[str]) -> None:
    scripted_run(None, FILLER, validation(show=True)).fit()
    assert capsys.readouterr().out.splitlines()[1] == "       16 images  val accuracy 0.16"


def test_epochs_too_short_for_the_log_are_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="log_images"):
        scripted_run(None, FILLER, validation(epoch_images=3)).fit()
    with pytest.raises(ValueError, match="epoch_images"):
        validation(epoch_images=0)
