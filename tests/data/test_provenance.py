"""A generated image says so, whatever else it says, and a file that was tampered with is no answer."""

import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ganblocks.data.provenance import read_generated, write_generated
from ganblocks.errors import DataError
from ganblocks.functional.image_range import from_uint8

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*before_pixels: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0\0"))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(before_pixels) + pixels + chunk(b"IEND", b"")


@given(metadata=st.dictionaries(st.text(), JSON, max_size=4))
def test_what_is_written_is_read(metadata: dict, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "mark.png"
    write_generated(torch.zeros(3, 2, 2), path, metadata)
    assert read_generated(path) == metadata


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("floating", [False, True])
def test_pixels_survive(channels: int, floating: bool, tmp_path: Path) -> None:
    levels = torch.randint(0, 256, (channels, 5, 7), dtype=torch.uint8)
    write_generated(from_uint8(levels) if floating else levels, tmp_path / "new" / "a.PNG")
    with Image.open(tmp_path / "new" / "a.PNG") as image:
        pixels = np.asarray(image).reshape(5, 7, channels).transpose(2, 0, 1)
        assert image.mode == ("L" if channels == 1 else "RGB")
        assert image.info["ganblocks:generated"] == "{}"
    np.testing.assert_array_equal(pixels, levels.numpy())
    assert read_generated(tmp_path / "new" / "a.PNG") == {}


def test_other_files_are_not_marked(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes(png()[:20])
    (tmp_path / "other.png").write_bytes(png(chunk(b"tEXt", b"Comment\0ganblocks:generated\0{}")))
    (tmp_path / "end.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IEND", b"") + chunk(b"tEXt", MARK + b"{}"))
    for path in tmp_path.iterdir():
        assert read_generated(path) is None, path.name


MARK = b"ganblocks:generated\0"


def test_the_mark_is_found_behind_other_texts(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(
        png(chunk(b"tEXt", b"Comment\0" + b"x" * 5000), chunk(b"zTXt", b"a\0\0bcd"), chunk(b"tEXt", MARK + b'{"a": 1}'))
    )
    assert read_generated(tmp_path / "a.png") == {"a": 1}


@pytest.mark.parametrize("text", [b"", b"[1]", b"{", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"\xff", b"[" * 100_000])
def test_a_damaged_mark_raises(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(chunk(b"tEXt", MARK + text)))
    with pytest.raises(DataError, match=r"a\.png' could not be asked whether it is generated"):
        read_generated(tmp_path / "a.png")


def test_a_changed_byte_of_the_mark_raises(tmp_path: Path) -> None:
    write_generated(torch.zeros(1, 2, 2), tmp_path / "a.png", {"seed": 1})
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes().replace(b'"seed": 1', b'"seed": 2'))
    with pytest.raises(DataError, match="the checksum of its mark is wrong"):
        read_generated(tmp_path / "a.png")


def test_a_missing_file_raises(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_generated(tmp_path / "none.png")


def test_wrong_arguments_raise_and_leave_the_older_file(tmp_path: Path) -> None:
    path, image = tmp_path / "a.png", torch.zeros(3, 4, 4)
    write_generated(image, path, {"older": True})
    with pytest.raises(ValueError, match=r"`path` is '.*a.jpg', but must be a name that ends in \".png\""):
        write_generated(image, tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"`image` has shape \(1, 3, 4, 4\)"):
        write_generated(image[None], path)
    for wrong in (image[:2], image[:, :0]):
        with pytest.raises(ValueError, match=r"`image.shape` is"):
            write_generated(wrong, path)
    with pytest.raises(TypeError, match=r"`image.dtype` is torch.int64"):
        write_generated(image.long(), path)
    with pytest.raises(ValueError, match="`image` is 'NaN in places'"):
        write_generated(image * math.nan, path)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_generated(image, path, {"loss": math.nan})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_generated(image, path, {"weights": image})
    with pytest.raises(ValueError, match="`metadata` is 'of 1048"):
        write_generated(image, path, {"text": "x" * 2**20})
    assert read_generated(path) == {"older": True}
    assert list(tmp_path.iterdir()) == [path]
