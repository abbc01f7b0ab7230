"""Examples and benchmarks as modules, and calls of them as of a command line, for the tests of what they do.

A test file binds both to its own example::

    example = load("examples/dcgan_mnist.py")


    def run(out: Path, *arguments: object) -> Outcome:
        return call(example, "--out", out, *arguments)
"""

import contextlib
import dataclasses
import importlib.util
import io
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from unittest import mock

from ganblocks.training import Callback

__all__ = ["ROOT", "Outcome", "call", "clean_environment", "load", "plain_callback"]

ROOT = Path(__file__).resolve().parents[1]
"""The folder of the whole project."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Exit code, what was printed, and the text of each warning."""

    code: int
    out: str
    err: str
    warnings: list[str]


def load(path: str | Path, name: str | None = None) -> ModuleType:
    """A fresh module from a file of the project that is no part of the package; ``path`` is relative to ``ROOT``.

    Like a script it finds the files beside it. It is known to ``sys.modules`` under the name of the file, or under
    ``name`` where another test file has a module of its own from the same file.
    """
    file = ROOT / path
    spec = importlib.util.spec_from_file_location(name or file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there, and so do other processes
    with mock.patch.object(sys, "path", [str(file.parent), *sys.path]):
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def clean_environment(variables: Mapping[str, str] | None = None) -> Iterator[None]:
    """Without the data sets of this machine, and with ``variables``; afterwards everything is as before."""
    with mock.patch.dict(os.environ):
        os.environ.pop("GANBLOCKS_DATA", None)
        os.environ.update(variables or {})
        yield


def call(
    example: ModuleType,
    *arguments: object,
    environment: Mapping[str, str] | None = None,
    expected: type[Warning] | None = None,
) -> Outcome:
    """Call the ``main`` of an example as its command line would, in a clean environment.

    The filters of warnings that it sets are undone; warnings of the category ``expected`` are not told.
    """
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        clean_environment(environment),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        warnings.catch_warnings(record=True) as caught,
    ):
        try:
            code = example.main([*map(str, arguments)])
        except SystemExit as error:  # argparse
            code = int(error.code or 0)
    told = [str(warning.message) for warning in caught if warning.category is not expected]
    return Outcome(code, stdout.getvalue(), stderr.getvalue(), told)


def plain_callback(*_: object, **__: object) -> Callback:
    """A callback that does nothing, in the place of one that draws, measures or writes."""
    return Callback()
