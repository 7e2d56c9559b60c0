"""The doors of the page: who is let in, how fast, and what is left when somebody goes."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page import (
    Reply,
    files_of_at_most,
    form,
    free_port,
    in_a_browser,
    open_page,
    request,
    says,
    small_proxy,
    upload,
)
from page import wait_until as wait
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from pnpvideo.errors import InputError
from pnpvideo.options.web import WebOptions

pytest.importorskip("gradio")

import gradio as gr
from gradio.routes import App

from pnpvideo.web import listen
from pnpvideo.web.addresses import Hosts, Proxies, counted
from pnpvideo.web.doors import Doors, Pace, Rules
from pnpvideo.web.listen import listening
from pnpvideo.web.logins import FailedLogins, read_logins
from pnpvideo.web.serve import serving
from pnpvideo.web.uploads import Uploads

EVIL = "http://evil.example"
PACE = Pace(silence=0.4, grace=1.0, rate=100_000)


async def echo(asked: Request) -> JSONResponse:
    size = len(await asked.body())
    seen = {"path": asked.url.path, "url": str(asked.url), "size": size}
    return JSONResponse(seen | {"client": asked.client.host if asked.client else ""})


@pytest.fixture(scope="module")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def small(uploads: Path) -> Iterator[str]:
    """A small server behind the doors, at pnp.example.org/pnp, with an upload limit of 1 MiB."""
    inner = Starlette(routes=[Route("/{path:path}", echo, methods=["GET", "POST", "OPTIONS"])])
    rules = Rules(
        hosts=Hosts("0.0.0.0", ["pnp.example.org"], "/pnp"),
        proxies=Proxies(["127.0.0.1"]),
        root_path="/pnp",
        knows=None,
        upload=2**20,
        pace=PACE,
    )
    app = Doors(Uploads(inner, uploads, 2**20, lambda paths: None), rules)
    before = listen._HEAD_SECONDS
    listen._HEAD_SECONDS = 0.5
    with listening(app, "127.0.0.1", free_port(), lambda: None) as url:
        yield url
    listen._HEAD_SECONDS = before


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "PNP.example.org:8443"}, 200),
        ({"Host": "pnp.example.org."}, 200),
        ({"Host": "[::1]:7860"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Host": "0.0.0.0"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "localhost@evil.example"}, 403),
        ({"X-Forwarded-Host": "pnp.example.org"}, 200),
        ({"X-Forwarded-Host": "evil.example"}, 403),
        ({"Origin": "https://pnp.example.org"}, 200),
        ({"Origin": "http://localhost:9000"}, 200),
        ({"Origin": EVIL}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "file://"}, 403),
        ({"Origin": "https://pnp.example.org.evil.example"}, 403),
        ({"Origin": f"{EVIL}/localhost"}, 403),
        ({"Origin": EVIL, "Host": "evil.example"}, 403),
    ],
)
def test_hosts_and_origins(small: str, headers: dict[str, str], status: int) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        reply = request(small, "/config", method, **headers)
        assert reply.status == status
        assert not [name for name in reply.headers if name.lower().startswith("access-control")]


def test_a_page_of_another_port_is_another_page() -> None:
    plain = Hosts("192.168.1.5", [], None)
    assert plain.allows("http://localhost:7860", "localhost:7860", None)
    assert plain.allows("https://localhost", "localhost:443", None)
    assert not plain.allows("http://localhost:3000", "localhost:7860", None)
    assert plain.answers_to("192.168.1.5:7860", None)
    assert plain.answers_to("10.1.2.3", "10.1.2.3")
    assert not plain.answers_to("10.1.2.3", "10.1.2.4")
    given = Hosts("::", ["a.example:8443"], "https://b.example/pnp")
    assert given.allows("https://a.example:8443", "localhost", None)
    assert not given.allows("https://a.example:3000", "localhost", None)
    assert given.allows("https://b.example", "127.0.0.1:7860", None)
    for wrong in ("http://a.example", "a b", "", "a:b", "[1"):
        with pytest.raises(InputError, match="without http"):
            Hosts("::", [wrong], None)


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/pnp/config", "/config"),
        ("/config", "/config"),
        ("/pnp", 307),
        ("/pnp/", "/"),
        ("/pnpx/config", 404),
        ("/gradio_api/run/predict", 404),
        ("/gradio_api/token", 404),
        ("/gradio_api/file=http://127.0.0.1:1/x", 403),
        ("/pnp/gradio_api/file=https://example.org/x", 403),
        ("/gradio_api/proxy=http://127.0.0.1:1/x", 404),
        ("/gradio_api/deep_link", 404),
        ("/monitoring", 404),
        ("/gradio_api/stream/a/close", 404),
    ],
)
def test_only_the_routes_of_the_page(small: str, path: str, seen: object) -> None:
    reply = request(small, path)
    assert (json.loads(reply.body)["path"] if reply.status == 200 else reply.status) == seen


def test_visitors_are_known_by_what_a_trusted_proxy_says(small: str) -> None:
    for forwarded, address in {
        "9.9.9.9": "9.9.9.9",
        "1.1.1.1, 9.9.9.9": "9.9.9.9",  # The first is what the visitor said.
        "1.1.1.1, 9.9.9.9, 127.0.0.1": "9.9.9.9",
        "9.9.9.9:4711": "9.9.9.9",
        "not an address": "127.0.0.1",
        "": "127.0.0.1",
    }.items():
        reply = request(small, "/config", X_Forwarded_For=forwarded)
        assert counted(json.loads(reply.body)["client"]) == address
    assert Proxies([]).visitor("127.0.0.1", ["9.9.9.9"]) == "127.0.0.1"
    assert Proxies(["10.0.0.0/8"]).visitor("10.1.1.1", ["2001:db8::1"]) == "2001:db8::1"
    assert counted("2001:db8::1") == counted("2001:db8::2") != counted("2001:db8:0:1::1")
    assert counted("::ffff:9.9.9.9") == "9.9.9.9"
    with pytest.raises(InputError, match="trusted_proxy is nginx; give an address such as"):
        Proxies(["nginx"])


def test_links_are_those_of_the_visitor(small: str) -> None:
    for headers, url in {
        ("Origin", "https://pnp.example.org"): "https://pnp.example.org/config",
        ("X-Forwarded-Host", "pnp.example.org:81"): "http://pnp.example.org:81/config",
    }.items():
        assert json.loads(request(small, "/config", **dict([headers])).body)["url"] == url


# Slow, large and broken off


def sent(url: str, *parts: bytes, pause: float = 0.2) -> tuple[bytes, float]:
    """Return a server's answer to bytes that come one after the other, and its time."""
    place = url.split("/")[2].split(":")
    began = time.monotonic()
    with socket.create_connection((place[0], int(place[1])), timeout=10) as one:
        answer = b""
        with contextlib.suppress(OSError):  # It may answer before it has read all.
            for part in parts:
                one.sendall(part)
                time.sleep(pause)
        with contextlib.suppress(OSError):
            while part := one.recv(65536):
                answer += part
        return answer, time.monotonic() - began


