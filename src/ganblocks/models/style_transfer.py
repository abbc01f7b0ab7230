"""Networks that change the style of an image in one pass.

`TransformNetwork` learns a single style (Johnson, Alahi and Fei-Fei, ECCV 2016), with instance normalisation (Ulyanov,
Vedaldi and Lempitsky 2016, arXiv:1607.08022). `StyleDecoder` makes images of the features of one image that were given
the moments of another's, and so knows any style (Huang and Belongie, ICCV 2017); what makes the features is a
`FeatureMaps`. Images are intensities in [0, 1] here, as in `ganblocks.models.feature_maps`.
"""

import dataclasses
import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganblocks._checks import require
from ganblocks.functional.adaptive_norm import adaptive_instance_norm
from ganblocks.functional.resample import upsample_nearest
from ganblocks.layers.conv import Conv2d
from ganblocks.layers.initialization import initialize
from ganblocks.models.config import ModelConfig
from ganblocks.models.feature_maps import FeatureMaps

__all__ = ["StyleDecoder", "StyleDecoderConfig", "TransformConfig", "TransformNetwork", "stylized_features"]

MOST_LAYERS = 256  # in a row: a number in a file is not to keep this machine building for hours


@dataclasses.dataclass(frozen=True)
class TransformConfig(ModelConfig):
    """Architecture of a `TransformNetwork`. The defaults are the paper's: 1,679,235 parameters.

    Attributes:
        image_channels: 1 for grey, 3 for RGB; any number from 1.
        base_channels: Width of the first layer, which the next two double; at least 1.
        blocks: Residual blocks in the middle, 0 to 256.
    """

    image_channels: int = 3
    base_channels: int = 32
    blocks: int = 5

    def __post_init__(self) -> None:
        for name, least in (("image_channels", 1), ("base_channels", 1), ("blocks", 0)):
            value = getattr(self, name)
            require(type(value) is int and value >= least, name, value, f"a whole number, at least {least}")
        require(self.blocks <= MOST_LAYERS, "blocks", self.blocks, f"{MOST_LAYERS} at most")


@dataclasses.dataclass(frozen=True)
class StyleDecoderConfig(ModelConfig):
    """Architecture of a `StyleDecoder`. The defaults mirror VGG19 up to ``block4_conv1``: 3,505,219 parameters.

    Attributes:
        image_channels: Of the image it makes, at least 1.
        widths: Channels of the features it takes, and of the maps on the way to the image, each twice as large in side
            as those before.
        depths: Convolutions at each of these sides, 1 to 256.
    """

    image_channels: int = 3
    widths: tuple[int, ...] = (512, 256, 128, 64)
    depths: tuple[int, ...] = (1, 4, 2, 2)

    def __post_init__(self) -> None:
        for name in ("widths", "depths"):
            values = tuple(getattr(self, name))
            object.__setattr__(self, name, values)  # JSON has lists
            whole = len(values) >= 1 and all(type(value) is int and value >= 1 for value in values)
            require(whole, name, values, "whole numbers, at least one, each at least 1")
        require(max(self.depths) <= MOST_LAYERS, "depths", self.depths, f"{MOST_LAYERS} at most")
        require(len(self.widths) == len(self.depths), "depths", self.depths, f"as many as widths, {len(self.widths)}")
        whole = type(self.image_channels) is int and self.image_channels >= 1
        require(whole, "image_channels", self.image_channels, "a whole number, at least 1")


class TransformNetwork(nn.Module):
    """Images to images in one style: down to a quarter of the side, residual blocks, and up again.

    Where the paper has transposed convolutions there are nearest neighbours and a convolution, which leave no
    checkerboard; borders are mirrored, and a sigmoid keeps the result in [0, 1].

    Args:
        config: The architecture.

    Shape:
        ``[N, C, H, W]`` in [0, 1], H and W from 5, to the same.
    """

    def __init__(self, config: TransformConfig) -> None:
        super().__init__()
        self.config = config
        C, width = config.image_channels, config.base_channels
        self.down: nn.Sequential = nn.Sequential(
            _Normalised(C, width, 9), _Normalised(width, 2 * width, 3, 2), _Normalised(2 * width, 4 * width, 3, 2)
        )
        self.blocks: nn.Sequential = nn.Sequential(*[_Residual(4 * width) for _ in range(config.blocks)])
        self.up: nn.Sequential = nn.Sequential(
            _Upsample(), _Normalised(4 * width, 2 * width, 3), _Upsample(), _Normalised(2 * width, width, 3)
        )
        self.to_image: Conv2d = _mirrored(width, C, 9)
        initialize(self, "he_normal")

    def forward(self, images: Tensor) -> Tensor:
        """Stylise.

        Args:
            images: ``[N, C, H, W]`` in [0, 1].

        Returns:
            ``[N, C, H, W]`` in [0, 1].

        Raises:
            ValueError: If the shape does not fit.
        """
        shape, C = tuple(images.shape), self.config.image_channels
        fits = images.dim() == 4 and shape[1] == C and min(shape[2:]) >= 5
        require(fits, "images", shape, f"[N, {C}, H, W] with at least 5 pixels a side")
        height, width = shape[2:]
        x = F.pad(images, (0, -width % 4, 0, -height % 4), mode="replicate")
        x = self.to_image(self.up(self.blocks(self.down(x))))
        return torch.sigmoid(x[:, :, :height, :width])


