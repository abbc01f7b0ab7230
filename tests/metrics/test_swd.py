"""Sliced Wasserstein distance against closed forms, SciPy and NumPy; the pyramid against SciPy's filters."""

import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganblocks.errors import MetricError
from ganblocks.metrics.swd import (
    laplacian_pyramid,
    patch_descriptors,
    progan_swd,
    reconstruct,
    sliced_wasserstein_distance,
)
from tolerances import for_dtype, named

EXACT64 = for_dtype(torch.float64)


def close(value, expected, **tolerance):
    value, expected = (torch.tensor(float(number), dtype=torch.float64) for number in (value, expected))
    torch.testing.assert_close(value, expected, **tolerance)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("dimension", [1, 2, 16, 147])
def test_a_shift_is_measured_by_the_closed_form(dimension):
    a, shift = normal(20, dimension), normal(dimension, seed=1)
    directions = 2000
    found = sliced_wasserstein_distance(a, a + shift, num_directions=directions, seed=3)
    # E|<u, c>| for u uniform on the sphere; E<u, c>^2 = |c|^2 / d gives the standard error
    length = float(shift.norm())
    log_ratio = math.lgamma(dimension / 2) - math.lgamma((dimension + 1) / 2)
    expected = length * math.exp(log_ratio) / math.sqrt(math.pi)
    error = math.sqrt(max(0.0, length**2 / dimension - expected**2) / directions)
    torch.testing.assert_close(found, expected, rtol=EXACT64["rtol"], atol=3 * error + EXACT64["atol"])
    squares = sliced_wasserstein_distance(a, a + shift, num_directions=directions, seed=3, power=2)
    square_error = math.sqrt(2 / directions) * length**2 / dimension
    torch.testing.assert_close(
        squares**2, length**2 / dimension, rtol=EXACT64["rtol"], atol=3 * square_error + EXACT64["atol"]
    )


def test_a_scale_is_measured_by_the_closed_form():
    a = normal(30000, 4, dtype=torch.float32)
    found = sliced_wasserstein_distance(a, 1.5 * a, num_directions=16)
    close(found, 0.5 * math.sqrt(2 / math.pi), **named("swd_scale"))
    close(sliced_wasserstein_distance(a, 1.5 * a, num_directions=16, power=2), 0.5, **named("swd_scale"))


