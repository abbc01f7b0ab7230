"""Train an R3GAN (Huang et al. 2024) on MNIST or other small pictures: a modern baseline without tricks.

    python examples/r3gan_mnist.py                                         # scikit-learn's 1,797 digits
    python examples/r3gan_mnist.py --data mnist/                           # a folder with the four IDX files
    python examples/r3gan_mnist.py --dataset fashion_mnist --epochs 20     # found in $GANBLOCKS_DATA
    python examples/r3gan_mnist.py --data mnist/ --labels                  # both networks are told the class
    python examples/r3gan_mnist.py --data mnist/ --widths 256 192 96 32 --blocks 2   # for a GPU
    python examples/r3gan_mnist.py --data mnist/ --classifier runs/classifier   # judged by that network
    python examples/r3gan_mnist.py --smoke                                 # a trial of some seconds

Needs: pip install "ganblocks[train]", and scikit-learn for the built-in digits. Runs on a CPU or a GPU.

The networks want a power of two as side: pictures of 28 px are trained on with two black pixels around, and samples are
cropped back for sheets and scores. All samples are those of the moving average of the generator. What the discriminator
gives reals and fakes only says something in comparison: the loss leaves the zero of these scores open.

The run directory (--out) ends up with
    samples/, progress.gif  a sheet of the same latents at the end of each epoch, and all of them as an animation; with
                            --labels it has a column for a class
    real_beside_fake.png    images of the test part on the left, as many generated ones on the right
    nearest.png             samples, each beside the training image nearest to it
    curves.png, report.html losses, scores, penalty; all of it on one page, with scores against the test part
    log.jsonl               one line of numbers at a time; tensorboard/ has the same for TensorBoard
    checkpoints/            the newest two; config.json has all settings

More pictures, with their black border: ganblocks sample --run runs/r3gan --count 64 --out sheet.png. Stopping (Ctrl-C,
SIGTERM, a crash) loses nothing: the same command goes on from the last checkpoint.
"""

import argparse
import dataclasses
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ganblocks.data import TensorBatches, built_in_digits, idx_images, read_images, split
from ganblocks.errors import GanblocksError
from ganblocks.metrics import random_extractor
from ganblocks.metrics.extractors import classifier_extractor
from ganblocks.models.r3gan import Discriminator, Generator, R3GANConfig
from ganblocks.models.registry import load_classifier
from ganblocks.training import (
    Callback,
    Measurements,
    Precision,
    ProgressBar,
    Report,
    SampleSheets,
    Summary,
    TensorBoard,
    Trainer,
    gan_recipes,
    joined_processes,
    new_run_directory,
    predict_logits,
)
from ganblocks.training.augmentation import AdaptiveAugmentation
from ganblocks.training.callbacks import describe, print_above_bar
from ganblocks.training.environment import flushed_denormals
from ganblocks.training.gan_callbacks import RealBesideFake
from ganblocks.training.gan_recipes import GANRecipe
from ganblocks.training.scoring import NearestSheet, Scores

SHEET_SEED = 1234  # of the fixed latents on the sheets
SCORE_SEED = 4321  # of the latents behind the scores
SCORED = 10_000  # samples behind them, where there are as many test images
CONFIDENT = 1000  # samples that the classifier looks at during the run
WIDTHS = (16, 32, 64, 96, 96, 96, 96)  # of the stages where they are not given, the one next to the image first
DIGITS: dict[str, Any] = {"epochs": 60, "ema_decay": 0.99, "threads": 1}
SMOKE: dict[str, Any] = {"epochs": 2, "ema_decay": 0.9, "widths": [16, 8]}
COUNTS = ("epochs", "batch_size", "blocks", "total_images", "threads")  # at least 1 where they are given
SHOWN = ("discriminator_loss", "generator_loss", "real_score", "fake_score", "penalty")

Sample = Callable[[int, int], Tensor]
"""Makes so many images in [-1, 1], of the size of the data, from the latents of a seed."""


@dataclasses.dataclass(frozen=True)
class Data:
    """Images uint8 [N, C, R, R] with labels [N] to train on, images to measure against, what the sources say."""

    images: Tensor
    labels: Tensor
    test_images: Tensor
    fingerprints: tuple[str, ...]


