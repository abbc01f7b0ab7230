"""Images in memory as a source: layouts, ranges, crops, and the faces of scikit-image."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ganblocks.data.array_images import ArrayImages, built_in_digits, built_in_faces
from ganblocks.data.source import ImageSource
from ganblocks.errors import DataError, EmptyDatasetError


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_it_is_an_image_source() -> None:
    images = ArrayImages(noise(3, 5, 7), [0, 2, 1])
    assert isinstance(images, ImageSource)
    assert len(images) == 3
    assert images.size(1) == (7, 5)
    assert images.image_channels == 1
    assert images.classes == ("0", "1", "2")
    assert images.labels is not None
    assert images.labels.dtype == np.int64
    assert images.labels.tolist() == [0, 2, 1]
    assert repr(images) == "ArrayImages(3 images, 7x5, image_channels=1, classes=3)"


@given(H=st.integers(1, 9), W=st.integers(1, 9), C=st.sampled_from([1, 2, 3, 4]))
def test_layouts_agree_and_an_unresized_image_is_its_central_square(H: int, W: int, C: int) -> None:
    array = noise(2, H, W, C)
    side = min(H, W)
    top, left = (H - side) // 2, (W - side) // 2
    expected = array[1, top : top + side, left : left + side].transpose(2, 0, 1)
    planar = np.ascontiguousarray(array.transpose(0, 3, 1, 2))
    sources = [
        ArrayImages(array, layout="NHWC"),
        ArrayImages(planar, layout="NCHW"),
        ArrayImages(torch.from_numpy(planar), layout="NCHW"),
    ]
    if C == 1:
        sources.append(ArrayImages(array[..., 0]))
    for source in sources:
        result = source.read(1, side)
        assert result.dtype == np.uint8
        np.testing.assert_array_equal(result, expected)
    assert len({source.fingerprint for source in sources}) == 1


def test_resize_is_antialiased() -> None:
    stripes = np.zeros((1, 64, 64), np.uint8)
    stripes[:, :, ::2] = 255
    small = ArrayImages(stripes).read(0, 8)
    assert small.shape == (1, 8, 8)
    assert ((small >= 120) & (small <= 135)).all()  # the mean is 127.5; picking pixels would give 0 or 255


@pytest.mark.parametrize("size", [8, 32])
def test_channels_are_resized_like_pillow_resizes_an_rgb_image(size: int) -> None:
    array = noise(1, 20, 20, 3)
    resized = Image.fromarray(array[0]).resize((size, size), Image.Resampling.LANCZOS)
    result = ArrayImages(array, layout="NHWC").read(0, size)
    np.testing.assert_array_equal(result, np.asarray(resized).transpose(2, 0, 1))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_become_the_nearest_byte(dtype: type) -> None:
    values = np.array([[[0.0, 1.0], [0.25, 0.75]]], dtype=dtype)
    assert ArrayImages(values).read(0, 2).tolist() == [[[0, 255], [64, 191]]]
    if dtype != np.float16:  # every byte survives the way there and back
        every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
        np.testing.assert_array_equal(ArrayImages((every / 255).astype(dtype)).read(0, 16), every[0:1])


def test_bfloat16_tensors_are_taken() -> None:
    assert ArrayImages(torch.ones(1, 2, 2, dtype=torch.bfloat16)).read(0, 2).tolist() == [[[255, 255], [255, 255]]]


def test_grey_becomes_rgb_and_back() -> None:
    grey = noise(1, 4, 4)
    coloured = ArrayImages(grey, image_channels=3)
    np.testing.assert_array_equal(coloured.read(0, 4), np.repeat(grey, 3, axis=0))
    colour = noise(1, 4, 4, 3)
    luma = np.asarray(Image.fromarray(colour[0]).convert("L"))
    np.testing.assert_array_equal(ArrayImages(colour, layout="NHWC", image_channels=1).read(0, 4), luma[np.newaxis])


def test_the_fingerprint_follows_everything_that_is_read() -> None:
    array = noise(2, 4, 4)
    changed = array.copy()
    changed[1, 3, 3] ^= 1
    sources = [
        ArrayImages(array),
        ArrayImages(changed),
        ArrayImages(array, [0, 1]),
        ArrayImages(array, [1, 0]),
        ArrayImages(array, [0, 1], classes=["cat", "dog"]),
        ArrayImages(array, image_channels=3),
        ArrayImages(array.reshape(2, 2, 8)),
    ]
    assert len({source.fingerprint for source in sources}) == len(sources)
    assert ArrayImages(array.copy()).fingerprint == sources[0].fingerprint


def test_the_callers_array_stays_writable() -> None:
    array = noise(1, 4, 4)
    ArrayImages(array)
    assert array.flags.writeable


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.full((1, 2, 2), 1.5), r"from 1.5 to 1.5, but must lie in \[0, 1\]"),
        (np.full((1, 2, 2), -0.1), r"must lie in \[0, 1\]"),
        (np.full((1, 2, 2), np.nan), r"must lie in \[0, 1\]"),
        (np.zeros((1, 2, 2), np.int64), "dtype int64, but must be uint8"),
        (np.zeros((1, 2, 2), np.bool_), "dtype bool"),
        (np.zeros((2, 2), np.uint8), r"shape \(2, 2\); without `layout`"),
        (np.zeros((1, 3, 2, 2), np.uint8), "for four dimensions `layout` must be"),
    ],
)
def test_other_images_are_refused(images: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ArrayImages(images)


def test_wrong_arguments_are_named() -> None:
    array = noise(2, 4, 4)
    with pytest.raises(ValueError, match="`layout` is 'HWN'"):
        ArrayImages(array, layout="HWN")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`layout` NCHW has 4 dimensions"):
        ArrayImages(array, layout="NCHW")
    with pytest.raises(ValueError, match=r"`image_channels` is 2, but must be 1, .* \(or 1 or 3\)"):
        ArrayImages(array, image_channels=2)
    with pytest.raises(ValueError, match=r"`labels` has shape \(1,\), but must be \[2\]"):
        ArrayImages(array, [0])
    with pytest.raises(ValueError, match="float64, but must be integers"):
        ArrayImages(array, [0.0, 1.0])
    with pytest.raises(ValueError, match="contains -1"):
        ArrayImages(array, [0, -1])
    with pytest.raises(ValueError, match="at least 3 names"):
        ArrayImages(array, [0, 2], classes=["a", "b"])
    with pytest.raises(ValueError, match="no labels"):
        ArrayImages(array, classes=["a"])
    with pytest.raises(ValueError, match="`index` is 2, but must be from 0 to 1"):
        ArrayImages(array).read(2, 4)
    with pytest.raises(ValueError, match="`resolution` is 0"):
        ArrayImages(array).read(0, 0)
    with pytest.raises(EmptyDatasetError, match="nothing in it"):
        ArrayImages(np.zeros((0, 4, 4), np.uint8))


def test_the_built_in_faces_are_those_of_scikit_image() -> None:
    data = pytest.importorskip("skimage.data")
    faces = built_in_faces()
    assert len(faces) == 100
    assert faces.size(0) == (25, 25)
    assert faces.image_channels == 1
    reference = data.lfw_subset()
    for index in (0, 99):
        np.testing.assert_array_equal(faces.read(index, 25)[0], np.floor(reference[index] * 255 + 0.5))


def test_missing_scikit_image_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ImportError, match=r'pip install "ganblocks\[examples\]"'):
        built_in_faces()


def test_a_scikit_image_without_the_faces_is_a_data_error(monkeypatch: pytest.MonkeyPatch) -> None:
    skimage = pytest.importorskip("skimage")
    monkeypatch.setattr(skimage, "__file__", "/nowhere/skimage/__init__.py")
    with pytest.raises(DataError, match=r"lfw_subset\.npy"):
        built_in_faces()


def test_the_built_in_digits_are_those_of_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="the digits come with scikit-learn")
    digits, source = built_in_digits(), datasets.load_digits()
    assert len(digits) == 1797
    assert digits.image_channels == 1
    assert np.bincount(digits.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    for index in (0, 700, 1796):
        expected = np.round(source.images[index] / 16 * 255)
        assert np.abs(digits.read(index, 8)[0].astype(float) - expected).max() <= 1
        assert digits.labels[index] == source.target[index]


def test_without_scikit_learn_the_digits_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'pip install "ganblocks\[metrics\]"'):
        built_in_digits()
