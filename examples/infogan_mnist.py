"""Train an InfoGAN (Chen et al. 2016) on MNIST or other small pictures: it finds categories that nobody told it.

    python examples/infogan_mnist.py                                       # scikit-learn's 1,797 digits
    python examples/infogan_mnist.py --data mnist/                         # a folder with the four IDX files
    python examples/infogan_mnist.py --dataset fashion_mnist --epochs 20   # found in $GANBLOCKS_DATA
    python examples/infogan_mnist.py --data mnist/ --classifier runs/classifier   # judged by that network
    python examples/infogan_mnist.py --smoke                               # a trial of some seconds

Needs: pip install "ganblocks[train]", and scikit-learn for the built-in digits. Runs on a CPU or a GPU.

A latent is noise, one of ten categories, and two continuous codes. What the categories have come to mean is measured by
their purity: each gets the digit that is most frequent in it, and purity is the share of pictures with the digit of
their category. The pictures are the test images with their labels, and the recognition network says their categories;
one minus this purity is what the paper calls the error rate of the code as a classifier, 5 %. With --classifier (a run
directory of examples/classifier_mnist.py) there is a second purity, of 10,000 samples whose digits the classifier says.
Samples that are all alike are pure, too, so both come with the number of digits that are the most frequent of some
category. docs/guide/gans.md has settings that find them in 12 epochs, and what else was tried.

The run directory (--out) ends up with
    samples/, progress.gif  a sheet at the end of each epoch, a row for a category, a column for a noise; and all of
                            them as an animation
    figures/continuous_1.png  and so on: a row for a category; from left to right one continuous code goes from -2 to 2
    real_beside_fake.png    32 images of the test part on the left, 32 generated ones on the right
    nearest.png             samples, each beside the training image nearest to it
    curves.png, report.html losses, information in nats, purity; all of it on one page, with scores against the test
                            part and, under History, the digit of each category
    log.jsonl               one line of numbers at a time; tensorboard/ has the same for TensorBoard
    checkpoints/            the newest two; config.json has all settings

More pictures: ganblocks sample --run runs/infogan --count 64 --out sheet.png. Stopping (Ctrl-C, SIGTERM, a crash) loses
nothing: the same command goes on from the last checkpoint.
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
from torch import Tensor, nn

from ganblocks.data import TensorBatches, built_in_digits, idx_images, read_images, split
from ganblocks.errors import GanblocksError
from ganblocks.metrics import random_extractor
from ganblocks.metrics.extractors import classifier_extractor
from ganblocks.models.infogan import Discriminator, Generator, InfoGANConfig
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
    joined_processes,
    new_run_directory,
    predict_logits,
)
from ganblocks.training.callbacks import print_above_bar
from ganblocks.training.environment import flushed_denormals
from ganblocks.training.gan_callbacks import ConsoleLine, RealBesideFake
from ganblocks.training.information_recipes import InfoGANRecipe, chen2016
from ganblocks.training.random_state import preserved_random_state
from ganblocks.training.scoring import NearestSheet, Scores
from ganblocks.visualization.grid import save_image_grid

SHEET_SEED = 1234  # of the fixed latents on the sheets
SCORE_SEED = 4321  # of the latents behind the scores
SCORED = 10_000  # samples behind the scores, and behind the purity at the end
GLANCED = 1000  # samples behind the purity on the way
COLUMNS = 10  # of the sheets
SMOKE: dict[str, Any] = {"epochs": 2, "batch_size": 64, "base_channels": 8}
COUNTS = ("epochs", "total_images", "base_channels", "noise_dim", "threads")  # at least 1 where they are given

Counts = Callable[[int], Tensor]
"""How often each digit is found in each category, [K, digits], with a wish for the number of pictures looked at."""


@dataclasses.dataclass(frozen=True)
class Data:
    """Images uint8 [N, C, R, R] to train on and, with labels [N], to measure against; what the sources say."""

    images: Tensor
    test_images: Tensor
    test_labels: Tensor
    fingerprints: tuple[str, ...]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line and find the data."""
    parser = argparse.ArgumentParser(
        description="Train an InfoGAN on MNIST or other small pictures.",
        epilog="The same command again goes on where the run was stopped.",
    )
    add = parser.add_argument
    add("--dataset", choices=("mnist", "fashion_mnist", "digits"), help="default: mnist where it is found, else digits")
    add("--data", type=Path, help="folder with the four IDX files (default: $GANBLOCKS_DATA/<dataset>)")
    add("--out", type=Path, default=Path("runs/infogan"), help="run directory (default: %(default)s)")
    add("--fresh", action="store_true", help="start anew in a new directory, OUT-2 and so on")
    add("--classifier", type=Path, help="run directory of examples/classifier_mnist.py: samples are judged by it")
    add("--epochs", type=int, help="passes over the images (default: 50; digits 60)")
    add("--total-images", type=int, help="stop after this many images (default: when all epochs are done)")
    add("--batch-size", type=int, help="images in a batch, at least 2 (default: 128; digits 64)")
    add(
        "--base-channels", type=int, help="width of the block next to the image; others follow (default: 64; digits 16)"
    )
    add("--noise-dim", type=int, help="numbers of noise; with few the digit cannot hide in it (default: 62)")
    add("--fixed-variance", action="store_true", help="Q guesses means of continuous codes alone, their variance is 1")
    add("--learning-rate", type=float, help="of the discriminator (default: 0.0002)")
    add("--generator-learning-rate", type=float, help="of the generator (default: 0.001)")
    add("--category-weight", type=float, help="of what the image tells of its category (default: 1)")
    add("--continuous-weight", type=float, help="of what it tells of its continuous codes (default: 0.1)")
    add("--ema-decay", type=float, help="of a moving average of the generator, a step (default: no average)")
    add("--resume", choices=("exact", "lenient"), default="exact", help="lenient: go on where the last bits may differ")
    add("--seed", type=int, default=0)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    add("--threads", type=int, help="CPU threads (default: torch's own choice; digits 1)")
    add("--smoke", action="store_true", help="a trial of some seconds: the digits, tiny networks, two epochs")
    add("--dry-run", action="store_true", help="check data, settings and memory, then stop")
    options = parser.parse_args(arguments)
    for name, least in (*((name, 1) for name in COUNTS), ("batch_size", 2)):
        value = getattr(options, name)
        if value is not None and value < least:
            parser.error(f"--{name.replace('_', '-')} is {value}, but must be at least {least}")
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
        (images, _), (test, labels) = (read_images(source, 8, indices=part) for part in parts)
        fingerprints: tuple[str, ...] = (source.fingerprint,)
    else:
        both = [idx_images(options.data, part) for part in ("train", "test")]
        side = min(both[0].size(0))
        (images, _), (test, labels) = (read_images(part, side) for part in both)
        fingerprints = tuple(part.fingerprint for part in both)
    assert labels is not None  # both kinds of source have them
    return Data(images, test, labels, fingerprints)


