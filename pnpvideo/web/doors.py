"""Let in only what the page needs: its own routes, from its own pages, for people logged in."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pnpvideo.web.addresses import Hosts, Proxies, counted
from pnpvideo.web.logins import FailedLogins

API = "/gradio_api"
UPLOAD, DRAWING, LOGIN = f"{API}/upload", f"{API}/component_server", "/login"

_OPEN = {"/", LOGIN, "/theme.css", f"{API}/theme.css", "/favicon.ico", "/robots.txt"}
_OPEN_FOLDERS = ("/assets/", "/static/", "/svelte/")
_CLOSED = {
    "/config", "/logout", "/manifest.json", UPLOAD, DRAWING,
    *(f"{API}/{name}" for name in (
        "app_id", "cancel", "info", "login_check", "queue/data", "queue/join", "reset",
        "startup-events", "upload_progress", "user",
    )),
}  # fmt: skip
_CLOSED_FOLDERS = (f"{API}/heartbeat/", f"{API}/file=")

_MIB = 2**20
_SMALL, _FORM = _MIB, _MIB
"""The most bytes of a request that is not an upload, and those of an upload beside its file."""
_DRAWING = 16 * _MIB

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The limits of how slow a request may be.

    silence: the most seconds between two parts of it, or until a part of the answer is taken.
    grace: the seconds that it may take at any speed. rate: its bytes a second after that.
    """

    silence: float = 30.0
    grace: float = 30.0
    rate: float = 16 * 2**10


