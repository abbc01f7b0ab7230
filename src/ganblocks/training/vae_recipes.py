"""Recipes of variational autoencoders: everything about an experiment that is not architecture."""

import dataclasses
from typing import Any, Literal, Self

import torch
from torch import nn

from ganblocks._checks import require
from ganblocks.training.precision import Precision
from ganblocks.training.schedule import ConstantSchedule, CosineSchedule
from ganblocks.training.vae_step import VAEStep

__all__ = ["VAERecipe", "latent_plane", "likelihood_protocol"]


@dataclasses.dataclass(frozen=True)
class VAERecipe:
    """How a variational autoencoder is trained.

    Attributes:
        epochs: Passes over the data set.
        batch_size: Images in a batch.
        learning_rate: The highest.
        decay: ``"none"``, or ``"cosine"``: it falls in half a cosine to 0 at the end.
        warmup: Share of all images over which the learning rate rises in a line, 0 to below 1; for ``"cosine"``.
        betas: Of Adam.
        adam_eps: Of Adam.
        kl_weight: Weight of the divergence, the ``beta`` of `VAEStep`.
        annealing: Share of all images over which that weight rises from 0, 0 to 1.
        free_nats: See `VAEStep`.
        binarize: See `VAEStep`.
    """

    epochs: int = 200
    batch_size: int = 64
    learning_rate: float = 1e-3
    decay: Literal["none", "cosine"] = "none"
    warmup: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    adam_eps: float = 1e-8
    kl_weight: float = 1.0
    annealing: float = 0.0
    free_nats: float = 0.0
    binarize: bool = False

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(self.decay in ("none", "cosine"), "decay", self.decay, "'none' or 'cosine'")
        require(0 <= self.warmup < 1, "warmup", self.warmup, "from 0 to below 1")
        require(self.warmup == 0 or self.decay == "cosine", "warmup", self.warmup, "0 where nothing decays")
        require(0 <= self.annealing <= 1, "annealing", self.annealing, "from 0 to 1")

    def replace(self, **changes: Any) -> Self:
        """A copy with other values in the named fields."""
        return dataclasses.replace(self, **changes)

    def schedule(self, dataset_images: int) -> ConstantSchedule | CosineSchedule:
        """The schedule for a data set with this many images.

        Raises:
            ValueError: If a number is out of range.
        """
        images = self.epochs * dataset_images
        if self.decay == "none":
            return ConstantSchedule(images, self.batch_size, self.learning_rate)
        return CosineSchedule(images, self.batch_size, self.learning_rate, warmup_images=int(self.warmup * images))

    def build_step(
        self,
        model: nn.Module,
        *,
        dataset_images: int,
        conditional: bool = False,
        precision: Precision | None = None,
    ) -> VAEStep:
        """Optimizer and step for a model, which must already be on its device.

        Args:
            model: See `VAEStep`.
            dataset_images: As for `schedule`; how long the weight of the divergence rises follows from it.
            conditional: Whether labels are used.
            precision: ``None`` = float32 on the CPU.
        """
        optimizer = torch.optim.Adam(
            model.parameters(), lr=self.learning_rate, betas=self.betas, eps=self.adam_eps, fused=True
        )
        return VAEStep(
            model,
            optimizer=optimizer,
            beta=self.kl_weight,
            annealing_images=int(self.annealing * self.epochs * dataset_images),
            free_nats=self.free_nats,
            binarize=self.binarize,
            conditional=conditional,
            precision=precision,
        )


def latent_plane(**overrides: Any) -> VAERecipe:
    """For the default `ganblocks.models.vae`, 784-64-2 on Fashion-MNIST: Adam at 0.001, 200 epochs, batches of 64.

    Intensities are not binarised; Adam's epsilon is that of Keras, in which the experiment was first made.

    Args:
        **overrides: Fields of `VAERecipe`. ``kl_weight=0`` is a loss of cross-entropy alone.
    """
    return VAERecipe(**{"adam_eps": 1e-7, **overrides})


def likelihood_protocol(**overrides: Any) -> VAERecipe:
    """For ``VAEConfig.burda2016()`` on MNIST, dynamically binarised: batches of 100, a learning rate that falls.

    Burda et al. 2016, section 5, made short: 3,280 passes in batches of 20 there, whose rate falls in eight steps from
    0.001 to 0.0001.

    Args:
        **overrides: Fields of `VAERecipe`.
    """
    values: dict[str, Any] = {
        "epochs": 400,
        "batch_size": 100,
        "learning_rate": 3e-3,
        "decay": "cosine",
        "warmup": 0.01,
        "annealing": 0.2,
        "binarize": True,
    }
    return VAERecipe(**{**values, **overrides})
