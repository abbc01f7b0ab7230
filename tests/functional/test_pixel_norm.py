"""pixel_norm: every pixel's feature vector to unit root mean square."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import oracles
from ganblocks.functional.pixel_norm import pixel_norm
from strategies import fill, image_shapes, lay_out, shapes, tensors
from tolerances import for_dtype, named

float64 = torch.float64


@given(x=tensors(shape=shapes()))
def test_equals_the_loop_for_every_rank_layout_and_dtype(x: Tensor) -> None:
    y = pixel_norm(x)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    oracles.assert_matches(y, oracles.pixel_norm(oracles.to_array(x)))


@given(x=tensors(shape=image_shapes(), dtypes=[float64]), eps=st.sampled_from([1e-8, 1e-4, 0.5]))
def test_equals_the_loop_for_other_eps(x: Tensor, eps: float) -> None:
    oracles.assert_matches(pixel_norm(x, eps=eps), oracles.pixel_norm(oracles.to_array(x), eps))


def test_hand_computed() -> None:
    x = torch.tensor([[3.0, 4.0]], dtype=float64)  # mean square 12.5
    torch.testing.assert_close(pixel_norm(x, eps=0.0) * 12.5**0.5, x, **for_dtype(float64))
    torch.testing.assert_close(pixel_norm(x, eps=3.5) * 4.0, x, **for_dtype(float64))


def test_eps_is_1e_minus_8_inside_the_root() -> None:
    x = torch.full((2, 3, 2, 2), 1e-4, dtype=float64)
    expected = torch.full_like(x, 1e-4 / math.sqrt(1e-8 + 1e-8))
    torch.testing.assert_close(pixel_norm(x), expected, **for_dtype(float64))


def test_equals_the_rms_norm_of_torch_over_dim_one() -> None:
    x = torch.randn(3, 7, 4, 5, dtype=float64)
    for eps in (1e-8, 1e-2):
        expected = F.rms_norm(x.movedim(1, -1), (7,), eps=eps).movedim(-1, 1)
        torch.testing.assert_close(pixel_norm(x, eps=eps), expected, **for_dtype(float64))


@given(x=tensors(shape=image_shapes(channels=st.integers(1, 5)), dtypes=[float64], values=["normal", "large"]))
def test_root_mean_square_over_channels_is_one(x: Tensor) -> None:
    x = x + torch.where(x < 0, -1.0, 1.0)  # no pixel near zero, where eps shows
    rms = pixel_norm(x).square().mean(dim=1).sqrt()
    torch.testing.assert_close(rms, torch.ones_like(rms), **named("float64_eps"))


@given(scale=st.floats(10.0, 1e6), sign=st.sampled_from([-1.0, 1.0]))
def test_ignores_input_scale_and_keeps_its_sign(scale: float, sign: float) -> None:
    x = fill((2, 5, 3, 2), "offset", seed=1)
    torch.testing.assert_close(pixel_norm(sign * scale * x), sign * pixel_norm(x), **named("float64_eps"))


@given(scale=st.floats(1e-3, 1e3))
def test_scaling_input_and_root_of_eps_together_changes_nothing(scale: float) -> None:
    x = fill((2, 5, 3, 2), "mixed", seed=2)
    scaled = pixel_norm(scale * x, eps=scale**2 * 1e-4)
    torch.testing.assert_close(scaled, pixel_norm(x, eps=1e-4), **for_dtype(float64))


def test_pixels_and_samples_do_not_see_each_other() -> None:
    x = torch.randn(3, 4, 2, 5, dtype=float64)
    whole = pixel_norm(x)
    for n in range(3):
        for h in range(2):
            alone = pixel_norm(x[n : n + 1, :, h, :])
            torch.testing.assert_close(whole[n : n + 1, :, h, :], alone, **for_dtype(float64))


def test_permuting_channels_permutes_the_result() -> None:
    x = torch.randn(2, 6, 3, 3, dtype=float64)
    order = torch.randperm(6)
    torch.testing.assert_close(pixel_norm(x[:, order]), pixel_norm(x)[:, order], **for_dtype(float64))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_keeps_memory_format_and_dtype(layout: str, dtype: torch.dtype) -> None:
    formats = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    y = pixel_norm(lay_out(fill((2, 3, 4, 5), "normal", seed=0, dtype=dtype), layout))
    assert y.is_contiguous(memory_format=formats[layout])
    assert y.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("value", [300.0, 6e4])
def test_finite_where_the_square_overflows_half_precision(dtype: torch.dtype, value: float) -> None:
    x = torch.full((2, 8, 2, 2), value, dtype=dtype, requires_grad=True)
    y = pixel_norm(x)
    torch.testing.assert_close(y, torch.ones_like(y), **for_dtype(dtype))
    (gradient,) = torch.autograd.grad(y.float().sum(), x)
    assert gradient.isfinite().all()


def test_statistics_of_half_precision_input_are_those_of_float32() -> None:
    # In float16 the square of 1e-4 is zero and so is eps: the quotient would be infinite.
    x = torch.full((1, 4, 1, 1), 1e-4, dtype=torch.float16)
    expected = x.double() / (x.double().square() + 1e-8).sqrt()
    torch.testing.assert_close(pixel_norm(x).double(), expected, **named("half_rounding"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_zeros_stay_zero_and_have_finite_gradients(dtype: torch.dtype) -> None:
    x = torch.zeros(2, 4, 3, 3, dtype=dtype, requires_grad=True)
    y = pixel_norm(x)
    assert torch.equal(y, torch.zeros_like(y))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, torch.full_like(gradient, 1e4), **for_dtype(dtype))


def test_autocast_changes_nothing() -> None:
    x = torch.randn(2, 8, 4, 4)
    plain = pixel_norm(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = pixel_norm(x)
    torch.testing.assert_close(cast, plain, **for_dtype(torch.float32))


def test_leaves_its_input_alone() -> None:
    x = torch.randn(2, 3, 4, 4)
    before = x.clone()
    pixel_norm(x)
    assert torch.equal(x, before)


POINTS = {
    "image": fill((2, 3, 2, 2), "normal", seed=3),
    "channels last": lay_out(fill((2, 3, 2, 2), "normal", seed=4), "channels_last"),
    "latents": fill((3, 4), "normal", seed=5),
    "one channel": fill((2, 1, 2, 2), "offset", seed=6),
    "empty": fill((0, 3, 2, 2), "normal", seed=7),
    "zeros": torch.zeros(1, 2, 1, 1, dtype=float64),
    "some zero pixels": fill((2, 3, 2, 1), "normal", seed=8) * torch.tensor([0.0, 1.0], dtype=float64).view(2, 1, 1, 1),
}


@pytest.mark.parametrize("name", list(POINTS))
def test_first_and_second_gradients(name: str) -> None:
    x = POINTS[name].clone().requires_grad_()
    assert torch.autograd.gradcheck(pixel_norm, (x,))
    assert torch.autograd.gradgradcheck(pixel_norm, (x,))


def test_gradient_is_orthogonal_to_the_input() -> None:
    # The output does not change along the input, so neither does any function of it.
    x = (torch.randn(2, 5, 3, 3, dtype=float64)).requires_grad_()
    (gradient,) = torch.autograd.grad((pixel_norm(x, eps=0.0) * torch.randn_like(x)).sum(), x)
    along = (gradient * x).sum(dim=1)
    torch.testing.assert_close(along, torch.zeros_like(along), **for_dtype(float64))


@pytest.mark.parametrize("shape", [(), (5,)])
def test_refuses_input_without_a_channel_dimension(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="dimensions"):
        pixel_norm(torch.zeros(shape))


def test_eps_is_keyword_only() -> None:
    with pytest.raises(TypeError):
        pixel_norm(torch.zeros(1, 2), 1e-8)  # type: ignore[misc]
