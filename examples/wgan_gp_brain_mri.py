"""Train a WGAN-GP (Gulrajani et al. 2017) on one class of brain scans, or on any few pictures in two folders.

    python examples/wgan_gp_brain_mri.py                                # drawn scans at 64 px: no data needed
    python examples/wgan_gp_brain_mri.py --data scans/ --label yes      # a folder or a zip that holds yes/ and no/
    python examples/wgan_gp_brain_mri.py --data scans.zip --label no --preset document --device cuda   # as taught
    python examples/wgan_gp_brain_mri.py --smoke                        # a trial of some seconds

Needs: pip install "ganblocks[train]". Runs on a CPU or a GPU; at 128 px the networks have 31 million parameters.

Images are stretched to squares, and those whose pixels are then the same as another's are left out. The paper's way is
the default: fresh reals for each update of the critic, penalty between reals and fakes, no dropout. --preset document
is the course text's: one batch of reals for five updates, a penalty on both sides of the reals, dropout in the critic.

The run is divided into 20 equal parts, its shown epochs. Each prints the means of the critic's loss, of its two terms
(the penalty without its weight) and of the generator's loss, and the run directory (--out) ends up with
    samples/, progress.gif  a sheet of the same latents at the end of each shown epoch, and all as an animation
    generated/              18 pictures of new latents at the end of each of the last six shown epochs, 108 in all
    real_beside_fake.png    16 real images on the left, 16 generated ones on the right
    nearest.png             samples, each beside the training image nearest to it
    curves.png, report.html losses, penalty and critic scores; all of it on one page, with scores
    log.jsonl               one line of numbers at a time; tensorboard/ has the same for TensorBoard
    checkpoints/            the newest two; config.json has all settings

More pictures: ganblocks sample --run runs/wgan_gp --count 64 --out sheet.png. Stopping (Ctrl-C, SIGTERM, a crash) loses
nothing: the same command goes on from the last checkpoint. A hundred scans can be learnt by heart: look at nearest.png
and at the scores of memorisation. Generated scans show what a network does; nothing can be diagnosed by them.
"""

import argparse
import dataclasses
import hashlib
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganblocks.data import ImageFolder, TensorBatches, drawn_scans, read_images, split
from ganblocks.errors import DataError, GanblocksError
from ganblocks.metrics import random_extractor
from ganblocks.models.wgan_gp import Critic, Generator, WGANGPConfig
from ganblocks.training import (
    Callback,
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
)
from ganblocks.training.callbacks import passed, print_above_bar
from ganblocks.training.environment import flushed_denormals
from ganblocks.training.gan_callbacks import NumberedImages, RealBesideFake
from ganblocks.training.gan_recipes import GANRecipe
from ganblocks.training.scoring import NearestSheet, Scores

SHEET_SEED = 1234  # of the fixed latents on the sheets
SCORE_SEED = 4321  # of the latents behind the scores
SCORED = 2048  # samples behind the scores, where there are as many training images
PICTURES = 18  # of each of the last shown epochs ...
EPOCHS_WITH_PICTURES = 6  # ... as many as these
DRAWN = 200  # scans, where there are no files
DEFAULTS: dict[str, dict[str, Any]] = {  # an option that is not given has the first value that is found in these
    "smoke": {
        "resolution": 32, "base_channels": 4, "latent_dim": 16, "generator_steps": 20, "batch_size": 8, "threads": 1,
    },
    "document": {"generator_steps": 8000, "batch_size": 128},
    "drawn": {"resolution": 64, "base_channels": 16},
    "cpu": {"generator_steps": 500, "batch_size": 8},
    "always": {"resolution": 128, "base_channels": 64, "latent_dim": 128, "generator_steps": 8000, "batch_size": 64},
}  # fmt: skip
ARCHITECTURE = ("base_channels", "max_channels", "latent_dim", "dropout")
TRAINING = (
    "generator_steps", "batch_size", "n_critic", "reuse_real_batch", "mixing", "penalty_weight", "learning_rate",
)  # fmt: skip
COUNTS = (  # options that must be at least 1 where they are given
    "resolution", "base_channels", "max_channels", "latent_dim", "generator_steps", "epochs_shown", "total_images",
    "batch_size", "n_critic", "threads",
)  # fmt: skip


