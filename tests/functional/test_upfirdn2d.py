"""Resampling by up, filter, down: a NumPy loop, known resamplers, shapes and gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganblocks.functional.resample import blur, downsample_box, upsample_nearest
from ganblocks.functional.upfirdn2d import upfirdn2d
from tolerances import for_dtype

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
layouts = st.sampled_from([torch.contiguous_format, torch.channels_last])


def numpy_upfirdn2d(x, kernel, up, down, before, after):
    """Every output pixel by itself, from its definition."""
    x, kernel = x.double().numpy(), np.asarray(kernel, dtype=np.float64)
    if kernel.ndim == 1:
        kernel = np.outer(kernel, kernel)
    N, C, H, W = x.shape
    z = np.zeros((N, C, H * up, W * up))
    z[:, :, ::up, ::up] = x
    sizes = [(n + before + after - k) // down + 1 for n, k in zip(z.shape[2:], kernel.shape, strict=True)]
    y = np.zeros((N, C, *sizes))
    for i, j in np.ndindex(*sizes):
        for a, b in np.ndindex(*kernel.shape):
            p, q = i * down + a - before, j * down + b - before
            if 0 <= p < z.shape[2] and 0 <= q < z.shape[3]:
                y[:, :, i, j] += kernel[a, b] * z[:, :, p, q]
    return torch.from_numpy(y)


@given(
    st.integers(0, 2),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(-1, 3),
    st.integers(0, 3),
    st.sampled_from([(3,), (4,), (2, 3), (1, 1)]),
    st.sampled_from(FLOATS),
    layouts,
)
def test_it_is_its_definition(N, C, H, W, up, down, before, after, shape, dtype, layout):
    x = torch.randn(N, C, H, W).to(dtype).contiguous(memory_format=layout)
    kernel = torch.rand(shape)
    rows, columns = (shape * 2)[:2]
    if min(H * up + before + after - rows, W * up + before + after - columns) < 0:
        with pytest.raises(ValueError, match="too small for a kernel of"):
            upfirdn2d(x, kernel, up=up, down=down, padding=(before, after))
        return
    y = upfirdn2d(x, kernel, up=up, down=down, padding=(before, after))
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), numpy_upfirdn2d(x, kernel, up, down, before, after), **for_dtype(dtype))


@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (3, 2)])
def test_channels_last_is_kept(up, down):
    x = torch.randn(2, 3, 4, 4)
    last = upfirdn2d(x.contiguous(memory_format=torch.channels_last), (1, 2, 1), up=up, down=down, padding=1)
    first = upfirdn2d(x, (1, 2, 1), up=up, down=down, padding=1)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert first.is_contiguous()
    torch.testing.assert_close(last, first, **for_dtype(torch.float32))


def test_known_resamplers():
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    same = for_dtype(torch.float64)
    torch.testing.assert_close(upfirdn2d(x, (1, 1), up=2, padding=(1, 0)), upsample_nearest(x), **same)
    torch.testing.assert_close(upfirdn2d(x, (0.5, 0.5), down=2), downsample_box(x), **same)
    torch.testing.assert_close(upfirdn2d(x, (0.25, 0.5, 0.25), padding=1), blur(x), **same)
    both = upfirdn2d(x, (0.25, 0.75, 0.75, 0.25), up=2, padding=(2, 1))
    torch.testing.assert_close(both, blur(upsample_nearest(x)), **same)
    torch.testing.assert_close(upfirdn2d(x, (1,), padding=-1), x[:, :, 1:-1, 1:-1], **same)


def test_gradients_of_both_orders_by_images_and_filter():
    x = torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    kernel = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)

    def apply(x, kernel):
        return upfirdn2d(x, kernel, up=2, down=3, padding=(1, 2))

    assert torch.autograd.gradcheck(apply, (x, kernel))
    assert torch.autograd.gradgradcheck(apply, (x, kernel))


def test_empty_batches_stay_in_the_graph():
    x = torch.zeros(0, 2, 4, 4, requires_grad=True)
    y = upfirdn2d(x, (1, 1), down=2)
    assert y.shape == (0, 2, 2, 2)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.shape == x.shape


def test_wrong_arguments_are_named():
    x = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match="`x` has shape"):
        upfirdn2d(x[0], (1,))
    with pytest.raises(TypeError, match=r"`x` is torch\.int64"):
        upfirdn2d(x.long(), (1,))
    with pytest.raises(ValueError, match="`up` is 0"):
        upfirdn2d(x, (1,), up=0)
    with pytest.raises(ValueError, match="`down` is 0"):
        upfirdn2d(x, (1,), down=0)
    with pytest.raises(ValueError, match="`kernel` is"):
        upfirdn2d(x, ())
    with pytest.raises(ValueError, match="`kernel` is"):
        upfirdn2d(x, torch.zeros(1, 1, 1))
    with pytest.raises(ValueError, match="too small for a kernel of 5 x 5 taps"):
        upfirdn2d(x, (1,) * 5)
