"""`pnpvideo batch` with sources and results at addresses that fsspec knows."""

import json
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from command import assert_refused, names, pixels, save_frames
from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from pnpvideo.batch import addresses
from pnpvideo.cli import main
from pnpvideo.errors import InputError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs `pnpvideo batch` on jobs with these sources: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(sources: list[str], *arguments: str) -> tuple[int, str, str]:
        jobs = [json.dumps({"source": source, "prompt": "a stone"}) for source in sources]
        (tmp_path / "jobs.jsonl").write_text("\n".join(jobs))
        given = ["--model", str(tiny_model), "--steps", "2", "--quiet"]
        code = main(["batch", "jobs.jsonl", *given, *arguments])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """Return the files at memory:// addresses."""
    files = fsspec.filesystem("memory")
    yield files
    for path in files.find("/"):
        files.rm(path)


def test_results_are_those_of_files(
    run: Run, tmp_path: Path, memory: fsspec.AbstractFileSystem
) -> None:
    """A picture and a folder of frames; what is there already is made again only when changed."""
    picture = save_frames(tmp_path / "dot", 1)[0]
    save_frames(tmp_path / "walk", 3)
    memory.put(str(picture), "/in/dot.png")
    memory.put(str(tmp_path / "walk"), "/in/walk", recursive=True)
    assert run([str(picture), "walk"], "-o", "here")[0] == 0
    addresses = ["memory://in/dot.png", "memory://in/walk"]
    there = ("-o", "memory://out", "--work-dir", "work")
    assert run(addresses, *there)[0] == 0
    results = {
        f"/out/walk/{i:06d}.png": tmp_path / "here" / "walk" / f"{i:06d}.png" for i in (1, 2, 3)
    } | {"/out/dot.png": tmp_path / "here" / "source0.png"}
    others = {"/out/batch.json", "/out/dot.png.yaml", "/out/walk.yaml"}
    assert set(memory.find("/out")) == results.keys() | others
    for address, path in results.items():
        memory.get(address, str(tmp_path / "copy.png"))
        np.testing.assert_array_equal(pixels(tmp_path / "copy.png"), pixels(path))
    rows = json.loads(memory.cat("/out/batch.json"))["jobs"]
    assert [(row["source"], row["state"]) for row in rows] == [(a, "done") for a in addresses]
    left = {name.split("/")[0] for name in names(tmp_path / "work")}
    assert left == {".batch", "batch.json"}

    before = {path: memory.info(path)["created"] for path in results}
    assert run(addresses, *there)[0] == 0
    assert {path: memory.info(path)["created"] for path in results} == before
    memory.rm("/out/walk/000002.png")
    assert run(addresses, *there)[0] == 0
    assert memory.exists("/out/walk/000002.png")
    dot = "/out/dot.png"
    assert memory.info(dot)["created"] == before[dot]
    # Another source under the same address is another job.
    memory.put(str(tmp_path / "walk" / "source2.png"), "/in/dot.png")
    assert_refused(run(addresses, *there), 2, "memory://out/dot.png exists already")
    assert run(addresses, *there, "--overwrite")[0] == 0
    assert memory.info(dot)["created"] > before[dot]


def test_what_is_cut_off_on_its_way_is_no_result(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read back it is not what was written; when the disk is whole again, it is made."""
    from fsspec.implementations.local import LocalFileSystem

    save_frames(tmp_path / "walk", 3)
    there = (f"file://{tmp_path}/walk",)
    to = ("-o", f"file://{tmp_path}/out", "--work-dir", "work")
    put_file = LocalFileSystem.put_file

    def cut(
        self: LocalFileSystem, path: str, target: str, *more: object, **options: object
    ) -> None:
        put_file(self, path, target, *more, **options)
        if path.endswith("000002.png"):
            os.truncate(target, 40)

    with monkeypatch.context() as patched:
        patched.setattr(LocalFileSystem, "put_file", cut)
        code, _, error = run(list(there), *to)
    assert (code, "1 of 1 jobs is not done" in error) == (1, True)
    assert names(tmp_path / "out") == {"batch.json"}
    assert run(list(there), *to)[0] == 0
    frames = {f"walk/{i:06d}.png" for i in (1, 2, 3)}
    assert names(tmp_path / "out") == {"batch.json", "walk", "walk.yaml", *frames}


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        ("memory://in/gone.mp4", ("-o", "out"), "memory://in/gone.mp4 does not exist"),
        (
            "nothing://in/a.mp4",
            ("-o", "out"),
            "nothing://in/a.mp4 cannot be read: Protocol not known",
        ),
        ("walk", ("-o", "memory://out"), "give --work-dir, a folder that all workers"),
        ("walk", ("-o", "out", "--work-dir", "work"), "give --work-dir, a folder that all workers"),
        ("walk", ("-o", "nothing://out", "--work-dir", "work"), "Protocol not known: nothing"),
    ],
)
def test_refused(
    run: Run, tmp_path: Path, source: str, arguments: tuple[str, ...], message: str
) -> None:
    save_frames(tmp_path / "walk", 2)
    assert_refused(run([source], *arguments), 2, message)


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "not listed"])
@pytest.mark.parametrize("kind", ["memory", "zip", "tar", "folder"])
def test_bytes_are_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, listed: bool
) -> None:
    """By what the storage lists, and by what it sends if that is more."""
    monkeypatch.setattr(addresses, "_MOST_BYTES", 100_000)
    for name, count in (("small", 60_000), ("large", 200_000)):
        content = bytes(count)
        (tmp_path / name).write_bytes(content)
        with zipfile.ZipFile(tmp_path / "a.zip", "a", zipfile.ZIP_DEFLATED) as file:
            file.writestr(name, content)
        with tarfile.open(tmp_path / f"{name}.tar.gz", "w:gz") as tar:
            tar.add(tmp_path / name, name)
        MemoryFileSystem().pipe(f"/bytes/{name}", content)
        MemoryFileSystem().pipe(f"/folder/{name}/b/c.png", content)
    if not listed:
        really = addresses._listed

        def without_sizes(files: AbstractFileSystem, path: str) -> dict[str, object]:
            return dict.fromkeys(really(files, path))

        monkeypatch.setattr(addresses, "_listed", without_sizes)
    address = {
        "memory": "memory://bytes/{}",
        "zip": f"zip://{{}}::{tmp_path}/a.zip",
        "tar": f"tar://{{}}::{tmp_path}/{{}}.tar.gz",
        "folder": "memory://folder/{}",
    }[kind]
    work = tmp_path / "work"
    assert addresses.fetch(address.replace("{}", "small"), work).exists()
    with pytest.raises(InputError, match=r"large.* has more than 100000 bytes, which is the limit"):
        addresses.fetch(address.replace("{}", "large"), work)
    assert not list(work.rglob("*.part"))
