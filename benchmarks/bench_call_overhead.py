"""What a call of an operation costs beside its work: microseconds of tiny calls, formula and fast twin in turn.

    python benchmarks/bench_call_overhead.py                 # on the GPU if there is one, else on the CPU
    python benchmarks/bench_call_overhead.py --device cpu --json overhead.json
    python benchmarks/bench_call_overhead.py --filters       # on a CPU: filters of whole batches, and a step with them

On a CPU the twin takes the formula or an `autograd.Function` of PyTorch calls, so the difference is the price of
deciding; filters of large batches are a convolution there. On a GPU it launches a kernel where the formula
launches several, and the time is that of the host: the queue is waited for only after the calls of a round. Rounds of
both alternate; the tables give medians over the rounds. The step is that of `examples/r3gan_mnist.py` on images of
noise, once with `backend("reference")`, which changes nothing but the filters. Nothing else should run on the machine.
"""

import argparse
import functools
import itertools
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganblocks import functional, ops
from ganblocks.functional.bias_act_pixel_norm import bias_act_pixel_norm as bias_act_pixel_norm_formula
from ganblocks.functional.upfirdn2d import upfirdn2d as upfirdn2d_formula
from ganblocks.models import r3gan
from ganblocks.training import Phase, Precision, StepContext, gan_recipes

Call = Callable[[], object]
Row = dict[str, Any]
TAPS = (0.25, 0.5, 0.25)
SHAPE = (2, 8, 4, 4)
ROUNDS, CALLS = 31, 200
FILTERED, STEPS = 5, 3  # rounds of one call on a whole batch, of one step


def formula_of_leaky_relu(x: Tensor) -> Tensor:
    return torch.nn.functional.leaky_relu(x, 0.2)


PAIRS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], bool]] = {  # formula, twin, with a bias
    "pixel_norm": (functional.pixel_norm, ops.pixel_norm, False),
    "bias_act": (functional.bias_act, ops.bias_act, True),
    "bias_act_pixel_norm": (bias_act_pixel_norm_formula, ops.bias_act_pixel_norm, True),
    "leaky_relu": (formula_of_leaky_relu, ops.leaky_relu, False),
    "blur": (functional.blur, ops.blur, False),
    "upfirdn2d": (lambda x: upfirdn2d_formula(x, TAPS, up=2), lambda x: ops.upfirdn2d(x, TAPS, up=2), False),
}


FILTERS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "blur": (functional.blur, ops.blur),
    "upfirdn2d, down=2": (
        lambda x: upfirdn2d_formula(x, TAPS, down=2, padding=1),
        lambda x: ops.upfirdn2d(x, TAPS, down=2, padding=1),
    ),
    "upfirdn2d, up=2": (
        lambda x: upfirdn2d_formula(x, TAPS, up=2, padding=(2, 1)),
        lambda x: ops.upfirdn2d(x, TAPS, up=2, padding=(2, 1)),
    ),
}
MAPS: list[tuple[tuple[int, int, int, int], torch.dtype, torch.memory_format]] = [
    ((64, 96, 16, 16), torch.float32, torch.channels_last),
    ((64, 96, 16, 16), torch.bfloat16, torch.channels_last),
    ((64, 96, 16, 16), torch.float32, torch.contiguous_format),
    ((64, 96, 16, 16), torch.bfloat16, torch.contiguous_format),
    ((64, 8, 16, 16), torch.float32, torch.contiguous_format),
]


def microseconds(call: Call, device: torch.device, calls: int = CALLS) -> float:
    """Of one call, from a round of many."""
    start = time.perf_counter()
    for _ in range(calls):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / calls * 1e6


def in_turn(calls: tuple[Call, Call], rounds: int, device: torch.device, each: int) -> tuple[float, float]:
    """Median microseconds of two calls, after a round that does not count."""
    times = [[microseconds(call, device, each) for call in calls] for _ in range(rounds + 1)][1:]
    slow, fast = (statistics.median(column) for column in zip(*times, strict=True))
    return slow, fast


def without_gradient(function: Callable[..., Tensor], tensors: list[Tensor]) -> Call:
    constants = [tensor.detach() for tensor in tensors]
    return lambda: function(*constants)


def with_gradient(function: Callable[..., Tensor], tensors: list[Tensor]) -> Call:
    g = torch.ones_like(function(*tensors))
    return lambda: torch.autograd.grad(function(*tensors), tensors, g)


def with_second_gradient(function: Callable[..., Tensor], tensors: list[Tensor]) -> Call:
    g = torch.ones_like(function(*tensors)).requires_grad_()

    def call() -> object:
        (first,) = torch.autograd.grad(function(*tensors), tensors[:1], g, create_graph=True)
        return torch.autograd.grad(first, g, torch.ones_like(first))

    return call


