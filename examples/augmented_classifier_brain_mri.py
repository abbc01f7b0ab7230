"""Do generated images help a classifier of brain scans? Arms that differ in nothing else, with intervals.

    python examples/augmented_classifier_brain_mri.py                            # drawn scans: no data needed
    python examples/augmented_classifier_brain_mri.py --data scans.zip           # a folder or a zip with yes/ and no/
    python examples/augmented_classifier_brain_mri.py --data scans.zip --protocol cross-validation --folds 5
    python examples/augmented_classifier_brain_mri.py --data scans.zip --protocol document    # as taught: see below
    python examples/augmented_classifier_brain_mri.py --data scans.zip --model efficientnet_b3 --weights b3.safetensors
    python examples/augmented_classifier_brain_mri.py --smoke                    # a trial of some seconds

Needs: pip install "ganblocks[train,vision]". Runs on a CPU or a GPU; a GAN of the default size takes some minutes on
two cores, a small classifier half a minute.

--protocol split, the default: pictures whose pixels are equal are there once; nearly equal ones stay together; then
the real pictures are split once into parts for training, validation and test. GANs learn from the training part only
(--gan: a WGAN-GP for each class, or a DCGAN that is told the class). The arms are trained for equally many updates at
one batch size, each with several seeds of the classifier and several GANs, and all answer for the same real pictures:
    real                    the training part as it is
    real + classical        the same, mirrored, turned, shifted and zoomed a little at random
    real + generated        the same, and as many generated pictures (--generated-per-real)
    real + both             all of it
--protocol cross-validation holds out each real picture once (--repeats times) and trains anew for each fold.
--protocol document does what a course text did, which found 88.24 % without and 93.62 % with generated pictures: its
GANs see every picture, generated ones are mixed in before the split and are then part of the test set, and the mixed
arm makes more updates. The table then says where the difference comes from.

The run directory (--out) ends up with
    comparison.md           the answer: accuracy, intervals, differences, tests, cross-entropy and penalty apart
    figures/, report.html   the arms, curves, confusions, samples beside real pictures; all of it on one page
    pictures.csv            every picture with its class and part
    .../gan-0/              the GAN, and generated/: its pictures, each of which says that it is generated
    .../real-0/ and so on   one run a classifier, with its answers

Stopping (Ctrl-C, SIGTERM, a crash) loses nothing: the same command goes on where it was. No diagnosis can be made by
any of these networks.
"""

import argparse
import csv
import dataclasses
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ganblocks.data import (
    AugmentedImages,
    ImageFolder,
    ImageTable,
    TensorBatches,
    classical_augmentation,
    cross_validation_folds,
    drawn_scans,
    exact_duplicates,
    group_numbers,
    near_duplicates,
    read_images,
    stratified_split,
    write_generated,
)
from ganblocks.errors import DataError, GanblocksError
from ganblocks.metrics import compare_arms, wilson_interval
from ganblocks.models import dcgan, wgan_gp
from ganblocks.models.backbone_classifier import BackboneClassifier, BackboneClassifierConfig
from ganblocks.models.classifier import ClassifierConfig, SmallClassifier
from ganblocks.training import (
    AdaptiveAugmentation,
    ClassifierAnswers,
    Precision,
    ProgressBar,
    SampleSheets,
    Summary,
    Trainer,
    backbone_recipes,
    gan_recipes,
    new_run_directory,
    recipes,
    train_for_answers,
)
from ganblocks.training.environment import flushed_denormals
from ganblocks.training.logging import RunLog
from ganblocks.training.run_directory import claim_run_directory, require_own_run_directory
from ganblocks.visualization.arms import arms_figure
from ganblocks.visualization.confusion import confusion_matrix
from ganblocks.visualization.grid import save_image_grid
from ganblocks.visualization.history import history_figure
from ganblocks.visualization.panel import sample_panel
from ganblocks.visualization.report import write_report
from ganblocks.visualization.summary import model_summary

