"""Names of files: how long a disk lets them be, and which ones some disks take for the same."""

import hashlib
import os
import unicodedata
from pathlib import Path


def longest_name(folder: Path) -> int:
    """Return how many bytes the name of a file in a folder, which exists, can have."""
    return os.pathconf(folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255


def name_size(name: str) -> int:
    """Return the number of bytes in a name."""
    return len(os.fsencode(name))


def shortened(name: str, most: int) -> str:
    """Return a name of at most so many bytes: the name itself, or its beginning and a digest.

    Different names stay different.
    """
    if name_size(name) <= most:
        return name
    ending = f"-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"
    kept = name[: max(0, most)]
    while kept and name_size(kept) > most - len(ending):
        kept = kept[:-1]
    return kept.rstrip(" .") + ending


def place_of(path: Path) -> Path:
    """Return a path that is the same for all paths which some disk takes for one.

    These differ in capitals, or in how Unicode composes letters and accents.
    """
    # Unicode's canonical caseless match (section 3.13, D145).
    text = unicodedata.normalize("NFD", str(path.resolve())).casefold()
    return Path(unicodedata.normalize("NFD", text))
