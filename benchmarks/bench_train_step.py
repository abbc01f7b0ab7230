"""One ProGAN training step: ours against the same networks written plainly, interleaved in one run.

    python benchmarks/bench_train_step.py                      # 4 to 128 px, precision auto and fp32
    python benchmarks/bench_train_step.py --resolutions 4 8 16 --repeats 9 --threads 2

"Plain" is the form in which the networks are usually taught (`ProGANConfig.document`, the text's own code): inputs
scaled before each convolution, bias added afterwards, PixelNorm by its formula, critic called three times, its weights
differentiated in the generator's step too, unfused Adam, float32. Both sides have the same widths, batch, alpha and
threads, and share one batch of fakes for both updates. Parts are timed in turn, plain, ours, plain, ours ...; the table
gives medians and the ratio of medians. Nothing else should run on the machine.
"""

import argparse
import dataclasses
import itertools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganblocks.models import progan
from ganblocks.training import Phase, Precision, StepContext, recipes

BATCHES = {4: 32, 8: 32, 16: 32, 32: 16, 64: 16, 128: 16}


class PlainConv(nn.Module):
    """Equalised convolution in its taught form: scale the input, convolve, add the bias."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, padding: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding)
        self.scale = (2 / (in_channels * kernel_size**2)) ** 0.5
        self.bias = self.conv.bias
        self.conv.bias = None
        nn.init.normal_(self.conv.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x * self.scale) + self.bias.view(1, -1, 1, 1)


class PlainNorm(nn.Module):
    """PixelNorm by its formula."""

    def forward(self, x: Tensor) -> Tensor:
        return x / torch.sqrt(torch.mean(x**2, dim=1, keepdim=True) + 1e-8)


def plain_block(in_channels: int, out_channels: int, *, norm: bool) -> nn.Sequential:
    """Two convolutions with activations, and PixelNorm in the generator."""
    layers: list[nn.Module] = []
    for width in (in_channels, out_channels):
        layers += [PlainConv(width, out_channels), nn.LeakyReLU(0.2)]
        layers += [PlainNorm()] if norm else []
    return nn.Sequential(*layers)


class PlainGenerator(nn.Module):
    """The document's generator."""

    def __init__(self, config: progan.ProGANConfig) -> None:
        super().__init__()
        width = config.channels(4)
        self.initial = nn.Sequential(
            PlainNorm(),
            nn.ConvTranspose2d(config.latent_dim, width, 4),
            nn.LeakyReLU(0.2),
            PlainConv(width, width),
            nn.LeakyReLU(0.2),
            PlainNorm(),
        )
        widths = [config.channels(r) for r in config.resolutions]
        self.blocks = nn.ModuleList(plain_block(a, b, norm=True) for a, b in itertools.pairwise(widths))
        self.rgb = nn.ModuleList(PlainConv(w, config.image_channels, 1, 0) for w in widths)

    def forward(self, latents: Tensor, steps: int, alpha: float) -> Tensor:
        out = self.initial(latents[:, :, None, None])
        if steps == 0:
            return self.rgb[0](out)
        for block in self.blocks[:steps]:
            upscaled = F.interpolate(out, scale_factor=2, mode="nearest")
            out = block(upscaled)
        return torch.tanh(alpha * self.rgb[steps](out) + (1 - alpha) * self.rgb[steps - 1](upscaled))


class PlainCritic(nn.Module):
    """The document's critic."""

    def __init__(self, config: progan.ProGANConfig) -> None:
        super().__init__()
        widths = [config.channels(r) for r in config.resolutions]
        self.blocks = nn.ModuleList(plain_block(b, a, norm=False) for a, b in itertools.pairwise(widths))
        self.rgb = nn.ModuleList(PlainConv(config.image_channels, w, 1, 0) for w in widths)
        self.leaky = nn.LeakyReLU(0.2)
        self.pool = nn.AvgPool2d(2)
        width = widths[0]
        self.final = nn.Sequential(
            PlainConv(width + 1, width),
            nn.LeakyReLU(0.2),
            PlainConv(width, width, 4, 0),
            nn.LeakyReLU(0.2),
            PlainConv(width, 1, 1, 0),
        )

    def forward(self, x: Tensor, steps: int, alpha: float) -> Tensor:
        out = self.leaky(self.rgb[steps](x))
        if steps > 0:
            downscaled = self.leaky(self.rgb[steps - 1](self.pool(x)))
            out = self.pool(self.blocks[steps - 1](out))
            out = alpha * out + (1 - alpha) * downscaled
            for block in reversed(self.blocks[: steps - 1]):
                out = self.pool(block(out))
        statistic = torch.std(out, dim=0).mean().repeat(len(x), 1, out.shape[2], out.shape[3])
        return self.final(torch.cat([out, statistic], dim=1)).view(len(x), -1)


