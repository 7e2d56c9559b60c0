"""The files of a job folder, and how much of the source they hold. No torch."""

import contextlib
from pathlib import Path

TRAJECTORY, JOURNAL = "trajectory.safetensors", "trajectory.log"
STATE, LOCK = "denoising.safetensors", "lock"
"""The files of a job folder."""


def finished_pieces(folder: Path) -> int:
    """Return how many pieces a job folder has inverted, without which it has no steps either."""
    # It may be deleted any moment, or be damaged.
    with contextlib.suppress(OSError):
        lines = (folder / JOURNAL).read_text(errors="replace").splitlines(True)
        return sum(len(pieces_of(line)) for line in lines)
    return 0


def pieces_of(line: str) -> range:
    """Return the pieces that a line of a journal names; none if it is cut off or damaged."""
    words = line.split()
    if len(words) != 3 or not line.endswith("\n") or not all(map(_is_number, words)):
        return range(0)
    first, count, _ = map(int, words)
    return range(first, first + count)


def _is_number(word: str) -> bool:
    """Return whether a word of a journal is a number of a size that it can have."""
    return word.isdecimal() and len(word) < 16