HEAD = b"POST /config HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n"
UPLOAD = (
    b"POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n"
    b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nabc'
)


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ((), b""),
        ((b"GET / HT",), b""),
        ((b"GET / HTTP/1.1\r\n", *[b"A: b\r\n"] * 20), b""),
        ((HEAD,), b"408"),
        ((HEAD, *[b"a"] * 12), b"408"),
        ((UPLOAD,), b"408"),
        ((UPLOAD, *[b"a"] * 12), b"408"),
    ],
)
def test_slow_requests_end(
    small: str, uploads: Path, parts: tuple[bytes, ...], status: bytes
) -> None:
    answer, seconds = sent(small, *parts)
    # What is sent to one who goes on sending may not arrive.
    assert answer[9:12] == status or (len(parts) > 3 and not answer)
    assert seconds < 2
    assert list(uploads.iterdir()) == []


def test_what_is_too_large_is_not_read(small: str, uploads: Path) -> None:
    body, kind = form("a.png", bytes(2**20 + 1))
    for path, content, given in (
        ("/gradio_api/queue/join", bytes(2**20 + 1), "application/json"),
        ("/gradio_api/upload", body, kind),
        ("/gradio_api/upload", bytes(3 * 2**20), kind),
    ):
        assert request(small, path, "POST", content, Content_Type=given).status == 413
    chunked = UPLOAD.replace(b"Content-Length: 99999", b"Transfer-Encoding: chunked")
    endless = b"10000\r\n" + bytes(65536) + b"\r\n"
    start = chunked.partition(b"\r\n\r\n")
    first = b"%x\r\n%b\r\n" % (len(start[2]), start[2])
    assert sent(small, start[0] + start[1] + first, *[endless] * 40, pause=0)[0][9:12] == b"413"
    assert list(uploads.iterdir()) == []


