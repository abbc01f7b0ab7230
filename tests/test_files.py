"""A file is written whole or not at all: never half of it, never a torn older one."""

import os

import pytest

from ganblocks._files import written_atomically

both = pytest.mark.parametrize("sole_writer", [False, True])


@both
def test_a_new_file_appears_at_the_end_and_alone(tmp_path, sole_writer):
    path = tmp_path / "new" / "folder" / "grid.png"
    with written_atomically(str(path), sole_writer=sole_writer) as file:
        file.write(b"whole")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert os.listdir(path.parent) == ["grid.png"]


@both
def test_a_failed_write_leaves_the_older_file_alone(tmp_path, sole_writer):
    path = tmp_path / "grid.png"
    path.write_bytes(b"older")

    def interrupted():
        with written_atomically(path, sole_writer=sole_writer) as file:
            file.write(b"half of the new")
            file.flush()
            assert path.read_bytes() == b"older"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["grid.png"]


@both
def test_a_failed_rename_leaves_the_older_file_alone(tmp_path, monkeypatch, sole_writer):
    path = tmp_path / "grid.png"
    path.write_bytes(b"older")

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"), written_atomically(path, sole_writer=sole_writer) as file:
        file.write(b"newer")
    assert path.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["grid.png"]


@both
def test_the_older_file_is_replaced_and_not_written_into(tmp_path, sole_writer):
    path = tmp_path / "grid.png"
    path.write_bytes(b"older")
    (tmp_path / "link").hardlink_to(path)
    with written_atomically(path, sole_writer=sole_writer) as file:
        file.write(b"newer")
    assert path.read_bytes() == b"newer"
    assert (tmp_path / "link").read_bytes() == b"older"


def test_two_writers_do_not_meet_and_the_last_wins(tmp_path):
    path = tmp_path / "grid.png"
    with written_atomically(path) as first, written_atomically(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["grid.png"]


def test_the_sole_writer_writes_over_what_a_killed_one_has_left(tmp_path):
    path = tmp_path / "log.jsonl"
    with written_atomically(path, sole_writer=True):
        left = [entry for entry in tmp_path.iterdir() if entry != path]
    (leftover,) = left
    leftover.write_bytes(b"a longer text that a killed process has left")
    with written_atomically(path, sole_writer=True) as file:
        file.write(b"short")
    assert path.read_bytes() == b"short"
    assert os.listdir(tmp_path) == ["log.jsonl"]
