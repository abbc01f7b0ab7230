"""What a run directory says, read with distrust: lines may be torn, files missing, links may lead elsewhere."""

import json
import math
import os
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

__all__ = [
    "Picture",
    "Record",
    "Run",
    "Sheet",
    "best_rows",
    "find_figures",
    "find_sheets",
    "finite",
    "measurements",
    "moment",
    "read_records",
    "read_run",
    "spread",
]

Record = Mapping[str, Any]

_SHEET_NAME = re.compile(r"([0-9]{1,15})(?:_([0-9]{1,6})px)?\.png")
_HIGHER_IS_BETTER = r"accuracy|precision|recall|density|coverage|inception_score"
_BETTER_HIGH = re.compile(_HIGHER_IS_BETTER, re.IGNORECASE)
_NO_BEST = re.compile(r"memorisation", re.IGNORECASE)  # both ends are bad
_MEASURED = re.compile(
    rf"distance|swd|{_HIGHER_IS_BETTER}|ms_ssim|path_length|memorisation|(fid|kid)(?![a-z])",  # not "confidence"
    re.IGNORECASE,
)
_LARGEST_SHEET = 64 * 2**20  # bytes


@dataclass(frozen=True)
class Run:
    """A run as its directory tells it.

    Attributes:
        root: the directory, with all links resolved.
        records: what was logged, without events, along one line of time: where a run went on from an earlier moment,
            what it had logged beyond that is left out. Each has a finite ``images_seen``.
        events: all records with ``event``, in the order of the log.
        config: content of ``config.json``; None where there is none to be read.
        images_seen: how far the run came by its log and its checkpoints; None if neither says so.
        planned: images of the whole run: ``total_images`` of an event or of the settings, else the sum of
            ``stage_images``; None if not recorded.
        seconds: from the first event to the last writing of the log, pauses included; None if unknown.
    """

    root: Path
    records: list[Record]
    events: list[Record]
    config: Any
    images_seen: float | None
    planned: float | None
    seconds: float | None


@dataclass(frozen=True)
class Sheet:
    """A PNG file of samples: where it is, its moment, the resolution of its samples, its own pixels and bytes."""

    path: Path
    images_seen: int
    resolution: int | None
    width: int
    height: int
    bytes: int


@dataclass(frozen=True)
class Picture:
    """A PNG file of ``figures/``: where it is, its name without the suffix, its pixels and bytes."""

    path: Path
    name: str
    width: int
    height: int
    bytes: int


def read_run(root: Path) -> Run:
    """Read log, settings and the names of checkpoints; ``root`` itself may be a link, or lie behind one.

    Raises:
        OSError: the log is there and may not be read.
    """
    root = root.resolve()
    log = _own_file(root, root / "log.jsonl")
    logged = [] if log is None else read_records(log)
    events = [record for record in logged if "event" in record]
    config = _read_config(root)
    positions = [position for record in logged if (position := finite(record.get("images_seen"))) is not None]
    names = [path.parent.name for path in root.glob("checkpoints/*/manifest.json")]
    moments = [int(name) for name in names if re.fullmatch(r"[0-9]{1,15}", name)]  # the last may be past the log
    return Run(
        root=root,
        records=_one_line_of_time(logged),
        events=events,
        config=config,
        images_seen=max([*positions[-1:], *moments], default=None),
        planned=_planned(config, events),
        seconds=_seconds(root, events),
    )


def read_records(path: str | os.PathLike[str]) -> list[Record]:
    """The JSON objects of a log, one a line; lines that are torn or no object are passed over.

    Args:
        path: a ``log.jsonl``.

    Raises:
        OSError: the file is missing or may not be read.
    """
    records: list[Record] = []
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):  # torn, or no log
                continue
            if isinstance(record, dict):
                records.append(record)
    return records


def find_sheets(root: Path) -> tuple[list[Sheet], int]:
    """Sheets of samples in the order of time, and how many files of such a name are no PNG of this run.

    Refused are links that lead out of the directory, files that are not whole, and files above 64 MiB.
    """
    folder = root / "samples"
    names = os.listdir(folder) if folder.is_dir() and folder.resolve().is_relative_to(root) else []
    sheets, refused = [], 0
    for name in names:
        if (match := _SHEET_NAME.fullmatch(name)) is None:
            continue
        path = _own_file(root, folder / name)
        size = None if path is None else _png_size(path)
        if path is None or size is None:
            refused += 1
        else:
            sheets.append(Sheet(path, int(match[1]), int(match[2]) if match[2] else None, *size))
    return sorted(sheets, key=lambda sheet: (sheet.images_seen, sheet.resolution or 0)), refused


def find_figures(root: Path) -> tuple[list[Picture], int]:
    """PNG files of ``figures/`` by name, numbers in it by their size, and how many are refused as by `find_sheets`.

    Hidden files and what has another suffix are neither.
    """
    folder = root / "figures"
    names = os.listdir(folder) if folder.is_dir() and folder.resolve().is_relative_to(root) else []
    pictures, refused = [], 0
    for name in names:
        if name.startswith(".") or not name.lower().endswith(".png"):
            continue
        path = _own_file(root, folder / name)
        size = None if path is None else _png_size(path)
        if path is None or size is None:
            refused += 1
        else:
            pictures.append(Picture(path, name[:-4], *size))
    return sorted(pictures, key=lambda picture: (_natural(picture.name), picture.name)), refused


