"""From a folder of images to batches: starts, cached batches against Pillow, large JPEGs, waits of a step, growth.

    python benchmarks/bench_input.py --images 10000 --side 200 --out benchmarks/results/input_cpu
    python benchmarks/bench_input.py --only large waits

A folder of drawn JPEGs (noise over gradients, quality 90) is made in a temporary place. Each start is a process of its
own: it imports, looks through the folder, builds the cache or finds it, and makes one ProGAN training step at 4 px.
Files lie in the page cache. The imports have `torch._dynamo` among them, which any optimizer of torch imports at its
first step and which takes a second. "Pillow" is what is usually written: open, resize, convert, one image after the
other, one thread. Ratios are of images a second, both sides in turn. Large JPEGs are built into a cache with
``fast_jpeg`` and without, in turn, a new cache each time. The waits are what a step of ProGAN (the example's networks
for a folder) waits for its batch from a mapped cache, by itself and with `PrefetchedBatches`. The growth table has
caches of random bytes at 16 px, as the time of a batch depends on the number of images only.
"""

import argparse
import functools
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ganblocks.data import ArrayImages, ImageFolder, MultiResolutionImages, PrefetchedBatches, ProgressiveBatches
from ganblocks.data.batches import Batches
from ganblocks.models import progan
from ganblocks.training import Phase, StepContext, recipes

START = """
import time
started = time.perf_counter()
import sys
import torch
import torch._dynamo
from ganblocks.data import ImageFolder, MultiResolutionImages, ProgressiveBatches
from ganblocks.models import progan
from ganblocks.training import Phase, StepContext, recipes
imported = time.perf_counter()
folder, cache, resolution, workers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(workers)
images = MultiResolutionImages(ImageFolder(folder), resolution=resolution, cache_dir=cache, workers=workers)
ready = time.perf_counter()
config = progan.ProGANConfig.document(resolution, latent_dim=64, max_channels=64, base_channels=1024)
step = recipes.document(start_resolution=4).build_step(
    progan.Generator(config), progan.Discriminator(config), latent_dim=64
)
batch, _ = ProgressiveBatches(images).batch(0, 32, 4)
step(batch, None, StepContext(0, 0, Phase(32, 1e-3, resolution=4)))
print(imported - started, ready - imported, time.perf_counter() - ready)
"""
PAIRS = ((1024, 4, 1000), (256, 128, 15))
"""Side of the files, side of the batch, and the ratio that is to be kept."""


