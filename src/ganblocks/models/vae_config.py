"""What shapes a variational autoencoder: see :mod:`ganblocks.models.vae`."""

import dataclasses
import math
from typing import Literal, get_args

from ganblocks._checks import require
from ganblocks.layers.initialization import InitializationScheme
from ganblocks.models.config import ModelConfig

__all__ = ["VAEConfig"]


@dataclasses.dataclass(frozen=True)
class VAEConfig(ModelConfig):
    """Architecture of a `VAE`. The defaults are 784-64-2 for MNIST and its relatives: 50,500 + 51,152 parameters.

    Attributes:
        resolution: Side of the images in pixels, 1 to 1024; with ``channels``, a multiple of 2 to their number.
        image_channels: 1 for grey, 3 for RGB; any number from 1.
        latent_dim: Z, at least 1.
        hidden_dims: Widths of the encoder's dense layers; the decoder has them in reverse. May be empty.
        channels: Widths of 4x4 convolutions of stride 2 in front of the dense layers, mirrored in the decoder; empty =
            none.
        activation: After each hidden layer: ``"relu"``, ``"tanh"``, ``"elu"`` or ``"silu"``.
        likelihood: p(x | z): ``"bernoulli"`` with the decoder's image as its mean, or ``"gaussian"`` with that mean and
            one standard deviation for all pixels.
        noise_std: That standard deviation; ``None`` = a parameter that is learnt, from 1 on (Rybkin et al. 2021,
            "Simple and effective VAE training with calibrated decoders"). Bernoulli has none.
        num_classes: Classes that encoder and decoder are told (Sohn et al. 2015); 0 = not conditional.
        sampling: What the encoder's second output is: ``"log_var"``, or ``"log_sigma"``, under which latents are drawn
            with the standard deviation ``exp(output)`` while the divergence goes on to read it as log-variance. That
            misfit is the form of a widespread tutorial, kept to reproduce what was made with it.
        epsilon_std: Standard deviation of the noise in the latents; anything but 1 makes the prior meaningless.
        initialization: Of all weights; see `ganblocks.layers.initialize`.
    """

    resolution: int = 28
    image_channels: int = 1
    latent_dim: int = 2
    hidden_dims: tuple[int, ...] = (64,)
    channels: tuple[int, ...] = ()
    activation: Literal["relu", "tanh", "elu", "silu"] = "relu"
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    noise_std: float | None = None
    num_classes: int = 0
    sampling: Literal["log_var", "log_sigma"] = "log_var"
    epsilon_std: float = 1.0
    initialization: InitializationScheme = "glorot_uniform"

    def __post_init__(self) -> None:
        for name in ("hidden_dims", "channels"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON has lists
            widths = getattr(self, name)
            require(all(type(width) is int and width >= 1 for width in widths), name, widths, "whole numbers from 1")
        for name, least in (("resolution", 1), ("image_channels", 1), ("latent_dim", 1), ("num_classes", 0)):
            value = getattr(self, name)
            require(type(value) is int and value >= least, name, value, f"a whole number, at least {least}")
        factor = 2 ** len(self.channels)
        fits = self.resolution <= 1024 and self.resolution % factor == 0
        require(fits, "resolution", self.resolution, f"a multiple of {factor} up to 1024")
        choices = {
            "activation": ("relu", "tanh", "elu", "silu"),
            "likelihood": ("bernoulli", "gaussian"),
            "sampling": ("log_var", "log_sigma"),
            "initialization": get_args(InitializationScheme),
        }
        for name, allowed in choices.items():
            require(getattr(self, name) in allowed, name, getattr(self, name), f"one of {allowed}")
        if self.noise_std is not None:
            require(
                self.likelihood == "gaussian", "noise_std", self.noise_std, "None unless the likelihood is gaussian"
            )
            require(0 < self.noise_std < math.inf, "noise_std", self.noise_std, "above 0 and finite")
        require(0 <= self.epsilon_std < math.inf, "epsilon_std", self.epsilon_std, "0 or more, and finite")

    @classmethod
    def burda2016(cls) -> "VAEConfig":
        """The network with one stochastic layer of Burda et al. 2016, section 5.1: 784-200-200-50, tanh."""
        return cls(latent_dim=50, hidden_dims=(200, 200), activation="tanh")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(image_channels, resolution, resolution)``."""
        return self.image_channels, self.resolution, self.resolution
