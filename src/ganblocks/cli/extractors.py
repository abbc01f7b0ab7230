"""Which network makes the features, as it is said on the command line: ``random``, or ``kind=FILE``."""

import functools
from collections.abc import Callable
from pathlib import Path

import torch

from ganblocks.metrics.extractors import (
    classifier_extractor,
    inception_extractor,
    random_extractor,
    torchvision_extractor,
)
from ganblocks.metrics.features import FeatureExtractor
from ganblocks.models.registry import load_classifier
from ganblocks.training.saved_weights import read_foreign_weights

__all__ = ["EXTRACTOR_HELP", "open_extractor"]

EXTRACTOR_HELP = (
    "what makes the features: random (a fixed random network, needs no file), inception=FILE (published FID, with the "
    "weights of torch-fidelity), inception-clean=FILE, vgg16=FILE, resnet50=FILE (torchvision's ImageNet weights), "
    "classifier=RUN or FILE (of examples/classifier_mnist.py). FILE: .safetensors, or what torch.save wrote"
)

_WITH_WEIGHTS: dict[str, Callable[..., FeatureExtractor]] = {
    "inception": inception_extractor,
    "inception-clean": functools.partial(inception_extractor, clean=True),
    "vgg16": functools.partial(torchvision_extractor, "vgg16"),
    "resnet50": functools.partial(torchvision_extractor, "resnet50"),
}


def open_extractor(text: str, *, image_channels: int, device: torch.device) -> FeatureExtractor:
    """The extractor that a text names.

    Args:
        text: As `EXTRACTOR_HELP` says.
        image_channels: Of the images, for the random network.
        device: Where it runs.

    Raises:
        ValueError: An unknown kind, or a file is missing or too many.
        CheckpointError: The file cannot be read.
        SecurityError: It asks for more than tensors.
        MetricError: Its weights are of another network.
        ImportError: The library that has the network is not installed; names the command that installs it.
    """
    kind, _, file = text.partition("=")
    kinds = ["random", *(f"{name}=FILE" for name in _WITH_WEIGHTS), "classifier=RUN"]
    if kind == "random" and not file:
        return random_extractor(image_channels, device=device)
    if kind == "classifier" and file:
        return classifier_extractor(load_classifier(Path(file)), device=device)
    if kind in _WITH_WEIGHTS and file:
        path = Path(file)
        weights = path if path.suffix == ".safetensors" else read_foreign_weights(path)[1]
        return _WITH_WEIGHTS[kind](weights=weights, device=device)
    raise ValueError(f"--extractor is {text!r}, but must be one of {', '.join(kinds)}")
