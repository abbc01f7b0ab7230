"""pixel_norm as an operation: without a kernel the formula itself, with one what only many channels show."""

import pytest
import torch
from torch import Tensor

from ganblocks import functional
from ganblocks.ops._switch import backend
from ganblocks.ops.kernels import is_interpreted, why_missing
from ganblocks.ops.pixel_norm import pixel_norm
from strategies import fill, lay_out
from tolerances import for_dtype, named

with_kernels = pytest.mark.skipif(
    why_missing() is not None or not is_interpreted(), reason="Triton's interpreter is not switched on"
)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_without_a_kernel_it_is_the_formula(dtype: torch.dtype) -> None:
    x = fill((2, 3, 4), "normal", seed=1, dtype=dtype).requires_grad_()
    y, expected = pixel_norm(x, eps=0.1), functional.pixel_norm(x, eps=0.1)
    assert torch.equal(y, expected)
    assert torch.equal(*(torch.autograd.grad(result.square().sum(), x)[0] for result in (y, expected)))


def gradients(op: object, x: Tensor, g: Tensor) -> list[Tensor]:
    y = op(x, eps=0.1)  # type: ignore[operator]
    (first,) = torch.autograd.grad(y, x, g, create_graph=True)
    return [y.detach(), first.detach(), *torch.autograd.grad(first.sin().sum(), [g, x])]


@with_kernels
@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((1, 3000), "contiguous"),  # more channels than one block, side by side ...
        ((2, 1100, 1, 2), "contiguous"),  # ... and apart
        ((1, 2100, 1, 2), "channels_last"),
        ((2, 2, 5, 60), "contiguous"),  # more pixels than one block
        ((2, 40, 5, 14), "channels_last"),
    ],
)
def test_blocks_beside_and_behind_each_other_meet_without_a_gap(shape: tuple[int, ...], layout: str) -> None:
    x = lay_out(fill(shape, "normal", seed=2, dtype=torch.float32), layout).requires_grad_()
    g = fill(shape, "normal", seed=3, dtype=torch.float32).requires_grad_()
    with backend("triton"):
        found = gradients(pixel_norm, x, g)
    for mine, theirs in zip(found, gradients(functional.pixel_norm, x, g), strict=True):
        torch.testing.assert_close(mine, theirs, **named("sum_of_thousands"))


@with_kernels
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("value", [300.0, 6e4, 0.0])
def test_squares_neither_overflow_nor_swallow_eps(dtype: torch.dtype, value: float) -> None:
    x = torch.full((2, 8, 2, 2), value, dtype=dtype, requires_grad=True)
    with backend("triton"):
        y = pixel_norm(x)
    torch.testing.assert_close(y, torch.ones_like(y) if value else torch.zeros_like(y), **for_dtype(dtype))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.isfinite().all()
    if not value:
        torch.testing.assert_close(gradient, torch.full_like(gradient, 1e4), **for_dtype(dtype))


@with_kernels
def test_the_kernel_saves_its_result_and_one_number_per_pixel() -> None:
    shapes: list[tuple[int, ...]] = []
    x = torch.randn(2, 3, 4, 5, requires_grad=True)

    def pack(tensor: Tensor) -> Tensor:
        shapes.append(tuple(tensor.shape))
        return tensor

    with backend("triton"), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        pixel_norm(x)
    assert shapes == [(2, 3, 4, 5), (2, 1, 4, 5)]


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`eps` is -1.0, but must be at least 0"):
        pixel_norm(torch.zeros(2, 3), eps=-1.0)
    with pytest.raises(ValueError, match="`x` has shape"):
        pixel_norm(torch.zeros(3))
    with pytest.raises(TypeError, match="floating-point"):
        pixel_norm(torch.zeros(2, 3, dtype=torch.int64))
