"""Recipes of the classifiers whose layers come out of autoencoders: everything that is not architecture."""

import dataclasses
import functools
from typing import Any, Literal, Self

import torch
from torch import nn

from ganblocks._checks import require
from ganblocks.functional.corruption import masking_noise
from ganblocks.functional.image_range import intensities
from ganblocks.losses.reconstruction import bernoulli, squared_error
from ganblocks.training.autoencoder_step import AutoencoderStep
from ganblocks.training.classifier_step import ClassifierStep
from ganblocks.training.precision import Precision
from ganblocks.training.pretraining import Prepare
from ganblocks.training.schedule import ConstantSchedule, CosineSchedule, Schedule

__all__ = ["StackedRecipe", "stacked_autoencoder", "stacked_document"]


@dataclasses.dataclass(frozen=True)
class StackedRecipe:
    """How a stack of autoencoders is trained, and the classifier made of it.

    Attributes:
        stacking: Where the classifier's layers come from, ``"greedy"`` or ``"latent_reuse"``, see
            `ganblocks.training.pretraining`; ``"none"`` = all are new.
        pretrain_epochs: Passes over the images, for each autoencoder.
        unrolled_epochs: Passes in which all autoencoders are trained together as a deep one; 0 = none.
        epochs: Passes in which the classifier is trained.
        batch_size: Images in a batch, everywhere.
        pretrain_learning_rate: Of the autoencoders; the highest where it decays.
        learning_rate: Of the classifier; the highest where it decays.
        decay: ``"cosine"``: rates rise over the first tenth and fall to 0 in half a cosine; ``"constant"``.
        loss: Of rebuilt images, ``"squared_error"`` or ``"bernoulli"``, the latter of their logits; rebuilt codes are
            compared by squared error in any case.
        masking: Share of an autoencoder's inputs that is set to 0 while it has to rebuild all, 0 to below 1.
        normalize_codes: See `pretrain_stack`.
        freeze: Whether layers that were pretrained stay as they are while the classifier is trained.
        label_smoothing: See `ClassifierStep`.
        betas: Of Adam, everywhere.
        adam_eps: Of Adam.
    """

    stacking: Literal["greedy", "latent_reuse", "none"] = "greedy"
    pretrain_epochs: int = 10
    unrolled_epochs: int = 0
    epochs: int = 10
    batch_size: int = 128
    pretrain_learning_rate: float = 1e-3
    learning_rate: float = 5e-3
    decay: Literal["cosine", "constant"] = "cosine"
    loss: Literal["squared_error", "bernoulli"] = "squared_error"
    masking: float = 0.25
    normalize_codes: bool = True
    freeze: bool = False
    label_smoothing: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    adam_eps: float = 1e-8

    def __post_init__(self) -> None:
        for name, known in (
            ("stacking", ("greedy", "latent_reuse", "none")),
            ("decay", ("cosine", "constant")),
            ("loss", ("squared_error", "bernoulli")),
        ):
            require(getattr(self, name) in known, name, getattr(self, name), f"one of {', '.join(known)}")
        for name, least in (("pretrain_epochs", 1), ("unrolled_epochs", 0), ("epochs", 1)):
            require(getattr(self, name) >= least, name, getattr(self, name), f"at least {least}")
        require(0 <= self.masking < 1, "masking", self.masking, "from 0 to below 1")
        separate = self.unrolled_epochs and self.stacking != "greedy"
        require(not separate, "unrolled_epochs", self.unrolled_epochs, f"0 for {self.stacking!r}: no codes are shared")

    def replace(self, **changes: Any) -> Self:
        """A copy with other values in the named fields."""
        return dataclasses.replace(self, **changes)

    def pretraining_schedule(self, dataset_images: int) -> Schedule:
        """The schedule of each autoencoder, for a data set with this many images."""
        return self._schedule(self.pretrain_epochs * dataset_images, self.pretrain_learning_rate)

    def unrolled_schedule(self, dataset_images: int) -> Schedule | None:
        """The schedule of the deep autoencoder; ``None`` where there is none."""
        images = self.unrolled_epochs * dataset_images
        return self._schedule(images, self.pretrain_learning_rate) if images else None

    def schedule(self, dataset_images: int) -> Schedule:
        """The schedule of the classifier."""
        return self._schedule(self.epochs * dataset_images, self.learning_rate)

    def build_autoencoder_step(
        self, autoencoder: nn.Module, *, prepare: Prepare = intensities, precision: Precision | None = None
    ) -> AutoencoderStep:
        """Optimizer and step for an autoencoder, which must already be on its device.

        Args:
            autoencoder: See `AutoencoderStep`.
            prepare: See there; ``None`` = it rebuilds codes.
            precision: ``None`` = float32 on the CPU.
        """
        logits = self.loss == "bernoulli" and prepare is not None
        return AutoencoderStep(
            autoencoder,
            optimizer=self._adam(autoencoder, self.pretrain_learning_rate),
            loss=functools.partial(bernoulli, logits=True) if logits else squared_error,
            logits=logits,
            corruption=functools.partial(masking_noise, p=self.masking) if self.masking else None,
            prepare=prepare,
            precision=precision,
        )

    def build_step(self, classifier: nn.Module, *, precision: Precision | None = None) -> ClassifierStep:
        """Optimizer and step for the classifier, which must already be on its device.

        Args:
            classifier: See `ClassifierStep`; what takes no gradient stays as it is.
            precision: ``None`` = float32 on the CPU.
        """
        return ClassifierStep(
            classifier,
            optimizer=self._adam(classifier, self.learning_rate),
            label_smoothing=self.label_smoothing,
            precision=precision,
        )

    def _schedule(self, images: int, learning_rate: float) -> Schedule:
        if self.decay == "constant":
            return ConstantSchedule(images, self.batch_size, learning_rate)
        return CosineSchedule(images, self.batch_size, learning_rate, warmup_images=images // 10)

    def _adam(self, module: nn.Module, learning_rate: float) -> torch.optim.Adam:
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        return torch.optim.Adam(trained, lr=learning_rate, betas=self.betas, eps=self.adam_eps, fused=True)


def stacked_autoencoder(**overrides: Any) -> StackedRecipe:
    """Greedy pretraining on inputs of which a quarter is masked, then ten epochs with labels; rates fall in a cosine.

    Layers that were pretrained have larger weights than new ones, and want a higher rate than is usual for those.

    Args:
        **overrides: Fields of `StackedRecipe`.
    """
    return StackedRecipe(**overrides)


def stacked_document(**overrides: Any) -> StackedRecipe:
    """The course text's form (its exercises 3 and 5): every autoencoder on the images, whose code layers are reused.

    Adam; the text names neither rate nor epochs nor batch. Taken here: 0.001 throughout, 10 epochs, batches of 128,
    squared error, clean inputs.

    Args:
        **overrides: Fields of `StackedRecipe`.
    """
    values: dict[str, Any] = {
        "stacking": "latent_reuse",
        "learning_rate": 1e-3,
        "decay": "constant",
        "masking": 0.0,
        "adam_eps": 1e-7,
    }
    return StackedRecipe(**{**values, **overrides})
