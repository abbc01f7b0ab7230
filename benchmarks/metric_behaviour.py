"""Do the metrics move the way they should? MNIST against itself, spoiled step by step, as one table.

    python benchmarks/metric_behaviour.py --mnist mnist/ --fashion fashion_mnist/ --classifier runs/mnist_classifier

Real are training images, fake are test images after each treatment, held out are other training images. The features
are those of a classifier trained by ``examples/classifier_mnist.py``. The tables below say which score has to move in
which direction; the exit code is 1 if one does not.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ganblocks.data.idx import idx_images
from ganblocks.errors import SmallSampleWarning
from ganblocks.metrics import FeatureExtractor, classifier_extractor, evaluate
from ganblocks.models.registry import load_classifier

COLUMNS = {
    "frechet_distance": "FD",
    "kernel_distance": "KD x 1000",
    "inception_score": "IS",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "swd_28": "SWD 28 px",
    "ms_ssim": "MS-SSIM",
    "memorisation_pixels": "memorisation (pixels)",
    "memorisation_features": "memorisation (features)",
}
OPTIONS = {"swd": {"patches_per_image": 16, "num_directions": 128}, "is": {"splits": 5}, "ms_ssim": {"num_pairs": 5000}}
UP = "up"
DOWN = "down"
# Group -> the direction in which a score must move from row to row, beginning with the untreated test images.
EACH_ROW: dict[str, dict[str, str]] = {
    "noise": {"frechet_distance": UP, "kernel_distance": UP, "coverage": DOWN, "swd_28": UP},
    "blur": {"frechet_distance": UP, "kernel_distance": UP, "coverage": DOWN, "swd_28": UP},
    "classes": {
        "frechet_distance": UP,
        "kernel_distance": UP,
        "inception_score": DOWN,
        "recall": DOWN,
        "coverage": DOWN,
    },
    "duplicates": {"frechet_distance": UP, "kernel_distance": UP, "coverage": DOWN},
    "copies": {"memorisation_pixels": DOWN, "memorisation_features": DOWN},
    "other data": {"frechet_distance": UP, "kernel_distance": UP, "precision": DOWN, "coverage": DOWN, "swd_28": UP},
}
# The same of its last row against the untreated images: a little blur or noise draws the features towards the middle of
# their class, where precision and density rise at first, and recall is 0 before the treatment is at its strongest.
LAST_ROW: dict[str, dict[str, str]] = {
    "noise": {"precision": DOWN, "recall": DOWN, "density": DOWN, "inception_score": DOWN},
    "blur": {"precision": DOWN, "recall": DOWN, "density": DOWN, "inception_score": DOWN},
    "classes": {"ms_ssim": UP},
    "duplicates": {"recall": DOWN, "ms_ssim": UP},
    "copies": {"frechet_distance": DOWN, "recall": UP, "coverage": UP},
}


def noisy(images: Tensor, sigma: float) -> Tensor:
    """Bytes with Gaussian noise of that standard deviation in levels."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + sigma * noise).round().clamp(0, 255).byte()


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Bytes after a Gaussian blur of that width in pixels, borders repeated."""
    reach = max(1, round(3 * sigma))
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    weights = weights / weights.sum()
    padded = torch.nn.functional.pad(images.float(), (reach,) * 4, mode="replicate")
    across = torch.nn.functional.conv2d(padded, weights.reshape(1, 1, 1, -1))
    return torch.nn.functional.conv2d(across, weights.reshape(1, 1, -1, 1)).round().clamp(0, 255).byte()


def treatments(test: Tensor, labels: Tensor, train: Tensor, fashion: Tensor) -> list[tuple[str, str, Tensor]]:
    """(group, name, images) of every row; the first is the reference of all groups."""
    count = len(test)
    rows: list[tuple[str, str, Tensor]] = [("", "test images", test)]
    rows += [("noise", f"noise, sigma {sigma} levels", noisy(test, sigma)) for sigma in (16, 48, 96)]
    rows += [("blur", f"blur, sigma {sigma} px", blurred(test, sigma)) for sigma in (0.5, 1.0, 2.0)]

    def of_classes(number: int) -> Tensor:
        chosen = test[labels < number]
        return chosen[torch.arange(count) % len(chosen)][:count] if len(chosen) > count else chosen

    rows += [("classes", f"digits 0 to {number - 1} only", of_classes(number)) for number in (8, 5, 2)]
    rows += [
        ("duplicates", f"{count // times:,} images, each {times} times", test[: count // times].repeat(times, 1, 1, 1))
        for times in (5, 25, 125)
    ]
    rows += [
        ("copies", f"{share} % replaced by training images", torch.cat([train[: count * share // 100], test])[:count])
        for share in (10, 50, 100)
    ]
    rows.append(("other data", "Fashion-MNIST test images", fashion))
    return rows


def in_direction(before: float, after: float, direction: str) -> bool:
    """Whether a score moved as it should."""
    return after > before if direction == UP else after < before


def measured(
    rows: list[tuple[str, str, Tensor]], real: Tensor, held_out: Tensor, extractor: FeatureExtractor, say: Callable
) -> list[dict[str, float]]:
    """The scores of every row."""
    found = []
    for _, name, fake in rows:
        started = time.monotonic()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SmallSampleWarning)
            scores = evaluate(
                real,
                fake,
                ("fd", "kid", "is", "prdc", "swd", "ms_ssim", "memorisation"),
                extractor=extractor,
                held_out=held_out,
                options=OPTIONS,
                batch_size=250,
            ).scores
        found.append({key: scores[key].value for key in COLUMNS})
        say(f"{name}: {time.monotonic() - started:.0f} s")
    return found


def table(rows: list[tuple[str, str, Tensor]], found: list[dict[str, float]]) -> tuple[str, int]:
    """Markdown, and how many values moved in the wrong direction (they are marked with !)."""
    lines = ["| fakes | n | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    wrong = 0
    for place, ((group, name, fake), values) in enumerate(zip(rows, found, strict=True)):
        first_of_group = rows[place - 1][0] != group
        last_of_group = place + 1 == len(rows) or rows[place + 1][0] != group
        cells = []
        for key, value in values.items():
            direction, before = EACH_ROW.get(group, {}).get(key), found[0 if first_of_group else place - 1][key]
            if direction is None and last_of_group:
                direction, before = LAST_ROW.get(group, {}).get(key), found[0][key]
            mark = ""
            if direction is not None:
                good = in_direction(before, value, direction)
                wrong += not good
                mark = (" ↑" if direction == UP else " ↓") if good else " !"
            cells.append(f"{1000 * value if key == 'kernel_distance' else value:.3g}{mark}")
        lines.append(f"| {name} | {len(fake):,} | " + " | ".join(cells) + " |")
    return "\n".join(lines), wrong


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mnist", type=Path, required=True, help="folder with the four IDX files")
    parser.add_argument("--fashion", type=Path, required=True, help="the same of Fashion-MNIST")
    parser.add_argument("--classifier", type=Path, required=True, help="run of examples/classifier_mnist.py on MNIST")
    parser.add_argument("--count", type=int, default=2000, help="images of each kind (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="Markdown file, also written as JSON beside it")
    options = parser.parse_args()

    def read(folder: Path, split: str) -> tuple[Tensor, Tensor]:
        source = idx_images(folder, split)
        images = torch.stack([torch.from_numpy(source.read(index, 28)) for index in range(len(source))])
        return images, torch.from_numpy(source.labels.copy())

    train, _ = read(options.mnist, "train")
    test, labels = read(options.mnist, "test")
    fashion, _ = read(options.fashion, "test")
    count = options.count
    extractor = classifier_extractor(load_classifier(options.classifier))
    real, held_out = train[:count], train[count : 2 * count]
    rows = treatments(test[:count], labels[:count], real, fashion[:count])
    found = measured(rows, real, held_out, extractor, lambda text: print(text, file=sys.stderr, flush=True))
    text, wrong = table(rows, found)
    print(text)
    if options.out:
        about = [
            "# Do the metrics move the way they should?",
            "",
            f"`python benchmarks/metric_behaviour.py`: {count:,} MNIST training images (real), as many test images",
            "after each treatment (fake), as many other training images (held out). An arrow marks a value that moved",
            "in the direction it should, an exclamation mark one that did not: distances and coverage against the row",
            "above in their group (its first row: against the test images), other scores in the last row of a group",
            "against the test images. Values without a mark may move either way. The classifier knows the training",
            "images, so their features, held-out ones too, lie nearer together than those of test images.",
            "",
            f"Features: {extractor.fingerprint}",
            "",
        ]
        options.out.write_text("\n".join([*about, text, ""]), encoding="utf-8")
    print(json.dumps({"wrong": wrong}), file=sys.stderr)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
