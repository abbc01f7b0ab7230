"""The pictures of a DCGAN on MNIST: ours against the program of the course text, after equal epochs.

    python benchmarks/dcgan_quality.py --data mnist/ --classifier runs/classifier --epochs 5 --seeds 0 1

"Plain" is `PlainDCGAN` of bench_classic_gans.py: the text's networks with PyTorch's initial weights, its loss and its
loop. "Ours, taught weights" is the recipe with these initial weights, "ours" with those of the paper, N(0, 0.02). All
see the same 60,000 images in batches of 128, the last one of an epoch smaller. After every epoch 10,000 samples of the
generator in evaluation mode are judged by a classifier (a run directory of examples/classifier_mnist.py): its mean
confidence, the classes it finds, and the Frechet distance of its features from those of the 10,000 test images.
"""

import argparse
import dataclasses
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from bench_classic_gans import PlainDCGAN
from torch import Tensor

from ganblocks._modes import evaluation_mode
from ganblocks.data import idx_images, read_images
from ganblocks.functional.image_range import from_uint8
from ganblocks.metrics import evaluate
from ganblocks.metrics.extractors import classifier_extractor
from ganblocks.models.classifier import SmallClassifier
from ganblocks.models.dcgan import DCGANConfig, Discriminator, Generator
from ganblocks.models.registry import load_classifier
from ganblocks.training import Phase, Precision, StepContext, gan_recipes, predict_logits
from ganblocks.training.environment import flushed_denormals

BATCH, SAMPLES, PART = 128, 10_000, 500


@dataclasses.dataclass(frozen=True)
class Form:
    """One way to train: an update of both networks, and the generator that it leaves."""

    update: Callable[[Tensor], object]
    generator: torch.nn.Module
    latent_shape: tuple[int, ...]


def plain() -> Form:
    """The taught program."""
    step = PlainDCGAN()
    return Form(step, step.generator, (100, 1, 1))


def ours(config: DCGANConfig) -> Form:
    """The recipe of examples/dcgan_mnist.py."""
    generator = Generator(config)
    step = gan_recipes.dcgan_document().build_step(
        generator,
        Discriminator(config),
        latent_dim=config.latent_dim,
        precision=Precision.resolve("auto", torch.device("cpu")),
        log_probabilities=True,
    )
    seen = 0

    def update(reals: Tensor) -> None:
        nonlocal seen
        step(reals, None, StepContext(0, seen, Phase(BATCH, 2e-4, resolution=28)))
        seen += len(reals)

    return Form(update, generator, (config.latent_dim,))


FORMS: dict[str, Callable[[], Form]] = {
    "plain": plain,
    "ours, taught weights": lambda: ours(DCGANConfig.document_pytorch()),
    "ours": lambda: ours(DCGANConfig.radford2016()),
}


def judge(form: Form, classifier: SmallClassifier, test: Tensor) -> tuple[float, int, float]:
    """Confidence, classes found and Frechet distance of samples from fixed latents."""
    latents = torch.randn(SAMPLES, *form.latent_shape, generator=torch.Generator().manual_seed(4321))
    with torch.inference_mode(), evaluation_mode(form.generator):
        fakes = torch.cat([form.generator(part).float() for part in latents.split(PART)])
    certainty, classes = predict_logits(classifier, fakes).softmax(dim=1).max(dim=1)
    scores = evaluate(test, fakes.split(PART), ["fd"], extractor=classifier_extractor(classifier), seed=0)
    return certainty.mean().item(), len(classes.unique()), scores["frechet_distance"].value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with the four IDX files")
    add("--classifier", type=Path, required=True, help="run directory of examples/classifier_mnist.py")
    add("--epochs", type=int, default=5)
    add("--seeds", type=int, nargs="+", default=[0, 1])
    add("--threads", type=int, help="default: torch's own choice")
    add("--out", type=Path, help="where the table is written as Markdown")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    (images, _), (test, _) = (read_images(idx_images(options.data, part), 28) for part in ("train", "test"))
    classifier = load_classifier(options.classifier)
    lines = [
        "# DCGAN on MNIST: samples after equal epochs",
        "",
        f"`python benchmarks/dcgan_quality.py`, {time.strftime('%Y-%m-%d')}: {platform.machine()}, torch "
        f"{torch.__version__}; {len(images):,} images, batches of {BATCH}, {SAMPLES:,} samples of each generator. "
        "Frechet distance on the features of a classifier, to the test images: lower is better.",
        "",
        "| form | seed | epoch | confidence | classes | Frechet distance |\n|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    last: dict[str, list[tuple[float, float]]] = {name: [] for name in FORMS}
    for seed in options.seeds:
        for name, build in FORMS.items():
            torch.manual_seed(seed)
            form = build()
            for epoch in range(1, options.epochs + 1):
                for places in torch.randperm(len(images)).split(BATCH):
                    form.update(from_uint8(images[places]))
                confidence, classes, distance = judge(form, classifier, test)
                lines.append(f"| {name} | {seed} | {epoch} | {confidence:.4f} | {classes} | {distance:.2f} |")
                print(lines[-1], flush=True)
            last[name].append((confidence, distance))
    lines += ["", f"After epoch {options.epochs}, over {len(options.seeds)} seed(s):", ""]
    for name, values in last.items():
        means = [statistics.mean(column) for column in zip(*values, strict=True)]
        lines.append(f"- {name}: confidence {means[0]:.4f}, Frechet distance {means[1]:.2f}")
    print("\n".join(lines[-len(FORMS) :]))
    if options.out is not None:
        options.out.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    with flushed_denormals():  # before PyTorch starts its threads
        main()
