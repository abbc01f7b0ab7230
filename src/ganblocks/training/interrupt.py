"""Ctrl-C and SIGTERM as a flag that loops look at, so that a run ends between two steps and never within one."""

import contextlib
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["GracefulStop"]


class GracefulStop:
    """While active, the first SIGINT or SIGTERM sets `signal_number`; a second SIGINT interrupts at once.

    A handler of the user's own that was installed before is called too, and all handlers are put back at the end.
    Outside the main thread, where Python allows no handlers, it does nothing.

    Attributes:
        signal_number: The signal that came, or ``None``.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._previous: dict[int, Any] = {}
        self._asked = False

    @property
    def requested(self) -> bool:
        """Whether a signal came, or `request` was called."""
        return self._asked or self.signal_number is not None

    def request(self) -> None:
        """Set the flag without a signal."""
        self._asked = True

    @property
    def exit_code(self) -> int:
        """What a process ended by this signal returns: 130 for SIGINT, 143 for SIGTERM, 0 for none."""
        return 0 if self.signal_number is None else 128 + self.signal_number

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            with contextlib.suppress(ValueError, TypeError):
                signal.signal(number, handler)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = number
        previous = self._previous.get(number)
        if callable(previous) and previous is not signal.default_int_handler:
            previous(number, frame)
