"""The science of one batch: what is trained on what, with which numbers, and what the paper's recipe adds."""

import copy
import dataclasses

import pytest
import torch
from torch import Tensor, nn

from ganblocks import losses
from ganblocks.errors import NonFiniteError
from ganblocks.losses.regularization import LeCam
from ganblocks.models.progan import Discriminator, Generator, ProGANConfig
from ganblocks.training import (
    AdaptiveAugmentation,
    AdversarialStep,
    Phase,
    Precision,
    StepContext,
    latent_sampler,
    recipes,
)
from ganblocks.training.micro_batches import Part
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
    part = Part(torch.randn(8, 4).double(), None, context())
    step._train_generator([part], step.generator(torch.randn(8, 4).double()), context())
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


def test_numbers_out_of_range_are_named() -> None:
    for name in ("n_critic", "penalty_weight", "drift_weight", "consistency_weight", "regularizer_weight"):
        with pytest.raises(ValueError, match=f"`{name}`"):
            plain_step(**{name: -1})


def everything(step: AdversarialStep) -> list[Tensor]:
    tensors: list[Tensor] = []

    def collect(value: object) -> None:
        if isinstance(value, Tensor):
            tensors.append(value.detach().clone())
        elif isinstance(value, dict):
            for item in value.values():
                collect(item)

    collect({key: value for key, value in step.state_dict().items() if key != "ema"})
    return tensors


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("where", ["discriminator", "generator", "penalty"])
def test_a_value_that_is_no_number_is_never_applied(where: str, bad: float) -> None:
    """F20: whatever produces it, the network concerned stays as it was, and asking for the verdict raises."""
    step = progan_step()
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    step(images, None, context(resolution=8, stage=1))
    loss, penalty = step.loss, step.penalty

    class Poisoned:
        generator_needs_real = loss.generator_needs_real

        def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
            return loss.discriminator_loss(real_logits, fake_logits) * (bad if where == "discriminator" else 1)

        def generator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
            return loss.generator_loss(real_logits, fake_logits) * (bad if where == "generator" else 1)

    step.loss = Poisoned()
    step.penalty = lambda *arguments: penalty(*arguments) * (bad if where == "penalty" else 1)
    network = step.generator if where == "generator" else step.discriminator
    other = step.discriminator if where == "generator" else step.generator
    before, other_before = (
        [parameter.detach().clone() for parameter in module.parameters()] for module in (network, other)
    )
    step(images, None, context(4, resolution=8, stage=1))
    assert all(map(torch.equal, before, network.parameters()))
    assert not all(map(torch.equal, other_before, other.parameters()))
    assert all(tensor.isfinite().all() for tensor in everything(step))
    with pytest.raises(NonFiniteError, match=f"of the {'generator' if where == 'generator' else 'disc'}.* at step 2"):
        step.skipped_updates()


def test_updates_left_out_are_tolerated_up_to_the_number_given() -> None:
    step = plain_step(max_skipped_updates=1)
    step(torch.full((8, 4), torch.nan).double(), None, context())
    assert step.skipped_updates() == 1  # the critic's; the generator never sees the reals
    assert step.state_dict()["guard"]["last"] == {"discriminator": 1, "generator": 0}


def test_one_real_batch_for_all_critic_updates_written_out() -> None:
    """Three critic steps on the same reals with new latents each, then one generator step, in a single call."""
    step = plain_step(n_critic=3, reuse_real_batch=True)
    W, b = (parameter.detach().clone() for parameter in step.generator.linear.parameters())
    w = step.discriminator.linear.weight.detach()[0].clone()
    real = torch.randn(8, 4, dtype=torch.float64)
    now = context(learning_rate=0.1)
    for purpose in ("latents", "latents-1", "latents-2"):
        z = torch.randn(8, 4, generator=now.generator(purpose), dtype=torch.float64)
        fake = z @ W.T + b
        w_before, w = w, w - 0.1 * (fake - real).mean(0)
    z = torch.randn(8, 4, generator=now.generator("generator_latents"), dtype=torch.float64)
    log = step(real, None, now)
    tolerance = for_dtype(torch.float64)
    torch.testing.assert_close(step.discriminator.linear.weight[0], w, **tolerance)
    torch.testing.assert_close(step.generator.linear.weight, W + 0.1 * torch.outer(w, z.mean(0)), **tolerance)
    c = step.discriminator.linear.bias
    gap = ((fake - real) @ w_before).mean().float()
    torch.testing.assert_close(log["fake_score"] - log["real_score"], gap, **for_dtype(torch.float32))
    torch.testing.assert_close(log["generator_loss"], -((z @ W.T + b) @ w + c).mean().detach(), **tolerance)


