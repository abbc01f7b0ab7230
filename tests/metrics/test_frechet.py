"""The Frechet distance against closed forms, NumPy's singular values, simulation, torchmetrics and torch-fidelity."""

import math
import warnings

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ganblocks.errors import FingerprintMismatchError, MetricError, SmallSampleWarning
from ganblocks.metrics.frechet import (
    expected_bias,
    frechet_distance,
    frechet_distance_from_features,
    frechet_distance_from_moments,
)
from ganblocks.metrics.statistics import RunningStatistics, Statistics
from oracles import to_array
from tolerances import for_dtype, named

EXACT64 = for_dtype(torch.float64)


def close(value, expected, **tolerance):
    value, expected = (torch.tensor(float(number), dtype=torch.float64) for number in (value, expected))
    torch.testing.assert_close(value, expected, **tolerance)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def rotation(size, seed=0):
    return torch.linalg.qr(normal(size, size, seed=seed)).Q


def gathered(features, **options):
    return RunningStatistics(features.shape[1]).update(features).compute(**options)


def zeros(size):
    return torch.zeros(size, dtype=torch.float64)


def eye(size):
    return torch.eye(size, dtype=torch.float64)


def covariance(size, seed):
    """Well-conditioned, with nothing in common with another seed's."""
    return gathered(normal(4 * size, size, seed=seed) @ rotation(size, seed + 1)).cov


def plain(mean1, cov1, mean2, cov2):
    """The formula with SciPy's general matrix root."""
    root = scipy.linalg.sqrtm(to_array(cov1) @ to_array(cov2))
    difference = to_array(mean1) - to_array(mean2)
    return float(difference @ difference + np.trace(to_array(cov1) + to_array(cov2) - 2 * root.real))


def nuclear(real, fake, ddof=1):
    """The distance by NumPy, through the singular values of the product of the centred rows."""
    real, fake = to_array(real), to_array(fake)
    centred, other = real - real.mean(0), fake - fake.mean(0)
    n, m = len(real) - ddof, len(fake) - ddof
    root = np.linalg.svd(centred @ other.T, compute_uv=False).sum() / math.sqrt(n * m)
    difference = real.mean(0) - fake.mean(0)
    return difference @ difference + (centred**2).sum() / n + (other**2).sum() / m - 2 * root


def test_equal_covariances_leave_the_means_alone_at_the_size_of_inception():
    size = 2048
    found = frechet_distance_from_moments(zeros(size), eye(size), zeros(size) + 1, eye(size))
    close(found, size, **named("frechet_2048"))


def test_covariances_that_commute_leave_the_differences_of_deviations():
    size = 512
    q = rotation(size)
    first, second = normal(size, seed=1).abs() + 0.1, normal(size, seed=2).abs() + 0.1
    covs = [(q * deviations**2) @ q.T for deviations in (first, second)]
    found = frechet_distance_from_moments(zeros(size), covs[0], zeros(size), covs[1])
    close(found, (first - second).square().sum(), **named("frechet_closed_form"))


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.5), (0.0, 2.0), (3.0, 0.0), (0.0, 0.0), (1e-120, 2e-120), (1e150, 3e150)])
def test_a_scale_is_measured_by_the_closed_form_even_where_products_would_overflow(a, b):
    mean = normal(16) * max(a, b)
    found = frechet_distance_from_moments(mean, a * a * eye(16), zeros(16), b * b * eye(16))
    close(found, mean.square().sum() + 16 * (a - b) ** 2, **named("frechet_closed_form"))


def test_two_by_two_covariances_that_do_not_commute_have_a_closed_form():
    first = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    second = torch.tensor([[1.0, -0.7], [-0.7, 3.0]], dtype=torch.float64)
    trace = math.sqrt(float((first @ second).trace()) + 2 * math.sqrt((2 - 0.25) * (3 - 0.49)))
    found = frechet_distance_from_moments(zeros(2), first, zeros(2), second)
    close(found, 3 + 4 - 2 * trace, **named("frechet_closed_form"))