@given(count_a=st.integers(1, 40), count_b=st.integers(1, 40), ties=st.booleans(), seed=st.integers(0, 1000))
def test_one_dimension_agrees_with_scipy_for_any_counts(count_a, count_b, ties, seed):
    a, b = normal(count_a, seed=seed), normal(count_b, seed=seed + 1) + 0.3
    if ties:
        a, b = a.round(), b.round()
    expected = scipy.stats.wasserstein_distance(a.numpy(), b.numpy())
    close(sliced_wasserstein_distance(a, b, num_directions=3), expected, **EXACT64)
    # a least common multiple of copies turns unequal counts into equal ones
    copies = math.lcm(count_a, count_b)
    spread = np.sort(a.numpy()).repeat(copies // count_a) - np.sort(b.numpy()).repeat(copies // count_b)
    root = math.sqrt(float((spread**2).mean()))
    close(sliced_wasserstein_distance(a, b, num_directions=3, power=2), root, **EXACT64)


@pytest.mark.parametrize("count_b", [30, 47])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_many_dimensions_agree_with_a_loop_over_directions(count_b, dtype):
    a, b = normal(30, 3, 2), normal(count_b, 3, 2, seed=1) * 1.3 + 0.2
    drawn = torch.randn(20, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64).numpy()
    distances = []
    for direction in drawn:
        unit = direction / np.sqrt((direction**2).sum())
        distances.append(scipy.stats.wasserstein_distance(a.flatten(1).numpy() @ unit, b.flatten(1).numpy() @ unit))
    found = sliced_wasserstein_distance(a.to(dtype), b.to(dtype), num_directions=20, seed=5)
    close(found, float(np.mean(distances)), **for_dtype(dtype))


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("count_b", [20, 31])
def test_it_is_a_distance_between_sets(power, count_b):
    a, b, c = normal(20, 5), normal(count_b, 5, seed=1) + 0.5, normal(25, 5, seed=2) * 2

    def distance(first, second):
        return sliced_wasserstein_distance(first, second, num_directions=50, power=power)

    assert distance(a, a) == 0
    close(distance(a, a[torch.randperm(20)]), 0.0, **EXACT64)
    close(distance(a, b), distance(b, a), **EXACT64)
    close(distance(a, b), distance(a[torch.randperm(20)], b[torch.randperm(count_b)]), **EXACT64)
    close(distance(a, b), distance(torch.cat([a, a]), b), **EXACT64)  # only the distribution counts
    assert 0 < distance(a, c) <= distance(a, b) + distance(b, c)
    close(distance(3 * a + 1, 3 * b + 1), 3 * distance(a, b), **EXACT64)


def test_the_seed_alone_decides_and_the_global_state_is_left_alone():
    a, b = normal(20, 5), normal(20, 5, seed=1)
    before = torch.get_rng_state()
    first = sliced_wasserstein_distance(a, b, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert sliced_wasserstein_distance(a, b, seed=1) == first
    assert sliced_wasserstein_distance(a, b, seed=2) != first
    assert isinstance(first, float)


@pytest.mark.parametrize("chunk", [1, 7, 512, 9999])
def test_the_chunk_changes_memory_alone(chunk):
    a, b = normal(20, 5), normal(33, 5, seed=1)
    close(sliced_wasserstein_distance(a, b, chunk=chunk), sliced_wasserstein_distance(a, b), **EXACT64)


def test_low_precision_bytes_and_autocast_compute_in_float32():
    a, b = normal(64, 8).bfloat16(), normal(64, 8, seed=1).bfloat16()
    expected = sliced_wasserstein_distance(a.double(), b.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        close(sliced_wasserstein_distance(a, b), expected, **for_dtype(torch.float32))
    counts = torch.randint(0, 256, (9, 4), dtype=torch.uint8)
    expected = sliced_wasserstein_distance(counts.double(), counts.double() + 300)
    close(sliced_wasserstein_distance(counts, counts.long() + 300), expected, **for_dtype(torch.float32))


@pytest.mark.parametrize(
    ("a", "b", "options", "match"),
    [
        (torch.zeros(0, 3), torch.zeros(2, 3), {}, "`a.shape`"),
        (torch.zeros(2, 3), torch.zeros(0, 3), {}, "`b.shape`"),
        (torch.zeros(2, 0), torch.zeros(2, 0), {}, "`a.shape`"),
        (torch.tensor(1.0), torch.zeros(2), {}, "`a`"),
        (torch.zeros(2, 3), torch.zeros(2, 4), {}, "samples of 3 values"),
        (torch.zeros(2, 3), torch.zeros(2, 3), {"num_directions": 0}, "num_directions"),
        (torch.zeros(2, 3), torch.zeros(2, 3), {"power": 3}, "power"),
        (torch.zeros(2, 3), torch.zeros(2, 3), {"chunk": 0}, "chunk"),
    ],
)
def test_wrong_values_are_named(a, b, options, match):
    with pytest.raises(ValueError, match=match):
        sliced_wasserstein_distance(a, b, **options)


@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64])
def test_wrong_types_are_named(dtype):
    with pytest.raises(TypeError, match=r"b\.dtype"):
        sliced_wasserstein_distance(torch.zeros(2, 3), torch.zeros(2, 3, dtype=dtype))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_an_error(bad):
    with pytest.raises(MetricError, match="`b` holds 1 of 6"):
        sliced_wasserstein_distance(torch.zeros(2, 3), torch.tensor([[0, bad, 0], [0, 0, 0]]))
    with pytest.raises(MetricError, match="too large"):
        sliced_wasserstein_distance(torch.full((2, 3), 3e38), torch.full((2, 3), -3e38))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (33, 47), (16, 16), (3, 40), (128, 32)])
def test_a_pyramid_adds_up_to_its_images(height, width, dtype):
    images = normal(2, 3, height, width, dtype=dtype)
    pyramid = laplacian_pyramid(images, 3 if height == 3 else 8)
    assert min(pyramid[-1].shape[2:]) < 16 or height == 16
    torch.testing.assert_close(reconstruct(pyramid), images, **for_dtype(dtype))


