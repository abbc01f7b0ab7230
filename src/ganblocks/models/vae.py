"""The variational autoencoder (Kingma and Welling, "Auto-encoding variational Bayes", ICLR 2014; arXiv:1312.6114).

An encoder gives mean and log-variance of q(z | x), a decoder the parameters of p(x | z), and p(z) is the standard
normal. Images of this family are intensities: floats in [0, 1], which is what a Bernoulli distribution has a mean for;
:func:`ganblocks.functional.image_range.intensities` makes them from bytes or from [-1, 1].
"""

import itertools
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks.functional.latent import normal_latents
from ganblocks.layers.initialization import initialize
from ganblocks.layers.sampling import Reparameterize
from ganblocks.models.labels import one_hot
from ganblocks.models.vae_config import VAEConfig

__all__ = ["VAE", "Decoder", "Encoder", "Posterior", "VAEConfig", "VAEOutput"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "elu": nn.ELU, "silu": nn.SiLU}
_LOG_2PI = math.log(2 * math.pi)


class Posterior(NamedTuple):
    """The two outputs of the encoder, ``[N, Z]`` each: what `kl_divergence` takes as ``mean`` and ``log_var``."""

    mean: Tensor
    log_var: Tensor


class VAEOutput(NamedTuple):
    """All of one pass: the decoder's ``logits`` ``[N, C, R, R]``, ``latents``, ``mean`` and ``log_var`` ``[N, Z]``."""

    logits: Tensor
    latents: Tensor
    mean: Tensor
    log_var: Tensor


