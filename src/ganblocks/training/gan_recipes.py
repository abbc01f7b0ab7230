"""Recipes of the classic adversarial networks: everything about an experiment that is not architecture."""

import dataclasses
import functools
import math
from typing import Any, Literal, Self, get_args

import torch
from torch import nn

from ganblocks._checks import require
from ganblocks.losses import adversarial
from ganblocks.losses.dragan import dragan_penalty
from ganblocks.losses.penalties import gradient_penalty, r1_penalty, r2_penalty
from ganblocks.training.adversarial_step import AdversarialStep
from ganblocks.training.ema import ExponentialMovingAverage
from ganblocks.training.precision import Precision
from ganblocks.training.schedule import ConstantSchedule
from ganblocks.training.steps import Penalty, latent_sampler

__all__ = [
    "GANRecipe",
    "LossName",
    "PenaltyName",
    "arjovsky2017",
    "dcgan_document",
    "dcgan_tutorial",
    "gulrajani2017",
    "huang2024",
    "kodali2017",
    "radford2016",
    "wgan_gp_document",
]

LossName = Literal["non_saturating", "minimax", "least_squares", "hinge", "wasserstein", "relativistic"]
PenaltyName = Literal["gradient_penalty", "dragan", "r1_r2"]
_LOSSES: dict[str, adversarial.AdversarialLoss] = {name: getattr(adversarial, name) for name in get_args(LossName)}


