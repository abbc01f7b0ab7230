"""Train a progressive GAN (Karras et al. 2018) on a few thousand paintings, augmented lest it learn them by heart.

    python examples/progan_paintings.py --data paintings/            # a folder or a zip, a sub-folder for each painter
    python examples/progan_paintings.py --data paintings.zip --painters Alfred_Sisley Claude_Monet   # only these
    python examples/progan_paintings.py --data paintings/ --augment none                             # to compare with
    python examples/progan_paintings.py --data paintings/ --adaptive --device cuda
    python examples/progan_paintings.py                              # drawn shapes: no data needed
    python examples/progan_paintings.py --smoke                      # a trial of some seconds

Needs: pip install "ganblocks[train]". On a CPU the networks are small (64 channels, 350,000 parameters each at 64 px)
and see 230,000 images in all; on a GPU they have 256 channels, 5.6 million parameters, and see 2,000,000.

A discriminator soon knows so few pictures one by one. Therefore every image on its way to it, real or generated, passes
DiffAugment (Zhao et al. 2020): its colours and place change at random, and a square of it is blanked. --adaptive does
so only as often as overfitting asks for (Karras et al. 2020); that is told by the sign of the scores, which means
nothing in a Wasserstein loss, so the loss is then the non-saturating one with R1.

The run directory (--out) ends up with
    samples/, progress.gif  a sheet of the same latents at the quarters of each stage, and all as an animation
    nearest.png             samples, each beside the training picture nearest to it; figures/ has it for the report
    curves.png, report.html all of it on one page, with scores; memorisation below about -3 means that samples lie
                            nearer to the pictures trained on than those held out do: they were learnt by heart
    log.jsonl, tensorboard/ numbers; checkpoints/ the newest two; config.json all settings

More pictures: ganblocks sample --run runs/progan_paintings --count 64 --out sheet.png. Stopping (Ctrl-C, SIGTERM, a
crash) loses nothing: the same command goes on from the last checkpoint.

Licences: samples that are no copies may be shown. nearest.png and report.html hold paintings themselves: the painter,
the photograph or the collection may have rights in them, so look before you publish those two.
"""

import argparse
import dataclasses
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganblocks.data import ImageFolder, MultiResolutionImages, ProgressiveBatches, split
from ganblocks.data.source import ImageSource
from ganblocks.data.synthetic import Shapes
from ganblocks.errors import DataError, EmptyDatasetError, GanblocksError
from ganblocks.functional import from_uint8
from ganblocks.losses import non_saturating, r1_penalty
from ganblocks.metrics import random_extractor, sliced_wasserstein_distance
from ganblocks.models.progan import Discriminator, Generator, ProGANConfig
from ganblocks.training import (
    AdaptiveAugmentation,
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
    new_run_directory,
    recipes,
)
from ganblocks.training.environment import flushed_denormals
from ganblocks.training.scoring import Images, NearestSheet, Scores

SHEET_SEED, SCORE_SEED = 1234, 4321  # of the latents on the sheets, and behind the scores
DRAWN = 500  # pictures, where there are no files
RAMP_IMAGES = 500_000  # in which --adaptive could go from never to always, as published; a fifth of a shorter run
R1_WEIGHT = 5.0  # with --adaptive: gamma / 2, gamma = 10 as in Mescheder et al. 2018
DEFAULTS: dict[str, dict[str, Any]] = {  # an option that is not given has the first value that is found in these
    "smoke": {"resolution": 16, "max_channels": 8, "batch_size": 16, "images_per_stage": [96], "threads": 1},
    "drawn": {"resolution": 32},
    "cpu": {"max_channels": 64, "batch_size": 16, "images_per_stage": [20_000, 30_000, 40_000, 60_000, 80_000]},
    "always": {"resolution": 64, "max_channels": 256, "images_per_stage": [400_000]},
}
COUNTS = ("resolution", "max_channels", "images_per_stage", "total_images", "batch_size", "threads", "workers")


