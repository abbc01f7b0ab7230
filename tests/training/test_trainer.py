"""The loop: same weights however it is cut, a log that fits, a directory that belongs to one run."""

import errno
import json
import os
import signal
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
    StepContext,
    Trainer,
    new_run_directory,
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

    with pytest.raises(NonFiniteError, match=r"discriminator_loss.* at step 6 \(24 images\)"):
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
    trainer._resume()
    with pytest.raises(NonFiniteError, match="to_rgb"):
        trainer.save()
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_full_disk_is_a_typed_error_and_keeps_what_there_is(
    images: MultiResolutionImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(images, tmp_path, total_images=16).fit()
    trainer = make(images, tmp_path)
    trainer.checkpoints._backoff_seconds = 0

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="space"):
        trainer.fit()
    monkeypatch.undo()
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["000000000008", "000000000016"]
    assert make(images, tmp_path).fit().finished


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


@pytest.mark.parametrize("name", ["total_images", "log_images", "save_images"])
def test_zero_is_refused(images: MultiResolutionImages, name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` is 0"):
        make(images, None, **{name: 0})


def test_new_run_directory_never_reuses(tmp_path: Path) -> None:
    wanted = tmp_path / "run"
    assert new_run_directory(wanted) == wanted
    wanted.mkdir()
    assert new_run_directory(wanted) == wanted
    (wanted / "config.json").write_text("{}")
    assert new_run_directory(wanted) == tmp_path / "run-2"
    (tmp_path / "run-2").write_text("a file")
    assert new_run_directory(wanted) == tmp_path / "run-3"
