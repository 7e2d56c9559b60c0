"""The web page, driven in a browser where there is one, and what stands behind it."""

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import smooth_frames
from command import Cli, pixels, save_frames
from PIL import Image

from pnpvideo import read_clip, write_clip
from pnpvideo.errors import InputError
from pnpvideo.options.method import PnPOptions
from pnpvideo.options.settings import Settings
from pnpvideo.options.web import WebOptions
from pnpvideo.sampling.schedule import Level, ddim_step

pytest.importorskip("gradio")

from pnpvideo.web.controls import Controls, offered
from pnpvideo.web.drawn_mask import editor_of, mask_of
from pnpvideo.web.jobs import JobStore
from pnpvideo.web.models import Models
from pnpvideo.web.preview import predicted_clean
from pnpvideo.web.runner import Runner
from pnpvideo.web.serve import Server, serving
from pnpvideo.web.thresholds import CELLS

PORT = 7931
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("web")


@pytest.fixture(scope="module")
def server(folder: Path, tiny_model: Path) -> Iterator[Server]:
    samples = folder / "samples"
    save_frames(samples, 1)
    (samples / "one.yaml").write_text("source: source0.png\nprompt: [a stone]\nsteps: 3\n")
    options = WebOptions(
        model=str(tiny_model),
        folder=str(folder / "served"),
        samples=str(samples),
        port=PORT,
        max_upload=1,
        max_frames=4,
        max_pixels=10_000,
        device="cpu",
    )
    with serving(options) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(server: Server, browser: Any) -> Iterator[Callable[[], Any]]:
    """Opens the page as a visitor of its own."""
    contexts = []

    def visit() -> Any:
        contexts.append(browser.new_context(viewport={"width": 1300, "height": 900}))
        page = contexts[-1].new_page()
        page.set_default_timeout(30_000)
        page.goto(server.url)
        page.wait_for_selector("#translate")
        return page

    yield visit
    for context in contexts:
        context.close()
    wait_until(lambda: server.runner.is_idle, 10)


def wait_until(happened: Callable[[], bool], seconds: float) -> float:
    began = time.monotonic()
    while not happened():
        assert time.monotonic() - began < seconds
        time.sleep(0.05)
    return time.monotonic() - began


def ask(page: Any, source: Path, steps: int) -> None:
    upload(page, source)
    page.wait_for_function("document.querySelector('#facts').innerText.includes('frame')")
    page.fill("#prompt textarea", "a stone")
    if not page.is_visible("#option-steps"):
        page.click("#more button")
    page.fill("#option-steps input[type=number]", str(steps))
    page.keyboard.press("Tab")
    page.click("#translate")


def upload(page: Any, source: Path) -> None:
    if page.locator("#upload button[aria-label='Clear']").count():
        page.click("#upload button[aria-label='Clear']")
    page.set_input_files("#upload input[type=file]", source)


def says(page: Any, text: str, where: str = "#state") -> None:
    script = "([w, t]) => document.querySelector(`${w} .html-container`)?.innerText.includes(t)"
    page.wait_for_function(script, arg=[where, text])


@in_a_browser
def test_run_stop_and_download(
    visit: Callable[[], Any], server: Server, cli: Cli, picture: Path, tmp_path: Path
) -> None:
    page = visit()
    ask(page, picture, 60)
    says(page, " left")
    page.wait_for_selector("#preview img")
    page.click("#stop")
    assert wait_until(lambda: server.runner.is_idle, 5) < 5
    says(page, "stopped")

    ask(page, picture, 4)
    says(page, "done: 1 frame of ")
    page.wait_for_selector("#slider img")
    downloaded = []
    for number in range(2):
        with page.expect_download() as download:
            page.locator("#files a").nth(number).click()
        downloaded.append(download.value.path().read_bytes())
    (tmp_path / "again.yaml").write_bytes(downloaded[1])
    assert b"served" not in downloaded[1]
    assert cli("--config", "again.yaml", "-o", "mine.png")[0] == 0
    assert (tmp_path / "mine.png").read_bytes() == downloaded[0]

    page.reload()
    says(page, "done: 1 frame of ")
    assert page.locator("#history button.thumbnail-item").count() == 2
    page.fill("#prompt textarea", "")
    page.click("#again")
    page.wait_for_function("document.querySelector('#prompt textarea').value == 'a stone'")
    page.click("#more button")
    assert page.input_value("#option-steps input[type=number]") == "4"
    for width in (1300, 390):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@in_a_browser