KINDS = (without_gradient, with_gradient, with_second_gradient)


def measure_calls(device: torch.device) -> list[Row]:
    """Tiny calls of every operation."""
    x, bias = torch.randn(SHAPE, device=device, requires_grad=True), torch.randn(8, device=device, requires_grad=True)
    print(f"torch {torch.__version__}, {device}, {ops.explain(x)}")
    print("microseconds a call: formula -> twin (difference)")
    print("| operation | result | and its gradient | and the gradient of that |\n|---|---|---|---|")
    rows: list[Row] = []
    for name, (formula, twin, has_bias) in PAIRS.items():
        tensors = [x, bias] if has_bias else [x]
        cells = []
        for kind in KINDS:
            calls = kind(formula, tensors), kind(twin, tensors)
            cells.append(in_turn(calls, ROUNDS, device, CALLS))
        print(f"| {name} | " + " | ".join(f"{a:.1f} -> {b:.1f} ({b - a:+.1f})" for a, b in cells) + " |", flush=True)
        rows.append({"operation": name, **_columns(cells)})
    return rows


def measure_filters() -> list[Row]:
    """Filters of whole batches on a CPU, formula and convolution in turn."""
    device = torch.device("cpu")
    print("milliseconds a call: formula -> twin (ratio)")
    print("| operation | maps | result | and its gradient | and the gradient of that |\n|---|---|---|---|---|")
    rows: list[Row] = []
    for name, (formula, twin) in FILTERS.items():
        for shape, dtype, layout in MAPS if name == "blur" else MAPS[:2]:
            x = torch.randn(shape).to(dtype).contiguous(memory_format=layout).requires_grad_()
            cells = [in_turn((kind(formula, [x]), kind(twin, [x])), FILTERED, device, 1) for kind in KINDS]
            order = "NHWC" if layout == torch.channels_last else "NCHW"
            maps = f"{list(shape)}, {str(dtype).removeprefix('torch.')}, {order}"
            print(f"| {name} | {maps} | " + " | ".join(map(_ratio, cells)) + " |", flush=True)
            rows.append({"operation": name, "maps": maps, **_columns(cells)})
    return rows


def measure_steps() -> list[Row]:
    """A step of R3GAN for 32 px with the filters as formulas and as convolutions, in turn."""
    print("milliseconds a step of R3GAN, 32 px, batch 64: formula -> twin (ratio)")
    rows: list[Row] = []
    images, seen = torch.rand(64, 1, 32, 32) * 2 - 1, itertools.count(step=64)

    def call(mode: str, make: Callable[[StepContext], object]) -> None:
        with ops.backend(mode):
            make(StepContext(0, next(seen), Phase(len(images), 2e-4, resolution=32)))

    for name in ("bf16", "fp32"):
        torch.manual_seed(0)
        config = r3gan.R3GANConfig.small32(image_channels=1, widths=(96, 64, 32, 16), blocks_per_stage=1)
        networks = r3gan.Generator(config), r3gan.Discriminator(config)
        precision = Precision.resolve(name, "cpu")
        step = gan_recipes.huang2024().build_step(*networks, latent_dim=config.latent_dim, precision=precision)
        make = functools.partial(step, images, None)
        both = functools.partial(call, "reference", make), functools.partial(call, "auto", make)
        pair = in_turn(both, STEPS, torch.device("cpu"), 1)
        print(f"| {name} | {_ratio(pair)} |", flush=True)
        rows.append({"operation": "R3GAN step", "maps": name, **_columns([pair])})
    return rows


def _ratio(pair: tuple[float, float]) -> str:
    slow, fast = (value / 1e3 for value in pair)
    return f"{slow:.2f} -> {fast:.2f} ({slow / fast:.1f})"


def _columns(cells: list[tuple[float, float]]) -> Row:
    """Microseconds."""
    return {"formula": [a for a, _ in cells], "twin": [b for _, b in cells]}


def main() -> None:
    """Measure, print the tables, and write them as JSON."""
    parser = argparse.ArgumentParser(description="What a call of an operation costs beside its work.")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--filters", action="store_true", help="filters of whole batches on a CPU, and a step of R3GAN")
    options = parser.parse_args()
    device = torch.device("cpu" if options.filters else options.device)
    torch.set_num_threads(1)
    rows = [*measure_filters(), *measure_steps()] if options.filters else measure_calls(device)
    if options.json:
        document = {"torch": torch.__version__, "device": str(device), "machine": platform.machine(), "rows": rows}
        options.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
