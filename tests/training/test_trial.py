"""One step of a copy: memory that does not suffice is told with its size, everything else as it is."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ganblocks.errors import GanblocksError
from ganblocks.training import Phase, StepContext
from ganblocks.training.trial import try_step

PHASE = Phase(4, 1e-3, resolution=8)


class Counting:
    """A step that counts its calls, or raises."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.calls, self.error = 0, error

    def __call__(self, images: Tensor, labels: Tensor | None, context: StepContext) -> dict[str, Tensor]:
        self.calls += 1
        assert (context.seed, context.images_seen, context.phase) == (7, 0, PHASE)
        if self.error is not None:
            raise self.error
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None:
        pass


def test_the_step_itself_stays_as_it_is() -> None:
    step = Counting()
    try_step(step, torch.zeros(4, 3, 8, 8), None, 7, PHASE)
    assert step.calls == 0


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory"), torch.OutOfMemoryError("CUDA")],
    ids=["python", "cpu", "gpu"],
)
def test_a_full_memory_is_told_with_the_size_of_the_batch(error: Exception) -> None:
    with pytest.raises(GanblocksError, match=r"batch 4 of 8x8 images .* Use a smaller batch"):
        try_step(Counting(error), torch.zeros(4, 3, 8, 8), None, 7, PHASE)


def test_any_other_error_is_left_alone() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"):
        try_step(Counting(RuntimeError("shapes differ")), torch.zeros(4, 3, 8, 8), None, 7, PHASE)
