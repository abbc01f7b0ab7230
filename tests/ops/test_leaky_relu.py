"""leaky_relu: PyTorch's values and gradients of every order, without a second-order tensor of zeros."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from ganblocks.ops import conv2d, leaky_relu
from strategies import fill, lay_out, shapes, tensors
from tolerances import for_dtype

# PyTorch itself calls it when forward-mode derivatives are first used.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
slopes = st.sampled_from([0.2, 0.0, 0.01, 1.0])
float64 = torch.float64


def by_hand(x: Tensor, slope: float) -> Tensor:
    return torch.where(x > 0, x, slope * x)


@given(x=tensors(shape=shapes(min_rank=2, max_rank=5)), slope=slopes, inplace=st.booleans())
def test_values_and_first_gradient_are_those_of_two_lines(x: Tensor, slope: float, inplace: bool) -> None:
    leaf = x.detach().clone().requires_grad_()
    y = leaky_relu(leaf * 1, slope, inplace=inplace)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    torch.testing.assert_close(y, by_hand(x, slope), equal_nan=True, **for_dtype(x.dtype))
    (gradient,) = torch.autograd.grad(y, leaf, torch.ones_like(y))
    torch.testing.assert_close(gradient, torch.where(x > 0, torch.ones_like(x), slope), **for_dtype(x.dtype))


@pytest.mark.parametrize("slope", [0.2, 0.0, 1.0])
@pytest.mark.parametrize("inplace", [False, True])
def test_gradients_of_both_orders_and_modes_are_those_of_finite_differences(slope: float, inplace: bool) -> None:
    x = fill((2, 3, 2), "normal", seed=0).requires_grad_()

    def bent(x: Tensor) -> Tensor:
        return torch.tanh(leaky_relu(x * 2, slope, inplace=inplace))

    assert gradcheck(bent, x, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(bent, x, check_fwd_over_rev=True, check_batched_grad=True)


def test_function_transforms_equal_autograd() -> None:
    x = fill((5, 4), "normal", seed=1)

    def energy(row: Tensor) -> Tensor:
        return torch.tanh(leaky_relu(row, 0.2, inplace=True)).square().sum()

    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(torch.tanh(F.leaky_relu(leaf, 0.2)).square().sum(), leaf)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(energy))(x.clone()), expected, **for_dtype(float64))
    hessian = torch.func.hessian(energy)(x[0].clone())
    slope = torch.where(x[0] > 0, torch.ones_like(x[0]), 0.2)
    t = torch.tanh(slope * x[0])
    second = slope**2 * (2 * (1 - t**2) ** 2 - 4 * t**2 * (1 - t**2))
    torch.testing.assert_close(hessian, torch.diag(second), **for_dtype(float64))


class Convolutions(TorchDispatchMode):
    """Counts how many convolution kernels run."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)
        return func(*args, **(kwargs or {}))


def penalty_work(activation: Any, inplace: bool) -> tuple[int, list[Tensor]]:
    """Convolutions run, and gradients, of the penalty of a critic with three layers."""
    weights = [fill((3, 3, 3, 3), "normal", seed=seed).requires_grad_() for seed in range(3)]
    images = fill((2, 3, 5, 5), "normal", seed=3).requires_grad_()
    with Convolutions() as kernels:
        x = images
        for weight in weights:
            x = activation(conv2d(x, weight, padding=1), 0.2, inplace)
        (inner,) = torch.autograd.grad(x.sum(), images, create_graph=True)
        gradients = torch.autograd.grad(inner.square().sum(), weights)
    return kernels.count, list(gradients)


@pytest.mark.parametrize("inplace", [False, True])
def test_a_penalty_costs_no_pass_of_zeros_through_the_critic(inplace: bool) -> None:
    ours, gradients = penalty_work(lambda x, slope, inplace: leaky_relu(x, slope, inplace=inplace), inplace)
    native, expected = penalty_work(F.leaky_relu, inplace)
    # Forwards 3, inner gradient 3, and 3 by the weights, which go on to what the inner gradient was made of.
    assert ours == 9
    assert native > ours
    for mine, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(mine, theirs, **for_dtype(float64))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced", "expanded"])
def test_any_layout_gives_the_values_of_a_contiguous_tensor(layout: str) -> None:
    dense = fill((2, 3, 4, 4), "normal", seed=4)
    x = lay_out(dense, layout)
    x.requires_grad_()
    y = leaky_relu(x)
    torch.testing.assert_close(y, by_hand(x, 0.2), **for_dtype(float64))
    if layout == "channels_last":
        assert y.is_contiguous(memory_format=torch.channels_last)


def test_in_place_means_in_place_and_a_leaf_is_refused_as_in_pytorch() -> None:
    leaf = fill((2, 3), "normal", seed=5).requires_grad_()
    x = leaf * 1
    assert leaky_relu(x, inplace=True).data_ptr() == x.data_ptr()
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        leaky_relu(leaf, inplace=True)


def test_without_a_gradient_pytorch_itself_runs() -> None:
    x = fill((2, 3), "normal", seed=6).requires_grad_()
    with torch.no_grad():
        assert leaky_relu(x).grad_fn is None
    assert leaky_relu(x.detach()).grad_fn is None
    recorded = leaky_relu(x).grad_fn
    assert recorded is not None
    assert "LeakyReluBackward" not in recorded.name()


def test_a_compiled_loss_equals_eager() -> None:
    network = nn.Linear(3, 4, dtype=float64)
    x = fill((2, 3), "normal", seed=7)

    def loss(x: Tensor) -> Tensor:
        return leaky_relu(network(x), 0.1).square().sum()

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    found, expected = (torch.autograd.grad(f(x), list(network.parameters())) for f in (compiled, loss))
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, **for_dtype(float64))


@pytest.mark.parametrize("slope", [-0.1, 1.5, float("nan")])
def test_a_slope_out_of_range_is_refused(slope: float) -> None:
    with pytest.raises(ValueError, match=r"`slope` is .* between 0 and 1"):
        leaky_relu(torch.zeros(2), slope)
