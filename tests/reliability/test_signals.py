"""SIGTERM and Ctrl-C at any instant: the step in hand is finished and saved, and the exit code says which it was."""

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from reliability_runs import Child, Draws, Note, Tells, log_lines, lost, newest, run_campaign, seed_everything
from torch import Tensor

from ganblocks.training import Callback, ConstantSchedule, Measurements, StepContext, Trainer

STEPS = 6
LONG = 600.0  # seconds: whoever waits for this has failed


def test_a_run_stopped_by_signals_at_random_instants_loses_no_step_and_ends_with_the_same_bits(tmp_path: Path) -> None:
    report = run_campaign("signals", 60, 0, tmp_path)  # 50 of SIGTERM, 10 of SIGINT
    assert report["losses"] == [], "\n".join(report["losses"])
    assert report["stops"] == 60
    assert report["finished_runs"] >= 1


class Walk:
    """A step without networks: a weight that remembers every batch and every number drawn."""

    def __init__(self, during: Callable[[int], None] = lambda images_seen: None) -> None:
        self.weight = torch.rand(8)
        self.during = during

    def __call__(self, images: Tensor, labels: Tensor | None, context: StepContext) -> dict[str, Tensor]:
        self.during(context.images_seen)
        self.weight = 0.5 * self.weight + images.mean() + torch.rand(8)
        return {"loss": self.weight.mean()}

    def state_dict(self) -> dict[str, Any]:
        return {"weight": self.weight}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.weight = state["weight"]


class Positions:
    """Batches that hold their own position."""

    def batch(self, images_seen: int, count: int, resolution: int | None) -> tuple[Tensor, None]:
        return torch.arange(images_seen, images_seen + count, dtype=torch.float32), None


def walk(run_dir: Path, step: Walk | None = None, callbacks: tuple[Callback, ...] = (), **options: Any) -> Trainer:
    """Six steps of one image, each logged and saved."""
    options = {"run_dir": run_dir, "log_images": 1, "save_images": 1, "keep_last": 1, **options}
    return Trainer(
        step or Walk(), Positions(), ConstantSchedule(STEPS, 1, 1.0), callbacks=[Draws(), *callbacks], **options
    )


def state_of(run_dir: Path) -> dict[str, Any]:
    """Of the newest checkpoint, without the callbacks that only some runs have."""
    checkpoint = newest(run_dir)
    assert checkpoint is not None, f"{run_dir} holds no checkpoint"
    return {**checkpoint.state, "callbacks": checkpoint.state["callbacks"][0]}


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, Any]:
    """The end of a run that nothing has stopped."""
    seed_everything(0)
    walk(tmp_path / "whole").fit()
    return state_of(tmp_path / "whole")


def require_same_end(run_dir: Path, whole: dict[str, Any], *callbacks: Callback) -> None:
    """Resume in fresh objects, with other random numbers before, and compare."""
    seed_everything(99)
    assert walk(run_dir, callbacks=callbacks).fit().finished
    assert not (difference := lost(whole, state_of(run_dir))), difference
    assert log_lines(run_dir) == log_lines(run_dir.with_name("whole"))
    left = [path.name for path in (run_dir / "checkpoints").iterdir()]
    assert left == [f"{STEPS:012d}"], f"left behind: {left}"


def twice(child: Child) -> int:
    """Press Ctrl-C, and again once the first has arrived; returns the exit code."""
    child.send(signal.SIGINT)
    assert child.wait_for("interrupt"), f"the child has ended before: {child.notes}"
    child.send(signal.SIGINT)
    return child.end(60)


def test_a_second_interrupt_leaves_a_long_step_at_once_with_the_checkpoint_before_it(
    tmp_path: Path, whole: dict[str, Any]
) -> None:
    run_dir = tmp_path / "run"

    def work(note: Note) -> int:
        def during(images_seen: int) -> None:
            if images_seen == 3:
                note("inside 3")
                time.sleep(LONG)

        signal.signal(signal.SIGINT, lambda *_: note("interrupt 1"))
        seed_everything(0)
        return walk(run_dir, Walk(during), (Tells(note),)).fit().exit_code

    child = Child(work)
    assert child.wait_for("inside")
    code = twice(child)
    assert code == 77, f"exit code {code} rather than a KeyboardInterrupt; {child.notes}"
    assert child.said("end") == [3], f"the callbacks were not closed: {child.notes}"
    found = newest(run_dir)
    assert found is not None, "every checkpoint is lost"
    assert found.images_seen == 3
    require_same_end(run_dir, whole, Tells(lambda note: None))


