"""The science of one batch for networks whose latents hold a code that can be read off the image (Chen et al. 2016)."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ganblocks._checks import require
from ganblocks.functional.draws import draw
from ganblocks.functional.latent import normal_latents
from ganblocks.losses.information import categorical_information, gaussian_information
from ganblocks.training.adversarial_step import AdversarialStep
from ganblocks.training.randomness import StepContext
from ganblocks.training.steps import LatentSampler

__all__ = ["InformationStep", "code_sampler"]


class InformationStep(AdversarialStep):
    """`AdversarialStep` that also maximises what the image tells of its code, for `ganblocks.models.infogan` and such.

    Chen et al. 2016, equation 6: ``-weight * L_I`` joins the loss of the generator, whose gradient comes through the
    images, and the loss of the discriminator. The recognition network Q is part of the discriminator's module and is
    trained in the discriminator's update, with the layers that both share; while the generator is updated, it stands
    still.

    The discriminator needs ``score_and_codes(images)``: scores ``[N]``, logits of the categories ``[N, K]``, means and
    log-variances of the continuous codes ``[N, C]``. A latent is noise, then the one-hot category, then the continuous
    codes; see `code_sampler`. Codes are those of the latents that the very images were made from.

    Args:
        *arguments: As `AdversarialStep`.
        categories: K, at least 2.
        continuous: C, 0 or more.
        category_weight: Lambda of the categorical code, 0 or more (section 6: 1).
        continuous_weight: Lambda of the continuous codes, 0 or more. Their term is a differential entropy, which has no
            bound, so the paper takes less than 1.
        **options: As `AdversarialStep`; ``conditional`` must not be set.

    Raises:
        TypeError: If the discriminator has no ``score_and_codes``.
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        *arguments: Any,
        categories: int,
        continuous: int = 0,
        category_weight: float = 1.0,
        continuous_weight: float = 0.1,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        require(categories >= 2, "categories", categories, "at least 2")
        require(continuous >= 0, "continuous", continuous, "0 or more")
        require(category_weight >= 0, "category_weight", category_weight, "0 or more")
        require(continuous_weight >= 0, "continuous_weight", continuous_weight, "0 or more")
        require(not self.conditional, "conditional", self.conditional, "False: the categories are found, not told")
        guesses = hasattr(self.discriminator, "score_and_codes")
        kind = type(self.discriminator).__name__
        require(guesses, "discriminator", kind, "a network with score_and_codes(images)", TypeError)
        self.categories = categories
        self.continuous = continuous
        self.category_weight = category_weight
        self.continuous_weight = continuous_weight
        self._codes: tuple[Tensor, Tensor] | None = None  # of the newest fakes, one-hot and continuous
        self._information: dict[str, Tensor] = {}

    def __call__(self, images: Tensor, labels: Tensor | None, context: StepContext) -> dict[str, Tensor]:
        """As `AdversarialStep`, on images alone.

        Returns:
            Further ``discriminator_category_loss`` and ``generator_category_loss``, the terms with their weights, and
            ``category_information``, the bound L_I of the last fakes in nats: 0 where nothing can be read off the
            images, log K at most. With continuous codes the same with ``continuous`` in the name; that bound is finite
            only as long as Q errs.

        Raises:
            ValueError: If latents have no room for the codes, or the discriminator's guesses another shape.
        """
        try:
            return super().__call__(images, labels, context) | self._information
        finally:
            self._codes, self._information = None, {}

    def _generate(self, latents: Tensor, labels: Tensor | None, context: StepContext) -> Tensor:
        noise_dim = latents.shape[1] - self.categories - self.continuous
        wanted = f"[N, Z], Z at least {self.categories + self.continuous} for the codes"
        require(noise_dim >= 0, "latents", tuple(latents.shape), wanted)
        end = noise_dim + self.categories
        self._codes = latents[:, noise_dim:end], latents[:, end:]
        return super()._generate(latents, labels, context)

    def _score_both(
        self, real: Tensor, fake: Tensor, labels: Tensor | None, context: StepContext
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        real_scores = self._score(real, labels, context)
        fake_scores, terms = self._score_fake(fake, labels, context)
        return real_scores, fake_scores, terms

    def _score_fake(
        self, fake: Tensor, labels: Tensor | None, context: StepContext
    ) -> tuple[Tensor, dict[str, Tensor]]:
        assert self._codes is not None  # fakes come from `_generate`
        one_hot, continuous = self._codes
        network: Any = self.discriminator
        scores, logits, mean, log_var = network.score_and_codes(fake)
        bounds = {"category": categorical_information(logits, one_hot, entropy=math.log(self.categories))}
        if self.continuous:
            entropy = self.continuous * math.log(2)  # uniform on [-1, 1]
            bounds["continuous"] = gaussian_information(mean, log_var, continuous, entropy=entropy)
        weights = {"category": self.category_weight, "continuous": self.continuous_weight}
        self._information = {f"{name}_information": bound.detach() for name, bound in bounds.items()}
        return scores, {f"{name}_loss": -weights[name] * bound for name, bound in bounds.items()}


def code_sampler(noise_dim: int, categories: int, continuous: int = 0) -> LatentSampler:
    """A sampler of latents ``[count, noise_dim + categories + continuous]``.

    Chen et al. 2016, section 7.2: noise from N(0, 1), a category with equal probabilities, one-hot, and continuous
    codes uniform on [-1, 1], in this order.

    Args:
        noise_dim: Numbers of noise, at least 1.
        categories: At least 2.
        continuous: 0 or more.

    Raises:
        ValueError: If a number is out of range.
    """
    require(noise_dim >= 1, "noise_dim", noise_dim, "at least 1")
    require(categories >= 2, "categories", categories, "at least 2")
    require(continuous >= 0, "continuous", continuous, "0 or more")

    def sample(count: int, generator: torch.Generator) -> Tensor:
        device = generator.device
        noise = normal_latents(count, noise_dim, generator=generator, device=device)
        chosen = draw(partial(torch.randint, categories), (count,), generator, device=device)
        uniform = draw(torch.rand, (count, continuous), generator, device=device, dtype=torch.float64)
        return torch.cat([noise, F.one_hot(chosen, categories).to(noise), (2 * uniform - 1).to(noise)], dim=1)

    return sample
