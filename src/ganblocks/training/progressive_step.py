"""The science of one batch for networks that grow (Karras et al. 2018)."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ganblocks.functional.fade import fade_in
from ganblocks.functional.resample import downsample_box, upsample_nearest
from ganblocks.training.adversarial_step import AdversarialStep
from ganblocks.training.randomness import StepContext

__all__ = ["ProgressiveStep"]


class ProgressiveStep(AdversarialStep):
    """`AdversarialStep` for networks that grow, such as `ganblocks.models.progan`.

    Karras et al. 2018. The networks are any modules called ``generator(latents, labels, resolution=R, alpha=a)`` and
    ``discriminator(images, labels, alpha=a)``. A discriminator that also takes ``chunks`` sees reals and fakes in one
    pass; one that has ``score_and_classify`` is trained to tell the classes as well (Odena et al. 2017).

    Args:
        *arguments: As `AdversarialStep`.
        blend_reals: Whether reals are cross-faded with their half-resolution version during a fade.
        reset_moments: Whether the optimizers forget their moments at both ends of each fade.
        classification_weight: Weight of the auxiliary cross-entropy, used where ``conditional`` is set.
        **options: As `AdversarialStep`.
    """

    def __init__(
        self,
        *arguments: Any,
        blend_reals: bool = True,
        reset_moments: bool = True,
        classification_weight: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.blend_reals = blend_reals
        self.reset_moments = reset_moments
        self.classification_weight = classification_weight
        self._phase_key: tuple[int, bool] | None = None
        self._one_pass = "chunks" in inspect.signature(self.discriminator.forward).parameters
        self._classifies = self.conditional and hasattr(self.discriminator, "score_and_classify")

    def _prepare(self, context: StepContext) -> None:
        key = (context.phase.stage, context.phase.fading)
        if self.reset_moments and self._phase_key not in (None, key):
            self.generator_optimizer.state.clear()
            self.discriminator_optimizer.state.clear()
        self._phase_key = key
        super()._prepare(context)

    def _real_images(self, images: Tensor, context: StepContext) -> Tensor:
        real = super()._real_images(images, context)
        if self.blend_reals and context.phase.fading and (context.phase.resolution or 0) > 4:
            real = fade_in(upsample_nearest(downsample_box(real)), real, context.phase.alpha)
        return real

    def _generate(self, latents: Tensor, labels: Tensor | None, context: StepContext) -> Tensor:
        phase = context.phase
        images: Tensor = self.generator(latents, labels, resolution=phase.resolution, alpha=phase.alpha)
        return images

    def _score(self, images: Tensor, labels: Tensor | None, context: StepContext) -> Tensor:
        scores: Tensor = self.discriminator(images, labels, alpha=context.phase.alpha)
        return scores

    def _score_both(
        self, real: Tensor, fake: Tensor, labels: Tensor | None, context: StepContext
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        if not self._one_pass:
            return super()._score_both(real, fake, labels, context)
        both = torch.cat([real, fake.to(real.dtype)])
        if labels is None or not self._classifies:
            doubled = None if labels is None else labels.repeat(2)
            scores = self.discriminator(both, doubled, alpha=context.phase.alpha, chunks=2)
            real_scores, fake_scores = scores.chunk(2)
            return real_scores, fake_scores, {}
        network: Any = self.discriminator
        scores, classes = network.score_and_classify(both, alpha=context.phase.alpha, chunks=2)
        real_scores, fake_scores = scores.chunk(2)
        return real_scores, fake_scores, {"class_loss": self._class_loss(classes, labels.repeat(2))}

    def _score_fake(
        self, fake: Tensor, labels: Tensor | None, context: StepContext
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if labels is None or not self._classifies:
            return super()._score_fake(fake, labels, context)
        network: Any = self.discriminator
        scores, classes = network.score_and_classify(fake, alpha=context.phase.alpha)
        return scores, {"class_loss": self._class_loss(classes, labels)}

    def _class_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self.classification_weight * F.cross_entropy(logits.float(), labels)

    def state_dict(self) -> dict[str, Any]:
        """As `AdversarialStep.state_dict`, with the phase of the last call."""
        return {**super().state_dict(), "phase_key": self._phase_key}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As `AdversarialStep.load_state_dict`."""
        super().load_state_dict(state)
        key = state["phase_key"]
        self._phase_key = None if key is None else (int(key[0]), bool(key[1]))
