"""What the fused kernels are worth on this GPU: right to the last places, how near to a copy, how far from eager.

    python benchmarks/gpu_report.py --json report.json          # on a GPU, in less than eight minutes
    python benchmarks/gpu_report.py --json report.json          # without one: a dry run, tiny, nothing is timed

Every operation is run in every dtype, layout and order of gradient. First against its formula in float64, with outputs
poisoned: what `torch.empty` returns holds NaN, so a place that a kernel forgets shows. Then for time, on buffers of at
least 256 MB, against the formula in eager, against torch.compile of the formula (it has no second order), and against
the bandwidth of a copy, which is measured first. Bytes are those that have to move: inputs read and results written
once. Then a critic step with a gradient penalty, by formulas, by kernels and compiled as one loss. At last whole ProGAN
steps, as taught, eager, compiled and as one CUDA graph, side by side (gpu_steps.py, which alone has time for all).

An error counts in units of the last place of the larger of the true value and the root mean square of all true values,
since where terms cancel no sum can do better. Nothing else should run on the machine.
"""

import argparse
import copy
import importlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gpu_steps
import torch
from torch import Tensor

from ganblocks import losses
from ganblocks.functional.bias_act import bias_act as bias_act_formula
from ganblocks.functional.bias_act_pixel_norm import bias_act_pixel_norm as bias_act_pixel_norm_formula
from ganblocks.functional.pixel_norm import pixel_norm as pixel_norm_formula
from ganblocks.functional.resample import blur as blur_formula
from ganblocks.functional.upfirdn2d import upfirdn2d as upfirdn2d_formula
from ganblocks.models import progan
from ganblocks.ops._switch import backend, uses_kernel
from ganblocks.training.compiled_loss import compile_loss

DRY = not torch.cuda.is_available()
DEVICE = torch.device("cpu" if DRY else "cuda")
if DRY:
    os.environ.setdefault("TRITON_INTERPRET", "1")  # Triton is not imported yet; kernels then run on the CPU
ORDERS = ("forward", "backward", "second backward")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
WORST_ULP = {"float32": 4.0, "bfloat16": 1.0, "float16": 1.0}  # of results
WORST_GRADIENT_ULP = {"float32": 16.0, "bfloat16": 8.0, "float16": 8.0}  # of a result that was rounded before
SHARES = {"correctness": 0.2, "time": 0.35, "compile": 0.15, "critic": 0.1, "steps": 0.2}  # of the time there is


@dataclass(frozen=True, eq=False)
class Case:
    """An operation and what it has to move.

    Attributes:
        name: Of the operation, as in `ganblocks.ops`.
        formula: Its slow twin.
        has_bias: Whether it takes a [C] beside the images.
        options: Keyword arguments.
        passes: Reads and writes of something as large as the images, for each order.
        up: Edge of the result over that of the images.
    """

    name: str
    formula: Callable[..., Tensor]
    has_bias: bool
    passes: tuple[float, float, float]
    options: dict[str, Any] = field(default_factory=dict)
    up: int = 1

    def op(self, *tensors: Tensor) -> Tensor:
        function = getattr(importlib.import_module(f"ganblocks.ops.{self.name}"), self.name)
        result: Tensor = function(*tensors, **self.options)
        return result

    def plain(self, *tensors: Tensor) -> Tensor:
        return self.formula(*tensors, **self.options)


TAPS = {"kernel": (1 / 4, 3 / 4, 3 / 4, 1 / 4), "up": 2, "padding": (2, 1)}
CASES = (
    Case("bias_act", bias_act_formula, True, (2, 3, 3), {"scale": 0.75}),
    Case("pixel_norm", pixel_norm_formula, False, (2, 3, 5)),
    Case("bias_act_pixel_norm", bias_act_pixel_norm_formula, True, (2, 3, 5), {"scale": 0.75}),
    Case("blur", blur_formula, False, (2, 2, 2)),
    Case("upfirdn2d", upfirdn2d_formula, False, (5, 5, 5), TAPS, up=2),
)


class Clock:
    """The time there is, section by section; what is not used passes to those that follow."""

    def __init__(self, seconds: float) -> None:
        self.start, self.seconds, self.end = time.monotonic(), seconds, 0.0
        self.shares = dict(SHARES)
        self.left_out: list[str] = []

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        left = self.start + self.seconds - time.monotonic()
        self.end = time.monotonic() + left * self.shares[name] / sum(self.shares.values())
        yield
        del self.shares[name]

    def allows(self, what: str) -> bool:
        """Whether there is time for this; if not, it is noted."""
        if time.monotonic() < self.end:
            return True
        self.left_out.append(what)
        return False