def build(options: argparse.Namespace, data: Data) -> tuple[InfoGANConfig, InfoGANRecipe]:
    """Architecture and recipe; the widths keep the paper's proportions."""
    width = options.base_channels or 64
    config = InfoGANConfig.chen2016(
        resolution=data.images.shape[-1],
        image_channels=data.images.shape[1],
        noise_dim=options.noise_dim or 62,
        learned_variance=not options.fixed_variance,
        base_channels=width,
        dense_width=16 * width,
        code_width=2 * width,
    )
    names = ["epochs", "batch_size", "learning_rate", "generator_learning_rate", "ema_decay"]
    names += ["category_weight", "continuous_weight"]
    changes = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return config, chen2016(**changes)


# The sheets.


def category_sheet(generator: Generator) -> Tensor:
    """A row for a category, a column for a noise with its continuous codes."""
    config = generator.config
    K = config.categories
    drawn = generator.sample_latents(COLUMNS, seed=SHEET_SEED).repeat(K, 1)
    noise, codes = drawn[:, : config.noise_dim], drawn[:, config.noise_dim + K :]
    return images_of(generator, generator.join(noise, torch.arange(K).repeat_interleave(COLUMNS), codes))


def continuous_sheet(generator: Generator, which: int) -> Tensor:
    """A row for a category, from left to right one continuous code from -2 to 2; one noise, other codes 0."""
    config = generator.config
    K = config.categories
    noise = generator.sample_latents(1, seed=SHEET_SEED)[:, : config.noise_dim].repeat(K * COLUMNS, 1)
    codes = torch.zeros(K * COLUMNS, config.continuous)
    codes[:, which] = torch.linspace(-2, 2, COLUMNS).repeat(K)
    return images_of(generator, generator.join(noise, torch.arange(K).repeat_interleave(COLUMNS), codes))


