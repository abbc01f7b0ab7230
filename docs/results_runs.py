"""Reads finished run directories for the results page: by what command, on what, how long, and with what figures."""

import csv
import json
import re
import shlex
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from PIL import Image
from results_entries import Figure, Picture, Run, may_be_shown

__all__ = [
    "RunError",
    "differing",
    "read_command",
    "read_run",
    "require_command",
    "save_picture",
    "tell_command",
    "values",
]

PATHS = ("--data", "--table", "--content", "--style", "--weights", "--query", "--mask", "--classifier")
MACHINE = ("--out", "--threads", "--workers", "--device", "--resume", "--fresh", "--verbose", "--cache")
COUNTS = ("--drawn",)  # whose number may differ where it is a mark
REFUSED = ("--smoke", "--dry-run", "--sample")
ENVIRONMENT = ("device", "gpus", "machine", "cpu", "amx", "cores", "threads", "processes", "torch", "ganblocks")
WIDEST = 900  # pixels of a picture on the page
Values = list[float] | str


class RunError(ValueError):
    """A run directory that cannot be shown as what it is said to be."""


# --- commands


def read_command(words: Sequence[str]) -> dict[str, list[str]]:
    """Options of a command with their values; the program is under ``""``."""
    words = list(words)
    while words and (Path(words[0]).name.startswith(("python", "ganblocks")) or "=" in words[0]):
        words.pop(0)
    if not words:
        raise RunError("the command has no program")
    parts: dict[str, list[str]] = {"": [words[0]]}
    option = ""
    for word in words[1:]:
        if word.startswith("--"):
            option, _, value = word.partition("=")
            parts[option] = [value] if value else []
        else:
            parts[option].append(word)
    return parts


def tell_command(words: Sequence[str]) -> str:
    """The command as a reader would type it: no folders of this machine, no options that only it needs."""
    parts = read_command(words)
    program = f"examples/{Path(parts.pop('')[0]).name}"
    told = [program]
    for option, given in parts.items():
        if option not in MACHINE:
            folders = option in PATHS
            told += [option, *(Path(value).name if folders or Path(value).is_absolute() else value for value in given)]
    return f"python {shlex.join(told)}"


def differing(command: str, run: Run) -> list[str]:
    """In which options a command (`tell_command`) differs from that of the full run, beside paths, machine and seed."""
    ours, full = (read_command(shlex.split(text)) for text in (command, run.command))
    names = [
        name
        for name in dict.fromkeys([*full, *ours])
        if name and name not in (*PATHS, *MACHINE, "--precision", "--seed")
    ]
    told = [_difference(name, ours.get(name), full.get(name)) for name in names if ours.get(name) != full.get(name)]
    if "--weights" in full and "--weights" not in ours:
        told.append("without pretrained weights")
    return told


def _difference(name: str, ours: list[str] | None, full: list[str] | None) -> str:
    if ours is None:
        return f"without `{' '.join([name, *(full or [])])}`"
    instead = "" if full is None else f" instead of {' '.join(full) or 'none'}"
    return f"`{' '.join([name, *ours])}`{instead}"


def require_command(words: Sequence[str], run: Run) -> None:
    """Make sure that a command is one of this run.

    Raises:
        RunError: If it is another program, a trial, on other data, or has another option among the run's marks.
    """
    ours, full = read_command(words), read_command(shlex.split(run.command))
    program = Path(full[""][0]).name
    if Path(ours[""][0]).name != program:
        raise RunError(f"the run was made by {ours[''][0]}, but must be by {program}")
    for name in REFUSED:
        if name in ours:
            raise RunError(f"the run is a trial: its command has {name}")
    for name in run.marks:
        if (name in ours) != (name in full) or (name not in COUNTS and ours.get(name) != full.get(name)):
            raise RunError(f"the run has {name} {ours.get(name)}, but must have {full.get(name)}")
    given = [Path(value).name for name in ("--data", "--dataset", "--content") for value in ours.get(name, [])]
    if not given and "--drawn" not in ours:
        raise RunError("the command has no --data, so it does not say what the run was trained on")
    if run.data and not given[0].startswith(run.data):
        raise RunError(f"the run was trained on {given[0]}, but must be on {run.data}")


# --- the directory