def test_each_level_is_what_scipy_filters_give():
    image = normal(1, 1, 32, 64)[0, 0].numpy()
    kernel = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256
    half = scipy.ndimage.convolve(image, kernel, mode="mirror")[::2, ::2]
    sparse = np.zeros_like(image)
    sparse[::2, ::2] = half
    detail = image - scipy.ndimage.convolve(sparse, 4 * kernel, mode="mirror")
    pyramid = laplacian_pyramid(torch.from_numpy(image)[None, None])
    assert [level.shape[2:] for level in pyramid] == [(32, 64), (16, 32)]
    torch.testing.assert_close(pyramid[0][0, 0], torch.from_numpy(detail), **EXACT64)
    torch.testing.assert_close(pyramid[1][0, 0], torch.from_numpy(half.copy()), **EXACT64)


def test_a_constant_image_has_no_detail():
    pyramid = laplacian_pyramid(torch.full((1, 3, 64, 64), 0.7, dtype=torch.float64))
    assert len(pyramid) == 3
    torch.testing.assert_close(pyramid[0], torch.zeros_like(pyramid[0]), **EXACT64)
    torch.testing.assert_close(pyramid[2], torch.full_like(pyramid[2], 0.7), **EXACT64)


def test_bytes_stand_for_their_values_and_low_precision_for_float32():
    levels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    for found, expected in zip(laplacian_pyramid(levels), laplacian_pyramid(levels.double() / 127.5 - 1), strict=True):
        torch.testing.assert_close(found.double(), expected, **for_dtype(torch.float32))
    assert laplacian_pyramid(torch.zeros(1, 1, 16, 16, dtype=torch.bfloat16))[0].dtype == torch.float32


def test_patches_are_windows_of_their_image_and_standardised_by_channel():
    level = normal(3, 2, 9, 12)
    found = patch_descriptors(level, count_per_image=50, patch_size=7, seed=1).view(3, 50, 2, 7, 7)
    windows = np.lib.stride_tricks.sliding_window_view(level.numpy(), (7, 7), axis=(2, 3))
    channels = found.permute(2, 0, 1, 3, 4).flatten(1)
    torch.testing.assert_close(channels.mean(1), torch.zeros(2, dtype=torch.float64), **EXACT64)
    torch.testing.assert_close(channels.std(1, correction=0), torch.ones(2, dtype=torch.float64), **EXACT64)
    seen, least = set(), 1 - named("swd_same_patch")["atol"]
    for image in range(3):
        for patch in found[image].numpy():
            # a patch is some window, up to one offset and one factor for each channel: correlation 1
            candidates = windows[image].transpose(1, 2, 0, 3, 4).reshape(-1, 2, 49)
            matches = [
                all(np.corrcoef(candidate[c], patch[c].ravel())[0, 1] > least for c in range(2))
                for candidate in candidates
            ]
            assert sum(matches) == 1
            seen.add(matches.index(True))
    assert seen == set(range(3 * 6))  # every place of the 3 x 6 possible ones occurs


def test_places_depend_on_the_seed_alone():
    level = normal(2, 1, 16, 16)
    first = patch_descriptors(level, seed=1)
    assert first.shape == (256, 49)
    assert torch.equal(first, patch_descriptors(level, seed=1))
    assert not torch.equal(first, patch_descriptors(level, seed=2))


def test_contrast_and_brightness_do_not_count():
    images = 0.3 * torch.tanh(normal(8, 3, 64, 64, dtype=torch.float32))
    changed = images * torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1) + torch.tensor([0.2, -0.3, 0.1]).view(3, 1, 1)
    scores = progan_swd(images, changed, num_directions=64)
    assert list(scores) == [64, 32, 16]
    for score in scores.values():
        close(score / 1000, 0.0, **named("swd_invariance"))


def test_only_the_resolution_that_differs_scores():
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(16, 1, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, 64, mode="bicubic", antialias=True)
    rough = smooth + 0.2 * torch.randn(16, 1, 64, 64, generator=generator).sign()
    scores = progan_swd(smooth, rough, num_directions=64)
    assert scores[64] > 10 * scores[16]
    assert progan_swd(smooth, smooth, num_directions=64) == {64: 0.0, 32: 0.0, 16: 0.0}


def test_a_level_is_the_plain_distance_of_its_descriptors():
    real, fake = normal(6, 3, 32, 32), normal(4, 3, 32, 32, seed=1).abs()
    scores = progan_swd(real, fake, num_directions=32, patches_per_image=20, patch_size=5, seed=9)
    for level, (size, score) in enumerate(scores.items()):
        descriptors = [
            patch_descriptors(laplacian_pyramid(images)[level], count_per_image=20, patch_size=5, seed=9)
            for images in (real, fake)
        ]
        assert size == [32, 16][level]
        close(score, 1000 * sliced_wasserstein_distance(*descriptors, num_directions=32, seed=9), **EXACT64)


