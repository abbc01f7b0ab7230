"""Which features appear together, wherever in the image they do."""

import torch
from torch import Tensor

from ganblocks._checks import require, require_rank

__all__ = ["gram_matrix"]


def gram_matrix(features: Tensor) -> Tensor:
    """Mean product of each pair of features over the places: ``G_cd = sum_ij F_cij F_dij / (H W)``.

    Gatys, Ecker and Bethge 2016 (CVPR), equation 3, divided by the number of places, so that maps of different sizes
    compare. One matrix product, which takes both contiguous and channels-last maps without a copy. Computed in at least
    float32: half precision would overflow in the sum.

    Args:
        features: ``[N, C, H, W]``, floating-point, with at least one place.

    Returns:
        ``[N, C, C]``, symmetric and positive semi-definite; in at least float32.

    Raises:
        TypeError: If ``features`` is not a floating-point tensor.
        ValueError: If it has other than 4 dimensions, or no place.

    Differentiable to any order.
    """
    require_rank(features, "features", 4, 4)
    require(features.is_floating_point(), "features", features.dtype, "of a floating-point dtype", TypeError)
    places = features.shape[2] * features.shape[3]
    require(places > 0, "features", tuple(features.shape), "[N, C, H, W] with at least one place")
    wide = features if features.dtype in (torch.float32, torch.float64) else features.float()
    with torch.autocast(features.device.type, enabled=False):
        if wide.is_contiguous(memory_format=torch.channels_last) and not wide.is_contiguous():
            rows = wide.permute(0, 2, 3, 1).flatten(1, 2)  # [N, HW, C], a view
            return rows.mT @ rows / places
        columns = wide.flatten(2)  # [N, C, HW]
        return columns @ columns.mT / places
