"""Networks that are known from photographs, with a new last layer: pooled, or VGG's own dense layers.

`PooledClassifier` is a backbone, the mean over its last map, dropout and one layer, for any size of image: DenseNet121
of torchvision, InceptionResNetV2 and NASNet-A Large of timm. `VGGClassifier` has the two wide dense layers of its paper
behind the last map, for images of one size.

Both can be frozen from the images up to a stage that is named (`freeze_through`): what the stages before have learned
stays, and their batch normalisation with it.

NASNet-A Mobile, which the experiment E20 seems to mean, is in neither library; E20 runs with the Large one, of
84,720,150 parameters instead of 4,232,978. Keras's InceptionResNetV2 has no scales in its batch normalisation, timm's
has: 30,272 more parameters.
"""

import dataclasses
import importlib
import math
import os
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks.errors import CheckpointError
from ganblocks.layers.conv import Conv2d
from ganblocks.layers.initialization import initialize
from ganblocks.models.backbone_classifier import IMAGENET_MEAN, IMAGENET_STD, channel_constant, read_weights
from ganblocks.models.config import ModelConfig
from ganblocks.models.freezing import FreezableBackbone

__all__ = [
    "PooledBackbone",
    "PooledClassifier",
    "PooledClassifierConfig",
    "VGGClassifier",
    "VGGClassifierConfig",
]

PooledBackbone = Literal["densenet121", "inception_resnet_v2", "nasnetalarge"]
Weights = Mapping[str, Tensor] | str | os.PathLike[str]


class _Kind(NamedTuple):
    width: int  # channels of the last map
    smallest_side: int  # of the images
    mean: tuple[float, float, float]  # of what it was trained on, of values in [0, 1]
    std: tuple[float, float, float]


_HALF = (0.5, 0.5, 0.5)
_KINDS: dict[str, _Kind] = {
    "densenet121": _Kind(1024, 32, IMAGENET_MEAN, IMAGENET_STD),
    "inception_resnet_v2": _Kind(1536, 75, _HALF, _HALF),
    "nasnetalarge": _Kind(4032, 32, _HALF, _HALF),
}
_VGG_POOLINGS = 5


@dataclasses.dataclass(frozen=True)
class PooledClassifierConfig(ModelConfig):
    """Architecture of a `PooledClassifier`.

    Attributes:
        backbone: ``"densenet121"`` (of torchvision), ``"inception_resnet_v2"`` or ``"nasnetalarge"`` (of timm).
        num_classes: K, at least 1.
        dropout: Share of the pooled features that training leaves out, 0 to below 1.
    """

    backbone: PooledBackbone = "densenet121"
    num_classes: int = 5
    dropout: float = 0.0

    def __post_init__(self) -> None:
        known = get_args(PooledBackbone)
        require(self.backbone in known, "backbone", self.backbone, f"one of {known}")
        _require_count("num_classes", self.num_classes)
        _require_share("dropout", self.dropout)


@dataclasses.dataclass(frozen=True)
class VGGClassifierConfig(ModelConfig):
    """Architecture of a `VGGClassifier`. The defaults are E17: 50,394,949 parameters.

    Attributes:
        backbone: ``"vgg16"`` or ``"vgg19"``.
        resolution: Side of the images in pixels, 32 to 1024; five poolings halve it, each rounded down.
        num_classes: K, at least 1.
        hidden_dim: Size of the two dense layers.
        dropout: Share of each dense layer's output that training leaves out, 0 to below 1; the paper has 0.5, Keras 0.
    """

    backbone: Literal["vgg16", "vgg19"] = "vgg16"
    resolution: int = 100
    num_classes: int = 5
    hidden_dim: int = 4096
    dropout: float = 0.0

    def __post_init__(self) -> None:
        require(self.backbone in ("vgg16", "vgg19"), "backbone", self.backbone, "'vgg16' or 'vgg19'")
        for name in ("resolution", "num_classes", "hidden_dim"):
            _require_count(name, getattr(self, name))
        require(32 <= self.resolution <= 1024, "resolution", self.resolution, "32 to 1024")
        _require_share("dropout", self.dropout)


