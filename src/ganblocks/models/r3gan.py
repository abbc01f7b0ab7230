"""R3GAN, a GAN without tricks (Huang, Gokaslan, Kuleshov, Tompkin: NeurIPS 2024, arXiv:2501.05441).

The networks of section 4, configuration E: plain residual networks, each nearly the mirror image of the other. No
normalisation, no minibatch statistics, no equalised learning rate, no style and no noise. What is left:

- inverted bottlenecks: 1x1 convolution to more channels, 3x3 convolution in groups, 1x1 convolution back, with a leaky
  ReLU after the first two. No activation stands on the skip path, nor between two resolutions;
- fix-up initialisation (Zhang et al. 2019, arXiv:1901.09321) in the place of normalisation: every block starts as the
  identity. The other layers, which no activation follows, start with a gain of 1;
- bilinear resampling, and a 1x1 convolution where two resolutions differ in width.

The loss that makes do with this is `ganblocks.losses.relativistic` with `r1_penalty` and `r2_penalty`. The sizes in
`R3GANConfig` are this library's own, smaller than the paper's.
"""

import math
from collections import OrderedDict
from typing import TypeVar

import torch
from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks.functional.resample import upsample_nearest
from ganblocks.layers.blocks import activated
from ganblocks.layers.conv import Conv2d
from ganblocks.models.latent_generator import LatentGenerator
from ganblocks.models.r3gan_config import R3GANConfig
from ganblocks.ops.blur import blur
from ganblocks.ops.downsample_box import downsample_box

__all__ = ["Discriminator", "Generator", "R3GANConfig"]

Layer = TypeVar("Layer", Conv2d, nn.Linear)


class Generator(LatentGenerator):
    """Latents to images: a learned 4x4 map, its channels scaled by the latent, then a stage for each resolution.

    ``state_dict`` keys carry the side: ``stages.8.blocks.0.mix.weight``.

    Args:
        config: The architecture.

    Shape:
        Latents ``[N, Z]`` and labels ``[N]`` to images ``[N, image_channels, resolution, resolution]``, unbounded.
    """

    def __init__(self, config: R3GANConfig) -> None:
        super().__init__()
        self.config = config
        K, Z, width = config.num_classes, config.latent_dim, config.widths[0]
        self.embedding: nn.Embedding | None = nn.Embedding(K, Z) if K else None  # N(0, 1), as the latents are
        self.scales: nn.Linear = _drawn(nn.Linear(2 * Z if K else Z, width, bias=False))
        self.basis: nn.Parameter = nn.Parameter(torch.randn(width, config.sides[0], config.sides[0]))
        self.stages: nn.ModuleDict = nn.ModuleDict({str(config.sides[0]): _stage(config, width)})
        for side, after in zip(config.sides[1:], config.widths[1:], strict=True):
            self.stages[str(side)] = _stage(config, after, _Upsample(width, after))
            width = after
        self.to_image: Conv2d = _drawn(Conv2d(width, config.image_channels, 1, bias=False))

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Make images.

        Args:
            latents: ``[N, Z]``, N(0, 1).
            labels: Class indices ``[N]``, required if and only if the configuration has classes.

        Returns:
            Images ``[N, C, R, R]``. The last layer is linear: they are near [-1, 1] once trained, not within.

        Raises:
            ValueError: If a shape or the presence of labels does not fit the configuration.
        """
        shape, Z = tuple(latents.shape), self.config.latent_dim
        require(latents.dim() == 2 and shape[1] == Z, "latents", shape, f"[N, {Z}]")
        classes = _class_vectors(self.embedding, labels, latents)
        scales = self.scales(latents if classes is None else torch.cat([latents, classes], dim=1))
        x = scales[:, :, None, None] * self.basis.to(scales.dtype)  # [N, width, 4, 4]
        for stage in self.stages.values():
            x = stage(x)
        images: Tensor = self.to_image(x)
        return images


class Discriminator(nn.Module):
    """Images to logits: the generator's stages in reverse, then each channel's 4x4 map to one number.

    Twice differentiable, as its penalties need it. No layer sees more than one image, so a batch may be anything.

    With classes, the score is the product of the image's and the class's vector (Miyato and Koyama 2018,
    arXiv:1802.05637, equation 3, without the part that all classes share).

    Args:
        config: The architecture.

    Shape:
        Images ``[N, image_channels, resolution, resolution]`` and labels ``[N]`` to logits ``[N]``.
    """

    def __init__(self, config: R3GANConfig) -> None:
        super().__init__()
        self.config = config
        K, Z, width = config.num_classes, config.latent_dim, config.widths[-1]
        self.from_image: Conv2d = _drawn(Conv2d(config.image_channels, width, 1, bias=False))
        self.stages: nn.ModuleDict = nn.ModuleDict({str(config.resolution): _stage(config, width)})
        for side, after in zip(config.sides[-2::-1], config.widths[-2::-1], strict=True):
            self.stages[str(side)] = _stage(config, after, _Downsample(width, after))
            width = after
        self.basis: Conv2d = _drawn(Conv2d(width, width, config.sides[0], groups=width, bias=False))
        self.score: nn.Linear = _drawn(
            nn.Linear(width, Z if K else 1, bias=False)
        )  # a bias cancels in a relativistic loss
        self.embedding: nn.Embedding | None = nn.Embedding(K, Z) if K else None
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, std=Z**-0.5)  # logits start as large as without classes

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Judge images.

        Args:
            images: ``[N, C, R, R]``, nominally in [-1, 1].
            labels: Class indices ``[N]``, required if and only if the configuration has classes.

        Returns:
            Logits ``[N]``, larger for more real. A relativistic loss compares them and leaves their zero open.

        Raises:
            ValueError: If a shape or the presence of labels does not fit the configuration.
        """
        shape, C, R = tuple(images.shape), self.config.image_channels, self.config.resolution
        require(images.dim() == 4 and shape[1:] == (C, R, R), "images", shape, f"[N, {C}, {R}, {R}]")
        classes = _class_vectors(self.embedding, labels, images)
        x = self.from_image(images)
        for stage in self.stages.values():
            x = stage(x)
        scores: Tensor = self.score(self.basis(x).flatten(1))  # [N, 1], or [N, Z] with classes
        return scores[:, 0] if classes is None else (scores * classes).sum(1)


