"""Who a visitor is: by the name of the login, or by a secret that the browser keeps."""

import secrets
from pathlib import Path

import gradio as gr


class Visitors:
    """key: the component that holds the browser's secret."""

    def __init__(self, folder: Path) -> None:
        """folder: of the server, which keeps what browsers' secrets are sealed with."""
        self.key = gr.BrowserState("", storage_key="pnpvideo", secret=_seal(folder))

    def greet(self, key: object) -> str:
        """A new visitor's secret, or the one that is there."""
        return key if isinstance(key, str) and len(key) >= 32 else secrets.token_hex(16)

    def visitor(self, key: object, request: gr.Request) -> str:
        """Of a visitor without either nothing is found again."""
        if request.username:
            return f"name {request.username}"
        return f"key {key}" if key else f"session {request.session_hash}"


def _seal(folder: Path) -> str:
    path = folder / "seal"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
    return path.read_text()
