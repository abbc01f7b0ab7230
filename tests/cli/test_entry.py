"""The command line as a whole: exit codes, one line for everything that is wrong, and the run left alone."""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_runs import Call, Outcome, damage, newest, snapshot

from ganblocks import __version__, cli
from ganblocks.cli import arguments, entry

ROOT = Path(__file__).resolve().parents[2]


class TestCall:
    @pytest.mark.parametrize("arguments", ["", "checkpoint", "fly", "checkpoint list", "checkpoint export x", "sample"])
    def test_a_wrong_call_is_code_2_with_the_usage(self, arguments: str, call: Call) -> None:
        outcome = call(*arguments.split())
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.startswith("usage: ganblocks")

    def test_version_and_help(self, call: Call) -> None:
        assert call("--version") == Outcome(0, f"ganblocks {__version__}\n", "")
        text = call("--help").out
        assert all(word in text for word in ("checkpoint", "sample", "report", "info"))

    @pytest.mark.parametrize(
        ("error", "code", "line"),
        [
            (MemoryError("too much"), 2, "MemoryError: too much\n"),
            (torch.OutOfMemoryError("GPU full"), 2, "OutOfMemoryError: GPU full\n"),
            (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "RuntimeError: DefaultCPUAllocator"),
            (OSError(28, "No space left on device"), 2, "OSError: [Errno 28] No space left on device\n"),
            (ValueError("two\nlines"), 2, "ValueError: two lines\n"),
            (KeyboardInterrupt(), 130, ""),
        ],
    )
    def test_what_goes_wrong_is_one_line(
        self,
        error: BaseException,
        code: int,
        line: str,
        tmp_path: Path,
        call: Call,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def fail(path: Path) -> None:
            raise error

        monkeypatch.setattr("ganblocks.cli.checkpoint.find_checkpoints", fail)
        outcome = call("checkpoint", "list", tmp_path)
        assert (outcome.code, outcome.out) == (code, "")
        assert outcome.err.startswith(line)
        assert outcome.err.count("\n") == (1 if line else 0)

    def test_an_error_of_ours_keeps_its_traceback(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(path: Path) -> None:
            raise RuntimeError("a fault of the program")

        monkeypatch.setattr("ganblocks.cli.checkpoint.find_checkpoints", fail)
        with pytest.raises(RuntimeError, match="a fault"):
            cli.main(["checkpoint", "list", str(tmp_path)])

    def test_a_new_command_is_a_function_and_a_line_in_the_list(
        self, call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def add_greet(commands: arguments.Commands) -> None:
            arguments.add_command(commands, "greet", greet, "a greeting").add_argument("name")

        def greet(options: argparse.Namespace) -> int:
            print(f"hello {options.name}")
            return 1

        monkeypatch.setattr(entry, "COMMANDS", (*entry.COMMANDS, add_greet))
        assert call("greet", "you") == Outcome(1, "hello you\n", "")
        assert "a greeting" in call("--help").out

    def test_no_command_changes_the_run(
        self, run: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        damage(newest(run))
        before = snapshot(run)
        assert call("checkpoint", "list", run).code == 1
        assert call("checkpoint", "verify", run).code == 1
        assert call("checkpoint", "export", run, "--out", tmp_path / "w.safetensors").code == 0
        assert call("sample", "--run", run, "--count", 1, "--out", tmp_path / "s.png").code == 0
        assert snapshot(run) == before


def process(*command: str, **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *command], stdout=pipe, stderr=pipe, text=True, env=environment, **options)


class TestProcess:
    def test_the_module_is_the_command(self, run: Path) -> None:
        damage(newest(run))
        out, err = (done := process("-m", "ganblocks", "checkpoint", "verify", str(run))).communicate(timeout=200)
        assert (done.returncode, err) == (1, "")
        assert out.startswith("000000001000  valid\n000000002000  checkpoint ")

    def test_no_extra_is_imported_and_a_reader_that_has_seen_enough_is_no_error(self) -> None:
        extras = ("matplotlib", "tensorboard", "torchvision", "timm", "sklearn", "skimage", "pooch", "onnx")
        code = f"""
import sys
from ganblocks.cli import main
code = main(["info"])
print([name for name in {extras} if name in sys.modules], file=sys.stderr)
sys.exit(code)
"""
        done = process("-c", code)
        assert done.stdout is not None
        assert done.stderr is not None
        done.stdout.close()
        assert done.stderr.read() == "[]\n"
        done.stderr.close()
        assert done.wait(timeout=200) == 141
