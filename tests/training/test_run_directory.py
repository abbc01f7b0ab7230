"""One run, one process: the second one is told who has the directory, and a dead one holds nothing."""

import errno
import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ganblocks.errors import CheckpointError, RunMismatchError
from ganblocks.training.run_directory import (
    RunLock,
    claim_run_directory,
    new_run_directory,
    require_own_run_directory,
)

HOLD = """
import sys, time
from pathlib import Path
from ganblocks.training.run_directory import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_another_process_is_kept_out_while_the_holder_lives_and_no_longer(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(CheckpointError, match=rf"process {holder.pid} on {platform.node()}\)\. Wait for it"):
            RunLock(tmp_path).__enter__()
        assert json.loads((tmp_path / ".lock.json").read_text())["pid"] == holder.pid
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    with RunLock(tmp_path):  # a lock of the dead is no lock, though its name still stands in the file
        assert json.loads((tmp_path / ".lock.json").read_text())["pid"] == os.getpid()
    assert not (tmp_path / ".lock.json").exists()


def test_the_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with RunLock(tmp_path):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with RunLock(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"pid": 3}'])
def test_a_damaged_note_about_the_holder_does_not_hide_the_lock(tmp_path: Path, content: str) -> None:
    with RunLock(tmp_path):
        (tmp_path / ".lock.json").write_text(content)
        with pytest.raises(CheckpointError, match=r"in use by another run\. Wait"):
            RunLock(tmp_path).__enter__()


def test_a_file_system_without_locks_is_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(CheckpointError, match=r"cannot be locked against a second run: .*Function not implemented"):
        RunLock(tmp_path).__enter__()
    assert not (tmp_path / ".lock.json").exists()


def test_settings_are_written_once_and_compared_ever_after(tmp_path: Path) -> None:
    require_own_run_directory(tmp_path / "run", {"a": 1})
    assert not (tmp_path / "run" / "config.json").exists()
    claim_run_directory(tmp_path / "run", {"a": 1})
    claim_run_directory(tmp_path / "run", {"a": 2})
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == {"a": 1}
    require_own_run_directory(tmp_path / "run", {"a": 1})
    with pytest.raises(RunMismatchError, match="a: 1 there, 2 now"):
        require_own_run_directory(tmp_path / "run", {"a": 2})


def test_new_run_directory_never_reuses(tmp_path: Path) -> None:
    wanted = tmp_path / "run"
    assert new_run_directory(wanted) == wanted
    wanted.mkdir()
    assert new_run_directory(wanted) == wanted
    (wanted / "config.json").write_text("{}")
    assert new_run_directory(wanted) == tmp_path / "run-2"
    (tmp_path / "run-2").write_text("a file")
    assert new_run_directory(wanted) == tmp_path / "run-3"


@pytest.mark.parametrize("text", ["[1, 2]", "[" * 100_000, '{"seed": ', "\x00"], ids=["list", "deep", "torn", "nul"])
def test_settings_that_are_none_are_a_typed_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(
        CheckpointError, match=r"config\.json is not valid JSON .* remove it or choose another directory"
    ):
        require_own_run_directory(tmp_path, {"seed": 0})


def test_alone_the_new_directory_is_found_here(tmp_path: Path) -> None:
    assert new_run_directory(tmp_path / "a") == tmp_path / "a"
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "log").touch()
    assert new_run_directory(tmp_path / "a") == tmp_path / "a-2"
