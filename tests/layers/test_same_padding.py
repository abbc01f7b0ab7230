"""The "same" geometry of Keras against loops over its documented formula."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ganblocks.layers.same_padding import SameConv2d, SameConvTranspose2d, same_padding, same_transpose_cropping
from tolerances import for_dtype, named


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def numpy_taps(n, k, s, d):
    """For every output position the (tap, input position) pairs that lie inside, by the formula of the Keras docs."""
    out = -(-n // s)
    total = max((out - 1) * s + (k - 1) * d + 1 - n, 0)
    first = total // 2
    return [[(t, o * s + t * d - first) for t in range(k) if 0 <= o * s + t * d - first < n] for o in range(out)]


def numpy_conv(x, weight, stride, dilation):
    """Every product by itself; x [C, H, W], weight [O, C, k, l]."""
    rows = numpy_taps(x.shape[1], weight.shape[2], stride[0], dilation[0])
    columns = numpy_taps(x.shape[2], weight.shape[3], stride[1], dilation[1])
    y = np.zeros((weight.shape[0], len(rows), len(columns)))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            for r, h in row:
                for c, w in column:
                    y[:, i, j] += weight[:, :, r, c] @ x[:, h, w]
    return y


def numpy_conv_transpose(y, weight, stride, dilation):
    """The same products, scattered back; y [O, h, w] to [C, h * s, w * s]."""
    H, W = y.shape[1] * stride[0], y.shape[2] * stride[1]
    x = np.zeros((weight.shape[1], H, W))
    for i, row in enumerate(numpy_taps(H, weight.shape[2], stride[0], dilation[0])):
        for j, column in enumerate(numpy_taps(W, weight.shape[3], stride[1], dilation[1])):
            for r, h in row:
                for c, w in column:
                    x[:, h, w] += weight[:, :, r, c].T @ y[:, i, j]
    return x


pairs = st.tuples(st.integers(1, 5), st.integers(1, 5))
small_pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride", "expected"),
    [
        (28, 4, 2, (1, 1)),
        (28, 3, 2, (0, 1)),
        (28, 5, 2, (1, 2)),
        (27, 3, 2, (1, 1)),
        (8, 3, 1, (1, 1)),
        (8, 4, 1, (1, 2)),
    ],
)
def test_padding_by_hand(size, kernel_size, stride, expected):
    assert same_padding(size, kernel_size, stride) == expected


@pytest.mark.parametrize(
    ("kernel_size", "stride", "expected"),
    [(3, 2, (0, 1)), (5, 2, (1, 2)), (4, 2, (1, 1)), (3, 1, (1, 1)), (2, 2, (0, 0)), (1, 2, (0, -1)), (2, 5, (0, -3))],
)
def test_cropping_by_hand(kernel_size, stride, expected):
    assert same_transpose_cropping(kernel_size, stride) == expected


@given(st.integers(0, 40), st.integers(1, 9), st.integers(1, 5), st.integers(1, 4))
def test_padding_is_the_least_that_gives_the_size(size, kernel_size, stride, dilation):
    before, after = same_padding(size, kernel_size, stride, dilation)
    assert 0 <= before <= after <= before + 1
    span = (kernel_size - 1) * dilation + 1
    wanted = -(-size // stride)
    if size > 0:
        assert (size + before + after - span) // stride + 1 == wanted
        if before + after > 0:
            assert (size + before + after - 1 - span) // stride + 1 < wanted


@given(st.integers(1, 6), st.integers(1, 6), pairs, small_pairs, small_pairs)
def test_conv_is_the_keras_loop(H, W, kernel_size, stride, dilation):
    x = draw(2, 3, H, W)
    layer = SameConv2d(3, 2, kernel_size, stride, dilation=dilation, dtype=torch.float64)
    y = layer(x)
    assert y.shape == (2, 2, -(-H // stride[0]), -(-W // stride[1]))
    for image, result in zip(x, y, strict=True):
        expected = numpy_conv(image.numpy(), layer.weight.detach().numpy(), stride, dilation)
        expected = torch.from_numpy(expected) + layer.bias.detach()[:, None, None]
        torch.testing.assert_close(result.detach(), expected, **for_dtype(torch.float64))


@given(st.integers(1, 5), st.integers(1, 5), pairs, small_pairs, small_pairs)
def test_transposed_conv_is_the_scattered_keras_loop(h, w, kernel_size, stride, dilation):
    y = draw(2, 3, h, w)
    layer = SameConvTranspose2d(3, 2, kernel_size, stride, dilation=dilation, dtype=torch.float64)
    x = layer(y)
    assert x.shape == (2, 2, h * stride[0], w * stride[1])
    for image, result in zip(y, x, strict=True):
        expected = numpy_conv_transpose(image.numpy(), layer.weight.detach().numpy(), stride, dilation)
        expected = torch.from_numpy(expected) + layer.bias.detach()[:, None, None]
        torch.testing.assert_close(result.detach(), expected, **for_dtype(torch.float64))


@given(st.integers(1, 5), st.integers(1, 5), pairs, small_pairs, small_pairs, st.sampled_from([1, 2]))
def test_transposed_conv_is_the_adjoint_of_the_conv_with_the_same_weight(h, w, kernel_size, stride, dilation, groups):
    settings = {"dilation": dilation, "groups": groups, "bias": False, "dtype": torch.float64}
    conv = SameConv2d(4, 6, kernel_size, stride, **settings)
    transposed = SameConvTranspose2d(6, 4, kernel_size, stride, **settings)
    transposed.weight = conv.weight
    x, y = draw(2, 4, h * stride[0], w * stride[1]), draw(2, 6, h, w, seed=1)
    torch.testing.assert_close((conv(x) * y).sum(), (x * transposed(y)).sum(), **for_dtype(torch.float64))


def test_a_shift_by_one_pixel_is_seen():
    x = torch.arange(6.0).reshape(1, 1, 1, 6)
    layer = SameConv2d(1, 1, (1, 3), (1, 2), bias=False)
    nn.init.ones_(layer.weight)
    assert layer(x).flatten().tolist() == [0 + 1 + 2, 2 + 3 + 4, 4 + 5]  # padding=1 would give 1, 6, 12
    transposed = SameConvTranspose2d(1, 1, (1, 3), (1, 2), bias=False)
    with torch.no_grad():
        transposed.weight.copy_(torch.tensor([1.0, 2.0, 3.0]).reshape(1, 1, 1, 3))
    assert transposed(torch.tensor([[[[1.0, 10.0]]]])).flatten().tolist() == [1, 2, 3 + 10, 20]


@pytest.mark.parametrize("layer_class", [SameConv2d, SameConvTranspose2d])
@pytest.mark.parametrize("kernel_size", [1, 3, 4])
def test_both_orders_of_gradient(layer_class, kernel_size):
    layer = layer_class(2, 2, kernel_size, 2, dtype=torch.float64)
    x = draw(1, 2, 3, 4).requires_grad_()

    def function(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    arguments = x, layer.weight, layer.bias
    assert torch.autograd.gradcheck(function, arguments)
    assert torch.autograd.gradgradcheck(function, arguments)


@pytest.mark.parametrize(
    ("layer_class", "torch_class"), [(SameConv2d, nn.Conv2d), (SameConvTranspose2d, nn.ConvTranspose2d)]
)
def test_the_layer_is_a_torch_layer_with_its_parameters(layer_class, torch_class):
    torch.manual_seed(0)
    layer = layer_class(4, 6, (3, 5), stride=2, groups=2)
    torch.manual_seed(0)
    reference = torch_class(4, 6, (3, 5), stride=2, groups=2)
    assert isinstance(layer, torch_class)
    assert list(layer.state_dict()) == ["weight", "bias"]
    torch.testing.assert_close(dict(layer.state_dict()), dict(reference.state_dict()), **named("exact"))
    assert layer_class(1, 1, 3, bias=False).bias is None
    assert layer_class(1, 1, 3, device="meta", dtype=torch.bfloat16).weight.is_meta


@pytest.mark.parametrize("layer_class", [SameConv2d, SameConvTranspose2d])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layouts_agree_and_empty_batches_pass(layer_class, dtype):
    layer, x = layer_class(3, 4, 3, 2, dtype=dtype), draw(2, 3, 6, 6, dtype=dtype)
    torch.testing.assert_close(layer(x.to(memory_format=torch.channels_last)), layer(x), **for_dtype(dtype))
    assert layer(x[:0]).shape == (0, *layer(x).shape[1:])


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="`size` is -1"):
        same_padding(-1, 3)
    for name in ("kernel_size", "stride", "dilation"):
        arguments = {"kernel_size": 3, "stride": 1, "dilation": 1, name: 0}
        with pytest.raises(ValueError, match=f"`{name}` is 0"):
            same_padding(5, **arguments)
        with pytest.raises(ValueError, match=f"`{name}` is 0"):
            same_transpose_cropping(**arguments)
    for layer in (SameConv2d(1, 1, 3), SameConvTranspose2d(1, 1, 3)):
        with pytest.raises(ValueError, match="`x` has shape"):
            layer(torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match="`output_size` is"):
        SameConvTranspose2d(1, 1, 3)(torch.zeros(1, 1, 4, 4), [8, 8])


def test_cropping_keeps_the_memory_order_of_images_and_gradients() -> None:
    layer = SameConvTranspose2d(2, 4, 3, 2)
    images = torch.randn(2, 2, 5, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    output = layer(images)
    assert output.shape == (2, 4, 10, 10)
    assert output.is_contiguous(memory_format=torch.channels_last)
    (gradient,) = torch.autograd.grad(output.square().sum(), images)
    assert gradient.is_contiguous(memory_format=torch.channels_last)
