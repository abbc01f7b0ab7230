"""The science of one batch: what is trained on what, with which numbers, and what the paper's recipe adds."""

import copy
import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganblocks import losses
from ganblocks.models.progan import Discriminator, Generator, ProGANConfig
from ganblocks.training import AdversarialStep, Phase, Precision, ProgressiveStep, StepContext, latent_sampler, recipes
from ganblocks.training.randomness import derived_seed
from tolerances import for_dtype, named


def context(images_seen: int = 0, **phase: object) -> StepContext:
    return StepContext(0, images_seen, dataclasses.replace(Phase(8, 1e-3), **phase))


class Plain(nn.Module):
    """Vectors to vectors or scores; enough of a network to check arithmetic by hand."""

    def __init__(self, score: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 1 if score else 4).double()
        self.score = score
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        y = self.linear(x)
        return y[:, 0] if self.score else y


def plain_step(**options: object) -> AdversarialStep:
    torch.manual_seed(0)
    generator, critic = Plain(score=False), Plain(score=True)
    return AdversarialStep(
        generator,
        critic,
        generator_optimizer=torch.optim.SGD(generator.parameters(), lr=1.0),
        discriminator_optimizer=torch.optim.SGD(critic.parameters(), lr=1.0),
        sampler=lambda count, rng: torch.randn(count, 4, generator=rng, dtype=torch.float64),
        **{"penalty": None, **options},
    )


def progan_step(recipe: recipes.ProGANRecipe | None = None, *, num_classes: int = 0, **options: object):
    torch.manual_seed(0)
    config = ProGANConfig.karras2018(16, latent_dim=6, max_channels=8, num_classes=num_classes)
    recipe = recipe or recipes.karras2018()
    return recipe.build_step(Generator(config), Discriminator(config), latent_dim=6, **options)


def test_wasserstein_step_written_out() -> None:
    """One SGD step: critic first, on reals and detached fakes; then the generator against the new critic."""
    step = plain_step(drift_weight=0.5)
    W, b = step.generator.linear.weight.detach().clone(), step.generator.linear.bias.detach().clone()
    w, c = step.discriminator.linear.weight.detach()[0].clone(), step.discriminator.linear.bias.detach()[0].clone()
    real = torch.randn(8, 4, dtype=torch.float64)
    now = context(learning_rate=0.1)
    z = torch.randn(8, 4, generator=now.generator("latents"), dtype=torch.float64)
    z2 = torch.randn(8, 4, generator=now.generator("generator_latents"), dtype=torch.float64)
    fake, scores = z @ W.T + b, real @ w + c
    w_gradient = (fake - real).mean(0) + 0.5 * (2 * scores[:, None] * real).mean(0)
    new_w = w - 0.1 * w_gradient
    new_W = W + 0.1 * torch.outer(new_w, z2.mean(0))
    log = step(real, None, now)
    tolerance = for_dtype(torch.float64)
    torch.testing.assert_close(step.discriminator.linear.weight[0], new_w, **tolerance)
    torch.testing.assert_close(step.generator.linear.weight, new_W, **tolerance)
    expected = (fake @ w + c).mean() - scores.mean() + 0.5 * scores.square().mean()
    torch.testing.assert_close(log["discriminator_loss"], expected, **tolerance)


def test_drift_acts_on_reals_only() -> None:
    """With the losses off, the critic's step depends on the reals alone."""
    silent = dataclasses.replace(losses.wasserstein, discriminator_formula=lambda real, fake: (real - real).sum())
    moved = []
    for shift in (0.0, 100.0):
        step = plain_step(loss=silent, drift_weight=1e-3)
        with torch.no_grad():
            step.generator.linear.bias.add_(shift)
        step(torch.ones(8, 4, dtype=torch.float64), None, context())
        moved.append(step.discriminator.linear.weight.detach().clone())
    assert torch.equal(*moved)


def test_penalty_joins_the_loss_with_lambda_10() -> None:
    """A linear critic has the penalty (|w| - 1)^2, on top of the same step without it."""
    with_penalty, without = plain_step(penalty=losses_penalty), plain_step()
    w = with_penalty.discriminator.linear.weight.detach()[0].clone()
    real = torch.randn(8, 4, dtype=torch.float64)
    a, b = with_penalty(real, None, context()), without(real, None, context())
    penalty = (w.norm() - 1) ** 2
    tolerance = for_dtype(torch.float64)
    torch.testing.assert_close(a["penalty"], penalty, **tolerance)
    torch.testing.assert_close(a["discriminator_loss"] - b["discriminator_loss"], 10 * penalty, **tolerance)


