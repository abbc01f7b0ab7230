"""How the cost of a ProGAN step grows with resolution, batch and width.

    python benchmarks/bench_growth.py --threads 2 --out benchmarks/results/growth_amx.md
    python benchmarks/bench_growth.py --axes batch --precision fp32

Each axis doubles one number and keeps the others at 16 px, batch 16 and 128 channels in all layers; recipe and the
middle of a fade-in are those of bench_train_step.py. "Growth" is the exponent: the binary logarithm of the time over
that of the row before, 1 where twice the number costs twice the time. By arithmetic, convolutions grow with 1 of the
batch, and with 2 of width and resolution. Points of an axis are timed in turn; the table has medians. Growth with the
number of images of a folder is in bench_input.py, with that of processes in bench_scaling.py. Nothing else should run
on the machine.
"""

import argparse
import functools
import math
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from bench_train_step import our_step, time_once

from ganblocks.models.progan import ProGANConfig
from ganblocks.training import Precision
from ganblocks.training.environment import flushed_denormals

AXES = {"resolution": (4, 8, 16, 32, 64, 128), "batch": (2, 4, 8, 16, 32, 64), "channels": (16, 32, 64, 128, 256, 512)}
FIXED = {"resolution": 16, "batch": 16, "channels": 128}


def step_at(resolution: int, batch: int, channels: int, precision: str) -> Callable[[], float]:
    """One step of ours at this point; a call gives its seconds."""
    config = ProGANConfig.document(
        resolution, max_channels=channels, base_channels=resolution * channels, latent_dim=channels
    )
    real = torch.rand(batch, 3, resolution, resolution) * 2 - 1
    return functools.partial(time_once, our_step(config, precision), real, resolution.bit_length() - 3, 0.5)


def measure(axis: str, options: argparse.Namespace) -> list[str]:
    """Rows of one axis."""
    values = AXES[axis]
    steps = [step_at(**{**FIXED, axis: value}, precision=options.precision) for value in values]
    seconds: list[list[float]] = [[] for _ in values]
    for repeat in range(options.repeats + 2):
        for step, times in zip(steps, seconds, strict=True):
            elapsed = step()
            if repeat >= 2:
                times.append(elapsed)
    rows, before = [], math.nan
    for value, times in zip(values, seconds, strict=True):
        median = statistics.median(times)
        images = {**FIXED, axis: value}["batch"] / median
        growth = "" if math.isnan(before) else f"{math.log2(median / before):.2f}"
        rows.append(f"| {axis} | {value} | {1e3 * median:.1f} | {images:,.0f} | {growth} |")
        before = median
    return rows


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--axes", nargs="+", choices=tuple(AXES), default=list(AXES))
    add("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    add("--repeats", type=int, default=7, help="(default: %(default)s)")
    add("--threads", type=int, help="default: torch's own choice")
    add("--out", type=Path, help="where the table is written as Markdown")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    fixed = ", ".join(f"{name} {value}" for name, value in FIXED.items())
    lines = [
        "# Growth of a ProGAN step",
        "",
        f"`python benchmarks/bench_growth.py`, {time.strftime('%Y-%m-%d')}: precision "
        f"{Precision.resolve(options.precision, 'cpu').name}, {torch.get_num_threads()} thread(s), "
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}; medians of {options.repeats}. Where "
        f"nothing else is said: {fixed}. Growth: log2 of the time over that of the row before.",
        "",
        "| axis | value | ms a step | images a second | growth |\n|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    with flushed_denormals():
        for axis in options.axes:
            rows = measure(axis, options)
            print("\n".join(rows), flush=True)
            lines += rows
    if options.out is not None:
        options.out.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
