"""Batches of a data set, loaded ahead by worker processes; which process loads an item changes nothing about it.

The processes are those of ``torch.utils.data.DataLoader``. They come from a fork server (on Windows they are spawned),
never from a fork of the running program: a fork copies locks that its other threads hold (OpenMP, CUDA, loggers), and
the copy waits for them for ever. So the data set must be picklable and importable by a new process. As the fork server
is the parent of the workers, no SIGCHLD handler of torch's can raise an error in the middle of a training step when
one of them dies; it is noticed where the batch is asked for.
"""

import atexit
import copy
import importlib
import multiprocessing
import os
import signal
import time
import warnings
import weakref
from collections.abc import Iterator
from multiprocessing import connection
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from ganblocks.data.sampler import ResumableSampler
from ganblocks.data.worker_process import IDLE, STARTING, Result, Task, TaskLoader, prepare, unchanged
from ganblocks.errors import WorkerDiedError

__all__ = ["WorkerBatches"]

_PRELOADED = "ganblocks.data.fork_server"
_AHEAD = 2  # batches that each process loads ahead
_LOOK_SECONDS = 1.0  # how often a waiting main process looks whether all workers live
_START_SECONDS = 120.0  # a new process imports torch and the data set first
_END_SECONDS = 2.0  # what `close` grants an item that is being loaded

_ADVICE = {
    "was killed by SIGKILL": "the system kills so when memory is short: use fewer workers or smaller batches",
    "was killed by SIGBUS": "shared memory is short, most likely (see `df /dev/shm`): enlarge it or use fewer workers",
}
_NO_ADVICE = "what it printed may say why; workers=0 shows the error in place"
_START_ADVICE = (
    "what it printed says why. A new process must be able to import the data set's class (from a file, not from a "
    'notebook), and a script must do its work under `if __name__ == "__main__":`; otherwise use workers=0'
)


