"""Recipes of classifiers that name the painter of a picture: everything that is not architecture."""

import dataclasses
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks.training.callbacks import Callback
from ganblocks.training.classifier_step import ClassifierStep
from ganblocks.training.early_stopping import EarlyStopping
from ganblocks.training.optimizers import KerasRMSprop
from ganblocks.training.plateau import ReduceOnPlateau
from ganblocks.training.precision import Precision
from ganblocks.training.schedule import ConstantSchedule, CosineSchedule
from ganblocks.training.two_head_step import TwoHeadStep

__all__ = ["PaintingRecipe", "document_cnn", "document_comparison", "library"]


@dataclasses.dataclass(frozen=True)
class PaintingRecipe:
    """How a classifier of paintings is trained.

    Attributes:
        epochs: Passes over the data set, at most.
        batch_size: Images in a batch.
        optimizer: ``"adam"``, or ``"keras_rmsprop"``, see `KerasRMSprop`.
        learning_rate: The same throughout, or the highest of the cosine.
        backbone_factor: What the learning rate of the parameters in the classifier's ``backbone`` is multiplied by,
            above 0: below 1, what it has learned before moves less than the new layers behind it.
        schedule_form: ``"constant"`` = one learning rate, the last batch of an epoch smaller; ``"cosine"`` = it rises
            in a line and falls in a cosine to 0, all batches full.
        warmup: Share of all images over which the rate of the cosine rises, 0 to below 1.
        betas: Of Adam.
        momentum: Of RMSprop, 0 to below 1.
        eps: Of the optimizer; 1e-7 is Keras's.
        weight_decay: Adam's, apart from the gradient (Loshchilov and Hutter 2019, algorithm 2), 0 or above.
        label_smoothing: See `ClassifierStep`.
        early_stopping: Epochs on end without a lower ``val_loss`` after which training ends; ``None`` = it goes on.
        plateau: Epochs on end without a lower ``val_loss`` after which the learning rate is lowered; ``None`` = never.
        plateau_factor: What it is multiplied by then.
    """

    epochs: int = 40
    batch_size: int = 32
    optimizer: Literal["adam", "keras_rmsprop"] = "adam"
    learning_rate: float = 1e-3
    backbone_factor: float = 1.0
    schedule_form: Literal["constant", "cosine"] = "cosine"
    warmup: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.0
    eps: float = 1e-7
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    early_stopping: int | None = None
    plateau: int | None = None
    plateau_factor: float = 0.2

    def __post_init__(self) -> None:
        known = self.optimizer in ("adam", "keras_rmsprop")
        require(known, "optimizer", self.optimizer, "'adam' or 'keras_rmsprop'")
        known = self.schedule_form in ("constant", "cosine")
        require(known, "schedule_form", self.schedule_form, "'constant' or 'cosine'")
        for name in ("epochs", "batch_size", "early_stopping", "plateau"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "at least 1")
        require(self.backbone_factor > 0, "backbone_factor", self.backbone_factor, "above 0")
        require(0 <= self.warmup < 1, "warmup", self.warmup, "from 0 to below 1")
        require(0 < self.plateau_factor < 1, "plateau_factor", self.plateau_factor, "between 0 and 1, both excluded")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or above")
        decays = self.optimizer == "adam" or self.weight_decay == 0
        require(decays, "weight_decay", self.weight_decay, "0 for RMSprop, which has none")

    def replace(self, **changes: Any) -> Self:
        """A copy with other values in the named fields."""
        return dataclasses.replace(self, **changes)

    def schedule(self, dataset_images: int, *, updates: int | None = None) -> ConstantSchedule | CosineSchedule:
        """The schedule for a data set with this many images.

        Args:
            dataset_images: Images in the data set.
            updates: Training ends after this many, whatever `epochs` says, each with a full batch: classifiers are
                compared fairly after the same number. ``None`` = after `epochs`.

        Raises:
            ValueError: If a number is out of range.
        """
        require(updates is None or updates >= 1, "updates", updates, "at least 1, or None")
        images = self.epochs * dataset_images if updates is None else updates * self.batch_size
        if self.schedule_form == "cosine":
            return CosineSchedule(images, self.batch_size, self.learning_rate, warmup_images=int(self.warmup * images))
        of_epoch = dataset_images if updates is None else None
        return ConstantSchedule(images, self.batch_size, self.learning_rate, epoch_images=of_epoch)

    def build_step(
        self,
        classifier: nn.Module,
        *,
        class_weights: Tensor | None = None,
        attributes: Tensor | None = None,
        attribute_weight: float = 1.0,
        precision: Precision | None = None,
    ) -> ClassifierStep:
        """Optimizer and step for a classifier, which must already be on its device.

        Args:
            classifier: See `ClassifierStep`. Parameters that take no gradient are left out: freeze before.
            class_weights: See `ClassifierStep`.
            attributes: See `TwoHeadStep`, such as the movements of each painter; ``None`` = there is one head only.
            attribute_weight: See `TwoHeadStep`.
            precision: ``None`` = float32 on the CPU.

        Raises:
            TypeError: If there are attributes, but the classifier has one head.
            ValueError: If there is a ``backbone_factor`` but no ``backbone``.
        """
        options: dict[str, Any] = {
            "optimizer": self._optimizer(self._groups(classifier)),
            "label_smoothing": self.label_smoothing,
            "class_weights": class_weights,
            "precision": precision,
        }
        if attributes is None:
            return ClassifierStep(classifier, **options)
        return TwoHeadStep(classifier, attributes=attributes, attribute_weight=attribute_weight, **options)

    def callbacks(self) -> list[Callback]:
        """What lowers the rate and ends the run by ``val_loss``, which `Validation` must write before them."""
        made: list[Callback] = []
        if self.plateau is not None:
            made.append(ReduceOnPlateau("val_loss", factor=self.plateau_factor, patience=self.plateau))
        if self.early_stopping is not None:
            made.append(EarlyStopping("val_loss", patience=self.early_stopping))
        return made

    def _groups(self, classifier: nn.Module) -> list[dict[str, Any]]:
        """The parameters that are trained, those of a backbone with their own factor in a group of their own."""
        trained = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
        if self.backbone_factor == 1:
            return [{"params": trained}]
        backbone = getattr(classifier, "backbone", None)
        expected = f"1 for {type(classifier).__name__}, which has no backbone"
        require(isinstance(backbone, nn.Module), "backbone_factor", self.backbone_factor, expected)
        assert isinstance(backbone, nn.Module)
        own = {id(parameter) for parameter in backbone.parameters()}
        behind = [parameter for parameter in trained if id(parameter) not in own]
        inside = [parameter for parameter in trained if id(parameter) in own]
        groups: list[dict[str, Any]] = [{"params": behind}, {"params": inside, "lr_factor": self.backbone_factor}]
        return [group for group in groups if group["params"]]

    def _optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        if self.optimizer == "keras_rmsprop":
            return KerasRMSprop(groups, self.learning_rate, momentum=self.momentum, eps=self.eps)
        if self.weight_decay:
            decay = self.weight_decay
            return torch.optim.AdamW(
                groups, lr=self.learning_rate, betas=self.betas, eps=self.eps, weight_decay=decay, fused=True
            )
        return torch.optim.Adam(groups, lr=self.learning_rate, betas=self.betas, eps=self.eps, fused=True)


