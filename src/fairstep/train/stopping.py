"""Being told to stop: SIGTERM (a scheduler takes the machine back) and Ctrl-C end a run between two steps."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(SystemExit):
    """The run was told to stop and did, after a checkpoint; the same command continues it. The exit code is 128 + the
    signal's number, as a shell counts."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


class StopRequest:
    """``number`` is the signal that came, 0 while none did."""

    number = 0

    def take(self, number: int, frame: FrameType | None) -> None:
        """The first signal is remembered; a second Ctrl-C does not wait for the step's end."""
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Signals are noted instead of obeyed; not outside the main thread, nor where they are ignored."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, request.take)
    try:
        yield request
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