@torch.no_grad()
def images_of(generator: Generator, latents: Tensor) -> Tensor:
    """Images in evaluation mode."""
    training = generator.training
    generator.eval()
    try:
        return torch.cat([generator(part) for part in torch.split(latents, 100)])
    finally:
        generator.train(training)


class ContinuousSheets(Callback):
    """Saves ``figures/continuous_1.png`` and so on at the end of a run."""

    def __init__(self, generator: Generator, size: int = 64) -> None:
        self.generator = generator
        self.size = size

    def on_end(self, trainer: Trainer, finished: bool) -> None:
        """Draw them, also where the run was stopped."""
        if trainer.run_dir is None:
            return
        folder = trainer.run_dir / "figures"
        folder.mkdir(exist_ok=True)
        for which in range(self.generator.config.continuous):
            images = continuous_sheet(self.generator, which)
            scale = max(1, self.size // images.shape[-1])
            save_image_grid(images, folder / f"continuous_{which + 1}.png", columns=COLUMNS, scale=scale)


# What the categories have come to mean.


class Categories(nn.Module):
    """Images to logits of the categories: the recognition network as a classifier."""

    def __init__(self, discriminator: Discriminator) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, images: Tensor) -> Tensor:
        """Images ``[N, C, R, R]`` to logits ``[N, K]``."""
        logits: Tensor = self.discriminator.score_and_codes(images)[1]
        return logits


def counted(categories: Tensor, digits: Tensor, K: int, kinds: int) -> Tensor:
    """How often each digit is found in each category, ``[K, kinds]``, of indices ``[N]`` of both."""
    return torch.bincount(categories * kinds + digits, minlength=K * kinds).reshape(K, kinds)


def purity(counts: Tensor) -> float:
    """Share of the pictures that have the most frequent digit of their category."""
    return int(counts.amax(1).sum()) / int(counts.sum())


def meaning(counts: Tensor) -> list[str]:
    """The most frequent digit of each category and its share there, a line each."""
    lines = []
    for category, row in enumerate(counts):
        total, digit = int(row.sum()), int(row.argmax())
        told = f"{digit} ({100 * int(row[digit]) / total:.1f} % of {total:,})" if total else "never"
        lines.append(f"category {category}: {told}")
    return lines


def digits_found(counts: Tensor) -> int:
    """How many digits are the most frequent of a category."""
    return len({int(row.argmax()) for row in counts if row.any()})


