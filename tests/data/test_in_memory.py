"""Images in memory as batches: a pure function of seed and position, and nothing lost on the way."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganblocks.data import Batches, as_batches
from ganblocks.data.array_images import ArrayImages
from ganblocks.data.in_memory import TensorBatches, read_images
from ganblocks.errors import DataError, EmptyDatasetError


def numbered(count: int) -> torch.Tensor:
    """Image i is full of i, but for its first column, which is 200."""
    images = torch.arange(count, dtype=torch.uint8).reshape(-1, 1, 1, 1).repeat(1, 1, 2, 3)
    images[..., 0] = 200
    return images


@given(size=st.integers(1, 9), seed=st.integers(0, 3), cuts=st.lists(st.integers(1, 7), min_size=1, max_size=5))
def test_the_stream_does_not_depend_on_how_it_is_cut(size: int, seed: int, cuts: list[int]) -> None:
    batches = TensorBatches(numbered(size), torch.arange(size), seed=seed, mirror=True)
    whole, labels = batches.batch(0, sum(cuts), None)
    assert labels is not None
    position = 0
    for count in cuts:
        images, part = TensorBatches(numbered(size), torch.arange(size), seed=seed, mirror=True).batch(
            position, count, 64
        )
        assert part is not None
        assert torch.equal(images, whole[position : position + count])
        assert torch.equal(part, labels[position : position + count])
        position += count
    assert torch.equal(whole[:, 0, 0, 1].long(), labels)  # each label goes with its image
    if sum(cuts) >= size:
        assert sorted(labels[:size].tolist()) == list(range(size))  # an epoch has every image once


def test_mirrored_images_are_flipped_left_to_right_about_half_of_the_time() -> None:
    images, _ = TensorBatches(numbered(50), mirror=True).batch(0, 400, None)
    left, right = images[:, 0, :, 0] == 200, images[:, 0, :, 2] == 200
    assert torch.equal(left.all(1), ~right.any(1))
    assert 150 < int(left.all(1).sum()) < 250
    plain, labels = TensorBatches(numbered(50)).batch(0, 400, None)
    assert (plain[:, 0, :, 0] == 200).all()
    assert labels is None


def test_batches_own_their_memory_and_seeds_differ() -> None:
    images = numbered(20)
    batch, _ = TensorBatches(images).batch(0, 20, None)
    batch.zero_()
    assert torch.equal(images, numbered(20))
    first, second = (TensorBatches(images, seed=seed).batch(0, 20, None)[0] for seed in (0, 1))
    assert not torch.equal(first, second)
    assert isinstance(TensorBatches(images), Batches)
    stream = TensorBatches(images)
    assert as_batches(stream) is stream


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(EmptyDatasetError, match="`images`"):
        TensorBatches(torch.zeros(0, 1, 2, 2))
    with pytest.raises(ValueError, match=r"`labels` is \(2,\), but must be \[3\]"):
        TensorBatches(torch.zeros(3, 1), torch.zeros(2))
    with pytest.raises(ValueError, match="`labels` has shape"):
        TensorBatches(torch.zeros(3, 1), torch.zeros(3, 1))
    with pytest.raises(ValueError, match="`images` has shape"):
        TensorBatches(torch.zeros(3, 4), mirror=True)


def test_images_are_read_in_the_order_asked_for_at_any_resolution() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 7, 7), dtype=np.uint8)
    source = ArrayImages(pixels, [3, 1, 2, 0])
    images, labels = read_images(source, 7)
    assert labels is not None
    assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
    assert np.array_equal(images.numpy(), pixels[:, None])
    assert labels.tolist() == [3, 1, 2, 0]
    images, labels = read_images(source, 5, indices=np.array([2, 0]))
    assert labels is not None
    assert labels.tolist() == [2, 3]
    assert np.array_equal(images[1].numpy(), source.read(0, 5))
    assert read_images(ArrayImages(pixels, image_channels=3), 7)[0].shape == (4, 3, 7, 7)
    assert read_images(ArrayImages(pixels), 7)[1] is None


def test_images_that_do_not_fit_in_memory_are_told_with_their_shape() -> None:
    shape = rf"\[2, 1, {2**23}, {2**23}\]"
    with pytest.raises(DataError, match=f"images of shape {shape} need 140,737,488,355,328 bytes"):
        read_images(ArrayImages(np.zeros((2, 4, 4), np.uint8)), 2**23)


def test_what_cannot_be_read_is_told() -> None:
    source = ArrayImages(np.zeros((2, 4, 4), np.uint8))
    with pytest.raises(EmptyDatasetError, match="no image"):
        read_images(source, 4, indices=[])
    with pytest.raises(ValueError, match="`resolution` is 0"):
        read_images(source, 0)
    with pytest.raises(ValueError, match="`index` is 2"):
        read_images(source, 4, indices=[2])
