"""Three small networks that name the painter of a picture, as the experiments E13, E15 and E16 have them.

`PaintingCNN` is the one with three convolutions, pooling and a dense layer, for 300 pixels; `PaintingMLP` has no
convolution, for 100; `TwoLayerPaintingCNN` has two convolutions and a wide dense layer, for 100. With their options as
they are they have the layers, the parameters and Keras's initial values (Glorot uniform, biases of zero) of their
sources, which train them with a softmax at the end: here they give logits.

The sources divide bytes by 255, so that their networks see [0, 1]. Images of this library are in [-1, 1]; each network
brings them to [0, 1] itself, so that what it computes, and zero as the padding that stands for black, are as there.
"""

import dataclasses
import itertools
from typing import Literal, get_args

from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks.layers.conv import Conv2d
from ganblocks.layers.initialization import initialize
from ganblocks.models.config import ModelConfig

__all__ = [
    "PaintingCNN",
    "PaintingCNNConfig",
    "PaintingMLP",
    "PaintingMLPConfig",
    "Pooling",
    "TwoLayerPaintingCNN",
    "TwoLayerPaintingCNNConfig",
]

Pooling = Literal["flatten", "average"]


@dataclasses.dataclass(frozen=True)
class PaintingCNNConfig(ModelConfig):
    """Architecture of a `PaintingCNN`. The defaults are those of E13: 11,245,010 parameters, 11,244,881 for 49 classes.

    Attributes:
        resolution: Side of the images in pixels, up to 1024; each block halves it, rounded down, and one pixel must be
            left.
        image_channels: 1 for grey, 3 for RGB; any number from 1.
        num_classes: K, at least 1.
        channels: Width of each block, first block first; at least one.
        feature_dim: Size of the feature vector.
        dropout: Share of what enters the dense layer that training leaves out, 0 to below 1.
        norm: Batch normalisation behind every convolution and the dense layer, in front of the ReLU; these layers then
            have no bias of their own. Not in E13.
        pooling: "flatten" hands every value of the last map to the dense layer; "average" their mean over the map. The
            second is not in E13.
    """

    resolution: int = 300
    image_channels: int = 3
    num_classes: int = 50
    channels: tuple[int, ...] = (16, 32, 64)
    feature_dim: int = 128
    dropout: float = 0.2
    norm: bool = False
    pooling: Pooling = "flatten"

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))  # JSON has lists
        _require_counts(self, "resolution", "image_channels", "num_classes", "channels", "feature_dim")
        _require_shares(self, "dropout")
        require(type(self.norm) is bool, "norm", self.norm, "True or False")
        require(self.pooling in get_args(Pooling), "pooling", self.pooling, f"one of {get_args(Pooling)}")
        smallest = 2 ** len(self.channels)
        _require_resolution(self, smallest, f" for {len(self.channels)} blocks")


@dataclasses.dataclass(frozen=True)
class PaintingMLPConfig(ModelConfig):
    """Architecture of a `PaintingMLP`. The defaults are those of E15 for five painters: 3,000,605 parameters.

    Attributes:
        resolution: Side of the images in pixels, 1 to 1024.
        image_channels: 1 for grey, 3 for RGB; any number from 1.
        num_classes: K, at least 1.
        feature_dim: Size of the hidden layer.
    """

    resolution: int = 100
    image_channels: int = 3
    num_classes: int = 5
    feature_dim: int = 100

    def __post_init__(self) -> None:
        _require_counts(self, "resolution", "image_channels", "num_classes", "feature_dim")
        _require_resolution(self, 1)


