"""One training step of a DCGAN and of a WGAN-GP: ours against the forms in which they are taught, interleaved.

    python benchmarks/bench_classic_gans.py                       # DCGAN at batch 128, WGAN-GP at 128 px and batch 8
    python benchmarks/bench_classic_gans.py --only dcgan --repeats 15 --threads 2

"Plain" is the program of the course texts, in PyTorch: a sigmoid and the cross-entropy of probabilities, one loss
after the other, `torch.optim.Adam` as it comes and `.item()` in every step; for WGAN-GP five critic updates with
`torch.autograd.grad(create_graph=True)`, then one of the generator, through a critic whose weights collect gradients
too. "Ours" is the step of the recipe with the precision that suits the machine (`--precision auto`: bfloat16 where it
is fast). Both sides have the same layers and batch. A WGAN-GP step is five critic updates and one of the generator.

Steps are timed in turn, plain, ours, plain, ours ...; the table gives medians and the ratio of medians. Nothing else
should run on the machine.
"""

import argparse
import dataclasses
import functools
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ganblocks.models import dcgan, wgan_gp
from ganblocks.training import Phase, Precision, StepContext, gan_recipes
from ganblocks.training.adversarial_step import AdversarialStep


@dataclasses.dataclass(frozen=True)
class Case:
    """Two ways to make the same step."""

    name: str
    plain: Callable[[], None]
    ours: Callable[[], None]


