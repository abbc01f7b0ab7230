"""The MinibatchStd module: the statistic with its group size, and nothing to learn."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import oracles
from ganblocks.layers import MinibatchStd
from strategies import fill, image_shapes, tensors
from tolerances import for_dtype, named

float64 = torch.float64


@given(
    x=tensors(shape=image_shapes(batch=st.integers(0, 8), channels=st.sampled_from([2, 4]), size=st.integers(0, 3))),
    group_size=st.sampled_from([4, 2, 3, None]),
    num_channels=st.sampled_from([1, 2]),
    unbiased=st.booleans(),
)
def test_equals_the_loop(x: Tensor, group_size: int | None, num_channels: int, unbiased: bool) -> None:
    y = MinibatchStd(group_size, num_channels, unbiased=unbiased)(x)
    assert y.dtype == x.dtype
    expected = oracles.minibatch_std(oracles.to_array(x), group_size, num_channels, unbiased)
    oracles.assert_matches(y, expected, magnitude=oracles.largest(x))


def test_defaults_are_groups_of_four_and_one_channel() -> None:
    x = fill((8, 4, 2, 2), "normal", seed=1)
    assert torch.equal(MinibatchStd()(x), MinibatchStd(4, 1, unbiased=False, eps=1e-8)(x, chunks=1))
    oracles.assert_matches(MinibatchStd()(x), oracles.minibatch_std(oracles.to_array(x), 4, 1, False, 1e-8))


@pytest.mark.parametrize(("eps", "expected"), [(1e-8, 1e-4), (0.25, 0.5), (0.0, 0.0)])
def test_identical_samples_give_the_root_of_eps(eps: float, expected: float) -> None:
    found = MinibatchStd(eps=eps)(torch.ones(4, 2, 3, 3, dtype=float64))[:, -1]
    torch.testing.assert_close(found, torch.full_like(found, expected), **for_dtype(float64))


def test_chunks_are_separate_batches() -> None:
    layer = MinibatchStd(group_size=2, num_channels=2)
    real, fake = fill((4, 2, 2, 2), "normal", seed=1), fill((4, 2, 2, 2), "large", seed=2)
    together = layer(torch.cat([real, fake]), chunks=2)
    torch.testing.assert_close(together, torch.cat([layer(real), layer(fake)]), **for_dtype(float64))
    assert not torch.equal(together, layer(torch.cat([real, fake])))


def test_a_score_behind_it_ignores_the_order_inside_a_group() -> None:
    critic = nn.Sequential(MinibatchStd(), nn.Conv2d(4, 8, 3, dtype=float64), nn.Tanh(), nn.Flatten())
    x = fill((8, 3, 4, 4), "normal", seed=3)  # groups: even and odd samples
    order = [2, 1, 6, 7, 0, 3, 4, 5]
    torch.testing.assert_close(critic(x[order]), critic(x)[order], **for_dtype(float64))
    across = [1, 0, 2, 3, 4, 5, 6, 7]
    assert not torch.allclose(critic(x[across]), critic(x)[across])


def test_has_no_state_and_no_mode() -> None:
    layer = MinibatchStd()
    assert not layer.state_dict()
    assert not list(layer.parameters())
    x = torch.randn(4, 3, 4, 4)
    assert torch.equal(layer.train()(x), layer.eval()(x))
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_first_and_second_gradients(batch: int) -> None:
    x = fill((batch, 2, 2, 1), "normal", seed=4).requires_grad_()
    assert torch.autograd.gradcheck(MinibatchStd(), (x,))
    assert torch.autograd.gradgradcheck(MinibatchStd(), (x,))


def test_the_document_form_is_reached_by_its_options() -> None:
    layer = MinibatchStd(None, unbiased=True, eps=0)
    x = fill((6, 3, 2, 2), "normal", seed=5)
    found = layer(x)[:, -1]
    torch.testing.assert_close(found, torch.std(x, dim=0).mean().expand_as(found), **for_dtype(float64))
    torch.testing.assert_close(layer(x[:1])[:, -1], torch.zeros(1, 2, 2, dtype=float64), **named("exact"))


def test_the_printout_names_every_option() -> None:
    text = repr(MinibatchStd(3, 2, unbiased=True, eps=0.25))
    for part in ("3", "2", "unbiased=True", "eps=0.25"):
        assert part in text
    assert "None" in repr(MinibatchStd(None))


def test_refuses_wrong_options() -> None:
    with pytest.raises(ValueError, match="num_channels"):
        MinibatchStd(num_channels=2)(torch.zeros(4, 3, 2, 2))
    with pytest.raises(ValueError, match="chunks"):
        MinibatchStd()(torch.zeros(3, 3, 2, 2), chunks=2)
    with pytest.raises(ValueError, match="group_size"):
        MinibatchStd(0)(torch.zeros(4, 3, 2, 2))
    with pytest.raises(TypeError):
        MinibatchStd()(torch.zeros(4, 3, 2, 2), 2)
    with pytest.raises(TypeError):
        MinibatchStd(4, 1, True)  # type: ignore[misc]
