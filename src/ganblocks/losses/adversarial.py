"""The adversarial games: six pairs of a discriminator loss and a generator loss, all minimised.

Every family is an `AdversarialLoss`, so one is exchanged for another by name:

>>> import torch
>>> from ganblocks.losses import hinge
>>> real_logits, fake_logits = torch.tensor([1.0, 2.0]), torch.tensor([-1.0, 0.5])
>>> hinge.discriminator_loss(real_logits, fake_logits)
tensor(0.7500)
>>> hinge.generator_loss(None, fake_logits)
tensor(0.2500)

The formulas use softplus(x) = log(1 + exp(x)) = -log sigmoid(-x), finite for every finite logit.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ganblocks._checks import require, require_same_shape

__all__ = [
    "AdversarialLoss",
    "by_name",
    "hinge",
    "least_squares",
    "minimax",
    "non_saturating",
    "relativistic",
    "wasserstein",
]


def check_logits(logits: Tensor, argument: str) -> Tensor:
    """Return logits [N], N >= 1, in at least float32, or say what is wrong with them."""
    if not isinstance(logits, Tensor):
        raise TypeError(f"`{argument}` is a {type(logits).__name__}, but must be a tensor of shape [N]")
    if not logits.is_floating_point():
        raise TypeError(f"`{argument}` has dtype {logits.dtype}, but must be floating point")
    if logits.dim() != 1 or logits.shape[0] == 0:
        raise ValueError(
            f"`{argument}` has shape {tuple(logits.shape)}, but must be [N] with N >= 1, one logit an image"
        )
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


@dataclass(frozen=True)
class AdversarialLoss:
    """One adversarial game: what the discriminator and what the generator minimise.

    Args:
        name: The name under which `by_name` finds it.
        discriminator_formula: ``(real_logits, fake_logits) -> scalar``.
        generator_formula: ``(real_logits, fake_logits) -> scalar``; it must not look at the real logits unless
            ``generator_needs_real``.
        generator_needs_real: Whether the generator's loss depends on the real logits.
    """

    name: str
    discriminator_formula: Callable[[Tensor, Tensor], Tensor]
    generator_formula: Callable[[Tensor, Tensor], Tensor]
    generator_needs_real: bool = False

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """The loss that the discriminator (or critic) minimises.

        Args:
            real_logits: [N] raw scores of real images, no sigmoid applied.
            fake_logits: [N] raw scores of generated images; of the same shape, nothing is broadcast.

        Returns:
            A scalar, the mean over the batch, in float32 (float64 for float64 logits).

        Raises:
            ValueError: If the shapes differ, are not [N], or the batch is empty.
            TypeError: If the logits are not floating point tensors.
        """
        real = check_logits(real_logits, "real_logits")
        fake = check_logits(fake_logits, "fake_logits")
        require_same_shape(real, fake, "real_logits", "fake_logits")
        return self.discriminator_formula(real, fake)

    def generator_loss(self, real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
        """The loss that the generator minimises.

        Args:
            real_logits: [N] raw scores of real images. Only ``relativistic`` uses them; for the others None will do.
            fake_logits: [N] raw scores of generated images.

        Returns:
            A scalar, the mean over the batch, in float32 (float64 for float64 logits).

        Raises:
            ValueError: If the shapes differ, are not [N], the batch is empty, or ``relativistic`` gets None.
            TypeError: If the logits are not floating point tensors.
        """
        fake = check_logits(fake_logits, "fake_logits")
        if real_logits is None:
            if self.generator_needs_real:
                raise ValueError(f"`real_logits` is None, but the {self.name} generator loss needs the real logits [N]")
            return self.generator_formula(fake, fake)
        real = check_logits(real_logits, "real_logits")
        require_same_shape(real, fake, "real_logits", "fake_logits")
        return self.generator_formula(real, fake)


def _softplus(x: Tensor) -> Tensor:
    return -F.logsigmoid(-x)  # F.softplus turns linear above 20, which costs float64 half of its digits


def _cross_entropy(real: Tensor, fake: Tensor) -> Tensor:
    """-E log D(x) - E log(1 - D(G(z))) with D = sigmoid(logit)."""
    return _softplus(-real).mean() + _softplus(fake).mean()


wasserstein: AdversarialLoss = AdversarialLoss(
    "wasserstein",
    lambda real, fake: fake.mean() - real.mean(),
    lambda real, fake: -fake.mean(),
)
"""The earth mover's distance (Arjovsky et al. 2017, equation 2 and algorithm 1); wants a Lipschitz critic.

Discriminator E[D(fake)] - E[D(real)], generator -E[D(fake)].
"""

non_saturating: AdversarialLoss = AdversarialLoss(
    "non_saturating", _cross_entropy, lambda real, fake: _softplus(-fake).mean()
)
"""The game that is played in practice (Goodfellow et al. 2014, section 3): the generator maximises E log D(G(z)).

Discriminator E[softplus(-real)] + E[softplus(fake)], generator E[softplus(-fake)].
"""

minimax: AdversarialLoss = AdversarialLoss("minimax", _cross_entropy, lambda real, fake: -_softplus(fake).mean())
"""The zero-sum game (Goodfellow et al. 2014, equation 1): the generator minimises E log(1 - D(G(z))).

Its gradient, -D(G(z)) a logit, vanishes where the discriminator is sure of the fakes, which is where training starts.
Discriminator as in ``non_saturating``, generator -E[softplus(fake)].
"""

hinge: AdversarialLoss = AdversarialLoss(
    "hinge",
    lambda real, fake: F.relu(1 - real).mean() + F.relu(1 + fake).mean(),
    lambda real, fake: -fake.mean(),
)
"""The hinge game (Lim and Ye 2017, section 3; Miyato et al. 2018, equations 16 and 17).

Discriminator E[max(0, 1 - real)] + E[max(0, 1 + fake)], generator -E[fake].
"""

least_squares: AdversarialLoss = AdversarialLoss(
    "least_squares",
    lambda real, fake: 0.5 * (real - 1).square().mean() + 0.5 * fake.square().mean(),
    lambda real, fake: 0.5 * (fake - 1).square().mean(),
)
"""Least squares with targets 1 for real and 0 for fake (Mao et al. 2017, equation 9).

Discriminator E[(real - 1)^2] / 2 + E[fake^2] / 2, generator E[(fake - 1)^2] / 2.
"""

relativistic: AdversarialLoss = AdversarialLoss(
    "relativistic",
    lambda real, fake: _softplus(fake - real).mean(),
    lambda real, fake: _softplus(real - fake).mean(),
    generator_needs_real=True,
)
"""The relativistic pairing game (Jolicoeur-Martineau 2018, section 4.1; Huang et al. 2024, equation 2).

Sample i of the reals meets sample i of the fakes: discriminator E[softplus(-(real - fake))], generator
E[softplus(-(fake - real))].
"""

_FAMILIES = {loss.name: loss for loss in (hinge, least_squares, minimax, non_saturating, relativistic, wasserstein)}


def by_name(name: str) -> AdversarialLoss:
    """Find an adversarial loss by its name, as configuration files and command lines give it.

    Args:
        name: ``"hinge"``, ``"least_squares"``, ``"minimax"``, ``"non_saturating"``, ``"relativistic"`` or
            ``"wasserstein"``.

    Raises:
        ValueError: If there is no such loss; the message lists the names.
    """
    require(name in _FAMILIES, "name", name, "one of " + ", ".join(_FAMILIES))
    return _FAMILIES[name]
