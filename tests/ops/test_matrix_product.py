"""The maps of a convolution as matrix products: PyTorch's values, and chosen only where they pay."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ganblocks.ops import _matrix_product, conv
from ganblocks.ops._matrix_product import MatrixProduct, pays
from strategies import fill
from tolerances import for_dtype, named

both_layouts = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])


@given(st.data())
def test_each_map_equals_its_convolution_kernel(data: st.DataObject) -> None:
    kernel, stride, padding = (
        tuple(data.draw(st.integers(low, high)) for _ in "HW") for low, high in ((1, 4), (1, 3), (0, 2))
    )
    sides = tuple(data.draw(st.integers(max(1, k - 2 * p), 7)) for k, p in zip(kernel, padding, strict=True))
    N, C, C_out = (data.draw(st.integers(1, 3)) for _ in "NCO")
    image, weight = fill((N, C, *sides), "normal", seed=0), fill((C_out, C, *kernel), "normal", seed=1)
    layout = data.draw(st.sampled_from([torch.contiguous_format, torch.channels_last]))
    image, weight = (t.double().contiguous(memory_format=layout) for t in (image, weight))
    bias = torch.arange(1.0, C_out + 1, dtype=torch.float64)
    expected = F.conv2d(image, weight, bias, stride, padding)
    gradient = fill(tuple(expected.shape), "normal", seed=2).double()
    by_image, by_weight, _ = torch.ops.aten.convolution_backward(
        gradient, image, weight, [C_out], stride, padding, (1, 1), False, (0, 0), 1, (True, True, False)
    )
    product = MatrixProduct(kernel, stride, padding, layout == torch.channels_last)
    exact = for_dtype(torch.float64)
    H, W = expected.shape[2:]
    torch.testing.assert_close(product.forward(image, weight, bias, (H, W)), expected, **exact)
    torch.testing.assert_close(product.transposed(gradient, weight, None, sides), by_image, **exact)
    shift = torch.arange(float(C), dtype=torch.float64)
    moved = product.transposed(gradient, weight, shift, sides)
    torch.testing.assert_close(moved, by_image + shift.view(-1, 1, 1), **exact)
    torch.testing.assert_close(product.correlate(image, gradient, weight.shape), by_weight, **exact)


@both_layouts
def test_results_and_gradients_keep_the_layout(layout: torch.memory_format) -> None:
    image, weight = (fill((2, 3, 6, 6), "normal", seed=0), fill((4, 3, 3, 3), "normal", seed=1))
    image, weight = (t.contiguous(memory_format=layout) for t in (image, weight))
    product = MatrixProduct((3, 3), (1, 1), (1, 1), layout == torch.channels_last)
    result = product.forward(image, weight, None, (6, 6))
    back = product.transposed(result, weight, None, (6, 6))
    for tensor in (result, back, product.correlate(image, result, weight.shape)):
        assert tensor.is_contiguous(memory_format=layout)


@both_layouts
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("padding", [0, 1])
def test_what_follows_may_overwrite_the_result(
    transposed: bool, padding: int, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_matrix_product, "WEIGHTS", 0)
    image, weight = fill((2, 3, 4, 4), "normal", seed=0).float(), fill((3, 3, 3, 3), "normal", seed=1).float()
    image, weight = (t.contiguous(memory_format=layout).requires_grad_() for t in (image, weight))
    function = conv.conv_transpose2d if transposed else conv.conv2d
    padding += transposed  # few enough positions
    expected = torch.autograd.grad(torch.relu(function(image, weight, padding=padding)).sum(), (image, weight))
    found = torch.autograd.grad(torch.relu_(function(image, weight, padding=padding)).sum(), (image, weight))
    assert all(map(torch.equal, found, expected))


def test_it_is_chosen_for_many_weights_and_few_positions_only() -> None:
    million = 2**20
    assert pays(8, (8, 8), (4, 4), (4, 4), 8 * million)  # the deepest layer of WGAN-GP at batch 8
    assert pays(16, (4, 4), (1, 1), (4, 4), million)  # one position, the kernel covers the image
    assert not pays(16, (6, 6), (1, 1), (4, 4), million)  # one position with room around it
    assert not pays(8, (16, 16), (8, 8), (4, 4), 8 * million)  # too many positions in an image
    assert not pays(65, (8, 8), (4, 4), (4, 4), 8 * million)  # too many in all
    assert not pays(8, (8, 8), (4, 4), (4, 4), 4 * million - 1)  # too few weights
    assert not pays(0, (8, 8), (4, 4), (4, 4), 8 * million)
    assert not pays(8, (8, 8), (0, 4), (4, 4), 8 * million)


@pytest.mark.parametrize("transposed", [False, True])
@both_layouts
def test_a_layer_with_four_million_weights_takes_it_and_agrees_with_pytorch(
    transposed: bool, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    for name in ("forward", "transposed", "correlate"):
        original = getattr(MatrixProduct, name)

        def spy(self: MatrixProduct, *arguments: object, _name: str = name, _call: object = original) -> Tensor:
            taken.append(_name)
            return _call(self, *arguments)  # type: ignore[operator]

        monkeypatch.setattr(MatrixProduct, name, spy)
    ours, native = (conv.conv_transpose2d, F.conv_transpose2d) if transposed else (conv.conv2d, F.conv2d)
    image = fill((2, 512, 2, 2) if transposed else (2, 512, 4, 4), "normal", seed=0).float()
    weight = fill((512, 512, 4, 4), "normal", seed=1).float() / 64
    image, weight = (t.contiguous(memory_format=layout).requires_grad_() for t in (image, weight))
    values = []
    for function in (ours, native):
        value = function(image, weight, stride=2, padding=1)
        values.append([value, *torch.autograd.grad(value.square().sum() / 2, (image, weight))])
    assert taken == (["transposed", "forward", "correlate"] if transposed else ["forward", "transposed", "correlate"])
    for mine, theirs in zip(*values, strict=True):
        torch.testing.assert_close(mine, theirs, **named("conv_orders_float32"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_keep_the_convolution_kernel(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_matrix_product, "WEIGHTS", 0)

    def refuse(*arguments: object) -> Tensor:
        raise AssertionError("the product was taken")

    monkeypatch.setattr(MatrixProduct, "forward", refuse)
    image, weight = fill((1, 2, 4, 4), "normal", seed=0).to(dtype), fill((2, 2, 3, 3), "normal", seed=1).to(dtype)
    value = conv.conv2d(image, weight.requires_grad_())
    torch.testing.assert_close(value, F.conv2d(image, weight), **for_dtype(dtype))
    with pytest.raises(AssertionError, match="taken"):
        conv.conv2d(image.float(), weight.float())


def test_channels_and_biases_that_do_not_fit_are_refused_in_pytorchs_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_matrix_product, "WEIGHTS", 0)
    image = fill((1, 2, 4, 4), "normal", seed=0).float().requires_grad_()
    with pytest.raises(RuntimeError, match="to have 3 channels, but got 2 channels"):
        conv.conv2d(image, torch.zeros(2, 3, 3, 3))
    with pytest.raises(RuntimeError, match="expected bias to be 1-dimensional with 2 elements"):
        conv.conv2d(image, torch.zeros(2, 2, 3, 3), torch.zeros(1))
