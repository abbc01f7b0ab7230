"""What augmentation is worth where images are few: a GAN on 1,000 of them, with and without.

    python benchmarks/few_images.py --data fashion_mnist/ --classifier runs/fashion_classifier --out runs/few

The DCGAN of Radford et al. 2016 at 28x28 sees --images real images out of 1,000 (chosen by the seed): as they are, with
differentiable augmentation of all reals and fakes (Zhao et al. 2020), or of as many as overfitting asks for (Karras et
al. 2020). Ten times on the way, 10,000 samples of the generator's moving average are compared with the 10,000 test
images on the features of a classifier (a run directory of examples/classifier_mnist.py). Copying is looked for on the
same features by `ganblocks.metrics.memorisation`: "nearer" is the share of samples nearer to a training image than to
any of as many test images, one half without copying; the z-score compares distances to the training images, those of
samples and of test images, and is far below 0 where samples are copies, above it where they lie far from all images.

Each training is a run of its own in --out, so the same command goes on where it was stopped, and skips what is done. It
ends with few_images.md and few_images.png in --out. With --arms other processes can train the others at the same time.
"""

import argparse
import dataclasses
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
from ganblocks.training import (
    AdaptiveAugmentation,
    Measurements,
    Precision,
    ProgressBar,
    SampleSheets,
    Trainer,
    gan_recipes,
)
from ganblocks.training.environment import flushed_denormals
from ganblocks.visualization.canvas import COLORS, FAINT, FRAME, INK, MUTED, empty_figure, finished
from ganblocks.visualization.run_reader import read_run

SAMPLES, PART, SEED = 10_000, 500, 4321
TENTHS = tuple(tenth / 10 for tenth in range(1, 11))
ARMS = ("none", "always", "adaptive")
Row = dict[str, Any]
"""What was measured of one arm and seed at one moment."""


