r"""Who painted it? A network that names the painter, from raw pictures to a report, with several seeds.

    python examples/artist_classifier.py                                  # drawn pictures: no data needed
    python examples/artist_classifier.py --data paintings.zip --table artists.csv --artists 10
    python examples/artist_classifier.py --data paintings/ --model simple --preset document --artists 5
    python examples/artist_classifier.py --data paintings/ --model vgg16 --preset document --weights vgg16.safetensors
    python examples/artist_classifier.py --data paintings/ --model inception_resnet_v2 --size 250 --freeze 700 \
        --weights inception_resnet_v2.safetensors --backbone-factor 0.1
    python examples/artist_classifier.py --smoke                          # a trial of some seconds

Needs: pip install "ganblocks[train,vision,metrics]". Runs on a CPU or a GPU; all pictures are held in memory.

Models (--model), each with the size of its source under --preset document:
    simple                  one hidden layer, 100 px (E15)
    cnn                     two convolutions and a wide dense layer, 100 px (E16)
    painting_cnn            --preset library, the default: four convolutions with batch normalisation, 64 px;
                            --preset document: three without it and a dense layer, 300 px (E13)
    vgg16, vgg19            VGG16 or VGG19 with their own dense layers, 100 px (E17 is the former)
    densenet121             of torchvision (E18)
    inception_resnet_v2     of timm (E19); --freeze takes a stage, or the source's number of layers
    nasnet                  of timm, NASNet-A Large; E20 has the Mobile one, which timm has not
Without --weights every one of them starts from random numbers and knows nothing of any picture. Nothing is downloaded.

The pictures are split once, each painter alike, into 64 % to train on, 16 % for validation and 20 % for the test
(--shares); equal pictures stay in one part. --preset document trains as the source did: until val_loss has not fallen
for five epochs, 100 at most (painting_cnn: 20 epochs). --preset library goes a fixed number of epochs along a cosine.

The run directory (--out) ends up with
    results.md, results.json    accuracy of each seed beside that of always naming the painter with most pictures
    report.txt                  precision, recall and support of each painter, first seed
    figures/, report.html       curves with the best epoch, confusion in counts and percent, mistakes, one test picture
    classifier.safetensors      of the first seed, for load_classifier
    seed-0/ and so on           one run a seed; log.jsonl, result.json, classifier.safetensors

Stopping (Ctrl-C, SIGTERM, a crash) loses nothing: the same command goes on where it was. Before you publish figures:
the painter, the photograph or the collection may have rights in them.
"""

import argparse
import colorsys
import dataclasses
import json
import math
import os
import re
import shutil
import statistics
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganblocks._files import written_atomically
from ganblocks._json import read_json
from ganblocks._version import __version__
from ganblocks.data import (
    AugmentedImages,
    ImageFolder,
    Paintings,
    TensorBatches,
    classical_augmentation,
    exact_duplicates,
    group_numbers,
    painting_augmentation,
    read_images,
    stratified_split,
)
from ganblocks.data.stratified import balanced_rows
from ganblocks.errors import CheckpointError, DataError, GanblocksError
from ganblocks.metrics.classification import classification_report
from ganblocks.models.backbones import PooledClassifier, PooledClassifierConfig, VGGClassifier, VGGClassifierConfig
from ganblocks.models.freezing import document_stage
from ganblocks.models.painting_classifier import (
    PaintingCNN,
    PaintingCNNConfig,
    PaintingMLP,
    PaintingMLPConfig,
    TwoLayerPaintingCNN,
    TwoLayerPaintingCNNConfig,
)
from ganblocks.models.registry import CLASSIFIER_FILE, load_classifier
from ganblocks.training import (
    Callback,
    EarlyStopping,
    Precision,
    ProgressBar,
    Trainer,
    Validation,
    new_run_directory,
    plain_weights,
    predict_logits,
)
from ganblocks.training.classifier_step import balanced_class_weights
from ganblocks.training.environment import flushed_denormals
from ganblocks.training.logging import RunLog
from ganblocks.training.painting_recipes import PaintingRecipe, document_cnn, document_comparison, library
from ganblocks.training.run_directory import claim_run_directory, require_own_run_directory
from ganblocks.training.saved_weights import write_weights
from ganblocks.visualization.classification import class_bars
from ganblocks.visualization.confusion import confusion_matrix
from ganblocks.visualization.history import history_figure
from ganblocks.visualization.panel import sample_panel
from ganblocks.visualization.report import write_report
from ganblocks.visualization.summary import model_summary

