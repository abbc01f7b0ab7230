"""What all figures share: colours that can be told apart, images that keep their pixels, texts that keep their room."""

import itertools
import sys

import numpy as np
import pytest
import torch
from drawn import assert_readable, rendered, written
from hypothesis import given
from hypothesis import strategies as st

from ganblocks.visualization import canvas
from ganblocks.visualization.canvas import (
    COLORS,
    Canvas,
    checked_class_names,
    checked_labels,
    checked_path,
    empty_figure,
    finished,
    shortened,
    shown_size,
    text_width,
    to_pixels,
)

# Machado, Oliveira, Fernandes (IEEE TVCG 15(6), 2009): full colour blindness, on linear sRGB
BLINDNESS = {
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]


def cielab(color, matrix):
    values = np.array([int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    xyz = np.array(TO_XYZ) @ np.clip(np.array(matrix) @ linear, 0, 1) / (0.9505, 1, 1.089)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("kind", BLINDNESS)
def test_any_two_colours_can_be_told_apart(kind):
    seen = [cielab(color, BLINDNESS[kind]) for color in COLORS]
    assert len(COLORS) == 10
    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)) > 16


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.booleans())
def test_every_pixel_of_an_image_becomes_a_square(height, width, factor, titled):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    drawing = Canvas(60, 50, title="a title" if titled else None)
    drawing.place(pixels, 7, 5, width * factor, height * factor)
    shown = rendered(drawing.figure)
    assert shown.shape[:2] == (drawing.height, drawing.width)
    top = 5 + drawing.height - 50
    part = shown[top : top + height * factor, 7 : 7 + width * factor]
    assert np.array_equal(part, pixels.repeat(factor, 0).repeat(factor, 1))
    shown[: drawing.height - 50] = 255  # the title
    shown[top : top + height * factor, 7 : 7 + width * factor] = 255
    assert (shown == 255).all()


def test_a_long_title_makes_the_figure_wider_and_an_endless_one_is_cut():
    drawing = Canvas(50, 40, title="a title of some words")
    assert drawing.width > 200
    assert_readable(drawing.figure)
    drawing = Canvas(50, 40, title="x" * 5000)
    assert written(drawing.figure) == ["x" * 119 + "\N{HORIZONTAL ELLIPSIS}"]
    assert_readable(drawing.figure)


def test_text_is_no_mathematics():
    drawing = Canvas(400, 60, title="$a_1$")
    drawing.write(10, 30, r"$\undefined{$")
    assert_readable(drawing.figure)
    assert text_width("$a_1$", 10) > text_width("$a_1", 10) > text_width("a", 10)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60), st.integers(30, 300))
def test_a_text_is_cut_where_its_room_ends(text, limit):
    cut = shortened(text, 9, limit)
    assert text_width(cut, 9) <= limit
    whole = " ".join(text.split())
    if text_width(whole, 9) <= limit:
        assert cut == whole
    else:
        assert cut.endswith("\N{HORIZONTAL ELLIPSIS}")
        assert whole.startswith(cut[:-1])


@pytest.mark.parametrize(
    ("shape", "side", "size"),
    [((28, 28), 112, (112, 112)), ((28, 28), 100, (112, 112)), ((10, 20), 65, (60, 30)), ((400, 200), 100, (100, 200)),
     ((1, 300), 30, (30, 1)), ((60, 100), 100, (100, 60))],
)  # fmt: skip
def test_small_images_grow_by_whole_factors_and_large_ones_shrink(shape, side, size):
    assert shown_size(np.zeros((2, *shape, 3)), side) == size


