"""A batch that passes through the networks in parts, one after another, and is one batch all the same."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ganblocks.training.randomness import StepContext

__all__ = ["Part", "mean_of", "parts_of"]


class Part(NamedTuple):
    """Some rows of a batch.

    Attributes:
        images: ``[n, ...]``.
        labels: ``[n]`` or ``None``.
        context: The step's, whose random numbers are those of these rows.
    """

    images: Tensor
    labels: Tensor | None
    context: StepContext


def parts_of(images: Tensor, labels: Tensor | None, context: StepContext, largest: int | None) -> list[Part]:
    """A batch in equal parts, as few as there can be with ``largest`` images at most in each.

    The parts are equal so that the mean of their losses is that of the batch: of 16 images 6 at most are 4 times 4.

    Args:
        images: ``[N, ...]``.
        labels: ``[N]`` or ``None``.
        context: Of the step.
        largest: At least 1; ``None`` = the whole batch.
    """
    N = len(images)
    if largest is None or largest >= N:
        return [Part(images, labels, context)]
    count = next(count for count in range(-(-N // largest), N + 1) if N % count == 0)
    size = N // count
    rows = [slice(start, start + size) for start in range(0, N, size)]
    return [
        Part(images[row], None if labels is None else labels[row], context.divided(number, count))
        for number, row in enumerate(rows)
    ]


def mean_of(logs: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The means of what equal parts have given, key by key."""
    if len(logs) == 1:
        return logs[0]
    return {key: torch.stack([log[key] for log in logs]).mean(0) for key in logs[0]}
