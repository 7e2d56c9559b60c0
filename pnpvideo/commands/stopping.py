"""Signals that ask a program to end. They stop a run as Ctrl-C does."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

# From a scheduler or a shutdown, from a closed terminal, from a closed Windows console.
_NAMES = ("SIGTERM", "SIGHUP", "SIGBREAK")


class Stopped(KeyboardInterrupt):
    """A signal asked the program to end. exit_code: 128 + its number, as in a shell."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Raise `Stopped` in the main thread on the first such signal that is not ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.getsignal(number)
        for name in _NAMES
        if (number := getattr(signal, name, None)) is not None
    }
    handled = [number for number, handler in before.items() if handler != signal.SIG_IGN]

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in handled:  # Do not interrupt the cleaning up.
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    for number in handled:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])
