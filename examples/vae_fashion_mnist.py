"""A variational autoencoder with two latents: Fashion-MNIST, MNIST or your own images as points of a plane, beside PCA.

    python examples/vae_fashion_mnist.py                           # scikit-learn's 1,797 digits, some seconds
    python examples/vae_fashion_mnist.py --data fashion_mnist/     # a folder with the four IDX files, packed or not
    python examples/vae_fashion_mnist.py --data fashion_mnist/ --sampling log_sigma --epsilon-std 0.1
    python examples/vae_fashion_mnist.py --data mnist/ --latent-dim 20 --hidden-dims 400 --epochs 50
    python examples/vae_fashion_mnist.py --data my_images/ --resolution 32 --channels 32 64 --likelihood gaussian

The third command is the form of a widespread tutorial, in which latents are drawn with a tenth of the noise that the
divergence assumes: classes come apart as well, but the prior says nothing about where the codes lie.

Needs: pip install "ganblocks[train,metrics]". Runs on a CPU or a GPU; 200 passes over Fashion-MNIST take about a
quarter of an hour on one core.

The run directory (--out) ends up with
    figures/                of images kept from training: codes before and after it, their principal components, their
                            reconstructions; of two latents the decoder's images over the plane; samples
    vae.safetensors         the network, with its configuration and scores
    curves.png, report.html bound, reconstruction and divergence, in training and on the images kept from it; all of it
    log.jsonl               one line of numbers at a time; tensorboard/ has the same for TensorBoard
    checkpoints/            the newest two; config.json has all settings

Stopping (Ctrl-C, SIGTERM, a crash) loses nothing: the same command goes on from the last checkpoint.
"""

import argparse
import dataclasses
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganblocks._version import __version__
from ganblocks.data import (
    FASHION_MNIST_CLASSES,
    ImageFolder,
    TensorBatches,
    built_in_digits,
    idx_images,
    read_images,
    split,
)
from ganblocks.data.source import ImageSource
from ganblocks.errors import GanblocksError
from ganblocks.functional.image_range import intensities
from ganblocks.models.vae import VAE
from ganblocks.models.vae_config import VAEConfig
from ganblocks.training import (
    Callback,
    Measurements,
    Precision,
    ProgressBar,
    Report,
    Summary,
    TensorBoard,
    Trainer,
    joined_processes,
    new_run_directory,
    plain_weights,
    vae_recipes,
)
from ganblocks.training.environment import flushed_denormals
from ganblocks.training.saved_weights import write_weights
from ganblocks.training.vae_step import evaluate_vae
from ganblocks.visualization.latent import decoder_grid, latent_scatter, pca_scatter
from ganblocks.visualization.panel import sample_panel
from ganblocks.visualization.reconstruction import reconstruction_rows
from ganblocks.visualization.summary import model_summary

DEFAULTS: dict[str, dict[str, Any]] = {  # what depends on the data; None leaves it to the recipe
    "built_in": {"epochs": 100, "batch_size": 32, "learning_rate": 3e-3, "threads": 1},
    "idx": {"threads": 1},  # a batch is too small for two threads to share
    "folder": {"epochs": 100, "resolution": 32},
}
COUNTS = ("resolution", "latent_dim", "hidden_dims", "channels", "epochs", "batch_size", "total_images", "held_out")
NEIGHBORS = 10


