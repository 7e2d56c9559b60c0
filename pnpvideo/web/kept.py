"""Keep what a visitor has typed and chosen in the browser's tab, where a reload finds it again."""

import json
from collections.abc import Sequence

# Before all is loaded, what changes is not what the visitor does.
_KEEP = "(...now) => { if (window.isLoaded) sessionStorage.setItem(%s, JSON.stringify(now)); }"
_RESTORE = """(...now) => {
  window.isLoaded = true;
  const kept = JSON.parse(sessionStorage.getItem(%s));
  return kept?.length === now.length ? kept : now;
}"""


def keeping(models: Sequence[str]) -> str:
    """Return the script that keeps what components show. models: those that can be chosen."""
    return _KEEP % _key(models)


def restored(models: Sequence[str]) -> str:
    """Return the script that gives components what was kept, or what they show now."""
    return _RESTORE % _key(models)


def _key(models: Sequence[str]) -> str:
    """Return the name of what is kept; a server with other models finds nothing."""
    return json.dumps(f"pnpvideo {', '.join(models)}")
