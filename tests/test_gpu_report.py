"""The report on GPUs: its arithmetic, and a dry run where there is no GPU."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from example_runs import ROOT, load

SCRIPT = ROOT / "benchmarks" / "gpu_report.py"


@pytest.fixture(scope="module")
def report() -> ModuleType:
    return load(SCRIPT)


def test_errors_count_in_units_of_the_last_place(report: ModuleType) -> None:
    truth = torch.tensor([1.0, 1.5, 4.0, 0.0, 2.0], dtype=torch.float64)
    found = torch.tensor([1.0 + 2**-10, 1.5, 4.0 - 2**-8, 2**-10, math.nan], dtype=torch.float16)
    # The root mean square is 2.18, so numbers below count in its unit, 2**-9.
    assert report.errors_in_ulp(found, truth, torch.float16).tolist() == [0.5, 0.0, 1.0, 0.5, math.inf]


def test_time_that_is_not_used_passes_on_and_what_is_left_out_is_named(report: ModuleType) -> None:
    clock = report.Clock(1000.0)
    with clock.section("correctness"):
        assert 190 < clock.end - clock.start <= 201
        assert clock.allows("first")
    with clock.section("time"):
        assert 400 < clock.end - clock.start <= 439  # 0.35 / 0.8 of all
    clock.end = 0.0
    assert not clock.allows("second")
    assert clock.left_out == ["second"]


def test_a_goal_is_judged_by_the_worst_value_and_not_at_all_without_one(report: ModuleType) -> None:
    row = {"op": "blur", "dtype": "float32", "order": "forward", "ulp_999": 3.0, "kernel": True, "all_written": True}
    row |= {"layout_kept": True, "same_bits_again": True}
    rows = [row | {"ratio_to_eager": 3.0}, row | {"ratio_to_eager": 1.0, "ulp_999": 5.0, "all_written": False}]
    verdicts = {goal["name"]: goal["passed"] for goal in report.goals(rows, [])}
    assert verdicts["ulp of float32, forward"] is False
    assert verdicts["ulp of bfloat16, forward"] is None
    assert verdicts["blur forward over eager"] is False
    assert verdicts["kernel"] is True
    assert verdicts["all written"] is False
    assert verdicts["critic step at 128, kernels over eager"] is None


def test_a_place_that_is_not_written_shows(report: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")

    def forgetful(self: object, x: torch.Tensor) -> torch.Tensor:
        result = torch.empty_like(x)  # poisoned
        result[..., 1:] = x[..., 1:]
        return x + (result - result.detach().nan_to_num()).detach()

    monkeypatch.setattr(report.Case, "op", forgetful)
    case = report.Case("nothing", lambda x: x * 1, False, (2, 2, 2))
    rows = report.check(case, "float32", "contiguous")
    assert [row["all_written"] for row in rows] == [False, True, True]
    assert rows[0]["ulp_max"] == math.inf


def test_an_eager_fallback_is_no_graph_for_the_goals(report: ModuleType) -> None:
    def row(resolution: int, route: str, milliseconds: float, **more: object) -> dict[str, object]:
        return {"resolution": resolution, "route": route, "milliseconds": milliseconds, **more}

    rows = [row(8, "eager", 4.0), row(8, "graphed", 1.0, graphed=True), row(8, "document", 6.0)]
    rows += [row(128, "eager", 4.0), row(128, "graphed", 3.9, graphed=False)]
    verdicts = {goal["name"]: (goal["value"], goal["passed"]) for goal in report.goals([], [], rows)}
    assert verdicts["whole step at 8, graphed over eager"] == (4.0, True)
    assert verdicts["whole step at 128, graphed over eager"] == (None, None)
    assert verdicts["whole step, graphed over document"] == (6.0, True)


@pytest.mark.slow
def test_a_dry_run_reports_everything_and_times_nothing(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    pytest.importorskip("triton")
    path = tmp_path / "report.json"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--json", str(path)], env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report["format"] == 1
    assert report["dry_run"] is True
    assert report["copy_gb_per_s"] is None
    assert report["environment"]["interpreted"] is True
    assert report["left_out"] == []
    assert report["whole_steps"] == "no CUDA device: whole steps were not measured"
    assert "no CUDA device" in done.stdout
    rows = report["operations"]
    assert len(rows) == 5 * 3 * 2 * 3  # operations, dtypes, layouts, orders
    assert all(row["kernel"] and row["all_written"] and row["layout_kept"] for row in rows)
    assert not any("microseconds" in row for row in rows)
    assert [row["form"] for row in report["critic_steps"]] == ["formulas", "kernels"]
    first, second = (row["losses"] for row in report["critic_steps"])
    assert first == pytest.approx(second, rel=1e-3)
    verdicts = {goal["name"]: goal["passed"] for goal in report["goals"]}
    assert verdicts["critic trains"] is True
    assert verdicts["share of copy"] is None
    assert [name for name, passed in verdicts.items() if passed is False] == []