def measurements(records: Sequence[Record]) -> tuple[list[str], list[dict[str, Any]], list[str]]:
    """Sort what was measured now and then from what was logged all along.

    Returns:
        Keys of measurements (distances, swd, fid, kid, accuracies, other metrics); a row of them, with ``images_seen``
        and ``resolution``, for each moment; and the keys of the other values.
    """
    keys: dict[str, bool] = {}
    rows: dict[float, dict[str, Any]] = {}
    for record in records:
        keys |= {key: bool(_MEASURED.search(key)) for key in record.keys() - keys.keys()}
        if measured := {key: value for key, value in record.items() if keys[key]}:
            row = rows.setdefault(float(record["images_seen"]), {})
            row |= {"images_seen": record["images_seen"], "resolution": record.get("resolution"), **measured}
    order = list(dict.fromkeys(key for record in records for key in record))
    return [key for key in order if keys[key]], list(rows.values()), [key for key in order if not keys[key]]


def best_rows(keys: Sequence[str], rows: Sequence[Record]) -> set[tuple[str, int]]:
    """(key, index of the row) of the best value of each key at each resolution, the first one of equals.

    Best is the highest accuracy, precision, recall, density, coverage and inception score, and the lowest of all else;
    memorisation has no best. Values at different resolutions do not compare.
    """
    best: dict[tuple[str, float | None], tuple[float, int]] = {}
    for index, row in enumerate(rows):
        for key in keys:
            if not _NO_BEST.search(key) and (number := finite(row.get(key))) is not None:
                rank = (-number if _BETTER_HIGH.search(key) else number, index)
                place = (key, finite(row["resolution"]))
                best[place] = min(best.get(place, rank), rank)
    return {(key, index) for (key, _), (_, index) in best.items()}


def finite(value: Any) -> float | None:
    """A finite number as float, None for all else (text, truth values, NaN, integers beyond float)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def moment(event: Record) -> datetime | None:
    """Time of an event, None if it says none that can be read."""
    try:
        time = datetime.fromisoformat(event["time"])
        return time if time.tzinfo else time.astimezone()
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` of ``range(count)``, evenly, with the first and the last; of one only the last."""
    if count <= most:
        return list(range(count))
    return [count - 1] if most == 1 else [round(k * (count - 1) / (most - 1)) for k in range(most)]


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts epoch_9 before epoch_10."""
    parts = re.findall(r"([0-9]+)|([^0-9]+)", name.lower())
    return [(len(digits.lstrip("0")), digits.lstrip("0")) if digits else (-1, text) for digits, text in parts]


def _own_file(root: Path, path: Path) -> Path | None:
    """The file that ``path`` leads to, None unless it is a regular one inside ``root``."""
    try:
        real = path.resolve(strict=True)
        return real if real.is_file() and real.is_relative_to(root) else None
    except (OSError, RuntimeError):  # nothing there, or links in a circle
        return None


def _read_config(root: Path) -> Any:
    path = _own_file(root, root / "config.json")
    try:
        return None if path is None else json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _one_line_of_time(logged: Iterable[Record]) -> list[Record]:
    """Drop events, and what a run had logged beyond the moment from which it then went on."""
    records: list[tuple[float, Record]] = []
    for record in logged:
        position = finite(record.get("images_seen"))
        if position is None:
            continue
        if "event" not in record:
            if records and position < records[-1][0]:
                while records and records[-1][0] >= position:
                    records.pop()
            records.append((position, record))
        elif record["event"] in ("start", "resume"):
            while records and records[-1][0] > position:
                records.pop()
    return [record for _, record in records]


def _planned(config: Any, events: Sequence[Record]) -> float | None:
    settings = config if isinstance(config, dict) else {}
    for source in (*reversed(events), settings):
        if (total := finite(source.get("total_images"))) is not None and total > 0:
            return total
    stages = settings.get("stage_images")
    lengths = [finite(stage) or 0.0 for stage in stages] if isinstance(stages, list) else []
    return sum(lengths) if lengths and min(lengths) > 0 else None


def _seconds(root: Path, events: Sequence[Record]) -> float | None:
    log = _own_file(root, root / "log.jsonl")
    starts = [time.timestamp() for event in events if (time := moment(event)) is not None]
    if log is None or not starts:
        return None
    seconds = log.stat().st_mtime - starts[0]
    return seconds if seconds >= 0 else None


def _png_size(path: Path) -> tuple[int, int, int] | None:
    """Width, height and bytes of a whole PNG file of bearable size; None for any other."""
    try:
        size = path.stat().st_size
        if not 45 <= size <= _LARGEST_SHEET:
            return None
        with path.open("rb") as file:
            head = file.read(24)
            file.seek(-8, os.SEEK_END)
            whole = head[:16] == b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" and file.read() == b"IEND\xaeB`\x82"
    except OSError:
        return None
    width, height = struct.unpack(">II", head[16:])
    return (width, height, size) if whole and width and height else None
