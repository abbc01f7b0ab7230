"""What happens beside training: progress, sample sheets, TensorBoard, distances, curves and animation."""

import contextlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from ganblocks._checks import require
from ganblocks.training.random_state import preserved_random_state
from ganblocks.training.schedule import ProgressiveSchedule
from ganblocks.visualization.animation import save_animation
from ganblocks.visualization.curves import save_curves
from ganblocks.visualization.grid import image_grid, save_image_grid

if TYPE_CHECKING:
    from ganblocks.training.trainer import Trainer

__all__ = [
    "Callback",
    "Measurements",
    "ProgressBar",
    "SampleSheets",
    "Summary",
    "TensorBoard",
    "describe",
    "passed",
    "print_above_bar",
]

Draw = Callable[["Trainer"], Tensor]
"""Makes images ``[N, C, H, W]`` in [-1, 1] from the state of a run, always from the same latents."""


class Callback:
    """Does nothing at each of the five moments. Subclasses override the ones they need."""

    def on_start(self, trainer: "Trainer") -> None:
        """Training begins or goes on; the state is already restored."""

    def on_step(self, trainer: "Trainer", previous: int) -> None:
        """A step was made; ``previous`` is the number of images seen before it."""

    def on_record(self, trainer: "Trainer", record: Mapping[str, Any]) -> None:
        """A line of the log was written."""

    def on_end(self, trainer: "Trainer", finished: bool) -> None:
        """Training ended (``finished``) or was stopped; the checkpoint is written."""

    def state_dict(self) -> dict[str, Any]:
        """What must be carried over to a resumed run."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""


class ProgressBar(Callback):
    """Images per second, time left, losses, resolution and alpha in one line.

    A terminal that is gone (a closed pipe) ends the bar with a ``RuntimeWarning``, not the run.

    Args:
        enabled: Whether to show it; ``None`` = only where standard error is a terminal.
    """

    def __init__(self, enabled: bool | None = None) -> None:
        self.enabled: bool = sys.stderr.isatty() if enabled is None else enabled
        self._bar: Any = None

    def on_start(self, trainer: "Trainer") -> None:
        """Open the bar where the run stands."""
        with self._surviving():
            self._bar = tqdm(
                total=trainer.total_images,
                initial=trainer.images_seen,
                unit="img",
                unit_scale=True,
                dynamic_ncols=True,
                smoothing=0.05,
                disable=not self.enabled,
                delay=1e-9,  # drawn below: before tqdm 4.69.1, a bar that fails while it is made fails again in __del__
            )
            self._bar.refresh()

    def on_step(self, trainer: "Trainer", previous: int) -> None:
        """Advance by the images of the step."""
        if self._bar is not None:
            with self._surviving():
                self._bar.update(trainer.images_seen - previous)

    def on_record(self, trainer: "Trainer", record: Mapping[str, Any]) -> None:
        """Show the newest values."""
        if self._bar is None:
            return
        resolution = record.get("resolution")
        if resolution is not None:
            self._bar.set_description(f"{resolution}x{resolution} alpha {record['alpha']:.2f}", refresh=False)
        shown = {"D": "discriminator_loss", "G": "generator_loss", "gp": "penalty", "loss": "loss"}
        values = {short: f"{record[key]:.2f}" for short, key in shown.items() if key in record}
        if values:
            self._bar.set_postfix(values, refresh=False)

    def on_end(self, trainer: "Trainer", finished: bool) -> None:
        """Close the bar."""
        if self._bar is not None:
            with self._surviving():
                self._bar.close()

    @contextlib.contextmanager
    def _surviving(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: the file was closed by Python
            if self._bar is not None:
                self._bar.disable = True  # nothing is written when it is closed or collected either
            self._bar = None
            # tqdm does not give its lock back when drawing fails, and bars of other threads would wait for it for ever.
            lock: Any = tqdm.get_lock()  # type: ignore[no-untyped-call, unused-ignore]
            with contextlib.suppress(AssertionError, RuntimeError):  # not held: it was closing
                lock.release()
            warnings.warn(f"the progress bar cannot be written any more: {error}", RuntimeWarning, stacklevel=3)


class SampleSheets(Callback):
    """Saves a sheet of images from fixed latents, at regular points and at the end of each stage.

    Files are ``samples/<images seen>_<resolution>px.png`` in the run directory; at the end, also an animation of all.

    Args:
        draw: Makes the images.
        fractions: Points of each stage, as shares of its length; 1 is its end.
        size: Side of one image on the sheet in pixels; smaller images are enlarged by whole factors.
        columns: Images in a row; ``None`` = nearly square.
        animation: File names of the animations made at the end, by suffix ``.gif`` or ``.webp``.
    """

    def __init__(
        self,
        draw: Draw,
        *,
        fractions: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
        size: int = 64,
        columns: int | None = None,
        animation: Sequence[str] = ("progress.gif", "progress.webp"),
    ) -> None:
        self.draw = draw
        self.fractions: tuple[float, ...] = tuple(fractions)
        self.size = size
        self.columns = columns
        self.animation: tuple[str, ...] = tuple(animation)

    def on_step(self, trainer: "Trainer", previous: int) -> None:
        """Save a sheet if one is due."""
        if trainer.run_dir is None or not passed(trainer, previous, self.fractions):
            return
        with preserved_random_state():
            resolution = trainer.phase.resolution
            name = f"{trainer.images_seen:012d}" + ("" if resolution is None else f"_{resolution}px") + ".png"
            folder = trainer.run_dir / "samples"
            folder.mkdir(exist_ok=True)
            images = self.draw(trainer)
            scale = max(1, self.size // images.shape[-1])
            save_image_grid(images, folder / name, columns=self.columns, scale=scale)

    def on_end(self, trainer: "Trainer", finished: bool) -> None:
        """Make the animations."""
        if trainer.run_dir is None or not finished:
            return
        frames = sorted((trainer.run_dir / "samples").glob("*.png"))
        if frames:
            for name in self.animation:
                save_animation(frames, trainer.run_dir / name)


class Measurements(Callback):
    """Computes numbers at given points of each stage and writes them to the log.

    Args:
        measure: Maps the trainer to numbers by log key. It must leave networks and optimizers as they are; the global
            random state is put back after it.
        fractions: Points of each stage, as shares of its length; 1 is its end.
        show: Whether the numbers are also printed, above the progress bar.
    """

    def __init__(
        self,
        measure: Callable[["Trainer"], Mapping[str, float]],
        *,
        fractions: Sequence[float] = (0.01, 0.25, 0.5, 0.75, 1.0),
        show: bool = False,
    ) -> None:
        self.measure = measure
        self.show = show
        self.fractions: tuple[float, ...] = tuple(fractions)

    def on_step(self, trainer: "Trainer", previous: int) -> None:
        """Measure if it is due."""
        if passed(trainer, previous, self.fractions):
            with preserved_random_state():
                measured = self.measure(trainer)
            trainer.record(measured)
            if self.show:
                print_above_bar(describe(trainer, measured))


class TensorBoard(Callback):
    """Writes every record, and a sheet of samples, as TensorBoard events into the run directory.

    Args:
        draw: Makes the images of the sheet called "samples"; ``None`` for none.
        fractions: Points of each stage at which sheets are written.
        tags: Names of values that are to differ from their key in the log, such as
            ``{"generator_loss": "Loss/Generator"}``.
        sheets: Further sheets, by name.

    Raises:
        ImportError: If TensorBoard is not installed; the message names the command that installs it.
    """

    def __init__(
        self,
        draw: Draw | None = None,
        *,
        fractions: Sequence[float] = (0.5, 1.0),
        tags: Mapping[str, str] | None = None,
        sheets: Mapping[str, Draw] | None = None,
    ) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # deprecations inside TensorBoard's own imports
                from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError('TensorBoard is missing: pip install "ganblocks[train]"') from error
        self.sheets: dict[str, Draw] = {**({} if draw is None else {"samples": draw}), **(sheets or {})}
        self.tags: dict[str, str] = dict(tags or {})
        self.fractions: tuple[float, ...] = tuple(fractions)
        self._make_writer = SummaryWriter
        self._writer: Any = None

    def on_start(self, trainer: "Trainer") -> None:
        """Open an event file; events after the point of resumption are hidden by TensorBoard."""
        if trainer.run_dir is not None:
            later = trainer.images_seen + 1  # what was written at the checkpoint itself is not made again
            self._writer = self._make_writer(str(trainer.run_dir / "tensorboard"), purge_step=later)

    def on_step(self, trainer: "Trainer", previous: int) -> None:
        """Write the sheets if they are due."""
        if self._writer is None or not self.sheets or not passed(trainer, previous, self.fractions):
            return
        for name, draw in self.sheets.items():
            with preserved_random_state():
                sheet = image_grid(draw(trainer)).convert("RGB")
            pixels = torch.frombuffer(bytearray(sheet.tobytes()), dtype=torch.uint8)
            pixels = pixels.reshape(sheet.height, sheet.width, 3)
            self._writer.add_image(name, pixels, trainer.images_seen, dataformats="HWC")

    def on_record(self, trainer: "Trainer", record: Mapping[str, Any]) -> None:
        """Write every number of the record."""
        if self._writer is not None:
            for key, value in record.items():
                if key != "images_seen" and isinstance(value, (int, float)):
                    self._writer.add_scalar(self.tags.get(key, key), value, trainer.images_seen)

    def on_end(self, trainer: "Trainer", finished: bool) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()


class Summary(Callback):
    """Draws the log as curves at the end of a run, ``curves.png`` in the run directory.

    Args:
        file_name: Name of the picture, by suffix ``.png`` or ``.svg``.
        title: Over the curves; ``None`` = the name of the run directory.

    Raises:
        ImportError: If matplotlib is not installed; said at the start, not after days of training.
    """

    def __init__(self, file_name: str = "curves.png", *, title: str | None = None) -> None:
        if importlib.util.find_spec("matplotlib") is None:
            raise ImportError('curves need matplotlib: pip install "ganblocks[train]"')
        self.file_name = file_name
        self.title = title

    def on_end(self, trainer: "Trainer", finished: bool) -> None:
        """Draw what there is, also when the run was stopped."""
        if trainer.run_dir is None or trainer.log is None:
            return
        records = [record for record in trainer.log.read() if "event" not in record]
        if records:
            target: Path = trainer.run_dir / self.file_name
            save_curves(records, target, title=self.title or trainer.run_dir.name)


def describe(trainer: "Trainer", measured: Mapping[str, float]) -> str:
    """One line of measured numbers, and where the run stands."""
    phase = trainer.phase
    stage = "" if phase.resolution is None else f"  {phase.resolution}x{phase.resolution}  alpha {phase.alpha:.2f}"
    values = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in measured.items())
    return f"{trainer.images_seen:>9,} images{stage}  {values}"


def print_above_bar(text: str) -> None:
    """To standard output; a reader that has gone away does not end the run, the log has the numbers too."""
    with contextlib.suppress(OSError, ValueError):
        tqdm.write(text)
        sys.stdout.flush()


def passed(trainer: "Trainer", previous: int, fractions: Sequence[float]) -> bool:
    """Whether the last step reached one of these points of its stage; a pure function of the images seen.

    Args:
        trainer: The run, after its step.
        previous: Images seen before the step.
        fractions: Shares of the stage's length, above 0 to 1.

    Raises:
        ValueError: If a fraction is out of range.
    """
    require(all(0 < f <= 1 for f in fractions), "fractions", tuple(fractions), "above 0 and at most 1")
    schedule = trainer.schedule
    if isinstance(schedule, ProgressiveSchedule):
        start = schedule.stage_starts[trainer.phase.stage]
        length = schedule.stage_lengths[trainer.phase.stage]
    else:
        start, length = 0, trainer.total_images
    # 7 / 60 of 480 is 56 and a trace more in floating point, which without the margin would be a batch too late.
    points = (start + fraction * length * (1 - 1e-12) for fraction in fractions)
    return any(previous < point <= trainer.images_seen for point in points)
