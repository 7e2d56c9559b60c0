"""Refuse uploads with unsafe names, and delete those that earlier servers left."""

import re
import shutil
from pathlib import Path

from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LEADS_AWAY = "leads to another folder; give the file under a plain name"

# Where Gradio puts uploads: folders named by their content, and files until they are whole.
_OF_GRADIO = re.compile(r"[0-9a-f]{64}|tmp\w{8}")


class PlainNames:
    """Middleware that refuses uploads whose names lead to another folder.

    Gradio would use the last part of such a name without a warning.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].rstrip("/").endswith("/upload"):
            _, options = parse_options_header(Headers(scope=scope).get("content-type"))
            if b"boundary" in options:
                receive = _checked(receive, options[b"boundary"])
        await self._app(scope, receive, send)


def _checked(receive: Receive, boundary: bytes) -> Receive:
    """Pass on messages. Raise MultiPartException, which Gradio reports, for an unsafe name."""
    names = _Names()
    parser = MultipartParser(
        boundary,
        {
            "on_header_field": names.add_name,
            "on_header_value": names.add_value,
            "on_header_end": names.check,
        },
    )

    async def receive_checked() -> Message:
        message = await receive()
        parser.write(message.get("body", b""))
        return message

    return receive_checked


class _Names:
    """A reader of the file names in a form as its parts arrive."""

    def __init__(self) -> None:
        self._name = self._value = b""

    def add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def check(self) -> None:
        """Raise MultiPartException if the header that ended has an unsafe file name."""
        if self._name.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            name = options.get(b"filename", b"").decode(errors="replace")
            if "/" in name or "\\" in name or name in (".", ".."):
                raise MultiPartException(f"{name} {LEADS_AWAY}")
        self._name = self._value = b""


def delete_uploads(folder: Path) -> None:
    """Delete the uploads of earlier servers: no open page uses them, and jobs have copies."""
    for path in folder.glob("*"):
        if _OF_GRADIO.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
