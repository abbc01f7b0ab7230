"""Bytes to [-1, 1] and back."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganblocks.functional.image_range import from_uint8, intensities, rescale, to_uint8
from tolerances import for_dtype

LEVELS = torch.arange(256, dtype=torch.uint8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_level_survives_the_round_trip(dtype):
    images = from_uint8(LEVELS, dtype=dtype)
    assert images.dtype == dtype
    assert torch.equal(to_uint8(images), LEVELS)


def test_black_and_white_are_exact():
    assert from_uint8(LEVELS)[[0, 255]].tolist() == [-1.0, 1.0]


def test_levels_are_evenly_spaced():
    expected = torch.tensor([2 * level / 255 - 1 for level in range(256)], dtype=torch.float64)
    torch.testing.assert_close(from_uint8(LEVELS, dtype=torch.float64), expected, **for_dtype(torch.float64))
    torch.testing.assert_close(from_uint8(LEVELS).double(), expected, **for_dtype(torch.float32))


@given(st.floats(-1, 1))
def test_the_nearest_level_is_chosen(value):
    level = to_uint8(torch.tensor(value, dtype=torch.float64)).item()
    distances = [abs(value - (2 * other / 255 - 1)) for other in range(256)]
    assert distances[level] == pytest.approx(min(distances), rel=0, abs=for_dtype(torch.float64)["atol"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_values_outside_go_to_the_border_and_nan_to_black(dtype):
    values = torch.tensor([-math.inf, -1e4, -1.01, 1.01, 1e4, math.inf, math.nan]).to(dtype)
    assert to_uint8(values).tolist() == [0, 0, 0, 255, 255, 255, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_images_choose_the_level_of_their_exact_value(dtype):
    images = torch.linspace(-1, 1, 5000).to(dtype)
    assert torch.equal(to_uint8(images), to_uint8(images.double()))


def test_shapes_and_layouts_are_kept_and_no_gradient_passes():
    images = torch.zeros(2, 3, 4, 5, requires_grad=True).to(memory_format=torch.channels_last)
    levels = to_uint8(images)
    assert levels.shape == (2, 3, 4, 5)
    assert not levels.requires_grad
    assert levels.is_contiguous(memory_format=torch.channels_last)
    assert from_uint8(levels).is_contiguous(memory_format=torch.channels_last)
    assert to_uint8(images[:0]).shape == (0, 3, 4, 5)
    assert images.detach().eq(0).all()


def test_the_input_is_not_changed():
    images = torch.tensor([math.nan, 5.0])
    to_uint8(images)
    assert images[1] == 5
    assert images[0].isnan()


finite = st.floats(-10, 10)


@given(st.tuples(finite, finite).filter(lambda pair: abs(pair[0] - pair[1]) > 0.1), st.tuples(finite, finite))
def test_rescale_maps_ends_to_ends_and_the_middle_to_the_middle(source, target):
    images = torch.tensor([*source, sum(source) / 2], dtype=torch.float64)
    expected = torch.tensor([*target, sum(target) / 2], dtype=torch.float64)
    torch.testing.assert_close(rescale(images, source, target), expected, **for_dtype(torch.float64))


def test_rescale_defaults_to_the_unit_interval_and_does_not_clamp():
    assert rescale(torch.tensor([0.0, 0.5, 1.0, 2.0])).tolist() == [-1.0, 0.0, 1.0, 3.0]


def test_rescale_both_orders_of_gradient():
    images = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: rescale(x, (0, 1), (5, -1)), images)
    assert torch.autograd.gradgradcheck(lambda x: rescale(x, (0, 1), (5, -1)), images)


def test_wrong_arguments_are_named():
    with pytest.raises(TypeError, match=r"`images` is torch.uint8.*floating-point"):
        to_uint8(LEVELS)
    with pytest.raises(TypeError, match=r"`images` is torch.float32.*uint8"):
        from_uint8(torch.zeros(3))
    with pytest.raises(TypeError, match=r"`dtype` is torch.int32"):
        from_uint8(LEVELS, dtype=torch.int32)
    with pytest.raises(TypeError, match=r"`images` is torch.uint8"):
        rescale(LEVELS)
    with pytest.raises(ValueError, match=r"`source` is \(1, 1\)"):
        rescale(torch.zeros(3), (1, 1))
    with pytest.raises(ValueError, match=r"`target` is \(0, inf\)"):
        rescale(torch.zeros(3), (0, 1), (0, math.inf))


def test_intensities_of_bytes_are_shares_of_255():
    expected = torch.tensor([level / 255 for level in range(256)])
    assert torch.equal(intensities(LEVELS), expected)
    assert intensities(LEVELS)[[0, 255]].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_intensities_of_bytes_and_of_floats_agree(dtype):
    images = from_uint8(LEVELS, dtype=dtype)
    assert intensities(images).dtype == dtype
    torch.testing.assert_close(intensities(images).float(), intensities(LEVELS), **for_dtype(torch.float32))


def test_intensities_are_linear_not_clamped_and_differentiable():
    images = torch.tensor([-3.0, -1.0, 0.0, 0.5, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    assert intensities(images).tolist() == [-1.0, 0.0, 0.5, 0.75, 1.0, 1.5]
    assert torch.autograd.gradcheck(intensities, images)
    assert torch.autograd.gradgradcheck(intensities, images)


def test_intensities_of_whole_numbers_other_than_bytes_are_refused():
    with pytest.raises(TypeError, match=r"`images` is torch.int64, but must be uint8, or a floating-point"):
        intensities(torch.arange(3))
