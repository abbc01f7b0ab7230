"""What the trainer asks of a training step, and what steps are built from.

A step is the science of one batch: it owns networks and optimizers, and returns what happened as tensors. It never
makes the host wait for a GPU (no ``.item()``), except through the gradient scalers that float16 needs.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from ganblocks._checks import require
from ganblocks.functional.latent import normal_latents, truncated_normal_latents
from ganblocks.losses.penalties import gradient_penalty
from ganblocks.training.randomness import StepContext

__all__ = [
    "Augmentation",
    "GuardedStep",
    "LatentSampler",
    "Penalty",
    "ScoreRegularizer",
    "Step",
    "latent_sampler",
    "two_sided_penalty",
]

LatentSampler = Callable[[int, torch.Generator], Tensor]
"""Draws ``count`` latents ``[count, Z]`` from a generator, on the generator's device."""

Penalty = Callable[[Callable[[Tensor], Tensor], Tensor, Tensor, torch.Generator], Tensor]
"""Maps (critic, real images, fake images, generator) to an unweighted scalar."""


class Step(Protocol):
    """One training step, as `ganblocks.training.Trainer` sees it."""

    def __call__(self, images: Tensor, labels: Tensor | None, context: StepContext) -> dict[str, Tensor]:
        """Train on one batch; return scalars (0-d tensors) by log key."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        ...


@runtime_checkable
class GuardedStep(Protocol):
    """A step that leaves out updates that are not finite, and says so when asked."""

    def skipped_updates(self) -> int:
        """Updates left out so far. Raises `NonFiniteError` if they are more than the step allows."""
        ...


class Augmentation(Protocol):
    """What images pass on their way to the discriminator, such as `ganblocks.training.AdaptiveAugmentation`."""

    def __call__(self, images: Tensor, generator: torch.Generator, /) -> Tensor:
        """The images augmented, differentiably; the same state of the generator gives the same augmentation."""
        ...

    def observe(self, real_logits: Tensor, /) -> None:
        """Take in the scores of augmented reals."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next call depends on."""
        ...

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Restore what `state_dict` gave."""
        ...


class ScoreRegularizer(Protocol):
    """A term of the discriminator's loss made of scores alone, such as `ganblocks.losses.LeCam`."""

    def penalty(self, real_logits: Tensor, fake_logits: Tensor, /) -> Tensor:
        """The term, a scalar without its weight."""
        ...

    def update(self, real_logits: Tensor, fake_logits: Tensor, /) -> None:
        """Remember the scores of this batch."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next call depends on."""
        ...

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Restore what `state_dict` gave."""
        ...


def two_sided_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, generator: torch.Generator
) -> Tensor:
    """The `Penalty` of Gulrajani et al. 2017: two-sided, uniform mixing."""
    return gradient_penalty(critic, real, fake, generator=generator)


def latent_sampler(
    latent_dim: int, kind: Literal["normal", "truncnorm"] = "normal", *, truncation: float = 0.7
) -> LatentSampler:
    """A sampler of latents ``[count, latent_dim]``.

    Args:
        latent_dim: Size of a latent vector.
        kind: ``"normal"`` for N(0, 1); ``"truncnorm"`` for N(0, 1) conditioned to lie within ``truncation``.
        truncation: Bound of the truncated normal.

    Raises:
        ValueError: If ``kind`` is unknown.
    """
    require(kind in ("normal", "truncnorm"), "kind", kind, "'normal' or 'truncnorm'")
    if kind == "truncnorm":
        return lambda count, generator: truncated_normal_latents(
            count, latent_dim, truncation=truncation, generator=generator
        )
    return lambda count, generator: normal_latents(count, latent_dim, generator=generator)
