"""What an archive claims is checked before it is believed, and its members are read no further than they say."""

import io
import pickle
import random
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from crafted_zips import IMAGES, Member, crafted_zips, encoded, lzma_member, packed, written

from ganblocks.data import ImageFolder
from ganblocks.data.image_files import open_source
from ganblocks.data.zip_members import ZipLimits, open_archive, open_member
from ganblocks.errors import DataError, ImageDecodeError, SecurityError

CRAFTED = list(crafted_zips())
LARGE = "a bomb that is an image by its name"  # it is as large as it says: 50 MiB
MEMORY = 8 * 2**20


@pytest.mark.parametrize(("name", "content", "outcome"), CRAFTED, ids=[name for name, _, _ in CRAFTED])
def test_a_crafted_archive_gives_the_right_images_or_a_typed_error_in_little_memory(
    tmp_path: Path, name: str, content: bytes, outcome: str
) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        if outcome in ("refused", "damaged"):
            with pytest.raises(SecurityError if outcome == "refused" else (DataError, SecurityError), match=r"a\.zip"):
                ImageFolder(path)
            return
        images = ImageFolder(path)
        if outcome == "image":
            with pytest.raises(ImageDecodeError, match=r"'a\.png'"):
                images.size(0)
            with pytest.raises(ImageDecodeError, match=r"'a\.png'"):
                images.load(0)
            return
        assert len(images) == (2 if outcome == "right" else 1)
        for index, level in zip(range(len(images)), (10, 200), strict=False):
            assert images.size(index) == (6, 6)
            assert np.array_equal(np.asarray(images.load(index)), np.full((6, 6, 3), level))
        if outcome == "right":
            assert images.names == tuple(IMAGES)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MEMORY + (2.2 * 50 * 2**20 if name == LARGE else 0)
    assert list(tmp_path.iterdir()) == [path]  # nothing is ever written


def test_there_are_fifty_crafted_archives_and_some_of_each_kind() -> None:
    outcomes = [outcome for _, _, outcome in CRAFTED]
    assert len(outcomes) >= 50
    assert all(outcomes.count(outcome) >= 4 for outcome in ("right", "one", "refused", "damaged", "image"))


def open_limited(path: Path, **limits: float) -> ImageFolder | object:
    return open_source(path, zip_limits=ZipLimits(**limits))  # type: ignore[arg-type]


def test_each_limit_is_kept_to_the_number_and_can_be_raised(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"{number}.png", bytes(2**20 + number))
    ratio = (2**20 + 2) / zipfile.ZipFile(path).infolist()[2].compress_size
    total = 3 * 2**20 + 3
    for name, enough, word in (
        ("max_members", 3, "more members"),
        ("max_member_bytes", 2**20 + 2, "'2.png' claims 1048578 bytes"),
        ("max_total_bytes", total, f"claim {total} bytes"),
        ("max_ratio", ratio + 0.1, r"'[12]\.png' claims 104857[78] bytes in"),
    ):
        open_limited(path, **{name: enough})
        with pytest.raises(SecurityError, match=f"(?s){word}.*`{name}`"):
            open_limited(path, **{name: enough - 1})


