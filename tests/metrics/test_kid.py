"""The kernel distance against closed forms, scikit-learn's kernel, torchmetrics and torch-fidelity."""

import math
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.pairwise import polynomial_kernel
from torch import nn

from ganblocks.errors import FingerprintMismatchError, MetricError
from ganblocks.metrics import kid
from ganblocks.metrics.kid import kernel_distance, kernel_distance_u_statistic, squared_mmd
from tolerances import for_dtype, named

EXACT64 = for_dtype(torch.float64)


def close(value, expected, **tolerance):
    value, expected = (torch.tensor(float(number), dtype=torch.float64) for number in (value, expected))
    torch.testing.assert_close(value, expected, **tolerance)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def oracle(real, fake, unbiased=True, **options):
    """Squared MMD from scikit-learn's kernel matrices and sums in NumPy."""
    real, fake = real.double().numpy(), fake.double().numpy()
    k_rr, k_ff, k_rf = (polynomial_kernel(a, b, **options) for a, b in ((real, real), (fake, fake), (real, fake)))
    if unbiased:
        within = [k[~np.eye(len(k), dtype=bool)].mean() for k in (k_rr, k_ff)]
    else:
        within = [k.mean() for k in (k_rr, k_ff)]
    return sum(within) - 2 * k_rf.mean()


def test_two_rows_of_one_value_by_hand():
    real, fake = torch.tensor([0.0, 2.0]), torch.tensor([1.0, 3.0])
    # cubes of xy + 1: 1 within the reals, 64 within the fakes, 1, 1, 27, 343 between them
    assert squared_mmd(real, fake) == 1 + 64 - 2 * (1 + 1 + 27 + 343) / 4
    # with the diagonals 1, 125 and 8, 1000
    biased = (1 + 125 + 2) / 4 + (8 + 1000 + 2 * 64) / 4 - 2 * (1 + 1 + 27 + 343) / 4
    assert squared_mmd(real, fake, unbiased=False) == biased


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("options", [{}, {"degree": 1}, {"degree": 2, "gamma": 0.5, "coef0": 0.0}])
@pytest.mark.parametrize(("count_real", "count_fake"), [(30, 30), (2, 9), (1100, 700)])
def test_it_agrees_with_the_kernel_of_scikit_learn(count_real, count_fake, options, unbiased):
    real, fake = normal(count_real, 5), normal(count_fake, 5, seed=1) * 1.4 + 0.3
    close(squared_mmd(real, fake, unbiased=unbiased, **options), oracle(real, fake, unbiased, **options), **EXACT64)


