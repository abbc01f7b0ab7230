"""Gradient penalties against closed forms, finite differences and a double backward done by hand."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ganblocks import losses
from ganblocks.losses import penalties
from tolerances import for_dtype, named

FLOAT64 = for_dtype(torch.float64)
FLOAT32 = for_dtype(torch.float32)


class SmoothCritic(nn.Module):
    """Twice differentiable everywhere, with convolutions and a gradient that differs from sample to sample."""

    def __init__(self, activation: Callable[[Tensor], Tensor] = torch.tanh, channels: int = 4) -> None:
        super().__init__()
        self.activation = activation
        self.conv = nn.Conv2d(2, channels, 3, padding=1)
        self.head = nn.Linear(channels * 9, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.activation(self.conv(images)).flatten(1))[:, 0]


def images(count: int = 4, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 2, 3, 3, dtype=dtype), torch.randn(count, 2, 3, 3, dtype=dtype)


def linear_critic(weight: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: (x * weight).flatten(1).sum(1)


def half_square(x: Tensor) -> Tensor:
    """Its gradient is the image itself."""
    return 0.5 * x.square().flatten(1).sum(1)


def value_and_weight_gradients(critic: nn.Module, penalty: Callable[[], Tensor]) -> tuple[Tensor, list[Tensor]]:
    value = penalty()
    gradients = torch.autograd.grad(value, list(critic.parameters()), allow_unused=True, materialize_grads=True)
    return value.detach(), list(gradients)


# --- closed forms ---


@given(
    count=st.integers(1, 5),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    target=st.floats(0, 3),
    mixing=st.sampled_from(["uniform", "normal"]),
)
def test_a_linear_critic_has_penalty_weight_norm_minus_target_squared(
    count: int, shape: list[int], target: float, mixing: str
) -> None:
    weight = torch.randn(shape, dtype=torch.float64)
    real, fake = torch.randn(2, count, *shape, dtype=torch.float64)
    norm = sum(w * w for w in weight.flatten().tolist()) ** 0.5
    critic = linear_critic(weight)
    value = losses.gradient_penalty(critic, real, fake, target_norm=target, mixing=mixing)  # type: ignore[arg-type]
    torch.testing.assert_close(value.item(), (norm - target) ** 2, **FLOAT64)
    torch.testing.assert_close(losses.r1_penalty(critic, real).item(), norm**2, **FLOAT64)
    torch.testing.assert_close(losses.r2_penalty(critic, fake).item(), norm**2, **FLOAT64)


def test_the_norm_is_taken_over_channels_and_pixels_of_each_sample() -> None:
    # Ones in [N, 3, 4, 4]: per sample sqrt(48) = 6.93; per pixel it would be sqrt(3), per batch sqrt(48 * N).
    x = torch.ones(5, 3, 4, 4, dtype=torch.float64)
    value = losses.gradient_penalty(half_square, x, x)
    torch.testing.assert_close(value.item(), (48**0.5 - 1) ** 2, **FLOAT64)
    torch.testing.assert_close(losses.r1_penalty(half_square, x).item(), 48.0, **FLOAT64)


def test_the_penalty_does_not_depend_on_the_batch_size() -> None:
    critic = SmoothCritic().double()
    real, fake = images(6, torch.float64)
    weights = torch.rand(6, dtype=torch.float64)
    whole = losses.gradient_penalty(critic, real, fake, mixing=weights, reduction="none")
    for i in range(6):
        alone = losses.gradient_penalty(critic, real[i : i + 1], fake[i : i + 1], mixing=weights[i : i + 1])
        torch.testing.assert_close(whole[i], alone, **FLOAT64)
    twice = losses.gradient_penalty(critic, real.repeat(2, 1, 1, 1), fake.repeat(2, 1, 1, 1), mixing=weights.repeat(2))
    torch.testing.assert_close(twice, whole.mean(), **FLOAT64)


def test_the_mean_is_of_squared_excesses_and_not_the_square_of_the_mean() -> None:
    x = torch.tensor([[3.0], [-1.0], [0.5]])  # norms 3, 1, 0.5 -> 4, 0, 0.25
    torch.testing.assert_close(losses.gradient_penalty(half_square, x, x).item(), 4.25 / 3, **FLOAT32)


def test_reductions_and_one_sidedness() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.5]], dtype=torch.float64)  # norms 5 and 0.5
    call = partial(losses.gradient_penalty, half_square, x, x)
    torch.testing.assert_close(call(reduction="none").tolist(), [16.0, 0.25], **FLOAT64)
    torch.testing.assert_close(call(reduction="sum").item(), 16.25, **FLOAT64)
    torch.testing.assert_close(call(reduction="mean").item(), 8.125, **FLOAT64)
    torch.testing.assert_close(call(reduction="none", one_sided=True).tolist(), [16.0, 0.0], **FLOAT64)
    torch.testing.assert_close(call(reduction="none", target_norm=0.0).tolist(), [25.0, 0.25], **FLOAT64)


def test_drift_is_the_mean_of_squared_scores() -> None:
    value = losses.drift_penalty(torch.tensor([1.0, -2.0, 4.0], dtype=torch.bfloat16))
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.item(), 7.0, **FLOAT32)
    with pytest.raises(ValueError, match="`real_logits` has shape"):
        losses.drift_penalty(torch.zeros(3, 1))


# --- where the penalty looks ---


def visited(real: Tensor, fake: Tensor, **options: object) -> Tensor:
    """The images at which the penalty evaluates its critic."""
    seen = []

    def critic(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        return x.flatten(1).sum(1)

    losses.gradient_penalty(critic, real, fake, **options)  # type: ignore[arg-type]
    (x,) = seen
    return x


def test_half_way_between_0_and_5_is_2_and_a_half() -> None:
    x = visited(torch.zeros(1, 1), torch.full((1, 1), 5.0), mixing=torch.tensor([0.5]))
    assert x.item() == 2.5


def test_the_weight_belongs_to_the_fake() -> None:
    x = visited(torch.zeros(3, 1), torch.full((3, 1), 10.0), mixing=torch.tensor([0.0, 0.25, 1.0]))
    assert x.flatten().tolist() == [0.0, 2.5, 10.0]


@pytest.mark.parametrize("mixing", ["uniform", "normal"])
def test_weights_are_one_per_sample_not_per_batch_and_not_per_pixel(mixing: str) -> None:
    x = visited(torch.zeros(8, 3, 4, 4), torch.ones(8, 3, 4, 4), mixing=mixing)
    assert (x == x[:, :1, :1, :1]).all()
    assert x[:, 0, 0, 0].unique().numel() == 8


@pytest.mark.parametrize(("mixing", "mean", "std"), [("uniform", 0.5, 12**-0.5), ("normal", 0.0, 1.0)])
def test_drawn_weights_have_the_moments_of_their_distribution(mixing: str, mean: float, std: float) -> None:
    # real = 0 and fake = 1: the visited point is the weight; a normal one centres on the real image.
    x = visited(torch.zeros(4096, 1), torch.ones(4096, 1), mixing=mixing)
    torch.testing.assert_close([x.mean().item(), x.std().item()], [mean, std], **named("random_moments"))
    if mixing == "uniform":
        assert x.min() >= 0
        assert x.max() < 1


def test_a_generator_makes_the_weights_reproducible_and_leaves_the_global_one_alone() -> None:
    zeros, ones = torch.zeros(5, 1), torch.ones(5, 1)
    state = torch.get_rng_state()
    first, again, other = (visited(zeros, ones, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    wide = visited(zeros.double(), ones.double(), generator=torch.Generator().manual_seed(1))
    assert torch.equal(wide.float(), first)


def test_r1_and_r2_look_at_the_images_themselves() -> None:
    x = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    torch.testing.assert_close(losses.r1_penalty(half_square, x).item(), 13.0, **FLOAT32)
    torch.testing.assert_close(losses.r2_penalty(half_square, 2 * x).item(), 52.0, **FLOAT32)


def test_fakes_of_lower_precision_are_mixed_in_the_wider_type() -> None:
    assert visited(torch.zeros(2, 1), torch.ones(2, 1, dtype=torch.bfloat16)).dtype == torch.float32
    assert visited(torch.zeros(2, 1).bfloat16(), torch.ones(2, 1).bfloat16()).dtype == torch.bfloat16


# --- gradients ---


def test_the_penalty_of_a_two_layer_critic_equals_a_double_backward_by_hand() -> None:
    """Critic v . tanh(A x): the gradient is g = A^T (v * (1 - tanh^2)), P = (|g| - 1)^2, dP/dv by the chain rule."""
    a, v = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, dtype=torch.float64, requires_grad=True)
    x = torch.randn(1, 3, dtype=torch.float64)
    value = losses.gradient_penalty(lambda x: torch.tanh(x @ a.T) @ v, x, x)
    (gradient,) = torch.autograd.grad(value, v)
    slope = 1 - torch.tanh(a @ x[0]) ** 2
    g = a.T @ (v.detach() * slope)
    norm = g.dot(g) ** 0.5
    torch.testing.assert_close(value.detach(), (norm - 1) ** 2, **FLOAT64)
    torch.testing.assert_close(gradient, 2 * (norm - 1) / norm * slope * (a @ g), **FLOAT64)


@pytest.mark.parametrize("name", ["gradient_penalty", "r1_penalty", "r2_penalty"])
def test_weight_gradients_equal_finite_differences(name: str) -> None:
    critic = SmoothCritic(channels=2).double()
    real, fake = images(3, torch.float64)
    weights = torch.rand(3, dtype=torch.float64)

    def penalty() -> Tensor:
        if name == "gradient_penalty":
            return losses.gradient_penalty(critic, real, fake, mixing=weights)
        return getattr(losses, name)(critic, real)

    _, gradients = value_and_weight_gradients(critic, penalty)
    assert gradients[0].abs().max() > 1e-3  # the convolution is trained by its penalty
    step = 1e-6
    for parameter, gradient in zip(critic.parameters(), gradients, strict=True):
        flat = parameter.data.view(-1)
        for i in range(0, flat.numel(), 5):
            original = flat[i].item()
            flat[i] = original + step
            above = penalty().item()
            flat[i] = original - step
            below = penalty().item()
            flat[i] = original
            difference = (above - below) / (2 * step)
            torch.testing.assert_close(gradient.reshape(-1)[i].item(), difference, **named("finite_difference"))


@pytest.mark.parametrize("name", ["two_sided", "one_sided", "r1"])
def test_penalties_pass_gradcheck_and_gradgradcheck_in_the_weights(name: str) -> None:
    x = torch.randn(2, 3, dtype=torch.float64)

    def penalty(a: Tensor, v: Tensor) -> Tensor:
        def critic(x: Tensor) -> Tensor:
            return torch.tanh(x @ a) @ v

        if name == "r1":
            return losses.r1_penalty(critic, x)
        return losses.gradient_penalty(critic, x, x, target_norm=0.1, one_sided=name == "one_sided")

    a = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    v = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(penalty, (a, v))
    assert torch.autograd.gradgradcheck(penalty, (a, v))


def test_a_zero_gradient_is_finite_in_value_and_to_second_order() -> None:
    weight = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    x = torch.randn(3, 6, dtype=torch.float64)
    value = losses.gradient_penalty(lambda x: x @ weight, x, x)
    assert value.item() == 1.0  # (0 - 1)^2
    (first,) = torch.autograd.grad(value, weight, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), weight, allow_unused=True, materialize_grads=True)
    assert torch.equal(first, torch.zeros_like(first))
    assert second.isfinite().all()


def test_one_dead_sample_does_not_spoil_the_gradients_of_the_others() -> None:
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=torch.float64)  # gradient scale * x: norms 0 and 5
    value = losses.gradient_penalty(lambda x: scale * half_square(x), x, x)
    (gradient,) = torch.autograd.grad(value, scale)
    torch.testing.assert_close(value.item(), (1 + 16) / 2, **FLOAT64)
    torch.testing.assert_close(gradient.item(), 2 * 4 * 5 / 2, **FLOAT64)


def test_no_gradient_reaches_the_generator_and_no_grad_field_is_touched() -> None:
    critic, generator = SmoothCritic(), nn.Conv2d(2, 2, 1)
    real, latents = images()
    real.requires_grad_(True)
    fake = generator(latents)
    value = (
        losses.gradient_penalty(critic, real, fake) + losses.r1_penalty(critic, real) + losses.r2_penalty(critic, fake)
    )
    assert all(p.grad is None for p in (real, *critic.parameters(), *generator.parameters()))
    value.backward()
    assert all(p.grad is None for p in (real, *generator.parameters()))
    assert critic.conv.weight.grad is not None
    assert critic.conv.weight.grad.abs().max() > 0


def test_penalties_work_where_gradients_are_off_and_then_carry_no_graph() -> None:
    critic = SmoothCritic()
    real, fake = images()
    weights = torch.rand(4)
    expected = losses.gradient_penalty(critic, real, fake, mixing=weights).detach()
    with torch.no_grad():
        value = losses.gradient_penalty(critic, real, fake, mixing=weights)
    assert not value.requires_grad
    torch.testing.assert_close(value, expected, **named("exact"))
    with torch.inference_mode():
        made_there = real.clone()
    torch.testing.assert_close(losses.r1_penalty(critic, made_there), losses.r1_penalty(critic, real), **named("exact"))


# --- input_gradients ---


def test_input_gradients_have_the_shape_of_the_images_and_a_graph_on_demand() -> None:
    critic = SmoothCritic()
    real, _ = images()
    with_graph, without = losses.input_gradients(critic, real), losses.input_gradients(critic, real, create_graph=False)
    assert with_graph.shape == real.shape
    assert with_graph.requires_grad
    assert not without.requires_grad
    assert not real.requires_grad
    torch.testing.assert_close(with_graph, without, **named("exact"))


def test_channels_last_images_give_equal_penalties() -> None:
    critic = SmoothCritic().double()
    real, _ = images(dtype=torch.float64)
    expected = losses.r1_penalty(critic, real)
    torch.testing.assert_close(
        losses.r1_penalty(critic, real.to(memory_format=torch.channels_last)), expected, **FLOAT64
    )


def test_a_critic_that_mixes_samples_is_differentiated_as_it_is_used() -> None:
    x = torch.randn(3, 2, dtype=torch.float64)
    # Every score is the sum over the batch; the gradient of the sum of three equal scores is 3 everywhere.
    gradients = losses.input_gradients(lambda x: x.sum().expand(3), x)
    torch.testing.assert_close(gradients, torch.full_like(x, 3.0), **FLOAT64)


@pytest.mark.parametrize("shape", [(4, 1), (), (3,), (4, 1, 1)])
def test_scores_of_another_shape_raise_and_name_it(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"scores of shape {shape}".replace("(", r"\(").replace(")", r"\)")):
        losses.input_gradients(lambda x: x.sum() * torch.ones(shape), torch.zeros(4, 2))


def test_a_critic_that_does_not_return_a_tensor_raises() -> None:
    with pytest.raises(TypeError, match="`critic` returned a tuple"):
        losses.input_gradients(lambda x: (x, x), torch.zeros(4, 2))  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    "scores", [torch.zeros(4), torch.zeros(4, requires_grad=True)], ids=["constant", "weights only"]
)
def test_a_critic_that_ignores_its_images_raises(scores: Tensor) -> None:
    with pytest.raises(ValueError, match="do not depend on the images"):
        losses.input_gradients(lambda x: scores, torch.zeros(4, 2))
    with pytest.raises(ValueError, match="do not depend on the images"):
        losses.input_gradients(lambda x: x.detach().sum(1) + scores, torch.zeros(4, 2))


def test_a_lost_graph_raises_and_a_weightless_critic_does_not() -> None:
    class Lossy(torch.autograd.Function):
        """As compiled critics once did: the first gradient is right, but carries no graph."""

        @staticmethod
        def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, weight: Tensor) -> Tensor:
            ctx.save_for_backward(x, weight)
            return x @ weight

        @staticmethod
        @torch.no_grad()  # type: ignore[untyped-decorator]
        def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            x, weight = ctx.saved_tensors  # type: ignore[attr-defined]
            return gradient[:, None] * weight, gradient @ x

    weight, x = torch.ones(2, requires_grad=True), torch.zeros(4, 2)
    with pytest.raises(RuntimeError, match="lost its graph"):
        losses.r1_penalty(lambda x: Lossy.apply(x, weight), x)
    assert losses.input_gradients(lambda x: Lossy.apply(x, weight), x, create_graph=False).sum() == 8
    assert losses.r1_penalty(lambda x: x.sum(1), x).item() == 2


@pytest.mark.parametrize("bad", [torch.zeros(0, 2), torch.zeros(4)], ids=["empty", "flat"])
def test_empty_batches_and_flat_images_raise(bad: Tensor) -> None:
    for penalty in (losses.input_gradients, losses.r1_penalty, losses.r2_penalty):
        with pytest.raises(ValueError, match="`images` has shape"):
            penalty(half_square, bad)
    with pytest.raises(ValueError, match="`real_images` has shape"):
        losses.gradient_penalty(half_square, bad, bad)


def test_wrong_arguments_of_the_gradient_penalty_raise() -> None:
    x = torch.zeros(4, 2)
    call = partial(losses.gradient_penalty, half_square)
    with pytest.raises(ValueError, match=r"`real_images` has shape \(4, 2\) and `fake_images` has shape \(3, 2\)"):
        call(x, x[:3])
    with pytest.raises(ValueError, match="must be equal"):
        call(x, x[:1])  # would broadcast
    with pytest.raises(TypeError, match=r"`fake_images` has dtype torch.uint8"):
        call(x, x.byte())
    with pytest.raises(ValueError, match="`mixing` is 'gauss'"):
        call(x, x, mixing="gauss")  # type: ignore[arg-type]
    for shape in ((4, 1), (1,), ()):
        with pytest.raises(ValueError, match=r"`mixing.shape`.*one weight an image"):
            call(x, x, mixing=torch.zeros(shape))
    with pytest.raises(ValueError, match="`reduction` is 'avg'"):
        call(x, x, reduction="avg")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`autocast` is True"):
        call(x, x, autocast=True)  # type: ignore[arg-type]


# --- precision ---


@pytest.mark.parametrize("name", ["gradient_penalty", "r1_penalty"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [None, False], ids=["ambient", "forced float32"])
def test_penalties_under_autocast_agree_with_float64(name: str, dtype: torch.dtype, autocast: bool | None) -> None:
    critic = SmoothCritic(channels=16)
    real, fake = images(8)
    weights = torch.rand(8)

    def penalty(critic: nn.Module, real: Tensor, fake: Tensor, **options: object) -> Tensor:
        if name == "r1_penalty":
            return losses.r1_penalty(critic, real, **options)  # type: ignore[arg-type]
        return losses.gradient_penalty(critic, real, fake, mixing=weights, **options)  # type: ignore[arg-type]

    def penalty_under_autocast() -> Tensor:
        with torch.autocast("cpu", dtype):  # and the backward outside, as PyTorch asks
            return penalty(critic, real, fake, autocast=autocast)

    value, gradients = value_and_weight_gradients(critic, penalty_under_autocast)
    assert value.dtype == torch.float32
    wide, wide_gradients = value_and_weight_gradients(
        critic.double(), lambda: penalty(critic, real.double(), fake.double())
    )
    tolerance = named("penalty_float32" if autocast is False else "penalty_low_precision")
    torch.testing.assert_close(value.double(), wide, **tolerance)
    flat, wide_flat = (torch.cat([g.flatten().double() for g in gs]) for gs in (gradients, wide_gradients))
    difference = (flat - wide_flat).norm() / wide_flat.norm()
    torch.testing.assert_close(difference.item(), 0.0, rtol=0.0, atol=tolerance["rtol"])


def test_gradients_too_small_for_float16_survive_and_so_do_their_squares() -> None:
    # 6e-8 is the smallest float16: 1e-6 squares to zero there, and 2e-8 is zero itself without the scale.
    for size in (1e-4, 1e-6, 2e-8):
        weight = torch.full((1, 64), size)
        x = torch.randn(3, 64)
        with torch.autocast("cpu", torch.float16):
            value = losses.r1_penalty(lambda x, weight=weight: F.linear(x * 1.0, 1000 * weight)[:, 0] / 1000, x)
        torch.testing.assert_close(value.item() / (64 * size**2), 1.0, **named("penalty_low_precision"))


def test_half_precision_images_give_float32_gradients() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        x = torch.full((2, 100), 0.5, dtype=dtype)
        gradients = losses.input_gradients(half_square, x)
        assert gradients.dtype == torch.float32
        torch.testing.assert_close(losses.r1_penalty(half_square, x).item(), 25.0, **FLOAT32)


def test_forced_float32_widens_the_images_and_switches_autocast_off() -> None:
    seen = []

    def critic(x: Tensor) -> Tensor:
        seen.append((x.dtype, torch.is_autocast_enabled("cpu")))
        return x.sum(1)

    x = torch.zeros(2, 3, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        losses.gradient_penalty(critic, x, x, autocast=False)
        losses.gradient_penalty(critic, x, x)
        losses.r2_penalty(critic, x.double(), autocast=False)
    assert seen == [(torch.float32, False), (torch.bfloat16, True), (torch.float64, False)]


# --- torch.compile ---


def test_a_critic_compiled_by_itself_is_refused_with_the_remedy() -> None:
    x = torch.zeros(2, 2, 3, 3)
    compiled = torch.compile(SmoothCritic(), backend="eager")
    with pytest.raises(RuntimeError, match=r"`critic\._orig_mod`"):
        losses.r1_penalty(compiled, x)
    losses.r1_penalty(compiled._orig_mod, x)  # the remedy works

    inside = nn.Sequential(nn.Identity(), torch.compile(SmoothCritic(), backend="eager"))
    with pytest.raises(RuntimeError, match=r"`critic\.1\._orig_mod`"):
        losses.r1_penalty(inside, x)
    with pytest.raises(RuntimeError, match=r"`critic\.1\._orig_mod`"):
        losses.r1_penalty(partial(inside.forward), x)  # type: ignore[arg-type]

    in_place = SmoothCritic()
    in_place.compile(backend="eager")
    with pytest.raises(RuntimeError, match=r"without `\.compile\(\)`"):
        losses.r1_penalty(in_place, x)
    with pytest.raises(RuntimeError, match="the function that was compiled"):
        losses.r1_penalty(torch.compile(half_square, backend="eager"), x)
    by_forward = SmoothCritic()
    by_forward.forward = torch.compile(by_forward.forward, backend="eager")  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="a `forward` that is not compiled"):
        losses.r1_penalty(by_forward, x)


def test_a_critic_that_is_kept_from_compilation_is_welcome() -> None:
    x = torch.ones(2, 2, 3, 3)
    critic = SmoothCritic()
    expected = losses.r1_penalty(critic, x)
    torch.testing.assert_close(losses.r1_penalty(torch.compiler.disable(critic.forward), x), expected, **named("exact"))
    torch.testing.assert_close(losses.r1_penalty(torch.compiler.disable(critic), x), expected, **named("exact"))


class CubeFunction(torch.autograd.Function):
    """A foreign operation, twice differentiable as it stands."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x**3

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return 3 * x * x * gradient