def plain_step(config: progan.ProGANConfig, threads_seed: int = 0) -> Callable[[Tensor, int, float], None]:
    """The document's training step."""
    torch.manual_seed(threads_seed)
    generator, critic = PlainGenerator(config), PlainCritic(config)
    adam = {"lr": 1e-3, "betas": (0.0, 0.99)}
    generator_optimizer = torch.optim.Adam(generator.parameters(), **adam)
    critic_optimizer = torch.optim.Adam(critic.parameters(), **adam)

    def step(real: Tensor, steps: int, alpha: float) -> None:
        count = len(real)
        fake = generator(torch.randn(count, config.latent_dim), steps, alpha)
        critic_real, critic_fake = critic(real, steps, alpha), critic(fake.detach(), steps, alpha)
        beta = torch.rand(count, 1, 1, 1)
        mixed = (real * beta + fake.detach() * (1 - beta)).requires_grad_(True)
        scores = critic(mixed, steps, alpha)
        (gradient,) = torch.autograd.grad(scores, mixed, torch.ones_like(scores), create_graph=True)
        penalty = torch.mean((gradient.view(count, -1).norm(2, dim=1) - 1) ** 2)
        loss = -(critic_real.mean() - critic_fake.mean()) + 10 * penalty + 0.001 * (critic_real**2).mean()
        critic_optimizer.zero_grad()
        loss.backward()
        critic_optimizer.step()
        loss = -critic(fake, steps, alpha).mean()
        generator_optimizer.zero_grad()
        loss.backward()
        generator_optimizer.step()

    return step


def our_step(config: progan.ProGANConfig, precision: str) -> Callable[[Tensor, int, float], None]:
    """The library's step with the `document` recipe."""
    torch.manual_seed(0)
    step = recipes.document(start_resolution=4).build_step(
        progan.Generator(config),
        progan.Discriminator(config),
        latent_dim=config.latent_dim,
        precision=Precision.resolve(precision, "cpu"),  # type: ignore[arg-type]
    )
    calls = iter(range(10**9))

    def run(real: Tensor, steps: int, alpha: float) -> None:
        phase = Phase(len(real), 1e-3, 4 * 2**steps, alpha if steps else 1.0, steps, fading=steps > 0)
        step(real, None, StepContext(0, next(calls), phase))

    return run


def time_once(function: Callable[[Tensor, int, float], None], real: Tensor, steps: int, alpha: float) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function(real, steps, alpha)
    return time.perf_counter() - start


def measure(resolution: int, options: argparse.Namespace) -> dict[str, object]:
    """Median milliseconds of each variant at one resolution."""
    config = progan.ProGANConfig.document(
        resolution, max_channels=options.channels, base_channels=16 * options.channels, latent_dim=options.channels
    )
    batch = min(BATCHES[resolution], options.batch or BATCHES[resolution])
    steps = resolution.bit_length() - 3
    real = torch.rand(batch, 3, resolution, resolution) * 2 - 1
    variants = {"plain": plain_step(config)}
    variants |= {f"ours {precision}": our_step(config, precision) for precision in options.precisions}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for repeat in range(options.warmup + options.repeats):
        for name, variant in variants.items():
            elapsed = time_once(variant, real, steps, 0.5)
            if repeat >= options.warmup:
                seconds[name].append(elapsed)
    medians = {name: statistics.median(values) * 1e3 for name, values in seconds.items()}
    spreads = {name: (max(v) - min(v)) / statistics.median(v) for name, v in seconds.items()}
    return {"resolution": resolution, "batch": batch, "median_ms": medians, "spread": spreads}


def main() -> None:
    """Measure, print the table, and write it as JSON."""
    parser = argparse.ArgumentParser(description="One ProGAN training step against the plain form.")
    parser.add_argument("--resolutions", type=int, nargs="+", default=[4, 8, 16, 32, 64, 128], choices=sorted(BATCHES))
    parser.add_argument("--precisions", nargs="+", default=["auto", "fp32"])
    parser.add_argument("--channels", type=int, default=256, help="widest layer (the text: 256)")
    parser.add_argument("--batch", type=int, help="upper bound of the batch (default: the text's)")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    auto = Precision.resolve("auto", "cpu").name
    if auto == "fp32" and "auto" in options.precisions:
        print("This CPU has no fast bfloat16 (AMX): auto is fp32 here, measured once.")
        options.precisions = list(dict.fromkeys("fp32" if p == "auto" else p for p in options.precisions))
    names = ["plain", *(f"ours {precision}" for precision in options.precisions)]
    print(f"torch {torch.__version__}, {options.threads} threads, {options.repeats} repeats, auto = {auto}")
    print("| px | batch | " + " | ".join(f"{name} ms" for name in names) + " | " + " | ".join(
        f"plain / {name}" for name in names[1:]
    ) + " |")  # fmt: skip
    print("|" + "---|" * (2 * len(names) + 1))
    rows = []
    for resolution in options.resolutions:
        row = measure(resolution, options)
        medians: dict[str, float] = row["median_ms"]  # type: ignore[assignment]
        ratios = {name: medians["plain"] / medians[name] for name in names[1:]}
        cells = [f"{medians[name]:.0f}" for name in names] + [f"{ratios[name]:.2f}" for name in names[1:]]
        print(f"| {resolution} | {row['batch']} | " + " | ".join(cells) + " |", flush=True)
        rows.append({**row, "ratios": ratios})
    if options.json:
        document = {
            "torch": torch.__version__,
            "machine": platform.processor() or platform.machine(),
            "date": time.strftime("%Y-%m-%d"),
            "threads": options.threads,
            "auto": auto,
            "config": dataclasses.asdict(progan.ProGANConfig.document(4, max_channels=options.channels)),
            "rows": rows,
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
