"""Train a DCGAN (Radford et al. 2016) on MNIST, Fashion-MNIST or other small pictures, in either of its taught forms.

    python examples/dcgan_mnist.py                                         # scikit-learn's 1,797 digits, half a minute
    python examples/dcgan_mnist.py --data mnist/                           # a folder with the four IDX files
    python examples/dcgan_mnist.py --dataset fashion_mnist --epochs 20     # found in $GANBLOCKS_DATA
    python examples/dcgan_mnist.py --data mnist/ --init torch              # initial weights of the framework, as taught
    python examples/dcgan_mnist.py --data mnist/ --form tutorial           # dense start, 5x5 kernels, dropout
    python examples/dcgan_mnist.py --data mnist/ --classifier runs/classifier   # judged by that network
    python examples/dcgan_mnist.py --smoke                                 # a trial of some seconds

Needs: pip install "ganblocks[train]", and scikit-learn for the built-in digits. Runs on a CPU or a GPU.

--form pytorch prints a line for every hundredth batch of an epoch: both losses, and the probability of being real that
the discriminator gives reals, fakes, and fakes after its own update.

The run directory (--out) ends up with
    samples/, progress.gif  a sheet of the same latents at the end of each epoch, and all of them as an animation
    real_beside_fake.png    32 images of the test part on the left, 32 generated ones on the right
    nearest.png             samples, each beside the training image nearest to it
    curves.png, report.html losses and probabilities; all of it on one page, with scores against the test part
    log.jsonl               one line of numbers at a time; tensorboard/ has the same for TensorBoard
    checkpoints/            the newest two; config.json has all settings

More pictures: ganblocks sample --run runs/dcgan --count 64 --out sheet.png. Stopping (Ctrl-C, SIGTERM, a crash) loses
nothing: the same command goes on from the last checkpoint.
"""

import argparse
import dataclasses
import math
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganblocks.data import FASHION_MNIST_CLASSES, TensorBatches, built_in_digits, idx_images, read_images, split
from ganblocks.errors import GanblocksError
from ganblocks.metrics import random_extractor
from ganblocks.metrics.extractors import classifier_extractor
from ganblocks.models.dcgan import DCGANConfig, Discriminator, Generator
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
from ganblocks.training.environment import flushed_denormals
from ganblocks.training.gan_callbacks import ConsoleLine, RealBesideFake
from ganblocks.training.gan_recipes import GANRecipe
from ganblocks.training.scoring import NearestSheet, Scores

SHEET_SEED = 1234  # of the fixed latents on the sheets
SCORE_SEED = 4321  # of the latents behind the scores
SCORED = 10_000  # samples behind them, where there are as many test images
CONFIDENT = 1000  # samples that the classifier looks at during the run
SMOKE: dict[str, Any] = {"epochs": 2, "batch_size": 64, "base_channels": 8}
COUNTS = ("epochs", "batch_size", "base_channels", "total_images", "threads")  # at least 1 where they are given


