"""Draws the frames of the latent explorer and writes their places into its page, docs/guide/latent_explorer.md.

    python docs/latent_explorer.py --vae runs/vae                  # the plane of two latents
    python docs/latent_explorer.py --generator runs/progan         # the way from seed to seed and back to the first
    python docs/latent_explorer.py --generator runs/progan --path line --seeds 3 5 8 13 --frames 16

Each run becomes one sprite, a picture of equal tiles without gaps, in docs/images. The page shows it whole;
docs/javascripts/latent_explorer.js makes sliders of it and needs no network. What a run was trained on decides what may
be shown: nothing here looks at it.
"""

import argparse
import html
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from PIL import Image
from torch import Tensor

from ganblocks._checks import require, require_rank
from ganblocks._json import read_json
from ganblocks.errors import CheckpointError, GanblocksError
from ganblocks.functional import lerp, slerp
from ganblocks.models.registry import generator_from_metadata, model_from_metadata
from ganblocks.training.checkpoint_directory import read_newest_checkpoint
from ganblocks.training.saved_weights import weights_of
from ganblocks.training.weights import load_weights

__all__ = [
    "Sheet",
    "load_decoder",
    "load_generator",
    "main",
    "plane_latents",
    "render",
    "replace_block",
    "sprite",
    "walk_latents",
]

DOCS = Path(__file__).resolve().parent
PAGE = DOCS / "guide" / "latent_explorer.md"
IMAGES = DOCS / "images"
PATHS = {"line": lerp, "slerp": slerp}
CHUNK = 128  # latents decoded at a time

Decode = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Sheet:
    """What the page has to know about a sprite.

    Attributes:
        kind: ``"plane"`` or ``"walk"``.
        file: Its name in docs/images.
        columns: Tiles from left to right.
        rows: Tiles from top to bottom.
        tile: Side of a tile in pixels.
        numbers: What the sliders say: of a plane its extent, of a walk the seeds.
        alt: What the picture shows, for those who do not see it.
    """

    kind: str
    file: str
    columns: int
    rows: int
    tile: int
    numbers: tuple[float, ...]
    alt: str

    def markup(self) -> str:
        """The figure in HTML, whole without a script: no blank line, so that Markdown takes it as it is."""
        numbers = " ".join(f"{number:g}" for number in self.numbers)
        return (
            f'<figure class="latent-explorer" data-kind="{self.kind}" data-columns="{self.columns}" '
            f'data-rows="{self.rows}" data-tile="{self.tile}" data-numbers="{numbers}">\n'
            f'<img src="../images/{self.file}" width="{self.columns * self.tile}" height="{self.rows * self.tile}" '
            f'alt="{html.escape(self.alt)}">\n'
            "</figure>"
        )


def plane_latents(side: int, extent: float) -> Tensor:
    """A square of latents as one looks at it: the first from left to right, the second from bottom to top.

    Args:
        side: Latents on a side, at least 2.
        extent: Both go from minus this to this, positive.

    Returns:
        [side * side, 2], row by row from the top.
    """
    require(side >= 2, "side", side, "at least 2")
    require(extent > 0, "extent", extent, "positive")
    steps = torch.linspace(-extent, extent, side)
    upwards, across = torch.meshgrid(steps.flip(0), steps, indexing="ij")
    return torch.stack((across, upwards), dim=-1).flatten(0, 1)


def walk_latents(stations: Tensor, frames: int, path: str = "slerp") -> Tensor:
    """From each station to the next, and from the last to the first.

    Args:
        stations: [S, Z], at least two.
        frames: Latents of each leg, at least 1: its first is the station, its last is one step before the next one.
        path: ``"slerp"``, along the arc, or ``"line"``.

    Returns:
        [S * frames, Z], leg by leg.
    """
    require_rank(stations, "stations", 2, 2)
    require(len(stations) >= 2, "stations", len(stations), "at least two")
    require(frames >= 1, "frames", frames, "at least 1")
    require(path in PATHS, "path", path, " or ".join(sorted(PATHS)))
    positions = torch.arange(frames, dtype=stations.dtype) / frames
    legs = PATHS[path](stations, stations.roll(-1, 0), positions)  # [frames, S, Z]
    return legs.transpose(0, 1).flatten(0, 1)


@torch.no_grad()
def render(decode: Decode, latents: Tensor, value_range: tuple[float, float]) -> Tensor:
    """The image of every latent.

    Args:
        decode: [N, Z] to [N, C, H, W]; each image is that of its latent alone.
        latents: [N, Z].
        value_range: Values that become black and white; those beyond are cut off.

    Returns:
        Bytes [N, C, H, W].
    """
    low, high = value_range
    images = torch.cat([decode(part).cpu() for part in torch.split(latents, CHUNK)])
    require(bool(images.isfinite().all()), "decode", "NaN or infinity", "a function with finite images")
    return ((images - low) * (255 / (high - low))).round_().clamp_(0, 255).to(torch.uint8)


