"""Take uploads, which are whole or leave nothing, and delete those that earlier servers left."""

import asyncio
import hashlib
import logging
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs

from gradio.routes import file_upload_statuses
from gradio_client.utils import strip_invalid_filename_characters
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from pnpvideo.files.own_names import remove
from pnpvideo.web.doors import UPLOAD, Refused
from pnpvideo.web.runner import disk_error

LEADS_AWAY = "leads to another folder; give the file under a plain name"

_MOST_FILES = 8
_SPARE = 32 * 2**20
"""Bytes of the disk that an upload must leave free, so that the existing jobs can finish."""
_PROGRESS_SECONDS = 60
_TOO_LARGE = "the file is larger than the maximum allowed size"
_DISK = "the server cannot keep the upload: {}"

# What Gradio and `Uploads` put into the folder: folders, and files until they are whole.
_OWN = re.compile(r"[0-9a-f]{64}|tmp\w{8}")

# Without it, anyone who has the same file could guess the path of an upload.
_SALT = secrets.token_bytes(32)

_log = logging.getLogger(__name__)


class Uploads:
    """Middleware that takes uploads in place of Gradio's route.

    Gradio's route leaves half of a file behind if the visitor leaves or the disk is full.
    """

    def __init__(
        self, app: ASGIApp, folder: Path, most: int, kept: Callable[[list[str]], None]
    ) -> None:
        """most: the bytes of one file. kept: is called with the paths of new files."""
        self._app, self._folder, self._most, self._kept = app, folder, most, kept

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].rstrip("/") != UPLOAD:
            await self._app(scope, receive, send)
            return
        if scope["method"] != "POST":
            raise Refused(405, "uploads are posted", {"allow": "POST"})
        headers = Headers(scope=scope)
        kind, options = parse_options_header(headers.get("content-type"))
        if kind != b"multipart/form-data" or b"boundary" not in options:
            raise Refused(400, "an upload is a form with files")
        try:
            length = int(headers.get("content-length") or 0)
            free = shutil.disk_usage(self._folder).free
            if free < length + _SPARE:
                raise Refused(507, _DISK.format("its disk is full; try again later"))
            with _progress(scope["query_string"]) as progress:
                paths = await self._take(receive, options[b"boundary"], progress)
        except OSError as error:
            _log.warning("an upload is not kept: %s", error)
            raise Refused(507, _DISK.format(disk_error(error))) from None
        self._kept(paths)
        await JSONResponse(paths)(scope, receive, send)

    async def _take(
        self, receive: Receive, boundary: bytes, progress: Callable[[str, bytes], None]
    ) -> list[str]:
        """Write all files of a form, and return their paths. On any exception, none is left."""
        form = _Form(boundary, self._folder, self._most, progress)
        try:
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "the upload did not come whole")
                # In a thread, as a disk may be slow.
                await run_in_threadpool(form.write, message.get("body", b""))
                more = message.get("more_body", False)
            return form.keep()
        finally:
            form.close()


class _Form:
    """The files of a form, written as its parts arrive."""

    def __init__(
        self, boundary: bytes, folder: Path, most: int, progress: Callable[[str, bytes], None]
    ) -> None:
        self._folder, self._most, self._progress = folder, most, progress
        self._parser = MultipartParser(
            boundary,
            {
                "on_header_field": self._add_name,
                "on_header_value": self._add_value,
                "on_header_end": self._end_header,
                "on_part_data": self._add_data,
                "on_part_end": self._end_part,
                "on_end": self._end_form,
            },
        )
        self._name = self._value = b""
        self._parts: list[_Part] = []
        self._part: _Part | None = None
        self._whole = False

    def write(self, data: bytes) -> None:
        """Take a part of the form. Refused for one that is damaged or too large."""
        try:
            self._parser.write(data)
        except FormParserError:
            raise Refused(400, "the upload is not a whole form") from None

    def keep(self) -> list[str]:
        """Keep the files, and return their paths. Refused if the form is not whole."""
        if not self._whole:
            raise Refused(400, "the upload did not come whole")
        return [str(part.keep(self._folder)) for part in self._parts]

    def close(self) -> None:
        """Delete the files that are not kept."""
        for part in self._parts:
            part.close()

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._name.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            if b"filename" in options:
                self._open(options[b"filename"].decode(errors="replace"))
        self._name = self._value = b""

    def _open(self, name: str) -> None:
        if "/" in name or "\\" in name or name in (".", ".."):
            raise Refused(400, f"{name} {LEADS_AWAY}")
        if len(self._parts) == _MOST_FILES:
            raise Refused(400, f"give at most {_MOST_FILES} files at once")
        if self._part is not None:
            raise Refused(400, "the upload is not a whole form")
        self._part = _Part(self._folder, strip_invalid_filename_characters(name))
        self._parts.append(self._part)

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._part is None:
            return
        if self._part.size + end - start > self._most:
            raise Refused(413, _TOO_LARGE)
        self._part.write(data[start:end])
        self._progress(self._part.name, data[start:end])

    def _end_part(self) -> None:
        self._part = None

    def _end_form(self) -> None:
        self._whole = True


class _Part:
    """A file of a form, under a passing name until the form is whole."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.size, self._hash = name, 0, hashlib.sha256(_SALT)
        self._path = folder / f"tmp{secrets.token_hex(4)}"
        self._file = self._path.open("xb")

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def keep(self, folder: Path) -> Path:
        """Give the file its name, in a folder of its content; return its path.

        The page's editor sends the same picture again and again, and expects the same path.
        """
        self._file.close()
        place = folder / self._hash.hexdigest() / self.name
        place.parent.mkdir(exist_ok=True)
        return self._path.replace(place)

    def close(self) -> None:
        """Delete the file unless it is kept."""
        with suppress(OSError):  # The rest of it, to a full disk.
            self._file.close()
        self._path.unlink(missing_ok=True)


@contextmanager
def _progress(query: bytes) -> Iterator[Callable[[str, bytes], None]]:
    """Report an upload to the route of Gradio's that the page's bar reads."""
    upload = parse_qs(query.decode("latin-1")).get("upload_id", [""])[0]
    if not upload:
        yield lambda name, data: None
        return
    file_upload_statuses.track(upload)
    try:
        yield lambda name, data: file_upload_statuses.append(upload, name, data)
    finally:
        file_upload_statuses.set_done(upload)
        # Nobody may be there to read it.
        loop = asyncio.get_running_loop()
        loop.call_later(_PROGRESS_SECONDS, file_upload_statuses.stop_tracking, upload)


def delete_uploads(folder: Path) -> None:
    """Delete the uploads of earlier servers: no open page uses them, and jobs have copies."""
    for path in folder.glob("*"):
        if _OWN.fullmatch(path.name):
            remove(path)
