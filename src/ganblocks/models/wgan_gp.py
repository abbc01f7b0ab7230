"""A convolutional Wasserstein GAN for the gradient penalty (Gulrajani et al.: NeurIPS 2017, arXiv:1704.00028).

The critic has no normalisation: the penalty is on the gradient at each image by itself, and batch normalisation would
let an image's score depend on its neighbours (section 4, "No critic batch normalization"). The networks are those of a
widely taught variant in the manner of Radford et al. 2016: 4x4 kernels, every layer twice or half the resolution.
`WGANGPConfig.document` is that variant with its dropout and its constants. Loss and penalty are
`ganblocks.losses.wasserstein` and `ganblocks.losses.gradient_penalty`.
"""

import dataclasses
import math
from typing import Self, get_args

import torch
from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks.layers.blocks import activated
from ganblocks.layers.conv import Conv2d, ConvTranspose2d
from ganblocks.layers.initialization import InitializationScheme, initialize
from ganblocks.layers.projection import ProjectionHead
from ganblocks.models.config import ModelConfig
from ganblocks.models.labels import one_hot
from ganblocks.models.latent_generator import LatentGenerator
from ganblocks.ops.leaky_relu import leaky_relu

__all__ = ["Critic", "Generator", "WGANGPConfig"]

SIDES = (4, 8, 16, 32, 64, 128, 256, 512)  # of maps and images
GENERATOR_START = 8  # side of the generator's first map
CRITIC_END = 4  # side of the critic's last map


