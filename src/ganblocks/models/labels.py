"""Class labels as networks take them in."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ganblocks._checks import require

__all__ = ["one_hot"]


def one_hot(labels: Tensor | None, num_classes: int, like: Tensor) -> Tensor | None:
    """Labels as rows of zeros and a one.

    Args:
        labels: Class indices ``[N]``, required if and only if there are classes.
        num_classes: K; 0 for a network without classes.
        like: What they are joined to, ``[N, ...]``.

    Returns:
        ``[N, K]`` on the device and in the dtype of ``like``; ``None`` where there are no classes.

    Raises:
        ValueError: If the shape or the presence of the labels does not fit.
    """
    if num_classes == 0:
        require(labels is None, "labels", "a tensor", "None: the configuration has no classes (num_classes=0)")
        return None
    if labels is None:
        raise ValueError(f"`labels` is None, but must be class indices [N] from 0 to {num_classes - 1}")
    require(labels.shape == like.shape[:1], "labels", tuple(labels.shape), f"[{like.shape[0]}], one an image")
    return F.one_hot(labels.to(like.device, torch.int64), num_classes).to(like.dtype)
