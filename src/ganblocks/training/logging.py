"""The log of a run: one JSON object a line, so that it survives a crash and any tool can read it."""

import contextlib
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ganblocks._files import written_atomically
from ganblocks.training.environment import describe_environment

__all__ = ["RunLog"]


class RunLog:
    """Appends records to ``log.jsonl``.

    A record has ``images_seen`` and the values of that moment; a record with an ``event`` key tells of something that
    happened. Where that is ``"start"`` or ``"resume"``, it also gets what a result cannot be told without, unless it
    says so itself: ``time``, ``command`` (the program and its arguments) and what `describe_environment` tells.
    Non-finite numbers are written as strings, since JSON has none.

    Args:
        path: The file; made when the first record comes.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path)
        self._waiting: list[str] = []

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record; it is with the operating system when this returns.

        A log that cannot be written (a full disk, a removed folder) does not end a run: there is a ``RuntimeWarning``,
        and the records wait for the next call. A removed folder or file is made anew.
        """
        if record.get("event") in ("start", "resume"):
            now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
            record = {"time": now, "command": _command_line(), **describe_environment(), **record}
        self._waiting.append(json.dumps({key: _plain(value) for key, value in record.items()}) + "\n")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write("".join(self._waiting))
        except OSError as error:
            if len(self._waiting) == 1:
                warnings.warn(f"the log cannot be written for now: {error}", RuntimeWarning, stacklevel=2)
        else:
            self._waiting.clear()

    def read(self) -> list[dict[str, Any]]:
        """All whole records; a line torn by a crash, or damaged, is passed over."""
        if not self.path.exists():
            return []
        records = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict):
                records.append(record)
        return records

    def rewind(self, images_seen: int) -> None:
        """Drop measurements made after ``images_seen``, which a resumed run will make again; events stay."""
        if not self.path.exists():
            return
        kept = [r for r in self.read() if "event" in r or _whole(r.get("images_seen", 0)) <= images_seen]
        with written_atomically(self.path, sole_writer=True) as file:
            file.write("".join(json.dumps(record) + "\n" for record in kept).encode())


def _command_line() -> list[str]:
    """The program of this process, as a path from the working directory where it is below it, and its arguments."""
    program = Path(sys.argv[0])
    with contextlib.suppress(ValueError):
        program = program.resolve().relative_to(Path.cwd())
    return [program.as_posix(), *sys.argv[1:]]


def _whole(value: Any) -> int:
    """A number of images; what is none belongs to no run."""
    return value if isinstance(value, int) else sys.maxsize


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