@given(
    count_real=st.integers(2, 12),
    count_fake=st.integers(2, 12),
    dimension=st.integers(1, 6),
    exponent=st.integers(-8, 8),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    repeated=st.booleans(),
    tile=st.sampled_from([1, 3, 512]),
    unbiased=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_sizes_scales_and_repeated_rows_agree_with_the_oracle(
    count_real, count_fake, dimension, exponent, dtype, repeated, tile, unbiased, seed
):
    real = normal(count_real, dimension, seed=seed, dtype=dtype) * 10.0**exponent
    fake = normal(count_fake, dimension, seed=seed + 1, dtype=dtype) * 10.0**exponent
    if repeated:
        real[-1], fake[-1] = real[0], real[0]
    size = polynomial_kernel(torch.cat([real, fake]).double().numpy()).max()  # what the rounding is measured by
    with mock.patch.object(kid, "_TILE", tile):
        found = squared_mmd(real, fake, unbiased=unbiased)
    close(found / size, oracle(real, fake, unbiased) / size, **EXACT64)


def test_normal_sets_of_two_widths_are_as_far_apart_as_the_closed_form_says():
    # of the cubic kernel only the linear term tells N(0, s^2 I) from N(0, t^2 I): 3 (s^2 - t^2)^2 / d
    found = torch.tensor(
        [
            kernel_distance_u_statistic(normal(400, 16, seed=2 * i), 1.5 * normal(400, 16, seed=2 * i + 1)).value
            for i in range(60)
        ]
    )
    error = float(found.std()) / math.sqrt(len(found))
    expected = 3 * (1 - 1.5**2) ** 2 / 16
    assert abs(float(found.mean()) - expected) < 3 * error < expected / 20


def test_two_sets_of_one_law_are_at_distance_zero_on_average():
    # the estimate is unbiased: its mean is 0, and so about half of the values are negative
    found = torch.tensor([squared_mmd(normal(30, 8, seed=2 * i), normal(20, 8, seed=2 * i + 1)) for i in range(600)])
    error = float(found.std()) / math.sqrt(len(found))
    assert abs(float(found.mean())) < 3 * error
    assert 0.4 < float((found < 0).double().mean()) < 0.7
    biased = torch.tensor(
        [squared_mmd(normal(30, 8, seed=i), normal(20, 8, seed=i + 1), unbiased=False) for i in range(20)]
    )
    assert (biased > 3 * error).all()


def test_the_biased_form_differs_by_the_diagonals():
    # each set adds (mean of its diagonal - mean off it) / its count
    real, fake = normal(40, 6), normal(25, 6, seed=1) + 1
    expected = 0.0
    for rows in (real, fake):
        k = polynomial_kernel(rows.numpy())
        expected += (np.diagonal(k).mean() - k[~np.eye(len(k), dtype=bool)].mean()) / len(k)
    close(squared_mmd(real, fake, unbiased=False) - squared_mmd(real, fake), expected, **EXACT64)
    close(squared_mmd(real, real, unbiased=False), 0.0, **EXACT64)


def test_order_and_roles_do_not_matter():
    real, fake = normal(40, 6), normal(25, 6, seed=1) + 1
    close(squared_mmd(real, fake), squared_mmd(fake, real), **EXACT64)
    close(squared_mmd(real, fake), squared_mmd(real.flip(0), fake[torch.randperm(25)]), **EXACT64)
    close(squared_mmd(real.reshape(40, 2, 3), fake.reshape(25, 3, 2)), squared_mmd(real, fake), **EXACT64)


def test_a_diagonal_that_dwarfs_the_rest_takes_no_digits_away():
    rows = 1e8 * torch.eye(4, dtype=torch.float64)
    assert squared_mmd(rows, torch.zeros(2, 4)) == 0  # every product but those on the diagonals is 0, and k is 1


def test_the_full_sample_estimate_is_the_unbiased_discrepancy_and_says_so():
    real, fake = normal(40, 6), normal(25, 6, seed=1) + 1
    score = kernel_distance_u_statistic(real, fake, degree=2, gamma=0.1, coef0=2, extractor="abc")
    assert score.value == squared_mmd(real, fake, degree=2, gamma=0.1, coef0=2)
    assert (score.name, score.spread, score.counts) == ("kernel_distance", None, {"real": 40, "fake": 25})
    assert score.settings == {
        "estimator": "u_statistic",
        "degree": 2,
        "gamma": 0.1,
        "coef0": 2.0,
        "extractor": "abc",
    }
    with pytest.raises(FingerprintMismatchError, match="estimator"):
        score.difference(kernel_distance(real, fake, subset_size=20))


def test_subsets_of_everything_are_the_full_sample():
    real, fake = normal(30, 6), normal(30, 6, seed=1) + 1
    for unbiased in (True, False):
        score = kernel_distance(real, fake, num_subsets=3, subset_size=30, unbiased=unbiased)
        close(score, squared_mmd(real, fake, unbiased=unbiased), **EXACT64)  # so no row is drawn twice
        close(score.spread, 0.0, **EXACT64)


def test_mean_and_spread_are_those_of_the_subsets():
    real, fake = normal(50, 6), normal(30, 6, seed=1) + 1
    one, two = (kernel_distance(real, fake, num_subsets=count, subset_size=10) for count in (1, 2))
    first, second = one.value, 2 * two.value - one.value
    assert one.spread == 0
    close(two.spread, abs(first - second) / 2, **EXACT64)  # ddof=0; with ddof=1 it would be sqrt(2) times as much
    assert two.spread > 0
    many = kernel_distance(real, fake, num_subsets=400, subset_size=10)
    error = many.spread / math.sqrt(400)
    assert abs(many.value - squared_mmd(real, fake)) < 3 * error


def test_the_score_carries_what_decides_it():
    score = kernel_distance(normal(20, 8), normal(30, 8, seed=1), num_subsets=4, subset_size=10, extractor="abc")
    assert (score.name, score.counts) == ("kernel_distance", {"real": 20, "fake": 30})
    assert score.settings == {
        "estimator": "subsets",
        "num_subsets": 4,
        "subset_size": 10,
        "degree": 3,
        "gamma": 1 / 8,
        "coef0": 1.0,
        "unbiased": True,
        "seed": 0,
        "extractor": "abc",
    }


def test_the_seed_alone_decides_and_the_global_state_is_left_alone():
    real, fake = normal(40, 6), normal(40, 6, seed=1)
    before = torch.get_rng_state()
    first = kernel_distance(real, fake, num_subsets=2, subset_size=10, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert kernel_distance(real, fake, num_subsets=2, subset_size=10, seed=1) == first
    assert kernel_distance(real, fake, num_subsets=2, subset_size=10, seed=2).value != first.value


def test_autocast_and_gradients_change_nothing():
    real, fake = normal(20, 6, dtype=torch.float32).requires_grad_(), normal(20, 6, seed=1, dtype=torch.float32)
    expected = squared_mmd(real, fake)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert squared_mmd(real, fake) == expected
    close(expected, oracle(real.detach(), fake), **EXACT64)


class TinyExtractor(nn.Module):
    """A random convolution in float64, as torchmetrics accepts it in place of the Inception network."""

    num_features = 8

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, dtype=torch.float64)

    def forward(self, images):
        return self.convolution(images.double() / 255).relu().mean(dim=(2, 3))


def test_it_agrees_with_torchmetrics():
    from torchmetrics.image.kid import KernelInceptionDistance

    real, fake = torch.randint(0, 256, (24, 3, 8, 8)).byte(), torch.randint(0, 200, (24, 3, 8, 8)).byte()
    extractor = TinyExtractor().requires_grad_(False)
    with pytest.warns(UserWarning, match="will save all extracted features"):
        reference = KernelInceptionDistance(feature=extractor, subsets=2, subset_size=24)
    reference.update(real, real=True)
    reference.update(fake, real=False)
    found = kernel_distance(extractor(real), extractor(fake), num_subsets=2, subset_size=24)
    close(found, reference.compute()[0], **named("torchmetrics"))


def test_it_agrees_with_torch_fidelity():
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kernel_mmd, kid_features_to_metric

    real, fake = normal(40, 16), normal(40, 16, seed=1) + 0.5
    reference = kid_features_to_metric(real, fake, kid_subsets=2, kid_subset_size=40, verbose=False)
    found = kernel_distance(real, fake, num_subsets=2, subset_size=40)
    close(found, reference[KEY_METRIC_KID_MEAN], **named("torch_fidelity"))
    reference = kernel_mmd(
        real.numpy(), fake.numpy(), kid_kernel_poly_degree=2, kid_kernel_poly_gamma=0.3, kid_kernel_poly_coef0=0.5
    )
    close(squared_mmd(real, fake, degree=2, gamma=0.3, coef0=0.5), reference, **named("torch_fidelity"))


def test_a_subset_larger_than_a_set_is_refused_with_a_way_out():
    with pytest.raises(ValueError, match=r"`subset_size` is 1000, but there are 40 real and 30 fake.*subset_size=30"):
        kernel_distance(normal(40, 4), normal(30, 4))


@pytest.mark.parametrize("function", [squared_mmd, kernel_distance, kernel_distance_u_statistic])
@pytest.mark.parametrize(
    ("real", "fake", "options", "error", "message"),
    [
        (normal(9, 4), normal(9, 5), {}, ValueError, "`fake` is .*rows of 4 values"),
        (normal(9, 4), normal(9, 4), {"degree": 0}, ValueError, "`degree` is 0"),
        (normal(9, 4), normal(9, 4), {"degree": 2.5}, ValueError, "`degree` is 2.5"),
        (normal(9, 4), normal(9, 4), {"gamma": 0.0}, ValueError, "`gamma` is 0.0"),
        (normal(9, 4), normal(9, 4), {"gamma": math.nan}, ValueError, "`gamma` is nan"),
        (normal(9, 4), normal(9, 4), {"coef0": -1.0}, ValueError, "`coef0` is -1.0"),
        (normal(9, 4), normal(9, 4), {"coef0": math.inf}, ValueError, "`coef0` is inf"),
        (normal(9, 4), torch.full((9, 4), math.nan), {}, MetricError, "`fake` holds 36 of 36"),
        (normal(0, 4), normal(9, 4), {}, ValueError, "`real.shape`"),
        (normal(9, 4), normal(9, 4) * 1e200, {}, MetricError, "too large for degree 3"),
    ],
)
def test_wrong_input_is_refused(function, real, fake, options, error, message):
    if function is kernel_distance:
        options = {**options, "subset_size": 5}
    with pytest.raises(error, match=message):
        function(real, fake, **options)


def test_sets_on_two_devices_are_refused():
    with (
        mock.patch("ganblocks.metrics.rows.as_rows", lambda rows, _: rows),  # cannot look into a meta tensor
        pytest.raises(ValueError, match=r"`fake.device` is 'meta', but must be cpu"),
    ):
        squared_mmd(normal(9, 4), torch.empty(9, 4, device="meta"))


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match=r"`real` is .*at least 2 rows for the unbiased form"):
        squared_mmd(normal(1, 4), normal(9, 4))
    with pytest.raises(ValueError, match=r"`fake` is .*at least 2 rows for the unbiased form"):
        kernel_distance_u_statistic(normal(9, 4), normal(1, 4))
    with pytest.raises(ValueError, match="`subset_size` is 1, but must be at least 2 with unbiased=True"):
        kernel_distance(normal(9, 4), normal(9, 4), subset_size=1)
    with pytest.raises(ValueError, match="`subset_size` is 0"):
        kernel_distance(normal(9, 4), normal(9, 4), subset_size=0, unbiased=False)
    with pytest.raises(ValueError, match="`num_subsets` is 0"):
        kernel_distance(normal(9, 4), normal(9, 4), subset_size=5, num_subsets=0)
    real, fake = torch.tensor([[2.0]]), torch.tensor([[3.0]])
    assert squared_mmd(real, fake, unbiased=False) == 5**3 + 10**3 - 2 * 7**3  # one row each is enough for the biased
