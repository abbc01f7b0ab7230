"""From what stands beside a checkpoint to the network that it belongs to.

The tables below are the one place where a model gets its name in files. Names are looked up in them, nothing is
imported by name: a file chooses among these models and can name nothing else.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import torch
from torch import Tensor, nn

from ganblocks._json import read_json
from ganblocks.errors import CheckpointError
from ganblocks.models import autoencoder, dcgan, infogan, progan, r3gan, stacked, style_transfer, vae, wgan_gp
from ganblocks.models.backbone_classifier import BackboneClassifier, BackboneClassifierConfig
from ganblocks.models.backbones import PooledClassifier, PooledClassifierConfig, VGGClassifier, VGGClassifierConfig
from ganblocks.models.classifier import ClassifierConfig, SmallClassifier
from ganblocks.models.config import ModelConfig
from ganblocks.models.painting_classifier import (
    PaintingCNN,
    PaintingCNNConfig,
    PaintingMLP,
    PaintingMLPConfig,
    TwoLayerPaintingCNN,
    TwoLayerPaintingCNNConfig,
)
from ganblocks.models.two_head_classifier import TwoHeadClassifier, TwoHeadClassifierConfig

__all__ = [
    "CLASSIFIERS",
    "GENERATORS",
    "MODELS",
    "Classifier",
    "classifier_from_metadata",
    "generator_from_metadata",
    "load_classifier",
    "model_from_metadata",
    "name_in_files",
]

Classifier = (
    SmallClassifier
    | BackboneClassifier
    | PaintingCNN
    | PaintingMLP
    | PooledClassifier
    | TwoHeadClassifier
    | TwoLayerPaintingCNN
    | VGGClassifier
)
"""All give logits, have ``features(images)`` and ``head``, and a ``config`` with ``num_classes``."""

_Network = TypeVar("_Network", bound=nn.Module)


def _two_heads(config: TwoHeadClassifierConfig) -> TwoHeadClassifier:
    inside = {"model": config.classifier, "config": config.classifier_config}
    if config.classifier == "two_head_classifier":  # one within the other would be no end
        raise ValueError("`classifier` is 'two_head_classifier', but must be one with a single head")
    return TwoHeadClassifier(classifier_from_metadata(inside), config.num_attributes, name=config.classifier)


GENERATORS: dict[str, tuple[type[ModelConfig], Callable[[Any], nn.Module]]] = {
    "progan": (progan.ProGANConfig, progan.Generator),
    "dcgan": (dcgan.DCGANConfig, dcgan.Generator),
    "infogan": (infogan.InfoGANConfig, infogan.Generator),
    "r3gan": (r3gan.R3GANConfig, r3gan.Generator),
    "wgan_gp": (wgan_gp.WGANGPConfig, wgan_gp.Generator),
}
CLASSIFIERS: dict[str, tuple[type[ModelConfig], Callable[[Any], Classifier]]] = {
    "classifier": (ClassifierConfig, SmallClassifier),
    "backbone_classifier": (BackboneClassifierConfig, BackboneClassifier),
    "painting_cnn": (PaintingCNNConfig, PaintingCNN),
    "painting_mlp": (PaintingMLPConfig, PaintingMLP),
    "pooled_classifier": (PooledClassifierConfig, PooledClassifier),
    "two_head_classifier": (TwoHeadClassifierConfig, _two_heads),
    "two_layer_painting_cnn": (TwoLayerPaintingCNNConfig, TwoLayerPaintingCNN),
    "vgg_classifier": (VGGClassifierConfig, VGGClassifier),
}
MODELS: dict[str, tuple[type[ModelConfig], Callable[[Any], nn.Module]]] = {
    **GENERATORS,
    **CLASSIFIERS,
    "conv_denoiser": (autoencoder.ConvDenoiserConfig, autoencoder.ConvDenoiser),
    "dcgan_discriminator": (dcgan.DCGANConfig, dcgan.Discriminator),
    "dense_autoencoder": (autoencoder.AutoencoderConfig, autoencoder.DenseAutoencoder),
    "infogan_discriminator": (infogan.InfoGANConfig, infogan.Discriminator),
    "progan_discriminator": (progan.ProGANConfig, progan.Discriminator),
    "r3gan_discriminator": (r3gan.R3GANConfig, r3gan.Discriminator),
    "stacked": (stacked.StackedClassifierConfig, stacked.StackedClassifier),
    "style_decoder": (style_transfer.StyleDecoderConfig, style_transfer.StyleDecoder),
    "transform_network": (style_transfer.TransformConfig, style_transfer.TransformNetwork),
    "vae": (vae.VAEConfig, vae.VAE),
    "wgan_gp_critic": (wgan_gp.WGANGPConfig, wgan_gp.Critic),
}
_NAMES: dict[object, str] = {build: name for name, (_, build) in MODELS.items()}
_NAMES[TwoHeadClassifier] = _NAMES.pop(_two_heads)

BEFORE_NAMES = "progan"  # the only model when checkpoints did not name theirs yet
CLASSIFIER_FILE = "classifier.safetensors"  # what a finished run of a classifier leaves in its directory


def generator_from_metadata(metadata: Mapping[str, Any]) -> nn.Module:
    """Build the generator that a checkpoint or an exported file describes, with fresh weights.

    Args:
        metadata: ``"model"``, a name of `GENERATORS` (without it: ``"progan"``), and ``"config"``, the fields of its
            configuration. Other keys do not matter.

    Returns:
        The generator, in training mode, on torch's default device. Under ``torch.device("meta")`` it takes no memory.

    Raises:
        CheckpointError: If there is no configuration, the model is unknown, or the two do not fit.
    """
    return _build(GENERATORS, metadata.get("model", BEFORE_NAMES), metadata, "generator")


def classifier_from_metadata(metadata: Mapping[str, Any]) -> Classifier:
    """Build the classifier that a checkpoint or an exported file describes, with fresh weights.

    Args:
        metadata: ``"model"``, a name of `CLASSIFIERS`, and ``"config"``, the fields of its configuration. Other keys do
            not matter.

    Returns:
        The classifier, in training mode, on torch's default device. Under ``torch.device("meta")`` it takes no memory,
        but for the constants that no state dict holds; a backbone of torchvision's RegNets takes its own for a moment.

    Raises:
        CheckpointError: If there is no configuration, the model is unknown, or the two do not fit.
        ImportError: If its backbone is of torchvision or timm, and that is missing.
    """
    return _build(CLASSIFIERS, metadata.get("model"), metadata, "classifier")


def model_from_metadata(metadata: Mapping[str, Any]) -> nn.Module:
    """Build any model of this library by its name and its configuration, with fresh weights.

    Args:
        metadata: ``"model"``, a name of `MODELS`, and ``"config"``, the fields of its configuration. Other keys do not
            matter.

    Returns:
        The model, in training mode, on torch's default device; on the meta device as `classifier_from_metadata` says.

    Raises:
        CheckpointError: If there is no configuration, the model is unknown, or the two do not fit.
        ImportError: If its backbone is of torchvision or timm, and that is missing.
    """
    return _build(MODELS, metadata.get("model"), metadata, "model")


def name_in_files(model: nn.Module) -> str:
    """The name of `MODELS` that a model has in files.

    Raises:
        TypeError: If it has none: it is no model of this library, a subclass of one, or inside a wrapper.
    """
    name = _NAMES.get(type(model))
    if name is None:
        kind = f"{type(model).__module__}.{type(model).__qualname__}"
        known = ", ".join(sorted(MODELS))
        raise TypeError(f"`model` is a {kind}, but must be a model of this library, without a wrapper: {known}")
    return name


def load_classifier(path: str | os.PathLike[str]) -> Classifier:
    """The classifier that a finished run has left: ready to give logits and features.

    Args:
        path: The run directory, or the safetensors file, whose metadata hold what `classifier_from_metadata` needs.

    Returns:
        The classifier in evaluation mode, on the CPU, its weights without gradient.

    Raises:
        CheckpointError: If there is no such file, it is damaged, or weights and description do not fit each other.
        ImportError: If its backbone is of torchvision or timm, and that is missing.
    """
    path = Path(path)
    path = path / CLASSIFIER_FILE if path.is_dir() else path
    if not path.is_file():  # opening a FIFO would wait for ever
        raise CheckpointError(f"there is no file {path}: a run writes it at its end, so train to the end first")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = {"config": None, **(file.metadata() or {})}
            weights: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata["config"] is not None:
            metadata["config"] = read_json(metadata["config"])
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as weights ({type(error).__name__}: {error})") from error
    with torch.device("meta"):  # the file's claims cost no memory before its weights have confirmed them
        model = classifier_from_metadata(metadata)
    dtypes = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: the weights do not fit the configuration: {error}") from error
    if other := [name for name, dtype in dtypes.items() if weights[name].dtype != dtype]:
        raise CheckpointError(f"{path}: {other[0]!r} is {weights[other[0]].dtype}, but must be {dtypes[other[0]]}")
    return model.eval().requires_grad_(False)


def _build(
    table: Mapping[str, tuple[type[ModelConfig], Callable[[Any], _Network]]],
    name: Any,
    metadata: Mapping[str, Any],
    kind: str,
) -> _Network:
    """The network that ``name`` stands for in ``table``, with the configuration of the metadata."""
    config = metadata.get("config")
    known = ", ".join(sorted(table))
    if not isinstance(name, str) or name not in table:
        raise CheckpointError(f"the model is {name!r}, but this ganblocks knows: {known}")
    if not isinstance(config, Mapping):
        raise CheckpointError(
            f'nothing tells how the {kind} was built: the metadata need "model" (known: {known}) and "config", '
            f"but hold {sorted(map(str, metadata))}; a run has those of Trainer(metadata=...)"
        )
    config_type, build = table[name]
    try:
        return build(config_type.from_dict(config))
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # the latter from torch, for giants
        raise CheckpointError(f"the configuration does not fit the model {name!r}: {error}") from error
