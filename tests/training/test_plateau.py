"""The learning rate falls where a value stands still, and a resumed run goes on with the same bits."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from scripted_runs import EPOCH_IMAGES, rates, scripted_run

from ganblocks.training import CosineSchedule, ReduceOnPlateau

VALUES = [5.0, 4.0, 4.5, 4.2, 4.1, 3.0, 3.0, 3.0, 3.0, 3.0]


def plateau(**options: Any) -> ReduceOnPlateau:
    return ReduceOnPlateau("val_loss", **{"factor": 0.5, "patience": 2, **options})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]),
        ({"patience": 3}, [1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]),
        ({"cooldown": 2}, [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]),
        ({"patience": 1, "cooldown": 2}, [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]),
        ({"patience": 1}, [1, 1, 1, 0.5, 0.25, 0.125, 0.125, 0.0625, 0.03125, 0.015625]),
        ({"patience": 1, "min_learning_rate": 0.2}, [1, 1, 1, 0.5, 0.25, 0.2, 0.2, 0.2, 0.2, 0.2]),
        ({"min_delta": 1.5}, [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125, 0.125]),
        ({"patience": 4, "mode": "max"}, [1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]),
    ],
)
def test_the_rate_of_each_epoch(options: dict[str, Any], expected: list[float]) -> None:
    run = scripted_run(None, VALUES, plateau(**options))
    run.fit()
    assert rates(run) == expected


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("cooldown", [0, 1, 3])
@pytest.mark.parametrize("patience", [1, 2, 3])
def test_equals_the_scheduler_of_pytorch_with_one_less_patience(mode: Any, cooldown: int, patience: int) -> None:
    values = torch.rand(60, generator=torch.Generator().manual_seed(patience)).tolist()
    run = scripted_run(None, values, plateau(mode=mode, cooldown=cooldown, patience=patience, min_delta=0.01))
    run.fit()
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode, 0.5, patience - 1, threshold=0.01, threshold_mode="abs", cooldown=cooldown, eps=0
    )
    expected = []
    for value in values:
        expected.append(optimizer.param_groups[0]["lr"])
        scheduler.step(value)
    assert rates(run) == pytest.approx(expected, rel=1e-12)
    assert min(expected) < 1e-2


def test_it_scales_whatever_the_schedule_says() -> None:
    schedule = CosineSchedule(EPOCH_IMAGES * len(VALUES), 4, 1.0)
    run = scripted_run(None, VALUES, plateau(), schedule=schedule)
    run.fit()
    scales = [scale for scale in (1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25) for _ in range(2)]
    expected = [scale * schedule.phase(4 * batch).learning_rate for batch, scale in enumerate(scales)]
    assert run.step.rates == pytest.approx(expected, rel=1e-12)  # type: ignore[attr-defined]


@pytest.mark.parametrize("stop", [8, 28, 32, 36, 60, 64, 76])
def test_a_resumed_run_has_the_same_bits(tmp_path: Path, stop: int) -> None:
    values = [5.0, 4.0, 4.5, 4.2, 4.1, 3.0, 3.0, 3.0, 3.0, 3.0]
    whole = scripted_run(None, values, plateau(factor=0.3))
    whole.fit()
    scripted_run(tmp_path, values, plateau(factor=0.3), stop=stop).fit()
    resumed = scripted_run(tmp_path, values, plateau(factor=0.3))
    assert resumed.fit().finished
    assert torch.equal(resumed.step.state_dict()["weight"], whole.step.state_dict()["weight"])
    assert whole.step.state_dict()["weight"].item() < 20 * 0.9  # the rate did fall


def test_the_log_tells_of_each_reduction_and_shows_the_rate(tmp_path: Path) -> None:
    scripted_run(tmp_path, VALUES, plateau()).fit()
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    told = [record for record in records if record.get("event") == "learning_rate_reduced"]
    assert [(event["images_seen"], event["best"], event["learning_rate"]) for event in told] == [
        (32, 4.0, 0.5),
        (64, 3.0, 0.25),
        (80, 3.0, 0.125),
    ]
    shown = [record["learning_rate"] for record in records if record.get("loss") == 68]
    assert shown == [0.25]


def test_two_of_them_are_refused() -> None:
    with pytest.raises(ValueError, match="2 of ReduceOnPlateau"):
        scripted_run(None, VALUES, plateau(), plateau(patience=1)).fit()


@pytest.mark.parametrize(
    ("name", "value"),
    [("factor", 1.0), ("factor", 0.0), ("patience", 0), ("cooldown", -1), ("min_learning_rate", -1e-9)],
)
def test_bad_arguments_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        plateau(**{name: value})
