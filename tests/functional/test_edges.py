"""Differences and slopes against loops, ramps and the total variation they sum to."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from ganblocks.functional.edges import neighbor_differences, sobel
from ganblocks.losses.perceptual import total_variation
from tolerances import for_dtype


def test_differences_by_hand() -> None:
    image = torch.tensor([[[[0.0, 1.0, 3.0], [2.0, 2.0, 7.0]]]])
    right, down = neighbor_differences(image)
    assert right.tolist() == [[[[1.0, 2.0, 0.0], [0.0, 5.0, 0.0]]]]
    assert down.tolist() == [[[[2.0, 1.0, 4.0], [0.0, 0.0, 0.0]]]]


def test_their_absolute_values_sum_to_the_total_variation() -> None:
    images = torch.rand(1, 3, 7, 5, dtype=torch.float64)
    right, down = neighbor_differences(images)
    torch.testing.assert_close(right.abs().sum() + down.abs().sum(), total_variation(images), **for_dtype(images.dtype))


def test_the_slope_of_a_ramp_is_its_rise_a_pixel() -> None:
    ramp = torch.arange(6, dtype=torch.float64).mul(0.3).expand(1, 2, 5, 6)
    right, down = sobel(ramp)
    inner = right[..., 1:-1]  # at mirrored borders it is 0
    torch.testing.assert_close(inner, torch.full_like(inner, 0.3), **for_dtype(ramp.dtype))
    assert right[..., [0, -1]].abs().max() == 0
    assert down.abs().max() < 1e-12


def test_sobel_is_that_of_scipy() -> None:
    image = np.random.default_rng(0).random((6, 9))
    found = sobel(torch.from_numpy(image)[None, None].expand(2, 3, 6, 9))
    for part, axis in zip(found, (1, 0), strict=True):
        oracle = torch.from_numpy(ndimage.sobel(image, axis, mode="mirror") / 8).expand(2, 3, 6, 9)
        torch.testing.assert_close(part, oracle, **for_dtype(torch.float64))


def test_one_pixel_has_no_neighbours_and_no_slope() -> None:
    assert [part.tolist() for part in neighbor_differences(torch.ones(1, 1, 1, 1))] == [[[[[0.0]]]], [[[[0.0]]]]]
    with pytest.raises(ValueError, match="at least 2 pixels"):
        sobel(torch.ones(1, 1, 1, 4))


@pytest.mark.parametrize("function", [neighbor_differences, sobel])
def test_what_is_no_image_is_refused(function) -> None:
    with pytest.raises(ValueError, match="images"):
        function(torch.zeros(3, 4, 4))
    with pytest.raises(TypeError, match="floating"):
        function(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