@pytest.mark.parametrize("call", range(1, 6))
def test_a_second_interrupt_leaves_a_hanging_save_at_once_and_breaks_nothing(
    call: int, tmp_path: Path, whole: dict[str, Any]
) -> None:
    """The disk stops to answer at each of the points where a save waits for it."""
    run_dir = tmp_path / "run"

    def work(note: Note) -> int:
        real, calls = os.fsync, 0

        def fsync(descriptor: int) -> None:
            nonlocal calls
            calls += 1
            if calls == call:
                note("inside 3")
                time.sleep(LONG)
            real(descriptor)

        class SlowDisk(Callback):
            def on_step(self, trainer: Trainer, previous: int) -> None:
                if trainer.images_seen == 3:
                    os.fsync = fsync

        signal.signal(signal.SIGINT, lambda *_: note("interrupt 1"))
        seed_everything(0)
        return walk(run_dir, callbacks=(SlowDisk(),)).fit().exit_code

    child = Child(work)
    assert child.wait_for("inside"), f"a save does not wait {call} times for the disk; {child.notes}"
    code = twice(child)
    assert code == 77, f"exit code {code} rather than a KeyboardInterrupt"
    found = newest(run_dir)
    assert found is not None, "every checkpoint is lost"
    assert found.images_seen in (2, 3), f"{found.images_seen} is the newest, where 2 was safe and 3 being written"
    require_same_end(run_dir, whole, Callback())


@pytest.mark.parametrize("call", range(1, 6))
def test_sigterm_in_the_middle_of_a_save_does_not_disturb_it(
    call: int, tmp_path: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls, armed = os.fsync, 0, False

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += armed
        if armed and calls == call:
            os.kill(os.getpid(), signal.SIGTERM)
        real(descriptor)

    class Arm(Callback):
        def on_step(self, trainer: Trainer, previous: int) -> None:
            nonlocal armed
            armed = trainer.images_seen == 3

    monkeypatch.setattr(os, "fsync", fsync)
    seed_everything(0)
    result = walk(tmp_path / "run", callbacks=(Arm(),)).fit()
    assert calls >= call, f"a save does not wait {call} times for the disk"
    assert (result.exit_code, result.images_seen, result.finished) == (143, 3, False)
    assert state_of(tmp_path / "run")["images_seen"] == 3
    require_same_end(tmp_path / "run", whole, Callback())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_during_a_measurement_keeps_the_measurement_and_the_step(
    number: int, code: int, tmp_path: Path
) -> None:
    def measured(send: bool) -> Measurements:
        def measure(trainer: Trainer) -> dict[str, float]:
            if send and trainer.images_seen == 3:
                os.kill(os.getpid(), number)
            return {"score": float(trainer.images_seen)}

        return Measurements(measure, fractions=(0.5, 1.0))

    seed_everything(0)
    walk(tmp_path / "whole", callbacks=(measured(False),), save_images=STEPS).fit()
    seed_everything(0)
    result = walk(tmp_path / "run", callbacks=(measured(True),), save_images=STEPS).fit()
    assert (result.exit_code, result.images_seen) == (code, 3)
    assert [line for line in log_lines(tmp_path / "run") if '"score": 3.0' in line], "the measurement is lost"
    assert state_of(tmp_path / "run")["images_seen"] == 3, "the step is lost"
    require_same_end(tmp_path / "run", state_of(tmp_path / "whole"), measured(False))


def test_a_signal_before_the_first_step_leaves_a_run_that_begins_as_if_nothing_had_been(
    tmp_path: Path, whole: dict[str, Any]
) -> None:
    class AtOnce(Callback):
        def on_start(self, trainer: Trainer) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    seed_everything(0)
    result = walk(tmp_path / "run", callbacks=(AtOnce(),)).fit()
    assert (result.exit_code, result.images_seen, result.finished) == (143, 0, False)
    require_same_end(tmp_path / "run", whole, Callback())
