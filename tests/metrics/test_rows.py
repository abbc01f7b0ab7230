"""What metrics accept: every real dtype and shape comes out as the same float64 rows, everything else is named."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganblocks.errors import MetricError
from ganblocks.metrics.rows import as_moments, as_row_pair, as_rows, require_finite
from oracles import to_array
from strategies import shapes, tensors
from tolerances import named


@given(samples=tensors(shape=shapes(min_rank=1, max_rank=4), layouts=("contiguous", "sliced")))
def test_rows_hold_the_values_in_order_in_float64_or_the_shape_is_refused(samples):
    if samples.numel() == 0:
        with pytest.raises(ValueError, match=r"`features\.shape` is .* at least one sample"):
            as_rows(samples, "features")
        return
    rows = as_rows(samples, "features")
    assert rows.dtype == torch.float64
    assert rows.shape == (len(samples), math.prod(samples.shape[1:]))
    assert rows.flatten().tolist() == to_array(samples).flatten().tolist()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_whole_numbers_are_rows_too(dtype):
    assert as_rows(torch.tensor([[1, 2], [3, 4]], dtype=dtype), "x").tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_numbers_are_rows_of_one_value_and_gradients_end_here():
    samples = torch.tensor([1.0, 2.0], requires_grad=True)
    rows = as_rows(samples, "x")
    assert rows.tolist() == [[1.0], [2.0]]
    assert not rows.requires_grad


@pytest.mark.parametrize(
    ("samples", "error", "match"),
    [
        ([1.0], TypeError, "`x` is a list, but must be a tensor"),
        (torch.tensor(1.0), ValueError, "`x` has shape"),
        (torch.zeros(2, dtype=torch.bool), TypeError, r"`x\.dtype` is torch\.bool"),
        (torch.zeros(2, dtype=torch.complex64), TypeError, r"`x\.dtype` is torch\.complex64"),
        (torch.zeros(0, 3), ValueError, r"`x\.shape`"),
        (torch.zeros(3, 0), ValueError, r"`x\.shape`"),
        (torch.tensor([1.0, math.nan, -math.inf, math.inf]), MetricError, "`x` holds 3 of 4 values"),
        (torch.tensor([[math.inf]], dtype=torch.float16), MetricError, "`x` holds 1 of 1 values"),
    ],
)
def test_anything_else_is_named(samples, error, match):
    with pytest.raises(error, match=match):
        as_rows(samples, "x")


def test_two_sets_of_one_dimension_are_rows_and_others_are_named():
    real, fake = as_row_pair(torch.ones(3, 2, 2, dtype=torch.uint8), torch.zeros(5, 4))
    assert torch.equal(real, torch.ones(3, 4, dtype=torch.float64))
    assert torch.equal(fake, torch.zeros(5, 4, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"`fake` is \(5, 3\), but must be rows of 4 values, as `real`"):
        as_row_pair(torch.zeros(5, 4), torch.zeros(5, 3))
    with pytest.raises(MetricError, match="`real` holds 1 of 1"):
        as_row_pair(torch.tensor([math.nan]), torch.zeros(5, 4))
    with pytest.raises(TypeError, match=r"`fake\.dtype`"):
        as_row_pair(torch.zeros(5, 4), torch.zeros(5, 4, dtype=torch.bool))


def test_finite_values_of_any_shape_and_dtype_pass():
    for values in (torch.zeros(()), torch.zeros(0), torch.ones(2, 3, dtype=torch.int64), torch.ones(1).bfloat16()):
        require_finite(values, "x")
    with pytest.raises(MetricError, match="`x` holds 2 of 3 values that are NaN or infinite"):
        require_finite(torch.tensor([1.0, math.nan, math.inf]), "x")


@given(size=st.integers(1, 5), dtype=st.sampled_from([torch.float64, torch.float32, torch.float16]))
def test_moments_keep_their_values_and_become_float64(size, dtype):
    mean, half = torch.randn(size).to(dtype), torch.randn(size, size).to(dtype)
    cov = half + half.T
    found_mean, found_cov = as_moments(mean, cov, "m", "c")
    assert found_mean.dtype == found_cov.dtype == torch.float64
    assert found_mean.tolist() == mean.tolist()
    assert found_cov.tolist() == cov.tolist()


def test_a_covariance_may_be_asymmetric_by_rounding_only():
    cov = torch.tensor([[1e6, 3.0], [3.0, 1.0]], dtype=torch.float64)
    cov[0, 1] += 0.99
    torch.testing.assert_close(as_moments(torch.zeros(2), cov, "m", "c")[1], cov, **named("exact"))
    cov[0, 1] += 0.02
    with pytest.raises(ValueError, match=r"`c` is .* symmetric, but entries .* differ by up to 1\.01"):
        as_moments(torch.zeros(2), cov, "m", "c")


@pytest.mark.parametrize(
    ("mean", "cov", "error", "match"),
    [
        (torch.zeros(2, 1), torch.eye(2), ValueError, "`m` has shape"),
        (torch.zeros(2), torch.zeros(4), ValueError, "`c` has shape"),
        (torch.zeros(2), torch.eye(3), ValueError, r"`c\.shape` is \(3, 3\).* D = 2"),
        (torch.zeros(2), torch.zeros(2, 3), ValueError, r"`c\.shape`"),
        (torch.zeros(0), torch.zeros(0, 0), ValueError, r"`m\.shape`"),
        ([0.0], torch.eye(1), TypeError, "`m` is a list"),
        (torch.zeros(1), torch.eye(1).bool(), TypeError, r"`c\.dtype`"),
        (torch.tensor([math.nan]), torch.eye(1), MetricError, "`m` holds 1 of 1"),
        (torch.zeros(2), math.inf * torch.ones(2, 2), MetricError, "`c` holds 4 of 4"),
    ],
)
def test_moments_that_cannot_be_are_named(mean, cov, error, match):
    with pytest.raises(error, match=match):
        as_moments(mean, cov, "m", "c")
