"""The probability of augmentation follows the signs of the reals' scores; numbers worked out by hand."""

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ganblocks.functional.augment import diff_augment
from ganblocks.training.augmentation import AdaptiveAugmentation
from ganblocks.training.state import flatten, unflatten
from tolerances import for_dtype


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def logits(positive: int, negative: int, zero: int = 0) -> Tensor:
    return torch.tensor([2.5] * positive + [-0.1] * negative + [0.0] * zero)


def near(actual: Tensor, expected: float) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected), **for_dtype(torch.float32))


def test_the_probability_moves_by_the_images_of_the_interval_over_those_of_the_ramp() -> None:
    augment = AdaptiveAugmentation(ramp_images=100, interval=2)
    augment.observe(logits(10, 0))
    near(augment.probability, 0.0)  # not before the interval is over
    augment.observe(logits(7, 3))  # (10 + 7 - 3) / 20 = 0.7
    near(augment.overfitting, 0.7)
    near(augment.probability, 0.2)
    for batch in (logits(2, 0), logits(3, 0)):  # batches of other sizes: 5 images
        augment.observe(batch)
    near(augment.overfitting, 1.0)
    near(augment.probability, 0.25)
    for _ in range(2):
        augment.observe(logits(6, 2, 2))  # 0.4
    near(augment.overfitting, 0.4)
    near(augment.probability, 0.05)
    for _ in range(2):
        augment.observe(logits(0, 10))
    near(augment.overfitting, -1.0)
    assert augment.probability == 0  # clamped
    augment.observe(logits(1000, 0))
    augment.observe(logits(1000, 0))
    assert augment.probability == 1


def test_at_the_target_it_stays() -> None:
    augment = AdaptiveAugmentation(probability=0.3, target=0.5, interval=1)
    augment.observe(logits(3, 1))
    near(augment.overfitting, 0.5)
    near(augment.probability, 0.3)
    augment.observe(logits(300, 99))
    assert augment.probability > 0.3001


@given(st.integers(1, 50), st.integers(1, 5), st.integers(1, 20))
def test_it_rises_from_0_to_1_in_the_images_of_the_ramp(batch: int, interval: int, moves: int) -> None:
    augment = AdaptiveAugmentation(ramp_images=batch * interval * moves, interval=interval)
    for move in range(moves):
        near(augment.probability, move / moves)
        for _ in range(interval):
            augment.observe(torch.ones(batch))
    near(augment.probability, 1.0)


def test_the_defaults_are_the_papers() -> None:
    augment = AdaptiveAugmentation()
    assert (augment.target, augment.ramp_images, augment.interval) == (0.6, 500_000, 4)
    assert augment.probability == 0
    for _ in range(4):
        augment.observe(torch.ones(64))
    near(augment.probability, 256 / 500_000)


def test_images_are_augmented_with_the_probability_that_was_reached() -> None:
    images = torch.randn(40, 3, 8, 8)
    augment = AdaptiveAugmentation(("cutout",), ramp_images=100, interval=1)
    assert torch.equal(augment(images, seeded()), images)
    augment.observe(torch.ones(50))
    expected = diff_augment(images, ("cutout",), probability=0.5, generator=seeded())
    assert torch.equal(augment(images, seeded()), expected)
    assert not torch.equal(expected, images)
    augment.observe(torch.ones(50))
    expected = diff_augment(images, ("cutout",), generator=seeded())
    assert torch.equal(augment(images, seeded()), expected)
    assert not torch.equal(augment(images, seeded(1)), expected)


@pytest.mark.parametrize("probability", [0.0, 0.4, 1.0])
def test_a_fixed_probability_stays_and_the_overfitting_is_watched_all_the_same(probability: float) -> None:
    images, generator, reference = torch.randn(40, 3, 8, 8), seeded(), seeded()
    augment = AdaptiveAugmentation(probability=probability, ramp_images=None, interval=1)
    augment.observe(logits(9, 1))
    near(augment.probability, probability)
    near(augment.overfitting, 0.8)
    expected = diff_augment(images, probability=probability, generator=reference)
    assert torch.equal(augment(images, generator), expected)
    assert torch.equal(generator.get_state(), reference.get_state())  # at 1 there are no coins
    other = AdaptiveAugmentation(probability=0.9, ramp_images=None)
    other.load_state_dict(augment.state_dict())
    near(other.probability, 0.9)  # a setting of the run, not its state
    near(other.overfitting, 0.8)


