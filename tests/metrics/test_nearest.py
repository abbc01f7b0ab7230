"""Nearest neighbours against NumPy and all pairs; the test for copying against SciPy and on data made to copy."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganblocks.errors import MetricError
from ganblocks.metrics.nearest import memorisation, nearest_neighbors
from tolerances import for_dtype, named

EXACT64 = for_dtype(torch.float64)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def all_pairs(queries, references, count):
    """Distances and indices by measuring every pair, ties to the lower index."""
    q, r = (x.double().numpy().reshape(len(x), -1) for x in (queries, references))
    squared = np.stack([((row - r) ** 2).sum(1) for row in q])
    indices = np.argsort(squared, axis=1, kind="stable")[:, :count]
    return torch.from_numpy(np.sqrt(np.take_along_axis(squared, indices, 1))), torch.from_numpy(indices)


@given(
    N=st.integers(1, 12),
    M=st.integers(1, 30),
    dimension=st.integers(1, 5),
    levels=st.integers(1, 4),
    dtype=st.sampled_from([torch.uint8, torch.int64, torch.float32, torch.float64, torch.bfloat16]),
    chunk=st.sampled_from([None, 1, 2, 5, 100]),
    data=st.data(),
)
def test_whole_numbers_agree_with_all_pairs_in_every_tie(N, M, dimension, levels, dtype, chunk, data):
    count = data.draw(st.integers(1, M))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    queries, references = (torch.randint(0, levels, (n, dimension), generator=generator).to(dtype) for n in (N, M))
    distances, indices = nearest_neighbors(queries, references, count=count, chunk=chunk)
    expected, expected_indices = all_pairs(queries, references, count)
    torch.testing.assert_close(distances, expected, **EXACT64)
    assert torch.equal(distances == 0, expected == 0)
    assert torch.equal(indices, expected_indices)
    assert distances.dtype == torch.float64
    assert indices.dtype == torch.int64


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("scale", [1.0, 1e-100, 1e100])
@pytest.mark.parametrize("chunk", [None, 7])
def test_real_numbers_agree_with_all_pairs(offset, scale, chunk):
    queries, references = (normal(50, 3, 4) + offset) * scale, (normal(80, 3, 4, seed=1) + offset) * scale
    distances, indices = nearest_neighbors(queries, references, count=4, chunk=chunk)
    expected, expected_indices = all_pairs(queries, references, 4)
    torch.testing.assert_close(distances / scale, expected / scale, **EXACT64)
    assert torch.equal(indices, expected_indices)


@pytest.mark.parametrize("chunk", [None, 1, 3])
def test_differences_far_below_the_rounding_of_a_product_are_told_apart(chunk):
    # squared lengths of 1e12 have a rounding of 1e-4, the squared distances are 1e-6 and less
    queries = 5e5 + normal(30, 4).mul(2.0**14).round() * 2.0**-14
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    steps = (order + 1).double().reshape(12, 1).expand(12, 4) * 2.0**-14
    for query in queries:
        distances, indices = nearest_neighbors(query[None], query + steps, count=5, chunk=chunk)
        assert torch.equal(indices[0], order.argsort()[:5])
        torch.testing.assert_close(distances[0], torch.arange(1, 6, dtype=torch.float64) * 2.0**-13, **EXACT64)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16])
def test_equal_samples_have_distance_zero_and_the_lower_index(dtype):
    images = (normal(20, 3, 8, 8) * 100).clamp(0, 255).to(dtype)
    distances, indices = nearest_neighbors(images, torch.cat([images, images]), count=2)
    assert torch.equal(distances, torch.zeros(20, 2, dtype=torch.float64))
    assert torch.equal(indices, torch.stack([torch.arange(20), torch.arange(20) + 20], 1))


def test_every_reference_is_a_tie():
    distances, indices = nearest_neighbors(torch.zeros(3, 2), torch.ones(500, 2), count=3, chunk=64)
    assert torch.equal(indices, torch.arange(3).expand(3, 3))
    torch.testing.assert_close(distances, torch.full((3, 3), math.sqrt(2), dtype=torch.float64), **EXACT64)


@pytest.mark.parametrize(
    ("queries", "references", "options", "error", "match"),
    [
        (torch.zeros(0, 3), torch.zeros(2, 3), {}, ValueError, "`queries.shape`"),
        (torch.zeros(2, 3), torch.zeros(0, 3), {}, ValueError, "`references.shape`"),
        (torch.zeros(2, 0), torch.zeros(2, 0), {}, ValueError, "`queries.shape`"),
        (torch.tensor(1.0), torch.zeros(2), {}, ValueError, "`queries`"),
        (torch.zeros(2, 3), torch.zeros(2, 4), {}, ValueError, "samples of 4 values"),
        (torch.zeros(2, 3), torch.zeros(2, 3), {"count": 3}, ValueError, "count"),
        (torch.zeros(2, 3), torch.zeros(2, 3), {"count": 0}, ValueError, "count"),
        (torch.zeros(2, 3), torch.zeros(2, 3), {"chunk": 0}, ValueError, "chunk"),
        (torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.uint8), {}, TypeError, r"`queries.dtype`.*must be uint8"),
        (torch.zeros(2, 3, dtype=torch.uint8), torch.zeros(2, 3), {}, TypeError, "not uint8"),
        (torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool), {}, TypeError, r"references\.dtype"),
        (torch.zeros(2, 3, dtype=torch.complex64), torch.zeros(2, 3), {}, TypeError, r"queries\.dtype"),
        (torch.zeros(2, 3), torch.full((2, 3), math.nan), {}, MetricError, "`references` holds 6 of 6"),
        (torch.full((2, 3), math.inf), torch.zeros(2, 3), {}, MetricError, "`queries` holds 6 of 6"),
        (torch.zeros(2, 3), torch.full((2, 3), 1e160, dtype=torch.float64), {}, MetricError, "`references`.*too large"),
        (torch.full((1, 1), 1e154, dtype=torch.float64), torch.zeros(1, 1), {}, MetricError, "`queries`.*too large"),
    ],
)
def test_wrong_sets_are_named(queries, references, options, error, match):
    with pytest.raises(error, match=match):
        nearest_neighbors(queries, references, **options)


def test_no_gradient_and_autocast_changes_nothing():
    queries, references = normal(5, 4, dtype=torch.float32).requires_grad_(), normal(6, 4, seed=1, dtype=torch.float32)
    expected = nearest_neighbors(queries, references)
    assert not expected[0].requires_grad
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(nearest_neighbors(queries, references)[0], expected[0])


def test_copies_are_found():
    train, held_out, fresh = normal(400, 8), normal(200, 8, seed=1), normal(150, 8, seed=2)
    copies = train[:150]
    score = memorisation(copies, train, held_out)
    lowest = -math.sqrt(3 * 150 * 200 / 351)  # U = 0
    assert score.value == pytest.approx(lowest, rel=named("rank_ties")["rtol"])
    assert score.details["exact_copies"] == 150
    assert score.details["share_near"] == 1
    assert score.details["share_nearer_train"] > 0.7  # 150 of 200: the others' training samples are not looked at
    assert score.details["p_value"] < 1e-10
    assert score.details["fake_median"] == 0 < score.details["held_out_median"]
    near_copies = memorisation(copies + 0.01 * normal(150, 8, seed=3), train, held_out)
    assert near_copies.value == pytest.approx(lowest, rel=EXACT64["rtol"])
    assert near_copies.details["exact_copies"] == 0
    # half of the fakes copied: U = m n / 4, within the luck of the other half
    half = memorisation(torch.cat([copies[:75], fresh[:75]]), train, held_out)
    assert half.value < -6
    assert half.details["exact_copies"] == 75


def test_fakes_far_from_the_data_score_high():
    train, held_out = normal(300, 8), normal(100, 8, seed=1)
    score = memorisation(normal(100, 8, seed=2) * 3, train, held_out)
    assert score.value > 6
    assert score.details["p_value"] > 1 - 1e-6
    assert score.details["share_near"] == 0
    assert 0.3 < score.details["share_nearer_train"] < 0.7


def test_copies_with_faults_are_nearer_to_training_samples_though_far_from_the_data():
    """What the z-score cannot see: all copies, moved further than fresh draws lie from their neighbours."""
    train, held_out = normal(300, 64), normal(300, 64, seed=1)
    score = memorisation(train + 1.6 * normal(300, 64, seed=2), train, held_out)
    assert score.value > 6
    assert score.details["share_near"] == 0
    assert score.details["share_nearer_train"] > 0.9


@given(
    N=st.integers(1, 9), M=st.integers(1, 12), K=st.integers(1, 12), levels=st.integers(1, 9), seed=st.integers(0, 99)
)
def test_the_share_nearer_to_the_training_set_counts_pairs_of_equal_sets(N, M, K, levels, seed):
    generator = torch.Generator().manual_seed(seed)
    fake, train, held_out = (torch.randint(0, levels, (size, 2), generator=generator).double() for size in (N, M, K))
    size = min(M, K)
    expected = 0.0
    for image in fake.numpy():
        to_train, to_held_out = (
            min(((image - samples[index * len(samples) // size].numpy()) ** 2).sum() for index in range(size))
            for samples in (train, held_out)
        )
        expected += (1 if to_train < to_held_out else 0.5 if to_train == to_held_out else 0) / N
    found = memorisation(fake, train, held_out).details["share_nearer_train"]
    assert found == pytest.approx(expected, rel=EXACT64["rtol"])


def test_fresh_draws_of_the_same_law_are_standard_normal():
    runs, near, nearer = [], [], []
    for seed in range(200):
        train, held_out, fake = torch.split(normal(120 + 99 + 60, 3, seed=seed), [120, 99, 60])
        score = memorisation(fake, train, held_out)
        runs.append(score.value)
        near.append(score.details["share_near"])
        nearer.append(score.details["share_nearer_train"])
    runs = np.array(runs)
    assert abs(runs.mean()) < 3 / math.sqrt(200)
    assert abs(runs.std(ddof=1) - 1) < 3 / math.sqrt(2 * 200)
    assert scipy.stats.kstest(runs, "norm").pvalue > 0.01
    # the share below the 1 % quantile has mean 0.01; its spread is seen in the runs themselves
    assert abs(np.mean(near) - 0.01) < 3 * np.std(near) / math.sqrt(200)
    assert abs(np.mean(nearer) - 0.5) < 3 * np.std(nearer) / math.sqrt(200)


@given(m=st.integers(1, 20), n=st.integers(1, 20), levels=st.integers(1, 30), seed=st.integers(0, 999))
def test_the_z_score_is_scipys_with_any_ties(m, n, levels, seed):
    generator = torch.Generator().manual_seed(seed)
    fake, held_out = (torch.randint(0, levels, (size, 1), generator=generator) for size in (m, n))
    z = memorisation(fake, torch.zeros(1, 1), held_out).value
    if len(set(fake.flatten().tolist() + held_out.flatten().tolist())) == 1:
        assert z == 0
        return
    expected = scipy.stats.mannwhitneyu(
        fake.flatten().numpy(),
        held_out.flatten().numpy(),
        alternative="less",
        method="asymptotic",
        use_continuity=False,
    )
    assert scipy.stats.norm.cdf(z) == pytest.approx(expected.pvalue, rel=EXACT64["rtol"])


def test_doubles_between_the_real_sets_are_counted():
    train = torch.randint(0, 256, (20, 1, 4, 4), dtype=torch.uint8)
    held_out = torch.cat([train[:3], 255 - train[3:9]])
    score = memorisation(255 - train, train, held_out, extractor="abc", chunk=3)
    assert score.details["held_out_copies"] == 3
    assert score.counts == {"train": 20, "held_out": 9, "fake": 20}
    assert score.settings["extractor"] == "abc"
    assert score.name == "memorisation"
    assert score.fingerprint != memorisation(255 - train, train, held_out).fingerprint


@pytest.mark.parametrize(
    ("fake", "train", "held_out", "error", "match"),
    [
        (torch.zeros(0, 3), torch.zeros(2, 3), torch.zeros(2, 3), ValueError, "`fake.shape`"),
        (torch.zeros(2, 3), torch.zeros(0, 3), torch.zeros(2, 3), ValueError, "`train.shape`"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(0, 3), ValueError, "`held_out.shape`"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 4), ValueError, "`held_out`.*samples of 3 values"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 3).byte(), TypeError, r"held_out\.dtype"),
        (torch.full((2, 3), math.nan), torch.zeros(2, 3), torch.zeros(2, 3), MetricError, "`fake`"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.full((2, 3), math.nan), MetricError, "`held_out`"),
        (torch.zeros(2, 3), torch.full((2, 3), math.nan), torch.zeros(2, 3), MetricError, "`train`"),
    ],
)
def test_memorisation_names_wrong_sets(fake, train, held_out, error, match):
    with pytest.raises(error, match=match):
        memorisation(fake, train, held_out)
