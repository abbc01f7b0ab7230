"""WSConv2d, WSConvTranspose2d and WSLinear: standard normal weights, scaled when used (equalised learning rate)."""

import copy
import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

import oracles
from ganblocks.layers import WSConv2d, WSConvTranspose2d, WSLinear
from strategies import fill, lay_out
from tolerances import for_dtype, named

float64 = torch.float64
SQRT2 = 2**0.5

LAYERS: dict[str, Callable[..., nn.Module]] = {
    "conv": lambda **options: WSConv2d(4, 6, 3, **options),
    "transposed conv": lambda **options: WSConvTranspose2d(4, 6, 3, **options),
    "linear": lambda **options: WSLinear(4, 6, **options),
}
FAN_IN = {"conv": 36, "transposed conv": 36, "linear": 4}
each_layer = pytest.mark.parametrize("name", list(LAYERS))


each_side = pytest.mark.parametrize("side", [5, 3])  # with as many numbers as a convolution's weight, and with a few


def example_input(name: str, dtype: torch.dtype = float64, side: int = 5) -> Tensor:
    count = side // 2
    return fill((count, 4) if name == "linear" else (count, 4, side, side), "normal", seed=1, dtype=dtype)


def plain(name: str, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The same layer of torch, with the weight as it is."""
    functions = {"conv": F.conv2d, "transposed conv": F.conv_transpose2d, "linear": F.linear}
    return functions[name](x, weight, bias)


def with_random_bias(layer: nn.Module) -> nn.Module:
    assert isinstance(layer.bias, Tensor)
    nn.init.normal_(layer.bias)
    return layer


# -- the constant: outputs of layers whose weights and inputs are all one, by hand -------------------


def ones(layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """The output for an input of ones with every weight one."""
    assert isinstance(layer.weight, Tensor)
    nn.init.ones_(layer.weight)
    return layer(torch.ones(shape, dtype=float64))


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (WSConv2d(4, 5, 3, gain=1.0, dtype=float64), (1, 4, 3, 3), 6.0),  # fan-in 36
        (WSConv2d(4, 5, 3, dtype=float64), (1, 4, 3, 3), 6.0 * SQRT2),
        (WSConv2d(8, 4, 3, groups=2, gain=1.0, dtype=float64), (1, 8, 3, 3), 6.0),  # fan-in 8/2 * 9
        (WSConv2d(5, 5, 3, groups=5, gain=2.0, dtype=float64), (1, 5, 3, 3), 6.0),  # depthwise: fan-in 9
        (WSConv2d(6, 1, (2, 3), gain=1.0, dtype=float64), (1, 6, 2, 3), 6.0),  # not square: fan-in 6*2*3
        (WSConv2d(6, 1, (3, 2), gain=1.0, dtype=float64), (1, 6, 3, 2), 6.0),
        (WSConv2d(4, 5, 3, dilation=2, gain=1.0, dtype=float64), (1, 4, 5, 5), 6.0),
        (WSConv2d(9, 3, 1, gain=1.0, dtype=float64), (1, 9, 1, 1), 3.0),  # toRGB: fan-in 9
        (WSLinear(16, 3, gain=1.0, dtype=float64), (1, 16), 4.0),
        (WSLinear(8, 100, dtype=float64), (1, 8), 4.0),
        # One input pixel: each output pixel sums over the input channels only, 4 / sqrt(4 * 9) * gain.
        (WSConvTranspose2d(4, 16, 3, gain=3.0, dtype=float64), (1, 4, 1, 1), 2.0),
        (WSConvTranspose2d(16, 4, 3, gain=3.0, dtype=float64), (1, 16, 1, 1), 4.0),
        (WSConvTranspose2d(16, 8, 3, groups=4, gain=3.0, dtype=float64), (1, 16, 1, 1), 2.0),
        (WSConvTranspose2d(6, 3, (2, 3), gain=1.0, dtype=float64), (1, 6, 1, 1), 1.0),
    ],
)
def test_constant_by_hand(layer: nn.Module, shape: tuple[int, ...], expected: float) -> None:
    found = ones(layer, shape)
    torch.testing.assert_close(found, torch.full_like(found, expected), **for_dtype(float64))


def test_the_interior_of_a_transposed_convolution_sums_the_whole_fan_in() -> None:
    found = ones(WSConvTranspose2d(4, 16, 3, gain=1.0, dtype=float64), (1, 4, 3, 3))
    torch.testing.assert_close(found[:, :, 2, 2], torch.full((1, 16), 6.0, dtype=float64), **for_dtype(float64))


def test_the_fan_in_of_a_convolution_is_the_one_torch_counts() -> None:
    layer = WSConv2d(6, 4, (3, 5), groups=2, gain=1.0, dtype=float64)
    fan_in, _ = nn.init._calculate_fan_in_and_fan_out(layer.weight)
    found = ones(layer, (1, 6, 3, 5))
    torch.testing.assert_close(found, torch.full_like(found, math.sqrt(fan_in)), **for_dtype(float64))


# -- values against loops ----------------------------------------------------------------------------

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
strides = st.sampled_from([(1, 1), (2, 2), (1, 2)])
paddings = st.sampled_from([(0, 0), (1, 1), (0, 1)])
dilations = st.sampled_from([(1, 1), (2, 1)])


@given(
    groups=st.integers(1, 2),
    width=st.integers(1, 2),
    batch=st.integers(0, 2),
    kernel=pairs,
    extra=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    stride=strides,
    padding=paddings,
    dilation=dilations,
    gain=st.sampled_from([SQRT2, 1.0, SQRT2 / 4]),
    with_bias=st.booleans(),
    layout=st.sampled_from(["contiguous", "channels_last", "sliced", "expanded"]),
)
def test_convolution_equals_the_loop(
    groups: int,
    width: int,
    batch: int,
    kernel: tuple[int, int],
    extra: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    gain: float,
    with_bias: bool,
    layout: str,
) -> None:
    in_channels, out_channels = groups * width, groups * 2
    layer = WSConv2d(
        in_channels, out_channels, kernel, stride, padding, dilation, groups, bias=with_bias, gain=gain, dtype=float64
    )
    if with_bias:
        with_random_bias(layer)
    size = [dilation[i] * (kernel[i] - 1) + 1 + extra[i] for i in range(2)]
    x = lay_out(fill((batch, in_channels, *size), "normal", seed=1), layout)
    fan_in = width * kernel[0] * kernel[1]
    expected = oracles.conv2d(
        oracles.to_array(x),
        oracles.to_array(layer.weight) * gain / math.sqrt(fan_in),
        None if layer.bias is None else oracles.to_array(layer.bias),
        stride,
        padding,
        dilation,
        groups,
    )
    oracles.assert_matches(layer(x), expected)


@given(
    groups=st.integers(1, 2),
    width=st.integers(1, 2),
    batch=st.integers(0, 2),
    kernel=pairs,
    size=pairs,
    stride=strides,
    padding=paddings,
    output_padding=st.sampled_from([(0, 0), (0, 1), (1, 1)]),
    dilation=dilations,
    gain=st.sampled_from([SQRT2, 1.0]),
    with_bias=st.booleans(),
)
def test_transposed_convolution_equals_the_loop(
    groups: int,
    width: int,
    batch: int,
    kernel: tuple[int, int],
    size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    output_padding: tuple[int, int],
    dilation: tuple[int, int],
    gain: float,
    with_bias: bool,
) -> None:
    # torch wants the output padding below the stride or the dilation, and an output of at least one pixel.
    output_padding = tuple(min(output_padding[i], max(stride[i], dilation[i]) - 1) for i in range(2))  # type: ignore[assignment]
    kernel = tuple(max(kernel[i], 2 * padding[i] + 1) for i in range(2))  # type: ignore[assignment]
    in_channels, out_channels = groups * width, groups * 2
    layer = WSConvTranspose2d(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
        groups=groups,
        bias=with_bias,
        gain=gain,
        dtype=float64,
    )
    if with_bias:
        with_random_bias(layer)
    x = fill((batch, in_channels, *size), "normal", seed=1)
    fan_in = width * kernel[0] * kernel[1]
    expected = oracles.conv_transpose2d(
        oracles.to_array(x),
        oracles.to_array(layer.weight) * gain / math.sqrt(fan_in),
        None if layer.bias is None else oracles.to_array(layer.bias),
        stride,
        padding,
        output_padding,
        dilation,
        groups,
    )
    oracles.assert_matches(layer(x), expected)


@given(
    batch=st.integers(0, 3),
    in_features=st.integers(1, 5),
    out_features=st.integers(1, 4),
    gain=st.sampled_from([SQRT2, 1.0, SQRT2 / 4]),
    with_bias=st.booleans(),
)
def test_linear_equals_the_loop(batch: int, in_features: int, out_features: int, gain: float, with_bias: bool) -> None:
    layer = WSLinear(in_features, out_features, bias=with_bias, gain=gain, dtype=float64)
    if with_bias:
        with_random_bias(layer)
    x = fill((batch, in_features), "normal", seed=1)
    expected = oracles.linear(
        oracles.to_array(x),
        oracles.to_array(layer.weight) * gain / math.sqrt(in_features),
        None if layer.bias is None else oracles.to_array(layer.bias),
    )
    oracles.assert_matches(layer(x), expected)


@each_side
@each_layer
def test_the_weight_is_scaled_and_the_bias_is_not(name: str, side: int) -> None:
    layer, x = with_random_bias(LAYERS[name](dtype=float64)), example_input(name, side=side)
    scale = SQRT2 / math.sqrt(FAN_IN[name])
    expected = plain(name, x, layer.weight * scale, layer.bias)
    torch.testing.assert_close(layer(x), expected, **for_dtype(float64))


@each_side
@each_layer
def test_scaling_the_input_instead_of_the_weight_is_the_same(name: str, side: int) -> None:
    layer, x = with_random_bias(LAYERS[name](dtype=float64)), example_input(name, side=side)
    scale = SQRT2 / math.sqrt(FAN_IN[name])
    expected = plain(name, x * scale, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), expected, **for_dtype(float64))


class Products(TorchDispatchMode):
    """Shapes of the results of multiplications."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten.mul, torch.ops.aten.mul_):
            self.shapes.add(tuple(result.shape))
        return result


@pytest.mark.parametrize("name", ["conv", "transposed conv"])
def test_a_large_weight_is_never_multiplied_nor_is_its_gradient(name: str) -> None:
    layer, x = LAYERS[name](dtype=torch.float32), example_input(name, torch.float32, side=3).requires_grad_()
    with Products() as products:
        (slope,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
        slope.square().sum().backward()
    assert tuple(x.shape) in products.shapes  # scaled instead
    assert tuple(layer.weight.shape) not in products.shapes


@each_layer
def test_the_output_is_linear_in_the_gain_but_for_the_bias(name: str) -> None:
    single, triple = LAYERS[name](gain=1.0, dtype=float64), LAYERS[name](gain=3.0, dtype=float64)
    triple.load_state_dict(with_random_bias(single).state_dict())
    x = example_input(name)
    at_zero = single(torch.zeros_like(x))
    torch.testing.assert_close(triple(x) - at_zero, 3.0 * (single(x) - at_zero), **for_dtype(float64))


def test_the_first_layer_of_progan_is_the_dense_layer_of_the_paper() -> None:
    # A transposed 4x4 convolution of one pixel, gain sqrt(2): a dense layer without bias and with gain sqrt(2)/4,
    # reshaped to 4x4, then a bias per channel.
    N, Z, C = 3, 512, 16
    layer = with_random_bias(WSConvTranspose2d(Z, C, 4, dtype=float64))
    latents = torch.randn(N, Z, dtype=float64)
    dense = latents @ layer.weight.reshape(Z, C * 16) * ((SQRT2 / 4) / math.sqrt(Z))
    expected = dense.view(N, C, 4, 4) + layer.bias.view(1, C, 1, 1)
    torch.testing.assert_close(layer(latents.view(N, Z, 1, 1)), expected, **for_dtype(float64))
    linear = WSLinear(Z, C * 16, bias=False, gain=SQRT2 / 4, dtype=float64)
    linear.load_state_dict({"weight": layer.weight.detach().reshape(Z, C * 16).T})
    torch.testing.assert_close(linear(latents), dense, **for_dtype(float64))


# -- statistics at initialisation --------------------------------------------------------------------

WIDE: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...]]] = {
    "conv": (lambda **options: WSConv2d(64, 128, 3, **options), (64, 64, 6, 6)),
    "grouped conv": (lambda **options: WSConv2d(64, 128, 3, groups=2, **options), (64, 64, 6, 6)),
    "transposed conv": (lambda **options: WSConvTranspose2d(64, 128, 3, padding=2, **options), (64, 64, 6, 6)),
    "linear": (lambda **options: WSLinear(256, 512, **options), (1024, 256)),
}