MODELS = {  # name in files
    "simple": "painting_mlp",
    "cnn": "two_layer_painting_cnn",
    "painting_cnn": "painting_cnn",
    "vgg16": "vgg_classifier",
    "vgg19": "vgg_classifier",
    "densenet121": "pooled_classifier",
    "inception_resnet_v2": "pooled_classifier",
    "nasnet": "pooled_classifier",
}
BACKBONES = ("vgg16", "vgg19", "densenet121", "inception_resnet_v2", "nasnet")
SIZES = {"nasnet": 224, "painting_cnn": 300}  # of the sources; 100 where nothing stands here
AUGMENTATIONS = ("none", "light", "document", "pil", "keras")
COUNTS = ("size", "epochs", "updates", "batch_size", "seeds", "threads")  # at least 1 where they are given
DRAWN = 60  # pictures of the first drawn painter


@dataclasses.dataclass(frozen=True)
class Part:
    """Some pictures, uint8 [N, C, R, R], their painters [N], and what they are called, where that matters."""

    images: Tensor
    labels: Tensor
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Data:
    """All pictures in their parts; without a part for validation that is ``None``.

    ``painter_movements`` [K, M] says which painter belongs to which of ``movements``; without a table there are none.
    """

    training: Part
    validation: Part | None
    test: Part
    classes: tuple[str, ...]
    fingerprint: str
    movements: tuple[str, ...] = ()
    painter_movements: Tensor = dataclasses.field(default_factory=lambda: torch.empty(0, 0, dtype=torch.bool))

    @property
    def majority(self) -> float:
        """Share of the test pictures that are of the painter with most pictures to train on."""
        most = int(torch.bincount(self.training.labels).argmax())
        return float((self.test.labels == most).double().mean())


class StoppedError(Exception):
    """The user asked for it; the same command goes on."""


class Clock(Callback):
    """Seconds of an image in this part of a run, measuring and saving included."""

    def __init__(self) -> None:
        self.seconds_per_image = math.nan

    def on_start(self, trainer: Trainer) -> None:
        """Look at the clock."""
        self._started, self._from = time.monotonic(), trainer.images_seen

    def on_end(self, trainer: Trainer, finished: bool) -> None:
        """Look again."""
        if trainer.images_seen > self._from:
            self.seconds_per_image = (time.monotonic() - self._started) / (trainer.images_seen - self._from)


