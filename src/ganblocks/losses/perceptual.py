"""How far an image is from what another shows, from how another looks, and how rough it is.

The losses of neural style transfer (Gatys, Ecker and Bethge, CVPR 2016) and of networks trained by them (Johnson, Alahi
and Fei-Fei, ECCV 2016). They take feature maps; `ganblocks.models.style_transfer` makes them.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ganblocks._checks import require, require_rank, require_same_shape
from ganblocks.functional.gram import gram_matrix

__all__ = ["TotalVariation", "content_loss", "moment_loss", "style_loss", "total_variation"]

TotalVariation = Literal["anisotropic", "isotropic"]


def content_loss(features: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
    """Mean squared difference of the maps of each layer, and the mean of that over the layers.

    Gatys et al. 2016, equation 1, with a mean where they halve a sum.

    Args:
        features: Maps ``[N, C, H, W]`` by the name of their layer.
        targets: Those of the content image under the same names: of the same shape, or ``[1, C, H, W]`` for all.

    Returns:
        A scalar, in at least float32.

    Raises:
        ValueError: If names or shapes differ, or there is no layer.

    Differentiable to any order.
    """
    return _mean_over_layers(features, targets)


def style_loss(features: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
    """Mean squared difference of the Gram matrices of each layer, and the mean of that over the layers.

    Gatys et al. 2016, equations 4 and 5, with `gram_matrix` as it is here and equal weights of the layers.

    Args:
        features: Maps ``[N, C, H, W]`` by the name of their layer, of any size.
        targets: Gram matrices of the style image under the same names, ``[N, C, C]`` or ``[1, C, C]`` for all.

    Returns:
        A scalar, in at least float32.

    Raises:
        ValueError: If names or shapes differ, or there is no layer.

    Differentiable to any order.
    """
    return _mean_over_layers({name: gram_matrix(maps) for name, maps in features.items()}, targets)


def moment_loss(features: Mapping[str, Tensor], targets: Mapping[str, Tensor], *, eps: float = 1e-5) -> Tensor:
    """Mean squared difference of the means and of the standard deviations of each map, and its mean over the layers.

    Huang and Belongie 2017, equation 13, with a mean over channels and layers where they sum: what
    `adaptive_instance_norm` hands over, as a loss.

    Args:
        features: Maps ``[N, C, H, W]`` by the name of their layer, of any size.
        targets: Those of the style images under the same names, ``[N, C, H', W']`` or ``[1, C, H', W']`` for all.
        eps: Added to each variance before its root, above 0.

    Returns:
        A scalar, in at least float32: the sum of both parts.

    Raises:
        ValueError: If names or shapes differ, there is no layer, or ``eps`` is not positive.

    Differentiable to any order.
    """
    require(eps > 0, "eps", eps, "above 0")

    def moments(maps: Mapping[str, Tensor], name: str) -> Mapping[str, Tensor]:
        found = {}
        for layer, values in maps.items():
            require_rank(values, f"{name}[{layer!r}]", 4, 4)
            wide = values if values.dtype in (torch.float32, torch.float64) else values.float()
            variance, mean = torch.var_mean(wide, dim=(2, 3), correction=0)
            found[layer] = torch.stack([mean, torch.sqrt(variance + eps)], dim=1)
        return found

    return 2 * _mean_over_layers(moments(features, "features"), moments(targets, "targets"))


def total_variation(images: Tensor, *, form: TotalVariation = "anisotropic") -> Tensor:
    """Sum of the differences between neighbouring pixels, the mean over the images.

    Args:
        images: ``[N, C, H, W]``, floating-point, N at least 1.
        form: ``"anisotropic"``: of the absolute differences to the right and downwards, ``sum |right| + sum |down|``.
            ``"isotropic"``: ``sum sqrt(right^2 + down^2)``, the same for a step in any direction (Rudin, Osher and
            Fatemi 1992); beyond the border lies the border itself. Channels count one by one.

    Returns:
        A scalar, in at least float32; 0 for a constant image. Its gradient is 0 where the differences are.

    Raises:
        TypeError: If ``images`` is not a floating-point tensor.
        ValueError: If it has other than 4 dimensions or no image, or the form is unknown.
    """
    require_rank(images, "images", 4, 4)
    require(images.is_floating_point(), "images", images.dtype, "of a floating-point dtype", TypeError)
    require(len(images) > 0, "images", tuple(images.shape), "at least one image")
    require(form in ("anisotropic", "isotropic"), "form", form, "'anisotropic' or 'isotropic'")
    wide = images if images.dtype in (torch.float32, torch.float64) else images.float()
    right, down = wide.diff(dim=3), wide.diff(dim=2)
    if form == "anisotropic":
        total = right.abs().sum() + down.abs().sum()
    else:
        squares = F.pad(right, (0, 1)).square() + F.pad(down, (0, 0, 0, 1)).square()
        flat = squares == 0  # where the root has no finite slope
        total = torch.where(flat, 0.0, torch.where(flat, 1.0, squares).sqrt()).sum()
    return total / len(images)


def _mean_over_layers(found: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
    require(found.keys() == targets.keys(), "features", sorted(found), f"those of the targets, {sorted(targets)}")
    require(len(found) > 0, "features", sorted(found), "at least one layer")
    losses = []
    for name, ours in found.items():
        theirs = targets[name]
        one = theirs.shape[:1] == (1,) and ours.dim() == theirs.dim()
        theirs = theirs.expand(len(ours), *theirs.shape[1:]) if one else theirs
        require_same_shape(ours, theirs, f"features[{name!r}]", f"targets[{name!r}]")
        ours, theirs = (x if x.dtype in (torch.float32, torch.float64) else x.float() for x in (ours, theirs))
        losses.append(F.mse_loss(ours, theirs))
    return torch.stack(losses).mean()
