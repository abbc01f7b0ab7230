"""Small real runs for the reliability tests: how they are built, forked, stopped and compared."""

import hashlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

import ganblocks
from ganblocks.data import MultiResolutionImages, Shapes
from ganblocks.models.progan import Discriminator, Generator, ProGANConfig
from ganblocks.training import Callback, Checkpoint, CheckpointStore, Trainer, recipes

BATCH = 4


def progan_images() -> MultiResolutionImages:
    """24 drawn grey images of 4 and 8 pixels, in memory."""
    return MultiResolutionImages(Shapes(24, seed=1, image_channels=1), resolution=8)


def progan_trainer(images: MultiResolutionImages, run_dir: Path | None, **options: Any) -> Trainer:
    """Hold 4x4, fade in 8x8, hold 8x8: three phases of four steps, an average, a checkpoint every second step."""
    config = ProGANConfig.karras2018(8, latent_dim=4, max_channels=4, image_channels=1)
    recipe = recipes.karras2018(phase_images=4 * BATCH, batch_sizes=dict.fromkeys((4, 8), BATCH))
    step = recipe.build_step(Generator(config), Discriminator(config), latent_dim=4)
    options = {"log_images": BATCH, "save_images": 2 * BATCH, **options}
    return Trainer(step, images, recipe.schedule(8), run_dir=run_dir, **options)


def seed_everything(seed: int) -> None:
    """What a new process may have drawn before, in each of the three global generators."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class Draws(Callback):
    """Draws from every global generator, as a user's own augmentation or dropout would, and remembers what came."""

    def __init__(self) -> None:
        self.drawn: dict[str, float] = {"python": 0.0, "numpy": 0.0, "torch": 0.0}

    def on_step(self, trainer: Trainer, previous: int) -> None:
        fresh = {"python": random.random(), "numpy": float(np.random.rand()), "torch": float(torch.rand(()))}
        self.drawn = {name: 0.5 * self.drawn[name] + value for name, value in fresh.items()}

    def state_dict(self) -> dict[str, Any]:
        return dict(self.drawn)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.drawn = dict(state)


def parts(state: Any, path: str = "") -> dict[str, str]:
    """Every leaf of a nested state by its path, as text that is equal only if the leaf is, bit for bit."""
    if isinstance(state, Mapping):
        items = [(str(key), value) for key, value in state.items()]
    elif isinstance(state, list | tuple):
        items = [(str(index), value) for index, value in enumerate(state)]
    elif isinstance(state, Tensor | np.ndarray):
        array = torch.as_tensor(state).detach().cpu().contiguous()
        content = hashlib.sha256(array.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()[:16]
        return {path: f"{array.dtype} {tuple(array.shape)} {content}"}
    else:
        return {path: repr(state)}
    found = {f"{path} of size": str(len(items))}
    for key, value in items:
        found |= parts(value, f"{path}/{key}")
    return found


def lost(expected: Any, found: Any) -> str:
    """What differs between two states, by name; empty if they are equal bit for bit."""
    a, b = parts(expected), parts(found)
    names = sorted(name for name in {*a, *b} if a.get(name) != b.get(name))
    shown = "".join(f"\n  {name}: {a.get(name)} expected, {b.get(name)} found" for name in names[:6])
    return f"{len(names)} of {len(a)} parts of the state are lost:{shown}" if names else ""


def log_lines(run_dir: Path) -> list[str]:
    """The lines of the log that hold measurements."""
    return [line for line in (run_dir / "log.jsonl").read_text().splitlines() if '"event"' not in line]


def newest(run_dir: Path) -> Checkpoint | None:
    """What a new process would go on from; found on a copy, so that nobody cleans up for the run itself.

    Any damage is an error here, even where an older checkpoint would do.
    """
    checkpoints = run_dir / "checkpoints"
    if not checkpoints.is_dir():
        return None
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("error")
        copy = shutil.copytree(checkpoints, Path(scratch) / "checkpoints")
        return CheckpointStore(copy).latest_valid()


class NoisyImages(Dataset[Tensor]):
    """Twenty images of 8 pixels with an augmentation that draws from every global generator."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Tensor:
        return torch.full((1, 8, 8), index / 20) + 0.1 * torch.rand(1, 8, 8) * random.random() * np.random.rand()


Note = Callable[[str], None]


class Tells(Callback):
    """Notes when training begins, each step, each save about to happen, and the end."""

    def __init__(self, note: Note) -> None:
        self.note = note

    def on_start(self, trainer: Trainer) -> None:
        self.note(f"start {trainer.images_seen}")

    def on_step(self, trainer: Trainer, previous: int) -> None:
        self.note(f"step {trainer.images_seen}")

    def on_end(self, trainer: Trainer, finished: bool) -> None:
        self.note(f"end {trainer.images_seen}")

    def on_save(self, trainer: Trainer) -> dict[str, Any]:
        """For the trainer's ``metadata``, which is asked for at the beginning of each save."""
        self.note(f"save {trainer.images_seen}")
        return {}


class Child:
    """A forked process that tells through a pipe what it does. Its parent must have used one thread only.

    Args:
        work: Called in the child with a function that sends a line to the parent; returns the exit code.
    """

    def __init__(self, work: Callable[[Note], int]) -> None:
        self.notes: list[str] = []
        self._rest = b""
        self._reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads that torch may keep
            self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.close(self._reader)
                code = work(lambda note: _write(writer, note))
            except KeyboardInterrupt:
                code = 77
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writer)

    def wait_for(self, kind: str, seconds: float = 120.0) -> bool:
        """Read notes until a new one of this kind comes; False if the child ended before."""
        start, deadline = len(self.notes), time.monotonic() + seconds
        while not any(note.split()[0] == kind for note in self.notes[start:]):
            readable, _, _ = select.select([self._reader], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                os.kill(self.pid, signal.SIGKILL)
                raise AssertionError(f"the child has hung for {seconds} s: no {kind!r} after {self.notes[-3:]}")
            data = os.read(self._reader, 65536)
            if not data:
                return False
            *lines, self._rest = (self._rest + data).split(b"\n")
            self.notes += [line.decode() for line in lines]
        return True

    def send(self, number: int) -> None:
        """Send it a signal; nothing happens if it has ended."""
        os.kill(self.pid, number)

    def end(self, seconds: float = 120.0) -> int:
        """Wait for the end; the exit code, negative if a signal has killed it."""
        self.wait_for("its end", seconds)
        os.close(self._reader)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def said(self, kind: str) -> list[int]:
        """The numbers of all notes of this kind, in order."""
        return [int(note.split()[1]) for note in self.notes if note.split()[0] == kind]


def _write(descriptor: int, note: str) -> None:
    os.write(descriptor, f"{note}\n".encode())


def environment() -> dict[str, str]:
    """The one of this process, with the library under test and one thread."""
    source = str(Path(ganblocks.__file__).parents[1])
    paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "GANBLOCKS_DATA": ""}


def run_campaign(kind: str, count: int, seed: int, folder: Path) -> dict[str, Any]:
    """Run a campaign in a program of its own, whose children inherit nothing from pytest."""
    program = Path(__file__).with_name("reliability_campaigns.py")
    process = subprocess.run(
        [sys.executable, str(program), kind, f"--count={count}", f"--seed={seed}"],
        env={**environment(), "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, f"the campaign itself failed:\n{process.stdout}\n{process.stderr}"
    report: dict[str, Any] = json.loads(process.stdout)
    print(json.dumps({**report, "errors": process.stderr[-2000:]}, indent=1))
    return report
