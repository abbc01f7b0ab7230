"""The training loop: next batch, step, log, callbacks, checkpoint. What a step does is the step's own business."""

import contextlib
import copy
import dataclasses
import json
import math
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganblocks._checks import require
from ganblocks._version import __version__
from ganblocks.data.batches import as_batches
from ganblocks.errors import CheckpointError, GanblocksError, NonFiniteError, RunMismatchError
from ganblocks.training.callbacks import Callback
from ganblocks.training.checkpoint import CheckpointStore
from ganblocks.training.interrupt import GracefulStop
from ganblocks.training.logging import RunLog
from ganblocks.training.randomness import StepContext
from ganblocks.training.schedule import Phase, ProgressiveSchedule, Schedule
from ganblocks.training.state import random_state, restore_random_state
from ganblocks.training.steps import Step

__all__ = ["FitResult", "Trainer", "new_run_directory"]


@dataclasses.dataclass(frozen=True)
class FitResult:
    """How `Trainer.fit` ended.

    Attributes:
        images_seen: Real images seen by the whole run.
        finished: Whether the run came to its end.
        exit_code: 0, or 130 / 143 after SIGINT / SIGTERM.
        seconds: Of this call.
    """

    images_seen: int
    finished: bool
    exit_code: int
    seconds: float


class Trainer:
    """Trains with any `Step` on any data, and survives being stopped.

    Calling `fit` again, in a new process, with the same run directory goes on where the last checkpoint was, bit for
    bit: nothing random has a state of its own, all draws are functions of the seed and the images seen.

    Args:
        step: What one batch does.
        data: A `Batches`, a data set, or an iterable of batches; see `ganblocks.data.as_batches`.
        schedule: Resolution, batch size and learning rate as functions of images seen, and the end.
        run_dir: Where log, samples and checkpoints go, made if need be; ``None`` keeps nothing.
        seed: Of everything random in the run.
        total_images: Stop earlier (or later) than the schedule does; ``None`` = the schedule's end.
        settings: Whatever changes the science (architecture, recipe, data). Written to ``config.json``; a directory
            whose settings differ is refused.
        machine: Whatever may change between two parts of a run (device, workers, threads); logged at each start.
        callbacks: Called in this order.
        log_images: Images between two lines of the log.
        save_images: Images between two checkpoints; one is also saved at each stage's end and at the end.
        keep_last: Checkpoints kept.
        metadata: Gives what is to be written beside each checkpoint, as JSON; what one needs to use the networks later.

    Raises:
        ValueError: If a number is below 1.
        RunMismatchError: If the run directory was made with other settings.
        CheckpointError: If the run directory cannot be used.
    """

    def __init__(
        self,
        step: Step,
        data: Any,
        schedule: Schedule,
        *,
        run_dir: str | os.PathLike[str] | None = None,
        seed: int = 0,
        total_images: int | None = None,
        settings: Mapping[str, Any] | None = None,
        machine: Mapping[str, Any] | None = None,
        callbacks: Sequence[Callback] = (),
        log_images: int = 1000,
        save_images: int = 20_000,
        keep_last: int = 2,
        metadata: Callable[["Trainer"], Mapping[str, Any]] | None = None,
    ) -> None:
        for name, value in (("total_images", total_images), ("log_images", log_images), ("save_images", save_images)):
            require(value is None or value >= 1, name, value, "at least 1")
        self.step = step
        self.batches = as_batches(data, seed=seed)
        self.schedule = schedule
        self.seed = seed
        self.total_images = schedule.total_images if total_images is None else total_images
        self.machine = dict(machine or {})
        self.callbacks = list(callbacks)
        self.log_images = log_images
        self.save_images = save_images
        self.metadata = metadata
        self.images_seen = 0
        self.steps = 0
        self.phase: Phase = schedule.phase(0)
        self.run_dir = None if run_dir is None else Path(run_dir)
        self.log: RunLog | None = None
        self.checkpoints: CheckpointStore | None = None
        if self.run_dir is not None:
            self._settings = {"seed": seed, **dict(settings or {})}
            _require_own(self.run_dir, self._settings)
            self.log = RunLog(self.run_dir / "log.jsonl")
            self.checkpoints = CheckpointStore(self.run_dir / "checkpoints", keep_last=keep_last)

    def fit(self) -> FitResult:
        """Train to the end, from the newest checkpoint if there is one.

        SIGINT and SIGTERM end the run after the step in hand, with a checkpoint.

        Raises:
            NonFiniteError: If a logged value is NaN or infinite; the checkpoint before it stays.
        """
        started = time.monotonic()
        self._resume()
        with GracefulStop() as stop, contextlib.ExitStack() as endings:
            for callback in self.callbacks:
                callback.on_start(self)
                endings.callback(self._end, callback)
            while self.images_seen < self.total_images and not stop.requested:
                self.phase = self.schedule.phase(self.images_seen)
                images, labels = self.batches.batch(self.images_seen, self.phase.batch_size, self.phase.resolution)
                values = self.step(images, labels, StepContext(self.seed, self.images_seen, self.phase))
                previous, self.images_seen = self.images_seen, self.images_seen + len(images)
                self.steps += 1
                if self._due(previous, self.log_images):
                    self.record(values)
                for callback in self.callbacks:
                    callback.on_step(self, previous)
                if self._due(previous, self.save_images) or self.stage_ended:
                    self.save()
            self.save()
            self._finished = self.images_seen >= self.total_images
        return FitResult(self.images_seen, self._finished, stop.exit_code, time.monotonic() - started)

    @property
    def stage_ended(self) -> bool:
        """Whether the batch just trained on was the last of its stage."""
        return self.schedule.phase(self.images_seen).stage != self.phase.stage

    def record(self, values: Mapping[str, Tensor | float], **extra: Any) -> None:
        """Write one line of the log and hand it to the callbacks. This is where the host waits for the device.

        Raises:
            NonFiniteError: If a value is NaN or infinite.
        """
        names = list(values)
        numbers = torch.stack([torch.as_tensor(values[name]).detach().double().cpu() for name in names]).tolist()
        record: dict[str, Any] = {
            "images_seen": self.images_seen,
            "step": self.steps,
            "resolution": self.phase.resolution,
            "alpha": self.phase.alpha,
            "learning_rate": self.phase.learning_rate,
            **dict(zip(names, numbers, strict=True)),
            **extra,
        }
        bad = [name for name, number in zip(names, numbers, strict=True) if not math.isfinite(number)]
        if bad:
            raise NonFiniteError(
                f"{', '.join(bad)} not finite at step {self.steps} ({self.images_seen} images): "
                f"{ {name: record[name] for name in names} }. The last checkpoint is kept; "
                "lower the learning rate, or use precision bf16 or fp32"
            )
        if self.log is not None:
            self.log.append(record)
        for callback in self.callbacks:
            callback.on_record(self, record)

    def save(self) -> Path | None:
        """Write a checkpoint of this moment, unless there is one or there is no run directory."""
        if self.checkpoints is None or self.images_seen == self._saved_at:
            return None
        state = {
            "images_seen": self.images_seen,
            "steps": self.steps,
            "step": self.step.state_dict(),
            "callbacks": [callback.state_dict() for callback in self.callbacks],
            "random": random_state(),
        }
        self._saved_at: int = self.images_seen
        metadata = None if self.metadata is None else self.metadata(self)
        return self.checkpoints.save(state, self.images_seen, metadata)

    def dry_run(self) -> None:
        """One step of the largest phase on a copy, to learn now rather than after days whether memory suffices.

        Raises:
            GanblocksError: If it does not; the message names the resolution and the batch size.
        """
        schedule = self.schedule
        phase = schedule.largest_phase() if isinstance(schedule, ProgressiveSchedule) else schedule.phase(0)
        images, labels = self.batches.batch(0, phase.batch_size, phase.resolution)
        try:
            trial = copy.deepcopy(self.step)
            trial(images, labels, StepContext(self.seed, 0, phase))
        except (MemoryError, RuntimeError) as error:  # torch reports a full memory as RuntimeError on the CPU
            if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "allocate" not in str(error):
                raise
            raise GanblocksError(
                f"memory does not suffice for the largest stage: batch {phase.batch_size} of "
                f"{phase.resolution}x{phase.resolution} images ({error}). Use a smaller batch, fewer channels or a "
                "lower resolution"
            ) from error

    def _end(self, callback: Callback) -> None:
        callback.on_end(self, self._finished)

    def _due(self, previous: int, every: int) -> bool:
        return self.images_seen // every > previous // every

    def _resume(self) -> None:
        self._saved_at = -1
        self._finished = False
        if self.run_dir is None or self.log is None or self.checkpoints is None:
            return
        _claim(self.run_dir, self._settings)
        checkpoint = self.checkpoints.latest_valid()
        event = "start"
        if checkpoint is not None:
            event = "resume"
            state = checkpoint.state
            self.step.load_state_dict(state["step"])
            self.images_seen, self.steps = int(state["images_seen"]), int(state["steps"])
            if self.images_seen:
                self.phase = self.schedule.phase(self.images_seen - 1)
            for callback, saved in zip(self.callbacks, state["callbacks"], strict=True):
                callback.load_state_dict(saved)
            restore_random_state(state["random"])
            self._saved_at = self.images_seen
        self.log.rewind(self.images_seen)
        self.log.append({"event": event, "images_seen": self.images_seen, **_environment(), **self.machine})


