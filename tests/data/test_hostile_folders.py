"""Files that are damaged, change, vanish or have odd names, under each rule for what cannot be read; two builders."""

import io
import json
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from cache_builders import build, digest_of
from PIL import Image

from ganblocks.data import ImageFolder, MultiResolutionImages, multi_resolution, read_images
from ganblocks.data.unreadable import LeftOut
from ganblocks.data.workers import _context
from ganblocks.errors import DataError, EmptyDatasetError, ImageDecodeError, ImageTooLargeError

NAMES = ("a.png", "b.png", "c.png", "d.png", "e.png")
BAD = (1, 3)


def encoded(seed: int, side: int = 9) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def bomb() -> bytes:
    """A PNG of 45 bytes that claims 400 million pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    data = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + data


def folder(root: Path, names: tuple[str, ...] = NAMES) -> Path:
    """Files in a folder, all of the same time, so that equal folders have equal fingerprints."""
    for seed, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(seed))
        os.utime(path, ns=(10**18, 10**18))
    return root


def by_name(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def by_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


# What happens to a file, and the error: before the scan, or after it.
BEFORE: dict[str, tuple[Callable[[Path], object], type[DataError]]] = {
    "truncated": (lambda path: path.write_bytes(encoded(1)[:70]), ImageDecodeError),
    "random": (lambda path: path.write_bytes(np.random.default_rng(0).bytes(300)), ImageDecodeError),
    "empty": (lambda path: path.write_bytes(b""), ImageDecodeError),
    "bomb": (lambda path: path.write_bytes(bomb()), ImageTooLargeError),
    "thin": (lambda path: path.write_bytes(encoded(1, side=1)), DataError),
}
AFTER: dict[str, tuple[Callable[[Path], object], type[DataError]]] = {
    "vanished": (Path.unlink, DataError),
    "changed": (lambda path: path.write_bytes(encoded(99)), DataError),
    "became a pipe": (by_name, DataError),
    "became a folder": (by_folder, DataError),
    "became a loop": (by_loop, DataError),
}
FAULTS = {**BEFORE, **AFTER}
needs_posix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes and links")


def with_fault(root: Path, fault: str) -> ImageFolder:
    """The folder of five, whose ``BAD`` have the fault."""
    folder(root)
    happen = FAULTS[fault][0]
    if fault in BEFORE:
        for index in BAD:
            happen(root / NAMES[index])
        return ImageFolder(root)
    source = ImageFolder(root)
    for index in BAD:
        happen(root / NAMES[index])
    return source


class Read(NamedTuple):
    images: np.ndarray
    labels: list[int] | None


def by_read_images(source: ImageFolder, place: Path, **options: Any) -> Read:
    images, labels = read_images(source, 8, **options)
    return Read(images.numpy(), None if labels is None else labels.tolist())


def in_memory(source: ImageFolder, place: Path, **options: Any) -> Read:
    return _read(MultiResolutionImages(source, resolution=8, **options))


def in_cache(source: ImageFolder, place: Path, **options: Any) -> Read:
    return _read(MultiResolutionImages(source, resolution=8, cache_dir=place, **options))


def with_threads(source: ImageFolder, place: Path, **options: Any) -> Read:
    return _read(MultiResolutionImages(source, resolution=8, cache_dir=place, workers=3, **options))


def _read(images: MultiResolutionImages) -> Read:
    labels = images.labels_of(range(len(images)))
    return Read(np.array(images.at(8)), None if labels is None else labels.tolist())


READERS = [by_read_images, in_memory, in_cache, with_threads]


@pytest.fixture(params=[1, 2**24])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one image a chunk, some chunks are empty and some are written before the first bad image."""
    monkeypatch.setattr(multi_resolution, "_CHUNK_BYTES", request.param)


@needs_posix
@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_file_raises_by_default(tmp_path: Path, fault: str, read: Callable[..., Read]) -> None:
    source = with_fault(tmp_path / "images", fault)
    with pytest.raises(FAULTS[fault][1], match=r"'b\.png'") as caught:
        read(source, tmp_path / "cache")
    assert type(caught.value) is FAULTS[fault][1]
    assert not (tmp_path / "cache").exists() or list((tmp_path / "cache").iterdir()) == []