def test_fewer_rows_than_dimensions_are_measured_by_the_nuclear_norm():
    real, fake = normal(100, 512), 1.5 * normal(80, 512, seed=1) + 0.1
    expected = nuclear(real, fake)
    close(frechet_distance_from_features(real, fake), expected, **named("frechet_closed_form"))
    a, b = gathered(real), gathered(fake)
    with pytest.warns(SmallSampleWarning):
        close(frechet_distance(a, b), expected, **EXACT64)
    with pytest.warns(SmallSampleWarning):
        close(frechet_distance(b, a), expected, **EXACT64)
    from_moments = frechet_distance_from_moments(a.mean, a.cov, b.mean, b.cov)
    close(from_moments, expected, **named("frechet_singular"))


@pytest.mark.parametrize("count", [2, 20, 40, 41, 300])
def test_a_set_is_no_distance_from_itself_with_few_rows_and_with_many(count):
    features = normal(count, 40) + 1
    statistics = gathered(features)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SmallSampleWarning)
        through_statistics = frechet_distance(statistics, statistics).value
    close(frechet_distance_from_features(features, features), 0, **named("frechet_self"))
    close(through_statistics, 0, **named("frechet_self"))
    moments = (statistics.mean, statistics.cov)
    close(frechet_distance_from_moments(*moments, *moments), 0, **named("frechet_singular"))


def test_rounding_never_makes_the_distance_negative():
    for seed in range(20):
        features = normal(50, 5, seed=seed) * 1000
        assert frechet_distance_from_features(features, features.flip(0)) >= 0


@pytest.mark.parametrize("count", [500, 1000, 4000])
def test_two_samples_of_one_law_are_as_far_apart_as_expected(count):
    size, draws = 32, 20
    distances = [
        frechet_distance_from_features(normal(count, size, seed=2 * i), normal(count, size, seed=2 * i + 1))
        for i in range(draws)
    ]
    expected = (2 * size + size * (size + 1) / 2) / count
    close(expected_bias(torch.ones(size), count, count), expected, **EXACT64)
    close(np.mean(distances), expected, **named("frechet_bias"))


def test_the_expected_bias_holds_for_other_laws_and_unequal_counts():
    spectrum = 5 * 0.8 ** torch.arange(6, dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    distances = []
    for _ in range(200):
        samples = [torch.randn(n, 6, generator=generator, dtype=torch.float64) * spectrum.sqrt() for n in (300, 700)]
        distances.append(frechet_distance_from_features(*samples))
    close(np.mean(distances), expected_bias(spectrum, 300, 700), **named("frechet_bias"))


def test_the_expected_bias_is_that_sum():
    spectrum = [3.0, 1.0, 0.5, 0.0]
    total = sum(spectrum)
    for i, a in enumerate(spectrum):
        for j, b in enumerate(spectrum):
            total += 0.5 * a * b * (1 + (i == j)) / (a + b) if a + b else 0
    close(expected_bias(torch.tensor(spectrum), 10, 40), (1 / 10 + 1 / 40) * total, **EXACT64)
    q = rotation(4)
    cov = (q * torch.tensor(spectrum, dtype=torch.float64)) @ q.T
    close(expected_bias(Statistics(zeros(4), cov, 99), 10, 40), (1 / 10 + 1 / 40) * total, **EXACT64)


@given(
    sizes=st.tuples(st.integers(2, 30), st.integers(2, 30), st.integers(1, 12)),
    ddof=st.integers(0, 1),
    dtype=st.sampled_from([torch.float64, torch.float32]),
)
def test_all_routes_agree_at_any_size(sizes, ddof, dtype):
    n, m, size = sizes
    real, fake = normal(n, size, dtype=dtype), 2 * normal(m, size, seed=1, dtype=dtype) - 0.3
    expected = nuclear(real, fake, ddof)
    close(frechet_distance_from_features(real, fake, ddof=ddof), expected, **EXACT64)
    a, b = gathered(real, ddof=ddof), gathered(fake, ddof=ddof)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SmallSampleWarning)
        close(frechet_distance(a, b), expected, **EXACT64)
        close(frechet_distance(b, a), expected, **EXACT64)
    close(frechet_distance_from_moments(a.mean, a.cov, b.mean, b.cov), expected, **named("frechet_singular"))


