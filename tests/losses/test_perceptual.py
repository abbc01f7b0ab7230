"""Losses of style transfer: numbers by hand, loops in NumPy, and gradients of both orders."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ganblocks.functional.adaptive_norm import adaptive_instance_norm
from ganblocks.functional.gram import gram_matrix
from ganblocks.losses.perceptual import content_loss, moment_loss, style_loss, total_variation
from tolerances import for_dtype

TIGHT = for_dtype(torch.float64)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def maps(N: int = 2, seed: int = 0) -> dict[str, Tensor]:
    return {"a": drawn(N, 2, 3, 4, seed=seed), "b": drawn(N, 3, 2, 2, seed=seed + 1)}


def test_content_is_the_mean_over_layers_of_mean_squares() -> None:
    ours, theirs = maps(), maps(seed=9)
    by_hand = np.mean([((ours[name] - theirs[name]).numpy() ** 2).mean() for name in ours])
    assert float(content_loss(ours, theirs)) == pytest.approx(by_hand, rel=1e-12)
    assert float(content_loss(ours, ours)) == 0
    one = maps(1, seed=9)
    every = {name: target.expand(2, -1, -1, -1) for name, target in one.items()}
    torch.testing.assert_close(content_loss(ours, one), content_loss(ours, every), **TIGHT)


def test_style_compares_gram_matrices_of_maps_of_any_size() -> None:
    ours, style = maps(), {"a": drawn(1, 2, 5, 5, seed=7), "b": drawn(1, 3, 1, 1, seed=8)}
    targets = {name: gram_matrix(features) for name, features in style.items()}
    losses = []
    for name, features in ours.items():
        x, y = features.flatten(2).numpy(), style[name].flatten(2).numpy()[0]
        difference = np.einsum("ncp,ndp->ncd", x, x) / x.shape[2] - y @ y.T / y.shape[1]
        losses.append((difference**2).mean())
    assert float(style_loss(ours, targets)) == pytest.approx(np.mean(losses), rel=1e-12)
    assert float(style_loss(style, targets)) == 0


def test_moments_are_those_of_numpy_for_maps_of_any_size() -> None:
    ours, style = maps(), {"a": drawn(1, 2, 5, 5, seed=7), "b": drawn(2, 3, 4, 1, seed=8)}
    losses = []
    for name, features in ours.items():
        x, y = (part.flatten(2).numpy() for part in (features, style[name]))
        means = ((x.mean(2) - y.mean(2)) ** 2).mean()
        spreads = ((np.sqrt(x.var(2) + 1e-5) - np.sqrt(y.var(2) + 1e-5)) ** 2).mean()
        losses.append(means + spreads)
    assert float(moment_loss(ours, style)) == pytest.approx(np.mean(losses), rel=1e-12)


def test_what_was_given_the_moments_has_them() -> None:
    content, style = drawn(2, 3, 5, 4), 3 + 2 * drawn(2, 3, 4, 4, seed=1)
    given_them = {"a": adaptive_instance_norm(content, style)}
    assert float(moment_loss({"a": content}, {"a": style})) > 5
    assert float(moment_loss(given_them, {"a": style}, eps=1e-9)) < 1e-8


def test_the_gradients_of_the_moments_pass_gradcheck_in_both_orders() -> None:
    ours, style = drawn(1, 2, 3, 2).requires_grad_(), drawn(1, 2, 2, 2, seed=1).requires_grad_()

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return moment_loss({"a": x}, {"a": y})

    assert torch.autograd.gradcheck(loss, (ours, style))
    assert torch.autograd.gradgradcheck(loss, (ours, style))


def test_moments_refuse_what_does_not_go_together() -> None:
    with pytest.raises(ValueError, match="features"):
        moment_loss(maps(), {"a": drawn(1, 2, 2, 2)})
    with pytest.raises(ValueError, match="eps"):
        moment_loss(maps(), maps(), eps=0.0)
    with pytest.raises(ValueError, match="4"):
        moment_loss({"a": drawn(2, 3)}, {"a": drawn(2, 3)})


@given(
    N=st.integers(1, 2), C=st.integers(0, 2), H=st.integers(1, 4), W=st.integers(1, 4), seed=st.integers(0, 99),
    form=st.sampled_from(["anisotropic", "isotropic"]),
)  # fmt: skip
def test_total_variation_is_the_loop_over_pixels(N: int, C: int, H: int, W: int, seed: int, form: str) -> None:
    images = drawn(N, C, H, W, seed=seed)
    total = 0.0
    for n, c, i, j in np.ndindex(N, C, H, W):
        here = float(images[n, c, i, j])
        right = float(images[n, c, i, j + 1]) - here if j + 1 < W else 0.0
        down = float(images[n, c, i + 1, j]) - here if i + 1 < H else 0.0
        total += math.hypot(right, down) if form == "isotropic" else abs(right) + abs(down)
    found = total_variation(images, form=form)  # type: ignore[arg-type]
    assert float(found) == pytest.approx(total / N, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("form", ["anisotropic", "isotropic"])
def test_a_step_edge_a_corner_and_a_constant_image(form: str) -> None:
    edge = torch.zeros(1, 1, 6, 8)
    edge[..., 4:] = 0.5  # six rows, a step of one half
    assert float(total_variation(edge, form=form)) == 3.0  # type: ignore[arg-type]
    corner = torch.ones(1, 1, 2, 2)
    corner[0, 0, 0, 0] = 0.0
    expected = {"anisotropic": 2.0, "isotropic": 2**0.5}[form]
    assert float(total_variation(corner, form=form)) == pytest.approx(expected, rel=1e-7)  # type: ignore[arg-type]
    constant = torch.full((2, 3, 5, 5), 0.3, requires_grad=True)
    value = total_variation(constant, form=form)  # type: ignore[arg-type]
    value.backward()
    assert float(value.detach()) == 0
    assert constant.grad is not None
    assert not constant.grad.any()


def test_gradients() -> None:
    ours, targets = maps(), {name: gram_matrix(one) for name, one in maps(1, seed=5).items()}
    a, b = (ours[name].requires_grad_() for name in "ab")
    for loss in (
        lambda a, b: content_loss({"a": a, "b": b}, maps(seed=5)),
        lambda a, b: style_loss({"a": a, "b": b}, targets),
    ):
        assert torch.autograd.gradcheck(loss, (a, b))
        assert torch.autograd.gradgradcheck(loss, (a, b))
    images = drawn(1, 2, 3, 3).requires_grad_()
    for form in ("anisotropic", "isotropic"):
        assert torch.autograd.gradcheck(lambda x, form=form: total_variation(x, form=form), (images,))
    assert torch.autograd.gradgradcheck(lambda x: total_variation(x, form="isotropic"), (images,))


def test_half_precision_is_summed_in_float32() -> None:
    images = torch.zeros(1, 1, 600, 600, dtype=torch.float16)
    images[..., ::2] = 1.0
    assert float(total_variation(images)) == 599 * 600  # beyond float16
    loss = content_loss({"a": torch.full((1, 1, 2, 2), 300.0).half()}, {"a": torch.zeros(1, 1, 2, 2).half()})
    assert float(loss) == 90_000


def test_what_does_not_go_together_is_refused() -> None:
    ours = maps()
    with pytest.raises(ValueError, match="those of the targets"):
        content_loss(ours, {"a": ours["a"]})
    with pytest.raises(ValueError, match="at least one layer"):
        style_loss({}, {})
    with pytest.raises(ValueError, match=r"features\['a'\]"):
        content_loss({"a": ours["a"]}, {"a": ours["a"][..., :3]})
    with pytest.raises(ValueError, match=r"targets\['a'\]"):
        content_loss({"a": ours["a"]}, {"a": ours["a"].expand(3, 2, 2, 3, 4)[0:1].flatten(0, 1)[:1, :1]})
    with pytest.raises(ValueError, match="at least one image"):
        total_variation(drawn(0, 1, 2, 2))
    with pytest.raises(ValueError, match="form"):
        total_variation(drawn(1, 1, 2, 2), form="round")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="images"):
        total_variation(torch.ones(1, 1, 2, 2, dtype=torch.uint8))
