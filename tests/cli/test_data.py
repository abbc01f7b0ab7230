"""``ganblocks data check``: exit codes, table and JSON, and nothing that a terminal would obey."""

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from cli_runs import Call
from PIL import Image

from ganblocks.data.report import DatasetReport, check_images


def encoded(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    for seed, name in enumerate(("x/a.png", "x/b.png", "y/c.png")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(seed))
    return root


def test_a_sound_folder_is_code_0(images: Path, call: Call) -> None:
    outcome = call("data", "check", images)
    assert (outcome.code, outcome.err) == (0, "")
    rows = dict(line.split("  ", 1) for line in outcome.out.splitlines())
    assert {name.strip(): text.strip() for name, text in rows.items()} == {
        "images": f"3 ({sum(len(encoded(seed)) for seed in range(3))} B)",
        "formats": "PNG 3",
        "modes": "RGB 3",
        "sizes": "6x5 3",
        "classes": "x 2, y 1",
        "duplicates": "0 files in 0 groups",
        "same pixels": "0 files in 0 groups",
        "bad files": "0",
    }


def test_a_bad_file_is_code_1_with_its_name_and_reason(images: Path, call: Call) -> None:
    (images / "x" / "b.png").write_bytes(b"no image")
    outcome = call("data", "check", images)
    assert (outcome.code, outcome.err) == (1, "")
    last = outcome.out.splitlines()[-1]
    assert last.startswith("x/b.png   ImageDecodeError  'x/b.png' is no BMP,")


def test_duplicates_are_listed_and_no_fault(images: Path, call: Call) -> None:
    (images / "y" / "copy.png").write_bytes(encoded(0))
    outcome = call("data", "check", images)
    assert outcome.code == 0
    assert "duplicates   2 files in 1 groups" in outcome.out
    assert outcome.out.endswith("the same bytes: x/a.png, y/copy.png\n")


def test_long_lists_are_cut_in_the_table_and_whole_in_json(tmp_path: Path, call: Call) -> None:
    root = tmp_path / "many"
    root.mkdir()
    for size in range(4, 16):
        for name in "ab":
            Image.new("RGB", (size, 4)).save(root / f"{size}{name}.png")
    outcome = call("data", "check", root)
    assert "sizes        10x4 2, 11x4 2, 12x4 2, 13x4 2, 14x4 2, 15x4 2, 4x4 2, 5x4 2, 4 more\n" in outcome.out
    assert outcome.out.endswith("the same bytes: 2 more groups (--json lists all)\n")
    assert len(json.loads(call("data", "check", root, "--json").out)["duplicates"]) == 12


def test_json_is_the_report(images: Path, tmp_path: Path, call: Call) -> None:
    (images / "x" / "b.png").write_bytes(b"no image")
    for source in (images, packed(images, tmp_path / "a.zip")):
        outcome = call("data", "check", source, "--json")
        assert (outcome.code, outcome.err) == (1, "")
        assert DatasetReport.from_json(outcome.out) == check_images(source)


def packed(root: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*.png")):
            archive.write(file, file.relative_to(root).as_posix())
    return path


def test_options_reach_the_check(images: Path, tmp_path: Path, call: Call) -> None:
    Image.new("RGB", (9, 2)).save(images / "x" / "thin.png")
    assert call("data", "check", images).code == 1
    assert call("data", "check", images, "--crop", "squash", "--workers", 2).code == 0
    assert "claims 6 x 5 pixels" in call("data", "check", images, "--max-pixels", 20).out
    cache = tmp_path / "new" / "check.json"
    first = call("data", "check", images, "--cache", cache)
    for file in images.rglob("*.png"):  # the same size and time: it need not be read
        status = file.stat()
        file.write_bytes(bytes(status.st_size))
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert call("data", "check", images, "--cache", cache) == first


def test_what_cannot_be_done_is_code_2_and_one_line(images: Path, tmp_path: Path, call: Call) -> None:
    (tmp_path / "empty").mkdir()
    for arguments in (
        (tmp_path / "absent",),
        (tmp_path / "empty",),
        (images, "--workers", 0),
        (images, "--crop", "round"),
        (),
    ):
        outcome = call("data", "check", *arguments)
        assert (outcome.code, outcome.out) == (2, "")
    (images / "stray.png").write_bytes(encoded(9))
    outcome = call("data", "check", images)
    assert outcome.code == 2
    assert outcome.err.startswith("DataError: 'stray.png' lies beside the sub-folders")
    assert outcome.err.count("\n") == 1


def test_names_do_nothing_to_a_terminal(tmp_path: Path, call: Call) -> None:
    root = tmp_path / "images"
    root.mkdir()
    try:
        for name in ("\x1b[31mred.png", "line\nbreak.png"):
            (root / name).write_bytes(b"no image")
            (root / f"good {name}").write_bytes(encoded(0))
    except OSError:
        pytest.skip("this file system takes no such names")
    outcome = call("data", "check", root)
    assert outcome.code == 1
    assert all(line.isprintable() for line in outcome.out.splitlines())
    names = [file["name"] for file in json.loads(call("data", "check", root, "--json").out)["bad"]]
    assert names == ["\x1b[31mred.png", "line\nbreak.png"]
