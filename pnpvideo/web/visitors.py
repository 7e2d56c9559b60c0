"""Know visitors again: by the name of the login, or by a secret that the browser keeps."""

import secrets
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from pnpvideo.files.atomic_output import renamed
from pnpvideo.web.jobs import Visitor

_REMEMBERED = 10_000  # visitors


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The run and the source that a page shows, for a reload.

    job: the name of the run whose settings these are. source: the path of the source, or None.
    of_job: what `source` was when the job was begun or used again; with another one, the job's mask
    is not for it.
    """

    job: str = ""
    of_job: str | None = None
    source: str | None = None


class Visitors:
    """The visitors of the page.

    key: the component that holds the browser's secret. unmasked: the name of the run whose mask was
    cleared last; it is not to come back with a reload.
    """

    def __init__(self, folder: Path) -> None:
        """folder: the server's, which holds the key that encrypts browsers' secrets."""
        self.key = gr.BrowserState("", storage_key="pnpvideo", secret=_seal(folder))
        self.unmasked = gr.BrowserState("", storage_key="pnpvideo-unmasked", secret=_seal(folder))
        self._shown: dict[str, Shown] = {}

    def greet(self, key: object) -> str:
        """Return the visitor's secret, a new one if there is none."""
        return key if isinstance(key, str) and len(key) >= 32 else secrets.token_hex(16)

    def shown(self, visitor: Visitor) -> "Shown | None":
        """Return what a visitor's page shows; None if this server has not shown anything yet."""
        return self._shown.get(visitor.key)

    def show(self, visitor: Visitor, shown: "Shown") -> None:
        """Remember what a visitor's page shows."""
        self._shown.pop(visitor.key, None)
        self._shown[visitor.key] = shown
        while len(self._shown) > _REMEMBERED:
            self._shown.pop(next(iter(self._shown)))

    def visitor(self, key: object, request: gr.Request) -> Visitor:
        """Return who a visitor is. Without a login and a secret, no run is found after a reload."""
        address = request.client.host if request.client else ""
        if request.username:
            # People behind one address, each with a login, do not use up each other's places.
            return Visitor(key=f"name {request.username}", place=f"name {request.username}")
        own = f"key {key}" if key else f"session {request.session_hash}"
        return Visitor(key=own, place=f"address {address}")


def _seal(folder: Path) -> str:
    path = folder / "seal"
    if not path.exists() or not path.read_text():
        part = path.with_suffix(".part")
        with renamed(part, path):
            part.touch(mode=0o600)
            part.write_text(secrets.token_hex(32))
    return path.read_text()