def run(arm: str, seed: int, options: argparse.Namespace, images: Tensor, test: Tensor) -> list[Row] | None:
    """Train one arm, or go on; what was measured at each tenth of it, or ``None`` when it was stopped."""
    run_dir = options.out / f"{arm}-{seed}"
    _, chosen = split(len(images), options.training, seed=seed)
    training = images[chosen]
    torch.manual_seed(seed)
    config = DCGANConfig.radford2016(28, base_channels=options.base_channels)
    recipe = gan_recipes.radford2016(
        ema_decay=0.999,
        epochs=math.ceil(options.images / len(training)),
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
    )
    ramp = options.ramp_images if arm == "adaptive" else None
    augment = AdaptiveAugmentation(options.policy, probability=float(ramp is None), ramp_images=ramp)
    step = recipe.build_step(
        Generator(config),
        Discriminator(config),
        latent_dim=config.latent_dim,
        precision=Precision.resolve("auto", torch.device("cpu")),
        augment=None if arm == "none" else augment,
    )
    assert step.ema is not None
    average: Any = step.ema.module
    extractor = classifier_extractor(load_classifier(options.classifier))

    def measure(trainer: Trainer) -> dict[str, float]:
        samples = torch.cat([average.sample(PART, seed=SEED + part) for part in range(SAMPLES // PART)])
        distance = evaluate(test, samples, ["fd"], extractor=extractor, seed=0)["frechet_distance"].value
        measured = evaluate(training, samples, ["memorisation"], extractor=extractor, held_out=test, seed=0)
        copying = measured["memorisation_features"]
        found = {"fd": distance, "z": copying.value, "nearer": copying.details["share_nearer_train"]}
        return found | {"augment_probability": 0.0 if arm == "none" else float(augment.probability)}

    trainer = Trainer(
        step,
        TensorBatches(training, seed=seed),
        recipe.schedule(len(training)),
        run_dir=run_dir,
        seed=seed,
        total_images=options.images,
        resume="lenient",
        settings={
            "augmentation": [arm, *options.policy, ramp],
            "config": config.to_dict(),
            "recipe": dataclasses.asdict(recipe),
            "images": options.images,
            "of": options.training,
        },
        callbacks=[
            ProgressBar(),
            SampleSheets(lambda trainer: average.sample(64, seed=1234), fractions=TENTHS, columns=8),
            Measurements(measure, fractions=TENTHS, show=True),
        ],
        save_images=max(1, options.images // 10),
    )
    if trainer.fit().images_seen < options.images:
        return None
    records = [record for record in read_run(run_dir).records if "fd" in record]
    return [
        {"arm": arm, "seed": seed, "tenth": tenth, **{name: record[name] for name in ("fd", "nearer", "z")}}
        for tenth, record in enumerate(records, start=1)
    ]


def summary(rows: Sequence[Row]) -> str:
    """Mean and deviation over seeds of distance, share and z, as cells of a table."""
    cells = []
    for key, form in (("fd", ".2f"), ("nearer", ".1%"), ("z", ".1f")):
        values = [row[key] for row in rows]
        spread = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):{form}}{spread}")
    return " | ".join(cells)


def table(rows: Sequence[Row], options: argparse.Namespace) -> str:
    """The result as Markdown: the runs at their end, then the means of each arm along the way."""
    tenths = sorted({row["tenth"] for row in rows})
    lines = [
        f"# A DCGAN on {options.training:,} images, with and without augmentation",
        "",
        f"`python benchmarks/few_images.py`, {time.strftime('%Y-%m-%d')}: {options.images:,} real images seen in "
        f"batches of {options.batch_size}, torch {torch.__version__}, {platform.machine()}. 10,000 samples of the "
        "moving average; Fréchet distance to 10,000 test images, the share of samples nearer to a training than to a "
        "test image (half without copying), and the z-score of copying, all on the features of a classifier.",
        "",
        "At the end:",
        "",
        "| augmentation | seed | distance | nearer | z |\n|---|---|---|---|---|",
    ]
    for row in rows:
        if row["tenth"] == tenths[-1]:
            lines.append(f"| {row['arm']} | {row['seed']} | {row['fd']:.2f} | {row['nearer']:.1%} | {row['z']:.1f} |")
    lines += ["", "On the way, mean ± deviation over the seeds:", ""]
    lines.append("| images | " + " | ".join(f"{arm}: distance | nearer | z" for arm in options.arms) + " |")
    lines.append("|---" * (1 + 3 * len(options.arms)) + "|")
    for tenth in tenths:
        here = [row for row in rows if row["tenth"] == tenth]
        arms = [summary([row for row in here if row["arm"] == arm]) for arm in options.arms]
        lines.append(f"| {tenth * options.images // 10:,} | {' | '.join(arms)} |")
    return "\n".join([*lines, ""])


def curves(rows: Sequence[Row], options: argparse.Namespace, path: Path) -> None:
    """Distance and z-score on the way: a thin line a run, a thick one for the mean of an arm."""
    figure = empty_figure(9.6, 3.6, constrained=True)
    headings = {"fd": "Fréchet distance to unseen images", "z": "z-score of copying: lower is nearer to copies"}
    for axes, (key, heading) in zip(figure.subplots(1, 2), headings.items(), strict=True):
        for arm, color in zip(options.arms, COLORS, strict=False):
            runs = [[row[key] for row in rows if (row["arm"], row["seed"]) == (arm, seed)] for seed in options.seeds]
            thousands = [tenth * options.images / 10_000 for tenth in range(1, len(runs[0]) + 1)]
            for values in runs:
                axes.plot(thousands, values, color=color, linewidth=0.7, alpha=0.5)
            means = [statistics.mean(values) for values in zip(*runs, strict=True)]
            axes.plot(thousands, means, color=color, linewidth=2, label=arm)
        axes.set_title(heading, loc="left", fontsize=11, fontweight="bold", color=INK)
        axes.set_xlabel("thousand images seen", fontsize=9.5, color=INK)
        axes.legend(title="augmentation", frameon=False, fontsize=9, labelcolor=INK)
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(FRAME)
        axes.tick_params(colors=MUTED, labelsize=9, length=3)
    finished(figure, path)


def main() -> int:
    """Train all arms and seeds, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with the four IDX files")
    add("--classifier", type=Path, required=True, help="run directory of examples/classifier_mnist.py")
    add("--out", type=Path, required=True, help="folder of the runs and the table")
    add("--training", type=int, default=1000, help="training images (default: %(default)s)")
    add("--images", type=int, default=600_000, help="real images seen by each run (default: %(default)s)")
    add("--batch-size", type=int, default=16, help="images in a batch (default: %(default)s)")
    add("--base-channels", type=int, default=32, help="width of the networks (default: %(default)s)")
    add("--learning-rate", type=float, default=0.001, help="of both networks (default: %(default)s)")
    add("--arms", nargs="+", choices=ARMS, default=ARMS, help="what is trained and compared (default: all)")
    add(
        "--policy",
        nargs="+",
        default=["color", "translation", "cutout"],
        help="of the augmentation (default: %(default)s)",
    )
    add("--ramp-images", type=int, default=100_000, help="of the adaptive one (default: %(default)s)")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--threads", type=int, help="default: torch's own choice")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    (images, _), (test, _) = (read_images(idx_images(options.data, part), 28) for part in ("train", "test"))
    rows: list[Row] = []
    for seed in options.seeds:
        for arm in options.arms:
            found = run(arm, seed, options, images, test)
            if found is None:
                print("Stopped; the same command goes on from here.")
                return 130
            rows += found
    text = table(rows, options)
    (options.out / "few_images.md").write_text(text, encoding="utf-8")
    curves(rows, options, options.out / "few_images.png")
    print(text)
    return 0


if __name__ == "__main__":
    with flushed_denormals():  # before PyTorch starts its threads
        sys.exit(main())
