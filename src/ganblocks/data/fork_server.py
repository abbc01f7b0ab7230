"""What the process that forks the workers imports when it starts, and nothing else does.

With it come torch and the rest that a worker needs, so that a worker starts in a moment and shares that memory. SIGTERM
does nothing here: a batch system that sends it to all processes would otherwise end the workers with their server,
before the main process has taken its last step. It ignores SIGINT already, and ends with the main process.
"""

import os
import signal
import sys

import ganblocks.data.worker_process  # noqa: F401  (what is imported here need not be imported in each worker)

__all__ = ["outlive_sigterm"]


def outlive_sigterm() -> None:
    """Let SIGTERM do nothing in this process; processes forked from it obey it as ever, from their first moment on."""
    change = signal.pthread_sigmask

    def obey() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        change(signal.SIG_UNBLOCK, {signal.SIGTERM})

    signal.signal(signal.SIGTERM, lambda number, frame: None)
    os.register_at_fork(  # what is sent to a new process before `obey` waits for it
        before=lambda: change(signal.SIG_BLOCK, {signal.SIGTERM}),
        after_in_parent=lambda: change(signal.SIG_UNBLOCK, {signal.SIGTERM}),
        after_in_child=obey,
    )


if any("multiprocessing.forkserver" in argument for argument in sys.orig_argv):
    outlive_sigterm()