class WorkerBatches:
    """Batches of a data set at any position, loaded ahead by processes. They start when the first batch is asked for.

    Batches that follow each other come from what was loaded ahead; another position or count drops it and goes on with
    the same processes. After an error the next call goes on where it is asked to, with new processes if need be.

    Args:
        dataset: Has ``__getitem__`` and can be sent to a process.
        sampler: Order and seed.
        workers: Processes, at least 1; each uses one thread. They ignore SIGINT and SIGTERM, which Ctrl-C and batch
            systems send to all processes of a group: the main process decides when to end.
        timeout_seconds: Longest wait for one batch, not counting the start of the processes.
    """

    def __init__(self, dataset: Any, sampler: ResumableSampler, *, workers: int, timeout_seconds: float) -> None:
        self.dataset = dataset
        self.sampler = sampler
        self.workers = workers
        self.timeout_seconds = timeout_seconds
        self._iterator: Iterator[Result] | None = None
        self._expected: tuple[int, int, int] | None = None

    def batch(self, position: int, count: int, *, stride: int | None = None) -> tuple[Tensor, Tensor | None]:
        """The ``count`` items from ``position`` on, stacked, and their labels or ``None``.

        Args:
            position: In the stream.
            count: At least 1.
            stride: From this batch to the one that will be asked for next; ``None`` = ``count``.

        Raises:
            WorkerDiedError: If a process died, or nothing came within the time.
            DataError: As `load_batch`.
            TypeError: If the data set cannot be sent to a process.
        """
        stride = count if stride is None else stride
        if self._iterator is None:
            self._start(position, count, stride)
        elif self._expected != (position, count, stride):
            self._plan.enter(position, count, stride)
            self._board[0] = self._plan.generation
        self._expected = None
        result = self._receive(position, count)
        while result.generation != self._plan.generation:
            result = self._receive(position, count)
        self._expected = (position + stride, count, stride)
        if result.error is not None:
            raise result.error from result.cause
        assert result.batch is not None
        return result.batch

    def close(self) -> None:
        """End the processes. May be called again, and `batch` afterwards too, which starts new ones."""
        if self._iterator is None or self._owner != os.getpid():  # a forked copy of this object owns no process
            return
        self._board[0] = -1  # no task has this generation: what waits in the queues is passed over
        end = time.monotonic() + _END_SECONDS
        while time.monotonic() < end and any(
            state >= 0 and process.is_alive() for state, process in zip(self._states(), self._processes, strict=True)
        ):
            time.sleep(0.01)
        idle = [state == IDLE for state in self._states()]
        self._kill([process for process, at_rest in zip(self._processes, idle, strict=True) if not at_rest])
        self._iterator = None  # DataLoader lets the others run out and joins them
        self._kill(self._processes)

    def __del__(self) -> None:
        if getattr(self, "_iterator", None) is not None:
            self.close()

    def _start(self, position: int, count: int, stride: int) -> None:
        self._owner, self._started = os.getpid(), time.monotonic()
        context: Any = _context()
        processes: list[Any] = []

        def recorded(*args: Any, make: Any = context.Process, **options: Any) -> Any:
            processes.append(make(*args, **options))
            return processes[-1]

        context.Process = recorded
        self._board = context.RawArray("q", [0] + [STARTING] * self.workers)
        self._plan = _Plan(self.sampler)
        self._plan.enter(position, count, stride)
        self._board[0] = self._plan.generation
        loader = DataLoader(
            TaskLoader(self.dataset, self.sampler.seed, self._board),
            batch_size=None,
            sampler=self._plan,
            num_workers=self.workers,
            collate_fn=unchanged,  # type: ignore[arg-type]  # torch thinks of lists only
            timeout=min(_LOOK_SECONDS, self.timeout_seconds),
            worker_init_fn=prepare,
            multiprocessing_context=context,
            generator=torch.Generator(),  # else the global one would be drawn from
            prefetch_factor=_AHEAD,
        )
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Got pickle error")  # the error below says it better
                self._iterator = iter(loader)
        except (OSError, EOFError) as error:
            raise WorkerDiedError(f"worker processes cannot be started ({error!r}); {_START_ADVICE}") from error
        except Exception as error:
            raise TypeError(
                f"`dataset` cannot be sent to worker processes ({error}); use functions and classes of a module "
                "instead of lambdas and local ones, open files in the process that reads them, or use workers=0"
            ) from error
        finally:
            self._processes = [process for process in processes if process.pid is not None]
            if self._iterator is None:
                self._kill(self._processes)
        _open.add(self)

    def _receive(self, position: int, count: int) -> Result:
        """The next result. Items' own errors come as results, so an error here is one of the machinery."""
        assert self._iterator is not None
        since = time.monotonic()
        while True:
            starting = STARTING in self._states()
            try:
                return next(self._iterator)
            except Exception as error:
                since = time.monotonic() if starting else since
                fault = self._fault(error, time.monotonic() - since)
                if fault is None:
                    continue
                self._kill(self._processes)
                self._iterator = None
                indices = self.sampler.indices(position, count).tolist()
                listed = ", ".join(map(str, indices[:16])) + (", ..." if count > 16 else "")
                batch = f"positions {position} to {position + count - 1} of the stream, indices {listed}"
                raise WorkerDiedError(f"{fault}. The batch waited for: {batch}") from error

    def _fault(self, error: Exception, waited: float) -> str | None:
        """What is wrong, or None if it was only a look at the processes."""
        looking = "timed out" in str(error)
        connection.wait([process.sentinel for process in self._processes], 0 if looking else _LOOK_SECONDS)
        states = self._states()
        for state, process in zip(states, self._processes, strict=True):
            if not process.is_alive():
                ending = _ending(process.exitcode)
                advice = _START_ADVICE if state == STARTING else _ADVICE.get(ending, _NO_ADVICE)
                return f"a data-loading process {ending} while {self._doing(state)}: {advice}"
        if not looking:
            return f"the data-loading processes cannot be reached any more ({error!r}); use workers=0 to see more"
        if STARTING in states and time.monotonic() - self._started > _START_SECONDS:
            return f"a data-loading process did not start within {_START_SECONDS:g} s: {_START_ADVICE}"
        if STARTING not in states and waited >= self.timeout_seconds:
            doing = ", ".join(f"one {self._doing(state)}" for state in states)
            return (
                f"the data-loading processes gave no batch for {waited:.1f} s ({doing}) and were ended: if items may "
                "take so long, raise timeout_seconds; otherwise load them with workers=0 to see where it hangs"
            )
        return None

    def _states(self) -> list[int]:
        return list(self._board[1:])

    def _doing(self, state: int) -> str:
        if state < 0:
            return "at rest" if state == IDLE else "starting"
        return f"loading item {int(self.sampler.indices(state, 1)[0])} (position {state})"

    @staticmethod
    def _kill(processes: list[Any]) -> None:
        """SIGKILL, since they ignore SIGTERM; ended ones are only joined."""
        for process in processes:
            process.kill()
        for process in processes:
            process.join()


class _Plan(Sampler[Task]):
    """The tasks that DataLoader hands out, without end; `enter` is obeyed by the next one."""

    def __init__(self, sampler: ResumableSampler) -> None:
        self.sampler = sampler
        self.generation = 0

    def enter(self, position: int, count: int, stride: int) -> None:
        self.generation += 1
        self.position, self.count, self.stride = position, count, stride

    def __iter__(self) -> Iterator[Task]:
        while True:
            position, self.position = self.position, self.position + self.stride
            yield Task(self.generation, position, self.sampler.indices(position, self.count).tolist())


def _context() -> Any:
    """Where processes come from: a fork server that has imported `ganblocks.data.fork_server`."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return copy.copy(multiprocessing.get_context("spawn"))
    context = copy.copy(multiprocessing.get_context("forkserver"))
    server = importlib.import_module("multiprocessing.forkserver")
    wanted = getattr(getattr(server, "_forkserver", None), "_preload_modules", ["__main__"])  # keep the user's own
    if _PRELOADED not in wanted:
        context.set_forkserver_preload([*wanted, _PRELOADED])  # of no effect where a server runs already
    return context


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        names = {number.value: number.name for number in signal.Signals}
        return f"was killed by {names.get(-code, f'signal {-code}')}"
    return f"ended with code {code}"


_open: "weakref.WeakSet[WorkerBatches]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Before multiprocessing's own exit, which would wait for ever for workers that ignore its SIGTERM."""
    for batches in list(_open):
        batches.close()
