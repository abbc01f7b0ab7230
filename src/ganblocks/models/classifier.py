"""A small convolutional classifier in the family of LeNet (LeCun, Bottou, Bengio, Haffner: Proc. IEEE 86(11), 1998).

Convolution and subsampling in turn, then two dense layers, as there; what has replaced the tanh units since: ReLU, max
pooling, batch normalisation (Ioffe and Szegedy 2015) and dropout (Srivastava et al. 2014). What the last layer sees is
also a feature vector to compare images by, where the networks trained on photographs have nothing to say.
"""

import dataclasses
import itertools

from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks.layers.conv import Conv2d
from ganblocks.models.config import ModelConfig

__all__ = ["ClassifierConfig", "SmallClassifier"]


@dataclasses.dataclass(frozen=True)
class ClassifierConfig(ModelConfig):
    """Architecture of a `SmallClassifier`. The defaults fit MNIST and its relatives: 421,866 parameters.

    Attributes:
        resolution: Side of the images in pixels; each block halves it, rounded down, and one pixel must be left.
            1024 at most.
        image_channels: 1 for grey, 3 for RGB; any number from 1.
        num_classes: K, at least 1.
        channels: Width of each block, first block first; at least one.
        feature_dim: Size of the feature vector.
        dropout: Share of the features that training leaves out in front of the last layer, 0 to below 1.
    """

    resolution: int = 28
    image_channels: int = 1
    num_classes: int = 10
    channels: tuple[int, ...] = (32, 64)
    feature_dim: int = 128
    dropout: float = 0.25

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))  # JSON has lists
        counts = (self.image_channels, self.num_classes, self.feature_dim, self.resolution, *self.channels)
        names = ("image_channels", "num_classes", "feature_dim", "resolution", *["channels"] * len(self.channels))
        for name, count in zip(names, counts, strict=True):
            require(type(count) is int and count >= 1, name, getattr(self, name), "whole numbers, at least 1")
        require(len(self.channels) >= 1, "channels", self.channels, "at least one")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "from 0 to below 1")
        smallest = 2 ** len(self.channels)
        fits = smallest <= self.resolution <= 1024
        require(fits, "resolution", self.resolution, f"{smallest} to 1024 for {len(self.channels)} blocks")


class SmallClassifier(nn.Module):
    """Images to logits, and to the features that the logits are made of.

    Each block is a 3x3 convolution, a max pooling of 2x2, batch normalisation and ReLU; a dense layer with the same
    normalisation makes the features. Pooling stands before the normalisation, which then has a quarter of the work.

    Args:
        config: The architecture.

    Shape:
        Images ``[N, image_channels, resolution, resolution]`` in [-1, 1] to logits ``[N, num_classes]``.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        widths = (config.image_channels, *config.channels)
        self.blocks: nn.Sequential = nn.Sequential(
            *[_Block(width, wider) for width, wider in itertools.pairwise(widths)]
        )
        side = config.resolution // 2 ** len(config.channels)
        self.dense: nn.Linear = nn.Linear(widths[-1] * side**2, config.feature_dim, bias=False)
        self.norm: nn.BatchNorm1d = nn.BatchNorm1d(config.feature_dim)
        self.dropout: nn.Dropout = nn.Dropout(config.dropout)
        self.head: nn.Linear = nn.Linear(config.feature_dim, config.num_classes)

    def features(self, images: Tensor) -> Tensor:
        """The activations in front of the last layer, ``[N, feature_dim]``, 0 or above.

        In evaluation mode ``head(features(images))`` is ``forward(images)``, bit for bit.

        Args:
            images: As for `forward`.

        Raises:
            ValueError: If the shape does not fit the configuration.
        """
        config, shape = self.config, tuple(images.shape)
        wanted = (config.image_channels, config.resolution, config.resolution)
        require(images.dim() == 4 and shape[1:] == wanted, "images", shape, "[N, {}, {}, {}]".format(*wanted))
        hidden = self.blocks(images)  # [N, channels[-1], side, side]
        features: Tensor = self.norm(self.dense(hidden.flatten(1))).relu()
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Classify.

        Args:
            images: ``[N, C, R, R]`` in [-1, 1]. In training mode N is at least 2, as batch normalisation needs.

        Returns:
            Logits ``[N, K]``, not normalised: ``softmax(dim=1)`` makes probabilities of them.

        Raises:
            ValueError: If the shape does not fit the configuration.
        """
        logits: Tensor = self.head(self.dropout(self.features(images)))
        return logits


class _Block(nn.Module):
    """Convolution without bias (the normalisation has one), pooling, normalisation, ReLU: half the side."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to ``[N, out_channels, H // 2, W // 2]``."""
        y: Tensor = self.norm(self.pool(self.conv(x))).relu()
        return y
