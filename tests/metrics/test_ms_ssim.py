"""Structural similarity against scikit-image, torchmetrics, NumPy loops and closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganblocks.errors import MetricError
from ganblocks.metrics.ms_ssim import MS_SSIM_WEIGHTS, ms_ssim, ms_ssim_diversity, ssim
from tolerances import for_dtype, named

EXACT64 = for_dtype(torch.float64)


def noise(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def pictures(*shape, seed=0):
    """Smooth images in [-1, 1], whose windows differ in mean, variance and covariance."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(*shape[:2], 6, 6, generator=generator, dtype=torch.float64) * 2 - 1
    return torch.nn.functional.interpolate(coarse, shape[2:], mode="bicubic", align_corners=True).clamp(-1, 1)


def looped_terms(a, b, window=11, sigma=1.5):
    """Whole similarity and contrast part of two [C, H, W] arrays in [0, 1], window by window."""
    side = min(window, *a.shape[1:])
    sigma = sigma * side / window
    taps = np.array([math.exp(-((i - (side - 1) / 2) ** 2) / (2 * sigma**2)) for i in range(side)])
    weights = np.outer(taps, taps) / np.outer(taps, taps).sum()
    whole, contrast = [], []
    for c, y, x in np.ndindex(len(a), a.shape[1] - side + 1, a.shape[2] - side + 1):
        one, two = (image[c, y : y + side, x : x + side] for image in (a, b))
        mean1, mean2 = (weights * one).sum(), (weights * two).sum()
        variances = (weights * (one - mean1) ** 2).sum() + (weights * (two - mean2) ** 2).sum()
        covariance = (weights * (one - mean1) * (two - mean2)).sum()
        contrast.append((2 * covariance + 0.0009) / (variances + 0.0009))
        whole.append(contrast[-1] * (2 * mean1 * mean2 + 0.0001) / (mean1**2 + mean2**2 + 0.0001))
    return np.mean(whole), np.mean(contrast)


def halved(image):
    H, W = image.shape[1] // 2, image.shape[2] // 2
    return image[:, : 2 * H, : 2 * W].reshape(-1, H, 2, W, 2).mean((2, 4))


def looped_ms_ssim(a, b, weights):
    result = 1.0
    for scale, weight in enumerate(weights):
        whole, contrast = looped_terms(a, b)
        result *= max(0.0, whole if scale == len(weights) - 1 else contrast) ** weight
        a, b = halved(a), halved(b)
    return result


@pytest.mark.parametrize(("H", "W"), [(11, 11), (24, 17), (90, 150)])
def test_one_scale_agrees_with_scikit_image(H, W):
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is the oracle of the single scale")
    a, b = noise(2, 3, H, W), noise(2, 3, H, W, seed=1)
    b[1] = (a[1].int() + torch.randint(-30, 31, (3, H, W), generator=torch.Generator().manual_seed(2))).clamp(0, 255)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    expected = [
        metrics.structural_similarity(x.numpy().astype(float), y.numpy().astype(float), channel_axis=0, **options)
        for x, y in zip(a, b, strict=True)
    ]
    torch.testing.assert_close(ssim(a, b), torch.tensor(expected, dtype=torch.float64), **EXACT64)
    assert expected[0] < 0.1 < 0.5 < expected[1]


