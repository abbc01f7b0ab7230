"""A run that comes apart without a NaN says so: once, as an event and a warning, and stops if it was told to."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ganblocks.training import ConstantSchedule, DivergenceWatch, StepContext, Trainer


class Scripted:
    """A step that trains nothing and logs what the script says."""

    def __init__(self, script: list[dict[str, float]]) -> None:
        self.script = script

    def __call__(self, images: Tensor, labels: Tensor | None, context: StepContext) -> dict[str, Tensor]:
        return {key: torch.tensor(value) for key, value in self.script[context.images_seen].items()}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert state == {}


def run(tmp_path: Path, script: list[dict[str, float]], *, total: int | None = None, **options: Any) -> Trainer:
    watch = DivergenceWatch(warm_up=3, patience=3, **options)
    trainer = Trainer(
        Scripted(script),
        [torch.zeros(1, 1)],
        ConstantSchedule(len(script), 1, 1.0),
        run_dir=tmp_path,
        callbacks=[watch],
        log_images=1,
        total_images=total,
    )
    trainer.fit()
    return trainer


def told(tmp_path: Path, trainer: Trainer) -> list[tuple[int, str]]:
    return [(r["images_seen"], r["sign"]) for r in trainer.log.read() if r.get("event") == "divergence"]


def test_a_loss_a_million_times_its_size_is_told_once_until_it_has_gone(tmp_path: Path) -> None:
    values = [2.0, -2.0, 2.0, 1.9e6, 2.1e6, 3e6, 1.0, -2.1e6]
    with pytest.warns(RuntimeWarning, match="generator_loss is") as warned:
        trainer = run(tmp_path, [{"generator_loss": value} for value in values])
    assert told(tmp_path, trainer) == [(5, "generator_loss"), (8, "generator_loss")]
    assert len(warned) == 2


def test_a_discriminator_that_is_always_right_is_told_after_patience(tmp_path: Path) -> None:
    apart, close = {"real_score": 6.0, "fake_score": -6.0}, {"real_score": 6.0, "fake_score": -4.0}
    with pytest.warns(RuntimeWarning, match="told every real from every fake image for 3 records"):
        trainer = run(tmp_path, [apart, apart, close, apart, apart, apart, apart])
    assert told(tmp_path, trainer) == [(6, "separation")]


def test_a_wasserstein_critic_may_score_as_it_likes(tmp_path: Path) -> None:
    trainer = run(tmp_path, [{"real_score": 600.0, "fake_score": -600.0}] * 9, separation=None)
    assert told(tmp_path, trainer) == []


def test_an_ordinary_run_is_left_in_peace(tmp_path: Path) -> None:
    script = [{"loss": 2.0 + i, "penalty": 0.1 * i, "real_score": 4.0, "fake_score": -9.0} for i in range(12)]
    assert told(tmp_path, run(tmp_path, script)) == []


def test_it_stops_the_run_where_told_to_and_keeps_a_checkpoint(tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match="loss is"):
        trainer = run(tmp_path, [{"loss": 1.0}] * 5 + [{"loss": 1e9}] * 5, stop=True)
    assert trainer.images_seen == 6
    assert trainer.checkpoints.latest_valid().images_seen == 6


def test_what_was_seen_is_carried_over_a_resume(tmp_path: Path) -> None:
    script = [{"loss": 1.0, "real_score": 6.0, "fake_score": -6.0}] * 2 + [
        {"loss": 2e6, "real_score": 6.0, "fake_score": -6.0}
    ] * 2
    run(tmp_path, script, total=2)
    with pytest.warns(RuntimeWarning) as warned:
        trainer = run(tmp_path, script)
    assert told(tmp_path, trainer) == [(3, "separation"), (4, "loss")]
    assert len(warned) == 2


@pytest.mark.parametrize(
    "option", [{"loss_factor": 1}, {"warm_up": 0}, {"separation": 0}, {"patience": 0}], ids=lambda o: next(iter(o))
)
def test_numbers_out_of_range_are_named(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(option))}` is"):
        DivergenceWatch(**option)