@given(cuts=st.lists(st.integers(0, 6), max_size=3))
def test_the_split_into_batches_does_not_matter(cuts):
    real, fake = normal(6, 1, 32, 32), normal(6, 1, 32, 32, seed=1).exp()
    edges = [0, *sorted(cuts), 6]
    batches = (fake[start:end] for start, end in pairwise(edges))
    options = {"num_directions": 16, "patches_per_image": 8}
    found, expected = progan_swd(iter([real]), batches, **options), progan_swd(real, fake, **options)
    for size, score in expected.items():
        close(found[size], score, **EXACT64)


def test_a_generator_of_one_color_is_far_away_and_finite():
    images = 0.5 * normal(4, 3, 32, 32, dtype=torch.float32)
    scores = progan_swd(images, torch.full_like(images, 0.3), num_directions=16)
    assert all(100 < score < 1000 for score in scores.values())
    flat = progan_swd(torch.full_like(images, -0.6), torch.full_like(images, 0.3), num_directions=16)
    assert flat == {32: 0.0, 16: 0.0}
    assert not patch_descriptors(0.3 + 1e-8 * normal(4, 3, 16, 16)).any()  # rounding noise is not stretched to size 1


@pytest.mark.parametrize(
    ("real", "fake", "options", "match"),
    [
        (torch.zeros(2, 3, 15, 32), torch.zeros(2, 3, 15, 32), {}, "at least 16 pixels"),
        (torch.zeros(2, 3, 32, 32), torch.zeros(2, 3, 16, 16), {}, "must be equal"),
        (torch.zeros(2, 3, 16, 16), torch.zeros(2, 1, 16, 16), {}, "must be equal"),
        (torch.zeros(2, 3, 16, 16), [], {}, "`fake_images`"),
        (torch.zeros(0, 3, 16, 16), torch.zeros(2, 3, 16, 16), {}, "`real_images`"),
        (torch.zeros(2, 3, 16), torch.zeros(2, 3, 16), {}, "`real_images`"),
        (torch.zeros(2, 3, 16, 16), torch.zeros(2, 3, 16, 16), {"patch_size": 17}, "patch_size"),
        (torch.zeros(2, 3, 16, 16), torch.zeros(2, 3, 16, 16), {"patch_size": 0}, "patch_size"),
        (torch.zeros(2, 3, 16, 16), torch.zeros(2, 3, 16, 16), {"patches_per_image": 0}, "patches per image"),
        (torch.zeros(2, 3, 16, 16), torch.zeros(2, 3, 16, 16), {"smallest": 2}, "smallest"),
    ],
)
def test_wrong_images_are_named(real, fake, options, match):
    with pytest.raises(ValueError, match=match):
        progan_swd(real, fake, **options)


@pytest.mark.parametrize(
    ("real", "fake"),
    [
        ([torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 32, 32)], torch.zeros(2, 3, 64, 64)),
        (torch.zeros(2, 3, 32, 64), torch.zeros(2, 3, 32, 32)),
        (torch.zeros(2, 3, 32, 32), torch.zeros(2, 1, 32, 32)),
    ],
)
def test_images_of_two_sizes_do_not_compare(real, fake):
    with pytest.raises(ValueError, match=r"all of one size|must be equal"):
        progan_swd(real, fake)


def test_wrong_pyramids_and_levels_are_named():
    with pytest.raises(ValueError, match="at least 3 pixels"):
        laplacian_pyramid(torch.zeros(1, 1, 2, 8))
    with pytest.raises(ValueError, match="at least one level"):
        reconstruct([])
    with pytest.raises(ValueError, match="at least one image"):
        patch_descriptors(torch.zeros(0, 3, 8, 8))
    with pytest.raises(TypeError, match=r"level\.dtype"):
        patch_descriptors(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(TypeError, match=r"images\.dtype"):
        progan_swd(torch.zeros(2, 3, 16, 16, dtype=torch.int64), torch.zeros(2, 3, 16, 16))


def test_images_that_are_not_finite_are_an_error():
    images = torch.zeros(2, 3, 16, 16)
    with pytest.raises(MetricError, match="`fake_images` holds 1 of 1536"):
        progan_swd(images, images.index_put((torch.tensor(0),) * 4, torch.tensor(math.nan)))
