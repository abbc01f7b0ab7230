"""Autoencoders without noise in the middle: dense layers, or convolutions that remove noise.

`DenseAutoencoder` is the deep autoencoder of Hinton and Salakhutdinov (Science 313, 2006) with ReLU for the logistic
units; `ConvDenoiser` a denoising autoencoder (Vincent et al. 2008) of strided convolutions. Images are intensities in
[0, 1] in this family, the exception in this library: `ganblocks.functional.intensities` makes them of bytes and of
images in [-1, 1].
"""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganblocks._checks import require
from ganblocks.layers.conv import Conv2d, ConvTranspose2d
from ganblocks.layers.initialization import InitializationScheme, initialize
from ganblocks.models.config import ModelConfig

__all__ = ["Activation", "AutoencoderConfig", "ConvDenoiser", "ConvDenoiserConfig", "DenseAutoencoder"]

Activation = Literal["relu", "leaky_relu", "tanh", "sigmoid", "linear"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "linear": nn.Identity,
}


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig(ModelConfig):
    """Architecture of a `DenseAutoencoder`. The defaults are 784-64-784, 101,200 parameters.

    Attributes:
        input_shape: Of one input: ``(C, H, W)`` for images, ``(D,)`` for vectors such as the codes of another network.
        widths: Of the encoder's layers, first layer first; the last is the size of the code. The decoder has them in
            reverse: (256, 128, 64) is 784-256-128-64-128-256-784.
        activation: Behind every hidden layer; ``"leaky_relu"`` has slope 0.2.
        code_activation: Behind the layer that makes the code; ``None`` = ``activation``.
        output_activation: ``"sigmoid"`` for intensities, ``"linear"`` for codes without bounds.
        tied: Whether the decoder's weights are the encoder's, transposed (Vincent et al. 2010, section 2.2); its biases
            are its own.
        initialization: Of the weights; see `ganblocks.layers.initialize`.
    """

    input_shape: tuple[int, ...] = (1, 28, 28)
    widths: tuple[int, ...] = (64,)
    activation: Activation = "relu"
    code_activation: Activation | None = None
    output_activation: Activation = "sigmoid"
    tied: bool = False
    initialization: InitializationScheme = "glorot_uniform"

    def __post_init__(self) -> None:
        for name in ("input_shape", "widths"):
            sizes = tuple(getattr(self, name))
            object.__setattr__(self, name, sizes)  # JSON has lists
            whole = len(sizes) >= 1 and all(type(size) is int and size >= 1 for size in sizes)
            require(whole, name, sizes, "at least one whole number, each at least 1")
        for name in ("activation", "code_activation", "output_activation"):
            value = getattr(self, name)
            known = value in _ACTIVATIONS or (value is None and name == "code_activation")
            require(known, name, value, f"one of {', '.join(_ACTIVATIONS)}")
        _require_initialization(self.initialization)

    @property
    def input_size(self) -> int:
        """Numbers in one input."""
        return math.prod(self.input_shape)


class DenseAutoencoder(nn.Module):
    """Images to short codes and back, by dense layers.

    ``encoder`` and ``decoder`` are ``nn.Sequential``; the encoder begins with ``nn.Flatten``, then come a linear layer
    and its activation in turn. The decoder ends with the linear layer that makes the logits.

    Args:
        config: The architecture.

    Shape:
        Intensities ``[N, *input_shape]`` in [0, 1] to the same.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        sizes = (config.input_size, *config.widths)
        encoder: list[nn.Module] = [nn.Flatten()]
        for index, (wide, narrow) in enumerate(itertools.pairwise(sizes), start=1):
            last = index == len(config.widths)
            name = config.code_activation if last and config.code_activation else config.activation
            encoder += [nn.Linear(wide, narrow), _ACTIVATIONS[name]()]
        decoder: list[nn.Module] = []
        for linear in [layer for layer in reversed(encoder) if isinstance(layer, nn.Linear)]:
            decoder += [_ACTIVATIONS[config.activation]()] if decoder else []
            wide, narrow = linear.in_features, linear.out_features
            decoder.append(_TransposedLinear(linear) if config.tied else nn.Linear(narrow, wide))
        self.encoder: nn.Sequential = nn.Sequential(*encoder)
        self.decoder: nn.Sequential = nn.Sequential(*decoder)
        self.output: nn.Module = _ACTIVATIONS[config.output_activation]()
        initialize(self, config.initialization)

    def encode(self, images: Tensor) -> Tensor:
        """``[N, *input_shape]`` to codes ``[N, widths[-1]]``.

        Raises:
            ValueError: If the shape does not fit the configuration.
        """
        _require_shape(images, self.config.input_shape, "images")
        codes: Tensor = self.encoder(images)
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """Codes ``[N, widths[-1]]`` to ``[N, *input_shape]``, through the last activation, in at least float32.

        Raises:
            ValueError: If the shape does not fit the configuration.
        """
        images: Tensor = self.output(_at_least_float32(self.decode_logits(codes)))
        return images

    def decode_logits(self, codes: Tensor) -> Tensor:
        """What the last activation makes images of, in their shape; losses of logits are exact where it saturates."""
        _require_shape(codes, self.config.widths[-1:], "codes")
        logits: Tensor = self.decoder(codes)
        return logits.reshape(codes.shape[0], *self.config.input_shape)

    def logits(self, images: Tensor) -> Tensor:
        """``decode_logits(encode(images))``."""
        return self.decode_logits(self.encode(images))

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruct: ``decode(encode(images))``."""
        return self.decode(self.encode(images))