@pytest.mark.parametrize(("reuse", "critic_updates", "generator_updates"), [(False, 7, 2), (True, 21, 7)])
def test_how_often_each_network_is_updated(reuse: bool, critic_updates: int, generator_updates: int) -> None:
    step = plain_step(n_critic=3, reuse_real_batch=reuse)
    counts = {"critic": 0, "generator": 0}
    for name, optimizer in (("critic", step.discriminator_optimizer), ("generator", step.generator_optimizer)):

        def count(*_: object, name: str = name) -> None:
            counts[name] += 1

        optimizer.register_step_post_hook(count)
    for call in range(7):
        log = step(torch.randn(4, 4, dtype=torch.float64), None, context(images_seen=4 * call))
        assert ("generator_loss" in log) == (reuse or call % 3 == 2)
    assert counts == {"critic": critic_updates, "generator": generator_updates}


def test_each_critic_update_has_mixing_weights_of_its_own() -> None:
    drawn: list[Tensor] = []

    def penalty(critic: object, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
        drawn.append(torch.rand(3, generator=generator))
        return real.new_zeros(())

    plain_step(n_critic=3, reuse_real_batch=True, penalty=penalty)(torch.ones(4, 4).double(), None, context())
    assert len(drawn) == 3
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2])


def test_clipped_weights_stay_in_the_box_and_the_generator_is_free() -> None:
    step = plain_step(clip_weights=0.01)
    before = step.generator.linear.weight.detach().clone()
    assert before.abs().max() > 0.01
    step(torch.randn(8, 4, dtype=torch.float64), None, context())
    assert all(parameter.abs().max() <= 0.01 for parameter in step.discriminator.parameters())
    assert step.discriminator.linear.weight.abs().max() == 0.01
    assert step.generator.linear.weight.abs().max() > 0.01
    with pytest.raises(ValueError, match="clip_weights"):
        plain_step(clip_weights=0.0)


def test_probabilities_before_and_after_the_critics_update() -> None:
    """D(x), D(G(z)) as the critic saw them, and D(G(z)) of the new critic; means of sigmoids, not sigmoids of means."""
    step = plain_step(loss=losses.non_saturating, log_probabilities=True, reuse_fakes=True)
    (W, b), (w, c) = (
        [p.detach().clone() for p in net.linear.parameters()] for net in (step.generator, step.discriminator)
    )
    real = 3 * torch.randn(8, 4, dtype=torch.float64)
    now = context(learning_rate=0.5)
    fake = torch.randn(8, 4, generator=now.generator("latents"), dtype=torch.float64) @ W.T + b
    log = step(real, None, now)
    tolerance = for_dtype(torch.float32)
    for key, images, weight, bias in (
        ("real_probability", real, w, c),
        ("fake_probability", fake, w, c),
        ("fake_probability_after", fake, *(p.detach() for p in step.discriminator.linear.parameters())),
    ):
        expected = (images @ weight[0] + bias).sigmoid().mean().float()
        torch.testing.assert_close(log[key], expected, **tolerance)
    assert log["fake_probability"] != log["fake_probability_after"]


def test_gradient_norms_are_those_of_all_gradients_together() -> None:
    """The critic's gradient is (mean fake - mean real, 0), the generator's -(w outer mean z, w)."""
    step = plain_step(log_gradient_norms=True)
    W, b = (parameter.detach().clone() for parameter in step.generator.linear.parameters())
    real, now = torch.randn(8, 4, dtype=torch.float64), context(learning_rate=0.1)
    fake = torch.randn(8, 4, generator=now.generator("latents"), dtype=torch.float64) @ W.T + b
    log = step(real, None, now)
    tolerance = for_dtype(torch.float32)
    expected = (fake - real).mean(0).norm().float()
    torch.testing.assert_close(log["discriminator_gradient_norm"], expected, **tolerance)
    z = torch.randn(8, 4, generator=now.generator("generator_latents"), dtype=torch.float64).mean(0)
    w = step.discriminator.linear.weight.detach()[0]
    expected = (w.norm() * (1 + z.square().sum()).sqrt()).float()
    torch.testing.assert_close(log["generator_gradient_norm"], expected, **tolerance)