def tensors_for(case: Case, shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format) -> list[Tensor]:
    generator = torch.Generator(DEVICE).manual_seed(0)
    x = torch.randn(shape, generator=generator, device=DEVICE, dtype=dtype).contiguous(memory_format=layout)
    tensors = [x, torch.randn(shape[1], generator=generator, device=DEVICE)] if case.has_bias else [x]
    return [tensor.requires_grad_() for tensor in tensors]


def like(tensors: tuple[Tensor, ...] | list[Tensor], seed: int) -> list[Tensor]:
    """Random numbers of the same shapes, dtypes and layouts; the same numbers whatever the dtype."""
    generator = torch.Generator(DEVICE).manual_seed(seed)
    drawn = [torch.randn(t.shape, generator=generator, device=DEVICE).bfloat16() for t in tensors]
    return [torch.empty_like(t, requires_grad=False).copy_(v) for t, v in zip(tensors, drawn, strict=True)]


def graph_of(function: Callable[..., Tensor], tensors: list[Tensor], wide: bool) -> list[Callable[[], list[Any]]]:
    """What computes each order alone: results, first gradients, gradients of those."""
    if wide:
        tensors = [tensor.detach().double().requires_grad_() for tensor in tensors]
    y = function(*tensors)
    (g,) = like([y.detach()], 1)
    g.requires_grad_()
    firsts = torch.autograd.grad(y, tensors, g, create_graph=True)
    seconds = like([first.detach() for first in firsts], 2)

    def forward() -> list[Any]:
        with torch.no_grad():
            return [function(*tensors)]

    return [
        forward,
        lambda: list(torch.autograd.grad(y, tensors, g.detach(), retain_graph=True)),
        lambda: list(torch.autograd.grad(firsts, (g, *tensors), seconds, retain_graph=True, allow_unused=True)),
    ]


def errors_in_ulp(found: Tensor, truth: Tensor, dtype: torch.dtype) -> Tensor:
    """The error of every element in units of the last place in a dtype; infinite where a number is none."""
    size = truth.abs().clamp(min=truth.square().mean().sqrt().item())
    info = torch.finfo(dtype)
    unit = torch.exp2(torch.floor(torch.log2(size.clamp(min=info.smallest_normal)))) * info.eps
    return ((found.double() - truth).abs() / unit).nan_to_num(nan=float("inf")).flatten()


def check(case: Case, dtype: str, layout: str) -> list[dict[str, Any]]:
    """The error of each order, of an interesting small shape, with poisoned outputs."""
    shape = (1, 17, 3, 4) if DRY else (3, 65, 33, 34)
    tensors = tensors_for(case, shape, DTYPES[dtype], LAYOUTS[layout])
    deterministic = torch.are_deterministic_algorithms_enabled()
    with backend("reference"):
        truth = [order() for order in graph_of(case.plain, tensors, wide=True)]
    torch.use_deterministic_algorithms(True, warn_only=True)  # fills with NaN what torch.empty returns
    try:
        with backend("triton"):
            found = [order() for order in graph_of(case.op, tensors, wide=False)]
            again = [order() for order in graph_of(case.op, tensors, wide=False)]
            kernel = uses_kernel(*tensors)
    finally:
        torch.use_deterministic_algorithms(deterministic)
    rows = []
    for number, order in enumerate(ORDERS):
        pairs = [(a, b) for a, b in zip(found[number], truth[number], strict=True) if a is not None and a.numel()]
        # A sum over all pixels is a sum of many roundings, not one: it is reported by itself.
        large = [errors_in_ulp(a.detach(), b, DTYPES[dtype]) for a, b in pairs if a.dim() == 4]
        small = [errors_in_ulp(a.detach(), b, DTYPES[dtype]) for a, b in pairs if a.dim() != 4]
        ulps = torch.cat(large)
        rows.append(
            {
                "op": case.name,
                "dtype": dtype,
                "layout": layout,
                "order": order,
                "kernel": kernel,
                "shape": list(shape),
                "ulp_max": ulps.max().item(),
                "ulp_999": ulps.quantile(0.999).item(),
                "bias_ulp_max": torch.cat(small).max().item() if small else None,
                "all_written": all(a.isfinite().all().item() for a, _ in pairs),
                "layout_kept": all(a.is_contiguous(memory_format=LAYOUTS[layout]) for a, _ in pairs if a.dim() == 4),
                "same_bits_again": all(
                    (a is None and b is None) or torch.equal(a, b)
                    for a, b in zip(found[number], again[number], strict=True)
                ),
            }
        )
    return rows


