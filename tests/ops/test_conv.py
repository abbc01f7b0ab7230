"""conv2d and conv_transpose2d: PyTorch's values, and gradients of every order by ordinary kernels."""

import os
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

import oracles
from ganblocks.ops import conv
from strategies import fill, lay_out
from tolerances import for_dtype, named

Convolution = Callable[..., Tensor]
NATIVE: dict[str, Convolution] = {"conv2d": F.conv2d, "conv_transpose2d": F.conv_transpose2d}
OURS: dict[str, Convolution] = {"conv2d": conv.conv2d, "conv_transpose2d": conv.conv_transpose2d}
# PyTorch itself calls it when forward-mode derivatives are first used.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
both = pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])


@dataclass
class Case:
    """One call: the name of the function, shapes, and how the kernel meets the image."""

    name: str
    image: tuple[int, ...]
    weight: tuple[int, ...]
    bias: bool = True
    options: dict[str, Any] = field(default_factory=dict)

    def tensors(self, dtype: torch.dtype = torch.float64, scale: float = 1.0) -> list[Tensor]:
        width = self.weight[0] if self.name == "conv2d" else self.weight[1] * self.options.get("groups", 1)
        shapes: list[Sequence[int]] = [self.image, self.weight, *([[width]] if self.bias else [])]
        return [
            (scale * fill(shape, "normal", seed=seed)).to(dtype).requires_grad_() for seed, shape in enumerate(shapes)
        ]

    def of(self, functions: dict[str, Convolution]) -> Convolution:
        return partial(functions[self.name], **self.options)


