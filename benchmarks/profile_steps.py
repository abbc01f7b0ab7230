"""Where the time of our training steps goes: shares of each kind of operation, by PyTorch's profiler.

    python benchmarks/profile_steps.py --threads 2 --out benchmarks/results/profile_amx.md
    python benchmarks/profile_steps.py --only progan --resolutions 4 8

The steps are "ours" of bench_steps.py. A share is the time that the operators of a kind spend in themselves, of the
wall time of the step under the profiler; what is left, "between", is Python, autograd's engine and the way to an
operator.
The profiler itself takes some microseconds an operator, which steps of many small operators feel most.
"""

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from bench_steps import GROUPS, PROGAN_BATCHES, cases
from torch.profiler import ProfilerActivity, profile

from ganblocks.training import Precision
from ganblocks.training.environment import flushed_denormals

KINDS = {  # of an operator, by parts of its name; the first that fits
    "convolutions, products": ("conv", "mm", "linear", "matmul"),
    "optimizer": ("_fused_adam", "_foreach", "Optimizer"),
    "copies, layout": ("copy_", "_to_copy", "clone", "contiguous", "pad", "cat", "fill_", "zero_", "empty", "index"),
    "random numbers": ("normal_", "rand", "uniform_", "bernoulli"),
    "sums, norms": ("sum", "mean", "norm", "var", "std"),
    "element by element": ("aten::",),
}


def shares(call: Callable[[], None], repeats: int) -> tuple[float, dict[str, float]]:
    """Milliseconds of a call under the profiler, and the share of each kind."""
    call()
    started = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU]) as record:
        for _ in range(repeats):
            call()
        seconds = time.perf_counter() - started
    spent = dict.fromkeys(KINDS, 0.0)
    for event in record.key_averages():
        kind = next((kind for kind, parts in KINDS.items() if any(part in event.key for part in parts)), None)
        if kind is not None and event.key.startswith(("aten::", "mkldnn")):
            spent[kind] += event.self_cpu_time_total * 1e-6
    return 1e3 * seconds / repeats, {kind: value / seconds for kind, value in spent.items()}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--only", nargs="+", choices=GROUPS, default=["progan", "dcgan", "wgan-gp", "r3gan", "painting_cnn", "style"])
    add("--resolutions", type=int, nargs="+", default=sorted(PROGAN_BATCHES), choices=sorted(PROGAN_BATCHES))
    add("--images", type=int, default=1024, help="of an epoch of the autoencoders (default: %(default)s)")
    add("--repeats", type=int, default=2, help="(default: %(default)s)")
    add("--threads", type=int, help="default: torch's own choice")
    add("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    add("--out", type=Path, help="where the table is written as Markdown")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    lines = [
        "# Where the time of our training steps goes",
        "",
        f"`python benchmarks/profile_steps.py`, {time.strftime('%Y-%m-%d')}: {torch.get_num_threads()} thread(s), "
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, under the profiler.",
        "",
        f"| step | in | ms | {' | '.join(KINDS)} | between |",
        "|---|---|---|" + "---|" * (len(KINDS) + 1),
    ]
    print("\n".join(lines), flush=True)
    with flushed_denormals():
        for case in cases(options, Precision.resolve(options.precision, "cpu")):
            milliseconds, parts = shares(case.ours, options.repeats)
            cells = [f"{100 * share:.0f} %" for share in (*parts.values(), 1 - sum(parts.values()))]
            lines.append(f"| {case.name} | {case.precision} | {milliseconds:.4g} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    if options.out is not None:
        options.out.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
