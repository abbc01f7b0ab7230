"""Kills and signals at random instants of real runs, many times, in forked children; prints what was lost as JSON.

Run as a program of its own, so that the parent of all children has never used a second thread:

    OMP_NUM_THREADS=1 python tests/reliability_campaigns.py kills --count 2000
    OMP_NUM_THREADS=1 python tests/reliability_campaigns.py signals --count 60
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # before torch is imported

import argparse
import dataclasses
import json
import random
import shutil
import signal
import statistics
import tempfile
import time
from pathlib import Path

import torch
from reliability_runs import (
    BATCH,
    Child,
    Draws,
    Note,
    Tells,
    log_lines,
    lost,
    newest,
    progan_images,
    progan_trainer,
    seed_everything,
)

from ganblocks.training import CheckpointStore


@dataclasses.dataclass
class Report:
    """What a campaign has done, and every loss in words."""

    stops: int = 0
    before_the_first_step: int = 0
    inside_a_save: int = 0
    finished_runs: int = 0
    too_late: int = 0
    losses: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0


class Campaign:
    """Stops one run after the other, again and again, resumes it each time, and looks at what is left.

    Args:
        scratch: Where the runs live.
        seed: Of the instants.
    """

    def __init__(self, scratch: Path, seed: int) -> None:
        self.scratch = scratch
        self.random = random.Random(seed)
        self.report = Report()
        self.images = progan_images()
        self.runs = 0
        whole = scratch / "whole"
        seed_everything(0)
        progan_trainer(self.images, whole, callbacks=[Draws(), Tells(lambda note: None)]).fit()
        checkpoint = newest(whole)
        assert checkpoint is not None
        self.whole, self.log, self.total = checkpoint.state, log_lines(whole), checkpoint.images_seen
        self._measure()
        self.begin()

    def _measure(self) -> None:
        """How long a child takes to its first save, and how long a save takes."""
        store = CheckpointStore(self.scratch / "store", keep_last=1)
        times = []
        for number in range(5):
            started = time.perf_counter()
            store.save(self.whole, number)
            times.append(time.perf_counter() - started)
        self.save_seconds = statistics.median(times)
        self.begin()
        started = time.perf_counter()
        child = self.child()
        child.wait_for("start")
        self.start_seconds = time.perf_counter() - started
        child.wait_for("save")
        self.first_save_seconds = time.perf_counter() - started  # followed from then on, as other load comes and goes
        self.step_seconds = (self.first_save_seconds - self.start_seconds) / self.keep_last
        code = child.end()
        assert code == 0, f"a run that nobody has stopped ended with {code}"

    def begin(self) -> None:
        """A new run directory; by turns two checkpoints kept, a save each second step, or one and a save each step."""
        shutil.rmtree(self.scratch / f"run-{self.runs}", ignore_errors=True)
        self.runs += 1
        self.run_dir = self.scratch / f"run-{self.runs}"
        self.keep_last = 1 + self.runs % 2
        self.best = -1  # images seen at the newest checkpoint that is known to be there

    def child(self, handler: bool = False) -> Child:
        """Go on with the run in a forked process, in fresh objects."""
        number = self.random.randrange(1, 2**31)

        def work(note: Note) -> int:
            if handler:
                signal.signal(signal.SIGTERM, lambda *_: note("handled 0"))
            # Whoever resumes has other weights and other random numbers before; who starts has those of the whole run.
            seed_everything(number if self.published() else 0)
            tells = Tells(note)
            options = {"callbacks": [Draws(), tells], "keep_last": self.keep_last, "metadata": tells.on_save}
            trainer = progan_trainer(self.images, self.run_dir, save_images=self.keep_last * BATCH, **options)
            return trainer.fit().exit_code

        return Child(work)

    def published(self) -> list[str]:
        """Names of the checkpoints, valid or not."""
        folder = self.run_dir / "checkpoints"
        return [path.name for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []

    def look(self, child: Child, what: str) -> int:
        """Check what a child has left behind; returns the images seen at the newest checkpoint, -1 without one."""
        what = f"run {self.runs} (keep_last={self.keep_last}), {what}, after {child.notes[-3:]}"
        returned = [int(a.split()[1]) for a, b in zip(child.notes, child.notes[1:], strict=False) if a[:4] == "save"]
        self.best = max([self.best, *returned])
        try:
            checkpoint = newest(self.run_dir)
        except Exception as error:
            self.report.losses.append(f"{what}: {type(error).__name__}: {error}")
            self.begin()
            return -1
        seen = -1 if checkpoint is None else checkpoint.images_seen
        if seen < self.best:
            self.report.losses.append(f"{what}: the checkpoint at {self.best} images is lost, {seen} is the newest")
        self.best = seen
        return seen

    def finish(self, child: Child) -> None:
        """Compare a finished run with the one that nothing has stopped, then begin another."""
        rotated = bool(child.said("save"))  # else a kill has come between the last save and the deletion of older ones
        checkpoint = newest(self.run_dir)
        difference = "no checkpoint" if checkpoint is None else lost(self.whole, checkpoint.state)
        if difference:
            self.report.losses.append(f"run {self.runs}, finished: {difference}")
        if log_lines(self.run_dir) != self.log:
            self.report.losses.append(f"run {self.runs}, finished: the log differs: {log_lines(self.run_dir)}")
        folders = [self.run_dir, self.run_dir / "checkpoints"]
        litter = [path.name for folder in folders for path in folder.iterdir() if "tmp" in path.name]
        litter += [name for name in os.listdir(folders[1]) if not name.isdigit()]
        if litter or (rotated and len(self.published()) > self.keep_last):
            self.report.losses.append(f"run {self.runs}, finished: {litter} and {self.published()} are left behind")
        self.report.finished_runs += 1
        self.begin()

    def kills(self, count: int) -> Report:
        """SIGKILL at random instants: over the whole of a child's life, and within its saves."""
        started = time.monotonic()
        while self.report.stops < count and len(self.report.losses) < 5:
            child = self.child()
            self._wait_somewhere(child)
            child.send(signal.SIGKILL)
            code = child.end()
            if code == -signal.SIGKILL:
                self.report.stops += 1
                self.report.before_the_first_step += not child.said("step")
                self.report.inside_a_save += self._torn(child.pid)
                self.look(child, f"kill {self.report.stops}")
            elif code == 0:
                self.look(child, "not killed")
                self.finish(child)
            else:
                self.report.losses.append(f"run {self.runs} could not go on: exit code {code}, {child.notes[-3:]}")
                self.begin()
        return self._done(started)

    def _wait_somewhere(self, child: Child) -> None:
        """Until a random instant: of its whole life, of one of its saves, or of the time when the files are written."""
        where = self.random.choice(("life", "save", "files"))
        if where == "life":
            time.sleep(self.random.uniform(0, 1.5 * self.first_save_seconds))
            return
        started = time.perf_counter()
        if not child.wait_for("save"):
            return  # it has ended
        self.first_save_seconds += 0.2 * (time.perf_counter() - started - self.first_save_seconds)
        if self.random.random() < 0.3:
            child.wait_for("save")
        if where == "save":
            time.sleep(self.random.uniform(0, 1.2 * self.save_seconds))
            return
        deadline = time.monotonic() + 20 * self.save_seconds  # the save may be over before this process looks
        while not self._torn(child.pid) and time.monotonic() < deadline:
            time.sleep(0)
        time.sleep(self.random.uniform(0, 0.5 * self.save_seconds))

    def signals(self, count: int) -> Report:
        """SIGTERM, each sixth time SIGINT, at random instants: every step is kept, and the exit code says it."""
        started = time.monotonic()
        while self.report.stops < count and len(self.report.losses) < 5:
            number = signal.SIGINT if self.report.stops % 6 == 5 else signal.SIGTERM
            before, handler = self.best, number == signal.SIGTERM and self.random.random() < 0.5
            child = self.child(handler)
            child.wait_for("start")
            left = (self.total - max(before, 0)) / BATCH
            time.sleep(self.random.uniform(0, min(4, left)) * self.step_seconds)
            child.send(number)
            code = child.end()
            steps = child.said("step")
            last = steps[-1] if steps else max(before, 0)
            if code == 0 or (code in (-number, 77) and child.said("end") == [self.total]):
                self.report.too_late += 1  # it was done before the signal came
                self.look(child, "finished")
                self.finish(child)
                continue
            self.report.stops += 1
            what = f"signal {self.report.stops} ({number.name})"
            self.report.before_the_first_step += not steps
            if code != 128 + number:
                self.report.losses.append(f"{what}: exit code {code}, not {128 + number}: {child.notes[-3:]}")
            seen = self.look(child, what)
            if seen != last:
                self.report.losses.append(f"{what}: step {last} was made, but the newest checkpoint is {seen}")
            if handler and "handled 0" in child.notes:
                at = child.notes.index("handled 0")
                self.report.inside_a_save += at > 0 and child.notes[at - 1][:4] == "save"
                after = [note for note in child.notes[at:] if note[:4] == "step"]
                if len(after) > 1:
                    self.report.losses.append(f"{what}: went on after the signal: {child.notes[at:]}")
            if seen >= self.total:
                self.finish(child)
        return self._done(started)

    def _torn(self, pid: int) -> bool:
        """Whether a checkpoint that this process writes or deletes lies half done."""
        folder = self.run_dir / "checkpoints"
        names = os.listdir(folder) if folder.is_dir() else []
        return any(f"-{pid}-" in name and "probe" not in name for name in names)

    def _done(self, started: float) -> Report:
        self.report.seconds = round(time.monotonic() - started, 1)
        return self.report


def main() -> None:
    """Run a campaign from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("kills", "signals"))
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        campaign = Campaign(Path(scratch), options.seed)
        report = campaign.kills(options.count) if options.kind == "kills" else campaign.signals(options.count)
    print(json.dumps(dataclasses.asdict(report), indent=1))


if __name__ == "__main__":
    main()
