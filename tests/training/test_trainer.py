"""The loop: same weights however it is cut, a log that fits, a directory that belongs to one run."""

import errno
import io
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ganblocks.data import ArrayImages, MultiResolutionImages
from ganblocks.errors import CheckpointError, GanblocksError, NonFiniteError, RunMismatchError
from ganblocks.models.progan import Discriminator, Generator, ProGANConfig
from ganblocks.training import (
    Callback,
    ConstantSchedule,
    Measurements,
    ProgressBar,
    SampleSheets,
    StepContext,
    Trainer,
    recipes,
)


@pytest.fixture(scope="module")
def images() -> MultiResolutionImages:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    return MultiResolutionImages(ArrayImages(pixels, layout="NHWC"), resolution=8)


def make(images: MultiResolutionImages, run_dir: Path | None, **options: object) -> Trainer:
    """Three phases of 24 images in batches of 4: hold 4x4, fade 8x8, hold 8x8."""
    torch.manual_seed(0)
    config = ProGANConfig.karras2018(8, latent_dim=4, max_channels=4)
    recipe = recipes.karras2018(phase_images=24, batch_sizes=dict.fromkeys((4, 8), 4))
    step = recipe.build_step(Generator(config), Discriminator(config), latent_dim=4)
    return Trainer(step, images, recipe.schedule(8), run_dir=run_dir, **{"log_images": 8, "save_images": 8, **options})


def weights(trainer: Trainer) -> dict[str, Tensor]:
    state = trainer.step.state_dict()
    parts = {"g": state["generator"], "d": state["discriminator"], "e": state["ema"]["module"]}
    return {f"{part}.{key}": value.clone() for part, tensors in parts.items() for key, value in tensors.items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


class StopAt(Callback):
    """Sends this process a signal once so many images were seen."""

    def __init__(self, images_seen: int, number: int = signal.SIGINT) -> None:
        self.images_seen, self.number = images_seen, number

    def on_step(self, trainer: Trainer, previous: int) -> None:
        if trainer.images_seen == self.images_seen:
            os.kill(os.getpid(), self.number)


def events(run_dir: Path, name: str) -> list[dict[str, object]]:
    records = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    return [record for record in records if record.get("event") == name]


def test_trains_through_all_phases_and_logs_them(images: MultiResolutionImages, tmp_path: Path) -> None:
    result = make(images, tmp_path).fit()
    assert (result.images_seen, result.finished, result.exit_code) == (72, True, 0)
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert records[0]["event"] == "start"
    assert [r["images_seen"] for r in records[1:]] == list(range(8, 73, 8))
    assert [r["resolution"] for r in records[1:]] == [4] * 3 + [8] * 6
    keys = {"discriminator_loss", "generator_loss", "penalty", "real_score", "fake_score"}
    assert all(keys <= set(r) for r in records[1:])
    assert records[4]["alpha"] == pytest.approx(4 / 24)


@pytest.mark.parametrize("stop", [4, 20, 24, 36, 48, 60])
def test_an_interrupted_run_ends_with_the_same_weights(
    images: MultiResolutionImages, tmp_path: Path, stop: int
) -> None:
    whole = make(images, None)
    whole.fit()
    first = make(images, tmp_path, callbacks=[StopAt(stop)]).fit()
    assert (first.images_seen, first.finished, first.exit_code) == (stop, False, 130)
    torch.manual_seed(99)  # a new process has other random state and other initial weights
    second = make(images, tmp_path, callbacks=[StopAt(-1)])
    assert second.fit().images_seen == 72
    assert equal(weights(second), weights(whole))


def test_sigterm_saves_and_says_143(images: MultiResolutionImages, tmp_path: Path) -> None:
    result = make(images, tmp_path, callbacks=[StopAt(12, signal.SIGTERM)], save_images=1000).fit()
    assert (result.exit_code, result.finished) == (143, False)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["000000000012"]


def test_log_of_a_resumed_run_is_that_of_an_uninterrupted_one(images: MultiResolutionImages, tmp_path: Path) -> None:
    """Lines written after the checkpoint that a crash fell back to are made again, not doubled."""
    make(images, tmp_path / "whole").fit()

    class Crash(Callback):
        def on_step(self, trainer: Trainer, previous: int) -> None:
            if trainer.images_seen == 44:
                raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        make(images, tmp_path / "cut", callbacks=[Crash()], save_images=36).fit()
    make(images, tmp_path / "cut", callbacks=[Callback()], save_images=36).fit()

    def lines(name: str) -> list[dict[str, object]]:
        records = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        return [record for record in records if "event" not in record]

    assert lines("cut") == lines("whole")


def test_a_finished_run_has_nothing_left_to_do(images: MultiResolutionImages, tmp_path: Path) -> None:
    make(images, tmp_path).fit()
    again = make(images, tmp_path)
    assert again.fit().finished
    assert again.steps == 18


def test_total_images_may_change_between_runs(images: MultiResolutionImages, tmp_path: Path) -> None:
    assert make(images, tmp_path, total_images=16).fit().images_seen == 16
    longer = make(images, tmp_path)
    longer.fit()
    whole = make(images, None)
    whole.fit()
    assert equal(weights(longer), weights(whole))


def test_other_science_is_refused_and_nothing_is_touched(images: MultiResolutionImages, tmp_path: Path) -> None:
    make(images, tmp_path, settings={"lambda": 10}).fit()
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    with pytest.raises(RunMismatchError, match="lambda: 10 there, 5 now"):
        make(images, tmp_path, settings={"lambda": 5})
    with pytest.raises(RunMismatchError, match="seed: 0 there, 1 now"):
        make(images, tmp_path, settings={"lambda": 10}, seed=1)
    assert before == sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))


