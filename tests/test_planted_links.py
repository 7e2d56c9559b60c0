"""Links under the names that pnpvideo makes up: what they lead to stays as it is."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from test_job_folder import LATENTS, trajectory

from pnpvideo import InputError, write_clip
from pnpvideo.batch.batch_folder import BatchFolder
from pnpvideo.files.atomic_output import claimed, renamed
from pnpvideo.files.file_lock import open_lock
from pnpvideo.files.own_names import make_own_folder, remove
from pnpvideo.files.shared_folder import SharedFolder
from pnpvideo.storage.inversions import lend_inversion, take_inversion
from pnpvideo.storage.job_files import JOURNAL, LOCK, STATE, TRAJECTORY
from pnpvideo.storage.job_folder import JobFolder
from pnpvideo.storage.journal import part_of, written_whole

FRAME = np.zeros((1, 16, 16, 3), np.uint8)
ONE_OF_OURS = "is a link or another file where pnpvideo keeps its own; remove it"
"""The message about a link that is in the way."""


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[Path]:
    """A folder with a file, a hidden file and a folder in it, all of which stay as they are."""
    folder = tmp_path / "theirs"
    (folder / "inner").mkdir(parents=True)
    for name in ("file", ".hidden", "inner/file", "lock"):
        (folder / name).write_text("mine")
    before = content(folder)
    yield folder
    assert content(folder) == before


def content(folder: Path) -> dict[str, str]:
    return {str(p): p.read_text() if p.is_file() else "" for p in sorted(folder.rglob("*"))}


def part_folder(output: Path) -> Path:
    with claimed(output) as folder:
        return folder


@pytest.mark.parametrize("target", ["theirs", "theirs/inner", "theirs/file", "nothing"])
@pytest.mark.parametrize("name", ["out.png", "frames"])
def test_at_the_folder_of_an_output(theirs: Path, target: str, name: str) -> None:
    output = theirs.parent / name
    part = part_folder(output)
    part.symlink_to(theirs.parent / target)
    with pytest.raises(InputError, match=ONE_OF_OURS):
        write_clip([FRAME], output)
    assert part.is_symlink()
    assert not output.exists()
    assert not (theirs.parent / "nothing").exists()
    part.unlink()
    write_clip([FRAME], output)


@pytest.mark.parametrize("inside", ["lock", "old", "result.png", "result", "other"])
@pytest.mark.parametrize("target", ["theirs", "theirs/file"])
@pytest.mark.parametrize("name", ["out.png", "frames"])
def test_in_the_folder_of_an_output(theirs: Path, inside: str, target: str, name: str) -> None:
    output = theirs.parent / name
    part = part_folder(output)
    part.mkdir()
    (part / inside).symlink_to(theirs.parent / target)
    if inside == "lock":
        with pytest.raises(InputError, match=ONE_OF_OURS):
            write_clip([FRAME], output)
        return
    write_clip([FRAME], output)
    assert not output.is_symlink()
    assert not part.exists()


def test_a_file_at_the_folder_of_an_output(theirs: Path) -> None:
    part = part_folder(theirs.parent / "out.png")
    part.write_text("mine")
    with pytest.raises(InputError, match=ONE_OF_OURS):
        write_clip([FRAME], theirs.parent / "out.png")
    assert part.read_text() == "mine"


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_at_a_lock(theirs: Path, link: Callable[[Path, Path], None]) -> None:
    job = theirs.parent / "job"
    job.mkdir()
    link(job / LOCK, theirs / "file")
    with pytest.raises(InputError, match=ONE_OF_OURS), JobFolder(job):
        pass


def test_other_things_at_a_lock(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to("gone")
    for name in ("folder", "pipe", "nowhere"):
        with pytest.raises(InputError, match=ONE_OF_OURS):
            open_lock(tmp_path / name)
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("name", [TRAJECTORY, JOURNAL, STATE, f"{TRAJECTORY}.part"])
@pytest.mark.parametrize("target", ["theirs/file", "nothing", "theirs"])
def test_in_a_job_folder(theirs: Path, name: str, target: str) -> None:
    job = theirs.parent / "job"
    job.mkdir()
    (job / LOCK).touch()
    (job / name).symlink_to(theirs.parent / target)
    with JobFolder(job) as folder:
        kept = trajectory(folder)
        kept.write(0, LATENTS)
        kept.close()
    assert not (theirs.parent / "nothing").exists()
    assert not any(path.is_symlink() for path in job.iterdir())


def test_where_inversions_are_shared(theirs: Path) -> None:
    job, place = theirs.parent / "job", theirs.parent / "place"
    with JobFolder(job) as folder:
        kept = trajectory(folder)
        kept.write(0, LATENTS)
        kept.close()
    place.symlink_to(theirs)
    with pytest.raises(InputError, match=ONE_OF_OURS):
        lend_inversion(job, place)
    place.unlink()
    lend_inversion(job, place)
    other = theirs.parent / "other"
    other.mkdir()
    (other / LOCK).symlink_to(theirs / "file")
    with pytest.raises(InputError, match=ONE_OF_OURS):
        take_inversion(place, other)
    (other / LOCK).unlink()
    take_inversion(place, other)
    assert (other / TRAJECTORY).exists()


@pytest.mark.parametrize("name", [".", "claims", "records", "jobs", "inversions"])
def test_in_the_folder_of_a_batch(theirs: Path, name: str) -> None:
    batch = BatchFolder(theirs.parent / "out")
    place = batch.path / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(theirs)
    with pytest.raises(InputError, match=ONE_OF_OURS), batch.taken():
        pass


def test_what_a_batch_deletes(theirs: Path) -> None:
    batch = BatchFolder(theirs.parent / "out")
    with batch.taken():
        for name in ("jobs", "inversions"):
            (batch.path / name / "x").symlink_to(theirs)
    batch.delete_work()
    assert not (batch.path / "jobs").exists()


def test_at_files_that_are_written_whole(theirs: Path) -> None:
    folder = SharedFolder(theirs.parent / "shared")
    folder.make()
    path = folder.path / "batch.json"
    for one in (path, path.with_name(f"batch.json.{os.getpid()}.part"), part_of(path)):
        one.symlink_to(theirs / "file")
    folder.write_json(path, {})
    assert not path.is_symlink()
    assert path.read_text() == "{}"
    with written_whole(path) as part:
        part.write_text("2")
    assert path.read_text() == "2"


def test_a_failure_removes_no_more_than_a_link(theirs: Path) -> None:
    part = theirs.parent / "part"
    with contextlib.suppress(KeyError), renamed(part, theirs.parent / "out"):
        part.symlink_to(theirs)
        raise KeyError
    assert not part.is_symlink()


def test_remove_and_make(theirs: Path) -> None:
    link = theirs.parent / "link"
    link.symlink_to(theirs)
    remove(link)
    assert not link.is_symlink()
    remove(link)
    make_own_folder(theirs.parent / "a" / "b")
    make_own_folder(theirs.parent / "a" / "b")
    remove(theirs.parent / "a")
    assert not (theirs.parent / "a").exists()
