"""Messages for a person: one line each, on stderr and in a log file."""

import contextlib
import logging
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from tqdm import tqdm

from pnpvideo.errors import InputError
from pnpvideo.importing import without_collection
from pnpvideo.options.declared import Lifetime, Options
from pnpvideo.options.paths import expanded, is_address
from pnpvideo.options.printed import one_line, printable, shown_address, without_secrets

_log = logging.getLogger("pnpvideo")


class NoticeOptions(Options):
    """Options of what one call prints, and where."""

    quiet: Annotated[bool, Lifetime.NOTHING] = Field(
        default=False, description="print no progress bars and no notices, only warnings"
    )
    verbose: Annotated[bool, Lifetime.NOTHING] = Field(
        default=False, description="also print what is detected and decided along the way"
    )
    log_file: Annotated[str | None, Lifetime.NOTHING] = Field(
        default=None,
        description="append all that --verbose prints to a file, with times, versions and the "
        "traceback of an error",
        json_schema_extra={"metavar": "FILE", "format": "path"},
    )


class WriteOptions(NoticeOptions):
    """Options of one call of a command that writes results."""

    overwrite: Annotated[bool, Lifetime.NOTHING] = Field(
        default=False, description="replace results that exist"
    )


class _AboveBars(logging.StreamHandler):  # type: ignore[type-arg]
    """A handler that prints each message on its own line, above any progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=self.stream)
        except Exception:  # As in every handler: a run does not fail for its messages.
            self.handleError(record)


class _OneLine(logging.Formatter):
    """A formatter of messages as one line each, without control characters and secrets."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 -- logging's name
        return one_line(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 -- logging's name
        lines = without_secrets(super().formatException(ei)).split("\n")
        return "\n".join(map(printable, lines))


def show_notices(*, quiet: bool, verbose: bool) -> None:
    """Print the package's log messages, such as what a run reuses, and no library's notices.

    quiet: only warnings. verbose: also what was detected and decided, and how long it took.
    """
    with without_collection():
        # It imports torch.
        from pnpvideo.models.quiet import quiet_libraries

    quiet_libraries()
    handler = _AboveBars(sys.stderr)
    handler.setFormatter(_OneLine("pnpvideo: %(message)s"))
    handler.setLevel(logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO)
    _log.handlers = [handler]
    _log.setLevel(logging.DEBUG)


class _LogFile(logging.FileHandler):
    """A log file that is given up, with one warning, if the disk is full or fails."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- logging's name
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
        elif self in _log.handlers:
            _log.removeHandler(self)
            _log.warning("the log file %s ends here: %s", self.baseFilename, error.strerror)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


def _check_log(path: Path) -> None:
    """Raise InputError for a file with something else in it, such as a picture."""
    if not path.is_file():
        return
    try:
        with path.open("rb") as file:
            start = file.read(len("2026-01-01 "))
    except OSError as error:
        raise InputError(f"the log file {path} cannot be read: {error.strerror}") from None
    if start and not re.fullmatch(rb"\d{4}-\d\d-\d\d ", start):
        raise InputError(f"{path} is not a log file of pnpvideo; choose another name for the log")


@contextlib.contextmanager
def kept_log(path: str | None, arguments: Sequence[str]) -> Iterator[None]:
    """Append all log messages to a file, with times and the traceback of an error.

    arguments: of the call. InputError if the file cannot be written.
    """
    if path is None:
        yield
        return
    _check_log(expanded(path))
    try:
        handler = _LogFile(expanded(path), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise InputError(f"the log file {path} cannot be written: {error.strerror}") from None
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(message)s"))
    _log.addHandler(handler)
    versions = [f"{name} {version(name)}" for name in ("pnpvideo", "torch", "diffusers")]
    python = f"Python {platform.python_version()} on {platform.platform()}"
    shown = [shown_address(text) if is_address(text) else text for text in arguments]
    _log.debug("%s, %s: %s", ", ".join(versions), python, shown)
    try:
        yield
    except BaseException as error:
        info = (type(error), error, error.__traceback__)
        text = str(error) or "stopped"
        # Elsewhere the terminal gets one line.
        handler.handle(_log.makeRecord(_log.name, logging.ERROR, __file__, 0, text, (), info))
        raise
    finally:
        _log.removeHandler(handler)
        handler.close()