class VAE(nn.Module):
    """Images to a distribution of latents and back.

    ``encode`` and ``decode`` are deterministic: images to the mean of q(z | x), latents to the mean of p(x | z). The
    whole pass samples, in evaluation mode too.

    Args:
        config: The architecture.

    Shape:
        Images ``[N, image_channels, resolution, resolution]`` in [0, 1]; latents ``[N, Z]``; labels ``[N]``, class
        indices, if and only if the model is conditional.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: Encoder = Encoder(config)
        self.decoder: Decoder = Decoder(config)
        self.reparameterize: Reparameterize = Reparameterize(config.epsilon_std)
        learnt = config.likelihood == "gaussian" and config.noise_std is None
        self.log_noise_std: nn.Parameter | None = nn.Parameter(torch.zeros(())) if learnt else None
        initialize(self, config.initialization)

    def posterior(self, images: Tensor, labels: Tensor | None = None) -> Posterior:
        """The encoder's two outputs.

        Args:
            images: ``[N, C, R, R]`` in [0, 1].
            labels: ``[N]``, or ``None`` where the model is not conditional.

        Raises:
            ValueError: If images or labels do not fit the configuration.
        """
        shape, wanted = tuple(images.shape), self.config.image_shape
        require(images.dim() == 4 and shape[1:] == wanted, "images", shape, "[N, {}, {}, {}]".format(*wanted))
        mean, log_var = self.encoder(images, one_hot(labels, self.config.num_classes, images))
        return Posterior(mean, log_var)

    def encode(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """The code of each image, ``[N, Z]``: the mean of q(z | x). Arguments and errors are those of `posterior`."""
        return self.posterior(images, labels).mean

    def drawn_log_var(self, log_var: Tensor) -> Tensor:
        """The log-variance with which latents are really drawn; ``log_var`` itself unless the configuration says else.

        Args:
            log_var: The encoder's second output, ``[N, Z]``.
        """
        doubled = 2 * log_var if self.config.sampling == "log_sigma" else log_var
        std = self.config.epsilon_std
        return doubled if std == 1 else doubled + (2 * math.log(std) if std > 0 else -math.inf)

    def draw_latents(
        self, posterior: Posterior, *, noise: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Latents ``[N, Z]`` from what `posterior` gave; gradients reach both of its parts.

        Args:
            posterior: Mean and log-variance.
            noise: Standard normal numbers ``[N, Z]``; ``None`` draws them.
            generator: Where drawn noise comes from; ``None`` is torch's global generator.
        """
        mean, scale = posterior
        log_var = 2 * scale if self.config.sampling == "log_sigma" else scale
        latents: Tensor = self.reparameterize(mean, log_var, noise=noise, generator=generator)
        return latents

    def logits(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """The decoder's output in front of the sigmoid, ``[N, C, R, R]``.

        Args:
            latents: ``[N, Z]``.
            labels: ``[N]``, or ``None`` where the model is not conditional.

        Raises:
            ValueError: If latents or labels do not fit the configuration.
        """
        shape, Z = tuple(latents.shape), self.config.latent_dim
        require(latents.dim() == 2 and shape[1] == Z, "latents", shape, f"[N, {Z}]")
        logits: Tensor = self.decoder(latents, one_hot(labels, self.config.num_classes, latents))
        return logits

    def decode(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """The mean of p(x | z): images ``[N, C, R, R]`` in [0, 1]. Arguments and errors are those of `logits`."""
        return self.logits(latents, labels).sigmoid()

    def log_likelihood(self, images: Tensor, logits: Tensor) -> Tensor:
        """``log p(x | z)`` in nats, summed over the pixels of each image.

        Args:
            images: ``[N, C, R, R]`` in [0, 1]. Bernoulli: an intensity between 0 and 1 counts as the expectation over
                binary images of that mean, which is the usual cross-entropy and no density of the intensities.
            logits: What `logits` gave; the shape of ``images``.

        Returns:
            ``[N]``, at least float32.

        Raises:
            ValueError: If the shapes differ.
        """
        same = images.shape == logits.shape
        require(same, "logits", tuple(logits.shape), f"of the shape of the images, {tuple(images.shape)}")
        logits = logits.float() if logits.dtype.itemsize < 4 else logits
        images = images.to(logits.dtype)
        if self.config.likelihood == "bernoulli":
            each = -F.binary_cross_entropy_with_logits(logits, images, reduction="none")
            return each.flatten(1).sum(1)
        fixed = self.config.noise_std
        log_std = logits.new_tensor(math.log(fixed)) if fixed is not None else self.log_noise_std
        assert log_std is not None
        each = -((images - logits.sigmoid()) * torch.exp(-log_std)).square() / 2 - log_std - _LOG_2PI / 2
        return each.flatten(1).sum(1)

    def forward(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        *,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> VAEOutput:
        """Encode, draw, decode.

        Args:
            images: ``[N, C, R, R]`` in [0, 1].
            labels: ``[N]``, or ``None`` where the model is not conditional.
            noise: Standard normal numbers ``[N, Z]``; ``None`` draws them.
            generator: Where drawn noise comes from; ``None`` is torch's global generator.

        Raises:
            ValueError: If images or labels do not fit the configuration.
        """
        posterior = self.posterior(images, labels)
        latents = self.draw_latents(posterior, noise=noise, generator=generator)
        return VAEOutput(self.logits(latents, labels), latents, *posterior)

    @torch.no_grad()
    def sample(self, count: int, labels: Tensor | None = None, *, seed: int | None = None) -> Tensor:
        """Images of latents from the prior: the mean of p(x | z), without the noise of p.

        Args:
            count: N, at least 0.
            labels: ``[N]``, or ``None`` where the model is not conditional.
            seed: The same latents on every device; ``None`` draws from torch's global generator.

        Returns:
            ``[N, C, R, R]`` in [0, 1].

        Raises:
            ValueError: If a number or the labels do not fit.
        """
        weight = next(self.parameters())
        latents = normal_latents(count, self.config.latent_dim, seed=seed, device=weight.device, dtype=weight.dtype)
        return self.decode(latents, labels)

    @torch.no_grad()
    def start_at(self, mean_image: Tensor) -> None:
        """Set the biases of the last layer so that the decoder begins near this image.

        Args:
            mean_image: ``[C, R, R]`` in [0, 1], the mean of the training images; pulled into [0.001, 0.999]. Where the
                last layer is a convolution, it begins near each channel's mean.

        Raises:
            ValueError: If the shape does not fit the configuration.
        """
        shape = tuple(mean_image.shape)
        require(shape == self.config.image_shape, "mean_image", shape, str(self.config.image_shape))
        if self.config.channels:
            mean_image = mean_image.mean((1, 2))
        last = self.decoder.blocks[-1] if self.config.channels else self.decoder.flat
        last.get_parameter("bias").copy_(torch.logit(mean_image.flatten(), eps=1e-3))


def _dense(widths: tuple[int, ...], activation: str) -> list[nn.Module]:
    """Dense layers through these widths, each with its activation."""
    pairs = itertools.pairwise(widths)
    return [layer for pair in pairs for layer in (nn.Linear(*pair), _ACTIVATIONS[activation]())]


class Encoder(nn.Module):
    """Convolutions, dense layers, two heads."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for width, wider in itertools.pairwise((config.image_channels, *config.channels)):
            blocks += [nn.Conv2d(width, wider, 4, stride=2, padding=1), _ACTIVATIONS[config.activation]()]
        self.blocks: nn.Sequential = nn.Sequential(*blocks)
        widths = (_flat_features(config) + config.num_classes, *config.hidden_dims)
        self.dense: nn.Sequential = nn.Sequential(*_dense(widths, config.activation))
        self.mean: nn.Linear = nn.Linear(widths[-1], config.latent_dim)
        self.log_var: nn.Linear = nn.Linear(widths[-1], config.latent_dim)

    def forward(self, images: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``[N, C, R, R]`` to two times ``[N, Z]``."""
        hidden = self.blocks(images).flatten(1)
        hidden = self.dense(hidden if classes is None else torch.cat([hidden, classes.to(hidden.dtype)], dim=1))
        return self.mean(hidden), self.log_var(hidden)


class Decoder(nn.Module):
    """The mirror image; its last layer has no activation."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.side: int = config.resolution // 2 ** len(config.channels)
        widths = (config.latent_dim + config.num_classes, *reversed(config.hidden_dims))
        self.dense: nn.Sequential = nn.Sequential(*_dense(widths, config.activation))
        self.flat: nn.Linear = nn.Linear(widths[-1], _flat_features(config))
        blocks: list[nn.Module] = []
        for wider, width in itertools.pairwise((*reversed(config.channels), config.image_channels)):
            blocks += [_ACTIVATIONS[config.activation](), nn.ConvTranspose2d(wider, width, 4, stride=2, padding=1)]
        self.blocks: nn.Sequential = nn.Sequential(*blocks)

    def forward(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        """``[N, Z]`` to ``[N, C, R, R]``."""
        hidden = self.dense(latents if classes is None else torch.cat([latents, classes.to(latents.dtype)], dim=1))
        images: Tensor = self.blocks(self.flat(hidden).unflatten(1, (-1, self.side, self.side)))
        return images


def _flat_features(config: VAEConfig) -> int:
    """Numbers between convolutions and dense layers."""
    side = config.resolution // 2 ** len(config.channels)
    return (config.channels[-1] if config.channels else config.image_channels) * side**2
