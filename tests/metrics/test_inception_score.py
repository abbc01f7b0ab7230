"""The inception score against closed forms, a loop with exact fractions, torchmetrics and torch-fidelity."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ganblocks.errors import MetricError
from ganblocks.metrics.inception_score import inception_score
from tolerances import for_dtype, named

EXACT64 = for_dtype(torch.float64)


def close(value, expected, **tolerance):
    value, expected = (torch.tensor(float(number), dtype=torch.float64) for number in (value, expected))
    torch.testing.assert_close(value, expected, **tolerance)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def loop_score(logits):
    """One part, from the definition, with probabilities that are 0 left out."""
    rows = [[math.exp(value - max(row)) for value in row] for row in logits.double().tolist()]
    rows = [[value / math.fsum(row) for value in row] for row in rows]
    mean = [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]
    divergences = [math.fsum(p * math.log(p / q) for p, q in zip(row, mean, strict=True) if p > 0) for row in rows]
    return math.exp(math.fsum(divergences) / len(rows))


@pytest.mark.parametrize("sharpness", [50.0, 200.0, 1e4, 1e300])
def test_sure_and_balanced_rows_score_the_number_of_classes(sharpness):
    # each row is a class, and all classes are alike: exp(KL) = their number, 10
    logits = sharpness * torch.eye(10, dtype=torch.float64).repeat(30, 1)
    score = inception_score(logits, splits=3, shuffle_seed=None)
    close(score, 10.0, **EXACT64)
    close(score.spread, 0.0, **EXACT64)


@pytest.mark.parametrize("row", [torch.zeros(10), torch.arange(10.0), 1e5 * torch.arange(10.0)])
def test_rows_that_agree_score_one(row):
    close(inception_score(row.repeat(50, 1)), 1.0, **EXACT64)


def test_the_largest_numbers_there_are_give_no_nan():
    largest = torch.finfo(torch.float64).max
    logits = torch.tensor([[largest, -largest], [-largest, largest]], dtype=torch.float64)
    close(inception_score(logits, splits=1), 2.0, **EXACT64)
    never = torch.tensor([[largest, 0.0, -largest], [0.0, largest, -largest]], dtype=torch.float64)
    close(inception_score(never, splits=1), 2.0, **EXACT64)


def test_known_parts_give_mean_and_spread():
    # part i holds i + 1 different sure rows, each ten times, and so scores i + 1
    parts = [100.0 * torch.eye(10, dtype=torch.float64)[torch.arange(2520) % (i + 1)] for i in range(10)]
    score = inception_score(torch.cat(parts), shuffle_seed=None)
    close(score, np.mean(np.arange(1, 11)), **EXACT64)
    close(score.spread, np.std(np.arange(1, 11)), **EXACT64)


@given(
    count=st.integers(1, 20),
    classes=st.integers(1, 8),
    part=st.floats(0, 1),
    exponent=st.integers(-8, 8),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    repeated=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_sizes_scales_and_repeated_rows_agree_with_the_definition(
    count, classes, part, exponent, dtype, repeated, seed
):
    logits = normal(count, classes, seed=seed, dtype=dtype) * 10.0**exponent
    if repeated:
        logits[count // 2 :] = logits[0]
    splits = 1 + int(part * (count - 1))
    bounds = [i * count // splits for i in range(splits + 1)]
    expected = [loop_score(logits[bounds[i] : bounds[i + 1]]) for i in range(splits)]
    score = inception_score(logits, splits=splits, shuffle_seed=None)
    close(score, np.mean(expected), **EXACT64)
    close(score.spread, np.std(expected), **EXACT64)
    assert 1 - EXACT64["rtol"] <= score.value <= min(classes, count) * (1 + EXACT64["rtol"])


def test_all_rows_are_used_in_parts_of_almost_one_size():
    # 7 rows in 3 parts: the score is that of sizes 2, 2, 3, and every row moves it
    logits = 3 * normal(7, 4)
    score = inception_score(logits, splits=3, shuffle_seed=None)
    close(score, np.mean([loop_score(logits[part]) for part in ([0, 1], [2, 3], [4, 5, 6])]), **EXACT64)


def test_shuffling_deals_the_rows_out_and_drops_none():
    logits = 100.0 * torch.eye(10, dtype=torch.float64).repeat_interleave(20, dim=0)  # sorted by class
    close(inception_score(logits, shuffle_seed=None), 1.0, **EXACT64)
    assert inception_score(logits).value > 5
    close(inception_score(logits, splits=1), 10.0, **EXACT64)  # all rows are still there
    assert inception_score(logits, shuffle_seed=1).value != inception_score(logits, shuffle_seed=2).value


def test_the_seed_alone_decides_and_the_global_state_is_left_alone():
    logits = normal(50, 5)
    before = torch.get_rng_state()
    first = inception_score(logits, shuffle_seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert inception_score(logits, shuffle_seed=4) == first


def test_a_shift_of_a_row_does_not_matter_and_neither_does_autocast():
    logits = normal(50, 5, dtype=torch.float32).requires_grad_()
    score = inception_score(logits)
    close(inception_score(logits.double() + 1000 * normal(50, 1)), score, **EXACT64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert inception_score(logits) == score


def test_the_score_carries_what_decides_it():
    score = inception_score(normal(50, 5), splits=2, shuffle_seed=None, extractor="abc")
    assert (score.name, score.counts, score.details) == ("inception_score", {"fake": 50}, {"classes": 5})
    assert score.settings == {"splits": 2, "shuffle_seed": None, "extractor": "abc"}


@pytest.mark.parametrize("splits", [1, 10, 7])
def test_it_agrees_with_torch_fidelity(splits):
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

    logits = 3 * normal(95, 12)
    reference = isc_features_to_metric(logits, splits=splits, shuffle=False)
    score = inception_score(logits, splits=splits, shuffle_seed=None)
    close(score, reference[KEY_METRIC_ISC_MEAN], **named("torch_fidelity"))
    close(score.spread, reference[KEY_METRIC_ISC_STD], **named("torch_fidelity"))


def test_it_agrees_with_torchmetrics_but_for_the_divisor_of_the_spread():
    from torchmetrics.image.inception import InceptionScore

    extractor = nn.Sequential(nn.Flatten(), nn.Linear(48, 12, dtype=torch.float64)).requires_grad_(False)
    images = 5 * normal(60, 3, 4, 4)
    with pytest.warns(UserWarning, match="will save all extracted features"):
        reference = InceptionScore(feature=extractor)
    reference.update(images)
    torch.manual_seed(3)  # torchmetrics draws the order from the global state: the same numbers as ours from seed 3
    mean, std = reference.compute()
    score = inception_score(extractor(images), shuffle_seed=3)
    close(score, mean, **named("torchmetrics"))
    close(score.spread * math.sqrt(10 / 9), std, **named("torchmetrics"))


@pytest.mark.parametrize(
    ("logits", "options", "error", "message"),
    [
        (normal(9), {}, ValueError, "`logits` has shape"),
        (normal(9, 2, 2), {}, ValueError, "`logits` has shape"),
        (normal(0, 4), {}, ValueError, "`logits.shape`"),
        (normal(9, 4), {}, ValueError, "`splits` is 10, but must be at least 1 and at most 9"),
        (normal(9, 4), {"splits": 0}, ValueError, "`splits` is 0"),
        (torch.full((20, 4), -math.inf), {}, MetricError, "`logits` holds 80 of 80"),
        (torch.ones(20, 4, dtype=torch.bool), {}, TypeError, "`logits.dtype`"),
        ([[1.0, 2.0]], {}, TypeError, "`logits` is a list"),
    ],
)
def test_wrong_input_is_refused(logits, options, error, message):
    with pytest.raises(error, match=message):
        inception_score(logits, **options)