def read_run(path: Path, run: Run, figures: Sequence[Figure], command: str | None = None) -> dict[str, Any]:
    """The record of one finished run directory.

    Args:
        path: The directory.
        run: What it is said to be.
        figures: What to take from it.
        command: In place of the one in its log, for a log without.

    Raises:
        RunError: If it is something else, or has not all that a record needs.
    """
    logs = [path, *sorted(log.parent for log in path.glob("*/**/log.jsonl"))]  # its own, and those of runs within
    starts = [[record for record in _log(log) if record.get("event") in ("start", "resume")] for log in logs]
    started = [record for records in starts for record in records]
    logged = next((record["command"] for record in started if "command" in record), None)
    words = logged or (shlex.split(command) if command else None)
    if words is None:
        raise RunError(f"the log of {path} has no command; give the one that it was made by with --command")
    require_command(words, run)
    computed = next((record for record in started if "torch" in record), None)
    if computed is None:
        raise RunError(f"the log of {path} does not say what it was computed with")
    environment = {key: computed[key] for key in ENVIRONMENT if key in computed}
    if devices := [record["device"] for record in started if "device" in record]:
        environment["device"] = devices[0]
    _require_finished(path, run)
    begun, ended = _span(path, started)
    found = {figure.key: value for figure in figures if (value := values(path, figure.source)) not in ([], "")}
    if not found:
        raise RunError(f"{path} has none of the figures; is the run finished?")
    return {
        "command": tell_command(words),
        "command_from": "log" if logged else "given",
        "date": time.strftime("%Y-%m-%d", time.gmtime(begun)),
        "seconds": [round(ended - begun)],
        "parts": max(map(len, starts)),
        "seeds": _seeds(path, words),
        "data": _fingerprints(path),
        "precision": _setting(path, "precision"),
        "environment": environment,
        "figures": found,
    }


def _require_finished(path: Path, run: Run) -> None:
    if (path / ".lock.json").exists():
        raise RunError(f"{path} is in use by a run")
    records = _log(path)
    total = [record["total_images"] for record in records if "total_images" in record and "event" in record][-1:]
    saved = [int(folder.name) for folder in path.glob("checkpoints/*") if folder.name.isdigit()]
    seen = max([record["images_seen"] for record in records if "images_seen" in record] + saved, default=0)
    ended_early = any(record.get("event") == "early_stopping" for record in records)
    if (total and seen < total[0] and not ended_early) or (run.leaves and not any(path.glob(run.leaves))):
        raise RunError(f"the run in {path} is not finished")


def _log(path: Path) -> list[dict[str, Any]]:
    log = path / "log.jsonl"
    return [record for record in map(_json, log.read_text("utf-8").splitlines()) if record] if log.is_file() else []


def _json(text: str) -> dict[str, Any] | None:
    try:
        record = json.loads(text)
    except ValueError:  # torn
        return None
    return record if isinstance(record, dict) else None


