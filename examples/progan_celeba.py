"""Train a progressive GAN (Karras et al. 2018) on a folder of faces, or on any other pictures.

    python examples/progan_celeba.py                                   # 100 built-in faces, 4 to 32 px, about 5 minutes
    python examples/progan_celeba.py --data my_faces/ --resolution 64  # a folder or a zip; sub-folders do not matter
    python examples/progan_celeba.py --data celeba_hq.zip --resolution 256 --max-channels 512 --images-per-stage 1200000
    python examples/progan_celeba.py --drawn 8000 --out runs/drawn      # drawn faces; the picture of the README
    python examples/progan_celeba.py --sample 64                       # 64 new images from the finished run

Needs: pip install "ganblocks[train]", and scikit-image for the built-in faces. Runs on a CPU or a GPU.

The run directory (--out) ends up with
    samples/            a sheet of the same latents at a quarter, half, three quarters and the end of each stage
    progress.gif, .webp the sheets as an animation
    curves.png          losses, penalty, scores and the sliced Wasserstein distances to held-out images
    nearest.png         samples of the end, each beside the training image nearest to it
    report.html         all of it on one page: pictures over time, curves, scores, settings, history
    log.jsonl           one line of numbers at a time; tensorboard/ has the same for TensorBoard
    checkpoints/        the newest two; config.json has all settings

Stopping (Ctrl-C, SIGTERM, a crash) loses nothing: the same command goes on from the last checkpoint. Without --data
there are only 100 faces, 25 pixels wide and grey: the networks will memorise them. That shows the machinery, not art.
"""

import argparse
import dataclasses
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganblocks.data import ImageFolder, MultiResolutionImages, ProgressiveBatches, built_in_faces, split
from ganblocks.data.source import ImageSource
from ganblocks.data.synthetic import Faces
from ganblocks.errors import CheckpointError, GanblocksError
from ganblocks.functional import from_uint8
from ganblocks.metrics import progan_swd, random_extractor, sliced_wasserstein_distance
from ganblocks.models.progan import Discriminator, Generator, ProGANConfig
from ganblocks.models.registry import generator_from_metadata
from ganblocks.training import (
    Measurements,
    Precision,
    ProgressBar,
    Report,
    SampleSheets,
    Summary,
    TensorBoard,
    Trainer,
    current_replicas,
    joined_processes,
    load_weights,
    new_run_directory,
    recipes,
)
from ganblocks.training.checkpoint_directory import list_checkpoints, read_newest_checkpoint
from ganblocks.training.environment import flushed_denormals
from ganblocks.training.progressive_step import ProgressiveStep
from ganblocks.training.saved_weights import weights_of
from ganblocks.training.scoring import Images, NearestSheet, Scores
from ganblocks.visualization import save_image_grid

