"""Where do generated images help? The question of augmented_classifier_brain_mri.py over the number of real images.

    python examples/augmented_classifier_mnist.py                                     # scikit-learn's 1,797 digits
    python examples/augmented_classifier_mnist.py --data mnist/                       # a folder with the four IDX files
    python examples/augmented_classifier_mnist.py --data mnist/ --per-class 10 20 50 100 200 500
    python examples/augmented_classifier_mnist.py --smoke                             # a trial of some seconds

Needs: pip install "ganblocks[train,vision]", and scikit-learn for the built-in digits. Runs on a CPU or a GPU; with the
defaults each number of real images takes some 20 minutes on one core of a CPU.

For each number of images a class (--per-class), and several times over (--repetitions), real images are chosen, and a
conditional DCGAN with differentiable augmentation learns from these and no others. The same small classifier is then
trained in four arms, for equally many updates of one size, with several seeds, and answers for all test images:
    real                    the chosen images
    real + classical        the same, turned, shifted and zoomed a little at random
    real + generated        half of the images real, half of them generated (as many a class as --generated)
    real + both             turned, shifted and zoomed, and half of them generated

The run directory (--out) ends up with
    comparison.md           a table for each number of real images: accuracies, intervals, differences, tests
    figures/curve.png       accuracy over the number of real images, a line for an arm
    figures/, report.html   the arms and the generated digits of each number; all of it on one page
    images-10/0/ and so on  the GAN of one choice (gan/), and its classifiers with their answers

Stopping (Ctrl-C, SIGTERM, a crash) loses nothing: the same command goes on where it was.
"""

import argparse
import dataclasses
import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganblocks.data import (
    AugmentedImages,
    TensorBatches,
    built_in_digits,
    classical_augmentation,
    idx_images,
    read_images,
    split,
)
from ganblocks.errors import DataError, GanblocksError
from ganblocks.functional import to_uint8
from ganblocks.metrics import compare_arms
from ganblocks.models.classifier import ClassifierConfig, SmallClassifier
from ganblocks.models.dcgan import DCGANConfig, Discriminator, Generator
from ganblocks.training import (
    AdaptiveAugmentation,
    ClassifierAnswers,
    Precision,
    ProgressBar,
    SampleSheets,
    Trainer,
    gan_recipes,
    new_run_directory,
    recipes,
    train_for_answers,
)
from ganblocks.training.environment import flushed_denormals
from ganblocks.training.logging import RunLog
from ganblocks.training.run_directory import claim_run_directory, require_own_run_directory
from ganblocks.visualization.arms import arms_curve, arms_figure
from ganblocks.visualization.grid import save_image_grid
from ganblocks.visualization.report import write_report

ARMS = {  # name: with classical augmentation, with generated images
    "real": (False, False),
    "real + classical": (True, False),
    "real + generated": (False, True),
    "real + both": (True, True),
}
RESOLUTION = 28
DEFAULTS: dict[str, dict[str, Any]] = {  # an option that is not given has the first value that is found in these
    "smoke": {
        "per_class": [4], "repetitions": 1, "seeds": 2, "updates": 8, "gan_images": 256, "gan_channels": 8,
        "gan_batch_size": 64, "generated": 8, "threads": 1,
    },
    "built_in": {"per_class": [10, 30, 100]},
    "always": {
        "per_class": [10, 30, 100, 300], "repetitions": 3, "seeds": 3, "updates": 300, "gan_images": 48_000,
        "gan_channels": 32, "gan_batch_size": 32, "gan_learning_rate": 1e-3, "generated": 500,
    },
}  # fmt: skip
COUNTS = (
    "repetitions",
    "seeds",
    "updates",
    "batch_size",
    "gan_images",
    "gan_channels",
    "gan_batch_size",
    "generated",
    "threads",
)


@dataclasses.dataclass(frozen=True)
class Images:
    """uint8 [N, 1, 28, 28] and labels [N]."""

    images: Tensor
    labels: Tensor


class StoppedError(Exception):
    """The user asked for it; the same command goes on."""