def test_machine_may_change_and_is_logged(images: MultiResolutionImages, tmp_path: Path) -> None:
    make(images, tmp_path, total_images=8, machine={"workers": 1}).fit()
    make(images, tmp_path, machine={"workers": 2}).fit()
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(r["event"], r["workers"]) for r in records if "event" in r] == [("start", 1), ("resume", 2)]


def test_a_value_that_is_no_number_ends_the_run_and_is_not_saved(images: MultiResolutionImages, tmp_path: Path) -> None:
    class Poison(Callback):
        def on_step(self, trainer: Trainer, previous: int) -> None:
            if trainer.images_seen == 20:
                with torch.no_grad():
                    trainer.step.discriminator.final.output.bias.fill_(torch.nan)

    with pytest.raises(NonFiniteError, match=r"gradient of the discriminator was not finite at step 6"):
        make(images, tmp_path, callbacks=[Poison()]).fit()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["000000000008", "000000000016"]


def test_callbacks_are_closed_whatever_happens(images: MultiResolutionImages) -> None:
    ended = []

    class Ends(Callback):
        def on_end(self, trainer: Trainer, finished: bool) -> None:
            ended.append(finished)

    class Fails(Ends):
        def on_step(self, trainer: Trainer, previous: int) -> None:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        make(images, None, callbacks=[Ends(), Fails()]).fit()
    assert ended == [False, False]
    make(images, None, callbacks=[Ends()], total_images=4).fit()
    assert ended == [False, False, True]


def test_settings_that_were_only_tried_do_not_claim_the_directory(
    images: MultiResolutionImages, tmp_path: Path
) -> None:
    make(images, tmp_path, settings={"batch": 512}).dry_run()
    make(images, tmp_path, settings={"batch": 4}, total_images=4).fit()
    with pytest.raises(RunMismatchError, match="batch"):
        make(images, tmp_path, settings={"batch": 512})


def test_non_finite_weights_are_never_saved(images: MultiResolutionImages, tmp_path: Path) -> None:
    trainer = make(images, tmp_path)
    with torch.no_grad():
        trainer.step.generator.to_rgb["8"].weight.fill_(torch.inf)
    with pytest.raises(NonFiniteError, match="to_rgb"):
        trainer.save()
    assert list((tmp_path / "checkpoints").iterdir()) == []


