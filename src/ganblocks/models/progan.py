"""Progressive growing of GANs (Karras, Aila, Laine, Lehtinen: ICLR 2018, arXiv:1710.10196).

Both networks hold the layers of every resolution from 4x4 up. A call names the resolution it wants, and `alpha` says
how far the layers of that resolution have been faded in. `ProGANConfig.karras2018` is the paper (table 2 and the
authors' constants), `ProGANConfig.document` a widely taught variant with its own choices, each of them a field.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ganblocks._checks import require, require_rank
from ganblocks.functional.fade import fade_in
from ganblocks.functional.resample import upsample_nearest
from ganblocks.layers.blocks import activated
from ganblocks.layers.conv import ConvTranspose2d
from ganblocks.layers.minibatch_std import MinibatchStd
from ganblocks.layers.weight_scale import WSConv2d, WSConvTranspose2d, WSLinear
from ganblocks.models.labels import one_hot
from ganblocks.models.latent_generator import LatentGenerator
from ganblocks.models.progan_config import ProGANConfig
from ganblocks.ops.downsample_box import downsample_box
from ganblocks.ops.pixel_norm import pixel_norm

__all__ = ["Discriminator", "Generator", "ProGANConfig"]


class Generator(LatentGenerator):
    """Latents to images, through the layers of every resolution up to the one asked for.

    Karras et al. 2018, table 2 (left). ``state_dict`` keys carry the resolution: ``blocks.16.conv1.weight``.

    Args:
        config: The architecture.

    Attributes:
        recompute_from: Blocks of this resolution and above keep none of their features for the backward pass, but
            compute them again: less memory, more time, the same numbers. ``None`` = all are kept.

    Shape:
        Latents ``[N, Z]`` and labels ``[N]`` to images ``[N, image_channels, resolution, resolution]``.
    """

    def __init__(self, config: ProGANConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute_from: int | None = None
        self.initial: _InitialBlock = _InitialBlock(config)
        self.blocks: nn.ModuleDict = nn.ModuleDict()
        self.to_rgb: nn.ModuleDict = nn.ModuleDict()
        for resolution in config.resolutions:
            channels = config.channels(resolution)
            if resolution > 4:
                self.blocks[str(resolution)] = _GeneratorBlock(config, config.channels(resolution // 2), channels)
            self.to_rgb[str(resolution)] = WSConv2d(channels, config.image_channels, 1, gain=config.linear_gain)

    def forward(
        self,
        latents: Tensor,
        labels: Tensor | None = None,
        *,
        resolution: int | None = None,
        alpha: float | Tensor = 1.0,
    ) -> Tensor:
        """Make images.

        Args:
            latents: ``[N, Z]``, N(0, 1); only their direction counts, the first layer normalises them.
            labels: Class indices ``[N]``, required if and only if the configuration has classes.
            resolution: Power of two from 4 to the configuration's; ``None`` = the largest.
            alpha: Share of this resolution's layers in the result, 0 to 1. At the Python number 1 the previous
                resolution's output layer is not evaluated, at 0 this resolution's layers are not. No effect at 4.

        Returns:
            Images ``[N, C, resolution, resolution]``, nominally in [-1, 1]; a linear output may go beyond.

        Raises:
            ValueError: If a shape, the resolution or the presence of labels does not fit the configuration.
        """
        config = self.config
        resolution = config.resolution if resolution is None else resolution
        require(resolution in config.resolutions, "resolution", resolution, f"of {config.resolutions}")
        shape = tuple(latents.shape)
        require(latents.dim() == 2 and shape[1] == config.latent_dim, "latents", shape, f"[N, {config.latent_dim}]")
        classes = one_hot(labels, config.num_classes, latents)  # the first PixelNorm normalises both together
        code = latents if classes is None else torch.cat([latents, classes], dim=1)

        grows = resolution > 4 and not _is_number(alpha, 1)
        vanishes = resolution > 4 and _is_number(alpha, 0)
        last = resolution // 2 if vanishes else resolution
        features = self.initial(code)
        previous = features
        for current in config.resolutions[1:]:
            if current > last:
                break
            previous = features
            features = _run(self, current, features)

        if vanishes:
            images = upsample_nearest(self.to_rgb[str(last)](features))
        else:
            images = self.to_rgb[str(resolution)](features)
            if grows:  # to RGB first, then up: the same numbers from a quarter of the work
                images = fade_in(upsample_nearest(self.to_rgb[str(resolution // 2)](previous)), images, alpha)
        tanh = config.output_activation == "tanh" or (config.output_activation == "tanh_faded" and resolution > 4)
        return torch.tanh(images) if tanh else images


class Discriminator(nn.Module):
    """Images to scores, through the layers of their resolution and all smaller ones.

    Karras et al. 2018, table 2 (right). Twice differentiable, as a gradient penalty needs it. With classes, the last
    layer also gives auxiliary class logits (Odena et al. 2017); the score itself does not depend on labels.

    Args:
        config: The architecture.

    Attributes:
        recompute_from: As for `Generator`. Features are kept all the same where a gradient by the images is asked for,
            as penalties do; their second order needs them.

    Shape:
        Images ``[N, image_channels, R, R]`` for any R of ``config.resolutions`` to scores ``[N]``.
    """

    def __init__(self, config: ProGANConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute_from: int | None = None
        self.from_rgb: nn.ModuleDict = nn.ModuleDict()
        self.blocks: nn.ModuleDict = nn.ModuleDict()
        for resolution in config.resolutions:
            channels = config.channels(resolution)
            self.from_rgb[str(resolution)] = WSConv2d(config.image_channels, channels, 1, gain=config.gain)
            if resolution > 4:
                self.blocks[str(resolution)] = _DiscriminatorBlock(config, channels, config.channels(resolution // 2))
        self.final: _FinalBlock = _FinalBlock(config)

    def forward(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        *,
        alpha: float | Tensor = 1.0,
        chunks: int = 1,
    ) -> Tensor:
        """Score images.

        Args:
            images: ``[N, C, R, R]`` in [-1, 1].
            labels: Accepted so that all discriminators are called alike; the score does not depend on them.
            alpha: Share of this resolution's layers, 0 to 1; as in `Generator.forward`.
            chunks: Number of equal batches that ``images`` concatenates. The minibatch statistics do not cross them.

        Returns:
            Scores ``[N]``, unbounded, larger for more real.

        Raises:
            ValueError: If the shape of ``images`` does not fit the configuration.
        """
        return self._outputs(images, alpha, chunks)[:, 0]

    def classify(self, images: Tensor, *, alpha: float | Tensor = 1.0, chunks: int = 1) -> Tensor:
        """Class logits ``[N, num_classes]`` of the auxiliary head.

        Raises:
            ValueError: If the configuration has no classes, or as in `forward`.
        """
        require(self.config.num_classes > 0, "num_classes", self.config.num_classes, "above 0 for a class head")
        return self._outputs(images, alpha, chunks)[:, 1:]

    def score_and_classify(
        self, images: Tensor, *, alpha: float | Tensor = 1.0, chunks: int = 1
    ) -> tuple[Tensor, Tensor]:
        """`forward` and `classify` in one pass: scores ``[N]`` and class logits ``[N, num_classes]``."""
        require(self.config.num_classes > 0, "num_classes", self.config.num_classes, "above 0 for a class head")
        outputs = self._outputs(images, alpha, chunks)
        return outputs[:, 0], outputs[:, 1:]

    def _outputs(self, images: Tensor, alpha: float | Tensor, chunks: int) -> Tensor:
        require_rank(images, "images", 4, 4)
        config = self.config
        _, C, H, W = images.shape
        fits = config.image_channels == C and H == W and H in config.resolutions
        expected = f"[N, {config.image_channels}, R, R] with R of {config.resolutions}"
        require(fits, "images", tuple(images.shape), expected)
        resolution = H
        kept = self.recompute_from is None or _is_penalized(images)

        if resolution == 4 or _is_number(alpha, 1):
            features = self._from_rgb(images, resolution)
            features = features if resolution == 4 else _run(self, resolution, features, kept=kept)
        elif _is_number(alpha, 0):
            features = self._from_rgb(downsample_box(images), resolution // 2)
        else:
            new = _run(self, resolution, self._from_rgb(images, resolution), kept=kept)
            features = fade_in(self._from_rgb(downsample_box(images), resolution // 2), new, alpha)
        for current in reversed(config.resolutions[1:]):
            if current < resolution:
                features = _run(self, current, features, kept=kept)
        return self.final(features, chunks)

    def _from_rgb(self, images: Tensor, resolution: int) -> Tensor:
        return activated(cast(WSConv2d, self.from_rgb[str(resolution)]), images, slope=self.config.slope)


def _is_penalized(images: Tensor) -> bool:
    """Whether a penalty asks for gradients by these images: its second order holds the features in any case."""
    return images.requires_grad and images.is_leaf


def _run(network: Generator | Discriminator, resolution: int, features: Tensor, *, kept: bool = False) -> Tensor:
    """The block of a resolution; no block draws random numbers, so that none need be kept to compute it again."""
    block, first = network.blocks[str(resolution)], network.recompute_from
    output: Tensor
    if kept or first is None or resolution < first or not torch.is_grad_enabled():
        output = block(features)
    else:
        output = checkpoint(block, features, use_reentrant=False, preserve_rng_state=False)
    return output


class _InitialBlock(nn.Module):
    """Latents to 4x4 features: PixelNorm, a 4x4 transposed convolution (the paper's dense layer), a 3x3 convolution."""

    def __init__(self, config: ProGANConfig) -> None:
        super().__init__()
        self.config = config
        code, channels = config.latent_dim + config.num_classes, config.channels(4)
        self.project: WSConvTranspose2d | ConvTranspose2d
        if config.initial_equalized:
            self.project = WSConvTranspose2d(code, channels, 4, gain=config.gain)
        else:
            self.project = ConvTranspose2d(code, channels, 4)
        self.conv: WSConv2d = WSConv2d(channels, channels, 3, padding=1, gain=config.gain)

    def forward(self, code: Tensor) -> Tensor:
        x = pixel_norm(code)[:, :, None, None]  # [N, Z, 1, 1]
        slope = self.config.slope
        x = activated(self.project, x, slope=slope, normalize=self.config.initial_pixelnorm)  # [N, C, 4, 4]
        return activated(self.conv, x, slope=slope, normalize=True)


class _GeneratorBlock(nn.Module):
    """Twice the resolution: nearest upsampling, then two 3x3 convolutions, each with leaky ReLU and PixelNorm."""

    def __init__(self, config: ProGANConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.slope = config.slope
        self.conv1 = WSConv2d(in_channels, out_channels, 3, padding=1, gain=config.gain)
        self.conv2 = WSConv2d(out_channels, out_channels, 3, padding=1, gain=config.gain)

    def forward(self, x: Tensor) -> Tensor:
        x = upsample_nearest(x)
        x = activated(self.conv1, x, slope=self.slope, normalize=True)
        return activated(self.conv2, x, slope=self.slope, normalize=True)


class _DiscriminatorBlock(nn.Module):
    """Half the resolution: two 3x3 convolutions with leaky ReLU, then box downsampling."""

    def __init__(self, config: ProGANConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.slope = config.slope
        middle = in_channels if config.block_order == "paper" else out_channels
        self.conv1 = WSConv2d(in_channels, middle, 3, padding=1, gain=config.gain)
        self.conv2 = WSConv2d(middle, out_channels, 3, padding=1, gain=config.gain)

    def forward(self, x: Tensor) -> Tensor:
        x = activated(self.conv1, x, slope=self.slope)
        x = activated(self.conv2, x, slope=self.slope)
        return downsample_box(x)


class _FinalBlock(nn.Module):
    """4x4 features to the score: minibatch standard deviation, a 3x3 and a 4x4 convolution, a linear output."""

    def __init__(self, config: ProGANConfig) -> None:
        super().__init__()
        self.slope: float = config.slope
        channels = config.channels(4)
        self.minibatch_std: MinibatchStd = MinibatchStd(config.group_size, unbiased=config.unbiased, eps=config.std_eps)
        self.conv: WSConv2d = WSConv2d(channels + 1, channels, 3, padding=1, gain=config.gain)
        self.dense: WSConv2d = WSConv2d(channels, channels, 4, gain=config.gain)
        self.output: WSLinear = WSLinear(channels, 1 + config.num_classes, gain=config.linear_gain)

    def forward(self, x: Tensor, chunks: int) -> Tensor:
        x = self.minibatch_std(x, chunks=chunks)
        x = activated(self.conv, x, slope=self.slope)
        x = activated(self.dense, x, slope=self.slope)  # [N, C, 1, 1]
        return self.output(x.flatten(1))  # [N, 1 + num_classes]


def _is_number(alpha: float | Tensor, value: int) -> bool:
    """Whether ``alpha`` is that Python number; a tensor is never looked into."""
    if isinstance(alpha, Tensor):
        return False
    require(math.isfinite(alpha) and 0.0 <= alpha <= 1.0, "alpha", alpha, "between 0 (old) and 1 (new)")
    return alpha == value
