"""Batches from worker processes: the same as without, and no trouble when one fails."""

import gc
import multiprocessing
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess

import numpy as np
import pytest
import torch
from worker_items import Drawn, Faulty, Process, Unimportable

from ganblocks.data import DatasetBatches
from ganblocks.data.batches import part_of_batch
from ganblocks.data.sampler import ResumableSampler
from ganblocks.data.workers import _close_all
from ganblocks.errors import DataError, ImageDecodeError, WorkerDiedError

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine with one core

SIZE = 11
Left = Callable[[], set[BaseProcess]]


@pytest.fixture(scope="module", params=[1, 2])
def loaded_ahead(request: pytest.FixtureRequest) -> Iterator[DatasetBatches]:
    stream = DatasetBatches(Drawn(SIZE), seed=3, workers=request.param, timeout_seconds=60)
    yield stream
    stream.close()


@pytest.fixture
def faulty(request: pytest.FixtureRequest) -> Iterator[tuple[DatasetBatches, int]]:
    """A stream whose item 5 has the fault that is asked for, and the item's position in the first epoch."""
    stream = DatasetBatches(Faulty(SIZE, {5: request.param}), seed=3, workers=2, timeout_seconds=2)
    yield stream, ResumableSampler(SIZE, seed=3).indices(0, SIZE).tolist().index(5)
    stream.close()


def global_draws() -> list[float]:
    from_numpy = [np.random.random(), np.random.normal()]
    return [random.random(), random.gauss(0, 1), *from_numpy, torch.randn(()).item(), torch.rand(()).item()]


@pytest.fixture
def processes_left() -> Left:
    """Processes that have been started since the test began, and have not ended."""
    before = set(multiprocessing.active_children())
    return lambda: set(multiprocessing.active_children()) - before


def test_workers_give_what_the_main_process_gives_at_any_position_in_any_cutting(loaded_ahead: DatasetBatches) -> None:
    plain = DatasetBatches(Drawn(SIZE), seed=3)
    whole, all_labels = plain.batch(0, 6 * SIZE, None)
    assert all_labels is not None
    steps = [(0, 4), (4, 4), (8, 4)]  # across the end of an epoch
    steps += [(12, 1), (13, 7), (20, 7)]  # other sizes
    steps += [(4, 4), (8, 4), (8, 4), (50, 2)]  # back, again, and far ahead
    steps += [(position, 3) for position in range(17, 47, 3)]
    for position, count in steps:
        images, labels = loaded_ahead.batch(position, count, None)
        assert labels is not None
        assert torch.equal(images, whole[position : position + count])
        assert torch.equal(labels, all_labels[position : position + count])


def test_what_is_loaded_ahead_for_one_of_several_processes_is_what_it_asks_for() -> None:
    """Nothing that was loaded is thrown away: the plan is entered once."""
    plain, stream = DatasetBatches(Drawn(SIZE), seed=3), DatasetBatches(Drawn(SIZE), seed=3, workers=1)
    try:
        for position in range(0, 48, 8):
            images, _ = part_of_batch(stream, position, 8, None, part=1, parts=2)
            assert torch.equal(images, plain.batch(position + 4, 4, None)[0])
        assert stream._workers is not None
        assert stream._workers._plan.generation == 1
    finally:
        stream.close()


def test_augmentations_differ_between_all_items_of_all_epochs(loaded_ahead: DatasetBatches) -> None:
    images = torch.cat([loaded_ahead.batch(position, 2, None)[0] for position in range(0, 2 * SIZE, 2)])
    assert sorted(images[:, 0].tolist()) == sorted([*range(SIZE)] * 2)
    assert len(set(images[:, 1:].flatten().tolist())) == 2 * SIZE * 6


def test_the_generators_of_the_main_process_are_left_alone(loaded_ahead: DatasetBatches) -> None:
    def draws(stream: DatasetBatches | None) -> list[float]:
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        first = global_draws()
        if stream is not None:
            stream.close()  # so that it starts processes too
            stream.batch(0, 4, None)
            stream.batch(9, 4, None)
        return first + global_draws()

    expected = draws(None)
    assert draws(loaded_ahead) == expected
    assert draws(DatasetBatches(Drawn(SIZE))) == expected


def test_workers_share_the_work_end_when_told_and_can_start_again(processes_left: Left) -> None:
    stream = DatasetBatches(Process(), workers=2, timeout_seconds=60)
    rows = torch.cat([stream.batch(position, 1, None)[0] for position in range(8)])
    assert os.getpid() not in rows[:, 0]
    assert len(set(rows[:, 0].tolist())) == 2
    if "forkserver" in multiprocessing.get_all_start_methods():
        assert os.getpid() not in rows[:, 1]  # not forked from a program that may have threads and a GPU
    assert rows[:, 2:].unique(dim=0).tolist() == [[1, 1, 1]]
    processes = processes_left()
    stream.close()
    stream.close()
    assert processes_left() == set()
    assert [process.exitcode for process in processes] == [0, 0]  # at rest, so none had to be killed
    again = stream.batch(0, 1, None)[0][0, 0].item()
    assert again not in rows[:, 0]
    del stream
    gc.collect()
    assert processes_left() == set()


def test_the_end_of_the_program_ends_the_processes_of_streams_in_use(processes_left: Left) -> None:
    stream = DatasetBatches(Drawn(SIZE), workers=1, timeout_seconds=60)
    stream.batch(0, 1, None)
    _close_all()  # what `atexit` calls
    assert processes_left() == set()


