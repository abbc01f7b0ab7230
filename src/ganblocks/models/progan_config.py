"""The architecture of a ProGAN in numbers: the paper's, and that of a widely taught variant."""

import dataclasses
from typing import Literal, Self

from ganblocks._checks import require
from ganblocks.models.config import ModelConfig

__all__ = ["ProGANConfig"]

SQRT2 = 2**0.5


@dataclasses.dataclass(frozen=True)
class ProGANConfig(ModelConfig):
    """Architecture of a ProGAN generator and discriminator. The defaults are Karras et al. 2018.

    Attributes:
        resolution: Side of the largest images in pixels, a power of two from 4 to 1024.
        latent_dim: Size Z of a latent vector.
        image_channels: 3 for RGB, 1 for grey; any number from 1.
        num_classes: 0 for none. Otherwise labels enter the generator as one-hot vectors, and the discriminator gets an
            auxiliary classification head.
        base_channels: Width numerator: the layers at resolution R have ``2 * base_channels / R`` channels ...
        max_channels: ... but not more than this.
        slope: Negative slope of the leaky ReLUs.
        gain: Amplitude of the layers in front of a leaky ReLU.
        linear_gain: Amplitude of the linear layers: to RGB, and the last logit.
        initial_equalized: Whether the generator's first layer has the equalised learning rate.
        initial_pixelnorm: Whether a PixelNorm stands between the two layers of the generator's 4x4 stage.
        output_activation: ``"linear"``, ``"tanh"``, or ``"tanh_faded"``: tanh from 8x8 on, none at 4x4.
        group_size: Samples in a group of the minibatch standard deviation; ``None`` = the whole batch.
        unbiased: Whether its variance divides by one less than the group's size.
        std_eps: Added to its variance.
        block_order: Widths of a discriminator block's two convolutions: ``"paper"`` in-in, in-out; ``"document"``
            in-out, out-out.
    """

    resolution: int = 1024
    latent_dim: int = 512
    image_channels: int = 3
    num_classes: int = 0
    base_channels: int = 8192
    max_channels: int = 512
    slope: float = 0.2
    gain: float = SQRT2
    linear_gain: float = 1.0
    initial_equalized: bool = True
    initial_pixelnorm: bool = True
    output_activation: Literal["linear", "tanh", "tanh_faded"] = "linear"
    group_size: int | None = 4
    unbiased: bool = False
    std_eps: float = 1e-8
    block_order: Literal["paper", "document"] = "paper"

    def __post_init__(self) -> None:
        power_of_two = self.resolution >= 4 and self.resolution & (self.resolution - 1) == 0
        require(power_of_two and self.resolution <= 1024, "resolution", self.resolution, "a power of two, 4 to 1024")
        for name in ("latent_dim", "image_channels", "base_channels", "max_channels"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.num_classes >= 0, "num_classes", self.num_classes, "0 (no labels) or more")
        require(0 <= self.slope <= 1, "slope", self.slope, "between 0 and 1")
        activations = ("linear", "tanh", "tanh_faded")
        require(self.output_activation in activations, "output_activation", self.output_activation, f"of {activations}")
        orders = ("paper", "document")
        require(self.block_order in orders, "block_order", self.block_order, f"of {orders}")
        require(self.channels(self.resolution) >= 1, "base_channels", self.base_channels, "at least resolution / 2")

    @classmethod
    def karras2018(cls, resolution: int = 1024, **overrides: object) -> Self:
        """The networks of the paper: 23,079,115 and 23,087,249 parameters at 1024x1024."""
        return cls.from_dict({"resolution": resolution, **overrides})

    @classmethod
    def document(cls, resolution: int = 1024, **overrides: object) -> Self:
        """The variant of the course text: 5,772,979 and 6,366,529 parameters at 1024x1024.

        Half the width, an unscaled first layer, gain sqrt(2) everywhere, tanh except at 4x4, and an unbiased standard
        deviation over the whole batch.
        """
        values: dict[str, object] = {
            "latent_dim": 256,
            "base_channels": 4096,
            "max_channels": 256,
            "linear_gain": SQRT2,
            "initial_equalized": False,
            "initial_pixelnorm": False,
            "output_activation": "tanh_faded",
            "group_size": None,
            "unbiased": True,
            "std_eps": 0.0,
            "block_order": "document",
        }
        return cls.from_dict({"resolution": resolution, **values, **overrides})

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Every power of two from 4 to `resolution`."""
        return tuple(2**exponent for exponent in range(2, self.resolution.bit_length()))

    def channels(self, resolution: int) -> int:
        """Width of the layers at ``resolution``."""
        return min(2 * self.base_channels // resolution, self.max_channels)