def test_a_broken_upload_leaves_nothing(small: str, uploads: Path) -> None:
    body, kind = form("a.png", bytes(100_000))
    no_end = body[: -len(b"--x--\r\n")]
    for content, given, status, words in (
        (no_end, kind, 400, "the upload did not come whole"),
        (b"nothing", kind, 400, "not a whole form"),
        (body + body, kind, 400, ""),
        (body, "text/plain", 400, "a form with files"),
        (form("a/b.png", b"")[0], kind, 400, "leads to another folder"),
        (b"".join(form(f"{n}.png", b"")[0][:-7] for n in range(9)), kind, 400, "at most 8 files"),
    ):
        reply = request(small, "/gradio_api/upload", "POST", content, Content_Type=given)
        assert reply.status in (status, 200)
        assert words in reply.body.decode()
        for path in json.loads(reply.body) if reply.status == 200 else []:
            Path(path).unlink()
            Path(path).parent.rmdir()
        assert list(uploads.iterdir()) == []
    with files_of_at_most(50_000):
        reply = request(small, "/gradio_api/upload", "POST", body, Content_Type=kind)
    assert (reply.status, reply.body) == (507, b"the server cannot keep the upload: File too large")
    assert list(uploads.iterdir()) == []
    place = small.split("/")[2].split(":")
    with socket.create_connection((place[0], int(place[1]))) as gone:
        gone.sendall(UPLOAD)
        wait(lambda: len(list(uploads.iterdir())) == 1, 5)
    wait(lambda: list(uploads.iterdir()) == [], 5)


def test_the_same_file_has_one_path(small: str) -> None:
    body, kind = form("my clip (1).png", b"abc")
    paths = {
        request(small, "/gradio_api/upload", "POST", body, Content_Type=kind).body for _ in "ab"
    }
    (path,) = json.loads(paths.pop())
    assert not paths
    assert (Path(path).name, Path(path).read_bytes()) == ("my clip (1).png", b"abc")


# With a login