class NearestInReport(NearestSheet):
    """`NearestSheet`, whose picture the report shows as well."""

    def on_end(self, trainer: Trainer, finished: bool) -> None:
        """Draw it, and copy it to where the report takes its figures from."""
        super().on_end(trainer, finished)
        if trainer.run_dir is not None and finished:
            (trainer.run_dir / "figures").mkdir(exist_ok=True)
            shutil.copy(trainer.run_dir / "nearest.png", trainer.run_dir / "figures")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line and fill in what depends on other choices."""
    parser = argparse.ArgumentParser(
        description="Train a progressive GAN on paintings.",
        epilog="The same command again goes on where the run was stopped.",
    )
    add = parser.add_argument
    add("--data", type=Path, help="folder or zip (default: $GANBLOCKS_DATA/best_artworks, else drawn shapes)")
    add("--painters", nargs="+", metavar="NAME", help="only the pictures of these sub-folders (default: all)")
    add("--out", type=Path, default=Path("runs/progan_paintings"), help="run directory (default: %(default)s)")
    add("--cache", type=Path, help="where resized pictures are kept (default: OUT/cache)")
    add("--fast-jpeg", action="store_true", help="decode large JPEGs at a fraction of their size: nearly the same")
    add("--fresh", action="store_true", help="start anew in a new directory, OUT-2 and so on")
    add("--resolution", type=int, help="side of the largest images: 4, 8, ... 1024 (default: 64; drawn 32)")
    add("--max-channels", type=int, help="widest layer, from 4x4 on (default: 256; on a CPU 64)")
    add("--images-per-stage", type=int, nargs="+", help="one number, or one for each stage; the last one repeats")
    add("--augment", default="color,translation,cutout", help="DiffAugment, or none (default: %(default)s)")
    add("--adaptive", action="store_true", help="augment as often as overfitting asks for; another loss")
    add("--total-images", type=int, help="stop after this many images (default: when all stages are done)")
    add("--batch-size", type=int, help="images in a batch (default: the paper's, by resolution; on a CPU 16)")
    add("--held-out", type=int, help="pictures kept from training to measure against (default: a tenth, 2048 at most)")
    add("--resume", choices=("exact", "lenient"), default="exact", help="lenient: go on where the last bits may differ")
    add("--seed", type=int, default=0)
    add("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    add("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    add("--threads", type=int, help="CPU threads for the networks (default: torch's own choice)")
    add("--workers", type=int, default=max(1, min(4, os.cpu_count() or 1)), help="threads that read pictures")
    add("--smoke", action="store_true", help="a trial of some seconds: drawn shapes, 16 px, tiny networks")
    add("--dry-run", action="store_true", help="check data, settings and memory, then stop")
    options = parser.parse_args(arguments)
    for name in COUNTS:
        given = getattr(options, name)
        for value in given if isinstance(given, list) else [] if given is None else [given]:
            if value < 1:
                parser.error(f"--{name.replace('_', '-')} is {value}, but must be at least 1")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device is cuda, but PyTorch finds no GPU here")
    if options.smoke and options.data is not None:
        parser.error("--data and --smoke are given, but a trial has drawn shapes")
    options.augment = [] if options.augment == "none" else options.augment.split(",")
    if options.adaptive and not options.augment:
        parser.error("--adaptive is given, but --augment is none: there is nothing to do more or less often")
    root = os.environ.get("GANBLOCKS_DATA")
    if options.data is None and not options.smoke and root and (Path(root) / "best_artworks").exists():
        options.data = Path(root) / "best_artworks"
    applies = {"smoke": options.smoke, "drawn": options.data is None, "cpu": options.device == "cpu", "always": True}
    for name, default in (pair for kind in DEFAULTS if applies[kind] for pair in DEFAULTS[kind].items()):
        if getattr(options, name) is None:
            setattr(options, name, default)
    return options


def open_data(options: argparse.Namespace) -> tuple[ImageSource, NDArray[np.int64]]:
    """All pictures, and the indices of those that are wanted; of several zips in a folder, the one with the most."""
    source: ImageSource
    if options.data is None:
        print(f"No files: using {DRAWN} drawn shapes.")
        source = Shapes(DRAWN)
    else:
        try:
            source = ImageFolder(options.data, fast_jpeg=options.fast_jpeg)
        except EmptyDatasetError:
            archives = [ImageFolder(path, fast_jpeg=options.fast_jpeg) for path in sorted(options.data.glob("*.zip"))]
            if not archives:
                raise
            source = archive = max(archives, key=len)
            print(f"{len(archives)} archives in {options.data}: using {archive.source.name}")
    if options.painters is None:
        return source, np.arange(len(source))
    unknown = sorted(set(options.painters) - set(source.classes))
    if unknown or source.labels is None:
        raise DataError(f"no sub-folder is called {', '.join(unknown)}, only {', '.join(source.classes) or 'none'}")
    wanted = [source.classes.index(name) for name in options.painters]
    return source, np.flatnonzero(np.isin(source.labels, wanted))


def build_recipe(options: argparse.Namespace, stages: int) -> tuple[recipes.ProGANRecipe, list[int]]:
    """The paper's recipe with what the options change in it, and the images of each stage."""
    images = [*options.images_per_stage, *[options.images_per_stage[-1]] * stages][:stages]
    # 0.999 a step is a half-life of 11,000 images at batch 16; in short runs, a 16th of a stage.
    recipe = recipes.karras2018(ema_half_life_images=min(11_000.0, max(images) / 16))
    if options.batch_size is not None:
        recipe = recipe.replace(batch_sizes=dict.fromkeys(recipe.batch_sizes, options.batch_size))
    if options.adaptive:
        recipe = recipe.replace(penalty_weight=R1_WEIGHT, drift_weight=0.0)
    return recipe, images