def losses_penalty(critic, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
    return losses.gradient_penalty(critic, real, fake, generator=generator)


def test_critic_step_leaves_no_gradient_in_the_generator_and_the_reverse() -> None:
    """The classic fault: the critic's loss propagated into the generator."""
    step = plain_step(n_critic=2)
    before = copy.deepcopy(step.generator.state_dict())
    step(torch.randn(8, 4, dtype=torch.float64), None, context())
    assert all(torch.equal(before[key], value) for key, value in step.generator.state_dict().items())
    assert all(parameter.grad is None for parameter in step.generator.parameters())
    critic = copy.deepcopy(step.discriminator.linear.weight.grad)
    step._train_generator(torch.randn(8, 4).double(), step.generator(torch.randn(8, 4).double()), None, context())
    assert torch.equal(critic, step.discriminator.linear.weight.grad)
    assert all(parameter.requires_grad for parameter in step.discriminator.parameters())


def test_n_critic_updates_for_each_generator_update() -> None:
    step = plain_step(n_critic=3)
    keys = [("generator_loss" in step(torch.randn(8, 4).double(), None, context(i))) for i in range(6)]
    assert keys == [False, False, True, False, False, True]


def test_reused_fakes_save_a_generator_pass_and_fresh_ones_use_other_latents() -> None:
    for reuse, passes in ((True, 1), (False, 2)):
        step = plain_step(reuse_fakes=reuse)
        step(torch.randn(8, 4).double(), None, context())
        assert step.generator.calls == passes
    assert derived_seed(0, 0, "latents") != derived_seed(0, 0, "generator_latents")


def test_relativistic_generator_sees_the_reals() -> None:
    step = plain_step(loss=losses.relativistic)
    log = step(torch.randn(8, 4).double(), None, context())
    assert log["generator_loss"].isfinite()


def test_learning_rate_comes_from_the_phase() -> None:
    step = plain_step()
    step(torch.randn(8, 4).double(), None, context(learning_rate=0.25))
    assert step.generator_optimizer.param_groups[0]["lr"] == 0.25
    assert step.discriminator_optimizer.param_groups[0]["lr"] == 0.25


def test_reals_are_cross_faded_with_alpha() -> None:
    step = progan_step()
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    real = images.float() / 127.5 - 1
    old = F.interpolate(F.avg_pool2d(real, 2), scale_factor=2)
    fading = context(resolution=8, alpha=0.25, fading=True, stage=1)
    torch.testing.assert_close(step._real_images(images, fading), old + 0.25 * (real - old), **for_dtype(torch.float32))
    stable = context(resolution=8, stage=1)
    torch.testing.assert_close(step._real_images(images, stable), real, **for_dtype(torch.float32))
    unblended = progan_step(recipes.karras2018(blend_reals=False))
    torch.testing.assert_close(unblended._real_images(images, fading), real, **for_dtype(torch.float32))


@pytest.mark.parametrize("reset", [True, False])
def test_moments_are_reset_at_both_ends_of_a_fade(reset: bool) -> None:
    step = progan_step(recipes.karras2018(reset_moments=reset))
    images = {r: torch.randint(0, 256, (4, 3, r, r), dtype=torch.uint8) for r in (4, 8)}

    def age() -> float:
        return max(float(state["step"]) for state in step.discriminator_optimizer.state.values())

    phases = [
        (4, {"resolution": 4}),
        (4, {"resolution": 4}),
        (8, {"resolution": 8, "alpha": 0.1, "fading": True, "stage": 1}),
        (8, {"resolution": 8, "alpha": 0.6, "fading": True, "stage": 1}),
        (8, {"resolution": 8, "stage": 1}),
    ]
    ages = []
    for index, (resolution, phase) in enumerate(phases):
        step(images[resolution], None, context(4 * index, **phase))
        ages.append(age())
    assert ages == ([1, 2, 1, 2, 1] if reset else [1, 2, 3, 4, 5])


def test_average_is_kept_across_growth() -> None:
    step = progan_step()
    for index in range(3):
        step(torch.randint(0, 256, (4, 3, 4, 4), dtype=torch.uint8), None, context(4 * index, resolution=4))
    grown = context(12, resolution=8, alpha=0.5, fading=True, stage=1)
    step(torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8), None, grown)
    assert step.ema is not None
    assert step.ema.updates == 4
    average, trained = step.ema.module.state_dict(), step.generator.state_dict()
    untouched = "blocks.16.conv1.weight"
    assert torch.equal(average[untouched], trained[untouched])
    assert not torch.equal(average["initial.conv.weight"], trained["initial.conv.weight"])


def test_one_pass_over_reals_and_fakes_equals_two() -> None:
    """Minibatch statistics do not cross from reals to fakes."""
    one, two = progan_step(), progan_step()
    two._one_pass = False
    images = torch.randint(0, 256, (8, 3, 8, 8), dtype=torch.uint8)
    phase = context(resolution=8, alpha=0.5, fading=True, stage=1)
    a, b = one(images, None, phase), two(images, None, phase)
    for key in a:
        torch.testing.assert_close(a[key], b[key], **named("two routes in float32"))
    for x, y in zip(one.discriminator.parameters(), two.discriminator.parameters(), strict=True):
        torch.testing.assert_close(x, y, **named("two routes in float32"))


