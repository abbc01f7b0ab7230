"""Every training step in one table: ours against the form in which it is taught, with FLOP/s and peak memory.

    python benchmarks/bench_steps.py --threads 2 --out benchmarks/results/steps_amx       # .md and .json
    python benchmarks/bench_steps.py --only progan vae --resolutions 4 8 --repeats 3

The pairs are those of bench_train_step.py (ProGAN, the course text's form), bench_classic_gans.py (DCGAN and WGAN-GP),
bench_autoencoders.py (an epoch over --images in memory, of which a step is given), bench_style_transfer.py (an
iteration), and two more: R3GAN and the painting CNN, where plain is the same network in the loop that one writes first,
with `F.conv2d`, float32, Adam as it comes and `.item()` in every step. Plain and ours are timed in turn; the table has
medians and the spread, (largest - smallest) / median.

FLOP are those of convolutions and products of matrices, as PyTorch counts them in the backward passes too. The ceiling
is a product of two 2048 x 2048 matrices in the precision of the side, measured at the start. Peak memory is that of
tensors that are made in a call and live at the same time: not weights and optimizer, where they were there before.
Each group, and each resolution, has a process of its own: what the one before left in memory slows nobody. Nothing else
should run on the machine.
"""

import argparse
import concurrent.futures
import copy
import dataclasses
import json
import multiprocessing
import platform
import statistics
import subprocess
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import bench_autoencoders
import bench_classic_gans
import bench_style_transfer
import bench_train_step
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from ganblocks.models import painting_classifier, progan, r3gan
from ganblocks.models.feature_maps import VGG19Features
from ganblocks.training import Phase, Precision, StepContext, gan_recipes, painting_recipes, stylize
from ganblocks.training.environment import flushed_denormals
from ganblocks.training.pixel_optimization import document

GROUPS = ("progan", "dcgan", "wgan-gp", "r3gan", "autoencoders", "painting_cnn", "style")
PROGAN_BATCHES = {**bench_train_step.BATCHES, 256: 8}


@dataclasses.dataclass(frozen=True)
class Case:
    """Two ways to make the same step."""

    name: str
    images: int  # that a call of either side sees
    steps: int  # that a call makes
    plain: Callable[[], None]
    ours: Callable[[], None]
    precision: str


class Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of tensors that operators make and that live at the same time, and floating-point operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = self.flops = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        self.flops += 0 if formula is None else formula(*args, **(kwargs or {}), out_val=results)
        given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(results):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                if storage.data_ptr() not in given and storage not in self._known:
                    self._known.add(storage)
                    self._count(storage.nbytes())
                    weakref.finalize(storage, self._count, -storage.nbytes())
        return results

    def _count(self, size: int) -> None:
        self.now += size
        self.peak = max(self.peak, self.now)


def progan_cases(options: argparse.Namespace, precision: Precision) -> Iterator[Case]:
    """The document's preset at each resolution, in the middle of a fade-in."""
    for resolution in options.resolutions:
        config = progan.ProGANConfig.document(resolution, max_channels=256, base_channels=4096, latent_dim=256)
        N, index = PROGAN_BATCHES[resolution], resolution.bit_length() - 3
        real = torch.rand(N, 3, resolution, resolution) * 2 - 1
        plain, ours = bench_train_step.plain_step(config), bench_train_step.our_step(config, precision.name)
        yield Case(
            f"ProGAN, {resolution} px, batch {N}", N, 1,
            lambda plain=plain, real=real, index=index: plain(real, index, 0.5),
            lambda ours=ours, real=real, index=index: ours(real, index, 0.5),
            precision.name if resolution > 4 else "fp32",
        )  # fmt: skip


def classic_cases(options: argparse.Namespace, precision: Precision) -> Iterator[Case]:
    """DCGAN and WGAN-GP."""
    sizes = (("dcgan", 128), ("wgan-gp", 8))
    pairs = bench_classic_gans.cases(precision, batch=8, dropout=0.3)
    for (group, N), pair in zip(sizes, pairs, strict=True):
        if group in options.only:
            yield Case(pair.name, N, 1, pair.plain, pair.ours, precision.name)


def with_pytorchs_convolutions(function: Callable[[], None]) -> Callable[[], None]:
    """The function, with `F.conv2d` where the library has its own."""

    def call() -> None:
        with mock.patch("ganblocks.ops.conv._is_recorded", return_value=False):
            function()

    return call


