"""bias_act as an operation: without a kernel the formula to the last bit, with one what only large tensors show."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ganblocks import functional
from ganblocks.ops._switch import backend
from ganblocks.ops.bias_act import bias_act
from ganblocks.ops.kernels import is_interpreted, why_missing
from strategies import fill, shapes, tensors
from tolerances import for_dtype, named

with_kernels = pytest.mark.skipif(
    why_missing() is not None or not is_interpreted(), reason="Triton's interpreter is not switched on"
)


@given(
    x=tensors(shape=shapes()),
    slope=st.sampled_from([0.2, 0.0, 1.0]),
    scale=st.sampled_from([1.0, -0.3]),
    biased=st.booleans(),
    recorded=st.booleans(),
)
def test_without_a_kernel_values_and_gradients_are_the_formulas_bits(
    x: Tensor, slope: float, scale: float, biased: bool, recorded: bool
) -> None:
    before = x.clone()
    x.requires_grad_(recorded)
    bias = fill((x.shape[1],), "normal", seed=1).requires_grad_(recorded) if biased else None
    y = bias_act(x, bias, slope=slope, scale=scale)
    expected = functional.bias_act(x, bias, slope=slope, scale=scale)
    assert torch.equal(y, expected)
    assert (y.dtype, y.stride()) == (expected.dtype, expected.stride())
    assert torch.equal(x, before)
    if recorded:
        inputs = [x] if bias is None else [x, bias]
        found, wanted = (torch.autograd.grad(result.sum(), inputs) for result in (y, expected))
        for mine, theirs in zip(found, wanted, strict=True):
            torch.testing.assert_close(mine, theirs, **named("exact"))


class Zeros(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (torch.ops.aten.zeros_like.default, torch.ops.aten.zeros.default)
        return func(*args, **(kwargs or {}))


def test_without_a_kernel_the_second_order_has_no_tensor_of_zeros() -> None:
    x, bias = fill((2, 3, 4), "normal", seed=1).requires_grad_(), fill((3,), "normal", seed=2).requires_grad_()
    with Zeros() as zeros:
        (first,) = torch.autograd.grad(bias_act(x, bias, scale=0.5).square().sum(), x, create_graph=True)
        torch.autograd.grad(first.square().sum(), [x, bias])
    assert zeros.count == 0


def test_a_traced_graph_holds_the_formula() -> None:
    x = torch.randn(2, 3)
    with backend("triton"):
        compiled = torch.compile(lambda x: bias_act(x, x[0]), backend="aot_eager", fullgraph=True)
        assert torch.equal(compiled(x), functional.bias_act(x, x[0]))


@with_kernels
@pytest.mark.parametrize("shape", [(700, 1), (1, 1, 4100), (3, 2, 1030), (2, 1500), (40, 600)])
@pytest.mark.parametrize("many", [1, 2**22])
def test_programs_beside_and_below_each_other_meet_without_a_gap(
    shape: tuple[int, ...], many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ganblocks.ops.kernels import bias_act as kernels

    monkeypatch.setattr(kernels, "MANY", many)
    x = fill(shape, "normal", seed=3, dtype=torch.float32).requires_grad_()
    bias = fill((shape[1],), "normal", seed=4, dtype=torch.float32).requires_grad_()
    weights = fill(shape, "normal", seed=5, dtype=torch.float32)
    with backend("triton"):
        y = bias_act(x, bias, scale=0.5)
    expected = functional.bias_act(x, bias, scale=0.5)
    torch.testing.assert_close(y, expected, **for_dtype(torch.float32))
    found, wanted = (torch.autograd.grad(result, [x, bias], weights) for result in (y, expected))
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, **named("sum_of_thousands"))


@with_kernels
def test_a_wider_bias_is_not_rounded_and_its_gradient_keeps_its_dtype() -> None:
    x = torch.full((1, 2, 3), 256.0, dtype=torch.bfloat16).requires_grad_()
    bias = torch.tensor([-255.0, -256.5], requires_grad=True)  # in bfloat16 -256.5 would be -256
    with backend("triton"):
        y = bias_act(x, bias)
    torch.testing.assert_close(y.float()[0, :, 0], torch.tensor([1.0, -0.1]), **named("ulp_bfloat16"))
    y.float().sum().backward()
    assert bias.grad is not None
    assert x.grad is not None
    assert (bias.grad.dtype, x.grad.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(bias.grad, torch.tensor([3.0, 0.6]), **for_dtype(torch.float32))


@with_kernels
def test_a_bias_nobody_asks_for_is_not_summed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from ganblocks.ops.kernels import bias_act as kernels

    asked: list[bool] = []
    adjoint = kernels.adjoint

    def watched(*arguments: Any) -> Any:
        asked.append(arguments[-1] is not None)
        return adjoint(*arguments)

    monkeypatch.setattr(kernels, "adjoint", watched)
    x, bias = torch.randn(2, 3, 4, requires_grad=True), torch.randn(3, requires_grad=True)
    with backend("triton"):
        y = bias_act(x, bias)
    torch.autograd.grad(y.sum(), x, retain_graph=True)
    torch.autograd.grad(y.sum(), x, retain_graph=True, create_graph=True)
    torch.autograd.grad(y.sum(), bias, retain_graph=True)
    y.sum().backward()
    assert asked == [False, False, True, True]


@with_kernels
def test_the_kernel_saves_its_result_only() -> None:
    saved: list[Tensor] = []
    x, bias = torch.randn(2, 3, 4, requires_grad=True), torch.randn(3, requires_grad=True)

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with backend("triton"), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = bias_act(x, bias)
    assert [tensor.data_ptr() for tensor in saved] == [y.data_ptr()]


@pytest.mark.parametrize("mode", ["auto", "reference"])
def test_wrong_arguments_are_refused(mode: str) -> None:
    x = torch.zeros(2, 3, 4)
    with backend(mode):
        with pytest.raises(ValueError, match=r"`bias` is \(4,\), but must be of shape \(3,\)"):
            bias_act(x, torch.zeros(4))
        with pytest.raises(ValueError, match=r"`slope` is 1.5, but must be between 0 and 1"):
            bias_act(x, slope=1.5)
        with pytest.raises(ValueError, match="`x` has shape"):
            bias_act(torch.zeros(3))
        with pytest.raises(TypeError, match="`x` is a list"):
            bias_act([1.0])  # type: ignore[arg-type]
