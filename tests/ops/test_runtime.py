"""Triton's presence and ways: a broken or missing installation is a reason, not an exception."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ganblocks.ops.kernels import device_guard

SOURCE = Path(__file__).resolve().parents[2] / "src"


def printed(code: str, **environment: str) -> str:
    variables = {**os.environ, "PYTHONPATH": str(SOURCE), **environment}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_triton_that_cannot_be_imported_is_a_reason() -> None:
    code = (
        "import sys; sys.modules['triton'] = None\nfrom ganblocks.ops.kernels import why_missing; print(why_missing())"
    )
    assert printed(code).startswith("ModuleNotFoundError: ")


@pytest.mark.parametrize(("at_import", "later", "expected"), [("1", "1", "True"), ("0", "1", "False")])
def test_the_interpreter_is_one_only_if_triton_was_imported_with_it(at_import: str, later: str, expected: str) -> None:
    pytest.importorskip("triton")
    code = f"import os, triton; os.environ['TRITON_INTERPRET'] = {later!r}\n"
    code += "from ganblocks.ops.kernels import is_interpreted, why_missing; print(why_missing(), is_interpreted())"
    assert printed(code, TRITON_INTERPRET=at_import) == f"None {expected}"


def test_a_cpu_tensor_needs_no_current_device() -> None:
    with device_guard(torch.zeros(2)):
        assert not torch.cuda.is_initialized()
