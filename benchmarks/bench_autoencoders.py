"""One epoch of each autoencoder example: ours against the loop that one writes first, interleaved in one run.

    OMP_NUM_THREADS=1 python benchmarks/bench_autoencoders.py --data mnist/
    OMP_NUM_THREADS=1 python benchmarks/bench_autoencoders.py --data fashion_mnist/ --images 10000 --repeats 9

"Plain" is a `Dataset` that does what the data sets of torchvision do: a PIL picture of one image, `ToTensor` (and the
noise) as its transform; with `--transform tensor` the leaner form without PIL. A `DataLoader` in this process,
`torch.optim.Adam` as it comes, and `.item()` in every step for the mean loss that is printed. "Ours" is `Trainer.fit`
with the step of the example's recipe, images in memory as one tensor of bytes, and a hundred looks at the loss. It
flushes denormals, as every run of the library does. Networks and batch sizes are the same, and losses up to a factor.
An epoch of E05 is one of its first autoencoder and one of its classifier.

Epochs are timed in turn, plain, ours, plain, ours ...; the table gives medians and the ratio of medians. Nothing else
should run on the machine.
"""

import argparse
import dataclasses
import itertools
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from ganblocks.data import TensorBatches, idx_images, read_images
from ganblocks.functional.image_range import intensities
from ganblocks.models.autoencoder import AutoencoderConfig, ConvDenoiser, ConvDenoiserConfig, DenseAutoencoder
from ganblocks.models.stacked import StackedClassifier, StackedClassifierConfig, autoencoder_configs
from ganblocks.models.vae import VAE, VAEConfig
from ganblocks.training import Precision, Step, Trainer, autoencoder_recipes, stacked_recipes, vae_recipes
from ganblocks.training.pretraining import Prepare
from ganblocks.training.schedule import Schedule


class PlainImages(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """One image at a time: given, wanted, label."""

    def __init__(self, images: Tensor, labels: Tensor, transform: str, noise: float = 0.0) -> None:
        self.images, self.labels, self.noise = images.squeeze(1).numpy(), labels.numpy(), noise
        self.to_tensor = transforms.ToTensor() if transform == "torchvision" else None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        if self.to_tensor is not None:
            image = self.to_tensor(Image.fromarray(self.images[index]))
        else:
            image = torch.from_numpy(self.images[index]).float().unsqueeze(0) / 255
        given = (image + self.noise * torch.randn_like(image)).clamp(0, 1) if self.noise else image
        return given, image, torch.tensor(self.labels[index])


def plain_epoch(
    network: nn.Module, loss: Callable[[Tensor, Tensor, Tensor], Tensor], data: PlainImages, batch_size: int
) -> None:
    """The loop of a first draft; ``loss`` maps (given, wanted, labels) to a scalar."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    total = 0.0
    for given, wanted, labels in DataLoader(data, batch_size=batch_size, shuffle=True):
        optimizer.zero_grad()
        value = loss(given, wanted, labels)
        value.backward()
        optimizer.step()
        total += value.item() * len(given)
    assert total / len(data) > 0


def our_epoch(step: Step, images: Tensor, labels: Tensor | None, schedule: Schedule) -> None:
    """What the examples do, without a run directory: nothing is written on either side."""
    Trainer(step, TensorBatches(images, labels), schedule, log_images=max(1, len(images) // 100)).fit()


def plain_dense() -> nn.Sequential:
    """784-64-784."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 784), nn.Sigmoid(), nn.Unflatten(1, (1, 28, 28))
    )