SHEET_SEED = 1234  # of the fixed latents on the sheets
SCORE_SEED = 4321  # of the latents and of the projections of the distance
SCORED = 2048  # samples behind the scores of the end, where there are as many training images
DEFAULTS: dict[str, dict[str, object]] = {  # what depends on the data; None leaves it to the preset
    # Layers this narrow are faster on one thread than on two that wait for each other.
    "built_in": {"resolution": 32, "max_channels": 32, "batch_size": 8, "learning_rate": 0.002, "threads": 1},
    "drawn": {"resolution": 32, "max_channels": 64, "batch_size": 16, "learning_rate": None},
    "data": {"resolution": 64, "max_channels": 128, "batch_size": None, "learning_rate": None},
}
STAGES = {"built_in": (2000, 4000, 6000, 9000), "drawn": (12_000, 16_000, 20_000, 24_000)}  # the last one repeats
COUNTS = (  # options that must be at least 1 where they are given
    "resolution", "max_channels", "base_channels", "latent_dim", "images_per_stage", "total_images", "batch_size",
    "threads", "workers", "sample", "drawn",
)  # fmt: skip


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line and fill in what depends on other choices."""
    parser = argparse.ArgumentParser(
        description="Train a progressive GAN on faces or any other pictures.",
        epilog="The same command again goes on where the run was stopped.",
    )
    add = parser.add_argument
    add("--data", type=Path, help="folder or zip of images (default: $GANBLOCKS_DATA/utkface, else built-in faces)")
    add("--drawn", type=int, metavar="N", help="train on N drawn faces instead: no data needed, and free to show")
    add("--out", type=Path, default=Path("runs/progan"), help="run directory (default: %(default)s)")
    add("--cache", type=Path, help="where resized images are kept (default: OUT/cache)")
    add("--fresh", action="store_true", help="start anew in a new directory, OUT-2 and so on")
    add("--resolution", type=int, help="side of the largest images: 4, 8, ... 1024 (default: 64; 32 without --data)")
    add("--max-channels", type=int, help="widest layer (default: 128; built-in 32, drawn 64; the paper: 512)")
    add("--base-channels", type=int, help="2 * BASE / R channels at resolution R (default: 16 * max, 8 without --data)")
    add("--latent-dim", type=int, help="size of a latent vector (default: max channels)")
    add("--images-per-stage", type=int, nargs="+", help="one number, or one for each stage; half fades, half holds")
    add("--total-images", type=int, help="stop after this many images (default: when all stages are done)")
    add("--batch-size", type=int, help="images in a batch (default: the preset's; built-in 8, drawn 16)")
    add("--learning-rate", type=float, help="of both networks (default: the preset's; built-in 0.002)")
    add("--preset", choices=("karras2018", "document"), default="karras2018", help="architecture and recipe")
    add("--crop", choices=("center", "squash"), default="center", help="how images become square")
    add("--fast-jpeg", action="store_true", help="decode large JPEGs at a fraction of their size: nearly the same")
    add("--held-out", type=int, help="images kept from training to measure against (default: a tenth, 2048 at most)")
    add("--resume", choices=("exact", "lenient"), default="exact", help="lenient: go on where the last bits may differ")
    add("--seed", type=int, default=0)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    add("--threads", type=int, help="CPU threads for the networks (default: torch's own choice; built-in 1)")
    add("--workers", type=int, default=max(1, min(4, os.cpu_count() or 1)), help="threads that read images")
    add("--dry-run", action="store_true", help="check data, settings and memory, then stop")
    add("--sample", type=int, metavar="N", help="make N images from the run in OUT, then stop")
    options = parser.parse_args(arguments)
    for name in COUNTS:
        for value in _as_list(getattr(options, name)):
            if value < 1:
                parser.error(f"--{name.replace('_', '-')} is {value}, but must be at least 1")
    try:
        device = torch.device(options.device)
    except RuntimeError:
        parser.error(f"--device is {options.device}, but must be cpu, cuda or cuda:0 and so on")
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error(f"--device is {options.device}, but PyTorch finds no GPU here")
    root = os.environ.get("GANBLOCKS_DATA")
    if options.data is not None and options.drawn:
        parser.error("--data and --drawn are given, but only one of them can be trained on")
    if options.data is None and not options.drawn and root and (Path(root) / "utkface").exists():
        options.data = Path(root) / "utkface"
    kind = "drawn" if options.drawn else "built_in" if options.data is None else "data"
    for name, default in DEFAULTS[kind].items():
        if getattr(options, name) is None:
            setattr(options, name, default)
    options.base_channels = options.base_channels or (16 if kind == "data" else 8) * options.max_channels
    options.latent_dim = options.latent_dim or options.max_channels
    return options


def _as_list(value: int | list[int] | None) -> list[int]:
    return value if isinstance(value, list) else [] if value is None else [value]


def open_data(options: argparse.Namespace) -> ImageSource:
    """The user's folder or zip, or the faces that come with scikit-image."""
    if options.drawn:
        return Faces(options.drawn)
    if options.data is None:
        print("No --data: using the 100 grey faces (25 px) of scikit-image. So few will be memorised.")
        return built_in_faces()
    path: Path = options.data
    if path.is_dir():  # a folder that holds nothing but one zip
        entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
        if len(entries) == 1 and entries[0].suffix == ".zip":
            path = entries[0]
    return ImageFolder(path, crop=options.crop, fast_jpeg=options.fast_jpeg)


def build_config(options: argparse.Namespace, image_channels: int) -> ProGANConfig:
    """The architecture of the chosen preset, at the chosen size."""
    preset = {"karras2018": ProGANConfig.karras2018, "document": ProGANConfig.document}[options.preset]
    return preset(
        options.resolution,
        image_channels=image_channels,
        latent_dim=options.latent_dim,
        base_channels=options.base_channels,
        max_channels=options.max_channels,
    )


