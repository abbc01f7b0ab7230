"""What the README and the guides show, runs; fragments that need something around them are fenced ``py`` there."""

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md"))]
SNIPPETS = [
    pytest.param(match.group(1), id=f"{path.stem}-{number}")
    for path in DOCUMENTS
    for number, match in enumerate(
        re.finditer(r"^```python\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    )
]


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_runs_by_itself(snippet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(snippet, "snippet", "exec"), names)
    assert len(names) > 2


def test_there_are_snippets_in_the_readme_and_in_guides() -> None:
    assert {str(parameter.id).rpartition("-")[0] for parameter in SNIPPETS} >= {"README", "autoencoders", "gans"}
