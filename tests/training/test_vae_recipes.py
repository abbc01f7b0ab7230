"""What the recipes of variational autoencoders say, and that it reaches schedule, optimizer and step."""

import pytest
import torch

from ganblocks.models.vae import VAE
from ganblocks.models.vae_config import VAEConfig
from ganblocks.training import ConstantSchedule, CosineSchedule
from ganblocks.training.vae_recipes import VAERecipe, latent_plane, likelihood_protocol


def test_the_latent_plane_is_200_epochs_of_batches_of_64_at_one_rate() -> None:
    recipe = latent_plane()
    assert recipe.schedule(60_000) == ConstantSchedule(12_000_000, 64, 1e-3)
    step = recipe.build_step(VAE(VAEConfig()), dataset_images=60_000)
    assert isinstance(step.optimizer, torch.optim.Adam)
    group = step.optimizer.param_groups[0]
    assert (group["betas"], group["eps"], group["lr"]) == ((0.9, 0.999), 1e-7, 1e-3)
    assert (step.beta, step.kl_weight(0), step.free_nats, step.binarize, step.conditional) == (1, 1, 0, False, False)


def test_the_likelihood_protocol_binarises_and_ends_at_a_rate_of_zero() -> None:
    recipe = likelihood_protocol(epochs=10)
    schedule = recipe.schedule(60_000)
    assert isinstance(schedule, CosineSchedule)
    assert (schedule.total_images, schedule.batch_size) == (600_000, 100)
    assert schedule.phase(600_000).learning_rate == 0
    assert recipe.build_step(VAE(VAEConfig()), dataset_images=60_000).binarize


def test_overrides_reach_the_step() -> None:
    recipe = latent_plane(epochs=10, kl_weight=3.0, annealing=0.25, free_nats=0.1)
    step = recipe.build_step(VAE(VAEConfig(num_classes=2)), dataset_images=400, conditional=True)
    assert (step.beta, step.annealing_images, step.free_nats, step.conditional) == (3.0, 1000, 0.1, True)
    assert step.kl_weight(500) == 1.5
    assert recipe.replace(epochs=2).schedule(7).total_images == 14


@pytest.mark.parametrize(
    "fields",
    [{"epochs": 0}, {"decay": "linear"}, {"warmup": 1.0, "decay": "cosine"}, {"warmup": 0.1}, {"annealing": 1.5}],
)
def test_what_cannot_be_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(fields))}` is"):
        VAERecipe(**fields)  # type: ignore[arg-type]
