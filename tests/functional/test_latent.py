"""Latents: their distributions, the paths between them, and the reparameterization."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ganblocks.functional.latent import lerp, normal_latents, reparameterize, slerp, truncated_normal_latents
from tolerances import for_dtype, named

SIGNIFICANCE = 1e-3  # of the tests of distribution; seeds are fixed, so they cannot flicker
positions = st.floats(0, 1)
components = st.floats(-1e3, 1e3).map(lambda value: value if abs(value) > 1e-3 else 0.0)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def unit(*shape, seed=0, dtype=torch.float64):
    return torch.nn.functional.normalize(draw(*shape, seed=seed), dim=-1).to(dtype)


def test_normal_latents_are_standard_normal():
    latents = normal_latents(500, 40, seed=3, dtype=torch.float64)
    assert latents.shape == (500, 40)
    assert stats.kstest(latents.flatten().numpy(), "norm").pvalue > SIGNIFICANCE


@pytest.mark.parametrize("truncation", [0.05, 0.7, 2.0, 5.0])
def test_truncated_latents_follow_the_conditioned_normal_of_scipy(truncation):
    latents = truncated_normal_latents(500, 40, truncation=truncation, seed=3, dtype=torch.float64).flatten()
    oracle = stats.truncnorm(-truncation, truncation)
    assert latents.abs().max() <= truncation
    assert stats.kstest(latents.numpy(), oracle.cdf).pvalue > SIGNIFICANCE
    assert latents.std().item() == pytest.approx(oracle.std(), rel=named("std_of_20000")["rtol"])


def test_truncation_is_not_clipping():
    latents = truncated_normal_latents(500, 40, truncation=0.7, seed=3)
    assert (latents.abs() >= 0.7).sum() == 0  # clipping would pile up 48 % there


@pytest.mark.parametrize("truncation", [1e-300, 1e-8, 8.5, 1e3])
def test_extreme_truncations_stay_finite_and_inside(truncation):
    latents = truncated_normal_latents(200, 5, truncation=truncation, seed=1, dtype=torch.float64)
    assert latents.isfinite().all()
    assert latents.abs().max() <= truncation


@pytest.mark.parametrize("function", [normal_latents, truncated_normal_latents])
def test_a_seed_is_a_fresh_cpu_generator(function):
    expected = function(3, 4, generator=torch.Generator().manual_seed(7))
    assert torch.equal(function(3, 4, seed=7), expected)
    assert not torch.equal(function(3, 4, seed=8), expected)


@pytest.mark.parametrize("function", [normal_latents, truncated_normal_latents])
def test_the_global_generator_is_used_only_without_a_seed(function):
    before = torch.random.get_rng_state()
    function(3, 4, seed=7)
    assert torch.equal(torch.random.get_rng_state(), before)
    first = function(3, 4)
    torch.random.set_rng_state(before)
    assert torch.equal(function(3, 4), first)


@pytest.mark.parametrize("function", [normal_latents, truncated_normal_latents])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_latents_are_the_rounded_float32_ones(function, dtype):
    assert torch.equal(function(5, 7, seed=1, dtype=dtype), function(5, 7, seed=1).to(dtype))


@pytest.mark.parametrize("function", [normal_latents, truncated_normal_latents])
def test_latents_are_drawn_on_the_generators_device_and_moved(function):
    meta = function(3, 4, seed=1, device="meta")  # a CPU generator cannot draw on another device
    assert meta.device.type == "meta"
    assert meta.shape == (3, 4)
    with torch.device("meta"):
        assert function(3, 4, seed=1).device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("function", [normal_latents, truncated_normal_latents])
def test_a_seed_gives_the_same_latents_on_a_gpu(function):
    on_gpu = function(3, 4, seed=1, device="cuda")
    assert on_gpu.is_cuda
    assert torch.equal(on_gpu.cpu(), function(3, 4, seed=1))


@pytest.mark.parametrize("function", [normal_latents, truncated_normal_latents])
def test_bad_requests_for_latents_are_named(function):
    assert function(0, 1).shape == (0, 1)
    with pytest.raises(ValueError, match="`count` is -1"):
        function(-1, 4)
    with pytest.raises(ValueError, match="`latent_dim` is 0"):
        function(1, 0)
    with pytest.raises(ValueError, match=r"`generator` is .* must be None when `seed` is given"):
        function(1, 4, seed=0, generator=torch.Generator())


@pytest.mark.parametrize("truncation", [0.0, -1.0, math.inf, math.nan])
def test_bad_truncations_are_named(truncation):
    with pytest.raises(ValueError, match=r"`truncation` is .* positive and finite"):
        truncated_normal_latents(1, 2, truncation=truncation)


def numpy_slerp(start, end, t):
    """Rotate ``start`` towards ``end`` in their plane by Gram-Schmidt: no sine of the angle is divided by."""
    start, end = start.numpy(), end.numpy()
    perpendicular = end - (end @ start) * start
    perpendicular /= np.linalg.norm(perpendicular)
    angle = math.acos(np.clip(start @ end, -1, 1)) * t
    return torch.from_numpy(math.cos(angle) * start + math.sin(angle) * perpendicular)


@given(st.integers(2, 6), positions, st.integers(0, 1000))
def test_slerp_of_unit_vectors_is_a_rotation_in_their_plane(Z, t, seed):
    start, end = unit(Z, seed=seed), unit(Z, seed=seed + 1)
    torch.testing.assert_close(slerp(start, end, t), numpy_slerp(start, end, t), **named("acos"))


@given(st.integers(2, 6), positions, st.integers(0, 1000))
def test_slerp_keeps_the_length_of_the_ends(Z, t, seed):
    middle = slerp(7 * unit(3, Z, seed=seed), 7 * unit(3, Z, seed=seed + 1), t)
    torch.testing.assert_close(middle.norm(dim=-1), torch.full((3,), 7.0).double(), **named("slerp_length"))


def test_slerp_by_hand():
    start, end = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])
    expected = torch.tensor([math.cos(math.pi / 6), 2 * math.sin(math.pi / 6)])
    torch.testing.assert_close(slerp(start, end, 1 / 3), expected, **for_dtype(torch.float32))


@pytest.mark.parametrize("path", [lerp, slerp])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_the_ends_are_reached_exactly(path, dtype):
    start, end = draw(50, 7, seed=1, dtype=dtype), draw(50, 7, seed=2, dtype=dtype)
    start[0], end[1], start[2], start[3] = 0, 0, -end[2], end[3]
    both = path(start, end, torch.tensor([0.0, 1.0]))
    assert both.dtype == dtype
    assert torch.equal(both[0], start)
    assert torch.equal(both[1], end)
    assert torch.equal(path(start, end, 0), start)
    assert torch.equal(path(start, end, 1.0), end)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("Z", [1, 2, 5])
def test_slerp_without_an_arc_is_the_straight_line(dtype, Z):
    row = unit(Z, dtype=dtype)
    start = torch.stack([row, row, 0 * row, row, 0 * row])
    end = torch.stack([row, -row, row, 0 * row, 0 * row])
    for t in (0.25, 0.5, 0.8):
        torch.testing.assert_close(slerp(start, end, t), start + t * (end - start), **for_dtype(dtype))


@given(
    st.lists(st.tuples(components, components), min_size=1, max_size=5),
    st.floats(-1, 2),
    st.sampled_from([1.0, 1e-30, 1e30, -1.0, 1 + 1e-7, -1 - 1e-7]),
)
def test_slerp_and_its_gradients_are_finite_for_any_finite_rows(rows, t, factor):
    start = torch.tensor(rows, dtype=torch.float32).T.contiguous().requires_grad_()  # rows of any direction and length
    end = (start.detach() * factor).requires_grad_()
    middle = slerp(start, end, t)
    gradients = torch.autograd.grad(middle.sum(), (start, end))
    assert middle.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("angle", [1e-9, 1e-6, 1e-3, math.pi - 1e-3, math.pi - 1e-6])
def test_slerp_is_precise_at_small_and_nearly_straight_angles(angle):
    start = torch.tensor([1.0, 0.0], dtype=torch.float64)
    end = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    expected = torch.tensor([math.cos(0.3 * angle), math.sin(0.3 * angle)], dtype=torch.float64)
    torch.testing.assert_close(slerp(start, end, 0.3), expected, **named("nearly_straight"))


@pytest.mark.parametrize("path", [lerp, slerp])
def test_every_entry_of_t_gives_a_whole_result(path):
    start, end, t = draw(3, 4), draw(3, 4, seed=1), torch.rand(2, 5, dtype=torch.float64)
    frames = path(start, end, t)
    assert frames.shape == (2, 5, 3, 4)
    torch.testing.assert_close(frames[1, 2], path(start, end, t[1, 2].item()), **for_dtype(torch.float64))
    assert path(start, end, torch.tensor(0.5)).shape == (3, 4)
    assert path(start[:0], end[:0], t).shape == (2, 5, 0, 4)
    assert path(start, end, t[:, :0]).shape == (2, 0, 3, 4)


def test_lerp_is_the_straight_line():
    middle = lerp(torch.tensor([0.0, 10.0]), torch.tensor([4.0, -10.0]), torch.tensor([0.25, 1.5]))
    assert torch.equal(middle, torch.tensor([[1.0, 5.0], [6.0, -20.0]]))


@pytest.mark.parametrize("path", [lerp, slerp])
def test_both_orders_of_gradient_along_a_path(path):
    start, end = draw(2, 3).requires_grad_(), draw(2, 3, seed=1).requires_grad_()
    t = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(path, (start, end, t))
    assert torch.autograd.gradgradcheck(path, (start, end, t))


@pytest.mark.parametrize("path", [lerp, slerp])
def test_second_order_is_finite_where_there_is_no_arc(path):
    start = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]], requires_grad=True)
    end = torch.tensor([[2.0, 0.0], [-1.0, 0.0], [0.0, 0.0]], requires_grad=True)
    first = torch.autograd.grad(path(start, end, 0.4).square().sum(), (start, end), create_graph=True)
    second = torch.autograd.grad(sum(gradient.square().sum() for gradient in first), (start, end))
    assert all(gradient.isfinite().all() for gradient in first + second)


@pytest.mark.parametrize("path", [lerp, slerp])
def test_bad_ends_are_named(path):
    with pytest.raises(ValueError, match=r"`start` has shape \(2, 3\) and `end` has shape \(1, 3\)"):
        path(torch.zeros(2, 3), torch.zeros(1, 3), 0.5)
    with pytest.raises(TypeError, match=r"`end` is torch.float64"):
        path(torch.zeros(2, 3), torch.zeros(2, 3).double(), 0.5)
    with pytest.raises(TypeError, match=r"`start` is torch.int64"):
        path(torch.zeros(2, 3).long(), torch.zeros(2, 3).long(), 0.5)


def test_slerp_needs_a_vector():
    with pytest.raises(ValueError, match=r"`start` is \(\)"):
        slerp(torch.tensor(1.0), torch.tensor(2.0), 0.5)
    with pytest.raises(ValueError, match=r"`start` is \(2, 0\)"):
        slerp(torch.zeros(2, 0), torch.zeros(2, 0), 0.5)


@pytest.mark.parametrize("length", [1e-30, 1e30])
def test_slerp_turns_by_the_same_angle_at_any_length(length):
    start, end = unit(4, dtype=torch.float32), unit(4, seed=1, dtype=torch.float32)
    middle = slerp(start * length, end * length, 0.3) / length
    torch.testing.assert_close(middle, slerp(start, end, 0.3), **for_dtype(torch.float32))


@given(st.integers(0, 3), st.integers(0, 3), st.floats(0, 2))
def test_reparameterize_is_the_formula(N, Z, epsilon_std):
    mean, log_var, noise = draw(N, Z), draw(N, Z, seed=1), draw(N, Z, seed=2)
    expected = mean.numpy() + np.sqrt(np.exp(log_var.numpy())) * epsilon_std * noise.numpy()
    actual = reparameterize(mean, log_var, epsilon_std=epsilon_std, noise=noise)
    torch.testing.assert_close(actual, torch.from_numpy(expected), **for_dtype(torch.float64))


def test_reparameterize_draws_the_asked_distribution():
    mean, log_var = torch.full((20000,), 3.0).double(), torch.full((20000,), math.log(4.0)).double()
    latents = reparameterize(mean, log_var, epsilon_std=0.5, generator=torch.Generator().manual_seed(1))
    assert stats.kstest(latents.numpy(), stats.norm(3.0, 1.0).cdf).pvalue > SIGNIFICANCE


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_reparameterize_keeps_dtype_and_repeats_with_its_generator(dtype):
    mean, log_var = draw(3, 4, dtype=dtype), draw(3, 4, seed=1, dtype=dtype)
    first, second = (reparameterize(mean, log_var, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert first.dtype == dtype
    assert torch.equal(first, second)
    assert not torch.equal(reparameterize(mean, log_var), reparameterize(mean, log_var))


def test_reparameterize_both_orders_of_gradient():
    arguments = [draw(2, 3, seed=seed).requires_grad_() for seed in range(3)]

    def function(mean, log_var, noise):
        return reparameterize(mean, log_var, epsilon_std=0.7, noise=noise)

    assert torch.autograd.gradcheck(function, arguments)
    assert torch.autograd.gradgradcheck(function, arguments)


def test_reparameterize_refuses_what_does_not_fit():
    mean = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"`log_var` has shape \(3,\)"):
        reparameterize(mean, torch.zeros(3))
    with pytest.raises(ValueError, match=r"`noise` has shape \(1, 3\)"):
        reparameterize(mean, mean, noise=torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"`generator` is .* None when `noise` is given"):
        reparameterize(mean, mean, noise=mean, generator=torch.Generator())
