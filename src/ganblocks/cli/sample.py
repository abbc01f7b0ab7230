"""``ganblocks sample``: new images from the newest intact checkpoint of a run."""

import argparse
from pathlib import Path

import torch

from ganblocks.cli.arguments import WHERE, Commands, add_command, at_least, positive, require_free, usable_device
from ganblocks.cli.output import say
from ganblocks.cli.trained_generator import TrainedGenerator
from ganblocks.visualization import save_image_grid

__all__ = ["add_sample"]

LARGEST_SHEET = 80_000_000  # pixels; image viewers begin to refuse above


def add_sample(commands: Commands) -> None:
    """Add ``sample``."""
    add = add_command(commands, "sample", _sample, "new images from the newest intact checkpoint of a run").add_argument
    add("--run", dest="dir", type=Path, required=True, metavar="DIR", help=WHERE)
    add("--count", type=at_least(1), required=True, metavar="N", help="how many")
    add("--seed", type=at_least(0), default=0, metavar="S", help="of the latents (default: 0)")
    add("--out", type=Path, required=True, help="a .png file for one sheet, or a new folder for 00000.png and so on")
    add("--truncation", type=positive, metavar="T", help="bound of the latents (default: as the run drew them)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(default: %(default)s)")
    add("--force", action="store_true", help="write even if OUT is there")


def _sample(options: argparse.Namespace) -> int:
    device = usable_device(options.device)
    out: Path = options.out
    sheet = out.suffix.lower() == ".png"
    if sheet:
        require_free(out, options.force)
    elif out.is_dir() and any(out.iterdir()) and not options.force:
        raise ValueError(f"--out is {out}, but must be a new or an empty folder (or say --force)")
    generator = TrainedGenerator(options.dir, device)
    side = generator.side
    enlarge = max(1, 64 // side)
    if sheet and options.count * (side * enlarge + 2) ** 2 > LARGEST_SHEET:
        raise ValueError(f"--count is {options.count}, but so many do not fit one sheet: give a folder as --out")
    pictures = generator.pictures(options.count, seed=options.seed, truncation=options.truncation)
    if sheet:
        save_image_grid(torch.cat(list(pictures)), out, scale=enlarge)
    else:
        out.mkdir(parents=True, exist_ok=True)
        for index, image in enumerate(image for batch in pictures for image in batch):
            save_image_grid(image[None], out / f"{index:05d}.png", padding=0)
    say(f"{options.count} images of {side}x{side} px after {generator.images_seen:,} images of training in {out}")
    return 0
