"""Facts about files, kept: found again under the same name and stamp, and dropped if anything is odd."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ganblocks.data import decode, report_cache
from ganblocks.data.report_cache import FileFacts, ReportCache
from ganblocks.errors import DataError

NAMES = ("a.png", "line\nbreak.png", "\udcff.png")
STAMPS = [(10, 2**62), (20, 2), (30, 3)]
FACTS = [
    FileFacts("PNG", "RGB", "4x5", "d" * 64, "p" * 64),
    FileFacts(error="ImageDecodeError", reason="'a' is none"),
    FileFacts(error="DataError", reason="locked", lasting=False),
]
OPTIONS = {"crop": "center", "max_pixels": 9}


def filled(path: Path) -> Path:
    ReportCache(path, path.parent, OPTIONS).save(NAMES, STAMPS, FACTS)
    return path


def known(path: Path, source: Path | None = None, options: dict[str, object] | None = None) -> list[FileFacts | None]:
    cache = ReportCache(path, source or path.parent, options or OPTIONS)
    return [cache.get(name, stamp) for name, stamp in zip(NAMES, STAMPS, strict=True)]


def test_what_lasts_is_found_again(tmp_path: Path) -> None:
    path = filled(tmp_path / "check.json")
    assert known(path) == [FACTS[0], FACTS[1], None]
    cache = ReportCache(path, tmp_path, OPTIONS)
    assert cache.get("a.png", (10, 1)) is None
    assert cache.get("a.png", (11, 2**62)) is None
    assert cache.get("b.png", (10, 2**62)) is None


def test_without_a_path_nothing_is_kept(tmp_path: Path) -> None:
    cache = ReportCache(None, tmp_path, OPTIONS)
    cache.save(NAMES, STAMPS, FACTS)
    assert cache.get("a.png", STAMPS[0]) is None
    assert list(tmp_path.iterdir()) == []


def test_a_part_keeps_what_was_known_of_the_rest(tmp_path: Path) -> None:
    path = filled(tmp_path / "check.json")
    newer = FileFacts("GIF", "P", "1x1", "e" * 64, "q" * 64)
    ReportCache(path, tmp_path, OPTIONS).save(NAMES, STAMPS, [newer])
    assert known(path) == [newer, FACTS[1], None]
    ReportCache(path, tmp_path, OPTIONS).save(NAMES, [STAMPS[0], (21, 2), STAMPS[2]], [newer])
    assert known(path) == [newer, None, None]


def test_another_check_knows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled(tmp_path / "check.json")
    assert known(path, source=tmp_path / "elsewhere") == [None] * 3
    assert known(path, options={**OPTIONS, "max_pixels": 10}) == [None] * 3
    assert known(path, source=tmp_path / "x" / "..")[0] == FACTS[0]  # the same folder by another way
    monkeypatch.setattr(report_cache, "RULES_VERSION", decode.RULES_VERSION + 1)
    assert known(path) == [None] * 3


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        [[10, 1]],
        [[10, 1], []],
        [[10, 1], ["PNG", "RGB", "4x5", "d", "p", None, "", "too many"]],
        [[10, 1], ["PNG", "RGB", "4x5", "d", "p", None, 3]],
        [[10, 1], ["PNG", None, "4x5", "d", "p", None, ""]],
        [[10, 1], ["PNG", "RGB", "4x5", "d", "p", True, ""]],
        [[10.0, 1], ["PNG", "RGB", "4x5", "d", "p", None, ""]],
        [[10], ["PNG", "RGB", "4x5", "d", "p", None, ""]],
        ["10", ["PNG", "RGB", "4x5", "d", "p", None, ""]],
    ],
)
def test_one_malformed_entry_drops_all(tmp_path: Path, entry: Any) -> None:
    path = filled(tmp_path / "check.json")
    document = json.loads(path.read_text())
    document["files"]["another.png"] = entry
    path.write_text(json.dumps(document))
    assert known(path) == [None] * 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_in_its_place_does_not_block_and_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "check.json")
    assert known(tmp_path / "check.json") == [None] * 3
    assert known(filled(tmp_path / "check.json"))[0] == FACTS[0]


def test_a_folder_in_its_place_is_told_when_written(tmp_path: Path) -> None:
    (tmp_path / "check.json").mkdir()
    cache = ReportCache(tmp_path / "check.json", tmp_path, OPTIONS)
    with pytest.raises(DataError, match=r"check\.json' cannot be written"):
        cache.save(NAMES, STAMPS, FACTS)