def _span(path: Path, started: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """First start, and the last writing of what a run leaves, in seconds since the epoch."""
    times = [datetime.fromisoformat(record["time"]).timestamp() for record in started if "time" in record]
    kept = [
        file
        for pattern in ("*.json", "*.jsonl", "*.md", "*.safetensors", "*/**/log.jsonl")  # a report may be made later
        for file in path.glob(pattern)
        if not file.name.startswith(".")
    ]
    if not times or not kept:
        raise RunError(f"{path} does not say when it was begun")
    return min(times), max(file.stat().st_mtime for file in kept)


def _seeds(path: Path, words: Sequence[str]) -> list[int]:
    """Seeds of the settings: the run's, those of the runs within, or those of its command."""
    own, *others = _configs(path)
    own_seeds, within = ({config["seed"] for config in part if "seed" in config} for part in ([own], others))
    if own_seeds or within:
        return sorted(within if own_seeds <= within else own_seeds)
    return [int(seed) for name, given in read_command(words).items() if name in ("--seed", "--seeds") for seed in given]


def _setting(path: Path, name: str) -> str | None:
    return next((config[name] for config in _configs(path) if isinstance(config.get(name), str)), None)


def _fingerprints(path: Path) -> list[str]:
    """The beginnings of the fingerprints of the data, as the first settings with any tell them; never a path."""
    for config in _configs(path):
        data = config.get("data")
        told = [value for value in (data if isinstance(data, list) else [data]) if isinstance(value, str)]
        if told and all(re.fullmatch(r"[0-9a-f]{16,}", value) for value in told):
            return [value[:12] for value in told]
    return []


def _configs(path: Path) -> list[dict[str, Any]]:
    """Settings of the run, empty where it has none, then of the runs within."""
    files = [path / "config.json", *sorted(path.glob("*/**/config.json"))]
    return [(_json(file.read_text("utf-8")) or {}) if file.is_file() else {} for file in files]


# --- figures


def values(path: Path, source: str) -> Values:
    """The numbers, or the text, that a source names; nothing of what the directory does not have.

    Args:
        path: The run directory.
        source: ``log KEY``, the last value of the log; ``tail SHARE KEY``, least and most in the last share of the
            images; ``event NAME KEY``, of the last such event; ``score NAME``; ``json FILE PATH`` and ``meta FILE
            PATH``, all values at a path of names, numbers and patterns with points between, in a JSON file or in what a
            safetensors file says of itself; ``cell FILE | ROW | COLUMN``, text of a table in Markdown; ``count
            PATTERN``, of files.
    """
    kind, _, rest = source.partition(" ")
    if kind == "count":
        return [float(count)] if (count := sum(file.is_file() for file in path.glob(rest))) else []
    if kind == "cell":
        name, row, column = (part.strip() for part in rest.split(" | "))
        return _cell(path / name, row, column)
    if kind in ("json", "meta"):
        name, _, place = rest.partition(" ")
        if not (path / name).is_file():
            return []
        document = json.loads((path / name).read_text("utf-8")) if kind == "json" else _metadata(path / name)
        return [float(value) for value in _walk(document, place.split(".")) if isinstance(value, int | float)]
    return _logged(path, kind, rest)


def _logged(path: Path, kind: str, rest: str) -> list[float]:
    records = _log(path)
    if kind == "log":
        return [float(record[rest]) for record in records if rest in record and "event" not in record][-1:]
    if kind == "event":
        name, _, key = rest.partition(" ")
        return [float(record[key]) for record in records if record.get("event") == name and key in record][-1:]
    if kind == "score":
        scored = [record["scores"] for record in records if record.get("event") == "scores"][-1:]
        return [float(score["value"]) for scores in scored for score in scores if score["name"] == rest]
    if kind != "tail":
        raise ValueError(f"no source {kind!r}")
    share, _, key = rest.partition(" ")
    last = max((record["images_seen"] for record in records if "images_seen" in record), default=0)
    kept = [float(r[key]) for r in records if key in r and r["images_seen"] > (1 - float(share)) * last]
    return [min(kept), max(kept)] if kept else []


def _walk(value: Any, steps: Sequence[str]) -> Iterator[Any]:
    if not steps:
        yield value
    elif isinstance(value, dict):
        for key in value:
            if fnmatchcase(key, steps[0]):
                yield from _walk(value[key], steps[1:])
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if fnmatchcase(str(index), steps[0]):
                yield from _walk(item, steps[1:])


def _metadata(file: Path) -> dict[str, Any]:
    """What a safetensors file says of itself, JSON read."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        about = json.loads(stream.read(length)).get("__metadata__", {})
    return {key: _json(value) if value.startswith("{") else value for key, value in about.items()}


def _cell(file: Path, row: str, column: str) -> str:
    """Text of a cell: the row by its first cell, the column by its head; in the first table that has both."""
    head: list[str] = []
    for line in file.read_text("utf-8").splitlines() if file.is_file() else []:
        if not line.startswith("|"):
            head = []
            continue
        cells = [cell.strip() for cell in next(csv.reader([line.strip().strip("|")], delimiter="|"))]
        head = head or cells
        if cells[0] == row and column in head:
            return cells[head.index(column)]
    return ""


# --- pictures


def save_picture(path: Path, picture: Picture, run: Run, target: Path) -> bool:
    """Write a picture of a run directory as a small WebP file; whether there is one.

    Raises:
        RunError: If it must not be shown.
    """
    found = sorted(path.glob(picture.path), key=lambda file: (_numbers(file.name), str(file)))
    if not may_be_shown(picture, run.subject):
        raise RunError(f"{picture.path} of {run.subject} must not be shown")
    if not found:
        return False
    with Image.open(found[-1]) as image:
        shown = image.convert("RGB")
    if shown.width > WIDEST:
        shown = shown.resize((WIDEST, round(shown.height * WIDEST / shown.width)), Image.Resampling.LANCZOS)
    target.parent.mkdir(parents=True, exist_ok=True)
    shown.save(target, "WEBP", quality=80, method=6)
    return True


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", name)]
