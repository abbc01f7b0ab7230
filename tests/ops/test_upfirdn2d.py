"""The resampling kernel, in Triton's interpreter where there is no GPU, against the formula in float64."""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ganblocks.functional.upfirdn2d import upfirdn2d as formula
from ganblocks.ops._switch import backend
from ganblocks.ops.upfirdn2d import Plan, upfirdn2d
from tolerances import for_dtype

pytest.importorskip("triton")
module = importlib.import_module("ganblocks.ops.upfirdn2d")  # the package has a function of that name
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "every second": lambda x: torch.stack([x, x.neg()], dim=4).flatten(3)[..., ::2],
    "expanded": lambda x: x[:1].expand_as(x),
    "offset": lambda x: torch.cat([x[:1], x])[1:],
}


@pytest.fixture(autouse=True)
def kernels() -> Iterator[None]:
    with backend("triton"):
        yield


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plans that the kernel was launched with."""
    seen: list[Plan] = []
    launch = module._launch

    def spy(x: Tensor, taps: Tensor, plan: Plan) -> Tensor:
        seen.append(plan)
        return launch(x, taps, plan)

    monkeypatch.setattr(module, "_launch", spy)
    return seen


def images(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).to(DEVICE)


def wide_formula(x: Tensor, kernel: Any, **options: Any) -> Tensor:
    with backend("reference"):
        return formula(x.double(), kernel.double() if isinstance(kernel, Tensor) else kernel, **options)


@settings(max_examples=20)
@given(
    st.tuples(st.integers(1, 2), st.sampled_from([1, 2, 3, 17]), st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(-1, 2), st.integers(2, 4)),
    st.sampled_from([(1,), (3,), (4,), (2, 3)]),
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    st.sampled_from(sorted(LAYOUTS)),
    st.integers(-20, 2),
)
@example((1, 1, 1, 300), (1, 1, 1, 1), (3,), torch.float32, "contiguous", 0)  # more lanes than a tile has
@example((1, 300, 2, 2), (1, 1, 1, 1), (3,), torch.float32, "channels last", 0)
@example((2, 1, 40, 40), (1, 1, 1, 1), (3,), torch.bfloat16, "contiguous", 0)  # more rows than a tile has
def test_the_kernel_equals_the_formula(
    shape: tuple[int, int, int, int],
    numbers: tuple[int, int, int, int],
    taps: tuple[int, ...],
    dtype: torch.dtype,
    layout: str,
    exponent: int,
) -> None:
    up, down, before, after = numbers
    rows, columns = (taps * 2)[:2]
    if min(shape[2] * up - rows, shape[3] * up - columns) + before + after < 0:
        return
    x = LAYOUTS[layout](images(*shape) * 2.0**exponent).to(dtype)
    original = x.clone()
    kernel = torch.rand(taps, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    options: dict[str, Any] = {"up": up, "down": down, "padding": (before, after)}
    y, again = upfirdn2d(x, kernel, **options), upfirdn2d(x, kernel, **options)
    assert y.dtype == dtype
    assert torch.equal(y, again)
    assert torch.equal(x, original)
    scale = 2.0**-exponent if dtype != torch.float16 else 1.0  # compared where numbers are of order 1
    torch.testing.assert_close(y.double() * scale, wide_formula(x, kernel, **options) * scale, **for_dtype(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_numbers_that_are_none_spread_as_in_the_formula(dtype: torch.dtype) -> None:
    x = images(1, 2, 6, 6, dtype=dtype)
    x[0, 0, 1, 1], x[0, 0, 4, 4], x[0, 1, 0, 5] = torch.nan, torch.inf, -torch.inf
    y, expected = upfirdn2d(x, (1, 2, 1), padding=1), wide_formula(x, (1, 2, 1), padding=1)
    assert torch.equal(y.isnan(), expected.isnan())
    assert torch.equal(y.isinf(), expected.isinf())


@pytest.mark.parametrize("up_down", [(1, 1), (2, 1), (1, 2), (3, 2)])
def test_gradients_of_all_orders_are_those_of_the_formula(up_down: tuple[int, int], launches: list[Plan]) -> None:
    up, down = up_down
    kernel = torch.rand(3, 4, device=DEVICE)
    options: dict[str, Any] = {"up": up, "down": down, "padding": (1, 2)}

    def orders(function: Callable[..., Tensor], x: Tensor) -> list[Tensor]:
        x = x.detach().requires_grad_(True)
        results = [function(x, kernel.to(x.dtype), **options)]
        for _ in range(3):
            results += torch.autograd.grad(results[-1].tanh().square().sum(), x, create_graph=True)
        return [result.detach() for result in results]

    x = images(1, 2, 4, 5)
    expected = orders(formula, x.double())
    for found, truth in zip(orders(upfirdn2d, x), expected, strict=True):
        torch.testing.assert_close(found.double(), truth, **for_dtype(torch.float32))
    assert len(launches) > 6
    assert {plan.flipped for plan in launches} == {False, True}


def test_the_adjoint_of_the_adjoint_is_the_operation() -> None:
    plan = Plan(2, 3, (1, -2), (4, 5), (3, 4))
    assert plan.adjoint((7, 8), None).adjoint((4, 5), None) == plan


def test_a_product_with_the_operation_is_a_product_with_its_adjoint() -> None:
    x, kernel = images(2, 2, 5, 4, dtype=torch.float64), torch.rand(2, 3, dtype=torch.float64, device=DEVICE)
    plan = Plan(3, 2, (1, 2), (8, 7), (2, 3))
    y = images(2, 2, 8, 7, dtype=torch.float64, seed=1)
    forwards, backwards = module._launch(x, kernel, plan), module._launch(y, kernel, plan.adjoint((5, 4), None))
    torch.testing.assert_close((forwards * y).sum(), (x * backwards).sum(), **for_dtype(torch.float64))
    torch.testing.assert_close(module._plainly(x, kernel, plan), forwards, **for_dtype(torch.float64))


def test_numeric_gradients_of_both_orders() -> None:
    x = images(1, 2, 2, 3, dtype=torch.float64).requires_grad_(True)
    kernel = torch.rand(2, 3, dtype=torch.float64, device=DEVICE)
    plan = Plan(2, 1, (1, 1), (4, 6), (2, 3))

    def apply(x: Tensor) -> Tensor:
        return module._Filter.apply(x, kernel, plan)

    assert torch.autograd.gradcheck(apply, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: apply(x).square(), x, fast_mode=True)


def test_function_transforms_equal_those_of_the_formula(launches: list[Plan]) -> None:
    x = images(2, 1, 4, 4)
    kernel = torch.tensor([1.0, 2.0, 1.0], device=DEVICE) / 4

    def apply(function: Callable[..., Tensor], x: Tensor) -> Tensor:
        return function(x, kernel, up=2, padding=1)

    def loss(function: Callable[..., Tensor], x: Tensor) -> Tensor:
        return apply(function, x).tanh().square().sum()

    def penalty(function: Callable[..., Tensor], x: Tensor) -> Tensor:
        return torch.func.grad(lambda x: loss(function, x))(x).square().sum()

    def batched(function: Callable[..., Tensor], x: Tensor) -> Tensor:
        y = apply(function, x.clone().requires_grad_(True))
        start = y if y.grad_fn is None else x.clone().requires_grad_(True)
        y = apply(function, start)
        vectors = torch.stack([torch.ones_like(y), y.detach()])
        return torch.autograd.grad(y, start, vectors, is_grads_batched=True)[0]

    transforms: dict[str, Callable[[Callable[..., Tensor], Tensor], Any]] = {
        "grad": lambda f, x: torch.func.grad(lambda x: loss(f, x))(x),
        "grad of grad": lambda f, x: torch.func.grad(lambda x: penalty(f, x))(x),
        "jvp": lambda f, x: torch.func.jvp(lambda x: apply(f, x), (x,), (x.cos(),)),
        "jvp of grad": lambda f, x: torch.func.jvp(lambda x: penalty(f, x), (x,), (x.cos(),)),
        "vmap": lambda f, x: torch.vmap(lambda x: apply(f, x), in_dims=-1, out_dims=1)(torch.stack([x, x.cos()], -1)),
        "vmap of grad": lambda f, x: torch.vmap(torch.func.grad(lambda x: loss(f, x[None])))(x),
        "batched gradients": batched,
    }
    for title, transform in transforms.items():
        launches.clear()
        found = transform(upfirdn2d, x)
        assert launches, title
        expected = transform(formula, x.double())
        if isinstance(found, tuple):
            found, expected = torch.stack([*map(torch.sum, found)]), torch.stack([*map(torch.sum, expected)])
        torch.testing.assert_close(
            found.double(), expected, **for_dtype(torch.float32), msg=lambda m, t=title: f"{t}: {m}"
        )


def test_the_memory_format_is_kept_by_results_and_gradients() -> None:
    x = images(2, 3, 4, 4).contiguous(memory_format=torch.channels_last).requires_grad_(True)
    y = upfirdn2d(x, (1, 2, 1), down=2, padding=1)
    assert y.is_contiguous(memory_format=torch.channels_last)
    (gradient,) = torch.autograd.grad(y.sum(), x)  # of an expanded gradient, which has no format
    assert gradient.is_contiguous(memory_format=torch.channels_last)
    first = x.detach().contiguous().requires_grad_(True)
    y = upfirdn2d(first, (1, 2, 1), padding=1)
    assert y.is_contiguous()
    assert torch.autograd.grad(y, first, y.contiguous(memory_format=torch.channels_last))[0].is_contiguous()


def test_autocast_changes_nothing() -> None:
    x = images(1, 1, 4, 4)
    with torch.autocast(DEVICE, torch.bfloat16):
        assert torch.equal(upfirdn2d(x, (1, 2, 1), padding=1), upfirdn2d(x, (1, 2, 1), padding=1))
        assert upfirdn2d(x, (1, 2, 1), padding=1).dtype == torch.float32


def test_what_the_kernel_cannot_take_goes_to_the_formula(launches: list[Plan]) -> None:
    x, kernel = images(1, 1, 9, 9), torch.rand(3, device=DEVICE)
    assert not upfirdn2d(x, kernel.clone().requires_grad_(True)).isnan().any()
    upfirdn2d(x.double(), kernel)
    upfirdn2d(x, kernel.double())
    upfirdn2d(x[:0], kernel)
    upfirdn2d(x, torch.rand(9, device=DEVICE))
    upfirdn2d(x, (1.0,) * 9)
    torch.func.grad(lambda kernel: upfirdn2d(x, kernel).square().sum())(kernel)
    torch.vmap(lambda kernel: upfirdn2d(x, kernel))(torch.stack([kernel, kernel]))
    with backend("reference"):
        upfirdn2d(x, kernel)
    assert launches == []
    upfirdn2d(x, kernel)
    assert len(launches) == 1


def test_errors_are_those_of_the_formula() -> None:
    x = images(1, 1, 4, 4)
    with pytest.raises(TypeError, match="`x` is a list"):
        upfirdn2d([1.0], (1,))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`x` has shape"):
        upfirdn2d(x[0], (1,))
    with pytest.raises(ValueError, match="`kernel` is"):
        upfirdn2d(x, ())
    with pytest.raises(ValueError, match="`up` is 0"):
        upfirdn2d(x, (1,), up=0)
    with pytest.raises(ValueError, match="too small for a kernel of 5 x 5"):
        upfirdn2d(x, (1,) * 5)


def test_numbers_are_copied_to_the_device_once() -> None:
    first = module._on_device((1.0, 2.0), torch.device(DEVICE))
    with torch.inference_mode():
        second = module._on_device((3.0, 2.5), torch.device(DEVICE))
    assert module._on_device((1.0, 2.0), torch.device(DEVICE)) is first
    assert not second.is_inference()
