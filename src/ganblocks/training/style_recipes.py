"""Recipes of networks that change the style of images in one pass."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks.training.precision import Precision
from ganblocks.training.schedule import CosineSchedule, Schedule
from ganblocks.training.style_step import StyleDecoderStep, TransformStep
from ganblocks.training.style_terms import StyleWeights

__all__ = ["StyleTrainingRecipe", "any_style", "one_style"]

Features = Callable[[Tensor], Mapping[str, Tensor]]


@dataclasses.dataclass(frozen=True)
class StyleTrainingRecipe(StyleWeights):
    """How such a network is trained; see `StyleWeights` for what its images are to be like.

    Attributes:
        images: Seen in all, at least 1.
        batch_size: Images in a batch, at least 1.
        learning_rate: Of Adam at the start, above 0; falls to 0 in half a cosine.
    """

    images: int = 16_000
    batch_size: int = 4
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("images", "batch_size"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")

    def replace(self, **changes: Any) -> Self:
        """A copy with other values in the named fields."""
        return dataclasses.replace(self, **changes)

    def schedule(self) -> Schedule:
        """The schedule of a run."""
        return CosineSchedule(self.images, self.batch_size, self.learning_rate)

    def build_transform_step(
        self,
        network: nn.Module,
        features: Features,
        style: Tensor,
        *,
        content_layers: Sequence[str],
        style_layers: Sequence[str],
        precision: Precision | None = None,
    ) -> TransformStep:
        """Optimizer and step for one style; the arguments are those of `TransformStep`."""
        return TransformStep(
            network,
            features,
            style,
            content_layers=content_layers,
            style_layers=style_layers,
            optimizer=self._optimizer(network),
            weights=self,
            precision=precision,
        )

    def build_decoder_step(
        self, decoder: nn.Module, features: Features, layers: Sequence[str], *, precision: Precision | None = None
    ) -> StyleDecoderStep:
        """Optimizer and step for any style; the arguments are those of `StyleDecoderStep`."""
        return StyleDecoderStep(
            decoder,
            features,
            layers,
            optimizer=self._optimizer(decoder),
            style_weight=self.style_weight,
            precision=precision,
        )

    def _optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(network.parameters(), lr=self.learning_rate, fused=True)


def one_style(**overrides: Any) -> StyleTrainingRecipe:
    """For `TransformStep`: batches of 4 and a rate of 0.001, as in Johnson et al. 2016; relative weights of our own.

    Args:
        **overrides: Fields of `StyleTrainingRecipe`.
    """
    return StyleTrainingRecipe(**overrides)


def any_style(**overrides: Any) -> StyleTrainingRecipe:
    """For `StyleDecoderStep`: batches of 8, a rate of 0.0001 and ten times the style, as Huang and Belongie 2017.

    Args:
        **overrides: Fields of `StyleTrainingRecipe`; of its weights only that of the style counts.
    """
    return StyleTrainingRecipe(**{"batch_size": 8, "learning_rate": 1e-4, "style_weight": 10.0, **overrides})
