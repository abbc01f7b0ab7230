"""What an image in another style has to be like, as numbers: for the pixels of one, and for networks that make many.

Gatys, Ecker and Bethge (CVPR 2016), equation 7, with the total variation of Johnson, Alahi and Fei-Fei (ECCV 2016).
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import get_args

import torch
from torch import Tensor

from ganblocks._checks import require
from ganblocks.losses.perceptual import TotalVariation, content_loss, style_loss, total_variation

__all__ = ["StyleWeights", "style_terms"]

_SMALLEST = 1e-12  # mean square of a target that losses are divided by, at least


@dataclasses.dataclass(frozen=True)
class StyleWeights:
    """How much each of the three terms counts.

    Attributes:
        content_weight: Of `content_loss`, 0 or above.
        style_weight: Of `style_loss`, 0 or above.
        variation_weight: Of `total_variation`, 0 or above.
        variation: Its form.
        relative: Whether each layer's losses are divided by the mean square of their target, and the variation by the
            number of values of an image: weights then mean the same for every network and size. ``False`` = as the
            formulas are.
    """

    content_weight: float = 1.0
    style_weight: float = 10.0
    variation_weight: float = 0.1
    variation: TotalVariation = "anisotropic"
    relative: bool = True

    def __post_init__(self) -> None:
        for name in ("content_weight", "style_weight", "variation_weight"):
            value = getattr(self, name)
            require(math.isfinite(value) and value >= 0, name, value, "0 or above")
        known = get_args(TotalVariation)
        require(self.variation in known, "variation", self.variation, f"one of {known}")


def style_terms(
    images: Tensor,
    maps: Mapping[str, Tensor],
    contents: Mapping[str, Tensor],
    looks: Mapping[str, Tensor],
    weights: StyleWeights,
) -> dict[str, Tensor]:
    """The loss of images and its parts.

    Args:
        images: ``[N, C, H, W]`` in [0, 1].
        maps: Their feature maps by layer; more than are asked for may be there.
        contents: The wanted maps of content layers, float32.
        looks: The wanted Gram matrices of style layers.
        weights: How much each term counts.

    Returns:
        ``loss``, and ``content``, ``style`` and ``variation`` before their weights: 0-d, with their graph.
    """
    found = {name: maps[name].float() for name in contents}
    seen = {name: maps[name] for name in looks}
    variation = total_variation(images, form=weights.variation)
    if weights.relative:
        content, style = _relative(content_loss, found, contents), _relative(style_loss, seen, looks)
        variation = variation / images[0].numel()
    else:
        content, style = content_loss(found, contents), style_loss(seen, looks)
    loss = weights.content_weight * content + weights.style_weight * style + weights.variation_weight * variation
    return {"loss": loss, "content": content, "style": style, "variation": variation}


def _relative(
    loss: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor],
    found: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
) -> Tensor:
    """The mean over the layers of the loss of each, over the mean square of its target."""
    parts = [
        loss({name: found[name]}, {name: target}) / target.square().mean().clamp(min=_SMALLEST)
        for name, target in targets.items()
    ]
    return torch.stack(parts).mean()
