"""Neighbours by the angle, and the share of them that fits, beside loops in NumPy and hand-made cases."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from ganblocks.errors import MetricError
from ganblocks.metrics.retrieval import most_similar, precision_at_k
from tolerances import for_dtype

TIGHT = for_dtype(torch.float64)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(
    N=st.integers(1, 7), M=st.integers(1, 9), D=st.integers(1, 5), seed=st.integers(0, 99), data=st.data(),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)  # fmt: skip
def test_neighbours_are_those_of_another_library(
    N: int, M: int, D: int, seed: int, data: st.DataObject, dtype: torch.dtype
) -> None:
    count = data.draw(st.integers(1, M))
    queries, references = drawn(seed, N, D).to(dtype), drawn(seed + 100, M, D).to(dtype)
    cosines, indices = most_similar(queries, references, count=count)
    search = NearestNeighbors(n_neighbors=count, metric="cosine", algorithm="brute").fit(references.double().numpy())
    distances, _ = search.kneighbors(queries.double().numpy())
    torch.testing.assert_close(cosines, torch.from_numpy(1 - distances), **TIGHT)
    lengths = [x.double().norm(dim=-1) for x in (queries, references)]
    for row in range(N):
        assert len(set(indices[row].tolist())) == count
        for place, index in enumerate(indices[row].tolist()):
            product = queries[row].double() @ references[index].double() / (lengths[0][row] * lengths[1][index])
            torch.testing.assert_close(cosines[row, place], product, **TIGHT)


def test_lengths_do_not_count_and_equal_ones_keep_their_order() -> None:
    references = torch.tensor([[0.0, 1.0], [2.0, 0.0], [1e200, 0.0], [-3.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    cosines, indices = most_similar(torch.tensor([[1e-200, 0.0]], dtype=torch.float64), references, count=5)
    assert indices.tolist() == [[1, 2, 4, 0, 3]]
    torch.testing.assert_close(cosines, torch.tensor([[1, 1, 0.5**0.5, 0, -1]], dtype=torch.float64), **TIGHT)


def test_no_image_is_its_own_neighbour_though_there_are_copies() -> None:
    features = drawn(0, 600, 3)  # more than are compared at a time
    features[599] = features[0]
    features[300] = 2 * features[0]
    _, indices = most_similar(features, count=2)
    assert not (indices == torch.arange(600)[:, None]).any()
    assert indices[0].tolist() == [300, 599]
    assert set(indices[599].tolist()) == {0, 300}
    cosines, every = most_similar(features[:4], count=3)
    assert sorted(every[2].tolist()) == [0, 1, 3]
    assert bool(cosines.isfinite().all())


def test_zeros_have_no_direction() -> None:
    features = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.5]])
    cosines, indices = most_similar(features[:1], features, count=3)
    assert cosines.tolist() == [[0.0, 0.0, 0.0]]
    assert indices.tolist() == [[0, 1, 2]]
    cosines, indices = most_similar(features[1:2], features, count=3)
    assert indices.tolist() == [[1, 0, 2]]
    assert cosines[0, 1] == 0


@given(N=st.integers(1, 6), k=st.integers(1, 5), seed=st.integers(0, 99))
def test_precision_is_the_loop_over_queries(N: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, found = rng.integers(0, 3, N), rng.integers(0, 3, (N, k))
    score = precision_at_k(torch.from_numpy(labels), torch.from_numpy(found))
    for places in range(1, k + 1):
        shares = [sum(found[row, :places] == labels[row]) / places for row in range(N)]
        assert score.details[f"at_{places}"] == pytest.approx(np.mean(shares), abs=TIGHT["atol"])
    assert score.value == score.details[f"at_{k}"]
    assert score.details["any"] == pytest.approx(np.mean([labels[row] in found[row] for row in range(N)]))
    assert score.counts == {"queries": N}


def test_attributes_fit_where_one_is_shared() -> None:
    labels = torch.tensor([[True, True, False], [False, False, False]])
    found = torch.tensor(
        [[[False, True, True], [False, False, True]], [[True, True, True], [False, False, False]]]
    )  # the second query has no attribute: nothing fits
    score = precision_at_k(labels, found)
    assert (score.value, score.details["at_1"], score.details["any"]) == (0.25, 0.5, 0.5)
    assert score.settings["labels"] == "attributes"


def test_what_they_refuse() -> None:
    features = drawn(1, 4, 3)
    with pytest.raises(ValueError, match="count` is 4, but must be 1 to 3"):
        most_similar(features, count=4)
    with pytest.raises(ValueError, match="count` is 0"):
        most_similar(features, features, count=0)
    with pytest.raises(ValueError, match="of 3, as the queries"):
        most_similar(features, drawn(2, 4, 2))
    with pytest.raises(MetricError, match="NaN or infinite"):
        most_similar(torch.full((2, 2), torch.nan), count=1)
    with pytest.raises(ValueError, match="at least one sample"):
        most_similar(features[:0], features)
    labels, found = torch.tensor([0, 1]), torch.tensor([[0], [1]])
    with pytest.raises(TypeError, match="whole numbers or bool"):
        precision_at_k(labels.double(), found)
    with pytest.raises(TypeError, match="as `labels`"):
        precision_at_k(labels, found == 1)
    for wrong in (found[:1], found[:, :0]):
        with pytest.raises(ValueError, match=r"\[N, k, ...\] for labels"):
            precision_at_k(labels, wrong)
