"""Images in memory that are changed at random each time they are asked for, for the training of classifiers.

The random numbers come from torch's global generator, which `DatasetBatches` seeds for each item: the picture at a
position of the stream is the same in every run with the same seed, resumed or not, and another one in each epoch.
"""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ganblocks._checks import require, require_rank

__all__ = ["AugmentedImages", "classical_augmentation"]


class AugmentedImages(Dataset[Any]):
    """A map-style data set, for `DatasetBatches`, of images in memory and a transform that each goes through.

    Args:
        images: uint8 [N, C, H, W]; not copied, and never written to.
        labels: Class numbers [N], of whole numbers; ``None`` = items are images alone.
        transform: Maps uint8 [C, H, W] to the image of the item, of one shape for all. What it draws at random comes
            from the global generators of torch, NumPy or Python. With workers it is pickled: no lambda.

    Raises:
        TypeError: Images that are not uint8, labels that are no whole numbers, or a transform that cannot be called.
        ValueError: Another shape, or another number of labels.
    """

    def __init__(self, images: Tensor, labels: Tensor | None, transform: Callable[[Tensor], Tensor]) -> None:
        require_rank(images, "images", 4, 4)
        require(images.dtype == torch.uint8, "images.dtype", images.dtype, "torch.uint8", TypeError)
        if labels is not None:
            require_rank(labels, "labels", 1, 1)
            whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
            require(whole, "labels.dtype", labels.dtype, "whole numbers", TypeError)
            expected = f"[{len(images)}], one for each image"
            require(len(labels) == len(images), "labels.shape", tuple(labels.shape), expected)
        require(callable(transform), "transform", transform, "callable", TypeError)
        self.images = images
        self.labels = labels
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor | tuple[Tensor, Tensor]:
        """The image through the transform; with labels, a pair of it and the label, 0-d.

        Raises:
            IndexError: If there is no such image.
        """
        image = self.transform(self.images[index].clone())
        return image if self.labels is None else (image, self.labels[index])


def classical_augmentation(
    *,
    mirror: float = 0.5,
    degrees: float = 10.0,
    shift: float = 0.05,
    zoom: float = 0.1,
    shear: float = 0.0,
    brightness: float = 0.1,
    contrast: float = 0.1,
    fill: Literal["edge"] | int = "edge",
) -> Callable[[Tensor], Tensor]:
    """Small random changes of place and light, such as another position in a scanner would make.

    Each is drawn by itself for each image, evenly within its range: the mirror first, then one resampling (bilinear)
    for angle, zoom, shear and shift together, then brightness, then contrast. There is no vertical flip: in a scan,
    above and below differ. Where left and right differ too, or are what the classes are about, ``mirror`` is to be 0. A
    change whose range is 0 leaves the image as it is.

    Args:
        mirror: Probability of a left-right flip, 0 to 1.
        degrees: Rotation about the centre is up to this, either way; 0 to 180.
        shift: Up to this share of width and of height, either way; 0 to 1.
        zoom: The factor of size lies within 1 -+ this; 0 to 0.9.
        shear: Upright lines lean by up to this many degrees, either way, before the rotation; 0 to 60.
        brightness: The factor of all values lies within 1 -+ this; 0 to 1.
        contrast: The factor of the distances to the mean grey lies within 1 -+ this; 0 to 1.
        fill: What comes in from outside: "edge" = the nearest pixel of the border; a number = this value, 0 to 255.

    Returns:
        A transform of uint8 [C, H, W], C = 1 or 3, to the same shape and type, for `AugmentedImages`. It draws seven
        numbers from torch's global generator, eight where there is a shear, and can be pickled.

    Raises:
        ImportError: torchvision is missing.
        ValueError: An argument is out of its range.
    """
    _torchvision()
    highest = {"degrees": 180, "zoom": 0.9, "shear": 60}
    values = {"mirror": mirror, "degrees": degrees, "shift": shift, "zoom": zoom, "shear": shear}
    for name, value in {**values, "brightness": brightness, "contrast": contrast}.items():
        require(0 <= value <= highest.get(name, 1), name, value, f"between 0 and {highest.get(name, 1)}")
    require(fill == "edge" or (type(fill) is int and 0 <= fill <= 255), "fill", fill, '"edge" or from 0 to 255')
    return _Classical(mirror, degrees, shift, zoom, shear, brightness, contrast, fill)


@dataclass(frozen=True)
class _Classical:
    """What `classical_augmentation` returns."""

    mirror: float
    degrees: float
    shift: float
    zoom: float
    shear: float
    brightness: float
    contrast: float
    fill: Literal["edge"] | int

    def __call__(self, image: Tensor) -> Tensor:
        require_rank(image, "image", 3, 3)
        require(image.dtype == torch.uint8, "image.dtype", image.dtype, "torch.uint8", TypeError)
        require(image.shape[0] in (1, 3), "image.shape[0]", image.shape[0], "1 (grey) or 3 (colour) channels")
        functional = _torchvision()
        chance, *drawn = torch.rand(7, dtype=torch.float64).tolist()
        angle, size, right, down, light, contrast = (2 * number - 1 for number in drawn)
        lean = self.shear * (2 * torch.rand((), dtype=torch.float64).item() - 1) if self.shear else 0.0
        if chance < self.mirror:
            image = functional.horizontal_flip(image)
        if self.degrees or self.shift or self.zoom or self.shear:
            height, width = image.shape[1:]
            moved = (right * self.shift * width, down * self.shift * height)
            image = self._moved(functional, image, angle * self.degrees, lean, 1 + size * self.zoom, moved)
        if self.brightness:
            image = functional.adjust_brightness(image, 1 + light * self.brightness)
        if self.contrast:
            image = functional.adjust_contrast(image, 1 + contrast * self.contrast)
        return image

    def _moved(
        self, functional: Any, image: Tensor, angle: float, lean: float, size: float, moved: tuple[float, float]
    ) -> Tensor:
        """Leaning and turned by degrees, ``size`` times as large, and moved by pixels to the right and downwards."""
        height, width = image.shape[1:]
        fill, right, down = self.fill, 0, 0
        if fill == "edge":  # torchvision has no such fill, so the border is continued as far as it will be seen
            across, along = width / 2 + abs(moved[0]), height / 2 + abs(moved[1])
            cosine, sine = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
            upright = (across * sine + along * cosine) / size
            aside = (across * cosine + along * sine) / size + upright * math.tan(math.radians(abs(lean)))
            right, down = (max(0, math.ceil(reach) + 1) for reach in (aside - width / 2, upright - height / 2))
            image = functional.pad(image, [right, down, right, down], padding_mode="edge")
        bilinear = importlib.import_module("torchvision.transforms.v2").InterpolationMode.BILINEAR
        image = functional.affine(
            image,
            angle=angle,
            translate=list(moved),
            scale=size,
            shear=[lean, 0.0],
            interpolation=bilinear,
            fill=0 if fill == "edge" else fill,
        )
        return image[:, down : down + height, right : right + width].contiguous()


def _torchvision() -> Any:
    try:
        return importlib.import_module("torchvision.transforms.v2.functional")
    except ImportError as error:
        raise ImportError('torchvision is needed for this, but missing: pip install "ganblocks[vision]"') from error
