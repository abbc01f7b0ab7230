"""The projection head against the paper's formula in loops."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from ganblocks.layers.initialization import initialize
from ganblocks.layers.projection import ProjectionHead
from tolerances import for_dtype

FLOAT64 = for_dtype(torch.float64)


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@given(
    N=st.integers(0, 5),
    F=st.integers(1, 6),
    K=st.integers(0, 4),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    seed=st.integers(0, 99),
)
def test_it_is_the_paper_s_formula_in_loops(N: int, F: int, K: int, dtype: torch.dtype, seed: int) -> None:
    torch.manual_seed(seed)
    head, features = ProjectionHead(F, K, dtype=dtype), drawn(N, F, seed=seed, dtype=dtype)
    labels = torch.randint(K, (N,)) if K else None
    state = {name: value.double().numpy() for name, value in head.state_dict().items()}
    expected = []
    for i, row in enumerate(features.double().numpy()):
        score = state["linear.bias"][0] + sum(state["linear.weight"][0][j] * row[j] for j in range(F))
        if labels is not None:
            score += sum(state["classes.weight"][labels[i]][j] * row[j] for j in range(F))
        expected.append(score)
    result = head(features, labels)
    assert result.shape == (N,)
    assert result.dtype == dtype
    np.testing.assert_allclose(result.detach().double().numpy(), np.array(expected), **for_dtype(dtype))


def test_without_classes_it_is_a_linear_layer() -> None:
    head = ProjectionHead(3)
    assert list(head.state_dict()) == ["linear.weight", "linear.bias"]
    assert sum(parameter.numel() for parameter in ProjectionHead(5, 7).parameters()) == 5 + 1 + 7 * 5


def test_a_label_trains_its_own_vector_only() -> None:
    head, features = ProjectionHead(3, 4), drawn(2, 3, dtype=torch.float32)
    head(features, torch.tensor([2, 0])).sum().backward()
    assert head.classes is not None
    gradient = head.classes.weight.grad
    assert gradient is not None
    torch.testing.assert_close(gradient, torch.stack([features[1], *torch.zeros(1, 3), features[0], torch.zeros(3)]))


def test_it_is_differentiable_twice_in_the_features_and_every_weight() -> None:
    head, labels = ProjectionHead(3, 2, dtype=torch.float64), torch.tensor([1, 0, 1])
    names, weights = zip(*head.named_parameters(), strict=True)

    def call(features: Tensor, *weights: Tensor) -> Tensor:
        return torch.func.functional_call(head, dict(zip(names, weights, strict=True)), (features.tanh(), labels))

    inputs = (drawn(3, 3).requires_grad_(), *weights)
    assert gradcheck(call, inputs)
    assert gradgradcheck(call, inputs)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_labels_of_every_integer_type(dtype: torch.dtype) -> None:
    head, features, labels = ProjectionHead(3, 4), drawn(3, 3, dtype=torch.float32), torch.tensor([3, 0, 1])
    assert torch.equal(head(features, labels.to(dtype)), head(features, labels))


def test_under_autocast_it_agrees_with_float32() -> None:
    head, features, labels = ProjectionHead(16, 4), drawn(8, 16, dtype=torch.float32), torch.arange(8) % 4
    with torch.autocast("cpu", torch.bfloat16):
        low = head(features, labels)
    torch.testing.assert_close(low.float(), head(features, labels), **for_dtype(torch.bfloat16))


def test_initialize_reaches_the_class_vectors_and_the_printout_shows_the_sizes() -> None:
    head = initialize(ProjectionHead(64, 50), "dcgan")
    assert head.classes is not None
    assert 0.015 < head.classes.weight.std() < 0.025
    assert repr(head).startswith("ProjectionHead(\n  64, num_classes=50\n")


def test_wrong_arguments_are_told() -> None:
    with pytest.raises(ValueError, match="`features` is 0, but must be at least 1"):
        ProjectionHead(0)
    with pytest.raises(ValueError, match="`num_classes` is -1, but must be at least 0"):
        ProjectionHead(3, -1)
    head, features = ProjectionHead(3, 4), drawn(2, 3, dtype=torch.float32)
    good = torch.tensor([0, 1])
    for shape in ((2, 4), (2, 3, 1), (3,)):
        with pytest.raises(ValueError, match=r"`features` is .* must be of shape \[N, 3\]"):
            head(torch.zeros(shape), good)
    with pytest.raises(ValueError, match=r"`labels` is None, but must be class indices \[N\] from 0 to 3"):
        head(features)
    with pytest.raises(ValueError, match=r"`labels` is .*num_classes=0"):
        ProjectionHead(3)(features, good)
    with pytest.raises(ValueError, match=r"`labels` is \(1,\), but must be \[2\]"):
        head(features, good[:1])  # would broadcast
    with pytest.raises(TypeError, match=r"`labels` is torch.float32, but must be integers"):
        head(features, good.float())
    for wrong in (-1, 4):
        with pytest.raises(ValueError, match=f"`labels` is {wrong}, but must be from 0 to 3"):
            head(features, torch.tensor([0, wrong]))
