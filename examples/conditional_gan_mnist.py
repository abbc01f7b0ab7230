"""Train a GAN that makes the digit it is told, on MNIST or other small pictures with labels; a choice of networks.

    python examples/conditional_gan_mnist.py                                       # scikit-learn's 1,797 digits
    python examples/conditional_gan_mnist.py --data mnist/ --model r3gan           # a folder with the four IDX files
    python examples/conditional_gan_mnist.py --dataset fashion_mnist --epochs 20   # found in $GANBLOCKS_DATA
    python examples/conditional_gan_mnist.py --data mnist/ --classifier runs/classifier   # judged by that network
    python examples/conditional_gan_mnist.py --smoke                               # a trial of some seconds

Needs: pip install "ganblocks[train]", and scikit-learn for the built-in digits. Runs on a CPU or a GPU.

--model dcgan has networks and training of Radford et al. 2016, told the class as a one-hot vector (Mirza and Osindero
2014); wgan_gp those of Gulrajani et al. 2017 and r3gan those of Huang et al. 2024, whose scores contain a product with
a vector of the class (Miyato and Koyama 2018). The latter two want a power of two as side: pictures of 28 px are
trained on with two black pixels around, and samples are cropped back for sheets and scores.

The run directory (--out) ends up with
    samples/, progress.gif  a sheet at the end of each epoch, a row for a class, a column for a latent; an animation
    real_beside_fake.png    32 images of the test part on the left, samples of the same classes on the right
    nearest.png             samples, each beside the training image nearest to it
    curves.png, report.html losses, scores; all of it on one page, under History the right samples of each class
    log.jsonl               one line of numbers at a time; tensorboard/ has the same for TensorBoard
    checkpoints/            the newest two; config.json has all settings

More pictures, classes in turn: ganblocks sample --run runs/conditional --count 60 --out sheet.png. Stopping (Ctrl-C,
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

from ganblocks.data import FASHION_MNIST_CLASSES, TensorBatches, built_in_digits, idx_images, read_images, split
from ganblocks.errors import GanblocksError
from ganblocks.metrics import random_extractor
from ganblocks.metrics.extractors import classifier_extractor
from ganblocks.models import dcgan, r3gan, wgan_gp
from ganblocks.models.config import ModelConfig
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
from ganblocks.training.callbacks import describe, print_above_bar
from ganblocks.training.environment import flushed_denormals
from ganblocks.training.gan_callbacks import RealBesideFake
from ganblocks.training.gan_recipes import GANRecipe
from ganblocks.training.scoring import NearestSheet, Scores

SHEET_SEED = 1234  # of the fixed latents on the sheets
SCORE_SEED = 4321  # of the latents behind the scores
SCORED = 10_000  # samples behind the scores, and that the classifier looks at in the end
GLANCED = 1000  # samples that it looks at on the way
DIGITS: dict[str, Any] = {"epochs": 60, "batch_size": 64, "base_channels": 16, "threads": 1}
SMOKE: dict[str, Any] = {"epochs": 2, "base_channels": 8, "ema_decay": 0.9}
COUNTS = ("epochs", "batch_size", "base_channels", "total_images", "threads")  # at least 1 where they are given
SHOWN = ("discriminator_loss", "generator_loss", "real_score", "fake_score", "penalty")
MODELS: dict[str, tuple[Any, Any, Callable[..., GANRecipe]]] = {
    "dcgan": (dcgan.Generator, dcgan.Discriminator, gan_recipes.dcgan_document),
    "wgan_gp": (wgan_gp.Generator, wgan_gp.Critic, gan_recipes.gulrajani2017),
    "r3gan": (r3gan.Generator, r3gan.Discriminator, gan_recipes.huang2024),
}

Sample = Callable[[Tensor, int], Tensor]
"""Makes an image in [-1, 1], of the size of the data, for each of some labels, from the latents of a seed."""


@dataclasses.dataclass(frozen=True)
class Data:
    """Images uint8 [N, C, R, R] and labels [N] to train on and to measure against, and what the sources say."""

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    fingerprints: tuple[str, ...]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line and find the data."""
    parser = argparse.ArgumentParser(
        description="Train a GAN that is told the class, on MNIST or other small pictures.",
        epilog="The same command again goes on where the run was stopped.",
    )
    add = parser.add_argument
    add("--dataset", choices=("mnist", "fashion_mnist", "digits"), help="default: mnist where it is found, else digits")
    add("--data", type=Path, help="folder with the four IDX files (default: $GANBLOCKS_DATA/<dataset>)")
    add("--out", type=Path, default=Path("runs/conditional"), help="run directory (default: %(default)s)")
    add("--fresh", action="store_true", help="start anew in a new directory, OUT-2 and so on")
    add("--model", choices=MODELS, default="dcgan", help="which networks and training")
    add("--classifier", type=Path, help="run directory of examples/classifier_mnist.py: samples are judged by it")
    add("--epochs", type=int, help="passes over the images (default: 50; digits 60)")
    add("--total-images", type=int, help="stop after this many images (default: when all epochs are done)")
    add("--batch-size", type=int, help="images in a batch (default: dcgan 128, others 64; digits 64)")
    add("--base-channels", type=int, help="width next to the image (default: 64; r3gan and digits 16)")
    add("--learning-rate", type=float, help="of both networks (default: wgan_gp 0.0001, others 0.0002)")
    add("--ema-decay", type=float, help="of a moving average of the generator, a step (default: only r3gan, 0.999)")
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
        both, side = [source], 8
        parts = split(len(source), len(source) // 5, seed=options.seed)
        (images, labels), (test, test_labels) = (read_images(source, side, indices=part) for part in parts)
    else:
        names = FASHION_MNIST_CLASSES if "fashion" in options.data.name.lower() else None
        both = [idx_images(options.data, part, classes=names) for part in ("train", "test")]
        side = min(both[0].size(0))
        (images, labels), (test, test_labels) = (read_images(part, side) for part in both)
    assert labels is not None  # both kinds of source have them
    assert test_labels is not None
    classes = max((part.classes for part in both), key=len)
    return Data(images, labels, test, test_labels, classes, tuple(part.fingerprint for part in both))


def build(options: argparse.Namespace, data: Data) -> tuple[ModelConfig, GANRecipe]:
    """Architecture for the side that the model can have, and recipe."""
    side, width = data.images.shape[-1], options.base_channels
    names = ("epochs", "batch_size", "learning_rate", "ema_decay")
    changes = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    recipe = MODELS[options.model][2](**changes)
    sizes: dict[str, Any] = {"image_channels": data.images.shape[1], "num_classes": len(data.classes)}
    if options.model == "dcgan":
        return dcgan.DCGANConfig.radford2016(side, base_channels=width or 64, **sizes), recipe
    resolution = 2 ** (side - 1).bit_length()
    if options.model == "wgan_gp":
        return wgan_gp.WGANGPConfig(resolution=max(16, resolution), base_channels=width or 64, **sizes), recipe
    width, resolution = width or 16, max(8, resolution)
    stages = range(resolution.bit_length() - 2)  # 4x4, 8x8 and so on
    sizes |= {"widths": tuple(width * 2**stage for stage in reversed(stages)), "group_size": math.gcd(16, 2 * width)}
    return r3gan.R3GANConfig.small32(resolution=resolution, blocks_per_stage=1, **sizes), recipe


class LossLine(Callback):
    """Prints the losses when they are logged."""

    def on_record(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        """Print them."""
        values = {name: record[name] for name in SHOWN if name in record}
        if values:
            print_above_bar(describe(trainer, values))


def judges(options: argparse.Namespace, data: Data, sample: Sample) -> list[Callback]:
    """The Frechet distance at the end; with a classifier how many samples are right, on the way too."""
    classes, K = data.classes, len(data.classes)

    def in_turn(count: int) -> Iterator[Tensor]:
        for index, labels in enumerate(torch.split(torch.arange(count) % K, 500)):
            yield sample(labels, SCORE_SEED + index)

    def fakes(trainer: Trainer) -> Iterator[Tensor]:
        return in_turn(min(len(data.test_images), SCORED))

    if options.classifier is None:
        extractor = random_extractor(data.images.shape[1], device=torch.device(options.device))
        return [Scores(data.test_images, fakes, ["fd"], extractor=extractor, seed=SCORE_SEED, show=True)]
    classifier = load_classifier(options.classifier).to(options.device)
    if (known := classifier.config.num_classes) != K:
        raise ValueError(f"--classifier knows {known} classes, but must know the {K} of the data")

    def measure(trainer: Trainer) -> dict[str, float]:
        last = trainer.images_seen >= trainer.total_images
        count = SCORED if last else GLANCED
        found = torch.cat([predict_logits(classifier, images).argmax(1) for images in in_turn(count)])
        right = (found == torch.arange(count) % K).double()
        if last:
            shares = [float(right[label::K].mean()) for label in range(K)]
            told = [f"{name}: {100 * share:.1f} %" for name, share in zip(classes, shares, strict=True)]
            trainer.event("right_samples", of=count, classes=told, shares=shares)
            print_above_bar(
                f"{100 * float(right.mean()):.1f} % of {count:,} samples are what they should be; "
                f"weakest: {classes[shares.index(min(shares))]} with {100 * min(shares):.1f} %"
            )
        return {"right_samples": float(right.mean())}

    extractor = classifier_extractor(classifier)
    return [
        Scores(data.test_images, fakes, ["fd", "prdc"], extractor=extractor, seed=SCORE_SEED, show=True),
        Measurements(measure, fractions=[point / 10 for point in range(1, 11)], show=True),
    ]


def train(options: argparse.Namespace) -> int:
    """Prepare data, networks and recipe, then train, from the newest checkpoint if there is one."""
    if options.threads:
        torch.set_num_threads(options.threads)
    run_dir = new_run_directory(options.out) if options.fresh else options.out
    data = read_data(options)
    config, recipe = build(options, data)
    N, side, K = len(data.images), data.images.shape[-1], len(data.classes)
    schedule = recipe.schedule(N)
    device = torch.device(options.device)
    precision = Precision.resolve(options.precision, device)
    torch.manual_seed(options.seed)
    generator, discriminator = (network(config).to(device) for network in MODELS[options.model][:2])
    step = recipe.build_step(
        generator, discriminator, latent_dim=generator.config.latent_dim, conditional=True, precision=precision
    )
    sampled: Any = generator if step.ema is None else step.ema.module
    around = generator.config.resolution - side  # black pixels, on both sides together
    before = around // 2

    def sample(labels: Tensor, seed: int) -> Tensor:
        images: Tensor = sampled.sample(len(labels), seed=seed, labels=labels)
        return images[..., before : before + side, before : before + side]

    def draw(trainer: Trainer) -> Tensor:
        return torch.cat([sample(torch.full((8,), label), SHEET_SEED) for label in range(K)])

    ends = [(epoch + 1) / recipe.epochs for epoch in range(recipe.epochs)]
    title = f"{options.model}, told the class, {N:,} images, {side}x{side}"
    batches = math.ceil(N / recipe.batch_size)
    every = max(1, min(100, batches // 4) // recipe.n_critic) * recipe.n_critic  # batches: the generator's turn
    trainer = Trainer(
        step,
        TensorBatches(F.pad(data.images, (before, around - before) * 2), data.labels, seed=options.seed),
        schedule,
        run_dir=None if options.dry_run else run_dir,  # a trial must not claim the directory for its settings
        seed=options.seed,
        resume=options.resume,
        total_images=options.total_images,
        settings={
            "model": options.model,
            "config": config.to_dict(),
            "recipe": dataclasses.asdict(recipe),
            "data": data.fingerprints,
            "precision": precision.name,
        },
        callbacks=[
            ProgressBar(),
            LossLine(),
            SampleSheets(draw, fractions=ends, columns=8),
            *judges(options, data, sample),
            RealBesideFake(data.test_images[:32], lambda trainer: sample(data.test_labels[:32], SHEET_SEED)),
            NearestSheet(lambda trainer: sample(torch.arange(16) % K, SHEET_SEED), torch.split(data.images, 1000)),
            TensorBoard(draw, fractions=ends),
            Summary(title=title),
            Report(title=title, fractions=(0.5,)),
        ],
        log_images=every * recipe.batch_size,
        save_images=max(1, min(N, schedule.total_images // 4)),
        metadata=lambda trainer: {"model": options.model, "config": config.to_dict()},
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