def judges(options: argparse.Namespace, data: Data, sampled: Generator, discriminator: Discriminator) -> list[Callback]:
    """What is measured: purities, on the way and at the end, and the Frechet distance at the end."""
    device = next(sampled.parameters()).device
    K, kinds = sampled.config.categories, int(data.test_labels.max()) + 1
    count = min(len(data.test_images), SCORED)
    network = Categories(discriminator)

    def fakes(trainer: Trainer) -> Iterator[Tensor]:
        for index, part in enumerate(range(0, count, 500)):
            yield sampled.sample(min(500, count - part), seed=SCORE_SEED + index)

    def of_test_images(wanted: int) -> Tensor:
        found = predict_logits(network, data.test_images[:wanted]).argmax(1)
        return counted(found, data.test_labels[:wanted], K, kinds)

    shown = f"{count:,} test images, their categories found by Q"
    of_both: dict[str, tuple[Counts, str]] = {"test_purity": (of_test_images, shown)}
    if options.classifier is None:
        extractor = random_extractor(data.images.shape[1], device=device)
        scores = Scores(data.test_images, fakes, ["fd"], extractor=extractor, seed=SCORE_SEED, show=True)
        return [*categories_judged(of_both), scores]
    classifier = load_classifier(options.classifier).to(device)

    def of_samples(wanted: int) -> Tensor:
        counts = torch.zeros(0)
        for index, part in enumerate(range(0, wanted, 500)):
            categories = torch.arange(part, min(part + 500, wanted)) % K
            images = sampled.sample(len(categories), seed=SCORE_SEED + index, categories=categories)
            logits = predict_logits(classifier, images)
            new = counted(categories, logits.argmax(1), K, logits.shape[1])
            counts = counts + new if part else new
        return counts

    of_both["sample_purity"] = (of_samples, f"{SCORED:,} samples, their digits found by the classifier")
    extractor = classifier_extractor(classifier)
    scores = Scores(data.test_images, fakes, ["fd", "prdc"], extractor=extractor, seed=SCORE_SEED, show=True)
    return [*categories_judged(of_both), scores]


def categories_judged(measures: Mapping[str, tuple[Counts, str]]) -> list[Callback]:
    """Purities by name, at every tenth of the run, and at its end with the digit of each category."""

    def glance(trainer: Trainer) -> dict[str, float]:
        return {name: purity(counts(GLANCED)) for name, (counts, _) in measures.items()}

    class Meaning(Callback):
        def on_step(self, trainer: Trainer, previous: int) -> None:
            if not previous < trainer.total_images <= trainer.images_seen:
                return
            for name, (counts, of) in measures.items():
                with preserved_random_state():
                    table = counts(SCORED)
                found = {"purity": purity(table), "digits_found": digits_found(table)}
                trainer.record({name: purity(table)})
                trainer.event("categories", of=of, digits=meaning(table), counts=table.tolist(), **found)
                line = f"purity {purity(table):.4f} of {of}; {digits_found(table)} digits found"
                print_above_bar("\n".join([line, *meaning(table)]))

    return [Measurements(glance, fractions=[point / 10 for point in range(1, 10)], show=True), Meaning()]


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
        generator,
        discriminator,
        noise_dim=config.noise_dim,
        categories=config.categories,
        continuous=config.continuous,
        precision=precision,
        log_probabilities=True,
    )
    sampled = generator if step.ema is None else step.ema.module
    assert isinstance(sampled, Generator)

    def draw(trainer: Trainer) -> Tensor:
        return category_sheet(sampled)

    def some(trainer: Trainer) -> Tensor:
        return sampled.sample(32, seed=SHEET_SEED)

    ends = [(epoch + 1) / recipe.epochs for epoch in range(recipe.epochs)]
    title = f"InfoGAN, {N:,} images, {config.resolution}x{config.resolution}"
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
            SampleSheets(draw, fractions=ends, columns=COLUMNS),
            *judges(options, data, sampled, discriminator),
            ContinuousSheets(sampled),
            RealBesideFake(data.test_images[:32], some),
            NearestSheet(some, torch.split(data.images, 1000)),
            TensorBoard(
                fractions=ends,
                tags={"discriminator_loss": "Loss/Discriminator", "generator_loss": "Loss/Generator"},
                sheets={"Real Images": lambda trainer: data.test_images[:32], "Categories": draw},
            ),
            Summary(title=title),
            Report(title=title, fractions=(0.5,)),
        ],
        log_images=schedule.total_images + 1,  # the console line writes the log
        save_images=max(1, min(N, schedule.total_images // 4)),
        metadata=lambda trainer: {"model": "infogan", "config": config.to_dict()},
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
