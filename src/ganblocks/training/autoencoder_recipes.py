"""Recipes of autoencoders: everything about their experiments that is not architecture."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self, get_args

import torch
from torch import nn

from ganblocks._checks import require
from ganblocks.functional.corruption import gaussian_noise, masking_noise, salt_and_pepper
from ganblocks.losses.reconstruction import bernoulli, squared_error
from ganblocks.training.autoencoder_step import AutoencoderStep, Corruption, ReconstructionLoss
from ganblocks.training.precision import Precision
from ganblocks.training.schedule import ConstantSchedule, CosineSchedule, Schedule

__all__ = ["AutoencoderRecipe", "Noise", "denoising_autoencoder", "dense_autoencoder", "document"]

Noise = Literal["none", "gaussian", "masking", "salt_and_pepper"]

_NOISES: Mapping[str, Callable[[float], Corruption | None]] = {
    "none": lambda level: None,
    "gaussian": lambda level: functools.partial(gaussian_noise, std=level),
    "masking": lambda level: functools.partial(masking_noise, p=level),
    "salt_and_pepper": lambda level: functools.partial(salt_and_pepper, p=level),
}


@dataclasses.dataclass(frozen=True)
class AutoencoderRecipe:
    """How an autoencoder is trained.

    Attributes:
        epochs: Passes over the data set.
        batch_size: Images in a batch.
        learning_rate: The highest.
        decay: Whether the learning rate falls in half a cosine to 0 at the end, instead of staying as it is.
        loss: ``"squared_error"``, or ``"bernoulli"`` of the model's logits; see `ganblocks.losses.reconstruction`.
        noise: What the model has to remove; see `ganblocks.functional.corruption`.
        noise_level: Standard deviation of Gaussian noise on intensities in [0, 1]; probability of the other two.
        betas: Of Adam.
        adam_eps: Of Adam. The loss is a sum over pixels: its gradients, and so what this number is compared with, are
            as many times larger than those of a mean.
    """

    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    decay: bool = True
    loss: Literal["squared_error", "bernoulli"] = "squared_error"
    noise: Noise = "none"
    noise_level: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    adam_eps: float = 1e-7

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(self.loss in ("squared_error", "bernoulli"), "loss", self.loss, "'squared_error' or 'bernoulli'")
        require(self.noise in get_args(Noise), "noise", self.noise, f"one of {', '.join(get_args(Noise))}")
        gaussian = self.noise == "gaussian"
        fits = self.noise_level >= 0 and (gaussian or self.noise_level <= 1)
        require(fits, "noise_level", self.noise_level, "0 or more" if gaussian else "0 to 1")

    def replace(self, **changes: Any) -> Self:
        """A copy with other values in the named fields."""
        return dataclasses.replace(self, **changes)

    def schedule(self, dataset_images: int) -> Schedule:
        """The schedule for a data set with this many images.

        Raises:
            ValueError: If a number is out of range.
        """
        kind = CosineSchedule if self.decay else ConstantSchedule
        return kind(self.epochs * dataset_images, self.batch_size, self.learning_rate)

    def corruption(self) -> Corruption | None:
        """The noise, as `AutoencoderStep` takes it; ``None`` = none."""
        return _NOISES[self.noise](self.noise_level)

    def build_loss(self) -> ReconstructionLoss:
        """The loss, as `AutoencoderStep` and `evaluate_autoencoder` take it; of logits for ``"bernoulli"``."""
        return functools.partial(bernoulli, logits=True) if self.loss == "bernoulli" else squared_error

    def build_step(self, model: nn.Module, *, precision: Precision | None = None) -> AutoencoderStep:
        """Optimizer and step for an autoencoder, which must already be on its device.

        Args:
            model: See `AutoencoderStep`.
            precision: ``None`` = float32 on the CPU.
        """
        optimizer = torch.optim.Adam(
            model.parameters(), lr=self.learning_rate, betas=self.betas, eps=self.adam_eps, fused=True
        )
        return AutoencoderStep(
            model,
            optimizer=optimizer,
            loss=self.build_loss(),
            logits=self.loss == "bernoulli",
            corruption=self.corruption(),
            precision=precision,
        )


def dense_autoencoder(**overrides: Any) -> AutoencoderRecipe:
    """For `ganblocks.models.autoencoder.DenseAutoencoder` on MNIST and its relatives: ten epochs at batch 32.

    Args:
        **overrides: Fields of `AutoencoderRecipe`.
    """
    return AutoencoderRecipe(**overrides)


def denoising_autoencoder(**overrides: Any) -> AutoencoderRecipe:
    """For `ganblocks.models.autoencoder.ConvDenoiser`: as `dense_autoencoder`, with Gaussian noise of 0.2.

    Args:
        **overrides: Fields of `AutoencoderRecipe`.
    """
    return AutoencoderRecipe(**{"noise": "gaussian", "noise_level": 0.2, **overrides})


def document(**overrides: Any) -> AutoencoderRecipe:
    """The course text's training of both, completed from the tutorial it follows: Adam at 0.001 from start to end.

    Args:
        **overrides: Fields of `AutoencoderRecipe`; ``noise="gaussian", noise_level=0.2`` for the denoiser.
    """
    return AutoencoderRecipe(**{"decay": False, **overrides})
