"""What is seen on the sheets: copies, grey pictures, chequered ones, blurred ones."""

import functools
from typing import Any

import torch
from torch import Tensor, nn

from ganblocks.data import TensorBatches, read_images
from ganblocks.data.synthetic import Shapes
from ganblocks.functional import from_uint8, intensities, rescale
from ganblocks.layers import Blur, ConvTranspose2d, UpsampleNearest, WSConv2d
from ganblocks.losses import LeCam, total_variation
from ganblocks.metrics import memorisation, sliced_wasserstein_distance
from ganblocks.models.dcgan import DCGANConfig, Discriminator, Generator
from ganblocks.models.vae import VAE, VAEConfig
from ganblocks.training import AdaptiveAugmentation, Trainer
from ganblocks.training.gan_recipes import GANRecipe
from ganblocks.training.vae_recipes import VAERecipe
from troubleshooting_trials.record import Scale, Symptom, Trial
from troubleshooting_trials.runs import to_the_end

__all__ = ["blurred", "chequered", "copies", "shapes", "wrong_range"]


@functools.cache
def shapes(count: int, *, start: int = 0, side: int = 16) -> Tensor:
    """Drawn shapes in grey, uint8 ``[count, 1, side, side]``; others for another start."""
    images, _ = read_images(Shapes(start + count, image_channels=1), side, indices=range(start, start + count))
    return images


def trained(
    images: Tensor, seed: int, steps: int, *, options: dict[str, Any] | None = None, **fields: Any
) -> tuple[Generator, Discriminator]:
    """A small DCGAN, trained on images as they are given."""
    torch.manual_seed(seed)
    config = DCGANConfig.radford2016(16, base_channels=8, latent_dim=32)
    generator, discriminator = Generator(config), Discriminator(config)
    recipe = GANRecipe(**{"batch_size": 16, "generator_steps": steps, **fields})
    step = recipe.build_step(generator, discriminator, latent_dim=config.latent_dim, **(options or {}))
    to_the_end(Trainer(step, TensorBatches(images, seed=seed), recipe.schedule(len(images)), seed=seed))
    return generator, discriminator


