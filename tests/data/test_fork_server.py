"""The process that forks the workers, and what it leaves alone."""

import multiprocessing
import os
import signal
import sys
import time

import pytest
from worker_items import Process

from ganblocks.data import DatasetBatches

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no fork servers")


def test_signals_to_all_processes_disturb_no_batch_and_no_other_process_of_the_server() -> None:
    stream = DatasetBatches(Process(), workers=1, timeout_seconds=60)
    worker, server, threads, *ignored = stream.batch(0, 1, None)[0][0].tolist()
    assert (threads, ignored) == (1, [1, 1])
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(server, number)
        os.kill(worker, number)
    time.sleep(0.2)
    for position in range(1, 9):
        assert stream.batch(position, 1, None)[0][0, :2].tolist() == [worker, server]
    stream.close()

    other = multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(60,))
    other.start()
    other.terminate()
    other.join(20)
    other.kill()
    other.join()
    assert other.exitcode == -signal.SIGTERM


def test_nothing_changes_where_the_module_is_imported_by_another_process() -> None:
    before = signal.getsignal(signal.SIGTERM)
    import ganblocks.data.fork_server  # noqa: F401

    assert signal.getsignal(signal.SIGTERM) == before