@pytest.mark.parametrize("singular", [0, 1])
def test_one_singular_covariance_is_no_obstacle(singular):
    size = 12
    covs = [covariance(size, 1), covariance(size, 2)]
    covs[singular] = gathered(normal(6, size, seed=3)).cov
    expected = plain(zeros(size), covs[0], zeros(size) + 1, covs[1])
    found = frechet_distance_from_moments(zeros(size), covs[0], zeros(size) + 1, covs[1])
    close(found, expected, **named("frechet_singular"))


def test_a_count_that_contradicts_the_covariance_does_not_change_the_distance():
    """A covariance of full rank beside a count of 3, as after shrinkage: nothing is left out."""
    covs = [covariance(8, 1), covariance(8, 2)]
    statistics = [Statistics(zeros(8), cov, 3) for cov in covs]
    with pytest.warns(SmallSampleWarning):
        found = frechet_distance(*statistics)
    close(found, plain(zeros(8), covs[0], zeros(8), covs[1]), **EXACT64)


def test_rotating_or_reordering_both_sets_changes_nothing():
    for count in (200, 20):
        real, fake, q = normal(count, 24), normal(150, 24, seed=1).exp(), rotation(24)
        expected = frechet_distance_from_features(real, fake)
        close(frechet_distance_from_features(real @ q, fake @ q), expected, **EXACT64)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(2))
        close(frechet_distance_from_features(real[order], fake.flip(0)), expected, **EXACT64)
        close(frechet_distance_from_features(fake, real), expected, **EXACT64)


def test_the_score_says_how_it_was_made():
    real, fake = normal(80, 8), normal(90, 8, seed=1)
    a = RunningStatistics(8, fingerprint="net-1").update(real).compute()
    b = RunningStatistics(8, fingerprint="net-1").update(fake).compute()
    score = frechet_distance(a, b)
    close(score, frechet_distance_from_features(real, fake), **EXACT64)
    assert score.name == "frechet_distance"
    assert score.counts == {"real": 80, "fake": 90}
    assert score.settings == {"ddof": 1, "extractor": "net-1"}
    assert score.details == {}
    assert frechet_distance(a, b).fingerprint != frechet_distance(b, a).fingerprint


@pytest.mark.parametrize("roles", [(0, 1), (1, 0)])
def test_few_rows_are_warned_about_with_the_distance_of_two_sets_of_one_law(roles):
    size, draws = 48, 20
    distances, told = [], []
    for i in range(draws):
        sets = [normal(12, size, seed=2 * i), normal(479, size, seed=2 * i + 1)]
        real, fake = (gathered(sets[role]) for role in roles)
        with pytest.warns(
            SmallSampleWarning, match=r"few for 48 .*distance of about .*at least 48.*better 480"
        ) as caught:
            score = frechet_distance(real, fake)
        assert caught[0].filename == __file__
        assert f"about {score.details['expected_bias']:.4g}, not 0" in str(caught[0].message)
        distances.append(score.value)
        told.append(score.details["expected_bias"])
    close(np.mean(told), np.mean(distances), **named("frechet_few_rows"))


def test_ten_rows_a_dimension_are_enough():
    a, b = gathered(normal(80, 8)), gathered(normal(79, 8, seed=1))
    assert frechet_distance(a, a).details == {}
    with pytest.warns(SmallSampleWarning, match="Take 80 of each"):
        assert frechet_distance(a, b).details.keys() == {"expected_bias"}