def r3gan_case(precision: Precision) -> Case:
    """The preset for 32 px, and the same networks in a plain loop."""
    N, side = 32, 32
    config = r3gan.R3GANConfig(side, 64, widths=(128, 96, 64, 64), blocks_per_stage=1, group_size=16)
    real = torch.rand(N, 3, side, side) * 2 - 1
    torch.manual_seed(0)
    generator, critic = r3gan.Generator(config), r3gan.Discriminator(config)
    step = gan_recipes.huang2024().build_step(
        copy.deepcopy(generator), copy.deepcopy(critic), latent_dim=64, precision=precision
    )
    calls = iter(range(10**9))

    def ours() -> None:
        step(real, None, StepContext(0, N * next(calls), Phase(N, 2e-4, resolution=side)))

    optimizers = [torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.0, 0.99)) for network in (generator, critic)]

    def penalty(images: Tensor) -> Tensor:
        images = images.detach().requires_grad_()
        (slope,) = torch.autograd.grad(critic(images).sum(), images, create_graph=True)
        return slope.square().flatten(1).sum(1).mean()

    def plain() -> None:
        fake = generator(torch.randn(N, 64))
        loss = F.softplus(critic(fake.detach()) - critic(real)).mean() + 0.5 * (penalty(real) + penalty(fake))
        optimizers[1].zero_grad()
        loss.backward()
        optimizers[1].step()
        generators = F.softplus(critic(real) - critic(fake)).mean()
        optimizers[0].zero_grad()
        generators.backward()
        optimizers[0].step()
        assert loss.item() + generators.item() < 1e9

    return Case(f"R3GAN, {side} px, batch {N}", N, 1, with_pytorchs_convolutions(plain), ours, precision.name)


def painting_case(precision: Precision) -> Case:
    """The library's form of the painting CNN at 64 px."""
    N, K = 32, 10
    config = painting_classifier.PaintingCNNConfig(
        64, 3, K, (32, 64, 128, 256), 256, norm=True, pooling="average", dropout=0.3
    )
    images, labels = torch.randint(0, 256, (N, 3, 64, 64), dtype=torch.uint8), torch.arange(N) % K
    torch.manual_seed(0)
    network = painting_classifier.PaintingCNN(config)
    step = painting_recipes.library().build_step(copy.deepcopy(network), precision=precision)
    calls = iter(range(10**9))

    def ours() -> None:
        step(images, labels, StepContext(0, N * next(calls), Phase(N, 1e-3)))

    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

    def plain() -> None:
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images.float() / 127.5 - 1), labels)
        loss.backward()
        optimizer.step()
        assert loss.item() < 1e9

    return Case(f"painting CNN, 64 px, batch {N}", N, 1, with_pytorchs_convolutions(plain), ours, precision.name)


def autoencoder_cases(options: argparse.Namespace, precision: Precision) -> Iterator[Case]:
    """A short epoch of each, over random images."""
    N = options.images
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (N, 1, 28, 28), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (N,), generator=generator)
    for pair in bench_autoencoders.cases(images, labels, precision, "torchvision"):
        phases = 2 if pair.name.startswith("E05") else 1
        steps = phases * -(-N // pair.batch_size)
        yield Case(f"{pair.name}, batch {pair.batch_size}", phases * N, steps, pair.plain, pair.ours, pair.precision)


def style_case(precision: Precision, side: int = 256) -> Case:
    """One iteration over random features, targets included."""
    content, style = (bench_style_transfer.picture(None, side, seed) for seed in (0, 1))
    layers = [*bench_style_transfer.STYLE, *bench_style_transfer.CONTENT]
    features = VGG19Features(layers, preprocessing="caffe", generator=torch.Generator().manual_seed(0))
    plain_layers = bench_style_transfer.plain_layers(features)
    features.to(memory_format=precision.memory_format(side))

    def plain() -> None:
        bench_style_transfer.plain_loop(plain_layers, content, style, 1)

    def ours() -> None:
        stylize(
            content, style, features, content_layers=bench_style_transfer.CONTENT,
            style_layers=bench_style_transfer.STYLE, recipe=document(steps=1), precision=precision,
        )  # fmt: skip

    return Case(f"style transfer, {side} px", 1, 1, plain, ours, precision.name)


def cases(options: argparse.Namespace, precision: Precision) -> Iterator[Case]:
    """All that were asked for, made when their turn comes."""
    if "progan" in options.only:
        yield from progan_cases(options, precision)
    if {"dcgan", "wgan-gp"} & set(options.only):
        yield from classic_cases(options, precision)
    if "r3gan" in options.only:
        yield r3gan_case(precision)
    if "autoencoders" in options.only:
        yield from autoencoder_cases(options, precision)
    if "painting_cnn" in options.only:
        yield painting_case(precision)
    if "style" in options.only:
        yield style_case(precision)


def ceiling(dtype: torch.dtype, side: int = 2048, repeats: int = 5) -> float:
    """FLOP/s of a product of two matrices."""
    a, b = (torch.randn(side, side).to(dtype) for _ in range(2))
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - started)
    return 2 * side**3 / min(times)