def new_run_directory(path: str | os.PathLike[str]) -> Path:
    """The path itself if nothing is there yet, else the first free one of ``path-2``, ``path-3`` and so on."""
    wanted = Path(path)
    candidate, number = wanted, 1
    while candidate.exists() and (not candidate.is_dir() or any(candidate.iterdir())):
        number += 1
        candidate = wanted.with_name(f"{wanted.name}-{number}")
    return candidate


def _environment() -> dict[str, Any]:
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "ganblocks": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
    }


def _as_json(settings: dict[str, Any]) -> str:
    return json.dumps(settings, indent=2, sort_keys=True, default=str)


def _require_own(run_dir: Path, settings: dict[str, Any]) -> None:
    """Make sure that the directory can be made, or belongs to a run with these settings. Writes no settings."""
    path = run_dir / "config.json"
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        if path.exists():
            old = json.loads(path.read_text(encoding="utf-8"))
            _require_same_settings(old, json.loads(_as_json(settings)), run_dir)
    except OSError as error:
        raise CheckpointError(f"the run directory {run_dir} cannot be used: {error}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); remove it or choose another directory") from error


def _claim(run_dir: Path, settings: dict[str, Any]) -> None:
    """Write the settings, once, when training begins: what was only tried leaves the directory free."""
    path = run_dir / "config.json"
    if path.exists():
        return
    try:
        temporary = path.with_suffix(".tmp")
        temporary.write_text(_as_json(settings) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise CheckpointError(f"the run directory {run_dir} cannot be used: {error}") from error


def _require_same_settings(old: Mapping[str, Any], new: Mapping[str, Any], run_dir: Path) -> None:
    differing = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    if differing:
        lines = [f"  {key}: {old.get(key)!r} there, {new.get(key)!r} now" for key in differing]
        raise RunMismatchError(
            f"{run_dir} holds a run with other settings:\n" + "\n".join(lines) + "\n"
            "Use its settings to go on with it, another directory for a new run, or --fresh"
        )