def test_a_float16_scaler_that_looks_for_its_scale_logs_no_infinite_norm() -> None:
    torch.manual_seed(0)
    generator, critic = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
    step = AdversarialStep(
        generator,
        critic,
        generator_optimizer=torch.optim.Adam(generator.parameters(), lr=1e-3, fused=True),
        discriminator_optimizer=torch.optim.Adam(critic.parameters(), lr=1e-3, fused=True),
        sampler=latent_sampler(4),
        penalty=None,
        precision=Precision("fp16", torch.device("cpu")),
        log_gradient_norms=True,
    )
    logs = [step(1000 * torch.randn(8, 4), None, context(images_seen=8 * call)) for call in range(12)]
    norms = torch.stack([log["discriminator_gradient_norm"] for log in logs])
    assert norms.isfinite().all()
    assert norms[0] == 0  # gradients of thousands times 65,536 are beyond float16
    assert norms[-1] > 0


def normalised_step(**options: object) -> AdversarialStep:
    """Networks with statistics of their own, and with dropout."""
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 4))
    critic = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 1), nn.Flatten(0))
    return AdversarialStep(
        generator,
        critic,
        generator_optimizer=torch.optim.Adam(generator.parameters(), lr=1e-3, fused=True),
        discriminator_optimizer=torch.optim.Adam(critic.parameters(), lr=1e-3, fused=True),
        sampler=latent_sampler(4),
        loss=losses.non_saturating,
        **{"penalty": None, **options},
    )


def test_a_batch_that_is_no_numbers_changes_neither_weights_nor_statistics() -> None:
    step = normalised_step(max_skipped_updates=2)
    step(torch.randn(8, 4), None, context())
    before = copy.deepcopy(step.discriminator.state_dict())
    step(torch.full((8, 4), torch.nan), None, context(images_seen=8))
    assert step.skipped_updates() == 1
    for name, value in step.discriminator.state_dict().items():
        assert "num_batches" in name or torch.equal(value, before[name]), name
    assert all(value.isfinite().all() for value in step.generator.state_dict().values())


def test_dropout_is_a_function_of_seed_and_images_seen_and_differs_between_passes() -> None:
    logs = []
    for state in (1, 2):
        step = normalised_step(n_critic=2, reuse_real_batch=True)
        torch.manual_seed(state)  # what the rest of the program has drawn
        expected = torch.randn(3)
        torch.manual_seed(state)
        logs.append(step(torch.ones(8, 4), None, context()))
        assert torch.equal(torch.randn(3), expected)  # and it goes on as if nothing had been drawn here
    assert logs[0] == logs[1]
    masks: list[Tensor] = []
    step = normalised_step(n_critic=2, reuse_real_batch=True)
    step.discriminator[2].register_forward_hook(lambda module, given, output: masks.append(output == 0))
    step(torch.randn(8, 4), None, context())
    assert len(masks) == 5  # reals and fakes, twice, and the generator's
    assert all(not torch.equal(a, b) for index, a in enumerate(masks) for b in masks[:index])


class Shift:
    """Adds numbers drawn for each sample; remembers what it was shown."""

    def __init__(self) -> None:
        self.calls = 0
        self.observed: list[Tensor] = []

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        self.calls += 1
        return images + torch.rand(len(images), 1, generator=generator, dtype=images.dtype)

    def observe(self, real_logits: Tensor) -> None:
        self.observed.append(real_logits)

    def state_dict(self) -> dict[str, object]:
        return {"calls": self.calls}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.calls = state["calls"]


def shifted(images: Tensor, purpose: str) -> Tensor:
    return images + torch.rand(len(images), 1, generator=context().generator(purpose), dtype=images.dtype)


