"""Recipes of networks that are trained by what the image tells of its code."""

import dataclasses
from typing import Any, Self

import torch
from torch import nn

from ganblocks._checks import require
from ganblocks.losses import adversarial
from ganblocks.training.ema import ExponentialMovingAverage
from ganblocks.training.information_step import InformationStep, code_sampler
from ganblocks.training.precision import Precision
from ganblocks.training.schedule import ConstantSchedule

__all__ = ["InfoGANRecipe", "chen2016"]


@dataclasses.dataclass(frozen=True)
class InfoGANRecipe:
    """How an InfoGAN is trained, by the non-saturating loss and what the image tells of its code.

    Attributes:
        epochs: Passes over the data set.
        batch_size: Real images in a batch.
        learning_rate: Of the discriminator, with the recognition network.
        generator_learning_rate: Of the generator.
        betas: Of Adam.
        category_weight: See `InformationStep`.
        continuous_weight: See there.
        ema_decay: Of a moving average of the generator, a step; ``None`` = no average.
    """

    epochs: int = 50
    batch_size: int = 128
    learning_rate: float = 2e-4
    generator_learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.5, 0.999)
    category_weight: float = 1.0
    continuous_weight: float = 0.1
    ema_decay: float | None = None

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(self.batch_size >= 2, "batch_size", self.batch_size, "at least 2, for batch normalisation")
        for name in ("learning_rate", "generator_learning_rate"):
            require(getattr(self, name) > 0, name, getattr(self, name), "above 0")

    def replace(self, **changes: Any) -> Self:
        """A copy with other values in the named fields."""
        return dataclasses.replace(self, **changes)

    def schedule(self, dataset_images: int) -> ConstantSchedule:
        """The schedule for a data set with this many images; its rate is the discriminator's.

        Raises:
            ValueError: If a number is out of range.
        """
        return ConstantSchedule(self.epochs * dataset_images, self.batch_size, self.learning_rate)

    def build_step(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        noise_dim: int,
        categories: int,
        continuous: int = 0,
        precision: Precision | None = None,
        **options: Any,
    ) -> InformationStep:
        """Optimizers, moving average and step for two networks, which must already be on their device.

        Args:
            generator: See `InformationStep`.
            discriminator: See there.
            noise_dim: Numbers of noise in a latent.
            categories: See `InformationStep`.
            continuous: See there.
            precision: ``None`` = float32 on the CPU.
            **options: Of `AdversarialStep`, such as ``log_probabilities``.
        """
        factor = self.generator_learning_rate / self.learning_rate
        average = None if self.ema_decay is None else ExponentialMovingAverage(generator, decay=self.ema_decay)
        return InformationStep(
            generator,
            discriminator,
            generator_optimizer=self._optimizer(generator, factor),
            discriminator_optimizer=self._optimizer(discriminator, 1.0),
            sampler=code_sampler(noise_dim, categories, continuous),
            categories=categories,
            continuous=continuous,
            category_weight=self.category_weight,
            continuous_weight=self.continuous_weight,
            ema=average,
            precision=precision,
            **{"loss": adversarial.non_saturating, "penalty": None, **options},
        )

    def _optimizer(self, module: nn.Module, factor: float) -> torch.optim.Optimizer:
        group: dict[str, Any] = {"params": list(module.parameters()), "lr_factor": factor}
        return torch.optim.Adam([group], lr=factor * self.learning_rate, betas=self.betas, fused=True)


def chen2016(**overrides: Any) -> InfoGANRecipe:
    """Adam (0.5, 0.999) at 0.0002 for the discriminator and 0.001 for the generator (appendix C).

    Weights are 1 for the category and 0.1 for the continuous codes; the paper says no more than that the latter is
    smaller (section 6). It does not give the length of training.

    Args:
        **overrides: Fields of `InfoGANRecipe`.
    """
    return InfoGANRecipe(**overrides)
