"""The blur of the kernel is the blur of the formula."""

import importlib
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ganblocks import functional
from ganblocks.ops._switch import backend
from ganblocks.ops.blur import blur
from tolerances import for_dtype

pytest.importorskip("triton")
module = importlib.import_module("ganblocks.ops.upfirdn2d")  # the package has a function of that name
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
KERNELS = [(1.0, 2.0, 1.0), (1.0, 3.0, 3.0, 1.0), (2.0,), torch.rand(5), torch.rand(2, 3)]


@pytest.fixture(autouse=True)
def kernels() -> Iterator[None]:
    with backend("triton"):
        yield


def placed(kernel: tuple[float, ...] | Tensor, dtype: torch.dtype) -> tuple[float, ...] | Tensor:
    return kernel.to(DEVICE, dtype) if isinstance(kernel, Tensor) else kernel


@settings(max_examples=12)
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    st.integers(0, len(KERNELS) - 1),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    st.sampled_from([torch.contiguous_format, torch.channels_last]),
)
def test_values_and_both_orders_of_gradient_are_those_of_the_formula(
    shape: tuple[int, int, int, int], number: int, normalize: bool, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    x = torch.randn(shape, device=DEVICE).to(dtype).contiguous(memory_format=layout).requires_grad_(True)
    y = blur(x, placed(KERNELS[number], torch.float32), normalize=normalize)
    assert y.is_contiguous(memory_format=layout)
    wide = x.detach().double().requires_grad_(True)
    expected = functional.blur(wide, placed(KERNELS[number], torch.float64), normalize=normalize)
    torch.testing.assert_close(y.double(), expected, **for_dtype(dtype))
    (first,) = torch.autograd.grad(y, x, x.detach().sin(), create_graph=True)
    (truth,) = torch.autograd.grad(expected, wide, x.detach().sin().double(), create_graph=True)
    torch.testing.assert_close(first.double(), truth, **for_dtype(dtype))


def test_a_penalty_trains_the_same() -> None:
    """The second order, through a nonlinear critic, by its weights."""

    def gradient(dtype: torch.dtype) -> Tensor:
        x = torch.linspace(-1, 1, 32, dtype=dtype, device=DEVICE).view(1, 2, 4, 4).requires_grad_(True)
        weight = torch.linspace(0.5, 1.5, 2, dtype=dtype, device=DEVICE).view(2, 1, 1).requires_grad_(True)
        scores = blur((x * weight).tanh()).square().sum()
        (inner,) = torch.autograd.grad(scores, x, create_graph=True)
        return torch.autograd.grad(inner.square().sum(), weight)[0]

    torch.testing.assert_close(gradient(torch.float32).double(), gradient(torch.float64), **for_dtype(torch.float32))


def test_reflection_a_learned_filter_and_errors_are_the_formula_s(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(1, 2, 4, 4, device=DEVICE)
    expected = functional.blur(x, padding="reflect")
    monkeypatch.setattr(module, "_launch", None)
    assert torch.equal(blur(x, padding="reflect"), expected)
    kernel = torch.rand(3, device=DEVICE, requires_grad=True)
    assert torch.autograd.grad(blur(x, kernel).sum(), kernel)[0].shape == (3,)
    with pytest.raises(TypeError, match="`x` is torch"):
        blur(x.long())
    with pytest.raises(TypeError, match="`x` is a list"):
        blur([1.0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`padding` is 'wrap'"):
        blur(x, padding="wrap")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sum other than 0"):
        blur(x, (1.0, -1.0))
    with pytest.raises(ValueError, match="`kernel` is"):
        blur(x, ())