class StyleDecoder(nn.Module):
    """Features to the image they are of; what was done to the features before is then seen in it.

    Args:
        config: The architecture.

    Shape:
        Features ``[N, widths[0], h, w]``, h and w from 2, to images ``[N, image_channels, s h, s w]`` in [0, 1]; s
        doubles with each step from one width to the next.
    """

    def __init__(self, config: StyleDecoderConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        after = (*config.widths[1:], config.image_channels)
        for index, (width, wanted, depth) in enumerate(zip(config.widths, after, config.depths, strict=True)):
            if index:
                layers.append(_Upsample())
            widths = [width] * depth + [wanted]
            for place, (ins, outs) in enumerate(itertools.pairwise(widths), start=1):
                layers.append(_mirrored(ins, outs, 3))
                if index < len(config.widths) - 1 or place < depth:
                    layers.append(nn.ReLU(inplace=True))
        self.layers: nn.Sequential = nn.Sequential(*layers)
        initialize(self, "he_normal")

    def forward(self, features: Tensor) -> Tensor:
        """Make images.

        Raises:
            ValueError: If the shape does not fit the configuration.
        """
        shape, C = tuple(features.shape), self.config.widths[0]
        fits = features.dim() == 4 and shape[1] == C and min(shape[2:]) >= 2
        require(fits, "features", shape, f"[N, {C}, h, w] with at least 2 places a side")
        return torch.sigmoid(self.layers(features))


def stylized_features(extractor: FeatureMaps, content: Tensor, style: Tensor, *, strength: float = 1.0) -> Tensor:
    """Features of one image with the moments of another's, for a `StyleDecoder` (Huang and Belongie 2017, section 5).

    Args:
        extractor: The maps of its last layer are taken.
        content: ``[N, C, H, W]`` in [0, 1].
        style: ``[N, C, H', W']`` or ``[1, C, H', W']`` in [0, 1].
        strength: 0 = the features of the content as they are, 1 = all of the style (equation 14).

    Returns:
        ``[N, channels, h, w]``.

    Raises:
        ValueError: If ``strength`` is not from 0 to 1, or the images do not fit.
    """
    require(0 <= strength <= 1, "strength", strength, "from 0 to 1")
    seen, wanted = (list(extractor(images).values())[-1] for images in (content, style))
    return torch.lerp(seen, adaptive_instance_norm(seen, wanted), strength)


class _Normalised(nn.Module):
    """Convolution, instance normalisation, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, side: int, stride: int = 1, *, relu: bool = True) -> None:
        super().__init__()
        self.conv = _mirrored(in_channels, out_channels, side, stride)
        self.norm = nn.InstanceNorm2d(out_channels, affine=True)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """``[N, in_channels, H, W]`` to ``[N, out_channels, H / stride, W / stride]``."""
        y: Tensor = self.norm(self.conv(x))
        return y.relu() if self.relu else y


class _Residual(nn.Module):
    """``x + norm(conv(relu(norm(conv(x)))))``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _Normalised(channels, channels, 3)
        self.second = _Normalised(channels, channels, 3, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        y: Tensor = x + self.second(self.first(x))
        return y


class _Upsample(nn.Module):
    """Twice the side by nearest neighbours."""

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to ``[N, C, 2 H, 2 W]``."""
        return upsample_nearest(x)


def _mirrored(in_channels: int, out_channels: int, side: int, stride: int = 1) -> Conv2d:
    """A convolution with mirrored borders."""
    return Conv2d(in_channels, out_channels, side, stride, side // 2, padding_mode="reflect")
