"""What several processes gain on one machine, at the same global batch: images a second, and the share of the exchange.

    python benchmarks/bench_scaling.py                    # 1 and 2 processes of one thread each
    python benchmarks/bench_scaling.py --processes 1 2 4 --rounds 5

Each round starts the processes anew, one number of them after the other, and times some steps of each network after
two that are not counted: the table gives medians over the rounds. "Exchange" is the time in which a process averages
gradients, waiting for the slower ones included. Nothing else should run on the machine.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganblocks.models import dcgan, progan, wgan_gp
from ganblocks.training import (
    Phase,
    Precision,
    Replicas,
    StepContext,
    gan_recipes,
    joined_processes,
    recipes,
)

STEPS, WARMUP = 6, 2


class Timed(Replicas):
    """Adds up the time of exchanges."""

    seconds = 0.0

    def average_gradients(self, parameters: Any, loss: Tensor) -> Tensor:
        """As `Replicas.average_gradients`."""
        start = time.perf_counter()
        result = super().average_gradients(parameters, loss)
        self.seconds += time.perf_counter() - start
        return result


def of_dcgan() -> tuple[Any, int, tuple[int, ...], int | None]:
    """E08: DCGAN on 28 px, batch 128."""
    config = dcgan.DCGANConfig()
    networks = dcgan.Generator(config), dcgan.Discriminator(config)
    step = gan_recipes.radford2016().build_step(*networks, latent_dim=100, precision=cpu())
    return step, 128, (1, 28, 28), None


def of_wgan_gp() -> tuple[Any, int, tuple[int, ...], int | None]:
    """WGAN-GP at 64 px, batch 8, one critic update and one of the generator."""
    config = wgan_gp.WGANGPConfig(resolution=64)
    networks = wgan_gp.Generator(config), wgan_gp.Critic(config)
    step = gan_recipes.gulrajani2017(n_critic=1).build_step(*networks, latent_dim=128, precision=cpu())
    return step, 8, (3, 64, 64), None


def of_progan() -> tuple[Any, int, tuple[int, ...], int | None]:
    """ProGAN in the fade to 16 px, 128 channels, batch 32."""
    config = progan.ProGANConfig.karras2018(16, latent_dim=128, max_channels=128, base_channels=2048)
    networks = progan.Generator(config), progan.Discriminator(config)
    step = recipes.karras2018().build_step(*networks, latent_dim=128, precision=cpu())
    return step, 32, (3, 16, 16), 16


def cpu() -> Precision:
    """float32."""
    return Precision("fp32", torch.device("cpu"))


NETWORKS: dict[str, Callable[[], tuple[Any, int, tuple[int, ...], int | None]]] = {
    "DCGAN, 28 px, batch 128": of_dcgan,
    "WGAN-GP, 64 px, batch 8": of_wgan_gp,
    "ProGAN, 16 px, batch 32": of_progan,
}


def work() -> None:
    """What one process does: every network; the first one prints what it measured."""
    torch.set_num_threads(1)
    found = {}
    with joined_processes() as joined:
        replicas = Timed(joined.rank, joined.count)
        for name, make in NETWORKS.items():
            torch.manual_seed(0)
            step, batch, shape, resolution = make()
            local = batch // replicas.count
            images = torch.rand((local, *shape)) * 2 - 1
            phase = Phase(batch, 1e-4, resolution=resolution, alpha=0.5 if resolution else 1.0)
            for number in range(WARMUP + STEPS):
                if number == WARMUP:
                    replicas.agree(0)
                    replicas.seconds, start = 0.0, time.perf_counter()
                step(images, None, StepContext(0, number, phase, replicas, replicas.rank, replicas.count))
            replicas.agree(0)
            seconds = time.perf_counter() - start
            modules = (step.generator, step.discriminator)
            found[name] = {
                "images_per_second": batch * STEPS / seconds,
                "exchange": replicas.seconds / seconds,
                "parameters": sum(p.numel() for module in modules for p in module.parameters()),
            }
        print(json.dumps(found))


def launch(count: int) -> dict[str, dict[str, float]]:
    """Start so many processes and read what the first one prints."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "--worker"],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    outputs = [process.communicate()[0] for process in processes]
    result: dict[str, dict[str, float]] = json.loads(outputs[0])
    return result


def main() -> None:
    """Measure, print the table, and write it as JSON."""
    parser = argparse.ArgumentParser(description="What several processes gain on one machine.")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work()
        return
    rounds = [{count: launch(count) for count in options.processes} for _ in range(options.rounds)]
    print(f"torch {torch.__version__}, {options.rounds} rounds of {STEPS} steps, one thread a process")
    print("| network | processes | images a second | over one | exchange |\n|---|---|---|---|---|")
    rows = []
    for name in NETWORKS:
        for count in options.processes:
            rate, share = (
                statistics.median(one[count][name][key] for one in rounds) for key in ("images_per_second", "exchange")
            )
            first = statistics.median(one[options.processes[0]][name]["images_per_second"] for one in rounds)
            print(f"| {name} | {count} | {rate:.1f} | {rate / first:.2f} | {share:.1%} |")
            rows.append({"network": name, "processes": count, "images_per_second": rate, "exchange": share})
    if options.json:
        options.json.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
