"""One sheet of images: every pixel where a loop would put it, and never half a file."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ganblocks.visualization.grid import image_grid, save_image_grid


def loop_oracle(images, columns, padding, scale, background):
    count, channels, height, width = images.shape
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    rows = -(-count // columns)
    sheet = np.full(
        (rows * (height * scale + padding) + padding, columns * (width * scale + padding) + padding, channels),
        background,
        dtype=np.uint8,
    )
    for n in range(count):
        for y in range(height * scale):
            for x in range(width * scale):
                row = padding + (n // columns) * (height * scale + padding) + y
                column = padding + (n % columns) * (width * scale + padding) + x
                for c in range(channels):
                    sheet[row, column, c] = images[n, c, y // scale, x // scale]
    return sheet


@given(
    count=st.integers(1, 7),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 4),
    width=st.integers(1, 4),
    columns=st.none() | st.integers(1, 9),
    padding=st.integers(0, 3),
    scale=st.integers(1, 3),
    background=st.integers(0, 255),
)
def test_every_pixel_lies_where_a_loop_puts_it(count, channels, height, width, columns, padding, scale, background):
    images = torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8)
    options = {"columns": columns, "padding": padding, "scale": scale, "background": background}
    sheet = image_grid(images, **options)
    assert sheet.mode == {1: "L", 3: "RGB"}[channels]
    expected = loop_oracle(images.numpy(), **options)
    assert np.array_equal(np.asarray(sheet).reshape(expected.shape), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_values_are_rounded_and_clamped(dtype):
    values = torch.tensor([-7.0, -1.0, -0.5, 0.0, 0.5, 1.0, math.inf, -math.inf], dtype=dtype).view(1, 1, 1, 8)
    sheet = image_grid(values, padding=0)
    assert np.asarray(sheet).tolist() == [[0, 0, 64, 128, 191, 255, 255, 0]]  # 63.75, 127.5 (to even), 191.25


def test_a_color_fills_padding_and_empty_places():
    sheet = np.asarray(image_grid(-torch.ones(3, 3, 2, 2), columns=2, padding=1, background=(10, 20, 30)))
    assert sheet.shape == (7, 7, 3)
    assert sheet[0].tolist() == [[10, 20, 30]] * 7
    assert sheet[4:6, 4:6].reshape(-1, 3).tolist() == [[10, 20, 30]] * 4
    assert (sheet[4:6, 1:3] == 0).all()


def test_layout_and_gradient_of_the_input_do_not_matter():
    images = torch.rand(4, 3, 5, 6) * 2 - 1
    expected = image_grid(images).tobytes()
    assert image_grid(images.to(memory_format=torch.channels_last)).tobytes() == expected
    assert image_grid(images.clone().requires_grad_()).tobytes() == expected


@pytest.mark.parametrize(
    ("images", "options", "match"),
    [
        (torch.zeros(0, 3, 4, 4), {}, "images.shape"),
        (torch.zeros(1, 3, 0, 4), {}, "images.shape"),
        (torch.zeros(1, 2, 4, 4), {}, "1 .grey. or 3"),
        (torch.zeros(3, 4, 4), {}, "4 dimensions"),
        (torch.tensor([0.0, math.nan]).view(1, 1, 1, 2), {}, "1 NaN"),
        (torch.zeros(1, 1, 2, 2), {"columns": 0}, "columns"),
        (torch.zeros(1, 1, 2, 2), {"padding": -1}, "padding"),
        (torch.zeros(1, 1, 2, 2), {"scale": 0}, "scale"),
        (torch.zeros(1, 1, 2, 2), {"background": 256}, "background"),
        (torch.zeros(1, 1, 2, 2), {"background": (1, 2, 3)}, "background"),
        (torch.zeros(1, 3, 2, 2), {"background": (1, 2)}, "background"),
    ],
)
def test_wrong_values_are_named(images, options, match):
    with pytest.raises(ValueError, match=match):
        image_grid(images, **options)


@pytest.mark.parametrize("images", [torch.zeros(1, 1, 2, 2, dtype=torch.int64), np.zeros((1, 1, 2, 2))])
def test_wrong_types_are_named(images):
    with pytest.raises(TypeError, match="images"):
        image_grid(images)


def test_a_saved_sheet_reads_back_without_loss(tmp_path):
    images = torch.rand(5, 3, 4, 4) * 2 - 1
    path = tmp_path / "samples" / "000001.PNG"
    save_image_grid(images, path, columns=2, padding=1, scale=3, background=7)
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        assert sheet.tobytes() == image_grid(images, columns=2, padding=1, scale=3, background=7).tobytes()
    assert [file.name for file in path.parent.iterdir()] == ["000001.PNG"]


def test_a_lossy_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.png"):
        save_image_grid(torch.zeros(1, 1, 2, 2), tmp_path / "grid.jpg")
    assert list(tmp_path.iterdir()) == []