def test_sets_made_in_different_ways_are_compared_only_on_demand():
    real, fake = normal(50, 4), normal(60, 4, seed=1)
    a = RunningStatistics(4, fingerprint="net-1").update(real).compute()
    b = RunningStatistics(4, fingerprint="net-2").update(fake).compute(ddof=0)
    with pytest.raises(FingerprintMismatchError, match=r"ddof 1 against 0; extractor 'net-1' against 'net-2'"):
        frechet_distance(a, b)
    with pytest.raises(FingerprintMismatchError, match="extractor 'net-1' against None"):
        frechet_distance(a, gathered(fake))
    score = frechet_distance(a, b, allow_mismatch=True)
    assert score.settings == {"ddof": [1, 0], "extractor": ["net-1", "net-2"]}
    assert score.fingerprint != frechet_distance(a, a).fingerprint


@pytest.mark.parametrize("count", [30, 10])
def test_torch_fidelity_finds_the_same(count):
    metric_fid = pytest.importorskip("torch_fidelity.metric_fid", reason="torch-fidelity is an extra")
    real, fake = normal(300, 9), normal(count, 9, seed=1) * 1.3 + 0.2
    statistics = [metric_fid.fid_features_to_statistics(rows) for rows in (real, fake)]
    expected = metric_fid.fid_statistics_to_metric(*statistics, False)[metric_fid.KEY_METRIC_FID]
    close(frechet_distance_from_features(real, fake), expected, **named("torch_fidelity"))
    tensors = [torch.from_numpy(moments[key]) for moments in statistics for key in ("mu", "sigma")]
    close(frechet_distance_from_moments(*tensors), expected, **named("torch_fidelity"))


class PooledConvolution(nn.Module):
    """A small random network that takes bytes, as torchmetrics hands them over."""

    num_features = 6

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, self.num_features, 3)

    def forward(self, images):
        return self.convolution(images.double() / 255).relu().mean(dim=(2, 3))


def test_torchmetrics_finds_the_same_with_a_network_of_ours():
    fid = pytest.importorskip("torchmetrics.image.fid", reason="torchmetrics is a test dependency")
    network = PooledConvolution().double().eval()
    generator = torch.Generator().manual_seed(0)
    real = torch.randint(0, 256, (80, 3, 16, 16), dtype=torch.uint8, generator=generator)
    fake = torch.randint(0, 200, (60, 3, 16, 16), dtype=torch.uint8, generator=generator)
    metric = fid.FrechetInceptionDistance(feature=network, input_img_size=(3, 16, 16)).set_dtype(torch.float64)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    with torch.no_grad():
        found = frechet_distance_from_features(network(real), network(fake))
    close(found, metric.compute(), **named("torchmetrics"))


def test_gradients_autocast_and_the_random_state_do_not_matter():
    real, fake = normal(50, 8).requires_grad_(), normal(60, 8, seed=1)
    expected = frechet_distance_from_features(real, fake)
    expected_of_few = frechet_distance_from_features(real[:5], fake)
    state = torch.get_rng_state()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        assert frechet_distance_from_features(real, fake) == expected
        with pytest.warns(SmallSampleWarning):
            assert frechet_distance(gathered(real), gathered(fake)).value == expected
        assert frechet_distance_from_features(real[:5], fake) == expected_of_few
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("cov", [-torch.eye(3), torch.tensor([[1.0, 2, 0], [2, 1, 0], [0, 0, 1]])])
def test_a_matrix_with_negative_eigenvalues_is_no_covariance(cov):
    for first, second in ((cov, torch.eye(3)), (torch.eye(3), cov), (cov, cov)):
        with pytest.raises(MetricError, match="not positive semidefinite"):
            frechet_distance_from_moments(torch.zeros(3), first, torch.zeros(3), second)