class _Normalised(FreezableBackbone):
    """Applies the mean and the standard deviation of the images that a backbone was trained on."""

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", channel_constant(mean), persistent=False)
        self.register_buffer("std", channel_constant(std), persistent=False)

    def _normalised(self, images: Tensor) -> Tensor:
        return ((images + 1) / 2 - self.mean) / self.std


class PooledClassifier(_Normalised):
    """A backbone, the mean of each of its last maps, dropout and one layer: E18, E19 and E20.

    Args:
        config: The architecture.
        weights: Of the whole network as its library saves it, or the path of a ``.safetensors`` file that holds them:
            ``ganblocks checkpoint import FILE.pth --out FILE.safetensors`` makes one; nothing is downloaded. Its last
            layer is left out. ``None`` = the library's random start.

    Attributes:
        pretrained: Whether ``weights`` were given.

    Shape:
        Images ``[N, 3, H, W]`` in [-1, 1], of 32 pixels at least (InceptionResNetV2 75), to logits
        ``[N, num_classes]``. The mean and standard deviation that the backbone expects are applied inside.

    Raises:
        CheckpointError: If the file is missing or damaged, or the weights are not those of this backbone.
        ImportError: If torchvision or timm is missing.
    """

    def __init__(self, config: PooledClassifierConfig, weights: Weights | None = None) -> None:
        kind = _KINDS[config.backbone]
        super().__init__(kind.mean, kind.std)
        self.config = config
        self.pretrained: bool = weights is not None
        self.backbone: nn.Module = _densenet() if config.backbone == "densenet121" else _of_timm(config.backbone)
        if weights is not None:
            state = {_present_name(name): tensor for name, tensor in read_weights(weights).items()}
            last = ("classifier.", "classif.", "last_linear.")
            _load(self.backbone, {name: t for name, t in state.items() if not name.startswith(last)}, config.backbone)
        self.dropout: nn.Dropout = nn.Dropout(config.dropout)
        self.head: nn.Linear = initialize(nn.Linear(kind.width, config.num_classes), "glorot_uniform")

    def features(self, images: Tensor) -> Tensor:
        """The mean of each of the last maps, ``[N, W]``, 0 or above.

        In evaluation mode ``head(features(images))`` is ``forward(images)``.

        Args:
            images: As for `forward`.

        Raises:
            ValueError: If the shape is another one.
        """
        shape, smallest = tuple(images.shape), _KINDS[self.config.backbone].smallest_side
        fits = images.dim() == 4 and shape[1] == 3 and min(shape[2:]) >= smallest
        require(fits, "images", shape, f"[N, 3, H, W], H and W at least {smallest}")
        maps: Any = self.backbone
        maps = getattr(maps, "forward_features", maps)(self._normalised(images))
        features: Tensor = maps.mean((2, 3))
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Classify.

        Args:
            images: ``[N, 3, H, W]`` in [-1, 1].

        Returns:
            Logits ``[N, K]``, not normalised.

        Raises:
            ValueError: If the shape is another one.
        """
        logits: Tensor = self.head(self.dropout(self.features(images)))
        return logits


class VGGClassifier(_Normalised):
    """VGG16 or VGG19 (Simonyan and Zisserman 2015, table 1) with dense layers for images of one size: E17.

    Without ``weights`` all begins with Glorot's uniform numbers and biases of 0, as in Keras.

    Args:
        config: The architecture.
        weights: As for `PooledClassifier`, of torchvision's network; its dense layers, which fit 224 pixels alone, are
            left out.

    Attributes:
        pretrained: Whether ``weights`` were given.

    Shape:
        Images ``[N, 3, resolution, resolution]`` in [-1, 1] to logits ``[N, num_classes]``. ImageNet's mean and
        standard deviation are applied inside.

    Raises:
        CheckpointError: If the file is missing or damaged, or the weights are not those of this backbone.
    """

    def __init__(self, config: VGGClassifierConfig, weights: Weights | None = None) -> None:
        super().__init__(IMAGENET_MEAN, IMAGENET_STD)
        self.config = config
        self.pretrained: bool = weights is not None
        self.backbone: nn.Module = nn.Sequential(
            OrderedDict(features=_vgg_layers(3 if config.backbone == "vgg16" else 4))
        )
        width = 512 * (config.resolution // 2**_VGG_POOLINGS) ** 2
        self.dense1: nn.Linear = nn.Linear(width, config.hidden_dim)
        self.dense2: nn.Linear = nn.Linear(config.hidden_dim, config.hidden_dim)
        self.dropout: nn.Dropout = nn.Dropout(config.dropout)
        self.head: nn.Linear = nn.Linear(config.hidden_dim, config.num_classes)
        initialize(self, "glorot_uniform")
        if weights is not None:
            state = read_weights(weights)
            kept = {name: tensor for name, tensor in state.items() if not name.startswith("classifier.")}
            _load(self.backbone, kept, config.backbone)

    def features(self, images: Tensor) -> Tensor:
        """The second dense layer, ``[N, hidden_dim]``, 0 or above, before the last dropout.

        In evaluation mode ``head(features(images))`` is ``forward(images)``.

        Args:
            images: As for `forward`.

        Raises:
            ValueError: If the shape does not fit the configuration.
        """
        side, shape = self.config.resolution, tuple(images.shape)
        fits = images.dim() == 4 and shape[1:] == (3, side, side)
        require(fits, "images", shape, f"[N, 3, {side}, {side}]")
        maps: Tensor = self.backbone(self._normalised(images))
        features: Tensor = self.dense2(self.dropout(self.dense1(maps.flatten(1)).relu())).relu()
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Classify.

        Args:
            images: ``[N, 3, R, R]`` in [-1, 1].

        Returns:
            Logits ``[N, K]``, not normalised.

        Raises:
            ValueError: If the shape does not fit the configuration.
        """
        logits: Tensor = self.head(self.dropout(self.features(images)))
        return logits


