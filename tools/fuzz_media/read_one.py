"""The command's work without the model: read all of a source, and write it again."""

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pnpvideo.clips.clip import Clip
from pnpvideo.clips.read import read_clip
from pnpvideo.errors import InputError, RunError
from pnpvideo.options.settings import ReadSettings, Settings
from pnpvideo.run.outputs import default_output, write_result
from tools.fuzz_media.inputs import READERS

_BATCH = 4


@dataclass(frozen=True, kw_only=True)
class Case:
    """A damaged source and the options to read it. options: of `Settings`.

    kind: "sources", or one of `READERS`: then the source is a folder with the damaged file `name`.
    """

    source: Path
    options: dict[str, object]
    kind: str = "sources"
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of reading a source.

    kind: "read", "refused" or the failure. message: the line that a person sees.
    """

    kind: str
    message: str


def read_one(case: Case, folder: Path) -> Outcome:
    """Read a source to its end, and write a result in its format to an empty folder.

    The errors that the command shows in one line are its refusals; all others are raised.
    """
    try:
        if case.kind != "sources":
            _, read = READERS[case.kind]
            return Outcome(kind="read", message=read(case.source, case.name, folder / "out"))
        settings = Settings.of(
            {"source": str(case.source), "prompt": "x", "batch_size": _BATCH} | case.options
        )
        with _opened(settings) as clip:
            output = folder / default_output(settings, clip)
            try:
                write_result(clip.batches(_BATCH), str(output), clip, settings, overwrite=False)
            except MemoryError:  # As `run` reports it for frames that are read one by one.
                return Outcome(kind="refused", message="the memory is not enough")
            count = len(clip)
    except (InputError, RunError) as error:
        return Outcome(kind="refused", message=str(error))
    except OSError as error:
        return Outcome(kind="refused", message=str(error))
    finally:
        gc.collect()  # So that a crash on freeing memory counts for this file.
    return Outcome(kind="read", message=f"{count} frames")


@contextlib.contextmanager
def _opened(settings: Settings) -> Iterator[Clip]:
    assert settings.source is not None
    clip = read_clip(settings.source, **settings.part(ReadSettings))
    try:
        yield clip
    finally:
        clip.close()