@needs_posix
@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_left_is_what_a_folder_without_the_bad_files_gives(
    tmp_path: Path, fault: str, read: Callable[..., Read], chunks: None
) -> None:
    source = with_fault(tmp_path / "images", fault)
    with pytest.warns(UserWarning, match=r"^2 of 5 images could not be read and are left out: 'b\.png'.*; 'd\.png'"):
        found = read(source, tmp_path / "cache", on_error="skip")
    good = folder(tmp_path / "good", tuple(NAMES))
    for index in BAD:
        (good / NAMES[index]).unlink()
    np.testing.assert_array_equal(found.images, in_memory(ImageFolder(good), tmp_path).images)


@pytest.mark.parametrize("read", READERS)
def test_a_sound_folder_is_read_without_a_word_under_every_rule(tmp_path: Path, read: Callable[..., Read]) -> None:
    source = ImageFolder(folder(tmp_path / "images", ("x/a.png", "x/b.png", "y/c.png")))
    plain = read(source, tmp_path / "cache")
    quarantine = tmp_path / "list.json"
    for options in ({"on_error": "skip"}, {"on_error": "quarantine", "quarantine": quarantine}):
        found = read(source, tmp_path / "cache", **options)
        np.testing.assert_array_equal(found.images, plain.images)
        assert found.labels == plain.labels == [0, 0, 1]
    assert json.loads(quarantine.read_text()) == []
    assert MultiResolutionImages(source, resolution=8, on_error="skip").fingerprint == source.fingerprint


@pytest.mark.parametrize("read", READERS)
def test_labels_stay_with_their_images(tmp_path: Path, read: Callable[..., Read]) -> None:
    root = folder(tmp_path / "images", ("x/a.png", "x/b.png", "y/c.png", "z/d.png"))
    (root / "x/a.png").write_bytes(b"no image")
    (root / "y/c.png").write_bytes(b"no image")
    source = ImageFolder(root)
    with pytest.warns(UserWarning, match="2 of 4"):
        found = read(source, tmp_path / "cache", on_error="skip")
    assert found.labels == [0, 2]  # a class that is empty now keeps its number
    np.testing.assert_array_equal(found.images, [source.read(1, 8), source.read(3, 8)])


