"""Printing of results and messages on whatever stdout and stderr are, in any encoding."""

import codecs
import contextlib
import io
import sys
from collections.abc import Iterator

from pnpvideo.options.printed import printable

_HANDLER = "pnpvideo.names"


def _encode_names(error: UnicodeError) -> tuple[bytes, int]:
    """Return the bytes of a file name that is not UTF-8 as they are, and escapes for the rest."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    # So Python reads the bytes of such names.
    is_byte = ["\udc80" <= letter <= "\udcff" for letter in letters]
    encoded = [
        bytes([ord(letter) - 0xDC00]) if plain else letter.encode("ascii", "backslashreplace")
        for letter, plain in zip(letters, is_byte, strict=True)
    ]
    return b"".join(encoded), error.end


codecs.register_error(_HANDLER, _encode_names)


@contextlib.contextmanager
def any_text_printed() -> Iterator[None]:
    """Let stdout and stderr take letters that their encodings lack, as escapes."""
    streams = [one for one in (sys.stdout, sys.stderr) if isinstance(one, io.TextIOWrapper)]
    before = [(stream, stream.errors) for stream in streams]
    try:
        for stream in streams:
            stream.reconfigure(errors=_HANDLER)
        yield
    finally:
        for stream, errors in before:
            with contextlib.suppress(OSError, ValueError):  # It may be closed.
                stream.reconfigure(errors=errors)


def say(text: object) -> None:
    """Print a result on stdout at once, without control characters if that is a terminal."""
    if sys.stdout.isatty():
        text = "\n".join(map(printable, str(text).split("\n")))
    print(text, flush=True)
