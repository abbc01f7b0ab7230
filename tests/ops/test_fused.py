"""Every fused operation against its formula: values, layouts, and gradients of every order and kind, by its kernels.

Here kernels run in Triton's interpreter, or on a GPU where there is one. Another operation is another entry in FUSED.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from ganblocks import functional
from ganblocks.functional.bias_act_pixel_norm import bias_act_pixel_norm as bias_act_pixel_norm_formula
from ganblocks.ops import _switch
from ganblocks.ops._switch import backend, uses_kernel
from ganblocks.ops.bias_act import bias_act
from ganblocks.ops.bias_act_pixel_norm import bias_act_pixel_norm
from ganblocks.ops.blur import blur
from ganblocks.ops.kernels import is_interpreted, why_missing
from ganblocks.ops.pixel_norm import pixel_norm
from strategies import LAYOUTS, VALUES, fill, lay_out
from tolerances import for_dtype, named

pytestmark = [
    pytest.mark.skipif(
        why_missing() is not None or not (is_interpreted() or torch.cuda.is_available()),
        reason="no GPU, and Triton's interpreter is not switched on",
    ),
    # PyTorch itself calls it when forward-mode derivatives are first used.
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION"),
    # NumPy, on which the interpreter stands, warns where infinity is computed with.
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
DEVICE = "cpu" if why_missing() is not None or is_interpreted() else "cuda"
float64 = torch.float64
ULP = {torch.float32: "ulp_float32", torch.float16: "ulp_float16", torch.bfloat16: "ulp_bfloat16"}
GRADIENT = {dtype: f"fused_gradient_{str(dtype).removeprefix('torch.')}" for dtype in ULP}


@dataclass(frozen=True)
class Fused:
    """A fused operation, called ``op(x, *others, **options)``."""

    op: Callable[..., Tensor]
    formula: Callable[..., Tensor]
    # The sum of the magnitudes of the terms that the result is a sum of, in float64: they may cancel.
    terms: Callable[..., Tensor]
    others: Callable[[tuple[int, ...]], tuple[tuple[int, ...], ...]] = lambda shape: ()
    options: tuple[dict[str, Any], ...] = ({},)
    ranks: tuple[int, ...] = (2, 3, 4, 5)
    min_size: int = 1
    dense_layouts: bool = (
        True  # whether every dense layout is kept, or two: channels last, and contiguous for all others
    )


def bias_of(shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return ((shape[1],),)


def shifted_terms(x: Tensor, bias: Tensor | None = None, *, slope: float = 0.2, scale: float = 1.0) -> Tensor:
    shape = (-1, *(1 for _ in x.shape[2:]))
    return (x * scale).abs() + (0 if bias is None else bias.abs().reshape(shape))


def normalized_terms(
    x: Tensor, bias: Tensor | None = None, *, slope: float = 0.2, scale: float = 1.0, eps: float = 1e-8
) -> Tensor:
    activated = functional.bias_act(x, bias, slope=slope, scale=scale)
    terms = shifted_terms(x, bias, scale=scale)
    r = (activated.square().mean(1, keepdim=True) + eps).rsqrt()
    return terms * r * (1 + r * terms.amax(1, keepdim=True))  # both factors of the result


activations = ({}, {"slope": 0.0, "scale": -0.37}, {"slope": 1.0}, {"slope": 0.01, "scale": 3.0})
FUSED = {
    "bias_act": Fused(bias_act, functional.bias_act, shifted_terms, bias_of, activations),
    "bias_act without bias": Fused(bias_act, functional.bias_act, shifted_terms, options=activations),
    "pixel_norm": Fused(
        pixel_norm, functional.pixel_norm, lambda x, **_: torch.zeros_like(x), options=({}, {"eps": 0.5})
    ),
    "bias_act_pixel_norm": Fused(
        bias_act_pixel_norm,
        bias_act_pixel_norm_formula,
        normalized_terms,
        bias_of,
        tuple(options | {"eps": 1e-2} for options in activations),
    ),
    "bias_act_pixel_norm without bias": Fused(
        bias_act_pixel_norm, bias_act_pixel_norm_formula, normalized_terms, options=({}, {"slope": 0.0, "eps": 0.1})
    ),
    "blur": Fused(
        blur,
        functional.blur,
        lambda x, **options: functional.blur(x.abs(), **options),
        options=({}, {"kernel": (1.0, 3.0, 3.0, 1.0)}),
        ranks=(4,),
        dense_layouts=False,
    ),
}
each = pytest.mark.parametrize("fused", list(FUSED.values()), ids=list(FUSED))


@pytest.fixture(autouse=True)
def kernels() -> Iterator[None]:
    """Kernels run; memory that they leave unwritten holds NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)  # fills what torch.empty gives
    try:
        with backend("triton"):
            yield
    finally:
        torch.use_deterministic_algorithms(before)


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the kernels compute in float64, which they can in the interpreter, so that differences show mistakes."""
    if DEVICE != "cpu":
        pytest.skip("on a GPU the kernels take their numbers in float32")
    monkeypatch.setattr(_switch, "DTYPES", frozenset({float64}))


def tensors_for(
    fused: Fused, shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = float64, layout: str = "contiguous"
) -> list[Tensor]:
    x = lay_out(fill(shape, "normal", seed=seed, dtype=dtype), layout)
    others = [fill(s, "normal", seed=seed + 1 + i, dtype=dtype) for i, s in enumerate(fused.others(shape))]
    return [tensor.to(DEVICE).requires_grad_() for tensor in (x, *others)]


def wide(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.detach().to(float64).requires_grad_() for tensor in tensors]


@st.composite
def cases(draw: st.DrawFn, fused: Fused) -> tuple[list[Tensor], dict[str, Any]]:
    rank = draw(st.sampled_from(fused.ranks))
    sizes = st.sampled_from([size for size in (1, 2, 3, 5, 8) if size >= fused.min_size])
    C = draw(st.sampled_from((1, 2, 3, 7, 16, 17, 64) if rank > 2 else (1, 3, 64, 513)))
    shape = (draw(st.sampled_from((1, 2, 3))), C, *(draw(sizes) for _ in range(rank - 2)))
    while torch.Size(shape).numel() > 4096:
        shape = (*shape[:-1], shape[-1] // 2)
    dtype = draw(st.sampled_from(list(ULP)))
    values, layout = draw(st.sampled_from(VALUES)), draw(st.sampled_from(LAYOUTS))
    seed = draw(st.integers(0, 2**16))
    x = lay_out(fill(shape, values, seed=seed, dtype=dtype), layout)
    other_dtype = draw(st.sampled_from((dtype, torch.float32)))
    others = [fill(s, "normal", seed=seed + 1, dtype=other_dtype) for s in fused.others(shape)]
    return [tensor.to(DEVICE) for tensor in (x, *others)], draw(st.sampled_from(fused.options))


@each
@settings(max_examples=15)
@given(data=st.data())
def test_values_are_those_of_the_formula_in_float64(fused: Fused, data: st.DataObject) -> None:
    tensors, options = data.draw(cases(fused))
    before = [tensor.clone() for tensor in tensors]
    assert uses_kernel(*tensors)
    y = fused.op(*tensors, **options)
    exact = fused.formula(*wide(tensors), **options).detach()
    in_dtype = fused.formula(*tensors, **options)
    assert (y.shape, y.dtype) == (in_dtype.shape, in_dtype.dtype)
    assert y.stride() == in_dtype.stride() or not tensors[0].is_contiguous()
    bound = named(ULP[y.dtype])
    error = (y.double() - exact).abs()
    allowed = bound["atol"] + bound["rtol"] * exact.abs()
    allowed = allowed + named("ulp_float32")["rtol"] * fused.terms(*(tensor.double() for tensor in tensors), **options)
    assert (error <= allowed).all(), f"off by {(error / allowed).max():.2f} times what is allowed"
    assert torch.equal(y, fused.op(*tensors, **options))
    assert all(map(torch.equal, tensors, before))


@each
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "transposed"])
def test_the_layout_of_a_dense_input_is_kept_by_the_result_and_its_gradients(fused: Fused, layout: str) -> None:
    if layout == "transposed":
        if not fused.dense_layouts:
            pytest.skip("keeps channels last; all others become contiguous")
        x = torch.randn(5, 4, 3, 2, device=DEVICE).permute(3, 2, 0, 1)
    else:
        x = lay_out(torch.randn(2, 3, 5, 4, device=DEVICE), layout)
    others = [torch.randn(s, device=DEVICE) for s in fused.others(tuple(x.shape))]
    x.requires_grad_()
    y = fused.op(x, *others)
    assert y.stride() == x.stride()
    torch.testing.assert_close(y, fused.formula(x, *others), **for_dtype(torch.float32))
    g = torch.randn(2, 3, 5, 4, device=DEVICE, requires_grad=True)
    (first,) = torch.autograd.grad(y, x, g, create_graph=True)
    assert first.stride() == x.stride()
    (expected,) = torch.autograd.grad(fused.formula(x, *others), x, g)
    torch.testing.assert_close(first, expected, **for_dtype(torch.float32))


@each
@pytest.mark.parametrize("channels", [3, 20])
def test_nan_and_infinity_come_out_where_the_formula_has_them(fused: Fused, channels: int) -> None:
    x = fill((4, channels, 3, 3), "normal", seed=1, dtype=torch.float32).to(DEVICE)
    x[0, 0, 0, 0], x[1, 1, 1, 1], x[2, 2, 2, 2], x[2, 0, 2, 2] = torch.nan, torch.inf, -torch.inf, 0.0
    others = [fill(s, "normal", seed=2, dtype=torch.float32).to(DEVICE) for s in fused.others(tuple(x.shape))]
    for options in fused.options:
        y, expected = fused.op(x, *others, **options), fused.formula(x, *others, **options)
        torch.testing.assert_close(y, expected, equal_nan=True, **for_dtype(torch.float32))


def orders(op: Callable[..., Tensor], tensors: list[Tensor], options: dict[str, Any], seed: int) -> list[list[Tensor]]:
    """Gradients of the first and the second order, by every tensor and by the gradient that came in."""
    y = op(*tensors, **options)
    # bfloat16 holds them exactly, and so does every other dtype here.
    g = fill(tuple(y.shape), "normal", seed=seed, dtype=torch.bfloat16).half().to(y).requires_grad_()
    first = torch.autograd.grad(y, tensors, g, create_graph=True)
    shapes = enumerate(tuple(d.shape) for d in first)
    directions = [fill(shape, "normal", seed=seed + 1 + i, dtype=torch.bfloat16).half().to(y) for i, shape in shapes]
    product = sum((d * v).sum() for d, v in zip(first, directions, strict=True))
    second = torch.autograd.grad(product, [g, *tensors], allow_unused=True)
    return [list(first), [torch.zeros(()) if d is None else d for d in second]]


@each
@pytest.mark.parametrize("dtype", list(ULP), ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_both_orders_of_gradients_are_those_of_the_formula(fused: Fused, dtype: torch.dtype, layout: str) -> None:
    tensors = tensors_for(fused, (3, 20, 4, 5), dtype=dtype, layout=layout)
    options = fused.options[-1]
    exact = wide(tensors)
    for mine, theirs in zip(
        orders(fused.op, tensors, options, 7), orders(fused.formula, exact, options, 7), strict=True
    ):
        for found, expected in zip(mine, theirs, strict=True):
            if expected.dim() == 0 or not expected.any():
                assert not found.any()
                continue
            scale = expected.abs().max()
            torch.testing.assert_close(found.double() / scale, expected / scale, **named(GRADIENT[dtype]))


@each
@pytest.mark.parametrize("which", [0, -1])
@pytest.mark.usefixtures("in_float64")
def test_gradients_of_both_orders_and_modes_are_those_of_finite_differences(fused: Fused, which: int) -> None:
    tensors = tensors_for(fused, (2, 3, 2, 1), seed=3)
    options = fused.options[which]

    def bent(*tensors: Tensor) -> Tensor:
        return torch.tanh(fused.op(*tensors, **options))

    assert uses_kernel(*tensors)
    assert gradcheck(bent, tensors, fast_mode=True, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(bent, tensors, fast_mode=True, check_fwd_over_rev=True, check_batched_grad=True)


def third(op: Callable[..., Tensor], tensors: list[Tensor], options: dict[str, Any]) -> tuple[Tensor, ...]:
    loss = torch.sin(op(*tensors, **options)).square().sum()
    for _ in range(3):
        gradients = torch.autograd.grad(loss, tensors, create_graph=True)
        loss = sum(torch.sin(gradient + 1).sum() for gradient in gradients)  # type: ignore[assignment]
    return torch.autograd.grad(loss, tensors)


@each
@pytest.mark.usefixtures("in_float64")
def test_the_fourth_order_is_that_of_the_formula(fused: Fused) -> None:
    tensors = tensors_for(fused, (2, 4, 2, 2), seed=4)
    for options in fused.options:
        found, expected = third(fused.op, tensors, options), third(fused.formula, tensors, options)
        for mine, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, theirs, **named("fourth_order"))


@each
@pytest.mark.usefixtures("in_float64")
def test_function_transforms_are_those_of_the_formula(fused: Fused) -> None:
    tensors = [tensor.detach() for tensor in tensors_for(fused, (2, 3, 2, 2), seed=5)]
    options = fused.options[-1]
    every = tuple(range(len(tensors)))

    def results(op: Callable[..., Tensor]) -> list[Any]:
        def energy(*tensors: Tensor) -> Tensor:
            return torch.tanh(op(*tensors, **options)).square().sum()

        def slope(*tensors: Tensor) -> Tensor:
            return sum(part.square().sum() for part in torch.func.grad(energy, every)(*tensors))  # type: ignore[return-value]

        stacked = [torch.stack([tensor, 2 * tensor, -tensor]) for tensor in tensors]
        one = (0, *(None for _ in tensors[1:]))
        other = (None, *(0 for _ in tensors[1:])) if len(tensors) > 1 else (0,)
        last = [tensor.movedim(0, -1) for tensor in stacked]

        def call(*tensors: Tensor) -> Tensor:
            return op(*tensors, **options)

        return [
            torch.func.grad(slope, every)(*tensors),
            torch.func.jvp(call, tuple(tensors), tuple(tensor.cos() for tensor in tensors)),
            torch.func.vmap(call)(*stacked),
            torch.func.vmap(call, in_dims=-1, out_dims=1)(*last),
            torch.func.vmap(call, in_dims=one)(stacked[0], *tensors[1:]),
            torch.func.vmap(call, in_dims=other)(*([tensors[0]] if len(tensors) > 1 else []), *stacked[-1:]),
            torch.func.vmap(torch.func.grad(energy, every))(*stacked),
            torch.func.vmap(torch.func.grad(slope, every), in_dims=one)(stacked[0], *tensors[1:]),
            torch.func.jacfwd(torch.func.jacrev(energy))(*tensors),
        ]

    torch.testing.assert_close(results(fused.op), results(fused.formula), **named("transformed"))


@each
@pytest.mark.usefixtures("in_float64")
def test_a_gradient_through_vmap_of_a_gradient_reaches_the_tensors(fused: Fused) -> None:
    tensors = tensors_for(fused, (3, 1, 4, 2, 1), seed=6)
    tensors[1:] = tensors_for(fused, (1, 4, 2, 1), seed=8)[1:]

    def penalty(op: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        def energy(x: Tensor) -> Tensor:
            return torch.tanh(op(x, *tensors[1:])).square().sum()

        return torch.autograd.grad(torch.func.vmap(torch.func.grad(energy))(tensors[0]).square().sum(), tensors)

    torch.testing.assert_close(penalty(fused.op), penalty(fused.formula), **named("transformed"))


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_changes_nothing(fused: Fused, dtype: torch.dtype) -> None:
    tensors = tensors_for(fused, (2, 3, 4, 4), dtype=dtype)
    plain = orders(fused.op, tensors, {}, 9)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        y = fused.op(*tensors)
        cast = orders(fused.op, tensors, {}, 9)
    assert y.dtype == dtype
    for mine, theirs in zip(cast, plain, strict=True):
        assert all(map(torch.equal, mine, theirs))


@each
def test_gradients_of_two_runs_are_the_same_bits(fused: Fused) -> None:
    tensors = tensors_for(fused, (3, 20, 9, 5), dtype=torch.float32)
    for first, again in zip(orders(fused.op, tensors, {}, 10), orders(fused.op, tensors, {}, 10), strict=True):
        assert all(map(torch.equal, first, again))


@each
def test_only_what_is_asked_for_is_differentiated(fused: Fused) -> None:
    tensors = tensors_for(fused, (2, 3, 2, 2), dtype=torch.float32)
    together = torch.autograd.grad(fused.op(*tensors).sin().sum(), tensors)
    for index, expected in enumerate(together):
        (alone,) = torch.autograd.grad(fused.op(*tensors).sin().sum(), tensors[index])
        frozen = [tensor if i == index else tensor.detach() for i, tensor in enumerate(tensors)]
        (only,) = torch.autograd.grad(fused.op(*frozen).sin().sum(), tensors[index])
        assert torch.equal(alone, expected)
        assert torch.equal(only, expected)
    with torch.no_grad():
        assert fused.op(*tensors).grad_fn is None


@each
def test_gradients_in_any_layout_and_as_a_constant_are_taken(fused: Fused) -> None:
    tensors = tensors_for(fused, (2, 3, 4, 4), dtype=torch.float32)
    dense = fill((2, 3, 4, 4), "normal", seed=11, dtype=torch.float32).to(DEVICE)
    (expected,) = torch.autograd.grad(fused.op(*tensors), tensors[0], dense)
    for layout in ("channels_last", "sliced"):
        (found,) = torch.autograd.grad(fused.op(*tensors), tensors[0], lay_out(dense, layout))
        assert torch.equal(found, expected)
    summed = torch.autograd.grad(fused.op(*tensors).sum(), tensors)  # one number, expanded
    for found, theirs in zip(summed, torch.autograd.grad(fused.formula(*tensors).sum(), tensors), strict=True):
        torch.testing.assert_close(found, theirs, **for_dtype(torch.float32))


@each
def test_empty_and_float64_tensors_take_the_formula(fused: Fused) -> None:
    for shape in ((0, 3, 4, 4), (2, 3, 0, 4)):
        tensors = tensors_for(fused, shape, dtype=torch.float32)
        y = fused.op(*tensors)
        assert y.shape == shape
        assert all(not gradient.any() for gradient in torch.autograd.grad(y.sum(), tensors))
    tensors = tensors_for(fused, (2, 3, 4, 4))
    assert torch.equal(fused.op(*tensors), fused.formula(*tensors))


@each
def test_a_compiled_loss_equals_eager(fused: Fused) -> None:
    tensors = tensors_for(fused, (2, 3, 4, 4), dtype=torch.float32)

    def loss(*tensors: Tensor) -> Tensor:
        return fused.op(*tensors).sin().sum()

    torch._dynamo.reset()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    found, expected = torch.autograd.grad(compiled(*tensors), tensors), torch.autograd.grad(loss(*tensors), tensors)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, **for_dtype(torch.float32))
