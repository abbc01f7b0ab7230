"""The stochastic layer of a variational autoencoder."""

import torch
from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks.functional.latent import reparameterize

__all__ = ["Reparameterize"]


class Reparameterize(nn.Module):
    """Draw latents from an encoder's mean and log-variance; see :func:`ganblocks.functional.latent.reparameterize`.

    It always samples, in evaluation mode too. For a deterministic code, use the mean.

    Args:
        epsilon_std: Standard deviation of the added noise, at least 0.

    Raises:
        ValueError: ``epsilon_std`` is negative; in the call, unequal shapes.
    """

    def __init__(self, epsilon_std: float = 1.0) -> None:
        super().__init__()
        require(epsilon_std >= 0, "epsilon_std", epsilon_std, "at least 0")
        self.epsilon_std = epsilon_std

    def forward(
        self,
        mean: Tensor,
        log_var: Tensor,
        *,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw latents of the shape of ``mean``."""
        return reparameterize(mean, log_var, epsilon_std=self.epsilon_std, noise=noise, generator=generator)

    def extra_repr(self) -> str:
        """The standard deviation of the noise."""
        return f"epsilon_std={self.epsilon_std}"
