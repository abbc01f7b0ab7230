"""Three generations of GANs on the same pictures: Frechet distances after equal images seen.

    python benchmarks/gan_comparison.py --data fashion_mnist/ --classifier runs/fashion_classifier --out runs/comparison

DCGAN (Radford et al. 2016), WGAN-GP (Gulrajani et al. 2017) and R3GAN (Huang et al. 2024), each with a moving average
of the generator, see the same number of real images (--images; a critic's updates count, not the generator's). Size of
the batch and learning rate decide how far a network comes with so few images: those of R3GAN were chosen in short
trials (seeds 0 and 3), the others are their papers'; see docs/guide/gans.md. DCGAN works at 28x28; for the other two
the images get a border of two black pixels, which is cut off their samples. After the last image, 10,000 samples in
evaluation mode are compared with the 10,000 test images on the features of a classifier (a run directory of
examples/classifier_mnist.py), those of the generator as it stands and of its moving average.

Each training is a run of its own in --out, so the same command goes on where it was stopped (Ctrl-C, SIGTERM), and
skips what is done. It ends with comparison.md in --out, a row a run and the means over seeds.
"""

import argparse
import dataclasses
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ganblocks.data import TensorBatches, idx_images, read_images
from ganblocks.metrics import evaluate
from ganblocks.metrics.extractors import FeatureExtractor, classifier_extractor
from ganblocks.models import dcgan, r3gan, wgan_gp
from ganblocks.models.registry import load_classifier
from ganblocks.training import Precision, ProgressBar, SampleSheets, Trainer, gan_recipes
from ganblocks.training.environment import flushed_denormals
from ganblocks.training.gan_recipes import GANRecipe

