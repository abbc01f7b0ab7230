"""What growing adds to a step: cross-faded reals, moments forgotten at the ends of fades, one pass over two halves."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganblocks.models.progan import Discriminator, Generator, ProGANConfig
from ganblocks.training import Phase, ProgressiveStep, StepContext, latent_sampler, recipes
from tolerances import for_dtype, named


def context(images_seen: int = 0, **phase: object) -> StepContext:
    return StepContext(0, images_seen, dataclasses.replace(Phase(8, 1e-3), **phase))


def progan_step(recipe: recipes.ProGANRecipe | None = None, *, num_classes: int = 0, **options: object):
    torch.manual_seed(0)
    config = ProGANConfig.karras2018(16, latent_dim=6, max_channels=8, num_classes=num_classes)
    recipe = recipe or recipes.karras2018()
    return recipe.build_step(Generator(config), Discriminator(config), latent_dim=6, **options)


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