def test_scores_that_are_no_numbers_say_nothing_and_no_scores_are_no_call() -> None:
    augment = AdaptiveAugmentation(ramp_images=100, interval=2)
    augment.observe(torch.zeros(0))
    augment.observe(torch.tensor([math.nan, 1.0, math.inf, -math.inf]))  # 1 of 4
    near(augment.probability, 0.0)
    augment.observe(torch.ones(4))
    near(augment.overfitting, 0.625)
    near(augment.probability, 0.08)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_scores_of_every_type_are_counted_in_float32_and_without_graph(dtype: torch.dtype) -> None:
    augment = AdaptiveAugmentation(ramp_images=10_000, interval=1)
    augment.observe(torch.ones(3001, dtype=dtype, requires_grad=True))  # bfloat16 cannot count so far
    near(augment.overfitting, 1.0)
    near(augment.probability, 0.3001)
    assert (augment.probability.dtype, augment.overfitting.dtype) == (torch.float32, torch.float32)
    assert not augment.probability.requires_grad


def test_the_host_never_looks_at_a_value_and_the_state_follows_the_scores() -> None:
    augment = AdaptiveAugmentation(interval=2)
    with torch.device("meta"):  # tensors without values: asking for one raises
        images, scores = torch.ones(4, 3, 8, 8), torch.ones(4)
    for _ in range(5):
        assert augment(images, seeded()).device.type == "meta"
        augment.observe(scores)
    assert augment.probability.device.type == "meta"
    augment.state_dict()


def train(augment: AdaptiveAugmentation, batches: range) -> list[Tensor]:
    """What a step sees: augmented images of each batch."""
    seen = []
    for batch in batches:
        generator = seeded(batch)
        images = torch.randn(7, 1, 8, 8, generator=generator)
        seen.append(augment(images, generator))
        augment.observe(torch.randn(7, generator=generator) + 0.6)
    return seen


@pytest.mark.parametrize("cut", [0, 1, 8, 10, 23])
def test_a_restored_state_goes_on_with_the_same_bits(cut: int) -> None:
    settings: dict[str, Any] = {"target": 0.4, "ramp_images": 150, "interval": 4}
    unbroken = AdaptiveAugmentation(**settings)
    train(unbroken, range(cut))
    kept, document = flatten(unbroken.state_dict())
    expected, end = train(unbroken, range(cut, 40)), unbroken.state_dict()
    restored = AdaptiveAugmentation(probability=0.9, **settings)
    restored.load_state_dict(unflatten(kept, json.loads(json.dumps(document, allow_nan=False))))
    again = train(restored, range(cut, 40))
    assert all(torch.equal(first, second) for first, second in zip(expected, again, strict=True))
    assert {key: float(value) for key, value in restored.state_dict().items()} == {
        key: float(value) for key, value in end.items()
    }
    assert 0 < float(end["probability"]) < 1


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"target": 1.0}, "`target` is 1.0"),
        ({"target": -1.5}, "`target` is -1.5"),
        ({"target": math.nan}, "`target` is nan"),
        ({"ramp_images": 0}, "`ramp_images` is 0"),
        ({"interval": 0}, "`interval` is 0"),
        ({"probability": 1.5}, "`probability` is 1.5"),
        ({"policy": ("colour",)}, r"`policy` is \('colour',\)"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        AdaptiveAugmentation(**settings)


def test_a_policy_that_is_one_string_is_refused() -> None:
    with pytest.raises(TypeError, match="`policy` is 'color'"):
        AdaptiveAugmentation("color")