def test_both_networks_are_trained_through_the_augmentation() -> None:
    augment = Shift()
    step = plain_step(augment=augment, loss=losses.relativistic, reuse_fakes=True)
    generator, critic = copy.deepcopy(step.generator), copy.deepcopy(step.discriminator)
    images = torch.randn(3, 4, dtype=torch.float64)
    log = step(images, None, context())
    fake = generator(step.sampler(3, context().generator("latents")))
    logits = [critic(shifted(part.detach(), f"augment_{side}")) for part, side in ((images, "real"), (fake, "fake"))]
    loss = losses.relativistic.discriminator_loss(*logits)
    torch.testing.assert_close(log["discriminator_loss"], loss.detach().double(), **for_dtype(torch.float64))
    assert torch.equal(augment.observed[0], logits[0].detach())
    gradients = torch.autograd.grad(loss, list(critic.parameters()))
    for parameter, gradient in zip(critic.parameters(), gradients, strict=True):
        parameter.data -= 1e-3 * gradient
    real_logits, fake_logits = (
        critic(shifted(part, f"augment_{side}-generator")) for part, side in ((images, "real"), (fake, "fake"))
    )
    loss = losses.relativistic.generator_loss(real_logits.detach(), fake_logits)
    torch.testing.assert_close(log["generator_loss"], loss.detach().double(), **for_dtype(torch.float64))
    for parameter, gradient in zip(
        generator.parameters(), torch.autograd.grad(loss, list(generator.parameters())), strict=True
    ):
        parameter.data -= 1e-3 * gradient
    for mine, theirs in zip(step.generator.parameters(), generator.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, **for_dtype(torch.float64))
    assert augment.calls == 4


def test_consistency_compares_scores_with_and_without_the_augmentation() -> None:
    augment = Shift()
    step = plain_step(augment=augment, consistency_weight=10.0)
    generator, critic = copy.deepcopy(step.generator), copy.deepcopy(step.discriminator)
    images = torch.randn(3, 4, dtype=torch.float64)
    log = step(images, None, context())
    fake = generator(step.sampler(3, context().generator("latents")))
    changes = [
        (critic(part) - critic(shifted(part, f"augment_{side}"))).square().mean()
        for part, side in ((images, "real"), (fake, "fake"))
    ]
    expected = 10 * sum(changes)
    torch.testing.assert_close(log["discriminator_consistency"], expected.detach(), **for_dtype(torch.float64))
    wasserstein = critic(fake).mean() - critic(images).mean()
    loss = (wasserstein + expected).detach()
    torch.testing.assert_close(log["discriminator_loss"], loss, **for_dtype(torch.float64))
    assert augment.calls == 2  # the generator's update sees images as they are
    with pytest.raises(ValueError, match="`consistency_weight`"):
        plain_step(consistency_weight=1.0)


def test_a_regularizer_sees_the_scores_and_joins_the_loss() -> None:
    step = plain_step(regularizer=LeCam(), regularizer_weight=0.5)
    critic, generator = copy.deepcopy(step.discriminator), copy.deepcopy(step.generator)
    images = torch.randn(3, 4, dtype=torch.float64)
    log = step(images, None, context())
    real, fake = critic(images), critic(generator(step.sampler(3, context().generator("latents"))))
    anchors = [0.01 * scores.mean() for scores in (real, fake)]
    penalty = (real - anchors[1]).square().mean() + (fake - anchors[0]).square().mean()
    torch.testing.assert_close(log["discriminator_regularizer"], 0.5 * penalty.detach(), **for_dtype(torch.float64))
    torch.testing.assert_close(
        log["discriminator_loss"], (fake.mean() - real.mean() + 0.5 * penalty).detach(), **for_dtype(torch.float64)
    )


def test_augmentation_and_regularizer_continue_bit_for_bit() -> None:
    def build() -> AdversarialStep:
        augment = AdaptiveAugmentation(probability=0.5, ramp_images=64, interval=1)
        return progan_step(augment=augment, regularizer=LeCam(), regularizer_weight=0.1)

    images = torch.randn(4, 3, 16, 16).clamp(-1, 1)
    whole, first, second = build(), build(), build()
    for index in range(4):
        whole(images, None, context(4 * index))
    for index in range(2):
        first(images, None, context(4 * index))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for index in (2, 3):
        second(images, None, context(4 * index))
    for mine, theirs in zip(second.discriminator.parameters(), whole.discriminator.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert whole.augment is not None
    assert second.augment is not None
    assert torch.equal(second.augment.probability, whole.augment.probability)
    assert whole.augment.probability != 0.5
    assert torch.equal(second.regularizer.real_anchor, whole.regularizer.real_anchor)
    with pytest.raises(ValueError, match="`augment`"):
        progan_step().load_state_dict(first.state_dict())