@dataclasses.dataclass(frozen=True)
class ConvDenoiserConfig(ModelConfig):
    """Architecture of a `ConvDenoiser`. The defaults fit Fashion-MNIST: 3,217 parameters.

    Attributes:
        resolution: Side of the images in pixels: each layer of the encoder halves it, so 2**len(channels) divides it.
        image_channels: 1 for grey, 3 for RGB; any number from 1.
        channels: Of the encoder's layers, first layer first; the decoder has them in reverse.
        initialization: Of the weights; see `ganblocks.layers.initialize`.
    """

    resolution: int = 28
    image_channels: int = 1
    channels: tuple[int, ...] = (16, 8)
    initialization: InitializationScheme = "glorot_uniform"

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))  # JSON has lists
        for name, counts in (
            ("resolution", (self.resolution,)),
            ("image_channels", (self.image_channels,)),
            ("channels", self.channels),
        ):
            whole = len(counts) >= 1 and all(type(count) is int and count >= 1 for count in counts)
            require(whole, name, getattr(self, name), "whole numbers, at least 1")
        fold = 2 ** len(self.channels)
        require(self.resolution % fold == 0, "resolution", self.resolution, f"a multiple of {fold}")
        _require_initialization(self.initialization)


class ConvDenoiser(nn.Module):
    """Noisy images to clean ones, by strided convolutions and transposed ones with Keras's "same" geometry.

    Encoder: 3x3 convolutions of stride 2 with ReLU. Decoder: as many 3x3 transposed convolutions of stride 2 with ReLU,
    then a 3x3 convolution to the image. With the defaults, 1x28x28 -> 16x14x14 -> 8x7x7 -> 8x14x14 -> 16x28x28 ->
    1x28x28.

    An even side is padded by Keras after its last pixel, by PyTorch before its first. So the layers see the image
    turned by 180 degrees: with kernels turned likewise the values are Keras's, and no layer pads or crops a tensor,
    which would cost a tenth of a training step. A Keras model's kernels are loaded with ``weight.flip(2, 3)``; images,
    codes and logits are upright.

    Args:
        config: The architecture.

    Shape:
        Intensities ``[N, image_channels, resolution, resolution]`` in [0, 1] to the same.
    """

    def __init__(self, config: ConvDenoiserConfig) -> None:
        super().__init__()
        self.config = config
        encoder: list[nn.Module] = []
        decoder: list[nn.Module] = []
        for before, after in itertools.pairwise((config.image_channels, *config.channels)):
            encoder += [Conv2d(before, after, 3, 2, 1), nn.ReLU(inplace=True)]
        widths = config.channels[::-1]
        for before, after in itertools.pairwise((widths[0], *widths)):
            decoder += [ConvTranspose2d(before, after, 3, 2, 1, 1), nn.ReLU(inplace=True)]
        self.encoder: nn.Sequential = nn.Sequential(*encoder)
        self.decoder: nn.Sequential = nn.Sequential(*decoder, Conv2d(widths[-1], config.image_channels, 3, 1, 1))
        initialize(self, config.initialization)

    @property
    def code_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of a code."""
        side = self.config.resolution // 2 ** len(self.config.channels)
        return self.config.channels[-1], side, side

    def encode(self, images: Tensor) -> Tensor:
        """``[N, C, R, R]`` to codes ``[N, *code_shape]``.

        Raises:
            ValueError: If the shape does not fit the configuration.
        """
        return _turned(self._turned_codes(images))

    def decode(self, codes: Tensor) -> Tensor:
        """Codes ``[N, *code_shape]`` to images in [0, 1], in at least float32.

        Raises:
            ValueError: If the shape does not fit the configuration.
        """
        return _at_least_float32(self.decode_logits(codes)).sigmoid()

    def decode_logits(self, codes: Tensor) -> Tensor:
        """What the last sigmoid makes images of; losses of logits are exact where it saturates."""
        _require_shape(codes, self.code_shape, "codes")
        return _turned(self.decoder(_turned(codes)))

    def logits(self, images: Tensor) -> Tensor:
        """``decode_logits(encode(images))``."""
        return _turned(self.decoder(self._turned_codes(images)))

    def forward(self, images: Tensor) -> Tensor:
        """Denoise: ``decode(encode(images))``."""
        return _at_least_float32(self.logits(images)).sigmoid()

    def _turned_codes(self, images: Tensor) -> Tensor:
        config = self.config
        _require_shape(images, (config.image_channels, config.resolution, config.resolution), "images")
        codes: Tensor = self.encoder(_turned(images))
        return codes


class _TransposedLinear(nn.Module):
    """A linear layer backwards, with a bias of its own and the weight of the other."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(linear.in_features, dtype=linear.weight.dtype))
        self._other = (linear,)  # in a tuple: the weight is a parameter of the other layer only

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self._other[0].weight.t(), self.bias)

    def extra_repr(self) -> str:
        return f"transposed {self._other[0]}"


def _turned(images: Tensor) -> Tensor:
    """By 180 degrees."""
    return images.flip((2, 3))


def _at_least_float32(logits: Tensor) -> Tensor:
    """A sigmoid rounded to bfloat16 cannot come closer to 1 than 2**-8."""
    return logits.float() if logits.dtype.itemsize < 4 else logits


def _require_shape(tensor: Tensor, shape: tuple[int, ...], name: str) -> None:
    wanted = "[N, {}]".format(", ".join(map(str, shape)))
    require(tensor.dim() == 1 + len(shape) and tensor.shape[1:] == shape, name, tuple(tensor.shape), wanted)


def _require_initialization(scheme: str) -> None:
    known = get_args(InitializationScheme)
    require(scheme in known, "initialization", scheme, f"one of {', '.join(known)}")