class LossLine(Callback):
    """Prints the losses when they are logged."""

    def on_record(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        """Print them."""
        values = {name: record[name] for name in SHOWN if name in record}
        if values:
            print_above_bar(describe(trainer, values))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line and find the data."""
    parser = argparse.ArgumentParser(
        description="Train an R3GAN on MNIST or other small pictures.",
        epilog="The same command again goes on where the run was stopped.",
    )
    add = parser.add_argument
    add("--dataset", choices=("mnist", "fashion_mnist", "digits"), help="default: mnist where it is found, else digits")
    add("--data", type=Path, help="folder with the four IDX files (default: $GANBLOCKS_DATA/<dataset>)")
    add("--out", type=Path, default=Path("runs/r3gan"), help="run directory (default: %(default)s)")
    add("--fresh", action="store_true", help="start anew in a new directory, OUT-2 and so on")
    add("--labels", action="store_true", help="tell both networks the class of each image")
    add("--classifier", type=Path, help="run directory of examples/classifier_mnist.py: samples are judged by it")
    add("--epochs", type=int, help="passes over the images (default: 50; digits 60)")
    add("--total-images", type=int, help="stop after this many images (default: when all epochs are done)")
    add("--batch-size", type=int, help="images in a batch (default: 64)")
    add("--widths", type=int, nargs="+", help="channels from 4x4 up (default: 96 64 32 16; digits 32 16)")
    add("--blocks", type=int, default=1, help="residual blocks at each resolution (default: %(default)s)")
    add("--gamma", type=float, default=1.0, help="weight of the penalties, 0 = none (default: %(default)s)")
    add("--augment", default="none", help="color,translation,cutout or some of these (default: %(default)s)")
    add("--learning-rate", type=float, help="of both networks (default: 0.0002)")
    add("--ema-decay", type=float, help="of the generator's moving average, a step (default: 0.999; digits 0.99)")
    add("--resume", choices=("exact", "lenient"), default="exact", help="lenient: go on where the last bits may differ")
    add("--seed", type=int, default=0)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    add("--threads", type=int, help="CPU threads (default: torch's own choice; digits 1)")
    add("--smoke", action="store_true", help="a trial of some seconds: the digits, tiny networks, two epochs")
    add("--dry-run", action="store_true", help="check data, settings and memory, then stop")
    options = parser.parse_args(arguments)
    for name in COUNTS:
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} is {value}, but must be at least 1")
    if not 0 <= options.gamma < math.inf:
        parser.error(f"--gamma is {options.gamma}, but must be 0 or more, and finite")
    try:
        device = torch.device(options.device)
    except RuntimeError:
        parser.error(f"--device is {options.device}, but must be cpu, cuda or cuda:0 and so on")
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error(f"--device is {options.device}, but PyTorch finds no GPU here")
    if options.smoke:
        options.dataset = "digits"
    root = os.environ.get("GANBLOCKS_DATA")
    if options.data is None and options.dataset != "digits":
        folder = Path(root) / (options.dataset or "mnist") if root else None
        if folder is not None and folder.is_dir():
            options.data = folder
        elif options.dataset is not None:
            parser.error(f"--dataset is {options.dataset}, but neither --data nor GANBLOCKS_DATA says where it is")
    small = DIGITS if options.data is None else {}
    for name, value in ({**small, **SMOKE} if options.smoke else small).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def read_data(options: argparse.Namespace) -> Data:
    """All images in memory, in two parts: the second is only measured against."""
    if options.data is None:
        print("No --data: using the 1,797 digits (8 px) of scikit-learn.")
        source = built_in_digits()
        parts = split(len(source), len(source) // 5, seed=options.seed)
        (images, labels), (test, _) = (read_images(source, 8, indices=part) for part in parts)
        fingerprints: tuple[str, ...] = (source.fingerprint,)
    else:
        both = [idx_images(options.data, part) for part in ("train", "test")]
        side = min(both[0].size(0))
        (images, labels), (test, _) = (read_images(part, side) for part in both)
        fingerprints = tuple(part.fingerprint for part in both)
    assert labels is not None  # both kinds of source have them
    return Data(images, labels, test, fingerprints)


def build(options: argparse.Namespace, data: Data) -> tuple[R3GANConfig, GANRecipe]:
    """Architecture for the next power of two, and recipe."""
    resolution = max(8, 2 ** (data.images.shape[-1] - 1).bit_length())
    stages = resolution.bit_length() - 2  # 4x4, 8x8 and so on
    widths = tuple(options.widths or reversed(WIDTHS[:stages]))
    config = R3GANConfig.small32(
        resolution=resolution,
        image_channels=data.images.shape[1],
        num_classes=int(data.labels.max()) + 1 if options.labels else 0,
        widths=widths,
        blocks_per_stage=options.blocks,
        group_size=math.gcd(16, *(2 * width for width in widths)),  # 16, or the most that fits narrow stages
    )
    names = ("epochs", "batch_size", "learning_rate", "ema_decay")
    changes = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return config, gan_recipes.huang2024(penalty_weight=options.gamma / 2, **changes)


def judges(options: argparse.Namespace, data: Data, sample: Sample) -> list[Callback]:
    """The Frechet distance at the end; on the way, how sure a classifier is and how many classes it finds."""
    count = min(len(data.test_images), SCORED)

    def fakes(trainer: Trainer) -> Iterator[Tensor]:
        for index, part in enumerate(range(0, count, 500)):
            yield sample(min(500, count - part), SCORE_SEED + index)

    if options.classifier is None:
        extractor = random_extractor(data.images.shape[1], device=torch.device(options.device))
        return [Scores(data.test_images, fakes, ["fd"], extractor=extractor, seed=SCORE_SEED, show=True)]
    classifier = load_classifier(options.classifier).to(options.device)

    def measure(trainer: Trainer) -> dict[str, float]:
        shares = predict_logits(classifier, sample(CONFIDENT, SCORE_SEED)).softmax(dim=1)
        certainty, classes = shares.max(dim=1)
        return {"classifier_confidence": float(certainty.mean()), "classes_found": len(torch.unique(classes))}

    extractor = classifier_extractor(classifier)
    return [
        Measurements(measure, fractions=[point / 10 for point in range(1, 11)], show=True),
        Scores(data.test_images, fakes, ["fd", "prdc"], extractor=extractor, seed=SCORE_SEED, show=True),
    ]


def train(options: argparse.Namespace) -> int:
    """Prepare data, networks and recipe, then train, from the newest checkpoint if there is one."""
    if options.threads:
        torch.set_num_threads(options.threads)
    run_dir = new_run_directory(options.out) if options.fresh else options.out
    data = read_data(options)
    config, recipe = build(options, data)
    N, side = len(data.images), data.images.shape[-1]
    schedule = recipe.schedule(N)
    device = torch.device(options.device)
    precision = Precision.resolve(options.precision, device)
    torch.manual_seed(options.seed)
    generator, discriminator = Generator(config).to(device), Discriminator(config).to(device)
    policy = options.augment.split(",")
    step = recipe.build_step(
        generator,
        discriminator,
        latent_dim=config.latent_dim,
        conditional=options.labels,
        augment=None if policy == ["none"] else AdaptiveAugmentation(policy, probability=1.0, ramp_images=None),
        precision=precision,
    )
    assert step.ema is not None  # the recipe has one
    average = step.ema.module
    assert isinstance(average, Generator)

    around = config.resolution - side  # black pixels, on both sides together
    before = around // 2

    def sample(count: int, seed: int) -> Tensor:
        return average.sample(count, seed=seed)[..., before : before + side, before : before + side]

    columns = config.num_classes or 8  # classes in turn: a column for each

    def draw(trainer: Trainer) -> Tensor:
        return sample(4 * columns, SHEET_SEED)

    ends = [(epoch + 1) / recipe.epochs for epoch in range(recipe.epochs)]
    title = f"R3GAN, {N:,} images, {side}x{side}"
    batches = math.ceil(N / recipe.batch_size)
    trainer = Trainer(
        step,
        TensorBatches(F.pad(data.images, (before, around - before) * 2), data.labels, seed=options.seed),
        schedule,
        run_dir=None if options.dry_run else run_dir,  # a trial must not claim the directory for its settings
        seed=options.seed,
        resume=options.resume,
        total_images=options.total_images,
        settings={
            "config": config.to_dict(),
            "recipe": dataclasses.asdict(recipe),
            "augment": policy,
            "data": data.fingerprints,
            "precision": precision.name,
        },
        callbacks=[
            ProgressBar(),
            LossLine(),
            SampleSheets(draw, fractions=ends, columns=columns),
            *judges(options, data, sample),
            RealBesideFake(data.test_images[: 4 * columns], draw, columns=columns),
            NearestSheet(draw, torch.split(data.images, 1000)),
            TensorBoard(draw, fractions=ends),
            Summary(title=title),
            Report(title=title, fractions=(0.5,)),
        ],
        log_images=recipe.batch_size * min(100, max(1, batches // 4)),
        save_images=max(1, min(N, schedule.total_images // 4)),
        metadata=lambda trainer: {"model": "r3gan", "config": config.to_dict()},
    )
    parameters = [sum(p.numel() for p in module.parameters()) for module in (generator, discriminator)]
    print(
        f"{N:,} images to train on, {batches} batches an epoch; generator {parameters[0]:,} and discriminator "
        f"{parameters[1]:,} parameters; {precision.name} on {device}, {torch.get_num_threads()} threads",
        flush=True,
    )
    trainer.dry_run()
    if options.dry_run:
        print("Dry run: everything fits. Nothing was trained.")
        return 0
    result = trainer.fit()
    state = "finished" if result.finished else "stopped; the same command goes on from here"
    print(f"{result.images_seen:,} images in {result.seconds:.0f} s: {state}. See {run_dir}")
    return result.exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; returns the exit code."""
    options = parse(arguments)
    warnings.simplefilter("default")
    try:
        with joined_processes(), flushed_denormals():  # the latter before PyTorch starts its threads
            return train(options)
    except (GanblocksError, ValueError, OSError, ImportError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
