"""Autoencoders that were trained on one another's codes, as one deep autoencoder.

Hinton and Salakhutdinov (Science 313, 2006), figure 1: pretrained layer by layer, unrolled, trained together.
"""

import copy
import itertools
import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ganblocks._checks import require
from ganblocks.models.autoencoder import DenseAutoencoder

__all__ = ["CodeNormalization", "Normalizations", "UnrolledAutoencoder", "one_for_each"]

Normalizations = Sequence[tuple[Tensor, float] | None]
"""For each autoencoder: what its codes were reduced by, ``[D]``, and then divided by; ``None`` = nothing was done."""


class CodeNormalization(nn.Module):
    """Codes, less their mean, over their spread: ``(codes - mean) / scale``. Fixed numbers, not learnt.

    Codes behind a ReLU are never negative. Without this, most of what the next layer sees is their mean, and half of
    its units would be 0 for every image.

    Args:
        width: Size of a code. The mean is 0 and the scale 1 until `set` is called.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(()))

    def set(self, mean: Tensor, scale: float) -> None:
        """Take over the mean ``[D]`` and the scale, above 0.

        Raises:
            ValueError: If the mean has another shape, or the scale is out of range.
        """
        require(mean.shape == self.mean.shape, "mean", tuple(mean.shape), f"of shape {tuple(self.mean.shape)}")
        require(0 < scale < math.inf, "scale", scale, "finite and above 0")
        with torch.no_grad():
            self.mean.copy_(mean)
            self.scale.fill_(scale)

    def forward(self, codes: Tensor) -> Tensor:
        """Codes ``[N, D]`` to the same."""
        return (codes - self.mean) / self.scale

    def inverse(self, normalized: Tensor) -> Tensor:
        """Back to codes."""
        return normalized * self.scale + self.mean


class UnrolledAutoencoder(nn.Module):
    """Autoencoders trained on one another's codes as one deep autoencoder (Hinton and Salakhutdinov 2006, figure 1).

    Its encoder is all encoders in a row, its decoder all decoders in reverse. What is trained further here are copies.

    Args:
        autoencoders: In the order in which they were trained, each on the codes of the one before.
        normalizations: As for `StackedClassifier.assemble`. That of the last codes is not used: nothing follows.

    Attributes:
        autoencoders: The copies; `StackedClassifier.assemble` takes them.

    Shape:
        Intensities ``[N, *input_shape]`` of the first autoencoder, in [0, 1], to the same.

    Raises:
        ValueError: If there is no autoencoder, a code does not fit the next one, or normalizations do not fit.
    """

    def __init__(self, autoencoders: Sequence[DenseAutoencoder], normalizations: Normalizations | None = None) -> None:
        super().__init__()
        require(len(autoencoders) >= 1, "autoencoders", list(autoencoders), "at least one")
        for before, after in itertools.pairwise(autoencoder.config for autoencoder in autoencoders):
            fits = before.widths[-1:] == after.input_shape
            require(fits, "autoencoders", after.input_shape, f"{before.widths[-1:]}, the code of the one before")
        self.autoencoders: nn.ModuleList = nn.ModuleList(copy.deepcopy(autoencoder) for autoencoder in autoencoders)
        self.normalizations: nn.ModuleList = nn.ModuleList()
        for autoencoder, normalization in zip(autoencoders, one_for_each(autoencoders, normalizations), strict=True):
            self.normalizations.append(CodeNormalization(autoencoder.config.widths[-1]))
            if normalization is not None:
                cast(CodeNormalization, self.normalizations[-1]).set(*normalization)

    def encode(self, images: Tensor) -> Tensor:
        """``[N, *input_shape]`` to codes ``[N, widths[-1]]`` of the last autoencoder."""
        (first, normalization), *others = self._pairs()
        codes = first.encode(images)
        for autoencoder, following in others:
            codes = autoencoder.encode(normalization(codes))
            normalization = following
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """Codes to ``[N, *input_shape]``, through the last activation."""
        images: Tensor = self._pairs()[0][0].output(self.decode_logits(codes))
        return images

    def decode_logits(self, codes: Tensor) -> Tensor:
        """What the last activation makes images of, in their shape."""
        pairs = self._pairs()
        for (_, normalization), (autoencoder, _) in reversed(list(itertools.pairwise(pairs))):
            codes = normalization.inverse(autoencoder.decode(codes))
        return pairs[0][0].decode_logits(codes)

    def logits(self, images: Tensor) -> Tensor:
        """``decode_logits(encode(images))``, for losses of logits."""
        return self.decode_logits(self.encode(images))

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruct: ``decode(encode(images))``."""
        return self.decode(self.encode(images))

    def _pairs(self) -> list[tuple[DenseAutoencoder, CodeNormalization]]:
        return list(zip(self.autoencoders, self.normalizations, strict=True))  # type: ignore[arg-type]


def one_for_each(autoencoders: Sequence[DenseAutoencoder], normalizations: Normalizations | None) -> Normalizations:
    """The normalizations of these autoencoders, ``None`` for each where there are none at all.

    Raises:
        ValueError: If their numbers differ.
    """
    if normalizations is None:
        return [None] * len(autoencoders)
    count = len(normalizations)
    require(count == len(autoencoders), "normalizations", count, f"{len(autoencoders)}, one for each autoencoder")
    return normalizations
