"""The architecture of an R3GAN in numbers (Huang et al. 2024, section 4, configuration E), and two small presets."""

import dataclasses
import math
from typing import Self

from ganblocks._checks import require
from ganblocks.models.config import ModelConfig

__all__ = ["R3GANConfig"]

SIDES = (4, 8, 16, 32, 64, 128, 256)  # of maps and images
BLOCK_LAYERS = 3  # layers with weights in a residual block: "m" of Zhang et al. 2019


@dataclasses.dataclass(frozen=True)
class R3GANConfig(ModelConfig):
    """Architecture of an R3GAN. The defaults are those of `small32`.

    Attributes:
        resolution: Side of the images in pixels, a power of two from 8 to 256.
        latent_dim: Size Z of a latent vector, 1 to 4096; the learned vectors of the classes have it, too.
        image_channels: 3 for RGB, 1 for grey; 1 to 64.
        num_classes: Classes that both networks are told, up to 1024; 0 = not conditional.
        widths: Channels of the stages at 4x4, 8x8 and so on up to the resolution, 1 to 2048 each, the same in both
            networks.
        blocks_per_stage: Residual blocks at each resolution, 1 to 64.
        expansion: Channels between a block's two 1x1 convolutions for each of those outside, 1 to 16.
        group_size: Channels that a group of the 3x3 convolutions has; it divides ``expansion`` times each width.
        slope: Negative slope of the leaky ReLUs, 0 to 1.
    """

    resolution: int = 32
    latent_dim: int = 64
    image_channels: int = 3
    num_classes: int = 0
    widths: tuple[int, ...] = (256, 192, 96, 32)
    blocks_per_stage: int = 2
    expansion: int = 2
    group_size: int = 16
    slope: float = 0.2

    def __post_init__(self) -> None:
        require(
            type(self.resolution) is int and self.resolution in SIDES[1:],
            "resolution",
            self.resolution,
            f"one of {SIDES[1:]}",
        )
        require(isinstance(self.widths, tuple | list), "widths", self.widths, "whole numbers in a row")
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON has lists
        whole = all(type(width) is int and 1 <= width <= 2048 for width in self.widths)
        require(whole, "widths", self.widths, "whole numbers, 1 to 2048")
        count = len(self.sides)
        require(len(self.widths) == count, "widths", self.widths, f"{count} numbers, for the sides {self.sides}")
        for name, least, most in (
            ("latent_dim", 1, 4096),
            ("image_channels", 1, 64),
            ("num_classes", 0, 1024),
            ("blocks_per_stage", 1, 64),
            ("expansion", 1, 16),
            ("group_size", 1, 2048 * 16),
        ):
            value = getattr(self, name)
            fits = type(value) is int and least <= value <= most
            require(fits, name, value, f"a whole number, {least} to {most}")
        divides = all(self.expansion * width % self.group_size == 0 for width in self.widths)
        require(divides, "group_size", self.group_size, f"a divisor of {self.expansion} times each of {self.widths}")
        require(type(self.slope) in (int, float) and 0 <= self.slope <= 1, "slope", self.slope, "between 0 and 1")

    @classmethod
    def small32(cls, **overrides: object) -> Self:
        """For 32x32, on a CPU too: 1,328,736 parameters in the generator, 1,312,608 in the discriminator."""
        return cls.from_dict({"resolution": 32, "widths": (256, 192, 96, 32), **overrides})

    @classmethod
    def small64(cls, **overrides: object) -> Self:
        """For 64x64, on a small GPU: 1,714,016 parameters in the generator, 1,697,888 in the discriminator."""
        return cls.from_dict({"resolution": 64, "widths": (256, 256, 128, 64, 32), **overrides})

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides of the maps of both networks: 4 to `resolution`."""
        return tuple(side for side in SIDES if side <= self.resolution)

    @property
    def block_gain(self) -> float:
        """Amplitude of a block's first two layers at the start, where 1 keeps the variance of its input.

        That of He et al. 2015 for leaky ReLUs, times ``L^(-1 / (2 m - 2))`` with the L blocks of a network and the
        m = 3 layers with weights of a block (Zhang et al. 2019, section 3).
        """
        blocks = self.blocks_per_stage * len(self.widths)
        return math.sqrt(2 / (1 + self.slope**2)) * blocks ** (-1 / (2 * BLOCK_LAYERS - 2))
