"""Runs the trials of the gallery: ``python docs/gallery_runs.py [EXAMPLE ...]``, all of them a quarter of an hour.

Writes docs/gallery_runs.json (how long each took) and the pictures docs/images/gallery_*.png. Every trial runs in an
empty folder, without the data sets of the machine.
"""

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from gallery_entries import DRAWN, ENTRIES, Entry
from PIL import Image

from ganblocks.data.synthetic import Faces

__all__ = ["find_figures", "main", "note", "picture", "run_trial"]

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
RUNS = DOCS / "gallery_runs.json"
DRAWN_COUNT, DRAWN_SIDE = 1500, 32
WIDEST = 720  # pixels of a picture
SMALL = 160  # figures lower than this are enlarged, pixel by pixel
GAP = 8


def run_trial(entry: Entry, folder: Path) -> float:
    """Run the trial in an empty folder, which then holds ``run/``; returns the seconds that it computed.

    Raises:
        RuntimeError: The example failed; holds the end of what it printed.
    """
    if DRAWN in entry.trial:
        (folder / DRAWN).mkdir()
        faces = Faces(DRAWN_COUNT)
        for index in range(len(faces)):
            pixels = faces.read(index, DRAWN_SIDE).transpose(1, 2, 0)
            Image.fromarray(pixels).save(folder / DRAWN / f"{index:04d}.png")
    command = [sys.executable, str(ROOT / "examples" / f"{entry.stem}.py"), *shlex.split(entry.trial), "--out", "run"]
    given = {name: value for name, value in os.environ.items() if name != "GANBLOCKS_DATA"}
    environment = {**given, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{entry.stem}: exit code {done.returncode}\n{(done.stdout + done.stderr)[-2000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime  # not the wall: others may be at work


def find_figures(entry: Entry, run: Path) -> list[Path]:
    """The files that become its picture.

    Raises:
        FileNotFoundError: The run has not left one of them.
    """
    found = [sorted(run.glob(pattern))[-1:] for pattern in entry.figures]
    if not all(found):
        raise FileNotFoundError(f"{entry.stem}: {run} has not all of {', '.join(entry.figures)}")
    return [paths[0] for paths in found]


def picture(figures: Sequence[Image.Image], top: float = 1.0) -> Image.Image:
    """Figures side by side, equally high, as one picture of at most 720 x any pixels and 256 colours.

    Args:
        figures: At least one.
        top: Share of their height that is kept.
    """
    shown = [figure.convert("RGB").crop((0, 0, figure.width, round(figure.height * top))) for figure in figures]
    height = max(figure.height for figure in shown)
    height *= max(1, -(-SMALL // height)) if height < SMALL else 1
    scaled = []
    for figure in shown:
        size = (round(figure.width * height / figure.height), height)
        scaled.append(figure.resize(size, Image.Resampling.NEAREST) if size != figure.size else figure)
    joined = Image.new("RGB", (sum(part.width for part in scaled) + GAP * (len(scaled) - 1), height), "white")
    left = 0
    for part in scaled:
        joined.paste(part, (left, 0))
        left += part.width + GAP
    if joined.width > WIDEST:
        size = (WIDEST, round(joined.height * WIDEST / joined.width))
        joined = joined.resize(size, Image.Resampling.LANCZOS)
    return joined.quantize(256, kmeans=2, dither=Image.Dither.NONE)  # without k-means rare colours would be lost


def note(entry: Entry, seconds: float) -> None:
    """Write into the file of times how long a trial took."""
    runs: dict[str, Any] = json.loads(RUNS.read_text("utf-8")) if RUNS.is_file() else {"trials": {}}
    runs |= {"drawn": DRAWN_COUNT, "machine": f"float32, PyTorch {torch.__version__.split('+')[0]}"}
    runs["trials"][entry.stem] = {"arguments": entry.trial, "seconds": round(seconds, 1)}
    runs["trials"] = dict(sorted(runs["trials"].items()))
    RUNS.write_text(json.dumps(runs, indent=2) + "\n", "utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the trials; returns the exit code."""
    parser = argparse.ArgumentParser(description="Run the trials of the gallery.")
    parser.add_argument("examples", nargs="*", help="stems such as dcgan_mnist (default: all)")
    wanted = parser.parse_args(arguments).examples or [entry.stem for entry in ENTRIES]
    if unknown := set(wanted) - {entry.stem for entry in ENTRIES}:
        parser.error(f"no such example: {', '.join(sorted(unknown))}")
    for entry in ENTRIES:
        if entry.stem not in wanted:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            seconds = run_trial(entry, Path(scratch))
            if entry.figures:
                figures = [Image.open(path) for path in find_figures(entry, Path(scratch, "run"))]
                picture(figures, entry.top).save(DOCS / "images" / entry.image, optimize=True)
        note(entry, seconds)
        print(f"{entry.stem}: {seconds:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