def test_bytes_are_kept_and_grey_becomes_three_equal_channels():
    images = torch.arange(12, dtype=torch.uint8).reshape(2, 1, 2, 3)
    assert np.array_equal(to_pixels(images, "images", (0, 1)), np.stack([images[:, 0].numpy()] * 3, axis=-1))
    colored = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 2, 2)
    assert np.array_equal(to_pixels(colored, "images", (0, 1)), colored.numpy().transpose(0, 2, 3, 1))


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0), (2.0, 7.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_floats_are_rounded_to_levels_and_clamped(value_range, dtype):
    low, high = value_range
    levels = torch.tensor([0, 255, 128, 64, 255, 0])
    values = (low + (high - low) * levels.double() / 255).to(dtype)
    values[4:] = torch.tensor([float("inf"), low - 1])
    shown = to_pixels(values.reshape(1, 1, 2, 3), "images", value_range)[0, ..., 0].flatten()
    if dtype != torch.bfloat16:  # which has 8 bits
        assert shown.tolist() == levels.tolist()
    assert shown[[0, 1, 4, 5]].tolist() == [0, 255, 255, 0]


def test_data_of_another_range_is_refused_but_what_a_network_makes_is_not():
    images = torch.full((1, 1, 2, 2), -0.4)
    with pytest.raises(ValueError, match=r"`x` is 'of mean -0\.4', but must be in `value_range`, 0 to 1"):
        to_pixels(images, "x", (0, 1), data=True)
    assert to_pixels(images, "x", (0, 1)).max() == 0
    assert to_pixels(images, "x", (-1, 1), data=True).max() == 76  # 127.5 * 0.6


@pytest.mark.parametrize(
    ("images", "error", "match"),
    [
        (torch.zeros(2, 2), ValueError, "`x` has shape"),
        (torch.zeros(0, 1, 2, 2), ValueError, r"`x\.shape` is \(0, 1, 2, 2\)"),
        (torch.zeros(1, 2, 2, 2), ValueError, r"`x\.shape\[1\]` is 2"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.int64), TypeError, r"`x\.dtype`"),
        (torch.full((1, 1, 2, 2), torch.nan), ValueError, "`x` holds 4 NaN"),
        ([1], TypeError, "`x` is a list"),
    ],
)
def test_what_is_no_image_is_named(images, error, match):
    with pytest.raises(error, match=match):
        to_pixels(images, "x", (0, 1))


def test_labels_are_whole_numbers_one_each():
    assert checked_labels(torch.tensor([3, 0], dtype=torch.uint8), 2).tolist() == [3, 0]
    for labels, error in (
        (torch.tensor([0.0, 1.0]), TypeError),
        (torch.tensor([True, False]), TypeError),
        (torch.tensor([0, -1]), ValueError),
        (torch.tensor([0, 10_000]), ValueError),
        (torch.tensor([0, 1, 2]), ValueError),
        (torch.tensor([[0, 1]]), ValueError),
    ):
        with pytest.raises(error, match="`labels"):
            checked_labels(labels, 2)


def test_classes_need_a_name_each():
    assert checked_class_names(None, 2) == ("0", "1", "2")
    assert checked_class_names(["a", "b", "c"], 1) == ("a", "b", "c")
    with pytest.raises(ValueError, match="`classes`"):
        checked_class_names(["a", "b"], 2)
    with pytest.raises(TypeError, match="`classes`"):
        checked_class_names("ab", 1)


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".SVG", b"<?xml"), (".pdf", b"%PDF")])
def test_a_figure_is_written_whole_and_returned(tmp_path, suffix, start):
    path = tmp_path / "new" / f"figure{suffix}"
    figure = empty_figure(1, 1)
    checked_path(path)
    assert finished(figure, path) is figure
    assert path.read_bytes().startswith(start)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert finished(figure, None) is figure


def test_other_suffixes_are_refused_and_nothing_is_left_of_a_failure(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"`path` is 'a\.jpg'"):
        checked_path("a.jpg")

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr("ganblocks._files.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        finished(empty_figure(1, 1), tmp_path / "figure.png")
    assert list(tmp_path.iterdir()) == []


def test_neither_pyplot_nor_a_setting_is_touched():
    import matplotlib

    settings, loaded = dict(matplotlib.rcParams), "matplotlib.pyplot" in sys.modules
    drawing = Canvas(50, 40, title="a")
    drawing.write(1, 1, "a", limit=20)
    rendered(drawing.figure)
    assert dict(matplotlib.rcParams) == settings
    assert ("matplotlib.pyplot" in sys.modules) == loaded


def test_a_missing_matplotlib_names_the_command(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    canvas._renderer.cache_clear()
    with pytest.raises(ImportError, match=r'pip install "ganblocks\[train\]"'):
        Canvas(50, 40, title="a")
