"""InfoGAN (Chen, Duan, Houthooft, Schulman, Sutskever, Abbeel: NIPS 2016, arXiv:1606.03657).

The networks of appendix C.1, table 1, for MNIST and its relatives. A latent is noise and a code behind it: one
category, uniform and one-hot, and a few continuous codes, uniform on [-1, 1]. The discriminator shares all but its last
layers with a recognition network Q that guesses the code from the image; `categorical_information` and
`gaussian_information` of `ganblocks.losses.information` say how well it does, and
`ganblocks.training.information_step` trains both networks by it.

Q gives logits for the category, and mean and logarithm of the variance of a Gaussian for each continuous code (section
6). Batch normalisation stands in front of the activations, which the table lists in the other order, and images end in
tanh, as in a DCGAN, whose initial weights these networks have, too.
"""

import dataclasses
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganblocks._checks import require
from ganblocks._modes import evaluation_mode
from ganblocks.functional.latent import normal_latents, truncated_normal_latents
from ganblocks.layers.conv import Conv2d, ConvTranspose2d
from ganblocks.layers.initialization import InitializationScheme, initialize
from ganblocks.models.config import ModelConfig

__all__ = ["Discriminator", "Generator", "InfoGANConfig"]


@dataclasses.dataclass(frozen=True)
class InfoGANConfig(ModelConfig):
    """Architecture of an InfoGAN. The defaults are the paper's for MNIST: 6,645,121 and 6,691,151 parameters.

    Attributes:
        resolution: Side of the images in pixels: a multiple of 4, 8 to 64.
        image_channels: 1 for grey, 3 for RGB; 1 to 64.
        noise_dim: Numbers in a latent that are noise, 1 to 4096.
        categories: Values K of the categorical code, 2 to 1024.
        continuous: Continuous codes, 0 to 256.
        base_channels: Channels of the maps of half the side, 1 to 1024; those of a quarter have twice as many.
        dense_width: Width of the dense layer of each network, 1 to 8192.
        code_width: Width of the dense layer that Q has for itself, 1 to 8192.
        learned_variance: Whether Q guesses the variances of the continuous codes; otherwise they are 1.
        slope: Negative slope of the discriminator's leaky ReLUs, 0 to 1.
        initialization: Of all weights; see `ganblocks.layers.initialize`. ``"torch"`` leaves them as PyTorch made them.
    """

    resolution: int = 28
    image_channels: int = 1
    noise_dim: int = 62
    categories: int = 10
    continuous: int = 2
    base_channels: int = 64
    dense_width: int = 1024
    code_width: int = 128
    learned_variance: bool = True
    slope: float = 0.1
    initialization: InitializationScheme = "dcgan"

    def __post_init__(self) -> None:
        for name, least, most in (
            ("resolution", 8, 64),
            ("image_channels", 1, 64),
            ("noise_dim", 1, 4096),
            ("categories", 2, 1024),
            ("continuous", 0, 256),
            ("base_channels", 1, 1024),
            ("dense_width", 1, 8192),
            ("code_width", 1, 8192),
        ):
            value = getattr(self, name)
            fits = type(value) is int and least <= value <= most
            require(fits, name, value, f"a whole number, {least} to {most}")
        require(self.resolution % 4 == 0, "resolution", self.resolution, "a multiple of 4")
        flag = self.learned_variance
        require(type(flag) is bool, "learned_variance", flag, "True or False")
        require(type(self.slope) in (int, float) and 0 <= self.slope <= 1, "slope", self.slope, "between 0 and 1")
        schemes = get_args(InitializationScheme)
        require(self.initialization in schemes, "initialization", self.initialization, f"one of {schemes}")

    @classmethod
    def chen2016(cls, **overrides: object) -> "InfoGANConfig":
        """The paper's networks for MNIST: 62 numbers of noise, 10 categories, 2 continuous codes."""
        return cls.from_dict(overrides)

    @property
    def latent_dim(self) -> int:
        """Size Z of a latent vector: noise, category, continuous codes, in this order."""
        return self.noise_dim + self.categories + self.continuous

    @property
    def num_classes(self) -> int:
        """Always 0: the categories are found, not told."""
        return 0

    @property
    def start_maps(self) -> tuple[int, int, int]:
        """Channels and sides of the smallest maps, a quarter of the image: ``(128, 7, 7)`` for MNIST."""
        return 2 * self.base_channels, self.resolution // 4, self.resolution // 4