@dataclasses.dataclass(frozen=True)
class Data:
    """Images uint8 [N, C, R, R] and labels [N] to train on, those to measure on, and what the sources say."""

    images: Tensor
    labels: Tensor | None
    test_images: Tensor
    test_labels: Tensor | None
    classes: tuple[str, ...] | None
    fingerprints: tuple[str, ...]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line and fill in what depends on other choices."""
    parser = argparse.ArgumentParser(
        description="Train a variational autoencoder and draw its latents beside principal components.",
        epilog="The same command again goes on where the run was stopped.",
    )
    add = parser.add_argument
    add(
        "--data",
        type=Path,
        help="IDX files, or a folder or zip of images (default: $GANBLOCKS_DATA/fashion_mnist, else digits)",
    )
    add("--out", type=Path, default=Path("runs/vae"), help="run directory (default: %(default)s)")
    add("--fresh", action="store_true", help="start anew in a new directory, OUT-2 and so on")
    add("--resolution", type=int, help="side of the images (default: as they are; 32 for folders)")
    add("--latent-dim", type=int, default=2, help="numbers of a code (default: %(default)s)")
    add("--hidden-dims", type=int, nargs="*", default=[64], help="widths of the dense layers (default: 64)")
    add("--channels", type=int, nargs="*", default=[], help="widths of convolutions before them (default: none)")
    add("--likelihood", choices=("bernoulli", "gaussian"), default="bernoulli")
    add("--sampling", choices=("log_var", "log_sigma"), default="log_var", help="what the second output is read as")
    add("--epsilon-std", type=float, default=1.0, help="of the noise in the latents (default: %(default)s)")
    add("--kl-weight", type=float, help="of the divergence; 0 is cross-entropy alone (default: 1)")
    add("--annealing", type=float, help="share of the run over which that weight rises from 0 (default: 0)")
    add("--epochs", type=int, help="passes over the images (default: 200; digits and folders 100)")
    add("--total-images", type=int, help="stop after this many images (default: when all epochs are done)")
    add("--batch-size", type=int, help="images in a batch (default: 64; digits 32)")
    add("--learning-rate", type=float, help="default: 0.001; digits 0.003")
    add("--held-out", type=int, help="images kept from training to measure on (default: the test part, else a fifth)")
    add("--resume", choices=("exact", "lenient"), default="exact", help="lenient: go on where the last bits may differ")
    add("--seed", type=int, default=0)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="fp32")
    add("--threads", type=int, help="CPU threads (default: 1; folders torch's own choice)")
    add("--dry-run", action="store_true", help="check data, settings and memory, then stop")
    options = parser.parse_args(arguments)
    for name in (*COUNTS, "threads"):
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
    path: Path | None = options.data
    if path is None:
        print("No --data: using the 1,797 digits (8 px) of scikit-learn.")
        return built_in_digits(), None
    if options.kind == "folder":
        return ImageFolder(path), None
    names = FASHION_MNIST_CLASSES if "fashion" in path.name.lower() else None
    both = path.is_dir() and options.held_out is None
    return idx_images(path, classes=names), idx_images(path, "test", classes=names) if both else None


def read_data(options: argparse.Namespace) -> Data:
    """All images in memory, in the two parts. Labels only colour the figures and judge the codes."""
    source, test = open_data(options)
    resolution = options.resolution or min(source.size(0))
    if test is None:
        held_out = max(1, len(source) // 5) if options.held_out is None else options.held_out
        training, testing = split(len(source), held_out, seed=options.seed)
        parts = [read_images(source, resolution, indices=part) for part in (training, testing)]
    else:
        parts = [read_images(part, resolution) for part in (source, test)]
    classes = None if source.labels is None else source.classes
    sources = [source] if test is None else [source, test]
    return Data(*parts[0], *parts[1], classes, tuple(part.fingerprint for part in sources))


@torch.no_grad()
def encode(model: VAE, images: Tensor) -> Tensor:
    """The codes of bytes [N, C, R, R]: float32 [N, Z] on the CPU."""
    device = next(model.parameters()).device
    return torch.cat([model.encode(intensities(part.to(device))).cpu() for part in torch.split(images, 1000)])


def principal_components(images: Tensor, test_images: Tensor, components: int) -> tuple[Tensor, Tensor]:
    """As many principal components as a code has numbers, fitted to the first images: of these and of the others."""
    from sklearn.decomposition import PCA

    training, testing = (intensities(part).flatten(1).numpy() for part in (images, test_images))
    pca = PCA(min(components, *training.shape), random_state=0).fit(training)
    return torch.from_numpy(pca.transform(training)), torch.from_numpy(pca.transform(testing))


def nearest_neighbor_accuracy(codes: Tensor, labels: Tensor, test_codes: Tensor, test_labels: Tensor) -> float:
    """Share of test codes whose class is that of most of the 10 nearest codes of training images."""
    from sklearn.neighbors import KNeighborsClassifier

    neighbors = KNeighborsClassifier(min(NEIGHBORS, len(codes))).fit(codes.numpy(), labels.numpy())
    return float(neighbors.score(test_codes.numpy(), test_labels.numpy()))


class Figures(Callback):
    """Draws the codes before the first step, and at the end, or where the run was stopped, what was learnt."""

    def __init__(self, model: VAE, data: Data) -> None:
        self.model = model
        self.data = data

    def on_start(self, trainer: Trainer) -> None:
        """The codes of a network that has learnt nothing yet."""
        if trainer.run_dir is None:
            return
        (trainer.run_dir / "figures").mkdir(exist_ok=True)
        if trainer.images_seen == 0:
            self._codes(trainer.run_dir / "figures" / "codes_before.png", "Codes of test images before training")

    def on_end(self, trainer: Trainer, finished: bool) -> None:
        """Codes, what the decoder makes of the plane, samples, reconstructions."""
        if trainer.run_dir is None:
            return
        model, images = self.model, self.data.test_images[:10]
        device = next(model.parameters()).device
        figures = trainer.run_dir / "figures"
        self._codes(figures / "codes_after.png", f"Codes of test images after {trainer.images_seen:,} images")
        if model.config.latent_dim == 2:
            decoder_grid(model.decode, device=device, title="Decoder over the plane", path=figures / "decoder_grid.png")
        sample_panel(model.sample(25, seed=trainer.seed).cpu(), title="Samples", path=figures / "samples.png")
        with torch.no_grad():
            rebuilt = model.decode(encode(model, images).to(device)).cpu()
        path = figures / "reconstruction.png"
        reconstruction_rows(intensities(images), rebuilt, errors=True, path=path)

    def _codes(self, path: Path, title: str) -> None:
        codes, labels, classes = encode(self.model, self.data.test_images), self.data.test_labels, self.data.classes
        if codes.shape[1] == 2:
            # The circles of the prior say where codes are to lie, which the form without its noise gives up.
            prior = self.model.config.epsilon_std == 1
            latent_scatter(codes, labels, classes=classes, prior=prior, title=title, path=path)
        elif codes.shape[1] > 2:
            pca_scatter(codes, labels, classes=classes, title=f"{title}: two principal components", path=path)


def finish(run_dir: Path, model: VAE, data: Data) -> None:
    """Tell how well the network does beside principal components, and write it into the run directory."""
    scores: dict[str, float] = evaluate_vae(model, data.test_images)
    print(
        f"Loss of {len(data.test_images):,} test images: {scores['val_loss']:.2f} nats, "
        f"reconstruction {scores['val_reconstruction']:.2f} and divergence {scores['val_kl']:.2f}"
    )
    Z = model.config.latent_dim
    try:
        components = principal_components(data.images, data.test_images, Z)
        if Z >= 2:
            path = run_dir / "figures" / "principal_components.png"
            title = "Principal components of test images"
            pca_scatter(
                intensities(data.test_images),
                data.test_labels,
                fit_data=intensities(data.images),
                classes=data.classes,
                title=title,
                path=path,
            )
        if data.labels is not None and data.test_labels is not None:
            codes = encode(model, data.images), encode(model, data.test_images)
            print(f"Accuracy of {NEIGHBORS} nearest neighbours among codes of {Z} numbers:")
            for name, (train_codes, test_codes) in {"vae": codes, "principal components": components}.items():
                accuracy = nearest_neighbor_accuracy(train_codes, data.labels, test_codes, data.test_labels)
                scores[f"{name.replace(' ', '_')}_neighbor_accuracy"] = accuracy
                print(f"  {name:<22}{accuracy:.4f}")
    except ImportError:
        print('Principal components and neighbours need scikit-learn: pip install "ganblocks[metrics]"')
    about = {
        "format": "pt",
        "ganblocks": __version__,
        "model": "vae",
        "config": model.config.to_dict(),
        "scores": scores,
    }
    weights = {name: tensor.cpu().contiguous() for name, tensor in plain_weights(model).items()}
    write_weights(run_dir / "vae.safetensors", weights, about)


def train(options: argparse.Namespace) -> int:
    """Prepare data, network and recipe, then train, from the newest checkpoint if there is one."""
    if options.threads:
        torch.set_num_threads(options.threads)
    run_dir = new_run_directory(options.out) if options.fresh else options.out
    data = read_data(options)
    config = VAEConfig(
        resolution=data.images.shape[-1],
        image_channels=data.images.shape[1],
        latent_dim=options.latent_dim,
        hidden_dims=tuple(options.hidden_dims),
        channels=tuple(options.channels),
        likelihood=options.likelihood,
        sampling=options.sampling,
        epsilon_std=options.epsilon_std,
    )
    changes = {
        name: getattr(options, name) for name in ("epochs", "batch_size", "learning_rate", "kl_weight", "annealing")
    }
    recipe = vae_recipes.latent_plane(**{name: value for name, value in changes.items() if value is not None})
    schedule = recipe.schedule(len(data.images))

    device = torch.device(options.device)
    precision = Precision.resolve(options.precision, device)
    torch.manual_seed(options.seed)
    model = VAE(config).to(device)
    step = recipe.build_step(model, dataset_images=len(data.images), precision=precision)

    def measure(trainer: Trainer) -> dict[str, float]:
        return evaluate_vae(model, data.test_images)

    points = min(recipe.epochs, 20)
    size = f"{config.resolution}x{config.resolution}"
    title = f"Variational autoencoder, {len(data.images):,} images, {size}, {config.latent_dim} latents"
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
            Measurements(measure, fractions=[(point + 1) / points for point in range(points)], show=True),
            TensorBoard(),
            Summary(title=title),
            Figures(model, data),
            Report(title=title, fractions=(0.5,)),
        ],
        log_images=max(1, schedule.total_images // 400),
        save_images=max(1, schedule.total_images // 20),
        metadata=lambda trainer: {"model": "vae", "config": config.to_dict()},
    )
    print(f"Encoder: {model_summary(model.encoder, config.image_shape)}\n")
    print(f"Decoder: {model_summary(model.decoder, (config.latent_dim,))}\n")
    parameters = sum(p.numel() for p in model.parameters())
    print(
        f"{len(data.images):,} images to train on, {len(data.test_images):,} to measure on; {parameters:,} parameters; "
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
