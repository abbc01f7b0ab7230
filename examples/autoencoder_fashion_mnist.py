"""Compress Fashion-MNIST, MNIST or your own images to a few numbers and rebuild them, beside principal components.

    python examples/autoencoder_fashion_mnist.py                          # scikit-learn's 1,797 digits, some seconds
    python examples/autoencoder_fashion_mnist.py --data fashion_mnist/    # a folder with the IDX files, packed or not
    python examples/autoencoder_fashion_mnist.py --data mnist/ --widths 256 128 32 --loss bernoulli
    python examples/autoencoder_fashion_mnist.py --data my_images/        # a folder or a zip file
    python examples/autoencoder_fashion_mnist.py --data mnist/ --recipe document   # the learning rate stays as it is

Needs: pip install "ganblocks[train,metrics]". Runs on a CPU or a GPU; Fashion-MNIST takes a minute or two on one core.

The run directory (--out) ends up with
    figures/reconstruction.png  images kept from training above what the network makes of them, with their errors
    autoencoder.safetensors     the network, with its configuration and errors
    curves.png, report.html     loss and error, in training and on the images kept from it; all of it on one page
    log.jsonl                   one line of numbers at a time; tensorboard/ has the same for TensorBoard
    checkpoints/                the newest two and the best; config.json has all settings

Stopping (Ctrl-C, SIGTERM, a crash) loses nothing: the same command goes on from the last checkpoint.
"""

import argparse
import dataclasses
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganblocks._version import __version__
from ganblocks.data import ImageFolder, TensorBatches, built_in_digits, idx_images, read_images, split
from ganblocks.data.source import ImageSource
from ganblocks.errors import GanblocksError
from ganblocks.functional.image_range import intensities
from ganblocks.models.autoencoder import AutoencoderConfig, DenseAutoencoder
from ganblocks.training import (
    Callback,
    EarlyStopping,
    Precision,
    ProgressBar,
    Report,
    Summary,
    TensorBoard,
    Trainer,
    Validation,
    joined_processes,
    new_run_directory,
    plain_weights,
)
from ganblocks.training import autoencoder_recipes as recipes
from ganblocks.training.autoencoder_step import evaluate_autoencoder, reconstruct
from ganblocks.training.environment import flushed_denormals
from ganblocks.training.saved_weights import write_weights
from ganblocks.visualization.reconstruction import reconstruction_rows
from ganblocks.visualization.summary import model_summary

DEFAULTS: dict[str, dict[str, Any]] = {  # what depends on the data
    "built_in": {"widths": [16], "epochs": 40, "learning_rate": 5e-3, "threads": 1},
    "idx": {"widths": [64], "epochs": 10, "threads": 1},  # a batch is too small for two threads to share
    "folder": {"widths": [64], "epochs": 20, "resolution": 32},
}
COUNTS = (
    "resolution",
    "widths",
    "epochs",
    "patience",
    "batch_size",
    "total_images",
    "held_out",
    "threads",
)  # at least 1


