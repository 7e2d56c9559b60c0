"""The program `pnpvideo`, also as `python -m pnpvideo`: the command line, which can be stopped even
while Python still imports it.
"""

import os
import signal
import sys
from types import FrameType


def main() -> int:
    """Run the command line and return its exit code."""
    before = signal.getsignal(signal.SIGINT)
    is_heeded = before is signal.default_int_handler
    if is_heeded:
        # Nothing has begun that would have to be cleaned up, and an exception would be printed.
        signal.signal(signal.SIGINT, _leave)
    # Read when torch is imported. By default its threads keep a core busy while they wait for each
    # other; beside another busy program that made runs five times as slow, on two cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from pnpvideo.cli import main as run

    if is_heeded:
        signal.signal(signal.SIGINT, before)
    try:
        return run()
    finally:
        if is_heeded:  # Python's own last steps would print it, too.
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _leave(number: int, _frame: FrameType | None) -> None:
    os.write(2, b"pnpvideo: stopped\n")
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
