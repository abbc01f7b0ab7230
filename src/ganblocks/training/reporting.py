"""The page that tells the story of a run, kept up to date while the run goes on."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ganblocks.training.callbacks import Callback, passed
from ganblocks.visualization.report import write_report

if TYPE_CHECKING:
    from ganblocks.training.trainer import Trainer

__all__ = ["Report"]


class Report(Callback):
    """Writes ``report.html`` into the run directory, at regular points of each stage and at the end.

    Give it last, so that the sheets and measurements of the same moment are in it. A page that cannot be written is a
    ``RuntimeWarning`` and no more; ``ganblocks report RUN`` makes it at any time.

    Args:
        title: Headline; ``None`` = the name of the run directory.
        fractions: Points of each stage, as shares of its length; 1 is its end.
    """

    def __init__(self, *, title: str | None = None, fractions: Sequence[float] = (0.25, 0.5, 0.75, 1.0)) -> None:
        self.title = title
        self.fractions: tuple[float, ...] = tuple(fractions)

    def on_step(self, trainer: "Trainer", previous: int) -> None:
        """Write it if it is due."""
        if passed(trainer, previous, self.fractions):
            self._write(trainer)

    def on_end(self, trainer: "Trainer", finished: bool) -> None:
        """Write it for good, or as it stands where the run was stopped."""
        self._write(trainer)

    def _write(self, trainer: "Trainer") -> None:
        if trainer.run_dir is None:
            return
        try:
            write_report(trainer.run_dir, title=self.title)
        except OSError as error:
            warnings.warn(f"report.html cannot be written: {error}", RuntimeWarning, stacklevel=2)
