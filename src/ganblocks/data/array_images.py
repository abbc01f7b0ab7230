"""Images that are in memory already, as an image source."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from ganblocks._checks import require
from ganblocks.errors import DataError, EmptyDatasetError

__all__ = ["ArrayImages", "built_in_digits", "built_in_faces"]

Layout = Literal["NHW", "NHWC", "NCHW"]


class ArrayImages:
    """An ``ImageSource`` over one array of images.

    ``read`` crops the central square (side = the shorter side) and resizes it with Pillow's Lanczos filter, which
    is antialiased when it shrinks.

    Args:
        images: NumPy array or tensor of N images, in the given ``layout``. uint8 holds 0 to 255. A floating-point
            array must lie in [0, 1], and is stored as ``round(255 * x)``. A uint8 array is not copied: do not write
            to it afterwards.
        labels: Class numbers [N], integers from 0; None = no classes.
        layout: "NHW" (grey), "NHWC" or "NCHW". None = "NHW", and is allowed for three dimensions only, because four
            dimensions would have to be guessed.
        image_channels: Channels of what ``read`` returns; None = those of ``images``. Grey becomes RGB by repetition,
            RGB becomes grey by the luma of ITU-R BT.601; there is no other conversion.
        classes: Name of every class; None = the class numbers as text.

    Attributes:
        labels: int64 [N], or None.
        classes: Names of the classes; empty without labels.
        image_channels: Channels C of what ``read`` returns.
        fingerprint: SHA-256 over the pixels, the labels, the names and the channels, in hexadecimal.

    Raises:
        ValueError: another dtype, values outside [0, 1], a layout that does not fit, labels that do not fit.
        EmptyDatasetError: there is no image, or the images have no pixels.
    """

    def __init__(
        self,
        images: ArrayLike | Tensor,
        labels: ArrayLike | Tensor | None = None,
        *,
        layout: Layout | None = None,
        image_channels: int | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        self._images = _as_bytes(_as_channels_last(_as_array(images), layout))
        channels = self._images.shape[3]
        self.image_channels: int = channels if image_channels is None else image_channels
        if self.image_channels != channels and {self.image_channels, channels} != {1, 3}:
            raise ValueError(
                f"`image_channels` is {image_channels!r}, but must be {channels}, the channels of the images"
                + (" (or 1 or 3)" if channels in (1, 3) else "")
            )
        self.labels: NDArray[np.int64] | None = None if labels is None else _as_labels(_as_array(labels), len(self))
        if self.labels is None:
            require(not classes, "classes", classes, "None or empty where there are no labels")
            self.classes: tuple[str, ...] = ()
        else:
            needed = int(self.labels.max()) + 1
            self.classes = tuple(map(str, range(needed))) if classes is None else tuple(classes)
            require(len(self.classes) >= needed, "classes", self.classes, f"at least {needed} names, one a class")
        self.fingerprint: str = self._compute_fingerprint()

    def __len__(self) -> int:
        return self._images.shape[0]

    def __repr__(self) -> str:
        N, H, W, _ = self._images.shape
        return f"ArrayImages({N} images, {W}x{H}, image_channels={self.image_channels}, classes={len(self.classes)})"

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of image ``index``, in pixels (the same for all)."""
        _, H, W, _ = self._images.shape
        return W, H

    def read(self, index: int, resolution: int) -> NDArray[np.uint8]:
        """Image ``index``, cropped to its central square and resized: uint8 [C, resolution, resolution].

        Raises:
            ValueError: ``index`` or ``resolution`` is out of range.
        """
        require(0 <= index < len(self), "index", index, f"from 0 to {len(self) - 1}")
        require(resolution >= 1, "resolution", resolution, "at least 1")
        image = self._images[index]  # [H, W, C]
        H, W, channels = image.shape
        side = min(H, W)
        top, left = (H - side) // 2, (W - side) // 2
        planes = [
            Image.fromarray(np.ascontiguousarray(image[top : top + side, left : left + side, channel]))
            for channel in range(channels)
        ]
        if channels == 3 and self.image_channels == 1:
            planes = [Image.merge("RGB", planes).convert("L")]
        if side != resolution:
            planes = [plane.resize((resolution, resolution), Image.Resampling.LANCZOS) for plane in planes]
        square: NDArray[np.uint8] = np.stack([np.asarray(plane, dtype=np.uint8) for plane in planes])
        return square.repeat(3, axis=0) if channels == 1 and self.image_channels == 3 else square

    def _compute_fingerprint(self) -> str:
        names = (type(self).__name__, 1, self._images.shape, self.image_channels, self.classes, self.labels is not None)
        digest = hashlib.sha256(repr(names).encode())
        for image in self._images:
            digest.update(np.ascontiguousarray(image).data)
        if self.labels is not None:
            digest.update(self.labels.astype("<i8").data)
        return digest.hexdigest()


