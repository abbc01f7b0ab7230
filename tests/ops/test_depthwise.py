"""The depthwise convolution on CPUs, alone and through `upfirdn2d` and `blur`, against the formula in float64."""

import importlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

from ganblocks import functional, ops
from ganblocks.functional.upfirdn2d import upfirdn2d as formula
from ganblocks.layers import Blur
from ganblocks.ops import _depthwise as module
from ganblocks.ops._switch import backend
from ganblocks.ops.upfirdn2d import Plan, upfirdn2d
from strategies import LAYOUTS, lay_out
from tolerances import for_dtype, named

twin = importlib.import_module("ganblocks.ops.upfirdn2d")  # the package has a function of that name
FLOATS = [torch.float32, torch.bfloat16, torch.float16]
HALVES, BINOMIAL = (0.5, 0.25), (1.0, 2.0, 1.0)

pytestmark = [
    pytest.mark.skipif(
        not (module._is_measured() and module._computes_bfloat16()), reason="the convolution runs on other CPUs"
    ),
    pytest.mark.filterwarnings("ignore:.torch.jit.* is deprecated:FutureWarning"),  # PyTorch's forward mode calls it
]


@pytest.fixture(autouse=True, scope="module")
def at_every_size() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as context:
        context.setattr(module, "FEWEST_ELEMENTS", 1)
        yield


class Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The arguments of every convolution called inside, and whether PyTorch's own second order was."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.convolutions: list[Any] = []
        self.own_second_order = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name == "convolution":
            self.convolutions.append(args)
        self.own_second_order |= "convolution_backward" in name
        return func(*args, **(kwargs or {}))

    @property
    def dtypes(self) -> set[torch.dtype]:
        return {args[0].dtype for args in self.convolutions}


