"""Every global generator goes on where it was, and what happens beside training leaves no trace in any of them."""

import json
import random
from typing import Any

import numpy as np
import pytest
import torch

from ganblocks.errors import CheckpointError
from ganblocks.training.random_state import preserved_random_state, random_state, restore_random_state
from ganblocks.training.state import flatten, unflatten


def json_round_trip(state: Any) -> Any:
    tensors, document = flatten(state)
    return unflatten(tensors, json.loads(json.dumps(document, allow_nan=False)))


def draw_from_all() -> list[Any]:
    # The second normal of Python and of NumPy comes from a value kept aside, which must be saved too.
    return [random.gauss(0, 1), random.random(), np.random.standard_normal(), np.random.rand(), torch.randn(3).tolist()]


def test_random_state_continues_every_stream() -> None:
    draw_from_all()
    saved = json_round_trip(random_state())
    expected = [draw_from_all() for _ in range(3)]
    restore_random_state(saved)
    assert [draw_from_all() for _ in range(3)] == expected


@pytest.mark.parametrize("part", ["python", "numpy", "torch", "cuda"])
def test_missing_part_of_the_random_state_is_an_error(part: str) -> None:
    state = random_state()
    del state[part]
    with pytest.raises(CheckpointError, match=part):
        restore_random_state(state)


@pytest.mark.parametrize(
    ("part", "value"), [("python", (3, (1, 2), None)), ("numpy", {}), ("torch", torch.zeros(3)), ("cuda", None)]
)
def test_malformed_random_state_changes_no_generator(part: str, value: Any) -> None:
    before = random_state()
    expected = draw_from_all()
    other = random_state()
    restore_random_state(before)
    with pytest.raises(CheckpointError, match="not of the right form"):
        restore_random_state({**other, part: value})
    assert draw_from_all() == expected


def test_every_cuda_device_is_saved_and_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = [torch.tensor([1], dtype=torch.uint8), torch.tensor([2], dtype=torch.uint8)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(devices))
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: list(devices))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: devices.__setitem__(device, state))
    saved = json_round_trip(random_state())
    devices[:] = [torch.tensor([8], dtype=torch.uint8), torch.tensor([9], dtype=torch.uint8)]
    restore_random_state(saved)
    assert [int(device) for device in devices] == [1, 2]


def test_another_number_of_cuda_devices_is_announced() -> None:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    state = {**random_state(), "cuda": [torch.zeros(16, dtype=torch.uint8)] * (count + 1)}
    if count:
        state["cuda"][:count] = torch.cuda.get_rng_state_all()
    with pytest.warns(RuntimeWarning, match=f"saved with {count + 1} CUDA devices, but {count} are here"):
        restore_random_state(state)


def test_what_is_drawn_inside_leaves_no_trace_even_if_it_fails() -> None:
    before = random_state()
    expected = draw_from_all()
    restore_random_state(before)

    def draw_and_fail() -> None:
        with preserved_random_state():
            draw_from_all()
            torch.manual_seed(5)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        draw_and_fail()
    assert draw_from_all() == expected
