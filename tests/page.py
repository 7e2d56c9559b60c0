"""The web page in a browser, and a server's other ways in."""

import base64
import contextlib
import http.client
import http.server
import io
import re
import resource
import shutil
import signal
import socket
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPMessage
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def in_a_browser(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that opens the page in Chromium."""
    there = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
    return pytest.mark.slow(there(test))  # type: ignore[no-any-return]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def open_page(browser: Any, url: str, *, width: int = 1300, scheme: str = "light") -> Any:
    """As a visitor of its own. scheme: light or dark."""
    viewport = {"width": width, "height": 900}
    page = browser.new_context(viewport=viewport, color_scheme=scheme).new_page()
    page.set_default_timeout(30_000)
    page.goto(url)
    return page


def wait_until(happened: Callable[[], bool], seconds: float) -> float:
    began = time.monotonic()
    while not happened():
        assert time.monotonic() - began < seconds
        time.sleep(0.05)
    return time.monotonic() - began


def ask(page: Any, source: Path, steps: int) -> None:
    upload(page, source)
    says(page, f"{source.name}: ", "#facts")
    page.fill("#prompt textarea", "a stone")
    choose(page, "steps", str(steps), "input[type=number]")
    page.click("#translate")


def choose(page: Any, option: str, value: str, control: str = "textarea, input") -> None:
    """Type the value of an option that stands under "Adjust", perhaps among all options."""
    adjust(page)
    if not page.is_visible(f"#option-{option}"):
        page.click("#more button")
    page.locator(f"#option-{option} :is({control})").first.fill(value)
    page.keyboard.press("Tab")


def adjust(page: Any) -> None:
    """Open what stands under "Adjust"."""
    if not page.is_visible("#preset"):
        page.click("#adjust button")
        page.wait_for_selector("#preset")


def upload(page: Any, source: object) -> None:
    """source: a path, or what Playwright takes for one."""
    if page.locator("#upload button[aria-label='Clear']").count():
        page.click("#upload button[aria-label='Clear']")
        says(page, "or pick a sample", "#facts")
    page.set_input_files("#upload input[type=file]", source)


def draw(page: Any, points: Sequence[tuple[float, float]]) -> None:
    """Draw with the brush from point to point: parts of the picture's width and height."""
    if not page.is_visible("#editor canvas"):
        page.click("#part button")
    page.wait_for_function(
        r"/\b(?!100%)[1-9]\d*%/.test(document.querySelector('#editor')?.innerText)"
    )
    canvas = page.locator("#editor canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    zoom = int(page.inner_text("#editor").split("%")[0].split()[-1]) / 100
    size = re.search(r"(\d+) x (\d+)", page.inner_text("#facts"))
    assert size is not None
    first = [int(side) for side in size.groups()]
    for number, point in enumerate(points):
        x, y = ((at - 0.5) * side * zoom for at, side in zip(point, first, strict=True))
        page.mouse.move(box["x"] + box["width"] / 2 + x, box["y"] + box["height"] / 2 + y)
        if number == 0:
            page.mouse.down()
    page.mouse.up()


def drawing(page: Any) -> Any:
    """Where the layer that the editor shows is drawn on, as booleans (height, width)."""
    script = """async () => {
      const [layer] = (await window.editor.get_blobs()).layers;
      return btoa(String.fromCharCode(...new Uint8Array(await layer.arrayBuffer())));
    }"""
    layer = Image.open(io.BytesIO(base64.b64decode(page.evaluate(script))))
    return np.asarray(layer.getchannel("A")) > 0


def says(page: Any, text: str, where: str = "#state") -> None:
    script = "([w, t]) => document.querySelector(`${w} .html-container`)?.innerText.includes(t)"
    page.wait_for_function(script, arg=[where, text])


def download(page: Any, number: int) -> bytes:
    """One of the files that the page offers."""
    with page.expect_download() as download:
        page.locator("#files a").nth(number).click()
    content: bytes = download.value.path().read_bytes()
    return content


def post_file(url: str, name: str, content: bytes) -> bytes:
    """Return a server's answer to a file that no page sends. HTTPError if it refuses."""
    body, kind = form(name, content)
    headers = {"Content-Type": kind}
    request = urllib.request.Request(f"{url}gradio_api/upload", body, headers)
    answer: bytes = urllib.request.urlopen(request).read()
    return answer


@dataclass(frozen=True, kw_only=True)
class Reply:
    """Return a server's answer."""

    status: int
    headers: HTTPMessage
    body: bytes


def request(url: str, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> Reply:
    """Ask a server. headers: with _ for -; they may be what no browser sends, as may the path."""
    place = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=20)
    with contextlib.closing(connection):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.suppress(BrokenPipeError):  # It may answer before it has read all.
            connection.request(method, path, body or None, named)
        answer = connection.getresponse()
        content = b"" if "stream" in (answer.headers["content-type"] or "") else answer.read()
        return Reply(status=answer.status, headers=answer.headers, body=content)


def form(name: str, content: bytes) -> tuple[bytes, str]:
    """A form with a file, as its bytes and its kind."""
    head = f'Content-Disposition: form-data; name="files"; filename="{name}"'.encode()
    body = b"--x\r\n" + head + b"\r\nContent-Type: image/png\r\n\r\n" + content + b"\r\n--x--\r\n"
    return body, "multipart/form-data; boundary=x"


@contextlib.contextmanager
def small_proxy(to: str, prefix: str, *, keeps_prefix: bool) -> Iterator[str]:
    """A reverse proxy that serves `to` under a path, as its address.

    It says its own name in Host to the server, as nginx does unless it is configured, and where
    visitors come from. keeps_prefix: whether the server sees the path with its prefix.
    """
    place = urllib.parse.urlsplit(to)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            if not f"{self.path}/".startswith(f"{prefix}/"):
                self.send_error(404)
                return
            path = self.path if keeps_prefix else self.path[len(prefix) :] or "/"
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            connection = http.client.HTTPConnection(place.hostname or "", place.port)
            with contextlib.closing(connection):
                headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
                headers["X-Forwarded-For"] = self.client_address[0]
                connection.request(self.command, path, body or None, headers)
                answer = connection.getresponse()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                        self.send_header(name, value)
                self.send_header("Connection", "close")
                self.end_headers()
                with contextlib.suppress(OSError):
                    while part := answer.read1(65536):
                        self.wfile.write(part)
                        self.wfile.flush()
            self.close_connection = True

        do_GET = do_POST = do_HEAD = handle_any  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}{prefix}/"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk that takes no more bytes in a file, for this process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)
