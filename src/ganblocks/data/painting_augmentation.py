"""Two ways of augmenting paintings, each as one of the experiments has it: they are not the same.

=============  ==========================================  ==========================================================
effect         "pil" (E12), with Pillow, before training   "keras" (E13), layers of Keras, within training
=============  ==========================================  ==========================================================
how often      each with probability 0.5, in this order    always
flip           each axis with probability 0.5              each axis with probability 0.5
rotation       within 25 degrees, nearest pixel            within 90 degrees (0.25 of a full turn)
zoom           in, to 0.8 of each side, somewhere          in or out about the centre, by up to 20 %
translation    up to 0.3 of each side, bicubic             up to 0.3 of the height and 0.2 of the width
contrast       0.8 to 1.2, about the mean grey             0.8 to 1.2, about the mean of each channel
vacated area   black                                       reflection
=============  ==========================================  ==========================================================

The geometry of "keras" is one map and one bilinear interpolation here, where the layers interpolate one after another;
what they reflect into the picture is therefore sharper, and in corners another part of it.

All random numbers are of torch's global generator.
"""

import importlib
import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ganblocks._checks import require, require_rank

__all__ = [
    "PaintingPolicy",
    "adjust_channel_contrast",
    "adjust_contrast",
    "flip",
    "painting_augmentation",
    "rotate",
    "translate",
    "warp",
    "zoom_in",
]

PaintingPolicy = Literal["pil", "keras"]


def painting_augmentation(policy: PaintingPolicy) -> Callable[[Tensor], Tensor]:
    """A random change of one image, by the table at the top of this file.

    Args:
        policy: "pil" or "keras". The first needs torchvision.

    Returns:
        A function of a uint8 image [C, H, W] with 1 or 3 channels to another of the same shape. It raises ``TypeError``
        for another dtype and ``ValueError`` for another shape.

    Raises:
        ImportError: torchvision is missing.
        ValueError: An unknown policy.
    """
    require(policy in get_args(PaintingPolicy), "policy", policy, f"one of {get_args(PaintingPolicy)}")
    if policy == "pil":
        _functional()  # now rather than at the first image
        return _pil
    return _keras


def _pil(image: Tensor) -> Tensor:
    _require_image(image)
    height, width = image.shape[1:]
    if _chance():
        image = flip(image, horizontal=_chance(), vertical=_chance())
    if _chance():
        image = rotate(image, _uniform(25.0))
    if _chance():
        rows, columns = _cropped(height, 0.2), _cropped(width, 0.2)
        image = zoom_in(image, _integer(height - rows), _integer(width - columns))
    if _chance():
        image = translate(image, right=_uniform(0.3), down=_uniform(0.3))
    if _chance():
        image = adjust_contrast(image, 1.0 + _uniform(0.2))
    return image


def _keras(image: Tensor) -> Tensor:
    _require_image(image)
    image = warp(
        image,
        flip_horizontal=_chance(),
        flip_vertical=_chance(),
        degrees=_uniform(90.0),
        scale=1.0 + _uniform(0.2),
        down=_uniform(0.3),
        right=_uniform(0.2),
    )
    return adjust_channel_contrast(image, 1.0 + _uniform(0.2))


def flip(image: Tensor, *, horizontal: bool, vertical: bool) -> Tensor:
    """Mirror a uint8 image [C, H, W] left to right, top to bottom, both or neither. Needs torchvision."""
    _require_image(image)
    functional = _functional()
    if horizontal:
        image = functional.horizontal_flip(image)
    if vertical:
        image = functional.vertical_flip(image)
    return image


def rotate(image: Tensor, degrees: float) -> Tensor:
    """Turn a uint8 image [C, H, W] about its centre, counter-clockwise: nearest pixels, corners black, size kept.

    Needs torchvision.
    """
    _require_image(image)
    functional = _functional()
    nearest = functional.InterpolationMode.NEAREST
    turned: Tensor = functional.rotate(image, degrees, interpolation=nearest, fill=[0])
    return turned