@pytest.mark.parametrize("name", list(WIDE))
def test_weights_are_standard_normal_and_biases_zero(name: str) -> None:
    layer = WIDE[name][0]()
    weight = layer.weight.detach().flatten()
    assert layer.bias is not None
    assert torch.equal(layer.bias, torch.zeros_like(layer.bias))
    assert weight.numel() > 30_000
    torch.testing.assert_close(weight.mean().item(), 0.0, **named("sample_mean"))
    torch.testing.assert_close(weight.square().mean().item(), 1.0, **named("sample_moment"))
    # A uniform law of the same variance has no value beyond 1.74; a normal one has 4.6 percent beyond 2.
    torch.testing.assert_close((weight.abs() > 2).double().mean().item(), 0.0455, **named("sample_mean"))
    assert (weight.abs() > 2.5).any()


def second_moment(name: str, gain: float, slope: float) -> float:
    """E[y^2] behind a leaky ReLU for N(0, 1) input, over four layers: one layer's own weights move it by a percent."""
    make, shape = WIDE[name]
    with torch.no_grad():
        outputs = [F.leaky_relu(make(gain=gain)(torch.randn(shape)), slope) for _ in range(4)]
    return torch.stack(outputs).square().mean().item()


@pytest.mark.parametrize("name", list(WIDE))
def test_gain_one_keeps_the_variance_of_the_input(name: str) -> None:
    torch.testing.assert_close(second_moment(name, gain=1.0, slope=1.0), 1.0, **named("sample_moment"))


