"""Train a digit classifier whose layers come out of autoencoders, trained before on the images alone.

    python examples/stacked_autoencoder_mnist.py                                # scikit-learn's digits, some seconds
    python examples/stacked_autoencoder_mnist.py --data mnist/                  # a folder with the four IDX files
    python examples/stacked_autoencoder_mnist.py --dataset fashion_mnist        # found in $GANBLOCKS_DATA
    python examples/stacked_autoencoder_mnist.py --data mnist/ --stacking latent_reuse --document --seeds 0 1 2
    python examples/stacked_autoencoder_mnist.py --data mnist/ --labels 1000    # all images, but 1,000 labels

Needs: pip install "ganblocks[train]", and scikit-learn for the built-in digits. Runs on a CPU or a GPU; MNIST takes
some minutes on one core.

--stacking greedy trains each autoencoder on the codes of the one before, latent_reuse each on the images (the course
text's form, in which the widths fit but the features do not), none starts from random weights: the form to beat. The
classifier is 784-128-64-32-16-10 in all three.

The run directory (--out; with several seeds one a seed in it) ends up with
    autoencoder-1/, ...     the run of each autoencoder; unrolled/ with --unrolled-epochs
    classifier/             the run of the classifier: report.html with curves and figures, checkpoints, log
    classifier/classifier.safetensors
    results.json            accuracy and seconds

Stopping (Ctrl-C, SIGTERM, a crash) loses nothing: the same command goes on in the stage that was interrupted.
"""

import argparse
import dataclasses
import functools
import json
import os
import statistics
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganblocks._version import __version__
from ganblocks.data import FASHION_MNIST_CLASSES, TensorBatches, built_in_digits, idx_images, read_images, split
from ganblocks.errors import DataError, GanblocksError
from ganblocks.models.autoencoder import DenseAutoencoder
from ganblocks.models.stacked import StackedClassifier, StackedClassifierConfig, autoencoder_configs
from ganblocks.models.unrolled import UnrolledAutoencoder
from ganblocks.training import (
    Callback,
    Measurements,
    Precision,
    ProgressBar,
    Report,
    Summary,
    Trainer,
    current_replicas,
    evaluate_classifier,
    joined_processes,
    new_run_directory,
    plain_weights,
    predict_logits,
)
from ganblocks.training.environment import flushed_denormals
from ganblocks.training.pretraining import PretrainedStack, pretrain_stack
from ganblocks.training.saved_weights import write_weights
from ganblocks.training.stacked_recipes import StackedRecipe, stacked_autoencoder, stacked_document
from ganblocks.visualization.classification import class_bars
from ganblocks.visualization.confusion import confusion_matrix
from ganblocks.visualization.panel import sample_panel