def built_in_faces() -> ArrayImages:
    """The 100 real faces, grey, 25x25 pixels, that scikit-image installs: real images without a download.

    They are the first half of ``skimage.data.lfw_subset`` (the other half shows no faces), from Labeled Faces in the
    Wild (Huang et al. 2007). Read from the installed package; nothing is fetched.

    Raises:
        ImportError: scikit-image is not installed.
        DataError: the installed scikit-image comes without the faces.
    """
    try:
        import skimage
    except ImportError as error:
        raise ImportError(
            'the built-in faces come with scikit-image, which is not installed: pip install "ganblocks[examples]"'
        ) from error
    path = Path(skimage.__file__).parent / "data" / "lfw_subset.npy"
    try:
        faces = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"the faces of scikit-image cannot be read from {path}: {error}") from error
    return ArrayImages(faces[:100], layout="NHW")


def built_in_digits() -> ArrayImages:
    """The 1,797 handwritten digits, grey, 8x8 pixels, that scikit-learn installs: labels without a download.

    Counts of 0 to 16 black cells of a digit drawn by one of 43 writers (Alpaydin and Kaynak 1998), black being 0 here.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            'the built-in digits come with scikit-learn, which is not installed: pip install "ganblocks[metrics]"'
        ) from error
    digits = load_digits()
    return ArrayImages(digits.images / 16, digits.target)


def _as_array(values: ArrayLike | Tensor) -> NDArray[Any]:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return (values.float() if values.is_floating_point() else values).numpy()
    return np.asarray(values)


def _as_channels_last(images: NDArray[Any], layout: Layout | None) -> NDArray[Any]:
    """A view [N, H, W, C] of ``images``."""
    if layout is None:
        if images.ndim != 3:
            raise ValueError(
                f"`images` has shape {images.shape}; without `layout` it must be [N, H, W], and for four dimensions "
                f'`layout` must be "NHWC" or "NCHW"'
            )
        layout = "NHW"
    require(layout in ("NHW", "NHWC", "NCHW"), "layout", layout, '"NHW", "NHWC" or "NCHW"')
    if images.ndim != len(layout):
        raise ValueError(f"`images` has shape {images.shape}, but `layout` {layout} has {len(layout)} dimensions")
    if images.size == 0:
        raise EmptyDatasetError(f"`images` has shape {images.shape}: there is nothing in it")
    if layout == "NHW":
        return images[..., np.newaxis]
    return images if layout == "NHWC" else images.transpose(0, 2, 3, 1)


def _as_bytes(images: NDArray[Any]) -> NDArray[np.uint8]:
    """uint8 as it is, [0, 1] times 255 rounded to the nearest; nothing else."""
    if images.dtype == np.uint8:
        view = images.view()
        view.flags.writeable = False
        return view
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"`images` has dtype {images.dtype}, but must be uint8, or floating-point in [0, 1]")
    lowest, highest = images.min(), images.max()  # NaN if any value is
    if not (lowest >= 0 and highest <= 1):
        raise ValueError(f"`images` is floating-point from {lowest} to {highest}, but must lie in [0, 1]")
    stored = np.rint(images * 255.0).astype(np.uint8)
    stored.flags.writeable = False
    return stored


def _as_labels(labels: NDArray[Any], count: int) -> NDArray[np.int64]:
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"`labels` has dtype {labels.dtype}, but must be integers")
    if labels.shape != (count,):
        raise ValueError(f"`labels` has shape {labels.shape}, but must be [{count}], one for every image")
    if labels.min() < 0:
        raise ValueError(f"`labels` contains {labels.min()}, but must be 0 or above")
    return labels.astype(np.int64)