ARMS = {  # name: with classical augmentation, with generated pictures
    "real": (False, False),
    "real + classical": (True, False),
    "real + generated": (False, True),
    "real + both": (True, True),
}
SHARES = (0.6, 0.15, 0.25)  # training, validation, test
DOCUMENT_SHARES = (0.8, 0.2)
DOCUMENT_SEED = 123
DOCUMENT_GENERATED = 108  # of each class: 18 at the end of each of six epochs
HASHED = 128  # side of the pictures whose hashes are compared
DRAWN = 60  # pictures of each class, where there are no files
DEFAULTS: dict[str, dict[str, Any]] = {  # an option that is not given has the first value that is found in these
    "smoke": {
        "resolution": 16, "gan_resolution": 16, "gan_channels": 4, "gan_steps": 4, "gan_batch_size": 8, "gans": 1,
        "seeds": 2, "updates": 6, "batch_size": 8, "folds": 2, "epochs": 1,
    },
    "backbone": {"resolution": 224, "batch_size": 8, "updates": 780},
    "drawn": {"resolution": 32, "gan_resolution": 32, "gan_channels": 8, "gan_steps": 150, "updates": 100},
    "cpu": {"gan": "dcgan", "gan_resolution": 64, "gan_channels": 24, "gan_steps": 2000, "gan_batch_size": 16},
    "always": {
        "resolution": 64, "gan": "wgan_gp", "gan_resolution": 128, "gan_channels": 64, "gan_steps": 8000,
        "gan_batch_size": 64, "gans": 2, "seeds": 5,
        "updates": 400, "batch_size": 16, "folds": 5, "epochs": 30,
    },
}  # fmt: skip
COUNTS = (  # options that must be at least 1 where they are given
    "resolution", "gan_resolution", "gan_channels", "gan_steps", "gan_batch_size", "gans", "seeds", "updates",
    "batch_size", "folds", "repeats", "epochs", "threads",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Some pictures at two sizes, uint8, and their labels."""

    names: tuple[str, ...]
    images: Tensor  # [N, C, R, R], for the classifier
    gan_images: Tensor  # [N, 1 or 3, G, G], for the GAN
    labels: Tensor  # [N]
    generated: Tensor  # [N] booleans

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, indices: Any) -> "Pictures":
        """Some of them."""
        chosen = torch.as_tensor(np.asarray(indices), dtype=torch.int64)
        columns = (self.images, self.gan_images, self.labels, self.generated)
        return Pictures(tuple(self.names[int(row)] for row in chosen), *(column[chosen] for column in columns))

    def merged(self, other: "Pictures") -> "Pictures":
        """These, then the others."""
        pairs = [
            (getattr(self, name), getattr(other, name)) for name in ("images", "gan_images", "labels", "generated")
        ]
        return Pictures(self.names + other.names, *(torch.cat(pair) for pair in pairs))


class StoppedError(Exception):
    """The user asked for it; the same command goes on."""


class Study:
    """The real pictures, and how GANs and classifiers are trained on parts of them.

    Args:
        options: The command line.
        out: The run directory.
    """

    def __init__(self, options: argparse.Namespace, out: Path) -> None:
        self.options, self.out = options, out
        self.device = torch.device(options.device)
        self.precision = Precision.resolve(options.precision, self.device)
        self.real, self.groups, self.classes, fingerprint = open_data(options)
        small = options.model == "small"
        self.config: Any = (
            ClassifierConfig(
                resolution=options.resolution,
                image_channels=self.real.images.shape[1],
                num_classes=len(self.classes),
                channels=(16, 32, 64) if options.resolution >= 32 else (16, 32),
                feature_dim=64,
            )
            if small
            else BackboneClassifierConfig.document(backbone=options.model, num_classes=len(self.classes))
        )
        widths = {"base_channels": options.gan_channels, "max_channels": max(256, 16 * options.gan_channels)}
        widths["latent_dim"] = 64 if options.gan_channels < 64 else 128
        widths["image_channels"] = self.real.gan_images.shape[1]
        self.gan_config: Any = (
            dcgan.DCGANConfig.radford2016(options.gan_resolution, num_classes=len(self.classes), **widths)
            if options.gan == "dcgan"
            else wgan_gp.WGANGPConfig(resolution=options.gan_resolution, **widths)
        )
        self.settings = {
            "protocol": options.protocol,
            "data": fingerprint,
            "classifier": self.config.to_dict(),
            "weights": None if options.weights is None else options.weights.name,
            "gan": {"model": options.gan, **self.gan_config.to_dict()},
            "precision": self.precision.name,
            **{name: getattr(options, name) for name in ("gan_steps", "gan_batch_size", "gan_augment", "batch_size")},
            **{name: getattr(options, name) for name in ("updates", "epochs", "seed", "generated_per_real")},
        }

    def gan_pictures(self, training: Pictures, gan: int, folder: Path, counts: Sequence[int]) -> Pictures:
        """Train a GAN on these pictures and nothing else, or one for each class, and read the pictures that it makes.

        Args:
            training: What it learns from.
            gan: Seed of the GAN.
            folder: Where it is trained and its pictures are written.
            counts: How many of each class.

        Raises:
            StoppedError: The user asked for it.
        """
        options = self.options
        told = options.gan == "dcgan"  # the class, by one GAN for all
        generator: Any = self._trained_generator(training, gan, folder / "all") if told else None
        for number, (name, count) in enumerate(zip(self.classes, counts, strict=True)):
            if not told:
                of_class = training.rows(np.flatnonzero(training.labels.numpy() == number))
                generator = self._trained_generator(of_class, gan, folder / name)
            label = torch.tensor([number], device=self.device) if told else None
            for index in range(count):
                path = folder / "generated" / name / f"{name}_{index:04d}.png"
                if not path.is_file():
                    seed = 1000 * (len(self.classes) * gan + number) + index
                    image = generator.sample(1, seed=seed, labels=label)[0]
                    write_generated(image.cpu(), path, {"model": options.gan, "class": name, "gan": gan})
        channels, gan_channels = self.real.images.shape[1], self.real.gan_images.shape[1]
        tables = [
            ImageTable.from_folder(folder / "generated", image_channels=count, crop="squash")
            for count in (channels, gan_channels)
        ]
        if "real" in tables[0].provenance:
            raise DataError(f"{folder / 'generated'} holds pictures that do not say that they are generated")
        labels = torch.from_numpy(tables[0].labels)
        sizes = (options.resolution, options.gan_resolution)
        images, gan_images = (read_images(table, size)[0] for table, size in zip(tables, sizes, strict=True))
        return Pictures(tables[0].names, images, gan_images, labels, torch.ones(len(labels), dtype=torch.bool))

    def _trained_generator(self, training: Pictures, gan: int, run_dir: Path) -> Any:
        """A WGAN-GP, or the moving average of a DCGAN that is told the class; both see augmented pictures."""
        options, config = self.options, self.gan_config
        told = options.gan == "dcgan"
        recipe = gan_recipes.gulrajani2017(learning_rate=2e-4, betas=(0.5, 0.9))
        if told:
            recipe = gan_recipes.radford2016(ema_decay=0.995)
        recipe = recipe.replace(generator_steps=options.gan_steps, batch_size=options.gan_batch_size)
        torch.manual_seed(gan)
        generator = (dcgan.Generator(config) if told else wgan_gp.Generator(config)).to(self.device)
        critic = (dcgan.Discriminator(config) if told else wgan_gp.Critic(config)).to(self.device)
        augment = None
        if options.gan_augment:
            augment = AdaptiveAugmentation(options.gan_augment, probability=1.0, ramp_images=None)
        step = recipe.build_step(
            generator,
            critic,
            latent_dim=config.latent_dim,
            conditional=told,
            precision=self.precision,
            augment=augment,
        )
        sampled: Any = generator if step.ema is None else step.ema.module
        columns = torch.arange(len(self.classes), device=self.device).repeat(8) if told else None
        shown = 16 if columns is None else len(columns)
        schedule = recipe.schedule(len(training))
        trainer = Trainer(
            step,
            TensorBatches(training.gan_images, training.labels if told else None, seed=gan),
            schedule,
            run_dir=run_dir,
            seed=gan,
            resume=options.resume,
            settings={**self.settings, "images": len(training)},
            callbacks=[
                ProgressBar(),
                SampleSheets(
                    lambda _: sampled.sample(shown, seed=1, labels=columns),
                    fractions=(0.25, 0.5, 0.75, 1.0),
                    columns=len(self.classes) if told else 4,
                ),
                Summary(title=f"{options.gan}, {len(training):,} pictures"),
            ],
            log_images=recipe.n_critic * recipe.batch_size,
            save_images=max(1, schedule.total_images // 10),
            keep_last=1,
            metadata=lambda _: {"model": options.gan, "config": config.to_dict()},
        )
        if not (run_dir / "config.json").exists():
            where = run_dir.relative_to(self.out)
            print(f"{where}: {len(training):,} pictures, {options.gan_steps:,} updates of the generator", flush=True)
        if not trainer.fit().finished:
            raise StoppedError
        return sampled

    def answers(
        self,
        training: Pictures,
        test: Pictures,
        seed: int,
        run_dir: Path,
        *,
        classical: bool = False,
        validation: Pictures | None = None,
        epochs: int | None = None,
    ) -> ClassifierAnswers:
        """Train one classifier, for so many epochs or else the study's number of updates, and let it answer.

        Raises:
            StoppedError: The user asked for it.
        """
        options = self.options
        torch.manual_seed(seed)
        classifier = self.classifier().to(self.device)
        count = len(training)
        step: Any
        schedule: Any
        if options.model == "small":
            recipe = recipes.small_classifier(batch_size=options.batch_size, epochs=epochs or 1)
            step = recipe.build_step(classifier, precision=self.precision)
            schedule = recipe.schedule(count, updates=None if epochs else options.updates)
        else:
            backbone = backbone_recipes.backbone_document(batch_size=options.batch_size, epochs=epochs or 1)
            step = backbone.build_step(classifier, precision=self.precision)
            schedule = backbone.schedule(count, updates=None if epochs else options.updates)
        data: Any = TensorBatches(training.images, training.labels, seed=seed)
        if classical:
            data = AugmentedImages(training.images, training.labels, classical_augmentation())
        started = time.monotonic()
        new = not (run_dir / "answers.safetensors").is_file()
        found = train_for_answers(
            step,
            data,
            schedule,
            test.images,
            run_dir=run_dir,
            seed=seed,
            settings={**self.settings, "training": len(training), "classical": classical},
            validation=None if validation is None else (validation.images, validation.labels),
            callbacks=[ProgressBar()],
            resume=options.resume,
        )
        if found is None:
            raise StoppedError
        if new:
            where = run_dir.relative_to(self.out)
            seconds = time.monotonic() - started
            print(f"{where}: test accuracy {found.accuracy(test.labels):.3f} in {seconds:.0f} s", flush=True)
        return found

    def classifier(self) -> nn.Module:
        """A new one."""
        if self.options.model == "small":
            return SmallClassifier(self.config)
        return BackboneClassifier(self.config, self.options.weights)

    def arm(
        self,
        name: str,
        training: Pictures,
        test: Pictures,
        folder: Path,
        generated: Mapping[int, Pictures],
        validation: Pictures | None = None,
    ) -> list[tuple[int, int, ClassifierAnswers]]:
        """All runs of one arm: of which GAN (-1 where it has none), which seed, and the answers."""
        classical, mixed = ARMS[name]
        runs = []
        for gan in generated if mixed else [-1]:
            pictures = training.merged(generated[gan]) if mixed else training
            for seed in range(self.options.seeds):
                label = name.replace(" + ", "_") + (f"-gan{gan}" if mixed else "") + f"-{seed}"
                run = self.answers(pictures, test, seed, folder / label, classical=classical, validation=validation)
                runs.append((gan, seed, run))
        return runs


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line and fill in what depends on other choices."""
    parser = argparse.ArgumentParser(
        description="Do generated images help a classifier of brain scans?",
        epilog="The same command again goes on where the run was stopped.",
    )
    add = parser.add_argument
    add("--data", type=Path, help="folder or zip, one folder a class (default: $GANBLOCKS_DATA/brain_mri, else drawn)")
    add("--out", type=Path, default=Path("runs/augmented"), help="run directory (default: %(default)s)")
    add("--fresh", action="store_true", help="start anew in a new directory, OUT-2 and so on")
    add("--protocol", choices=("split", "cross-validation", "document"), default="split", help="see above")
    add("--arms", nargs="+", choices=tuple(ARMS), default=list(ARMS), help="the first is what others are compared with")
    add("--model", default="small", help="small, or a network of torchvision such as efficientnet_b3")
    add("--weights", type=Path, help="of that network, .safetensors (default: it starts from random numbers)")
    add("--resolution", type=int, help="side of the classifier's images (default: 64; networks of torchvision 224)")
    add("--updates", type=int, help="of each classifier (default: 400; networks of torchvision 780)")
    add("--epochs", type=int, help="of each classifier in the document's protocol (default: 30)")
    add("--batch-size", type=int, help="of the classifiers (default: 16; networks of torchvision 8)")
    add("--seeds", type=int, help="classifiers trained for each arm and GAN (default: 5)")
    add("--gans", type=int, help="GANs trained, each with its seed (default: 2)")
    add(
        "--gan",
        choices=("wgan_gp", "dcgan"),
        help="one a class, or one that is told the class and learns faster (default: wgan_gp; CPU dcgan)",
    )
    add("--gan-resolution", type=int, help="side of the generated images: 16, 32, ... 512 (default: 128; CPU 64)")
    add("--gan-channels", type=int, help="width at the largest maps (default: 64; CPU 24)")
    add("--gan-steps", type=int, help="updates of the generator (default: 8000; CPU 2000)")
    add("--gan-batch-size", type=int, help="(default: 64; CPU 16)")
    add(
        "--gan-augment",
        nargs="*",
        default=["translation", "cutout"],
        help="of all that the critic sees (default: translation cutout)",
    )
    add("--generated-per-real", type=float, default=1.0, help="generated images for each real one (default: 1)")
    add("--folds", type=int, help="of the cross-validation (default: 5)")
    add("--repeats", type=int, default=1, help="of the cross-validation, each with other folds (default: 1)")
    add("--resume", choices=("exact", "lenient"), default="exact", help="lenient: go on where the last bits may differ")
    add("--seed", type=int, default=0, help="of the split; the document's protocol has its own, 123")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    add("--threads", type=int, help="CPU threads (default: torch's own choice)")
    add("--smoke", action="store_true", help="a trial of some seconds: drawn scans, tiny networks")
    options = parser.parse_args(arguments)
    if not 0 < options.generated_per_real < float("inf"):
        parser.error(f"--generated-per-real is {options.generated_per_real}, but must be above 0")
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
    if options.smoke and options.data is not None:
        parser.error("--data and --smoke are given, but a trial has drawn scans")
    if options.weights is not None and options.model == "small":
        parser.error("--weights is given, but the small classifier has none: choose a --model")
    root = os.environ.get("GANBLOCKS_DATA")
    if options.data is None and not options.smoke and root and (Path(root) / "brain_mri").exists():
        options.data = Path(root) / "brain_mri"
    applies = {
        "smoke": options.smoke,
        "backbone": options.model != "small",
        "drawn": options.data is None,
        "cpu": device.type == "cpu",
    }
    for kind, defaults in DEFAULTS.items():
        for name, default in defaults.items() if applies.get(kind, True) else ():
            if getattr(options, name) is None:
                setattr(options, name, default)
    return options


def open_data(options: argparse.Namespace) -> tuple[Pictures, np.ndarray, tuple[str, ...], str]:
    """The real pictures, which of them belong together, the classes, and what the source says of itself."""
    if options.data is None:
        print(f"No files: using {2 * DRAWN} drawn scans, half of them with a bright spot.")
        drawn = {name: drawn_scans(DRAWN, HASHED, spot=name == "yes") for name in ("no", "yes")}
        classes = tuple(drawn)
        sources: list[tuple[Any, list[int]]] = [
            (source, [number] * DRAWN) for number, source in enumerate(drawn.values())
        ]
        names = tuple(f"{name}_{index}" for name in classes for index in range(DRAWN))
        fingerprint = drawn["yes"].fingerprint
    else:
        path: Path = options.data
        if path.is_dir():  # a folder that holds nothing but one zip
            entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
            if len(entries) == 1 and entries[0].suffix == ".zip":
                path = entries[0]
        folder = ImageFolder(path, crop="squash")
        if folder.labels is None:
            raise DataError(f"{path} holds images of one kind, but must hold a folder for each class")
        classes, names, fingerprint = folder.classes, folder.names, folder.fingerprint
        sources = [(folder, folder.labels.tolist())]
    labels = torch.tensor([label for _, part in sources for label in part])

    def read(side: int) -> Tensor:
        return torch.cat([read_images(source, side)[0] for source, _ in sources])

    hashed, images, gan_images = (read(side) for side in (HASHED, options.resolution, options.gan_resolution))
    if options.model == "small":  # scans are grey
        images = grey(images)
    pictures = Pictures(names, images, grey(gan_images), labels, torch.zeros(len(labels), dtype=torch.bool))
    print(f"{len(labels):,} pictures: " + ", ".join(f"{int((labels == k).sum())} {n}" for k, n in enumerate(classes)))
    copies = sorted(index for group in exact_duplicates(hashed) for index in group[1:])
    if options.protocol == "document":
        print(f"{len(copies)} copies of others stay among them, as in the document")
        return pictures, np.arange(len(labels)), classes, fingerprint
    kept = np.setdiff1d(np.arange(len(labels)), copies)
    groups = near_duplicates(hashed[torch.from_numpy(kept)])
    print(
        f"{len(copies)} copies left out; {sum(map(len, groups))} nearly equal pictures in {len(groups)} groups, "
        "each of which stays in one part"
    )
    return pictures.rows(kept), group_numbers(groups, len(kept)), classes, fingerprint


def grey(images: Tensor) -> Tensor:
    """uint8 [N, 3, R, R] to [N, 1, R, R]: the mean of the channels."""
    return images.float().mean(dim=1, keepdim=True).round().to(torch.uint8)


def write_pictures(path: Path, parts: Mapping[str, Pictures], classes: Sequence[str]) -> None:
    """The table of all pictures: which part each is in, and whether it is real."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["picture", "class", "part", "provenance"])
        for part, pictures in parts.items():
            for name, label, generated in zip(pictures.names, pictures.labels, pictures.generated, strict=True):
                writer.writerow([name, classes[int(label)], part, "generated" if generated else "real"])


Runs = dict[str, list[tuple[int, int, ClassifierAnswers]]]


def study_parts(study: Study, training: Pictures, test: Pictures, folder: Path, validation: Pictures | None) -> Runs:
    """All arms on one division of the real pictures."""
    options = study.options
    generated: dict[int, Pictures] = {}
    if any(ARMS[name][1] for name in options.arms):
        counts = torch.bincount(training.labels, minlength=len(study.classes))
        wanted = [max(1, round(options.generated_per_real * int(count))) for count in counts]
        for gan in range(options.gans):
            generated[gan] = study.gan_pictures(training, gan, folder / f"gan-{gan}", wanted)
            show_generated(study, training, generated[gan], study.out / "figures" / f"{folder.name}_gan_{gan}")
    return {name: study.arm(name, training, test, folder, generated, validation) for name in options.arms}


def split(study: Study) -> None:
    """One division into training, validation and test part; see the top of this file."""
    real, out = study.real, study.out
    rows = stratified_split(real.labels.numpy(), SHARES, seed=study.options.seed, groups=study.groups)
    training, validation, test = (real.rows(part) for part in rows)
    write_pictures(out / "pictures.csv", {"training": training, "validation": validation, "test": test}, study.classes)
    print(
        f"{len(training)} pictures to train on, {len(validation)} for validation, {len(test)} for the test", flush=True
    )
    runs = study_parts(study, training, test, out / "split", validation)
    title = f"{len(training)} real pictures to train on, {len(test)} real ones to test on"
    numbers = {
        "cross-entropy": {name: [run.cross_entropy(test.labels) for _, _, run in arm] for name, arm in runs.items()}
    }
    if study.options.model != "small":  # which has no penalty
        numbers["penalty"] = {name: [run.penalty for _, _, run in arm] for name, arm in runs.items()}
    right = {name: torch.stack([run.right(test.labels) for _, _, run in arm]) for name, arm in runs.items()}
    gans = {name: [gan for gan, _, _ in arm] for name, arm in runs.items()}
    for name, arm in runs.items():
        label = name.replace(" + ", "_")
        confusion = torch.stack([run.confusion(test.labels) for _, _, run in arm]).sum(0)
        file = out / "figures" / f"confusion_{label}.png"
        confusion_matrix(confusion, classes=study.classes, title=f"{name}: {len(arm)} runs together", path=file)
        first = label + ("-gan0" if ARMS[name][1] else "") + "-0"
        records = RunLog(out / "split" / first / "log.jsonl").read()
        history_figure(records, path=out / "figures" / f"curves_{label}.png")
    conclude(study, title, test.labels, right, gans, numbers)


def cross_validation(study: Study) -> None:
    """Each real picture is held out once a repeat; see the top of this file."""
    real, options = study.real, study.options
    right: dict[str, dict[tuple[int, int, int], Tensor]] = {name: {} for name in options.arms}
    losses: dict[str, list[float]] = {name: [] for name in options.arms}
    for repeat in range(options.repeats):
        folds = cross_validation_folds(
            real.labels.numpy(), options.folds, seed=options.seed + repeat, groups=study.groups
        )
        for fold, (rows, held_out) in enumerate(folds):
            training, test = real.rows(rows), real.rows(held_out)
            folder = study.out / f"repeat-{repeat}-fold-{fold}"
            print(
                f"repeat {repeat}, fold {fold}: {len(training)} pictures to train on, {len(test)} held out", flush=True
            )
            for name, runs in study_parts(study, training, test, folder, None).items():
                for gan, seed, run in runs:
                    answers = right[name].setdefault((repeat, gan, seed), torch.zeros(len(real), dtype=torch.bool))
                    answers[torch.from_numpy(held_out)] = run.right(test.labels)
                    losses[name].append(run.cross_entropy(test.labels))
    write_pictures(study.out / "pictures.csv", {"held out once": real}, study.classes)
    title = (
        f"{len(real)} real pictures, each held out once in each of {options.repeats} rounds of {options.folds} folds"
    )
    stacked = {name: torch.stack(list(runs.values())) for name, runs in right.items()}
    gans = {name: [gan + options.gans * repeat for repeat, gan, _ in runs] for name, runs in right.items()}
    conclude(study, title, real.labels, stacked, gans, {"cross-entropy of a fold": losses})


def conclude(
    study: Study,
    title: str,
    labels: Tensor,
    right: Mapping[str, Tensor],
    gans: Mapping[str, Sequence[int]],
    numbers: Mapping[str, Mapping[str, Sequence[float]]],
) -> None:
    """Compare the arms, and write table, figure and page."""
    clusters = {name: list(ids) if ARMS[name][1] else list(range(len(ids))) for name, ids in gans.items()}
    comparison = compare_arms(right, clusters=clusters, seed=study.options.seed)
    majority = float(torch.bincount(labels).max()) / len(labels)
    accuracies = {name: answers.double().mean(dim=1).tolist() for name, answers in right.items()}
    intervals = {arm.name: arm.vote_interval for arm in comparison.arms}
    arms_figure(accuracies, intervals, chance=majority, title=title, path=study.out / "figures" / "arms.png")
    text = [
        f"# {title}",
        "",
        describe(study),
        "",
        comparison.markdown(numbers),
        "",
        *[f"- {line}" for line in comparison.sentence().splitlines()],
        f"- Always saying the larger class would be right for {majority:.1%}.",
        "",
    ]
    finish(study, title, "\n".join(text))


def document(study: Study) -> None:
    """What the course text did, and what its numbers are made of; see the top of this file."""
    options, real, out = study.options, study.real, study.out
    generated = study.gan_pictures(real, 0, out / "gan-0", [DOCUMENT_GENERATED] * len(study.classes))
    show_generated(study, real, generated, out / "figures" / "gan_0")
    rows, lines = [], []
    for name, pictures in {"real": real, "mixed": real.merged(generated)}.items():
        divided = stratified_split(pictures.labels.numpy(), DOCUMENT_SHARES, seed=DOCUMENT_SEED)
        training, test = (pictures.rows(part) for part in divided)
        write_pictures(out / f"pictures_{name}.csv", {"training": training, "test": test}, study.classes)
        runs = [
            study.answers(training, test, seed, out / f"{name}-{seed}", validation=test, epochs=options.epochs)
            for seed in range(options.seeds)
        ]
        right = torch.stack([run.right(test.labels) for run in runs])
        made = test.generated
        known = {image.numpy().tobytes() for image in training.images}
        copies = torch.tensor([image.numpy().tobytes() in known for image in test.images]) & ~made
        batches = len(training) / options.batch_size  # in an epoch
        small = options.model == "small"
        updates = math.ceil(options.epochs * batches) if small else options.epochs * math.ceil(batches)
        low, high = wilson_interval(int(right[0].sum()), len(test))
        rows.append(
            f"| {name} | {len(training)} / {len(test)} | {updates:,} | {percent(right)} | {int(right[0].sum())} / "
            f"{len(test)}, {low:.1%} to {high:.1%} | {mean(run.cross_entropy(test.labels) for run in runs):.3f} | "
            f"{mean(run.penalty for run in runs):.3f} |"
        )
        lines.append(f"- {name}: on the {int((~made).sum())} real pictures of its test part {percent(right[:, ~made])}")
        if made.any():
            lines[-1] += f", on the {int(made.sum())} generated ones {percent(right[:, made])}"
        lines[-1] += f"; {int(copies.sum())} of the real ones are in its training part, too."
        confusion = torch.stack([run.confusion(test.labels) for run in runs]).sum(0)
        confusion_matrix(confusion, classes=study.classes, title=name, path=out / "figures" / f"confusion_{name}.png")
        records = RunLog(out / f"{name}-0" / "log.jsonl").read()
        history_figure(records, path=out / "figures" / f"curves_{name}.png")
    text = [
        "# The course text's comparison, made again",
        "",
        describe(study),
        "",
        "| arm | training / test | updates | accuracy | first seed, with its interval | cross-entropy | penalty |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "The two arms are tested on different pictures, so their difference says nothing about help:",
        "",
        *lines,
        "- The GANs learned from all real pictures, those of both test parts among them.",
        "- The mixed arm made more updates, which shrink the penalty too: compare cross-entropies, not losses.",
        "",
    ]
    finish(study, "The course text's comparison, made again", "\n".join(text))


def percent(right: Tensor) -> str:
    """Mean accuracy of some runs [R, N], and the standard deviation between them."""
    shares = right.double().mean(dim=1)
    spread = f" ± {100 * float(shares.std()):.1f}" if len(shares) > 1 else ""
    return f"{100 * float(shares.mean()):.1f}{spread} %"


def mean(values: Iterable[float]) -> float:
    """Of some numbers."""
    numbers = list(values)
    return sum(numbers) / len(numbers)


def describe(study: Study) -> str:
    """How it was made, in a sentence or two."""
    options = study.options
    name = "a small classifier" if options.model == "small" else options.model
    start = "" if options.model == "small" else ", pretrained" if options.weights else ", from random weights"
    length = f"{options.epochs} epochs" if options.protocol == "document" else f"{options.updates:,} updates"
    size, gan_size = options.resolution, options.gan_resolution
    kind = "one DCGAN that is told the class," if options.gan == "dcgan" else "a WGAN-GP for each class,"
    return (
        f"Each run: {name} at {size}x{size}{start}, {length} of {options.batch_size} pictures, and {options.seeds} "
        f"seeds. GANs: {kind} at {gan_size}x{gan_size}, {options.gan_steps:,} updates of "
        f"{options.gan_batch_size} pictures. torch {torch.__version__}, {study.precision.name} on {study.device}."
    )


def show_generated(study: Study, real: Pictures, generated: Pictures, path: Path) -> None:
    """Real pictures on the left, generated ones on the right, a file a class."""
    for number, name in enumerate(study.classes):
        sides = [pictures.gan_images[pictures.labels == number][:16] for pictures in (real, generated)]
        count = min(len(side) for side in sides) // 4 * 4 or min(len(side) for side in sides)
        columns = min(4, count)
        rows = [torch.cat(pair) for pair in zip(*(torch.split(side[:count], columns) for side in sides), strict=True)]
        save_image_grid(torch.cat(rows), Path(f"{path}_{name}.png"), columns=2 * columns)


def finish(study: Study, title: str, text: str) -> None:
    """Write the answer, print it, and make the page."""
    out = study.out
    chosen = torch.linspace(0, len(study.real) - 1, min(8, len(study.real))).round().long()
    images, labels = study.real.images[chosen], study.real.labels[chosen]
    path = out / "figures" / "samples.png"
    sample_panel(images, labels, classes=study.classes, columns=4, rows=2, path=path)
    shape = tuple(study.real.images.shape[1:])
    (out / "classifier.txt").write_text(model_summary(study.classifier(), shape) + "\n", encoding="utf-8")
    (out / "comparison.md").write_text(text, encoding="utf-8")
    write_report(out, title=title)
    print(f"\n{text}\nSee {out}")


def train(options: argparse.Namespace) -> int:
    """Run the protocol, from where it was stopped."""
    if options.threads:
        torch.set_num_threads(options.threads)
    out = new_run_directory(options.out) if options.fresh else options.out
    study = Study(options, out)
    study.classifier()  # what it cannot be built from is told before a GAN is trained, and not after
    if any(ARMS[name][0] for name in options.arms):
        classical_augmentation()
    about = {**study.settings, "seeds": options.seeds, "gans": options.gans, "arms": options.arms}
    require_own_run_directory(out, study.settings)
    claim_run_directory(out, study.settings)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    RunLog(out / "log.jsonl").append({"event": "start", "images_seen": 0, **json.loads(json.dumps(about, default=str))})
    if options.model != "small" and options.weights is None:
        print(f"No --weights: {options.model} starts from random numbers and knows nothing of any picture.")
    protocols: dict[str, Callable[[Study], None]] = {
        "split": split, "cross-validation": cross_validation, "document": document,
    }  # fmt: skip
    try:
        protocols[options.protocol](study)
    except StoppedError:
        print(f"Stopped; the same command goes on from here. See {out}")
        return 130
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; returns the exit code."""
    options = parse(arguments)
    warnings.simplefilter("default")
    try:
        with flushed_denormals():  # before PyTorch starts its threads
            return train(options)
    except (GanblocksError, ValueError, OSError, ImportError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