@pytest.mark.parametrize("size", [(176, 176), (180, 230)])
def test_five_scales_agree_with_torchmetrics_and_scikit_image(size):
    functional = pytest.importorskip("torchmetrics.functional.image", reason="torchmetrics is the oracle")
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is the oracle of the last scale")
    a, b = pictures(2, 1, *size), pictures(2, 1, *size, seed=1)
    b = 0.7 * a + 0.3 * b
    x, y = (a + 1) / 2, (b + 1) / 2
    # torchmetrics averages the last scale over mirrored borders too, so that factor comes from scikit-image
    expected = functional.multiscale_structural_similarity_index_measure(
        x, y, data_range=1.0, betas=(*MS_SSIM_WEIGHTS[:4], 0.0), reduction="none", normalize="relu"
    )
    for _ in range(4):
        x, y = torch.nn.functional.avg_pool2d(x, 2), torch.nn.functional.avg_pool2d(y, 2)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    last = [
        metrics.structural_similarity(one.numpy(), two.numpy(), channel_axis=0, **options)
        for one, two in zip(x, y, strict=True)
    ]
    expected = expected * torch.tensor(last, dtype=torch.float64) ** MS_SSIM_WEIGHTS[4]
    found = ms_ssim(a, b)
    torch.testing.assert_close(found, expected, **named("float32_exponents"))
    assert found.min() > 0.1
    assert found.max() < 0.99
    whole = functional.multiscale_structural_similarity_index_measure(
        (a + 1) / 2, (b + 1) / 2, data_range=1.0, reduction="none", normalize="relu"
    )
    torch.testing.assert_close(found, whole, **named("ms_ssim_borders"))


@given(
    H=st.integers(2, 20),
    W=st.integers(2, 20),
    channels=st.integers(1, 2),
    scales=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_small_images_agree_with_loops(H, W, channels, scales, seed):
    a, b = pictures(1, channels, H, W, seed=seed), pictures(1, channels, H, W, seed=seed + 1)
    b = 0.8 * a + 0.2 * b
    x, y = ((image[0].numpy() + 1) / 2 for image in (a, b))
    assert ssim(a, b).item() == pytest.approx(looped_terms(x, y)[0], rel=EXACT64["rtol"], abs=EXACT64["atol"])
    fitting = MS_SSIM_WEIGHTS[: min(scales, int(math.log2(min(H, W))))]
    weights = [weight * sum(MS_SSIM_WEIGHTS[:scales]) / sum(fitting) for weight in fitting]
    expected = looped_ms_ssim(x, y, weights)
    found = ms_ssim(a, b, scales=scales)
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(expected, rel=EXACT64["rtol"], abs=EXACT64["atol"])


@pytest.mark.parametrize("size", [2, 3, 4, 8, 16, 32, 64, 177])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64, torch.bfloat16])
def test_an_image_is_wholly_like_itself_at_any_size(size, dtype):
    images = noise(3, 2, size, size) if dtype == torch.uint8 else pictures(3, 2, size, size).to(dtype)
    torch.testing.assert_close(ms_ssim(images, images), torch.ones(3, dtype=torch.float64), **named("exact"))
    torch.testing.assert_close(ssim(images, images), torch.ones(3, dtype=torch.float64), **named("exact"))


@pytest.mark.parametrize("size", [4, 8, 32, 64])
def test_a_negative_of_noise_is_wholly_unlike_and_never_nan(size):
    images = noise(8, 3, size, size)
    assert (ssim(images, 255 - images) < 0).all()
    torch.testing.assert_close(ms_ssim(images, 255 - images), torch.zeros(8, dtype=torch.float64), **named("exact"))


@pytest.mark.parametrize(("level", "other"), [(0, 255), (10, 200), (128, 128), (0, 0)])
def test_constant_images_compare_by_luminance_alone(level, other):
    a, b = (torch.full((1, 1, 32, 32), value, dtype=torch.uint8) for value in (level, other))
    x, y = level / 255, other / 255
    expected = (2 * x * y + 0.0001) / (x * x + y * y + 0.0001)
    assert ssim(a, b).item() == pytest.approx(expected, rel=EXACT64["rtol"])
    assert ms_ssim(a, b).item() == pytest.approx(expected ** MS_SSIM_WEIGHTS[4], rel=EXACT64["rtol"])


def test_order_batching_and_layout_do_not_matter():
    a, b = noise(20, 3, 70, 64), noise(20, 3, 70, 64, seed=1)
    b[::2] = a[::2] // 2
    for measure in (ssim, ms_ssim):
        found = measure(a, b)
        torch.testing.assert_close(measure(b, a), found, **EXACT64)
        torch.testing.assert_close(measure(a.contiguous(memory_format=torch.channels_last), b), found, **EXACT64)
        torch.testing.assert_close(
            torch.cat([measure(a[i : i + 1], b[i : i + 1]) for i in range(20)]), found, **EXACT64
        )
        torch.testing.assert_close(measure(a.flip(3), b.flip(3)), found, **EXACT64)
        torch.testing.assert_close(measure(a.mT, b.mT), found, **EXACT64)
        assert measure(a[:0], b[:0]).shape == (0,)