class Study:
    """One model on one set of pictures, trained with several seeds.

    Args:
        options: The command line.
        data: The pictures.
        out: The run directory.
    """

    def __init__(self, options: argparse.Namespace, data: Data, out: Path) -> None:
        self.options, self.data, self.out = options, data, out
        self.device = torch.device(options.device)
        self.precision = Precision.resolve(options.precision, self.device)
        self.recipe = make_recipe(options)
        self.config = make_config(options, len(data.classes), data.test.images.shape[1])
        self.settings = {
            "model": options.model,
            "config": self.config.to_dict(),
            "recipe": dataclasses.asdict(self.recipe),
            "data": data.fingerprint,
            "precision": self.precision.name,
            "weights": None if options.weights is None else options.weights.name,
            **{name: getattr(options, name) for name in ("size", "freeze", "augment", "balance", "updates", "shares")},
            "split_seed": options.seed,
            "test_with": options.test_with,
            "start": None if options.start is None else str(options.start),
        }

    def classifier(self, seed: int = 0) -> nn.Module:
        """A new one, with the weights and frozen as far as the command line says."""
        classifier = make_classifier(self.config, self.options.weights, self.options.freeze)
        start = self.options.start
        if start is not None:
            require_same_pictures(start, self.settings)
            own = start / f"seed-{seed}"  # each seed goes on from its own
            try:
                classifier.load_state_dict(load_classifier(own if own.is_dir() else start).state_dict())
            except RuntimeError as error:
                text = " ".join(str(error).split())[:300]
                raise CheckpointError(f"--start {start} is of another network: {text}") from error
        return classifier

    def run(self, seed: int) -> dict[str, Any]:
        """Train with one seed and test, or read what the same run has found before.

        Raises:
            StoppedError: The user asked for it.
        """
        folder, options, data = self.out / f"seed-{seed}", self.options, self.data
        found = folder / "result.json"
        if found.is_file():
            require_own_run_directory(folder, {"seed": seed, **self.settings})
            result: dict[str, Any] = read_json(found.read_bytes())
            return result
        torch.manual_seed(seed)
        classifier = self.classifier(seed).to(self.device)
        training, validation = data.training, data.validation
        class_weights = None
        if options.balance == "weights":
            class_weights = balanced_class_weights(training.labels, len(data.classes))
        if options.balance == "sampling":
            rows = torch.from_numpy(balanced_rows(training.labels.numpy()))
            training = Part(training.images[rows], training.labels[rows])
        step = self.recipe.build_step(classifier, class_weights=class_weights, precision=self.precision)
        schedule = self.recipe.schedule(len(training), updates=options.updates)
        transform = augmentation(options.augment)
        batches: Any = TensorBatches(training.images, training.labels, seed=seed)
        if transform is not None:
            batches = AugmentedImages(training.images, training.labels, transform)
        clock, stops = Clock(), [] if validation is None else self.recipe.callbacks()
        measured = None
        if validation is not None:
            part = validation
            measured = Validation(lambda _: measures(classifier, part, self.precision), len(training), show=True)
        best = options.test_with == "best"
        trainer = Trainer(
            step,
            batches,
            schedule,
            run_dir=folder,
            seed=seed,
            settings=self.settings,
            workers=options.workers if transform is not None else 0,
            callbacks=[*([] if measured is None else [measured]), *stops, clock, ProgressBar()],
            log_images=min(self.recipe.batch_size, len(training)),
            save_images=max(1, schedule.total_images // 10),
            keep_last=1,
            keep_best=int(best),
            best_key="val_loss" if best else None,
            resume=options.resume,
            metadata=lambda _: {"model": MODELS[options.model], "config": self.config.to_dict()},
        )
        if not trainer.fit().finished:
            raise StoppedError
        end = how_it_ended(trainer, stops, len(training))
        if best and trainer.checkpoints is not None:
            checkpoint = trainer.checkpoints.best_valid()
            if checkpoint is not None:
                step.load_state_dict(checkpoint.state["step"])
        result = self._tested(classifier, seed, folder)
        result |= {
            **end,
            "updates": trainer.steps,
            "seconds_per_epoch": None
            if math.isnan(clock.seconds_per_image)
            else clock.seconds_per_image * len(training),
            "history": history_of(measured, folder, len(training)),
        }
        with written_atomically(found) as file:
            file.write((json.dumps(result, indent=1) + "\n").encode())
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # they only serve to go on
        print(f"seed {seed}: {end['stopped']}; test accuracy {result['accuracy']:.3f}", flush=True)
        return result

    def _tested(self, classifier: nn.Module, seed: int, folder: Path) -> dict[str, Any]:
        """What the classifier says to the test pictures; its weights and answers go into files."""
        data = self.data
        logits = predict_logits(classifier, data.test.images, precision=self.precision)
        report = classification_report(data.test.labels, logits.softmax(dim=1), class_names=data.classes)
        about = {
            "format": "pt",
            "ganblocks": __version__,
            "model": MODELS[self.options.model],
            "config": self.config.to_dict(),
            "classes": data.classes,
            "test_accuracy": report.accuracy,
        }
        weights = {name: tensor.cpu().contiguous() for name, tensor in plain_weights(classifier).items()}
        write_weights(folder / CLASSIFIER_FILE, weights, about)
        write_weights(folder / "answers.safetensors", {"logits": logits.contiguous()})
        return {
            "seed": seed,
            "accuracy": report.accuracy,
            "majority": data.majority,
            "tested_with": self.options.test_with,
            "report": report.to_dict(),
            "report_text": str(report),
        }

    def logits(self, seed: int) -> Tensor:
        """Of the test pictures, as a finished run has left them."""
        return safetensors.torch.load_file(self.out / f"seed-{seed}" / "answers.safetensors")["logits"]


def make_recipe(options: argparse.Namespace) -> PaintingRecipe:
    """The preset's, with what the command line changes."""
    recipe = library()
    if options.preset == "document":
        recipe = document_cnn() if options.model == "painting_cnn" else document_comparison()
    elif options.model in BACKBONES:
        recipe = library(learning_rate=1e-3, backbone_factor=0.1 if options.weights else 1.0)
    names = ("epochs", "batch_size", "learning_rate", "backbone_factor", "label_smoothing", "weight_decay")
    changes = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.early_stopping is not None:
        changes["early_stopping"] = options.early_stopping or None
    if options.updates is not None:  # an equal number for all models: nothing ends one of them
        changes |= {"early_stopping": None, "plateau": None}
    return recipe.replace(**changes)


def make_config(options: argparse.Namespace, classes: int, channels: int) -> Any:
    """The configuration of a model for so many painters."""
    size, model = options.size, options.model
    plain = {"resolution": size, "image_channels": channels, "num_classes": classes}
    if model == "simple":
        return PaintingMLPConfig(**plain)
    if model == "cnn":
        return TwoLayerPaintingCNNConfig(**plain)
    if model in ("vgg16", "vgg19"):
        return VGGClassifierConfig(model, resolution=size, num_classes=classes)
    if model in BACKBONES:
        backbone: Any = "nasnetalarge" if model == "nasnet" else model
        return PooledClassifierConfig(backbone, classes, 0.0 if options.preset == "document" else 0.2)
    if options.preset == "document":
        return PaintingCNNConfig(**plain)
    widths = options.channels or [32, 64, 128, 256]
    return PaintingCNNConfig(
        **plain, channels=tuple(widths), feature_dim=256, dropout=0.3, norm=True, pooling="average"
    )


def make_classifier(config: Any, weights: Path | None, freeze: str | None) -> nn.Module:
    """The network of a configuration; ``freeze`` is a stage, or a number of layers as in E19."""
    if isinstance(config, PaintingMLPConfig):
        return PaintingMLP(config)
    if isinstance(config, TwoLayerPaintingCNNConfig):
        return TwoLayerPaintingCNN(config)
    if isinstance(config, PaintingCNNConfig):
        return PaintingCNN(config)
    made: PooledClassifier | VGGClassifier = (
        VGGClassifier(config, weights) if isinstance(config, VGGClassifierConfig) else PooledClassifier(config, weights)
    )
    if freeze is not None and freeze.isdigit() and config.backbone == "inception_resnet_v2":
        freeze = document_stage(int(freeze)).name
    return made.freeze_through(freeze)


def augmentation(name: str) -> Any:
    """Random changes of one picture; ``None`` for none."""
    if name == "none":
        return None
    if name == "light":
        return classical_augmentation(degrees=0.0, shift=0.08, zoom=0.1, brightness=0.0, contrast=0.0)
    if name == "document":  # E14; Keras counts a shear in degrees, so that of 0.1 is hardly seen
        return classical_augmentation(degrees=20.0, shift=0.1, zoom=0.1, shear=0.1, brightness=0.0, contrast=0.0)
    return painting_augmentation("pil" if name == "pil" else "keras")


def measures(classifier: nn.Module, part: Part, precision: Precision) -> dict[str, float]:
    """Loss, accuracy and mean squared error of the probabilities on pictures kept from training."""
    logits = predict_logits(classifier, part.images, precision=precision).double()
    error = logits.softmax(1) - F.one_hot(part.labels, logits.shape[1])
    return {
        "val_loss": float(F.cross_entropy(logits, part.labels)),
        "val_accuracy": float((logits.argmax(1) == part.labels).double().mean()),
        "val_mse": float(error.square().mean()),
    }


def how_it_ended(trainer: Trainer, stops: Sequence[Callback], epoch_images: int) -> dict[str, Any]:
    """Why a finished run ended, in words and in epochs."""
    epochs = trainer.images_seen / epoch_images
    planned = trainer.schedule.total_images / epoch_images
    for stop in stops:
        if isinstance(stop, EarlyStopping) and stop.stopped_at is not None and stop.best_at is not None:
            best = stop.best_at / epoch_images
            told = (
                f"stopped early after {epochs:.4g} of at most {planned:.4g} epochs, as val_loss had not fallen for "
                f"{stop.patience} since epoch {best:.4g}"
            )
            return {"stopped": told, "stopped_early": True, "epochs": epochs, "best_epoch": best}
    return {
        "stopped": f"all {trainer.steps:,} updates of {planned:.4g} epochs done",
        "stopped_early": False,
        "epochs": epochs,
        "best_epoch": None,
    }


def history_of(measured: Validation | None, folder: Path, epoch_images: int) -> list[dict[str, float]]:
    """Loss and accuracy, a record an epoch; without validation those of the batches."""
    if measured is None:
        keys = ("images_seen", "loss", "accuracy")
        records = [record for record in RunLog(folder / "log.jsonl").read() if "loss" in record]
        thinned = records[:: max(1, len(records) // 200)]
        return [{key: record[key] for key in keys} for record in thinned]
    columns = measured.history
    seen = columns["images_seen"]
    return [
        {"epoch": seen[row] / epoch_images}
        | {key: values[row] for key, values in columns.items() if math.isfinite(values[row])}
        for row in range(len(seen))
    ]


def require_same_pictures(start: Path, settings: Mapping[str, Any]) -> None:
    """A former run to go on from must have kept the same pictures for its test.

    Raises:
        CheckpointError: It had others, or other parts of them.
    """
    files = [folder / "config.json" for folder in (start, start.parent) if (folder / "config.json").is_file()]
    former = json.loads(files[0].read_text(encoding="utf-8")) if files else {}
    other = [name for name in ("data", "shares", "split_seed") if name in former and former[name] != settings[name]]
    if other:
        raise CheckpointError(
            f"--start {start} was trained on other pictures ({', '.join(other)} differ) and may know some of the test: "
            "name one folder or zip as --data in both runs, with the same --artists, --shares and --seed"
        )


def open_data(options: argparse.Namespace) -> Data:
    """The pictures of the chosen painters at the chosen size, in their parts."""
    if options.data is None:
        images, labels, classes = drawn_paintings(int(options.artists or 5), options.size)
        names = tuple(f"drawn picture {number + 1}" for number in range(len(labels)))
        movements: tuple[str, ...] = (
            "Horizontal",
            "Tall",
            "Slanted",
        )  # every third painter's, and one that two of three share
        table = torch.tensor([[k % 3 == 0, k % 3 == 1, k % 3 != 0] for k in range(len(classes))])
        print(f"No files: using {len(labels)} drawn pictures of {len(classes)} painters who never lived.")
        fingerprint = f"drawn {options.artists}"
    else:
        path = archive(options.data, options.size)
        files = [options.data / "artists.csv", options.data.parent / "artists.csv"]
        csv = options.table or next((file for file in files if file.is_file()), None)
        if csv is None:
            print("No --table of painters: each folder is a painter under its own name.")
        source = Paintings(ImageFolder(path, crop="squash"), () if csv is None else csv, strict=csv is not None)
        if options.artists is not None:
            source = source.top(options.artists)
        images, read = read_images(source, options.size, on_error=options.on_error)
        if read is None:
            raise DataError(f"{path} has no painters")
        labels, classes, fingerprint = read, source.classes, source.fingerprint
        movements, table = source.movements, torch.from_numpy(source.movement_table())
        complete = len(images) == len(source)
        names = source.names if complete else tuple(f"readable picture {row + 1}" for row in range(len(images)))
        print(f"{len(labels):,} pictures of {len(classes)} painters from {path}")
    groups = group_numbers(exact_duplicates(images), len(images))
    rows = [torch.from_numpy(part) for part in stratified_split(
        labels.numpy(), options.shares, seed=options.seed, groups=groups
    )]  # fmt: skip
    parts = [Part(images[chosen], labels[chosen], tuple(names[row] for row in chosen.tolist())) for chosen in rows]
    validation = parts[1] if len(parts) == 3 else None
    return Data(parts[0], validation, parts[-1], classes, fingerprint, movements, table)


def archive(path: Path, size: int) -> Path:
    """The folder itself; or of the zips in it the one whose name says the fitting size, such as "64px"."""
    zips = sorted(path.glob("*.zip")) if path.is_dir() else []
    if not zips:
        return path
    if len(zips) == 1:
        return zips[0]
    told = {file: re.search(r"(\d+) ?px", file.name) for file in zips}
    sides = {file: int(match[1]) for file, match in told.items() if match}
    if not sides:
        raise DataError(f"{path} holds {[file.name for file in zips]}: name one of them as --data")
    large = [file for file in sides if sides[file] >= size]
    return min(large, key=sides.__getitem__) if large else max(sides, key=sides.__getitem__)


def drawn_paintings(count: int, size: int) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Stripes in two colours, the direction and the hues a painter's own, the first painter with most pictures."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:size, 0:size] / size
    images, labels = [], []
    for painter in range(count):
        angle = math.pi * painter / count
        for _ in range(max(10, DRAWN - 8 * painter)):
            hues = (painter / count + 0.12 * rng.standard_normal(2)) % 1
            colors = np.array([colorsys.hsv_to_rgb(hues[0], 0.7, 0.8), colorsys.hsv_to_rgb(hues[1], 0.4, 0.4)])
            turned = angle + 0.2 * rng.standard_normal()
            waves = rng.uniform(3, 7) * (x * math.cos(turned) + y * math.sin(turned)) + rng.uniform()
            share = 0.5 + 0.5 * np.sin(2 * math.pi * waves)[None]
            picture = share * colors[0][:, None, None] + (1 - share) * colors[1][:, None, None]
            picture += 0.08 * rng.standard_normal((3, size, size))
            images.append((255 * picture.clip(0, 1)).astype(np.uint8))
            labels.append(painter)
    return torch.from_numpy(np.stack(images)), torch.tensor(labels), tuple(f"Painter {k + 1}" for k in range(count))


def summarise(study: Study, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and spread over the seeds."""
    accuracies = [result["accuracy"] for result in results]
    return {
        **json.loads(json.dumps(study.settings, default=str)),
        "classes": study.data.classes,
        "images": {
            "training": len(study.data.training),
            "validation": 0 if study.data.validation is None else len(study.data.validation),
            "test": len(study.data.test),
        },
        "parameters": sum(p.numel() for p in study.classifier().parameters()),
        "majority": study.data.majority,
        "accuracy_mean": statistics.fmean(accuracies),
        "accuracy_deviation": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "macro_f1_mean": statistics.fmean(result["report"]["macro"]["f1"] for result in results),
        "environment": {"torch": torch.__version__, "device": str(study.device)},
        "seeds": list(results),
    }


def percent(mean: float, deviation: float | None) -> str:
    """A share with its spread."""
    return f"{100 * mean:.1f} %" if deviation is None else f"{100 * mean:.1f} ± {100 * deviation:.1f} %"


def write_results(study: Study, results: Sequence[Mapping[str, Any]]) -> None:
    """Tables, files and figures of a finished study."""
    out, data, options = study.out, study.data, study.options
    summary = summarise(study, results)
    with written_atomically(out / "results.json") as file:
        file.write((json.dumps(summary, indent=1) + "\n").encode())
    counts = summary["images"]
    title = f"{options.model}, {len(data.classes)} painters, {options.size} px"
    rows = [
        f"| {result['seed']} | {100 * result['accuracy']:.1f} % | {result['report']['macro']['f1']:.3f} | "
        f"{result['report']['mse']:.4f} | {result['stopped']} |"
        for result in results
    ]
    pretrained = (
        "" if options.model not in BACKBONES else ", pretrained" if options.weights else ", from random weights"
    )
    frozen = f", frozen through {options.freeze}" if options.freeze else ""
    text = [
        f"# {title}",
        "",
        f"{summary['parameters']:,} parameters{pretrained}{frozen}; {counts['training']:,} pictures to train on, "
        f"{counts['validation']:,} for validation, {counts['test']:,} for the test; preset {options.preset}, "
        f"augmentation {options.augment}, balance {options.balance}.",
        "",
        f"Test accuracy: **{percent(summary['accuracy_mean'], summary['accuracy_deviation'])}** over {len(results)} "
        f"seeds. Always naming the painter with most pictures: {100 * data.majority:.1f} %.",
        "",
        "| seed | accuracy | macro F1 | mse | end |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ]
    (out / "results.md").write_text("\n".join(text), encoding="utf-8")
    (out / "report.txt").write_text(results[0]["report_text"] + "\n", encoding="utf-8")
    shape = tuple(data.test.images.shape[1:])
    (out / "classifier.txt").write_text(model_summary(study.classifier(), shape) + "\n", encoding="utf-8")
    shutil.copyfile(out / f"seed-{results[0]['seed']}" / CLASSIFIER_FILE, out / CLASSIFIER_FILE)
    draw_figures(study, results, title)
    write_report(out, title=title)


def draw_figures(study: Study, results: Sequence[Mapping[str, Any]], title: str) -> None:
    """Into figures/: samples, curves, confusions of all seeds together, and mistakes of the first."""
    data, figures = study.data, study.out / "figures"
    classes, test = data.classes, data.test
    chosen = torch.randperm(len(data.training), generator=torch.Generator().manual_seed(0))[:15]
    sample_panel(
        data.training.images[chosen], data.training.labels[chosen], classes=classes, rows=3,
        path=figures / "samples.png",
    )  # fmt: skip
    history_figure(results[0]["history"], title=title, path=figures / "curves.png")
    confusion = sum(torch.tensor(result["report"]["confusion"]) for result in results)
    assert isinstance(confusion, Tensor)
    for values in ("counts", "percent"):
        together = f", {len(results)} seeds together" if len(results) > 1 else ""
        confusion_matrix(
            confusion, classes=classes, values=values, orientation=study.options.orientation,
            title=title + together, path=figures / f"confusion_{values}.png",
        )  # fmt: skip
    shares = study.logits(results[0]["seed"]).softmax(1)
    confidence, predicted = shares.max(1)
    wrong = (predicted != test.labels).nonzero().flatten()
    wrong = wrong[confidence[wrong].argsort(descending=True)]
    if len(wrong):
        class_bars(
            test.images[wrong], shares[wrong], test.labels[wrong], classes=classes, most_classes=5, count=18,
            title=f"The surest of {len(wrong)} mistakes", path=figures / "misclassified.png",
        )  # fmt: skip
    one = torch.randint(len(test), (1,), generator=torch.Generator().manual_seed(study.options.seed))
    class_bars(
        test.images[one], shares[one], test.labels[one], classes=classes, count=1, columns=1,
        title="A test picture by chance", path=figures / "test_picture.png",
    )  # fmt: skip


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line and fill in what depends on other choices."""
    parser = argparse.ArgumentParser(
        description="Who painted it?", epilog="The same command again goes on where the run was stopped."
    )
    add_options(parser)
    add = parser.add_argument
    add("--model", choices=tuple(MODELS), default="painting_cnn", help="see above")
    add("--weights", type=Path, help="of a backbone, .safetensors (default: it starts from random numbers)")
    add("--start", type=Path, help="a former run of the same painters and --seed, to go on from at another --size, or "
        "with another --freeze; each seed from its own, where it is there")  # fmt: skip
    add("--freeze", help="backbones: the last stage that stays as it is; inception_resnet_v2 also 600 or 700 layers")
    add("--backbone-factor", type=float, help="of the learning rate of a backbone (default: 1; library, weights: 0.1)")
    options = parser.parse_args(arguments)
    complete(parser, options)
    return options


def add_options(parser: argparse.ArgumentParser, out: str = "runs/artists") -> None:
    """All options that do not depend on the model."""
    add = parser.add_argument
    add(
        "--data", type=Path, help="folder or zip, a folder a painter (default: $GANBLOCKS_DATA/best_artworks, or drawn)"
    )
    add("--table", type=Path, help="of the painters (default: artists.csv in or beside --data)")
    add("--out", type=Path, default=Path(out), help="run directory (default: %(default)s)")
    add("--fresh", action="store_true", help="start anew in a new directory, OUT-2 and so on")
    add("--preset", choices=("library", "document"), default="library", help="see above")
    add("--artists", default="10", help="how many painters, those with most pictures, or all (default: %(default)s)")
    add("--size", type=int, help="side of the pictures (default: painting_cnn 64, else as in the source)")
    add("--channels", type=int, nargs="+", help="of painting_cnn's library form (default: 32 64 128 256)")
    add("--augment", choices=AUGMENTATIONS, help="of each picture in training (default: light, or the document's)")
    add("--balance", choices=("none", "weights", "sampling"), default="none", help="what rare painters count for")
    add("--epochs", type=int, help="at most (default: the preset's)")
    add("--updates", type=int, help="exactly this many, without an early end")
    add("--batch-size", type=int, help="(default: 32)")
    add("--learning-rate", type=float, help="(default: the preset's)")
    add("--label-smoothing", type=float, help="(default: the preset's)")
    add("--weight-decay", type=float, help="(default: the preset's)")
    add("--early-stopping", type=int, metavar="EPOCHS", help="patience; 0 = none (default: the preset's)")
    add("--test-with", choices=("best", "last"), help="weights: of the lowest val_loss or of the end (default: best "
        "where training may end early)")  # fmt: skip
    add("--seeds", type=int, help="trainings, each from other random numbers (default: 3)")
    add("--shares", type=float, nargs="+", default=[0.64, 0.16, 0.2], help="training, validation, test; two numbers "
        "leave validation out (default: 0.64 0.16 0.2)")  # fmt: skip
    add("--orientation", choices=("true_on_y", "true_on_x"), default="true_on_y", help="of the confusion matrices")
    add("--on-error", choices=("raise", "skip"), default="raise", help="for unreadable files (default: %(default)s)")
    add("--resume", choices=("exact", "lenient"), default="exact", help="lenient: go on where the last bits may differ")
    add("--seed", type=int, default=0, help="of the split")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    add("--threads", type=int, help="CPU threads (default: torch's own choice)")
    add("--workers", type=int, default=0, help="processes that change pictures (default: %(default)s)")
    add("--smoke", action="store_true", help="a trial of some seconds: drawn pictures, a tiny network")


def complete(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Check what was given, and fill in what was not."""
    error = parser.error
    backbone, document = options.model in BACKBONES, options.preset == "document"
    if options.smoke:
        if options.data is not None:
            error("--data and --smoke are given, but a trial has drawn pictures")
        trial = {"size": 32, "seeds": 2, "epochs": 2, "channels": [4, 8], "threads": 1}
        for name, value in trial.items():
            if getattr(options, name) is None:
                setattr(options, name, value)
        options.artists = "3"
    options.artists = None if options.artists == "all" else options.artists
    if options.artists is not None and not (options.artists.isdecimal() and int(options.artists) >= 2):
        error(f"--artists is {options.artists}, but must be a number from 2, or all")
    options.artists = None if options.artists is None else int(options.artists)
    for name in COUNTS:
        value = getattr(options, name)
        if value is not None and value < 1:
            error(f"--{name.replace('_', '-')} is {value}, but must be at least 1")
    try:
        device = torch.device(options.device)
    except RuntimeError:
        error(f"--device is {options.device}, but must be cpu, cuda or cuda:0 and so on")
    if device.type == "cuda" and not torch.cuda.is_available():
        error(f"--device is {options.device}, but PyTorch finds no GPU here")
    for name in ("weights", "freeze", "backbone_factor"):
        if getattr(options, name) is not None and not backbone:
            error(f"--{name.replace('_', '-')} is given, but {options.model} has no backbone")
    if len(options.shares) not in (2, 3):
        error(f"--shares are {options.shares}, but must be two or three")
    root = os.environ.get("GANBLOCKS_DATA")
    if options.data is None and not options.smoke and root and (Path(root) / "best_artworks").exists():
        options.data = Path(root) / "best_artworks"
    if options.size is None:
        small = options.model == "painting_cnn" and not document
        options.size = 64 if small else SIZES.get(options.model, 100)
    if options.augment is None:
        of_source = "keras" if options.model == "painting_cnn" else "document"
        options.augment = of_source if document else "light"
    options.seeds = options.seeds or 3
    recipe = make_recipe(options)
    if len(options.shares) == 2 and (recipe.early_stopping or recipe.plateau or options.test_with == "best"):
        error("--shares leave validation out, but training looks at it: add a third share, or --updates")
    options.test_with = options.test_with or ("best" if recipe.early_stopping else "last")


def run_study(study: Study) -> list[dict[str, Any]]:
    """Train all seeds, from where they were stopped, and write what they have found.

    Raises:
        StoppedError: The user asked for it.
    """
    out, options = study.out, study.options
    study.classifier()  # what it cannot be built from is told before anything is trained
    require_own_run_directory(out, study.settings)
    claim_run_directory(out, study.settings)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    started = {"event": "start", "images_seen": 0, **json.loads(json.dumps(study.settings, default=str))}
    RunLog(out / "log.jsonl").append(started)
    if options.model in BACKBONES and options.weights is None and options.start is None:
        print(f"No --weights: {options.model} starts from random numbers and knows nothing of any picture.")
    results = [study.run(seed) for seed in range(options.seeds)]
    write_results(study, results)
    return results


def train(options: argparse.Namespace) -> int:
    """Prepare the pictures, train and report."""
    if options.threads:
        torch.set_num_threads(options.threads)
    out = new_run_directory(options.out) if options.fresh else options.out
    study = Study(options, open_data(options), out)
    print(f"Always naming the painter with most pictures would be right for {100 * study.data.majority:.1f} %.")
    try:
        results = run_study(study)
    except StoppedError:
        print(f"Stopped; the same command goes on from here. See {out}")
        return 130
    print(f"\n{(out / 'results.md').read_text(encoding='utf-8')}\n{results[0]['report_text']}\n\nSee {out}")
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
