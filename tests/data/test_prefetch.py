"""The next batch loaded by a thread: the same images as without, errors in their place, and no thread left behind."""

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from worker_items import Drawn

from ganblocks.data import (
    ArrayImages,
    DatasetBatches,
    IterableBatches,
    MultiResolutionImages,
    PrefetchedBatches,
    ProgressiveBatches,
    TensorBatches,
    as_batches,
    prefetch,
)
from ganblocks.data.batches import Batches, part_of_batch
from ganblocks.errors import DataError, ImageDecodeError


def threads() -> list[str]:
    """Names of the threads that load ahead."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ganblocks-prefetch")]


def ended() -> bool:
    """Whether all of them end within ten seconds."""
    end = time.monotonic() + 10
    while threads() and time.monotonic() < end:
        time.sleep(0.005)
    return not threads()


def progressive(seed: int = 1) -> ProgressiveBatches:
    pixels = np.random.default_rng(0).integers(0, 256, (11, 8, 8, 3), dtype=np.uint8)
    images = ArrayImages(pixels, labels=np.arange(11) % 3, layout="NHWC")
    return ProgressiveBatches(MultiResolutionImages(images, resolution=8), seed=seed)


class Recorded:
    """A stream of one number an image, its position; tells who asked for what, and fails where it is told to."""

    def __init__(self, faults: dict[int, Exception] | None = None) -> None:
        self.faults = faults or {}
        self.requests: list[tuple[int, int, int | None]] = []
        self.ahead: list[bool] = []
        self.inside = 0
        self.gate = threading.Event()
        self.gate.set()

    def batch(self, images_seen: int, count: int, resolution: int | None) -> tuple[Tensor, Tensor | None]:
        self.inside += 1
        assert self.inside == 1, "two threads in the stream"
        in_background = threading.current_thread().name.startswith("ganblocks-prefetch")
        self.requests.append((images_seen, count, resolution))
        self.ahead.append(in_background)
        if in_background:
            assert self.gate.wait(30)
        self.inside -= 1
        if images_seen in self.faults:
            raise self.faults[images_seen]
        return torch.arange(images_seen, images_seen + count), None


def numbers(batches: Batches, images_seen: int, count: int, resolution: int | None = None) -> list[int]:
    return batches.batch(images_seen, count, resolution)[0].tolist()


REQUESTS = st.lists(
    st.one_of(
        st.just("next"),
        st.tuples(st.integers(0, 40), st.integers(0, 7), st.sampled_from([4, 8, None])),  # a jump
        st.integers(1, 7),  # go on with another count
        st.sampled_from(["4", "8"]),  # go on at another resolution
    ),
    max_size=12,
)


@given(REQUESTS)
def test_any_sequence_of_requests_is_answered_as_without(requests: list[Any]) -> None:
    plain, ahead = progressive(), PrefetchedBatches(progressive())
    position, count, resolution = 0, 3, 8
    try:
        for request in requests:
            match request:
                case (position, count, resolution):
                    pass
                case int():
                    count = request
                case "4" | "8":
                    resolution = int(request)
            expected, expected_labels = plain.batch(position, count, resolution)
            found, labels = ahead.batch(position, count, resolution)
            assert torch.equal(found, expected)
            assert labels is not None
            assert expected_labels is not None
            assert torch.equal(labels, expected_labels)
            position += count
    finally:
        ahead.close()


@given(REQUESTS, st.sets(st.integers(0, 30), max_size=4))
def test_errors_come_with_the_request_that_they_belong_to(requests: list[Any], faults: set[int]) -> None:
    """The same requests fail, in the same words, as without; also when the one before was loaded ahead in vain."""
    errors: dict[int, Exception] = {place: ImageDecodeError(f"{place} is damaged") for place in faults}
    plain, ahead = Recorded(errors), PrefetchedBatches(Recorded(errors))

    def answer(batches: Batches, *request: int) -> object:
        try:
            return numbers(batches, *request)
        except ImageDecodeError as error:
            return str(error)

    position, count = 0, 3
    try:
        for request in requests:
            position, count = request[:2] if isinstance(request, tuple) else (position, count)
            assert answer(ahead, position, count, 8) == answer(plain, position, count, 8)
            position += count
    finally:
        ahead.close()


def test_the_next_batch_is_loaded_in_the_background_while_the_caller_goes_on() -> None:
    stream = Recorded()
    stream.gate.clear()  # nothing comes out of the background
    ahead = PrefetchedBatches(stream)
    assert numbers(ahead, 0, 4, 8) == [0, 1, 2, 3]
    stream.gate.set()
    assert numbers(ahead, 4, 4, 8) == [4, 5, 6, 7]
    assert numbers(ahead, 8, 4, 8) == [8, 9, 10, 11]
    ahead.close()
    assert stream.requests == [(0, 4, 8), (4, 4, 8), (8, 4, 8), (12, 4, 8)]  # each once
    assert stream.ahead == [False, True, True, True]


@pytest.mark.parametrize("request_", [(0, 4, 8), (5, 4, 8), (4, 2, 8), (4, 4, 4), (4, 4, None)], ids=str)
def test_another_request_waits_for_the_thread_and_is_served_by_the_stream(request_: tuple[int, int, int]) -> None:
    stream = Recorded()
    ahead = PrefetchedBatches(stream)
    numbers(ahead, 0, 4, 8)
    assert numbers(ahead, *request_) == list(range(request_[0], request_[0] + request_[1]))
    ahead.close()
    assert stream.requests[:3] == [(0, 4, 8), (4, 4, 8), request_]
    assert stream.ahead[:3] == [False, True, False]


def test_an_error_ahead_is_raised_when_it_is_asked_for_and_forgotten_when_not() -> None:
    fault = DataError("position 4 is damaged")
    ahead = PrefetchedBatches(Recorded({4: fault}))
    assert numbers(ahead, 0, 4) == [0, 1, 2, 3]
    with pytest.raises(DataError, match=r"^position 4 is damaged$") as caught:
        numbers(ahead, 4, 4)
    assert caught.value is fault
    assert numbers(ahead, 8, 4) == [8, 9, 10, 11]  # it goes on
    assert numbers(ahead, 0, 4) == [0, 1, 2, 3]  # loads 4 ahead, in vain
    assert numbers(ahead, 12, 4) == [12, 13, 14, 15]
    ahead.close()  # an error that nobody asked for is no error


def test_a_wait_that_is_interrupted_is_waited_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Recorded()
    ahead = PrefetchedBatches(stream)
    stream.gate.clear()
    numbers(ahead, 0, 4)

    def interrupted(futures: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(prefetch, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            numbers(ahead, 20, 4)
    stream.gate.set()
    assert numbers(ahead, 4, 4) == [4, 5, 6, 7]
    assert stream.requests[:2] == [(0, 4, None), (4, 4, None)]  # from the same load
    ahead.close()


def test_an_invalid_request_raises_what_the_stream_raises() -> None:
    ahead = PrefetchedBatches(progressive())
    for request, argument in (((-1, 2, 8), "images_seen"), ((0, 2, 5), "resolution")):
        with pytest.raises(ValueError, match=f"`{argument}` is ") as expected:
            progressive().batch(*request)
        with pytest.raises(ValueError, match=f"`{argument}` is ") as found:
            ahead.batch(*request)
        assert str(found.value) == str(expected.value)
    assert not threads()


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_parts_of_a_batch_are_the_batch_and_their_next_ones_are_loaded_ahead(parts: int) -> None:
    whole, streams = progressive(), [Recorded() for _ in range(parts)]
    shares = [PrefetchedBatches(progressive()) for _ in range(parts)]
    recorded = [PrefetchedBatches(stream) for stream in streams]
    for position in range(0, 30, 6):
        expected, _ = whole.batch(position, 6, 8)
        found = [part_of_batch(share, position, 6, 8, part=part, parts=parts) for part, share in enumerate(shares)]
        assert torch.equal(torch.cat([images for images, _ in found]), expected)
        for part, share in enumerate(recorded):
            part_of_batch(share, position, 6, 8, part=part, parts=parts)
    for share in (*shares, *recorded):
        share.close()
    size = 6 // parts
    for part, stream in enumerate(streams):
        assert stream.requests == [(position + part * size, size, 8) for position in range(0, 36, 6)]  # none in vain
        assert stream.ahead == [False, True, True, True, True, True]


def test_a_stream_with_workers_is_told_of_the_parts() -> None:
    plain = DatasetBatches(Drawn(12), seed=1)
    with_workers = DatasetBatches(Drawn(12), seed=1, workers=1)
    ahead = PrefetchedBatches(with_workers)
    try:
        for position in (0, 6, 12, 3):
            expected, _ = part_of_batch(plain, position, 6, None, part=1, parts=2)
            assert torch.equal(part_of_batch(ahead, position, 6, None, part=1, parts=2)[0], expected)
        assert with_workers.parts == 2
    finally:
        ahead.close()


def test_streams_that_draw_from_the_global_generators_are_refused_with_what_to_do() -> None:
    for stream in (DatasetBatches(Drawn(4)), IterableBatches([torch.zeros(2)])):
        kind = type(stream).__name__
        with pytest.raises(TypeError, match=rf"`batches` is '{kind}', but must be .*DatasetBatches\(dataset, workers"):
            PrefetchedBatches(stream)
    with pytest.raises(TypeError, match="`batches` is 'MultiResolutionImages', but must be a stream"):
        PrefetchedBatches(progressive().images)  # type: ignore[arg-type]


def test_the_global_generators_are_left_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].copy()
    ahead = PrefetchedBatches(progressive())
    for position in range(0, 12, 3):
        ahead.batch(position, 3, 8)
    ahead.close()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state(legacy=False)["state"]["key"], before[1])


def test_it_is_a_stream_like_the_others_and_wraps_any() -> None:
    images = torch.arange(40.0).reshape(10, 4)
    ahead = PrefetchedBatches(PrefetchedBatches(TensorBatches(images, seed=2)))
    assert as_batches(ahead) is ahead
    for position in (0, 4, 8, 3):
        assert torch.equal(ahead.batch(position, 4, None)[0], TensorBatches(images, seed=2).batch(position, 4, None)[0])
    ahead.close()
    assert not threads()


def close(ahead: list[PrefetchedBatches]) -> None:
    ahead[0].close()
    assert not threads()  # not only soon


def drop(ahead: list[PrefetchedBatches]) -> None:
    ahead.clear()


def drop_in_a_cycle(ahead: list[PrefetchedBatches]) -> None:
    ahead[0].itself = ahead[0]  # type: ignore[attr-defined]
    ahead.clear()
    gc.collect()


@pytest.mark.parametrize("end", [close, drop, drop_in_a_cycle])
def test_no_thread_is_left(end: Callable[[list[PrefetchedBatches]], None]) -> None:
    ahead = [PrefetchedBatches(progressive())]
    assert not threads()  # none before the first batch
    ahead[0].batch(0, 3, 8)
    ahead[0].batch(3, 3, 8)
    assert len(threads()) == 1
    end(ahead)
    assert ended()


def test_after_its_end_it_can_be_closed_again_and_used_again() -> None:
    stream = Recorded()
    closed = []
    stream.close = lambda: closed.append(True)  # type: ignore[attr-defined]
    ahead = PrefetchedBatches(stream)
    ahead.close()
    numbers(ahead, 0, 2)
    ahead.close()
    ahead.close()
    assert closed == [True] * 3
    assert numbers(ahead, 2, 2) == [2, 3]
    assert len(threads()) == 1
    ahead.close()
    assert not threads()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes are forked")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_copy_has_a_thread_of_its_own() -> None:
    ahead = PrefetchedBatches(Recorded())
    numbers(ahead, 0, 4)
    child = os.fork()
    if child == 0:
        found = numbers(ahead, 4, 4) == [4, 5, 6, 7] and numbers(ahead, 8, 4) == [8, 9, 10, 11]
        os._exit(0 if found else 1)
    end = time.monotonic() + 30
    while (status := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
        time.sleep(0.01)
    if status == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert status == (child, 0)
    ahead.close()


PROGRAM = """
import time
import torch
from ganblocks.data import PrefetchedBatches

class Slow:
    def batch(self, images_seen, count, resolution):
        if images_seen:
            time.sleep(0.5)
            raise ValueError("nobody asks for this")
        return torch.zeros(count), None

ahead = PrefetchedBatches(Slow())
ahead.batch(0, 4, None)
print("done")
"""


def test_the_interpreter_ends_while_a_batch_is_being_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
