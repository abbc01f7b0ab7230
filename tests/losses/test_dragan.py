"""DRAGAN's penalty: where it looks, and that it behaves like the other penalties there."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ganblocks.losses.dragan import dragan_penalty
from tolerances import for_dtype, named

FLOAT64 = for_dtype(torch.float64)
FLOAT32 = for_dtype(torch.float32)


def half_square(x: Tensor) -> Tensor:
    """Its gradient is the image itself."""
    return 0.5 * x.square().flatten(1).sum(1)


def visited(real: Tensor, **options: object) -> Tensor:
    """The images at which the penalty evaluates its critic."""
    seen = []

    def critic(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        return x.flatten(1).sum(1)

    dragan_penalty(critic, real, **options)  # type: ignore[arg-type]
    (x,) = seen
    return x


def smooth_critic() -> nn.Module:
    layers = nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(36, 1), nn.Flatten(0)
    return nn.Sequential(*layers)


# --- where it looks ---


@given(
    count=st.integers(1, 4),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    spread=st.floats(0, 2),
    offset=st.floats(-100, 100),
    seed=st.integers(0, 99),
)
def test_it_looks_at_the_formula_in_numpy(
    count: int, shape: list[int], spread: float, offset: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    real, noise = offset + rng.standard_normal((count, *shape)), rng.random((count, *shape))
    x = visited(torch.from_numpy(real), noise=torch.from_numpy(noise), spread=spread)
    np.testing.assert_allclose(x.numpy(), real + spread * np.std(real) * noise, **FLOAT64)
    assert torch.equal(visited(torch.from_numpy(real), spread=0.0), torch.from_numpy(real))


def test_half_a_standard_deviation_is_the_default() -> None:
    real = torch.tensor([[1.0, 3.0], [5.0, 7.0]])  # mean 4, variance (9 + 1 + 1 + 9) / 4 = 5
    x = visited(real, noise=torch.ones(2, 2))
    torch.testing.assert_close(x, real + 0.5 * 5**0.5, **FLOAT32)


def test_the_deviation_is_one_number_over_the_whole_batch() -> None:
    real = torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)])  # every image constant: 0 by itself
    x = visited(real, noise=torch.ones(2, 3, 4, 4))
    torch.testing.assert_close(x - real, torch.full_like(real, 0.25), **FLOAT32)


def test_noise_is_uniform_on_0_to_1_and_drawn_for_every_element() -> None:
    real = torch.stack([torch.full((2, 32, 32), -1.0), torch.full((2, 32, 32), 1.0)])  # standard deviation 1
    u = (visited(real) - real) / 0.5
    assert u.min() >= 0
    assert u.max() <= 1
    torch.testing.assert_close([u.mean().item(), u.std().item()], [0.5, 12**-0.5], **named("random_moments"))
    assert len(u.unique()) > 0.9 * u.numel()


def test_a_generator_makes_the_noise_reproducible_and_leaves_the_global_one_alone() -> None:
    real = torch.randn(3, 4)
    state = torch.get_rng_state()
    first, again, other = (visited(real, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    wide = visited(real.double(), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(wide.float(), first, **FLOAT32)
    torch.manual_seed(5)
    drawn = visited(real)
    torch.manual_seed(5)
    assert torch.equal(visited(real, noise=torch.rand(3, 4)), drawn)


def test_equal_pixels_leave_the_images_as_they_are() -> None:
    real = torch.full((2, 3), 0.25)
    assert torch.equal(visited(real), real)
    assert torch.equal(visited(real[:1, :1]), real[:1, :1])  # one number has deviation 0, not NaN


# --- values and gradients ---


def test_norm_target_sides_and_reductions() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.5]], dtype=torch.float64)  # norms 5 and 0.5
    call = partial(dragan_penalty, half_square, x, noise=torch.zeros(2, 2))
    torch.testing.assert_close(call(reduction="none").tolist(), [16.0, 0.25], **FLOAT64)
    torch.testing.assert_close(call(reduction="sum").item(), 16.25, **FLOAT64)
    torch.testing.assert_close(call().item(), 8.125, **FLOAT64)
    torch.testing.assert_close(call(reduction="none", one_sided=True).tolist(), [16.0, 0.0], **FLOAT64)
    torch.testing.assert_close(call(reduction="none", target_norm=0.0).tolist(), [25.0, 0.25], **FLOAT64)


def test_the_penalty_is_that_of_the_noisy_images_and_not_of_the_real_ones() -> None:
    real, noise = torch.randn(3, 4, dtype=torch.float64), torch.rand(3, 4, dtype=torch.float64)
    points = real.numpy() + 0.5 * np.std(real.numpy()) * noise.numpy()
    expected = np.mean((np.sqrt((points**2).sum(1)) - 1) ** 2)
    np.testing.assert_allclose(dragan_penalty(half_square, real, noise=noise).item(), expected, **FLOAT64)


@pytest.mark.parametrize("one_sided", [False, True])
def test_it_passes_gradcheck_and_gradgradcheck_in_the_weights(one_sided: bool) -> None:
    x, noise = torch.randn(2, 3, dtype=torch.float64), torch.rand(2, 3)

    def penalty(a: Tensor, v: Tensor) -> Tensor:
        return dragan_penalty(lambda x: torch.tanh(x @ a) @ v, x, noise=noise, target_norm=0.1, one_sided=one_sided)

    a = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    v = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(penalty, (a, v))
    assert torch.autograd.gradgradcheck(penalty, (a, v))


def test_a_zero_gradient_is_finite_in_value_and_to_second_order() -> None:
    weight = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    value = dragan_penalty(lambda x: x @ weight, torch.randn(3, 6, dtype=torch.float64))
    assert value.item() == 1.0  # (0 - 1)^2
    (first,) = torch.autograd.grad(value, weight, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), weight, allow_unused=True, materialize_grads=True)
    assert torch.equal(first, torch.zeros_like(first))
    assert second.isfinite().all()


def test_it_trains_the_critic_and_nothing_else() -> None:
    critic, real = smooth_critic(), torch.randn(4, 2, 3, 3, requires_grad=True)
    dragan_penalty(critic, real).backward()
    assert real.grad is None
    gradient = next(critic.parameters()).grad
    assert gradient is not None
    assert gradient.abs().max() > 0


# --- precision and compilation ---


def test_under_autocast_it_agrees_with_float64() -> None:
    critic, real, noise = smooth_critic(), torch.randn(4, 2, 3, 3), torch.rand(4, 2, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        ambient = dragan_penalty(critic, real, noise=noise)
        forced = dragan_penalty(critic, real, noise=noise, autocast=False)
    assert ambient.dtype == forced.dtype == torch.float32
    wide = dragan_penalty(critic.double(), real.double(), noise=noise)
    torch.testing.assert_close(forced.double(), wide, **named("penalty_float32"))
    torch.testing.assert_close(ambient.double(), wide, **named("penalty_low_precision"))
    assert ambient.item() != forced.item()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_images_are_moved_in_float32_and_rounded_once(dtype: torch.dtype) -> None:
    real, noise = (100 * torch.randn(8, 50)).to(dtype), torch.rand(8, 50)
    wide = real.float()
    x = visited(real, noise=noise)
    assert x.dtype == dtype
    assert torch.equal(x, (wide + 0.5 * wide.std(correction=0) * noise).to(dtype))
    assert dragan_penalty(half_square, real.clamp(-1, 1)).dtype == torch.float32


def test_compiled_critics_are_refused_and_whole_losses_compile() -> None:
    real, noise = torch.randn(4, 2, 3, 3), torch.rand(4, 2, 3, 3)
    critic = smooth_critic()
    with pytest.raises(RuntimeError, match=r"`critic\._orig_mod`"):
        dragan_penalty(torch.compile(critic, backend="eager"), real)
    eager = dragan_penalty(critic, real, noise=noise)
    torch._dynamo.reset()
    compiled = torch.compile(partial(dragan_penalty, critic), backend="aot_eager", fullgraph=True)(real, noise=noise)
    torch.testing.assert_close(compiled, eager, **FLOAT32)
    wanted, given_ = (torch.autograd.grad(value, critic[0].weight)[0] for value in (eager, compiled))
    torch.testing.assert_close(given_, wanted, **FLOAT32)


# --- what does not fit ---


def test_wrong_arguments_raise() -> None:
    x = torch.zeros(4, 2)
    call = partial(dragan_penalty, half_square)
    with pytest.raises(ValueError, match=r"`real_images` is \(0, 2\), but must be of at least one image"):
        call(x[:0])
    with pytest.raises(ValueError, match=r"`real_images` has shape \(4,\)"):
        call(x[:, 0])
    with pytest.raises(TypeError, match=r"`real_images` is torch.uint8"):
        call(x.byte())
    with pytest.raises(TypeError, match=r"`real_images` is a list"):
        call([x])  # type: ignore[arg-type]
    for spread in (-0.1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="`spread` is"):
            call(x, spread=spread)
    with pytest.raises(ValueError, match=r"`real_images` has shape \(4, 2\) and `noise` has shape \(4, 1\)"):
        call(x, noise=torch.zeros(4, 1))
    with pytest.raises(ValueError, match=r"`generator` is .* must be None when `noise` is given"):
        call(x, noise=x, generator=torch.Generator())
    with pytest.raises(ValueError, match="`reduction` is 'avg'"):
        call(x, reduction="avg")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`autocast` is True"):
        call(x, autocast=True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="do not depend on the images"):
        dragan_penalty(lambda x: torch.zeros(len(x)), x)
