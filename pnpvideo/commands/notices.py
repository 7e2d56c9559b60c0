"""What a command tells a person, all of it on stderr and one line each."""

import contextlib
import logging
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from pydantic import Field
from tqdm import tqdm

from pnpvideo.errors import InputError
from pnpvideo.options.declared import Options

_log = logging.getLogger("pnpvideo")


class NoticeOptions(Options):
    """What a call tells, and where to."""

    quiet: bool = Field(default=False, description="no progress bars and notices")
    verbose: bool = Field(
        default=False, description="tell what is found out and decided on the way"
    )
    log_file: str | None = Field(
        default=None,
        description="add all that --verbose tells to the end of a file, with times, versions and "
        "the trace of an error",
        json_schema_extra={"metavar": "FILE"},
    )


class _AboveBars(logging.StreamHandler):  # type: ignore[type-arg]
    """A line of its own, above the progress bars that are shown."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=self.stream)
        except Exception:  # As in every handler: what cannot be told costs no run.
            self.handleError(record)


def show_notices(*, quiet: bool, verbose: bool) -> None:
    """Show what the package tells of a run, such as what it reuses, and no library's notices.

    quiet: warnings only. verbose: also what it has found out and decided, and how long it took.
    """
    # It imports torch.
    from pnpvideo.models.quiet import quiet_libraries

    quiet_libraries()
    handler = _AboveBars(sys.stderr)
    handler.setFormatter(logging.Formatter("pnpvideo: %(message)s"))
    handler.setLevel(logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO)
    _log.handlers = [handler]
    _log.setLevel(logging.DEBUG)


@contextlib.contextmanager
def kept_log(path: str | None, arguments: object) -> Iterator[None]:
    """Add all that is told to the end of a file, with times and the trace of an error.

    arguments: what the run was called with. InputError where the file cannot be written.
    """
    if path is None:
        yield
        return
    try:
        handler = logging.FileHandler(Path(path).expanduser(), encoding="utf-8")
    except OSError as error:
        raise InputError(f"the log file {path} cannot be written: {error.strerror}") from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    _log.addHandler(handler)
    versions = [f"{name} {version(name)}" for name in ("pnpvideo", "torch", "diffusers")]
    python = f"Python {platform.python_version()} on {platform.platform()}"
    _log.debug("%s, %s: %s", ", ".join(versions), python, arguments)
    try:
        yield
    except BaseException as error:
        info = (type(error), error, error.__traceback__)
        text = str(error) or "stopped"
        # The terminal gets its one line elsewhere.
        handler.handle(_log.makeRecord(_log.name, logging.ERROR, __file__, 0, text, (), info))
        raise
    finally:
        _log.removeHandler(handler)
        handler.close()