class Generator(nn.Module):
    """Latents to images.

    Args:
        config: The architecture.

    Shape:
        Latents ``[N, Z]`` to images ``[N, image_channels, resolution, resolution]`` in [-1, 1].
    """

    def __init__(self, config: InfoGANConfig) -> None:
        super().__init__()
        self.config = config
        width, maps = config.base_channels, config.start_maps
        pixels = maps[0] * maps[1] * maps[2]
        self.layers: nn.Sequential = nn.Sequential(
            nn.Linear(config.latent_dim, config.dense_width, bias=False),
            nn.BatchNorm1d(config.dense_width),
            nn.ReLU(inplace=True),
            nn.Linear(config.dense_width, pixels, bias=False),
            nn.BatchNorm1d(pixels),
            nn.ReLU(inplace=True),
            nn.Unflatten(1, maps),
            ConvTranspose2d(maps[0], width, 4, stride=2, padding=1, bias=False),  # half the side
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            ConvTranspose2d(width, config.image_channels, 4, stride=2, padding=1),
            nn.Tanh(),
        )
        if config.initialization != "torch":
            initialize(self, config.initialization)

    def forward(self, latents: Tensor, labels: None = None) -> Tensor:
        """Make images. In training mode it needs two latents at least, to normalise over them.

        Args:
            latents: ``[N, Z]``: noise, one-hot category, continuous codes; see `join` and `sample_latents`.
            labels: ``None``; there for tools that hand over the classes of other networks.

        Returns:
            Images ``[N, C, R, R]`` in [-1, 1].

        Raises:
            ValueError: If the shape does not fit, or there are labels.
        """
        _require_no_labels(labels)
        shape, Z = tuple(latents.shape), self.config.latent_dim
        require(latents.dim() == 2 and shape[1] == Z, "latents", shape, f"[N, {Z}]")
        images: Tensor = self.layers(latents)
        return images

    def join(self, noise: Tensor, categories: Tensor, codes: Tensor) -> Tensor:
        """Latents of chosen parts.

        Args:
            noise: ``[N, noise_dim]``.
            categories: Indices ``[N]``, from 0 to K - 1.
            codes: The continuous ones, ``[N, continuous]``. Training draws them from [-1, 1]; the paper's figures go
                from -2 to 2.

        Returns:
            ``[N, Z]`` with the device and the dtype of ``noise``.

        Raises:
            ValueError: If a shape or an index does not fit.
        """
        config, N = self.config, len(noise)
        for name, tensor, shape in (
            ("noise", noise, (N, config.noise_dim)),
            ("categories", categories, (N,)),
            ("codes", codes, (N, config.continuous)),
        ):
            require(tensor.shape == shape, name, tuple(tensor.shape), f"{list(shape)}")
        inside = bool(((categories >= 0) & (categories < config.categories)).all())
        require(inside, "categories", categories.tolist(), f"from 0 to {config.categories - 1}")
        one_hot = F.one_hot(categories.to(noise.device, torch.int64), config.categories)
        return torch.cat([noise, one_hot.to(noise.dtype), codes.to(noise)], dim=1)

    def sample_latents(
        self,
        count: int,
        *,
        seed: int | None = None,
        truncation: float | None = None,
        categories: Tensor | None = None,
    ) -> Tensor:
        """The latents of `sample`: noise from N(0, 1), a uniform random category, continuous codes from U(-1, 1).

        Args:
            count: Number of latents N, at least 1.
            seed: The same latents on every device; ``None`` draws from torch's global generator.
            truncation: Bound of the noise's components; ``None`` for N(0, 1).
            categories: Indices ``[N]`` in the place of random ones; noise and continuous codes stay the same.

        Returns:
            ``[N, Z]`` with the device and the dtype of the weights.

        Raises:
            ValueError: If ``count`` is below 1, ``truncation`` is not positive and finite, or the categories do not
                fit.
        """
        require(count >= 1, "count", count, "at least 1")
        config, weight = self.config, next(self.parameters())
        device, dtype = weight.device, weight.dtype
        source = None if seed is None else torch.Generator().manual_seed(seed)
        drawn_on = device if source is None else source.device
        if truncation is None:
            noise = normal_latents(count, config.noise_dim, generator=source, device=device, dtype=dtype)
        else:
            noise = truncated_normal_latents(
                count, config.noise_dim, truncation=truncation, generator=source, device=device, dtype=dtype
            )
        drawn = torch.randint(config.categories, (count,), generator=source, device=drawn_on)
        uniform = torch.rand((count, config.continuous), generator=source, device=drawn_on, dtype=torch.float64)
        return self.join(noise, drawn if categories is None else categories, 2 * uniform - 1)

    @torch.no_grad()
    def sample(
        self,
        count: int,
        *,
        seed: int | None = None,
        truncation: float | None = None,
        categories: Tensor | None = None,
        batch_size: int = 64,
    ) -> Tensor:
        """Images from random latents in evaluation mode: batch normalisation takes its running statistics.

        Args:
            count: Number of images, at least 1.
            seed: As for `sample_latents`.
            truncation: As for `sample_latents`.
            categories: As for `sample_latents`.
            batch_size: Images made at a time.

        Returns:
            ``[count, C, R, R]`` in [-1, 1], on the device of the weights.

        Raises:
            ValueError: As for `sample_latents`, or if ``batch_size`` is below 1.
        """
        require(batch_size >= 1, "batch_size", batch_size, "at least 1")
        latents = self.sample_latents(count, seed=seed, truncation=truncation, categories=categories)
        with evaluation_mode(self):
            return torch.cat([self(part) for part in torch.split(latents, batch_size)])