@dataclasses.dataclass(frozen=True)
class TwoLayerPaintingCNNConfig(ModelConfig):
    """Architecture of a `TwoLayerPaintingCNN`. The defaults are the reference form of E16: 47,207,237 parameters.

    Attributes:
        resolution: Side of the images in pixels, 6 to 1024; without padding the convolutions take 4 of it.
        image_channels: 1 for grey, 3 for RGB; any number from 1.
        num_classes: K, at least 1.
        channels: Width of the two convolutions.
        feature_dim: Size of the feature vector.
        dropout: Shares that training leaves out in front of the dense layer and of the last one, 0 to below 1.
    """

    resolution: int = 100
    image_channels: int = 3
    num_classes: int = 5
    channels: tuple[int, int] = (32, 64)
    feature_dim: int = 320
    dropout: tuple[float, float] = (0.25, 0.5)

    def __post_init__(self) -> None:
        for name in ("channels", "dropout"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON has lists
            require(len(getattr(self, name)) == 2, name, getattr(self, name), "two numbers")
        _require_counts(self, "resolution", "image_channels", "num_classes", "channels", "feature_dim")
        _require_shares(self, "dropout")
        _require_resolution(self, 6)


class PaintingCNN(nn.Module):
    """The painting CNN of E13: images to logits, and to the features that the logits are made of.

    Each block is a 3x3 convolution, a max pooling of 2x2 and ReLU; then dropout, a dense layer with ReLU, and the last
    layer. Pooling stands before the ReLU, which gives the same values with a quarter of the work.

    Args:
        config: The architecture.

    Shape:
        Images ``[N, image_channels, resolution, resolution]`` in [-1, 1] to logits ``[N, num_classes]``.
    """

    def __init__(self, config: PaintingCNNConfig) -> None:
        super().__init__()
        self.config = config
        widths = (config.image_channels, *config.channels)
        self.blocks: nn.Sequential = nn.Sequential(
            *[_Block(width, wider, config.norm) for width, wider in itertools.pairwise(widths)]
        )
        side = config.resolution // 2 ** len(config.channels)
        self.pool: nn.AdaptiveAvgPool2d | nn.Identity = (
            nn.AdaptiveAvgPool2d(1) if config.pooling == "average" else nn.Identity()
        )
        self.dropout: nn.Dropout = nn.Dropout(config.dropout)
        inputs = widths[-1] * (1 if config.pooling == "average" else side**2)
        self.dense: nn.Linear = nn.Linear(inputs, config.feature_dim, bias=not config.norm)
        self.norm: nn.BatchNorm1d | nn.Identity = nn.BatchNorm1d(config.feature_dim) if config.norm else nn.Identity()
        self.head: nn.Linear = nn.Linear(config.feature_dim, config.num_classes)
        initialize(self, "glorot_uniform")

    def features(self, images: Tensor) -> Tensor:
        """The activations in front of the last layer, ``[N, feature_dim]``, 0 or above.

        ``head(features(images))`` is ``forward(images)``; in training mode dropout makes each call another.

        Args:
            images: As for `forward`.

        Raises:
            ValueError: If the shape does not fit the configuration.
        """
        _require_images(self.config, images)
        hidden = self.pool(self.blocks(_unit_range(images)))
        features: Tensor = self.norm(self.dense(self.dropout(hidden.flatten(1)))).relu()
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Classify.

        Args:
            images: ``[N, C, R, R]`` in [-1, 1]. In training mode with ``norm`` N is at least 2.

        Returns:
            Logits ``[N, K]``, not normalised: ``softmax(dim=1)`` makes probabilities of them.

        Raises:
            ValueError: If the shape does not fit the configuration.
        """
        logits: Tensor = self.head(self.features(images))
        return logits


class PaintingMLP(nn.Module):
    """The simple network of E15: all pixels to one hidden layer with ReLU, and that to logits.

    Args:
        config: The architecture.

    Shape:
        Images ``[N, image_channels, resolution, resolution]`` in [-1, 1] to logits ``[N, num_classes]``.
    """

    def __init__(self, config: PaintingMLPConfig) -> None:
        super().__init__()
        self.config = config
        self.dense: nn.Linear = nn.Linear(config.image_channels * config.resolution**2, config.feature_dim)
        self.head: nn.Linear = nn.Linear(config.feature_dim, config.num_classes)
        initialize(self, "glorot_uniform")

    def features(self, images: Tensor) -> Tensor:
        """The hidden layer, ``[N, feature_dim]``, 0 or above; arguments and errors as for `forward`."""
        _require_images(self.config, images)
        features: Tensor = self.dense(_unit_range(images).flatten(1)).relu()
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Classify.

        Args:
            images: ``[N, C, R, R]`` in [-1, 1].

        Returns:
            Logits ``[N, K]``, not normalised.

        Raises:
            ValueError: If the shape does not fit the configuration.
        """
        logits: Tensor = self.head(self.features(images))
        return logits


class TwoLayerPaintingCNN(nn.Module):
    """The convolutional network of E16, in its reference form.

    Two 3x3 convolutions without padding, each with ReLU, one max pooling of 2x2, dropout, a dense layer with ReLU,
    dropout, the last layer. Nearly all parameters are in the dense layer.

    Args:
        config: The architecture.

    Shape:
        Images ``[N, image_channels, resolution, resolution]`` in [-1, 1] to logits ``[N, num_classes]``.
    """

    def __init__(self, config: TwoLayerPaintingCNNConfig) -> None:
        super().__init__()
        self.config = config
        first, second = config.channels
        self.conv1: Conv2d = Conv2d(config.image_channels, first, 3)
        self.conv2: Conv2d = Conv2d(first, second, 3)
        self.pool: nn.MaxPool2d = nn.MaxPool2d(2)
        self.dropout1: nn.Dropout = nn.Dropout(config.dropout[0])
        self.dense: nn.Linear = nn.Linear(second * ((config.resolution - 4) // 2) ** 2, config.feature_dim)
        self.dropout2: nn.Dropout = nn.Dropout(config.dropout[1])
        self.head: nn.Linear = nn.Linear(config.feature_dim, config.num_classes)
        initialize(self, "glorot_uniform")

    def features(self, images: Tensor) -> Tensor:
        """The dense layer, ``[N, feature_dim]``, 0 or above, before the second dropout.

        In evaluation mode ``head(features(images))`` is ``forward(images)``. Arguments and errors as for `forward`.
        """
        _require_images(self.config, images)
        hidden = self.pool(self.conv2(self.conv1(_unit_range(images)).relu())).relu()
        features: Tensor = self.dense(self.dropout1(hidden.flatten(1))).relu()
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Classify.

        Args:
            images: ``[N, C, R, R]`` in [-1, 1].

        Returns:
            Logits ``[N, K]``, not normalised.

        Raises:
            ValueError: If the shape does not fit the configuration.
        """
        logits: Tensor = self.head(self.dropout2(self.features(images)))
        return logits


class _Block(nn.Module):
    """Convolution, pooling, perhaps normalisation, ReLU: half the side, rounded down."""

    def __init__(self, in_channels: int, out_channels: int, norm: bool) -> None:
        super().__init__()
        self.conv = Conv2d(in_channels, out_channels, 3, padding=1, bias=not norm)
        self.pool = nn.MaxPool2d(2)
        self.norm = nn.BatchNorm2d(out_channels) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to ``[N, out_channels, H // 2, W // 2]``."""
        y: Tensor = self.norm(self.pool(self.conv(x))).relu()
        return y


_Config = PaintingCNNConfig | PaintingMLPConfig | TwoLayerPaintingCNNConfig


def _unit_range(images: Tensor) -> Tensor:
    """[-1, 1] to [0, 1]."""
    return images * 0.5 + 0.5


def _require_images(config: _Config, images: Tensor) -> None:
    wanted, shape = (config.image_channels, config.resolution, config.resolution), tuple(images.shape)
    require(images.dim() == 4 and shape[1:] == wanted, "images", shape, "[N, {}, {}, {}]".format(*wanted))


def _require_counts(config: _Config, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        counts = value if isinstance(value, tuple) else (value,)
        whole = len(counts) > 0 and all(type(count) is int and count >= 1 for count in counts)
        require(whole, name, value, "whole numbers, at least 1")


def _require_shares(config: _Config, name: str) -> None:
    value = getattr(config, name)
    fits = all(0 <= share < 1 for share in (value if isinstance(value, tuple) else (value,)))
    require(fits, name, value, "from 0 to below 1")


def _require_resolution(config: _Config, smallest: int, reason: str = "") -> None:
    require(smallest <= config.resolution <= 1024, "resolution", config.resolution, f"{smallest} to 1024{reason}")
