"""Deep convolutional GANs (Radford, Metz, Chintala: ICLR 2016, arXiv:1511.06434).

Two pairs of networks go by that name, and both stand at the end of this file, a function for each network:

- ``form="paper"`` follows the guidelines of section 3: strided convolutions in place of pooling, no dense hidden
  layers, batch normalisation in both networks, ReLU in the generator and leaky ReLU in the discriminator. Kernels are
  4x4, a multiple of the stride, where figure 1 has 5x5.
- ``form="tutorial"`` is that of a widely taught Keras program: the generator starts with a dense layer, kernels are 5x5
  with the "same" geometry of Keras, and the discriminator has dropout in place of batch normalisation.

Both end in logits; where a text puts a sigmoid behind the discriminator, the losses of this library contain it.
Classes, which neither has, are told to both networks as one-hot vectors (Mirza and Osindero 2014, arXiv:1411.1784).
"""

import dataclasses
import itertools
import math
from functools import partial
from typing import Literal, Self, get_args

import torch
from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks.layers.conv import Conv2d, ConvTranspose2d
from ganblocks.layers.initialization import InitializationScheme, initialize
from ganblocks.layers.same_padding import SameConv2d, SameConvTranspose2d
from ganblocks.models.config import ModelConfig
from ganblocks.models.labels import one_hot
from ganblocks.models.latent_generator import LatentGenerator

__all__ = ["DCGANConfig", "Discriminator", "Generator"]


@dataclasses.dataclass(frozen=True)
class DCGANConfig(ModelConfig):
    """Architecture of a DCGAN. The defaults fit MNIST and its relatives: 759,680 and 138,624 parameters.

    Each block doubles or halves the side, and the smallest maps have 4 to 7 pixels: 28 = 7 * 2 * 2.

    Attributes:
        form: ``"paper"`` or ``"tutorial"``; see the top of this file.
        resolution: Side of the images in pixels: 4, 5, 6 or 7 times a power of two from 2, 1024 at most.
        latent_dim: Size Z of a latent vector, 1 to 4096.
        image_channels: 1 for grey, 3 for RGB; 1 to 64.
        num_classes: Classes that both networks are told, up to 1024; 0 = not conditional.
        base_channels: Width of the block next to the image, 1 to 1024; it doubles with every halving of the side ...
        max_channels: ... but not beyond this, 1 to 2048.
        slope: Negative slope of the leaky ReLUs, 0 to 1.
        dropout: Share of the activations that training leaves out after each block of the discriminator, 0 to below 1.
            The paper's form has none.
        norm_momentum: Share of the running statistics that a batch replaces (PyTorch's sense; Keras's 0.99 is 0.01
            here), above 0 to 1.
        norm_eps: Added to the variances of batch normalisation, positive.
        initialization: Of all weights; see `ganblocks.layers.initialize`. ``"torch"`` leaves them as PyTorch made them.
    """

    form: Literal["paper", "tutorial"] = "paper"
    resolution: int = 28
    latent_dim: int = 100
    image_channels: int = 1
    num_classes: int = 0
    base_channels: int = 64
    max_channels: int = 1024
    slope: float = 0.2
    dropout: float = 0.0
    norm_momentum: float = 0.1
    norm_eps: float = 1e-5
    initialization: InitializationScheme = "dcgan"

    def __post_init__(self) -> None:
        for name, least, most in (
            ("resolution", 8, 1024),
            ("latent_dim", 1, 4096),
            ("image_channels", 1, 64),
            ("num_classes", 0, 1024),
            ("base_channels", 1, 1024),
            ("max_channels", 1, 2048),
        ):
            value = getattr(self, name)
            fits = type(value) is int and least <= value <= most
            require(fits, name, value, f"a whole number, {least} to {most}")
        exact = self.start_side * 2 ** len(self.widths) == self.resolution
        require(exact, "resolution", self.resolution, "4, 5, 6 or 7 times a power of two")
        require(self.form in ("paper", "tutorial"), "form", self.form, "'paper' or 'tutorial'")
        schemes = get_args(InitializationScheme)
        require(self.initialization in schemes, "initialization", self.initialization, f"one of {schemes}")
        require(0 <= self.slope <= 1, "slope", self.slope, "between 0 and 1")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "from 0 to below 1")
        require(self.dropout == 0 or self.form == "tutorial", "dropout", self.dropout, "0 in the paper's form")
        require(0 < self.norm_momentum <= 1, "norm_momentum", self.norm_momentum, "above 0, 1 at most")
        require(0 < self.norm_eps < 1, "norm_eps", self.norm_eps, "above 0 and below 1")

    @classmethod
    def radford2016(cls, resolution: int = 28, **overrides: object) -> Self:
        """The paper's networks, with its initial weights from N(0, 0.02).

        The generator of figure 1 (but for the kernels) is ``radford2016(64, base_channels=128, image_channels=3)``.
        """
        return cls.from_dict({"resolution": resolution, **overrides})

    @classmethod
    def document_pytorch(cls, resolution: int = 28, **overrides: object) -> Self:
        """The same networks as a course text builds them in PyTorch: with the initial weights of the framework."""
        return cls.from_dict({"resolution": resolution, "initialization": "torch", **overrides})

    @classmethod
    def document_tutorial(cls, resolution: int = 28, **overrides: object) -> Self:
        """The Keras tutorial, with Keras's settings: 2,305,472 and 212,865 parameters that are trained, at 28x28."""
        values: dict[str, object] = {
            "form": "tutorial",
            "slope": 0.3,
            "dropout": 0.3,
            "norm_momentum": 0.01,
            "norm_eps": 1e-3,
            "initialization": "glorot_uniform",
        }
        return cls.from_dict({"resolution": resolution, **values, **overrides})

    @property
    def start_side(self) -> int:
        """Side of the smallest maps, 4 to 7."""
        return self.resolution // 2 ** len(self.widths)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the maps of half the side, of a quarter, and so on, the same in both networks."""
        blocks = self.resolution.bit_length() - 3
        return tuple(min(self.base_channels * 2**block, self.max_channels) for block in range(blocks))

    @property
    def dense_width(self) -> int:
        """Channels that the dense layer of the tutorial's generator makes: one doubling more."""
        return min(self.base_channels * 2 ** len(self.widths), self.max_channels)


