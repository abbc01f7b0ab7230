"""What keeps a discriminator from memorising few images: pull its scores together, or make them blind to augmentation.

Both are unweighted; the training step multiplies.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ganblocks._checks import require, require_same_shape
from ganblocks.losses.adversarial import check_logits

__all__ = ["LeCam", "consistency"]


class LeCam:
    """Pull the scores of reals towards where those of fakes have been, and the other way round.

    Tseng et al. 2021, equations 3 and 4: ``E[(D(x) - a_F)^2] + E[(D(G(z)) - a_R)^2]``, with the anchors a_R and a_F the
    moving averages of the scores of reals and of fakes, ``a <- decay * a + (1 - decay) * mean score``. For the
    discriminator only. In a step: `update` with the scores, then add ``weight * penalty(...)`` to the loss (the paper's
    weights are 0.01 to 0.5).

    The anchors start at 0, the undecided score, so the first penalties only shrink scores. They are tensors beside the
    scores and no host waits for them. With several processes each keeps its own.

    Args:
        decay: Share of the old anchor kept at each update, from 0 to below 1; the paper's is 0.99.

    Raises:
        ValueError: ``decay`` is out of range.
    """

    def __init__(self, *, decay: float = 0.99) -> None:
        require(0 <= decay < 1, "decay", decay, "from 0 to below 1")
        self.decay = decay
        self.real_anchor: Tensor = torch.zeros(())
        self.fake_anchor: Tensor = torch.zeros(())

    @torch.no_grad()
    def update(self, real_logits: Tensor, fake_logits: Tensor) -> None:
        """Move the anchors towards the mean scores of a batch; a mean that is not finite moves nothing.

        Args:
            real_logits: ``[N]`` scores of real images; no gradient is taken.
            fake_logits: ``[M]`` scores of generated images.

        Raises:
            ValueError: The logits are not [N], or the batch is empty.
            TypeError: The logits are not floating-point tensors.
        """
        real = check_logits(real_logits, "real_logits")
        fake = check_logits(fake_logits, "fake_logits")
        self.real_anchor = self._moved(self.real_anchor, real)
        self.fake_anchor = self._moved(self.fake_anchor, fake)

    def penalty(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """The squared distance of the scores to the anchors of the other side, which are constants here.

        Args:
            real_logits: ``[N]`` scores of real images.
            fake_logits: ``[M]`` scores of generated images.

        Returns:
            A scalar in at least float32, the sum of the two batch means. Twice differentiable.

        Raises:
            ValueError: The logits are not [N], or the batch is empty.
            TypeError: The logits are not floating-point tensors.
        """
        real = check_logits(real_logits, "real_logits")
        fake = check_logits(fake_logits, "fake_logits")
        return (real - self.fake_anchor.to(real)).square().mean() + (fake - self.real_anchor.to(fake)).square().mean()

    def state_dict(self) -> dict[str, Any]:
        """Both anchors, 0-d tensors."""
        return {"real_anchor": self.real_anchor, "fake_anchor": self.fake_anchor}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave; what follows is bit for bit what followed there.

        Raises:
            KeyError: An anchor is missing.
            ValueError: An anchor is not a 0-d tensor.
        """
        anchors = {name: state[name] for name in ("real_anchor", "fake_anchor")}
        for name, anchor in anchors.items():
            require(isinstance(anchor, Tensor) and anchor.dim() == 0, name, anchor, "a 0-d tensor")
        device = self.real_anchor.device
        self.real_anchor = anchors["real_anchor"].detach().to(device)
        self.fake_anchor = anchors["fake_anchor"].detach().to(device)

    def _moved(self, anchor: Tensor, logits: Tensor) -> Tensor:
        anchor, score = anchor.to(logits), logits.mean()
        return torch.where(score.isfinite(), self.decay * anchor + (1 - self.decay) * score, anchor)


def consistency(logits: Tensor, augmented_logits: Tensor) -> Tensor:
    """Mean squared difference between the scores of images and of the same images augmented.

    ``E[(D(x) - D(T(x)))^2]`` over real images is the consistency regularisation of Zhang et al. 2020 (CR-GAN, section
    2.2, on the last layer); added to the same of generated images it is the balanced one of Zhao et al. 2021 (bCR,
    algorithm 1). For the discriminator: the gradient reaches both sides. The papers' weight is 10.

    Args:
        logits: ``[N]`` scores of images.
        augmented_logits: ``[N]`` scores of the augmented images, in the same order.

    Returns:
        A scalar in at least float32. Twice differentiable.

    Raises:
        ValueError: The shapes differ, are not [N], or the batch is empty.
        TypeError: The logits are not floating-point tensors.
    """
    plain = check_logits(logits, "logits")
    augmented = check_logits(augmented_logits, "augmented_logits")
    require_same_shape(plain, augmented, "logits", "augmented_logits")
    return (plain - augmented).square().mean()