@pytest.mark.parametrize("name", ["max_members", "max_member_bytes", "max_total_bytes", "max_ratio"])
def test_a_limit_below_one_is_a_mistake(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` is 0"):
        ZipLimits(**{name: 0})  # type: ignore[arg-type]


def test_what_is_no_image_counts_as_a_member_only(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", encoded(3))
        archive.writestr("huge.txt", bytes(2**21))
    open_limited(path, max_members=2, max_member_bytes=1000, max_total_bytes=1000)


def test_the_size_of_an_archive_is_not_that_of_its_directory(tmp_path: Path) -> None:
    """The end of the file is read without a size; only what is there counts."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.png", encoded(3))
        archive.writestr("b.txt", bytes(8 * 2**20))
    open_limited(path, max_members=2)


def test_a_hundred_thousand_members_are_counted_before_they_are_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    directory = b"".join(
        b"PK\1\2" + bytes(24) + (6).to_bytes(2, "little") + bytes(16) + b"%06d" % number for number in range(100_000)
    )
    size = len(directory).to_bytes(4, "little")
    path.write_bytes(directory + b"PK\5\6" + bytes(8) + size + bytes(6))
    tracemalloc.start()
    try:
        with pytest.raises(SecurityError, match="more members than `max_members`, which is 50000"):
            open_limited(path, max_members=50_000)
        with pytest.raises(SecurityError, match="its directory has 5200000 bytes, more than"):
            open_limited(path, max_members=1000)
        assert tracemalloc.get_traced_memory()[1] < 2.5 * len(directory)  # each member alone would take 500 bytes
    finally:
        tracemalloc.stop()
    with pytest.raises(SecurityError, match="lie over each other"):  # the limit is what stopped it
        open_limited(path)


@pytest.mark.parametrize("method", ["deflate", "lzma"])
def test_a_member_that_lies_about_its_size_is_unpacked_no_further_than_it_says(tmp_path: Path, method: str) -> None:
    path, zeros = tmp_path / "a.zip", bytes(160 * 2**20)
    member = Member(b"a.png", packed(zeros), 8) if method == "deflate" else lzma_member(b"a.png", zeros)
    member.size = 2**20
    path.write_bytes(written([member]))
    del zeros
    tracemalloc.start()
    try:
        with pytest.raises(ImageDecodeError, match=r"CRC"):
            ImageFolder(path).load(0)
        # LZMA is taken in pieces of 4096 bytes, each of which may become 28 MiB, held twice for a moment.
        assert tracemalloc.get_traced_memory()[1] < (MEMORY if method == "deflate" else 64 * 2**20)
    finally:
        tracemalloc.stop()


def member_of(path: Path, content: bytes, method: int = zipfile.ZIP_DEFLATED) -> io.BufferedIOBase:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.png", content)
    archive = open_archive(path, ZipLimits())
    return open_member(archive, archive.infolist()[0])  # type: ignore[return-value]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_member_reads_and_seeks_like_the_bytes_it_holds(tmp_path: Path, method: int) -> None:
    content = random.Random(0).randbytes(200_000)
    member, plain, generator = member_of(tmp_path / "a.zip", content, method), io.BytesIO(content), random.Random(1)
    assert member.readable()
    assert member.seekable()
    for _ in range(40):
        whence = generator.randrange(3)
        offset = {0: generator.randrange(210_000), 1: generator.randrange(90_000), 2: -generator.randrange(200_000)}
        assert member.seek(offset[whence], whence) == plain.seek(offset[whence], whence)
        size = generator.choice([0, 1, 7, 60_000, 70_000])
        assert member.read(size) == plain.read(size)
        assert member.read1(5) == plain.read1(5)
        assert member.tell() == plain.tell()
        member.seek(0)
        plain.seek(0)
        assert member.read(3) == plain.read(3)
    member.seek(5)
    assert member.read() == content[5:]
    assert member.read() == member.read(9) == b""
    with pytest.raises(ValueError, match="no position -1"):
        member.seek(-1)


def test_going_to_and_fro_in_a_member_comes_to_an_end(tmp_path: Path) -> None:
    member = member_of(tmp_path / "a.zip", bytes(2**20))

    def go_to_and_fro(times: int) -> None:
        for _ in range(times):
            member.seek(2**20 - 1)
            member.read(1)
            member.seek(0)
            member.read(1)

    go_to_and_fro(16)
    with pytest.raises(ImageDecodeError, match="to and fro"):
        go_to_and_fro(24)


def test_a_tiff_that_leads_to_and_fro_in_a_large_member_is_no_hang(tmp_path: Path) -> None:
    """Every other of 4,000 values lies at the end of 16 MiB packed to 16 KiB: they cost 32 GiB of unpacking."""
    count, end = 4000, 16 * 2**20
    entries = b"".join(
        (40_000 + number).to_bytes(2, "little") + b"\2\0" + (8).to_bytes(4, "little")
        + ((end - 8) if number % 2 else (8 + 2 + 12 * count + 8)).to_bytes(4, "little")
        for number in range(count)
    )  # fmt: skip
    head = b"II*\0\x08\0\0\0" + count.to_bytes(2, "little") + entries + bytes(4)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.tif", head + bytes(end - len(head)))
    with pytest.raises(ImageDecodeError, match="to and fro"):
        ImageFolder(path).size(0)


def test_any_damage_to_an_archive_is_a_typed_error_or_leaves_images(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in IMAGES.items():
            archive.writestr(name, content)
    seeds = [stream.getvalue(), *(content for name, content, _ in CRAFTED if len(content) < 1000)]
    generator, path = random.Random(2), tmp_path / "a.zip"
    seen = {"opened": 0, "refused": 0, "decoded": 0, "undecodable": 0}
    for number in range(1000):
        content = bytearray(generator.choice(seeds))
        for _ in range(generator.choice([1, 1, 2, 5])):
            if number % 3:  # most of the decisions are taken at the end
                position = generator.randrange(max(0, len(content) - 150), len(content))
            else:
                position = generator.randrange(len(content))
            content[position] = generator.choice([0, 1, 0x7F, 0x80, 0xFF, generator.randrange(256)])
        path.write_bytes(content)
        try:
            images = ImageFolder(path)
        except (DataError, SecurityError):
            seen["refused"] += 1
            continue
        seen["opened"] += 1
        for index in range(len(images)):
            try:
                assert images.load(index).mode == "RGB"
                seen["decoded"] += 1
            except DataError:
                seen["undecodable"] += 1
    assert min(seen.values()) > 30, seen


def test_limits_go_along_to_other_processes(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(written([Member(b"a.png", IMAGES["a.png"])]))
    files = open_source(path, zip_limits=ZipLimits(max_members=1))
    again = pickle.loads(pickle.dumps(files))
    with again.open(0) as stream:
        assert stream.read() == IMAGES["a.png"]