class Generator(LatentGenerator):
    """Latents to images.

    Args:
        config: The architecture.

    Shape:
        Latents ``[N, Z]`` and labels ``[N]`` to images ``[N, image_channels, resolution, resolution]`` in [-1, 1].
    """

    def __init__(self, config: DCGANConfig) -> None:
        super().__init__()
        self.config = config
        self.layers: nn.Sequential = _paper_generator(config) if config.form == "paper" else _tutorial_generator(config)
        if config.initialization != "torch":
            initialize(self, config.initialization)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Make images. In training mode the tutorial's form needs two latents at least, to normalise over them.

        Args:
            latents: ``[N, Z]``, N(0, 1).
            labels: Class indices ``[N]``, required if and only if the configuration has classes.

        Returns:
            Images ``[N, C, R, R]`` in [-1, 1].

        Raises:
            ValueError: If a shape or the presence of labels does not fit the configuration.
        """
        shape, Z = tuple(latents.shape), self.config.latent_dim
        require(latents.dim() == 2 and shape[1] == Z, "latents", shape, f"[N, {Z}]")
        classes = one_hot(labels, self.config.num_classes, latents)
        images: Tensor = self.layers(latents if classes is None else torch.cat([latents, classes], dim=1))
        return images


class Discriminator(nn.Module):
    """Images to logits. Twice differentiable.

    In training mode the paper's form normalises over the batch, so that a logit depends on its neighbours, too: give it
    real and generated images in batches of their own, and no penalty that takes gradients image by image.

    Args:
        config: The architecture.

    Shape:
        Images ``[N, image_channels, resolution, resolution]`` and labels ``[N]`` to logits ``[N]``.
    """

    def __init__(self, config: DCGANConfig) -> None:
        super().__init__()
        self.config = config
        self.layers: nn.Sequential = (
            _paper_discriminator(config) if config.form == "paper" else _tutorial_discriminator(config)
        )
        if config.initialization != "torch":
            initialize(self, config.initialization)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Judge images.

        Args:
            images: ``[N, C, R, R]`` in [-1, 1].
            labels: Class indices ``[N]``, required if and only if the configuration has classes.

        Returns:
            Logits ``[N]``: their sigmoid is the probability of being real.

        Raises:
            ValueError: If a shape or the presence of labels does not fit the configuration.
        """
        shape, C, R = tuple(images.shape), self.config.image_channels, self.config.resolution
        require(images.dim() == 4 and shape[1:] == (C, R, R), "images", shape, f"[N, {C}, {R}, {R}]")
        classes = one_hot(labels, self.config.num_classes, images)
        if classes is not None:
            images = torch.cat([images, classes[:, :, None, None].expand(-1, -1, R, R)], dim=1)  # [N, C + K, R, R]
        logits: Tensor = self.layers(images).flatten()
        return logits


