"""Notebooks of examples: all of the program's code, in order, with text from its docstrings; and they run."""

import ast
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
STEMS = ("dcgan_mnist", "progan_celeba", "vae_fashion_mnist", "wgan_gp_brain_mri")
PROGRAM = '''"""Count to a number.

    python count.py 3    # one, two
    python count.py 4

A paragraph
of two lines:
    end    where it ends
           at last
"""

import argparse
import functools  # for the cache

LAST = 3

# --- counting ---

# Slow.
@functools.cache
def count(end: int) -> int:
    """Count.

    Args:
        end: Where.
    """
    # one after the other
    return sum(1 for _ in range(end))


class Empty:
    """Nothing else."""


STEP = 2


def main(arguments: list[str] | None = None) -> int:
    return 0 * count(int((arguments or ["3"])[0]))


if __name__ == "__main__":
    raise SystemExit(main())
'''


@pytest.fixture
def notebooks(docs_program: Callable[[str], ModuleType]) -> ModuleType:
    return docs_program("notebooks")


def cells(document: dict[str, Any], kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == kind]


def without_docstrings(tree: ast.Module) -> str:
    """The code without what becomes text; a body that is only a docstring keeps it."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
            continue
        if ast.get_docstring(node) is not None and len(node.body) > 1:
            del node.body[0]
    return ast.unparse(tree)


def test_a_program_becomes_text_and_code_in_its_order(notebooks: ModuleType) -> None:
    document = notebooks.convert(PROGRAM, notebooks.Trial(("5",), ("*.png",)), "runs/x")
    text, code = cells(document, "markdown"), cells(document, "code")
    assert text[0] == (
        "# Count to a number.\n\n```text\npython count.py 3    # one, two\npython count.py 4\n```\n\n"
        "A paragraph\nof two lines:\n\n```text\nend    where it ends\n       at last\n```"
    )
    assert text[2:5] == [
        "## counting\nSlow.\n\n### `count`\n\nCount.\n\nArgs:\n\n```text\nend: Where.\n```",
        "### `Empty`\n\nNothing else.",
        "### `main`",
    ]
    assert code[:6] == [
        'ARGUMENTS = ["5", "--out", "runs/x"]',
        "import argparse\nimport functools  # for the cache\n\nLAST = 3",
        "@functools.cache\ndef count(end: int) -> int:\n    # one after the other\n"
        "    return sum(1 for _ in range(end))",
        'class Empty:\n    """Nothing else."""',
        "STEP = 2",
        'def main(arguments: list[str] | None = None) -> int:\n    return 0 * count(int((arguments or ["3"])[0]))',
    ]
    assert code[6].startswith("assert main(ARGUMENTS) == 0")
    assert code[-1] == 'Image.open(sorted(RUN.glob("*.png"))[-1])'


@pytest.mark.parametrize("program", ["x = 1\n", '"""Text."""\n', "def main(arguments):\n    return 0\n"])
def test_what_is_no_example_is_refused(notebooks: ModuleType, program: str) -> None:
    with pytest.raises(ValueError, match="no docstring, or no function main"):
        notebooks.convert(program, notebooks.Trial((), ()), "runs/x")


def test_the_chosen_examples_are_those_tested_here(notebooks: ModuleType) -> None:
    assert sorted(notebooks.NOTEBOOKS) == list(STEMS)


@pytest.mark.parametrize("stem", STEMS)
def test_a_notebook_has_all_code_of_its_example(notebooks: ModuleType, stem: str) -> None:
    program = ast.parse((ROOT / "examples" / f"{stem}.py").read_text("utf-8"))
    last = program.body.pop()
    assert ast.unparse(last).startswith("if __name__ == '__main__':")
    expected = without_docstrings(program)
    code = cells(json.loads(notebooks.notebook_text(stem)), "code")
    start = next(index for index, cell in enumerate(code) if cell.startswith("assert main"))
    assert without_docstrings(ast.parse("\n\n".join(code[1:start]))) == expected


@pytest.mark.parametrize("stem", STEMS)
def test_a_notebook_has_the_format_4_5(notebooks: ModuleType, stem: str) -> None:
    text = notebooks.notebook_text(stem)
    document = json.loads(text)
    assert (document["nbformat"], document["nbformat_minor"]) == (4, 5)
    assert set(document) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    ids = [cell["id"] for cell in document["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in document["cells"]:
        code = {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert set(cell) == {"id", "cell_type", "metadata", "source"} | code
        assert all(line.endswith("\n") for line in cell["source"][:-1])
        assert "".join(cell["source"]).strip()
    assert len(text) < 60_000


def test_they_are_written_into_a_folder(notebooks: ModuleType, tmp_path: Path) -> None:
    assert notebooks.main([str(tmp_path / "new")]) == 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [f"{stem}.ipynb" for stem in STEMS]


# --- they run ---


EXECUTE = """
import sys, nbclient, nbformat
document = nbformat.read(sys.argv[1], 4)
nbformat.validate(document)
nbclient.NotebookClient(document, timeout=280, kernel_name="python3").execute()
nbformat.write(document, sys.argv[1])
"""


def environment() -> dict[str, str]:
    given = {name: value for name, value in os.environ.items() if name != "GANBLOCKS_DATA"}
    return {**given, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}


@pytest.mark.slow
@pytest.mark.parametrize("stem", STEMS)
def test_the_cells_run_one_after_the_other(notebooks: ModuleType, stem: str, tmp_path: Path) -> None:
    code = cells(json.loads(notebooks.notebook_text(stem)), "code")
    program = "\n\n".join([*code, "print('opened', Image.open(sorted(RUN.glob('**/*.png'))[-1]).size)"])
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("opened (")


@pytest.mark.slow
@pytest.mark.parametrize("stem", STEMS)
def test_jupyter_runs_a_notebook(notebooks: ModuleType, stem: str, tmp_path: Path) -> None:
    missing = [name for name in ("nbclient", "ipykernel") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"to run a notebook as Jupyter does, install {' and '.join(missing)}")
    path = tmp_path / f"{stem}.ipynb"
    path.write_text(notebooks.notebook_text(stem), "utf-8")
    command = [sys.executable, "-c", EXECUTE, str(path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    document = json.loads(path.read_text("utf-8"))
    shown = [output for cell in document["cells"] for output in cell.get("outputs", [])]
    pictures = [output for output in shown if "image/png" in output.get("data", {})]
    assert len(pictures) == len(notebooks.NOTEBOOKS[stem].pictures)