COUNTS = ("widths", "labels", "pretrain_epochs", "epochs", "batch_size", "threads")  # at least 1 where they are given
RECIPE = (  # options that are fields of the recipe; None leaves them to it
    "stacking", "pretrain_epochs", "unrolled_epochs", "epochs", "batch_size", "pretrain_learning_rate",
    "learning_rate", "masking", "loss",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Data:
    """Images uint8 [N, C, R, R] and labels [N] to train on, those to measure on, and what the sources say."""

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    fingerprints: tuple[str, ...]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line and find the data."""
    parser = argparse.ArgumentParser(
        description="Train a classifier whose layers come out of autoencoders.",
        epilog="The same command again goes on where the run was stopped.",
    )
    add = parser.add_argument
    add("--dataset", choices=("mnist", "fashion_mnist", "digits"), help="default: mnist where it is found, else digits")
    add("--data", type=Path, help="folder with the four IDX files (default: $GANBLOCKS_DATA/<dataset>)")
    add("--out", type=Path, default=Path("runs/stacked"), help="run directory (default: %(default)s)")
    add("--fresh", action="store_true", help="start anew in a new directory, OUT-2 and so on")
    add("--stacking", choices=("greedy", "latent_reuse", "none"), help="default: greedy; with --document latent_reuse")
    add("--document", action="store_true", help="the course text's training: constant rates, clean inputs")
    add("--seeds", type=int, nargs="+", default=[0], help="one run for each (default: 0)")
    add("--labels", type=int, help="use the labels of so many images only, chosen by the seed (default: all)")
    add("--widths", type=int, nargs="+", default=[128, 64, 32, 16], help="of the layers (default: 128 64 32 16)")
    add("--tied", action="store_true", help="decoders use the weights of their encoders, transposed")
    add("--freeze", action="store_true", help="pretrained layers stay as they are in the classifier")
    add("--pretrain-epochs", type=int, help="passes for each autoencoder (default: 10)")
    add("--unrolled-epochs", type=int, help="passes for all autoencoders together as a deep one (default: 0)")
    add("--epochs", type=int, help="passes for the classifier (default: 10)")
    add("--batch-size", type=int, help="images in a batch (default: 128; digits 32)")
    add("--pretrain-learning-rate", type=float, help="of the autoencoders")
    add("--learning-rate", type=float, help="of the classifier")
    add("--masking", type=float, help="share of an autoencoder's inputs that is set to 0")
    add("--loss", choices=("squared_error", "bernoulli"), help="of rebuilt images (default: squared_error)")
    add("--resume", choices=("exact", "lenient"), default="exact", help="lenient: go on where the last bits may differ")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="fp32", help="default: %(default)s")
    add("--threads", type=int, default=1, help="CPU threads; networks this small want one (default: 1)")
    add("--verbose", action="store_true", help="print the accuracy after each pass")
    options = parser.parse_args(arguments)
    for name in COUNTS:
        value = getattr(options, name)
        for number in value if isinstance(value, list) else [] if value is None else [value]:
            if number < 1:
                parser.error(f"--{name.replace('_', '-')} is {number}, but must be at least 1")
    if min(options.seeds) < 0 or len(set(options.seeds)) < len(options.seeds):
        parser.error(f"--seeds are {options.seeds}, but must be different and 0 or above")
    try:
        device = torch.device(options.device)
    except RuntimeError:
        parser.error(f"--device is {options.device}, but must be cpu, cuda or cuda:0 and so on")
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error(f"--device is {options.device}, but PyTorch finds no GPU here")
    root = os.environ.get("GANBLOCKS_DATA")
    if options.data is None and options.dataset != "digits":
        folder = Path(root) / (options.dataset or "mnist") if root else None
        if folder is not None and folder.is_dir():
            options.data = folder
        elif options.dataset is not None:
            parser.error(f"--dataset is {options.dataset}, but neither --data nor GANBLOCKS_DATA says where it is")
    if options.data is None:
        options.batch_size = options.batch_size or 32
    return options


def read_data(options: argparse.Namespace) -> Data:
    """All images in memory, in the two parts."""
    path: Path | None = options.data
    fingerprints: tuple[str, ...]
    if path is None:
        print("No --data: using the 1,797 digits (8 px) of scikit-learn.")
        source = built_in_digits()
        training, testing = split(len(source), len(source) // 5, seed=0)
        images, labels = read_images(source, 8, indices=training)
        test_images, test_labels = read_images(source, 8, indices=testing)
        classes, fingerprints = source.classes, (source.fingerprint,)
    else:
        names = FASHION_MNIST_CLASSES if "fashion" in f"{options.dataset} {path.name}".lower() else None
        parts = idx_images(path, classes=names), idx_images(path, "test", classes=names)
        side = min(parts[0].size(0))
        (images, labels), (test_images, test_labels) = (read_images(part, side) for part in parts)
        classes = max((part.classes for part in parts), key=len)
        fingerprints = tuple(part.fingerprint for part in parts)
    if labels is None or test_labels is None:
        raise DataError(f"{path} has no labels: the files with labels and idx1 in their names are missing")
    return Data(images, labels, test_images, test_labels, classes, fingerprints)


class Run:
    """One seed: the autoencoders, then the classifier.

    Args:
        options: The command line.
        data: What to train and to measure on.
        seed: Of everything random.
        run_dir: Of this seed.
    """

    def __init__(self, options: argparse.Namespace, data: Data, seed: int, run_dir: Path) -> None:
        self.options, self.data, self.seed, self.run_dir = options, data, seed, run_dir
        changes = {name: getattr(options, name) for name in RECIPE if getattr(options, name) is not None}
        make = stacked_document if options.document else stacked_autoencoder
        self.recipe: StackedRecipe = make(freeze=options.freeze, **changes)
        self.config = StackedClassifierConfig(
            resolution=data.images.shape[-1],
            image_channels=data.images.shape[1],
            num_classes=len(data.classes),
            widths=tuple(options.widths),
            normalized=self.recipe.stacking == "greedy" and self.recipe.normalize_codes,
        )
        self.device = torch.device(options.device)
        self.precision = Precision.resolve(options.precision, self.device)
        self.settings = {
            "config": self.config.to_dict(),
            "recipe": dataclasses.asdict(self.recipe),
            "data": data.fingerprints,
            "tied": options.tied,
            "labels": options.labels,
            "precision": self.precision.name,
        }

    def pretrain(self) -> PretrainedStack | None:
        """Train or read the autoencoders; ``None`` where there are to be none."""
        recipe, images = self.recipe, self.data.images
        if recipe.stacking == "none":
            return None
        configs = autoencoder_configs(self.config, recipe.stacking, tied=self.options.tied)
        schedule = recipe.pretraining_schedule(len(images))
        return pretrain_stack(
            images,
            [functools.partial(self.build, config) for config in configs],
            functools.partial(recipe.build_autoencoder_step, precision=self.precision),
            schedule,
            stacking=recipe.stacking,
            normalize_codes=recipe.normalize_codes,
            unroll=UnrolledAutoencoder if recipe.unrolled_epochs else None,
            unrolled_schedule=recipe.unrolled_schedule(len(images)),
            run_dir=self.run_dir,
            seed=self.seed,
            settings=self.settings,
            callbacks=self.stage_callbacks,
            log_images=max(1, schedule.total_images // 200),
            save_images=max(1, schedule.total_images // 5),
            resume=self.options.resume,
        )

    def build(self, config: Any) -> DenseAutoencoder:
        """An autoencoder on the device."""
        return DenseAutoencoder(config).to(self.device)

    def stage_callbacks(self, name: str) -> list[Callback]:
        """A line that says which stage is running, a bar, and curves at its end."""
        print(f"seed {self.seed}: {name}", flush=True)
        return [ProgressBar(), Summary(title=f"{name}, {self.recipe.stacking}")]

    def classify(self, stack: PretrainedStack | None) -> tuple[int, dict[str, Any]]:
        """Train the classifier; the exit code, and what there is to report if it came to its end."""
        recipe, data = self.recipe, self.data
        print(f"seed {self.seed}: classifier", flush=True)
        torch.manual_seed(self.seed)
        if stack is None or recipe.stacking == "none":
            classifier = StackedClassifier(self.config)
        else:
            classifier = StackedClassifier.assemble(
                self.config,
                stack.autoencoders,  # type: ignore[arg-type]
                stacking=recipe.stacking,
                normalizations=stack.normalizations,
                freeze=recipe.freeze,
            )
        classifier = classifier.to(self.device)
        images, labels = data.images, data.labels
        if self.options.labels is not None and self.options.labels < len(images):
            _, chosen = split(len(images), self.options.labels, seed=self.seed)
            images, labels = images[chosen], labels[chosen]
        schedule = recipe.schedule(len(images))
        run_dir = self.run_dir / "classifier"
        title = f"Classifier of stacked autoencoders ({recipe.stacking}), {len(images):,} labels"
        trainer = Trainer(
            recipe.build_step(classifier, precision=self.precision),
            TensorBatches(images, labels, seed=self.seed),
            schedule,
            run_dir=run_dir,
            seed=self.seed,
            settings=self.settings,
            callbacks=[
                ProgressBar(),
                Measurements(
                    lambda trainer: evaluate_classifier(classifier, data.test_images, data.test_labels),
                    fractions=[(epoch + 1) / recipe.epochs for epoch in range(recipe.epochs)],
                    show=self.options.verbose,
                ),
                Figures(classifier, data),
                Summary(title=title),
                Report(title=title, fractions=()),
            ],
            log_images=max(1, schedule.total_images // 400),
            save_images=max(1, schedule.total_images // 5),
            resume=self.options.resume,
            metadata=lambda trainer: {
                "model": "stacked",
                "config": self.config.to_dict(),
                "classes": list(data.classes),
            },
        )
        result = trainer.fit()
        if not result.finished:
            return result.exit_code, {}
        measured = evaluate_classifier(classifier, data.test_images, data.test_labels)
        about = {
            "format": "pt",
            "ganblocks": __version__,
            "model": "stacked",
            "config": self.config.to_dict(),
            "classes": data.classes,
            **measured,
        }
        weights = {name: tensor.cpu().contiguous() for name, tensor in plain_weights(classifier).items()}
        if trainer.replicas.rank == 0:
            write_weights(run_dir / "classifier.safetensors", weights, about)
        return result.exit_code, {"seed": self.seed, **measured, "classifier_seconds": round(result.seconds, 1)}


class Figures(Callback):
    """Draws samples, the classifier's confusion and some of its answers into ``figures/`` at the end of the run."""

    def __init__(self, classifier: StackedClassifier, data: Data) -> None:
        self.classifier, self.data = classifier, data

    def on_end(self, trainer: Trainer, finished: bool) -> None:
        """Draw them, if the run came to its end."""
        if trainer.run_dir is None or not finished:
            return
        folder = trainer.run_dir / "figures"
        folder.mkdir(exist_ok=True)
        data, K = self.data, len(self.data.classes)
        shares = predict_logits(self.classifier, data.test_images).softmax(dim=1)
        cells = K * data.test_labels + shares.argmax(dim=1)
        counts = torch.bincount(cells, minlength=K * K).reshape(K, K)
        sample_panel(data.images, data.labels, classes=data.classes, path=folder / "samples.png")
        class_bars(data.test_images, shares, data.test_labels, classes=data.classes, path=folder / "answers.png")
        confusion_matrix(counts, classes=data.classes, path=folder / "confusion.png")
        confusion_matrix(counts, classes=data.classes, values="percent", path=folder / "confusion_percent.png")


def train(options: argparse.Namespace) -> int:
    """All seeds, one after the other; tells how well each does, and writes it down."""
    torch.set_num_threads(options.threads)
    out = new_run_directory(options.out) if options.fresh else options.out
    data = read_data(options)
    print(
        f"{len(data.images):,} images, {options.labels or len(data.images):,} labels to train on, "
        f"{len(data.test_images):,} images to measure on",
        flush=True,
    )
    results: list[dict[str, Any]] = []
    for seed in options.seeds:
        run = Run(options, data, seed, out if len(options.seeds) == 1 else out / f"seed-{seed}")
        stack = run.pretrain()
        if stack is not None and not stack.finished:
            print(f"seed {seed}: stopped; the same command goes on from here")
            return stack.exit_code
        code, result = run.classify(stack)
        if not result:
            print(f"seed {seed}: stopped; the same command goes on from here")
            return code
        result["pretraining_seconds"] = 0.0 if stack is None else round(stack.seconds, 1)
        results.append(result)
        print(
            f"seed {seed}: {run.recipe.stacking}, test accuracy {result['val_accuracy']:.4f}, loss "
            f"{result['val_loss']:.4f}; {result['pretraining_seconds']:.0f} s of pretraining and "
            f"{result['classifier_seconds']:.0f} s with labels in this call",
            flush=True,
        )
    if len(results) > 1:
        accuracies = [result["val_accuracy"] for result in results]
        spread = f"{statistics.mean(accuracies):.4f} +- {statistics.stdev(accuracies):.4f}"
        print(f"{len(results)} seeds: test accuracy {spread} (standard deviation)")
    report = {"settings": run.settings, "results": results}
    if current_replicas().rank == 0:
        (out / "results.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"See {out}")
    return 0


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
