"""Pictures out of files and back: every kind of file, every size, and what is no picture."""

import math
import os
import re
import struct
import zlib
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, JpegImagePlugin
from torch import Tensor

from ganblocks.data.pictures import read_picture, write_picture
from ganblocks.errors import DataError, ImageDecodeError, ImageTooLargeError
from tolerances import named

COLOUR = (200, 100, 50)


def noise(*shape: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def saved(folder: Path, image: Image.Image, name: str = "picture.png", **options: Any) -> Path:
    path = folder / name
    image.save(path, **options)
    return path


def filled(mode: str, *values: Any) -> Image.Image:
    """One row of pixels."""
    image = Image.new(mode, (len(values), 1))
    image.putdata(values)
    return image


def levels(picture: Tensor) -> list[Any]:
    """The 256 levels of the first row: tuples for 3 channels, numbers for 1."""
    assert picture.dtype == torch.float32
    row = picture[0, :, 0].double() * 255
    rounded = row.round()
    assert torch.equal(rounded.float() / 255, picture[0, :, 0])  # levels, and nothing between
    return rounded[0].tolist() if len(row) == 1 else [tuple(pixel) for pixel in rounded.T.tolist()]


def test_colour_and_grey(tmp_path: Path) -> None:
    colour = saved(tmp_path, filled("RGB", COLOUR, (0, 255, 7)))
    assert levels(read_picture(colour)) == [COLOUR, (0, 255, 7)]
    assert levels(read_picture(colour, image_channels=1)) == [124, 150]  # 0.299 R + 0.587 G + 0.114 B: 124.2, 150.5
    grey = saved(tmp_path, filled("L", 77, 0, 255))
    assert levels(read_picture(grey)) == [(77,) * 3, (0,) * 3, (255,) * 3]
    assert levels(read_picture(grey, image_channels=1)) == [77, 0, 255]


def test_alpha_is_composited_on_white(tmp_path: Path) -> None:
    path = saved(tmp_path, filled("RGBA", (*COLOUR, 255), (*COLOUR, 128), (0, 0, 0, 0)))
    # (200 * 128 + 255 * 127) / 255 = 227.4, then 177.2 and 152.1
    assert levels(read_picture(path)) == [COLOUR, (227, 177, 152), (255,) * 3]


def test_palettes_are_looked_up(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, *COLOUR])
    image.putdata([0, 1])
    for name in ("a.png", "a.gif"):
        assert levels(read_picture(saved(tmp_path, image, name))) == [(10, 20, 30), COLOUR]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    path = saved(tmp_path, filled("CMYK", (255, 0, 0, 0), (0, 0, 0, 128)), "a.tif")
    assert levels(read_picture(path)) == [(0, 255, 255), (127, 127, 127)]


def test_16_bits_become_the_nearest_of_256_levels(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 25700, 65535]], dtype=np.uint16)  # 257 to a level
    path = saved(tmp_path, Image.fromarray(values))
    assert levels(read_picture(path, image_channels=1)) == [0, 0, 1, 100, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(orientation: int, tmp_path: Path) -> None:
    upright = noise(2, 3, 3)
    # the 0th row of the file is the top, bottom, left or right of the picture, by the words of the EXIF standard
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1], 8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    picture = read_picture(path)
    assert picture.shape == (1, 3, 2, 3)
    assert np.array_equal((255 * picture[0]).round().numpy().transpose(1, 2, 0), upright)
    assert read_picture(path, 2).shape == (1, 3, 1, 2)  # 2 * 2 / 3 = 1.33