class EpochMeans(Callback):
    """Logs and prints the mean losses of each shown epoch, under the names that the course text has for them.

    ``c_loss`` is ``c_wass_loss`` plus the weighted ``c_gp``. They are means over the lines of the log, those of the
    critic over the updates that its lines tell of: the last one before each update of the generator, or all.

    Args:
        epochs: Equal parts of the run.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self._sums: dict[str, list[float]] = {}  # name -> sum, number of lines

    def on_record(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        """Add the losses to those of the epoch."""
        if "discriminator_loss" not in record:
            return
        values = {
            "c_loss": record["discriminator_loss"],
            "c_wass_loss": record["fake_score"] - record["real_score"],
            "c_gp": record["penalty"],
        }
        if "generator_loss" in record:
            values["g_loss"] = record["generator_loss"]
        for name, value in values.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = [total + value, count + 1]

    def on_step(self, trainer: Trainer, previous: int) -> None:
        """Tell the means if an epoch has ended."""
        ends = [(epoch + 1) / self.epochs for epoch in range(self.epochs)]
        if not self._sums or not passed(trainer, previous, ends):
            return
        epoch = min(self.epochs, int(self.epochs * trainer.images_seen / trainer.total_images + 1e-9))
        means = {name: total / count for name, (total, count) in self._sums.items()}
        self._sums = {}
        trainer.record(means, epoch=epoch)
        numbers = "".join(f"  {name} {value:.4f}" for name, value in means.items())
        print_above_bar(f"epoch {epoch}/{self.epochs}{numbers}")

    def state_dict(self) -> dict[str, Any]:
        """What the unfinished epoch has so far."""
        return {"sums": {name: list(sums) for name, sums in self._sums.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self._sums = {name: list(sums) for name, sums in state["sums"].items()}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line and fill in what depends on other choices."""
    parser = argparse.ArgumentParser(
        description="Train a WGAN-GP on one class of brain scans.",
        epilog="The same command again goes on where the run was stopped.",
    )
    add = parser.add_argument
    add("--data", type=Path, help="folder or zip with yes/ and no/ (default: $GANBLOCKS_DATA/brain_mri, else drawn)")
    add("--label", choices=("yes", "no"), default="yes", help="which of the two, with tumour or without")
    add("--out", type=Path, default=Path("runs/wgan_gp"), help="run directory (default: %(default)s)")
    add("--fresh", action="store_true", help="start anew in a new directory, OUT-2 and so on")
    add("--preset", choices=("gulrajani2017", "document"), default="gulrajani2017", help="networks' details and recipe")
    add("--resolution", type=int, help="side of the images: 16, 32, ... 512 (default: 128; drawn 64)")
    add("--base-channels", type=int, help="width at the largest maps (default: 64; drawn 16)")
    add("--max-channels", type=int, default=1024, help="widest layer (default: %(default)s)")
    add("--latent-dim", type=int, help="size of a latent vector (default: 128)")
    add("--dropout", type=float, help="in the critic (default: 0; document 0.3)")
    add("--generator-steps", type=int, help="updates of the generator (default: 8000; 500 on a CPU, but document 8000)")
    add("--n-critic", type=int, help="updates of the critic for each of those (default: 5)")
    add(
        "--reuse-real-batch",
        action=argparse.BooleanOptionalAction,
        help="all of these on one batch of reals (default: fresh ones for each; document one)",
    )
    add(
        "--mixing", choices=("uniform", "normal"), help="where the penalty is taken (default: uniform; document normal)"
    )
    add("--penalty-weight", type=float, help="of the gradient penalty, 0 or more (default: 10; see docs/guide/gans.md)")
    add("--epochs-shown", type=int, default=20, help="parts of the run, for log and pictures (default: %(default)s)")
    add("--total-images", type=int, help="stop after this many images (default: when all updates are done)")
    add("--batch-size", type=int, help="images in a batch (default: 64; on a CPU 8; document 128)")
    add("--learning-rate", type=float, help="of both networks (default: 0.0001; document 0.0002)")
    add("--held-out", type=int, help="images kept from training to measure against (default: a tenth, 2048 at most)")
    add("--resume", choices=("exact", "lenient"), default="exact", help="lenient: go on where the last bits may differ")
    add("--seed", type=int, default=0)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    add("--threads", type=int, help="CPU threads (default: torch's own choice)")
    add("--smoke", action="store_true", help="a trial of some seconds: drawn scans, tiny networks, 20 updates")
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
    if options.smoke and options.data is not None:
        parser.error("--data and --smoke are given, but a trial has drawn scans")
    root = os.environ.get("GANBLOCKS_DATA")
    if options.data is None and not options.smoke and root and (Path(root) / "brain_mri").exists():
        options.data = Path(root) / "brain_mri"
    applies = {
        "smoke": options.smoke,
        "document": options.preset == "document",
        "drawn": options.data is None,
        "cpu": device.type == "cpu",
    }
    for kind, defaults in DEFAULTS.items():
        for name, default in defaults.items() if applies.get(kind, True) else ():
            if getattr(options, name) is None:
                setattr(options, name, default)
    if options.epochs_shown > options.generator_steps:
        parser.error(
            f"--epochs-shown is {options.epochs_shown}, but must be at most --generator-steps, "
            f"{options.generator_steps}: each of them shows some"
        )
    return options