class Refused(Exception):  # noqa: N818
    """A request that is not let in: the status of the answer, and why."""

    def __init__(self, status: int, why: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(why)
        self.status, self.headers = status, headers or {}

    def response(self) -> Response:
        """Return the answer. The connection is not used again, as the rest is not read."""
        own = {"connection": "close", "x-content-type-options": "nosniff", **self.headers}
        return PlainTextResponse(str(self), self.status, own)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The rules for who is let in.

    root_path: the path or whole address under which a proxy serves the page. knows: says from the
    cookies whether somebody has logged in; None if nobody must. upload: the most bytes of one.
    """

    hosts: Hosts
    proxies: Proxies
    root_path: str | None
    knows: Callable[[Mapping[str, str]], bool] | None
    upload: int
    pace: Pace = Pace()


class Doors:
    """Middleware that refuses what no page of this server sends, before anything else sees it."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app, self._rules = app, rules
        self._prefix = urlsplit(rules.root_path or "").path.rstrip("/")
        self._failed = FailedLogins()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        answer = _Answer(send, self._rules.pace)
        paced = _paced(receive, self._rules.pace)
        try:
            await self._enter(scope, paced, answer)
        except Refused as refused:
            if not answer.begun:
                await refused.response()(scope, receive, answer)
        except _GoneError:
            pass

    async def _enter(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        headers = Headers(scope=scope)
        scope = self._described(scope, headers)
        path, method = scope["path"].rstrip("/") or "/", scope["method"]
        _check_route(path)
        if scope["scheme"] == "https":
            answer.secure = True
        if path == UPLOAD:
            length = headers.get("content-length", "0")
            if length.isdecimal() and int(length) > self._rules.upload + _FORM:
                raise Refused(413, "the file is larger than the maximum allowed size")
            self._check_login(path, headers)
            await self._app(scope, _at_most(receive, self._rules.upload + _FORM), answer)
            return
        self._check_login(path, headers)
        body = await _body(receive, _DRAWING if path == DRAWING else _SMALL)
        if path == LOGIN and method == "POST":
            place = counted(scope["client"][0])
            wait = self._failed.begin(place)
            if wait:
                why = f"too many wrong passwords; try again in {wait:.0f} seconds"
                raise _as_gradio(429, why, {"retry-after": f"{wait:.0f}"})
            await self._app(scope, _again(body, receive), answer)
            if answer.status == 200:
                self._failed.forget(place)
            return
        await self._app(scope, _again(body, receive), answer)

    def _described(self, scope: Scope, headers: Headers) -> Scope:
        """Return a request as the visitor made it. Refused if no page of this server did."""
        rules = self._rules
        peer, local = scope["client"][0], (scope.get("server") or (None,))[0]
        names = headers.getlist("host")
        forwarded = headers.get("x-forwarded-host", "").split(",")[0].strip()
        host = forwarded or (names[0] if len(names) == 1 else "")
        for name in {host, *names}:
            if not rules.hosts.answers_to(name, local):
                known = name[:100].encode("ascii", "backslashreplace").decode()
                raise Refused(
                    403,
                    f"this server does not answer to the name {known!r}; whoever runs it can allow "
                    "it with --allowed-host",
                )
        scheme = headers.get("x-forwarded-proto", "").split(",")[0].strip()
        for origin in headers.getlist("origin"):
            if not rules.hosts.allows(origin, host, local):
                raise Refused(403, "a page of another site may not use this server")
            # What the browser itself says, whatever the proxy says.
            scheme, _, host = origin.partition("://")
        if scheme not in ("http", "https"):
            scheme = scope["scheme"]
        path = scope["path"]
        if self._prefix and path == self._prefix:
            # The page's links are relative.
            raise Refused(
                307, "the address of the page ends with a slash", {"location": f"{path}/"}
            )
        if self._prefix and path.startswith(f"{self._prefix}/"):
            path = path[len(self._prefix) :]
        visitor = rules.proxies.visitor(peer, headers.getlist("x-forwarded-for"))
        left_out = (b"x-forwarded-host", b"x-forwarded-proto", b"x-gradio-server", b"host")
        kept = [(name, value) for name, value in scope["headers"] if name.lower() not in left_out]
        kept += [(b"host", host.encode("latin-1")), (b"x-forwarded-proto", scheme.encode())]
        return {
            **scope,
            "headers": kept,
            "path": path,
            "raw_path": quote(path).encode(),
            "scheme": scheme,
            "client": (visitor, scope["client"][1]),
        }

    def _check_login(self, path: str, headers: Headers) -> None:
        knows = self._rules.knows
        if knows is None or path in _OPEN or path.startswith(_OPEN_FOLDERS):
            return
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            cookies = SimpleCookie()
        if not knows({name: morsel.value for name, morsel in cookies.items()}):
            raise _as_gradio(401, "log in first")


def _check_route(path: str) -> None:
    """Raise Refused for a route that the page does not use, of the many that Gradio has."""
    if path in _OPEN | _CLOSED or path.startswith(_OPEN_FOLDERS):
        return
    if path.startswith(_CLOSED_FOLDERS):
        # Gradio would fetch an address, and hand on what is there.
        if "://" in path:
            raise Refused(403, "only files of this server are served")
        return
    raise Refused(404, "there is nothing here")


def _as_gradio(status: int, why: str, headers: Mapping[str, str] | None = None) -> Refused:
    """Return a refusal that the page's script shows."""
    refused = Refused(status, json.dumps({"detail": why}), headers)
    refused.headers = {**refused.headers, "content-type": "application/json"}
    return refused


class _GoneError(Exception):
    """The visitor left, or does not take the answer."""


class _Answer:
    """The way back: it notes the status, and mends the cookies."""

    def __init__(self, send: Send, pace: Pace) -> None:
        self._send, self._pace = send, pace
        self.status: int | None = None
        self.begun = self.secure = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun, self.status = True, message["status"]
            message = {**message, "headers": [self._mended(*pair) for pair in message["headers"]]}
        try:
            await asyncio.wait_for(self._send(message), self._pace.silence)
        except TimeoutError:
            raise _GoneError from None

    def _mended(self, name: bytes, value: bytes) -> tuple[bytes, bytes]:
        """Let cookies go only to this server's own pages, and over TLS where that is used."""
        if name.lower() != b"set-cookie":
            return name, value
        parts = [part.strip() for part in value.split(b";")]
        kept = [p for p in parts if not p.lower().startswith((b"samesite", b"secure"))]
        return name, b"; ".join([*kept, b"SameSite=Lax", *([b"Secure"] if self.secure else [])])


def _paced(receive: Receive, pace: Pace) -> Receive:
    """Pass on the parts of a request. Refused when they come too slowly."""
    began, taken, ended = time.monotonic(), 0, False

    async def receive_paced() -> Message:
        nonlocal taken, ended
        if ended:  # What is awaited now is that the visitor leaves.
            return await receive()
        due = began + pace.grace + taken / pace.rate - time.monotonic()
        try:
            message = await asyncio.wait_for(receive(), max(0.0, min(pace.silence, due)))
        except TimeoutError:
            raise Refused(408, "the request came too slowly; try again") from None
        taken += len(message.get("body", b""))
        ended = not message.get("more_body", False)
        return message

    return receive_paced


def _at_most(receive: Receive, most: int) -> Receive:
    """Pass on the parts of a request. Refused for more bytes than this."""
    taken = 0

    async def receive_at_most() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise Refused(413, "the request is larger than the maximum allowed size")
        return message

    return receive_at_most


async def _body(receive: Receive, most: int) -> bytes:
    """Return the whole body of a request, so that nothing begins before it has come."""
    bounded, parts, more = _at_most(receive, most), [], True
    while more:
        message = await bounded()
        if message["type"] == "http.disconnect":
            raise _GoneError
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a body that has been read already, and then the rest as it arrives."""
    messages: Sequence[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    waiting = iter(messages)

    async def receive_again() -> Message:
        return next(waiting, None) or await receive()

    return receive_again
