"""The classic recipes, number by number, and the batches that their schedules give."""

import collections
import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganblocks import losses
from ganblocks.training import Phase, StepContext, gan_recipes
from ganblocks.training.adversarial_step import AdversarialStep
from ganblocks.training.gan_recipes import GANRecipe
from ganblocks.training.schedule import Schedule
from tolerances import for_dtype


def batches(schedule: Schedule, count: int | None = None) -> list[int]:
    """Sizes of the first batches, or of all."""
    sizes, seen = [], 0
    while seen < schedule.total_images and (count is None or len(sizes) < count):
        sizes.append(schedule.phase(seen).batch_size)
        seen += sizes[-1]
    return sizes


def step(recipe: GANRecipe, **options: Any) -> AdversarialStep:
    torch.manual_seed(0)
    generator, critic = nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
    return recipe.build_step(generator, critic, latent_dim=3, **options)


def test_an_epoch_of_mnist_is_469_batches_the_last_of_96() -> None:
    schedule = gan_recipes.dcgan_document().schedule(60_000)
    assert collections.Counter(batches(schedule)) == {128: 50 * 468, 96: 50}
    assert batches(schedule, 469)[-1] == 96
    assert set(batches(gan_recipes.radford2016().schedule(60_000), 1000)) == {128}
    assert collections.Counter(batches(gan_recipes.dcgan_tutorial().schedule(60_000), 235)) == {256: 234, 96: 1}


@pytest.mark.parametrize(("images", "first"), [(155, [128, 27, 128, 27]), (98, [98, 98, 98, 98])])
def test_the_scans_make_8000_batches_of_what_there_is(images: int, first: list[int]) -> None:
    schedule = gan_recipes.wgan_gp_document().schedule(images)
    assert batches(schedule, 4) == first
    assert len(batches(schedule)) == 8000
    assert len(batches(gan_recipes.wgan_gp_document(generator_steps=7).schedule(155))) == 7


def test_generator_steps_count_every_fresh_batch_of_the_critic() -> None:
    recipe = gan_recipes.gulrajani2017(generator_steps=500, batch_size=8)
    assert recipe.schedule(155).total_images == 500 * 5 * 8
    assert recipe.replace(reuse_real_batch=True).schedule(155).total_images == 500 * 8


@pytest.mark.parametrize("images", [1, 2, 7, 8, 9, 16, 17, 18])
@pytest.mark.parametrize("size", [1, 2, 8])
def test_generator_steps_are_as_many_batches_whatever_the_sizes(images: int, size: int) -> None:
    recipe = gan_recipes.wgan_gp_document(generator_steps=7, batch_size=size)
    assert len(batches(recipe.schedule(images))) == 7
    with pytest.raises(ValueError, match="dataset_images"):
        recipe.schedule(0)


@pytest.mark.parametrize(
    ("recipe", "rate", "betas", "eps"),
    [
        (gan_recipes.radford2016(), 2e-4, (0.5, 0.999), 1e-8),
        (gan_recipes.dcgan_document(), 2e-4, (0.5, 0.999), 1e-8),
        (gan_recipes.dcgan_tutorial(), 1e-4, (0.9, 0.999), 1e-7),
        (gan_recipes.gulrajani2017(), 1e-4, (0.0, 0.9), 1e-8),
        (gan_recipes.wgan_gp_document(), 2e-4, (0.5, 0.9), 1e-7),
    ],
)
def test_adam_of_both_networks(recipe: GANRecipe, rate: float, betas: tuple[float, float], eps: float) -> None:
    built = step(recipe)
    for optimizer in (built.generator_optimizer, built.discriminator_optimizer):
        (group,) = optimizer.param_groups
        assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (rate, betas, eps, 0)
    assert recipe.schedule(1000).phase(0).learning_rate == rate


def test_the_games() -> None:
    assert step(gan_recipes.radford2016()).loss is losses.non_saturating
    assert step(gan_recipes.dcgan_document()).penalty is None
    assert step(gan_recipes.dcgan_document()).reuse_fakes
    wgan = step(gan_recipes.arjovsky2017())
    assert isinstance(wgan.generator_optimizer, torch.optim.RMSprop)
    assert (wgan.loss, wgan.clip_weights, wgan.n_critic, wgan.penalty) == (losses.wasserstein, 0.01, 5, None)
    gp = step(gan_recipes.gulrajani2017())
    assert (gp.loss, gp.penalty_weight, gp.n_critic, gp.reuse_real_batch) == (losses.wasserstein, 10.0, 5, False)
    document = step(gan_recipes.wgan_gp_document())
    assert (document.penalty_weight, document.n_critic, document.reuse_real_batch) == (10.0, 5, True)