def _vgg_layers(deep: int) -> nn.Sequential:
    """The convolutions, numbered as torchvision has them; ``deep`` of them in each of the last three blocks."""
    layers: list[nn.Module] = []
    channels = 3
    for width, count in zip((64, 128, 256, 512, 512), (2, 2, deep, deep, deep), strict=True):
        for _ in range(count):
            layers += [Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def _densenet() -> nn.Module:
    """DenseNet121 up to its last map, under torchvision's names."""
    network = _library("torchvision", "torchvision.models").densenet121(weights=None)
    return nn.Sequential(OrderedDict(features=network.features, relu=nn.ReLU()))


def _of_timm(name: str) -> nn.Module:
    """A network without its last layer, which `PooledClassifier` calls by ``forward_features``."""
    network: nn.Module = _library("timm", "timm").create_model(name, pretrained=False, num_classes=0)
    return network


def _library(name: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f'{name} is needed for this, but missing: pip install "ganblocks[vision]"') from error


def _present_name(name: str) -> str:
    """Of a weight: the file of torchvision's DenseNet has names of an older release, such as ``norm.1`` for norm1."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name)


def _load(backbone: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    own = backbone.state_dict()
    counters = {key for key in own if key.endswith("num_batches_tracked")}  # older files have none
    missing, unknown = sorted(own.keys() - state.keys() - counters), sorted(state.keys() - own.keys())
    wrong = [key for key in own.keys() & state.keys() if own[key].shape != state[key].shape]
    if missing or unknown or wrong:
        text = (
            f"{len(missing)} missing {missing[:3]}, {len(unknown)} unknown {unknown[:3]}, of another shape {wrong[:3]}"
        )
        raise CheckpointError(f"the weights are not those of {name}: {text}")
    with torch.no_grad():
        backbone.load_state_dict(dict(state), strict=False)


def _require_count(name: str, value: object) -> None:
    require(type(value) is int and value >= 1, name, value, "a whole number, at least 1")


def _require_share(name: str, value: object) -> None:
    valid = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value < 1
    require(valid, name, value, "from 0 to below 1")