def build_recipe(options: argparse.Namespace, stages: int) -> tuple[recipes.ProGANRecipe, list[int]]:
    """The recipe of the chosen preset, and the images of each stage."""
    if options.images_per_stage:
        images = list(options.images_per_stage)
    elif options.data is None:
        short = STAGES["drawn" if options.drawn else "built_in"]
        images = [*short[:stages], *[short[-1]] * (stages - len(short))]
    else:
        images = [600_000]
    if len(images) == 1:
        images = images * stages
    if len(images) != stages:
        raise ValueError(f"--images-per-stage has {len(images)} numbers, but there are {stages} stages (or give one)")
    recipe = {"karras2018": recipes.karras2018(), "document": recipes.document(start_resolution=4)}[options.preset]
    if options.batch_size is not None:
        recipe = recipe.replace(batch_sizes=dict.fromkeys(recipe.batch_sizes, options.batch_size))
    if options.learning_rate is not None:
        recipe = recipe.replace(learning_rates=dict.fromkeys(recipe.learning_rates, options.learning_rate))
    if recipe.ema_decay is not None and max(images) < 1_200_000:
        # 0.999 a step is a half-life of 11,000 images at batch 16; in short runs, a 16th of a stage.
        recipe = recipe.replace(ema_half_life_images=min(11_000.0, max(images) / 16))
    return recipe, images


def measure(trainer: Trainer, reals: Tensor, generator: Generator, count: int) -> dict[str, float]:
    """Sliced Wasserstein distances between held-out reals and samples, at the stage's resolution.

    That of whole images is mostly about colour and large shapes. From 16 px on, that of 7 x 7 patches in the levels of
    a Laplacian pyramid (Karras et al. 2018, section 5; times 1000) tells of the detail that a stage adds.
    """
    phase = trainer.phase
    fakes = generator.sample(count, seed=SCORE_SEED, resolution=phase.resolution, alpha=phase.alpha)
    reals = reals.to(fakes.device)
    scores = {"sliced_wasserstein_distance": sliced_wasserstein_distance(reals, fakes, seed=SCORE_SEED)}
    if reals.shape[-1] >= 16:
        patches = progan_swd(reals, fakes, num_directions=128, seed=SCORE_SEED)
        scores.update({f"patch_swd_{size}": value for size, value in patches.items()})
    return scores


def scores(real: Images, held_out: Images | None, sampled: Generator, count: int, resolution: int) -> Scores:
    """What is measured at the end against the training images, with the features of a fixed random network.

    For the published kind of Frechet distance take ``ganblocks evaluate --extractor inception=FILE`` afterwards.
    """

    def fakes(trainer: Trainer) -> Tensor:
        phase = trainer.phase
        return sampled.sample(count, seed=SCORE_SEED, resolution=phase.resolution, alpha=phase.alpha)

    options: dict[str, dict[str, int]] = {"ms_ssim": {"num_pairs": 2000}}
    if resolution >= 16:
        options["swd"] = {"num_images": count, "patches_per_image": 64, "num_directions": 128}
    metrics = ["fd", *options, *(["prdc"] if count > 5 else [])]
    return Scores(
        real,
        fakes,
        [*metrics, *(["memorisation"] if held_out else [])],
        extractor=random_extractor(sampled.config.image_channels, device=next(sampled.parameters()).device),
        held_out=held_out,
        options=options,
        seed=SCORE_SEED,
        show=True,
    )


def averaged(step: ProgressiveStep) -> Generator:
    """The generator that samples are drawn from: the moving average where there is one."""
    module = step.generator if step.ema is None else step.ema.module
    assert isinstance(module, Generator)
    return module


