"""Drawn scans: what tells their two classes apart, and that they are the same every time."""

import pytest
import torch

from ganblocks.data import drawn_scans, read_images


def test_what_makes_the_two_classes_is_a_spot() -> None:
    pixels = {}
    for spot in (True, False):
        images, labels = read_images(drawn_scans(60, 32, spot=spot), 32)
        again, _ = read_images(drawn_scans(60, 32, spot=spot), 32)
        assert torch.equal(images, again)
        assert (images.shape, images.dtype, labels) == ((60, 3, 32, 32), torch.uint8, None)
        assert len({image.numpy().tobytes() for image in images}) == 60
        pixels[spot] = images[:, 0].float()
    bounds = slice(8, 24)  # within the rim
    brightest = {spot: value[:, bounds, bounds].amax(dim=(1, 2)) for spot, value in pixels.items()}
    assert brightest[True].median() > brightest[False].max()
    corners = torch.stack([value[:, 0, 0] for value in pixels.values()])
    assert corners.max() < 20  # of 255


@pytest.mark.parametrize(("name", "count", "side"), [("count", 0, 32), ("side", 3, 7)])
def test_a_number_out_of_range_is_named(name: str, count: int, side: int) -> None:
    with pytest.raises(ValueError, match=name):
        drawn_scans(count, side, spot=True)
