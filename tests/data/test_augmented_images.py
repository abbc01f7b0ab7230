"""Random changes of images: what they may do to one, and that seed and position decide them."""

import pickle
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ganblocks.data.augmented_images import AugmentedImages, classical_augmentation
from ganblocks.data.batches import DatasetBatches, as_batches

NOTHING: dict[str, float] = {"mirror": 0, "degrees": 0, "shift": 0, "zoom": 0, "brightness": 0, "contrast": 0}


def drawn(count: int = 6, channels: int = 1, height: int = 12, width: int = 10, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


def only(**options: Any) -> Callable[[Tensor], Tensor]:
    return classical_augmentation(**{**NOTHING, **options})


def seeded(transform: Callable[[Tensor], Tensor], image: Tensor, seed: int) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transform(image)


@given(
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    degrees=st.floats(0, 180),
    share=st.floats(0, 1),
    fill=st.sampled_from(["edge", 0, 255]),
    seed=st.integers(0, 10**6),
)
def test_shape_and_type_are_kept(
    channels: int, height: int, width: int, degrees: float, share: float, fill: Any, seed: int
) -> None:
    (image,) = drawn(1, channels, height, width)
    options = dict.fromkeys(("mirror", "shift", "brightness", "contrast"), share)
    transform = classical_augmentation(degrees=degrees, zoom=0.9 * share, fill=fill, **options)
    changed = seeded(transform, image, seed)
    assert changed.shape == image.shape
    assert changed.dtype == torch.uint8
    assert changed.is_contiguous()


@pytest.mark.parametrize("channels", [1, 3])
def test_without_any_range_the_image_stays_as_it_is(channels: int) -> None:
    (image,) = drawn(1, channels)
    assert all(torch.equal(seeded(only(), image, seed), image) for seed in range(20))


def test_the_mirror_flips_left_and_right_and_half_of_all_by_default() -> None:
    (image,) = drawn(1, 3)
    assert torch.equal(only(mirror=1.0)(image), image.flip(2))
    flipped = [torch.equal(seeded(only(mirror=0.5), image, seed), image.flip(2)) for seed in range(200)]
    assert 70 < sum(flipped) < 130  # four standard deviations


def test_a_shift_moves_by_its_share_of_each_side_at_most() -> None:
    image = torch.zeros(1, 40, 80, dtype=torch.uint8)
    image[0, 18:22, 38:42] = 255
    rows, columns = [], []
    for seed in range(100):
        moved = seeded(only(shift=0.25), image, seed).double()
        rows.append(float((moved.sum((0, 2)) * torch.arange(40)).sum() / moved.sum() - 19.5))
        columns.append(float((moved.sum((0, 1)) * torch.arange(80)).sum() / moved.sum() - 39.5))
    assert -10.1 < min(rows) < -8 < 8 < max(rows) < 10.1  # a quarter of 40, and a tenth of a pixel of rounding
    assert -20.1 < min(columns) < -16 < 16 < max(columns) < 20.1


def test_a_zoom_changes_the_area_within_its_bounds() -> None:
    image = torch.zeros(1, 64, 64, dtype=torch.uint8)
    image[0, 24:40, 24:40] = 255
    areas = [float(seeded(only(zoom=0.5), image, seed).double().sum()) / 255 / 256 for seed in range(100)]
    assert 0.24 < min(areas) < 0.3  # 0.5 squared
    assert 2.1 < max(areas) < 2.3  # 1.5 squared


def test_a_rotation_turns_about_the_centre_to_both_sides() -> None:
    image = torch.zeros(1, 65, 65, dtype=torch.uint8)
    image[0, 31:34, 56:59] = 255  # 25 pixels to the right of the centre
    angles = []
    for seed in range(100):
        turned = seeded(only(degrees=30), image, seed)[0].double()
        down = float((turned.sum(1) * (torch.arange(65) - 32)).sum() / turned.sum())
        right = float((turned.sum(0) * (torch.arange(65) - 32)).sum() / turned.sum())
        angles.append(float(torch.rad2deg(torch.atan2(torch.tensor(down), torch.tensor(right)))))
    assert -30.5 < min(angles) < -25 < 25 < max(angles) < 30.5


def test_a_shear_lets_upright_lines_lean_to_both_sides_and_leaves_level_ones() -> None:
    image = torch.zeros(1, 41, 81, dtype=torch.uint8)
    image[0, :, 40] = 255
    leaning = []
    for seed in range(100):
        sheared = seeded(only(shear=20), image, seed)[0].double()
        place = (sheared * (torch.arange(81) - 40)).sum(1) / sheared.sum(1)  # of the line in each row
        assert abs(float(place[20])) < 0.1
        leaning.append(float(torch.rad2deg(torch.atan((place[35] - place[5]) / 30))))
    assert -20.5 < min(leaning) < -17 < 17 < max(leaning) < 20.5
    level = torch.zeros(1, 41, 81, dtype=torch.uint8)
    level[0, 20] = 255
    assert torch.equal(seeded(only(shear=20), level, 0), level)


def test_brightness_scales_all_and_contrast_the_distance_to_the_mean() -> None:
    image = torch.tensor([[[50, 150]]], dtype=torch.uint8)
    lit = torch.stack([seeded(only(brightness=0.2), image, seed).flatten() for seed in range(100)]).double()
    assert 40 <= lit[:, 0].min() < 43 < 57 < lit[:, 0].max() <= 60
    assert ((lit[:, 1] - 3 * lit[:, 0]).abs() <= 3).all()  # levels are cut: below 1, three times
    spread = torch.stack([seeded(only(contrast=0.2), image, seed).flatten() for seed in range(100)]).double()
    assert 40 <= spread[:, 0].min() < 44 < 56 < spread[:, 0].max() <= 60
    assert ((spread.sum(1) - 200).abs() <= 2).all()


@given(
    degrees=st.floats(0, 180), shift=st.floats(0, 1), zoom=st.floats(0, 0.9), shear=st.floats(0, 60),
    seed=st.integers(0, 10**6),
)  # fmt: skip
def test_the_border_is_continued_as_far_as_it_is_seen(
    degrees: float, shift: float, zoom: float, shear: float, seed: int
) -> None:
    image = torch.full((1, 7, 11), 200, dtype=torch.uint8)
    assert (seeded(only(degrees=degrees, shift=shift, zoom=zoom, shear=shear), image, seed) == 200).all()


def test_a_number_fills_what_comes_in_from_outside() -> None:
    image = torch.full((1, 20, 20), 200, dtype=torch.uint8)
    shown = seeded(only(degrees=45, fill=7), image, 3)
    assert shown.min() == 7
    assert shown[0, 10, 10] == 200


def test_through_batches_seed_and_position_decide_the_picture() -> None:
    dataset = AugmentedImages(drawn(), torch.arange(6), classical_augmentation())
    state = torch.get_rng_state()
    first, labels = as_batches(dataset, seed=3).batch(0, 12, None)  # two epochs
    assert torch.equal(torch.get_rng_state(), state)
    assert first.shape == (12, 1, 12, 10)
    assert first.dtype == torch.uint8
    assert labels is not None
    assert sorted(labels[:6].tolist()) == sorted(labels[6:].tolist()) == list(range(6))
    again = DatasetBatches(dataset, seed=3)
    torch.manual_seed(99)
    assert torch.equal(again.batch(0, 12, None)[0], first)
    resumed = torch.cat([DatasetBatches(dataset, seed=3).batch(7, 3, None)[0], again.batch(10, 2, None)[0]])
    assert torch.equal(resumed, first[7:])
    for label in range(6):
        one, other = first[labels == label]
        assert not torch.equal(one, other)
    assert not torch.equal(DatasetBatches(dataset, seed=4).batch(0, 12, None)[0], first)


@pytest.mark.parametrize("labels", [None, torch.tensor([2, 0])])
def test_items_are_what_the_transform_makes_of_a_copy(labels: Tensor | None) -> None:
    images = drawn(2)
    kept = images.clone()
    dataset = AugmentedImages(images, labels, lambda image: image.fill_(9).float())
    assert len(dataset) == 2
    item = dataset[1]
    image, label = (item, None) if isinstance(item, Tensor) else item
    assert torch.equal(image, torch.full((1, 12, 10), 9.0))
    assert label is None if labels is None else label == 0
    assert torch.equal(images, kept)
    with pytest.raises(IndexError):
        dataset[2]


def test_it_can_be_sent_to_workers() -> None:
    dataset = pickle.loads(pickle.dumps(AugmentedImages(drawn(), None, classical_augmentation(fill=3))))
    assert dataset.transform == classical_augmentation(fill=3)
    assert torch.equal(dataset.images, drawn())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mirror": 1.5}, "`mirror` is 1.5"),
        ({"degrees": -1}, "`degrees` is -1"),
        ({"degrees": 181}, "between 0 and 180"),
        ({"shift": 2}, "`shift` is 2"),
        ({"zoom": 1.0}, "between 0 and 0.9"),
        ({"brightness": float("nan")}, "`brightness` is nan"),
        ({"contrast": -0.1}, "`contrast` is -0.1"),
        ({"fill": "mirror"}, "`fill` is 'mirror'"),
        ({"fill": 256}, "from 0 to 255"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        classical_augmentation(**options)


def test_images_that_do_not_fit_are_refused() -> None:
    keep = only()
    with pytest.raises(TypeError, match=r"`images.dtype` is torch.float32"):
        AugmentedImages(torch.rand(2, 1, 4, 4), None, keep)
    with pytest.raises(ValueError, match="4 dimensions"):
        AugmentedImages(drawn(2)[0], None, keep)
    with pytest.raises(ValueError, match=r"`labels.shape` is \(3,\)"):
        AugmentedImages(drawn(2), torch.arange(3), keep)
    with pytest.raises(TypeError, match=r"`labels.dtype` is torch.float32"):
        AugmentedImages(drawn(2), torch.rand(2), keep)
    with pytest.raises(TypeError, match="`transform` is None"):
        AugmentedImages(drawn(2), None, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"`image.dtype` is torch.float32"):
        keep(torch.rand(1, 4, 4))
    with pytest.raises(ValueError, match=r"1 \(grey\) or 3"):
        keep(drawn(1, 2)[0])


def test_without_torchvision_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.transforms.v2.functional", None)
    with pytest.raises(ImportError, match=r"ganblocks\[vision\]"):
        classical_augmentation()
