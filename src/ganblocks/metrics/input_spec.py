"""How bytes become the input of a feature network: the part of a Frechet distance that is most often left unsaid."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from ganblocks._checks import require, require_rank
from ganblocks._json import read_json
from ganblocks.metrics.resize import RESIZE_MODES, ResizeMode, resize_images

__all__ = ["InputSpec"]

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """How images as bytes become the input of a feature network.

    In this order: colour to grey where the network sees grey, resize, clip to 0..255 (bicubic overshoots; nothing is
    rounded), grey to colour, ``value_range``, ``mean`` and ``std``.

    Args:
        size: Side of a square, which becomes (side, side), or (height, width), in pixels; ``None`` = as they come.
        resize: Filter of `resize_images`.
        antialias: Of that filter; always False for ``"bilinear_tf1"``, which has none.
        image_channels: 1 or 3, of the network's input. Grey images are repeated; of colour images, grey is the luma
            0.299 R + 0.587 G + 0.114 B of ITU-R BT.601, not rounded.
        value_range: What byte 0 and byte 255 become.
        mean: Subtracted afterwards, one value a channel; ``None`` = nothing is, and ``std`` must be None too.
        std: Then divides, one value a channel.

    Raises:
        ValueError: A value is out of range.
    """

    size: int | tuple[int, int] | None = None
    resize: ResizeMode = "bicubic"
    antialias: bool = True
    image_channels: int = 3
    value_range: tuple[float, float] = (-1.0, 1.0)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        require(self.resize in RESIZE_MODES, "resize", self.resize, f"one of {', '.join(RESIZE_MODES)}")
        require(self.image_channels in (1, 3), "image_channels", self.image_channels, "1 or 3")
        if self.size is not None:
            size = tuple(self.size) if isinstance(self.size, tuple | list) else (self.size, self.size)
            whole = len(size) == 2 and all(isinstance(side, int) and side >= 1 for side in size)
            require(whole, "size", self.size, "None, or one or two whole numbers of at least 1")
            object.__setattr__(self, "size", size)
        object.__setattr__(self, "antialias", bool(self.antialias) and self.resize != "bilinear_tf1")
        for name, length in (("value_range", 2), ("mean", self.image_channels), ("std", self.image_channels)):
            values = getattr(self, name)
            if values is not None or name == "value_range":
                right = len(values) == length and all(math.isfinite(value) for value in values)
                require(right, name, values, f"{length} finite values")
                object.__setattr__(self, name, tuple(float(value) for value in values))
        require(self.value_range[0] != self.value_range[1], "value_range", self.value_range, "two different values")
        require((self.mean is None) == (self.std is None), "std", self.std, "given together with `mean`, or not at all")
        require(self.std is None or min(self.std) > 0, "std", self.std, "positive")

    def prepare(self, images: Tensor) -> Tensor:
        """Turn bytes into the network's input.

        Args:
            images: uint8 [N, C, H, W] with C 1 or 3.

        Returns:
            float32 [N, image_channels, height, width], contiguous, on the device of ``images``.

        Raises:
            TypeError: Not uint8.
            ValueError: A wrong shape.
        """
        require_rank(images, "images", 4, 4)
        require(images.dtype == torch.uint8, "images.dtype", images.dtype, "torch.uint8", TypeError)
        require(images.shape[1] in (1, 3), "images.shape", tuple(images.shape), "of 1 or 3 channels (dimension 1)")
        values = images.float()
        if images.shape[1] > self.image_channels:
            values = _LUMA[0] * values[:, :1] + _LUMA[1] * values[:, 1:2] + _LUMA[2] * values[:, 2:]
        if self.size is not None:
            values = resize_images(values, self.size, mode=self.resize, antialias=self.antialias).clamp(0, 255)
        values = values.expand(-1, self.image_channels, -1, -1)
        low, high = self.value_range
        values = values / (255 / (high - low)) + low
        if self.mean is not None and self.std is not None:
            values = (values - values.new_tensor(self.mean).view(-1, 1, 1)) / values.new_tensor(self.std).view(-1, 1, 1)
        return values.contiguous()

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain Python values."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """All fields as one line of JSON, keys sorted: equal texts for equal specs."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The spec with these fields; missing ones take their default.

        Raises:
            ValueError: A name is not a field, or a value is out of range.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - names)
        require(not unknown, "values", unknown, f"fields of {cls.__name__}: {', '.join(sorted(names))}")
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The spec that `to_json` wrote.

        Raises:
            TypeError: The text is JSON, but no object.
            ValueError: The text is no JSON, or as in `from_dict`.
        """
        values = read_json(text)
        require(isinstance(values, dict), "text", text[:60], "a JSON object", TypeError)
        return cls.from_dict(values)
