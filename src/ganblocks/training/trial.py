"""One step of the largest phase, to learn now rather than after days whether memory suffices."""

import copy

import torch
from torch import Tensor

from ganblocks.errors import GanblocksError
from ganblocks.training.randomness import StepContext
from ganblocks.training.schedule import Phase
from ganblocks.training.steps import Step

__all__ = ["try_step"]


def try_step(step: Step, images: Tensor, labels: Tensor | None, seed: int, phase: Phase) -> None:
    """One call of a copy of the step.

    Args:
        step: Left as it is.
        images: A batch of the phase.
        labels: Its labels or ``None``.
        seed: Of the run.
        phase: Named in the message.

    Raises:
        GanblocksError: If memory does not suffice; the message names the resolution and the batch size.
    """
    try:
        copy.deepcopy(step)(images, labels, StepContext(seed, 0, phase))
    except (MemoryError, RuntimeError) as error:  # torch reports a full memory as RuntimeError on the CPU
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "allocate" not in str(error):
            raise
        raise GanblocksError(
            f"memory does not suffice for the largest stage: batch {phase.batch_size} of "
            f"{phase.resolution}x{phase.resolution} images ({error}). Use a smaller batch, fewer channels or a "
            "lower resolution"
        ) from error
