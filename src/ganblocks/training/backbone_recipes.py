"""Recipes of classifiers over a pretrained backbone: everything that is not architecture."""

import dataclasses
from typing import Any, Literal, Self

import torch
from torch import nn

from ganblocks._checks import require
from ganblocks.training.classifier_step import ClassifierStep
from ganblocks.training.precision import Precision
from ganblocks.training.schedule import ConstantSchedule

__all__ = ["BackboneRecipe", "backbone_document"]


@dataclasses.dataclass(frozen=True)
class BackboneRecipe:
    """How a classifier over a backbone is trained: at one learning rate, the last batch of an epoch smaller.

    Attributes:
        epochs: Passes over the data set.
        batch_size: Images in a batch.
        learning_rate: The same throughout.
        optimizer: ``"adamax"`` (Kingma and Ba 2015, algorithm 2) or ``"adam"``.
        betas: Of the optimizer.
        eps: Of the optimizer. PyTorch's Adamax adds it to the gradient's absolute value, Keras to the largest one.
        penalty: Whether the classifier's own penalty is part of the loss, see `ClassifierStep`.
        label_smoothing: See `ClassifierStep`.
    """

    epochs: int = 30
    batch_size: int = 8
    learning_rate: float = 1e-3
    optimizer: Literal["adamax", "adam"] = "adamax"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-7
    penalty: bool = True
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(self.optimizer in ("adamax", "adam"), "optimizer", self.optimizer, "'adamax' or 'adam'")

    def replace(self, **changes: Any) -> Self:
        """A copy with other values in the named fields."""
        return dataclasses.replace(self, **changes)

    def schedule(self, dataset_images: int, *, updates: int | None = None) -> ConstantSchedule:
        """The schedule for a data set with this many images.

        Args:
            dataset_images: Images in the data set.
            updates: Training ends after this many, whatever `epochs` says: a smaller and a larger data set are compared
                fairly after the same number. ``None`` = after `epochs`.

        Raises:
            ValueError: If a number is out of range.
        """
        once = ConstantSchedule(dataset_images, self.batch_size, self.learning_rate, epoch_images=dataset_images)
        if updates is None:
            return dataclasses.replace(once, images=self.epochs * dataset_images)
        require(updates >= 1, "updates", updates, "at least 1")
        passes, rest = divmod(updates, self.updates_per_epoch(dataset_images))
        return dataclasses.replace(once, images=passes * dataset_images + rest * self.batch_size)

    def updates_per_epoch(self, dataset_images: int) -> int:
        """Batches in a pass over this many images.

        The last one has what is left; a single image joins the batch before it, see `ConstantSchedule`.
        """
        full, left = divmod(dataset_images, self.batch_size)
        joins = left == 1 and full >= 1 and self.batch_size > 1
        return full + (left > 0 and not joins)

    def build_step(self, classifier: nn.Module, *, precision: Precision | None = None) -> ClassifierStep:
        """Optimizer and step for a classifier, which must already be on its device.

        Args:
            classifier: See `ClassifierStep`. Parameters that take no gradient are left out: freeze a backbone before.
            precision: ``None`` = float32 on the CPU.
        """
        parameters = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
        optimizer: torch.optim.Optimizer
        if self.optimizer == "adamax":
            optimizer = torch.optim.Adamax(parameters, lr=self.learning_rate, betas=self.betas, eps=self.eps)
        else:
            optimizer = torch.optim.Adam(parameters, lr=self.learning_rate, betas=self.betas, eps=self.eps, fused=True)
        return ClassifierStep(
            classifier,
            optimizer=optimizer,
            label_smoothing=self.label_smoothing,
            penalty=self.penalty,
            precision=precision,
        )


def backbone_document(**overrides: Any) -> BackboneRecipe:
    """The course text's classifier of brain images: its code's Adamax with Keras's numbers, 30 epochs at batch 8.

    Its prose says Adam: ``optimizer="adam"``.

    Args:
        **overrides: Fields of `BackboneRecipe`.
    """
    return BackboneRecipe(**overrides)
