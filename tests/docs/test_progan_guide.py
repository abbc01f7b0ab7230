"""Every test that the guide's page on ProGAN names exists, and every deviation names one."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
GUIDE = TESTS.parent / "docs" / "guide" / "progan.md"


def rows() -> list[str]:
    """The last column of the three tables of deviations."""
    text = GUIDE.read_text(encoding="utf-8").split("## Deviations of popular copies")[1]
    tables = re.findall(r"^\| (?!deviation|---).+\|$", text, re.MULTILINE)
    return [row.rstrip("| ").rpartition(" | ")[2] for row in tables]


def test_every_deviation_names_a_test() -> None:
    found = rows()
    assert len(found) > 25
    assert [row for row in found if "::" not in row] == []


def test_every_test_named_exists() -> None:
    missing = []
    for file, test in re.findall(r"`([\w/]+\.py)::(\w+)`", "\n".join(rows())):
        path = TESTS / file
        tree = ast.parse(path.read_text(encoding="utf-8")) if path.exists() else ast.Module([], [])
        if test not in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}:
            missing.append(f"{file}::{test}")
    assert missing == []