def sample(options: argparse.Namespace) -> int:
    """Make images from the newest checkpoint of a run."""
    folder = options.out / "checkpoints"
    if not (folder.is_dir() and list_checkpoints(folder)):
        raise CheckpointError(f"{options.out} holds no checkpoint: train first, or name the run with --out")
    checkpoint = read_newest_checkpoint(folder)
    generator = generator_from_metadata(checkpoint.metadata)
    assert isinstance(generator, Generator)
    _, weights = weights_of(checkpoint)  # the moving average where there is one
    load_weights(generator, weights)
    phase = checkpoint.metadata["phase"]
    images = generator.sample(
        options.sample,
        seed=options.seed,
        resolution=phase["resolution"],
        alpha=phase["alpha"],
        truncation=checkpoint.metadata["truncation"],
    )
    folder = options.out / f"generated_seed{options.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        save_image_grid(image[None], folder / f"{index:05d}.png", padding=0)
    save_image_grid(images, folder / "sheet.png", scale=max(1, 64 // images.shape[-1]))
    print(f"{len(images)} images of {images.shape[-1]}x{images.shape[-1]} px and sheet.png in {folder}")
    return 0


def train(options: argparse.Namespace) -> int:
    """Prepare data, networks and recipe, then train, from the newest checkpoint if there is one."""
    if options.threads:
        torch.set_num_threads(options.threads)
    run_dir = new_run_directory(options.out) if options.fresh else options.out
    source = open_data(options)
    config = build_config(options, source.image_channels)
    recipe, stage_images = build_recipe(options, len(config.resolutions))
    schedule = recipe.schedule(config.resolution, stage_images=stage_images)
    with current_replicas().in_turn():  # one process makes the cache, others find it
        images = MultiResolutionImages(
            source,
            resolution=config.resolution,
            cache_dir=options.cache or run_dir / "cache",
            workers=options.workers,
        )
    held_out = min(len(source) // 10, 2048) if options.held_out is None else options.held_out
    training, testing = split(len(source), held_out, seed=options.seed)
    batches = ProgressiveBatches(images, indices=training, seed=options.seed, mirror=recipe.mirror)

    device = torch.device(options.device)
    precision = Precision.resolve(options.precision, device)
    torch.manual_seed(options.seed)
    generator = Generator(config).to(device)
    discriminator = Discriminator(config).to(device)
    step = recipe.build_step(generator, discriminator, latent_dim=config.latent_dim, precision=precision)
    sampled = averaged(step)

    def draw(trainer: Trainer) -> Tensor:
        phase = trainer.phase
        return sampled.sample(32, seed=SHEET_SEED, resolution=phase.resolution, alpha=phase.alpha)

    def distance(trainer: Trainer) -> dict[str, float]:
        resolution = trainer.phase.resolution or config.resolution
        reals = from_uint8(images.batch(testing, resolution))
        return measure(trainer, reals, sampled, len(testing))

    def reals(indices: NDArray[np.int64]) -> Images:
        parts = np.array_split(indices, range(256, len(indices), 256))
        return lambda trainer: (images.batch(part, trainer.phase.resolution or config.resolution) for part in parts)

    count = min(len(training), SCORED)
    last = schedule.phase(min(options.total_images or schedule.total_images, schedule.total_images) - 1)
    title = f"ProGAN, {len(training)} images, {config.resolution}x{config.resolution}"
    trainer = Trainer(
        step,
        batches,
        schedule,
        run_dir=None if options.dry_run else run_dir,  # a trial must not claim the directory for its settings
        seed=options.seed,
        resume=options.resume,
        total_images=options.total_images,
        settings={
            "config": config.to_dict(),
            "recipe": dataclasses.asdict(recipe),
            "stage_images": stage_images,
            "data": source.fingerprint,
            "held_out": held_out,
            "precision": precision.name,
        },
        machine={"workers": options.workers},
        callbacks=[
            ProgressBar(),
            SampleSheets(draw, columns=8),
            *([Measurements(distance, show=True)] if held_out else []),
            scores(reals(training), reals(testing) if held_out else None, sampled, count, last.resolution or 4),
            NearestSheet(draw, reals(training)),
            TensorBoard(draw),
            Summary(title=title),
            Report(title=title),
        ],
        log_images=max(1, schedule.total_images // 400),
        save_images=max(1, schedule.total_images // 40),
        metadata=lambda trainer: {
            "model": "progan",
            "config": config.to_dict(),
            "phase": {"resolution": trainer.phase.resolution, "alpha": trainer.phase.alpha},
            "truncation": recipe.truncation if recipe.sampler == "truncnorm" else None,
        },
    )
    parameters = [sum(p.numel() for p in module.parameters()) for module in (generator, discriminator)]
    print(
        f"{len(training):,} images to train on, {held_out:,} held out; generator {parameters[0]:,} and discriminator "
        f"{parameters[1]:,} parameters; {precision.name} on {device}, {torch.get_num_threads()} threads",
        flush=True,
    )
    trainer.dry_run()
    if options.dry_run:
        print(f"Dry run: the largest stage, {config.resolution}x{config.resolution}, fits. Nothing was trained.")
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
            return sample(options) if options.sample else train(options)
    except (GanblocksError, ValueError, OSError, ImportError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