@dataclasses.dataclass(frozen=True)
class Data:
    """Images uint8 [N, C, R, R] to train on and to measure against, and what the sources say."""

    images: Tensor
    test_images: Tensor
    fingerprints: tuple[str, ...]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line and find the data."""
    parser = argparse.ArgumentParser(
        description="Train a DCGAN on MNIST or other small pictures.",
        epilog="The same command again goes on where the run was stopped.",
    )
    add = parser.add_argument
    add("--dataset", choices=("mnist", "fashion_mnist", "digits"), help="default: mnist where it is found, else digits")
    add("--data", type=Path, help="folder with the four IDX files (default: $GANBLOCKS_DATA/<dataset>)")
    add("--out", type=Path, default=Path("runs/dcgan"), help="run directory (default: %(default)s)")
    add("--fresh", action="store_true", help="start anew in a new directory, OUT-2 and so on")
    add("--form", choices=("pytorch", "tutorial"), default="pytorch", help="which networks and training")
    add("--init", choices=("dcgan", "torch", "glorot_uniform"), help="initial weights (default: the form's)")
    add("--classifier", type=Path, help="run directory of examples/classifier_mnist.py: samples are judged by it")
    add("--epochs", type=int, help="passes over the images (default: 50; digits 60)")
    add("--total-images", type=int, help="stop after this many images (default: when all epochs are done)")
    add("--batch-size", type=int, help="images in a batch (default: pytorch 128, tutorial 256; digits 64)")
    add("--base-channels", type=int, help="width of the block next to the image (default: 64; digits 16)")
    add("--learning-rate", type=float, help="of both networks (default: pytorch 0.0002, tutorial 0.0001)")
    add("--ema-decay", type=float, help="of a moving average of the generator, a step (default: no average)")
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
    small = {"epochs": 60, "batch_size": 64, "base_channels": 16, "threads": 1} if options.data is None else {}
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
        (images, _), (test, _) = (read_images(source, 8, indices=part) for part in parts)
        return Data(images, test, (source.fingerprint,))
    names = FASHION_MNIST_CLASSES if "fashion" in options.data.name.lower() else None
    both = [idx_images(options.data, part, classes=names) for part in ("train", "test")]
    side = min(both[0].size(0))
    (images, _), (test, _) = (read_images(part, side) for part in both)
    return Data(images, test, tuple(part.fingerprint for part in both))


def build(options: argparse.Namespace, data: Data) -> tuple[DCGANConfig, GANRecipe]:
    """Architecture and recipe of the chosen form."""
    tutorial = options.form == "tutorial"
    config = (DCGANConfig.document_tutorial if tutorial else DCGANConfig.radford2016)(
        data.images.shape[-1],
        image_channels=data.images.shape[1],
        **({} if options.base_channels is None else {"base_channels": options.base_channels}),
        **({} if options.init is None else {"initialization": options.init}),
    )
    names = ("epochs", "batch_size", "learning_rate", "ema_decay")
    changes = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return config, (gan_recipes.dcgan_tutorial if tutorial else gan_recipes.dcgan_document)(**changes)


def confidence(classifier: nn.Module, images: Tensor) -> dict[str, float]:
    """How sure a classifier is of samples, and how many classes it finds among them."""
    shares = predict_logits(classifier, images).softmax(dim=1)
    certainty, classes = shares.max(dim=1)
    return {"classifier_confidence": float(certainty.mean()), "classes_found": len(torch.unique(classes))}


def judges(options: argparse.Namespace, data: Data, sampled: Generator) -> list[Callback]:
    """What is measured: the Frechet distance at the end, and a classifier's confidence on the way if there is one."""
    count = min(len(data.test_images), SCORED)
    device = next(sampled.parameters()).device

    def fakes(trainer: Trainer) -> Iterator[Tensor]:
        for index, part in enumerate(range(0, count, 500)):
            yield sampled.sample(min(500, count - part), seed=SCORE_SEED + index)

    if options.classifier is None:
        extractor = random_extractor(data.images.shape[1], device=device)
        return [Scores(data.test_images, fakes, ["fd"], extractor=extractor, seed=SCORE_SEED, show=True)]
    classifier = load_classifier(options.classifier).to(device)

    def measure(trainer: Trainer) -> dict[str, float]:
        return confidence(classifier, sampled.sample(CONFIDENT, seed=SCORE_SEED))

    points = [point / 10 for point in range(1, 11)]
    extractor = classifier_extractor(classifier)
    return [
        Measurements(measure, fractions=points, show=True),
        Scores(data.test_images, fakes, ["fd", "prdc"], extractor=extractor, seed=SCORE_SEED, show=True),
    ]


def train(options: argparse.Namespace) -> int:
    """Prepare data, networks and recipe, then train, from the newest checkpoint if there is one."""
    if options.threads:
        torch.set_num_threads(options.threads)
    run_dir = new_run_directory(options.out) if options.fresh else options.out
    data = read_data(options)
    config, recipe = build(options, data)
    N = len(data.images)
    schedule = recipe.schedule(N)
    device = torch.device(options.device)
    precision = Precision.resolve(options.precision, device)
    torch.manual_seed(options.seed)
    generator, discriminator = Generator(config).to(device), Discriminator(config).to(device)
    step = recipe.build_step(
        generator, discriminator, latent_dim=config.latent_dim, precision=precision, log_probabilities=True
    )
    sampled = generator if step.ema is None else step.ema.module
    assert isinstance(sampled, Generator)

    def draw(trainer: Trainer) -> Tensor:
        return sampled.sample(16 if options.form == "tutorial" else 32, seed=SHEET_SEED)

    ends = [(epoch + 1) / recipe.epochs for epoch in range(recipe.epochs)]
    title = f"DCGAN, {options.form} form, {N:,} images, {config.resolution}x{config.resolution}"
    batches = math.ceil(N / recipe.batch_size)
    trainer = Trainer(
        step,
        TensorBatches(data.images, seed=options.seed),
        schedule,
        run_dir=None if options.dry_run else run_dir,  # a trial must not claim the directory for its settings
        seed=options.seed,
        resume=options.resume,
        total_images=options.total_images,
        settings={
            "config": config.to_dict(),
            "recipe": dataclasses.asdict(recipe),
            "data": data.fingerprints,
            "precision": precision.name,
        },
        callbacks=[
            ProgressBar(),
            ConsoleLine(N, recipe.batch_size, every=min(100, max(1, batches // 4))),
            SampleSheets(draw, fractions=ends, columns=4 if options.form == "tutorial" else 8),
            *judges(options, data, sampled),
            RealBesideFake(data.test_images[:32], lambda trainer: sampled.sample(32, seed=SHEET_SEED)),
            NearestSheet(draw, torch.split(data.images, 1000)),
            TensorBoard(
                fractions=ends,
                tags={"discriminator_loss": "Loss/Discriminator", "generator_loss": "Loss/Generator"},
                sheets={"Real Images": lambda trainer: data.test_images[:32], "Generated Images": draw},
            ),
            Summary(title=title),
            Report(title=title, fractions=(0.5,)),
        ],
        log_images=schedule.total_images + 1,  # the console line writes the log
        save_images=max(1, min(N, schedule.total_images // 4)),
        metadata=lambda trainer: {"model": "dcgan", "config": config.to_dict()},
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