def test_two_visitors_and_the_thresholds(
    visit: Callable[[], Any], folder: Path, tmp_path: Path
) -> None:
    clip = write_clip([smooth_frames(4, 48, 32)], tmp_path / "a.mp4")
    first, second = visit(), visit()
    ask(first, clip, 900)
    says(first, "%")
    second.click("#samples button.thumbnail-item")
    says(second, "source0.png: 1 frame of 48 x 32", "#facts")
    assert second.input_value("#prompt textarea") == "a stone"
    second.click("#thresholds")
    says(second, "number 2 in line")
    first.click("#stop")
    says(second, "click one to choose")
    settings = sorted((folder / "served" / "jobs").glob("*/settings.yaml"))[-1].read_text()
    assert "steps: 3" in settings
    second.locator("#cells button.thumbnail-item").nth(len(CELLS) - 2).click()
    for name, value in zip(("tau_f", "tau_a"), CELLS[-2], strict=True):
        script = "([n, v]) => document.querySelector(`#option-${n} input`).value == v"
        second.wait_for_function(script, arg=[name, str(value)])
    assert first.locator("#history button.thumbnail-item").count() == 1

    ask(first, clip, 2)
    says(first, "done: 4 frames")
    first.wait_for_function("document.querySelector('#video video')?.videoWidth > 32")


@in_a_browser
def test_what_is_refused_on_the_page(visit: Callable[[], Any], tmp_path: Path) -> None:
    page = visit()
    page.click("#translate")
    says(page, "give a picture or a clip first")
    (tmp_path / "text.mp4").write_text("no video at all")
    Image.new("RGB", (200, 100)).save(tmp_path / "wide.png")
    write_clip([smooth_frames(6, 32, 32)], tmp_path / "long.mp4")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, message in {
        "text.mp4": "text.mp4",
        "wide.png": "wide.png has 200 x 100 pixels, and the limit here is 10000",
        "long.mp4": "long.mp4 has more than 4 frames",
        "empty.png": "empty.png is empty",
    }.items():
        upload(page, tmp_path / name)
        says(page, message, "#facts")
        assert "/" not in page.inner_text("#facts .html-container")
    (tmp_path / "large.mp4").write_bytes(bytes(2**20 + 1))
    upload(page, tmp_path / "large.mp4")
    assert "large.mp4 has 1.0 MiB, and the limit here is 1" in page.inner_text("#too-large")


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "{folder}/served/seal", "{folder}/served/jobs/../seal", "../../etc/passwd"],
)
def test_nothing_else_is_served(server: Server, folder: Path, path: str) -> None:
    for route in ("gradio_api/file=", "file=", "gradio_api/file%3D"):
        url = f"{server.url}{route}{path.format(folder=folder).replace('..', '%2e%2e')}"
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(url)
        assert refused.value.code in (403, 404)


def test_a_name_that_leads_elsewhere_stays_here(server: Server, folder: Path) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="../../../x.png"\r\n'
        b"Content-Type: image/png\r\n\r\nno picture\r\n--x--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    request = urllib.request.Request(f"{server.url}gradio_api/upload", body, headers)
    (path,) = json.load(urllib.request.urlopen(request))
    assert Path(path).resolve().is_relative_to(folder / "served" / "uploads")


# What stands behind it


@pytest.fixture(scope="module")
def models(tiny_model: Path) -> Models:
    return Models([str(tiny_model)], "cpu")


def test_a_new_server_goes_on_with_what_is_left(
    models: Models, picture: Path, tmp_path: Path, cli: Cli
) -> None:
    store = JobStore(tmp_path / "jobs")
    (model,) = models.names
    ready = {"prompt": ["a stone"], "steps": 2, "seed": 4}
    left = store.add("translate", "me", model, picture, ready)
    store.update(left, state="running")
    store.add("translate", "me", model, picture, ready | {"size": "33x32"})
    over = store.update(store.add("translate", "other", model, picture, ready), state="done")
    runner = Runner(store, models)
    wait_until(lambda: runner.is_idle, 30)
    runner.close()
    failed, done = store.of("me")
    assert (done.name, done.state, failed.state) == (left.name, "done", "failed")
    assert "33x32" in failed.message
    assert str(tmp_path) not in failed.message
    assert cli("source0.png", "--prompt", "a stone", "--steps", "2", "--seed", "4")[0] == 0
    name = "source0-translated.png"
    assert (done.folder / name).read_bytes() == (tmp_path / name).read_bytes()
    assert not (done.folder / "work").exists()
    assert store.get(over.name, "me") is None
    store.sweep(3600)
    assert len(store.all()) == 3
    store.sweep(0)
    assert store.all() == []


