"""Whole ProGAN training steps on a GPU, routes side by side: as taught, eager, compiled as losses, one CUDA graph.

    python benchmarks/gpu_steps.py --json steps.json                         # all resolutions, all routes
    python benchmarks/gpu_steps.py --resolutions 8 128 --routes eager graphed

- document: the form in which the networks are usually taught (bench_train_step.py), float32;
- eager: `ProgressiveStep` with the recipe `karras2018`;
- compiled: the same losses and updates, each loss through `compile_loss`, written out here;
- graphed: `GraphedStep`, which says itself why it runs eagerly where it does.

All but the first run in bfloat16. A step here is both updates and the moving average, in the middle of a fade, on
images that lie on the GPU. Routes take turns, some steps each; times are those of the host until the GPU is done, so
launches count. The table has medians, the spread is (largest - smallest) / median. Without a GPU nothing is measured.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from bench_train_step import PlainCritic, PlainGenerator
from torch import Tensor

from ganblocks import losses
from ganblocks.models import progan
from ganblocks.training import ExponentialMovingAverage, GraphedStep, Phase, Precision, StepContext, recipes
from ganblocks.training.compiled_loss import compile_loss

NO_DEVICE = "no CUDA device: whole steps were not measured"
BATCHES = {4: 32, 8: 32, 16: 32, 32: 16, 64: 16, 128: 16}
ROUTES = ("document", "eager", "compiled", "graphed")
ALPHA, RATE = 0.5, 1e-3
READY = 5  # calls before anything is timed: the graph is made at the fourth

Route = Callable[[], None]


def config_of(resolution: int, channels: int) -> progan.ProGANConfig:
    """The text's networks, so that all routes do the same work."""
    return progan.ProGANConfig.document(
        resolution, max_channels=channels, base_channels=16 * channels, latent_dim=channels
    )


