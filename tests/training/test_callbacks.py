"""What stands beside the loop: it shows, draws and measures at fixed points, and survives a stop."""

import errno
import io
import itertools
import os
import signal
import sys
import threading
import warnings
from collections.abc import Mapping
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ganblocks.errors import NonFiniteError
from ganblocks.training import (
    Callback,
    ConstantSchedule,
    Measurements,
    ProgressBar,
    ProgressiveSchedule,
    SampleSheets,
    Schedule,
    StepContext,
    Summary,
    TensorBoard,
    Trainer,
    callbacks,
)
from ganblocks.training.callbacks import passed

GROWING = ProgressiveSchedule.build((4, 8), phase_images=8, batch_sizes=4, learning_rates=1e-3)  # 8 and 16 images
FLAT = ConstantSchedule(24, 4, 1e-3)


class Idle:
    """A step that trains nothing."""

    def __call__(self, images: Tensor, labels: Tensor | None, context: StepContext) -> dict[str, Tensor]:
        return {"loss": images.mean(), "penalty": images.mean() + context.images_seen}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        assert state == {}


def make(run_dir: Path | None, *parts: Callback, schedule: Schedule = GROWING, **options: Any) -> Trainer:
    """Six steps of four images."""
    data = [torch.full((4, 3, 8, 8), 0.5)]
    options = {"log_images": 4, "save_images": 8, **options}
    return Trainer(Idle(), data, schedule, run_dir=run_dir, callbacks=parts, **options)


class StopAt(Callback):
    """Sends this process a signal once so many images were seen."""

    def __init__(self, images_seen: int) -> None:
        self.images_seen = images_seen

    def on_step(self, trainer: Trainer, previous: int) -> None:
        if trainer.images_seen == self.images_seen:
            os.kill(os.getpid(), signal.SIGINT)


def draw(trainer: Trainer) -> Tensor:
    """Four images whose grey tells the position in the run."""
    side = trainer.phase.resolution or 8
    return torch.full((4, 3, side, side), trainer.images_seen / 24 - 0.5)


def moments(trainer: Trainer) -> list[int]:
    return [record["images_seen"] for record in trainer.log.read() if "event" not in record]


