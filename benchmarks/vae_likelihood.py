"""How likely a variational autoencoder holds MNIST to be: the protocol under which they are compared, as one command.

    OMP_NUM_THREADS=1 python benchmarks/vae_likelihood.py --mnist mnist/ --out runs/likelihood --minutes 60

The network with one stochastic layer of Burda et al. 2016 (784-200-200-50), images binarised anew each time they are
seen, batches of 100, Adam at a learning rate that falls; the number at the end is the bound on ``-log p(x)`` by 200
importance samples, over all test images, in nats. Lower is better; the paper has 86.76 after 3,280 passes in batches of
20 and by 5,000 samples. Its units are tanh (--activation tanh). SiLU, the learning rate and the divergence's weight,
which rises over the first fifth, were chosen on 10,000 training images kept aside, in runs of 25 passes over the rest.

Stopped (--minutes, Ctrl-C, SIGTERM) or finished, it leaves likelihood.md and curves.png in --out; the same command goes
on where it was.
"""

import argparse
import dataclasses
import json
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganblocks.data import TensorBatches, idx_images, read_images
from ganblocks.functional.image_range import intensities
from ganblocks.metrics.likelihood import active_units, importance_weighted_bound
from ganblocks.models.vae import VAE
from ganblocks.models.vae_config import VAEConfig
from ganblocks.training import Callback, Measurements, Summary, Trainer
from ganblocks.training.vae_recipes import likelihood_protocol
from ganblocks.training.vae_step import binarized, evaluate_vae

FEW_SAMPLES, FEW_IMAGES = 50, 1000  # of the curve


def log_p(model: VAE, images: Tensor, samples: int) -> float:
    """The bound on the mean of ``log p(x)``, by this many importance samples; binary images [N, 1, 28, 28]."""

    def proposal(part: Tensor) -> tuple[Tensor, Tensor]:
        mean, scale = model.posterior(part)
        return mean, model.drawn_log_var(scale)

    def log_likelihood(part: Tensor, latents: Tensor) -> Tensor:
        return model.log_likelihood(part, model.logits(latents))

    return importance_weighted_bound(images, proposal, log_likelihood, samples=samples).mean().item()


class TimeLimit(Callback):
    """Ends a run that has taken this long, as Ctrl-C would."""

    def __init__(self, minutes: float) -> None:
        self.minutes = minutes
        self.started = time.monotonic()

    def on_step(self, trainer: Trainer, previous: int) -> None:
        if time.monotonic() - self.started > 60 * self.minutes:
            trainer.request_stop()


def table(about: Mapping[str, Any], curve: list[dict[str, Any]]) -> str:
    """The result as Markdown."""
    lines = [f"| {name} | {value} |" for name, value in about.items()]
    rows = [
        f"| {record['images_seen'] / 60_000:.1f} | {record['val_loss']:.2f} | {record['val_kl']:.2f} | "
        f"{record['val_nll']:.2f} | {record['active_units']:.0f} |"
        for record in curve
    ]
    return "\n".join(
        [
            "# -log p(x) of MNIST under a variational autoencoder",
            "",
            f"`python benchmarks/vae_likelihood.py`, {time.strftime('%Y-%m-%d')}. In nats an image; lower is better.",
            "",
            "| what | value |\n|---|---|",
            *lines,
            "",
            f"On the way, {FEW_IMAGES:,} test images, {FEW_SAMPLES} importance samples:",
            "",
            "| passes | negative bound (ELBO) | KL | -log p(x) | active units of 50 |\n|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--mnist", type=Path, required=True, help="folder with the four IDX files")
    add("--out", type=Path, required=True, help="run directory")
    add("--epochs", type=int, default=400, help="passes of the schedule (default: %(default)s)")
    add("--activation", choices=("tanh", "relu", "elu", "silu"), default="silu")
    add("--learning-rate", type=float, help="the highest (default: the recipe's)")
    add("--minutes", type=float, default=60, help="of this call; the same command goes on (default: %(default)s)")
    add("--samples", type=int, default=200, help="of the number at the end (default: %(default)s; the paper 5000)")
    add("--threads", type=int, default=1)
    add("--seed", type=int, default=0)
    add("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("default")
    images, _ = read_images(idx_images(options.mnist), 28)
    test, _ = read_images(idx_images(options.mnist, "test"), 28)
    test_binary = binarized(intensities(test), torch.Generator().manual_seed(options.seed)).to(options.device)

    torch.manual_seed(options.seed)
    config = VAEConfig.burda2016().replace(activation=options.activation)
    model = VAE(config)
    model.start_at(intensities(images).mean(0))
    model.to(options.device)
    changes = {} if options.learning_rate is None else {"learning_rate": options.learning_rate}
    recipe = likelihood_protocol(epochs=options.epochs, **changes)
    schedule = recipe.schedule(len(images))

    def measure(trainer: Trainer) -> dict[str, float]:
        bound = evaluate_vae(model, test, binarize=True)
        nll = -log_p(model, test_binary[:FEW_IMAGES], FEW_SAMPLES)
        with torch.no_grad():
            active = int(active_units(model.encode(test_binary)).sum())
        return {**bound, "val_nll": nll, "active_units": active}

    points = sorted({epoch / options.epochs for epoch in (1, *range(5, options.epochs + 1, 5), options.epochs)})
    trainer = Trainer(
        recipe.build_step(model, dataset_images=len(images)),
        TensorBatches(images, seed=options.seed),
        schedule,
        run_dir=options.out,
        seed=options.seed,
        settings={"config": config.to_dict(), "recipe": dataclasses.asdict(recipe)},
        callbacks=[Measurements(measure, fractions=points, show=True), TimeLimit(options.minutes), Summary()],
        log_images=len(images) // 2,
        save_images=5 * len(images),
        resume="lenient",
    )
    result = trainer.fit()
    seconds = time.monotonic()
    bound = evaluate_vae(model, test, binarize=True)
    nll = -log_p(model, test_binary, options.samples)
    with torch.no_grad():
        active = int(active_units(model.encode(test_binary)).sum())
    about = {
        f"-log p(x) by {options.samples:,} importance samples, {len(test):,} test images": f"**{nll:.2f}**",
        "negative bound (ELBO)": f"{bound['val_loss']:.2f}",
        "of it, reconstruction and KL": f"{bound['val_reconstruction']:.2f} and {bound['val_kl']:.2f}",
        "active units": f"{active} of {config.latent_dim}",
        "passes over the 60,000 training images": f"{trainer.images_seen / len(images):.1f} of {options.epochs}",
        "finished": "yes" if result.finished else "no: the same command goes on",
        "network": f"784-200-200-50, {config.activation}",
        "training": f"batch {recipe.batch_size}, Adam, highest learning rate {recipe.learning_rate}",
        "this call": f"{result.seconds / 60:.0f} min of training, {time.monotonic() - seconds:.0f} s of measuring",
        "seed, threads, torch": f"{options.seed}, {options.threads}, {torch.__version__}",
    }
    assert trainer.log is not None
    curve = [record for record in trainer.log.read() if "val_nll" in record]
    text = table(about, curve)
    (options.out / "likelihood.md").write_text(text, encoding="utf-8")
    print(text)
    print(json.dumps({"nll": nll, "elbo": -bound["val_loss"], "active_units": active, "finished": result.finished}))
    return result.exit_code


if __name__ == "__main__":
    sys.exit(main())
