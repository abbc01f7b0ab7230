"""Drawn images: the same at every resolution, true to their factors."""

import dataclasses
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganblocks.data.source import ImageSource
from ganblocks.data.synthetic import Faces, Shapes
from tolerances import named

BOTH = pytest.mark.parametrize("kind", [Shapes, Faces])


def halved(image: np.ndarray) -> np.ndarray:
    """Mean over 2 x 2 pixels."""
    channels, side, _ = image.shape
    return image.astype(np.float64).reshape(channels, side // 2, 2, side // 2, 2).mean(axis=(2, 4))


@BOTH
@given(st.integers(0, 1000), st.integers(0, 20), st.integers(1, 70), st.sampled_from([1, 3]))
def test_image_is_a_pure_function_of_seed_index_and_resolution(kind, seed, index, resolution, image_channels):
    one = kind(21, seed=seed, image_channels=image_channels).read(index, resolution)
    other = kind(index + 1, seed=seed, image_channels=image_channels)
    other.read(0, 16)  # reading something else in between changes nothing
    assert np.array_equal(one, other.read(index, resolution))
    assert one.shape == (image_channels, resolution, resolution)
    assert one.dtype == np.uint8
    assert one.flags.c_contiguous


@BOTH
def test_images_differ_between_indices_and_seeds(kind):
    images = [kind(8, seed=seed).read(index, 16).tobytes() for seed in range(3) for index in range(8)]
    assert len(set(images)) == len(images)


@BOTH
@pytest.mark.parametrize("resolution", [4, 8, 16, 32, 64, 128])
def test_halving_a_larger_image_gives_the_smaller_one(kind, resolution):
    images = kind(8)
    for index in range(8):
        difference = abs(halved(images.read(index, 2 * resolution)) - images.read(index, resolution))
        assert difference.mean() < 1.5
        assert np.quantile(difference, 0.99) < 24


@BOTH
def test_edges_are_antialiased(kind):
    image = kind(1).read(0, 128)
    _, counts = np.unique(image.reshape(3, -1), axis=1, return_counts=True)
    assert (counts < 10).sum() > 20  # many mixed colours, each on few pixels


@BOTH
def test_one_channel_is_the_weighted_mean_of_three(kind):
    colour, grey = kind(2).read(1, 64), kind(2, image_channels=1).read(1, 64)
    expected = np.tensordot([0.299, 0.587, 0.114], colour.astype(np.float64), axes=1)[None]
    np.testing.assert_allclose(grey, expected, **named("one_level"))


@BOTH
def test_it_is_an_image_source_and_can_be_sent_to_another_process(kind):
    images = kind(6, seed=5)
    assert isinstance(images, ImageSource)
    assert len(images) == len(images.names) == len(set(images.names)) == 6
    assert list(images.names) == sorted(images.names)
    assert images.size(3) == (1024, 1024)
    copy = pickle.loads(pickle.dumps(images))
    assert np.array_equal(copy.read(3, 16), images.read(3, 16))


@BOTH
def test_fingerprint_knows_all_that_changes_the_images(kind):
    variants = [kind(4), kind(5), kind(4, seed=1), kind(4, image_channels=1)]
    assert len({images.fingerprint for images in variants}) == 4
    assert kind(4).fingerprint == kind(4).fingerprint
    assert Faces(4).fingerprint != Shapes(4).fingerprint


@BOTH
def test_negative_index_counts_from_the_end_and_too_large_ones_raise(kind):
    images = kind(5)
    assert np.array_equal(images.read(-1, 16), images.read(4, 16))
    assert images.factors(-1) == images.factors(4)
    for method in (images.factors, images.size, lambda index: images.read(index, 8)):
        for index in (5, -6):
            with pytest.raises(IndexError):
                method(index)


@BOTH
@pytest.mark.parametrize(("argument", "value"), [("count", 0), ("seed", -1), ("image_channels", 2)])
def test_argument_out_of_range_raises(kind, argument, value):
    with pytest.raises(ValueError, match=f"`{argument}` is {value}"):
        kind(**{"count": 4, argument: value})


@BOTH
def test_resolution_below_one_raises(kind):
    with pytest.raises(ValueError, match="`resolution` is 0"):
        kind(4).read(0, 0)


def test_its_printout_says_how_to_make_it_again():
    assert repr(Faces(3, seed=2)) == "Faces(3, seed=2, image_channels=3)"


# --- factors


@pytest.mark.parametrize("index", range(12))
def test_shape_has_the_area_centre_and_colour_of_its_factors(index):
    images = Shapes(12, seed=4)
    it, side = images.factors(index), 256
    image = images.read(index, side).astype(np.float64)
    colour = np.array(it.colour)
    background = image[:, 0, 0]  # as rounded to 8 bits, which would add up over the picture
    np.testing.assert_allclose(background, it.background, **named("one_level"))
    strongest = int(np.argmax(abs(colour - background)))
    coverage = (image[strongest] - background[strongest]) / (colour[strongest] - background[strongest])
    centres = (np.arange(side) + 0.5) / side * 2 - 1
    area = coverage.sum() * (2 / side) ** 2
    expected = {
        "disc": math.pi,
        "ring": math.pi * (1 - 0.56**2),  # from 0.78 - 0.22 to 0.78 + 0.22 of the radius
        "square": 2.0,
        "triangle": 3 * math.sqrt(3) / 4,
    }
    np.testing.assert_allclose(area, expected[it.kind] * it.radius**2, **named("drawn_area"))
    centre = [(coverage.sum(axis=axis) * centres).sum() / coverage.sum() for axis in (0, 1)]
    np.testing.assert_allclose(centre, [it.x, it.y], **named("drawn_area"))
    inside = image[:, coverage > 0.99]
    np.testing.assert_allclose(inside.mean(axis=1), colour, **named("one_level"))


def test_shape_labels_name_the_shape_and_are_balanced():
    images = Shapes(40)
    assert [images.classes[label] for label in images.labels] == [images.factors(i).kind for i in range(40)]
    assert np.bincount(images.labels).tolist() == [10] * 4
    assert images.labels.dtype == np.int64


def test_faces_have_no_labels():
    assert Faces(4).labels is None
    assert Faces(4).classes == ()


def read_with(index: int = 0, side: int = 64, **changes) -> np.ndarray:
    """A face with some factors replaced."""

    class Changed(Faces):
        def factors(self, index):
            return dataclasses.replace(super().factors(index), **changes)

    return Changed(index + 1).read(index, side).astype(np.float64)


@pytest.mark.parametrize(
    ("factor", "low", "high"),
    [
        ("skin_tone", 0.0, 1.0),
        ("head_width", 0.42, 0.52),
        ("head_height", 0.52, 0.6),
        ("chin", 0.0, 0.25),
        ("tilt", -0.15, 0.15),
        ("hair_length", 0.2, 1.0),
        ("hair_curl", 0.0, 1.0),
        ("hair_parting", -0.3, 0.3),
        ("hair_colour", (40, 32, 34), (226, 186, 108)),
        ("eye_distance", 0.18, 0.23),
        ("eye_size", 0.075, 0.11),
        ("iris_colour", (84, 56, 36), (66, 120, 176)),
        ("gaze_x", -1.0, 1.0),
        ("gaze_y", -1.0, 1.0),
        ("brow_angle", -1.0, 1.0),
        ("mouth_curvature", -1.0, 1.0),
        ("mouth_width", 0.13, 0.22),
        ("mouth_open", 0.4, 1.0),
        ("glasses", False, True),
        ("cloth_colour", (214, 84, 76), (62, 124, 178)),
        ("background", (240, 206, 180), (180, 206, 240)),
    ],
)
def test_every_factor_of_a_face_can_be_seen_and_lies_in_its_range(factor, low, high):
    options = {"hair_length": 0.8} if factor.startswith("hair") and factor != "hair_length" else {}
    seen = abs(read_with(**{**options, factor: low}) - read_with(**{**options, factor: high}))
    assert (seen > 20).sum() >= 3
    if isinstance(low, float):
        lowest, highest = {"hair_length": (0, 1), "mouth_open": (0, 1)}.get(factor, (low, high))
        drawn = [getattr(Faces(200).factors(index), factor) for index in range(200)]
        assert lowest <= min(drawn)
        assert max(drawn) <= highest
        assert max(drawn) - min(drawn) > 0.6 * (highest - lowest)


def test_face_is_where_a_face_belongs():
    plain = {"tilt": 0.0, "hair_length": 0.0, "glasses": False, "skin_tone": 0.0, "background": (0, 0, 255)}
    image = read_with(side=128, **plain)
    assert image[:, 0, 0].tolist() == [0, 0, 255]
    forehead = image[:, 36, 64]
    np.testing.assert_allclose(forehead, (255, 226, 204), **named("one_level"))


def test_smile_turns_the_corners_of_the_mouth_up():
    def height_of_mouth(curvature: float) -> tuple[float, float]:
        plain = {"tilt": 0.0, "skin_tone": 0.0, "mouth_open": 0.0, "mouth_width": 0.22, "hair_length": 0.0}
        image = read_with(side=256, mouth_curvature=curvature, **plain)
        rows = slice(155, 195)  # y from 0.21 to 0.52, below the nose and above the chin
        darkness = 255 - image[1, rows]
        darkness = np.where(darkness > 80, darkness, 0)
        weights = np.arange(darkness.shape[0])[:, None]
        column = (darkness * weights).sum(axis=0) / np.maximum(darkness.sum(axis=0), 1)
        return column[128], column[128 - 24]  # the middle, and near the left end

    middle, end = height_of_mouth(1.0)
    assert end < middle  # rows count downwards
    middle, end = height_of_mouth(-1.0)
    assert end > middle


def test_face_without_tilt_gaze_and_parting_is_symmetric():
    image = read_with(tilt=0.0, gaze_x=0.0, hair_parting=0.0, hair_curl=0.0, hair_length=0.6)
    mirrored = image[:, :, ::-1]
    assert (abs(image - mirrored) > 1).mean() < 0.005  # but for the light in the eyes