def measure(case: Case, repeats: int, ceilings: dict[str, float]) -> dict[str, Any]:
    """Both sides of a case."""
    sides = {"plain": case.plain, "ours": case.ours}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, call in sides.items():
            started = time.perf_counter()
            call()
            if repeat:  # the first one of each warms up
                seconds[name].append((time.perf_counter() - started) / case.steps)
    row: dict[str, Any] = {"name": case.name, "precision": case.precision}
    for name, call in sides.items():
        median = statistics.median(seconds[name])
        with Counted() as counted:
            call()
        rate = counted.flops / case.steps / median
        row[name] = {
            "ms": 1e3 * median,
            "spread": (max(seconds[name]) - min(seconds[name])) / median,
            "images_per_s": case.images / case.steps / median,
            "gflops": 1e-9 * rate,
            "share_of_ceiling": rate / ceilings[case.precision if name == "ours" else "fp32"],
            "peak_mib": counted.peak / 2**20,
        }
    row["ratio"] = row["plain"]["ms"] / row["ours"]["ms"]
    return row


def measure_group(options: argparse.Namespace, ceilings: dict[str, float]) -> list[dict[str, Any]]:
    """The cases of ``options.only``, in a process that has done nothing else."""
    with flushed_denormals():
        if options.threads:
            torch.set_num_threads(options.threads)
        precision = Precision.resolve(options.precision, "cpu")
        return [measure(case, options.repeats, ceilings) for case in cases(options, precision)]


def parts(options: argparse.Namespace) -> Iterator[argparse.Namespace]:
    """The options of each process."""
    for group in options.only:
        for resolutions in [[side] for side in options.resolutions] if group == "progan" else [options.resolutions]:
            yield argparse.Namespace(**{**vars(options), "only": [group], "resolutions": resolutions})


def as_line(row: dict[str, Any]) -> str:
    """A row of the table."""
    plain, ours = row["plain"], row["ours"]
    cells = [row["name"], row["precision"], f"{plain['ms']:.4g}", f"{ours['ms']:.4g}", f"**{row['ratio']:.2f}**"]
    cells += [f"{100 * side['spread']:.0f} %" for side in (plain, ours)]
    cells += [f"{ours['images_per_s']:,.4g}", f"{ours['gflops']:.0f}", f"{100 * ours['share_of_ceiling']:.0f} %"]
    cells += [f"{100 * plain['share_of_ceiling']:.0f} %", f"{plain['peak_mib']:.0f}", f"{ours['peak_mib']:.0f}"]
    return f"| {' | '.join(cells)} |"


def about(options: argparse.Namespace, ceilings: dict[str, float]) -> dict[str, Any]:
    """Hardware, versions, commit."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    return {
        "date": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "amx": bool(torch.cpu._is_amx_tile_supported()),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "repeats": options.repeats,
        "commit": commit,
        "ceiling_gflops": {name: 1e-9 * rate for name, rate in ceilings.items()},
    }


def main() -> None:
    """Measure, and write the table as Markdown and JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--only", nargs="+", choices=GROUPS, default=list(GROUPS))
    add("--resolutions", type=int, nargs="+", default=sorted(PROGAN_BATCHES), choices=sorted(PROGAN_BATCHES))
    add("--images", type=int, default=4096, help="of an epoch of the autoencoders (default: %(default)s)")
    add("--repeats", type=int, default=5, help="(default: %(default)s)")
    add("--threads", type=int, help="default: torch's own choice")
    add("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of our side; plain is float32")
    add("--out", type=Path, help="path without suffix of the two files")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    ceilings = {"fp32": ceiling(torch.float32), "bf16": ceiling(torch.bfloat16)}
    facts = about(options, ceilings)
    peaks = ", ".join(f"{name} {rate:,.0f}" for name, rate in facts["ceiling_gflops"].items())
    lines = [
        "# Training steps: ours against the taught forms",
        "",
        f"`python benchmarks/bench_steps.py`, {facts['date']}, commit {facts['commit']}: {facts['threads']} threads, "
        f"{facts['cpu']}{' with AMX' if facts['amx'] else ''}, torch {facts['torch']}; medians of {facts['repeats']}, "
        f"interleaved. Ceiling in GFLOP/s: {peaks}.",
        "",
        "| step | ours in | plain, ms | ours, ms | ratio | spread, plain | ours | images/s | GFLOP/s | of ceiling "
        "| plain's | MiB, plain | ours |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    rows = []
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        for part in parts(options):
            measured = pool.submit(measure_group, part, ceilings).result()
            rows += measured
            lines += map(as_line, measured)
            print("\n".join(map(as_line, measured)), flush=True)
            if options.out is not None:  # after each, so that nothing is lost
                options.out.with_suffix(".md").write_text("\n".join([*lines, ""]), encoding="utf-8")
                options.out.with_suffix(".json").write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    with flushed_denormals():
        main()
