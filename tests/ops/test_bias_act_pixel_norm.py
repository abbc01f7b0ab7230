"""bias_act_pixel_norm as an operation: without a kernel the formula, with one a bias gradient over many blocks."""

import pytest
import torch
from torch import Tensor

from ganblocks.functional.bias_act_pixel_norm import bias_act_pixel_norm as formula
from ganblocks.ops._switch import backend
from ganblocks.ops.bias_act_pixel_norm import bias_act_pixel_norm
from ganblocks.ops.kernels import is_interpreted, why_missing
from strategies import fill, lay_out
from tolerances import named

with_kernels = pytest.mark.skipif(
    why_missing() is not None or not is_interpreted(), reason="Triton's interpreter is not switched on"
)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_without_a_kernel_values_are_the_formulas_bits(dtype: torch.dtype) -> None:
    x, bias = fill((2, 3, 4), "normal", seed=1, dtype=dtype).requires_grad_(), fill((3,), "normal", seed=2)
    assert torch.equal(bias_act_pixel_norm(x, bias, scale=0.3, eps=0.1), formula(x, bias, scale=0.3, eps=0.1))


def gradients(op: object, tensors: list[Tensor], g: Tensor, slope: float) -> list[Tensor]:
    y = op(*tensors, slope=slope, scale=0.7, eps=0.1)  # type: ignore[operator]
    first = torch.autograd.grad(y, tensors, g, create_graph=True)
    second = torch.autograd.grad(sum(part.sin().sum() for part in first), [g, *tensors])
    return [y.detach(), *(part.detach() for part in first), *second]


@with_kernels
@pytest.mark.parametrize("slope", [0.2, 0.0])
@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((1, 2100), "contiguous"),
        ((2, 1100, 1, 1), "contiguous"),
        ((2, 1100, 1, 2), "contiguous"),
        ((2, 600, 1, 3), "channels_last"),
        ((3, 2, 5, 60), "contiguous"),
        ((2, 260, 5, 4), "channels_last"),
    ],
)
def test_blocks_beside_and_behind_each_other_meet_without_a_gap(
    shape: tuple[int, ...], layout: str, slope: float
) -> None:
    x = lay_out(fill(shape, "normal", seed=2, dtype=torch.float32), layout).requires_grad_()
    bias = fill((shape[1],), "normal", seed=3, dtype=torch.float32).requires_grad_()
    g = fill(shape, "normal", seed=4, dtype=torch.float32).requires_grad_()
    with backend("triton"):
        found = gradients(bias_act_pixel_norm, [x, bias], g, slope)
    for mine, theirs in zip(found, gradients(formula, [x, bias], g, slope), strict=True):
        torch.testing.assert_close(mine, theirs, **named("sum_of_thousands"))


@with_kernels
def test_the_kernel_saves_its_result_and_one_number_per_pixel() -> None:
    shapes: list[tuple[int, ...]] = []
    x, bias = torch.randn(2, 3, 4, 5, requires_grad=True), torch.randn(3, requires_grad=True)

    def pack(tensor: Tensor) -> Tensor:
        shapes.append(tuple(tensor.shape))
        return tensor

    with backend("triton"), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = bias_act_pixel_norm(x, bias)
    assert shapes == [(2, 3, 4, 5), (2, 1, 4, 5)]
    assert y.grad_fn is not None


@with_kernels
def test_a_gradient_by_the_bias_alone_has_a_second_order_too() -> None:
    x = fill((2, 3, 4), "normal", seed=5, dtype=torch.float32)
    bias = fill((3,), "normal", seed=6, dtype=torch.float32).requires_grad_()

    def curvature(op: object) -> Tensor:
        (first,) = torch.autograd.grad(op(x, bias).sin().sum(), bias, create_graph=True)  # type: ignore[operator]
        return torch.autograd.grad(first.square().sum(), bias)[0]

    with backend("triton"):
        found = curvature(bias_act_pixel_norm)
    torch.testing.assert_close(found, curvature(formula), **named("sum_of_thousands"))


def test_wrong_arguments_are_refused() -> None:
    x = torch.zeros(2, 3, 4)
    with pytest.raises(ValueError, match="`bias` is"):
        bias_act_pixel_norm(x, torch.zeros(4))
    with pytest.raises(ValueError, match="`slope` is 2"):
        bias_act_pixel_norm(x, slope=2.0)
    with pytest.raises(ValueError, match="`eps` is -1"):
        bias_act_pixel_norm(x, eps=-1.0)
    with pytest.raises(ValueError, match="`x` has shape"):
        bias_act_pixel_norm(x[0, 0])
    with pytest.raises(TypeError, match="floating-point"):
        bias_act_pixel_norm(torch.zeros(2, 3, dtype=torch.int64))