class Discriminator(nn.Module):
    """Images to logits, and to guesses of the codes that they were made from. Twice differentiable.

    In training mode it normalises over the batch, so that a logit depends on its neighbours, too: give it real and
    generated images in batches of their own, of two images at least.

    Args:
        config: The architecture.

    Shape:
        Images ``[N, image_channels, resolution, resolution]`` to logits ``[N]``.
    """

    def __init__(self, config: InfoGANConfig) -> None:
        super().__init__()
        self.config = config
        width, (wider, rows, columns), slope = config.base_channels, config.start_maps, config.slope
        self.trunk: nn.Sequential = nn.Sequential(
            Conv2d(config.image_channels, width, 4, stride=2, padding=1),  # half the side
            nn.LeakyReLU(slope, inplace=True),
            Conv2d(width, wider, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(wider),
            nn.LeakyReLU(slope, inplace=True),
            nn.Flatten(),
            nn.Linear(wider * rows * columns, config.dense_width, bias=False),
            nn.BatchNorm1d(config.dense_width),
            nn.LeakyReLU(slope, inplace=True),
        )
        self.score: nn.Linear = nn.Linear(config.dense_width, 1)
        guesses = config.categories + config.continuous * (2 if config.learned_variance else 1)
        self.recognizer: nn.Sequential = nn.Sequential(
            nn.Linear(config.dense_width, config.code_width, bias=False),
            nn.BatchNorm1d(config.code_width),
            nn.LeakyReLU(slope, inplace=True),
            nn.Linear(config.code_width, guesses),
        )
        if config.initialization != "torch":
            initialize(self, config.initialization)

    def forward(self, images: Tensor, labels: None = None) -> Tensor:
        """Judge images; Q is left out.

        Args:
            images: ``[N, C, R, R]`` in [-1, 1].
            labels: ``None``, as in the generator.

        Returns:
            Logits ``[N]``: their sigmoid is the probability of being real.

        Raises:
            ValueError: If the shape does not fit, or there are labels.
        """
        _require_no_labels(labels)
        logits: Tensor = self.score(self._features(images)).flatten()
        return logits

    def score_and_codes(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Judge images and guess their codes, in one pass through the layers that both share.

        Args:
            images: ``[N, C, R, R]`` in [-1, 1].

        Returns:
            Logits of being real ``[N]``; logits of the categories ``[N, K]``; means of the continuous codes and
            logarithms of their variances, ``[N, continuous]`` each, the latter 0 without ``learned_variance``.

        Raises:
            ValueError: If the shape does not fit.
        """
        features, K, C = self._features(images), self.config.categories, self.config.continuous
        scores: Tensor = self.score(features).flatten()
        guesses: Tensor = self.recognizer(features)
        categories, mean = guesses[:, :K], guesses[:, K : K + C]
        log_var = guesses[:, K + C :] if self.config.learned_variance else torch.zeros_like(mean)
        return scores, categories, mean, log_var

    def _features(self, images: Tensor) -> Tensor:
        shape, C, R = tuple(images.shape), self.config.image_channels, self.config.resolution
        require(images.dim() == 4 and shape[1:] == (C, R, R), "images", shape, f"[N, {C}, {R}, {R}]")
        features: Tensor = self.trunk(images)
        return features


def _require_no_labels(labels: object) -> None:
    require(labels is None, "labels", labels, "None, as an InfoGAN is told no classes")