def plain_denoiser() -> nn.Sequential:
    """The same layers, with PyTorch's own padding."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(16, 8, 3, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 8, 3, 2, 1, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 16, 3, 2, 1, 1),
        nn.ReLU(),
        nn.Conv2d(16, 1, 3, 1, 1),
        nn.Sigmoid(),
    )


def plain_stack(*widths: int) -> nn.Sequential:
    """Dense layers with ReLU between them."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class PlainVAE(nn.Module):
    """784-64-2."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(784, 64)
        self.mean = nn.Linear(64, 2)
        self.log_var = nn.Linear(64, 2)
        self.decoder = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 784), nn.Sigmoid())

    def loss(self, images: Tensor) -> Tensor:
        images = images.flatten(1)
        hidden = F.relu(self.hidden(images))
        mean, log_var = self.mean(hidden), self.log_var(hidden)
        latents = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        reconstruction = F.binary_cross_entropy(self.decoder(latents), images, reduction="sum")
        kl = -0.5 * torch.sum(1 + log_var - mean.pow(2) - log_var.exp())
        return (reconstruction + kl) / len(images)


@dataclasses.dataclass(frozen=True)
class Case:
    """Two ways to spend an epoch on the same images."""

    name: str
    batch_size: int
    plain: Callable[[], None]
    ours: Callable[[], None]
    precision: str = "fp32"


def cases(images: Tensor, labels: Tensor, precision: Precision, transform: str) -> list[Case]:
    """The four examples; ``precision`` is that of the convolutions."""
    N = len(images)
    data, noisy = PlainImages(images, labels, transform), PlainImages(images, labels, transform, noise=0.2)

    def mean_square(network: nn.Module) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        return lambda given, wanted, labels: F.mse_loss(network(given), wanted)

    def plain_e05() -> None:
        decoder = plain_stack(128, 784)
        network = nn.Sequential(plain_stack(784, 128), nn.ReLU(), decoder, nn.Sigmoid(), nn.Unflatten(1, (1, 28, 28)))
        plain_epoch(network, mean_square(network), data, 128)
        classifier = plain_stack(784, 128, 64, 32, 16, 10)
        plain_epoch(classifier, lambda given, wanted, labels: F.cross_entropy(classifier(given), labels), data, 128)

    def ours_e05() -> None:
        recipe = stacked_recipes.stacked_document(stacking="greedy", pretrain_epochs=1, epochs=1)
        config = StackedClassifierConfig(normalized=False)  # as the plain one
        prepare: Prepare = intensities
        autoencoder = DenseAutoencoder(autoencoder_configs(config)[0])
        step = recipe.build_autoencoder_step(autoencoder, prepare=prepare)
        our_epoch(step, images, None, recipe.pretraining_schedule(N))
        our_epoch(recipe.build_step(StackedClassifier(config)), images, labels, recipe.schedule(N))

    def plain_e06() -> None:
        network = PlainVAE()
        plain_epoch(network, lambda given, wanted, labels: network.loss(given), data, 64)

    def ours_e06() -> None:
        recipe = vae_recipes.latent_plane(epochs=1)
        our_epoch(recipe.build_step(VAE(VAEConfig()), dataset_images=N), images, None, recipe.schedule(N))

    def plain_e01() -> None:
        network = plain_dense()
        plain_epoch(network, mean_square(network), data, 32)

    def ours_e01() -> None:
        recipe = autoencoder_recipes.document(epochs=1)
        our_epoch(recipe.build_step(DenseAutoencoder(AutoencoderConfig())), images, None, recipe.schedule(N))

    def plain_e02() -> None:
        network = plain_denoiser()
        plain_epoch(network, mean_square(network), noisy, 32)

    def ours_e02() -> None:
        recipe = autoencoder_recipes.document(epochs=1, noise="gaussian", noise_level=0.2)
        step = recipe.build_step(ConvDenoiser(ConvDenoiserConfig()), precision=precision)
        our_epoch(step, images, None, recipe.schedule(N))

    return [
        Case("E01 dense autoencoder", 32, plain_e01, ours_e01),
        Case("E02 denoising autoencoder", 32, plain_e02, ours_e02, precision.name),
        Case("E05 stacked autoencoder, classifier", 128, plain_e05, ours_e05),
        Case("E06 variational autoencoder", 64, plain_e06, ours_e06),
    ]


def compare(case: Case, repeats: int) -> tuple[float, float]:
    """Medians in seconds, plain and ours, in turn; a first round of each is not counted."""
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    for repeat in range(repeats + 1):
        for name, epoch in (("plain", case.plain), ("ours", case.ours)):
            torch.manual_seed(repeat)
            started = time.perf_counter()
            epoch()
            if repeat > 0:
                seconds[name].append(time.perf_counter() - started)
    return statistics.median(seconds["plain"]), statistics.median(seconds["ours"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with the four IDX files")
    add("--images", type=int, default=60_000, help="of an epoch (default: all)")
    add("--repeats", type=int, default=5)
    add("--threads", type=int, default=1)
    add("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of our convolutions")
    add("--transform", choices=("torchvision", "tensor"), default="torchvision", help="of the plain loop")
    add("--only", nargs="*", help="E01, E02, E05, E06")
    add("--out", type=Path, help="where the table is written as Markdown")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    images, labels = read_images(idx_images(options.data), 28)
    assert labels is not None
    images, labels = images[: options.images], labels[: options.images]
    lines = [
        "# Autoencoders: one epoch, ours against a plain loop",
        "",
        f"`python benchmarks/bench_autoencoders.py`, {time.strftime('%Y-%m-%d')}: {len(images):,} images of "
        f"{options.data.name}, {options.threads} thread(s), transform {options.transform}, "
        f"{platform.processor() or platform.machine()}, torch "
        f"{torch.__version__}; medians of {options.repeats}, interleaved.",
        "",
        "| example | batch | precision | plain, s | ours, s | ratio |\n|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    precision = Precision.resolve(options.precision, torch.device("cpu"))
    for case in cases(images, labels, precision, options.transform):
        if options.only and case.name[:3] not in options.only:
            continue
        plain, ours = compare(case, options.repeats)
        row = f"| {case.name} | {case.batch_size} | {case.precision} | {plain:.2f} | {ours:.2f} | {plain / ours:.2f} |"
        lines.append(row)
        print(row, flush=True)
    if options.out is not None:
        options.out.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
