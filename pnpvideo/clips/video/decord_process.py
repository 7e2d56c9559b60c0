"""The process in which decord reads videos, one after the other (see `read_decord`).

It is a script that imports only decord and what that needs, so that it starts quickly. A request is
a line of JSON on standard input, and an answer is a line of JSON on standard output, after which
the bytes of frames may follow. The process ends when its standard input does.
"""

import contextlib
import json
import os
import queue
import sys
import threading
from collections.abc import Iterator
from typing import Any

import decord
import numpy as np

# More than plain videos need. A damaged one may ask for all the memory there is.
_MOST_MEMORY = 4 * 2**30


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_WRONLY)
    for printed in (1, 2):  # decord and its FFmpeg print errors.
        os.dup2(null, printed)
    decord.logging.set_level(decord.logging.QUIET)
    _limit()
    reader: object = None
    for request in _requests():
        frames = memoryview(b"")
        try:
            if request["do"] == "read":
                answer, frames = _read(reader, range(*request["frames"]))
            else:
                reader = None  # Frees what it holds.
                answer = {}
            if request["do"] == "open":
                reader = decord.VideoReader(request["path"], ctx=decord.cpu(0), num_threads=1)
                answer = _times(reader, range(*request["frames"]))
        except Exception as error:  # decord raises many kinds, its own C++ checks among them.
            answer, frames = {"error": f"{type(error).__name__}: {error}"[:500]}, memoryview(b"")
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.write(frames)
        answers.flush()


def _read(reader: Any, numbers: range) -> tuple[dict[str, object], memoryview]:
    """Return the shape and the pixels of frames."""
    frames = np.ascontiguousarray(reader.get_batch(numbers).asnumpy())
    return {"shape": frames.shape}, frames.data


def _times(reader: Any, numbers: range) -> dict[str, object]:
    """Return the times, in seconds, of the given frames that decord finds."""
    known = [number for number in numbers if number < len(reader)]
    return {"times": reader.get_frame_timestamp(known)[:, 0].tolist()}


def _limit() -> None:
    """Limit the memory, and let a crash leave no file behind."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has no such limits.
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))


def _requests() -> Iterator[dict[str, Any]]:
    """Yield the requests. The process ends with them, even if decord hangs."""
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def watch() -> None:
        for line in sys.stdin.buffer:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    while True:
        yield json.loads(lines.get())


if __name__ == "__main__":
    main()
