"""The server of the page: whom it lets in, what it deletes, and what another finds after it."""

import os
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from forked import start
from page import (
    ask,
    download,
    free_port,
    in_a_browser,
    open_page,
    post_file,
    says,
    wait_until,
)

from pnpvideo.options.web import WebOptions

pytest.importorskip("gradio")

from pnpvideo.web.jobs import JobStore, Visitor
from pnpvideo.web.serve import serving

# What other programs need may not be what an HTTP client of Python's takes.
SURROUNDINGS = {
    "OMP_NUM_THREADS": "1",
    "ALL_PROXY": "socks5://127.0.0.1:9",
    "HTTPS_PROXY": "socks4://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
    "NO_PROXY": "::1,fe80::/10,[::1]:80",
    "GRADIO_SERVER_PORT": "any",
    "GRADIO_ROOT_PATH": "/elsewhere",
    "GRADIO_SHARE": "true",
}
ME = Visitor(key="me", place="here")


def options_of(tiny_model: Path, folder: Path, **more: object) -> WebOptions:
    own = {"model": str(tiny_model), "folder": str(folder), "port": free_port(), "device": "cpu"}
    return WebOptions.of(own | more)


@in_a_browser
def test_a_killed_server_is_followed_by_one_that_goes_on(
    browser: Any, tiny_model: Path, picture: Path, tmp_path: Path
) -> None:
    options = options_of(tiny_model, tmp_path / "served")
    given = {"model": options.model[0], "folder": options.folder, "port": str(options.port)}
    flags = [f"--{name}={value}" for name, value in given.items()]
    process = start("web", "--device=cpu", *flags, cwd=tmp_path, environment=SURROUNDINGS)
    try:
        wait_until(lambda: process.stdout.read_text().count("\n") == 2, 60)
        assert process.stdout.read_text().splitlines() == [
            f"the page is at http://127.0.0.1:{options.port}/ (Ctrl-C ends it)",
            f"to stop a job: pnpvideo web --folder {options.folder} --stop JOB",
        ]
        page = open_page(browser, f"http://127.0.0.1:{options.port}/")
        ask(page, picture, 2)
        says(page, "done: 1 frame of ")
        first = download(page, 0)
        ask(page, picture, 50)
        says(page, " left")
        page.evaluate("window.loadedBefore = true")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    states = [job.state for job in JobStore(tmp_path / "served" / "jobs").all()]
    assert states == ["done", "running"]
    with serving(options) as server:
        wait_until(lambda: server.runner.is_idle, 60)
        # The page finds the new server by itself, and loads once more.
        page.wait_for_function("!window.loadedBefore")
        says(page, "done: 1 frame of ")
        assert page.locator("#history button.thumbnail-item").count() == 2
        shown = page.locator("#files a").first.get_attribute("href")
        page.locator("#history button.thumbnail-item").nth(1).click()
        script = "shown => document.querySelector('#files a')?.getAttribute('href') != shown"
        page.wait_for_function(script, arg=shown)
        assert download(page, 0) == first
        page.context.close()


@in_a_browser
def test_only_those_with_a_name_and_a_password_are_let_in(
    browser: Any, tiny_model: Path, picture: Path, tmp_path: Path
) -> None:
    (tmp_path / "users.txt").write_text("ann:a b\nbob:x\n")
    options = options_of(tiny_model, tmp_path / "served", login=str(tmp_path / "users.txt"))
    with serving(options) as server:

        def enter(name: str, password: str, page: Any = None) -> Any:
            page = page or open_page(browser, server.url)
            page.fill("input[autocomplete='username'], input[type=text]", name)
            page.fill("input[type=password]", password)
            page.click("button")
            return page

        ann = enter("ann", "x")
        ann.wait_for_selector("text=Incorrect")
        assert not ann.locator("#translate").count()
        with pytest.raises(urllib.error.HTTPError) as refused:
            post_file(server.url, "x.png", b"no picture")
        assert refused.value.code == 401

        enter("ann", "a b", ann)
        ask(ann, picture, 2)
        says(ann, "done: 1 frame of ")
        result = next((tmp_path / "served" / "jobs").glob("*/source0-translated.png"))
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{server.url}gradio_api/file={result}")
        assert refused.value.code == 401
        again, bob = enter("ann", "a b"), enter("bob", "x")
        says(again, "done: 1 frame of ")
        says(bob, "Give a picture or a clip")
        assert not bob.locator("#history button.thumbnail-item").count()
        for one in (ann, again, bob):
            one.context.close()


def test_uploads_and_runs_are_deleted_after_a_time(
    tiny_model: Path, picture: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "served"
    store = JobStore(folder / "jobs")
    store.update(store.add("translate", ME, "m", picture, {}), state="done")
    left, others = folder / "uploads" / ("0" * 64), folder / "uploads" / "mine"
    for place in (left, others):
        place.mkdir(parents=True)
        (place / "x.png").write_bytes(b"")
    hours = 1 / 3600
    with serving(options_of(tiny_model, folder, keep_hours=hours)) as server:
        kept = store.add("translate", ME, "m", picture, {})
        assert not left.exists()
        assert (others / "x.png").exists()
        post_file(server.url, "x.png", b"no picture")
        uploads = list((folder / "uploads").glob("*/x.png"))
        assert len(uploads) == 2
        wait_until(lambda: JobStore(folder / "jobs").all() == [kept], 10)
        wait_until(lambda: [path for path in uploads if path.exists()] == [others / "x.png"], 10)