def test_a_drawn_mask_is_the_command_lines(
    models: Models, picture: Path, tmp_path: Path, cli: Cli
) -> None:
    layer = np.zeros((32, 48, 4), np.uint8)
    layer[8:24, 8:30] = 200
    drawn = mask_of({"layers": [layer, np.zeros_like(layer)]})
    assert drawn is not None
    np.testing.assert_array_equal(drawn == 255, layer[..., 3] > 0)
    editor = editor_of(pixels(picture), drawn)
    np.testing.assert_array_equal(mask_of(editor), drawn)
    assert mask_of(editor_of(pixels(picture), None)) is None
    assert mask_of(None) is None

    clip = write_clip([smooth_frames(3, 48, 32)], tmp_path / "a.mp4")
    store = JobStore(tmp_path / "jobs")
    values = {"prompt": ["a stone"], "steps": 2, "original_size": True}
    store.add("translate", "me", models.names[0], picture, values, drawn)
    store.add("mask", "me", models.names[0], clip, values | {"mask_motion": True}, drawn)
    runner = Runner(store, models)
    wait_until(lambda: runner.is_idle, 30)
    runner.close()
    moved, done = store.of("me")
    assert (moved.state, done.state) == ("done", "done"), (moved.message, done.message)
    shown = read_clip(moved.folder / "view-1.mp4")
    first = shown.read(0, 1)[0].astype(int)
    redder = (first - smooth_frames(1, 48, 32)[0])[..., 0]
    assert len(shown) == 3
    assert redder[drawn > 0].mean() > redder[drawn == 0].mean() + 20
    shown.close()
    mask = str(done.folder / "mask.png")
    given = ("source0.png", "--prompt", "a stone", "--steps", "2", "--original-size")
    assert cli(*given, "--mask", mask)[0] == 0
    name = "source0-translated.png"
    assert (done.folder / name).read_bytes() == (tmp_path / name).read_bytes()
    assert done.results[-1] == "mask.png"
    outside = pixels(done.folder / name)[drawn == 0]
    # The mask was brought to the working size and back.
    np.testing.assert_allclose(outside.astype(int), pixels(picture)[drawn == 0], atol=1)


def test_previews_are_the_prediction() -> None:
    start, end = (Level(signal_square=s, noise_square=1 - s) for s in (0.3, 0.7))
    clean, noise = torch.randn(2, 3, 4, 4).double().unbind()
    before = start.signal * clean + start.noise * noise
    after = ddim_step(before, noise, start, end, "epsilon")
    torch.testing.assert_close(predicted_clean(before, after, start, end), clean)
    last = Level(signal_square=1.0, noise_square=0.0)
    torch.testing.assert_close(predicted_clean(before, after, end, last), after)


def test_controls_come_from_the_declarations() -> None:
    controls, own = Controls(PnPOptions()), PnPOptions()
    names = [name for group in offered().values() for name in group]
    assert {"steps", "size", "background", "quality", "keyframes"} <= set(names)
    assert not {"source", "output", "job", "lora", "model_config", "device"} & set(names)
    for name in names:
        controls.add(name)
    shown = controls.shown({}, own)
    assert controls.given(shown, own) == {}
    given: dict[str, object] = {"size": "64x32", "tau_f": 0.25, "steps": 7, "noise_motion": True}
    assert controls.given(controls.shown(given, own), own) == given
    Settings.of(controls.given(controls.shown(given, own), own) | {"source": "a", "prompt": "b"})
    without = dict(zip(names, shown, strict=True)) | {"steps": None}
    with pytest.raises(InputError, match="steps is empty; give a whole number from 1 to 999"):
        controls.given(list(without.values()), own)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"login": "nobody.txt"}, "the login file nobody.txt cannot be read"),
        ({"login": "wrong.txt"}, "needs lines of NAME:PASSWORD"),
        ({"samples": "nowhere"}, "samples is nowhere, which is no folder"),
        ({"model": "nowhere/at/all"}, "nowhere/at/all"),
    ],
)
def test_a_server_that_cannot_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.txt").write_text("me\n")
    with pytest.raises(InputError, match=message), serving(WebOptions.of(options)):
        pass


def test_one_server_a_folder(server: Server, folder: Path, tiny_model: Path) -> None:
    options = WebOptions(model=str(tiny_model), folder=str(folder / "served"), port=PORT + 1)
    with pytest.raises(InputError, match="another server uses the folder"), serving(options):
        pass
