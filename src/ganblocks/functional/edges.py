"""The high frequencies of images: differences of neighbours, and the edge detector that they look like."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ganblocks._checks import require, require_rank

__all__ = ["neighbor_differences", "sobel"]


def neighbor_differences(images: Tensor) -> tuple[Tensor, Tensor]:
    """Each pixel's right neighbour less itself, and its lower neighbour less itself; 0 at the border.

    The sum of their absolute values is `ganblocks.losses.total_variation`.

    Args:
        images: ``[N, C, H, W]``, floating-point.

    Returns:
        Two tensors of the same shape and dtype.

    Raises:
        TypeError: If ``images`` is not a floating-point tensor.
        ValueError: If it has other than 4 dimensions.
    """
    _require_images(images)
    right, down = images.diff(dim=3), images.diff(dim=2)
    return F.pad(right, (0, min(1, images.shape[3]))), F.pad(down, (0, 0, 0, min(1, images.shape[2])))


def sobel(images: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes to the right and downwards by Sobel's filter, over mirrored borders.

    To the right ``[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]] / 8``: of a ramp that rises by s a pixel it is s. Downwards its
    transpose. Channels count one by one.

    Args:
        images: ``[N, C, H, W]``, floating-point, with at least 2 pixels a side.

    Returns:
        Two tensors of the same shape and dtype.

    Raises:
        TypeError: If ``images`` is not a floating-point tensor.
        ValueError: If it has other than 4 dimensions, or is too small.
    """
    _require_images(images)
    require(min(images.shape[2:]) >= 2, "images", tuple(images.shape), "[N, C, H, W] with at least 2 pixels a side")
    rows = images.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    C = images.shape[1]
    kernels = torch.stack([rows, rows.T])[:, None].repeat(C, 1, 1, 1)
    slopes = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="reflect"), kernels, groups=C)
    return slopes[:, ::2], slopes[:, 1::2]


def _require_images(images: Tensor) -> None:
    require_rank(images, "images", 4, 4)
    require(images.is_floating_point(), "images", images.dtype, "of a floating-point dtype", TypeError)
