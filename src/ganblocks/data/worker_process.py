"""What a data-loading process does: takes a task, loads its items, hands back the batch or what went wrong."""

import contextlib
import dataclasses
import signal
import traceback
from multiprocessing.reduction import ForkingPickler
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from ganblocks.data.items import load_batch

__all__ = ["IDLE", "STARTING", "Result", "Task", "TaskLoader", "portable", "prepare", "unchanged"]

# What a process does, as long as it is not loading the item of a position.
STARTING = -2
IDLE = -1


@dataclasses.dataclass(frozen=True)
class Task:
    """One batch to load.

    Attributes:
        generation: A change of position or batch size begins another one; tasks of older ones are passed over.
        position: Of the first item in the stream.
        indices: Of the items in the data set.
    """

    generation: int
    position: int
    indices: list[int]


@dataclasses.dataclass(frozen=True)
class Result:
    """What has become of a task.

    Attributes:
        generation: That of the task.
        batch: Images and labels; ``None`` after an error, or if nobody waits for them any more.
        error: What went wrong, with the worker's traceback as a note.
        cause: What caused it.
    """

    generation: int
    batch: tuple[Tensor, Tensor | None] | None = None
    error: Exception | None = None
    cause: Exception | None = None


class TaskLoader(Dataset[Result]):
    """A data set whose keys are tasks and whose items are results.

    Args:
        dataset: The user's.
        seed: Of the stream.
        board: Shared integers: the generation wanted, then, for each process, the position of the item it is loading,
            or `STARTING` or `IDLE`.
    """

    def __init__(self, dataset: Any, seed: int, board: Any) -> None:
        self.dataset = dataset
        self.seed = seed
        self.board = board

    def __getitem__(self, task: Task) -> Result:
        """Load the batch; every error becomes part of the result."""
        slot = 1 + _worker_info().id

        def before_item(position: int) -> None:
            if self.board[0] != task.generation:
                raise _StaleError
            self.board[slot] = position

        options: dict[str, Any] = {"seed": self.seed, "position": task.position, "before_item": before_item}
        try:
            result = Result(task.generation, load_batch(self.dataset, task.indices, **options))
        except _StaleError:
            result = Result(task.generation)
        except Exception as error:  # not what ends the process: its position stays on the board
            cause = None if error.__cause__ is None else portable(error.__cause__)
            sent = portable(error)
            sent.add_note("In the worker process:\n" + "".join(traceback.format_exception(error)))
            result = Result(task.generation, error=sent, cause=cause)
        self.board[slot] = IDLE
        return result


def prepare(worker: int) -> None:
    """Called once in each process: leaves it to the main process when to end, and reports that it has started."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _worker_info().dataset.board[1 + worker] = IDLE


def unchanged(result: Result) -> Result:
    """The result as it is; a function of a module, since it is sent to the processes by name."""
    return result


def portable(error: BaseException) -> Exception:
    """An error that survives the way to another process: itself, or its text in the nearest of its types that does."""
    for kind in (None, *type(error).__mro__[1:]):
        with contextlib.suppress(Exception):
            candidate = error if kind is None else kind(f"{type(error).__name__}: {error}")
            arrived = ForkingPickler.loads(ForkingPickler.dumps(candidate))
            if type(arrived) is type(candidate) and isinstance(candidate, Exception):
                return candidate
    return RuntimeError(f"{type(error).__name__}: {error}")


def _worker_info() -> Any:
    return get_worker_info()


class _StaleError(Exception):
    """Nobody waits for this batch any more."""
