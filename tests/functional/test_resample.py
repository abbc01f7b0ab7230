"""Resampling and filtering against NumPy loops, adjoints and both orders of gradient."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganblocks.functional.resample import blur, downsample_box, upsample_nearest
from tolerances import for_dtype, named

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
sizes = st.integers(0, 3)
layouts = st.sampled_from([torch.contiguous_format, torch.channels_last])


def draw(*shape, dtype=torch.float64, layout=torch.contiguous_format, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).contiguous(memory_format=layout)


def numpy_blur(x, kernel, mode):
    """Every output pixel by itself, in float64; ``kernel`` is 2-D."""
    x, kernel = x.double().numpy(), np.asarray(kernel, dtype=np.float64)
    rows, columns = kernel.shape
    pads = ((0, 0), (0, 0), ((rows - 1) // 2, rows // 2), ((columns - 1) // 2, columns // 2))
    padded = np.pad(x, pads, mode=mode)
    out = np.zeros_like(x)
    for i in range(x.shape[2]):
        for j in range(x.shape[3]):
            out[:, :, i, j] = (padded[:, :, i : i + rows, j : j + columns] * kernel).sum((2, 3))
    return torch.from_numpy(out)


@given(sizes, sizes, sizes, sizes, st.integers(1, 4), st.sampled_from(FLOATS), layouts)
def test_upsample_nearest_is_numpy_repeat(N, C, H, W, factor, dtype, layout):
    x = draw(N, C, H, W, dtype=dtype, layout=layout)
    y = upsample_nearest(x, factor)
    expected = np.repeat(np.repeat(x.double().numpy(), factor, axis=2), factor, axis=3)
    assert y.dtype == dtype
    assert y.shape == (N, C, H * factor, W * factor)
    assert np.array_equal(y.double().numpy(), expected)


@pytest.mark.parametrize("factor", [3, 5, 7, 11, 41, 49])
def test_upsample_nearest_picks_the_right_pixel_at_awkward_factors(factor):
    x = torch.arange(40.0).reshape(1, 1, 1, 40)
    expected = torch.arange(40 * factor) // factor
    assert torch.equal(upsample_nearest(x, factor)[0, 0, 0].long(), expected)


@given(sizes, sizes, sizes, sizes, st.integers(1, 4), st.sampled_from(FLOATS), layouts)
def test_downsample_box_is_the_mean_of_numpy_blocks(N, C, H, W, factor, dtype, layout):
    x = draw(N, C, H * factor, W * factor, dtype=dtype, layout=layout)
    y = downsample_box(x, factor)
    expected = x.double().numpy().reshape(N, C, H, factor, W, factor).mean((3, 5))
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), torch.from_numpy(expected), **for_dtype(dtype))


@given(sizes, sizes, sizes, sizes, st.integers(1, 4))
def test_upsampling_is_the_scaled_adjoint_of_downsampling_and_its_right_inverse(N, C, H, W, factor):
    x, y = draw(N, C, H, W), draw(N, C, H * factor, W * factor, seed=1)
    left = (upsample_nearest(x, factor) * y).sum()
    right = factor**2 * (x * downsample_box(y, factor)).sum()
    torch.testing.assert_close(left, right, **for_dtype(torch.float64))
    torch.testing.assert_close(downsample_box(upsample_nearest(x, factor), factor), x, **for_dtype(torch.float64))


def test_factor_one_returns_the_input_itself():
    x = draw(1, 2, 3, 3)
    assert upsample_nearest(x, 1) is x
    assert downsample_box(x, 1) is x


@given(
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(3, 6),
    st.integers(3, 6),
    st.integers(1, 5),
    st.sampled_from(["zeros", "reflect"]),
    st.sampled_from(FLOATS),
    layouts,
)
def test_blur_with_numbers_is_the_loop_with_their_outer_product(N, C, H, W, taps, padding, dtype, layout):
    kernel = [float(1 + 3 * tap % 5) for tap in range(taps)]  # asymmetric, with even and odd lengths
    x = draw(N, C, H, W, dtype=dtype, layout=layout)
    expected = numpy_blur(
        x, np.outer(kernel, kernel) / np.sum(kernel) ** 2, {"zeros": "constant"}.get(padding, padding)
    )
    y = blur(x, kernel, padding=padding)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), expected, **for_dtype(dtype))
    from_tensor = blur(x, torch.tensor(kernel, dtype=torch.float64), padding=padding)
    torch.testing.assert_close(from_tensor.double(), expected, **for_dtype(dtype))


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_blur_with_a_matrix_is_the_loop(rows, columns, H, W, normalize):
    kernel, x = draw(rows, columns, seed=2).abs() + 0.1, draw(2, 2, H, W)
    expected = numpy_blur(x, (kernel / kernel.sum() if normalize else kernel).numpy(), "constant")
    torch.testing.assert_close(blur(x, kernel, normalize=normalize), expected, **for_dtype(torch.float64))


def test_blur_of_a_point_is_the_binomial_filter():
    point = torch.zeros(1, 1, 5, 5)
    point[0, 0, 2, 2] = 16
    expected = torch.tensor([[0, 0, 0, 0, 0], [0, 1, 2, 1, 0], [0, 2, 4, 2, 0], [0, 1, 2, 1, 0], [0, 0, 0, 0, 0]])
    assert torch.equal(blur(point)[0, 0], expected.float())


def test_an_even_kernel_reaches_one_pixel_further_down_and_right():
    x = torch.arange(4.0).reshape(1, 1, 1, 4)
    assert torch.equal(blur(x, torch.tensor([[1.0, 1.0]]))[0, 0, 0], torch.tensor([0.5, 1.5, 2.5, 1.5]))


@given(st.integers(1, 5), st.integers(3, 6))
def test_reflecting_blur_keeps_constants(taps, size):
    x = torch.full((1, 2, size, size), 3.0, dtype=torch.float64)
    kernel = [float(1 + tap) for tap in range(taps)]
    torch.testing.assert_close(blur(x, kernel, padding="reflect"), x, **for_dtype(torch.float64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_blur_of_half_precision_rounds_once(dtype):
    x = draw(2, 3, 8, 8, dtype=dtype)
    assert torch.equal(blur(x, (1, 3, 3, 1)), blur(x.float(), (1, 3, 3, 1)).to(dtype))


def test_blur_is_as_precise_inside_autocast():
    x = draw(2, 3, 8, 8, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = blur(x)
    assert torch.equal(inside, blur(x))


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_channels_last_is_kept(padding, dtype):
    x = draw(2, 3, 4, 6, dtype=dtype, layout=torch.channels_last)
    matrix = torch.ones(3, 2)
    outputs = upsample_nearest(x), downsample_box(x), blur(x, padding=padding), blur(x, matrix, padding=padding)
    assert all(y.is_contiguous(memory_format=torch.channels_last) for y in outputs)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: upsample_nearest(x, 3),
        downsample_box,
        blur,
        lambda x: blur(x, (1, 3, 3, 1), padding="reflect"),
        lambda x: blur(x, torch.tensor([[1.0, 2.0], [0.5, -1.0], [3.0, 1.0]])),
    ],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_both_orders_of_gradient(function, layout):
    x = draw(2, 2, 4, 4, layout=layout).requires_grad_()
    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(function, x)


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_both_orders_of_gradient_with_a_learned_kernel(shape):
    x, kernel = draw(1, 2, 3, 3).requires_grad_(), (draw(*shape).abs() + 0.5).requires_grad_()
    assert torch.autograd.gradcheck(blur, (x, kernel))
    assert torch.autograd.gradgradcheck(blur, (x, kernel))


def test_empty_batches_stay_in_the_graph():
    for function in (upsample_nearest, downsample_box, blur):
        x = torch.zeros(0, 3, 4, 4, requires_grad=True)
        function(x).sum().backward()
        assert x.grad is not None
        assert x.grad.shape == x.shape


def test_blur_of_nothing_is_a_new_tensor():
    x = torch.zeros(2, 0, 4, 4)
    assert blur(x) is not x
    assert blur(x).shape == x.shape


def test_scale_of_the_values_does_not_matter():
    x = draw(1, 2, 4, 4)
    for scale in (1e-300, 1e300):
        torch.testing.assert_close(blur(x * scale) / scale, blur(x), **named("resample_extreme"))
        torch.testing.assert_close(downsample_box(x * scale) / scale, downsample_box(x), **named("resample_extreme"))


def test_wrong_arguments_are_named():
    x = torch.zeros(1, 1, 4, 6)
    with pytest.raises(ValueError, match="`factor` is 4, but must divide the height and the width of `x`, 4 x 6"):
        downsample_box(x, 4)
    with pytest.raises(ValueError, match="`factor` is 3"):
        downsample_box(x, 3)
    for function in (upsample_nearest, downsample_box):
        with pytest.raises(ValueError, match="`factor` is 0"):
            function(x, 0)
    for function in (upsample_nearest, downsample_box, blur):
        with pytest.raises(ValueError, match="`x` has shape"):
            function(x[0])
        with pytest.raises(TypeError, match=r"`x` is torch.uint8.*floating-point"):
            function(x.byte())
    with pytest.raises(ValueError, match="`kernel` is"):
        blur(x, ())
    with pytest.raises(ValueError, match=r"`kernel` is .*sum other than 0"):
        blur(x, (1, -1))
    with pytest.raises(ValueError, match="`kernel` is"):
        blur(x, torch.ones(1, 1, 3, 3))
    with pytest.raises(ValueError, match="`padding` is 'same'"):
        blur(x, padding="same")
    with pytest.raises(ValueError, match=r"9 x 9 taps needs images of more than 4 x 4 pixels and these have 4 x 6"):
        blur(x, (1.0,) * 9, padding="reflect")


def test_a_difference_filter_needs_no_normalization():
    x = torch.tensor([[[[1.0, 4.0, 9.0]]]])
    assert torch.equal(blur(x, torch.tensor([[-1.0, 1.0]]), normalize=False), torch.tensor([[[[3.0, 5.0, -9.0]]]]))
