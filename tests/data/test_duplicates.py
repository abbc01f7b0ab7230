"""Copies are found whatever happened to them, other pictures are not, and no group is cut."""

import io
from itertools import combinations

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from ganblocks.data import duplicates
from ganblocks.data.duplicates import (
    cosine_hash,
    difference_hash,
    exact_duplicates,
    group_numbers,
    groups_across,
    hash_distances,
    near_duplicates,
)
from ganblocks.data.stratified import stratified_split
from ganblocks.data.synthetic import Faces, Shapes

SIDE = 128


def drawn(source: Faces | Shapes, count: int) -> Tensor:
    return torch.from_numpy(np.stack([source.read(index, SIDE) for index in range(count)]))


def changed(image: Tensor, how: str) -> Tensor:
    """The image [C, H, W] after something that leaves its picture, or mirrors it."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    if how == "jpeg":
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=60)
        picture = Image.open(file)
    elif how == "half":
        picture = picture.resize((SIDE // 2, SIDE // 2), Image.Resampling.LANCZOS)
    elif how == "larger":
        picture = picture.resize((200, 200), Image.Resampling.BICUBIC)
    elif how == "brighter":
        picture = picture.point(lambda level: min(255, level + 15))
    elif how == "grey":
        picture = picture.convert("L").convert("RGB")
    elif how == "mirrored":
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return torch.from_numpy(np.asarray(picture).transpose(2, 0, 1).copy())


FACES, SHAPES = drawn(Faces(12, seed=3), 12), drawn(Shapes(12, seed=3), 12)


@pytest.mark.parametrize("images", [FACES, SHAPES], ids=["faces", "shapes"])
@pytest.mark.parametrize("how", ["jpeg", "half", "larger", "brighter", "grey"])
def test_a_changed_copy_has_nearly_the_same_cosine_hash(images: Tensor, how: str) -> None:
    for image in images:
        copy = changed(image, how)
        assert hash_distances(cosine_hash(image[None]), cosine_hash(copy[None])).item() <= 6


@pytest.mark.parametrize("how", ["half", "larger", "brighter", "grey"])
def test_a_changed_copy_has_nearly_the_same_difference_hash(how: str) -> None:
    for image in FACES:
        copy = changed(image, how)
        assert hash_distances(difference_hash(image[None]), difference_hash(copy[None])).item() <= 6


@pytest.mark.parametrize("images", [FACES, SHAPES], ids=["faces", "shapes"])
def test_mirrored_copies_are_other_pictures(images: Tensor) -> None:
    mirrored = torch.stack([changed(image, "mirrored") for image in images])
    assert near_duplicates(torch.cat([images, mirrored])) == []
    assert np.diag(hash_distances(cosine_hash(images), cosine_hash(mirrored))).min() >= 16


@pytest.mark.parametrize("images", [FACES, SHAPES], ids=["faces", "shapes"])
def test_planted_copies_are_found_and_nothing_else_is(images: Tensor) -> None:
    planted = torch.cat([images, changed(images[4], "jpeg")[None], changed(images[9], "brighter")[None], images[4:5]])
    assert near_duplicates(planted, 6) == [(4, 12, 14), (9, 13)]
    assert exact_duplicates(planted) == [(4, 14)]


def test_a_planted_copy_in_the_test_part_is_caught_and_can_be_avoided() -> None:
    images = torch.cat([FACES, torch.stack([changed(image, "jpeg") for image in FACES])])
    found, labels = near_duplicates(images, 6), [0] * len(images)
    assert found == [(index, index + 12) for index in range(12)]
    careless = stratified_split(labels, [0.75, 0.25])
    assert groups_across(found, careless)
    careful = stratified_split(labels, [0.75, 0.25], groups=group_numbers(found, len(images)))
    assert groups_across(found, careful) == []
    assert [len(part) for part in careful] == [18, 6]


def cosine_bits(image: np.ndarray) -> list[bool]:
    """Of a grey image of 32 x 32."""
    coefficients = scipy.fft.dctn(image.astype(np.float64), norm="ortho")[:8, :8].reshape(-1)
    return list(coefficients > np.median(coefficients))


@given(seed=st.integers(0, 2**32 - 1))
def test_the_cosine_hash_is_that_of_its_definition(seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (32, 32), dtype=np.uint8)  # needs no resizing
    expected = sum(bit << (63 - place) for place, bit in enumerate(map(int, cosine_bits(image))))
    assert int(cosine_hash(torch.from_numpy(image)[None, None])[0]) == expected


@given(seed=st.integers(0, 2**32 - 1))
def test_the_difference_hash_is_that_of_its_definition(seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (8, 9), dtype=np.uint8)
    bits = [int(image[y, x]) < int(image[y, x + 1]) for y in range(8) for x in range(8)]
    expected = sum(bit << (63 - place) for place, bit in enumerate(map(int, bits)))
    assert int(difference_hash(torch.from_numpy(image)[None, None])[0]) == expected


def test_large_images_are_averaged_and_not_sampled() -> None:
    blocks = torch.randint(0, 256, (5, 1, 8, 9), dtype=torch.uint8)
    large = blocks.repeat_interleave(16, 2).repeat_interleave(16, 3)
    noisy = large.clone()
    noisy[..., 7::8, 7::8] = 255 - noisy[..., 7::8, 7::8]  # one pixel of 64, each in turn of those that are sampled
    noisy[..., 8::8, 8::8] = 255 - noisy[..., 8::8, 8::8]
    assert np.diag(hash_distances(difference_hash(large), difference_hash(noisy))).max() <= 6


@pytest.mark.parametrize("make", [cosine_hash, difference_hash])
@pytest.mark.parametrize("level", [0, 7, 131, 255])
@pytest.mark.parametrize("shape", [(2, 3, 50, 77), (2, 1, 1, 1)])
def test_images_of_one_colour_have_the_hash_of_black_or_of_one_wave(make, level: int, shape) -> None:
    found = make(torch.full(shape, level, dtype=torch.uint8))
    wave = 2**63 if make is cosine_hash and level else 0
    assert found.tolist() == [wave, wave]


def test_grey_and_three_equal_channels_are_one_picture() -> None:
    grey = torch.randint(0, 256, (6, 1, 40, 40), dtype=torch.uint8)
    np.testing.assert_array_equal(cosine_hash(grey), cosine_hash(grey.expand(-1, 3, -1, -1)))


def test_images_hashed_in_pieces_are_those_hashed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = cosine_hash(FACES), difference_hash(FACES), near_duplicates(FACES, 12)
    monkeypatch.setattr(duplicates, "_PIXELS_AT_ONCE", SIDE * SIDE * 5)
    monkeypatch.setattr(duplicates, "_PAIRS_AT_ONCE", 30)
    again = cosine_hash(FACES), difference_hash(FACES), near_duplicates(FACES, 12)
    np.testing.assert_array_equal(whole[0], again[0])
    np.testing.assert_array_equal(whole[1], again[1])
    assert whole[2] == again[2]


@given(first=st.lists(st.integers(0, 2**64 - 1), max_size=6), second=st.lists(st.integers(0, 2**64 - 1), max_size=6))
def test_distances_count_bits(first: list[int], second: list[int]) -> None:
    a, b = np.array(first, dtype=np.uint64), np.array(second, dtype=np.uint64)
    expected = np.array([[(x ^ y).bit_count() for y in second] for x in first], dtype=np.uint8)
    found = hash_distances(a, b)
    assert found.shape == (len(first), len(second))
    np.testing.assert_array_equal(found, expected.reshape(found.shape))
    np.testing.assert_array_equal(duplicates._count_ones(a[:, None] ^ b[None]), expected.reshape(found.shape))


@given(
    hashes=st.lists(st.integers(0, 2**10 - 1), max_size=30),
    threshold=st.integers(0, 3),
    pairs=st.sampled_from([1, 7, 2**20]),
)
def test_groups_are_the_connected_ones(hashes: list[int], threshold: int, pairs: int) -> None:
    parent = list(range(len(hashes)))

    def root(index: int) -> int:
        while parent[index] != index:
            index = parent[index]
        return index

    for i, j in combinations(range(len(hashes)), 2):
        if (hashes[i] ^ hashes[j]).bit_count() <= threshold:
            parent[max(root(i), root(j))] = min(root(i), root(j))
    roots = [root(index) for index in range(len(hashes))]
    expected = [tuple(i for i, r in enumerate(roots) if r == top) for top in sorted(set(roots))]
    images = torch.zeros(len(hashes), 1, 4, 4, dtype=torch.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "cosine_hash", lambda _: np.array(hashes, dtype=np.uint64))
        patch.setattr(duplicates, "_PAIRS_AT_ONCE", pairs)
        assert near_duplicates(images, threshold) == [group for group in expected if len(group) > 1]


def test_one_pixel_more_or_less_is_no_exact_copy() -> None:
    images = torch.randint(1, 256, (4, 3, 9, 5), dtype=torch.uint8)
    images[2] = images[0]
    assert exact_duplicates(images) == [(0, 2)]
    assert exact_duplicates(images.to(memory_format=torch.channels_last)) == [(0, 2)]
    images[2, 1, 8, 4] -= 1
    assert exact_duplicates(images) == []


@pytest.mark.parametrize("count", [0, 1])
def test_few_images_have_no_copies(count: int) -> None:
    images = torch.zeros(count, 3, 8, 8, dtype=torch.uint8)
    assert exact_duplicates(images) == near_duplicates(images) == near_duplicates(images, kind="difference") == []
    assert cosine_hash(images).shape == (count,)


def test_group_numbers_are_those_of_the_first_member() -> None:
    assert group_numbers([(1, 3), (2, 4)], 6).tolist() == [0, 1, 2, 1, 2, 5]
    assert group_numbers([], 0).tolist() == []
    with pytest.raises(ValueError, match="`groups` is 6, but must be of indices from 0 to 5"):
        group_numbers([(1, 6)], 6)
    with pytest.raises(ValueError, match="`groups` is 1, but must be of indices that are in one group each"):
        group_numbers([(0, 1), (1, 2)], 6)


def test_groups_across_names_only_those_that_are_cut() -> None:
    groups = [(0, 1), (2, 3), (4, 5, 6)]
    assert groups_across(groups, [[0, 1, 2, 4, 5, 6], np.array([3])]) == [(2, 3)]
    assert groups_across(groups, [[0, 2, 4], [7]]) == []


def test_wrong_arguments_raise() -> None:
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    for find in (exact_duplicates, near_duplicates, cosine_hash, difference_hash):
        with pytest.raises(TypeError, match=r"`images.dtype` is torch.float32, but must be uint8"):
            find(images.float())
        with pytest.raises(ValueError, match=r"`images` has shape \(3, 8, 8\)"):
            find(images[0])
    with pytest.raises(ValueError, match=r"`images.shape` is \(2, 2, 8, 8\)"):
        near_duplicates(images[:, :2])
    with pytest.raises(ValueError, match="`threshold` is 64"):
        near_duplicates(images, 64)
    with pytest.raises(ValueError, match="`kind` is 'average'"):
        near_duplicates(images, kind="average")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"`second.dtype` is 'int64'"):
        hash_distances(cosine_hash(images), np.zeros(2, dtype=np.int64))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`first.shape` is \(1, 2\)"):
        hash_distances(cosine_hash(images)[None], cosine_hash(images))
