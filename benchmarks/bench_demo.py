"""A whole demonstration, from a folder of pictures through all stages to 32 px: ours against the taught program.

    python benchmarks/bench_demo.py --threads 2                     # 640 images a stage, in turn, three times
    python benchmarks/bench_demo.py --channels 32 --stage-images 2000

Both train the course text's ProGAN (`ProGANConfig.document`) on scikit-image's 100 small faces, which lie in a folder
as RGB files. "Plain" is that text's program: networks and step of bench_train_step.py, and for each stage a
`DataLoader` that opens, resizes, flips and normalises every picture each time; it never looks at a loss. "Ours" is
`Trainer.fit` with the recipe of the same name, the cache of resized pictures built within the time, a hundred looks at
the losses, nothing written but the cache. Stages, batches, images and widths are the same. The table has medians of
wall seconds, data and networks included. Nothing else should run on the machine.
"""

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch
from bench_train_step import BATCHES, plain_step
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from ganblocks.data import ImageFolder, MultiResolutionImages, ProgressiveBatches, built_in_faces
from ganblocks.models.progan import Discriminator, Generator, ProGANConfig
from ganblocks.training import Precision, Trainer, recipes
from ganblocks.training.environment import flushed_denormals

RESOLUTIONS = (4, 8, 16, 32)


class PlainFolder(Dataset[Tensor]):
    """Every picture opened and resized each time."""

    def __init__(self, folder: Path, resolution: int) -> None:
        self.paths = sorted(folder.iterdir())
        self.transform = transforms.Compose(
            [
                transforms.Resize((resolution, resolution)),
                transforms.ToTensor(),
                transforms.RandomHorizontalFlip(),
                transforms.Normalize([0.5] * 3, [0.5] * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.paths[index]) as image:
            transformed: Tensor = self.transform(image.convert("RGB"))
            return transformed


def write_faces(folder: Path) -> None:
    """The built-in faces as files."""
    faces = built_in_faces()
    for index in range(len(faces)):
        Image.fromarray(faces.read(index, 64)[0]).convert("RGB").save(folder / f"{index:03d}.png")


def plain(folder: Path, config: ProGANConfig, stage_images: int) -> None:
    """The taught program."""
    step = plain_step(config)
    for index, resolution in enumerate(RESOLUTIONS):
        seen, N = 0, BATCHES[resolution]
        loader = DataLoader(PlainFolder(folder, resolution), batch_size=N, shuffle=True, drop_last=True)
        while seen < stage_images:
            for images in loader:
                step(images, index, min(1.0, 2 * seen / stage_images))
                seen += N
                if seen >= stage_images:
                    break


def ours(folder: Path, config: ProGANConfig, stage_images: int, precision: str) -> None:
    """The same by the library, cold: the cache is made anew."""
    recipe = recipes.document(start_resolution=4)
    recipe = recipe.replace(batch_sizes={resolution: BATCHES[resolution] for resolution in RESOLUTIONS})
    with tempfile.TemporaryDirectory() as cache:
        images = MultiResolutionImages(ImageFolder(folder), resolution=RESOLUTIONS[-1], cache_dir=cache)
        step = recipe.build_step(
            Generator(config),
            Discriminator(config),
            latent_dim=config.latent_dim,
            precision=Precision.resolve(precision, "cpu"),  # type: ignore[arg-type]
        )
        schedule = recipe.schedule(RESOLUTIONS[-1], stage_images=[stage_images] * len(RESOLUTIONS))
        batches = ProgressiveBatches(images, mirror=recipe.mirror)
        Trainer(step, batches, schedule, log_images=max(1, schedule.total_images // 100)).fit()


def main() -> None:
    """Measure in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--stage-images", type=int, default=640, help="of each of the four stages (default: %(default)s)")
    add("--channels", type=int, default=256, help="widest layer (default: the text's %(default)s)")
    add("--repeats", type=int, default=3, help="(default: %(default)s)")
    add("--threads", type=int, help="default: torch's own choice")
    add("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of our side; plain is float32")
    add("--out", type=Path, help="where the table is written as Markdown")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    width = options.channels
    config = ProGANConfig.document(RESOLUTIONS[-1], max_channels=width, base_channels=16 * width, latent_dim=width)
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    with tempfile.TemporaryDirectory() as name, flushed_denormals():
        folder = Path(name)
        write_faces(folder)
        ours(folder, config, BATCHES[4], options.precision)  # loads what is loaded once
        for _ in range(options.repeats):
            for side in seconds:
                started = time.perf_counter()
                if side == "plain":
                    plain(folder, config, options.stage_images)
                else:
                    ours(folder, config, options.stage_images, options.precision)
                seconds[side].append(time.perf_counter() - started)
    medians = {side: statistics.median(values) for side, values in seconds.items()}
    spread = {side: (max(values) - min(values)) / medians[side] for side, values in seconds.items()}
    machine = f"{platform.processor() or platform.machine()}, torch {torch.__version__}"
    text = (
        "# A whole demonstration, ours against the taught program\n\n"
        f"`python benchmarks/bench_demo.py`, {time.strftime('%Y-%m-%d')}: 100 faces, {options.stage_images} images in "
        f"each of the stages of 4 to 32 px, widest layer {width}, {torch.get_num_threads()} thread(s), {machine}; "
        f"medians of {options.repeats}, in turn.\n\n"
        "| precision of ours | plain, s | spread | ours, s | spread | ratio |\n|---|---|---|---|---|---|\n"
        f"| {Precision.resolve(options.precision, 'cpu').name} | {medians['plain']:.1f} | {spread['plain']:.0%} | "
        f"{medians['ours']:.1f} | {spread['ours']:.0%} | {medians['plain'] / medians['ours']:.2f} |\n"
    )
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
