"""Which files count, in which order, and that nothing on a disk makes the scan hang."""

import os
import stat
import zipfile
from pathlib import Path

import pytest

from ganblocks.data.image_files import EXTENSIONS, open_source
from ganblocks.errors import DataError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return path


def test_all_extensions_count_in_any_case_and_others_do_not(tmp_path):
    names = [f"{case(f'image{extension}')}" for extension in EXTENSIONS for case in (str, str.upper)]
    others = ["notes.txt", "labels.csv", "image.png.part", "png", "video.mp4", "Thumbs.db"]
    assert open_source(touch(tmp_path / "a", *names, *others)).names == tuple(sorted(names))
    assert open_source(zipped(tmp_path / "a.zip", *names, *others)).names == tuple(sorted(names))


def test_hidden_files_and_folders_are_left_out(tmp_path):
    names = (
        "a.png",
        ".hidden.png",
        ".git/b.png",
        "sub/.thumbnails/c.png",
        "sub/d.png",
        "__MACOSX/a.png",
        "sub/._d.png",
    )
    assert open_source(touch(tmp_path / "a", *names)).names == ("a.png", "sub/d.png")
    assert open_source(zipped(tmp_path / "a.zip", *names)).names == ("a.png", "sub/d.png")


def test_order_is_by_code_point_whatever_the_order_of_creation(tmp_path):
    names = [
        "b.png",
        "B.png",
        "a10.png",
        "a2.png",
        "é.png",
        "e\u0301.png",
        "日本.png",
        "a/z.png",
        "line\nbreak.png",
        "ß" * 120 + ".png",
    ]
    for folder, order in (("one", names), ("two", names[::-1])):
        assert open_source(touch(tmp_path / folder, *order)).names == tuple(sorted(names))
        assert open_source(zipped(tmp_path / f"{folder}.zip", *order)).names == tuple(sorted(names))


def test_each_name_opens_its_own_file(tmp_path):
    names = ("b/line\nbreak.png", "a.png", "A.png", "日本.png")
    for files in (open_source(touch(tmp_path / "a", *names)), open_source(zipped(tmp_path / "a.zip", *names))):
        for index, name in enumerate(files.names):
            with files.open(index) as stream:
                assert stream.read().decode() == name
            assert files.stamps[index][0] == len(name.encode())


@pytest.mark.skipif(os.name == "nt", reason="names that are no text exist on POSIX systems only")
def test_name_that_is_no_text_is_read(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"\xff\xfe.png")
    try:
        with open(path, "wb") as stream:
            stream.write(b"bytes")
    except OSError:
        pytest.skip("this file system wants text")
    files = open_source(tmp_path)
    with files.open(0) as stream:
        assert stream.read() == b"bytes"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipes_links_to_nowhere_and_loops_are_left_out(tmp_path):
    root = touch(tmp_path / "a", "real.png", "sub/other.png")
    os.mkfifo(root / "pipe.png")
    (root / "dangling.png").symlink_to(root / "absent.png")
    (root / "self.png").symlink_to(root / "self.png")
    (root / "to_pipe.png").symlink_to(root / "pipe.png")
    (root / "sub" / "loop").symlink_to(root, target_is_directory=True)
    (root / "folder.png").mkdir()
    (root / "linked.png").symlink_to(root / "real.png")  # a link to a regular file counts
    assert open_source(root).names == ("linked.png", "real.png", "sub/other.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipe_that_takes_the_place_of_a_file_raises_and_does_not_block(tmp_path):
    files = open_source(touch(tmp_path, "a.png"))
    (tmp_path / "a.png").unlink()
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"'a\.png'.*has changed"):
        files.open(0)


def test_file_that_changes_raises(tmp_path):
    files = open_source(touch(tmp_path, "a.png"))
    (tmp_path / "a.png").write_bytes(b"longer than it was")
    with pytest.raises(DataError, match=r"'a\.png'.*has changed"):
        files.open(0)


def test_file_that_changes_to_one_of_equal_size_raises(tmp_path):
    files = open_source(touch(tmp_path, "a.png"))
    status = (tmp_path / "a.png").stat()
    os.utime(tmp_path / "a.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1000))
    with pytest.raises(DataError, match="has changed"):
        files.open(0)


def test_archive_that_changes_before_it_is_opened_raises(tmp_path):
    path = zipped(tmp_path / "a.zip", "a.png")
    files = open_source(path)
    zipped(path, "a.png", "b.png")
    with pytest.raises(DataError, match=r"a\.zip.*has changed"):
        files.open(0)


def test_archive_made_elsewhere_gives_plain_names(tmp_path):
    path = zipped(tmp_path / "a.zip", "./cats/a.png", "/cats/b.png", "dogs//c.png", "folder.png/")
    assert open_source(path).names == ("cats/a.png", "cats/b.png", "dogs/c.png")


def test_backslashes_in_an_archive_separate_folders(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cats/a.png", "a")
    path.write_bytes(path.read_bytes().replace(b"cats/a.png", b"cats\\a.png"))
    files = open_source(path)
    assert files.names == ("cats/a.png",)
    with files.open(0) as stream:
        assert stream.read() == b"a"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_entries_of_one_name_the_later_counts(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", "first")
        archive.writestr("a.png", "second")
    files = open_source(path)
    assert files.names == ("a.png",)
    with files.open(0) as stream:
        assert stream.read() == b"second"


def test_process_with_a_new_number_opens_the_archive_anew(tmp_path, monkeypatch):
    files = open_source(zipped(tmp_path / "a.zip", "a.png"))
    files.open(0).close()
    first = files._local.archive
    files.open(0).close()
    assert files._local.archive is first
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as after a fork: the file position would be shared
    files.open(0).close()
    assert files._local.archive is not first


def test_missing_source_raises(tmp_path):
    with pytest.raises(DataError, match=r"absent' does not exist"):
        open_source(tmp_path / "absent")


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 only the start"])
def test_file_that_is_no_zip_raises(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip' is neither a folder nor a zip"):
        open_source(tmp_path / "a.zip")


def test_archive_with_a_broken_directory_raises(tmp_path):
    path = zipped(tmp_path / "a.zip", *(f"{index}.png" for index in range(20)))
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02")] = 0
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip' could not be read"):
        open_source(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipe_as_source_raises_and_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "a.zip")
    with pytest.raises(DataError, match="neither a folder nor a zip"):
        open_source(tmp_path / "a.zip")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_folder_that_may_not_be_read_raises(tmp_path):
    touch(tmp_path, "a/b.png")
    (tmp_path / "a").chmod(0)
    try:
        with pytest.raises(DataError, match="could not be read"):
            open_source(tmp_path)
    finally:
        (tmp_path / "a").chmod(stat.S_IRWXU)