def full_disk(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def impatient(trainer: Trainer) -> Trainer:
    trainer.checkpoints._backoff_seconds = 0
    return trainer


def test_training_goes_on_over_a_full_disk_and_ends_with_a_typed_error_that_loses_nothing(
    images: MultiResolutionImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(images, tmp_path, total_images=16).fit()
    trainer = impatient(make(images, tmp_path))
    monkeypatch.setattr(os, "fsync", full_disk)
    with (
        pytest.warns(RuntimeWarning, match="training goes on, but .* could not be written") as told,
        pytest.raises(CheckpointError, match="space"),
    ):
        trainer.fit()
    monkeypatch.undo()
    assert (len(told), trainer.images_seen) == (2, 40)  # at 24 and 32; the third on end, at 40, is an error
    assert [event["images_seen"] for event in events(tmp_path, "save_failed")] == [24, 32]
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["000000000008", "000000000016"]
    assert make(images, tmp_path).fit().finished


def test_a_disk_that_recovers_costs_only_a_checkpoint(
    images: MultiResolutionImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Trouble(Callback):
        def on_step(self, trainer: Trainer, previous: int) -> None:
            if trainer.images_seen == 8:
                monkeypatch.setattr(os, "fsync", full_disk)
            elif trainer.images_seen == 12:
                monkeypatch.undo()

    with pytest.warns(RuntimeWarning, match="training goes on"):
        result = impatient(make(images, tmp_path, callbacks=[Trouble()], max_failed_saves=2)).fit()
    assert result.finished
    assert [event["images_seen"] for event in events(tmp_path, "save_failed")] == [8]


def test_the_last_save_must_succeed(
    images: MultiResolutionImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fill(Callback):
        def on_step(self, trainer: Trainer, previous: int) -> None:
            monkeypatch.setattr(os, "fsync", full_disk)

    trainer = impatient(make(images, tmp_path, callbacks=[Fill()], total_images=4))
    with pytest.raises(CheckpointError, match="could not be written"):
        trainer.fit()


def test_too_little_space_is_said_before_the_first_step(
    images: MultiResolutionImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=20_000))
    trainer = make(images, tmp_path)
    with pytest.raises(CheckpointError, match="bytes for checkpoints, but 20,000 are free"):
        trainer.fit()
    assert trainer.steps == 0


def test_a_directory_that_vanishes_in_the_middle_is_a_typed_error(
    images: MultiResolutionImages, tmp_path: Path
) -> None:
    class Remove(Callback):
        def on_step(self, trainer: Trainer, previous: int) -> None:
            if trainer.images_seen == 20:
                shutil.rmtree(tmp_path / "run")

    trainer = impatient(make(images, tmp_path / "run", callbacks=[Remove()], log_images=1000, max_failed_saves=1))
    with pytest.raises(CheckpointError, match="000000000024"):
        trainer.fit()


def test_a_second_run_in_the_directory_is_refused(images: MultiResolutionImages, tmp_path: Path) -> None:
    class Second(Callback):
        def on_step(self, trainer: Trainer, previous: int) -> None:
            with pytest.raises(CheckpointError, match=f"in use by another run .process {os.getpid()} on"):
                make(images, tmp_path).fit()

    assert make(images, tmp_path, callbacks=[Second()], total_images=4).fit().finished
    assert make(images, tmp_path, callbacks=[Callback()], total_images=8).fit().finished


@pytest.mark.parametrize(
    ("key", "value"), [("torch", "2.0.0"), ("threads", 77), ("cpu", "VSX"), ("batch_size", 5), ("processes", 2)]
)
def test_another_environment_is_refused_when_exact_and_told_when_lenient(
    images: MultiResolutionImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: object
) -> None:
    true_environment = Trainer._environment
    monkeypatch.setattr(Trainer, "_environment", lambda trainer: {**true_environment(trainer), key: value})
    make(images, tmp_path, total_images=8).fit()
    monkeypatch.undo()
    with pytest.raises(RunMismatchError, match=f"{key}: {value!r} there, .* now"):
        make(images, tmp_path).fit()
    with pytest.warns(RuntimeWarning, match=f"last bits: {key}: {value!r} there"):
        assert make(images, tmp_path, resume="lenient").fit().finished
    (told,) = events(tmp_path, "environment_changed")
    assert [line.split(":")[0] for line in told["differences"]] == [key]


@pytest.mark.parametrize("part", ["random", "environment"])
def test_a_checkpoint_without_a_part_is_refused_when_exact_and_told_when_lenient(
    images: MultiResolutionImages, tmp_path: Path, part: str
) -> None:
    trainer = make(images, tmp_path, total_images=8)
    trainer.fit()
    checkpoint = trainer.checkpoints.latest_valid()
    without = {key: value for key, value in checkpoint.state.items() if key != part}
    trainer.checkpoints.save(without, checkpoint.images_seen, checkpoint.metadata)
    words = {"random": "random state", "environment": "computed with"}[part]
    with pytest.raises(RunMismatchError, match=words):
        make(images, tmp_path).fit()
    with pytest.warns(RuntimeWarning, match=words):
        assert make(images, tmp_path, resume="lenient").fit().finished


@pytest.mark.parametrize("key", ["images_seen", "steps", "last_start", "step", "callbacks"])
def test_a_checkpoint_that_lacks_a_part_is_a_typed_error_before_anything_is_loaded(
    images: MultiResolutionImages, tmp_path: Path, key: str
) -> None:
    trainer = make(images, tmp_path, total_images=8)
    trainer.fit()
    checkpoint = trainer.checkpoints.latest_valid()
    state = {name: value for name, value in checkpoint.state.items() if name != key}
    trainer.checkpoints.save(state, checkpoint.images_seen, checkpoint.metadata)
    again = make(images, tmp_path)
    before = weights(again)
    with pytest.raises(CheckpointError, match=rf"000000000008 lacks '{key}' in its state"):
        again.fit()
    assert (again.images_seen, again.steps) == (0, 0)
    assert equal(weights(again), before)


@pytest.mark.parametrize("key", ["calls", "guard", "generator", "discriminator_optimizer", "generator_scaler", "ema"])
def test_a_step_whose_state_lacks_a_part_is_a_typed_error(
    images: MultiResolutionImages, tmp_path: Path, key: str
) -> None:
    trainer = make(images, tmp_path, total_images=8)
    trainer.fit()
    checkpoint = trainer.checkpoints.latest_valid()
    step = {name: value for name, value in checkpoint.state["step"].items() if name != key}
    trainer.checkpoints.save({**checkpoint.state, "step": step}, checkpoint.images_seen, checkpoint.metadata)
    with pytest.raises(CheckpointError, match=rf"000000000008 lacks '{key}' in the state of the step"):
        make(images, tmp_path).fit()


def test_a_callback_whose_state_lacks_a_part_is_a_typed_error(images: MultiResolutionImages, tmp_path: Path) -> None:
    class Counts(Callback):
        def load_state_dict(self, state: dict[str, int]) -> None:
            self.count = state["count"]

    make(images, tmp_path, callbacks=[Callback()], total_images=8).fit()
    with pytest.raises(CheckpointError, match="lacks 'count' in the state of the callback Counts"):
        make(images, tmp_path, callbacks=[Counts()]).fit()


def test_a_second_fit_of_one_trainer_begins_as_if_there_had_been_none(
    images: MultiResolutionImages, tmp_path: Path
) -> None:
    ended: list[bool] = []

    class Fails(Callback):
        failing = False

        def on_step(self, trainer: Trainer, previous: int) -> None:
            if self.failing:
                raise RuntimeError("power cut")

        def on_end(self, trainer: Trainer, finished: bool) -> None:
            ended.append(finished)

    callback = Fails()
    trainer = make(images, tmp_path, callbacks=[callback], total_images=8)
    assert trainer.fit().finished
    shutil.rmtree(tmp_path / "checkpoints" / "000000000008")
    assert trainer.fit().finished
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["000000000008"]
    callback.failing, trainer.total_images = True, 16
    with pytest.raises(RuntimeError, match="power cut"):
        trainer.fit()
    assert ended == [True, True, False]


def test_other_callbacks_are_refused_before_anything_is_loaded(images: MultiResolutionImages, tmp_path: Path) -> None:
    make(images, tmp_path, callbacks=[Callback()], total_images=8).fit()
    trainer = make(images, tmp_path)
    before = weights(trainer)
    with pytest.raises(RunMismatchError, match="saved with 1 callbacks, but there are 0 now"):
        trainer.fit()
    assert equal(weights(trainer), before)


def test_measuring_changes_no_bit(images: MultiResolutionImages, tmp_path: Path) -> None:
    """Whatever a measurement or a sheet draws from the global generators, training goes on as without it."""

    class Drawing(Callback):  # a network whose forward pass depends on the global generator would notice
        def on_step(self, trainer: Trainer, previous: int) -> None:
            drawn.append((torch.rand(()).item(), np.random.rand()))

    def spoil(trainer: Trainer) -> dict[str, float]:
        torch.manual_seed(5)
        np.random.seed(5)
        return {"distance": 1.0}

    def sheet(trainer: Trainer) -> Tensor:
        return torch.rand(4, 3, 8, 8)

    streams = []
    for name, extra in {"with": [Measurements(spoil), SampleSheets(sheet, animation=())], "without": []}.items():
        drawn: list[tuple[float, float]] = []
        np.random.seed(0)
        trainer = make(images, tmp_path / name, callbacks=[*extra, Drawing()])
        trainer.fit()
        streams.append((drawn, weights(trainer)))
    assert streams[0][0] == streams[1][0]
    assert equal(streams[0][1], streams[1][1])


def test_the_best_of_the_last_stage_is_kept(images: MultiResolutionImages, tmp_path: Path) -> None:
    scores = {28: 9.0, 36: 5.0, 48: 7.0, 60: 1.0, 72: 3.0, 8: 0.1}

    def measure(trainer: Trainer) -> dict[str, float]:
        return {"distance": scores.get(trainer.images_seen, 8.0)}

    measurements = Measurements(measure, fractions=(1 / 12, 1 / 4, 1 / 2, 3 / 4, 1.0))
    make(images, tmp_path, callbacks=[measurements], keep_last=1, keep_best=1, best_key="distance").fit()
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["000000000060", "000000000072"]  # 0.1 at 8 images was of another resolution


def test_a_run_that_was_asked_to_stop_goes_on_later(images: MultiResolutionImages, tmp_path: Path) -> None:
    class Ask(Callback):
        def on_step(self, trainer: Trainer, previous: int) -> None:
            if trainer.images_seen == 12:
                trainer.request_stop()

    result = make(images, tmp_path, callbacks=[Ask()]).fit()
    assert (result.images_seen, result.finished, result.exit_code) == (12, False, 0)
    assert make(images, tmp_path, callbacks=[Callback()]).fit().finished


def test_deterministic_lists_what_is_not(images: MultiResolutionImages) -> None:
    seen = []

    def step(batch: Tensor, labels: Tensor | None, context: StepContext) -> dict[str, Tensor]:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return {"loss": torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2), accumulate=False).sum()}

    run = Trainer(step, [torch.zeros(3, 1)], ConstantSchedule(10, 3, 1.0), deterministic=True)
    with pytest.raises(RuntimeError, match=r"put_.* deterministic"):
        run.fit()
    assert seen == [True]
    assert not torch.are_deterministic_algorithms_enabled()


def test_two_deterministic_runs_are_equal_to_the_bit(images: MultiResolutionImages) -> None:
    first, second = make(images, None, deterministic=True), make(images, None, deterministic=True)
    first.fit()
    second.fit()
    assert equal(weights(first), weights(second))


def test_a_clock_that_jumps_does_not_matter(
    images: MultiResolutionImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([1e9, 1e3, 2e9] * 1000)
    monkeypatch.setattr(time, "time", lambda: next(times))
    result = make(images, tmp_path, callbacks=[ProgressBar(enabled=True)]).fit()
    assert result.finished
    assert result.seconds >= 0


def test_a_closed_terminal_does_not_end_the_run(
    images: MultiResolutionImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(sys, "stderr", Gone())
    with pytest.warns(RuntimeWarning, match="progress"):
        assert make(images, tmp_path, callbacks=[ProgressBar(enabled=True)]).fit().finished


def test_a_log_that_was_deleted_is_begun_anew(images: MultiResolutionImages, tmp_path: Path) -> None:
    class Delete(Callback):
        def on_step(self, trainer: Trainer, previous: int) -> None:
            if trainer.images_seen == 20:
                trainer.log.path.unlink()

    assert make(images, tmp_path, callbacks=[Delete()]).fit().finished
    lines = [json.loads(line)["images_seen"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == [24, 32, 40, 48, 56, 64, 72]


def test_a_file_in_place_of_the_directory_is_a_typed_error(images: MultiResolutionImages, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("not a directory")
    with pytest.raises(CheckpointError, match="run"):
        make(images, tmp_path / "run")


def test_a_damaged_config_is_a_typed_error(images: MultiResolutionImages, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        make(images, tmp_path)


def test_dry_run_changes_nothing(images: MultiResolutionImages) -> None:
    trainer, untouched = make(images, None), make(images, None)
    trainer.dry_run()
    assert equal(weights(trainer), weights(untouched))
    trainer.fit()
    untouched.fit()
    assert equal(weights(trainer), weights(untouched))


def test_dry_run_reports_a_memory_that_does_not_suffice(
    images: MultiResolutionImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make(images, None)

    def hungry(self: object, *_: object) -> dict[str, Tensor]:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(type(trainer.step), "__call__", hungry)
    with pytest.raises(GanblocksError, match="batch 4 of 8x8 images"):
        trainer.dry_run()


def test_any_step_and_any_batches_will_do() -> None:
    """A user's own step, a plain list of batches, no run directory."""
    seen = []

    def step(batch: Tensor, labels: Tensor | None, context: StepContext) -> dict[str, Tensor]:
        seen.append((context.images_seen, len(batch)))
        return {"loss": batch.mean()}

    result = Trainer(step, [torch.zeros(3, 1), torch.zeros(2, 1)], ConstantSchedule(10, 3, 1.0)).fit()
    assert seen == [(0, 3), (3, 2), (5, 3), (8, 2)]
    assert result.finished


def test_worker_processes_end_with_the_run_however_it_ends() -> None:
    class Stream:
        closed = 0

        def batch(self, images_seen: int, count: int, resolution: int | None) -> tuple[Tensor, None]:
            return torch.zeros(count, 1), None

        def close(self) -> None:
            self.closed += 1

    stream = Stream()
    assert Trainer(lambda *_: {"loss": torch.ones(())}, stream, ConstantSchedule(6, 3, 1.0)).fit().finished
    assert stream.closed == 1
    with pytest.raises(NonFiniteError, match="loss"):
        Trainer(lambda *_: {"loss": torch.tensor(torch.nan)}, stream, ConstantSchedule(6, 3, 1.0), log_images=1).fit()
    assert stream.closed == 2


@pytest.mark.parametrize("name", ["total_images", "log_images", "save_images"])
def test_zero_is_refused(images: MultiResolutionImages, name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` is 0"):
        make(images, None, **{name: 0})