def images(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def convolutions(call: Callable[[], object]) -> int:
    with Calls() as calls:
        call()
    return len(calls.convolutions)


def orders(function: Callable[..., Tensor], x: Tensor, count: int = 2) -> list[Tensor]:
    """The result, and gradients of so many orders through a function that bends."""
    x = x.detach().requires_grad_(True)
    results = [function(x)]
    for _ in range(count):
        results += torch.autograd.grad(results[-1].tanh().square().sum(), x, create_graph=True)
    return [result.detach() for result in results]


@settings(max_examples=40)
@given(
    st.tuples(st.integers(1, 12), st.sampled_from([8, 9, 16, 17]), st.integers(1, 6), st.integers(1, 6)),
    st.sampled_from([(1, 1), (2, 1), (1, 2), (3, 1), (1, 3)]),
    st.tuples(st.integers(-2, 4), st.integers(-2, 4)),
    st.sampled_from([HALVES, BINOMIAL, (1,), (3,), (4,), (2, 3), (8, 8)]),
    st.sampled_from(FLOATS),
    st.sampled_from(LAYOUTS),
)
@example((8, 64, 8, 8), (1, 1), (1, 1), BINOMIAL, torch.bfloat16, "channels_last")
@example((2, 8, 3, 3), (1, 3), (9, -2), (3,), torch.float32, "contiguous")  # what is cut is more than there is
@example((1, 8, 1, 1), (2, 1), (4, 4), (3,), torch.float32, "contiguous")  # zeros on all sides
def test_values_and_two_orders_of_gradient_are_those_of_the_formula(
    shape: tuple[int, int, int, int],
    factors: tuple[int, int],
    padding: tuple[int, int],
    taps: tuple[Any, ...],
    dtype: torch.dtype,
    layout: str,
) -> None:
    (up, down), numbers = factors, taps in (HALVES, BINOMIAL)
    kernel = taps if numbers else torch.rand(taps, generator=torch.Generator().manual_seed(1)) / max(taps)
    rows, columns = (len(taps),) * 2 if numbers else (taps * 2)[:2]
    if min(shape[2] * up - rows, shape[3] * up - columns) + sum(padding) < 0 or -min(padding) >= min(shape[2:]):
        return
    x = lay_out(images(*shape), layout).to(dtype)
    x = x[:1].expand(shape) if layout == "expanded" else x
    original = x.clone()

    def apply(function: Callable[..., Tensor], x: Tensor) -> Tensor:
        return function(x, kernel, up=up, down=down, padding=padding)

    assert convolutions(lambda: apply(upfirdn2d, x)) == 1
    found = orders(lambda x: apply(upfirdn2d, x), x)
    assert torch.equal(found[0], apply(upfirdn2d, x))
    assert torch.equal(x, original)
    truth = orders(lambda x: apply(formula, x), x.double())
    assert {result.dtype for result in found} == {dtype}
    torch.testing.assert_close(found[0].double(), truth[0], **for_dtype(dtype))
    if dtype == torch.float32:  # in the others the hyperbolic tangent between them rounds
        torch.testing.assert_close([y.double() for y in found], truth, **named("conv_orders_float32"))


@pytest.mark.parametrize("factors", [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 12, 13])
def test_the_adjoint_of_the_adjoint_in_bfloat16_is_right_at_every_batch(count: int, factors: tuple[int, int]) -> None:
    """What a penalty's second order is; PyTorch's own is wrong on CPUs with AMX."""
    up, down = factors
    x = images(count, 64, 8, 8, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)

    def second(function: Callable[..., Tensor], x: Tensor) -> Tensor:
        x = x.requires_grad_(True)
        y = function(x, (0.25, 0.5, 0.25), up=up, down=down, padding=1)
        g = images(*y.shape, seed=1).to(y.dtype).requires_grad_(True)
        (inner,) = torch.autograd.grad(y, x, g, create_graph=True)
        return torch.autograd.grad(inner, g, images(*x.shape, seed=2).to(torch.bfloat16).to(x.dtype))[0]

    with Calls() as calls:
        found = second(upfirdn2d, x)
    assert len(calls.convolutions) == 3
    assert not calls.own_second_order
    torch.testing.assert_close(found.double(), second(formula, x.detach().double()), **for_dtype(torch.bfloat16))


@pytest.mark.parametrize("dtype", FLOATS)
def test_four_orders_in_a_chain(dtype: torch.dtype) -> None:
    x, wide = images(2, 8, 4, 5, dtype=dtype), images(2, 8, 4, 5, dtype=dtype).double()
    with Calls() as calls:
        found = orders(ops.blur, x.float() if dtype == torch.float32 else x, 3)
    assert len(calls.convolutions) > 6
    assert not calls.own_second_order
    if dtype == torch.float32:
        torch.testing.assert_close(
            [y.double() for y in found], orders(functional.blur, wide, 3), **named("conv_orders_float32")
        )


@pytest.mark.parametrize(
    "plan",
    [
        Plan(1, 1, (1, 1), (3, 4), (3, 3), path="convolution"),
        Plan(1, 2, (1, 0), (2, 2), (2, 3), path="convolution"),
        Plan(2, 1, (1, 2), (6, 8), (2, 3), path="convolution"),
        Plan(3, 1, (-1, 4), (5, 9), (2, 3), path="convolution"),
    ],
)
def test_numeric_gradients_of_both_orders(plan: Plan) -> None:
    x = images(1, 2, 3, 4, dtype=torch.float64).requires_grad_(True)
    kernel = images(*plan.taps, dtype=torch.float64, seed=1)

    def apply(x: Tensor) -> Tensor:
        return twin._Filter.apply(x, kernel, plan)

    torch.testing.assert_close(apply(x), twin._plainly(x, kernel, plan), **for_dtype(torch.float64))
    assert torch.autograd.gradcheck(apply, x, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: apply(x).square(), x)


def test_a_product_with_the_operation_is_a_product_with_its_adjoint() -> None:
    x, taps = images(2, 3, 5, 4, dtype=torch.float64), images(2, 3, dtype=torch.float64, seed=1)
    y = images(2, 3, 4, 3, dtype=torch.float64, seed=2)
    plan = Plan(1, 2, (2, 1), (4, 3), (2, 3), path="convolution")
    forwards, backwards = twin._launch(x, taps, plan), twin._launch(y, taps, plan.adjoint((5, 4), None))
    torch.testing.assert_close((forwards * y).sum(), (x * backwards).sum(), **for_dtype(torch.float64))


@pytest.mark.parametrize("options", [{"padding": 1}, {"down": 2, "padding": (1, 0)}, {"up": 2, "padding": (1, 2)}])
def test_the_memory_format_is_kept_by_results_and_gradients(options: dict[str, Any]) -> None:
    for layout in (torch.contiguous_format, torch.channels_last):
        x = images(2, 9, 4, 6).contiguous(memory_format=layout).requires_grad_(True)
        y = upfirdn2d(x, BINOMIAL, **options)
        assert y.is_contiguous(memory_format=layout)
        other = torch.channels_last if layout == torch.contiguous_format else torch.contiguous_format
        for gradient in (torch.ones(()).expand_as(y), torch.ones_like(y).contiguous(memory_format=other)):
            (result,) = torch.autograd.grad(y, x, gradient, retain_graph=True)
            assert result.is_contiguous(memory_format=layout)


def test_bfloat16_is_taken_where_the_filter_is_exact_in_it_and_changes_no_bit() -> None:
    x = images(3, 16, 9, 9, dtype=torch.bfloat16)
    exact, rounded = (0.25, 0.5, 0.25), (0.1, 0.8, 0.1)
    for kernel, dtype in ((exact, torch.bfloat16), (rounded, torch.float32)):
        with Calls() as calls:
            y = upfirdn2d(x, kernel, padding=1)
        assert calls.dtypes == {dtype}
        wide = formula(x.double(), kernel, padding=1)
        assert ((y.double() - wide).abs() <= wide.abs() * 2.0**-8).all()  # one rounding
    assert torch.equal(upfirdn2d(x, exact, padding=1), formula(x, exact, padding=1))


def test_products_of_taps_are_exact_or_in_float32() -> None:
    taps = module.constant_taps((0.25, 0.75), torch.bfloat16)
    assert taps.dtype == torch.bfloat16
    assert torch.equal(taps.double(), torch.tensor([[1.0, 3.0], [3.0, 9.0]], dtype=torch.float64) / 16)
    # Of 8 bits each, so their product has 16: exact in float32, not in bfloat16.
    assert torch.tensor([1.0, 1.9921875], dtype=torch.bfloat16).tolist() == [1.0, 1.9921875]
    taps = module.constant_taps((1.0, 1.9921875), torch.bfloat16)
    assert taps.dtype == torch.float32
    assert taps.tolist() == [[1.0, 1.9921875], [1.9921875, 3.96881103515625]]
    tensor = torch.tensor([1.0, 1.9921875], dtype=torch.bfloat16)
    assert module._matrix(tensor)[1, 1].item() == 3.96881103515625


def test_constant_taps_are_made_once_and_outlive_inference() -> None:
    with torch.inference_mode():
        first = module.constant_taps((5.0, 7.0), torch.float32)
    assert not first.is_inference()
    assert module.constant_taps((5.0, 7.0), torch.float32) is first
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

    with FakeTensorMode():
        assert not isinstance(module.constant_taps((7.0, 5.0), torch.float32), FakeTensor)


def test_autocast_changes_nothing() -> None:
    x = images(2, 8, 6, 6).requires_grad_(True)
    expected = ops.blur(x)
    with torch.autocast("cpu", torch.bfloat16), Calls() as calls:
        y = ops.blur(x)
        (gradient,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert calls.dtypes == {torch.float32}
    assert torch.equal(y, expected)
    torch.testing.assert_close(gradient, ops.blur(torch.ones_like(x)), **named("exact"))


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_sums_are_in_float32_whatever_precision_convolutions_may_have(precision: str) -> None:
    x = images(4, 32, 8, 8)
    for up in (1, 2):
        expected = upfirdn2d(x, (0.1, 0.8, 0.1), up=up, padding=1)
        before, torch.backends.mkldnn.conv.fp32_precision = torch.backends.mkldnn.conv.fp32_precision, precision
        try:
            found = upfirdn2d(x, (0.1, 0.8, 0.1), up=up, padding=1)
        finally:
            torch.backends.mkldnn.conv.fp32_precision = before
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", FLOATS)
def test_numbers_that_are_none_spread_as_in_the_formula(dtype: torch.dtype) -> None:
    x = images(1, 8, 6, 6, dtype=dtype)
    x[0, 0, 1, 1], x[0, 0, 4, 4], x[0, 1, 0, 5] = torch.nan, torch.inf, -torch.inf
    for options in ({"padding": 1}, {"padding": 1, "down": 2}):
        y, expected = upfirdn2d(x, BINOMIAL, **options), formula(x, BINOMIAL, **options)
        assert torch.equal(y.isnan(), expected.isnan())
        assert torch.equal(y.isinf(), expected.isinf())


def test_a_penalty_trains_the_same() -> None:
    def gradient(dtype: torch.dtype) -> Tensor:
        x = torch.linspace(-1, 1, 256, dtype=dtype).view(1, 16, 4, 4).requires_grad_(True)
        weight = torch.linspace(0.5, 1.5, 16, dtype=dtype).view(16, 1, 1).requires_grad_(True)
        scores = ops.blur((x * weight).tanh()).square().sum()
        (inner,) = torch.autograd.grad(scores, x, create_graph=True)
        return torch.autograd.grad(inner.square().sum(), weight)[0]

    torch.testing.assert_close(gradient(torch.float32).double(), gradient(torch.float64), **for_dtype(torch.float32))


def test_transforms_after_the_call_follow_it() -> None:
    """A gradient differentiated forwards, or of many at once, of an operation that has been called plainly."""
    x = images(2, 8, 4, 4).requires_grad_(True)
    y = ops.blur(x)
    vectors = images(3, *y.shape, seed=1)
    (batched,) = torch.autograd.grad(y, x, vectors, is_grads_batched=True, retain_graph=True)
    single = torch.stack([torch.autograd.grad(y, x, vector, retain_graph=True)[0] for vector in vectors])
    torch.testing.assert_close(batched, single, **for_dtype(torch.float32))
    with forward_ad.dual_level():
        g = forward_ad.make_dual(vectors[0], vectors[1])
        (dual,) = torch.autograd.grad(y, x, g)
        tangent = forward_ad.unpack_dual(dual).tangent
    torch.testing.assert_close(tangent, single[1], **for_dtype(torch.float32))


def test_what_is_not_its_business_goes_to_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    x, kernel = images(2, 8, 9, 9), torch.rand(3)
    calls: list[object] = []
    filter_images = module.filter_images

    def spy(*arguments: Any, **options: Any) -> Tensor:
        calls.append(arguments)
        return filter_images(*arguments, **options)

    monkeypatch.setattr(module, "filter_images", spy)
    upfirdn2d(x, kernel.clone().requires_grad_(True))
    torch.func.grad(lambda kernel: upfirdn2d(x, kernel).square().sum())(kernel)
    torch.func.grad(lambda x: upfirdn2d(x, kernel).square().sum())(x)
    torch.vmap(lambda x: upfirdn2d(x[None], kernel))(x)
    torch.func.jvp(lambda x: upfirdn2d(x, kernel), (x,), (x,))
    with forward_ad.dual_level():
        upfirdn2d(forward_ad.make_dual(x, x), kernel)
    upfirdn2d(x.double(), kernel)
    upfirdn2d(x, kernel.double())
    upfirdn2d(x[:0], kernel)
    upfirdn2d(x[:, :7], kernel)
    upfirdn2d(x, torch.rand(9))
    upfirdn2d(x, kernel, up=2, down=2)
    ops.blur(x, padding="reflect")
    with warnings.catch_warnings(action="ignore"):  # PyTorch's, of shapes that become constants
        torch.jit.trace(lambda x: upfirdn2d(x, BINOMIAL), x, check_trace=False)
    torch.compile(lambda x: upfirdn2d(x, kernel), backend="eager", fullgraph=True)(x)
    with backend("reference"):
        upfirdn2d(x, kernel)
    with monkeypatch.context() as context:
        context.setattr(torch._C, "_get_mkldnn_enabled", lambda: False)
        upfirdn2d(x, kernel)
    assert calls == []
    upfirdn2d(x, kernel)
    ops.blur(x, kernel)
    Blur()(x)
    assert len(calls) == 3


def test_small_batches_go_to_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEWEST_ELEMENTS", 2**15)
    assert convolutions(lambda: ops.blur(images(7, 16, 16, 16))) == 0
    assert convolutions(lambda: ops.blur(images(8, 16, 16, 16))) == 1


def test_errors_are_those_of_the_formula() -> None:
    x = images(1, 8, 4, 4)
    with pytest.raises(ValueError, match="`up` is 0"):
        upfirdn2d(x, (1,), up=0)
    with pytest.raises(ValueError, match="`down` is -1"):
        upfirdn2d(x, (1,), down=-1)
    with pytest.raises(ValueError, match="too small for a kernel of 5 x 5"):
        upfirdn2d(x, (1,) * 5)
    with pytest.raises(ValueError, match="`kernel` is"):
        ops.blur(x, ())
    with pytest.raises(ValueError, match="sum other than 0"):
        ops.blur(x, (1.0, -1.0))