def test_bytes_stand_for_their_values_and_what_lies_outside_is_clamped():
    a, b = noise(2, 1, 32, 32), noise(2, 1, 32, 32, seed=1)
    floats = a.double() / 127.5 - 1
    torch.testing.assert_close(ssim(floats, b), ssim(a, b), **EXACT64)
    assert torch.equal(ssim(3 * floats, floats), ssim((3 * floats).clamp(-1, 1), floats))


def test_no_gradient_no_autocast_and_no_change_of_the_input():
    a, b = pictures(2, 1, 32, 32).float().requires_grad_(), pictures(2, 1, 32, 32, seed=1).float()
    expected, before = ms_ssim(a, b), a.detach().clone()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ms_ssim(a, b), expected)
    assert not expected.requires_grad
    assert torch.equal(a, before)


def test_the_window_and_its_width_count():
    a, b = noise(1, 1, 40, 40), noise(1, 1, 40, 40, seed=1) // 2
    x, y = a[0].numpy() / 255, b[0].numpy() / 255
    expected = looped_terms(x, y, window=8, sigma=0.9)[0]
    assert ssim(a, b, window=8, sigma=0.9).item() == pytest.approx(expected, rel=EXACT64["rtol"])
    assert ssim(a, b, window=2, sigma=1e-9).isfinite().all()  # even window, all weight between two pixels


def all_pairs_mean(images, groups):
    return [
        torch.cat([ms_ssim(images[i : i + 1], images[j : j + 1]) for i, j in itertools.combinations(group, 2)])
        for group in groups
    ]


def test_diversity_is_the_mean_over_pairs_of_different_images():
    images = pictures(6, 1, 16, 16)
    [values] = all_pairs_mean(images, [range(6)])
    score = ms_ssim_diversity(images, num_pairs=4000, seed=3)
    error = float(values.std()) / math.sqrt(4000)
    assert abs(score.value - float(values.mean())) < 3 * error
    # every pair is as likely as any other: the standard deviations agree too
    assert score.spread == pytest.approx(float(values.std(correction=0)), rel=named("ms_ssim_spread")["rtol"])
    assert score.details["standard_error"] == pytest.approx(score.spread / math.sqrt(4000))
    assert score.name == "ms_ssim"
    assert score.counts == {"fake": 6}
    assert score.settings["scales"] == 4
    assert score.settings["resolution"] == [16, 16]
    assert score.settings["same_class"] is False


def test_an_image_is_never_paired_with_itself():
    images = torch.stack([torch.zeros(1, 16, 16), torch.full((1, 16, 16), 255)]).byte()  # equal only to itself
    expected = float(ms_ssim(images[:1], images[1:]))
    score = ms_ssim_diversity(images, num_pairs=200)
    assert score.value == pytest.approx(expected, rel=EXACT64["rtol"])
    assert score.spread == pytest.approx(0, abs=EXACT64["atol"])


def test_diversity_finds_a_collapse():
    varied, collapsed = noise(20, 3, 32, 32), noise(1, 3, 32, 32).repeat(20, 1, 1, 1)
    scores = [ms_ssim_diversity(images, num_pairs=50) for images in (varied, collapsed)]
    assert scores[0] < scores[1]
    assert scores[1].value == 1


