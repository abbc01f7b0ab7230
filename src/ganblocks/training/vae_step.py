"""The science of one batch for variational autoencoders, and how well they do on images kept from training."""

import math
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks._modes import evaluation_mode
from ganblocks.errors import EmptyDatasetError
from ganblocks.functional.draws import draw
from ganblocks.functional.image_range import intensities
from ganblocks.losses.divergence import free_bits, kl_divergence
from ganblocks.training.network_step import NetworkStep
from ganblocks.training.precision import Precision
from ganblocks.training.randomness import StepContext, derived_seed

__all__ = ["VAEStep", "VariationalModel", "binarized", "evaluate_vae"]


class _Pass(Protocol):
    """What one pass gives; a named tuple, for one."""

    @property
    def logits(self) -> Tensor: ...
    @property
    def mean(self) -> Tensor: ...
    @property
    def log_var(self) -> Tensor: ...


class VariationalModel(Protocol):
    """What a network must offer to be trained here; :class:`ganblocks.models.vae.VAE` does.

    All that it draws, it draws from ``generator``.
    """

    def __call__(
        self, images: Tensor, labels: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Any:
        """Images ``[N, C, H, W]`` in [0, 1] to an object with ``logits``, ``mean`` and ``log_var``."""

    def log_likelihood(self, images: Tensor, logits: Tensor) -> Tensor:
        """``log p(x | z)`` of each image, ``[N]``."""


class _Terms(NamedTuple):
    reconstruction: Tensor  # [N]
    kl: Tensor  # [N]
    mean: Tensor
    log_var: Tensor


class VAEStep(NetworkStep):
    """One update by the negative evidence lower bound, ``-log p(x | z) + beta KL(q(z | x) || p(z))``.

    Kingma and Welling 2014, equation 10, with one draw of the latents; both terms are sums over pixels and latents and
    means over images. The draws are a pure function of the run's seed and the images seen.

    Args:
        model: An ``nn.Module`` that is a `VariationalModel`, on its device already.
        optimizer: Over its parameters.
        beta: Weight of the divergence, 0 or more; 1 makes the loss a bound (Higgins et al. 2017 for others).
        annealing_images: Images over which the weight rises in a line from 0 to ``beta`` (Bowman et al. 2016, section
            3.1); 0 = none.
        free_nats: Share of each latent that is not charged for; see `ganblocks.losses.free_bits`.
        binarize: Whether each image is drawn anew, each time it is seen, from the Bernoulli distribution that its
            intensities are the mean of ("dynamic binarisation", Salakhutdinov and Murray 2008).
        conditional: Whether the model takes labels.
        precision: Of the forward pass; ``None`` = float32 on the CPU. Likelihood and divergence are float32 at least.
        max_skipped_updates: Updates that may be left out because the loss or a gradient is not finite, before the
            trainer raises `NonFiniteError`; see `ganblocks.training.guard`.
        micro_batch: Images that pass through the network at once, at most; ``None`` = all of a batch.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: torch.optim.Optimizer,
        beta: float = 1.0,
        annealing_images: int = 0,
        free_nats: float = 0.0,
        binarize: bool = False,
        conditional: bool = False,
        precision: Precision | None = None,
        max_skipped_updates: int = 0,
        micro_batch: int | None = None,
    ) -> None:
        require(0 <= beta < math.inf, "beta", beta, "0 or more, and finite")
        require(annealing_images >= 0, "annealing_images", annealing_images, "0 or more")
        require(0 <= free_nats < math.inf, "free_nats", free_nats, "0 or more, and finite")
        super().__init__(
            "model",
            optimizer=optimizer,
            precision=precision,
            max_skipped_updates=max_skipped_updates,
            micro_batch=micro_batch,
        )
        self.model = model
        self.beta = beta
        self.annealing_images = annealing_images
        self.free_nats = free_nats
        self.binarize = binarize
        self.conditional = conditional

    def kl_weight(self, images_seen: int) -> float:
        """The weight of the divergence for the batch that starts after ``images_seen`` images."""
        if images_seen >= self.annealing_images:
            return self.beta
        return self.beta * images_seen / self.annealing_images

    def __call__(self, images: Tensor, labels: Tensor | None, context: StepContext) -> dict[str, Tensor]:
        """Train on one batch of images, uint8 or float in [-1, 1]; labels ``[N]`` matter to conditional models only.

        Returns:
            ``loss``, with the weight of the moment, ``reconstruction`` (``-log p(x | z)``) and ``kl``, without weight:
            0-d tensors without graph, in nats an image, of this batch before its update.

        Raises:
            ValueError: If the model is conditional and there are no labels.
        """
        return super().__call__(images, labels, context)

    def _inputs(self, images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return _as_input(images, self.precision), self._labels(labels)

    def _loss(self, images: Tensor, labels: Tensor | None, context: StepContext) -> tuple[Tensor, dict[str, Tensor]]:
        if self.binarize:
            images = binarized(images, context.generator("binarization"))
        terms = _terms(self.model, images, labels, self.precision, context.generator("latents"))
        kl = terms.kl.mean()
        charged = free_bits(terms.mean, terms.log_var, nats=self.free_nats) if self.free_nats else kl
        reconstruction = terms.reconstruction.mean()
        weight = self.kl_weight(context.images_seen)
        loss = reconstruction + weight * charged if weight else reconstruction
        return loss, {"reconstruction": reconstruction.detach(), "kl": kl.detach()}

    def _labels(self, labels: Tensor | None) -> Tensor | None:
        if not self.conditional:
            return None
        if labels is None:
            raise ValueError("`labels` is None, but a conditional model is trained on images with labels")
        return labels.to(self.precision.device, torch.int64, non_blocking=True)


def binarized(images: Tensor, generator: torch.Generator) -> Tensor:
    """Zeros and ones drawn from the Bernoulli distributions that intensities are the means of.

    Args:
        images: Any shape, floating-point in [0, 1].
        generator: Where the numbers come from; one on the CPU gives the same images on every device.
    """
    uniform = draw(torch.rand, tuple(images.shape), generator, device=generator.device)
    return (uniform.to(images.device) < images).to(images.dtype)


@torch.no_grad()
def evaluate_vae(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    binarize: bool = False,
    batch_size: int = 512,
    seed: int = 0,
    precision: Precision | None = None,
) -> dict[str, float]:
    """The evidence lower bound on images kept from training, as `Measurements` writes it into the log.

    Args:
        model: As for `VAEStep`; used in evaluation mode.
        images: ``[N, C, H, W]``, uint8 or float in [-1, 1].
        labels: ``[N]`` for a conditional model, else ``None``.
        binarize: As for `VAEStep`.
        batch_size: Images in one pass.
        seed: Of the latents, and of binarisation: one draw for each image, the same in each call.
        precision: Of the forward pass and where it runs; ``None`` = float32, where the model's parameters are.

    Returns:
        ``val_loss``, the sum of ``val_reconstruction`` and ``val_kl``, all in nats an image. Weights of training
        (``beta``, annealing, free nats) play no part.

    Raises:
        EmptyDatasetError: If there is no image.
        ValueError: If ``batch_size`` is below 1.
    """
    require(batch_size >= 1, "batch_size", batch_size, "at least 1")
    if len(images) == 0:
        raise EmptyDatasetError("`images` has none")
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    precision = precision or Precision("fp32", device)
    reconstruction, kl = 0.0, 0.0
    with evaluation_mode(model):
        for start in range(0, len(images), batch_size):
            part = _as_input(images[start : start + batch_size], precision)
            if binarize:
                part = binarized(part, torch.Generator().manual_seed(derived_seed(seed, start, "binarization")))
            given = None if labels is None else labels[start : start + batch_size].to(device)
            generator = torch.Generator().manual_seed(derived_seed(seed, start, "latents"))
            terms = _terms(model, part, given, precision, generator)
            reconstruction += terms.reconstruction.double().sum().item()
            kl += terms.kl.double().sum().item()
    count = len(images)
    return {
        "val_loss": (reconstruction + kl) / count,
        "val_reconstruction": reconstruction / count,
        "val_kl": kl / count,
    }


def _terms(
    model: Any, images: Tensor, labels: Tensor | None, precision: Precision, generator: torch.Generator
) -> _Terms:
    """Both terms of the bound for each image."""
    with precision.autocast():
        result: _Pass = model(images, labels, generator=generator)
    return _Terms(
        -model.log_likelihood(images, result.logits),
        kl_divergence(result.mean, result.log_var, reduction="none"),
        result.mean,
        result.log_var,
    )


def _as_input(images: Tensor, precision: Precision) -> Tensor:
    """Intensities on the device, in the memory format that is fast for their size."""
    images = intensities(images.to(precision.device, non_blocking=True))
    return images.to(memory_format=precision.memory_format(images.shape[-1]))