# The four networks. Activations work in place: nothing needs the numbers in front of them again.


def _paper_generator(config: DCGANConfig) -> nn.Sequential:
    """Transposed convolutions; no normalisation and tanh at the output (section 3)."""
    code, widths, channels = config.latent_dim + config.num_classes, config.widths, config.image_channels
    norm = partial(nn.BatchNorm2d, eps=config.norm_eps, momentum=config.norm_momentum)
    layers = [nn.Unflatten(1, (code, 1, 1)), ConvTranspose2d(code, widths[-1], config.start_side, bias=False)]
    layers += [norm(widths[-1]), nn.ReLU(inplace=True)]
    for width, narrower in itertools.pairwise(reversed(widths)):
        layers += [ConvTranspose2d(width, narrower, 4, stride=2, padding=1, bias=False)]  # twice the side
        layers += [norm(narrower), nn.ReLU(inplace=True)]
    layers += [ConvTranspose2d(widths[0], channels, 4, stride=2, padding=1, bias=False), nn.Tanh()]
    return nn.Sequential(*layers)


def _paper_discriminator(config: DCGANConfig) -> nn.Sequential:
    """Strided convolutions; no normalisation at the input (section 3)."""
    widths, channels = config.widths, config.image_channels + config.num_classes
    norm = partial(nn.BatchNorm2d, eps=config.norm_eps, momentum=config.norm_momentum)
    act = partial(nn.LeakyReLU, config.slope, inplace=True)
    layers: list[nn.Module] = [Conv2d(channels, widths[0], 4, stride=2, padding=1, bias=False), act()]  # half the side
    for width, wider in itertools.pairwise(widths):
        layers += [Conv2d(width, wider, 4, stride=2, padding=1, bias=False), norm(wider), act()]
    layers += [Conv2d(widths[-1], 1, config.start_side, bias=False)]  # [N, 1, 1, 1]
    return nn.Sequential(*layers)


def _tutorial_generator(config: DCGANConfig) -> nn.Sequential:
    """A dense layer, a transposed convolution that keeps the side, then those that double it."""
    code, widths, channels = config.latent_dim + config.num_classes, config.widths, config.image_channels
    maps = (config.dense_width, config.start_side, config.start_side)
    eps, momentum, act = config.norm_eps, config.norm_momentum, partial(nn.LeakyReLU, config.slope, inplace=True)
    norm = partial(nn.BatchNorm2d, eps=eps, momentum=momentum)
    layers: list[nn.Module] = [nn.Linear(code, math.prod(maps), bias=False)]
    layers += [nn.BatchNorm1d(math.prod(maps), eps, momentum), act(), nn.Unflatten(1, maps)]  # each number by itself
    layers += [SameConvTranspose2d(maps[0], widths[-1], 5, bias=False), norm(widths[-1]), act()]
    for width, narrower in itertools.pairwise(reversed(widths)):
        layers += [SameConvTranspose2d(width, narrower, 5, stride=2, bias=False), norm(narrower), act()]
    layers += [SameConvTranspose2d(widths[0], channels, 5, stride=2, bias=False), nn.Tanh()]
    return nn.Sequential(*layers)


def _tutorial_discriminator(config: DCGANConfig) -> nn.Sequential:
    """Strided convolutions with dropout, then a dense layer; biases everywhere, no normalisation."""
    widths, channels = config.widths, config.image_channels + config.num_classes
    act, drop = partial(nn.LeakyReLU, config.slope, inplace=True), partial(nn.Dropout, config.dropout)
    layers: list[nn.Module] = []
    for width, wider in itertools.pairwise((channels, *widths)):
        layers += [SameConv2d(width, wider, 5, stride=2), act(), drop()]
    layers += [nn.Flatten(), nn.Linear(widths[-1] * config.start_side**2, 1)]
    return nn.Sequential(*layers)