def test_with_labels_pairs_stay_in_their_class_and_classes_count_alike():
    images, labels = pictures(12, 1, 16, 16), torch.tensor([7, 0, 0, 7, 0, 0, -2, 0, 0, -2, 0, 0])
    images[3] = images[0]  # class 7 has collapsed
    groups = [[i for i in range(12) if labels[i] == label] for label in (-2, 0, 7)]
    means = [values.mean().item() for values in all_pairs_mean(images, groups)]
    score = ms_ssim_diversity(images, num_pairs=3000, labels=labels)
    spread = max(values.std(correction=0).item() for values in all_pairs_mean(images, groups))
    assert abs(score.value - sum(means) / 3) < 3 * spread / math.sqrt(3000)
    assert score.details["largest_class_mean"] == 1
    smallest = min(means)
    assert abs(score.details["smallest_class_mean"] - smallest) < 3 * spread / math.sqrt(1000) + EXACT64["atol"]
    assert score.settings["same_class"] is True
    assert score.fingerprint != ms_ssim_diversity(images, num_pairs=3000).fingerprint


def test_the_seed_alone_decides_and_the_global_state_is_left_alone():
    images = noise(10, 1, 8, 8)
    before = torch.get_rng_state()
    first = ms_ssim_diversity(images, num_pairs=20, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert ms_ssim_diversity(images, num_pairs=20, seed=1) == first
    assert ms_ssim_diversity(images, num_pairs=20, seed=2).value != first.value
    fewer = ms_ssim_diversity(images, num_pairs=20, seed=1, scales=1)
    assert fewer.settings["scales"] == 1
    assert fewer.fingerprint != first.fingerprint


GOOD = torch.zeros(2, 1, 8, 8)


@pytest.mark.parametrize(
    ("a", "b", "options", "match"),
    [
        (torch.zeros(1, 8, 8), torch.zeros(1, 8, 8), {}, "`a` has shape"),
        (GOOD, torch.zeros(2, 1, 8, 9), {}, "they must be equal"),
        (GOOD, torch.zeros(1, 1, 8, 8), {}, "they must be equal"),
        (torch.zeros(2, 1, 1, 8), torch.zeros(2, 1, 1, 8), {}, "2 pixels"),
        (torch.zeros(2, 0, 8, 8), torch.zeros(2, 0, 8, 8), {}, "1 channel"),
        (GOOD, GOOD, {"window": 0}, "window"),
        (GOOD, GOOD, {"sigma": 0.0}, "sigma"),
        (GOOD, GOOD, {"sigma": math.nan}, "sigma"),
    ],
)
def test_wrong_pairs_are_named(a, b, options, match):
    for measure in (ssim, ms_ssim):
        with pytest.raises(ValueError, match=match):
            measure(a, b, **options)


@pytest.mark.parametrize("scales", [0, 6])
def test_wrong_scales_are_named(scales):
    with pytest.raises(ValueError, match="scales"):
        ms_ssim(GOOD, GOOD, scales=scales)


@pytest.mark.parametrize(
    ("images", "options", "match"),
    [
        (GOOD[:1], {}, "at least 2 images"),
        (GOOD, {"num_pairs": 1}, "num_pairs"),
        (GOOD, {"labels": torch.tensor([0, 1])}, r"\[0, 1\].*2 images a class"),
        (GOOD.repeat(3, 1, 1, 1), {"labels": torch.tensor([0, 0, 1, 1, 2, 2]), "num_pairs": 2}, "each of 3 classes"),
        (GOOD, {"labels": torch.tensor([0, 0, 0])}, "labels.shape"),
        (GOOD, {"labels": torch.zeros(2, 1, dtype=torch.long)}, "`labels`"),
    ],
)
def test_wrong_sets_are_named(images, options, match):
    with pytest.raises(ValueError, match=match):
        ms_ssim_diversity(images, **options)


def test_wrong_types_and_values_are_named():
    with pytest.raises(TypeError, match=r"b\.dtype"):
        ssim(GOOD, GOOD.long())
    with pytest.raises(TypeError, match=r"labels\.dtype"):
        ms_ssim_diversity(GOOD, labels=torch.zeros(2))
    bad = GOOD.clone()
    bad[0, 0, 0, :2] = torch.tensor([math.nan, math.inf])
    with pytest.raises(MetricError, match="`b` holds 2 of 128"):
        ms_ssim(GOOD, bad)
    with pytest.raises(MetricError, match="`images` holds 2 of 128"):
        ms_ssim_diversity(bad)
