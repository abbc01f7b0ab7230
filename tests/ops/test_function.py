"""Our base of Functions: the same answers in every mode as PyTorch's own, and the twin where nothing is transformed."""

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from ganblocks.ops._function import Function

# PyTorch itself calls it when forward-mode derivatives are first used.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
float64 = torch.float64


def cubes(base: type[torch.autograd.Function]) -> type[torch.autograd.Function]:
    """``x**3 + shift`` with every method a Function may have; it notes who called its forward."""

    class Cube(base):  # type: ignore[valid-type, misc]
        generate_vmap_rule = True

        @staticmethod
        def forward(x: Tensor, shift: float) -> Tensor:
            return x**3 + shift

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            ctx.save_for_backward(inputs[0])
            ctx.save_for_forward(inputs[0])
            ctx.names = (inputs[1], tuple(output.shape))

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
            (x,) = ctx.saved_tensors
            assert ctx.names == (0.5, tuple(x.shape))
            return gradients[0] * 3 * x**2, None

        @staticmethod
        def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return tangents[0] * 3 * x**2

    return Cube


OURS, THEIRS = cubes(Function), cubes(torch.autograd.Function)


def answers(cube: type[torch.autograd.Function], x: Tensor) -> list[Any]:
    def call(x: Tensor) -> Tensor:
        result: Tensor = cube.apply(x, 0.5)
        return result

    def total(x: Tensor) -> Tensor:
        return call(x).sum()

    (first,) = torch.autograd.grad(total(x), x, create_graph=True)
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(call(forward_ad.make_dual(x.detach(), torch.ones_like(x)))).tangent
    return [
        call(x),
        first,
        torch.autograd.grad(first.square().sum(), x),
        torch.autograd.grad(call(x), x, torch.eye(3, dtype=x.dtype), is_grads_batched=True),
        tangent,
        torch.func.grad(total)(x),
        torch.func.grad(lambda x: torch.func.grad(total)(x).square().sum())(x),
        torch.func.vmap(call)(x),
        torch.func.vmap(torch.func.grad(total))(x),
        torch.func.jvp(call, (x.detach(),), (torch.ones_like(x),)),
        torch.func.hessian(total)(x),
    ]


def test_every_mode_gives_what_pytorch_gives() -> None:
    x = torch.tensor([0.3, -1.2, 2.0], dtype=float64, requires_grad=True)
    torch.testing.assert_close(answers(OURS, x), answers(THEIRS, x), rtol=0, atol=0)
    assert gradcheck(lambda x: OURS.apply(x, 0.5), (x,), check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(lambda x: OURS.apply(x, 0.5), (x,), check_batched_grad=True)


def test_only_a_transform_takes_the_form_whose_signature_is_inspected(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes it fast: PyTorch does not inspect the signature of its forward."""
    bound = []
    inspects = inspect.signature

    def noting(*arguments: Any, **options: Any) -> Any:
        bound.append(arguments[0].__qualname__)
        return inspects(*arguments, **options)

    monkeypatch.setattr(inspect, "signature", noting)
    x = torch.ones(2, requires_grad=True)
    OURS.apply(x, 0.5)
    assert not bound
    THEIRS.apply(x, 0.5)
    torch.func.grad(lambda x: OURS.apply(x, 0.5).sum())(x)
    assert len(bound) >= 2


def test_the_node_has_the_name_of_the_class() -> None:
    y = OURS.apply(torch.ones(2, requires_grad=True), 0.5)
    assert type(y.grad_fn).__name__ == "CubeBackward"


def test_without_a_forward_mode_it_says_so() -> None:
    class Plain(Function):
        @staticmethod
        def forward(x: Tensor) -> Tensor:
            return x * 2

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            pass

    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="forward mode AD"):
        Plain.apply(forward_ad.make_dual(torch.ones(2), torch.ones(2)))
