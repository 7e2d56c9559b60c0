"""A file of latents that knows which of its frames are whole, by a journal beside it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from pnpvideo.errors import RunError
from pnpvideo.files.atomic_output import renamed, write_error
from pnpvideo.storage.latent_file import LatentFile


class JournaledFile(LatentFile):
    """A file of latents with a journal: a line for every batch that was written in full.

    A line holds the number of the first frame, the number of frames, and their checksum.
    """

    journal: Path

    def resume(self, journal: Path) -> None:
        """Find the frames that are whole. What is not is struck from the journal."""
        self.journal = journal
        lines = journal.read_text(errors="replace").splitlines(True) if journal.exists() else []
        good = [line for line in lines if self._holds(line)]
        if good != lines:
            with written_whole(journal) as part:
                part.write_text("".join(good))
        whole = {frame for line in good for frame in frames_of(line)}
        self.missing = [frame for frame in range(self.shape[1]) if frame not in whole]

    def write(self, first: int, latents: Tensor) -> None:
        super().write(first, latents)
        count = latents.shape[1]
        checksum = self.checksum(slice(first, first + count))
        try:
            # The latents are on the disk before the line that says so.
            os.fsync(self.fileno())
            with self.journal.open("a") as file:
                file.write(f"{first} {count} {checksum}\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise write_error(self.journal, error) from None

    def _holds(self, line: str) -> bool:
        """Whether a line of the journal is whole and true."""
        frames = frames_of(line)
        if not frames or frames.stop > self.shape[1]:
            return False
        return self.checksum(slice(frames.start, frames.stop)) == int(line.split()[2])


def frames_of(line: str) -> range:
    """The frames that a line of a journal names; none where it is cut off or something else."""
    words = line.split()
    if len(words) != 3 or not line.endswith("\n") or not all(word.isdecimal() for word in words):
        return range(0)
    first, count, _ = map(int, words)
    return range(first, first + count)


def part_of(path: Path) -> Path:
    """The name under which a file is written until it is whole."""
    return path.with_name(f"{path.name}.part")


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yields a name to write a file under; it takes `path`'s place when it is on the disk.

    RunError where the disk is full or fails.
    """
    part = part_of(path)
    try:
        with renamed(part, path, settled=True):
            yield part
    except SafetensorError as error:
        raise RunError(f"{path} cannot be written: {error}") from None
