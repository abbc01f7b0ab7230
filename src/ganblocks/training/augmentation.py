"""How often a discriminator's images are augmented: always the same, or as much as overfitting asks for."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ganblocks._checks import require
from ganblocks.functional.augment import diff_augment

__all__ = ["AdaptiveAugmentation"]


class AdaptiveAugmentation:
    """Augments images with a probability that rises while the discriminator overfits, and falls while it does not.

    Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data", section 3: the heuristic is
    ``r_t = E[sign(D(real))]`` of equation 1 over the last ``interval`` minibatches, 0 without overfitting and 1 where
    every training image is told to be real. Then the probability moves up where r_t is above the target and down
    where it is below, by the images of those minibatches over ``ramp_images``, and is clamped to [0, 1]. The transforms
    are those of `ganblocks.functional.augment`, not the paper's pipeline. It found augmentations to leak into the
    generated images only at probabilities above 0.8 or so (section 2.2).

    In a step, with a state of the generator for the reals and another for the fakes::

        real_logits = discriminator(augment(real_images, real_generator))
        fake_logits = discriminator(augment(fake_images, fake_generator))
        augment.observe(real_logits)

    The sign only says something where scores above 0 mean "real": not with a Wasserstein loss, and with a relativistic
    one only as far as nothing else fixes its zero.

    Args:
        policy: As in `ganblocks.functional.augment.diff_augment`.
        probability: At the start, 0 to 1; for ever where ``ramp_images`` is ``None``.
        target: Of r_t, between -1 and 1.
        ramp_images: Real images in which the probability could rise from 0 to 1, above 0; ``None`` = it is fixed.
        interval: Calls of `observe` between two moves, at least 1.

    Attributes:
        probability: 0-d float32 tensor, on the device of the logits once some were observed.
        overfitting: r_t at the last move (what would have been one, where the probability is fixed); 0 before. 0-d
            float32 tensor.

    Raises:
        ValueError: If a number is out of range or the policy has an unknown name.
        TypeError: If the policy is one string.
    """

    def __init__(
        self,
        policy: Sequence[str] = ("color", "translation", "cutout"),
        *,
        probability: float = 0.0,
        target: float = 0.6,
        ramp_images: int | None = 500_000,
        interval: int = 4,
    ) -> None:
        require(-1 < target < 1, "target", target, "between -1 and 1, both excluded")
        require(ramp_images is None or ramp_images > 0, "ramp_images", ramp_images, "above 0, or None")
        require(interval >= 1, "interval", interval, "at least 1")
        diff_augment(torch.zeros(0, 1, 1, 1), policy, probability=probability)  # it knows what it takes
        self.policy: tuple[str, ...] = tuple(policy)
        self.target = target
        self.ramp_images = ramp_images
        self.interval = interval
        self.probability: Tensor = torch.tensor(probability, dtype=torch.float32)
        self.overfitting: Tensor = torch.zeros(())
        self._fixed = probability if ramp_images is None else None
        self._sign_sum = torch.zeros(())
        self._images = 0
        self._calls = 0

    def __call__(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        """Augment images [N, C, H, W] as `ganblocks.functional.augment.diff_augment` does, with today's probability.

        Args:
            images: Floating-point, nominally in [-1, 1].
            generator: Where the numbers come from; ``None`` is torch's global generator of the images' device.
        """
        probability = self.probability if self._fixed is None else self._fixed
        return diff_augment(images, self.policy, probability=probability, generator=generator)

    def observe(self, real_logits: Tensor) -> None:
        """Take in the scores of the augmented reals of one minibatch; every ``interval`` calls, move the probability.

        The host does not wait for the device. A score that is NaN says nothing and counts as 0, its sign in torch.

        Args:
            real_logits: [N], one for each real image; without any, nothing happens.
        """
        if real_logits.numel() == 0:
            return
        signs = real_logits.detach().sign().sum(dtype=torch.float32)
        self._sign_sum = self._sign_sum.to(signs.device, non_blocking=True) + signs
        self._images += real_logits.numel()
        self._calls += 1
        if self._calls < self.interval:
            return
        self.overfitting = self._sign_sum / self._images
        probability = self.probability.to(signs.device, non_blocking=True)
        if self.ramp_images is not None:
            move = torch.sign(self.overfitting - self.target) * (self._images / self.ramp_images)
            probability = (probability + move).clamp(0.0, 1.0)
        self.probability = probability
        self._sign_sum = torch.zeros_like(self._sign_sum)
        self._images = self._calls = 0

    def state_dict(self) -> dict[str, Any]:
        """The probability, the last r_t, and what was observed since the last move."""
        return {
            "probability": self.probability,
            "overfitting": self.overfitting,
            "sign_sum": self._sign_sum,
            "images": self._images,
            "calls": self._calls,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave, except for a fixed probability, which is a setting and stays."""
        if self._fixed is None:
            self.probability = state["probability"]
        self.overfitting = state["overfitting"]
        self._sign_sum = state["sign_sum"]
        self._images, self._calls = int(state["images"]), int(state["calls"])