def microseconds(run: Callable[[], Any]) -> float:
    """Median time on the device, after two runs that do not count."""
    run(), run()
    times: list[float] = []
    deadline = time.monotonic() + 0.3
    while len(times) < 5 or (time.monotonic() < deadline and len(times) < 30):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(1e3 * start.elapsed_time(end))
    return statistics.median(times)


def copy_bandwidth() -> float:
    """GB/s of a copy of 1 GiB, reads and writes counted."""
    source = torch.empty(2**28, device=DEVICE).normal_()
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / microseconds(lambda: target.copy_(source)) / 1e3


def timed(case: Case, row: dict[str, Any], copy_speed: float, clock: Clock) -> None:
    """Add the times of kernel and formula to a row."""
    dtype = DTYPES[row["dtype"]]
    shape = (2**28 // (256 * 128 * 128 * dtype.itemsize * case.up**2), 256, 128, 128)
    number = ORDERS.index(row["order"])
    tensors = tensors_for(case, shape, dtype, LAYOUTS[row["layout"]])
    with backend("triton"):
        ours = microseconds(graph_of(case.op, tensors, wide=False)[number])
    with backend("reference"):
        eager = microseconds(graph_of(case.plain, tensors, wide=False)[number])
    moved = case.passes[number] * tensors[0].numel() * dtype.itemsize
    speed = moved / ours / 1e3
    row |= {
        "timed_shape": list(shape),
        "microseconds": ours,
        "eager_microseconds": eager,
        "bytes": moved,
        "gb_per_s": speed,
        "share_of_copy": speed / copy_speed,
        "ratio_to_eager": eager / ours,
    }


def compiled(case: Case, rows: list[dict[str, Any]]) -> None:
    """Add the times of the compiled formula to the rows of one dtype and layout; it has two orders."""
    torch._dynamo.reset()
    dtype = DTYPES[rows[0]["dtype"]]
    tensors = tensors_for(case, tuple(rows[0]["timed_shape"]), dtype, LAYOUTS[rows[0]["layout"]])
    function = torch.compile(case.plain, fullgraph=True, dynamic=False)
    with torch.no_grad():
        times = [microseconds(lambda: function(*tensors))]
    y = function(*tensors)
    g = torch.randn_like(y)
    times.append(microseconds(lambda: torch.autograd.grad(y, tensors, g, retain_graph=True)))
    for row, compiled_time in zip(rows, times, strict=False):
        row |= {"compiled_microseconds": compiled_time, "ratio_to_compiled": compiled_time / row["microseconds"]}


def launches(run: Callable[[], Any]) -> int | None:
    """Kernels and copies that one run puts on the device."""
    if DRY:
        return None
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        run()
        torch.cuda.synchronize()
    return sum(event.device_type == torch.autograd.DeviceType.CUDA for event in profile.events())


def critic_step(resolution: int, batch: int, form: str, low: bool) -> dict[str, Any]:
    """Loss, time and launches of one step of ProGAN's critic with WGAN-GP."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    config = progan.ProGANConfig.karras2018(resolution, max_channels=8 if DRY else 512)
    critic = progan.Discriminator(config).to(DEVICE, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(critic.parameters(), 1e-3, (0.0, 0.99), fused=not DRY)
    shape = (2, batch, config.image_channels, resolution, resolution)
    real, fake = torch.randn(shape).to(DEVICE)
    weights = torch.rand(batch).to(DEVICE)

    def loss(real: Tensor, fake: Tensor) -> Tensor:
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=low):
            terms = losses.wasserstein.discriminator_loss(critic(real), critic(fake))
            return terms + 10 * losses.gradient_penalty(critic, real, fake, mixing=weights)

    whole = compile_loss(loss, dynamic=False) if form == "compiled" else loss
    values = []

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        value = whole(real, fake)
        value.backward()
        optimizer.step()
        values.append(value.detach())

    with backend("reference" if form == "formulas" else "triton"):
        before = copy.deepcopy(critic.state_dict())
        for _ in range(2 if DRY else 5):
            step()
        if not DRY:
            torch.cuda.reset_peak_memory_stats()
        row = {
            "resolution": resolution,
            "batch": batch,
            "dtype": "bfloat16" if low else "float32",
            "form": form,
            "milliseconds": None if DRY else microseconds(step) / 1e3,
            "launches": launches(step),
            "peak_bytes": None if DRY else torch.cuda.max_memory_allocated(),
        }
    row["losses"] = [value.item() for value in values[:2]]
    row["trains"] = any(not torch.equal(before[name], value) for name, value in critic.state_dict().items())
    return row


def whole_steps(clock: Clock) -> list[dict[str, Any]]:
    """Rows of `gpu_steps`: first what needs no compiler at every resolution, then the compiled route."""
    rows = []
    for routes in (("document", "eager", "graphed"), ("compiled",)):
        for resolution in (8, 128, 4, 16, 32, 64):
            if clock.allows(f"whole steps at {resolution}, {', '.join(routes)}"):
                rows += gpu_steps.side_by_side(resolution, routes, device=DEVICE)
                torch._dynamo.reset()
                torch.cuda.empty_cache()
    return rows


def environment() -> dict[str, Any]:
    from ganblocks.ops.kernels import is_interpreted, why_missing

    missing = why_missing()
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": missing or sys.modules["triton"].__version__,
        "interpreted": missing is None and is_interpreted(),
        "device": platform.processor() or platform.machine() if DRY else torch.cuda.get_device_name(),
    }
    if not DRY:
        facts["capability"] = list(torch.cuda.get_device_capability())
        for name, ask in (("clock_mhz", torch.cuda.clock_rate), ("temperature", torch.cuda.temperature)):
            try:
                facts[name] = ask()
            except Exception as error:  # needs a library that may be missing
                facts[name] = f"unknown ({type(error).__name__})"
    return facts


def goals(
    operations: list[dict[str, Any]], steps: list[dict[str, Any]], whole: list[dict[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """The numbers that the kernels are held to; `passed` is None where nothing was measured."""

    def goal(name: str, target: float, values: list[float], *, at_most: bool = False) -> dict[str, Any]:
        value = (max if at_most else min)(values) if values else None
        passed = None if value is None else value <= target if at_most else value >= target
        return {"name": name, "target": target, "value": value, "passed": passed}

    def of(key: str, **wanted: str) -> list[float]:
        return [r[key] for r in operations if key in r and all(r[k] == v for k, v in wanted.items())]

    def step_ratio(resolution: int, other: str) -> list[float]:
        at = {r["form"]: r["milliseconds"] for r in steps if r["resolution"] == resolution and r["milliseconds"]}
        return [at["formulas"] / at[other]] if {"formulas", other} <= at.keys() else []

    table = [
        goal(f"ulp of {name}, forward", most, of("ulp_999", dtype=name, order="forward"), at_most=True)
        for name, most in WORST_ULP.items()
    ]
    table += [
        goal(f"ulp of {name}, {order}", most, of("ulp_999", dtype=name, order=order), at_most=True)
        for name, most in WORST_GRADIENT_ULP.items()
        for order in ORDERS[1:]
    ]
    table += [
        goal(what.replace("_", " "), 1.0, [float(r[what]) for r in operations])
        for what in ("kernel", "all_written", "layout_kept", "same_bits_again")
    ]
    table.append(goal("critic trains", 1.0, [float(row["trains"]) for row in steps]))
    first = {(row["resolution"], row["form"]): row["losses"][0] for row in steps}
    apart = [abs(v - first[r, "formulas"]) / max(1, abs(v)) for (r, _), v in first.items() if (r, "formulas") in first]
    table.append(goal("critic losses agree", 0.05, apart, at_most=True))
    table.append(goal("share of copy", 0.85, of("share_of_copy")))
    table += [
        goal(f"{op} {order} over eager", target, of("ratio_to_eager", op=op, order=order))
        for op, order, target in (
            ("bias_act_pixel_norm", "forward", 4.0),
            ("bias_act_pixel_norm", "backward", 4.0),
            ("pixel_norm", "second backward", 6.0),
            ("bias_act", "forward", 1.8),
            ("bias_act", "second backward", 2.0),
            *(("blur", order, 2.0) for order in ORDERS),
        )
    ]
    table.append(goal("over torch.compile", 0.97, of("ratio_to_compiled")))
    table.append(goal("critic step at 128, kernels over eager", 1.3, step_ratio(128, "kernels")))
    table.append(goal("critic step at 128, compiled over eager", 1.3, step_ratio(128, "compiled")))
    whole = whole or []
    table.append(goal("whole step at 8, graphed over eager", 2.0, gpu_steps.ratios(whole, "eager", "graphed", 8)))
    table.append(goal("whole step at 128, graphed over eager", 1.3, gpu_steps.ratios(whole, "eager", "graphed", 128)))
    table.append(goal("whole step, graphed over document", 3.0, gpu_steps.ratios(whole, "document", "graphed")))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--json", type=Path, required=True, help="where the report goes")
    parser.add_argument("--seconds", type=float, default=360.0, help="after which nothing new is begun")
    arguments = parser.parse_args()
    importlib.import_module(
        "torch._functorch.config"
    ).donated_buffer = False  # a compiled backward pass is timed again and again
    clock = Clock(arguments.seconds)
    operations: list[dict[str, Any]] = []
    steps: list[dict[str, Any]] = []
    copy_speed = None if DRY else copy_bandwidth()
    chosen = [(case, dtype, layout) for dtype in DTYPES for layout in LAYOUTS for case in CASES]
    by_choice = {}
    with clock.section("correctness"):
        for case, dtype, layout in chosen:
            if clock.allows(f"{case.name} {dtype} {layout}: correctness"):
                by_choice[case, dtype, layout] = rows = check(case, dtype, layout)
                operations += rows
    if copy_speed is not None:
        fast = [choice for choice in by_choice if choice[1] != "float16"]  # as wide as bfloat16
        with clock.section("time"):
            for choice in fast:
                for row in by_choice[choice]:
                    if clock.allows(f"{choice[0].name} {choice[1]} {choice[2]} {row['order']}: time"):
                        timed(choice[0], row, copy_speed, clock)
    critics = [(8, 2, False)] if DRY else [(128, 16, True), (8, 32, True), (32, 32, True)]
    with clock.section("critic"):
        for form in ("formulas", "kernels") if DRY else ("formulas", "kernels", "compiled"):
            for resolution, batch, low in critics:
                if clock.allows(f"critic step at {resolution}, {form}"):
                    steps.append(critic_step(resolution, batch, form, low))
    whole: list[dict[str, Any]] = []
    if copy_speed is not None:
        with clock.section("steps"):
            whole = whole_steps(clock)
        with clock.section("compile"):
            for choice in fast:
                rows = by_choice[choice]
                if "microseconds" in rows[1] and clock.allows(f"{choice[0].name} {choice[1]} {choice[2]}: compile"):
                    compiled(choice[0], rows)
    report = {
        "format": 1,
        "dry_run": DRY,
        "environment": environment(),
        "copy_gb_per_s": copy_speed,
        "operations": operations,
        "critic_steps": steps,
        "whole_steps": gpu_steps.NO_DEVICE if DRY else whole,
        "goals": goals(operations, steps, whole),
        "left_out": clock.left_out,
        "seconds": time.monotonic() - clock.start,
    }
    arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    show(report)


def show(report: dict[str, Any]) -> None:
    facts = report["environment"]
    print(f"{'dry run, ' if DRY else ''}{facts['device']}, torch {facts['torch']}, Triton {facts['triton']}")
    for row in report["operations"]:
        speed = f"{row['share_of_copy']:6.0%} of copy, {row['ratio_to_eager']:5.1f} x eager" if "bytes" in row else ""
        name = f"{row['op']:20} {row['dtype']:9} {row['layout']:13} {row['order']:16}"
        print(f"{name} ulp {row['ulp_999']:6.2f} (max {row['ulp_max']:.2f}) {speed}")
    for row in report["critic_steps"]:
        print(f"critic {row['resolution']:4} {row['form']:10} {row['milliseconds']} ms, {row['launches']} launches")
    whole = report["whole_steps"]
    print(whole if isinstance(whole, str) else gpu_steps.table(whole))
    for row in report["goals"]:
        verdict = {True: "passed", False: "FAILED", None: "not measured"}[row["passed"]]
        print(f"{verdict:13} {row['name']}: {row['value']} (goal {row['target']})")
    print(f"{len(report['left_out'])} left out, {report['seconds']:.0f} s")


if __name__ == "__main__":
    main()
