"""What the recipe of InfoGAN says, and that it reaches schedule, optimizers and step."""

import pytest
import torch

from ganblocks import losses
from ganblocks.models.infogan import Discriminator, Generator, InfoGANConfig
from ganblocks.training import ConstantSchedule, Precision
from ganblocks.training.information_recipes import InfoGANRecipe, chen2016
from ganblocks.training.information_step import InformationStep
from tolerances import for_dtype

CONFIG = InfoGANConfig(8, 1, 3, 4, 2, base_channels=2, dense_width=6, code_width=5)


def build(recipe: InfoGANRecipe, **options: object) -> InformationStep:
    sizes = {"noise_dim": CONFIG.noise_dim, "categories": CONFIG.categories, "continuous": CONFIG.continuous}
    return recipe.build_step(Generator(CONFIG), Discriminator(CONFIG), **sizes, **options)


def test_the_paper_s_two_rates_moments_and_weights() -> None:
    recipe = chen2016()
    assert recipe.schedule(60_000) == ConstantSchedule(3_000_000, 128, 2e-4)
    step = build(recipe)
    assert (step.category_weight, step.continuous_weight, step.categories, step.continuous) == (1.0, 0.1, 4, 2)
    assert step.loss == losses.non_saturating
    assert (step.penalty, step.ema, step.n_critic) == (None, None, 1)
    rates = []
    for optimizer in (step.generator_optimizer, step.discriminator_optimizer):
        assert isinstance(optimizer, torch.optim.Adam)
        (group,) = optimizer.param_groups
        assert (group["betas"], group["eps"]) == ((0.5, 0.999), 1e-8)
        rates.append(2e-4 * group["lr_factor"])
    assert rates == pytest.approx([1e-3, 2e-4], rel=for_dtype(torch.float64)["rtol"])
    latents = step.sampler(5, torch.Generator().manual_seed(0))
    assert latents.shape == (5, CONFIG.latent_dim)


def test_overrides_reach_the_step() -> None:
    recipe = chen2016(category_weight=2.0, continuous_weight=0.5, ema_decay=0.9, generator_learning_rate=4e-4, epochs=3)
    step = build(recipe, precision=Precision("bf16", torch.device("cpu")), log_probabilities=True)
    assert (step.category_weight, step.continuous_weight, step.log_probabilities) == (2.0, 0.5, True)
    assert step.generator_optimizer.param_groups[0]["lr_factor"] == 2.0
    assert step.precision.name == "bf16"
    assert step.ema is not None
    assert step.ema.decay == 0.9
    assert recipe.replace(epochs=2).schedule(10).total_images == 20


@pytest.mark.parametrize(
    "fields", [{"epochs": 0}, {"batch_size": 1}, {"learning_rate": 0.0}, {"generator_learning_rate": -1.0}]
)
def test_what_cannot_be_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(fields))}` is"):
        InfoGANRecipe(**fields)  # type: ignore[arg-type]