def write_drawings(folder: Path, count: int, side: int) -> None:
    """JPEGs that take as long to decode as photographs of their size, about."""
    folder.mkdir(parents=True)
    ramp = np.linspace(0, 1, side)
    draws = np.random.default_rng(0)
    coarse = draws.normal(size=(16, 3, side // 8, side // 8))
    for number in range(count):
        colors = draws.uniform(0, 255, size=(2, 3))
        picture = ramp[:, None, None] * colors[0] + ramp[None, :, None] * colors[1]
        texture = np.kron(coarse[number % 16].transpose(1, 2, 0), np.ones((8, 8, 1)))
        picture[: texture.shape[0], : texture.shape[1]] += 20 * texture
        pixels = Image.fromarray(np.clip(picture / 2 + 60, 0, 255).astype(np.uint8))
        pixels.save(folder / f"{number:06}.jpg", quality=90)


def start(folder: Path, cache: Path, resolution: int, workers: int) -> dict[str, float]:
    """One start in a process of its own: seconds of the imports, of the cache, and of the first step."""
    command = [sys.executable, "-c", START, str(folder), str(cache), str(resolution), str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(zip(("imports", "images_s", "step"), map(float, done.stdout.split()), strict=True))


def starts(options: argparse.Namespace, place: Path) -> list[dict[str, Any]]:
    """The first start and the second."""
    folder = place / "folder"
    write_drawings(folder, options.images, options.side)
    rows = []
    for name in ("first start", "second start"):
        seconds = start(folder, place / "cache", options.resolution, options.workers)
        rows.append({"name": name, "images": options.images, **seconds})
    return rows


def timed(function: Callable[[], object], least: float = 0.3) -> float:
    """Seconds of a call, over as many as take a third of a second."""
    calls, started = 0, time.perf_counter()
    while True:
        function()
        calls += 1
        elapsed = time.perf_counter() - started
        if elapsed >= least:
            return elapsed / calls


def batches(options: argparse.Namespace, place: Path) -> list[dict[str, Any]]:
    """Cached batches against Pillow, image by image."""
    torch.set_num_threads(1)
    rows = []
    for side, resolution, keep in PAIRS:
        folder = place / f"of_{side}"
        write_drawings(folder, 64, side)
        paths = sorted(folder.iterdir())
        cache = MultiResolutionImages(
            ImageFolder(folder), resolution=side, cache_dir=place / "cached", workers=options.workers
        )
        stream, count = ProgressiveBatches(cache), 32
        seen = iter(range(0, 10**9, count))

        def ours(stream: Any = stream, seen: Any = seen, resolution: int = resolution, count: int = count) -> None:
            stream.batch(next(seen), count, resolution)

        def pillow(paths: list[Path] = paths, resolution: int = resolution, count: int = count) -> torch.Tensor:
            shape = (resolution, resolution)
            pictures = [Image.open(path).resize(shape).convert("RGB") for path in paths[:count]]
            return torch.stack([torch.from_numpy(np.array(picture)).permute(2, 0, 1) for picture in pictures])

        times = [(timed(pillow), timed(ours)) for _ in range(options.repeats + 1)][1:]
        theirs, own = (count / statistics.median(values) for values in zip(*times, strict=True))
        rows.append({"name": f"{side} to {resolution}", "pillow": theirs, "ours": own, "keep": keep})
    return rows


def large(options: argparse.Namespace, place: Path) -> list[dict[str, Any]]:
    """Caches of large JPEGs, built with ``fast_jpeg`` and without."""
    torch.set_num_threads(1)
    folder, rows = place / "large", []
    write_drawings(folder, options.large_images, options.large_side)
    for resolution in options.large_resolutions:
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for repeat in range(options.repeats + 1):
            for fast, times in seconds.items():
                cache = place / f"large_{resolution}_{repeat}_{fast}"
                source = ImageFolder(folder, fast_jpeg=fast)
                started = time.perf_counter()
                MultiResolutionImages(source, resolution=resolution, cache_dir=cache, workers=options.workers)
                times.append(time.perf_counter() - started)
        exact, fast_seconds = (statistics.median(times[1:]) for times in seconds.values())
        ratios = [slow / quick for slow, quick in zip(seconds[False][1:], seconds[True][1:], strict=True)]
        rows.append(
            {
                "name": f"{options.large_side} to {resolution}",
                "images": options.large_images,
                "exact": exact,
                "fast": fast_seconds,
                "ratio": statistics.median(ratios),
                "lowest": min(ratios),
                "highest": max(ratios),
            }
        )
    return rows


def waits(options: argparse.Namespace, place: Path) -> list[dict[str, Any]]:
    """Medians of the seconds of a step, and before it, until its batch is there."""
    torch.set_num_threads(options.workers)
    pixels = np.random.default_rng(0).integers(0, 256, (1000, 3, 128, 128), dtype=np.uint8)
    cache = MultiResolutionImages(ArrayImages(pixels, layout="NCHW"), resolution=128, cache_dir=place / "waits")
    rows = []
    for resolution in options.wait_resolutions:
        config = progan.ProGANConfig.karras2018(resolution, latent_dim=128, max_channels=128, base_channels=2048)
        step = recipes.karras2018().build_step(progan.Generator(config), progan.Discriminator(config), latent_dim=128)
        prefetched = PrefetchedBatches(ProgressiveBatches(cache))
        streams: dict[str, Batches] = {"alone": ProgressiveBatches(cache), "prefetched": prefetched}
        seconds: dict[str, list[float]] = {"alone": [], "prefetched": [], "step": []}
        for seen in range(0, 16 * options.wait_steps, 16):
            for name, stream in streams.items():  # each has the other's step to load ahead in, too
                started = time.perf_counter()
                images, _ = stream.batch(seen, 16, resolution)
                there = time.perf_counter()
                step(images, None, StepContext(0, seen, Phase(16, 1e-3, resolution=resolution)))
                seconds[name].append(there - started)
                seconds["step"].append(time.perf_counter() - there)
        prefetched.close()
        medians = {name: statistics.median(times[len(times) // 8 :]) for name, times in seconds.items()}
        rows.append({"name": f"{resolution} px", **medians})
    return rows


def _next_batch(stream: ProgressiveBatches, seen: Iterator[int]) -> None:
    stream.batch(next(seen), 32, 16)


def growth(options: argparse.Namespace, place: Path) -> list[dict[str, Any]]:
    """A batch of 32 from caches of more and more images: the first one, and those after."""
    rows = []
    for count in options.counts:
        pixels = np.random.default_rng(0).integers(0, 256, (count, 3, 16, 16), dtype=np.uint8)
        source = ArrayImages(pixels, layout="NCHW")
        first = time.perf_counter()
        cache = MultiResolutionImages(source, resolution=16, smallest=4, cache_dir=place / f"grown_{count}")
        built = time.perf_counter()
        stream = ProgressiveBatches(cache)
        opened = time.perf_counter()
        MultiResolutionImages(source, resolution=16, smallest=4, cache_dir=place / f"grown_{count}")
        found = time.perf_counter() - opened
        seen = iter(range(0, 10**9, 32))
        opened = time.perf_counter()
        stream.batch(next(seen), 32, 16)
        begun = time.perf_counter() - opened
        each = timed(functools.partial(_next_batch, stream, seen))
        rows.append({"images": count, "build": built - first, "open": found, "first": begun, "batch": each})
    return rows


def as_text(results: dict[str, list[dict[str, Any]]]) -> list[str]:
    """A table of each part."""
    lines: list[str] = []
    if "starts" in results:
        lines += ["", "| | images | imports, s | cache, s | first step, s | after the imports, s |", "|---" * 6 + "|"]
        for row in results["starts"]:
            cells = [f"{row[key]:.2f}" for key in ("imports", "images_s", "step")]
            lines.append(
                f"| {row['name']} | {row['images']} | {' | '.join(cells)} | {row['images_s'] + row['step']:.2f} |"
            )
    if "batches" in results:
        lines += ["", "| px | Pillow, images/s | cached, images/s | ratio | to be kept |", "|---" * 5 + "|"]
        for row in results["batches"]:
            cells = [f"{row['pillow']:,.0f}", f"{row['ours']:,.0f}", f"**{row['ours'] / row['pillow']:,.0f}**"]
            lines.append(f"| {row['name']} | {' | '.join(cells)} | {row['keep']} |")
    if "large" in results:
        lines += ["", "| px | images | exact, s | fast_jpeg, s | ratio | lowest to highest |", "|---" * 6 + "|"]
        for row in results["large"]:
            cells = [f"{row['exact']:.2f}", f"{row['fast']:.2f}", f"**{row['ratio']:.1f}**"]
            spread = f"{row['lowest']:.1f} to {row['highest']:.1f}"
            lines.append(f"| {row['name']} | {row['images']} | {' | '.join(cells)} | {spread} |")
    if "waits" in results:
        lines += ["", "| batch of 16 | step, ms | wait, ms | share | prefetched wait, ms |", "|---" * 5 + "|"]
        for row in results["waits"]:
            cells = [f"{1e3 * row['step']:.1f}", f"{1e3 * row['alone']:.2f}", f"{row['alone'] / row['step']:.2%}"]
            lines.append(f"| {row['name']} | {' | '.join(cells)} | {1e3 * row['prefetched']:.2f} |")
    if "growth" in results:
        lines += ["", "| images | build, s | open again, ms | first batch, ms | batch of 32, us |", "|---" * 5 + "|"]
        for row in results["growth"]:
            cells = [f"{row['build']:.2f}", f"{1e3 * row['open']:.1f}", f"{1e3 * row['first']:.2f}"]
            lines.append(f"| {row['images']:,} | {' | '.join(cells)} | {1e6 * row['batch']:.0f} |")
    return lines


def main() -> None:
    """Measure what was asked for, and print the tables."""
    parts = {"starts": starts, "batches": batches, "large": large, "waits": waits, "growth": growth}
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--only", nargs="+", choices=list(parts), default=list(parts))
    add("--images", type=int, default=10_000, help="of the folder (default: %(default)s)")
    add("--side", type=int, default=200, help="of its images, in pixels (default: %(default)s)")
    add("--resolution", type=int, default=128, help="largest of the cache (default: %(default)s)")
    add("--workers", type=int, default=2, help="threads (default: %(default)s)")
    add("--repeats", type=int, default=5, help="of the batches and the large JPEGs (default: %(default)s)")
    add("--large-images", type=int, default=100, help="large JPEGs (default: %(default)s)")
    add("--large-side", type=int, default=1024, help="of them, in pixels (default: %(default)s)")
    add("--large-resolutions", type=int, nargs="+", default=[64, 128, 256], help="largest of their caches")
    add("--wait-resolutions", type=int, nargs="+", default=[4, 8, 32], help="of the steps that wait")
    add("--wait-steps", type=int, default=16, help="at each of them (default: %(default)s)")
    add("--counts", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="of the growth")
    add("--out", type=Path, help="path without suffix of a .md and a .json")
    options = parser.parse_args()
    torch.set_num_threads(options.workers)
    with tempfile.TemporaryDirectory() as place:
        results = {name: parts[name](options, Path(place)) for name in options.only}
    lines = [
        "# Input: starts, cached batches, large JPEGs, waits of a step, growth",
        "",
        f"`python benchmarks/bench_input.py`, {time.strftime('%Y-%m-%d')}: {platform.machine()}, {options.workers} "
        f"threads, torch {torch.__version__}; the starts: JPEGs of {options.side} px to {options.resolution} px.",
        *as_text(results),
    ]
    print("\n".join(lines))
    if options.out is not None:
        options.out.with_suffix(".md").write_text("\n".join([*lines, ""]), encoding="utf-8")
        options.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
