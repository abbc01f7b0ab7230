"""What codes add to a step: a term of both losses by hand, gradients that arrive, codes that belong to their images."""

import copy
import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from ganblocks import losses
from ganblocks.models.infogan import Discriminator, Generator, InfoGANConfig
from ganblocks.training import AdaptiveAugmentation, AdversarialStep, Phase, Precision, StepContext
from ganblocks.training.information_recipes import chen2016
from ganblocks.training.information_step import InformationStep, code_sampler
from tolerances import for_dtype, named

FLOAT64 = for_dtype(torch.float64)
NOISE, K, C = 2, 3, 2
CONFIG = InfoGANConfig(8, 1, NOISE, K, C, base_channels=2, dense_width=6, code_width=5)
SILENT = dataclasses.replace(
    losses.wasserstein,
    discriminator_formula=lambda real, fake: 0 * (real.sum() + fake.sum()),
    generator_formula=lambda real, fake: 0 * fake.sum(),
)


def context(images_seen: int = 0, learning_rate: float = 0.1) -> StepContext:
    return StepContext(0, images_seen, Phase(6, learning_rate))


class PlainGenerator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(NOISE + K + C, 4).double()
        self.seen: list[Tensor] = []

    def forward(self, latents: Tensor) -> Tensor:
        self.seen.append(latents)
        return self.linear(latents)