def document(config: progan.ProGANConfig, real: Tensor) -> Route:
    """The form that is taught, on the device of the images."""
    generator, critic = PlainGenerator(config).to(real.device), PlainCritic(config).to(real.device)
    optimizers = [torch.optim.Adam(network.parameters(), RATE, (0.0, 0.99)) for network in (generator, critic)]
    steps, count = config.resolution.bit_length() - 3, len(real)
    fade = (steps, ALPHA)

    def step() -> None:
        fake = generator(torch.randn(count, config.latent_dim, device=real.device), *fade)
        scores, fake_scores = critic(real, *fade), critic(fake.detach(), *fade)
        share = torch.rand(count, 1, 1, 1, device=real.device)
        mixed = (real * share + fake.detach() * (1 - share)).requires_grad_(True)
        mixed_scores = critic(mixed, *fade)
        (gradient,) = torch.autograd.grad(mixed_scores, mixed, torch.ones_like(mixed_scores), create_graph=True)
        penalty = ((gradient.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
        optimizers[1].zero_grad()
        (fake_scores.mean() - scores.mean() + 10 * penalty + 0.001 * (scores**2).mean()).backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        (-critic(fake, *fade).mean()).backward()
        optimizers[0].step()

    return step


def networks_of(config: progan.ProGANConfig, device: torch.device) -> tuple[progan.Generator, progan.Discriminator]:
    torch.manual_seed(0)
    return progan.Generator(config).to(device), progan.Discriminator(config).to(device)


def ours(step: Any, real: Tensor) -> Route:
    """A step of the library on one batch, again and again."""
    resolution, seen = real.shape[-1], iter(range(0, 10**12, len(real)))
    stage = resolution.bit_length() - 3
    phase = Phase(len(real), RATE, resolution, ALPHA if stage else 1.0, stage, fading=stage > 0)

    def run() -> None:
        step(real, None, StepContext(0, next(seen), phase))

    return run


def compiled(config: progan.ProGANConfig, real: Tensor, precision: Precision, **options: Any) -> Route:
    """What the step of the library computes, each loss in one graph of the compiler."""
    device, count, resolution = real.device, len(real), real.shape[-1]
    generator, critic = networks_of(config, device)
    for network in (generator, critic):
        network.to(memory_format=precision.memory_format(resolution))
    optimizers = [torch.optim.Adam(n.parameters(), RATE, (0.0, 0.99), fused=True) for n in (generator, critic)]
    average = ExponentialMovingAverage(generator, decay=0.999)
    alpha = torch.tensor(ALPHA, device=device)

    def images(latents: Tensor, alpha: Tensor) -> Tensor:
        fake: Tensor = generator(latents, resolution=resolution, alpha=alpha)
        return fake

    def critic_loss(real: Tensor, fake: Tensor, mixing: Tensor, alpha: Tensor) -> Tensor:
        scores = critic(torch.cat([real, fake]), alpha=alpha, chunks=2)
        real_scores, fake_scores = scores.chunk(2)
        loss = losses.wasserstein.discriminator_loss(real_scores, fake_scores)
        loss = loss + 1e-3 * losses.drift_penalty(real_scores)
        return loss + 10 * losses.gradient_penalty(lambda x: critic(x, alpha=alpha), real, fake, mixing=mixing)

    def generator_loss(latents: Tensor, alpha: Tensor) -> Tensor:
        return losses.wasserstein.generator_loss(None, critic(images(latents, alpha), alpha=alpha))

    settings: dict[str, Any] = {"dynamic": False, **options}
    make = torch.compile(images, fullgraph=True, **settings)
    of_critic, of_generator = compile_loss(critic_loss, **settings), compile_loss(generator_loss, **settings)

    def update(optimizer: torch.optim.Optimizer, loss: Callable[..., Tensor], *arguments: Tensor) -> None:
        optimizer.zero_grad()
        with precision.autocast(resolution):
            value = loss(*arguments, alpha)
        value.backward()
        optimizer.step()

    def step() -> None:
        latents = torch.randn(2, count, config.latent_dim, device=device)
        with torch.no_grad(), precision.autocast(resolution):
            fake = make(latents[0], alpha)
        update(optimizers[1], of_critic, real, fake.to(real.dtype), torch.rand(count, device=device))
        critic.requires_grad_(False)
        update(optimizers[0], of_generator, latents[1])
        critic.requires_grad_(True)
        average.update(generator)

    return step


def build(route: str, config: progan.ProGANConfig, real: Tensor, **options: Any) -> tuple[Route, GraphedStep | None]:
    """One route, and the step that can report where there is one. ``options`` are those of the route."""
    precision = Precision("bf16" if real.is_cuda else "fp32", real.device)
    if route == "document":
        return document(config, real), None
    if route == "compiled":
        return compiled(config, real, precision, **options), None
    step = recipes.karras2018().build_step(
        *networks_of(config, real.device), latent_dim=config.latent_dim, precision=precision
    )
    if route == "eager":
        return ours(step, real), None
    graphed = GraphedStep(step, **options)
    return ours(graphed, real), graphed


def milliseconds(run: Route, calls: int, device: torch.device) -> float:
    """Of one step, from the host's first call until the device has done the last."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    for _ in range(calls):
        run()
    wait()
    return 1e3 * (time.perf_counter() - start) / calls


def side_by_side(
    resolution: int,
    routes: Sequence[str],
    *,
    device: torch.device,
    channels: int = 256,
    batch: int | None = None,
    rounds: int = 7,
    calls: int = 10,
    options: dict[str, dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """A row for each route at one resolution; one that cannot run says why in ``error``."""
    count = batch or BATCHES[resolution]
    real = torch.rand(count, 3, resolution, resolution, device=device) * 2 - 1
    rows: dict[str, dict[str, Any]] = {}
    ready: dict[str, tuple[Route, GraphedStep | None]] = {}
    for route in routes:
        rows[route] = {"resolution": resolution, "batch": count, "route": route}
        try:
            ready[route] = build(route, config_of(resolution, channels), real, **(options or {}).get(route, {}))
            for _ in range(READY):
                ready[route][0]()
        except Exception as error:  # a compiler that is missing, memory that does not suffice
            ready.pop(route, None)
            rows[route]["error"] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    times: dict[str, list[float]] = {route: [] for route in ready}
    for _ in range(rounds):
        for route, (run, _) in ready.items():
            times[route].append(milliseconds(run, calls, device))
    for route, (_, graphed) in ready.items():
        median = statistics.median(times[route])
        spread = (max(times[route]) - min(times[route])) / median
        rows[route] |= {"milliseconds": median, "spread": spread}
        if graphed is not None:
            rows[route] |= {key: graphed.report()[-1][key] for key in ("why", "replays")}
            rows[route]["graphed"] = graphed.report()[-1]["route"] == "graphed"
    return list(rows.values())


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each resolution in Markdown, milliseconds of each route, and what eager takes over each."""
    lines = [
        "| px | batch | " + " | ".join(f"{route} ms" for route in ROUTES) + " | eager / compiled | eager / graphed |"
    ]
    lines.append("|---|---|" + "---|" * (len(ROUTES) + 2))
    for resolution, batch in sorted({(row["resolution"], row["batch"]) for row in rows}):
        at = {row["route"]: row for row in rows if row["resolution"] == resolution}
        cells = [_cell(at.get(route)) for route in ROUTES]
        ratios = [_ratio(at, "eager", route) for route in ("compiled", "graphed")]
        ratio_cells = ["-" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        lines.append(f"| {resolution} | {batch} | " + " | ".join([*cells, *ratio_cells]) + " |")
    reasons = {f"{row['resolution']} px, {row['route']}: {why}" for row in rows if (why := _trouble(row))}
    return "\n".join([*lines, *sorted(reasons)])


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    return f"{row['milliseconds']:.2f} (±{row['spread'] / 2:.0%})" if "milliseconds" in row else "failed"


def _ratio(at: dict[str, dict[str, Any]], one: str, other: str) -> float | None:
    both = one in at and other in at and "milliseconds" in at[one] and "milliseconds" in at[other]
    if not both or not at[other].get("graphed", True):  # an eager fallback is no graph
        return None
    return float(at[one]["milliseconds"] / at[other]["milliseconds"])


def ratios(rows: Sequence[dict[str, Any]], one: str, other: str, resolution: int | None = None) -> list[float]:
    """How many times as long as ``other`` the route ``one`` takes, where both were measured."""
    wanted = {row["resolution"] for row in rows if resolution in (None, row["resolution"])}
    found = []
    for size in sorted(wanted):
        ratio = _ratio({row["route"]: row for row in rows if row["resolution"] == size}, one, other)
        found += [] if ratio is None else [ratio]
    return found


def _trouble(row: dict[str, Any]) -> str | None:
    if "error" in row:
        return str(row["error"])
    return None if row.get("graphed", True) else f"ran eagerly, since {row['why']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--resolutions", type=int, nargs="+", default=sorted(BATCHES), choices=sorted(BATCHES))
    parser.add_argument("--routes", nargs="+", default=list(ROUTES), choices=ROUTES)
    parser.add_argument("--channels", type=int, default=256, help="widest layer")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print(NO_DEVICE)
        return
    rows: list[dict[str, Any]] = []
    for resolution in options.resolutions:
        rows += side_by_side(resolution, options.routes, device=torch.device("cuda"), channels=options.channels)
        torch._dynamo.reset()
        torch.cuda.empty_cache()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n{table(rows)}")
    if options.json is not None:
        facts = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "steps": rows}
        options.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
