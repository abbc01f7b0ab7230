"""What augmentation is worth where images are few: a GAN on 1,000 of them, with and without.

    python benchmarks/few_images.py --data fashion_mnist/ --classifier runs/fashion_classifier --out runs/few

The DCGAN of Radford et al. 2016 at 28x28 sees --images real images out of 1,000 (chosen by the seed), as they are, or
with differentiable augmentation of reals and fakes (Zhao et al. 2020). Then 10,000 samples of the generator's moving
average are compared with the 10,000 test images on the features of a classifier (a run directory of
examples/classifier_mnist.py). Copying is looked for on the same features: are samples nearer to the training images
than test images are? The z-score of `ganblocks.metrics.memorisation` is about 0 without copying and far below with it;
"near" is the share of samples that lie nearer than 99 of 100 test images.

Each training is a run of its own in --out, so the same command goes on where it was stopped, and skips what is done. It
ends with few_images.md in --out.
"""

import argparse
import dataclasses
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganblocks.data import TensorBatches, idx_images, read_images, split
from ganblocks.metrics import evaluate
from ganblocks.metrics.extractors import classifier_extractor
from ganblocks.models.dcgan import DCGANConfig, Discriminator, Generator
from ganblocks.models.registry import load_classifier
from ganblocks.training import AdaptiveAugmentation, Precision, ProgressBar, SampleSheets, Trainer, gan_recipes
from ganblocks.training.environment import flushed_denormals

SAMPLES, PART, SEED = 10_000, 500, 4321
ARMS: dict[str, Sequence[str]] = {"none": (), "augmented": ("translation", "cutout")}


def run(arm: str, seed: int, options: argparse.Namespace, images: Tensor, test: Tensor) -> dict[str, Any] | None:
    """Train one arm, or read what is done; ``None`` when it was stopped."""
    run_dir = options.out / f"{arm}-{seed}"
    done = run_dir / "result.json"
    if done.is_file():
        found: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        return found
    _, chosen = split(len(images), options.training, seed=seed)
    training = images[chosen]
    torch.manual_seed(seed)
    config = DCGANConfig.radford2016(28)
    recipe = gan_recipes.radford2016(ema_decay=0.99, epochs=math.ceil(options.images / len(training)))
    policy = ARMS[arm]
    step = recipe.build_step(
        Generator(config),
        Discriminator(config),
        latent_dim=config.latent_dim,
        precision=Precision.resolve("auto", torch.device("cpu")),
        augment=AdaptiveAugmentation(policy, probability=1.0, ramp_images=None) if policy else None,
    )
    assert step.ema is not None
    average: Any = step.ema.module
    trainer = Trainer(
        step,
        TensorBatches(training, seed=seed),
        recipe.schedule(len(training)),
        run_dir=run_dir,
        seed=seed,
        total_images=options.images,
        resume="lenient",
        settings={"arm": arm, "recipe": dataclasses.asdict(recipe), "images": options.images, "of": options.training},
        callbacks=[
            ProgressBar(),
            SampleSheets(lambda trainer: average.sample(64, seed=1234), fractions=(0.25, 0.5, 0.75, 1.0), columns=8),
        ],
        save_images=max(1, options.images // 10),
    )
    result = trainer.fit()
    if result.images_seen < options.images:
        return None
    samples = torch.cat([average.sample(PART, seed=SEED + part) for part in range(SAMPLES // PART)])
    extractor = classifier_extractor(load_classifier(options.classifier))
    to_test = evaluate(test, samples, ["fd"], extractor=extractor, seed=0)
    to_training = evaluate(training, samples, ["memorisation"], extractor=extractor, held_out=test, seed=0)
    copying = to_training["memorisation_features"]
    found = {
        "arm": arm,
        "seed": seed,
        "images": result.images_seen,
        "minutes": result.seconds / 60,
        "fd": to_test["frechet_distance"].value,
        "z": copying.value,
        "near": copying.details["share_near"],
    }
    done.write_text(json.dumps(found, indent=2), encoding="utf-8")
    return found


def table(rows: list[dict[str, Any]], options: argparse.Namespace) -> str:
    """The result as Markdown."""
    lines = [
        f"# A DCGAN on {options.training:,} images, with and without augmentation",
        "",
        f"`python benchmarks/few_images.py`, {time.strftime('%Y-%m-%d')}: {options.images:,} real images seen, torch "
        f"{torch.__version__}, {platform.machine()}. 10,000 samples of the moving average; Frechet distance to 10,000 "
        "test images and copying, both on the features of a classifier. A lower distance, a higher z and a smaller "
        "share are better.",
        "",
        "| augmentation | seed | Frechet distance | memorisation z | near | minutes |\n|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row["arm"], f"{row['seed']}", f"{row['fd']:.2f}", f"{row['z']:.1f}", f"{row['near']:.1%}"]
        lines.append(f"| {' | '.join(cells)} | {row['minutes']:.0f} |")
    lines += ["", "| augmentation | seeds | Frechet distance | memorisation z | near |\n|---|---|---|---|---|"]
    for arm in dict.fromkeys(row["arm"] for row in rows):
        mine = [row for row in rows if row["arm"] == arm]
        cells = []
        for key, form in (("fd", ".2f"), ("z", ".1f"), ("near", ".1%")):
            values = [row[key] for row in mine]
            spread = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):{form}}{spread}")
        lines.append(f"| {arm} | {len(mine)} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main() -> int:
    """Train all arms and seeds, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with the four IDX files")
    add("--classifier", type=Path, required=True, help="run directory of examples/classifier_mnist.py")
    add("--out", type=Path, required=True, help="folder of the runs and the table")
    add("--training", type=int, default=1000, help="training images (default: %(default)s)")
    add("--images", type=int, default=100_000, help="real images seen by each run (default: %(default)s)")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--threads", type=int, help="default: torch's own choice")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    (images, _), (test, _) = (read_images(idx_images(options.data, part), 28) for part in ("train", "test"))
    rows = []
    for seed in options.seeds:
        for arm in ARMS:
            found = run(arm, seed, options, images, test)
            if found is None:
                print("Stopped; the same command goes on from here.")
                return 130
            rows.append(found)
            print(f"{arm}, seed {seed}: {found['fd']:.2f}, z {found['z']:.1f}", flush=True)
            (options.out / "few_images.md").write_text(table(rows, options), encoding="utf-8")
    print(table(rows, options))
    return 0


if __name__ == "__main__":
    with flushed_denormals():  # before PyTorch starts its threads
        sys.exit(main())