def test_pictures_of_one_pixel_and_of_one_line(tmp_path: Path) -> None:
    dot = saved(tmp_path, filled("RGB", COLOUR))
    for longest in (None, 1, 512):
        assert levels(read_picture(dot, longest)) == [COLOUR]
    line = saved(tmp_path, Image.new("RGB", (4096, 1), COLOUR))
    assert read_picture(line).shape == (1, 3, 1, 4096)
    assert levels(read_picture(line, 100)) == [COLOUR] * 100
    column = saved(tmp_path, Image.new("L", (1, 4096), 9))
    assert read_picture(column, 3, image_channels=1).shape == (1, 1, 3, 1)
    assert levels(read_picture(column, 1)) == [(9, 9, 9)]


@given(width=st.integers(1, 70), height=st.integers(1, 70), longest=st.integers(1, 80), C=st.sampled_from([1, 3]))
def test_the_longer_side_is_as_asked_and_nothing_is_enlarged(width: int, height: int, longest: int, C: int) -> None:
    original = noise(height, width, 3)
    with TemporaryDirectory() as folder:
        path = saved(Path(folder), Image.fromarray(original), "a.bmp")
        picture = read_picture(path, longest, image_channels=C)
        whole = read_picture(path, image_channels=C)
    assert whole.shape == (1, C, height, width)
    assert whole.is_contiguous()
    assert picture.is_contiguous()
    if max(width, height) <= longest:
        assert torch.equal(picture, whole)
    else:
        scale = Fraction(longest, max(width, height))
        sides = [max(1, math.floor(side * scale + Fraction(1, 2))) for side in (height, width)]
        assert list(picture.shape) == [1, C, *sides]
        assert max(sides) == longest
    assert 0 <= float(picture.min()) <= float(picture.max()) <= 1


def test_shrinking_does_not_alias(tmp_path: Path) -> None:
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (64, 32))  # finer than the result can show
    picture = read_picture(saved(tmp_path, Image.fromarray(stripes)), 16)[..., 3:-3]  # the filter is cut at the ends
    assert 0.45 < float(picture.min()) <= float(picture.max()) < 0.55
    ramp = np.tile(np.arange(256, dtype=np.uint8), (8, 1))
    shrunk = read_picture(saved(tmp_path, Image.fromarray(ramp)), 64, image_channels=1)[0, 0, 0]
    # pixel i stands for 4 i to 4 i + 3
    np.testing.assert_allclose(255 * shrunk[3:-3].numpy(), 4 * np.arange(3, 61) + 1.5, **named("one_level"))


def test_a_header_of_too_many_pixels_is_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0))
    bomb = tmp_path / "bomb.png"  # without pixels: to decode it would be another error
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    with pytest.raises(ImageTooLargeError, match=r"bomb\.png.*20000 x 20000.*`max_pixels` is 64000000"):
        read_picture(bomb, 16)
    small = saved(tmp_path, Image.new("RGB", (3, 4)))
    assert read_picture(small, max_pixels=12).shape == (1, 3, 4, 3)
    with pytest.raises(ImageTooLargeError, match="3 x 4"):
        read_picture(small, max_pixels=11)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.bmp", "a.tif", "a.webp"])
def test_half_a_file_is_refused(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(noise(24, 24, 3)), name)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageDecodeError, match=name):
        read_picture(path)


@pytest.mark.parametrize("content", [b"", b"It is a letter, not a picture.\n"])
def test_text_and_nothing_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "letter.png"
    path.write_bytes(content)
    with pytest.raises(ImageDecodeError, match=r"letter\.png.*is no BMP"):
        read_picture(path)


def test_values_out_of_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.tif.*floating-point grey"):
        read_picture(saved(tmp_path, filled("F", 0.5, 1.5), "a.tif"))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        read_picture(tmp_path / "nowhere.png")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        read_picture(str(tmp_path / "nowhere.png"), 64)
    with pytest.raises(ValueError, match=re.escape(f"`path` is '{tmp_path}', but must be a file")):
        read_picture(tmp_path)