def train(options: argparse.Namespace) -> int:
    """Prepare data, networks and recipe, then train, from the newest checkpoint if there is one."""
    torch.set_num_threads(options.threads or torch.get_num_threads())
    run_dir = new_run_directory(options.out) if options.fresh else options.out
    width = options.max_channels
    config = ProGANConfig.karras2018(options.resolution, latent_dim=width, base_channels=16 * width, max_channels=width)
    recipe, stage_images = build_recipe(options, len(config.resolutions))
    schedule = recipe.schedule(config.resolution, stage_images=stage_images)
    ramp = min(RAMP_IMAGES, max(1, schedule.total_images // 5)) if options.adaptive else None
    augment = AdaptiveAugmentation(options.augment, probability=float(ramp is None), ramp_images=ramp)
    source, wanted = open_data(options)
    held_out = min(len(wanted) // 10, 2048) if options.held_out is None else options.held_out
    training, testing = (wanted[part] for part in split(len(wanted), held_out, seed=options.seed))
    cache_dir = options.cache or run_dir / "cache"
    with current_replicas().in_turn():  # one process makes the cache, others find it
        images = MultiResolutionImages(
            source, resolution=config.resolution, cache_dir=cache_dir, workers=options.workers
        )

    device = torch.device(options.device)
    precision = Precision.resolve(options.precision, device)
    torch.manual_seed(options.seed)
    generator, discriminator = Generator(config).to(device), Discriminator(config).to(device)
    game: dict[str, Any] = {"augment": augment if options.augment else None}
    if options.adaptive:
        game |= {"loss": non_saturating, "penalty": lambda critic, real, *_: r1_penalty(critic, real)}
    step = recipe.build_step(generator, discriminator, latent_dim=width, precision=precision, **game)
    sampled: Any = generator if step.ema is None else step.ema.module

    def samples(count: int, seed: int) -> Callable[[Trainer], Tensor]:
        return lambda run: sampled.sample(count, seed=seed, resolution=run.phase.resolution, alpha=run.phase.alpha)

    def pictures(indices: NDArray[np.int64]) -> Images:
        parts = np.array_split(indices, range(256, len(indices), 256))
        return lambda trainer: (images.batch(part, trainer.phase.resolution or config.resolution) for part in parts)

    def measure(trainer: Trainer) -> dict[str, float]:
        numbers: dict[str, float] = {}
        if options.adaptive:
            numbers |= {"augment_probability": float(augment.probability), "overfitting": float(augment.overfitting)}
        if held_out:
            reals = from_uint8(images.batch(testing, trainer.phase.resolution or config.resolution)).to(device)
            fakes = samples(held_out, SCORE_SEED)(trainer)
            numbers["sliced_wasserstein_distance"] = sliced_wasserstein_distance(reals, fakes, seed=SCORE_SEED)
        return numbers

    about = {"model": "progan", "config": config.to_dict()}
    count = min(len(training), 2048)  # samples behind the scores of the end
    metrics = ["fd", *(["prdc"] if count > 5 else []), *(["memorisation"] if held_out else [])]
    draw = samples(32, SHEET_SEED)
    title = f"ProGAN, {len(training):,} paintings, {config.resolution}x{config.resolution}"
    trainer = Trainer(
        step,
        ProgressiveBatches(images, indices=training, seed=options.seed, mirror=recipe.mirror),
        schedule,
        run_dir=None if options.dry_run else run_dir,  # a trial must not claim the directory for its settings
        seed=options.seed,
        resume=options.resume,
        total_images=options.total_images,
        settings={
            "config": about["config"],
            "recipe": dataclasses.asdict(recipe),
            "stage_images": stage_images,
            **{name: getattr(options, name) for name in ("augment", "adaptive", "painters")},
            "data": source.fingerprint,
            "held_out": held_out,
            "precision": precision.name,
        },
        callbacks=[
            ProgressBar(),
            SampleSheets(draw, columns=8),
            *([Measurements(measure, show=True)] if held_out or options.adaptive else []),
            Scores(
                pictures(training),
                samples(count, SCORE_SEED),
                metrics,
                extractor=random_extractor(config.image_channels, device=device),
                held_out=pictures(testing) if held_out else None,
                seed=SCORE_SEED,
                show=True,
            ),
            NearestInReport(draw, pictures(training)),
            TensorBoard(draw),
            Summary(title=title),
            Report(title=title, fractions=(1.0,)),
        ],
        log_images=max(1, schedule.total_images // 400),
        save_images=max(1, schedule.total_images // 40),
        metadata=lambda run: {**about, "phase": {"resolution": run.phase.resolution, "alpha": run.phase.alpha}},
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
            return train(options)
    except (GanblocksError, ValueError, OSError, ImportError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
