"""Each kind of training, in each precision, stopped after each step: the rest of the run is the same, bit for bit."""

import dataclasses
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reliability_runs import Draws, NoisyImages, log_lines, lost, progan_images, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ganblocks.data import DatasetBatches, MultiResolutionImages
from ganblocks.errors import GanblocksError
from ganblocks.layers import Conv2d, SelfAttention, spectral_norm
from ganblocks.losses import LeCam, adversarial
from ganblocks.models import infogan as infogan_models
from ganblocks.models import r3gan as r3gan_models
from ganblocks.models.infogan import InfoGANConfig
from ganblocks.models.progan import Discriminator, Generator, ProGANConfig
from ganblocks.models.r3gan import R3GANConfig
from ganblocks.training import (
    AdaptiveAugmentation,
    AdversarialStep,
    ConstantSchedule,
    ExponentialMovingAverage,
    Precision,
    Schedule,
    Trainer,
    gan_recipes,
    information_recipes,
    latent_sampler,
    recipes,
)

STEPS = 12
BATCH = 4
SHAPES = 4  # classes of the images


class DeepGenerator(nn.Module):
    """Radford et al. 2016 in miniature: transposed convolutions and batch normalisation, latents to 8x8."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(4, 6, 4), nn.BatchNorm2d(6), nn.ReLU(), nn.ConvTranspose2d(6, 1, 4, 2, 1), nn.Tanh()
        )

    def forward(self, latents: Tensor) -> Tensor:
        images: Tensor = self.layers(latents[:, :, None, None])
        return images


class DeepDiscriminator(nn.Module):
    """Strided convolutions; batch normalisation and dropout where asked for, layer normalisation elsewhere."""

    def __init__(self, batch_norm: bool) -> None:
        super().__init__()
        middle = [nn.BatchNorm2d(6), nn.Dropout(0.3)] if batch_norm else [nn.GroupNorm(1, 6)]
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 6, 3, 1, 1), *middle, nn.LeakyReLU(0.2)
        )
        self.last = nn.Linear(6 * 4 * 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.last(self.layers(images).flatten(1)).flatten()
        return scores


def adam(module: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), lr=1e-3, betas=(0.5, 0.9))


def dcgan(precision: Precision) -> tuple[AdversarialStep, Schedule]:
    generator, discriminator = DeepGenerator(), DeepDiscriminator(batch_norm=True)
    step = AdversarialStep(
        generator,
        discriminator,
        generator_optimizer=adam(generator),
        discriminator_optimizer=adam(discriminator),
        sampler=latent_sampler(4),
        loss=adversarial.non_saturating,
        penalty=None,
        penalty_weight=0.0,
        reuse_fakes=True,
        ema=ExponentialMovingAverage(generator, half_life_images=10.0),
        precision=precision,
    )
    return step, ConstantSchedule(STEPS * BATCH, BATCH, 2e-3)


def wgan_gp(precision: Precision) -> tuple[AdversarialStep, Schedule]:
    """Five critic updates for one of the generator: a stop may come between any two of them."""
    generator, critic = DeepGenerator(), DeepDiscriminator(batch_norm=False)
    step = AdversarialStep(
        generator,
        critic,
        generator_optimizer=adam(generator),
        discriminator_optimizer=adam(critic),
        sampler=latent_sampler(4),
        n_critic=5,
        precision=precision,
    )
    return step, ConstantSchedule(STEPS * BATCH, BATCH, 1e-3, resolution=8)


def progan(precision: Precision) -> tuple[AdversarialStep, Schedule]:
    """Hold 4x4 for three steps, fade for six, hold 8x8 for three: both ends of a fade, where moments are forgotten."""
    config = ProGANConfig.karras2018(8, latent_dim=4, max_channels=4, image_channels=1)
    recipe = recipes.karras2018(phase_images=3 * BATCH, batch_sizes=dict.fromkeys((4, 8), BATCH), ema_decay=0.9)
    step = recipe.build_step(Generator(config), Discriminator(config), latent_dim=4, precision=precision)
    fading = dataclasses.replace(recipe.schedule(8), fade_images=(0, 6 * BATCH), stable_images=(12, 12))
    return step, fading


def uneven(precision: Precision) -> tuple[AdversarialStep, Schedule]:
    """Stages that end within a batch, and other batches after them, as in the paper: 600,000 is no multiple of 128.

    Seven steps of 4 images (28 for 25) hold 4x4, eleven of 2 fade in 8x8.
    """
    step, schedule = progan(precision)
    changes = {"fade_images": (0, 20), "stable_images": (25, 5), "batch_sizes": (4, 2)}
    return step, dataclasses.replace(schedule, **changes)


def r3gan(precision: Precision) -> tuple[AdversarialStep, Schedule]:
    """Relativistic, with both penalties and an average."""
    config = R3GANConfig(8, 4, 1, widths=(4, 4), blocks_per_stage=1, group_size=4)
    recipe = gan_recipes.huang2024(batch_size=BATCH, epochs=1)
    networks = r3gan_models.Generator(config), r3gan_models.Discriminator(config)
    return recipe.build_step(*networks, latent_dim=4, precision=precision), recipe.schedule(STEPS * BATCH)


def infogan(precision: Precision) -> tuple[AdversarialStep, Schedule]:
    """Codes of the latents, batch normalisation, two learning rates."""
    config = InfoGANConfig(8, 1, 3, 3, 1, base_channels=2, dense_width=6, code_width=4)
    recipe = information_recipes.chen2016(batch_size=BATCH, epochs=1)
    networks = infogan_models.Generator(config), infogan_models.Discriminator(config)
    step = recipe.build_step(*networks, noise_dim=3, categories=3, continuous=1, precision=precision)
    return step, recipe.schedule(STEPS * BATCH)


def told(precision: Precision) -> tuple[AdversarialStep, Schedule]:
    """Labels in both networks, a score that is a product with a vector of the class, and points around the reals."""
    config = R3GANConfig(8, 4, 1, widths=(4, 4), blocks_per_stage=1, group_size=4, num_classes=SHAPES)
    recipe = gan_recipes.kodali2017(batch_size=BATCH, epochs=1)
    networks = r3gan_models.Generator(config), r3gan_models.Discriminator(config)
    step = recipe.build_step(*networks, latent_dim=4, conditional=True, precision=precision)
    return step, recipe.schedule(STEPS * BATCH)


def classified(precision: Precision) -> tuple[AdversarialStep, Schedule]:
    """As `progan`, with labels and a discriminator that tells them as well."""
    config = ProGANConfig.karras2018(8, latent_dim=4, max_channels=4, image_channels=1, num_classes=SHAPES)
    recipe = recipes.karras2018(phase_images=4 * BATCH, batch_sizes=dict.fromkeys((4, 8), BATCH), ema_decay=0.9)
    networks = Generator(config), Discriminator(config)
    step = recipe.build_step(*networks, latent_dim=4, conditional=True, precision=precision)
    return step, recipe.schedule(8)


def augmented(precision: Precision) -> tuple[AdversarialStep, Schedule]:
    """Augmentation whose probability moves, anchors, and singular vectors of a discriminator that attends."""
    generator = DeepGenerator()
    layers = [Conv2d(1, 4, 4, 2, 1), nn.LeakyReLU(0.2), SelfAttention(4), nn.Flatten(), nn.Linear(4 * 4 * 4, 1)]
    discriminator = spectral_norm(nn.Sequential(*layers, nn.Flatten(0)))
    step = AdversarialStep(
        generator,
        discriminator,
        generator_optimizer=adam(generator),
        discriminator_optimizer=adam(discriminator),
        sampler=latent_sampler(4),
        loss=adversarial.hinge,
        penalty=None,
        augment=AdaptiveAugmentation(probability=0.5, ramp_images=10 * BATCH, interval=2),
        consistency_weight=0.1,
        regularizer=LeCam(),
        regularizer_weight=0.1,
        precision=precision,
    )
    return step, ConstantSchedule(STEPS * BATCH, BATCH, 1e-3, resolution=8)


KINDS = {
    "dcgan": dcgan,
    "wgan_gp": wgan_gp,
    "progan": progan,
    "uneven": uneven,
    "r3gan": r3gan,
    "infogan": infogan,
    "augmented": augmented,
    "told": told,
    "classified": classified,
}


@pytest.fixture(scope="module")
def images() -> MultiResolutionImages:
    return progan_images()


def train(
    kind: str, name: str, data: Callable[[], Any], run_dir: Path, *, seed: int, total: int | None = None
) -> Trainer:
    """One part of a run, in fresh objects; the seed is of what a process may have drawn before."""
    seed_everything(seed)
    step, schedule = KINDS[kind](Precision(name, torch.device("cpu")))  # type: ignore[arg-type]
    options: dict[str, Any] = {"log_images": BATCH, "save_images": BATCH, "keep_last": STEPS + 1, "run_dir": run_dir}
    trainer = Trainer(step, data(), schedule, callbacks=[Draws()], seed=5, total_images=total, **options)
    trainer.fit()
    return trainer


def alive(trainer: Trainer) -> dict[str, Any]:
    """All that the next step would depend on, taken from the objects and not from what they choose to save."""
    step: Any = trainer.step
    optimizers = {"generator": step.generator_optimizer, "discriminator": step.discriminator_optimizer}
    networks = {"generator": step.generator, "discriminator": step.discriminator}
    if step.ema is not None:
        networks["average"] = step.ema.module
    draws: Any = trainer.callbacks[0]
    return {
        "parameters": {name: dict(network.named_parameters()) for name, network in networks.items()},
        "buffers": {name: dict(network.named_buffers()) for name, network in networks.items()},
        "moments": {
            name: [dict(optimizer.state[p]) for group in optimizer.param_groups for p in group["params"]]
            for name, optimizer in optimizers.items()
        },
        "options": {
            name: [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
            for name, optimizer in optimizers.items()
        },
        "average updates": None if step.ema is None else step.ema.updates,
        "further": {
            name: part.state_dict() for name in ("augment", "regularizer") if (part := getattr(step, name)) is not None
        },
        "calls": step.calls,
        "images seen": (trainer.images_seen, trainer.steps),
        "callback": draws.drawn,
        "next draws": (random.random(), float(np.random.rand()), float(torch.rand(()))),
    }


def only(run_dir: Path, images_seen: int, copy: Path) -> Path:
    """A copy of the run as it was when it had seen so many images, had it been killed right then."""
    shutil.copytree(run_dir, copy, ignore=lambda folder, names: [name for name in names if name.startswith("run.lock")])
    for path in (copy / "checkpoints").iterdir():
        if int(path.name) != images_seen:
            shutil.rmtree(path)
    assert len(list((copy / "checkpoints").iterdir())) == 1, f"no checkpoint at {images_seen} images"
    return copy


def differences(
    kind: str, precision: str, data: Callable[[], Any], tmp_path: Path, rest: Mapping[int, Callable[[], Any]] | None
) -> list[str]:
    """What is lost by a stop after each of these numbers of images (None: all that were saved), and by other data."""
    whole = train(kind, precision, data, tmp_path / "whole", seed=0)
    expected, found = alive(whole), []
    if rest is None:
        rest = {int(path.name): data for path in sorted((tmp_path / "whole" / "checkpoints").iterdir())}
        assert len(rest) >= STEPS
    for images_seen, resumed_data in rest.items():
        what = f"{kind} in {precision}, stopped after {images_seen} images"
        copy = only(tmp_path / "whole", images_seen, tmp_path / f"after-{images_seen}")
        try:
            resumed = train(kind, precision, resumed_data, copy, seed=1000 + images_seen)
        except GanblocksError as error:
            found.append(f"{what}: everything, it cannot be resumed: {type(error).__name__}: {error}")
            continue
        if difference := lost(expected, alive(resumed)):
            found.append(f"{what}: {difference}")
        if log_lines(copy) != log_lines(tmp_path / "whole"):
            found.append(f"{what}: the log differs")
    return found


@pytest.mark.parametrize(
    ("kind", "precision"),
    [
        *[
            (kind, "fp32")
            for kind in ("dcgan", "wgan_gp", "progan", "r3gan", "infogan", "augmented", "told", "classified")
        ],
        *[(kind, "bf16") for kind in ("dcgan", "wgan_gp", "progan", "infogan")],
        *[pytest.param(kind, "bf16", marks=pytest.mark.slow) for kind in ("r3gan", "augmented", "told", "classified")],
    ],
)
def test_a_run_stopped_after_any_step_ends_with_the_same_bits(
    kind: str, precision: str, images: MultiResolutionImages, tmp_path: Path
) -> None:
    found = differences(kind, precision, lambda: images, tmp_path, None)
    assert not found, "\n".join(found)


def test_a_stage_that_ends_within_a_batch_can_be_resumed_to_the_same_bits(
    images: MultiResolutionImages, tmp_path: Path
) -> None:
    found = differences("uneven", "fp32", lambda: images, tmp_path, None)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("kind", ["dcgan", "wgan_gp", "progan"])
def test_this_file_would_notice_a_single_other_bit(kind: str, images: MultiResolutionImages, tmp_path: Path) -> None:
    state = alive(train(kind, "fp32", lambda: images, tmp_path, seed=0, total=BATCH))
    again = alive(train(kind, "fp32", lambda: images, tmp_path, seed=1, total=BATCH))
    assert not lost(state, again)
    weight = next(iter(again["parameters"]["generator"].values()))
    with torch.no_grad():
        weight.view(-1)[0] = torch.nextafter(weight.view(-1)[0], torch.tensor(torch.inf))
    assert lost(state, again).startswith("1 of ")


@pytest.mark.parametrize(("before", "after"), [(1, 1), (0, 2), (2, 1)])
def test_worker_processes_change_no_bit(before: int, after: int, tmp_path: Path) -> None:
    """The images have a random augmentation of their own; five batches are an epoch."""
    opened: list[DatasetBatches] = []

    def data(workers: int) -> DatasetBatches:
        opened.append(DatasetBatches(NoisyImages(), seed=2, workers=workers))
        return opened[-1]

    try:
        rest = dict.fromkeys([5 * BATCH, 9 * BATCH], lambda: data(after))
        found = differences("dcgan", "fp32", lambda: data(before), tmp_path, rest)
    finally:
        for batches in opened:
            batches.close()
    assert not found, "\n".join(found)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_loader_that_gives_the_same_batches_changes_no_bit(workers: int, tmp_path: Path) -> None:
    """Dropout draws from the same global generator as the loader does when it begins an epoch."""
    values = [torch.full((1, 8, 8), index / 20) for index in range(20)]

    def data() -> Any:
        return DataLoader(values, batch_size=BATCH, num_workers=workers)  # type: ignore[arg-type]

    found = differences("dcgan", "fp32", data, tmp_path, {3 * BATCH: data, 7 * BATCH: data})
    assert not found, "\n".join(found)
