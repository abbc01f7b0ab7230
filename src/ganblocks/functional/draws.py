"""Random numbers of a batch that is dealt with in parts, by several processes or one part after another.

One process that takes the whole batch at once and several that share it are to see the same numbers. So each part draws
those of the whole batch and keeps its own rows.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ganblocks._checks import require

__all__ = ["PartGenerator", "PreparedGenerator", "draw"]


class PartGenerator(torch.Generator):
    """A generator on the CPU for one of several equal parts of a batch.

    `draw` takes from it the rows of this part from the numbers of the whole batch. Whoever uses it like any other
    generator gets numbers of its own for each part: independent ones, but not those that the whole batch would get.

    Args:
        seed: Of the whole batch, the same for each part.
        part: Number of this part, 0 to ``parts - 1``.
        parts: How many there are.

    Attributes:
        whole: The generator of the whole batch.

    Raises:
        ValueError: If ``part`` is out of range.
    """

    def __new__(cls, seed: int, part: int, parts: int) -> "PartGenerator":
        """A ``torch.Generator`` takes a device here, not what this class takes."""
        return super().__new__(cls)

    def __init__(self, seed: int, part: int, parts: int) -> None:
        require(0 <= part < parts, "part", part, f"between 0 and `parts` - 1, which is {parts - 1}")
        super().__init__()
        self.part = part
        self.parts = parts
        self.whole: torch.Generator = torch.Generator().manual_seed(seed)
        own = torch.randint(2**62, (parts,), generator=torch.Generator().manual_seed(seed ^ 1))[part]
        self.manual_seed(int(own))


class PreparedGenerator(torch.Generator):
    """A generator whose numbers lie ready: `draw` asks it for them instead of drawing.

    Whoever uses it like any other generator gets numbers that have nothing to do with those.
    """

    def prepared(self, function: Callable[..., Tensor], shape: tuple[int, ...], **options: Any) -> Tensor:
        """What `draw` would have drawn; a subclass says where it lies."""
        raise NotImplementedError


def draw(
    function: Callable[..., Tensor], shape: tuple[int, ...], generator: torch.Generator | None, **options: Any
) -> Tensor:
    """Numbers of which each row, along the first dimension, belongs to one image.

    Args:
        function: ``torch.rand``, ``torch.randn`` or another that takes a shape and a ``generator``.
        shape: ``[N, ...]``, of this part where the batch has parts.
        generator: ``None`` = torch's global one.
        **options: For the function, such as ``dtype``.

    Returns:
        A tensor of this shape; with a `PartGenerator` the rows of its part from those of the whole batch, with a
        `PreparedGenerator` what it has, on the device where that lies.
    """
    if isinstance(generator, PreparedGenerator):
        return generator.prepared(function, shape, **options)
    if not isinstance(generator, PartGenerator):
        return function(shape, generator=generator, **options)
    count = shape[0]
    whole = function((count * generator.parts, *shape[1:]), generator=generator.whole, **options)
    return whole[generator.part * count : (generator.part + 1) * count]
