"""Adaptive instance normalisation: moments of the result, NumPy's formula, and gradients of both orders."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ganblocks.functional.adaptive_norm import adaptive_instance_norm
from strategies import lay_out
from tolerances import for_dtype

TIGHT = for_dtype(torch.float64)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(
    N=st.integers(0, 3), C=st.integers(1, 3), H=st.integers(1, 4), W=st.integers(1, 4), one=st.booleans(),
    layout=st.sampled_from(["contiguous", "channels_last", "sliced"]),
    dtype=st.sampled_from([torch.float64, torch.float32]), seed=st.integers(0, 99),
)  # fmt: skip
def test_the_formula(N: int, C: int, H: int, W: int, one: bool, layout: str, dtype: torch.dtype, seed: int) -> None:
    x = drawn(N, C, H, W, seed=seed).to(dtype)
    y = (3 * drawn(1 if one else N, C, 2, 3, seed=seed + 1) + 1).to(dtype)
    found = adaptive_instance_norm(lay_out(x, layout), y, eps=0.01)
    assert (found.shape, found.dtype) == (x.shape, dtype)
    a, b = x.double().numpy(), y.double().numpy()
    axes = {"axis": (2, 3), "keepdims": True}
    sigma_a, sigma_b = (np.sqrt(part.var(**axes) + 0.01) for part in (a, b))
    expected = sigma_b * (a - a.mean(**axes)) / sigma_a + b.mean(**axes)
    np.testing.assert_allclose(found.numpy(), expected, **for_dtype(dtype))


def test_the_result_has_the_moments_of_the_style() -> None:
    x, y = drawn(2, 3, 9, 9), 5 * drawn(2, 3, 4, 7, seed=1) - 2
    found = adaptive_instance_norm(x, y, eps=1e-12)
    for moment in (torch.mean, lambda z, dim: torch.var(z, dim=dim, correction=0)):
        torch.testing.assert_close(moment(found, dim=(2, 3)), moment(y, dim=(2, 3)), **TIGHT)
    torch.testing.assert_close(adaptive_instance_norm(x, x, eps=1e-5), x, **TIGHT)


def test_a_flat_map_takes_the_mean_and_stays_flat() -> None:
    found = adaptive_instance_norm(torch.full((1, 1, 3, 3), 7.0), torch.tensor([[[[1.0, 3.0]]]]))
    assert found.tolist() == torch.full((1, 1, 3, 3), 2.0).tolist()


def test_half_precision_comes_back_and_is_counted_in_float32() -> None:
    x, y = (torch.full((1, 1, 4, 4), value, dtype=torch.float16) for value in (300.0, 200.0))
    x[..., 0] = 400.0  # squares beyond 65,504
    found = adaptive_instance_norm(x, y)
    assert found.dtype == torch.float16
    assert bool(found.isfinite().all())


def test_gradients() -> None:
    x, y = drawn(2, 2, 2, 3).requires_grad_(), drawn(1, 2, 3, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(adaptive_instance_norm, (x, y))
    assert torch.autograd.gradgradcheck(adaptive_instance_norm, (x, y))


def test_what_does_not_go_together_is_refused() -> None:
    x = drawn(2, 3, 4, 4)
    for style in (drawn(3, 3, 4, 4), drawn(2, 2, 4, 4), drawn(2, 3, 0, 4), drawn(3, 4, 4)):
        with pytest.raises(ValueError, match="style"):
            adaptive_instance_norm(x, style)
    with pytest.raises(ValueError, match="eps"):
        adaptive_instance_norm(x, x, eps=0.0)
    with pytest.raises(TypeError, match="content"):
        adaptive_instance_norm(x.long(), x)
