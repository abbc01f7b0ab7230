"""What safety costs: the guard against non-finite updates, and a checkpoint every 500 steps.

    python benchmarks/bench_reliability.py                       # the ProGAN for 64 px, at 16 px, minutes
    python benchmarks/bench_reliability.py --max-channels 512 --device cuda

Prints a table. Steps with and without the guard are interleaved in one run; the share of a checkpoint is its time over
that of 500 steps. Run it on a machine that does nothing else.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from ganblocks.models.progan import Discriminator, Generator, ProGANConfig
from ganblocks.training import CheckpointStore, FiniteGuard, Phase, Precision, ProgressiveStep, StepContext, recipes
from ganblocks.training.guard import not_finite


class Unguarded(FiniteGuard):
    """The same update without looking."""

    def update(
        self, name: str, loss: Tensor, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, *, call: int
    ) -> None:
        """Gradients and an optimizer step, whatever they are."""
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(scaler.scale(loss))
        scaler.step(optimizer)


def build(options: argparse.Namespace, device: torch.device) -> ProgressiveStep:
    """The ProGAN of the paper, on its device."""
    config = ProGANConfig.karras2018(64, max_channels=options.max_channels, latent_dim=options.max_channels)
    torch.manual_seed(0)
    generator, discriminator = Generator(config).to(device), Discriminator(config).to(device)
    precision = Precision.resolve(options.precision, device)
    return recipes.karras2018().build_step(generator, discriminator, latent_dim=config.latent_dim, precision=precision)


def timed(step: ProgressiveStep, images: Tensor, call: int) -> float:
    """Seconds of one step, to its end on the device."""
    context = StepContext(0, call * len(images), Phase(len(images), 1e-3, resolution=images.shape[-1], stage=2))
    started = time.perf_counter()
    step(images, None, context)
    if images.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def timed_look(step: ProgressiveStep, device: torch.device) -> float:
    """Seconds of what the guard adds to a step: one look at the gradients of each network."""
    loss = torch.zeros((), device=device)
    started = time.perf_counter()
    for optimizer in (step.discriminator_optimizer, step.generator_optimizer):
        not_finite(loss, optimizer)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-channels", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--resolution", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=60, help="pairs of steps")
    parser.add_argument("--saves", type=int, default=7)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    side = options.resolution
    guarded, plain = build(options, device), build(options, device)
    plain.guard = Unguarded(("discriminator", "generator"))
    images = torch.randint(0, 256, (options.batch_size, 3, side, side), dtype=torch.uint8, device=device)

    ratios, seconds = [], []
    for call in range(options.repeats + 3):
        pair = [timed(step, images, call) for step in ((guarded, plain) if call % 2 else (plain, guarded))]
        with_guard, without = pair if call % 2 else pair[::-1]
        if call >= 3:
            ratios.append(with_guard / without)
            seconds.append(with_guard)
    assert guarded.skipped_updates() == 0
    looks = [timed_look(guarded, images.device) for _ in range(50)]

    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(Path(folder), keep_last=2)
        saves = []
        for index in range(options.saves):
            started = time.perf_counter()
            path = store.save({"step": guarded.state_dict()}, index)
            saves.append(time.perf_counter() - started)
        size = sum(file.stat().st_size for file in path.glob("*"))

    step, save = statistics.median(seconds), statistics.median(saves)
    low, _, high = statistics.quantiles(ratios, n=4)
    print(f"torch {torch.__version__}, {device}, {options.threads} threads, {guarded.precision.name}, 64 px model,")
    print(
        f"{options.max_channels} channels, at {side} px, batch {options.batch_size}; {options.repeats} pairs of steps\n"
    )
    print("| what | measured |")
    print("|---|---|")
    print(f"| a step | {1000 * step:.1f} ms |")
    print(f"| with guard / without | {statistics.median(ratios):.4f} (quartiles {low:.4f} to {high:.4f}) |")
    look = statistics.median(looks)
    print(f"| the guard's look at all gradients, alone | {1000 * look:.2f} ms, {100 * look / step:.2f} % of a step |")
    print(f"| a checkpoint of {size / 1e6:.1f} MB | {1000 * save:.0f} ms (largest {1000 * max(saves):.0f} ms) |")
    print(f"| one every 500 steps | {100 * save / (500 * step):.2f} % of the time |")


if __name__ == "__main__":
    main()
