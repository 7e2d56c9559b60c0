"""`pnpvideo batch --ray`: actors and machines die, the command too, and results are the same."""

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import assert_refused, pixels, save_frames
from forked import processes_of, run_killed

from pnpvideo.cli import main

pytestmark = pytest.mark.slow

cluster_utils = pytest.importorskip("ray.cluster_utils")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that does no work, and two machines with a CPU each."""
    own = {"include_dashboard": False, "_system_config": {"worker_niceness": 0}}
    head = {"num_cpus": 0, "object_store_memory": 2**27, **own}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=2**27)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def clips(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four short clips, `clips`, and what one process makes of them, `alone`."""
    folder = tmp_path_factory.mktemp("batch")
    (folder / "clips").mkdir()
    for number in range(4):
        save_frames(folder / "clips" / f"clip{number}", 2 + number)
    assert main(arguments(folder, "alone", tiny_model)) == 0
    return folder


def arguments(folder: Path, output: str, model: Path, *more: str) -> list[str]:
    given = ["batch", str(folder / "clips"), "-o", str(folder / output), "--model", str(model)]
    return [*given, "--prompt", "a stone", "--steps", "12", "--quiet", *more]


def assert_same(one: Path, other: Path) -> None:
    paths = sorted(one.glob("*/*.png"))
    assert len(paths) == 2 + 3 + 4 + 5
    for path in paths:
        np.testing.assert_array_equal(pixels(path), pixels(other / path.relative_to(one)))


def rows_of(output: Path) -> list[dict[str, Any]]:
    return list(json.loads((output / "batch.json").read_text())["jobs"])


def kill_at_work(output: Path, *, machine: bool) -> threading.Thread:
    """Kill the first process that is seen at work for a batch begun from now on, or its machine."""
    now = time.time()

    def at_work() -> list[int]:
        manifest = output / "batch.json"
        # Actors of a batch that was killed are at work for a moment more.
        if not manifest.exists() or manifest.stat().st_mtime < now:
            return []
        if all(row["state"] != "running" for row in rows_of(output)):
            return []
        found = processes_of(output / ".batch" / "jobs")
        return [process for process in found if Path(f"/proc/{process}").exists()]

    def kill() -> None:
        while not (found := at_work()):
            time.sleep(0.01)
        # The machine first, so that it tells nobody; by itself an actor outlives it for a moment.
        for process in [parent_of(found[0])] * machine + found[:1]:
            os.kill(process, signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def test_killed_and_started_again(
    cluster: Any, clips: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An actor is killed, then the command; in its second run a machine is lost with its actor.
    What is done stays, the rest goes on, and all is as from one process.
    """
    out = clips / "out"
    given = arguments(clips, "out", tiny_model, "--ray", cluster.address)
    killing = kill_at_work(out, machine=False)
    code, told = run_killed(*given[1:], cwd=clips, after=7, command="batch")
    killing.join()
    assert code == -9, told
    assert told.count("its worker died; it is tried again (The actor ") == 1, told
    done = {
        row["name"]: (out / row["name"]).stat().st_mtime_ns
        for row in rows_of(out)
        if row["state"] == "done"
    }
    assert 0 < len(done) < 4
    killing = kill_at_work(out, machine=True)
    assert main(given) == 0
    while killing.is_alive():  # What was left was made before it was seen: it is made again.
        again = next(row["name"] for row in rows_of(out) if row["name"] not in done)
        shutil.rmtree(out / again)
        assert main(given) == 0
    told = capsys.readouterr()[1]
    assert told.count("its worker died; it is tried again (The actor ") == 1, told
    assert {row["state"] for row in rows_of(out)} == {"done"}
    for name, written in done.items():
        assert (out / name).stat().st_mtime_ns == written
    assert_same(clips / "alone", out)


def test_no_cluster(clips: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for address in ("127.0.0.1:1", "nowhere"):
        given = arguments(clips, "none", tiny_model, "--ray", address)
        refused = (main(given), *capsys.readouterr())
        assert_refused(refused, 2, f"there is no Ray cluster at '{address}' (nothing answers")