class Choice:
    """Some real images, the GAN that learns from them, and the classifiers.

    Args:
        options: The command line.
        real: The chosen images.
        number: Which choice; the seed of the GAN.
        folder: Where it all is.
        settings: Of the study.
    """

    def __init__(
        self, options: argparse.Namespace, real: Images, number: int, folder: Path, settings: dict[str, Any]
    ) -> None:
        self.options, self.real, self.number, self.folder = options, real, number, folder
        self.settings = {**settings, "real": len(real.images), "choice": number}
        self.classes = int(real.labels.max()) + 1
        self.device = torch.device(options.device)
        self.precision = Precision.resolve(options.precision, self.device)

    def generated(self) -> Images:
        """Images of the GAN, as many of each class, after training it.

        Raises:
            StoppedError: The user asked for it.
        """
        options, real = self.options, self.real
        config = DCGANConfig.radford2016(
            RESOLUTION, base_channels=options.gan_channels, num_classes=self.classes, latent_dim=64
        )
        epochs = -(-options.gan_images // len(real.images))
        recipe = gan_recipes.radford2016(
            epochs=epochs,
            batch_size=options.gan_batch_size,
            learning_rate=options.gan_learning_rate,
            ema_decay=0.99,
        )
        torch.manual_seed(self.number)
        generator, discriminator = Generator(config).to(self.device), Discriminator(config).to(self.device)
        step = recipe.build_step(
            generator,
            discriminator,
            latent_dim=config.latent_dim,
            conditional=True,
            precision=self.precision,
            augment=AdaptiveAugmentation(("translation",), probability=1.0, ramp_images=None),
        )
        assert step.ema is not None
        average: Any = step.ema.module
        columns = torch.arange(self.classes, device=self.device).repeat(8)
        trainer = Trainer(
            step,
            TensorBatches(real.images, real.labels, seed=self.number),
            recipe.schedule(len(real.images)),
            run_dir=self.folder / "gan",
            seed=self.number,
            resume=options.resume,
            total_images=options.gan_images,
            settings={**self.settings, "gan": config.to_dict()},
            callbacks=[
                ProgressBar(),
                SampleSheets(
                    lambda _: average.sample(len(columns), seed=1, labels=columns), fractions=(), columns=self.classes
                ),
            ],
            log_images=1280,
            save_images=max(1, options.gan_images // 4),
            keep_last=1,
            metadata=lambda _: {"model": "dcgan", "config": config.to_dict()},
        )
        if not trainer.fit().finished and trainer.images_seen < options.gan_images:
            raise StoppedError
        labels = torch.arange(self.classes).repeat_interleave(options.generated)
        parts = [
            average.sample(len(part), seed=1000 + index, labels=part.to(self.device))
            for index, part in enumerate(torch.split(labels, 500))
        ]
        return Images(to_uint8(torch.cat(parts).cpu()), labels)

    def answers(self, arm: str, seed: int, made: Images, test: Images) -> ClassifierAnswers:
        """Train one classifier and let it answer.

        Raises:
            StoppedError: The user asked for it.
        """
        options, real = self.options, self.real
        classical, mixed = ARMS[arm]
        images, labels = real.images, real.labels
        if mixed:  # as many real as generated ones, so that half of what the classifier sees is real
            times = -(-len(made.images) // len(images))
            images = torch.cat([*[images] * times, made.images])
            labels = torch.cat([*[labels] * times, made.labels])
        torch.manual_seed(seed)
        config = ClassifierConfig(num_classes=self.classes, channels=(16, 32), feature_dim=64)
        classifier = SmallClassifier(config).to(self.device)
        recipe = recipes.small_classifier(batch_size=options.batch_size)
        schedule = recipe.schedule(len(images), updates=options.updates)
        data: Any = TensorBatches(images, labels, seed=seed)
        if classical:
            data = AugmentedImages(images, labels, classical_augmentation(mirror=0, shift=0.1))
        found = train_for_answers(
            recipe.build_step(classifier, precision=self.precision),
            data,
            schedule,
            test.images,
            run_dir=self.folder / f"{arm.replace(' + ', '_')}-{seed}",
            seed=seed,
            settings={**self.settings, "arm": arm},
            callbacks=[ProgressBar()],
            resume=options.resume,
        )
        if found is None:
            raise StoppedError
        return found


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line and fill in what depends on other choices."""
    parser = argparse.ArgumentParser(
        description="Where do generated images help a classifier of digits?",
        epilog="The same command again goes on where the run was stopped.",
    )
    add = parser.add_argument
    add("--data", type=Path, help="folder with the four IDX files (default: $GANBLOCKS_DATA/mnist, else digits)")
    add("--out", type=Path, default=Path("runs/augmented_mnist"), help="run directory (default: %(default)s)")
    add("--fresh", action="store_true", help="start anew in a new directory, OUT-2 and so on")
    add("--per-class", type=int, nargs="+", help="real images of each class (default: 10 30 100 300)")
    add("--repetitions", type=int, help="choices of real images, each with a GAN (default: 3)")
    add("--seeds", type=int, help="classifiers trained for each arm and choice (default: 3)")
    add("--updates", type=int, help="of each classifier (default: 300)")
    add("--batch-size", type=int, default=64, help="of the classifiers (default: %(default)s)")
    add("--gan-images", type=int, help="images that a GAN sees (default: 48000)")
    add("--gan-channels", type=int, help="width of its layers next to the image (default: 32)")
    add("--gan-batch-size", type=int, help="(default: 32)")
    add("--gan-learning-rate", type=float, help="of both networks (default: 0.001)")
    add("--generated", type=int, help="generated images of each class (default: 500)")
    add("--resume", choices=("exact", "lenient"), default="exact", help="lenient: go on where the last bits may differ")
    add("--seed", type=int, default=0, help="of the choices")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    add("--threads", type=int, help="CPU threads (default: torch's own choice)")
    add("--smoke", action="store_true", help="a trial of some seconds: 40 of the built-in digits, tiny networks")
    options = parser.parse_args(arguments)
    for name in COUNTS:
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} is {value}, but must be at least 1")
    if options.gan_learning_rate is not None and not 0 < options.gan_learning_rate < float("inf"):
        parser.error(f"--gan-learning-rate is {options.gan_learning_rate}, but must be above 0")
    try:
        device = torch.device(options.device)
    except RuntimeError:
        parser.error(f"--device is {options.device}, but must be cpu, cuda or cuda:0 and so on")
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error(f"--device is {options.device}, but PyTorch finds no GPU here")
    if options.smoke and options.data is not None:
        parser.error("--data and --smoke are given, but a trial has the built-in digits")
    root = os.environ.get("GANBLOCKS_DATA")
    if options.data is None and not options.smoke and root and (Path(root) / "mnist").exists():
        options.data = Path(root) / "mnist"
    applies = {"smoke": options.smoke, "built_in": options.data is None}
    for kind, defaults in DEFAULTS.items():
        for name, default in defaults.items() if applies.get(kind, True) else ():
            if getattr(options, name) is None:
                setattr(options, name, default)
    if min(options.per_class) < 1:
        parser.error(f"--per-class has {min(options.per_class)}, but must be at least 1")
    options.per_class = sorted(set(options.per_class))
    return options


def open_data(options: argparse.Namespace) -> tuple[Images, Images, str]:
    """The images to choose from, those to test on, and what the source says of itself."""
    if options.data is None:
        digits = built_in_digits()
        print(f"No files: using the {len(digits):,} digits (8 px) of scikit-learn, a third of them for the test.")
        parts = split(len(digits), len(digits) // 3, seed=options.seed)
        training, test = (read_images(digits, RESOLUTION, indices=part) for part in parts)
        fingerprint = digits.fingerprint
    else:
        sources = [idx_images(options.data, part) for part in ("train", "test")]
        training, test = (read_images(source, RESOLUTION) for source in sources)
        fingerprint = sources[0].fingerprint
    if training[1] is None or test[1] is None:
        raise DataError(f"{options.data} has no labels")
    if training[0].shape[1] != 1:
        raise DataError(f"{options.data} holds images of {training[0].shape[1]} channels, but must hold grey ones")
    return Images(*training), Images(*test), fingerprint  # type: ignore[arg-type]


def chosen(images: Images, count: int, seed: int) -> Images:
    """So many of each class, by a seed; more images of one seed contain fewer."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images.labels), generator=generator)
    classes = int(images.labels.max()) + 1
    rows = []
    for label in range(classes):
        of_class = order[images.labels[order] == label]
        if len(of_class) < count:
            raise DataError(f"--per-class is {count}, but there are only {len(of_class)} images of class {label}")
        rows.append(of_class[:count])
    indices = torch.cat(rows)
    return Images(images.images[indices], images.labels[indices])


def study(options: argparse.Namespace, out: Path) -> None:
    """All numbers of real images, one after the other."""
    training, test, fingerprint = open_data(options)
    of_gan = ("gan_images", "gan_channels", "gan_batch_size", "gan_learning_rate")
    names = ("updates", "batch_size", *of_gan, "generated", "seed", "precision")
    settings = {"data": fingerprint, **{name: getattr(options, name) for name in names}}
    require_own_run_directory(out, settings)
    claim_run_directory(out, settings)
    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    about = {"per_class": options.per_class, "repetitions": options.repetitions, "seeds": options.seeds}
    RunLog(out / "log.jsonl").append({"event": "start", "images_seen": 0, **settings, **json.loads(json.dumps(about))})

    curve: dict[str, dict[int, list[float]]] = {name: {} for name in ARMS}
    tables = []
    for count in options.per_class:
        right: dict[str, list[Tensor]] = {name: [] for name in ARMS}
        losses: dict[str, list[float]] = {name: [] for name in ARMS}
        for number in range(options.repetitions):
            real = chosen(training, count, 1000 * options.seed + number)
            print(f"{count} images a class, choice {number}: GAN", flush=True)
            choice = Choice(options, real, number, out / f"images-{count}" / str(number), settings)
            made = choice.generated()
            if number == 0:
                columns = min(10, count, options.generated)
                sides = [part.images[label_rows(part.labels, columns)] for part in (real, made)]
                rows = [torch.cat(pair) for pair in zip(*(torch.split(side, columns) for side in sides), strict=True)]
                path = figures / f"real_beside_generated_{count:04d}.png"
                save_image_grid(torch.cat(rows), path, columns=2 * columns)
            for name in ARMS:
                for seed in range(options.seeds):
                    answers = choice.answers(name, seed, made, test)
                    right[name].append(answers.right(test.labels))
                    losses[name].append(answers.cross_entropy(test.labels))
        table = {name: torch.stack(runs) for name, runs in right.items()}
        clusters = {name: [run // options.seeds for run in range(len(runs))] for name, runs in table.items()}
        comparison = compare_arms(table, clusters=clusters, seed=options.seed)
        accuracies = {name: runs.double().mean(dim=1).tolist() for name, runs in table.items()}
        for name, values in accuracies.items():
            curve[name][count] = values
        title = f"{count} real images of each class"
        arms_figure(accuracies, title=title, path=figures / f"arms_{count:04d}.png")
        beside = {name: table[name] for name in ("real + classical", "real + both")}  # what a GAN adds to these
        of_both = compare_arms(beside, clusters={name: clusters[name] for name in beside}, seed=options.seed)
        told = [*comparison.sentence().splitlines(), *of_both.sentence().splitlines()]
        sentences = [f"- {line}" for line in told]
        tables += [f"## {title}", "", comparison.markdown({"cross-entropy": losses}), "", *sentences, ""]
        print("\n".join(tables[-len(sentences) - 5 :]), flush=True)
    arms_curve(curve, title="Where generated images help", path=figures / "curve.png")
    finish(options, out, tables, len(test.labels))


def label_rows(labels: Tensor, count: int) -> Tensor:
    """The first ``count`` images of each class, class by class, as far as there are as many."""
    return torch.cat([torch.nonzero(labels == label)[:count, 0] for label in torch.unique(labels)])


def finish(options: argparse.Namespace, out: Path, tables: Sequence[str], tested: int) -> None:
    """Write the answer and the page."""
    text = [
        "# Where generated images help",
        "",
        f"{options.repetitions} choices of real images, each with its own GAN that saw {options.gan_images:,} images "
        f"of them (conditional DCGAN with differentiable augmentation), and {options.seeds} classifiers an arm and "
        f"choice, {options.updates:,} updates of {options.batch_size} images, all tested on {tested:,} images. "
        f"torch {torch.__version__}, {options.precision} on {options.device}.",
        "",
        *tables,
    ]
    (out / "comparison.md").write_text("\n".join(text), encoding="utf-8")
    write_report(out, title="Where generated images help")
    print(f"See {out}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; returns the exit code."""
    options = parse(arguments)
    warnings.simplefilter("default")
    try:
        with flushed_denormals():  # before PyTorch starts its threads
            if options.threads:
                torch.set_num_threads(options.threads)
            out = new_run_directory(options.out) if options.fresh else options.out
            try:
                study(options, out)
            except StoppedError:
                print(f"Stopped; the same command goes on from here. See {out}")
                return 130
            return 0
    except (GanblocksError, ValueError, OSError, ImportError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