def zoom_in(image: Tensor, top: int, left: int, *, factor: float = 0.2) -> Tensor:
    """Cut ``1 - factor`` of each side, rounded down, out of a uint8 image [C, H, W] and enlarge it to the whole.

    The filter is bicubic, Pillow's default. Needs torchvision.

    Args:
        image: The image.
        top: First row of the part, from 0.
        left: First column of the part, from 0.
        factor: 0 to below 1; 0 changes nothing. Of 300 pixels 0.2 leaves 240.

    Raises:
        ValueError: The part does not lie in the image.
    """
    _require_image(image)
    require(0 <= factor < 1, "factor", factor, "from 0 to below 1")
    height, width = image.shape[1:]
    rows, columns = _cropped(height, factor), _cropped(width, factor)
    require(0 <= top <= height - rows, "top", top, f"0 to {height - rows}")
    require(0 <= left <= width - columns, "left", left, f"0 to {width - columns}")
    functional = _functional()
    bicubic = functional.InterpolationMode.BICUBIC
    part = functional.crop(image, top, left, rows, columns)
    enlarged: Tensor = functional.resize(part, [height, width], interpolation=bicubic, antialias=True)
    return enlarged


def translate(image: Tensor, *, right: float, down: float) -> Tensor:
    """Move the content of a uint8 image [C, H, W] by shares of its width and height; what is vacated is black.

    Bicubic between pixels, by Pillow, as torchvision moves by whole pixels.
    """
    _require_image(image)
    height, width = image.shape[1:]
    array = image.cpu().permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    coefficients = (1.0, 0.0, -right * width, 0.0, 1.0, -down * height)  # where each pixel comes from
    moved = picture.transform((width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(moved).reshape(array.shape)).permute(2, 0, 1).contiguous().to(image.device)


def adjust_contrast(image: Tensor, factor: float) -> Tensor:
    """Bring a uint8 image [C, H, W] nearer to its mean grey (factor below 1) or away from it. Needs torchvision."""
    _require_image(image)
    require(factor >= 0, "factor", factor, "0 or above")
    adjusted: Tensor = _functional().adjust_contrast(image, factor)
    return adjusted


def adjust_channel_contrast(image: Tensor, factor: float) -> Tensor:
    """``(x - mean) * factor + mean`` for each channel of a uint8 image [C, H, W], as ``RandomContrast`` of Keras."""
    _require_image(image)
    require(factor >= 0, "factor", factor, "0 or above")
    values = image.float()
    mean = values.mean(dim=(1, 2), keepdim=True)
    return _levels((values - mean) * factor + mean)


def warp(
    image: Tensor,
    *,
    flip_horizontal: bool = False,
    flip_vertical: bool = False,
    degrees: float = 0.0,
    scale: float = 1.0,
    down: float = 0.0,
    right: float = 0.0,
) -> Tensor:
    """Flip, turn, zoom and move a uint8 image [C, H, W], in this order, in one bilinear interpolation.

    What lies outside is the picture reflected at its edges, edge pixels twice.

    Args:
        image: The image.
        flip_horizontal: Mirror left to right.
        flip_vertical: Mirror top to bottom.
        degrees: Turned about the centre, counter-clockwise.
        scale: How much of the picture's sides is seen: above 1 zooms out, below 1 in.
        down: Content moved, in heights.
        right: Content moved, in widths.
    """
    _require_image(image)
    require(scale > 0, "scale", scale, "above 0")
    height, width = image.shape[1:]
    x = torch.arange(width, dtype=torch.float64) - (width - 1) / 2 - right * width
    y = (torch.arange(height, dtype=torch.float64) - (height - 1) / 2 - down * height)[:, None]
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    from_x = (cosine * x - sine * y) * (-scale if flip_horizontal else scale)
    from_y = (sine * x + cosine * y) * (-scale if flip_vertical else scale)
    grid = torch.stack([from_x * 2 / width, from_y * 2 / height], dim=2)[None].to(image.device, torch.float32)
    warped = F.grid_sample(image[None].float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return _levels(warped[0])


def _levels(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


def _cropped(side: int, factor: float) -> int:
    return max(1, int((1 - factor) * side))


def _chance() -> bool:
    return bool(torch.rand(()) < 0.5)


def _uniform(bound: float) -> float:
    """Uniform within the bound on either side."""
    return float(torch.rand((), dtype=torch.float64) * 2 - 1) * bound


def _integer(last: int) -> int:
    return int(torch.randint(last + 1, ()))


def _require_image(image: Tensor) -> None:
    require_rank(image, "image", 3, 3)
    require(image.dtype == torch.uint8, "image.dtype", image.dtype, "uint8", TypeError)
    fits = image.shape[0] in (1, 3) and min(image.shape) >= 1
    require(fits, "image.shape", tuple(image.shape), "[1 or 3, H, W] with at least one pixel")


def _functional() -> Any:
    try:
        return importlib.import_module("torchvision.transforms.v2.functional")
    except ImportError as error:
        raise ImportError('the policy "pil" needs torchvision: pip install "ganblocks[vision]"') from error
