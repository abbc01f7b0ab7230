"""Gram matrices: a hand-made one, loops over pairs of features, layouts, and gradients of both orders."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ganblocks.functional.gram import gram_matrix
from strategies import lay_out
from tolerances import for_dtype

TIGHT = for_dtype(torch.float64)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_hand_made_one() -> None:
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [-1.0, 2.0]]]])
    assert gram_matrix(maps).tolist() == [[[30 / 4, 7 / 4], [7 / 4, 6 / 4]]]


@given(
    N=st.integers(0, 3), C=st.integers(0, 4), H=st.integers(1, 4), W=st.integers(1, 4),
    layout=st.sampled_from(["contiguous", "channels_last", "sliced"]),
    dtype=st.sampled_from([torch.float64, torch.float32]), seed=st.integers(0, 99),
)  # fmt: skip
def test_means_of_products_in_every_layout(
    N: int, C: int, H: int, W: int, layout: str, dtype: torch.dtype, seed: int
) -> None:
    maps = drawn(N, C, H, W, seed=seed).to(dtype)
    found = gram_matrix(lay_out(maps, layout))
    assert found.dtype == dtype
    values = maps.double().numpy()
    expected = np.zeros((N, C, C))
    for n in range(N):
        for c in range(C):
            for d in range(C):
                expected[n, c, d] = sum(values[n, c, i, j] * values[n, d, i, j] for i in range(H) for j in range(W))
    np.testing.assert_allclose(found.numpy(), expected / (H * W), **for_dtype(dtype))


def test_symmetric_and_positive_semi_definite_and_blind_to_places() -> None:
    maps = drawn(2, 6, 2, 2)  # more features than places: singular
    gram = gram_matrix(maps)
    torch.testing.assert_close(gram, gram.mT, **TIGHT)
    assert float(torch.linalg.eigvalsh(gram).min()) > -1e-12
    shuffled = maps.flatten(2)[:, :, torch.tensor([2, 0, 3, 1])].unflatten(2, (2, 2))
    torch.testing.assert_close(gram_matrix(shuffled), gram, **TIGHT)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_sums_in_float32(dtype: torch.dtype) -> None:
    maps = torch.full((1, 2, 64, 64), 60.0, dtype=dtype)  # the sum of squares is 1.5e7
    assert gram_matrix(maps).tolist() == [[[3600.0, 3600.0], [3600.0, 3600.0]]]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert gram_matrix(maps.float()).dtype == torch.float32


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_gradients(layout: str) -> None:
    maps = lay_out(drawn(2, 3, 2, 2), layout).requires_grad_()
    assert torch.autograd.gradcheck(gram_matrix, (maps,))
    assert torch.autograd.gradgradcheck(gram_matrix, (maps,))


def test_what_is_no_map_is_refused() -> None:
    with pytest.raises(TypeError, match="floating-point"):
        gram_matrix(torch.ones(1, 2, 3, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="features"):
        gram_matrix(torch.ones(2, 3, 3))
    with pytest.raises(ValueError, match="at least one place"):
        gram_matrix(torch.ones(2, 3, 0, 3))