def test_labels_train_the_class_head() -> None:
    step = progan_step(num_classes=3, conditional=True)
    log = step(torch.randint(0, 256, (6, 3, 4, 4), dtype=torch.uint8), torch.arange(6) % 3, context(resolution=4))
    assert {"discriminator_class_loss", "generator_class_loss"} <= set(log)
    rows = step.discriminator.final.output.weight.grad[1:]
    assert (rows.abs().sum(1) > 0).all()


def test_state_round_trip_continues_bit_for_bit() -> None:
    first, second = progan_step(), progan_step()
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)

    def phase(index: int) -> StepContext:
        return context(4 * index, resolution=16, alpha=0.1 * index, fading=True, stage=2)

    for index in range(2):
        first(images, None, phase(index))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for index in range(2, 4):
        first(images, None, phase(index))
        second(images, None, phase(index))
    a, b = first.state_dict(), second.state_dict()
    for part in ("generator", "discriminator"):
        assert all(torch.equal(a[part][key], b[part][key]) for key in a[part])
    assert a["ema"]["updates"] == b["ema"]["updates"] == 4
    assert all(torch.equal(a["ema"]["module"][k], b["ema"]["module"][k]) for k in a["ema"]["module"])


def test_a_state_without_average_is_refused_by_a_step_with_one() -> None:
    state = progan_step(recipes.karras2018(ema_decay=None)).state_dict()
    with pytest.raises(ValueError, match="`ema`"):
        progan_step().load_state_dict(state)


def test_memory_format_change_keeps_optimizer_and_weights_aligned() -> None:
    """Crossing 8 to 16 px re-orders weights and moments: the next update must equal one without the change."""
    steps = [progan_step(recipes.karras2018(reset_moments=False)) for _ in range(2)]
    steps[1].precision = PlainOrder("fp32", torch.device("cpu"))
    for resolution, stage in ((8, 1), (16, 2)):
        for index in range(2):
            images = torch.randint(0, 256, (4, 3, resolution, resolution), dtype=torch.uint8)
            for step in steps:
                step(images, None, context(index, resolution=resolution, stage=stage))
    for x, y in zip(steps[0].generator.parameters(), steps[1].generator.parameters(), strict=True):
        torch.testing.assert_close(x, y, **named("two routes in float32"))


class PlainOrder(Precision):
    def memory_format(self, resolution: int | None) -> torch.memory_format:
        return torch.contiguous_format


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_low_precision_keeps_weights_and_averages_in_float32(name: str) -> None:
    step = progan_step(precision=Precision.resolve(name, "cpu"))
    log = step(torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8), None, context(resolution=8, stage=1))
    assert all(value.isfinite() for value in log.values())
    assert all(parameter.dtype == torch.float32 for parameter in step.generator.parameters())
    assert step.generator_scaler.is_enabled() == (name == "fp16")


def test_latent_samplers() -> None:
    rng = torch.Generator().manual_seed(0)
    assert latent_sampler(5)(3, rng).shape == (3, 5)
    truncated = latent_sampler(5, "truncnorm", truncation=0.7)(1000, rng)
    assert truncated.abs().max() <= 0.7
    assert truncated.abs().max() > 0.69
    with pytest.raises(ValueError, match="`kind`"):
        latent_sampler(5, "uniform")


def test_numbers_out_of_range_are_named() -> None:
    for name in ("n_critic", "penalty_weight", "drift_weight"):
        with pytest.raises(ValueError, match=f"`{name}`"):
            plain_step(**{name: -1})


def test_growing_networks_of_the_user_s_own() -> None:
    """Anything called (latents, labels, resolution=, alpha=) and (images, labels, alpha=) can be trained."""

    class MyGenerator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(4, 3)

        def forward(self, latents: Tensor, labels: Tensor | None, *, resolution: int, alpha: float) -> Tensor:
            return alpha * self.dense(latents)[:, :, None, None].expand(-1, -1, resolution, resolution)

    class MyCritic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(3, 1)

        def forward(self, images: Tensor, labels: Tensor | None, *, alpha: float) -> Tensor:
            return self.dense(images.square().mean((2, 3)))[:, 0]

    generator, critic = MyGenerator(), MyCritic()
    step = ProgressiveStep(
        generator,
        critic,
        generator_optimizer=torch.optim.Adam(generator.parameters()),
        discriminator_optimizer=torch.optim.Adam(critic.parameters()),
        sampler=latent_sampler(4),
    )
    log = step(torch.randn(4, 3, 8, 8), None, context(resolution=8, alpha=0.5, fading=True, stage=1))
    assert all(value.isfinite() for value in log.values())