def test_bad_options_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, filled("L", 1))
    for longest in (0, -3):
        with pytest.raises(ValueError, match="`longest` is"):
            read_picture(path, longest)
    for image_channels in (0, 2, 4):
        with pytest.raises(ValueError, match="`image_channels` is"):
            read_picture(path, image_channels=image_channels)
    with pytest.raises(ValueError, match="`max_pixels` is 0"):
        read_picture(path, max_pixels=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("C", [1, 3])
def test_all_256_levels_come_back_bit_by_bit(C: int, dtype: torch.dtype, tmp_path: Path) -> None:
    steps = torch.stack([torch.arange(256).roll(85 * channel).reshape(8, 32) for channel in range(C)])[None]
    path = tmp_path / "new" / "folder" / "levels.png"
    write_picture(path, steps.to(dtype) / 255)
    found = read_picture(path, image_channels=C)
    assert torch.equal(found, steps.float() / 255)
    write_picture(str(path), found[0])  # without the batch, over the older file
    assert torch.equal(read_picture(path, image_channels=C), found)
    with Image.open(path) as file:
        assert file.mode == ("L" if C == 1 else "RGB")
    assert os.listdir(path.parent) == ["levels.png"]


@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_each_value_becomes_the_nearest_level(values: list[float]) -> None:
    image = torch.tensor(values, dtype=torch.float64).reshape(1, 1, -1)
    before = image.clone()
    with TemporaryDirectory() as folder:
        write_picture(Path(folder, "a.png"), image)
        with Image.open(Path(folder, "a.png")) as file:
            written = np.asarray(file).ravel()
    assert torch.equal(image, before)
    for value, level in zip(values, written.tolist(), strict=True):
        assert abs(255 * value - level) <= 0.5


def test_a_jpeg_is_near_and_keeps_colours_at_full_resolution(tmp_path: Path) -> None:
    image = torch.linspace(0, 1, 64).expand(3, 48, 64)
    for name in ("a.jpg", "a.JPEG"):
        write_picture(tmp_path / name, image)
        with Image.open(tmp_path / name) as file:
            assert file.format == "JPEG"
            assert JpegImagePlugin.get_sampling(file) == 0  # 4:4:4
        assert float((read_picture(tmp_path / name)[0] - image).abs().max()) < 3 / 255


def test_other_layouts_and_tensors_with_gradients_are_written(tmp_path: Path) -> None:
    image = torch.from_numpy(noise(1, 4, 5, 3)).float().div(255).permute(0, 3, 1, 2).requires_grad_()
    assert not image.is_contiguous()
    write_picture(tmp_path / "a.png", image)
    assert torch.equal(read_picture(tmp_path / "a.png"), image.detach())
    half = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.bfloat16).reshape(1, 1, 4)
    write_picture(tmp_path / "a.png", half)
    assert levels(read_picture(tmp_path / "a.png", image_channels=1)) == [0, 64, 128, 255]  # 63.75, 127.5


@pytest.mark.parametrize("name", ["a", "a.gif", "a.png.tmp", "a.jp2", ".png"])
def test_other_endings_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`path` is"):
        write_picture(tmp_path / name, torch.zeros(3, 2, 2))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "shape", [(2, 2), (2, 3, 4, 4), (2, 4, 4), (1, 4, 4, 4), (1, 1, 3, 4, 4), (3, 0, 4), (0, 3, 4, 4)]
)
def test_other_shapes_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`image`"):
        write_picture(tmp_path / "a.png", torch.zeros(shape))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1e-6, 1.0001])
def test_values_that_are_no_intensities_leave_the_older_file_alone(value: float, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_picture(path, torch.ones(1, 2, 2))
    older = path.read_bytes()
    image = torch.full((3, 4, 4), 0.5)
    image[1, 2, 3] = value
    with pytest.raises(ValueError, match="`image` has values from"):
        write_picture(path, image)
    with pytest.raises(TypeError, match="floating-point"):
        write_picture(path, torch.ones(1, 2, 2, dtype=torch.uint8))
    assert path.read_bytes() == older
    assert os.listdir(tmp_path) == ["a.png"]
