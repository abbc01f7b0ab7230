"""How long an import takes on top of torch's, in processes of their own, one after the other in turn.

    python benchmarks/bench_start_up.py --out benchmarks/results/start_up.md
    python benchmarks/bench_start_up.py --only ganblocks ganblocks.layers --repeats 3

Each process imports torch, then reads the clock before and after the statement. The time of the processor is given
besides, which other processes disturb less. The first round of all warms up: it compiles and reads the files.
`python -X importtime -c "import torch; import ganblocks.training"` shows what the rest is made of.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

STATEMENTS = {
    "ganblocks": "import ganblocks",
    "ganblocks.layers": "from ganblocks.layers import WSConv2d",
    "ganblocks.losses": "from ganblocks.losses import gradient_penalty",
    "ganblocks.models": "from ganblocks.models import progan",
    "ganblocks.data": "from ganblocks.data import MultiResolutionImages",
    "ganblocks.metrics": "from ganblocks.metrics import frechet_distance",
    "ganblocks.training": "from ganblocks.training import Trainer",
    "all": "import ganblocks.models, ganblocks.training, ganblocks.data, ganblocks.losses",
}
TIMED = """
import time
started = time.perf_counter()
import torch
of_torch = time.perf_counter() - started
started, of_processor = time.perf_counter(), time.process_time()
{statement}
print(of_torch, time.perf_counter() - started, time.process_time() - of_processor)
"""


def time_once(statement: str) -> tuple[float, ...]:
    """Seconds of torch's import, of the statement, and of the processor for the statement."""
    command = [sys.executable, "-c", TIMED.format(statement=statement)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return tuple(float(number) for number in done.stdout.split())


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--only", nargs="+", choices=list(STATEMENTS), default=list(STATEMENTS))
    add("--repeats", type=int, default=5, help="(default: %(default)s)")
    add("--most", type=float, default=0.1, help="seconds that `import ganblocks` may take (default: %(default)s)")
    add("--out", type=Path, help="write the table here, too")
    options = parser.parse_args()
    seconds: dict[str, list[tuple[float, ...]]] = {name: [] for name in options.only}
    for repeat in range(options.repeats + 1):
        for name, kept in seconds.items():
            measured = time_once(STATEMENTS[name])
            kept += [measured] if repeat else []
    of_torch = statistics.median(times[0] for kept in seconds.values() for times in kept)
    lines = [
        "# What imports take on top of torch's",
        "",
        f"`python benchmarks/bench_start_up.py`, {time.strftime('%Y-%m-%d')}: Python {platform.python_version()}, "
        f"torch {torch.__version__}; medians of {options.repeats}, in turn; `import torch` alone "
        f"{1e3 * of_torch:.0f} ms.",
        "",
        "| statement | ms | smallest to largest | ms of the processor |",
        "|---|---|---|---|",
    ]
    medians = {}
    for name, kept in seconds.items():
        _, clock, processor = ([1e3 * value for value in values] for values in zip(*kept, strict=True))
        medians[name] = statistics.median(clock)
        cells = [f"`{STATEMENTS[name]}`", f"{medians[name]:.0f}", f"{min(clock):.0f} to {max(clock):.0f}"]
        lines.append(f"| {' | '.join([*cells, f'{statistics.median(processor):.0f}'])} |")
    print("\n".join(lines))
    if options.out is not None:
        options.out.write_text("\n".join([*lines, ""]), encoding="utf-8")
    if medians.get("ganblocks", 0.0) > 1e3 * options.most:
        sys.exit(f"`import ganblocks` takes more than {1e3 * options.most:.0f} ms")


if __name__ == "__main__":
    main()