def library(**overrides: Any) -> PaintingRecipe:
    """For networks from random weights on some thousand small pictures: AdamW, a cosine, smoothed labels.

    Args:
        **overrides: Fields of `PaintingRecipe`.
    """
    values = {"learning_rate": 2e-3, "weight_decay": 0.05, "label_smoothing": 0.1}
    return PaintingRecipe(**{**values, **overrides})


def document_cnn(**overrides: Any) -> PaintingRecipe:
    """The course text's training of its painting CNN (E13): Keras's RMSprop with momentum 0.1, 20 epochs at batch 32.

    Args:
        **overrides: Fields of `PaintingRecipe`.
    """
    values = {"epochs": 20, "optimizer": "keras_rmsprop", "momentum": 0.1, "schedule_form": "constant"}
    return PaintingRecipe(**{**values, **overrides})


def document_comparison(**overrides: Any) -> PaintingRecipe:
    """The text's frame for six networks (E15 to E20): Adam, up to 100 epochs, ended and slowed down by ``val_loss``.

    The text gives no batch size, rate, patience or factor; 32, 0.001, 5 and 0.2 stand here. The rate is lowered after
    3 epochs, as with an equal patience the end would always come first.

    Args:
        **overrides: Fields of `PaintingRecipe`.
    """
    values = {"epochs": 100, "schedule_form": "constant", "early_stopping": 5, "plateau": 3}
    return PaintingRecipe(**{**values, **overrides})
