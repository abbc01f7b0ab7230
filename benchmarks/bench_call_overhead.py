"""What a call of an operation costs beside its work: microseconds of tiny calls, formula and fast twin in turn.

    python benchmarks/bench_call_overhead.py                 # on the GPU if there is one, else on the CPU
    python benchmarks/bench_call_overhead.py --device cpu --json overhead.json

On a CPU the twin takes the formula or an `autograd.Function` of PyTorch calls, so the difference is the price of
deciding. On a GPU it launches a kernel where the formula launches several, and the time is that of the host: the
queue is waited for only after the calls of a round. Rounds of both alternate; the table gives medians over the rounds.
Nothing else should run on the machine.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ganblocks import functional, ops
from ganblocks.functional.bias_act_pixel_norm import bias_act_pixel_norm as bias_act_pixel_norm_formula
from ganblocks.functional.upfirdn2d import upfirdn2d as upfirdn2d_formula

Call = Callable[[], object]
TAPS = (0.25, 0.5, 0.25)
SHAPE = (2, 8, 4, 4)
ROUNDS, CALLS = 31, 200


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


def microseconds(call: Call, device: torch.device) -> float:
    """Of one call, from a round of many."""
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / CALLS * 1e6


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


def main() -> None:
    """Measure, print the table, and write it as JSON."""
    parser = argparse.ArgumentParser(description="What a call of an operation costs beside its work.")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(1)
    x, bias = torch.randn(SHAPE, device=device, requires_grad=True), torch.randn(8, device=device, requires_grad=True)
    print(f"torch {torch.__version__}, {device}, {ops.explain(x)}")
    print("microseconds a call: formula -> twin (difference)")
    print("| operation | result | and its gradient | and the gradient of that |\n|---|---|---|---|")
    rows = []
    for name, (formula, twin, has_bias) in PAIRS.items():
        tensors = [x, bias] if has_bias else [x]
        cells = []
        for kind in (without_gradient, with_gradient, with_second_gradient):
            calls = kind(formula, tensors), kind(twin, tensors)
            rounds = [[microseconds(call, device) for call in calls] for _ in range(ROUNDS + 1)][1:]
            slow, fast = (statistics.median(column) for column in zip(*rounds, strict=True))
            cells.append((slow, fast))
        print(f"| {name} | " + " | ".join(f"{a:.1f} -> {b:.1f} ({b - a:+.1f})" for a, b in cells) + " |", flush=True)
        rows.append({"operation": name, "formula": [a for a, _ in cells], "twin": [b for _, b in cells]})
    if options.json:
        document = {"torch": torch.__version__, "device": str(device), "machine": platform.machine(), "rows": rows}
        options.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
