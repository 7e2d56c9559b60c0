"""A file of latents with a journal beside it that lists its complete pieces."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from pnpvideo.errors import RunError
from pnpvideo.files.atomic_output import renamed, write_error
from pnpvideo.storage.job_files import pieces_of
from pnpvideo.storage.latent_file import LatentFile


class JournaledFile(LatentFile):
    """A file of latents with a journal: a line for every batch of pieces written in full.

    A line has the number of the first piece, how many there are, and their checksum.
    """

    journal: Path

    def resume(self, journal: Path) -> None:
        """Find the complete pieces; remove lines about others from the journal."""
        self.journal = journal
        lines = journal.read_text(errors="replace").splitlines(True) if journal.exists() else []
        good = [line for line in lines if self._holds(line)]
        if good != lines:
            with written_whole(journal) as part:
                part.write_text("".join(good))
        complete = {number for line in good for number in pieces_of(line)}
        self.missing = [n for n in range(self.axes.pieces) if n not in complete]

    def finish(self, first: int, count: int) -> None:
        """Count pieces as written, in the journal too. RunError if the disk is full or fails."""
        super().finish(first, count)
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
        """Return whether a line of the journal is complete and its checksum right."""
        pieces = pieces_of(line)
        if not pieces or pieces.stop > self.axes.pieces:
            return False
        return self.checksum(slice(pieces.start, pieces.stop)) == int(line.split()[2])


def part_of(path: Path) -> Path:
    """Return the name under which a file is written until it is complete."""
    return path.with_name(f"{path.name}.part")


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a name to write a file under, which then replaces `path` in one step.

    RunError if the disk is full or fails.
    """
    part = part_of(path)
    try:
        with renamed(part, path, settled=True):
            yield part
    except SafetensorError as error:
        raise RunError(f"{path} cannot be written: {error}") from None
