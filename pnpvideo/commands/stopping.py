"""Signals that ask a program to end, which stop a run as Ctrl-C does."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

# A scheduler's or a system's that shuts down, a closed terminal's, a closed Windows console's.
_NAMES = ("SIGTERM", "SIGHUP", "SIGBREAK")


class Stopped(KeyboardInterrupt):
    """A signal has asked the program to end. exit_code: as a shell gives it, 128 + its number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Within, such a signal raises `Stopped` in the main thread, once; ignored ones stay so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.getsignal(number)
        for name in _NAMES
        if (number := getattr(signal, name, None)) is not None
    }
    ours = [number for number, handler in before.items() if handler != signal.SIG_IGN]

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in ours:  # What is left to do is to clean up.
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
