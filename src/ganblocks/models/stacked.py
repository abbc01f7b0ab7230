"""A classifier whose layers come out of autoencoders that were trained before, without labels.

Greedy layer-wise pretraining (Bengio, Lamblin, Popovici, Larochelle 2007; with corrupted inputs: Vincent et al. 2010):
each autoencoder learns to rebuild the codes of the one before, and the classifier is all their encoders in a row. The
other form, ``"latent_reuse"``, takes the narrowest layer of autoencoders that were each trained on the images: the
widths fit, but what a layer learnt to read is not what it reads in the classifier.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Literal, Self, cast, get_args

from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks.functional.image_range import intensities
from ganblocks.layers.initialization import InitializationScheme, initialize
from ganblocks.models.autoencoder import AutoencoderConfig, DenseAutoencoder
from ganblocks.models.config import ModelConfig
from ganblocks.models.unrolled import CodeNormalization, Normalizations, one_for_each

__all__ = ["StackedClassifier", "StackedClassifierConfig", "Stacking", "autoencoder_configs"]

Stacking = Literal["greedy", "latent_reuse"]
"""What the autoencoders were trained on: on the codes of the one before, or on the images each."""


@dataclasses.dataclass(frozen=True)
class StackedClassifierConfig(ModelConfig):
    """Architecture of a `StackedClassifier`. The defaults are the course text's: 111,514 parameters.

    Attributes:
        resolution: Side of the images in pixels, 1024 at most.
        image_channels: 1 for grey, 3 for RGB; any number from 1.
        num_classes: K, at least 1.
        widths: Of the layers in front of the last, first layer first; at least one.
        normalized: Whether there is a place behind each layer for the normalisation that autoencoders were trained
            with; where greedy pretraining is not wanted, the network is quicker without.
        initialization: Of the layers that are not taken over; see `ganblocks.layers.initialize`.
    """

    resolution: int = 28
    image_channels: int = 1
    num_classes: int = 10
    widths: tuple[int, ...] = (128, 64, 32, 16)
    normalized: bool = True
    initialization: InitializationScheme = "glorot_uniform"

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON has lists
        counts = (self.resolution, self.image_channels, self.num_classes, *self.widths)
        names = ("resolution", "image_channels", "num_classes", *["widths"] * len(self.widths))
        for name, count in zip(names, counts, strict=True):
            require(type(count) is int and count >= 1, name, getattr(self, name), "whole numbers, at least 1")
        require(len(self.widths) >= 1, "widths", self.widths, "at least one")
        require(type(self.normalized) is bool, "normalized", self.normalized, "True or False")
        require(self.resolution <= 1024, "resolution", self.resolution, "1024 at most")
        known = get_args(InitializationScheme)
        require(self.initialization in known, "initialization", self.initialization, f"one of {', '.join(known)}")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of an image."""
        return self.image_channels, self.resolution, self.resolution

    @property
    def layer_widths(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of each layer in front of the last."""
        return tuple(itertools.pairwise((math.prod(self.image_shape), *self.widths)))


def autoencoder_configs(
    config: StackedClassifierConfig, stacking: Stacking = "greedy", *, tied: bool = False
) -> tuple[AutoencoderConfig, ...]:
    """The autoencoders that a classifier's layers come from.

    Args:
        config: Of the classifier.
        stacking: ``"greedy"``: one autoencoder a layer, the first on images, the others on codes, which
            have no bounds and are rebuilt without a last activation.
            ``"latent_reuse"``: the course text's, each on the images, one for every layer but the first; for a layer
            from a to b units its encoder has 2a, a and b units. With the default configuration 484,944, 222,384 and
            106,464 parameters.
        tied: See `AutoencoderConfig`.

    Raises:
        ValueError: If the stacking is unknown, or a single layer leaves nothing to reuse.
    """
    _require_stacking(stacking)
    pairs, scheme = config.layer_widths, config.initialization
    if stacking == "greedy":
        shapes: list[tuple[int, ...]] = [config.image_shape, *[(width,) for width in config.widths[:-1]]]
        encoders: list[tuple[int, ...]] = [(width,) for width in config.widths]
    else:
        require(len(pairs) >= 2, "widths", config.widths, "at least two for latent_reuse: the first layer is new")
        shapes = [config.image_shape] * (len(pairs) - 1)
        encoders = [(2 * a, a, b) for a, b in pairs[1:]]
    return tuple(
        AutoencoderConfig(
            input_shape=shape,
            widths=widths,
            output_activation="sigmoid" if shape == config.image_shape else "linear",
            tied=tied,
            initialization=scheme,
        )
        for shape, widths in zip(shapes, encoders, strict=True)
    )


class StackedClassifier(nn.Module):
    """Images to logits through dense layers with ReLU, the last one without.

    Args:
        config: The architecture.

    Attributes:
        encoders: The layers that autoencoders can give, first layer first.
        normalizations: Behind each of them, if ``config.normalized``. They do nothing except where `assemble` was told
            how autoencoders were trained. Buffers: they are saved with the weights, and are no parameters.
        head: The last layer, always new.

    Shape:
        Images ``[N, image_channels, resolution, resolution]``, in [-1, 1] as for every classifier of this library, or
        uint8, to logits ``[N, num_classes]``. The first layer is given intensities in [0, 1], as autoencoders are.
    """

    def __init__(self, config: StackedClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.encoders: nn.ModuleList = nn.ModuleList(
            [nn.Linear(width, next_width) for width, next_width in config.layer_widths]
        )
        kind = CodeNormalization if config.normalized else nn.Identity
        self.normalizations: nn.ModuleList = nn.ModuleList([kind(width) for width in config.widths])
        self.head: nn.Linear = nn.Linear(config.widths[-1], config.num_classes)
        initialize(self, config.initialization)

    @classmethod
    def assemble(
        cls,
        config: StackedClassifierConfig,
        autoencoders: Sequence[DenseAutoencoder],
        *,
        stacking: Stacking = "greedy",
        normalizations: Normalizations | None = None,
        freeze: bool = False,
    ) -> Self:
        """A classifier with layers out of trained autoencoders, copied bit for bit; these are not touched.

        Args:
            config: The architecture.
            autoencoders: In the order in which they were trained.
            stacking: ``"greedy"``: all layers of all encoders in a row. ``"latent_reuse"``: a new layer, then the last
                layer of each encoder.
            normalizations: What happened to the codes of each autoencoder before the next one was trained on them, as
                ``PretrainedStack.normalizations`` tells; ``None`` = nothing.
            freeze: Whether the copied layers stay as they are: their parameters take no gradient.

        Raises:
            ValueError: If number or widths of the layers do not fit the configuration, normalizations do not fit the
                autoencoders or have no place, or the stacking is unknown.
        """
        _require_stacking(stacking)
        behind = one_for_each(autoencoders, normalizations)
        layers: list[nn.Linear | None] = [None] if stacking == "latent_reuse" else []
        places: dict[int, tuple[Tensor, float]] = {}  # normalizations by the index of the layer in front
        for autoencoder, normalization in zip(autoencoders, behind, strict=True):
            linear = [layer for layer in autoencoder.encoder if isinstance(layer, nn.Linear)]
            layers += linear[-1:] if stacking == "latent_reuse" else linear
            if normalization is not None:
                places[len(layers) - 1] = normalization
        given = [None if layer is None else (layer.in_features, layer.out_features) for layer in layers]
        wanted = config.layer_widths
        fits = len(given) == len(wanted) and all(a in (None, b) for a, b in zip(given, wanted, strict=True))
        require(fits, "autoencoders", given, f"encoders whose layers are {list(wanted)}")
        require(config.normalized or not places, "config.normalized", config.normalized, "True for normalizations")
        model = cls(config)
        for own, layer in zip(model.encoders, layers, strict=True):
            if layer is not None:
                own.load_state_dict(layer.state_dict())
                own.requires_grad_(not freeze)
        for index, (mean, scale) in places.items():
            cast(CodeNormalization, model.normalizations[index]).set(mean, scale)
        return model

    def features(self, images: Tensor) -> Tensor:
        """What the last layer is given, ``[N, widths[-1]]``: ``head`` makes logits of it.

        Args:
            images: As for `forward`.

        Raises:
            ValueError: If the shape does not fit the configuration.
        """
        shape, wanted = tuple(images.shape), self.config.image_shape
        require(images.dim() == 4 and shape[1:] == wanted, "images", shape, "[N, {}, {}, {}]".format(*wanted))
        codes = intensities(images).flatten(1)  # [N, C * R * R]
        for layer, normalization in zip(self.encoders, self.normalizations, strict=True):
            codes = normalization(layer(codes).relu())
        return codes

    def forward(self, images: Tensor) -> Tensor:
        """Classify.

        Args:
            images: ``[N, C, R, R]`` in [-1, 1], or uint8.

        Returns:
            Logits ``[N, K]``, not normalised: ``softmax(dim=1)`` makes probabilities of them.

        Raises:
            ValueError: If the shape does not fit the configuration.
        """
        logits: Tensor = self.head(self.features(images))
        return logits


def _require_stacking(stacking: str) -> None:
    require(stacking in get_args(Stacking), "stacking", stacking, f"one of {', '.join(get_args(Stacking))}")
