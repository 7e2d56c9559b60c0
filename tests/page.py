"""The web page in a browser, and a server's other ways in."""

import shutil
import socket
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def in_a_browser(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that opens the page in Chromium."""
    there = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
    return pytest.mark.slow(there(test))  # type: ignore[no-any-return]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def open_page(browser: Any, url: str) -> Any:
    """As a visitor of its own."""
    page = browser.new_context(viewport={"width": 1300, "height": 900}).new_page()
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
    """Type the value of an option that stands behind "More"."""
    if not page.is_visible(f"#option-{option}"):
        page.click("#more button")
    page.locator(f"#option-{option} :is({control})").first.fill(value)
    page.keyboard.press("Tab")


def upload(page: Any, source: object) -> None:
    """source: a path, or what Playwright takes for one."""
    if page.locator("#upload button[aria-label='Clear']").count():
        page.click("#upload button[aria-label='Clear']")
        says(page, "or one of these", "#facts")
    page.set_input_files("#upload input[type=file]", source)


def draw(page: Any, points: Sequence[tuple[float, float]]) -> None:
    """Draw with the brush from point to point: parts of the picture's width and height."""
    if not page.is_visible("#editor canvas"):
        page.click("#part button")
    page.wait_for_function("/[1-9]%/.test(document.querySelector('#editor')?.innerText)")
    canvas = page.locator("#editor canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    zoom = int(page.inner_text("#editor").split("%")[0].split()[-1]) / 100
    first = page.locator("#first img").evaluate("one => [one.naturalWidth, one.naturalHeight]")
    for number, point in enumerate(points):
        x, y = ((at - 0.5) * side * zoom for at, side in zip(point, first, strict=True))
        page.mouse.move(box["x"] + box["width"] / 2 + x, box["y"] + box["height"] / 2 + y)
        if number == 0:
            page.mouse.down()
    page.mouse.up()


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
    """What a server answers to a file that no page sends. HTTPError where it refuses."""
    head = f'Content-Disposition: form-data; name="files"; filename="{name}"'.encode()
    body = b"--x\r\n" + head + b"\r\nContent-Type: image/png\r\n\r\n" + content + b"\r\n--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    request = urllib.request.Request(f"{url}gradio_api/upload", body, headers)
    answer: bytes = urllib.request.urlopen(request).read()
    return answer
