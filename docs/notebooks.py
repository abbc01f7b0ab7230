"""Notebooks of a few examples, to read along: ``python docs/notebooks.py FOLDER`` writes them; the site has them, too.

Chosen are those that can be read from top to bottom, need nothing beside themselves, and end with pictures: a
progressive GAN, a plain one, one with a critic, an autoencoder with a plane of latents. The others are comparisons,
whose result is a report and not the code, or lean on a neighbour. A notebook has the code of its example, unchanged but
for docstrings that became text; it is made anew with every build, so it cannot go stale.
"""

import argparse
import ast
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["NOTEBOOKS", "Trial", "convert", "main", "notebook_text"]

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
Cell = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """How a notebook runs its example.

    Attributes:
        arguments: Those of a run of seconds that needs no data set.
        pictures: Files of the run directory that it shows at the end; of a pattern the last.
    """

    arguments: tuple[str, ...]
    pictures: tuple[str, ...]


NOTEBOOKS = {
    "progan_celeba": Trial(
        ("--drawn", "400", "--resolution", "16", "--images-per-stage", "800"), ("samples/*.png", "curves.png")
    ),
    "dcgan_mnist": Trial(("--smoke",), ("samples/*.png", "curves.png")),
    "wgan_gp_brain_mri": Trial(("--smoke",), ("samples/*.png", "curves.png")),
    "vae_fashion_mnist": Trial(("--epochs", "5"), ("figures/codes_after.png", "figures/decoder_grid.png")),
}


def notebook_text(stem: str) -> str:
    """The notebook of an example of `NOTEBOOKS`, as a file holds it."""
    source = (EXAMPLES / f"{stem}.py").read_text("utf-8")
    document = convert(source, NOTEBOOKS[stem], f"runs/notebook_{stem}")
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def convert(source: str, trial: Trial, run: str) -> dict[str, Any]:
    """Make a notebook of a program.

    The docstring of the module becomes text, and so do those of its functions and classes and the comments between
    them. Each function and each class has a cell of its own; what stands between two of them shares one. Instead of
    the block below ``if __name__ == "__main__"``, the last cells call ``main`` and show pictures.

    Args:
        source: A program with a docstring and a function ``main(arguments)`` that returns an exit code.
        trial: What it is called with, and what it leaves.
        run: Its run directory.

    Returns:
        A document of format 4.5, ready for JSON.

    Raises:
        ValueError: The program has no docstring or no such function.
    """
    tree = ast.parse(source)
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    text = ast.get_docstring(tree)
    if not text or "main" not in names:
        raise ValueError("the program has no docstring, or no function main")
    arguments = json.dumps([*trial.arguments, "--out", run])
    cells = [
        _text(_heading_and_blocks(text)),
        _text(
            "## Options\n\nThose of the command line. These are for a trial of seconds; without them the example "
            "runs as its first command does."
        ),
        _code(f"ARGUMENTS = {arguments}"),
        *_body(source, tree),
        _text("## The run\n\nThe same cell again goes on where it was stopped, or tells that it has finished."),
        _code("assert main(ARGUMENTS) == 0, 'the lines above say what is wrong'"),
        _text("## What it has left"),
        _code(
            "from pathlib import Path\n\nfrom PIL import Image\n\n"
            f'RUN = Path("{run}")\nsorted(str(path.relative_to(RUN)) for path in RUN.iterdir())'
        ),
        *(_code(f'Image.open(sorted(RUN.glob("{pattern}"))[-1])') for pattern in trial.pictures),
    ]
    return {
        "cells": [{"id": f"cell-{index}", **cell} for index, cell in enumerate(cells)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


# --- parts of a program ---


def _body(source: str, tree: ast.Module) -> Iterator[Cell]:
    """Cells of everything between the docstring and the last block."""
    lines = source.splitlines()
    plain: list[str] = []  # imports, constants: what waits for a common cell
    end = tree.body[0].end_lineno or 0
    for node in tree.body[1:]:
        start = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", []))])
        between = lines[end : start - 1]
        end = node.end_lineno or start
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if plain:
                yield _code("\n".join(plain).strip("\n"))
                plain = []
            yield _text(_definition(node, _comments(between)))
            yield _code(_without_docstring(lines, node, start))
        elif not _is_last_block(node):
            plain += [*between, *lines[start - 1 : end]]
    if plain:
        yield _code("\n".join(plain).strip("\n"))


def _definition(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, comments: str) -> str:
    """Heading, comments before it, docstring."""
    parts = (comments, f"### `{node.name}`", _blocks(ast.get_docstring(node) or ""))
    return "\n\n".join(part for part in parts if part)


def _without_docstring(lines: Sequence[str], node: ast.AST, start: int) -> str:
    """The source of a definition; its docstring stays where it is all that the body has."""
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    end = node.end_lineno or start
    kept = list(lines[start - 1 : end])
    first = node.body[0]
    if ast.get_docstring(node) is not None and len(node.body) > 1:
        last = first.end_lineno or first.lineno
        after = last - start + 1
        while after < len(kept) and not kept[after].strip():
            after += 1
        del kept[first.lineno - start : after]
    return "\n".join(kept)


def _is_last_block(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def _comments(between: Sequence[str]) -> str:
    """Comments between two definitions as text; a line of dashes around words is a heading."""
    said = [line.strip().lstrip("#").strip() for line in between if line.strip().startswith("#")]
    return "\n".join(re.sub(r"^-{3,}\s*(.*?)\s*-*$", r"## \1", line) for line in said)


# --- text ---


def _heading_and_blocks(text: str) -> str:
    first, _, rest = text.partition("\n\n")
    return f"# {' '.join(first.split())}\n\n{_blocks(rest)}".strip()


def _blocks(text: str) -> str:
    """Paragraphs of a docstring in Markdown: what is indented keeps its lines."""
    shown = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        prose: list[str] = []
        table: list[str] = []
        for line in block.splitlines():
            (table if line.startswith("    ") or table else prose).append(line)
        if prose:
            shown.append("\n".join(prose))
        if table:
            fence = [line.removeprefix("    ") for line in table]
            kept = [line for line in fence if line.strip()]
            shown.append("```text\n" + "\n".join(kept) + "\n```")
    return "\n\n".join(shown)


def _text(content: str) -> Cell:
    return {"cell_type": "markdown", "metadata": {}, "source": content.splitlines(keepends=True)}


def _code(content: str) -> Cell:
    lines = content.splitlines(keepends=True)
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": lines}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write all notebooks into a folder."""
    parser = argparse.ArgumentParser(description="Make notebooks of examples.")
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    for stem in NOTEBOOKS:
        (folder / f"{stem}.ipynb").write_text(notebook_text(stem), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