def copies(scale: Scale) -> Symptom:
    """A GAN on few pictures: does its discriminator know them by heart, do its samples repeat them?"""
    held_out = from_uint8(shapes(512, start=4096))
    few, steps = shapes(32), scale.steps(150)

    def run(seed: int, images: Tensor, length: int, **settings: Any) -> dict[str, float]:
        policy = settings.pop("policy", ())
        options: dict[str, Any] = {}
        if policy:
            options["augment"] = AdaptiveAugmentation(policy, probability=1.0, ramp_images=None)
        if settings.pop("lecam", False):
            options |= {"regularizer": LeCam(), "regularizer_weight": 0.1}
        generator, discriminator = trained(images, seed, length, options=options, **settings)
        samples = generator.sample(512, seed=1)
        discriminator.eval()
        with torch.no_grad():
            known, unknown = (discriminator(part).mean() for part in (from_uint8(images), held_out))
        return {
            "gap": float(known - unknown),
            "z": memorisation(samples, from_uint8(images), held_out).value,
            "distance": sliced_wasserstein_distance(samples, held_out, seed=0),
        }

    tried: dict[str, dict[str, Any]] = {
        "as it is": {},
        "`AdaptiveAugmentation`: translation, cutout": {"policy": ("translation", "cutout")},
        "`AdaptiveAugmentation`: translation, cutout, color": {"policy": ("translation", "cutout", "color")},
        "`LeCam`, weight 0.1": {"lecam": True},
        "a quarter of the updates": {"length": max(2, steps // 4)},
        "512 pictures": {"images": shapes(512)},
    }
    trials = []
    for name, settings in tried.items():
        each = [run(seed, **{"images": few, "length": steps, **settings}) for seed in scale.seeds]
        trials.append(Trial(name, {key: [one[key] for one in each] for key in ("gap", "z", "distance")}))
    return Symptom(
        "copies",
        "Samples are copies of the training images",
        f"A DCGAN on 32 drawn shapes of 16x16, {steps} updates in batches of 16; against 512 pictures that it has not "
        "seen.",
        "gap",
        "lower",
        {
            "gap": "score of its own pictures above unseen ones",
            "z": "memorisation z",
            "distance": "distance to unseen pictures",
        },
        {"gap": ".2f", "z": ".1f", "distance": ".3f"},
        trials,
    )


def wrong_range(scale: Scale) -> Symptom:
    """Images in floats of another range than [-1, 1]."""
    images, steps = shapes(1024 if scale.share == 1 else 64), scale.steps(150)
    real = from_uint8(images)

    def run(name: str, given: Tensor) -> Trial:
        distance: list[float | None] = []
        darkest: list[float | None] = []
        for seed in scale.seeds:
            samples = trained(given, seed, steps)[0].sample(512, seed=1)
            distance.append(sliced_wasserstein_distance(samples, real, seed=0))
            darkest.append(float(((samples + 1) * 127.5).flatten().quantile(0.01)))
        return Trial(name, {"distance": distance, "darkest": darkest})

    unit = images.float() / 255
    return Symptom(
        "wrong_range",
        "Samples are pale, or all white",
        f"A DCGAN on {len(images)} drawn shapes of 16x16, {steps} updates in batches of 16; sliced Wasserstein "
        "distance of 512 samples to the pictures, and the level from 0 to 255 that 1 % of their pixels are below; that "
        f"of the pictures is {float(images.float().flatten().quantile(0.01)):.0f}.",
        "distance",
        "lower",
        {"distance": "distance", "darkest": "dark level"},
        {"distance": ".3f", "darkest": ".0f"},
        [
            run("floats in [0, 1]", unit),
            run("floats from 0 to 255", images.float()),
            run("`rescale` of [0, 1]", rescale(unit)),
            run("the bytes themselves", images),
        ],
    )


def chequered(scale: Scale) -> Symptom:
    """How uneven a layer that doubles the side makes an even surface, with the weights that it begins with."""
    channels = 64

    def unevenness(layer: nn.Module, seed: int) -> float:
        even = torch.randn(1, channels, 1, 1, generator=torch.Generator().manual_seed(seed)).expand(-1, -1, 12, 12)
        with torch.no_grad():
            found = layer(even)[..., 8:16, 8:16]  # the border is another matter
        return float(found.flatten(2).std(2, unbiased=False).square().mean().sqrt() / found.square().mean().sqrt())

    def transposed(kernel: int, padding: int) -> nn.Module:
        return ConvTranspose2d(channels, channels, kernel, 2, padding, bias=False)

    def trial(name: str, make: Any) -> Trial:
        values: list[float | None] = []
        for seed in scale.seeds:
            torch.manual_seed(seed)
            values.append(unevenness(make(), seed))
        return Trial(name, {"uneven": values})

    return Symptom(
        "chequered",
        "Samples are chequered",
        "One layer from 12x12 to 24x24 on a surface that is the same everywhere, 64 channels, first weights: standard "
        "deviation over places, away from the border, as a share of the size. Nothing is trained.",
        "uneven",
        "lower",
        {"uneven": "unevenness"},
        {"uneven": ".3f"},
        [
            trial("`ConvTranspose2d`, kernel 3, stride 2", lambda: transposed(3, 1)),
            trial("`ConvTranspose2d`, kernel 5, stride 2", lambda: transposed(5, 2)),
            trial("`ConvTranspose2d`, kernel 4, stride 2", lambda: transposed(4, 1)),
            trial("kernel 4, then `Blur`", lambda: nn.Sequential(transposed(4, 1), Blur())),
            trial(
                "`UpsampleNearest`, then `WSConv2d`",
                lambda: nn.Sequential(UpsampleNearest(), WSConv2d(channels, channels, 3, padding=1)),
            ),
        ],
    )


def blurred(scale: Scale) -> Symptom:
    """A variational autoencoder whose reconstructions lack edges."""
    count = 1024 if scale.share == 1 else 64
    images, held_out = shapes(count), shapes(512, start=4096)
    reals, epochs = intensities(held_out), scale.steps(15)

    def edges(pictures: Tensor) -> float:
        return float(total_variation(pictures)) / float(total_variation(reals))

    def run(seed: int, settings: dict[str, Any]) -> dict[str, float]:
        settings = dict(settings)
        torch.manual_seed(seed)
        network: dict[str, Any] = {"hidden_dims": (128,), "latent_dim": 4}
        network |= {name: settings.pop(name) for name in ("latent_dim", "channels", "likelihood") if name in settings}
        model = VAE(VAEConfig(resolution=16, **network))
        recipe = VAERecipe(**{"epochs": epochs, "batch_size": 64, **settings})
        step = recipe.build_step(model, dataset_images=count)
        to_the_end(Trainer(step, TensorBatches(images, seed=seed), recipe.schedule(count), seed=seed))
        model.eval()
        with torch.no_grad():
            again = model.decode(model.encode(reals))
            samples = model.sample(512, seed=1)
        return {
            "edges": edges(again),
            "error": float((again - reals).square().mean()),
            "distance": sliced_wasserstein_distance(samples, reals, seed=0),
        }

    tried: dict[str, dict[str, Any]] = {
        "as it is: 4 latents, weight 1": {},
        "weight of the divergence 0.1": {"kl_weight": 0.1},
        "weight 0": {"kl_weight": 0.0},
        "16 latents": {"latent_dim": 16},
        "16 latents, weight 0.1": {"latent_dim": 16, "kl_weight": 0.1},
        "convolutions, 16 latents": {"latent_dim": 16, "channels": (16, 32)},
        "Gaussian of learnt width, 16 latents": {"latent_dim": 16, "likelihood": "gaussian"},
    }
    trials = []
    for name, settings in tried.items():
        each = [run(seed, settings) for seed in scale.seeds]
        trials.append(Trial(name, {key: [one[key] for one in each] for key in ("edges", "error", "distance")}))
    return Symptom(
        "blurred",
        "Pictures of a variational autoencoder are blurred",
        f"A VAE on {count} drawn shapes of 16x16, {epochs} epochs; variation of reconstructions of unseen pictures as "
        "a share of theirs, mean squared error, and the distance of samples from the prior.",
        "edges",
        "higher",
        {"edges": "edges kept", "error": "squared error", "distance": "distance of samples"},
        {"edges": ".2f", "error": ".4f", "distance": ".3f"},
        trials,
    )