def sprite(images: Tensor, columns: int) -> Image.Image:
    """All images as tiles of one picture, row by row, without gaps.

    Args:
        images: Bytes [N, C, H, W] with C = 1 or 3.
        columns: How many stand side by side; they must fill the last row.
    """
    require_rank(images, "images", 4, 4)
    N, C, H, W = images.shape
    require(C in (1, 3), "images.shape", tuple(images.shape), "[N, 1 or 3, H, W]")
    require(columns >= 1 and N > 0 and N % columns == 0, "columns", columns, f"a divisor of the {N} images")
    rows = images.reshape(N // columns, columns, C, H, W).permute(0, 3, 1, 4, 2)  # [rows, H, columns, W, C]
    pixels = rows.reshape(N // columns * H, columns * W, C).contiguous().numpy()
    return Image.fromarray(pixels[..., 0] if C == 1 else pixels)


def load_decoder(run: Path) -> Decode:
    """The decoder of a variational autoencoder of two latents, from the run that examples/vae_fashion_mnist.py leaves.

    Raises:
        CheckpointError: If there is no such file, or it is not that of a `VAE` of two latents without classes.
    """
    path = run / "vae.safetensors"
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}: a run writes it at its end")
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata() or {})
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    metadata["config"] = read_json(metadata["config"])
    model: Any = model_from_metadata(metadata)
    load_weights(model, weights)
    if metadata["model"] != "vae" or model.config.latent_dim != 2 or model.config.num_classes:
        raise CheckpointError(f"{path} is not a variational autoencoder of two latents without classes")
    model.eval()
    return lambda latents: model.decode(latents)


def load_generator(run: Path, seeds: Sequence[int]) -> tuple[Decode, Tensor]:
    """The generator of a run, as it had grown, and the latents [S, Z] of some seeds.

    Raises:
        CheckpointError: If there is no checkpoint, or it is not that of a generator that takes latents alone.
    """
    checkpoint = read_newest_checkpoint(run)
    generator: Any = generator_from_metadata(checkpoint.metadata)
    load_weights(generator, weights_of(checkpoint)[1])
    if getattr(generator.config, "num_classes", 0):
        raise CheckpointError(f"{checkpoint.path}: the generator wants classes, which a walk has not")
    generator.eval()
    phase = checkpoint.metadata.get("phase") or {}
    grown = {name: phase[name] for name in ("resolution", "alpha") if phase.get(name) is not None}
    truncation = checkpoint.metadata.get("truncation")
    stations = [generator.sample_latents(1, seed=seed, truncation=truncation) for seed in seeds]
    return lambda latents: generator(latents, **grown), torch.cat(stations)


def replace_block(text: str, name: str, block: str) -> str:
    """Put a block between its two marks, ``<!-- name -->`` and ``<!-- /name -->``.

    Raises:
        ValueError: The text has not exactly one such pair.
    """
    marks = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(\n<!-- /{re.escape(name)} -->)", re.DOTALL)
    text, count = marks.subn(lambda match: match[1] + block + match[2], text)
    require(count == 1, "text", f"{count} times <!-- {name} -->", "a page with the marks of the block once")
    return text


# --- the command ---


def draw_plane(decode: Decode, side: int, extent: float) -> tuple[Image.Image, Sheet]:
    """The decoder's images over the plane of its two latents."""
    images = render(decode, plane_latents(side, extent), (0, 1))
    alt = (
        f"{side} by {side} images that a decoder makes of two numbers: the first grows from left to right, the second "
        f"from bottom to top, both from -{extent:g} to {extent:g}. Neighbours differ a little; kinds of clothes take "
        "regions of the plane and change into one another at their borders."
    )
    sheet = Sheet("plane", "latent_plane.webp", side, side, images.shape[-1], (extent,), alt)
    return sprite(images, side), sheet


def draw_walk(
    decode: Decode, stations: Tensor, seeds: Sequence[int], frames: int, path: str
) -> tuple[Image.Image, Sheet]:
    """The generator's images on the way from seed to seed."""
    images = render(decode, walk_latents(stations, frames, path), (-1, 1))
    way = "arc" if path == "slerp" else "straight line"
    alt = (
        f"{len(seeds)} rows of {frames} generated pictures. Each row begins with the picture of a seed and goes, along "
        f"the {way} between two latents, to the first picture of the next row; the last row goes back to the first."
    )
    sheet = Sheet("walk", "latent_walk.webp", frames, len(seeds), images.shape[-1], tuple(map(float, seeds)), alt)
    return sprite(images, frames), sheet


def write(picture: Image.Image, sheet: Sheet, images: Path, page: Path) -> None:
    """The sprite into its folder, its figure into the page."""
    picture.save(images / sheet.file, lossless=True, method=6)  # a tile is shown ten times as large: no artefacts
    page.write_text(replace_block(page.read_text("utf-8"), sheet.kind, sheet.markup()), "utf-8")
    print(f"{sheet.file}: {sheet.columns}x{sheet.rows} tiles, {(images / sheet.file).stat().st_size:,} bytes")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Draw the frames of the latent explorer.")
    add = parser.add_argument
    add("--vae", type=Path, help="run directory of examples/vae_fashion_mnist.py with two latents")
    add("--side", type=int, default=25, help="images on a side of the plane (default: %(default)s)")
    add("--extent", type=float, default=3.0, help="both latents go from -EXTENT to EXTENT (default: %(default)s)")
    add("--generator", type=Path, help="run directory of a generator that takes latents alone")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4, 5], help="where the walk passes (default: 0 to 5)")
    add("--frames", type=int, default=12, help="pictures from one seed to the next (default: %(default)s)")
    add("--path", choices=sorted(PATHS), default="slerp", help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.vae is None and options.generator is None:
        parser.error("nothing to draw: give --vae, --generator or both")
    return options


def main(arguments: Sequence[str] | None = None, *, images: Path = IMAGES, page: Path = PAGE) -> int:
    """Draw what was asked for; returns the exit code."""
    options = parse(arguments)
    try:
        if options.vae:
            write(*draw_plane(load_decoder(options.vae), options.side, options.extent), images, page)
        if options.generator:
            decode, stations = load_generator(options.generator, options.seeds)
            write(*draw_walk(decode, stations, options.seeds, options.frames, options.path), images, page)
    except (GanblocksError, ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
