"""The programs of the documentation: they are not installed, so their folders are lent to the path."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
Program = Callable[[str], ModuleType]


@pytest.fixture(scope="module")
def docs_program() -> Iterator[Program]:
    """Imports a program by its name. The folders stay on the path, as programs import others when they are called."""
    lent = [str(DOCS), str(DOCS / "api")]
    sys.path[:0] = lent
    try:
        yield importlib.import_module
    finally:
        for folder in lent:
            sys.path.remove(folder)


@pytest.fixture
def results(docs_program: Program) -> ModuleType:
    return docs_program("results")


@pytest.fixture
def runs(docs_program: Program) -> ModuleType:
    return docs_program("results_runs")


@pytest.fixture
def table(docs_program: Program) -> ModuleType:
    return docs_program("results_table")
