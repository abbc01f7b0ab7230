"""Colours of one image given to another: moments, a case by hand, and chroma that stays."""

import colorsys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ganblocks.functional.color import match_color, with_luminance
from tolerances import for_dtype, named

TIGHT = for_dtype(torch.float64)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(N=st.integers(1, 2), C=st.integers(1, 3), one=st.booleans(), seed=st.integers(0, 99))
def test_mean_and_covariance_are_those_of_the_target(N: int, C: int, one: bool, seed: int) -> None:
    images, target = drawn(N, C, 5, 6, seed=seed), drawn(1 if one else N, C, 7, 4, seed=seed + 1) ** 2
    matched = match_color(images, target, eps=1e-12).flatten(2)
    for row in range(N):
        other = target[0 if one else row].flatten(1)
        torch.testing.assert_close(matched[row].mean(1), other.mean(1), **TIGHT)
        ours, theirs = (torch.atleast_2d(torch.cov(part, correction=0)) for part in (matched[row], other))
        torch.testing.assert_close(ours, theirs, **named("nearly_straight"))


def test_one_channel_by_hand_and_an_image_of_one_colour() -> None:
    images = torch.tensor([0.0, 1.0], dtype=torch.float64).reshape(1, 1, 1, 2)  # mean 1/2, deviation 1/2
    target = torch.tensor([0.2, 0.4], dtype=torch.float64).reshape(1, 1, 2, 1)  # mean 0.3, deviation 0.1
    found = match_color(images, target, eps=1e-14).flatten().tolist()
    assert found == pytest.approx([0.2, 0.4], abs=1e-9)
    flat = match_color(torch.full((1, 3, 2, 2), 0.7), drawn(1, 3, 4, 4).float())
    assert bool(flat.isfinite().all())
    assert flat.flatten(2).std(2).max() < 1e-3


def test_luminance_moves_and_chroma_stays() -> None:
    images, other = drawn(2, 3, 2, 2), drawn(2, 3, 2, 2, seed=1)
    found = with_luminance(images, other)
    for place in range(4):
        before, wanted, after = (
            colorsys.rgb_to_yiq(*part[0].flatten(1)[:, place].tolist()) for part in (images, other, found)
        )
        # colorsys counts with other weights of the same place, which sum to 1: I and Q stay exactly
        assert after[1:] == pytest.approx(before[1:], abs=1e-9)
        assert after[0] - before[0] == pytest.approx(wanted[0] - before[0], abs=0.02)
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close((found * weights).sum(1), (other * weights).sum(1), **TIGHT)
    torch.testing.assert_close(with_luminance(images, images), images, **TIGHT)


def test_gradients() -> None:
    images, target = drawn(1, 2, 2, 3).requires_grad_(), drawn(1, 2, 3, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(match_color, (images, target))
    a, b = drawn(1, 3, 2, 2).requires_grad_(), drawn(1, 3, 2, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(with_luminance, (a, b))
    assert torch.autograd.gradgradcheck(with_luminance, (a, b))


def test_what_does_not_go_together_is_refused() -> None:
    images = drawn(2, 3, 4, 4)
    for target in (drawn(3, 3, 4, 4), drawn(2, 1, 4, 4), drawn(2, 3, 0, 4), drawn(3, 4, 4)):
        with pytest.raises(ValueError, match="target"):
            match_color(images, target)
    with pytest.raises(ValueError, match="eps"):
        match_color(images, images, eps=0.0)
    with pytest.raises(TypeError, match="images"):
        match_color((255 * images).byte(), images)
    with pytest.raises(ValueError, match="must be equal"):
        with_luminance(images, images[:1])
    with pytest.raises(ValueError, match=r"\[N, 3, H, W\]"):
        with_luminance(images[:, :1], images[:, :1])
    with pytest.raises(TypeError, match="images"):
        with_luminance(images.long(), images.long())