@pytest.mark.parametrize(("norm", "expected"), [(1.0, 0.0), (3.0, 4.0)])
@pytest.mark.parametrize("make", [gan_recipes.gulrajani2017, gan_recipes.wgan_gp_document])
def test_a_linear_critic_of_norm_1_is_not_penalised_and_one_of_norm_3_by_4(
    make: Any, norm: float, expected: float
) -> None:
    built = step(make())
    critic: Any = built.discriminator
    with torch.no_grad():
        critic[0].weight.copy_(torch.tensor([[0.6, 0.8, 0.0, 0.0]]) * norm)
    log = built(torch.randn(8, 4), None, StepContext(0, 0, Phase(8, 1e-9)))
    torch.testing.assert_close(log["penalty"], torch.tensor(expected), **for_dtype(torch.float32))
    wasserstein = log["fake_score"] - log["real_score"]
    torch.testing.assert_close(log["discriminator_loss"], wasserstein + 10 * expected, **for_dtype(torch.float32))


@pytest.mark.parametrize(("mixing", "beyond"), [("uniform", False), ("normal", True)])
def test_the_penalty_is_taken_where_the_mixing_says(mixing: Any, beyond: bool) -> None:
    """Reals are 0 and fakes 1, so that an image is its own weight; normal weights centre on the reals."""
    built = step(gan_recipes.gulrajani2017(mixing=mixing))
    seen: list[Tensor] = []

    def critic(images: Tensor) -> Tensor:
        seen.append(images.detach()[:, 0])
        return images.sum(1)

    assert built.penalty is not None
    built.penalty(critic, torch.zeros(4000, 4), torch.ones(4000, 4), torch.Generator().manual_seed(0))
    (weights,) = seen
    assert bool(((weights < 0) | (weights > 1)).any()) == beyond
    assert weights.mean().item() == pytest.approx(0.0 if beyond else 0.5, abs=0.05)


def test_r3gan_is_relativistic_with_the_squared_gradients_at_reals_and_at_fakes() -> None:
    """Of a linear critic both are the squared norm of its weight, whatever the images."""
    recipe = gan_recipes.huang2024()
    assert (recipe.loss, recipe.betas, recipe.penalty_weight, recipe.n_critic) == ("relativistic", (0.0, 0.99), 0.5, 1)
    built = step(recipe)
    layer = built.discriminator[0]
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -2.0, 2.0, 0.0]]))
    log = built(torch.randn(8, 4), None, StepContext(0, 0, Phase(8, 1e-9)))
    torch.testing.assert_close(log["penalty"], torch.tensor(18.0), **for_dtype(torch.float32))
    assert built.ema is not None


def test_dragan_asks_for_norm_one_near_the_reals_and_does_not_look_at_fakes() -> None:
    recipe = gan_recipes.kodali2017()
    assert (recipe.loss, recipe.penalty_weight) == ("non_saturating", 10.0)
    built = step(recipe)
    seen: list[Tensor] = []

    def critic(images: Tensor) -> Tensor:
        seen.append(images.detach())
        return 3 * images.sum(1)

    assert built.penalty is not None
    reals = torch.randn(16, 4)
    found = built.penalty(critic, reals, torch.full((16, 4), torch.nan), torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, torch.tensor(25.0), **for_dtype(torch.float32))  # (3 * sqrt(4) - 1)^2
    moved = seen[0] - reals
    assert moved.min() >= 0
    assert moved.max() <= 0.5 * reals.std(unbiased=False) + 1e-6


def test_an_average_and_further_options_reach_the_step() -> None:
    built = step(gan_recipes.radford2016(ema_decay=0.99), log_probabilities=True)
    assert built.ema is not None
    assert "real_probability" in built(torch.randn(8, 4), None, StepContext(0, 0, Phase(8, 1e-3)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("generator_steps", 0),
        ("batch_size", 0),
        ("optimizer", "sgd"),
        ("loss", "bce"),
        ("mixing", "0"),
        ("penalty", "r1"),
    ],
)
def test_bad_values_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        GANRecipe(**{name: value})
    assert GANRecipe(**dataclasses.asdict(gan_recipes.wgan_gp_document())) == gan_recipes.wgan_gp_document()