@dataclasses.dataclass(frozen=True)
class WGANGPConfig(ModelConfig):
    """Architecture of a WGAN-GP generator and critic: 19,599,875 and 11,162,561 parameters with the defaults.

    Attributes:
        resolution: Side of the images in pixels, a power of two from 16 to 512. It decides the depth of both networks.
        latent_dim: Size Z of a latent vector, 1 to 4096.
        image_channels: 3 for RGB, 1 for grey; 1 to 64.
        num_classes: Classes that both networks are told, up to 1024; 0 = not conditional.
        base_channels: Width of the layers at the largest maps, 1 to 2048; it doubles as the side halves ...
        max_channels: ... but is not more than this, 1 to 2048.
        slope: Negative slope of the leaky ReLUs, 0 to 1.
        dropout: Share of the activations that training leaves out after each block of the critic but the first, 0 to
            below 1. The penalty then is that of a random part of the critic.
        norm_momentum: Share by which a batch replaces the running statistics of the generator, 0 to 1. Keras counts the
            share that is kept: 1 less this.
        norm_eps: Added to the variances there, above 0.
        initialization: Of all weights; see `ganblocks.layers.initialize`.
    """

    resolution: int = 128
    latent_dim: int = 128
    image_channels: int = 3
    num_classes: int = 0
    base_channels: int = 64
    max_channels: int = 1024
    slope: float = 0.2
    dropout: float = 0.0
    norm_momentum: float = 0.1
    norm_eps: float = 1e-5
    initialization: InitializationScheme = "glorot_uniform"

    def __post_init__(self) -> None:
        require(type(self.num_classes) is int, "num_classes", self.num_classes, "a whole number")
        most = {"latent_dim": 4096, "image_channels": 64, "base_channels": 2048, "max_channels": 2048}
        for name in ("resolution", *most):
            require(type(getattr(self, name)) is int, name, getattr(self, name), "a whole number")
        for name in ("slope", "dropout", "norm_momentum", "norm_eps"):
            require(type(getattr(self, name)) in (int, float), name, getattr(self, name), "a number")
        require(self.resolution in SIDES[2:], "resolution", self.resolution, f"one of {SIDES[2:]}")
        for name, bound in most.items():
            require(1 <= getattr(self, name) <= bound, name, getattr(self, name), f"1 to {bound}")
        require(0 <= self.num_classes <= 1024, "num_classes", self.num_classes, "0 to 1024")
        require(0 <= self.slope <= 1, "slope", self.slope, "between 0 and 1")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "from 0 to below 1")
        require(0 <= self.norm_momentum <= 1, "norm_momentum", self.norm_momentum, "between 0 and 1")
        require(0 < self.norm_eps < math.inf, "norm_eps", self.norm_eps, "above 0 and finite")
        schemes = get_args(InitializationScheme)
        require(self.initialization in schemes, "initialization", self.initialization, f"one of {schemes}")

    @classmethod
    def document(cls, resolution: int = 128, **overrides: object) -> Self:
        """The variant of the course text: dropout of 0.3, and the constants and initial weights of its Keras layers.

        Keras's momentum of 0.8 is 0.2 here. Its summary counts running statistics too: 19,601,795 in the generator.
        """
        values = {"dropout": 0.3, "norm_momentum": 0.2, "norm_eps": 1e-3, "initialization": "glorot_uniform"}
        return cls.from_dict({"resolution": resolution, **values, **overrides})

    @property
    def generator_sides(self) -> tuple[int, ...]:
        """Sides of the maps that the generator's blocks give: 16 to `resolution`."""
        return tuple(side for side in SIDES if GENERATOR_START < side <= self.resolution)

    @property
    def critic_sides(self) -> tuple[int, ...]:
        """Sides of the maps that the critic's blocks give: `resolution` / 2 down to 4."""
        return tuple(side for side in reversed(SIDES) if CRITIC_END <= side < self.resolution)

    def generator_channels(self, side: int) -> int:
        """Width of the generator's map with that side, the first one (8) included."""
        return min(self.base_channels * self.resolution // side, self.max_channels)

    def critic_channels(self, side: int) -> int:
        """Width of the critic's map with that side."""
        return min(self.base_channels * self.resolution // 2 // side, self.max_channels)


class Generator(LatentGenerator):
    """Latents to images: a dense layer to 8x8, blocks that double the side, one more convolution, tanh.

    At 128x128: 1024 channels at 8, then 512, 256, 128 and 64 at 16, 32, 64 and 128. ``state_dict`` keys carry the
    side: ``blocks.16.conv.weight``.

    Args:
        config: The architecture.

    Shape:
        Latents ``[N, Z]`` and labels ``[N]`` to images ``[N, image_channels, resolution, resolution]`` in [-1, 1].
    """

    def __init__(self, config: WGANGPConfig) -> None:
        super().__init__()
        self.config = config
        width = config.generator_channels(GENERATOR_START)
        self.dense: nn.Linear = nn.Linear(config.latent_dim + config.num_classes, width * GENERATOR_START**2)
        self.blocks: nn.ModuleDict = nn.ModuleDict()
        for side in config.generator_sides:
            self.blocks[str(side)] = _GeneratorBlock(config, width, config.generator_channels(side))
            width = config.generator_channels(side)
        self.to_image: ConvTranspose2d = ConvTranspose2d(width, config.image_channels, 3, padding=1)
        initialize(self, config.initialization)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Make images.

        Args:
            latents: ``[N, Z]``, N(0, 1).
            labels: Class indices ``[N]``, required if and only if the configuration has classes; they join the latents
                as ones and zeros.

        Returns:
            Images ``[N, C, R, R]`` in [-1, 1].

        Raises:
            ValueError: If a shape or the presence of labels does not fit the configuration.
        """
        config, shape = self.config, tuple(latents.shape)
        require(latents.dim() == 2 and shape[1] == config.latent_dim, "latents", shape, f"[N, {config.latent_dim}]")
        classes = one_hot(labels, config.num_classes, latents)
        codes = latents if classes is None else torch.cat([latents, classes], dim=1)
        width, side = config.generator_channels(GENERATOR_START), GENERATOR_START
        x = leaky_relu(self.dense(codes), config.slope, inplace=True).view(-1, width, side, side)
        for block in self.blocks.values():
            x = block(x)
        images: Tensor = self.to_image(x).tanh()
        return images


class Critic(nn.Module):
    """Images to scores: blocks that halve the side down to 4x4, and a dense layer.

    At 128x128: 64, 128, 256, 512 and 1024 channels at 64, 32, 16, 8 and 4. Twice differentiable, as a gradient penalty
    needs it. No layer sees more than one image, so a batch may be anything: reals and fakes together, or one image.
    With classes, a vector of each is projected on the features (`ganblocks.layers.ProjectionHead`).

    Args:
        config: The architecture.

    Shape:
        Images ``[N, image_channels, resolution, resolution]`` and labels ``[N]`` to scores ``[N]``.
    """

    def __init__(self, config: WGANGPConfig) -> None:
        super().__init__()
        self.config = config
        width = config.image_channels
        self.blocks: nn.ModuleDict = nn.ModuleDict()
        for side in config.critic_sides:
            dropout = config.dropout if len(self.blocks) else 0.0  # none after the first block
            self.blocks[str(side)] = _CriticBlock(config, width, config.critic_channels(side), dropout)
            width = config.critic_channels(side)
        self.score: ProjectionHead = ProjectionHead(width * CRITIC_END**2, config.num_classes)
        initialize(self, config.initialization)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Score images.

        Args:
            images: ``[N, C, R, R]`` in [-1, 1].
            labels: Class indices ``[N]``, required if and only if the configuration has classes.

        Returns:
            Scores ``[N]``, unbounded, larger for more real.

        Raises:
            ValueError: If a shape or the presence of labels does not fit the configuration.
        """
        config, shape = self.config, tuple(images.shape)
        wanted = (config.image_channels, config.resolution, config.resolution)
        require(images.dim() == 4 and shape[1:] == wanted, "images", shape, "[N, {}, {}, {}]".format(*wanted))
        x = images
        for block in self.blocks.values():
            x = block(x)
        scores: Tensor = self.score(x.flatten(1), labels)
        return scores


# The leaky ReLUs below overwrite their input: no convolution or normalisation keeps its own output for its gradients,
# and the sign of a leaky ReLU can be read from its result. The dropout may not, that result is still needed.


class _GeneratorBlock(nn.Module):
    """Twice the side: transposed convolution, batch normalisation, leaky ReLU.

    The convolution has a bias, as in the course text, although the normalisation takes it away again.
    """

    def __init__(self, config: WGANGPConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.slope = config.slope
        self.conv = ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(out_channels, eps=config.norm_eps, momentum=config.norm_momentum)

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(self.norm(self.conv(x)), self.slope, inplace=True)


class _CriticBlock(nn.Module):
    """Half the side: convolution, leaky ReLU, dropout."""

    def __init__(self, config: WGANGPConfig, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        self.slope = config.slope
        self.conv = Conv2d(in_channels, out_channels, 4, stride=2, padding=1)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.dropout(activated(self.conv, x, slope=self.slope))
        return y