class PlainDiscriminator(nn.Module):
    """A score, and guesses from layers of their own; scores and guesses are linear in the image."""

    def __init__(self) -> None:
        super().__init__()
        self.score, self.q = nn.Linear(4, 1).double(), nn.Linear(4, K + 2 * C).double()

    def forward(self, images: Tensor) -> Tensor:
        return self.score(images)[:, 0]

    def score_and_codes(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return (self(images), *self.q(images).split_with_sizes([K, C, C], dim=1))


def sampler(count: int, rng: torch.Generator) -> Tensor:
    return code_sampler(NOISE, K, C)(count, rng).double()


def plain_step(kind: type[AdversarialStep] = InformationStep, **options: object) -> AdversarialStep:
    torch.manual_seed(0)
    generator, discriminator = PlainGenerator(), PlainDiscriminator()
    codes = {"categories": K, "continuous": C} if kind is InformationStep else {}
    return kind(
        generator,
        discriminator,
        generator_optimizer=torch.optim.SGD(generator.parameters(), lr=1.0),
        discriminator_optimizer=torch.optim.SGD(discriminator.parameters(), lr=1.0),
        **{"sampler": sampler, "loss": losses.wasserstein, "penalty": None, **codes, **options},
    )


def infogan_step(**options: object) -> InformationStep:
    torch.manual_seed(0)
    generator, discriminator = Generator(CONFIG), Discriminator(CONFIG)
    return chen2016(ema_decay=0.9).build_step(
        generator, discriminator, noise_dim=NOISE, categories=K, continuous=C, **options
    )


def reals(count: int = 6) -> Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def parameters_of(module: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


# --- the arithmetic ---


def information_by_hand(guesses: Tensor, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both bounds of equation 5, and the gradient of (category bound + 0.1 continuous bound) by the guesses."""
    logits, mean, log_var = guesses[:, :K], guesses[:, K : K + C], guesses[:, K + C :]
    one_hot, codes = latents[:, NOISE : NOISE + K], latents[:, NOISE + K :]
    shares = logits.exp() / logits.exp().sum(1, keepdim=True)
    category = (one_hot * shares.log()).sum(1).mean() + math.log(K)
    squares = (codes - mean) ** 2 * torch.exp(-log_var)
    density = -(math.log(2 * math.pi) + log_var + squares) / 2
    continuous = density.sum(1).mean() + C * math.log(2)
    by_mean, by_log_var = 0.1 * (codes - mean) * torch.exp(-log_var), 0.1 * (squares - 1) / 2
    return category, continuous, torch.cat([one_hot - shares, by_mean, by_log_var], dim=1) / len(latents)


def test_a_step_written_out() -> None:
    """One SGD step: critic and Q on detached fakes; then the generator against the new critic and the new Q."""
    step, now, real = plain_step(), context(), reals()
    W, b = (parameter.detach().clone() for parameter in step.generator.linear.parameters())
    w, c, V, d = (parameter.detach().clone() for parameter in step.discriminator.parameters())
    z, z2 = (sampler(6, now.generator(purpose)) for purpose in ("latents", "generator_latents"))
    fake = z @ W.T + b
    category, continuous, by_guess = information_by_hand(fake @ V.T + d, z)
    new_w = w - 0.1 * (fake - real).mean(0)
    new_V, new_d = V + 0.1 * by_guess.T @ fake, d + 0.1 * by_guess.sum(0)
    loss = (fake @ w[0]).mean() - (real @ w[0]).mean() - category - 0.1 * continuous
    fake2 = z2 @ W.T + b
    category2, continuous2, by_guess2 = information_by_hand(fake2 @ new_V.T + new_d, z2)
    by_image = -new_w / len(z2) - by_guess2 @ new_V
    new_W, new_b = W - 0.1 * by_image.T @ z2, b - 0.1 * by_image.sum(0)
    log = step(real, None, now)
    for found, expected in (
        (step.discriminator.score.weight, new_w),
        (step.discriminator.q.weight, new_V),
        (step.discriminator.q.bias, new_d),
        (step.generator.linear.weight, new_W),
        (step.generator.linear.bias, new_b),
        (log["discriminator_loss"], loss),
        (log["discriminator_category_loss"], -category),
        (log["discriminator_continuous_loss"], -0.1 * continuous),
        (log["generator_loss"], -(fake2 @ new_w[0]).mean() - c[0] - category2 - 0.1 * continuous2),
        (log["generator_category_loss"], -category2),
        (log["generator_continuous_loss"], -0.1 * continuous2),
        (log["category_information"], category2),
        (log["continuous_information"], continuous2),
    ):
        torch.testing.assert_close(found, expected, **FLOAT64)


def test_without_weights_it_is_a_step_without_codes() -> None:
    with_codes, without = plain_step(category_weight=0.0, continuous_weight=0.0), plain_step(AdversarialStep)
    for index in range(3):
        a, b = (step(reals(), None, context(6 * index)) for step in (with_codes, without))
        torch.testing.assert_close(a["discriminator_loss"], b["discriminator_loss"], **named("exact"))
    assert all(map(torch.equal, parameters_of(with_codes.generator), parameters_of(without.generator)))
    assert torch.equal(with_codes.discriminator.score.weight, without.discriminator.score.weight)


def test_without_continuous_codes_there_is_no_term_of_theirs() -> None:
    class Categories(PlainDiscriminator):
        def score_and_codes(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            scores, logits, mean, log_var = super().score_and_codes(images)
            return scores, logits, mean[:, :0], log_var[:, :0]

    torch.manual_seed(0)
    generator, discriminator = PlainGenerator(), Categories()
    generator.linear = nn.Linear(NOISE + K, 4).double()
    step = InformationStep(
        generator,
        discriminator,
        generator_optimizer=torch.optim.SGD(generator.parameters()),
        discriminator_optimizer=torch.optim.SGD(discriminator.parameters()),
        sampler=lambda count, rng: code_sampler(NOISE, K)(count, rng).double(),
        categories=K,
        penalty=None,
    )
    log = step(reals(), None, context())
    assert "generator_category_loss" in log
    assert not [name for name in log if "continuous" in name]


# --- where gradients go ---


def test_the_term_alone_reaches_the_generator_through_the_images() -> None:
    """No gradient arrives where the images are cut off, or codes and images are not of one graph."""
    step, now = plain_step(loss=SILENT), context()
    step(reals(), None, now)
    gradient = step.generator.linear.weight.grad
    z, fixed = sampler(6, now.generator("generator_latents")), copy.deepcopy(step.discriminator)
    before = plain_step().generator.linear.weight.detach()

    def loss(weight: Tensor) -> Tensor:
        images = z @ weight.T + plain_step().generator.linear.bias.detach()
        category, continuous, _ = information_by_hand(fixed.q(images).detach(), z)
        return -category - 0.1 * continuous

    for row, column in ((0, 0), (1, NOISE), (3, NOISE + K)):
        change = torch.zeros_like(before)
        change[row, column] = 1e-6
        slope = (loss(before + change) - loss(before - change)) / 2e-6
        assert slope.abs() > 1e-4
        torch.testing.assert_close(gradient[row, column], slope, **named("finite_difference"))


def test_q_learns_with_the_discriminator_and_rests_with_the_generator() -> None:
    step = plain_step(loss=SILENT, n_critic=2)
    generator, q = parameters_of(step.generator), parameters_of(step.discriminator.q)
    step(reals(), None, context())
    assert all(map(torch.equal, generator, parameters_of(step.generator)))
    assert not any(map(torch.equal, q, parameters_of(step.discriminator.q)))
    step.discriminator_optimizer = torch.optim.SGD(step.discriminator.parameters(), lr=0.0)
    q, moved = parameters_of(step.discriminator.q), step._prepare
    step._prepare = lambda now: (moved(now), step.discriminator_optimizer.param_groups[0].update(lr=0.0))
    step(reals(), None, context(6))
    assert not any(map(torch.equal, generator, parameters_of(step.generator)))
    assert all(map(torch.equal, q, parameters_of(step.discriminator.q)))
    assert all(parameter.requires_grad for parameter in step.discriminator.parameters())


def test_the_layers_that_q_shares_learn_by_it() -> None:
    step = infogan_step(loss=SILENT)
    before = parameters_of(step.discriminator.trunk)
    step(torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8), None, context())
    assert not any(map(torch.equal, before, parameters_of(step.discriminator.trunk)))


def test_training_makes_codes_readable() -> None:
    step = plain_step(loss=SILENT, continuous_weight=0.0)
    found = [step(reals(), None, context(6 * index, 1.0))["category_information"].item() for index in range(60)]
    assert found[0] < 0.2
    assert 0.7 * math.log(K) < found[-1] < math.log(K)


# --- which codes ---


class Copy(nn.Module):
    """Images that show their latents."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, latents: Tensor) -> Tensor:
        return latents + self.unused


class Read(nn.Module):
    """Reads the code off such an image, and is sure of it."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, images: Tensor) -> Tensor:
        return images.sum(1) + self.unused

    def score_and_codes(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        logits, codes = 100 * images[:, NOISE : NOISE + K], images[:, NOISE + K :]
        return self(images), logits, codes, torch.full_like(codes, math.log(1e-4))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reuse_fakes": True},
        {"n_critic": 2},
        {"n_critic": 3, "reuse_real_batch": True},
        {"n_critic": 2, "reuse_real_batch": True, "reuse_fakes": True},
    ],
)
def test_codes_are_those_of_the_images(options: dict[str, object]) -> None:
    generator, reader = Copy(), Read()
    step = InformationStep(
        generator,
        reader,
        generator_optimizer=torch.optim.SGD(generator.parameters(), lr=0.0),
        discriminator_optimizer=torch.optim.SGD(reader.parameters(), lr=0.0),
        **{"sampler": sampler, "penalty": None, "categories": K, "continuous": C, **options},
    )
    sharpest = -C / 2 * math.log(2 * math.pi * 1e-4) + C * math.log(2)
    real = torch.zeros(6, NOISE + K + C, dtype=torch.float64)
    for index in range(4):
        log = step(real, None, context(6 * index, learning_rate=1e-12))
        assert ("generator_loss" in log) == (options.get("reuse_real_batch", False) or (index + 1) % step.n_critic == 0)
        for side in ("discriminator", "generator") if "generator_loss" in log else ("discriminator",):
            found = torch.stack([log[f"{side}_category_loss"], log[f"{side}_continuous_loss"]])
            expected = torch.tensor([-math.log(K), -0.1 * sharpest], dtype=torch.float64)
            torch.testing.assert_close(found, expected, **named("finite_difference"))
        assert step._codes is None  # nothing is kept between two calls


def test_augmented_fakes_keep_their_codes() -> None:
    augment = AdaptiveAugmentation(("translation",), ramp_images=None, probability=1.0)
    for options in ({}, {"consistency_weight": 1.0}):
        step = infogan_step(augment=augment, **options)
        log = step(torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8), None, context())
        assert {"discriminator_category_loss", "generator_continuous_loss"} <= set(log)
        assert ("discriminator_consistency" in log) == bool(options)
        assert all(value.isfinite() for value in log.values())


def test_latents_without_room_for_codes_are_told() -> None:
    step = plain_step(sampler=lambda count, rng: torch.zeros(count, K + C - 1, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"`latents` is \(6, 4\), but must be \[N, Z\], Z at least 5"):
        step(reals(), None, context())
    step = plain_step(categories=K + 1, continuous=C - 1)
    with pytest.raises(ValueError, match=r"`logits` has shape \(6, 3\) and `codes` has shape \(6, 4\)"):
        step(reals(), None, context())
    assert step._codes is None


# --- the sampler ---


@pytest.mark.parametrize("continuous", [0, 3])
def test_the_sampler_draws_noise_then_one_hot_then_uniform(continuous: int) -> None:
    latents = code_sampler(4, 5, continuous)(4_000, torch.Generator().manual_seed(1))
    assert latents.shape == (4_000, 4 + 5 + continuous)
    assert latents.dtype == torch.float32
    noise, one_hot, codes = latents[:, :4], latents[:, 4:9], latents[:, 9:]
    torch.testing.assert_close(noise.mean(0), torch.zeros(4), **named("random_moments"))
    torch.testing.assert_close(noise.std(0), torch.ones(4), **named("random_moments"))
    assert ((one_hot == 0) | (one_hot == 1)).all()
    assert torch.equal(one_hot.sum(1), torch.ones(4_000))
    torch.testing.assert_close(one_hot.mean(0), torch.full((5,), 0.2), **named("random_moments"))
    assert (codes.abs() <= 1).all()
    torch.testing.assert_close(codes.square().mean(0), torch.full((continuous,), 1 / 3), **named("random_moments"))
    assert torch.equal(latents, code_sampler(4, 5, continuous)(4_000, torch.Generator().manual_seed(1)))
    together = torch.cat([noise, codes], dim=1).T.corrcoef() - torch.eye(4 + continuous)
    torch.testing.assert_close(together, torch.zeros_like(together), **named("random_moments"))


def test_numbers_out_of_range_are_named() -> None:
    for arguments, name in (((0, 3), "noise_dim"), ((2, 1), "categories"), ((2, 3, -1), "continuous")):
        with pytest.raises(ValueError, match=f"`{name}`"):
            code_sampler(*arguments)
    for name, value in (
        ("categories", 1),
        ("continuous", -1),
        ("category_weight", -1.0),
        ("continuous_weight", -0.1),
        ("conditional", True),
        ("n_critic", 0),
    ):
        with pytest.raises(ValueError, match=f"`{name}` is"):
            plain_step(**{name: value})


def test_a_discriminator_that_guesses_nothing_is_refused() -> None:
    network = nn.Linear(4, 1)
    optimizers = [torch.optim.SGD(network.parameters()) for _ in range(2)]
    with pytest.raises(TypeError, match="`discriminator` is 'Linear', but must be a network with score_and_codes"):
        InformationStep(
            network,
            network,
            generator_optimizer=optimizers[0],
            discriminator_optimizer=optimizers[1],
            sampler=sampler,
            categories=3,
        )


# --- the run ---


def test_state_round_trip_continues_bit_for_bit() -> None:
    first, second = infogan_step(), infogan_step()
    images = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8)
    for index in range(2):
        first(images, None, context(6 * index, 2e-4))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for index in range(2, 4):
        a, b = (step(images, None, context(6 * index, 2e-4)) for step in (first, second))
        assert all(torch.equal(a[key], b[key]) for key in a)
    a, b = first.state_dict(), second.state_dict()
    for part in ("generator", "discriminator"):
        assert all(torch.equal(a[part][key], b[part][key]) for key in a[part])
    assert all(torch.equal(a["ema"]["module"][key], b["ema"]["module"][key]) for key in a["ema"]["module"])
    assert b["generator_optimizer"]["param_groups"][0]["lr_factor"] == pytest.approx(5)
    assert set(a) == set(plain_step(AdversarialStep).state_dict())


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_low_precision(name: str) -> None:
    step = infogan_step(precision=Precision.resolve(name, "cpu"))
    log = step(torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8), None, context(learning_rate=2e-4))
    assert all(value.isfinite() for value in log.values())
    assert log["category_information"].dtype == torch.float32
    assert all(parameter.dtype == torch.float32 for parameter in step.discriminator.parameters())


def test_a_group_s_factor_multiplies_the_learning_rate_of_the_phase() -> None:
    """Of every adversarial step; the paper's generator learns five times as fast as its discriminator."""
    plain, faster = plain_step(AdversarialStep), plain_step(AdversarialStep)
    (group,) = faster.generator_optimizer.param_groups
    group["lr_factor"] = 5.0
    before = plain.generator.linear.weight.detach().clone()
    for index, rate in enumerate((0.25, 0.125)):
        faster(reals(), None, context(6 * index, rate))
        assert group["lr"] == 5 * rate
        assert faster.discriminator_optimizer.param_groups[0]["lr"] == rate
        if index == 0:
            plain(reals(), None, context(0, rate))
            moved, moved_faster = (step.generator.linear.weight - before for step in (plain, faster))
            torch.testing.assert_close(moved_faster, 5 * moved, **FLOAT64)
            assert torch.equal(plain.discriminator.score.weight, faster.discriminator.score.weight)