class _ResidualBlock(nn.Module):
    """``x + reduce(act(mix(act(expand(x)))))``; biases stand in front of the activations only."""

    def __init__(self, config: R3GANConfig, width: int) -> None:
        super().__init__()
        self.slope = config.slope
        wide, gain = config.expansion * width, config.block_gain
        self.expand = _drawn(Conv2d(width, wide, 1), gain)
        self.mix = _drawn(Conv2d(wide, wide, 3, padding=1, groups=wide // config.group_size), gain)
        self.reduce = _drawn(Conv2d(wide, width, 1, bias=False), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        y = activated(self.expand, x, slope=self.slope)
        y = activated(self.mix, y, slope=self.slope)
        y = self.reduce(y)
        return x + y


# Between two resolutions, what is beyond the border counts as zero, as in the 3x3 convolutions: bilinear but for the
# outermost pixels. Reflection there, or PyTorch's bilinear resampling, has no deterministic gradient on GPUs.
# Resampling and 1x1 convolution commute, so the convolution stands where there are a quarter of the pixels.


class _Upsample(nn.Module):
    """Twice the side: pixels repeated, then [1, 2, 1] / 4 along both axes."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = _pointwise(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return blur(upsample_nearest(self.conv(x)))


class _Downsample(nn.Module):
    """Half the side: [1, 2, 1] / 4 along both axes, then averages of 2x2; the adjoint of `_Upsample` but for a 4."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = _pointwise(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(downsample_box(blur(x)))
        return y


def _stage(config: R3GANConfig, width: int, resample: nn.Module | None = None) -> nn.Sequential:
    """The blocks of one resolution, behind the way there."""
    blocks = nn.Sequential(*[_ResidualBlock(config, width) for _ in range(config.blocks_per_stage)])
    return nn.Sequential(
        OrderedDict(blocks=blocks) if resample is None else OrderedDict(resample=resample, blocks=blocks)
    )


def _pointwise(in_channels: int, out_channels: int) -> nn.Module:
    """A 1x1 convolution where the widths differ."""
    return nn.Identity() if in_channels == out_channels else _drawn(Conv2d(in_channels, out_channels, 1, bias=False))


def _drawn(layer: Layer, gain: float = 1.0) -> Layer:
    """The layer with weights from N(0, gain^2 / fan_in) and no bias yet."""
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _class_vectors(embedding: nn.Embedding | None, labels: Tensor | None, like: Tensor) -> Tensor | None:
    """``[N, Z]`` on the device and in the dtype of what it is joined to; ``None`` where there are no classes."""
    if embedding is None:
        require(labels is None, "labels", labels, "None, as the networks are not conditional (num_classes=0)")
        return None
    if labels is None:
        raise ValueError(f"`labels` is None, but must be class indices [N] from 0 to {embedding.num_embeddings - 1}")
    require(labels.shape == like.shape[:1], "labels", tuple(labels.shape), f"[{like.shape[0]}], one an image")
    vectors: Tensor = embedding(labels.to(like.device, torch.int64))
    return vectors.to(like.dtype)