def test_sums_in_float32_with_a_large_mean_are_noticed():
    """The library's own sums are taken about the mean in float64, and do not lose these digits."""
    features = normal(2000, 8, dtype=torch.float32) * 0.01 + 100
    raw = (features.T @ features - 2000 * torch.outer(features.mean(0), features.mean(0))) / 1999
    with pytest.raises(MetricError, match="Sums in float32"):
        frechet_distance_from_moments(features.mean(0), (raw + raw.T) / 2, torch.zeros(8), torch.eye(8))
    statistics = gathered(features)
    assert float(torch.linalg.eigvalsh(statistics.cov).min()) > 0
    close(frechet_distance(statistics, statistics), 0, **named("frechet_self"))


def test_overflow_is_an_error():
    with pytest.raises(MetricError, match="too large"):
        frechet_distance_from_moments(zeros(2) + 1e200, eye(2), zeros(2), eye(2))
    with pytest.raises(MetricError, match="too large"):
        frechet_distance_from_features(1e200 * normal(2, 3), normal(2, 3))
    with pytest.raises(MetricError, match="too large"):
        frechet_distance_from_features(1e200 * normal(2, 3), 1e200 * normal(2, 3, seed=1))
    with pytest.raises(MetricError, match="NaN or infinite"):
        frechet_distance_from_features(1e200 * normal(9, 3), normal(9, 3))


@pytest.mark.parametrize(
    ("real", "fake", "ddof", "error", "match"),
    [
        (torch.zeros(1, 3), torch.zeros(5, 3), 1, ValueError, r"`real\.shape` is \(1, 3\).*at least 2 rows"),
        (torch.zeros(5, 3), torch.zeros(1, 3), 1, ValueError, r"`fake\.shape`"),
        (torch.zeros(5, 3), torch.zeros(5, 2), 1, ValueError, r"`fake\.shape`.*rows of 3 values"),
        (torch.zeros(5, 3), torch.zeros(5, 3), -1, ValueError, "`ddof` is -1"),
        (torch.zeros(5, 3), torch.zeros(2, 3), 2, ValueError, "`ddof` is 2.*2 rows of `fake`"),
        (torch.zeros(5, 3), torch.full((5, 3), math.nan), 1, MetricError, "`fake` holds 15 of 15"),
        ([[0.0]], torch.zeros(5, 3), 1, TypeError, "`real` is a list"),
    ],
)
def test_features_that_cannot_be_compared_are_named(real, fake, ddof, error, match):
    with pytest.raises(error, match=match):
        frechet_distance_from_features(real, fake, ddof=ddof)


def test_moments_that_cannot_be_compared_are_named():
    with pytest.raises(ValueError, match=r"`cov2\.shape`"):
        frechet_distance_from_moments(zeros(2), eye(2), zeros(2), eye(3))
    with pytest.raises(ValueError, match=r"`mean2\.shape` is \(3,\).*\(2,\)"):
        frechet_distance_from_moments(zeros(2), eye(2), zeros(3), eye(3))
    with pytest.raises(MetricError, match="`mean1` holds 2 of 2"):
        frechet_distance_from_moments(zeros(2) * math.nan, eye(2), zeros(2), eye(2))
    with pytest.raises(ValueError, match=r"`b` is Statistics\(dimension=3.*of 2 dimensions"):
        frechet_distance(Statistics(zeros(2), eye(2), 9), Statistics(zeros(3), eye(3), 9))


@pytest.mark.parametrize(
    ("spectrum", "n", "m", "error", "match"),
    [
        (torch.ones(3), 0, 5, ValueError, "`n` is 0"),
        (torch.ones(3), 5, 0, ValueError, "`m` is 0"),
        (torch.tensor([1.0, -0.5]), 5, 5, ValueError, "`spectrum` is -0.5"),
        (torch.tensor([1.0, math.inf]), 5, 5, MetricError, "`spectrum` holds 1 of 2"),
    ],
)
def test_a_bias_that_cannot_be_computed_is_named(spectrum, n, m, error, match):
    with pytest.raises(error, match=match):
        expected_bias(spectrum, n, m)