SAMPLES, PART, SEED = 10_000, 500, 4321
AVERAGE = 0.99  # of the generator, an update: WGAN-GP makes only one for five batches


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A pair of networks and their recipe."""

    config: Any
    generator: Callable[[Any], Any]
    discriminator: Callable[[Any], Any]
    recipe: GANRecipe
    border: int  # black pixels around the images


CONTESTANTS: Mapping[str, Contestant] = {
    "dcgan": Contestant(
        dcgan.DCGANConfig.radford2016(28),
        dcgan.Generator,
        dcgan.Discriminator,
        gan_recipes.radford2016(ema_decay=AVERAGE),
        border=0,
    ),
    "wgan_gp": Contestant(
        wgan_gp.WGANGPConfig(resolution=32, image_channels=1, base_channels=64, max_channels=256),
        wgan_gp.Generator,
        wgan_gp.Critic,
        gan_recipes.gulrajani2017(ema_decay=AVERAGE),
        border=2,
    ),
    "r3gan": Contestant(
        r3gan.R3GANConfig.small32(image_channels=1, widths=(96, 64, 32, 16), blocks_per_stage=1),
        r3gan.Generator,
        r3gan.Discriminator,
        gan_recipes.huang2024(batch_size=16, learning_rate=1e-3, penalty_weight=0.05, ema_decay=0.998),
        border=2,
    ),
}


def distance(generator: Any, border: int, test: Tensor, extractor: FeatureExtractor) -> float:
    """Frechet distance of samples to the test images."""
    stop = test.shape[-1] + border
    samples = (
        generator.sample(PART, seed=SEED + part)[:, :, border:stop, border:stop] for part in range(SAMPLES // PART)
    )
    return evaluate(test, samples, ["fd"], extractor=extractor, seed=0)["frechet_distance"].value


def run(name: str, seed: int, options: argparse.Namespace, images: Tensor, test: Tensor) -> dict[str, Any] | None:
    """Train one contestant, or read what is done; ``None`` when it was stopped."""
    run_dir = options.out / f"{name}-{seed}"
    done = run_dir / "result.json"
    if done.is_file():
        found: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        return found
    contestant = CONTESTANTS[name]
    changes = {key: value for key in ("batch_size", "learning_rate") if (value := getattr(options, key)) is not None}
    torch.manual_seed(seed)
    generator, discriminator = contestant.generator(contestant.config), contestant.discriminator(contestant.config)
    parameters = [sum(p.numel() for p in network.parameters()) for network in (generator, discriminator)]
    recipe = contestant.recipe.replace(epochs=math.ceil(options.images / len(images)), **changes)
    step = recipe.build_step(
        generator,
        discriminator,
        latent_dim=contestant.config.latent_dim,
        precision=Precision.resolve("auto", torch.device("cpu")),
    )
    assert step.ema is not None
    average: Any = step.ema.module
    border = contestant.border
    trainer = Trainer(
        step,
        TensorBatches(F.pad(images, (border,) * 4), seed=seed),
        recipe.schedule(len(images)),
        run_dir=run_dir,
        seed=seed,
        total_images=options.images,
        resume="lenient",
        settings={"contestant": name, "recipe": dataclasses.asdict(recipe), "images": options.images},
        callbacks=[
            ProgressBar(),
            SampleSheets(lambda trainer: average.sample(64, seed=1234), fractions=(0.25, 0.5, 0.75, 1.0), columns=8),
        ],
        save_images=max(1, options.images // 10),
    )
    result = trainer.fit()
    if not result.finished and result.images_seen < options.images:
        return None
    extractor = classifier_extractor(load_classifier(options.classifier))
    found = {
        "contestant": name,
        "seed": seed,
        "parameters": parameters,
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "images": result.images_seen,
        "minutes": result.seconds / 60,
        "fd": distance(generator, border, test, extractor),
        "fd_average": distance(average, border, test, extractor),
    }
    done.write_text(json.dumps(found, indent=2), encoding="utf-8")
    return found


def table(rows: list[dict[str, Any]], images: int) -> str:
    """The result as Markdown."""
    lines = [
        "# Three GANs after equal images seen",
        "",
        f"`python benchmarks/gan_comparison.py`, {time.strftime('%Y-%m-%d')}: {images:,} real images seen by each, "
        f"torch {torch.__version__}, {platform.machine()}. Frechet distance of 10,000 samples to the test images "
        "on the features of a classifier; lower is better.",
        "",
        "| network | parameters G, D | batch | rate | seed | last weights | moving average | minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        sizes = ", ".join(f"{count:,}" for count in row["parameters"])
        lines.append(
            f"| {row['contestant']} | {sizes} | {row['batch_size']} | {row['learning_rate']:g} | {row['seed']} | "
            f"{row['fd']:.2f} | {row['fd_average']:.2f} | {row['minutes']:.0f} |"
        )
    lines += ["", "| network | seeds | last weights | moving average |\n|---|---|---|---|"]
    for name in dict.fromkeys(row["contestant"] for row in rows):
        mine = [row for row in rows if row["contestant"] == name]
        cells = []
        for key in ("fd", "fd_average"):
            values = [row[key] for row in mine]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.2f}{spread}")
        lines.append(f"| {name} | {len(mine)} | {cells[0]} | {cells[1]} |")
    return "\n".join([*lines, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with the four IDX files")
    add("--classifier", type=Path, required=True, help="run directory of examples/classifier_mnist.py")
    add("--out", type=Path, required=True, help="folder of the runs and the table")
    add("--images", type=int, default=100_000, help="real images each network sees (default: %(default)s)")
    add("--models", nargs="+", choices=tuple(CONTESTANTS), default=list(CONTESTANTS))
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--batch-size", type=int, help="instead of each network's own")
    add("--learning-rate", type=float, help="instead of each network's own")
    add("--threads", type=int, help="default: torch's own choice")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    (images, _), (test, _) = (read_images(idx_images(options.data, part), 28) for part in ("train", "test"))
    rows = []
    for seed in options.seeds:
        for name in options.models:
            found = run(name, seed, options, images, test)
            if found is None:
                print("Stopped; the same command goes on from here.")
                return 130
            rows.append(found)
            print(f"{name}, seed {seed}: {found['fd']:.2f}, average {found['fd_average']:.2f}", flush=True)
            (options.out / "comparison.md").write_text(table(rows, options.images), encoding="utf-8")
    print(table(rows, options.images))
    return 0


if __name__ == "__main__":
    with flushed_denormals():  # before PyTorch starts its threads
        sys.exit(main())
