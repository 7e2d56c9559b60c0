"""Paths as options. Addresses and standard input and output are rejected."""

import contextlib
import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from pnpvideo.errors import InputError
from pnpvideo.options.printed import shown_address

# One letter would be a drive. A Path has dropped one of two slashes.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def check_path(text: str) -> str:
    """Return the text. InputError if it is empty, an address, or standard input or output."""
    if not text:
        raise InputError("a path is empty; give the name of a file or folder")
    if is_address(text):
        raise InputError(
            f"{shown_address(text)} is an address, and only files are read and written; download "
            "it, and give the file"
        )
    if text == "-":
        raise InputError(
            "- is not a file: standard input and output are not supported; give a file"
        )
    return text


def is_address(text: str) -> bool:
    """Return whether a text is an address, such as s3://bucket/cat.mp4."""
    return bool(_ADDRESS.match(text))


def is_relative(text: str) -> bool:
    """Return whether a text may be a path that starts from some folder."""
    return text != "-" and not is_address(text)


def expanded(text: str | Path) -> Path:
    """Return a path with ~ at its beginning replaced by the home folder, and ~NAME by NAME's.

    Without such a user, the path is a name that begins with ~.
    """
    path = Path(text)
    with contextlib.suppress(RuntimeError):
        return path.expanduser()
    return path


def plain_text(given: object) -> object:
    """Return a path as its text; other values as they are."""
    return str(given) if isinstance(given, Path) else given


def _path_text(given: object) -> object:
    text = plain_text(given)
    if not isinstance(text, str):
        return text
    if text.startswith("~") and not os.path.lexists(text):  # quoted, so that no shell did it
        text = f"{expanded(text)}{'/' * text.endswith('/')}"
    return check_path(text)


PlaceText = Annotated[str, BeforeValidator(plain_text), Field(json_schema_extra={"format": "path"})]
"""A path or an address."""
PathText = Annotated[str, BeforeValidator(_path_text), Field(json_schema_extra={"format": "path"})]
