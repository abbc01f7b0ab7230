"""Noise: its distribution, its limits, and that it is a pure function of images and generator."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from torch import Tensor

from ganblocks.functional.corruption import gaussian_noise, masking_noise, salt_and_pepper
from strategies import shapes, tensors
from tolerances import for_dtype, named

KINDS: dict[str, Callable[..., Tensor]] = {
    "gaussian": lambda images, **options: gaussian_noise(images, 0.3, **options),
    "masking": lambda images, **options: masking_noise(images, 0.4, **options),
    "salt and pepper": lambda images, **options: salt_and_pepper(images, 0.4, **options),
}
each_kind = pytest.mark.parametrize("corrupt", KINDS.values(), ids=KINDS.keys())


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@each_kind
@given(images=tensors(shape=shapes(max_rank=4)))
def test_shape_dtype_and_input_stay_at_any_shape_dtype_and_layout(
    corrupt: Callable[..., Tensor], images: Tensor
) -> None:
    before = images.clone()
    noisy = corrupt(images, generator=seeded())
    assert (noisy.shape, noisy.dtype, noisy.device) == (images.shape, images.dtype, images.device)
    assert torch.equal(images, before)


@each_kind
def test_the_same_generator_gives_the_same_noise_and_the_global_state_is_not_touched(
    corrupt: Callable[..., Tensor],
) -> None:
    images = torch.rand(4, 1, 5, 5)
    state = torch.get_rng_state()
    first, again, other = (corrupt(images, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0] - images[0], first[1] - images[1])  # each image has its own
    torch.manual_seed(3)
    drawn = corrupt(images)
    torch.manual_seed(3)
    assert torch.equal(corrupt(images), drawn)
    assert not torch.equal(corrupt(images), drawn)


@each_kind
def test_memory_layout_does_not_change_the_noise(corrupt: Callable[..., Tensor]) -> None:
    images = torch.rand(3, 2, 4, 4)
    last = images.to(memory_format=torch.channels_last)
    assert torch.equal(corrupt(images, generator=seeded()), corrupt(last, generator=seeded()))


@each_kind
def test_gradient_is_one_where_the_image_comes_through_and_zero_elsewhere(corrupt: Callable[..., Tensor]) -> None:
    images = torch.rand(200, dtype=torch.float64, requires_grad=True)
    noisy = corrupt(images, generator=seeded())
    (gradient,) = torch.autograd.grad(noisy.sum(), images)
    kept = (noisy > 0) & (noisy < 1)
    assert torch.equal(gradient, kept.double())
    assert 0 < kept.sum() < 200
    points = images.detach()[kept].requires_grad_()

    def inside(images: Tensor) -> Tensor:
        return corrupt(images, generator=seeded()) * images

    assert torch.autograd.gradcheck(inside, (points[:8],))
    assert torch.autograd.gradgradcheck(inside, (points[:8],))


def test_gaussian_noise_has_the_moments_of_a_normal_distribution() -> None:
    noise = gaussian_noise(torch.full((20_000,), 0.5), 0.25, clip=None, generator=seeded()) - 0.5
    np.testing.assert_allclose(noise.std().item(), 0.25, **named("std_of_20000"))
    np.testing.assert_allclose(noise.mean().item() / 0.25, 0.0, **named("sample_mean"))
    shares = [(noise < level).double().mean().item() for level in (-0.25, 0.0, 0.5)]
    np.testing.assert_allclose(shares, norm.cdf([-1.0, 0.0, 2.0]), **named("sample_mean"))


def test_gaussian_noise_is_clamped_and_where_not_it_is_the_image_plus_the_draw() -> None:
    images = torch.rand(1000, dtype=torch.float64)
    draw = torch.randn(1000, generator=seeded(), dtype=torch.float64)
    free = gaussian_noise(images, 0.7, clip=None, generator=seeded())
    np.testing.assert_allclose(free.numpy(), images.numpy() + 0.7 * draw.numpy(), **for_dtype(torch.float64))
    assert torch.equal(gaussian_noise(images, 0.7, generator=seeded()), free.clamp(0, 1))
    assert torch.equal(gaussian_noise(images, 0.7, clip=(0.2, 0.3), generator=seeded()), free.clamp(0.2, 0.3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_images_get_the_noise_of_float32(dtype: torch.dtype) -> None:
    images = torch.rand(500).to(dtype)
    wide = gaussian_noise(images.float(), generator=seeded())
    torch.testing.assert_close(gaussian_noise(images, generator=seeded()), wide.to(dtype), **for_dtype(dtype))


@given(p=st.floats(0, 1), seed=st.integers(0, 99))
def test_masking_keeps_a_value_or_makes_it_zero_at_the_rate_it_says(p: float, seed: int) -> None:
    images = torch.rand(4000, generator=seeded(7)) + 0.5
    masked = masking_noise(images, p, generator=seeded(seed))
    lost = masked == 0
    assert torch.equal(torch.where(lost, images, masked), images)
    np.testing.assert_allclose(lost.double().mean().item(), p, **named("random_moments"))


@given(p=st.floats(0, 1), seed=st.integers(0, 99))
def test_salt_and_pepper_are_equally_common_at_the_rate_they_say(p: float, seed: int) -> None:
    images = torch.rand(4000, generator=seeded(7)) / 2 + 0.25
    spoilt = salt_and_pepper(images, p, generator=seeded(seed))
    pepper, salt = spoilt == 0, spoilt == 1
    assert torch.equal(torch.where(pepper | salt, images, spoilt), images)
    for level in (pepper, salt):
        np.testing.assert_allclose(level.double().mean().item(), p / 2, **named("random_moments"))


def test_levels_of_salt_and_pepper_may_be_those_of_another_range() -> None:
    spoilt = salt_and_pepper(torch.zeros(500), 1.0, levels=(-1.0, 3.0), generator=seeded())
    assert set(spoilt.tolist()) == {-1.0, 3.0}


def test_nothing_and_everything_are_exact() -> None:
    images = torch.rand(2000)
    for corrupt in (masking_noise, salt_and_pepper):
        assert torch.equal(corrupt(images, 0.0, generator=seeded()), images)
    assert torch.equal(gaussian_noise(images, 0.0, generator=seeded()), images)
    assert not masking_noise(images, 1.0, generator=seeded()).any()
    assert set(salt_and_pepper(images, 1.0, generator=seeded()).tolist()) == {0.0, 1.0}


def test_a_value_that_is_no_number_can_be_masked() -> None:
    assert torch.equal(masking_noise(torch.full((9,), math.nan), 1.0), torch.zeros(9))


@each_kind
def test_bytes_are_refused(corrupt: Callable[..., Tensor]) -> None:
    with pytest.raises(TypeError, match=r"`images` is torch.uint8, but must be a floating-point tensor"):
        corrupt(torch.zeros(3, dtype=torch.uint8))


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_numbers_out_of_range_are_named(value: float) -> None:
    with pytest.raises(ValueError, match="`std` is"):
        gaussian_noise(torch.zeros(3), value)
    for corrupt in (masking_noise, salt_and_pepper):
        with pytest.raises(ValueError, match="`p` is"):
            corrupt(torch.zeros(3), value)


def test_reversed_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`clip` is \(1, 0\)"):
        gaussian_noise(torch.zeros(3), clip=(1, 0))
