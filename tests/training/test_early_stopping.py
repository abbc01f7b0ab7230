"""A run that no longer gets better ends, for good, and says so."""

import json
from pathlib import Path
from typing import Any

import pytest
from scripted_runs import EPOCH_IMAGES, StopAt, scripted_run

from ganblocks.training import Callback, EarlyStopping, SampleSheets, Trainer

VALUES = [5.0, 4.0, 4.5, 4.2, 3.0, 3.1, 3.2, 3.3, 2.0, 1.0]


def events(run_dir: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    return [record for record in records if record.get("event") == "early_stopping"]


@pytest.mark.parametrize(
    ("patience", "min_delta", "epochs"), [(1, 0.0, 3), (2, 0.0, 4), (3, 0.0, 8), (4, 0.0, 10), (3, 1.5, 4), (4, 1.5, 9)]
)
def test_it_ends_after_so_many_measurements_without_a_new_best(patience: int, min_delta: float, epochs: int) -> None:
    stopping = EarlyStopping("val_loss", patience=patience, min_delta=min_delta)
    result = scripted_run(None, VALUES, stopping).fit()
    assert result.images_seen == EPOCH_IMAGES * epochs
    assert result.finished
    assert stopping.stopped_at == (None if epochs == len(VALUES) else result.images_seen)


def test_higher_may_be_better() -> None:
    result = scripted_run(None, VALUES, EarlyStopping("val_loss", patience=3, mode="max")).fit()
    assert result.images_seen == EPOCH_IMAGES * 4


def test_the_log_tells_the_best_value_and_where_it_was(tmp_path: Path) -> None:
    scripted_run(tmp_path, VALUES, EarlyStopping("val_loss", patience=3)).fit()
    (event,) = events(tmp_path)
    assert (event["key"], event["best"], event["best_at"], event["images_seen"]) == ("val_loss", 3.0, 40, 64)


def test_the_same_command_again_trains_no_further(tmp_path: Path) -> None:
    assert scripted_run(tmp_path, VALUES, EarlyStopping("val_loss", patience=3)).fit().images_seen == 64
    again = scripted_run(tmp_path, VALUES, EarlyStopping("val_loss", patience=3))
    result = again.fit()
    assert (result.images_seen, result.finished, again.steps) == (64, True, 16)
    assert len(events(tmp_path)) == 1


@pytest.mark.parametrize("stop", [4, 16, 28, 36, 44, 60])
def test_an_interrupted_run_ends_where_the_whole_one_does(tmp_path: Path, stop: int) -> None:
    first = scripted_run(tmp_path, VALUES, EarlyStopping("val_loss", patience=3), stop=stop).fit()
    assert (first.images_seen, first.finished) == (stop, False)
    stopping = EarlyStopping("val_loss", patience=3)
    assert scripted_run(tmp_path, VALUES, stopping).fit().images_seen == 64
    assert (stopping.best_at, stopping.stopped_at) == (40, 64)


def test_a_run_cut_short_on_purpose_ends_where_the_whole_one_does(tmp_path: Path) -> None:
    """A measurement in the middle of an epoch would count against the patience."""
    scripted_run(tmp_path, VALUES, EarlyStopping("val_loss", patience=3), total_images=20).fit()
    stopping = EarlyStopping("val_loss", patience=3)
    assert scripted_run(tmp_path, VALUES, stopping).fit().images_seen == 64
    assert stopping.best_at == 40


def test_other_callbacks_do_at_the_end_what_they_always_do(tmp_path: Path) -> None:
    ends: list[bool] = []

    class Ends(Callback):
        def on_end(self, trainer: Trainer, finished: bool) -> None:
            ends.append(finished)

    def draw(trainer: Trainer) -> Any:
        return trainer.batches.batch(0, 4, None)[0]

    sheets = SampleSheets(draw, fractions=(1.0,), animation=())
    scripted_run(tmp_path, VALUES, EarlyStopping("val_loss", patience=3), sheets, Ends()).fit()
    assert ends == [True]
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["000000000064.png"]


def test_the_best_weights_are_kept_and_read(tmp_path: Path) -> None:
    run = scripted_run(
        tmp_path, VALUES, EarlyStopping("val_loss", patience=3), keep_best=1, keep_last=1, best_key="val_loss"
    )
    run.fit()
    assert run.checkpoints is not None
    best = run.checkpoints.best_valid()
    assert best is not None
    assert best.state["images_seen"] == 40
    assert best.state["step"]["weight"].item() == 10


def test_it_leaves_a_run_without_its_key_alone() -> None:
    assert scripted_run(None, VALUES, EarlyStopping("val_accuracy", patience=1)).fit().images_seen == 80


def test_an_interruption_is_not_an_early_stop() -> None:
    stopping = EarlyStopping("val_loss", patience=3)
    assert not scripted_run(None, VALUES, stopping, StopAt(20)).fit().finished
    assert stopping.stopped_at is None


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="patience"):
        EarlyStopping("val_loss", patience=0)
    with pytest.raises(ValueError, match="mode"):
        EarlyStopping("val_loss", patience=1, mode="best")  # type: ignore[arg-type]
