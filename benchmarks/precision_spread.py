"""Does bfloat16 train as well as float32? The same short ProGAN runs in both, against the spread between seeds.

    python benchmarks/precision_spread.py                    # drawn faces, 16 px, 4 seeds each
    python benchmarks/precision_spread.py --seeds 8 --images 20000

Each seed is trained once in each precision, with the same initial weights, latents and order of images. Reported is the
sliced Wasserstein distance of 2,048 averaged-generator samples to held-out images, at the end. The question is whether
the mean difference between precisions is small against the standard deviation over seeds in float32.
"""

import argparse
import json
import statistics
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from ganblocks.data import MultiResolutionImages, ProgressiveBatches
from ganblocks.data.synthetic import Faces
from ganblocks.functional import from_uint8
from ganblocks.metrics import sliced_wasserstein_distance
from ganblocks.models.progan import Discriminator, Generator, ProGANConfig
from ganblocks.training import Precision, Trainer, recipes

HELD_OUT = 2048


def run(images: MultiResolutionImages, seed: int, precision: str, options: argparse.Namespace) -> float:
    """Train one network to 16 px; its final distance."""
    torch.manual_seed(seed)
    config = ProGANConfig.karras2018(16, latent_dim=options.channels, max_channels=options.channels)
    recipe = recipes.karras2018(batch_sizes=dict.fromkeys((4, 8, 16), 16), ema_half_life_images=options.images / 40)
    generator = Generator(config)
    step = recipe.build_step(
        generator,
        Discriminator(config),
        latent_dim=config.latent_dim,
        precision=Precision.resolve(precision, "cpu"),  # type: ignore[arg-type]
    )
    training = np.arange(HELD_OUT, len(images))
    Trainer(
        step,
        ProgressiveBatches(images, indices=training, seed=seed),
        recipe.schedule(16, stage_images=[options.images] * 3),
        seed=seed,
    ).fit()
    assert step.ema is not None
    averaged = step.ema.module
    assert isinstance(averaged, Generator)
    reals = from_uint8(images.batch(np.arange(HELD_OUT), 16))
    return sliced_wasserstein_distance(reals, averaged.sample(HELD_OUT, seed=1, resolution=16), seed=1)


def main() -> None:
    """Train, and print a row for each seed and the verdict's two numbers."""
    parser = argparse.ArgumentParser(description="bfloat16 against float32 over seeds.")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--images", type=int, default=8000, help="images of each of the three stages")
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    images = MultiResolutionImages(Faces(HELD_OUT + 4096), resolution=16)
    distances: dict[str, list[float]] = {"fp32": [], "bf16": []}
    print("| seed | fp32 | bf16 |\n|---|---|---|")
    for seed in range(options.seeds):
        for precision, values in distances.items():
            values.append(run(images, seed, precision, options))
        print(f"| {seed} | {distances['fp32'][-1]:.4f} | {distances['bf16'][-1]:.4f} |", flush=True)
    means = {name: statistics.mean(values) for name, values in distances.items()}
    spread = statistics.stdev(distances["fp32"])
    print(f"mean {means['fp32']:.4f} (fp32) and {means['bf16']:.4f} (bf16), spread between seeds {spread:.4f}")
    if options.json:
        document = {
            "torch": torch.__version__,
            "amx": bool(torch.cpu._is_amx_tile_supported()),
            "date": time.strftime("%Y-%m-%d"),
            "settings": {key: value for key, value in vars(options).items() if key != "json"},
            "distances": distances,
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
