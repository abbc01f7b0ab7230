"""Largest resident memory of a ProGAN training step, ours against the plain form, each in a process of its own.

    python benchmarks/bench_memory.py --out benchmarks/results/memory_cpu.md       # 256 px, batch 8
    python benchmarks/bench_memory.py --resolution 64 --batch 4 --recompute 32

Both sides are those of bench_train_step.py, in the middle of a fade-in. A process builds networks and optimizers, makes
one step at 4 px so that everything is imported, reads how much memory it holds, makes one step at the resolution, and
reads the largest amount that it ever held; the table has the difference, and the seconds of that step (its first one,
and so no measure of speed). "from R" computes the features of blocks of R px and above again in the backward passes.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import bench_train_step
import torch

from ganblocks.models import progan
from ganblocks.training import Phase, Precision, StepContext, recipes


def held_mib() -> float:
    """Resident memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def measure(side: str, precision: str, recompute: int | None, options: argparse.Namespace) -> dict[str, float]:
    """One step in this process: MiB above what was held before, and seconds."""
    N, resolution = options.batch, options.resolution
    config = progan.ProGANConfig.document(resolution, max_channels=256, base_channels=4096, latent_dim=256)
    if side == "plain":
        step = bench_train_step.plain_step(config)
    else:
        ours = recipes.document(start_resolution=4, recompute_from=recompute).build_step(
            progan.Generator(config),
            progan.Discriminator(config),
            latent_dim=256,
            precision=Precision.resolve(precision, "cpu"),  # type: ignore[arg-type]
        )

        def step(real: torch.Tensor, steps: int, alpha: float) -> None:
            phase = Phase(len(real), 1e-3, 4 * 2**steps, alpha if steps else 1.0, steps, fading=steps > 0)
            ours(real, None, StepContext(0, 0, phase))

    step(torch.rand(N, 3, 4, 4), 0, 1.0)
    real = torch.rand(N, 3, resolution, resolution) * 2 - 1
    before, started = held_mib(), time.perf_counter()
    step(real, resolution.bit_length() - 3, 0.5)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # kibibytes on Linux
    return {"mib": peak - before, "seconds": time.perf_counter() - started}


def main() -> None:
    """Measure each variant in a process of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--resolution", type=int, default=256, help="(default: %(default)s)")
    add("--batch", type=int, default=8, help="(default: %(default)s)")
    add("--recompute", type=int, nargs="+", default=[32], help="resolutions from which (default: %(default)s)")
    add("--precisions", nargs="+", default=["fp32", "bf16"], choices=("fp32", "bf16"))
    add("--threads", type=int, default=2, help="(default: %(default)s)")
    add("--out", type=Path, help="write the table here, too")
    add("--variant", nargs=3, help=argparse.SUPPRESS)  # what a process of its own is told: side, precision, from
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.variant is not None:
        side, precision, first = options.variant
        print(json.dumps(measure(side, precision, int(first) or None, options)))
        return
    variants = [("plain", "fp32", 0)]
    variants += [("ours", precision, first) for precision in options.precisions for first in (0, *options.recompute)]
    lines = [
        f"# Memory of a ProGAN step at {options.resolution} px, batch {options.batch}",
        "",
        f"`python benchmarks/bench_memory.py`, {time.strftime('%Y-%m-%d')}: {platform.machine()}, {options.threads} "
        f"threads, torch {torch.__version__}. Resident memory on top of networks and optimizers, at its largest.",
        "",
        "| step | precision | features | MiB | below plain | s |",
        "|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    plain = 0.0
    for side, precision, first in variants:
        command = [sys.executable, __file__, "--variant", side, precision, str(first)]
        command += [f"--{name}={getattr(options, name)}" for name in ("resolution", "batch", "threads")]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        plain = plain or found["mib"]
        features = f"again from {first} px" if first else "kept"
        cells = [side, precision, features, f"{found['mib']:,.0f}", f"{100 * (1 - found['mib'] / plain):.0f} %"]
        lines.append(f"| {' | '.join([*cells, format(found['seconds'], '.1f')])} |")
        print(lines[-1], flush=True)
    if options.out is not None:
        options.out.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
