"""Logins: who may log in, and how soon again after wrong passwords."""

import time
from collections import OrderedDict
from collections.abc import Callable

from pnpvideo.errors import InputError
from pnpvideo.files.read_text import decoded
from pnpvideo.options.paths import expanded

_FREE = 3
"""Wrong passwords in a row that cost no time."""
_LONGEST = 60.0
_PLACES = 10_000


class FailedLogins:
    """Wrong passwords by address: each further one doubles the time until the next try."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def begin(self, place: str) -> float:
        """Count a try, which `forget` undoes; return the seconds to wait if it is too early.

        It is counted before the password is checked, because many may be tried at once.
        """
        failed, until = self._failed.get(place, (0, 0.0))
        now = self._clock()
        if now < until:
            return max(1.0, until - now)
        failed += 1
        pause = 0.0 if failed < _FREE else min(_LONGEST, 2.0 ** (failed - _FREE))
        self._failed[place] = failed, now + pause
        self._failed.move_to_end(place)
        if len(self._failed) > _PLACES:
            self._failed.popitem(last=False)
        return 0.0

    def forget(self, place: str) -> None:
        """Record a right password."""
        self._failed.pop(place, None)


def read_logins(path: str) -> dict[str, str]:
    """Return the passwords by name from a file with a line NAME:PASSWORD for each person.

    InputError if it cannot be read, or has other lines. Any editor may have written it: with a
    mark of the encoding at its beginning, and any ends of lines.
    """
    try:
        text = decoded(expanded(path).read_bytes())
    except (OSError, UnicodeError) as error:
        raise InputError(f"the login file {path} cannot be read: {error}") from None
    logins: dict[str, str] = {}
    for line in text.replace("\r", "\n").split("\n"):
        if not line.strip():
            continue
        name, _, password = line.partition(":")
        name = name.strip()
        if not name or not password:
            raise InputError(f"the login file {path} needs lines of NAME:PASSWORD")
        if name in logins:
            raise InputError(f"the login file {path} has two passwords for {name}; give one")
        logins[name] = password
    if not logins:
        raise InputError(f"the login file {path} needs lines of NAME:PASSWORD")
    return logins