class PlainDCGAN:
    """The networks of the course text and their step, as taught."""

    def __init__(self) -> None:
        self.generator = nn.Sequential(
            nn.ConvTranspose2d(100, 128, 7, 1, 0, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(True),
            nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(True),
            nn.ConvTranspose2d(64, 1, 4, 2, 1, bias=False),
            nn.Tanh(),
        )
        self.discriminator = nn.Sequential(
            nn.Conv2d(1, 64, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(64, 128, 4, 2, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(128, 1, 7, 1, 0, bias=False),
            nn.Sigmoid(),
        )
        self.criterion = nn.BCELoss()
        self.optimizer_g, self.optimizer_d = (
            torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999))
            for network in (self.generator, self.discriminator)
        )

    def __call__(self, reals: Tensor) -> None:
        """One update of each network; every number of the log is fetched, as there."""
        N = len(reals)
        self.discriminator.zero_grad()
        output = self.discriminator(reals).view(-1)
        error_real = self.criterion(output, torch.ones(N))
        error_real.backward()
        mean_real = output.mean().item()
        fake = self.generator(torch.randn(N, 100, 1, 1))
        output = self.discriminator(fake.detach()).view(-1)
        error_fake = self.criterion(output, torch.zeros(N))
        error_fake.backward()
        mean_fake = output.mean().item()
        self.optimizer_d.step()
        self.generator.zero_grad()
        output = self.discriminator(fake).view(-1)
        error = self.criterion(output, torch.ones(N))
        error.backward()
        self.optimizer_g.step()
        assert mean_real + mean_fake + output.mean().item() + error.item() + (error_real + error_fake).item() > 0


def plain_wgan_gp(reals: Tensor, *, dropout: float) -> Callable[[], None]:
    """Five critic updates and one of the generator, as taught."""
    layers: list[nn.Module] = []
    width = 3
    for wider in (64, 128, 256, 512, 1024):
        layers += [nn.Conv2d(width, wider, 4, 2, 1), nn.LeakyReLU(0.2)]
        layers += [nn.Dropout(dropout)] if width > 3 else []
        width = wider
    critic = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16_384, 1))
    layers = [nn.Linear(128, 65_536), nn.LeakyReLU(0.2), nn.Unflatten(1, (1024, 8, 8))]
    for narrower in (512, 256, 128, 64):
        layers += [nn.ConvTranspose2d(width, narrower, 4, 2, 1), nn.BatchNorm2d(narrower), nn.LeakyReLU(0.2)]
        width = narrower
    generator = nn.Sequential(*layers, nn.ConvTranspose2d(64, 3, 3, 1, 1), nn.Tanh())
    optimizers = [torch.optim.Adam(n.parameters(), lr=2e-4, betas=(0.5, 0.9)) for n in (generator, critic)]
    N = len(reals)

    def step() -> None:
        for _ in range(5):
            fake = generator(torch.randn(N, 128))
            weight = torch.rand(N, 1, 1, 1)
            mixed = (reals + weight * (fake.detach() - reals)).requires_grad_(True)
            score = critic(mixed)
            (gradient,) = torch.autograd.grad(score, mixed, torch.ones_like(score), create_graph=True)
            penalty = ((gradient.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
            wasserstein = critic(fake.detach()).mean() - critic(reals).mean()
            loss = wasserstein + 10 * penalty
            optimizers[1].zero_grad()
            loss.backward()
            optimizers[1].step()
            assert loss.item() + wasserstein.item() + penalty.item() < 1e9
        optimizers[0].zero_grad()
        loss = -critic(generator(torch.randn(N, 128))).mean()
        loss.backward()
        optimizers[0].step()
        assert loss.item() < 1e9

    return step


def ours(step: AdversarialStep, reals: Tensor, calls: int) -> Callable[[], None]:
    """So many calls make one step."""
    phase = Phase(len(reals), 2e-4, resolution=reals.shape[-1])
    seen = 0

    def run() -> None:
        nonlocal seen
        for _ in range(calls):
            step(reals, None, StepContext(0, seen, phase))
            seen += len(reals)

    return run


def cases(precision: Precision, batch: int, dropout: float) -> list[Case]:
    """Both experiments."""
    torch.manual_seed(0)
    digits, scans = torch.rand(128, 1, 28, 28) * 2 - 1, torch.rand(batch, 3, 128, 128) * 2 - 1
    small = dcgan.DCGANConfig.radford2016()
    dcgan_step = gan_recipes.dcgan_document().build_step(
        dcgan.Generator(small), dcgan.Discriminator(small), latent_dim=100, precision=precision, log_probabilities=True
    )
    large = wgan_gp.WGANGPConfig.document(dropout=dropout)
    wgan_step = gan_recipes.gulrajani2017(batch_size=batch).build_step(
        wgan_gp.Generator(large), wgan_gp.Critic(large), latent_dim=128, precision=precision
    )
    return [
        Case("DCGAN, 28 px, batch 128", functools.partial(PlainDCGAN(), digits), ours(dcgan_step, digits, 1)),
        Case(
            f"WGAN-GP, 128 px, batch {batch}, dropout {dropout}",
            plain_wgan_gp(scans, dropout=dropout),
            ours(wgan_step, scans, 5),
        ),
    ]


def compare(case: Case, repeats: int) -> tuple[float, float]:
    """Medians in seconds, plain and ours, in turn; a first round of each is not counted."""
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    for repeat in range(repeats + 1):
        for name, step in (("plain", case.plain), ("ours", case.ours)):
            started = time.perf_counter()
            step()
            if repeat > 0:
                seconds[name].append(time.perf_counter() - started)
    return statistics.median(seconds["plain"]), statistics.median(seconds["ours"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--repeats", type=int, default=9)
    add("--threads", type=int, help="default: torch's own choice")
    add("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of our side; plain is float32")
    add("--batch", type=int, default=8, help="of the WGAN-GP (default: %(default)s)")
    add("--dropout", type=float, default=0.3, help="of both critics (default: %(default)s)")
    add("--only", nargs="*", choices=("dcgan", "wgan-gp"))
    add("--out", type=Path, help="where the table is written as Markdown")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    precision = Precision.resolve(options.precision, torch.device("cpu"))
    lines = [
        "# Classic GANs: one step, ours against the taught form",
        "",
        f"`python benchmarks/bench_classic_gans.py`, {time.strftime('%Y-%m-%d')}: {torch.get_num_threads()} thread(s), "
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, ours in {precision.name}; "
        f"medians of {options.repeats}, interleaved.",
        "",
        "| step | plain, ms | ours, ms | ratio |\n|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for case in cases(precision, options.batch, options.dropout):
        if options.only and case.name.split(",")[0].lower() not in options.only:
            continue
        plain, mine = compare(case, options.repeats)
        lines.append(f"| {case.name} | {1000 * plain:.0f} | {1000 * mine:.0f} | {plain / mine:.2f} |")
        print(lines[-1], flush=True)
    if options.out is not None:
        options.out.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
