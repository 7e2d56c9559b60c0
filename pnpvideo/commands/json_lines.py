"""A run told to scripts: on stdout one line of JSON for each thing that happens."""

import contextlib
import json
import time
from collections.abc import Iterator

from tqdm import tqdm

from pnpvideo.errors import InputError, RunError

_SECONDS = 0.1
"""Between lines of one bar, so that fast work is not slowed down by telling it."""


def tell(event: str, **values: object) -> None:
    """One line, which is read at once."""
    print(json.dumps({"event": event, **values}, ensure_ascii=False, default=str), flush=True)


@contextlib.contextmanager
def told_errors(*, as_json: bool) -> Iterator[None]:
    """Within, what ends the run is a line too."""
    try:
        yield
    except (InputError, RunError, OSError) as error:
        if as_json:
            tell("error", message=" ".join(str(error).split()))
        raise


class JsonBar(tqdm):  # type: ignore[type-arg]
    """A progress bar as lines: its stage, and the frame-steps that are done of all."""

    def __init__(self, *, desc: str, total: int, initial: int, **config: object) -> None:
        # Nothing of it is drawn.
        super().__init__(**{**config, "disable": True})  # type: ignore[call-overload]
        self._stage, self._done, self._all, self._told = desc, initial, total, 0.0
        self._tell()

    def update(self, n: float | None = 1) -> None:
        self._done += int(n or 0)
        if self._done >= self._all or time.monotonic() - self._told > _SECONDS:
            self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        tell("progress", stage=self._stage, done=self._done, total=self._all)