@dataclasses.dataclass(frozen=True)
class GANRecipe:
    """How a generator and a discriminator of one resolution are trained.

    Attributes:
        epochs: Passes over the data set, each image seen in one discriminator update (in ``n_critic`` of them where the
            batch is reused).
        generator_steps: Updates of the generator, instead of ``epochs``; ``None`` = as many as the epochs give.
        batch_size: Real images in a batch.
        whole_epochs: Whether a batch never reaches into the next epoch; the last one of each is then smaller.
        learning_rate: Of both networks.
        optimizer: ``"adam"``, or ``"rmsprop"``.
        betas: Of Adam.
        optimizer_eps: Of either.
        loss: Of `ganblocks.losses`.
        penalty: What holds the discriminator's gradients: ``"gradient_penalty"`` (Gulrajani et al. 2017), ``"dragan"``
            (Kodali et al. 2017), or ``"r1_r2"``, the sum of the squared gradients at reals and at fakes.
        penalty_weight: Lambda of a gradient penalty, or gamma / 2 of R1 and R2; 0 = none.
        mixing: Weights of the images a gradient penalty is taken at; see `gradient_penalty`.
        clip_weights: See `AdversarialStep`.
        n_critic: See there.
        reuse_real_batch: See there.
        reuse_fakes: See there.
        ema_decay: Of a moving average of the generator, a step; ``None`` = no average.
    """

    epochs: int = 50
    generator_steps: int | None = None
    batch_size: int = 128
    whole_epochs: bool = False
    learning_rate: float = 2e-4
    optimizer: Literal["adam", "rmsprop"] = "adam"
    betas: tuple[float, float] = (0.5, 0.999)
    optimizer_eps: float = 1e-8
    loss: LossName = "non_saturating"
    penalty: PenaltyName = "gradient_penalty"
    penalty_weight: float = 0.0
    mixing: Literal["uniform", "normal"] = "uniform"
    clip_weights: float | None = None
    n_critic: int = 1
    reuse_real_batch: bool = False
    reuse_fakes: bool = False
    ema_decay: float | None = None

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        enough = self.generator_steps is None or self.generator_steps >= 1
        require(enough, "generator_steps", self.generator_steps, "at least 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        require(self.optimizer in ("adam", "rmsprop"), "optimizer", self.optimizer, "'adam' or 'rmsprop'")
        require(self.loss in _LOSSES, "loss", self.loss, f"one of {', '.join(_LOSSES)}")
        names = get_args(PenaltyName)
        require(self.penalty in names, "penalty", self.penalty, f"one of {', '.join(names)}")
        require(self.mixing in ("uniform", "normal"), "mixing", self.mixing, "'uniform' or 'normal'")

    def replace(self, **changes: Any) -> Self:
        """A copy with other values in the named fields."""
        return dataclasses.replace(self, **changes)

    def schedule(self, dataset_images: int) -> ConstantSchedule:
        """The schedule for a data set with this many images.

        Raises:
            ValueError: If a number is out of range.
        """
        require(dataset_images >= 1, "dataset_images", dataset_images, "at least 1")
        images, size = self.epochs * dataset_images, self.batch_size
        if self.generator_steps is not None:
            batches = self.generator_steps * (1 if self.reuse_real_batch else self.n_critic)
            images = batches * size
            if self.whole_epochs:
                joined = size > 1 and dataset_images > 1 and dataset_images % size == 1  # see `ConstantSchedule`
                epochs, rest = divmod(batches, math.ceil(dataset_images / size) - joined)
                images = epochs * dataset_images + rest * size
        return ConstantSchedule(
            images, size, self.learning_rate, epoch_images=dataset_images if self.whole_epochs else None
        )

    def build_step(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        latent_dim: int,
        conditional: bool = False,
        precision: Precision | None = None,
        **options: Any,
    ) -> AdversarialStep:
        """Optimizers, moving average and step for two networks, which must already be on their device.

        Args:
            generator: See `AdversarialStep`.
            discriminator: See `AdversarialStep`.
            latent_dim: Size of a latent vector.
            conditional: Whether labels are used.
            precision: ``None`` = float32 on the CPU.
            **options: Of `AdversarialStep`, such as ``log_probabilities``.
        """
        penalty: Penalty | None = None
        if self.penalty_weight:
            mixed = functools.partial(_mixed, mixing=self.mixing)
            penalties: dict[str, Penalty] = {"gradient_penalty": mixed, "dragan": _dragan, "r1_r2": _r1_r2}
            penalty = penalties[self.penalty]
        average = None if self.ema_decay is None else ExponentialMovingAverage(generator, decay=self.ema_decay)
        return AdversarialStep(
            generator,
            discriminator,
            generator_optimizer=self._optimizer(generator),
            discriminator_optimizer=self._optimizer(discriminator),
            sampler=latent_sampler(latent_dim),
            loss=_LOSSES[self.loss],
            penalty=penalty,
            penalty_weight=self.penalty_weight,
            n_critic=self.n_critic,
            reuse_real_batch=self.reuse_real_batch,
            reuse_fakes=self.reuse_fakes,
            clip_weights=self.clip_weights,
            conditional=conditional,
            ema=average,
            precision=precision,
            **options,
        )

    def _optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        rate, eps = self.learning_rate, self.optimizer_eps
        if self.optimizer == "rmsprop":
            return torch.optim.RMSprop(module.parameters(), lr=rate, eps=eps)
        return torch.optim.Adam(module.parameters(), lr=rate, betas=self.betas, eps=eps, fused=True)


def _mixed(critic: Any, real: Any, fake: Any, generator: torch.Generator, *, mixing: Any) -> Any:
    return gradient_penalty(critic, real, fake, mixing=mixing, generator=generator)


def _dragan(critic: Any, real: Any, fake: Any, generator: torch.Generator) -> Any:
    return dragan_penalty(critic, real, generator=generator)


def _r1_r2(critic: Any, real: Any, fake: Any, generator: torch.Generator) -> Any:
    return r1_penalty(critic, real) + r2_penalty(critic, fake)


def radford2016(**overrides: Any) -> GANRecipe:
    """DCGAN as its paper trains it: Adam (0.5, 0.999) at 0.0002, batches of 128 (Radford et al. 2016, section 4).

    Args:
        **overrides: Fields of `GANRecipe`.
    """
    return GANRecipe(**overrides)


def dcgan_document(**overrides: Any) -> GANRecipe:
    """The course text's training of its DCGAN: 50 epochs of 469 batches, one set of fakes for both updates.

    Args:
        **overrides: Fields of `GANRecipe`.
    """
    return GANRecipe(**{"whole_epochs": True, "reuse_fakes": True, **overrides})


def dcgan_tutorial(**overrides: Any) -> GANRecipe:
    """For the tutorial's network with a dense start: Adam at 0.0001 with the moments of Keras, batches of 256.

    Args:
        **overrides: Fields of `GANRecipe`.
    """
    values: dict[str, Any] = {
        "batch_size": 256,
        "whole_epochs": True,
        "learning_rate": 1e-4,
        "betas": (0.9, 0.999),
        "optimizer_eps": 1e-7,
        "reuse_fakes": True,
    }
    return GANRecipe(**{**values, **overrides})


def arjovsky2017(**overrides: Any) -> GANRecipe:
    """The Wasserstein GAN: RMSprop at 0.00005, weights clipped at 0.01, five critic updates (algorithm 1).

    Args:
        **overrides: Fields of `GANRecipe`.
    """
    values: dict[str, Any] = {
        "batch_size": 64,
        "learning_rate": 5e-5,
        "optimizer": "rmsprop",
        "loss": "wasserstein",
        "clip_weights": 0.01,
        "n_critic": 5,
    }
    return GANRecipe(**{**values, **overrides})


def gulrajani2017(**overrides: Any) -> GANRecipe:
    """WGAN-GP: Adam (0, 0.9) at 0.0001, lambda 10, five critic updates on fresh batches (algorithm 1).

    Args:
        **overrides: Fields of `GANRecipe`.
    """
    values: dict[str, Any] = {
        "batch_size": 64,
        "learning_rate": 1e-4,
        "betas": (0.0, 0.9),
        "loss": "wasserstein",
        "penalty_weight": 10.0,
        "n_critic": 5,
    }
    return GANRecipe(**{**values, **overrides})


def wgan_gp_document(**overrides: Any) -> GANRecipe:
    """The course text's WGAN-GP on brain scans: 20 epochs of 400 steps at batch 128, Adam (0.5, 0.9) at 0.0002.

    Five critic updates on one batch of reals, and a penalty at images mixed by normal numbers, half of which lie beyond
    the reals; ``reuse_real_batch=False, mixing="uniform"`` are the paper's.

    Args:
        **overrides: Fields of `GANRecipe`.
    """
    values: dict[str, Any] = {
        "generator_steps": 20 * 400,
        "whole_epochs": True,
        "betas": (0.5, 0.9),
        "optimizer_eps": 1e-7,
        "loss": "wasserstein",
        "penalty_weight": 10.0,
        "mixing": "normal",
        "n_critic": 5,
        "reuse_real_batch": True,
    }
    return GANRecipe(**{**values, **overrides})


def kodali2017(**overrides: Any) -> GANRecipe:
    """DRAGAN: the game of Goodfellow et al., a penalty around the reals, lambda 10 (Kodali et al. 2017, section 2.3).

    Args:
        **overrides: Fields of `GANRecipe`.
    """
    values: dict[str, Any] = {"penalty": "dragan", "penalty_weight": 10.0, "batch_size": 64}
    return GANRecipe(**{**values, **overrides})


def huang2024(**overrides: Any) -> GANRecipe:
    """R3GAN: relativistic loss with R1 and R2, an average of the generator (Huang et al. 2024, section 2).

    Adam without momentum in the first moment. The paper anneals gamma and the learning rate with the data set; here
    both are constant, gamma 1 at a rate of 0.0002, for small images.

    Args:
        **overrides: Fields of `GANRecipe`.
    """
    values: dict[str, Any] = {
        "batch_size": 64,
        "betas": (0.0, 0.99),
        "loss": "relativistic",
        "penalty": "r1_r2",
        "penalty_weight": 0.5,
        "ema_decay": 0.999,
    }
    return GANRecipe(**{**values, **overrides})
