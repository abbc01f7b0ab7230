"""The guide's list of faults is complete, and every test that it names exists."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
GUIDE = TESTS.parent / "docs" / "guide" / "reliability.md"
ROW = re.compile(r"^\| (F\d+) \| (.+) \| (.+) \| ?(.*?) ?\|$", re.MULTILINE)


def rows() -> dict[str, tuple[str, str]]:
    return {number: (happens, tests) for number, _, happens, tests in ROW.findall(GUIDE.read_text(encoding="utf-8"))}


def test_every_fault_is_listed_with_a_test_or_a_reason() -> None:
    listed = rows()
    assert list(listed) == [f"F{number}" for number in range(1, 65)]
    assert [number for number, (happens, tests) in listed.items() if not tests and "no test:" not in happens] == []


def test_every_test_named_exists() -> None:
    named = [name.split("::") for _, tests in rows().values() for name in re.findall(r"`([^`]+::[^`]+)`", tests)]
    assert len(named) > 40
    missing = []
    for file, test in named:
        path = TESTS / file
        tree = ast.parse(path.read_text(encoding="utf-8")) if path.exists() else ast.Module([], [])
        if test not in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}:
            missing.append(f"{file}::{test}")
    assert missing == []
