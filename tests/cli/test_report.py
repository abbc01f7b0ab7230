"""``ganblocks report``: the run is handed on, and a missing extra is one line."""

import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from cli_runs import Call, Outcome


def test_the_run_is_handed_on_and_the_path_printed(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    def write_report(run_dir: Path, path: Path | None = None, *, title: str | None = None) -> Path:
        calls.append((run_dir, path, title))
        return path or run_dir / "report.html"

    name = "ganblocks.visualization.report"
    module = types.ModuleType(name)
    module.write_report = write_report  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)
    assert call("report", tmp_path) == Outcome(0, f"{tmp_path / 'report.html'}\n", "")
    assert call("report", tmp_path, "--out", tmp_path / "r.html") == Outcome(0, f"{tmp_path / 'r.html'}\n", "")
    assert calls == [(tmp_path, None, None), (tmp_path, tmp_path / "r.html", None)]


def test_a_missing_extra_is_one_line(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ganblocks.visualization.report", None)
    outcome = call("report", tmp_path)
    assert outcome.code == 2
    assert re.fullmatch(r"(ImportError|ModuleNotFoundError): .*\n", outcome.err)