@pytest.mark.parametrize("name", list(WIDE))
@pytest.mark.parametrize(("gain", "expected"), [(SQRT2, 1.04), (math.sqrt(2 / 1.04), 1.0)])
def test_second_moment_after_a_leaky_relu(name: str, gain: float, expected: float) -> None:
    # E[y^2] = gain^2 (1 + slope^2) / 2 for input of variance one.
    torch.testing.assert_close(second_moment(name, gain=gain, slope=0.2), expected, **named("sample_moment"))


@each_layer
def test_the_global_seed_decides_the_weights(name: str) -> None:
    torch.manual_seed(5)
    first = LAYERS[name]()
    torch.manual_seed(5)
    second = LAYERS[name]()
    assert torch.equal(first.weight, second.weight)
    assert not torch.equal(first.weight, LAYERS[name]().weight)


# -- gradients ---------------------------------------------------------------------------------------


@each_side
@each_layer
def test_the_gradient_of_the_weight_carries_the_scale(name: str, side: int) -> None:
    layer, x = LAYERS[name](gain=1.5, dtype=float64), example_input(name, side=side)
    scale = 1.5 / math.sqrt(FAN_IN[name])
    effective = (layer.weight.detach() * scale).requires_grad_()
    output = layer(x)
    cotangent = torch.randn_like(output)
    (found,) = torch.autograd.grad(output, layer.weight, cotangent)
    (reference,) = torch.autograd.grad(plain(name, x, effective), effective, cotangent)
    torch.testing.assert_close(found, scale * reference, **for_dtype(float64))


