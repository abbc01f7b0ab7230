"""The state of every global random generator: taken, put back, and kept clear of what happens beside training."""

import contextlib
import random
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ganblocks.errors import CheckpointError

__all__ = ["preserved_random_state", "random_state", "restore_random_state"]


def random_state() -> dict[str, Any]:
    """The state of every global generator: Python, NumPy (legacy), torch on the CPU and on each CUDA device.

    Returns:
        A dict with the keys ``python``, ``numpy``, ``torch`` and ``cuda`` (a list, empty without CUDA) that
        ``ganblocks.training.state.flatten`` accepts and ``restore_random_state`` takes back.
    """
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Put every global generator into the state that ``random_state`` has returned.

    Another number of CUDA devices than at that time gives a ``RuntimeWarning``; those that exist in both are restored.

    Args:
        state: What ``random_state`` returned, here or in another process.

    Raises:
        CheckpointError: A part is missing or of the wrong form. No generator has changed then.
    """
    missing = {"python", "numpy", "torch", "cuda"} - set(state)
    if missing:
        raise CheckpointError(f"the saved random state lacks {sorted(missing)}; the run would not continue as it began")
    before = random_state()
    try:
        _apply_random_state(state)
    except Exception as error:
        _apply_random_state(before)
        raise CheckpointError(f"the saved random state is not of the right form: {error}") from error
    if len(state["cuda"]) != len(before["cuda"]):
        warnings.warn(
            f"the random state was saved with {len(state['cuda'])} CUDA devices, but {len(before['cuda'])} are here; "
            "what is drawn on them will differ",
            RuntimeWarning,
            stacklevel=2,
        )


@contextlib.contextmanager
def preserved_random_state() -> Iterator[None]:
    """Whatever is drawn inside leaves no trace: every global generator is put back at the end."""
    before = random_state()
    try:
        yield
    finally:
        _apply_random_state(before)


def _apply_random_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for device, device_state in zip(range(devices), state["cuda"], strict=False):
        torch.cuda.set_rng_state(device_state, device)
