"""What a collection of images must offer to be trained on: the one interface between data sets and the rest."""

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["ImageSource"]


@runtime_checkable
class ImageSource(Protocol):
    """A fixed, ordered collection of images that can be read one by one at any resolution.

    Everything is a pure function of the source: reading an image twice gives the same bytes, from any thread.
    """

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """The class number of every image, [N]; None where the images have no classes."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The name of every class, so that ``classes[label]`` names a label; empty without labels."""

    @property
    def fingerprint(self) -> str:
        """A text that changes whenever any image, its label or the way of reading it changes."""

    @property
    def image_channels(self) -> int:
        """Channels C of what ``read`` returns; 1 for grey, 3 for RGB."""

    def __len__(self) -> int:
        """The number of images N."""

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of the original image ``index``, in pixels, before any crop or resize."""

    def read(self, index: int, resolution: int) -> NDArray[np.uint8]:
        """Image ``index`` as a square uint8 array [C, resolution, resolution], values 0 to 255.

        Raises:
            DataError: the image cannot be read; the subclass tells why.
        """
