"""downsample_box: the formula's values and gradients of every order, without a second-order tensor of zeros."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from ganblocks.functional import resample
from ganblocks.ops import conv2d, downsample_box
from strategies import fill, lay_out
from tolerances import for_dtype

# PyTorch itself calls it when forward-mode derivatives are first used.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")


@given(
    N=st.integers(0, 2), C=st.integers(0, 3), h=st.integers(0, 3), w=st.integers(1, 3), factor=st.integers(1, 3),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
)  # fmt: skip
def test_values_and_gradients_are_those_of_a_loop(
    N: int, C: int, h: int, w: int, factor: int, dtype: torch.dtype
) -> None:
    x = fill((N, C, h * factor, w * factor), "normal", seed=0).to(dtype).requires_grad_()
    y = downsample_box(x, factor)
    assert (y.shape, y.dtype) == ((N, C, h, w), dtype)
    expected = torch.zeros(N, C, h, w, dtype=torch.float64)
    for row in range(factor):
        for column in range(factor):
            expected += x.detach().double()[:, :, row::factor, column::factor] / factor**2
    torch.testing.assert_close(y.detach(), expected.to(dtype), **for_dtype(dtype))
    upwards = fill(y.shape, "normal", seed=1).to(dtype)
    (gradient,) = torch.autograd.grad(y, x, upwards)
    spread = upwards.repeat_interleave(factor, 2).repeat_interleave(factor, 3) / factor**2
    torch.testing.assert_close(gradient, spread, **for_dtype(dtype))


@pytest.mark.parametrize("factor", [2, 3])
def test_gradients_of_both_orders_and_modes_are_those_of_finite_differences(factor: int) -> None:
    x = fill((1, 2, factor, 2 * factor), "normal", seed=0).requires_grad_()

    def bent(x: Tensor) -> Tensor:
        return torch.tanh(downsample_box(x, factor))

    assert gradcheck(bent, x, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(bent, x, check_fwd_over_rev=True, check_batched_grad=True)


def test_function_transforms_equal_autograd() -> None:
    images = fill((3, 1, 2, 4, 4), "normal", seed=1)

    def energy(x: Tensor) -> Tensor:
        return torch.tanh(downsample_box(x)).square().sum()

    leaf = images.clone().requires_grad_()
    total = torch.tanh(F.avg_pool2d(leaf.flatten(0, 1), 2)).square().sum()
    (expected,) = torch.autograd.grad(total, leaf)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(energy))(images), expected, **for_dtype(torch.float64))
    hessian, plain = (
        torch.func.hessian(f)(images[0]) for f in (energy, lambda x: torch.tanh(F.avg_pool2d(x, 2)).square().sum())
    )
    torch.testing.assert_close(hessian, plain, **for_dtype(torch.float64))


class Counted(TorchDispatchMode):
    """Counts gradients by weights of convolutions."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.weights = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket is torch.ops.aten.convolution_backward:
            self.weights += args[-1][1]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("pool", "expected"), [(downsample_box, 2), (lambda x: F.avg_pool2d(x, 2), 3)])
def test_a_penalty_costs_no_pass_of_zeros_in_front_of_the_average(pool: Any, expected: int) -> None:
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(2, 2, 3, 3)) for _ in range(2)]
    images = torch.randn(2, 2, 4, 4, requires_grad=True)
    with Counted() as counted:
        y = conv2d(pool(conv2d(images, weights[0], padding=1)), weights[1], padding=1)
        (slope,) = torch.autograd.grad(y.sum(), images, create_graph=True)
        slope.square().sum().backward()  # nothing bends: the slope knows the weights, and not the images
    assert counted.weights == expected
    assert all(weight.grad is not None for weight in weights)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_memory_formats_stay(layout: str) -> None:
    x = lay_out(fill((2, 3, 4, 4), "normal", seed=0), layout).requires_grad_()
    y = downsample_box(x)
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    wanted = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    assert y.is_contiguous(memory_format=wanted)
    assert gradient.is_contiguous(memory_format=wanted)


def test_without_a_gradient_the_formula_itself_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    x = fill((1, 1, 4, 4), "normal", seed=0)
    monkeypatch.setattr(resample, "downsample_box", lambda x, factor: "the formula")
    assert downsample_box(x) == "the formula"  # type: ignore[comparison-overlap]
    with torch.no_grad():
        assert downsample_box(x.requires_grad_()) == "the formula"  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(("shape", "factor"), [((4, 4), 2), ((1, 1, 4, 4), 0), ((1, 1, 5, 4), 2), ((1, 1, 4, 5), 2)])
def test_what_does_not_fit_is_refused_as_by_the_formula(shape: tuple[int, ...], factor: int) -> None:
    x = torch.zeros(shape, requires_grad=True)
    with pytest.raises(ValueError) as ours:  # noqa: PT011
        downsample_box(x, factor)
    with pytest.raises(ValueError) as theirs:  # noqa: PT011
        resample.downsample_box(x.detach(), factor)
    assert str(ours.value) == str(theirs.value)
