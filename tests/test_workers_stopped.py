"""Workers of a batch that get a signal while they write leave nothing behind."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pnpvideo.batch.workers import Processes
from pnpvideo.files.atomic_output import atomic_output


def start(_number: int) -> Callable[[Path], None]:
    return write_slowly


def write_slowly(output: Path) -> None:
    with atomic_output(output, folder=False, overwrite=False) as part:
        part.write_text("some of it")
        output.with_name("begun").touch()
        # In short parts: Python answers a signal that comes just before a wait only after it.
        for _ in range(6000):
            time.sleep(0.01)


@pytest.mark.parametrize(
    "numbers",
    [(signal.SIGTERM,), (signal.SIGHUP,), (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP)],
)
def test_a_signal_while_a_worker_writes(
    tmp_path: Path, numbers: tuple[signal.Signals, ...]
) -> None:
    # What runs the tests, such as nohup, may have let them ignore it.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    workers: Processes[Path, None] = Processes(start, 1)
    try:
        workers.submit(0, tmp_path / "out.txt")
        deadline = time.monotonic() + 60
        while not (tmp_path / "begun").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert any(path.suffix == ".part" for path in tmp_path.iterdir())
        process = workers._processes[0]
        assert process is not None
        for number in numbers:
            os.kill(process[0].pid or 0, number)
        (ended,) = workers.wait(30)
        assert ended.died == f"it ended with code {128 + numbers[0]}"
        assert {path.name for path in tmp_path.iterdir()} == {"begun"}
    finally:
        workers.close()
        signal.signal(signal.SIGHUP, before)