def test_a_choice_of_images_keeps_its_order(tmp_path: Path) -> None:
    source = with_fault(tmp_path, "truncated")
    with pytest.warns(UserWarning, match="1 of 4"):
        images, _ = read_images(source, 8, indices=[4, 1, 0, 4], on_error="skip")
    np.testing.assert_array_equal(images.numpy(), [source.read(index, 8) for index in (4, 0, 4)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_images(source, 8, indices=[0, 2], on_error="skip")  # the bad ones were not asked for


@pytest.mark.parametrize("read", READERS)
def test_nothing_left_is_an_empty_data_set_and_the_list_is_written(tmp_path: Path, read: Callable[..., Read]) -> None:
    root = folder(tmp_path / "images")
    for name in NAMES:
        (root / name).write_bytes(b"no image")
    place, listed = tmp_path / "cache", tmp_path / "list.json"
    with pytest.raises(EmptyDatasetError, match=r"none of the 5 images could be read: 'a\.png'"):
        read(ImageFolder(root), place, on_error="quarantine", quarantine=listed)
    assert [entry["name"] for entry in json.loads(listed.read_text())] == list(NAMES)
    assert not place.exists() or list(place.iterdir()) == []


@pytest.mark.parametrize("read", READERS)
def test_a_quarantine_moves_and_changes_nothing_of_the_users(tmp_path: Path, read: Callable[..., Read]) -> None:
    source = with_fault(tmp_path / "images", "bomb")
    before = snapshot(tmp_path / "images")
    with pytest.warns(UserWarning, match=r"2 of 5 .*quarantine\.json"):
        read(source, tmp_path / "cache", on_error="quarantine", quarantine=tmp_path / "quarantine.json")
    assert snapshot(tmp_path / "images") == before
    listed = json.loads((tmp_path / "quarantine.json").read_text())
    assert [(entry["index"], entry["name"], entry["error"]) for entry in listed] == [
        (1, "b.png", "ImageTooLargeError"),
        (3, "d.png", "ImageTooLargeError"),
    ]
    assert all("claims 20000 x 20000 pixels" in entry["reason"] for entry in listed)


def snapshot(root: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in root.iterdir()}


# Fingerprints


def tolerant(source: ImageFolder, **options: Any) -> MultiResolutionImages:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MultiResolutionImages(source, resolution=8, on_error="skip", **options)


def test_the_fingerprint_is_that_of_the_folder_without_the_bad_files(tmp_path: Path) -> None:
    names = ("x/a.png", "x/b.png", "y/c.png")
    bad = folder(tmp_path / "bad", names)
    (bad / "x/b.png").write_bytes(b"no image")
    good = folder(tmp_path / "good", names)
    (good / "x/b.png").unlink()
    images = tolerant(ImageFolder(bad))
    assert images.fingerprint == ImageFolder(good).fingerprint != ImageFolder(bad).fingerprint
    (bad / "x/b.png").write_bytes(b"still no image")
    assert tolerant(ImageFolder(bad)).fingerprint == images.fingerprint
    assert images.indices.tolist() == [0, 2]
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1]


@pytest.mark.parametrize("bad", ["y/c.png", "x/b.png"])
def test_the_fingerprint_tells_that_labels_are_others(tmp_path: Path, bad: str) -> None:
    """Without y there would be no classes; without z/... the folders would be no classes, or others."""
    root = folder(tmp_path / "images", ("x/a.png", "x/b.png", "y/c.png"))
    (root / bad).write_bytes(b"no image")
    images = tolerant(ImageFolder(root))
    assert images.labels is not None
    assert images.classes == ("x", "y")
    (root / bad).unlink()
    alone = ImageFolder(root)
    same = alone.classes == images.classes
    assert (images.fingerprint == alone.fingerprint) == same == (bad == "x/b.png")


def test_a_class_beside_images_that_is_all_bad_does_not_hinder(tmp_path: Path) -> None:
    root = folder(tmp_path / "images", ("a/1.png", "a/x/2.png", "b/3.png"))
    (root / "b/3.png").write_bytes(b"no image")
    images = tolerant(ImageFolder(root))
    assert (len(images), images.classes) == (2, ("a", "b"))
    (root / "b/3.png").unlink()
    with pytest.raises(DataError, match="lies beside"):  # and so has no fingerprint to be equal to
        ImageFolder(root)


def test_the_fingerprint_of_some_is_a_function_of_these(tmp_path: Path) -> None:
    source = ImageFolder(folder(tmp_path))
    assert source.fingerprint_of(range(5)) == source.fingerprint
    choices = [[0], [1], [0, 1], [1, 0], [0, 0], []]
    assert len({source.fingerprint_of(choice) for choice in choices}) == len(choices)
    with pytest.raises(IndexError):
        source.fingerprint_of([5])


# The cache of what is left


def test_a_cache_remembers_what_was_left_out_and_is_not_that_of_a_strict_reading(tmp_path: Path) -> None:
    source = with_fault(tmp_path / "images", "truncated")
    place, listed = tmp_path / "cache", tmp_path / "list.json"
    first = tolerant(source, cache_dir=place)
    assert [(entry.index, entry.name) for entry in first.left_out] == [(1, "b.png"), (3, "d.png")]
    for path in (tmp_path / "images").iterdir():  # nothing is read a second time
        path.unlink()
    options: dict[str, Any] = {"on_error": "quarantine", "quarantine": listed}
    with pytest.warns(UserWarning, match="2 of 5 images"):
        again = MultiResolutionImages(source, resolution=8, cache_dir=place, **options)
    assert (again.left_out, again.fingerprint, len(again)) == (first.left_out, first.fingerprint, 3)
    np.testing.assert_array_equal(again.at(4), first.at(4))
    assert [LeftOut.from_dict(entry) for entry in json.loads(listed.read_text())] == list(first.left_out)
    with pytest.raises(DataError, match=r"'a\.png'"):
        MultiResolutionImages(source, resolution=8, cache_dir=place)
    (cached,) = place.iterdir()
    manifest = json.loads((cached / "manifest.json").read_text())
    assert [entry["name"] for entry in manifest["left_out"]] == ["b.png", "d.png"]
    assert np.load(cached / "8.npy", allow_pickle=False).shape == (3, 3, 8, 8)


@needs_posix
@pytest.mark.parametrize(
    "text", [None, "[" * 100_000, '{"median_side": 1' + "0" * 400 + "}", '{"median_side": NaN}', "{}", "[]", "7"]
)
def test_a_hostile_manifest_is_built_again(tmp_path: Path, text: str | None) -> None:
    source = ImageFolder(folder(tmp_path / "images"))
    first = MultiResolutionImages(source, resolution=8, cache_dir=tmp_path / "cache")
    (cached,) = (tmp_path / "cache").iterdir()
    sound = (cached / "manifest.json").read_bytes()
    (cached / "manifest.json").unlink()
    if text is None:
        os.mkfifo(cached / "manifest.json")
    else:
        (cached / "manifest.json").write_text(text)
    again = MultiResolutionImages(source, resolution=8, cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(again.at(8), first.at(8))
    assert (cached / "manifest.json").read_bytes() == sound


def duplicated(left_out: list[Any]) -> list[Any]:
    return [left_out[0], left_out[0]]


@pytest.mark.parametrize(
    "change",
    [
        lambda left_out: left_out[:1],
        lambda left_out: [],
        lambda left_out: left_out[::-1],
        lambda left_out: [{**entry, "index": entry["index"] + 4} for entry in left_out],
        lambda left_out: [{**entry, "index": -1 - entry["index"]} for entry in left_out],
        lambda left_out: [{**entry, "index": "1"} for entry in left_out],
        lambda left_out: "ab",
        lambda left_out: 7,
        lambda left_out: None,
        duplicated,
    ],
)
def test_a_manifest_that_contradicts_itself_is_built_again(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    source = with_fault(tmp_path / "images", "truncated")
    place = tmp_path / "cache"
    first = tolerant(source, cache_dir=place)
    (cached,) = place.iterdir()
    manifest = json.loads((cached / "manifest.json").read_text())
    sound = (cached / "manifest.json").read_text()
    (cached / "manifest.json").write_text(json.dumps({**manifest, "left_out": change(manifest["left_out"])}))
    again = tolerant(source, cache_dir=place)
    assert again.left_out == first.left_out
    np.testing.assert_array_equal(again.at(8), first.at(8))
    assert (cached / "manifest.json").read_text() == sound
    (cached / "manifest.json").write_text(json.dumps({k: v for k, v in manifest.items() if k != "left_out"}))
    assert tolerant(source, cache_dir=place).left_out == first.left_out


def test_the_loser_of_a_race_takes_the_winners_word_for_what_is_left_out(tmp_path: Path) -> None:
    """The file that vanishes between the two is in the winner's cache, and so in the loser's result."""
    source = with_fault(tmp_path / "images", "truncated")
    place = tmp_path / "cache"

    class Overtaken(ImageFolder):
        def read(self, index: int, resolution: int) -> np.ndarray:
            if index == 0:
                tolerant(source, cache_dir=place)
                (tmp_path / "images" / "a.png").unlink()
            return super().read(index, resolution)

    images = tolerant(Overtaken(tmp_path / "images"), cache_dir=place)
    assert [entry.index for entry in images.left_out] == [1, 3]
    assert images.at(8).shape == (3, 3, 8, 8)
    assert len(list(place.iterdir())) == 1


def test_a_full_memory_is_not_blamed_on_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ImageFolder(folder(tmp_path))

    def fail(*arguments: object, **options: object) -> None:
        raise ImageDecodeError("could not be decoded (MemoryError)") from MemoryError()

    monkeypatch.setattr("ganblocks.data.image_folder.decode_image", fail)
    with pytest.raises(ImageDecodeError):
        MultiResolutionImages(source, resolution=8, on_error="skip")


def test_of_an_archive_damaged_members_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for seed, name in enumerate(NAMES):
            archive.writestr(name, encoded(seed))
    whole = MultiResolutionImages(ImageFolder(path), resolution=8)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT", content.index(b"b.png")) + 10] ^= 0xFF
    path.write_bytes(content)
    images = tolerant(ImageFolder(path), cache_dir=tmp_path / "cache")
    assert [(entry.name, entry.error) for entry in images.left_out] == [("b.png", "ImageDecodeError")]
    np.testing.assert_array_equal(images.at(8), np.delete(np.array(whole.at(8)), 1, axis=0))


# Names


def odd_names() -> list[str]:
    names = [
        "line\nbreak.png",
        "tab\tand \x1b[31mred.png",
        "\u202egnp.exe.png",  # shown from right to left
        "e\u0301.png",
        "é.png",
        "日本.png",
        "case.png",
        "CASE.PNG",
        " leading and trailing .png",
        "quote'\".png",
        "percent%2e%2f.png",
        "-rf.png",
        "~.png",
        "ü" * 125 + "x.png",  # 255 bytes
        "back\\slash.png",
        "con.png",
    ]
    return names if os.name == "posix" else ["é.png", "日本.png", "percent%2e%2f.png", "-rf.png"]


def test_odd_names_are_read_cached_and_listed(tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    expected = {}
    for seed, name in enumerate(odd_names()):
        try:
            with open(root / name, "xb") as file:
                file.write(encoded(seed))
        except OSError:  # the file system takes no such name, or takes two of these for one
            continue
        expected[name] = seed
    assert len(expected) >= 3
    source = ImageFolder(root)
    assert source.names == tuple(sorted(expected))
    images = MultiResolutionImages(source, resolution=8, smallest=8, cache_dir=tmp_path / "cache")
    for position, name in enumerate(source.names):
        pixels = np.random.default_rng(expected[name]).integers(0, 256, (9, 9, 3), dtype=np.uint8)
        resized = Image.fromarray(pixels).resize((8, 8), Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(images.at(8)[position], np.asarray(resized).transpose(2, 0, 1))
    for name in expected:
        (root / name).write_bytes(b"no image")
    with pytest.raises(EmptyDatasetError) as caught:
        read_images(ImageFolder(root), 8, on_error="quarantine", quarantine=tmp_path / "list.json")
    assert str(caught.value).isprintable()  # names come as Python writes them: no line breaks, no escapes
    assert {entry["name"] for entry in json.loads((tmp_path / "list.json").read_text())} == set(expected)


@pytest.mark.skipif(os.name == "nt", reason="names that are no text exist on POSIX systems only")
def test_a_name_that_is_no_text_is_cached_and_listed(tmp_path: Path) -> None:
    folder(tmp_path / "images", ("a.png",))
    odd = os.path.join(os.fsencode(tmp_path / "images"), b"\xff\xfe.png")
    try:
        with open(odd, "wb") as file:
            file.write(b"no image")
    except OSError:
        pytest.skip("this file system wants text")
    listed = tmp_path / "list.json"
    with pytest.warns(UserWarning, match="1 of 2"):
        images = MultiResolutionImages(
            ImageFolder(tmp_path / "images"),
            resolution=8,
            cache_dir=tmp_path / "cache",
            on_error="quarantine",
            quarantine=listed,
        )
    assert os.fsencode(json.loads(listed.read_text())[0]["name"]) == b"\xff\xfe.png"
    assert tolerant(ImageFolder(tmp_path / "images"), cache_dir=tmp_path / "cache").left_out == images.left_out


@needs_posix
def test_links_that_loop_or_lead_nowhere_and_pipes_do_not_hold_up_a_build(tmp_path: Path) -> None:
    root = folder(tmp_path / "images", ("a.png", "sub/b.png"))
    (root / "sub" / "up").symlink_to(root, target_is_directory=True)
    (root / "self.png").symlink_to(root / "self.png")
    (root / "one.png").symlink_to(root / "two.png")
    (root / "two.png").symlink_to(root / "one.png")
    (root / "nowhere.png").symlink_to(tmp_path / "absent.png")
    os.mkfifo(root / "pipe.png")
    (root / "to_pipe.png").symlink_to(root / "pipe.png")
    (root / "a.png").rename(root / "sub" / "a.png")
    assert ImageFolder(root).names == ("sub/a.png", "sub/b.png")
    assert len(MultiResolutionImages(ImageFolder(root), resolution=8, cache_dir=tmp_path / "cache")) == 2


# Two processes, one cache


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_two_processes_that_build_one_cache_at_once_get_the_same_bits(tmp_path: Path, on_error: str) -> None:
    root, place = folder(tmp_path / "images"), tmp_path / "cache"
    if on_error == "skip":
        (root / "b.png").write_bytes(b"no image")
    marks = [tmp_path / "first", tmp_path / "second"]
    context = _context()
    processes = [
        context.Process(target=build, args=(root, place, own, other, on_error), daemon=True)
        for own, other in (marks, marks[::-1])
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=200)
    assert [process.exitcode for process in processes] == [0, 0]
    assert all(mark.exists() for mark in marks)  # they did build at once
    (cached,) = place.iterdir()  # and no temporary
    alone = tolerant(ImageFolder(root))
    for mark in marks:
        assert json.loads(mark.with_suffix(".json").read_text()) == {
            "digest": digest_of(alone),
            "fingerprint": alone.fingerprint,
            "left_out": ["b.png"] if on_error == "skip" else [],
            "file": str(cached / "8.npy"),
        }
