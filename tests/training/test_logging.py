"""The log survives what happens to logs."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ganblocks.training.environment import describe_environment
from ganblocks.training.logging import RunLog


def test_one_json_object_a_line(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    assert log.read() == []
    log.append({"images_seen": 1, "loss": 0.5})
    log.append({"images_seen": 2, "loss": math.inf})
    assert [json.loads(line) for line in log.path.read_text().splitlines()] == log.read()
    assert log.read()[1]["loss"] == "inf"


def test_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    log.append({"images_seen": 1})
    with log.path.open("a") as file:
        file.write('{"images_seen": 2, "lo')
    assert log.read() == [{"images_seen": 1}]
    log.rewind(5)
    log.append({"images_seen": 3})
    assert log.read() == [{"images_seen": 1}, {"images_seen": 3}]


def test_rewind_drops_later_measurements_and_keeps_events(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    log.rewind(0)
    for record in ({"event": "start", "images_seen": 0}, {"images_seen": 5}, {"event": "resume", "images_seen": 9}):
        log.append(record)
    log.append({"images_seen": 10})
    log.rewind(5)
    assert [record["images_seen"] for record in log.read()] == [0, 5, 9]


def test_records_wait_for_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    log.append({"images_seen": 1})
    (tmp_path / "log.jsonl").rename(tmp_path / "aside")
    (tmp_path / "log.jsonl").mkdir()
    with pytest.warns(RuntimeWarning, match="cannot be written for now"):
        log.append({"images_seen": 2})
    log.append({"images_seen": 3})  # told once
    (tmp_path / "log.jsonl").rmdir()
    log.append({"images_seen": 4})
    assert [record["images_seen"] for record in log.read()] == [2, 3, 4]


def test_a_removed_folder_is_made_anew(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "run" / "log.jsonl")
    log.append({"images_seen": 1})
    assert len(log.read()) == 1


def test_a_damaged_log_is_read_as_far_as_it_can_be(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    log.append({"images_seen": 1})
    with log.path.open("ab") as file:
        file.write(b"\xff\xfe\n" + b"[" * 100_000 + b"\n" + b'{"images_seen": "many"}\n{"images_seen": 9}\n')
    assert [record["images_seen"] for record in log.read()] == [1, "many", 9]
    log.rewind(5)
    assert [record["images_seen"] for record in log.read()] == [1]


@pytest.mark.parametrize("event", ["start", "resume"])
def test_a_start_says_when_by_what_command_and_with_what(
    event: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [str(tmp_path / "examples" / "a.py"), "--data", "two words"])
    monkeypatch.chdir(tmp_path)
    log = RunLog(tmp_path / "log.jsonl")
    log.append({"event": event, "images_seen": 0})
    log.append({"event": "scores", "images_seen": 0})
    record, other = log.read()
    assert record["command"] == ["examples/a.py", "--data", "two words"]
    assert abs((datetime.now(UTC) - datetime.fromisoformat(record["time"])).total_seconds()) < 60
    assert record.items() >= describe_environment().items()
    assert other == {"event": "scores", "images_seen": 0}


def test_a_program_elsewhere_is_named_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/elsewhere/ganblocks"])
    monkeypatch.chdir(tmp_path)
    log = RunLog(tmp_path / "log.jsonl")
    log.append({"event": "start"})
    assert log.read()[0]["command"] == ["/elsewhere/ganblocks"]


def test_what_a_start_says_itself_stays(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    log.append({"event": "start", "time": "then", "command": "that", "torch": "other"})
    (record,) = log.read()
    assert [record[key] for key in ("time", "command", "torch")] == ["then", "that", "other"]
