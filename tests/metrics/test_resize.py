"""Resizing against Pillow's float mode, torch-fidelity's TensorFlow 1 bilinear, and loops in NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from ganblocks.metrics.resize import RESIZE_MODES, resize_images
from tolerances import for_dtype, named

RESIZED = named("resize_levels")
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
sides = st.integers(1, 40)


def levels(*shape, seed=0):
    """Bytes as floats: the scale on which the tolerance is meant."""
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)).float()


def with_pillow(image, size, mode):
    """[H, W] resized in Pillow's 32-bit float mode."""
    resized = Image.fromarray(image.numpy().astype(np.float32)).resize((size[1], size[0]), FILTERS[mode])
    return torch.from_numpy(np.array(resized))


def with_loops(image, size):
    """[H, W] resized as TensorFlow 1 does it: one pixel at a time, in float64."""
    image = image.double().numpy()
    found = np.empty(size)
    for row, column in np.ndindex(*size):
        y, x = row * image.shape[0] / size[0], column * image.shape[1] / size[1]
        top, left = int(y), int(x)
        bottom, right = min(top + 1, image.shape[0] - 1), min(left + 1, image.shape[1] - 1)
        upper = image[top, left] * (1 - (x - left)) + image[top, right] * (x - left)
        lower = image[bottom, left] * (1 - (x - left)) + image[bottom, right] * (x - left)
        found[row, column] = upper * (1 - (y - top)) + lower * (y - top)
    return torch.from_numpy(found).float()


@given(
    source=st.tuples(sides, sides),
    size=st.tuples(sides, st.one_of(st.just(1), sides)),  # PyTorch is wrong at a width of 1
    batch=st.integers(1, 3),
    channels=st.integers(1, 4),
    layout=st.sampled_from([torch.contiguous_format, torch.channels_last]),
    mode=st.sampled_from(sorted(FILTERS)),
)
def test_with_antialias_it_is_pillows_filter_in_float_mode(source, size, batch, channels, layout, mode):
    images = levels(batch, channels, *source)
    found = resize_images(images.contiguous(memory_format=layout), size, mode=mode)
    expected = torch.stack([with_pillow(image, size, mode) for image in images.flatten(0, 1)])
    torch.testing.assert_close(found, expected.view(batch, channels, *size), **RESIZED)


@pytest.mark.parametrize("mode", sorted(FILTERS))
def test_an_image_can_become_one_column(mode):
    images = levels(2, 3, 7, 10)
    expected = torch.stack([with_pillow(image, (5, 1), mode) for image in images.flatten(0, 1)]).view(2, 3, 5, 1)
    torch.testing.assert_close(resize_images(images, (5, 1), mode=mode), expected, **RESIZED)


@pytest.mark.parametrize("mode", sorted(FILTERS))
@pytest.mark.parametrize("size", [29, 99, 299])
def test_at_the_sizes_of_feature_networks_it_is_pillows_filter(mode, size):
    image = levels(64, 64)
    torch.testing.assert_close(
        resize_images(image[None, None], size, mode=mode)[0, 0], with_pillow(image, (size, size), mode), **RESIZED
    )


@given(source=st.tuples(sides, sides), size=st.tuples(sides, sides))
def test_tf1_is_what_torch_fidelity_computes(source, size):
    images = levels(2, 3, *source)
    expected = interpolate_bilinear_2d_like_tensorflow1x(images, size=size, align_corners=False)
    torch.testing.assert_close(resize_images(images, size, mode="bilinear_tf1"), expected, **RESIZED)


@given(source=st.tuples(st.integers(1, 9), st.integers(1, 9)), size=st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_tf1_is_its_definition_pixel_by_pixel(source, size):
    image = levels(*source)
    found = resize_images(image[None, None], size, mode="bilinear_tf1", antialias=True)
    torch.testing.assert_close(found[0, 0], with_loops(image, size), **RESIZED)


def test_without_antialias_most_pixels_do_not_count():
    image = levels(1, 1, 16, 16)
    found = resize_images(image, 4, mode="bilinear", antialias=False)
    centres = image.view(4, 4, 4, 4)[:, 1:3, :, 1:3].mean(dim=(1, 3))  # of each 4 x 4 block, the inner 2 x 2
    torch.testing.assert_close(found[0, 0], centres, **for_dtype(torch.float32))
    assert (resize_images(image, 4, mode="bilinear") - found).abs().max() > 10


def test_the_three_modes_differ_by_levels():
    image = levels(1, 1, 32, 32)
    results = [resize_images(image, 75, mode=mode) for mode in RESIZE_MODES]
    for first, second in ((0, 1), (1, 2), (0, 2)):
        assert (results[first] - results[second]).abs().max() > 10


@given(
    source=st.tuples(sides, sides),
    size=st.one_of(sides, st.tuples(sides, sides)),
    mode=st.sampled_from(RESIZE_MODES),
    antialias=st.booleans(),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    value=st.sampled_from([-1.0, 0.0, 255.0]),
)
def test_a_plain_image_stays_plain_in_any_size_and_dtype(source, size, mode, antialias, dtype, value):
    found = resize_images(torch.full((1, 3, *source), value, dtype=dtype), size, mode=mode, antialias=antialias)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    expected = torch.full((1, 3, *((size, size) if isinstance(size, int) else size)), value, dtype=wide)
    torch.testing.assert_close(found, expected, **for_dtype(torch.float32))


@given(mode=st.sampled_from(RESIZE_MODES), size=st.tuples(sides, sides))
def test_layout_and_batch_do_not_matter_and_an_empty_batch_stays_empty(mode, size):
    images = levels(3, 3, 7, 10)
    whole = resize_images(images, size, mode=mode)
    last = resize_images(images.contiguous(memory_format=torch.channels_last), size, mode=mode)
    torch.testing.assert_close(last, whole, **RESIZED)
    torch.testing.assert_close(
        torch.cat([resize_images(one, size, mode=mode) for one in images.split(1)]), whole, **RESIZED
    )
    assert resize_images(images[:0], size, mode=mode).shape == (0, 3, *size)


@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_images_of_the_wanted_size_come_back_as_they_are(mode):
    images = levels(2, 3, 9, 5)
    assert resize_images(images, (9, 5), mode=mode) is images


def test_bicubic_overshoots_and_nothing_is_clipped_or_rounded():
    step = torch.zeros(1, 1, 8, 8)
    step[..., 4:] = 255
    found = resize_images(step, 32)
    assert found.min() < -5
    assert found.max() > 260
    assert (found != found.round()).any()


@pytest.mark.parametrize(
    ("images", "size", "options", "error", "match"),
    [
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), 4, {}, TypeError, r"images\.dtype"),
        (torch.zeros(3, 4, 4), 4, {}, ValueError, "4 dimensions"),
        (torch.zeros(1, 3, 0, 4), 4, {}, ValueError, r"images\.shape"),
        (torch.zeros(1, 3, 4, 4), 0, {}, ValueError, "`size`"),
        (torch.zeros(1, 3, 4, 4), (4, -1), {}, ValueError, "`size`"),
        (torch.zeros(1, 3, 4, 4), 4, {"mode": "nearest"}, ValueError, "bicubic, bilinear, bilinear_tf1"),
    ],
)
def test_wrong_arguments_are_named(images, size, options, error, match):
    with pytest.raises(error, match=match):
        resize_images(images, size, **options)
