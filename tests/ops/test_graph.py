"""What a Function asks of the engine: the answers in every situation in which a backward pass may run."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad

from ganblocks.ops._graph import is_followed, is_plain, is_transformed, is_wanted, is_wrapped


class Product(Function):
    """``a * b``, noting down what its backward pass is told."""

    told: list[tuple[bool, ...]] = []  # noqa: RUF012

    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        return a * b

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (g,) = gradients
        a, b = ctx.saved_tensors
        Product.told.append((is_wanted(ctx, 0), is_wanted(ctx, 1), is_followed(), is_plain(g), is_wrapped(g)))
        return g * b, g * a


def told(*arguments: Any, **options: Any) -> tuple[bool, ...]:
    Product.told.clear()
    torch.autograd.grad(*arguments, **options)
    return Product.told[0]


def test_only_the_tensors_named_are_wanted() -> None:
    a, b = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
    inner = a * 2
    y = Product.apply(inner, b).sum()
    assert told(y, [a, b], retain_graph=True)[:2] == (True, True)
    assert told(y, a, retain_graph=True)[:2] == (True, False)
    assert told(y, inner, retain_graph=True)[0]
    assert told(y, b, retain_graph=True)[:2] == (False, True)
    assert told(Product.apply(a, b.detach()).sum(), a)[:2] == (True, False)


def test_a_gradient_with_a_graph_is_followed() -> None:
    a, b = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
    y = Product.apply(a, b).sum()
    assert told(y, a, create_graph=True)[2:] == (True, False, False)
    assert told(y, a)[2:] == (False, False, False)


def test_batched_gradients_and_forward_mode_are_left_to_plain_pytorch() -> None:
    a, b = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
    y = Product.apply(a, b)
    assert told(y, a, torch.eye(3), is_grads_batched=True, retain_graph=True)[2:] == (False, True, True)
    with forward_ad.dual_level():
        assert told(y, a, torch.ones(3))[2:] == (True, True, False)


def test_transforms_are_seen_from_inside() -> None:
    seen: list[bool] = []

    def watched(x: Tensor) -> Tensor:
        seen.append(is_transformed())
        return Product.apply(x, x).sum()

    Product.told.clear()
    torch.func.grad(watched)(torch.randn(3))
    assert seen == [True]
    assert not is_transformed()
    assert Product.told[0] == (True, True, True, True, False)