def open_data(options: argparse.Namespace) -> tuple[Tensor, str]:
    """All different images of the class, uint8 [N, 3, R, R], and what the source says of itself."""
    if options.data is None:
        print(f"No files: using {DRAWN} drawn scans, {'with' if options.label == 'yes' else 'without'} a bright spot.")
        drawn = drawn_scans(DRAWN, options.resolution, spot=options.label == "yes")
        return read_images(drawn, options.resolution)[0], drawn.fingerprint
    path: Path = options.data
    if path.is_dir():  # a folder that holds nothing but one zip
        entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
        if len(entries) == 1 and entries[0].suffix == ".zip":
            path = entries[0]
    source = ImageFolder(path, crop="squash")
    if source.labels is None or options.label not in source.classes:
        found = f"only {', '.join(source.classes)}" if source.classes else "images of one kind"
        raise DataError(f"{path} holds {found}, but must hold the folders yes/ and no/")
    indices = np.flatnonzero(source.labels == source.classes.index(options.label))
    images, _ = read_images(source, options.resolution, indices=indices)
    first: dict[bytes, int] = {}
    for index, image in enumerate(images):
        first.setdefault(hashlib.sha256(image.numpy().tobytes()).digest(), index)
    kept = list(first.values())
    print(f"{len(images):,} images of the class {options.label!r}, {len(images) - len(kept):,} duplicates left out")
    return images[kept], source.fingerprint


def build(options: argparse.Namespace) -> tuple[WGANGPConfig, GANRecipe]:
    """Architecture and recipe of the chosen preset, with what the command line changes in them."""
    given = {name: value for name, value in vars(options).items() if value is not None}
    changes = {name: given[name] for name in ARCHITECTURE if name in given}
    training = {name: given[name] for name in TRAINING if name in given}
    if options.preset == "document":
        return WGANGPConfig.document(options.resolution, **changes), gan_recipes.wgan_gp_document(**training)
    return WGANGPConfig(resolution=options.resolution, **changes), gan_recipes.gulrajani2017(**training)


def scores(real: Tensor, held_out: Tensor, generator: Generator) -> Scores:
    """What is measured at the end against the training images, in pixels and in features of a fixed random network."""
    count = min(len(real), SCORED)
    return Scores(
        real,
        lambda trainer: generator.sample(count, seed=SCORE_SEED),
        ["fd", "ms_ssim", "swd", *(["prdc"] if count > 5 else []), *(["memorisation"] if len(held_out) else [])],
        extractor=random_extractor(real.shape[1], device=next(generator.parameters()).device),
        held_out=held_out if len(held_out) else None,
        options={
            "ms_ssim": {"num_pairs": 2000},
            "swd": {"num_images": count, "patches_per_image": 64, "num_directions": 128},
        },
        seed=SCORE_SEED,
        show=True,
    )


def train(options: argparse.Namespace) -> int:
    """Prepare data, networks and recipe, then train, from the newest checkpoint if there is one."""
    if options.threads:
        torch.set_num_threads(options.threads)
    run_dir = new_run_directory(options.out) if options.fresh else options.out
    config, recipe = build(options)
    images, fingerprint = open_data(options)
    held_out = min(len(images) // 10, 2048) if options.held_out is None else options.held_out
    training, testing = (images[part] for part in split(len(images), held_out, seed=options.seed))
    schedule = recipe.schedule(len(training))

    device = torch.device(options.device)
    precision = Precision.resolve(options.precision, device)
    torch.manual_seed(options.seed)
    generator = Generator(config).to(device)
    critic = Critic(config).to(device)
    step = recipe.build_step(generator, critic, latent_dim=config.latent_dim, precision=precision)

    def draw(trainer: Trainer) -> Tensor:
        return generator.sample(16, seed=SHEET_SEED)

    epochs = options.epochs_shown
    size = f"{config.resolution}x{config.resolution}"
    title = f"WGAN-GP, {len(training):,} images of the class {options.label!r}, {size}"
    every_step = recipe.reuse_real_batch or recipe.whole_epochs  # else the steps that update the generator
    trainer = Trainer(
        step,
        TensorBatches(training, seed=options.seed),
        schedule,
        run_dir=None if options.dry_run else run_dir,  # a trial must not claim the directory for its settings
        seed=options.seed,
        resume=options.resume,
        total_images=options.total_images,
        settings={
            "config": config.to_dict(),
            "recipe": dataclasses.asdict(recipe),
            "label": options.label,
            "data": fingerprint,
            "held_out": held_out,
            "precision": precision.name,
        },
        callbacks=[
            ProgressBar(),
            EpochMeans(epochs),
            SampleSheets(draw, fractions=[(epoch + 1) / epochs for epoch in range(epochs)], columns=4),
            NumberedImages(
                lambda trainer, epoch: generator.sample(PICTURES, seed=epoch),
                epochs=epochs,
                first_epoch=max(1, epochs + 1 - EPOCHS_WITH_PICTURES),
            ),
            scores(training, testing, generator),
            RealBesideFake(training[:16], draw, columns=4),
            NearestSheet(draw, [training]),
            TensorBoard(draw),
            Summary(title=title),
            Report(title=title, fractions=(0.5,)),
        ],
        log_images=1 if every_step else recipe.n_critic * recipe.batch_size,
        save_images=max(1, schedule.total_images // epochs),
        metadata=lambda trainer: {"model": "wgan_gp", "config": config.to_dict()},
    )
    parameters = [sum(p.numel() for p in module.parameters()) for module in (generator, critic)]
    print(
        f"{len(training):,} images to train on, {held_out:,} held out; generator {parameters[0]:,} and critic "
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
