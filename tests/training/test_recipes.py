"""Recipes carry the numbers of their sources."""

import pytest
import torch

from ganblocks.models.progan import Discriminator, Generator, ProGANConfig
from ganblocks.training import Phase, StepContext, recipes


def test_karras2018_is_the_paper() -> None:
    recipe = recipes.karras2018()
    assert (recipe.betas, recipe.adam_eps) == ((0.0, 0.99), 1e-8)
    assert (recipe.penalty_weight, recipe.drift_weight, recipe.n_critic) == (10.0, 1e-3, 1)
    assert (recipe.ema_decay, recipe.reset_moments, recipe.blend_reals) == (0.999, True, True)
    assert recipe.mirror
    schedule = recipe.schedule(1024)
    assert schedule.resolutions == (4, 8, 16, 32, 64, 128, 256, 512, 1024)
    assert schedule.batch_sizes == (128, 128, 128, 64, 32, 16, 8, 4, 4)
    assert schedule.learning_rates == (0.001,) * 8 + (0.0015,)
    assert schedule.fade_images == (0,) + (600_000,) * 8
    assert schedule.total_images == 17 * 600_000


def test_a_recipe_tells_the_networks_which_features_to_compute_again() -> None:
    config = ProGANConfig.karras2018(8, latent_dim=4, max_channels=4)
    networks = Generator(config), Discriminator(config)
    recipes.karras2018().build_step(*networks, latent_dim=4)
    assert [network.recompute_from for network in networks] == [None, None]
    step = recipes.karras2018(recompute_from=8).build_step(*networks, latent_dim=4)
    assert [network.recompute_from for network in networks] == [8, 8]
    assert step.ema is not None
    with pytest.raises(TypeError, match="`recompute_from` is 8, but must be None: Linear cannot"):
        recipes.karras2018(recompute_from=8).build_step(torch.nn.Linear(4, 4), networks[1], latent_dim=4)


def test_document_is_the_course_text() -> None:
    recipe = recipes.document()
    schedule = recipe.schedule(1024)
    assert schedule.resolutions == (128, 256, 512, 1024)  # it starts at 128
    assert schedule.batch_sizes == (16, 16, 8, 4)
    assert schedule.fade_images == schedule.stable_images == (450_000,) * 4  # half of 30 epochs of 30,000 images
    iterations = sum(length / batch for length, batch in zip(schedule.stage_lengths, schedule.batch_sizes, strict=True))
    assert iterations == 450_000
    assert schedule.phase(0).alpha == 1e-5
    assert (recipe.ema_decay, recipe.blend_reals, recipe.reset_moments) == (None, False, False)
    assert (recipe.sampler, recipe.truncation) == ("truncnorm", 0.7)
    assert recipe.reuse_fakes
    sizes = recipe.replace(start_resolution=4).schedule(1024).batch_sizes
    assert sizes == (32, 32, 32, 16, 16, 16, 16, 8, 4)


def test_stage_images_replace_the_lengths() -> None:
    schedule = recipes.karras2018().schedule(16, stage_images=[10, 20, 31])
    assert schedule.fade_images == (0, 10, 15)
    assert schedule.stable_images == (10, 10, 16)
    first = recipes.document(start_resolution=4).schedule(8, stage_images=[10, 20])
    assert first.fade_images == (5, 10)
    with pytest.raises(ValueError, match="stage_images"):
        recipes.karras2018().schedule(16, stage_images=[10])


def test_resolutions_that_cannot_be_reached_are_refused() -> None:
    with pytest.raises(ValueError, match="power of two"):
        recipes.karras2018().schedule(48)
    with pytest.raises(ValueError, match="at least the first"):
        recipes.document().schedule(64)


def test_step_carries_the_recipe() -> None:
    config = ProGANConfig.karras2018(8, latent_dim=4, max_channels=4)
    recipe = recipes.karras2018(n_critic=2, penalty_weight=7.0, drift_weight=0.5, ema_half_life_images=100.0)
    step = recipe.build_step(Generator(config), Discriminator(config), latent_dim=4)
    assert (step.n_critic, step.penalty_weight, step.drift_weight) == (2, 7.0, 0.5)
    assert step.ema is not None
    assert step.ema.half_life_images == 100.0
    group = step.generator_optimizer.param_groups[0]
    assert isinstance(step.generator_optimizer, torch.optim.Adam)
    assert (group["betas"], group["eps"], group["fused"]) == ((0.0, 0.99), 1e-8, True)
    assert recipes.document().build_step(Generator(config), Discriminator(config), latent_dim=4).ema is None


def test_a_penalty_of_no_weight_is_not_computed() -> None:
    config = ProGANConfig.karras2018(8, latent_dim=4, max_channels=4)
    networks = Generator(config), Discriminator(config)
    step = recipes.karras2018(penalty_weight=0.0).build_step(*networks, latent_dim=4)
    log = step(torch.zeros(4, 3, 8, 8), None, StepContext(0, 0, Phase(4, 1e-3, resolution=8)))
    assert step.penalty is None
    assert "penalty" not in log
    assert recipes.karras2018().build_step(*networks, latent_dim=4).penalty is not None


def test_a_classifier_sees_its_epochs_with_a_tenth_of_warm_up() -> None:
    recipe = recipes.small_classifier(epochs=3, batch_size=20)
    schedule = recipe.schedule(1000)
    assert (schedule.total_images, schedule.warmup_images, schedule.batch_size) == (3000, 300, 20)
    assert schedule.phase(300).learning_rate == recipe.learning_rate == 0.003
    assert recipe.replace(warmup=0.0).schedule(1000).warmup_images == 0


def test_a_number_of_updates_replaces_the_epochs_whatever_the_size_of_the_data() -> None:
    recipe = recipes.small_classifier(batch_size=20, warmup=0.1)
    for count in (7, 1000):
        schedule = recipe.schedule(count, updates=50)
        assert (schedule.total_images, schedule.batch_size, schedule.warmup_images) == (1000, 20, 100)
    with pytest.raises(ValueError, match="updates"):
        recipe.schedule(7, updates=0)


def test_the_classifiers_numbers_reach_its_step() -> None:
    recipe = recipes.small_classifier(betas=(0.8, 0.9), adam_eps=1e-6, label_smoothing=0.1, learning_rate=0.5)
    step = recipe.build_step(torch.nn.Linear(2, 2))
    (group,) = step.optimizer.param_groups
    assert (group["betas"], group["eps"], group["lr"], group["fused"]) == ((0.8, 0.9), 1e-6, 0.5, True)
    assert step.label_smoothing == 0.1


@pytest.mark.parametrize(("field", "value"), [("epochs", 0), ("warmup", 1.0), ("warmup", -0.1)])
def test_numbers_of_a_classifier_out_of_range_are_named(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"`{field}`"):
        recipes.small_classifier(**{field: value})