@pytest.mark.parametrize("forgotten", [False, True])
def test_an_item_that_hangs_holds_up_no_end(forgotten: bool, processes_left: Left) -> None:
    first, second = ResumableSampler(SIZE, seed=3).indices(0, 2).tolist()
    stream = DatasetBatches(Faulty(SIZE, {second: "hang"}), seed=3, workers=1)
    assert stream.batch(0, 1, None)[0].tolist() == [first]
    begin = time.monotonic()
    if not forgotten:
        stream.close()
    del stream
    gc.collect()
    assert processes_left() == set()
    assert time.monotonic() - begin < 9  # DataLoader alone takes 10 s, and does not end a process that ignores SIGTERM


@pytest.mark.parametrize("faulty", ["SIGKILL", "exit", "segmentation fault"], indirect=True)
def test_a_dead_worker_is_named_with_its_item_and_the_next_call_goes_on(
    faulty: tuple[DatasetBatches, int], processes_left: Left
) -> None:
    stream, position = faulty
    order = ResumableSampler(SIZE, seed=3)
    harmless = next(start for start in range(SIZE, 9 * SIZE) if 5 not in order.indices(start, 6))
    stream.batch(harmless, 1, None)  # has started
    begin = time.monotonic()
    with pytest.raises(WorkerDiedError) as caught:
        stream.batch(position, 2, None)
    assert time.monotonic() - begin < 5  # what the contract promises
    after = order.indices(position, 2)[1]
    message = str(caught.value)
    assert re.search("killed by SIG(KILL|SEGV) while|ended with code 3 while", message)
    doing = re.search(r"loading item 5 \(position (\d+)\)", message)
    assert doing is not None
    assert order.indices(int(doing[1]), 1).tolist() == [5]  # this one or, loaded ahead, that of the next epoch
    assert f"positions {position} to {position + 1} of the stream, indices 5, {after}" in message
    assert processes_left() == set()
    assert stream.batch(position + 1, 1, None)[0].tolist() == [after]


@pytest.mark.parametrize("faulty", ["hang"], indirect=True)
def test_a_hanging_worker_is_named_with_its_item_and_ended(
    faulty: tuple[DatasetBatches, int], processes_left: Left
) -> None:
    stream, position = faulty
    with pytest.raises(WorkerDiedError, match=rf"no batch for .*loading item 5 \(position {position}\).*timeout_sec"):
        stream.batch(position, 1, None)
    assert processes_left() == set()


@pytest.mark.parametrize(
    ("faulty", "text"),
    [
        ("memory", r"item 5 of the data set .*MemoryError"),
        ("giant", r"a batch of shape \[1, 70368744177664\], do not fit"),
    ],
    indirect=["faulty"],
)
def test_a_full_memory_in_a_worker_is_a_data_error_and_the_worker_lives_on(
    faulty: tuple[DatasetBatches, int], text: str, processes_left: Left
) -> None:
    stream, position = faulty
    with pytest.raises(DataError, match=text):
        stream.batch(position, 1, None)
    before = processes_left()
    assert len(before) == 2
    following = ResumableSampler(SIZE, seed=3).indices(position + 1, 1).tolist()
    assert stream.batch(position + 1, 1, None)[0].tolist() == following
    assert processes_left() == before


@pytest.mark.parametrize("faulty", ["slow"], indirect=True)
def test_an_item_may_take_longer_than_the_interval_of_looks(faulty: tuple[DatasetBatches, int]) -> None:
    stream, position = faulty
    assert stream.batch(position, 1, None)[0].tolist() == [5]


def test_errors_of_items_arrive_with_type_cause_and_the_workers_traceback() -> None:
    faults = {0: "value error", 1: "own error", 2: "two arguments", 9: "other shape", 4: "no tensor", 6: "path error"}
    expected = {
        0: (DataError, r"item 0 of the data set \(position \d+ .*ValueError: bad pixel", ValueError),
        1: (ImageDecodeError, "broken.png is no image", type(None)),
        2: (DataError, "item 2 .*TwoArgumentsError: one and two", Exception),
        6: (DataError, "PathError: a.png is odd", type(None)),
        4: (TypeError, "`images` is 'str'", type(None)),
    }
    stream = DatasetBatches(Faulty(SIZE, faults), seed=3, workers=1, timeout_seconds=60)
    order = ResumableSampler(SIZE, seed=3).indices(0, SIZE).tolist()
    for index, (kind, text, cause) in expected.items():
        with pytest.raises(kind, match=text) as caught:
            stream.batch(order.index(index), 1, None)
        assert type(caught.value) is kind
        assert type(caught.value.__cause__) is cause
        assert "worker_items.py" in "".join(caught.value.__notes__) or index == 4
    with pytest.raises(DataError, match="do not make one batch"):
        stream.batch(order.index(9) - 1, 2, None)
    assert stream.batch(order.index(5), 1, None)[0].tolist() == [5]  # the process lives on
    stream.close()


def test_a_data_set_that_cannot_reach_a_process_is_explained(processes_left: Left) -> None:
    local = Faulty(SIZE, {})
    local.hook = lambda: None  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match=r"`dataset` cannot be sent to worker processes .*lambda"):
        DatasetBatches(local, workers=1).batch(0, 1, None)
    with pytest.raises(WorkerDiedError, match=r"ended with code 1 while starting: .*notebook.*__main__"):
        DatasetBatches(Unimportable(), workers=1).batch(0, 1, None)
    assert processes_left() == set()
