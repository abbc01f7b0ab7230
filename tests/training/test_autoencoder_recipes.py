"""Recipes of autoencoders: every number reaches the schedule or the step."""

import pytest
import torch

from ganblocks.functional.corruption import gaussian_noise, masking_noise, salt_and_pepper
from ganblocks.functional.image_range import intensities
from ganblocks.losses.reconstruction import bernoulli, squared_error
from ganblocks.models.autoencoder import AutoencoderConfig, ConvDenoiser, ConvDenoiserConfig, DenseAutoencoder
from ganblocks.training import ConstantSchedule, CosineSchedule
from ganblocks.training import autoencoder_recipes as recipes

MODEL = AutoencoderConfig((1, 4, 4), (3,))


def test_both_see_the_images_ten_times_in_batches_of_32_and_end_at_rate_0() -> None:
    for recipe in (recipes.dense_autoencoder(), recipes.denoising_autoencoder()):
        schedule = recipe.schedule(60_000)
        assert isinstance(schedule, CosineSchedule)
        assert (schedule.total_images, schedule.batch_size, schedule.learning_rate) == (600_000, 32, 1e-3)
        assert schedule.phase(600_000).learning_rate == 0


def test_the_documents_rate_stays() -> None:
    schedule = recipes.document(epochs=3).schedule(1000)
    assert schedule == ConstantSchedule(3000, 32, 1e-3)


def test_noise_and_loss_are_those_of_the_experiments() -> None:
    dense = recipes.dense_autoencoder().build_step(DenseAutoencoder(MODEL))
    assert (dense.corruption, dense.loss, dense.logits, dense.prepare) == (None, squared_error, False, intensities)
    denoiser = recipes.denoising_autoencoder().build_step(ConvDenoiser(ConvDenoiserConfig()))
    images = torch.rand(2, 1, 28, 28)
    assert denoiser.corruption is not None
    noisy = denoiser.corruption(images, generator=torch.Generator().manual_seed(1))
    assert torch.equal(noisy, gaussian_noise(images, 0.2, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize(("noise", "function"), [("masking", masking_noise), ("salt_and_pepper", salt_and_pepper)])
def test_other_noise_has_the_level_as_its_probability(noise: str, function: object) -> None:
    corruption = recipes.dense_autoencoder(noise=noise, noise_level=0.3).corruption()
    images = torch.rand(5, 7)
    assert corruption is not None
    noisy = corruption(images, generator=torch.Generator().manual_seed(1))
    assert torch.equal(noisy, function(images, 0.3, generator=torch.Generator().manual_seed(1)))  # type: ignore[operator]


def test_binary_cross_entropy_is_of_logits() -> None:
    step = recipes.dense_autoencoder(loss="bernoulli").build_step(DenseAutoencoder(MODEL))
    assert step.logits
    logits, images = torch.randn(3, 4), torch.rand(3, 4)
    assert torch.equal(step.loss(logits, images), bernoulli(logits, images, logits=True))


def test_the_numbers_reach_the_optimizer() -> None:
    recipe = recipes.dense_autoencoder(betas=(0.8, 0.9), adam_eps=1e-6, learning_rate=0.5)
    step = recipe.build_step(DenseAutoencoder(MODEL))
    (group,) = step.optimizer.param_groups
    assert isinstance(step.optimizer, torch.optim.Adam)
    assert (group["betas"], group["eps"], group["lr"], group["fused"]) == ((0.8, 0.9), 1e-6, 0.5, True)
    assert recipe.replace(epochs=2).epochs == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "`epochs` is 0"),
        ({"loss": "huber"}, "`loss` is 'huber', but must be 'squared_error' or 'bernoulli'"),
        ({"noise": "speckle"}, "`noise` is 'speckle', but must be one of none, gaussian, masking, salt_and_pepper"),
        ({"noise": None}, "`noise` is None"),
        ({"noise_level": -0.1}, "`noise_level` is -0.1"),
        ({"noise": "masking", "noise_level": 1.5}, "`noise_level` is 1.5, but must be 0 to 1"),
    ],
)
def test_what_is_out_of_range_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipes.dense_autoencoder(**changes)