@each_layer
def test_the_gradient_of_the_bias_does_not(name: str) -> None:
    layer, x = LAYERS[name](dtype=float64), example_input(name)
    output = layer(x)
    (found,) = torch.autograd.grad(output.sum(), layer.bias)
    torch.testing.assert_close(found, torch.full_like(found, output.numel() / 6), **for_dtype(float64))


SMALL: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...]]] = {
    "conv": (lambda **options: WSConv2d(2, 1, 2, 2, 1, **options), (1, 2, 2, 2)),
    "grouped conv": (lambda **options: WSConv2d(2, 2, (2, 1), groups=2, dilation=2, **options), (2, 2, 3, 1)),
    "transposed conv": (lambda **options: WSConvTranspose2d(2, 1, 2, 2, 1, output_padding=1, **options), (1, 2, 2, 1)),
    "transposed conv of one pixel": (lambda **options: WSConvTranspose2d(2, 1, 2, **options), (2, 2, 1, 1)),
    "linear": (lambda **options: WSLinear(3, 2, **options), (2, 3)),
    "one sample": (lambda **options: WSConv2d(1, 1, 3, padding=1, **options), (1, 1, 2, 2)),
    "zeros": (lambda **options: WSConv2d(1, 2, 2, **options), (1, 1, 2, 3)),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", list(SMALL))
def test_first_and_second_gradients(name: str, bias: bool) -> None:
    make, shape = SMALL[name]
    layer = make(bias=bias, dtype=float64)
    x = fill(shape, "zeros" if name == "zeros" else "normal", seed=1).requires_grad_()
    names = [key for key, _ in layer.named_parameters()]

    def function(images: Tensor, *parameters: Tensor) -> Tensor:
        return functional_call(layer, dict(zip(names, parameters, strict=True)), (images,))

    inputs = (x, *(parameter.detach().clone().requires_grad_() for parameter in layer.parameters()))
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


# -- a citizen of torch ------------------------------------------------------------------------------


@each_layer
def test_state_is_a_weight_and_a_bias(name: str) -> None:
    assert list(LAYERS[name]().state_dict()) == ["weight", "bias"]
    assert list(LAYERS[name](bias=False).state_dict()) == ["weight"]
    assert isinstance(LAYERS[name]().weight, nn.Parameter)
    assert isinstance(LAYERS[name]().bias, nn.Parameter)


@each_layer
def test_without_a_bias_there_is_none(name: str) -> None:
    layer = LAYERS[name](bias=False, dtype=float64)
    assert layer.bias is None
    x = torch.zeros_like(example_input(name))
    assert torch.equal(layer(x), torch.zeros_like(layer(x)))


@each_layer
def test_shapes_are_those_of_the_layer_of_torch(name: str) -> None:
    twins = {"conv": nn.Conv2d(4, 6, 3), "transposed conv": nn.ConvTranspose2d(4, 6, 3), "linear": nn.Linear(4, 6)}
    layer, twin = LAYERS[name](), twins[name]
    twin.load_state_dict(layer.state_dict())
    x = example_input(name, torch.float32)
    assert layer(x).shape == twin(x).shape


def test_the_arguments_of_the_convolution_are_those_of_torch() -> None:
    ours = inspect.signature(WSConv2d).parameters
    theirs = inspect.signature(nn.Conv2d).parameters
    positional = [name for name, one in ours.items() if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert positional == list(theirs)[: len(positional)]
    assert positional == ["in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"]
    for layer in (WSConv2d, WSConvTranspose2d, WSLinear):
        parameters = inspect.signature(layer).parameters
        assert list(parameters)[-2:] == ["device", "dtype"]
        for name in ("bias", "gain", "device", "dtype"):
            assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters["gain"].default == pytest.approx(SQRT2)
        assert parameters["bias"].default is True


@each_layer
def test_a_deep_copy_is_equal_and_independent(name: str) -> None:
    layer, x = with_random_bias(LAYERS[name](gain=0.7, dtype=float64)), example_input(name)
    layer(x).sum().backward()
    twin = copy.deepcopy(layer)
    before = layer(x).detach().clone()
    assert torch.equal(twin(x), before)
    nn.init.zeros_(twin.weight)
    assert torch.equal(layer(x), before)


@each_layer
def test_loads_the_state_of_another(name: str) -> None:
    source, target = with_random_bias(LAYERS[name](dtype=float64)), LAYERS[name](dtype=float64)
    target.load_state_dict(source.state_dict())
    x = example_input(name)
    assert torch.equal(source(x), target(x))


@each_layer
def test_the_printout_names_the_gain(name: str) -> None:
    assert "gain=1.5" in repr(LAYERS[name](gain=1.5))
    assert "4, 6" in repr(LAYERS[name]()) or ("=4" in repr(LAYERS[name]()) and "=6" in repr(LAYERS[name]()))


@each_layer
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_computes_in_the_dtype_asked_for(name: str, dtype: torch.dtype) -> None:
    layer = LAYERS[name](dtype=dtype)
    assert {parameter.dtype for parameter in layer.parameters()} == {dtype}
    y = layer(example_input(name, dtype))
    assert y.dtype == dtype
    exact = copy.deepcopy(layer).double()(example_input(name, dtype).double())
    torch.testing.assert_close(y.double(), exact, **for_dtype(dtype))


@each_layer
def test_builds_on_the_device_asked_for(name: str) -> None:
    layer = LAYERS[name](device="meta")
    assert all(parameter.is_meta for parameter in layer.parameters())


@pytest.mark.parametrize("name", ["conv", "transposed conv"])
def test_channels_last_gives_the_same_values(name: str) -> None:
    layer, x = LAYERS[name](dtype=float64), example_input(name)
    torch.testing.assert_close(layer(lay_out(x, "channels_last")), layer(x), **for_dtype(float64))


def test_linear_accepts_leading_dimensions_like_torch() -> None:
    layer = WSLinear(4, 6, dtype=float64)
    x = torch.randn(2, 3, 4, dtype=float64)
    torch.testing.assert_close(layer(x)[1], layer(x[1]), **for_dtype(float64))


# -- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("in_channels", "out_channels", "groups"), [(3, 4, 2), (4, 3, 2), (4, 4, 3), (4, 4, 0), (4, 4, -1)]
)
@pytest.mark.parametrize("layer", [WSConv2d, WSConvTranspose2d])
def test_refuses_groups_that_do_not_divide_the_channels(
    layer: Callable[..., nn.Module], in_channels: int, out_channels: int, groups: int
) -> None:
    with pytest.raises(ValueError, match=r"groups|channels"):
        layer(in_channels, out_channels, 3, groups=groups)


def test_refuses_padding_by_name() -> None:
    with pytest.raises((TypeError, ValueError), match="padding"):
        WSConv2d(3, 4, 3, padding="same")


@pytest.mark.parametrize(
    "make", [lambda: WSConv2d(0, 4, 3), lambda: WSLinear(0, 4), lambda: WSConvTranspose2d(0, 4, 3)]
)
def test_refuses_a_layer_without_inputs(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(ValueError, match=r"in_channels|in_features|fan_in"):
        make()
