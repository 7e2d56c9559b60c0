"""What stands where a path is wanted and names no file."""

import re

from pnpvideo.errors import InputError

# One letter would be a drive. A Path has dropped one of two slashes.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def check_path(text: str) -> str:
    """The text. InputError where it is an address or means standard input or output."""
    if _ADDRESS.match(text):
        raise InputError(
            f"{text} is an address, and only files are read and written; download it, and give "
            "the file"
        )
    if text == "-":
        raise InputError(
            "- is no file: standard input and output are neither read nor written; give a file"
        )
    return text


def is_relative(text: str) -> bool:
    """Whether a text may be a path that starts from some folder."""
    return text != "-" and not _ADDRESS.match(text)
