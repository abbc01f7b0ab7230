"""How the generators of this library are sampled."""

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks._modes import evaluation_mode
from ganblocks.functional.latent import normal_latents, truncated_normal_latents

__all__ = ["LatentGenerator"]


class _Config(Protocol):
    @property
    def latent_dim(self) -> int: ...

    @property
    def num_classes(self) -> int: ...


class LatentGenerator(nn.Module):
    """Base of generators that are called with latents ``[N, Z]`` and, where they have classes, labels ``[N]``.

    A subclass has the attribute ``config``, with ``latent_dim`` and ``num_classes``.
    """

    config: Any

    def sample_latents(self, count: int, *, seed: int | None = None, truncation: float | None = None) -> Tensor:
        """The latents of `sample`.

        Args:
            count: Number of latents N, at least 1.
            seed: The same latents on every device; ``None`` draws from torch's global generator.
            truncation: Bound of their components; ``None`` for N(0, 1).

        Returns:
            ``[N, Z]`` with the device and the dtype of the weights.

        Raises:
            ValueError: If ``count`` is below 1, or ``truncation`` is not positive and finite.
        """
        require(count >= 1, "count", count, "at least 1")
        weight, config = next(self.parameters()), self._sizes()
        form: dict[str, Any] = {"seed": seed, "device": weight.device, "dtype": weight.dtype}
        if truncation is None:
            return normal_latents(count, config.latent_dim, **form)
        return truncated_normal_latents(count, config.latent_dim, truncation=truncation, **form)

    @torch.no_grad()
    def sample(
        self,
        count: int,
        *,
        seed: int | None = None,
        labels: Tensor | None = None,
        truncation: float | None = None,
        batch_size: int = 64,
        **options: Any,
    ) -> Tensor:
        """Images from random latents, in evaluation mode; afterwards every layer has its own mode again.

        Args:
            count: Number of images, at least 1.
            seed: Of the latents; ``None`` draws from torch's global generator.
            labels: Class indices ``[count]`` for a network with classes; ``None`` = the classes in turn.
            truncation: Bound of the latents' components; ``None`` for N(0, 1).
            batch_size: Images made at a time.
            **options: Further arguments of ``forward``, such as ProGAN's ``resolution`` and ``alpha``.

        Returns:
            ``[count, C, R, R]`` in [-1, 1] (clamped), on the device of the weights.

        Raises:
            ValueError: If a number or the labels do not fit.
        """
        require(batch_size >= 1, "batch_size", batch_size, "at least 1")
        latents = self.sample_latents(count, seed=seed, truncation=truncation)
        classes = self._sizes().num_classes
        if labels is None and classes:
            labels = torch.arange(count, device=latents.device) % classes
        if labels is not None:
            require(labels.shape == (count,), "labels", tuple(labels.shape), f"[{count}], one an image")
        codes = torch.split(latents, batch_size)
        groups = [None] * len(codes) if labels is None else torch.split(labels, batch_size)
        with evaluation_mode(self):
            images = torch.cat([self(*batch, **options) for batch in zip(codes, groups, strict=True)])
        return images.clamp_(-1, 1)

    def _sizes(self) -> _Config:
        sizes: _Config = self.config
        return sizes
