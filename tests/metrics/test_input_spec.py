"""Bytes become the input of a network in one order of steps, and the text of a spec is equal where its meaning is."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganblocks.metrics.input_spec import InputSpec
from ganblocks.metrics.resize import RESIZE_MODES, resize_images
from tolerances import for_dtype, named

EXACT, FLOAT32 = named("exact"), for_dtype(torch.float32)


def pixels(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@given(channels=st.sampled_from([1, 3]), wanted=st.sampled_from([1, 3]), size=st.sampled_from([None, 5, (4, 9)]))
def test_grey_is_repeated_and_color_becomes_luma(channels, wanted, size):
    images = pixels(2, channels, 6, 7)
    spec = InputSpec(size, image_channels=wanted, value_range=(0, 255))
    planes = images.float()
    if channels > wanted:
        planes = 0.299 * planes[:, :1] + 0.587 * planes[:, 1:2] + 0.114 * planes[:, 2:]
    planes = torch.cat([planes] * 3, dim=1) if channels < wanted else planes
    expected = planes if size is None else resize_images(planes, size).clamp(0, 255)
    torch.testing.assert_close(spec.prepare(images), expected, **FLOAT32)


def test_resized_images_are_clipped_and_not_rounded():
    step = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    step[..., 4:] = 255
    found = InputSpec(32, image_channels=1, value_range=(0, 255)).prepare(step)
    assert (found.min(), found.max()) == (0, 255)
    assert (found != found.round()).any()


@pytest.mark.parametrize("value_range", [(-1, 1), (0, 1), (-1, 127 / 128), (1, 0), (0, 255)])
def test_byte_0_and_byte_255_become_the_value_range(value_range):
    images = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2)
    found = InputSpec(image_channels=1, value_range=value_range).prepare(images)
    torch.testing.assert_close(found.flatten(), torch.tensor(value_range, dtype=torch.float32), **EXACT)


def test_mean_and_std_come_last():
    images = pixels(2, 3, 4, 4)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
    found = InputSpec(value_range=(0, 1), mean=mean, std=std).prepare(images)
    for channel in range(3):
        expected = (images[:, channel].double() / 255 - mean[channel]) / std[channel]
        torch.testing.assert_close(found[:, channel].double(), expected, **FLOAT32)


sizes = st.one_of(st.none(), st.integers(1, 400), st.tuples(st.integers(1, 400), st.integers(1, 400)))
numbers = st.floats(-3, 3)


@given(
    size=sizes,
    resize=st.sampled_from(RESIZE_MODES),
    antialias=st.booleans(),
    low=st.integers(-3, 0),
    high=st.floats(0.5, 3),
    mean=st.one_of(st.none(), st.tuples(numbers, numbers, numbers)),
)
def test_a_spec_survives_json(size, resize, antialias, low, high, mean):
    std = None if mean is None else (0.1, 1, 2)
    spec = InputSpec(size, resize, antialias, value_range=(low, high), mean=mean, std=std)
    again = InputSpec.from_json(spec.to_json())
    assert again == spec
    assert again.to_json() == spec.to_json()
    assert hash(again) == hash(spec)


def test_one_meaning_has_one_text():
    assert InputSpec(8, value_range=(0, 1)).to_json() == InputSpec([8, 8], value_range=[0.0, 1.0]).to_json()
    assert not InputSpec(8, "bilinear_tf1", antialias=True).antialias
    assert "\n" not in InputSpec(8).to_json()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"size": 0}, "`size`"),
        ({"size": (3, 4, 5)}, "`size`"),
        ({"size": 2.5}, "`size`"),
        ({"resize": "lanczos"}, "`resize`"),
        ({"image_channels": 4}, "`image_channels`"),
        ({"value_range": (1, 1)}, "`value_range`"),
        ({"value_range": (0, math.nan)}, "`value_range`"),
        ({"mean": (0, 0, 0)}, "`std`"),
        ({"std": (1, 1, 1)}, "`std`"),
        ({"mean": (0, 0, 0), "std": (1, 0, 1)}, "`std`"),
        ({"mean": (0,), "std": (1, 1, 1)}, "`mean`"),
        ({"image_channels": 1, "mean": (0,), "std": (1, 1)}, "`std`"),
    ],
)
def test_a_spec_without_meaning_is_refused(options, match):
    with pytest.raises(ValueError, match=match):
        InputSpec(**options)


def test_foreign_json_is_refused():
    with pytest.raises(ValueError, match="fields of InputSpec"):
        InputSpec.from_json('{"sise": 3}')
    with pytest.raises(TypeError, match="a JSON object"):
        InputSpec.from_json("[3]")
