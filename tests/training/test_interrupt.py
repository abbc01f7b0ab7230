"""Signals become flags, in the order and number that a person means."""

import os
import signal
import threading

import pytest

from ganblocks.training.interrupt import GracefulStop


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_first_signal_sets_the_flag(number: int, code: int) -> None:
    with GracefulStop() as stop:
        assert not stop.requested
        assert stop.exit_code == 0
        os.kill(os.getpid(), number)
        assert stop.requested
        assert stop.exit_code == code


def test_second_interrupt_leaves_at_once() -> None:
    with GracefulStop():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_handler_of_the_user_is_called_and_put_back() -> None:
    calls: list[int] = []

    def mine(number: int, frame: object) -> None:
        calls.append(number)

    before = signal.signal(signal.SIGTERM, mine)
    try:
        with GracefulStop() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.requested
        assert calls == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_does_nothing_outside_the_main_thread() -> None:
    found: list[bool] = []
    before = signal.getsignal(signal.SIGINT)  # ignored, where a shell started the tests in the background

    def work() -> None:
        with GracefulStop() as stop:
            found.append(stop.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
    assert signal.getsignal(signal.SIGINT) is before
