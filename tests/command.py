"""Runs of the command line in a process of their own, and what is said of them."""

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from clips import smooth_frames
from PIL import Image

Cli = Callable[..., tuple[int, str, str]]
SHORT = ("--prompt", "a stone", "--steps", "2")


def save_frames(folder: Path, count: int, width: int = 48, height: int = 32) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"source{i}.png" for i in range(count)]
    for path, frame in zip(paths, smooth_frames(count, width, height), strict=True):
        Image.fromarray(frame).save(path)
    return paths


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def names(folder: Path) -> set[str]:
    """All that a folder holds at any depth, hidden files too."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def subprocess_run(
    *arguments: str, cwd: Path, **more: object
) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pnpvideo", *arguments]
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        command, cwd=cwd, capture_output=True, text=True, timeout=120, **more
    )


def run_script(
    script: str, *arguments: object, **more: object
) -> "subprocess.CompletedProcess[str]":
    """Run Python code, which must end well, in a process that has imported nothing yet."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(  # type: ignore[call-overload]
        command, capture_output=True, text=True, **more
    )
    assert done.returncode == 0, done.stderr
    return done  # type: ignore[no-any-return]


def assert_refused(result: tuple[int, str, str], code: int, message: str) -> None:
    assert result[0] == code, result
    assert result[1] == ""
    assert result[2].startswith("pnpvideo: ")
    assert result[2].endswith("\n")
    assert result[2].count("\n") == 1
    assert message in result[2]
    assert len(result[2]) < 400


@contextlib.contextmanager
def hub_without_answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Put a server that closes every connection in place of the hub; gives the connections."""
    asked: list[object] = []

    def serve() -> None:
        with contextlib.suppress(OSError):  # The server is closed.
            while True:
                connection, address = server.accept()
                asked.append(address)
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with monkeypatch.context() as patch:
            own = huggingface_hub.constants
            template = own.HUGGINGFACE_CO_URL_TEMPLATE.replace(own.ENDPOINT, endpoint)
            patch.setattr(own, "HUGGINGFACE_CO_URL_TEMPLATE", template)
            patch.setattr(own, "ENDPOINT", endpoint)
            yield asked
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