@pytest.fixture(scope="module")
def guarded(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A page with a login, under a path."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "users.txt").write_text("ann:a b\r\nbob:x\r\n", encoding="utf-16")
    options = WebOptions.of(
        {
            "model": str(tiny_model),
            "folder": str(folder / "served"),
            "port": free_port(),
            "device": "cpu",
            "login": str(folder / "users.txt"),
            "root_path": "/pnp",
            "trusted_proxy": "127.0.0.1",
            "max_upload": 1,
        }
    )
    with serving(options) as server:
        yield server.url


def log_in(url: str, name: str, password: str, **headers: str) -> Reply:
    body = f"username={name}&password={password}".encode()
    kind = "application/x-www-form-urlencoded"
    return request(url, "/login", "POST", body, Content_Type=kind, **headers)


def test_every_route_needs_the_login(guarded: str) -> None:
    public = ("/assets/", "/static/", "/svelte/")
    words = ("/", "/login", "/theme.css", "/gradio_api/theme.css", "/favicon.ico", "/robots.txt")
    seen = 0
    routes = list(App.create_app(gr.Blocks()).routes)
    for route in routes:
        routes += getattr(getattr(route, "original_router", None), "routes", [])
        path = getattr(route, "path", "/")
        filled = path.replace("{path:path}", "x").replace("{path_or_url:path}", "/etc/passwd")
        filled = filled.replace("{", "").replace("}", "")
        if path.startswith(public) or path.rstrip("/") in words or path == "/":
            continue
        for method in getattr(route, "methods", None) or ():
            for cookie in ("", "access-token-unsecure-x=y", "\x80;;=", "a=b;" * 100):
                reply = request(guarded, filled, method, b"{}", Cookie=cookie)
                assert reply.status in (401, 404), (method, path)
                seen += 1
    assert seen > 100
    for path in words[2:]:
        assert request(guarded, path).status == 200, path
    front = request(guarded, "/").body.decode()
    assert '"auth_required":true' in front
    assert "option-steps" not in front


def test_cookies_go_to_this_site_alone(guarded: str) -> None:
    for scheme, secure in (("http", False), ("https", True)):
        reply = log_in(guarded, "ann", "a%20b", X_Forwarded_Proto=scheme)
        cookies = reply.headers.get_all("set-cookie") or []
        assert reply.status == 200
        assert len(cookies) == 2
        for cookie in cookies:
            flags = {part.strip().lower() for part in cookie.split(";")[1:]}
            assert {"httponly", "samesite=lax"} <= flags
            assert "samesite=none" not in flags
            assert ("secure" in flags) is secure
    given = "; ".join(cookie.split(";")[0] for cookie in cookies)
    config = json.loads(request(guarded, "/pnp/config", Cookie=given).body)
    assert config["username"] == "ann"
    assert config["root"] == f"{guarded}pnp"
    body, kind = form("a.png", b"abc")
    for path in ("/pnp/gradio_api/upload", "/gradio_api/upload"):
        assert request(guarded, path, "POST", body, Content_Type=kind).status == 401
        reply = request(guarded, path, "POST", body, Content_Type=kind, Cookie=given)
        assert reply.status == 200


def test_wrong_passwords_cost_time(guarded: str) -> None:
    attacker, other = {"X_Forwarded_For": "9.9.9.9"}, {"X_Forwarded_For": "8.8.8.8"}
    tries = [log_in(guarded, "bob", "wrong", **attacker) for _ in range(5)]
    assert [reply.status for reply in tries] == [400, 400, 400, 429, 429]
    assert "too many wrong passwords; try again in 1 second" in tries[-1].body.decode()
    assert log_in(guarded, "bob", "x", **attacker).status == 429
    assert log_in(guarded, "bob", "x", **other).status == 200


def test_pauses_double_up_to_a_minute() -> None:
    now = [0.0]
    failed, waits = FailedLogins(lambda: now[0]), []
    for _ in range(12):
        assert failed.begin("a") == 0
        waits.append(failed.begin("a") if len(waits) >= 2 else 0)
        now[0] += waits[-1]
    assert waits == [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    failed.forget("a")
    assert [failed.begin("a"), failed.begin("a")] == [0, 0]


@pytest.mark.parametrize(
    ("content", "logins"),
    [
        (b"ann:a b\nbob:x:y\n", {"ann": "a b", "bob": "x:y"}),
        (b"\xef\xbb\xbfann:x\r\n\r\n", {"ann": "x"}),
        ("ann:\u00e9\r\n".encode("utf-16"), {"ann": "\u00e9"}),
        (b"\xfe\xff" + "ann:x".encode("utf-16-be"), {"ann": "x"}),
        (b" ann :x\rbob:y", {"ann": "x", "bob": "y"}),
        ("ann:a\u2028b".encode(), {"ann": "a\u2028b"}),
        (b"ann:x\nann:y", "two passwords for ann"),
        (b"ann", "needs lines of NAME:PASSWORD"),
        (b"\xef\xbb\xbf", "needs lines of NAME:PASSWORD"),
        (b":x", "needs lines of NAME:PASSWORD"),
        (b"ann:\xff", "cannot be read"),
        (b"\xff\xfea", "cannot be read"),
    ],
)
def test_login_files_of_any_editor(tmp_path: Path, content: bytes, logins: object) -> None:
    (tmp_path / "users.txt").write_bytes(content)
    read = lambda: read_logins(str(tmp_path / "users.txt"))  # noqa: E731
    if isinstance(logins, str):
        with pytest.raises(InputError, match=logins):
            read()
    else:
        assert read() == logins


@in_a_browser
@pytest.mark.parametrize("keeps_prefix", [False, True])
def test_the_page_behind_a_proxy(
    guarded: str, browser: Any, picture: Path, keeps_prefix: bool
) -> None:
    with small_proxy(guarded, "/pnp", keeps_prefix=keeps_prefix) as url:
        page = open_page(browser, url)
        page.fill("input[autocomplete='username'], input[type=text]", "bob")
        page.fill("input[type=password]", "x")
        page.click("button")
        upload(page, picture)
        says(page, "source0.png: 1 frame", "#facts")
        page.wait_for_function("document.querySelector('#first img')?.naturalWidth == 48")
        if keeps_prefix:
            with files_of_at_most(10):
                upload(page, {"name": "b.png", "mimeType": "image/png", "buffer": bytes(100)})
                page.wait_for_selector("#refused")
            said = "the server cannot keep the upload: File too large"
            assert page.inner_text("#refused") == said
        page.context.close()