@st.composite
def cases(draw: st.DrawFn, *, smallest_batch: int = 0) -> Case:
    name = draw(st.sampled_from(sorted(NATIVE)))
    groups, inner, outer = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    batch = draw(st.integers(smallest_batch, 2))
    kernel, stride = [draw(st.integers(1, 3)) for _ in "HW"], [draw(st.integers(1, 3)) for _ in "HW"]
    dilation = [draw(st.integers(1, 2)) for _ in "HW"]
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    if name == "conv2d":
        padding = [draw(st.integers(0, 2)) for _ in "HW"]
        size = [draw(st.integers(max(1, r - 2 * p), 5)) for r, p in zip(reach, padding, strict=True)]
        weight = (groups * outer, inner, *kernel)
        options: dict[str, Any] = {}
    else:
        size = [draw(st.integers(1, 3)) for _ in "HW"]
        full = [(n - 1) * s + r for n, s, r in zip(size, stride, reach, strict=True)]
        padding = [draw(st.integers(0, min(2, (f - 1) // 2))) for f in full]
        weight = (groups * inner, outer, *kernel)
        extra = [draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)]
        options = {"output_padding": tuple(extra)}
    options |= {"stride": tuple(stride), "padding": tuple(padding), "dilation": tuple(dilation), "groups": groups}
    return Case(name, (batch, groups * inner, *size), weight, draw(st.booleans()), options)


def cropped_conv_transpose2d(*tensors: Tensor, output_padding: tuple[int, int] = (0, 0), **options: Any) -> Tensor:
    """PyTorch's, whose higher orders refuse an output padding: rows of zeros in the input and a crop do the same."""
    image, *rest = tensors
    more = [extra // stride + 1 for extra, stride in zip(output_padding, options["stride"], strict=True)]
    padded = F.conv_transpose2d(F.pad(image, (0, more[1], 0, more[0])), *rest, **options)
    surplus = [m * s - e for m, s, e in zip(more, options["stride"], output_padding, strict=True)]
    return padded[..., : padded.shape[2] - surplus[0], : padded.shape[3] - surplus[1]]


def orders(function: Convolution, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The value, and the gradients of first, second and third order by every argument of a loss that bends."""
    value = function(*tensors)
    loss = torch.tanh(value).mul(torch.arange(1.0, value.numel() + 1).view_as(value) / (value.numel() + 1)).sum()
    touch = 0 * torch.stack([t.sum() for t in tensors]).sum()  # PyTorch loses arguments on the way when they are empty
    found = [value]
    for _ in range(3):
        gradients = torch.autograd.grad(loss + touch, tensors, create_graph=True)
        found += gradients
        loss = torch.stack([g.square().sum() for g in gradients]).sum()
    return found


def penalty_gradient(function: Convolution, image: Tensor, weight: Tensor, direction: Tensor) -> Tensor:
    """d/d(weight) of <direction, d/d(image) of a bent sum of the convolution>: what a gradient penalty trains with."""
    (inner,) = torch.autograd.grad(function(image, weight).square().sum() / 2, image, create_graph=True)
    return torch.autograd.grad(inner, weight, direction)[0]


def cosine(a: Tensor, b: Tensor) -> float:
    a, b = a.double().flatten(), b.double().flatten()
    return float(a @ b / (a.norm() * b.norm()))


def relative_error(a: Tensor, truth: Tensor) -> float:
    return float((a.double() - truth).norm() / truth.norm())


# Values and gradients


@given(cases())
def test_the_value_is_the_sum_over_the_window(case: Case) -> None:
    tensors = case.tensors()
    expected = getattr(oracles, case.name)(*map(oracles.to_array, tensors), **case.options)
    oracles.assert_matches(case.of(OURS)(*tensors), expected)


@given(cases(), st.sampled_from([torch.float64, torch.float32]))
def test_three_orders_of_gradients_equal_those_of_pytorch(case: Case, dtype: torch.dtype) -> None:
    ours = orders(case.of(OURS), case.tensors(dtype, scale=0.3))
    reference = NATIVE | {"conv_transpose2d": cropped_conv_transpose2d}
    native = orders(case.of(reference), case.tensors(torch.float64, scale=0.3))
    tolerance = for_dtype(dtype) if dtype == torch.float64 else named("conv_orders_float32")
    for actual, expected in zip(ours, native, strict=True):
        assert actual.dtype == dtype
        torch.testing.assert_close(actual.double(), expected, **tolerance)


@given(cases(), st.booleans())
def test_three_orders_by_matrix_products_equal_those_of_pytorch(case: Case, channels_last: bool) -> None:
    reference = NATIVE | {"conv_transpose2d": cropped_conv_transpose2d}
    native = orders(case.of(reference), case.tensors(torch.float64, scale=0.3))
    tensors = case.tensors(torch.float32, scale=0.3)
    if channels_last:
        tensors = [t.detach().contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for t in tensors]
        tensors = [t.detach().requires_grad_() for t in tensors]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv, "pays", lambda *shapes: min(shapes[0], *shapes[1], *shapes[2]) > 0)
        ours = orders(case.of(OURS), tensors)
    for actual, expected in zip(ours, native, strict=True):
        torch.testing.assert_close(actual.double(), expected, **named("conv_orders_float32"))


@given(cases(smallest_batch=1))
def test_gradients_of_both_orders_are_those_of_finite_differences(case: Case) -> None:
    tensors = case.tensors()
    assert gradcheck(case.of(OURS), tensors, fast_mode=True)
    assert gradgradcheck(case.of(OURS), tensors, fast_mode=True)


@both
def test_every_entry_of_the_first_and_second_derivative_and_batches_of_them(name: str) -> None:
    options = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}
    case = Case(name, (2, 2, 3, 4), (2, 1, 3, 2), options=options)
    tensors = case.tensors()
    assert gradcheck(case.of(OURS), tensors, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(case.of(OURS), tensors, check_fwd_over_rev=True, check_batched_grad=True)


@both
def test_a_created_weight_gradient_can_be_differentiated(name: str) -> None:
    tensors = Case(name, (2, 2, 4, 4), (2, 2, 3, 3), bias=False, options={"padding": 1, "stride": 2}).tensors()

    def by_image(function: Convolution) -> Tensor:
        image, weight = tensors
        (by_weight,) = torch.autograd.grad(
            function(image, weight, stride=2, padding=1).sum(), weight, create_graph=True
        )
        return torch.autograd.grad(by_weight.square().sum(), image)[0]

    ours = by_image(OURS[name])
    assert ours.abs().min() > 0
    torch.testing.assert_close(ours, by_image(NATIVE[name]), **for_dtype(torch.float64))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kernel", [(2, 3), (3, 4), (1, 1), (2, 2)])
def test_padding_by_name_equals_pytorch(padding: str, kernel: tuple[int, int]) -> None:
    case = Case("conv2d", (2, 1, 5, 8), (2, 1, *kernel), options={"padding": padding, "dilation": (1, 2)})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using padding='same' with even kernel")  # PyTorch's remark on its own copy
        native = orders(case.of(NATIVE), case.tensors())
    for actual, expected in zip(orders(case.of(OURS), case.tensors()), native, strict=True):
        torch.testing.assert_close(actual, expected, **for_dtype(torch.float64))


@both
@pytest.mark.parametrize(
    ("image", "weight"),
    [
        ((2, 4, 4), (2, 2, 3, 3)),
        ((0, 2, 4, 4), (2, 2, 3, 3)),
        ((2, 4, 0, 4), (2, 2, 1, 1)),
        ((2, 0, 4, 4), (1, 0, 1, 1)),
    ],
)
def test_one_image_and_empty_tensors_do_what_pytorch_does(
    name: str, image: tuple[int, ...], weight: tuple[int, ...]
) -> None:
    case = Case(name, image, weight, bias=False)

    def outcome(functions: dict[str, Convolution]) -> list[Tensor] | tuple[type[BaseException], str]:
        try:
            return orders(case.of(functions), case.tensors())
        except RuntimeError as error:
            return type(error), str(error)

    ours, native = outcome(OURS), outcome(NATIVE)
    if isinstance(native, tuple):
        assert ours == native
    else:
        torch.testing.assert_close(ours, native, **for_dtype(torch.float64))


@both
@pytest.mark.parametrize("frozen", [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2)])
def test_frozen_arguments_get_no_gradient_and_the_others_the_right_one(name: str, frozen: tuple[int, ...]) -> None:
    case = Case(name, (2, 2, 4, 4), (2, 2, 3, 3))
    reference = case.tensors()
    expected = torch.autograd.grad(case.of(NATIVE)(*reference).square().sum(), reference)
    for create_graph in (False, True):
        tensors = [t.detach().requires_grad_(i not in frozen) for i, t in enumerate(case.tensors())]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Using backward")  # a remark on reference cycles, once per process
            case.of(OURS)(*tensors).square().sum().backward(create_graph=create_graph)
        for index, tensor in enumerate(tensors):
            if index in frozen:
                assert tensor.grad is None
            else:
                torch.testing.assert_close(tensor.grad, expected[index], **for_dtype(torch.float64))


# Which kernels run


class Calls(TorchDispatchMode):
    """Writes down every convolution kernel: the size of its window, and which gradients it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.windows: list[tuple[int, ...]] = []
        self.wanted: list[tuple[bool, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = func.overloadpacket
        if packet is torch.ops.aten.convolution:
            self.windows.append(tuple(args[1].shape[2:]))
        if packet is torch.ops.aten.convolution_backward:
            self.wanted.append(tuple(args[-1]))
        return func(*args, **(kwargs or {}))


@both
def test_no_order_runs_an_image_sized_window(name: str) -> None:
    case = Case(name, (2, 2, 7, 7), (2, 2, 3, 3), bias=False, options={"padding": 1})

    def windows(functions: dict[str, Convolution]) -> set[tuple[int, ...]]:
        with Calls() as calls:
            orders(case.of(functions), case.tensors())
        return set(calls.windows)

    assert windows(OURS) == {(3, 3)}
    assert (7, 7) in windows(NATIVE)  # the kernel that is wrong on some CPUs; gone means that the repair may go too


@both
@pytest.mark.parametrize("leaf", [True, False])
def test_the_inner_gradient_of_a_penalty_pays_for_no_weight_gradient(name: str, leaf: bool) -> None:
    image, weight, bias = Case(name, (2, 2, 5, 5), (2, 2, 3, 3)).tensors()
    used = weight if leaf else weight * 2
    output = OURS[name](image, used, bias)
    with Calls() as calls:
        (inner,) = torch.autograd.grad(output.square().sum(), image, create_graph=True)
    assert calls.wanted == []
    with Calls() as calls:
        torch.autograd.grad(inner.square().sum(), weight)
    assert all(by_weight or by_input for by_input, by_weight, _ in calls.wanted)
    assert sum(by_weight for _, by_weight, _ in calls.wanted) == 2  # through the value, and through its gradient


@both
def test_a_first_order_backward_is_one_kernel(name: str) -> None:
    tensors = Case(name, (2, 2, 5, 5), (2, 2, 3, 3)).tensors()
    output = OURS[name](*tensors)
    with Calls() as calls:
        output.sum().backward()
    assert (calls.windows, calls.wanted) == ([], [(True, True, False)])  # the bias by a sum of its own


@both
def test_without_a_gradient_pytorch_itself_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conv._Convolution, "apply", None)
    tensors = Case(name, (2, 2, 5, 5), (2, 2, 3, 3)).tensors()
    with torch.no_grad():
        torch.testing.assert_close(OURS[name](*tensors), NATIVE[name](*tensors), **named("exact"))
    frozen = [t.detach() for t in tensors]
    torch.testing.assert_close(OURS[name](*frozen), NATIVE[name](*frozen), **named("exact"))


# Layouts and precisions


@both
@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}])
def test_channels_last_stays_channels_last_through_all_orders(name: str, options: dict[str, Any]) -> None:
    case = Case(name, (2, 4, 6, 6), (4, 4, 3, 3), options=options)
    image, weight, bias = case.tensors()
    plain = orders(case.of(OURS), [image, weight, bias])
    laid_out = lay_out(image.detach(), "channels_last").requires_grad_()
    value = case.of(OURS)(laid_out, weight, bias)
    assert value.is_contiguous(memory_format=torch.channels_last)
    for create_graph in (True, False):  # the gradient arrives as NCHW
        arriving = torch.ones(value.shape, dtype=value.dtype)
        (by_image,) = torch.autograd.grad(value, laid_out, arriving, create_graph=create_graph, retain_graph=True)
        assert by_image.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(orders(case.of(OURS), [laid_out, weight, bias]), plain, **for_dtype(torch.float64))


def test_weights_of_one_channel_say_by_their_strides_that_the_result_is_channels_last() -> None:
    weight, image = torch.randn(4, 1, 3, 3, requires_grad=True), torch.randn(2, 1, 6, 6)
    strided = torch.empty_like(weight, memory_format=torch.channels_last).copy_(weight.detach()).requires_grad_()
    plain, value = OURS["conv2d"](image, weight), OURS["conv2d"](image, strided)
    assert (plain.stride(1), value.stride(1)) == (16, 1)
    torch.testing.assert_close(value.contiguous(), plain)


@both
@pytest.mark.parametrize("layout", ["sliced", "expanded"])
def test_any_layout_gives_the_values_of_a_contiguous_tensor(name: str, layout: str) -> None:
    case = Case(name, (2, 2, 4, 4), (2, 2, 3, 3), bias=False)
    image, weight = (lay_out(t.detach(), layout) for t in case.tensors())
    views = orders(case.of(OURS), [image.requires_grad_(), weight.requires_grad_()])
    dense = orders(case.of(OURS), [t.detach().contiguous().requires_grad_() for t in (image, weight)])
    torch.testing.assert_close(views, dense, **for_dtype(torch.float64))


@pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("batch", [1, 2, 4, 8, 12])
def test_a_penalty_in_low_precision_points_where_the_truth_points(
    batch: int, dtype: torch.dtype, channels_last: bool
) -> None:
    image, direction = fill((batch, 32, 8, 8), "normal", seed=0), fill((batch, 32, 8, 8), "normal", seed=1)
    weight = fill((32, 32, 3, 3), "normal", seed=2) / (32 * 9) ** 0.5
    function = partial(conv.conv2d, padding=1)
    truth = penalty_gradient(
        partial(F.conv2d, padding=1), image.clone().requires_grad_(), weight.clone().requires_grad_(), direction
    )
    layout = torch.channels_last if channels_last else torch.contiguous_format
    low = [t.to(dtype).contiguous(memory_format=layout) for t in (image, weight, direction)]
    ours = penalty_gradient(function, low[0].requires_grad_(), low[1].requires_grad_(), low[2])
    assert ours.dtype == dtype
    assert cosine(ours, truth) == pytest.approx(1.0, rel=0.0, abs=named("conv_bfloat16_cosine")["atol"])
    limit = named("conv_bfloat16" if dtype == torch.bfloat16 else "conv_float16")["rtol"]
    assert relative_error(ours, truth) < limit


def has_amx() -> bool:
    """Whether bfloat16 convolutions run on AMX tiles: the CPU has them and oneDNN is allowed to use them."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "DEFAULT")).upper()
    if limit not in ("DEFAULT", "ALL") and "AMX" not in limit:
        return False
    ask = getattr(torch.cpu, "_is_amx_tile_supported", None)
    if ask is not None:
        return bool(ask())
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return "amx_bf16" in file.read()
    except OSError:
        return False


@pytest.mark.skipif(not has_amx(), reason="this CPU has no AMX (or oneDNN may not use it), so PyTorch is right here")
@pytest.mark.xfail(
    strict=True, reason="PyTorch's own double backward is wrong in bfloat16 on AMX; mended if this passes"
)
def test_pytorch_itself_is_right_on_this_cpu() -> None:
    image, direction = fill((8, 256, 8, 8), "normal", seed=0), fill((8, 256, 8, 8), "normal", seed=1)
    weight = fill((256, 256, 3, 3), "normal", seed=2) / (256 * 9) ** 0.5
    truth, low = (
        penalty_gradient(
            partial(F.conv2d, padding=1), image.to(d).requires_grad_(), weight.to(d).requires_grad_(), direction.to(d)
        )
        for d in (torch.float32, torch.bfloat16)
    )
    assert cosine(low, truth) == pytest.approx(1.0, rel=0.0, abs=named("conv_bfloat16_cosine")["atol"])


# Autocast


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("target", [torch.bfloat16, torch.float16])
def test_autocast_gives_the_value_dtype_and_gradients_of_pytorch(
    name: str, dtype: torch.dtype, target: torch.dtype
) -> None:
    def run(function: Convolution) -> list[Tensor]:
        tensors = Case(name, (2, 2, 5, 5), (2, 2, 3, 3)).tensors(dtype)
        with torch.autocast("cpu", dtype=target):
            output = function(*tensors, padding=1)
        return [output, *torch.autograd.grad(output.float().square().sum(), tensors)]

    ours, native = run(OURS[name]), run(NATIVE[name])
    assert ours[0].dtype == (torch.float64 if dtype == torch.float64 else target)
    torch.testing.assert_close(ours, native, **named("exact"))


@both
def test_autocast_leaves_float64_alone_and_so_refuses_to_mix_it(name: str) -> None:
    image, weight, _ = Case(name, (2, 2, 5, 5), (2, 2, 3, 3)).tensors(torch.float32)
    for function in (OURS[name], NATIVE[name]):
        with torch.autocast("cpu", dtype=torch.bfloat16), pytest.raises(RuntimeError, match="expected scalar type"):
            function(image.double(), weight)


@both
def test_a_backward_inside_autocast_keeps_the_dtype_of_its_forward(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = torch.convolution

    def watched(*arguments: Any) -> Tensor:
        assert not torch.is_autocast_enabled("cpu")  # which casts this very function on GPUs, though not on CPUs
        return kernel(*arguments)

    monkeypatch.setattr(torch, "convolution", watched)
    tensors = Case(name, (2, 2, 5, 5), (2, 2, 3, 3)).tensors(torch.float32, scale=0.3)
    value = OURS[name](*tensors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (inner,) = torch.autograd.grad(value.square().sum(), tensors[0], create_graph=True)
        outer = torch.autograd.grad(inner.square().sum(), tensors)
    reference = Case(name, (2, 2, 5, 5), (2, 2, 3, 3)).tensors(torch.float32, scale=0.3)
    (expected,) = torch.autograd.grad(NATIVE[name](*reference).square().sum(), reference[0], create_graph=True)
    torch.testing.assert_close(inner, expected, **for_dtype(torch.float32))
    torch.testing.assert_close(
        outer, torch.autograd.grad(expected.square().sum(), reference), **named("conv_orders_float32")
    )


def test_a_penalty_under_autocast_is_close_to_the_one_in_float64() -> None:
    image, first = fill((4, 8, 8, 8), "normal", seed=0), fill((16, 8, 3, 3), "normal", seed=1) / (8 * 9) ** 0.5
    second = fill((16, 16, 4, 4), "normal", seed=2) / (16 * 16) ** 0.5

    def penalty(dtype: torch.dtype, autocast: bool) -> tuple[Tensor, Tensor]:
        x, u, v = (t.to(dtype).requires_grad_() for t in (image, first, second))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            logits = conv.conv2d(F.leaky_relu(conv.conv2d(x, u, padding=1), 0.2), v, stride=2, padding=1)
            (inner,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
            value = (inner.to(dtype).flatten(1).norm(dim=1) - 1).square().mean()
        return value, torch.cat([g.flatten() for g in torch.autograd.grad(value, (u, v))])

    (value, gradient), (truth, true_gradient) = penalty(torch.float32, True), penalty(torch.float64, False)
    torch.testing.assert_close(value.double(), truth, **named("penalty_low_precision"))
    assert relative_error(gradient, true_gradient) < named("conv_bfloat16")["rtol"]


# torch.func, compilers and exporters


@both
def test_function_transforms_equal_autograd(name: str) -> None:
    image, weight, _ = Case(name, (3, 2, 4, 4), (2, 2, 3, 3)).tensors()
    image, weight = image.detach(), weight.detach()

    def loss(function: Convolution, x: Tensor, w: Tensor) -> Tensor:
        return torch.tanh(function(x, w, stride=2, padding=1)).sum()

    def penalty(function: Convolution, x: Tensor, w: Tensor) -> Tensor:
        return torch.func.grad(loss, argnums=1)(function, x, w).square().sum()

    transforms: dict[str, Callable[[Convolution], Any]] = {
        "grad": lambda f: torch.func.grad(loss, argnums=(1, 2))(f, image, weight),
        "grad of grad": lambda f: torch.func.grad(penalty, argnums=(1, 2))(f, image, weight),
        "vjp": lambda f: torch.func.vjp(partial(loss, f), image, weight)[1](torch.ones((), dtype=torch.float64)),
        "jvp": lambda f: torch.func.jvp(partial(loss, f), (image, weight), (image.cos(), weight.sin())),
        "jvp of grad": lambda f: torch.func.jvp(partial(penalty, f), (image, weight), (image.cos(), weight.sin())),
        "vmap of images": lambda f: torch.vmap(lambda x: f(x, weight))(image),
        "vmap of grad": lambda f: torch.vmap(lambda x: torch.func.grad(loss, argnums=2)(f, x, weight))(image),
        "grad of vmap": lambda f: torch.func.grad(lambda w: torch.vmap(lambda x: loss(f, x, w))(image).prod())(weight),
        "vmap of weights": lambda f: torch.vmap(lambda w: penalty(f, image, w))(torch.stack([weight, weight.cos()])),
        "hessian": lambda f: torch.func.hessian(lambda w: loss(f, image[:1], w))(weight),
    }
    for title, transform in transforms.items():
        torch.testing.assert_close(
            transform(OURS[name]),
            transform(NATIVE[name]),
            **for_dtype(torch.float64),
            msg=lambda m, t=title: f"{t}: {m}",
        )


@both
@pytest.mark.parametrize("per_image", [False, True])
def test_the_second_order_inside_torch_func_avoids_the_image_sized_window_too(name: str, per_image: bool) -> None:
    image, weight, _ = (t.detach() for t in Case(name, (2, 2, 7, 7), (2, 2, 3, 3)).tensors())

    def windows(function: Convolution) -> set[tuple[int, ...]]:
        def output(x: Tensor, w: Tensor) -> Tensor:
            if per_image:
                return torch.vmap(partial(function, padding=1))(x, w.expand(len(x), *w.shape))
            return function(x, w, padding=1)

        def penalty(w: Tensor) -> Tensor:
            return torch.func.grad(lambda x: output(x, w).square().sum())(image).square().sum()

        with Calls() as calls:
            torch.func.grad(penalty)(weight)
        return set(calls.windows)

    assert windows(OURS[name]) == {(3, 3)}
    assert windows(NATIVE[name]) != {(3, 3)}


@both
def test_a_compiled_loss_with_a_penalty_inside_has_the_gradient_of_eager(name: str) -> None:
    image, weight, bias = Case(name, (2, 2, 5, 5), (2, 2, 3, 3)).tensors()
    image = image.detach()
    graphs: list[str] = []

    def loss(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        def critic(images: Tensor) -> Tensor:
            return torch.tanh(OURS[name](images, w, b, padding=1)).sum()

        return critic(x) / 2 + torch.func.grad(critic)(x).square().sum()

    def backend(module: torch.fx.GraphModule, examples: list[Tensor]) -> Any:
        from torch._dynamo.backends.debugging import aot_eager

        graphs.append(module.print_readable(print_output=False))
        return aot_eager(module, examples)

    torch._dynamo.reset()
    compiled = torch.compile(loss, backend=backend, fullgraph=True)(image, weight, bias)
    compiled_gradients = torch.autograd.grad(compiled, (weight, bias))
    expected = loss(image, weight, bias)
    torch.testing.assert_close(compiled, expected, **for_dtype(torch.float64))
    torch.testing.assert_close(
        compiled_gradients, torch.autograd.grad(expected, (weight, bias)), **for_dtype(torch.float64)
    )
    assert f"{name}(" in graphs[0]
    assert "autograd_function" not in graphs[0]


def test_tracing_records_pytorchs_own_convolutions() -> None:
    image, weight, _ = Case("conv2d", (1, 2, 5, 5), (2, 2, 3, 3)).tensors()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; old exporters still use it
        traced = torch.jit.trace(lambda x, w: conv.conv_transpose2d(conv.conv2d(x, w), w), (image, weight))
    assert "PythonOp" not in str(traced.graph)
    assert "_Convolution" not in str(traced.graph)
    symbolic = torch.fx.symbolic_trace(lambda x: conv.conv2d(x, weight))
    torch.testing.assert_close(symbolic(image), F.conv2d(image, weight), **named("exact"))


def test_a_recorded_output_survives_a_reentrant_checkpoint() -> None:
    from torch.utils.checkpoint import checkpoint

    case = Case("conv2d", (2, 2, 5, 5), (2, 2, 3, 3))
    for reentrant in (True, False):
        tensors = case.tensors()
        checkpoint(case.of(OURS), *tensors, use_reentrant=reentrant).square().sum().backward()
        reference = case.tensors()
        case.of(NATIVE)(*reference).square().sum().backward()
        for actual, expected in zip(tensors, reference, strict=True):
            torch.testing.assert_close(actual.grad, expected.grad, **for_dtype(torch.float64))


# What does not fit


def tensor(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(shape, dtype=dtype).requires_grad_(dtype.is_floating_point)


WRONG_TENSORS: list[tuple[Any, ...]] = [
    (tensor(1, 2, 3, 4), tensor(1, 1, 1, 1)),
    (tensor(3, 4), tensor(1, 1, 1, 1)),
    (tensor(1, 1, 3, 4), tensor(1, 1, 1)),
    (tensor(1, 1, 3, 4), tensor(0, 1, 1, 1)),
    (tensor(1, 1, 3, 4), tensor(1, 1, 1, 1, dtype=torch.float64)),
    (tensor(1, 1, 3, 4, dtype=torch.int64), tensor(1, 1, 1, 1)),
    (tensor(1, 1, 3, 4), tensor(1, 1, 1, 1), tensor(2)),
]
WRONG_OPTIONS: dict[str, list[dict[str, Any]]] = {
    "conv2d": [{"padding": "some"}, {"padding": "same", "stride": 2}, {"padding": (1, 1, 1)}],
    "conv_transpose2d": [
        {"output_padding": 1},
        {"output_padding": -1},
        {"output_padding": (1, 1, 1)},
        {"stride": 2, "output_padding": (0, 2)},
        {"stride": 0, "output_padding": 1, "dilation": 2},
        {"padding": 2},
    ],
}
for options in WRONG_OPTIONS.values():
    options += [{"stride": 0}, {"stride": (1, 2, 3)}, {"padding": -1}, {"dilation": 0}, {"groups": 2}, {"groups": 0}]


def assert_refused_alike(name: str, *arguments: Any, **options: Any) -> None:
    with pytest.raises(RuntimeError) as native:
        NATIVE[name](*arguments, **options)
    with pytest.raises(RuntimeError, match=f"^{re.escape(str(native.value))}$"):
        OURS[name](*arguments, **options)


@both
@pytest.mark.parametrize("arguments", WRONG_TENSORS, ids=range(len(WRONG_TENSORS)))
def test_tensors_that_do_not_fit_are_refused_in_pytorchs_words(name: str, arguments: tuple[Any, ...]) -> None:
    assert_refused_alike(name, *arguments)


@pytest.mark.parametrize(("name", "options"), [(n, o) for n, many in WRONG_OPTIONS.items() for o in many], ids=str)
def test_numbers_that_do_not_fit_are_refused_in_pytorchs_words(name: str, options: dict[str, Any]) -> None:
    assert_refused_alike(name, tensor(1, 1, 3, 4), tensor(1, 1, 1, 1), **options)


@both
@pytest.mark.parametrize(
    "wrong", [{"weight": "w"}, {"stride": "2"}, {"stride": (1.5, 1)}, {"padding": 1.5}, {"bias": 1}]
)
def test_arguments_of_another_type_are_type_errors(name: str, wrong: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"input": tensor(1, 1, 3, 4), "weight": tensor(1, 1, 1, 1)}
    with pytest.raises(TypeError, match="argument"):
        OURS[name](**(arguments | wrong))


def test_a_bias_of_another_dtype_is_refused_in_pytorchs_words() -> None:
    assert_refused_alike("conv2d", tensor(1, 1, 3, 4), tensor(1, 1, 1, 1), tensor(1, dtype=torch.float64))


@both
def test_complex_images_are_pytorchs_business(name: str) -> None:
    image = torch.complex(*(fill((1, 1, 4, 4), "normal", seed=seed) for seed in (0, 1))).requires_grad_()
    weight = torch.complex(*(fill((1, 1, 3, 3), "normal", seed=seed) for seed in (2, 3))).requires_grad_()
    torch.testing.assert_close(OURS[name](image, weight), NATIVE[name](image, weight), **named("exact"))


def test_arguments_may_be_lists_sizes_or_single_numbers() -> None:
    image, weight, _ = Case("conv2d", (2, 2, 5, 6), (2, 2, 3, 3)).tensors()
    for stride in (2, (2,), [2, 2], torch.Size([2, 2])):
        for name in OURS:
            ours, native = OURS[name](image, weight, stride=stride), NATIVE[name](image, weight, stride=stride)
            torch.testing.assert_close(ours, native, **for_dtype(torch.float64))