def whole_loss(critic: nn.Module, real: Tensor, fake: Tensor, weights: Tensor) -> Tensor:
    penalty = losses.gradient_penalty(critic, real, fake, mixing=weights)
    return (
        losses.wasserstein.discriminator_loss(critic(real), critic(fake))
        + 10 * penalty
        + losses.r1_penalty(critic, real)
    )


def test_the_whole_loss_compiled_has_the_gradients_of_the_eager_loss() -> None:
    critic = SmoothCritic(partial(F.leaky_relu, negative_slope=0.2))
    real, fake = images()
    arguments = critic, real, fake, torch.rand(4)
    eager, eager_gradients = value_and_weight_gradients(critic, lambda: whole_loss(*arguments))
    torch._dynamo.reset()
    compiled_loss = torch.compile(whole_loss, backend="aot_eager", fullgraph=True)
    compiled, compiled_gradients = value_and_weight_gradients(critic, lambda: compiled_loss(*arguments))
    torch.testing.assert_close(compiled, eager, **FLOAT32)
    for compiled_gradient, eager_gradient in zip(compiled_gradients, eager_gradients, strict=True):
        torch.testing.assert_close(compiled_gradient, eager_gradient, **FLOAT32)


def test_a_foreign_function_is_right_when_eager_and_refused_when_compiled() -> None:
    native, foreign = SmoothCritic(lambda x: x**3), SmoothCritic(CubeFunction.apply)
    foreign.load_state_dict(native.state_dict())
    real, fake = images()
    arguments = real, fake, torch.rand(4)
    _, expected = value_and_weight_gradients(native, lambda: whole_loss(native, *arguments))
    _, gradients = value_and_weight_gradients(foreign, lambda: whole_loss(foreign, *arguments))
    for gradient, expectation in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, expectation, **FLOAT32)
    torch._dynamo.reset()
    # The second is what PyTorch 2.11 says itself, before the graph can be looked at.
    with pytest.raises(RuntimeError, match=r"autograd_function_apply.*without a word|AutogradFunction.*setup_context"):
        torch.compile(whole_loss, backend="aot_eager", fullgraph=True)(foreign, *arguments)


def test_a_foreign_function_outside_the_penalty_does_not_stop_the_compilation() -> None:
    critic = SmoothCritic()
    real, _ = images()

    def loss(x: Tensor) -> Tensor:
        return CubeFunction.apply(critic.head.weight).mean() + losses.r1_penalty(critic, x)

    torch._dynamo.reset()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)(real)
    torch.testing.assert_close(compiled, loss(real), **FLOAT32)


@pytest.mark.parametrize("has_matrix_tiles", [False, True])
def test_a_traced_penalty_leaves_low_precision_on_cpus_that_get_it_wrong(
    monkeypatch: pytest.MonkeyPatch, has_matrix_tiles: bool
) -> None:
    monkeypatch.setattr(penalties, "_CPU_HAS_MATRIX_TILES", has_matrix_tiles)
    critic = SmoothCritic()
    real, _ = images()

    def penalty(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return losses.r1_penalty(critic, x)

    torch._dynamo.reset()
    value = torch.compile(penalty, backend="aot_eager", fullgraph=True)(real)
    expected = losses.r1_penalty(critic, real) if has_matrix_tiles else penalty(real)
    other = penalty(real) if has_matrix_tiles else losses.r1_penalty(critic, real)
    assert (value - expected).abs() < (value - other).abs()
