"""Nothing is lost, whenever a run is killed: the newest checkpoint is whole, and the end is the same bit for bit."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from reliability_runs import environment, lost, newest, run_campaign

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "progan_celeba.py"


@pytest.mark.parametrize(
    ("count", "seed"),
    [(200, 0), pytest.param(2000, 1, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])],
)
def test_a_run_killed_again_and_again_loses_nothing_and_ends_with_the_same_bits(
    count: int, seed: int, tmp_path: Path
) -> None:
    report = run_campaign("kills", count, seed, tmp_path)
    assert report["losses"] == [], "\n".join(report["losses"])
    assert report["stops"] == count
    # The instants were spread as they should be: else this has proven nothing.
    assert report["finished_runs"] >= count // 100
    assert report["inside_a_save"] >= count // 20
    assert report["before_the_first_step"] >= count // 50


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_example_killed_ten_times_through_its_command_line_ends_with_the_same_bits(tmp_path: Path) -> None:
    generator = random.Random(0)
    arguments = ["--drawn", "200", "--resolution", "8", "--max-channels", "8", "--batch-size", "8", "--threads", "1"]
    arguments += ["--device", "cpu", "--precision", "fp32", "--workers", "1", "--images-per-stage", "600"]

    def start(name: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(EXAMPLE), *arguments, "--out", str(tmp_path / name)]
        return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def finish(process: subprocess.Popen[str], name: str) -> dict[str, Any]:
        output, _ = process.communicate(timeout=900)
        assert process.returncode == 0, f"{name} ended with {process.returncode}:\n{output}"
        checkpoint = newest(tmp_path / name)
        assert checkpoint is not None, f"{name} left no checkpoint:\n{output}"
        assert checkpoint.images_seen == 1200
        # Python's and NumPy's generators are those of the first process, and nothing in the example draws from them.
        return {key: value for key, value in checkpoint.state.items() if key != "random"}

    whole = finish(start("whole"), "whole")
    kills = finished = best = 0
    while kills < 10:
        name = f"killed-{finished}"
        process = start(name)
        log, begun = tmp_path / name / "log.jsonl", len(events(tmp_path / name))
        while process.poll() is None and (not log.exists() or len(events(tmp_path / name)) == begun):
            time.sleep(0.02)
        time.sleep(generator.uniform(0, 2))
        process.send_signal(signal.SIGKILL)
        output, _ = process.communicate()
        if process.returncode == -signal.SIGKILL:
            kills += 1
            checkpoint = newest(tmp_path / name)
            seen = -1 if checkpoint is None else checkpoint.images_seen
            assert seen >= best, f"kill {kills}: the checkpoint at {best} images is lost, {seen} is the newest"
            best = seen
        else:
            assert not lost(whole, finish(process, name)), lost(whole, finish(process, name))
            finished, best = finished + 1, 0
            shutil.rmtree(tmp_path / name)
        assert process.returncode in (0, -signal.SIGKILL), output
    name = f"killed-{finished}"
    assert not (difference := lost(whole, finish(start(name), name))), difference
    print({"kills": kills, "finished_runs": finished + 1, "checkpoints_lost": 0})


def events(run_dir: Path) -> list[str]:
    """The starts and resumptions that the log tells of."""
    log = run_dir / "log.jsonl"
    return [line for line in log.read_text().splitlines() if '"event"' in line] if log.exists() else []
