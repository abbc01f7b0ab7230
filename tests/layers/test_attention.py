"""Self-attention against loops over positions, and twice differentiable where fused attention is not."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from ganblocks.layers.attention import SelfAttention
from ganblocks.layers.initialization import initialize
from ganblocks.losses.penalties import r1_penalty
from strategies import LAYOUTS, fill, lay_out
from tolerances import for_dtype

FLOAT64 = for_dtype(torch.float64)
PARTS = ("query", "key", "value", "output")


def attention(channels: int, scale: float = 0.7, dtype: torch.dtype = torch.float64, **options: Any) -> SelfAttention:
    layer = SelfAttention(channels, **options, dtype=dtype)
    with torch.no_grad():
        layer.scale.fill_(scale)
    return layer


def by_loops(layer: SelfAttention, x: Tensor) -> np.ndarray:
    """Zhang et al. 2019, equations 1 to 3, position by position."""
    W = {name: getattr(layer, name).weight.detach().double().numpy()[:, :, 0, 0] for name in PARTS}
    images, result = x.double().numpy(), []
    for image in images:
        C, H, width = image.shape
        places = [image[:, i, j] for i in range(H) for j in range(width)]
        seen = []  # keys and values, the largest of each square
        for i in range(0, H, layer.pool):
            for j in range(0, width, layer.pool):
                square = image[:, i : i + layer.pool, j : j + layer.pool].reshape(C, -1)
                seen.append(((W["key"] @ square).max(1), (W["value"] @ square).max(1)))
        columns = []
        for place in places:
            scores = np.array([key @ (W["query"] @ place) for key, _ in seen])
            weights = np.exp(scores - scores.max())
            weights /= weights.sum()
            mixed = sum(weight * value for weight, (_, value) in zip(weights, seen, strict=True))
            columns.append(place + layer.scale.item() * (W["output"] @ mixed))
        result.append(np.stack(columns, 1).reshape(C, H, width))
    return np.stack(result)


@given(
    N=st.integers(1, 3),
    C=st.sampled_from([1, 3, 8, 17]),
    H=st.integers(1, 3),
    W=st.integers(1, 3),
    pool=st.sampled_from([1, 1, 2]),
    reduction=st.sampled_from([1, 2, 8]),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    layout=st.sampled_from(LAYOUTS),
    seed=st.integers(0, 99),
)
def test_it_is_the_paper_s_formula_position_by_position(
    N: int, C: int, H: int, W: int, pool: int, reduction: int, dtype: torch.dtype, layout: str, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = attention(C, dtype=dtype, pool=pool, reduction=reduction)
    x = lay_out(fill((N, C, H * pool, W * pool), "normal", seed=seed, dtype=dtype), layout)
    result = layer(x)
    assert result.dtype == dtype
    np.testing.assert_allclose(result.detach().double().numpy(), by_loops(layer, x), **for_dtype(dtype))


@pytest.mark.parametrize("pool", [1, 2])
def test_it_starts_as_the_identity_and_its_scale_can_learn(pool: int) -> None:
    layer, x = SelfAttention(16, pool=pool), torch.randn(2, 16, 4, 4)
    result = layer(x)
    assert torch.equal(result, x)
    result.square().sum().backward()
    assert layer.scale.grad is not None
    assert layer.scale.grad.abs() > 0


@pytest.mark.parametrize(("channels", "reduction", "width"), [(64, 8, 8), (63, 8, 7), (7, 8, 1), (1, 8, 1), (6, 1, 6)])
def test_queries_keys_and_values_are_an_eighth_wide_and_at_least_one(channels: int, reduction: int, width: int) -> None:
    layer = SelfAttention(channels, reduction=reduction)
    shapes = {name: tuple(value.shape) for name, value in layer.state_dict().items()}
    inner, outer = (width, channels, 1, 1), (channels, width, 1, 1)
    expected = {"scale": (), "query.weight": inner, "key.weight": inner, "value.weight": inner, "output.weight": outer}
    assert shapes == expected
    assert sum(parameter.numel() for parameter in layer.parameters()) == 4 * channels * width + 1


def test_without_a_sense_of_place_it_follows_any_reordering_of_the_positions() -> None:
    layer, x = attention(16), fill((2, 16, 3, 4), "normal", seed=0)
    order = torch.randperm(12)
    moved = x.flatten(2)[:, :, order].unflatten(2, (3, 4))
    torch.testing.assert_close(layer(moved), layer(x).flatten(2)[:, :, order].unflatten(2, (3, 4)), **FLOAT64)


def test_each_image_looks_at_itself_only() -> None:
    layer, x = attention(8), fill((3, 8, 2, 2), "normal", seed=0)
    whole = layer(x)
    for i in range(3):
        torch.testing.assert_close(layer(x[i : i + 1]), whole[i : i + 1], **FLOAT64)
    assert layer(x[:0]).shape == (0, 8, 2, 2)


@pytest.mark.parametrize("pool", [1, 2])
def test_a_far_corner_is_seen(pool: int) -> None:
    layer, x = attention(8, pool=pool), fill((1, 8, 6, 6), "normal", seed=0)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x)[0, :, 0, 0].sum(), x)
    reached = gradient[0].abs().sum(0) > 0
    assert reached.view(6 // pool, pool, 6 // pool, pool).any(3).any(1).all()  # of every square at least one position


@pytest.mark.parametrize("pool", [1, 2])
def test_it_is_differentiable_twice_in_the_images_and_every_weight(pool: int) -> None:
    layer = attention(3, pool=pool, reduction=2)
    names, weights = zip(*layer.named_parameters(), strict=True)

    def call(x: Tensor, *weights: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), (x,))

    inputs = (fill((1, 3, 2, 4), "normal", seed=1).requires_grad_(), *weights)
    assert gradcheck(call, inputs)
    assert gradgradcheck(call, inputs)


def test_a_penalty_trains_it_and_fused_attention_could_not_be_trained_so() -> None:
    layer = attention(8, dtype=torch.float32)
    critic = nn.Sequential(layer, nn.Flatten(), nn.Linear(8 * 16, 1), nn.Flatten(0))
    r1_penalty(critic, torch.randn(3, 8, 4, 4)).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in layer.parameters())
    fused = torch.randn(1, 1, 4, 8, requires_grad=True)
    scores = F.scaled_dot_product_attention(fused, fused, fused)
    (inner,) = torch.autograd.grad(scores.square().sum(), fused, create_graph=True)
    with pytest.raises(RuntimeError, match="not implemented"):  # why the layer writes the attention out
        inner.square().sum().backward()


@pytest.mark.parametrize("values", ["zeros", "constant", "large", "tiny", "mixed"])
def test_extreme_values_are_finite_in_value_and_gradient(values: str) -> None:
    layer = attention(8, dtype=torch.float32)
    x = fill((2, 8, 4, 4), values, seed=0, dtype=torch.float32).requires_grad_()
    result = layer(x)
    result.sum().backward()
    assert result.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("pool", [1, 2])
def test_the_memory_format_is_kept(memory_format: torch.memory_format, pool: int) -> None:
    layer = attention(16, pool=pool, dtype=torch.float32)
    x = torch.randn(2, 16, 4, 6).contiguous(memory_format=memory_format)
    assert layer(x).is_contiguous(memory_format=memory_format)


def test_under_autocast_it_agrees_with_float32_and_its_softmax_is_taken_there(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = attention(16, dtype=torch.float32), torch.randn(2, 16, 4, 4)
    softmax, dtypes = Tensor.softmax, []

    def watched(scores: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
        dtypes.append((scores.dtype, dtype))
        return softmax(scores, dim, dtype)

    monkeypatch.setattr(Tensor, "softmax", watched)
    with torch.autocast("cpu", torch.bfloat16):
        low = layer(x)
    assert dtypes == [(torch.bfloat16, torch.float32)]
    torch.testing.assert_close(low.float(), layer(x), **for_dtype(torch.bfloat16))
    wide = layer(x)
    torch.testing.assert_close(layer.bfloat16()(x.bfloat16()).float(), wide, **for_dtype(torch.bfloat16))


def test_initialize_and_the_printout_know_it() -> None:
    layer = initialize(SelfAttention(16, pool=2), "dcgan")
    assert layer.query.weight.std() < 0.1
    assert layer.scale.item() == 0.0
    assert repr(layer).startswith("SelfAttention(\n  16, reduction=8, pool=2\n")


def test_wrong_arguments_are_told() -> None:
    for name, call in (
        ("channels", lambda: SelfAttention(0)),
        ("reduction", lambda: SelfAttention(8, reduction=0)),
        ("pool", lambda: SelfAttention(8, pool=0)),
    ):
        with pytest.raises(ValueError, match=f"`{name}` is 0, but must be at least 1"):
            call()
    layer = SelfAttention(8, pool=2)
    for shape in ((1, 4, 2, 2), (8, 2, 2)):
        with pytest.raises(ValueError, match=r"`x` is .* must be of shape \[N, 8, H, W\]"):
            layer(torch.zeros(shape))
    for shape in ((1, 8, 2, 3), (1, 8, 3, 2), (1, 8, 0, 2), (1, 8, 2, 0)):
        with pytest.raises(ValueError, match=r"`x` is .* that pool=2 divides"):
            layer(torch.zeros(shape))
