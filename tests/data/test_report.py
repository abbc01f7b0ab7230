"""What a check of images finds, and that a second one reads only what has changed."""

import io
import json
import os
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ganblocks.data import ImageFolder
from ganblocks.data.report import BadFile, DatasetReport, check_images
from ganblocks.errors import DataError, EmptyDatasetError, ImageDecodeError


def picture(seed: int, size: tuple[int, int] = (6, 5), mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def packed(root: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, file.relative_to(root).as_posix())
    return path


TURNED = Image.Exif()
TURNED[0x0112] = 6  # a quarter turn
MIXTURE = {
    "cats/a.png": encoded(picture(0)),
    "cats/b.jpg": encoded(picture(1, (20, 10)), "JPEG", exif=TURNED),
    "cats/copy of a.PNG": encoded(picture(0)),
    "dogs/a, smaller.png": encoded(picture(0), optimize=True, compress_level=0),  # other bytes, the same pixels
    "dogs/c.gif": encoded(picture(2, mode="P"), "GIF"),
    "dogs/d.png": encoded(picture(3, mode="L")),
    "dogs/e.tif": encoded(Image.fromarray(np.zeros((9, 7), np.uint16)), "TIFF"),
    "dogs/half.png": encoded(picture(4))[:80],
    "cats/text.jpg": b"no image",
    "cats/thin.png": encoded(picture(5, (30, 2))),
    "cats/notes.txt": b"not looked at",
    "dogs/f.png": encoded(picture(6)),
    "dogs/g.png": encoded(picture(6)),
}


@pytest.fixture
def mixture(tmp_path: Path) -> Path:
    return write(tmp_path / "images", MIXTURE)


EXPECTED = {
    "images": 9,
    "formats": {"PNG": 6, "GIF": 1, "JPEG": 1, "TIFF": 1},
    "modes": {"RGB": 6, "I;16": 1, "L": 1, "P": 1},
    "sizes": {"6x5": 7, "10x20": 1, "7x9": 1},
    "classes": {"dogs": 6, "cats": 3},
    "duplicates": (("cats/a.png", "cats/copy of a.PNG"), ("dogs/f.png", "dogs/g.png")),
    "same_pixels": (("cats/a.png", "cats/copy of a.PNG", "dogs/a, smaller.png"),),
}
BAD = [("cats/text.jpg", "ImageDecodeError"), ("cats/thin.png", "DataError"), ("dogs/half.png", "ImageDecodeError")]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("archive", [False, True])
def test_it_finds_what_is_there(mixture: Path, tmp_path: Path, archive: bool, workers: int) -> None:
    source = packed(mixture, tmp_path / "images.zip") if archive else mixture
    report = check_images(source, workers=workers)
    assert {name: getattr(report, name) for name in EXPECTED} == EXPECTED
    assert list(report.formats) == ["PNG", "GIF", "JPEG", "TIFF"]  # the commonest first
    assert [(file.name, file.error) for file in report.bad] == BAD
    assert all(repr(file.name) in file.reason for file in report.bad)
    bad = {name for name, _ in BAD} | {"cats/notes.txt"}
    assert report.bytes == sum(len(content) for name, content in MIXTURE.items() if name not in bad)
    assert report.source == str(source)


def test_bad_is_what_training_cannot_read(mixture: Path) -> None:
    source = ImageFolder(mixture)
    unusable = []
    for index, name in enumerate(source.names):
        try:
            source.read(index, 8)
        except DataError as error:
            unusable.append((name, type(error).__name__))
    assert unusable == BAD
    squashed = check_images(mixture, crop="squash")
    assert "cats/thin.png" not in [file.name for file in squashed.bad]
    assert squashed.images == 10
    small = check_images(mixture, max_pixels=100)
    assert [file.name for file in small.bad if file.error == "ImageTooLargeError"] == ["cats/b.jpg"]


def test_without_classes_there_are_none(tmp_path: Path) -> None:
    report = check_images(write(tmp_path, {"a.png": encoded(picture(0)), "b.png": encoded(picture(1))}))
    assert report.classes == {}
    assert (report.duplicates, report.same_pixels, report.bad) == ((), (), ())


def test_pixels_of_other_sizes_are_other_pixels(tmp_path: Path) -> None:
    flat = {f"{w}x{h}.png": encoded(Image.new("RGB", (w, h), (9, 9, 9))) for w, h in ((4, 6), (6, 4), (12, 2))}
    assert check_images(write(tmp_path, flat), crop="squash").same_pixels == ()


def test_a_report_goes_through_json(mixture: Path, tmp_path: Path) -> None:
    report = check_images(mixture)
    assert DatasetReport.from_json(report.to_json()) == report
    assert DatasetReport.from_dict(report.to_dict()) == report
    assert json.loads(report.to_json())["bad"][0]["name"] == "cats/text.jpg"
    assert report.to_json().isascii()


def test_a_malformed_report_is_refused(mixture: Path) -> None:
    sound = check_images(mixture).to_dict()
    wrong: list[Any] = [None, [], {}, {**sound, "more": 1}, {k: v for k, v in sound.items() if k != "bad"}]
    changes: dict[str, list[Any]] = {
        "source": [1, None],
        "images": [-1, 1.0, True, "9"],
        "bytes": [-1, None],
        "formats": [[], {"PNG": "1"}, {"PNG": -1}, {"PNG": True}, None],
        "duplicates": [{}, "ab", [1], [[1]], None],
        "bad": [{}, [1], [{}], [{"name": "a", "error": "b", "reason": 1}], [{"name": "a", "error": "b"}]],
    }
    wrong += [{**sound, name: value} for name, values in changes.items() for value in values]
    for values in wrong:
        with pytest.raises(ValueError, match="`values`"):
            DatasetReport.from_dict(values)
    for text in ("{", "[" * 100_000, "NaN"):
        with pytest.raises(ValueError):  # noqa: PT011
            DatasetReport.from_json(text)


# The cache


class Counting(ImageFolder):
    """Writes down which files are read."""

    read_names: list[str]

    def encoded(self, index: int) -> bytes:
        self.read_names.append(self.names[index])
        return super().encoded(index)


@pytest.fixture
def read_names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    monkeypatch.setattr(Counting, "read_names", names, raising=False)
    monkeypatch.setattr("ganblocks.data.report.ImageFolder", Counting)
    return names


@pytest.mark.parametrize("archive", [False, True])
def test_a_second_check_reads_nothing_and_says_the_same(
    mixture: Path, tmp_path: Path, read_names: list[str], archive: bool
) -> None:
    source = packed(mixture, tmp_path / "images.zip") if archive else mixture
    cache = tmp_path / "user" / "check.json"
    first = check_images(source, cache=cache)
    assert len(read_names) == 12
    read_names.clear()
    assert check_images(source, cache=cache, workers=2) == first
    assert read_names == []
    assert check_images(source) == first
    assert len(read_names) == 12


def test_only_what_has_changed_is_read_again(mixture: Path, tmp_path: Path, read_names: list[str]) -> None:
    cache = tmp_path / "check.json"
    check_images(mixture, cache=cache)
    read_names.clear()
    write(mixture, {"dogs/half.png": encoded(picture(4)), "dogs/new.png": encoded(picture(7))})
    (mixture / "cats" / "text.jpg").unlink()
    status = (mixture / "cats" / "a.png").stat()
    write(mixture, {"cats/a.png": encoded(picture(0))})
    os.utime(mixture / "cats" / "a.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    report = check_images(mixture, cache=cache)
    assert read_names == ["cats/a.png", "dogs/half.png", "dogs/new.png"]
    assert [file.name for file in report.bad] == ["cats/thin.png"]
    assert report == check_images(mixture)
    assert "cats/text.jpg" not in json.loads(cache.read_text())["files"]


def test_other_options_begin_anew(mixture: Path, tmp_path: Path, read_names: list[str]) -> None:
    cache = tmp_path / "check.json"
    check_images(mixture, cache=cache)
    for options in ({"crop": "squash"}, {"max_pixels": 100}):
        read_names.clear()
        assert check_images(mixture, cache=cache, **options) == check_images(mixture, **options)  # type: ignore[arg-type]
        assert len(read_names) == 24


def test_a_damaged_cache_is_begun_anew(mixture: Path, tmp_path: Path, read_names: list[str]) -> None:
    cache = tmp_path / "check.json"
    first = check_images(mixture, cache=cache)
    content = cache.read_bytes()
    for damaged in (b"", b"{", content[:-9], b"[" * 100_000, b"\xff" + content, b"null", b'{"files": 3}'):
        cache.write_bytes(damaged)
        read_names.clear()
        assert check_images(mixture, cache=cache) == first
        assert len(read_names) == 12
        assert cache.read_bytes() == content


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), ImageDecodeError("no memory")])
def test_an_interrupted_check_keeps_what_it_has_read(
    mixture: Path, tmp_path: Path, read_names: list[str], monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    cache = tmp_path / "check.json"
    original: Callable[..., Any] = Counting.encoded

    def interrupted(self: Counting, index: int) -> bytes:
        if index == 5:
            raise stop from MemoryError()
        return original(self, index)  # type: ignore[no-any-return]

    with monkeypatch.context() as patch:
        patch.setattr(Counting, "encoded", interrupted)
        with pytest.raises(type(stop)):
            check_images(mixture, cache=cache)
    read_names.clear()
    check_images(mixture, cache=cache)
    assert read_names == list(ImageFolder(mixture).names[5:])


def test_a_file_that_cannot_be_opened_is_tried_again(
    mixture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "check.json"
    original = ImageFolder.encoded

    def locked(self: ImageFolder, index: int) -> bytes:
        if index == 0:
            raise DataError("could not be opened") from PermissionError(13, "Permission denied")
        return original(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(ImageFolder, "encoded", locked)
        assert BadFile("cats/a.png", "DataError", "could not be opened") in check_images(mixture, cache=cache).bad
    assert check_images(mixture, cache=cache) == check_images(mixture)


# What goes wrong


def test_what_cannot_be_checked_is_told(mixture: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        check_images(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmptyDatasetError, match="holds no image"):
        check_images(tmp_path / "empty")
    write(mixture, {"stray.png": encoded(picture(0))})
    with pytest.raises(DataError, match=r"'stray\.png' lies beside"):
        check_images(mixture)
    (mixture / "stray.png").unlink()
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cache of checks .* cannot be written"):
        check_images(mixture, cache=tmp_path / "file" / "check.json")
    with pytest.raises(ValueError, match="`workers` is 0"):
        check_images(mixture, workers=0)


def test_nothing_of_the_users_changes(mixture: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in mixture.rglob("*")}
    check_images(mixture, cache=tmp_path / "check.json")
    assert {path: path.stat().st_mtime_ns for path in mixture.rglob("*")} == before


def test_the_bar_counts_images_and_shows_only_when_asked(mixture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = threading.active_count()
    check_images(mixture, progress=True)
    assert "12/12" in capsys.readouterr().err
    check_images(mixture)
    assert capsys.readouterr() == ("", "")
    assert threading.active_count() == threads
