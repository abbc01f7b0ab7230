"""The next batch is loaded by a thread while the step on this one runs."""

import os
import weakref
from concurrent.futures import Future, ThreadPoolExecutor, wait

from torch import Tensor

from ganblocks._checks import require
from ganblocks.data.batches import Batches, DatasetBatches, IterableBatches, LoadsAhead
from ganblocks.data.multi_resolution import MultiResolutionImages

__all__ = ["PrefetchedBatches"]

_Batch = tuple[Tensor, Tensor | None]
_Request = tuple[int, int, int | None]  # images_seen, count, resolution


class PrefetchedBatches:
    """Another stream, whose next batch a thread loads ahead; the images are the same, bit by bit.

    After each batch the one that follows it, of the same count and resolution, is loaded in the background. If that is
    what is asked for next, it is there, or what was raised while loading it is raised then; if not, it is thrown away
    and the stream serves the request. The stream is used by one thread at a time, so a request waits until the batch
    that is being loaded is done, and nothing about the stream may be changed between the first request and `close`.

    For streams that make a step wait, such as a cache on a slow disk. A `Trainer` does not wrap what it is given: of a
    cache that the system holds in memory, a batch takes about a hundredth of a ProGAN step at 4 px on a CPU and less
    above, which is also what the thread costs (``benchmarks/bench_input.py --only waits``). A data set of your own
    loads ahead in processes: ``DatasetBatches(dataset, workers=...)``.

    Args:
        batches: The stream. One of your own must give the same batch for the same request, and may not draw from the
            global random generators of Python, NumPy or torch, which training draws from at the same time.

    Attributes:
        batches: The stream.
        parts: Processes that share each batch; `part_of_batch` sets it. The next batch begins as many counts later.

    Raises:
        TypeError: ``batches`` is no stream, or is one that draws from the global generators in this process: an
            `IterableBatches`, or a `DatasetBatches` without workers.
    """

    def __init__(self, batches: Batches) -> None:
        kind = type(batches).__name__
        stream = isinstance(batches, Batches) and not isinstance(batches, MultiResolutionImages)
        require(stream, "batches", kind, "a stream of batches; `as_batches(data)` makes one", TypeError)
        draws = isinstance(batches, IterableBatches) or (isinstance(batches, DatasetBatches) and batches.workers == 0)
        advice = (
            "a stream that leaves the global random generators to the thread that trains; `DatasetBatches(dataset, "
            "workers=1)` loads ahead in processes, and needs no thread"
        )
        require(not draws, "batches", kind, advice, TypeError)
        self.batches = batches
        self.parts = 1
        self._ahead: tuple[_Request, Future[_Batch]] | None = None
        self._thread: ThreadPoolExecutor | None = None

    def batch(self, images_seen: int, count: int, resolution: int | None) -> tuple[Tensor, Tensor | None]:
        """The batch that the stream has there; arguments and errors are the stream's."""
        wanted = images_seen, count, resolution
        ahead = self._settled()
        if isinstance(self.batches, LoadsAhead):
            self.batches.parts = self.parts
        found = ahead[1].result() if ahead is not None and ahead[0] == wanted else self.batches.batch(*wanted)
        following = images_seen + count * self.parts, count, resolution
        self._ahead = following, self._started().submit(self.batches.batch, *following)
        return found

    def close(self) -> None:
        """End the thread, after the batch that it is loading, and close the stream if it can be.

        Also done, without waiting, when nothing refers to this object any more, and before the interpreter exits. May
        be called again, and `batch` afterwards too, which starts a new thread.
        """
        self._settled()
        if self._thread is not None:
            self._finalizer()
            self._thread.shutdown(wait=True)
            self._thread = None
        if hasattr(self.batches, "close"):
            self.batches.close()

    def _settled(self) -> tuple[_Request, "Future[_Batch]"] | None:
        """What was loaded ahead, when the thread is done with it; whatever comes next, the stream is free."""
        if self._thread is not None and self._owner != os.getpid():  # a forked copy of this object has no thread
            self._finalizer.detach()
            self._thread = self._ahead = None
        if self._ahead is not None:
            wait([self._ahead[1]])  # if interrupted, the next request waits again
        ahead, self._ahead = self._ahead, None
        return ahead

    def _started(self) -> ThreadPoolExecutor:
        if self._thread is None:
            self._owner = os.getpid()
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="ganblocks-prefetch")
            # Without waiting: the garbage collector may run in that very thread.
            self._finalizer = weakref.finalize(self, self._thread.shutdown, wait=False, cancel_futures=True)
        return self._thread