@dataclasses.dataclass(frozen=True)
class Data:
    """Images uint8 [N, C, R, R] to train on, those to measure on, and what the sources say."""

    images: Tensor
    test_images: Tensor
    fingerprints: tuple[str, ...]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line and fill in what depends on other choices."""
    parser = argparse.ArgumentParser(
        description="Train an autoencoder of dense layers and compare it with principal components.",
        epilog="The same command again goes on where the run was stopped.",
    )
    add = parser.add_argument
    add(
        "--data",
        type=Path,
        help="IDX files, or a folder or zip of images (default: $GANBLOCKS_DATA/fashion_mnist, else digits)",
    )
    add("--out", type=Path, default=Path("runs/autoencoder"), help="run directory (default: %(default)s)")
    add("--fresh", action="store_true", help="start anew in a new directory, OUT-2 and so on")
    add("--resolution", type=int, help="side of the images (default: as they are; 32 for folders)")
    add("--widths", type=int, nargs="+", help="of the encoder's layers, the last is the code (default: 64; digits 16)")
    add("--tied", action="store_true", help="the decoder uses the encoder's weights, transposed")
    add("--recipe", choices=("dense", "document"), default="dense", help="document: the learning rate stays")
    add("--loss", choices=("squared_error", "bernoulli"), default="squared_error")
    add("--epochs", type=int, help="passes over the images (default: 10; digits 40, folders 20)")
    add("--patience", type=int, help="stop after so many epochs without a lower error (default: never)")
    add("--total-images", type=int, help="stop after this many images (default: when all epochs are done)")
    add("--batch-size", type=int, help="images in a batch (default: 32)")
    add("--learning-rate", type=float, help="the highest (default: 0.001; digits 0.005)")
    add("--held-out", type=int, help="images kept from training to measure on (default: the test part, else a fifth)")
    add("--resume", choices=("exact", "lenient"), default="exact", help="lenient: go on where the last bits may differ")
    add("--seed", type=int, default=0)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="fp32")
    add("--threads", type=int, help="CPU threads (default: 1; folders torch's own choice)")
    add("--dry-run", action="store_true", help="check data, settings and memory, then stop")
    options = parser.parse_args(arguments)
    for name in COUNTS:
        value = getattr(options, name)
        for number in value if isinstance(value, list) else [] if value is None else [value]:
            if number < 1:
                parser.error(f"--{name.replace('_', '-')} is {number}, but must be at least 1")
    try:
        device = torch.device(options.device)
    except RuntimeError:
        parser.error(f"--device is {options.device}, but must be cpu, cuda or cuda:0 and so on")
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error(f"--device is {options.device}, but PyTorch finds no GPU here")
    root = os.environ.get("GANBLOCKS_DATA")
    if options.data is None and root and (Path(root) / "fashion_mnist").exists():
        options.data = Path(root) / "fashion_mnist"
    options.kind = "built_in" if options.data is None else "idx" if _is_idx(options.data) else "folder"
    for name, default in DEFAULTS[options.kind].items():
        if getattr(options, name) is None:
            setattr(options, name, default)
    return options


def _is_idx(path: Path) -> bool:
    """Whether this is a file of images in the IDX format, or a folder with one, as its name says."""
    return any("idx3" in entry.name for entry in (path.iterdir() if path.is_dir() else [path]))


def open_data(options: argparse.Namespace) -> tuple[ImageSource, ImageSource | None]:
    """The images to train on, and those to measure on where the data come in two parts."""
    if options.data is None:
        print("No --data: using the 1,797 digits (8 px) of scikit-learn.")
        return built_in_digits(), None
    if options.kind == "folder":
        return ImageFolder(options.data), None
    both = options.data.is_dir() and options.held_out is None
    return idx_images(options.data), idx_images(options.data, "test") if both else None


def read_data(options: argparse.Namespace) -> Data:
    """All images in memory, in the two parts; labels are not used."""
    source, test = open_data(options)
    resolution = options.resolution or min(source.size(0))
    if test is None:
        held_out = max(1, len(source) // 5) if options.held_out is None else options.held_out
        training, testing = split(len(source), held_out, seed=options.seed)
        images, test_images = (read_images(source, resolution, indices=part)[0] for part in (training, testing))
    else:
        images, test_images = (read_images(part, resolution)[0] for part in (source, test))
    parts = [source] if test is None else [source, test]
    return Data(images, test_images, tuple(part.fingerprint for part in parts))


def principal_components_mse(images: Tensor, test_images: Tensor, components: int) -> float | None:
    """Mean squared error of a pixel where as many numbers as the code has are principal components of the images.

    The best that a linear encoder and decoder can do on the images they are made from. ``None`` without scikit-learn.
    """
    try:
        from sklearn.decomposition import PCA
    except ImportError:
        return None
    training, testing = (intensities(part).flatten(1).numpy() for part in (images, test_images))
    pca = PCA(min(components, *training.shape), random_state=0).fit(training)
    rebuilt = pca.inverse_transform(pca.transform(testing))
    return float(((rebuilt - testing) ** 2).mean(dtype="float64"))


class Reconstructions(Callback):
    """Draws test images above what the network makes of them, at the end of a run or where it was stopped."""

    def __init__(self, model: DenseAutoencoder, images: Tensor, count: int = 10) -> None:
        self.model = model
        self.images = images[:count]

    def on_end(self, trainer: Trainer, finished: bool) -> None:
        """Write ``figures/reconstruction.png``."""
        if trainer.run_dir is not None:
            (trainer.run_dir / "figures").mkdir(exist_ok=True)
            reconstruction_rows(
                intensities(self.images),
                reconstruct(self.model, self.images),
                errors=True,
                path=trainer.run_dir / "figures" / "reconstruction.png",
            )


def finish(run_dir: Path, model: DenseAutoencoder, data: Data) -> None:
    """Tell how well the network does, and write it into the run directory."""
    code = model.config.widths[-1]
    mean = intensities(data.images).mean(0)
    errors: Mapping[str, float | None] = {
        "autoencoder": evaluate_autoencoder(model, data.test_images)["val_mse"],
        "principal components": principal_components_mse(data.images, data.test_images, code),
        "mean image": (intensities(data.test_images) - mean).square().mean(dtype=torch.float64).item(),
    }
    print(f"Mean squared error of a pixel of {len(data.test_images):,} test images, codes of {code} numbers:")
    for name, error in errors.items():
        print(f"  {name:<22}{'needs ganblocks[metrics]' if error is None else f'{error:.5f}'}")
    about = {
        "format": "pt",
        "ganblocks": __version__,
        "model": "dense_autoencoder",
        "config": model.config.to_dict(),
        "mse": errors,
    }
    weights = {name: tensor.cpu().contiguous() for name, tensor in plain_weights(model).items()}
    write_weights(run_dir / "autoencoder.safetensors", weights, about)


def train(options: argparse.Namespace) -> int:
    """Prepare data, network and recipe, then train, from the newest checkpoint if there is one."""
    if options.threads:
        torch.set_num_threads(options.threads)
    run_dir = new_run_directory(options.out) if options.fresh else options.out
    data = read_data(options)
    config = AutoencoderConfig(tuple(data.images.shape[1:]), tuple(options.widths), tied=options.tied)
    changes = {name: getattr(options, name) for name in ("epochs", "batch_size", "learning_rate", "loss")}
    make = recipes.document if options.recipe == "document" else recipes.dense_autoencoder
    recipe = make(**{name: value for name, value in changes.items() if value is not None})
    schedule = recipe.schedule(len(data.images))

    device = torch.device(options.device)
    precision = Precision.resolve(options.precision, device)
    torch.manual_seed(options.seed)
    model = DenseAutoencoder(config).to(device)
    step = recipe.build_step(model, precision=precision)

    def measure(trainer: Trainer) -> dict[str, float]:
        return evaluate_autoencoder(model, data.test_images, loss=step.loss, logits=step.logits)

    N = len(data.images)
    size = f"{data.images.shape[-1]}x{data.images.shape[-1]}"
    title = f"Autoencoder, {len(data.images):,} images, {size}, codes of {config.widths[-1]} numbers"
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
            "held_out": len(data.test_images),
            "precision": precision.name,
        },
        callbacks=[
            ProgressBar(),
            Validation(measure, N, show=True),
            EarlyStopping("val_mse", patience=options.patience or sys.maxsize),
            TensorBoard(),
            Summary(title=title),
            Reconstructions(model, data.test_images),
            Report(title=title, fractions=(0.5,)),
        ],
        log_images=max(1, min(N, schedule.total_images // 400)),
        save_images=max(1, schedule.total_images // 20),
        keep_best=1,
        best_key="val_mse",
        metadata=lambda trainer: {"model": "dense_autoencoder", "config": config.to_dict()},
    )
    print(model_summary(model, config.input_shape))
    print(
        f"{len(data.images):,} images to train on, {len(data.test_images):,} to measure on; "
        f"{precision.name} on {device}, {torch.get_num_threads()} threads",
        flush=True,
    )
    trainer.dry_run()
    if options.dry_run:
        print("Dry run: everything fits. Nothing was trained.")
        return 0
    result = trainer.fit()
    state = "finished" if result.finished else "stopped; the same command goes on from here"
    print(f"{result.images_seen:,} images in {result.seconds:.0f} s: {state}. See {run_dir}")
    if result.finished and trainer.replicas.rank == 0:
        finish(run_dir, model, data)
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
