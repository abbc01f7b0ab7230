"""The page is there while the run goes on and when it has ended, however it ended."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ganblocks.training import Callback, ConstantSchedule, Report, StepContext, Trainer, reporting


class Idle:
    """A step that trains nothing."""

    def __call__(self, images: Tensor, labels: Tensor | None, context: StepContext) -> dict[str, Tensor]:
        return {"loss": images.mean()}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert state == {}


def run(run_dir: Path | None, *callbacks: Callback) -> None:
    Trainer(Idle(), [torch.zeros(1, 1)], ConstantSchedule(8, 1, 1.0), run_dir=run_dir, callbacks=callbacks).fit()


def test_it_is_written_at_each_point_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, str | None]] = []

    class Watch(Callback):
        def on_step(self, trainer: Trainer, previous: int) -> None:
            self.images_seen = trainer.images_seen

    watch = Watch()
    monkeypatch.setattr(reporting, "write_report", lambda path, title: calls.append((watch.images_seen, title)))
    run(tmp_path, watch, Report(title="Faces", fractions=(0.5, 1.0)))
    assert calls == [(4, "Faces"), (8, "Faces"), (8, "Faces")]


def test_the_page_is_there_after_a_run_and_after_a_crash(tmp_path: Path) -> None:
    run(tmp_path / "whole", Report(fractions=(1.0,)))
    assert "whole" in (tmp_path / "whole" / "report.html").read_text()

    class Crash(Callback):
        def on_step(self, trainer: Trainer, previous: int) -> None:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        run(tmp_path / "cut", Crash(), Report())
    assert (tmp_path / "cut" / "report.html").exists()


def test_a_page_that_cannot_be_written_does_not_end_the_run(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.warns(RuntimeWarning, match=r"report\.html cannot be written"):
        run(tmp_path, Report(fractions=(1.0,)))


def test_without_a_directory_there_is_none() -> None:
    run(None, Report())
