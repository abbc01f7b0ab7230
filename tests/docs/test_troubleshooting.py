"""The guide to what goes wrong says what was measured, and the script that measures it runs."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "troubleshooting.py"
PAGE = ROOT / "docs" / "guide" / "troubleshooting.md"
RESULT = ROOT / "benchmarks" / "results" / "troubleshooting_cpu.json"


@pytest.fixture
def troubleshooting(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    return importlib.import_module("troubleshooting")


@pytest.fixture
def record(troubleshooting: ModuleType) -> ModuleType:
    return importlib.import_module("troubleshooting_trials.record")


def symptom_of(record: ModuleType, before: list[float | None], after: list[float | None], better: str) -> Any:
    trials = [record.Trial("as it is", {"x": before}), record.Trial("a remedy", {"x": after}, "`NonFiniteError`")]
    return record.Symptom("key", "Title", "Setting.", "x", better, {"x": "of x"}, {"x": ".1f"}, trials)


@pytest.mark.parametrize(
    ("before", "after", "better", "found"),
    [
        ([1.0, 2.0], [3.0, 4.0], "higher", "yes"),
        ([1.0, 2.0], [3.0, 4.0], "lower", "worse"),
        ([3.0, 4.0], [1.0, 2.0], "lower", "yes"),
        ([1.0, 3.0], [2.0, 4.0], "higher", "on average"),
        ([1.0, 3.0], [0.0, 2.9], "higher", "no"),
        ([10.0], [10.4], "higher", "no"),  # below 5 %
        ([10.0], [10.6], "higher", "yes"),
        ([2.0, 2.0], [2.0, 2.0], "lower", "no"),
        ([None, None], [1.0, 2.0], "lower", "yes"),  # what could not be measured is the worst there is
        ([1.0, 2.0], [None, None], "lower", "worse"),
        ([1.0, 2.0], [0.5, None], "lower", "no"),
    ],
)
def test_a_remedy_has_helped_only_where_it_is_better_with_every_seed(
    record: ModuleType, before: list[float | None], after: list[float | None], better: str, found: str
) -> None:
    symptom = symptom_of(record, before, after, better)
    assert record.verdict(symptom, symptom.trials[1]) == found


def test_a_table_shows_means_ranges_words_and_verdicts(troubleshooting: ModuleType, record: ModuleType) -> None:
    assert troubleshooting.table(symptom_of(record, [1.0, 3.0], [4.0, None], "higher")).splitlines() == [
        "| tried | of x | the library said | helped |",
        "|---|---|---|---|",
        "| as it is | 2.0 (1.0 to 3.0) | | the symptom |",
        "| a remedy | 4.0, 1 without | `NonFiniteError` | **no** |",
    ]


def test_bytes_count_while_a_tensor_lives_and_a_view_counts_once(troubleshooting: ModuleType) -> None:
    with importlib.import_module("troubleshooting_trials.machine").PeakOfTensors() as seen:
        first = torch.zeros(1024)  # 4096 bytes
        view = first.view(32, 32).t()
        second = first + 1
        assert seen.alive == seen.peak == 8192
        del second
        assert (seen.alive, seen.peak) == (4096, 8192)
        third = view.to(torch.float16)
        assert (seen.alive, seen.peak) == (6144, 8192)
        del first, view, third
    assert seen.alive == 0


def test_the_spots_are_eight_and_only_what_lies_near_counts(troubleshooting: ModuleType) -> None:
    ring = importlib.import_module("troubleshooting_trials.ring")
    points = ring.spots(800, seed=0)
    assert points.norm(dim=1).sub(0.8).abs().max() < 0.1
    assert ring.spots_covered(points) == (8, 1.0)
    assert ring.spots_covered(points[::4]) == (2, 1.0)  # every fourth: two spots
    assert ring.spots_covered(torch.zeros(10, 2)) == (0, 0.0)


QUICK = ("chequered", "formulas", "second_order", "spoilt_image")


def test_the_small_form_of_what_is_quick_writes_both_files(
    troubleshooting: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "found.json"
    page = PAGE.read_text(encoding="utf-8")
    for names in (QUICK[:2], QUICK[2:]):  # the second adds to what is there
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--small", "--json", str(path), "--only", *names])
        troubleshooting.main()
    found = json.loads(path.read_text(encoding="utf-8"))
    assert set(found["symptoms"]) == set(QUICK)
    assert found["machine"]["seeds"] == [0]
    report = path.with_suffix(".md").read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    for name in QUICK:
        title = found["symptoms"][name]["title"]
        assert f"## {title}\n" in report
        assert f"## {title} (" in printed
    assert PAGE.read_text(encoding="utf-8") == page  # of the small form nothing gets there


@pytest.mark.slow
def test_the_small_form_tries_everything(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(SCRIPT), "--small", "--json", str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    listed = json.loads(path.read_text(encoding="utf-8"))["symptoms"]
    published = json.loads(RESULT.read_text(encoding="utf-8"))["symptoms"]
    assert list(listed) == list(published)
    for name, symptom in listed.items():
        tried = [trial["name"] for trial in symptom["trials"]]
        assert tried == [trial["name"] for trial in published[name]["trials"]] or symptom["left_out"]


def test_the_tables_of_the_guide_are_those_of_the_file(troubleshooting: ModuleType) -> None:
    found = json.loads(RESULT.read_text(encoding="utf-8"))
    page = PAGE.read_text(encoding="utf-8")
    assert found["machine"]["share"] == 1.0
    assert list(found["symptoms"]) == list(troubleshooting.SYMPTOMS)
    assert troubleshooting.filled(page, found) == page
    assert troubleshooting.report(found) == RESULT.with_suffix(".md").read_text(encoding="utf-8")


def test_a_page_that_lacks_a_symptom_is_refused(troubleshooting: ModuleType) -> None:
    found = json.loads(RESULT.read_text(encoding="utf-8"))
    with pytest.raises(ValueError, match="memory"):
        troubleshooting.filled(PAGE.read_text(encoding="utf-8").replace("<!-- table: memory -->", ""), found)


def test_no_measured_figure_of_the_guide_is_typed_by_hand() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for made in (r"<!-- table: .*?<!-- end -->", r"^```.*?^```", r"`[^`\n]*`"):
        page = re.sub(made, "", page, flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"\d+\.\d+|\d ?%|\d ?ms", page) == []
