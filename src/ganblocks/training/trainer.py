"""The training loop: next batch, step, log, callbacks, checkpoint. What a step does is the step's own business."""

import contextlib
import dataclasses
import math
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ganblocks._checks import require
from ganblocks.data.batches import Batches, as_batches, part_of_batch
from ganblocks.errors import CheckpointError, NonFiniteError, RunMismatchError
from ganblocks.training.callbacks import Callback
from ganblocks.training.checkpoint import Checkpoint, CheckpointStore, complete
from ganblocks.training.distributed import Replicas, current_replicas
from ganblocks.training.environment import accepted_differences, describe_environment, device_of, settled_arithmetic
from ganblocks.training.interrupt import GracefulStop
from ganblocks.training.logging import RunLog
from ganblocks.training.random_state import random_state, restore_random_state
from ganblocks.training.randomness import StepContext
from ganblocks.training.run_directory import RunLock, claim_run_directory, require_own_run_directory
from ganblocks.training.schedule import Phase, ProgressiveSchedule, Schedule
from ganblocks.training.state import tensor_bytes
from ganblocks.training.steps import GuardedStep, Step
from ganblocks.training.trial import try_step

__all__ = ["FitResult", "Trainer"]


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
    bit: nothing random has a state of its own, all draws are functions of the seed and the images seen. One run at a
    time may train in a directory.

    Several processes (`joined_processes`) share each batch and make the updates of one. The first one has the run
    directory and the callbacks; what these decide, to stop or to lower the learning rate, all follow.

    Args:
        step: What one batch does.
        data: A `Batches`, a data set, or an iterable of batches; see `ganblocks.data.as_batches`.
        schedule: Resolution, batch size and learning rate as functions of images seen, and the end.
        run_dir: Where log, samples and checkpoints go, made if need be; ``None`` keeps nothing.
        seed: Of everything random in the run.
        total_images: Stop earlier (or later) than the schedule does; ``None`` = the schedule's end.
        settings: Whatever changes the science (architecture, recipe, data). Written to ``config.json``; a directory
            whose settings differ is refused.
        workers: Processes that load the items of a map-style data set; their number changes no bit.
        machine: Whatever else may change between two parts of a run; logged at each start.
        callbacks: Called in this order.
        log_images: Images between two lines of the log.
        save_images: Images between two checkpoints; one is also saved at each stage's end and at the end.
        keep_last: Checkpoints kept.
        keep_best: Checkpoints kept besides, those of the lowest ``best_key``.
        best_key: A measured value (`Measurements`) of which lower is better. In the last stage each of its
            measurements is saved with a checkpoint; earlier stages, of other resolutions, are not comparable.
        resume: What to do if the checkpoint was computed with another torch, number of threads or processes, kind of
            processor, device or batch size, so that the last bit may differ: ``"exact"`` refuses, ``"lenient"`` warns,
            writes an event, and goes on.
        deterministic: Whether operations that have no deterministic form raise instead of running.
        max_failed_saves: Saves on end that may fail (a full disk) before the run ends; the last save must succeed.
        metadata: Gives what is written beside each checkpoint, as JSON: what one needs to use the networks later.

    Raises:
        ValueError: If a number is below 1, a choice is unknown, or the processes cannot share a batch evenly.
        DistributedError: If ``torchrun`` started several processes that were not joined.
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
        workers: int = 0,
        machine: Mapping[str, Any] | None = None,
        callbacks: Sequence[Callback] = (),
        log_images: int = 1000,
        save_images: int = 20_000,
        keep_last: int = 2,
        keep_best: int = 0,
        best_key: str | None = None,
        resume: Literal["exact", "lenient"] = "exact",
        deterministic: bool = False,
        max_failed_saves: int = 3,
        metadata: Callable[["Trainer"], Mapping[str, Any]] | None = None,
    ) -> None:
        for name, value in (("total_images", total_images), ("log_images", log_images), ("save_images", save_images)):
            require(value is None or value >= 1, name, value, "at least 1")
        require(max_failed_saves >= 1, "max_failed_saves", max_failed_saves, "at least 1")
        require(resume in ("exact", "lenient"), "resume", resume, "'exact' or 'lenient'")
        require((keep_best > 0) == (best_key is not None), "best_key", best_key, "given if and only if keep_best is")
        self.replicas: Replicas = current_replicas()
        for size in getattr(schedule, "batch_sizes", (schedule.phase(0).batch_size,)):
            even = size % self.replicas.count == 0
            require(even, "batch_size", size, f"divisible by the number of processes, {self.replicas.count}")
        self.step = step
        self.batches: Batches = as_batches(data, seed=seed, workers=workers)
        self.schedule = schedule
        self.seed = seed
        self.total_images: int = schedule.total_images if total_images is None else total_images
        self.machine: dict[str, Any] = {"workers": workers, **dict(machine or {})}
        self.callbacks: list[Callback] = [] if self.replicas.rank else list(callbacks)
        self.log_images = log_images
        self.save_images = save_images
        self.best_key = best_key
        self.resume = resume
        self.deterministic = deterministic
        self.max_failed_saves = max_failed_saves
        self.metadata = metadata
        self.images_seen: int = 0
        self.steps: int = 0
        self.phase: Phase = schedule.phase(0)
        self.values: Mapping[str, Tensor] = {}  # what the last step returned
        self.learning_rate_scale: float = 1.0  # of the schedule's rate; `ReduceOnPlateau` lowers it
        self.run_dir: Path | None = None if run_dir is None or self.replicas.rank else Path(run_dir)
        self.log: RunLog | None = None
        self.checkpoints: CheckpointStore | None = None
        self._stop = GracefulStop()
        self._last_start = 0  # images seen before the last step: its phase, which a batch may overshoot
        self._saved_at = -1
        self._failed_saves = self._skipped = 0
        self._score: float | None = None
        self._finished = False
        if self.run_dir is not None:
            self._settings = {"seed": seed, **dict(settings or {})}
            require_own_run_directory(self.run_dir, self._settings)
            self.log = RunLog(self.run_dir / "log.jsonl")
            self.checkpoints = CheckpointStore(self.run_dir / "checkpoints", keep_last=keep_last, keep_best=keep_best)

    def fit(self) -> FitResult:
        """Train to the end, from the newest checkpoint if there is one.

        SIGINT and SIGTERM end the run after the step in hand, with a checkpoint.

        Raises:
            NonFiniteError: If a logged value is NaN or infinite, or an update was left out for that reason; the
                checkpoint before it stays.
            RunMismatchError: If the checkpoint was computed in another way and ``resume`` is ``"exact"``.
            CheckpointError: If another process trains in the directory, no checkpoint of it is intact or the newest
                lacks a part, the disk is too full to begin, or saving failed too often.
        """
        started = time.monotonic()
        self._finished, self._saved_at = False, -1
        with contextlib.ExitStack() as endings:
            if self.run_dir is not None:
                endings.enter_context(RunLock(self.run_dir))
            self._stop = endings.enter_context(GracefulStop())
            endings.enter_context(settled_arithmetic(deterministic=self.deterministic))
            if hasattr(self.batches, "close"):  # worker processes
                endings.callback(self.batches.close)
            self._begin()
            self._follow_the_first()
            for callback in reversed(self.callbacks):  # what is left last is done first: they end in their own order
                endings.callback(lambda ending=callback: ending.on_end(self, self._finished))  # type: ignore[misc]
            for callback in self.callbacks:
                callback.on_start(self)
            while self.images_seen < self.total_images and not self._all_stop():
                self.phase = self.schedule.phase(self.images_seen).scaled(self.learning_rate_scale)
                images, labels = self._batch(self.images_seen, self.phase)
                shared = self.replicas, self.replicas.rank, self.replicas.count
                self.values = self.step(images, labels, StepContext(self.seed, self.images_seen, self.phase, *shared))
                previous, self.images_seen = self.images_seen, self.images_seen + len(images) * self.replicas.count
                self._last_start = previous
                self.steps += 1
                self._score = None
                if self._due(previous, self.log_images):
                    self.record(self.replicas.mean(self.values))
                for callback in self.callbacks:
                    callback.on_step(self, previous)
                regular = self._due(previous, self.save_images) or self.stage_ended
                if regular or self._score is not None:
                    self.save(of_all=regular)
            self.save(of_all=True, final=True)
            self._finished = self.images_seen >= self.total_images
        exit_code, _ = self.replicas.agree(self._stop.exit_code)  # the first one has written all when others end
        return FitResult(self.images_seen, self._finished, exit_code, time.monotonic() - started)

    @property
    def stage_ended(self) -> bool:
        """Whether the batch just trained on was the last of its stage."""
        return self.schedule.phase(self.images_seen).stage != self.phase.stage

    @property
    def stop_requested(self) -> bool:
        """Whether the run is to end after the step in hand. Long callbacks may look at it."""
        return self._stop.requested

    def request_stop(self) -> None:
        """End the run after the step in hand, with a checkpoint; the same command goes on with it."""
        self._stop.request()

    def record(self, values: Mapping[str, Tensor | float], **extra: Any) -> None:
        """Write one line of the log and hand it to the callbacks. This is where the host waits for the device.

        Raises:
            NonFiniteError: If a value is NaN or infinite, or more updates were left out than the step allows.
        """
        names = list(values)
        exact = [torch.as_tensor(values[name], dtype=torch.float64).detach().cpu() for name in names]
        numbers = torch.stack(exact).tolist()
        record: dict[str, Any] = {
            "images_seen": self.images_seen,
            "step": self.steps,
            "resolution": self.phase.resolution,
            "alpha": self.phase.alpha,
            "learning_rate": self.phase.learning_rate,
            **dict(zip(names, numbers, strict=True)),
            **extra,
        }
        tolerated = self._look_at_skipped()
        bad = [name for name, number in zip(names, numbers, strict=True) if not math.isfinite(number)]
        if bad and not tolerated:
            raise NonFiniteError(
                f"{', '.join(bad)} not finite at step {self.steps} ({self.images_seen} images): "
                f"{ {name: record[name] for name in names} }. The last checkpoint is kept; "
                "lower the learning rate, or use precision bf16 or fp32"
            )
        last_stage = self.schedule.phase(self.schedule.total_images - 1).stage
        if self.best_key is not None and self.best_key in values and self.phase.stage == last_stage:
            self._score = record[self.best_key]
        if self.log is not None:
            self.log.append(record)
        for callback in self.callbacks:
            callback.on_record(self, record)

    def event(self, name: str, **details: Any) -> None:
        """Write a line of the log that tells of something that happened.

        Args:
            name: What happened, such as ``"divergence"``.
            **details: Anything JSON.
        """
        if self.log is not None:
            now = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "images_seen": self.images_seen}
            self.log.append({"event": name, **now, **details})

    def save(self, *, of_all: bool = False, final: bool = False) -> Path | None:
        """Write a checkpoint of this moment, unless there is one or there is no run directory.

        A save that fails is an event and a warning, and the next one tries again, up to ``max_failed_saves`` on end.

        Args:
            of_all: Whether all processes are here: then none saves what is no longer the same in each.
            final: Whether a failure is an error at once.

        Raises:
            NonFiniteError: If a weight, a moment or an update left out is not finite; nothing was written.
            CheckpointError: If saving failed, and did so too often or must not fail.
        """
        if of_all and self.replicas.count > 1:
            self.replicas.require_equal(self.step.state_dict(), "the state of the step")
        if self.checkpoints is None or self.images_seen == self._saved_at:
            return None
        self._look_at_skipped()
        state = {
            "images_seen": self.images_seen,
            "steps": self.steps,
            "last_start": self._last_start,
            "step": self.step.state_dict(),
            "callbacks": [callback.state_dict() for callback in self.callbacks],
            "random": random_state(),
            "environment": self._environment(),
        }
        metadata = None if self.metadata is None else self.metadata(self)
        try:
            path = self.checkpoints.save(state, self.images_seen, metadata, score=self._score)
        except CheckpointError as error:
            self._failed_saves += 1
            if final or self._failed_saves >= self.max_failed_saves:
                raise
            self.event("save_failed", message=str(error))
            warnings.warn(f"training goes on, but {error}", RuntimeWarning, stacklevel=2)
            return None
        self._failed_saves, self._saved_at = 0, self.images_seen
        return path

    def dry_run(self) -> None:
        """One step of the largest phase on a copy, to learn now rather than after days whether memory suffices.

        Raises:
            GanblocksError: If it does not; the message names the resolution and the batch size.
        """
        schedule = self.schedule
        phase = schedule.largest_phase() if isinstance(schedule, ProgressiveSchedule) else schedule.phase(0)
        try_step(self.step, *self._batch(0, phase), self.seed, phase)

    def _batch(self, images_seen: int, phase: Phase) -> tuple[Tensor, Tensor | None]:
        """This process's part of a batch."""
        shared = {"part": self.replicas.rank, "parts": self.replicas.count}
        return part_of_batch(self.batches, images_seen, phase.batch_size, phase.resolution, **shared)

    def _all_stop(self) -> bool:
        """Whether any process was asked to stop. The first one's scale of the learning rate becomes that of all."""
        stops, self.learning_rate_scale = self.replicas.agree(int(self.stop_requested), self.learning_rate_scale)
        return bool(stops)

    def _due(self, previous: int, every: int) -> bool:
        return self.images_seen // every > previous // every

    def _environment(self) -> dict[str, Any]:
        step = {"device": device_of(self.step), "batch_size": self.phase.batch_size}
        return {**describe_environment(), "processes": self.replicas.count, **step}

    def _look_at_skipped(self) -> bool:
        """Whether updates were left out since the last look, as many as the step allows; an event tells of it."""
        if not isinstance(self.step, GuardedStep):
            return False
        skipped = self.step.skipped_updates()
        before, self._skipped = self._skipped, skipped
        if skipped > before:
            self.event("skipped_update", total=skipped)
        return skipped > before

    def _begin(self) -> None:
        """Take over the newest checkpoint, or begin; write which of the two into the log."""
        if self.run_dir is None or self.log is None or self.checkpoints is None:
            return
        claim_run_directory(self.run_dir, self._settings)
        checkpoint = self.checkpoints.latest_valid()
        differences = [] if checkpoint is None else self._take_over(checkpoint)
        if self.images_seen < self.total_images:
            self.checkpoints.require_space(self._expected_bytes(fresh=checkpoint is None))
        self.log.rewind(self.images_seen)
        about = {**self.machine, **self._environment(), "total_images": self.total_images}
        self.event("start" if checkpoint is None else "resume", **about)
        if differences:
            self.event("environment_changed", differences=differences)

    def _take_over(self, checkpoint: Checkpoint) -> list[str]:
        """Restore everything; returns how the bits may differ from those of a run without interruption."""
        state = checkpoint.state
        with complete(checkpoint, "its state"):
            images_seen, steps, last_start = (int(state[key]) for key in ("images_seen", "steps", "last_start"))
            of_step, of_callbacks = state["step"], state["callbacks"]
        self.images_seen, self.steps, self._last_start = images_seen, steps, last_start
        self.phase = self.schedule.phase(self._last_start)
        differences = accepted_differences(state, self._environment(), checkpoint.path, exact=self.resume == "exact")
        if len(of_callbacks) != len(self.callbacks):
            raise RunMismatchError(
                f"{checkpoint.path} was saved with {len(of_callbacks)} callbacks, but there are "
                f"{len(self.callbacks)} now: give the same ones in the same order"
            )
        for difference in differences:
            warnings.warn(f"the resumed run may differ in the last bits: {difference}", RuntimeWarning, stacklevel=2)
        with complete(checkpoint, "the state of the step"):
            self.step.load_state_dict(of_step)
        for callback, saved in zip(self.callbacks, of_callbacks, strict=True):
            with complete(checkpoint, f"the state of the callback {type(callback).__name__}"):
                callback.load_state_dict(saved)
        if "random" in state:
            restore_random_state(state["random"])
        self._saved_at = self.images_seen
        if isinstance(self.step, GuardedStep):
            self._skipped = self.step.skipped_updates()
        return differences

    def _follow_the_first(self) -> None:
        """Begin where the first process begins, and with what it has."""
        if self.replicas.count > 1:
            where = [self.images_seen, self.steps, self._last_start]
            first = self.replicas.share({"where": where, "step": self.step.state_dict()})
            if self.replicas.rank:
                self.images_seen, self.steps, self._last_start = first["where"]
                self.step.load_state_dict(first["step"])

    def _expected_bytes(self, *, fresh: bool) -> int:
        """Size of the next checkpoint: before the first step, optimizers have yet to make moments of each weight."""
        return tensor_bytes(self.step.state_dict()) * (3 if fresh else 1)