class TestBase:
    def test_does_nothing(self, tmp_path: Path) -> None:
        with_it, without = make(tmp_path / "a", Callback()), make(tmp_path / "b")
        assert with_it.fit().images_seen == without.fit().images_seen == 24
        assert [r for r in with_it.log.read() if "event" not in r] == [
            r for r in without.log.read() if "event" not in r
        ]
        assert {p.name for p in (tmp_path / "a").iterdir()} == {".lock", "config.json", "log.jsonl", "checkpoints"}

    def test_has_no_state(self) -> None:
        assert Callback().state_dict() == {}
        Callback().load_state_dict({})

    def test_state_goes_on_where_the_run_was_stopped(self, tmp_path: Path) -> None:
        class Counter(Callback):
            count = 0

            def on_step(self, trainer: Trainer, previous: int) -> None:
                self.count += 1

            def state_dict(self) -> dict[str, Any]:
                return {"count": self.count}

            def load_state_dict(self, state: Mapping[str, Any]) -> None:
                self.count = state["count"]

        make(tmp_path, Counter(), StopAt(12)).fit()
        second = Counter()
        make(tmp_path, second, Callback()).fit()
        assert second.count == 6

    def test_moments_come_in_order_and_so_do_the_ends(self, tmp_path: Path) -> None:
        told: list[str] = []

        class Teller(Callback):
            def __init__(self, name: str) -> None:
                self.name = name

            def on_start(self, trainer: Trainer) -> None:
                told.append(f"{self.name} start {trainer.images_seen}")

            def on_step(self, trainer: Trainer, previous: int) -> None:
                told.append(f"{self.name} step {previous} {trainer.images_seen}")

            def on_record(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
                told.append(f"{self.name} record {record['images_seen']}")

            def on_end(self, trainer: Trainer, finished: bool) -> None:
                told.append(f"{self.name} end {finished}")

        make(tmp_path, Teller("a"), Teller("b"), total_images=8, log_images=8).fit()
        assert told == [
            *("a start 0", "b start 0", "a step 0 4", "b step 0 4"),
            *("a record 8", "b record 8", "a step 4 8", "b step 4 8", "a end True", "b end True"),
        ]


class TestProgressBar:
    def test_is_silent_where_standard_error_is_no_terminal(self, capsys: pytest.CaptureFixture[str]) -> None:
        make(None, ProgressBar()).fit()
        assert capsys.readouterr() == ("", "")

    def test_is_silent_when_it_is_switched_off(self, capsys: pytest.CaptureFixture[str]) -> None:
        make(None, ProgressBar(enabled=False)).fit()
        assert capsys.readouterr() == ("", "")

    @pytest.mark.parametrize("terminal", [False, True])
    def test_asks_whether_there_is_a_terminal(self, terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: terminal))
        assert ProgressBar().enabled is terminal
        assert ProgressBar(enabled=not terminal).enabled is not terminal

    @pytest.mark.parametrize("gone", ["at the start", "at the end"])
    def test_a_terminal_that_is_gone_does_not_stop_the_bars_of_other_threads(
        self, gone: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Terminal(io.StringIO):
            gone = False

            def write(self, text: str) -> int:
                if self.gone:
                    raise BrokenPipeError(errno.EPIPE, "Broken pipe")
                return super().write(text)

        monkeypatch.setattr(sys, "stderr", Terminal())
        bar, trainer = ProgressBar(enabled=True), SimpleNamespace(total_images=8, images_seen=0)
        if gone == "at the end":
            bar.on_start(trainer)
        monkeypatch.setattr(Terminal, "gone", True)
        with pytest.warns(RuntimeWarning, match="the progress bar cannot be written any more: .*Broken pipe"):
            (bar.on_start if gone == "at the start" else partial(bar.on_end, finished=True))(trainer)
        other = threading.Thread(target=lambda: tqdm(total=1, file=io.StringIO()).close(), daemon=True)
        other.start()
        other.join(timeout=30)
        assert not other.is_alive()

    def test_shows_images_resolution_alpha_and_values(self, capsys: pytest.CaptureFixture[str]) -> None:
        make(None, ProgressBar(enabled=True)).fit()
        out, err = capsys.readouterr()
        assert out == ""
        last = err.split("\r")[-1]
        for part in ("8x8 alpha 1.00", "100%", "24.0/24.0", "img/s", "loss=0.50", "gp=20.50"):
            assert part in last

    def test_shows_what_was_done_before_the_stop(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        make(tmp_path, ProgressBar(enabled=False), StopAt(12)).fit()
        make(tmp_path, ProgressBar(enabled=True), Callback(), total_images=16).fit()
        err = capsys.readouterr().err.split("\r")
        assert any(" 75%" in line and "12.0/16.0" in line for line in err[:2])
        assert "16.0/16.0" in err[-1]

    def test_shows_no_resolution_where_nothing_grows(self, capsys: pytest.CaptureFixture[str]) -> None:
        make(None, ProgressBar(enabled=True), schedule=FLAT).fit()
        err = capsys.readouterr().err
        assert "loss=0.50" in err
        assert "alpha" not in err


class TestSampleSheets:
    def test_names_tell_images_and_resolution(self, tmp_path: Path) -> None:
        make(tmp_path, SampleSheets(draw, fractions=(0.5, 1.0))).fit()
        assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == [
            "000000000004_4px.png",
            "000000000008_4px.png",
            "000000000016_8px.png",
            "000000000024_8px.png",
        ]

    def test_default_points_are_the_quarters_of_each_stage(self, tmp_path: Path) -> None:
        make(tmp_path, SampleSheets(draw)).fit()  # a quarter of the first stage falls into its first batch
        points = sorted(int(path.name[:12]) for path in (tmp_path / "samples").iterdir())
        assert points == [4, 8, 12, 16, 20, 24]

    def test_names_are_plain_where_nothing_grows(self, tmp_path: Path) -> None:
        make(tmp_path, SampleSheets(draw, fractions=(0.5, 1.0)), schedule=FLAT).fit()
        assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == [
            "000000000012.png",
            "000000000024.png",
        ]

    def test_small_images_are_enlarged_by_whole_factors_only(self, tmp_path: Path) -> None:
        make(tmp_path, SampleSheets(draw, fractions=(1.0,), size=20, columns=4)).fit()
        sizes = {}
        for path in (tmp_path / "samples").iterdir():
            with Image.open(path) as sheet:
                sizes[path.name[13:]] = sheet.size
        assert sizes == {"4px.png": (4 * 22 + 2, 20 + 4), "8px.png": (4 * 18 + 2, 16 + 4)}

    def test_pixels_are_those_that_were_drawn(self, tmp_path: Path) -> None:
        make(tmp_path, SampleSheets(lambda trainer: torch.ones(1, 3, 4, 4) * -1, fractions=(1.0,), size=4)).fit()
        with Image.open(tmp_path / "samples" / "000000000008_4px.png") as sheet:
            assert sheet.size == (8, 8)
            assert sheet.crop((2, 2, 6, 6)).getcolors() == [(16, (0, 0, 0))]

    def test_animations_are_made_when_the_run_is_finished_and_not_before(self, tmp_path: Path) -> None:
        stopped = make(tmp_path, SampleSheets(draw, fractions=(0.5, 1.0)), StopAt(16)).fit()
        assert not stopped.finished
        assert not list(tmp_path.glob("progress.*"))
        make(tmp_path, SampleSheets(draw, fractions=(0.5, 1.0)), Callback()).fit()
        for name in ("progress.gif", "progress.webp"):
            with Image.open(tmp_path / name) as animation:
                assert animation.n_frames == 4

    def test_animations_are_those_asked_for(self, tmp_path: Path) -> None:
        make(tmp_path, SampleSheets(draw, fractions=(1.0,), animation=("film.gif",))).fit()
        files = {path.name for path in tmp_path.iterdir() if path.is_file()}
        assert files == {".lock", "config.json", "log.jsonl", "film.gif"}

    def test_a_run_without_a_sheet_has_no_animation(self, tmp_path: Path) -> None:
        make(tmp_path, SampleSheets(draw, fractions=(1.0,)), total_images=4).fit()
        assert not list(tmp_path.glob("progress.*"))

    def test_nothing_is_drawn_where_nothing_is_kept(self) -> None:
        def refuse(trainer: Trainer) -> Tensor:
            raise AssertionError("drawn")

        make(None, SampleSheets(refuse)).fit()

    def test_a_resumed_run_has_the_sheets_of_an_uninterrupted_one(self, tmp_path: Path) -> None:
        make(tmp_path / "whole", SampleSheets(draw)).fit()
        make(tmp_path / "cut", SampleSheets(draw), StopAt(12)).fit()
        make(tmp_path / "cut", SampleSheets(draw), Callback()).fit()

        def sheets(name: str) -> dict[str, bytes]:
            return {path.name: path.read_bytes() for path in (tmp_path / name / "samples").iterdir()}

        assert sheets("cut") == sheets("whole")


class TestMeasurements:
    def test_numbers_are_logged_at_their_points(self, tmp_path: Path) -> None:
        def measure(trainer: Trainer) -> dict[str, float]:
            return {"distance": trainer.images_seen / 2, "recall": 0.25}

        trainer = make(tmp_path, Measurements(measure, fractions=(0.5, 1.0)))
        trainer.fit()
        measured = [record for record in trainer.log.read() if "distance" in record]
        assert [(r["images_seen"], r["distance"], r["recall"], r["resolution"]) for r in measured] == [
            (4, 2.0, 0.25, 4),
            (8, 4.0, 0.25, 4),
            (16, 8.0, 0.25, 8),
            (24, 12.0, 0.25, 8),
        ]

    def test_other_callbacks_hear_of_them(self) -> None:
        heard = []

        class Ear(Callback):
            def on_record(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
                heard.extend([record["score"]] if "score" in record else [])

        make(None, Measurements(lambda trainer: {"score": 1.5}, fractions=(1.0,)), Ear()).fit()
        assert heard == [1.5, 1.5]

    def test_a_measurement_that_is_no_number_ends_the_run(self) -> None:
        with pytest.raises(NonFiniteError, match="score not finite"):
            make(None, Measurements(lambda trainer: {"score": float("nan")})).fit()


class TestTensorBoard:
    def read(self, run_dir: Path) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TensorBoard's own imports
            from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        events = EventAccumulator(str(run_dir / "tensorboard"))
        events.Reload()
        return events

    def test_events_read_back_are_the_log(self, tmp_path: Path) -> None:
        trainer = make(tmp_path, TensorBoard(draw))
        trainer.fit()
        events = self.read(tmp_path)
        assert set(events.Tags()["scalars"]) == {"step", "resolution", "alpha", "learning_rate", "loss", "penalty"}
        logged = [(r["images_seen"], r["penalty"]) for r in trainer.log.read() if "event" not in r]
        assert [(event.step, event.value) for event in events.Scalars("penalty")] == logged
        sheets = events.Images("samples")
        assert [sheet.step for sheet in sheets] == [4, 8, 16, 24]
        assert (sheets[0].width, sheets[-1].width) == (2 * 4 + 3 * 2, 2 * 8 + 3 * 2)

    def test_a_resumed_run_shows_no_point_twice(self, tmp_path: Path) -> None:
        class Crash(Callback):
            def on_step(self, trainer: Trainer, previous: int) -> None:
                if trainer.images_seen == 20:
                    first._writer.flush()
                    first._writer.close()  # as if the two minutes until the next flush were over
                    raise RuntimeError("power cut")

        first = TensorBoard()
        with pytest.raises(RuntimeError, match="power cut"):
            make(tmp_path, first, Crash(), save_images=12).fit()
        make(tmp_path, TensorBoard(), Callback(), save_images=12).fit()
        assert [event.step for event in self.read(tmp_path).Scalars("loss")] == [4, 8, 12, 16, 20, 24]

    def test_nothing_is_written_without_a_run_directory(self) -> None:
        make(None, TensorBoard(draw)).fit()

    @pytest.mark.parametrize("missing", ["tensorboard", "torch.utils.tensorboard"])
    def test_a_missing_tensorboard_is_said_at_once(self, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, missing, None)
        with pytest.raises(ImportError, match=r'pip install "ganblocks\[train\]"'):
            TensorBoard()


class TestSummary:
    def test_curves_are_drawn_at_the_end(self, tmp_path: Path) -> None:
        make(tmp_path, Summary()).fit()
        with Image.open(tmp_path / "curves.png") as picture:
            assert picture.width == 1200

    def test_curves_have_all_measurements_and_no_events(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        drawn: list[tuple[list[Any], Path, str]] = []
        monkeypatch.setattr(callbacks, "save_curves", lambda records, path, title: drawn.append((records, path, title)))
        trainer = make(tmp_path / "faces", Summary("log.svg"), Measurements(lambda t: {"distance": 1.0}))
        trainer.fit()
        ((records, path, title),) = drawn
        assert records == [record for record in trainer.log.read() if "event" not in record]
        assert any("distance" in record for record in records)
        assert (path, title) == (tmp_path / "faces" / "log.svg", "faces")

    def test_a_stopped_run_has_curves_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        drawn: list[list[int]] = []
        monkeypatch.setattr(
            callbacks, "save_curves", lambda records, path, title: drawn.append([r["images_seen"] for r in records])
        )
        make(tmp_path, Summary(title="mine"), StopAt(8)).fit()
        make(tmp_path, Summary(title="mine"), Callback()).fit()
        assert drawn == [[4, 8], [4, 8, 12, 16, 20, 24]]

    def test_a_run_that_logged_nothing_has_no_curves(self, tmp_path: Path) -> None:
        make(tmp_path, Summary(), log_images=1000).fit()
        assert not (tmp_path / "curves.png").exists()

    def test_nothing_is_drawn_without_a_run_directory(self) -> None:
        make(None, Summary()).fit()

    def test_a_missing_matplotlib_is_said_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(ImportError, match=r'pip install "ganblocks\[train\]"'):
            Summary()


sixteenths = st.integers(1, 16).map(lambda numerator: numerator / 16)
batch_sizes = st.lists(st.integers(1, 20), min_size=1, max_size=8)


def walk(schedule: Schedule, batches: list[int], fractions: tuple[float, ...]) -> list[tuple[int, int, int, bool]]:
    """(stage, images before, images after, passed) of each step of a whole run, batches taken in turn."""
    seen, steps = 0, []
    for batch in itertools.cycle(batches):
        if seen >= schedule.total_images:
            return steps
        phase = schedule.phase(seen)
        trainer: Any = SimpleNamespace(
            schedule=schedule, phase=phase, images_seen=seen + batch, total_images=schedule.total_images
        )
        steps.append((phase.stage, seen, seen + batch, passed(trainer, seen, fractions)))
        seen += batch
    raise AssertionError


class TestPassed:
    @example(images=16, batches=[4], fraction=0.5)  # a step that ends just there
    @given(images=st.integers(1, 300), batches=batch_sizes, fraction=sixteenths)
    def test_a_point_is_passed_by_exactly_one_step(self, images: int, batches: list[int], fraction: float) -> None:
        hits = [after for _, _, after, hit in walk(ConstantSchedule(images, 1, 1.0), batches, (fraction,)) if hit]
        assert len(hits) == 1
        assert 0 <= hits[0] - Fraction(fraction) * images < max(batches)

    @example(stages=[(0, 8), (8, 8)], batches=[4], fraction=0.5)
    @given(
        stages=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 40)), min_size=1, max_size=4),
        batches=batch_sizes,
        fraction=sixteenths,
    )
    def test_each_stage_has_the_point_once(
        self, stages: list[tuple[int, int]], batches: list[int], fraction: float
    ) -> None:
        """Unless it lies in the images of a batch that began in the stage before."""
        count = len(stages)
        schedule = ProgressiveSchedule(
            resolutions=tuple(4 * 2**index for index in range(count)),
            fade_images=tuple(fade for fade, _ in stages),
            stable_images=tuple(hold for _, hold in stages),
            batch_sizes=(1,) * count,
            learning_rates=(1.0,) * count,
        )
        steps = walk(schedule, batches, (fraction,))
        start = 0
        for stage, (fade, hold) in enumerate(stages):
            begins = [before for of, before, _, _ in steps if of == stage]
            hits = sum(hit for of, _, _, hit in steps if of == stage)
            point = start + Fraction(fraction) * (fade + hold)
            assert hits == (1 if begins and begins[0] < point else 0)
            start += fade + hold

    @given(st.integers(1, 300), batch_sizes, st.lists(sixteenths, max_size=4))
    def test_several_points_are_passed_where_any_is(
        self, images: int, batches: list[int], fractions: list[float]
    ) -> None:
        schedule = ConstantSchedule(images, 1, 1.0)
        together = [hit for *_, hit in walk(schedule, batches, tuple(fractions))]
        alone = [[hit for *_, hit in walk(schedule, batches, (fraction,))] for fraction in fractions]
        assert together == [any(hits) for hits in zip(*alone, strict=True)] if alone else not any(together)

    @pytest.mark.parametrize("epochs", [3, 7, 60, 93, 200])
    def test_the_end_of_an_epoch_is_passed_by_its_last_batch(self, epochs: int) -> None:
        # 7 / 60 * 480 is more than 56 in floating point.
        points = tuple((epoch + 1) / epochs for epoch in range(epochs))
        hits = [after for _, _, after, hit in walk(ConstantSchedule(8 * epochs, 1, 1.0), [4], points) if hit]
        assert hits == [8 * (epoch + 1) for epoch in range(epochs)]

    def test_the_extent_of_a_run_that_does_not_grow_is_the_trainers(self, tmp_path: Path) -> None:
        trainer = make(tmp_path, SampleSheets(draw, fractions=(1.0,)), schedule=FLAT, total_images=12)
        trainer.fit()
        assert [path.name for path in (tmp_path / "samples").iterdir()] == ["000000000012.png"]
        assert moments(trainer) == [4, 8, 12]

    @pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5, float("nan")])
    def test_points_outside_the_stage_are_refused(self, fraction: float) -> None:
        with pytest.raises(ValueError, match=r"`fractions` is .* above 0 and at most 1"):
            make(None, Measurements(lambda trainer: {}, fractions=(fraction,))).fit()
