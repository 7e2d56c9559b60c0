"""Listen on an address, in a thread of its own."""

import asyncio
import contextlib
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from pnpvideo.errors import InputError, RunError

_HEAD_SECONDS = 20.0
"""How long a connection may be open without a whole head of a request."""
_CONNECTIONS = 500
_START_SECONDS = 60
_END_SECONDS = 3


@contextlib.contextmanager
def listening(app: ASGIApp, host: str, port: int, before_end: Callable[[], None]) -> Iterator[str]:
    """Serve an application within this context; yield the address for a browser on this machine.

    before_end: called in the server's own loop, to end answers that would never end. InputError
    if the address cannot be used.
    """
    with contextlib.closing(_bound(host, port)) as bound:
        config = uvicorn.Config(
            app,
            http=_TimedProtocol,
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_level=logging.CRITICAL,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # `Doors` reads them.
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=_END_SECONDS,
        )
        server = _Server(config, before_end)
        thread = threading.Thread(target=server.run, args=([bound],), name="server", daemon=True)
        thread.start()
        if not server.is_up.wait(_START_SECONDS) or not server.started:
            raise RunError("the server did not start; the reason is above")
        try:
            yield f"http://{_for_a_browser(host)}:{bound.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(timeout=2 * _END_SECONDS + 2)


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address."""
    plain = host.strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            plain or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            if sys.platform != "win32":  # There, it would share a port that is taken.
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except BaseException:
            bound.close()
            raise
    except (OSError, UnicodeError):
        raise InputError(
            f"port {port} of {host} is taken, or not available; give another --port"
        ) from None
    return bound


def _for_a_browser(host: str) -> str:
    plain = host.strip("[]")
    if plain in ("0.0.0.0", "::", ""):
        return "localhost"
    return f"[{plain}]" if ":" in plain else plain


class _Server(uvicorn.Server):
    """A server whose start can be awaited. is_up: set when it listens, or when it failed to."""

    def __init__(self, config: uvicorn.Config, before_end: Callable[[], None]) -> None:
        super().__init__(config)
        self._before_end = before_end
        self.is_up = threading.Event()

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            super().run(sockets)
        finally:
            self.is_up.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._before_end()
        await super().shutdown(sockets)


class _TimedProtocol(H11Protocol):
    """A connection that ends when the head of its next request does not come in time."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self._head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_awaiting()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before and not self.cycle.response_complete:
            self._stop_awaiting()

    def on_response_complete(self) -> None:
        self._await_head()
        super().on_response_complete()

    def _await_head(self) -> None:
        self._stop_awaiting()
        self._head = self.loop.call_later(_HEAD_SECONDS, self._give_up)

    def _stop_awaiting(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
