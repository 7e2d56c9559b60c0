"""The web page, driven in a browser where there is one, and what stands behind it."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import describe, make_video, smooth_frames
from command import Cli, names, pixels, save_frames
from diffusers import UNet2DConditionModel
from models import model_with_words, random_controlnet
from page import (
    adjust,
    ask,
    choose,
    download,
    draw,
    drawing,
    free_port,
    in_a_browser,
    open_page,
    post_file,
    says,
    upload,
    wait_until,
)
from PIL import Image
from torch import Tensor

from pnpvideo import PnPVideoPipeline, read_clip, write_clip
from pnpvideo.clips.video import list_frames
from pnpvideo.errors import InputError
from pnpvideo.options.method import PnPOptions
from pnpvideo.options.settings import Settings
from pnpvideo.options.web import WebOptions
from pnpvideo.run.run import run
from pnpvideo.stages.latents import decode

pytest.importorskip("gradio")

from pnpvideo.web.actions import Service
from pnpvideo.web.controls import Controls, offered
from pnpvideo.web.drawn_mask import editor_of, mask_of
from pnpvideo.web.jobs import JobStore, Visitor
from pnpvideo.web.limits import Limits
from pnpvideo.web.models import Models
from pnpvideo.web.runner import Runner
from pnpvideo.web.serve import Server, serving
from pnpvideo.web.thresholds import CELLS
from pnpvideo.web.watch import Watch

# The contrast of an element's text with what lies behind it (WCAG 2.2, 1.4.3).
CONTRAST = """element => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const behind = (one) => {
    const colour = numbers(getComputedStyle(one).backgroundColor);
    return colour.length == 4 && colour[3] < 1 ? behind(one.parentElement) : colour;
  };
  const light = (colour) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, index) => {
    const part = colour[index] / 255;
    return sum + weight * (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  }, 0);
  const two = [light(numbers(getComputedStyle(element).color)), light(behind(element))];
  return (Math.max(...two) + 0.05) / (Math.min(...two) + 0.05);
}"""

ME, OTHER = Visitor(key="me", place="here"), Visitor(key="other", place="there")
LIMITS = Limits(pixels=10_000, frames=4, waiting=1, prompts=16, prompt_length=2000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("web")


@pytest.fixture(scope="module")
def server(folder: Path, tiny_model: Path) -> Iterator[Server]:
    samples = folder / "samples"
    save_frames(samples, 1)
    (samples / "one.yaml").write_text("source: source0.png\nprompt: [a stone]\nsteps: 3\n")
    (samples / "cards").mkdir()
    Image.new("RGB", (96, 32)).save(samples / "cards" / "source0.webp")
    (folder / "about.md").write_text("Ask **Ada** <script>alert(1)</script>")
    options = WebOptions(
        model=str(model_with_words(tiny_model, folder / "tiny")),
        title="Stones & co",
        about=str(folder / "about.md"),
        folder=str(folder / "served"),
        samples=str(samples),
        port=free_port(),
        max_upload=1,
        max_frames=4,
        max_pixels=10_000,
        device="cpu",
    )
    with serving(options) as server:
        yield server


@pytest.fixture
def visit(server: Server, browser: Any) -> Iterator[Callable[[], Any]]:
    """Opens the page as a visitor of its own."""
    contexts = []

    def visit() -> Any:
        page = open_page(browser, server.url)
        page.wait_for_selector("#translate")
        contexts.append(page.context)
        return page

    yield visit
    for context in contexts:
        context.close()
    wait_until(lambda: server.runner.is_idle, 10)


@in_a_browser
def test_run_stop_and_download(
    visit: Callable[[], Any], server: Server, cli: Cli, picture: Path, tmp_path: Path
) -> None:
    page = visit()
    ask(page, picture, 60)
    says(page, " left")
    page.wait_for_selector("#preview img")
    assert not page.is_visible("#again")
    page.click("#stop")
    assert wait_until(lambda: server.runner.is_idle, 5) < 5
    says(page, "stopped")

    ask(page, picture, 4)
    says(page, "done: 1 frame of ")
    page.wait_for_selector("#slider img")
    downloaded = [download(page, number) for number in range(2)]
    (tmp_path / "again.yaml").write_bytes(downloaded[1])
    assert b"served" not in downloaded[1]
    assert cli("--config", "again.yaml", "-o", "mine.png")[0] == 0
    assert (tmp_path / "mine.png").read_bytes() == downloaded[0]

    page.reload()
    says(page, "done: 1 frame of ")
    says(page, "source0.png: 1 frame of 48 x 32", "#facts")
    assert page.locator("#history button.thumbnail-item").count() == 2
    page.fill("#prompt textarea", "")
    page.click("#translate")
    says(page, "write a text into “What the result should show”", "#refusal")
    page.click("#again")
    page.wait_for_function("document.querySelector('#prompt textarea').value == 'a stone'")
    page.wait_for_function("!document.querySelector('#refusal .state')")
    adjust(page)
    page.click("#more button")
    assert page.input_value("#option-steps input[type=number]") == "4"
    for width in (1300, 390):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    says(page, "done: 1 frame of ")


@in_a_browser
def test_the_first_ten_seconds(server: Server, browser: Any, folder: Path) -> None:
    """The page shows what it must at rest, for a sample, for unknown words and for a clip."""
    clip = make_video(folder / "old.avi", "-c:v", "mpeg4", frames=3, size="48x32")
    for scheme, width in (("light", 1400), ("light", 900), ("dark", 420)):
        page = open_page(browser, server.url, width=width, scheme=scheme)
        page.wait_for_selector("#samples.cards img")
        assert page.title() == page.inner_text("#title h1") == "Stones & co"
        assert page.inner_text("#about").strip() == "Ask Ada"
        assert page.locator("#hero img").count() == 2
        assert page.inner_text("#hero label").strip() == "Example"
        moves = "one => getComputedStyle(one).animationName"
        assert page.locator("#hero img").nth(1).evaluate(moves) == "wipe"
        for number, side in enumerate(("Source", "Result")):
            label = "one => getComputedStyle(one, '::after').content"
            assert page.locator("#hero .gallery-item").nth(number).evaluate(label) == f'"{side}"'
        for part in _parts_of_the_result(page):
            assert 0.2 < part < 0.8
        assert not page.is_visible("#preset")
        top = {
            name: page.locator(f"#{name}").bounding_box()["y"]
            for name in ("upload", "prompt", "translate", "state", "adjust", "samples")
        }
        in_order = [name for name, _ in sorted(top.items(), key=lambda one: one[1])]
        if width == 420:
            assert in_order == ["upload", "samples", "prompt", "translate", "state", "adjust"]
        else:
            assert top["state"] < top["translate"]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.click("#samples button.thumbnail-item")
        says(page, "source0.png: ", "#facts")
        page.wait_for_selector("#chips", state="detached")
        assert page.input_value("#prompt textarea") == "a stone"
        if width == 420:
            button, state = (page.locator(name).bounding_box() for name in ("#translate", "#state"))
            assert state["y"] - button["y"] - button["height"] < 40
        page.fill("#prompt textarea", "a zebra and a co")
        says(page, "does not know “zebra” (try “horse”), “co”", "#hint")
        texts = ("#samples .caption-label", "#hint .state", "#title p", "#chips button")
        for selector in (*texts, "#prompt .info-text"):
            assert page.locator(selector).first.evaluate(CONTRAST) > 4.5, (scheme, selector)
        if width != 420:
            page.context.close()

    page.locator("#chips").get_by_text("cobblestone").click()
    page.wait_for_function(
        "document.querySelector('#prompt textarea').value == 'a zebra and a cobblestone '"
    )
    page.click("#words button")
    page.locator("#known button.thumbnail-item").nth(1).click()
    page.wait_for_function(
        "document.querySelector('#prompt textarea').value == 'a zebra and a cobblestone horse'"
    )
    upload(page, clip)
    page.wait_for_function("document.querySelector('#clip video')?.readyState >= 2")
    page.wait_for_selector("#translate:has-text('Translate (about ')")
    best = page.inner_text("#translate")
    adjust(page)
    assert re.search(r"Draft, about \d+ (s|min)", page.inner_text("#preset"))
    page.locator("#preset").get_by_text("Draft").click()
    page.wait_for_function(f"document.querySelector('#translate').innerText != '{best}'")
    label = page.inner_text("#option-tau_f")
    assert "Keep shapes" in label
    assert "tau_f" in label
    page.locator("#negative").get_by_role("textbox").fill("blue")
    choose(page, "guidance_scale", "1")
    choose(page, "steps", "2")
    page.click("#translate")
    says(page, "done: 3 frames of ")
    notices = page.locator("#state .notices li").all_inner_texts()
    assert "“What it should not show” has no effect at “Follow the text” 1" in notices[0]
    assert "does not know “zebra”" in notices[1]
    assert not page.is_visible("#hero")
    assert page.locator("#files a").first.evaluate(CONTRAST) > 4.5
    fit = "one => getComputedStyle(one).objectFit"
    assert page.locator("#history img").first.evaluate(fit) == "contain"
    page.context.close()


def _parts_of_the_result(page: Any) -> list[float]:
    """The parts of the example that the result takes, at several times of its turn."""
    return (
        page.locator("#hero img")
        .nth(1)
        .evaluate("""one => {  // type: ignore[no-any-return]
      const [wipe] = one.getAnimations();
      wipe.pause();
      const parts = [0, 0.2, 0.4, 0.6, 0.8, 0.99].map((part) => {
        wipe.currentTime = 6000 * part;
        const left = getComputedStyle(one).clipPath.match(/([\\d.]+)%/);
        return 1 - left[1] / 100;
      });
      wipe.play();
      return parts;
    }""")
    )


_SHOWN = """(cells) => cells.map((cell) => {
  const box = cell.getBoundingClientRect(), outer = cell.closest(".block").getBoundingClientRect();
  const [stem, ext] = [".stem", ".ext"].map((one) => cell.querySelector(one));
  const end = ext.getBoundingClientRect();
  return {
    name: cell.textContent.trim(),
    // It may have an ellipsis, before the suffix.
    beginning: stem.getBoundingClientRect().width > 24,
    suffix: end.right <= box.right + 1 && end.left >= box.left - 1,
    // No space before the suffix, unless it is on a line of its own.
    joined: end.left - [...stem.getClientRects()].at(-1).right < 1,
    whole: getComputedStyle(stem).display === "inline" || stem.scrollWidth <= stem.clientWidth + 1,
    inside: box.right <= outer.right && box.left >= outer.left && box.bottom <= outer.bottom,
  };
})"""


@in_a_browser
def test_names_of_files_can_be_read_at_any_width(
    visit: Callable[[], Any], picture: Path, tmp_path: Path
) -> None:
    page = visit()
    source = tmp_path / "my_drawing_of_an_apple_in_the_evening_sun.png"
    picture.rename(source)
    ask(page, source, 2)
    says(page, "done: 1 frame of ")
    for width in (1300, 900, 420, 340):
        page.set_viewport_size({"width": width, "height": 900})
        (given,) = page.eval_on_selector_all("#upload .filename", _SHOWN)
        made = page.eval_on_selector_all("#files .filename", _SHOWN)
        assert [one["name"].replace(" ", "") for one in made] == [
            f"{source.stem}-translated.png{end}" for end in ("", ".yaml")
        ]
        for one in (given, *made):
            assert (one["beginning"], one["suffix"], one["inside"]) == (True,) * 3, (width, one)
        assert all(one["whole"] and one["joined"] for one in made), (width, made)
        assert_label_above(page, "#slider", "img")


def assert_label_above(page: Any, part: str, picture: str) -> None:
    label, shown = (
        page.locator(f"{part} {one}").first.bounding_box() for one in ("label", picture)
    )
    assert label["y"] + label["height"] <= shown["y"]


@in_a_browser
def test_a_mask_is_drawn_and_moves(
    visit: Callable[[], Any], folder: Path, picture: Path, tmp_path: Path
) -> None:
    page = visit()
    page.set_viewport_size({"width": 800, "height": 600})
    write_clip([smooth_frames(3, 48, 32)], tmp_path / "a.mp4")
    upload(page, tmp_path / "a.mp4")
    says(page, "a.mp4: 3 frames", "#facts")
    page.click("#part button")
    page.wait_for_selector("#move:has-text('Show how the mask moves')")
    page.click("#move")
    says(page, "draw on the first frame over what should be edited", "#refusal")
    draw(page, [(0.3, 0.5), (0.6, 0.5)])
    page.click("#move")
    says(page, "red is what will be edited")
    page.wait_for_function("document.querySelector('#video video')?.videoWidth == 96")
    assert_label_above(page, "#video", "video")
    drawn = pixels(sorted((folder / "served" / "jobs").glob("*/mask.png"))[-1])
    assert drawn[16, 16:28].min() == 255
    assert 0.03 < (drawn == 255).mean() < 0.3
    page.locator("#option-mask_from_prompt textarea, #option-mask_from_prompt input").fill("zebra")
    says(page, "does not know “zebra” (try “horse”)", "#part-hint")
    page.click("#translate")
    says(page, "painted and named; give one of them: clear the mask", "#refusal")
    page.click("#clear-within")  # What is painted, and then what is named.
    wait_until(lambda: not drawing(page).any(), 10)
    says(page, "does not know “zebra”", "#part-hint")
    page.click("#move")
    says(page, "this shows a painted part", "#refusal")
    page.click("#clear-within")
    page.wait_for_function("!document.querySelector('#part-hint .state')")

    ask(page, picture, 2)
    says(page, "done: 1 frame of ")
    assert page.locator("#files a").count() == 2
    choose(page, "size", "48x32")
    draw(page, [(0.4, 0.3), (0.4, 0.7)])
    page.click("#translate-below")
    page.wait_for_function("document.querySelectorAll('#files a').length == 3")
    (tmp_path / "result.png").write_bytes(download(page, 0))
    (tmp_path / "mask.png").write_bytes(download(page, 2))
    mask, result = pixels(tmp_path / "mask.png"), pixels(tmp_path / "result.png")
    assert mask[12:20, 19].min() == 255
    outside = mask == 0
    assert 0.7 < outside.mean() < 0.97
    changes = np.abs(result.astype(int) - pixels(picture))
    assert changes[outside].max() == 0
    assert changes[~outside].max() > 20

    said = "getComputedStyle(document.querySelector('#part .label-wrap span'), '::after').content"
    assert page.evaluate(said) == "none"
    assert page.inner_text("#move") == "Show what will be edited"
    page.click("#part button")
    page.wait_for_selector("#clear-mask")
    page.reload()
    page.wait_for_selector("#clear-mask")
    assert page.evaluate(said) == '": mask set"'
    unmasked = "localStorage['pnpvideo-unmasked']"
    before = page.evaluate(unmasked)
    jobs = folder / "served" / "jobs"
    runs = len(list(jobs.iterdir()))
    at_once = "['#clear-mask', '#translate'].map((one) => document.querySelector(one).click())"
    page.evaluate(at_once)  # With the mask, such a run would be of what was just cleared.
    page.wait_for_selector("#clear-mask", state="detached")
    page.wait_for_selector("#translate:enabled")
    assert len(list(jobs.iterdir())) == runs
    page.wait_for_function(f"before => {unmasked} != before", arg=before)
    page.reload()
    page.wait_for_selector("#upload .file")
    page.wait_for_timeout(300)
    assert not page.is_visible("#clear-mask")
    page.click("#translate")
    page.wait_for_function("document.querySelectorAll('#files a').length == 2")


_RED_IS_SEEN = """() => {
  const [bar, all] = ['#slider .inner', '#slider'].map((one) => document.querySelector(one));
  const [inner, outer] = [bar, all].map((one) => one?.getBoundingClientRect());
  return inner?.height && inner.left > (outer.left + outer.right) / 2 + 50;
}"""
"""The bar between the picture with the red and the other one is not in the middle."""


@in_a_browser
def test_a_mask_is_where_it_was_drawn(
    visit: Callable[[], Any], folder: Path, tmp_path: Path
) -> None:
    """After a reload, and when the editor is open already, for pictures of any size."""
    page = visit()
    page.fill("#prompt textarea", "a stone")
    # Gradio's canvas has 800 x 800 pixels at first.
    for number, (width, height) in enumerate(((1000, 10), (60, 100), (96, 72)), 1):
        picture = tmp_path / f"{width}.png"
        Image.new("RGB", (width, height), (width % 256, 90, 90)).save(picture)
        upload(page, picture)
        says(page, f"{picture.name}: ", "#facts")
        draw(page, [(0.1, 0.2), (0.4, 0.6)])
        page.click("#move")
        runs = "document.querySelectorAll('#history img').length"
        page.wait_for_function(f"{runs} == {number}")
        says(page, "red is what will be edited")
        page.wait_for_function(_RED_IS_SEEN)
    masks = [
        pixels(file)[..., 0] > 127
        for file in sorted((folder / "served" / "jobs").glob("*/mask.png"))
    ]
    page.reload()
    page.wait_for_selector("#clear-mask")
    page.click("#part button")
    page.wait_for_selector("#editor canvas")
    for number, mask in enumerate(reversed(masks[-3:])):
        if number:
            shown = page.locator("#slider img").first.evaluate("one => one.src")
            page.locator("#history button.thumbnail-item").nth(number).click()
            other = "before => document.querySelector('#slider img')?.src != before"
            page.wait_for_function(other, arg=shown)
            page.click("#again")
        same = lambda: np.array_equal(drawing(page), mask)  # noqa: B023, E731
        wait_until(same, 30)
    page.reload()  # The run whose settings were used, not the newest.
    says(page, "1000.png: ", "#facts")


@in_a_browser
def test_a_reload_loses_nothing_unasked(visit: Callable[[], Any], picture: Path) -> None:
    page = visit()
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.fill("#prompt textarea", "a horse")
    choose(page, "steps", "37")
    page.wait_for_function("Object.values(sessionStorage).join().includes(',37,')")
    page.reload()
    page.wait_for_function("document.querySelector('#prompt textarea')?.value == 'a horse'")
    adjust(page)
    page.click("#more button")
    assert page.input_value("#option-steps input[type=number]") == "37"
    assert not asked
    # A source that no run has used is there again, and one that was taken away is not.
    for click, shown in (
        ("#samples button.thumbnail-item", "#upload .file"),
        ("#upload button[aria-label='Clear']", "#upload:not(:has(.file))"),
    ):
        page.click(click)
        page.wait_for_selector(shown)
        page.wait_for_timeout(500)
        facts = page.inner_text("#facts")
        page.reload()
        page.wait_for_selector(shown)
        says(page, facts, "#facts")
    assert "pick a sample" in facts
    upload(page, picture)
    says(page, "source0.png: ", "#facts")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    draw(page, [(0.3, 0.5), (0.6, 0.5)])
    page.wait_for_timeout(500)
    sent.clear()
    draw(page, [(0.3, 0.6), (0.6, 0.6)])
    page.wait_for_timeout(500)
    assert not sent  # A drawing is sent when it is used, not after each stroke.
    page.reload()
    page.wait_for_function("document.querySelector('#prompt textarea')?.value == 'a stone'")
    assert asked == ["beforeunload"]
    upload(page, picture)
    says(page, "source0.png: ", "#facts")
    page.click("#translate")
    says(page, "done: 1 frame of ")
    page.reload()
    page.wait_for_selector("#upload .file")
    assert asked == ["beforeunload"]


@in_a_browser
def test_the_model_makes_the_source(
    visit: Callable[[], Any], cli: Cli, picture: Path, tmp_path: Path
) -> None:
    page = visit()
    upload(page, picture)
    says(page, "source0.png: ", "#facts")
    adjust(page)
    page.locator("#made").get_by_role("textbox").fill("a cat")
    page.wait_for_selector("#first", state="detached")
    page.fill("#prompt textarea", "a stone")
    choose(page, "steps", "3", "input[type=number]")
    page.click("#translate")
    says(page, "done: 1 frame of 32 x 32")
    page.wait_for_selector("#slider img")
    (tmp_path / "again.yaml").write_bytes(download(page, 1))
    assert cli("--config", "again.yaml", "-o", "mine.png")[0] == 0
    assert (tmp_path / "mine.png").read_bytes() == download(page, 0)
    (tmp_path / "source.png").write_bytes(download(page, 2))
    assert pixels(tmp_path / "source.png").shape == (32, 32, 3)
    page.click("#samples button.thumbnail-item")
    says(page, "source0.png: ", "#facts")
    assert page.locator("#made").get_by_role("textbox").input_value() == ""
    page.click("#again")
    says(page, "or pick a sample", "#facts")
    assert page.locator("#made").get_by_role("textbox").input_value() == "a cat"


@in_a_browser
def test_two_visitors_and_the_thresholds(
    visit: Callable[[], Any], folder: Path, cli: Cli, tmp_path: Path
) -> None:
    clip = make_video(tmp_path / "a.mp4", frames=4, size="48x32", sound=True)
    first, second = visit(), visit()
    ask(first, clip, 900)
    says(first, "%")
    second.click("#samples button.thumbnail-item")
    says(second, "source0.png: 1 frame of 48 x 32", "#facts")
    assert second.input_value("#prompt textarea") == "a stone"
    adjust(second)
    second.click("#thresholds")
    says(second, "number 2 in line")
    first.click("#stop")
    says(second, "click one to use")
    settings = sorted((folder / "served" / "jobs").glob("*/settings.yaml"))[-1].read_text()
    assert "steps: 3" in settings
    second.locator("#cells button.thumbnail-item").nth(len(CELLS) - 2).click()
    for name, value in zip(("tau_f", "tau_a"), CELLS[-2], strict=True):
        script = "([n, v]) => document.querySelector(`#option-${n} input`).value == v"
        second.wait_for_function(script, arg=[name, str(value)])
    said = "“Keep shapes” is 0.8 now, and “Keep outlines” 0.5. Translate to see"
    says(second, said, "#refusal")
    captions = second.locator("#cells .caption-label").all_inner_texts()
    assert captions[-2:] == ["Yours: shapes 0.8, outlines 0.5", "shapes 0.8, outlines 0.8"]
    assert first.locator("#history button.thumbnail-item").count() == 1

    ask(first, clip, 2)
    says(first, "done: 4 frames")
    first.wait_for_function("document.querySelector('#video video')?.videoWidth > 32")
    (tmp_path / "again.yaml").write_bytes(download(first, 1))
    assert cli("--config", "again.yaml", "-o", "mine.mp4")[0] == 0
    assert (tmp_path / "mine.mp4").read_bytes() == download(first, 0)
    assert "Audio: aac" in describe(tmp_path / "mine.mp4")


@in_a_browser
def test_fields_that_nobody_has_opened_are_empty(
    visit: Callable[[], Any], folder: Path, picture: Path
) -> None:
    page = visit()
    page.wait_for_selector("#hero")
    page.wait_for_selector("#chips")
    upload(page, picture)
    says(page, "source0.png: ", "#facts")
    for example in ("#hero", "#chips"):
        page.wait_for_selector(example, state="detached")
    page.click("#upload button[aria-label='Clear']")
    for example in ("#hero", "#chips"):
        page.wait_for_selector(example)
    says(page, "Give a picture or a clip")
    upload(page, picture)
    says(page, "The source is ready")
    page.click("#translate")
    says(page, "write a text into “What the result should show”", "#refusal")
    page.fill("#prompt textarea", "a stone")
    page.wait_for_function("!document.querySelector('#refusal .state')")
    page.click("#translate")
    says(page, "done: 1 frame of ")
    written = max((folder / "served" / "jobs").glob("*/*.yaml"), key=lambda f: f.stat().st_mtime)
    assert "negative_prompt: []" in written.read_text()

    page.wait_for_timeout(500)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(1200)
    assert not asked  # Nothing is to come, and each question would send the drawing again.


@in_a_browser
def test_what_is_refused_on_the_page(visit: Callable[[], Any], tmp_path: Path) -> None:
    page = visit()
    page.click("#translate")
    says(page, "give a picture or a clip first", "#refusal")
    (tmp_path / "text.mp4").write_text("no video at all")
    Image.new("RGB", (200, 100)).save(tmp_path / "wide.png")
    write_clip([smooth_frames(6, 32, 32)], tmp_path / "long.mp4")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, message in {
        "text.mp4": "text.mp4",
        "wide.png": "wide.png has 200x100 pixels, and the limit is 10000",
        "long.mp4": "long.mp4 has more than 4 frames",
        "empty.png": "empty.png is empty",
    }.items():
        upload(page, tmp_path / name)
        says(page, message, "#facts")
        assert "/" not in page.inner_text("#facts .html-container")
    (tmp_path / "large.mp4").write_bytes(bytes(2**20 + 1))
    upload(page, tmp_path / "large.mp4")
    assert "large.mp4 has 1.0 MiB, and the limit here is 1" in page.inner_text("#refused")
    upload(page, {"name": "../../x.png", "mimeType": "image/png", "buffer": b"no picture"})
    said = "../../x.png leads to another folder; give the file under a plain name"
    assert page.inner_text("#refused") == said


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


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("../../x.png", 400, "../../x.png leads to another folder; give the file under a plain"),
        ("/etc/x.png", 400, "/etc/x.png leads to another folder"),
        (r"..\x.png", 400, r"..\x.png leads to another folder"),
        ("..", 400, ".. leads to another folder"),
        ("large.png", 413, "maximum allowed size"),
    ],
)
def test_uploads_that_no_page_sends(
    server: Server, folder: Path, name: str, code: int, words: str
) -> None:
    before = names(folder)
    with pytest.raises(urllib.error.HTTPError) as refused:
        post_file(server.url, name, bytes(2**20 + 1 if code == 413 else 9))
    assert refused.value.code == code
    assert words in refused.value.read().decode()
    assert names(folder) == before


def test_a_plain_name_stays(server: Server, folder: Path) -> None:
    (path,) = json.loads(post_file(server.url, "x y.png", b"no picture"))
    assert Path(path).resolve().is_relative_to(folder / "served" / "uploads")
    assert Path(path).name == "x y.png"
    assert Path(path).read_bytes() == b"no picture"


# What stands behind it


@pytest.fixture(scope="module")
def models(tiny_model: Path) -> Models:
    return Models([str(tiny_model)], "cpu")


def test_a_new_server_goes_on_with_what_is_left(
    models: Models, picture: Path, tmp_path: Path, cli: Cli
) -> None:
    store = JobStore(tmp_path / "jobs")
    (model,) = models.names
    texts = {"prompt": ["a stone"], "negative_prompt": ["blue"]}
    ready = {**texts, "steps": 2, "seed": 4, "guidance_scale": 1}
    left = store.add("translate", ME, model, picture, ready)
    store.update(left, state="running")
    store.add("translate", ME, model, picture, ready | {"size": "33x32"})
    over = store.update(store.add("translate", OTHER, model, picture, ready), state="done")
    runner = Runner(store, models, LIMITS)
    wait_until(lambda: runner.is_idle, 30)
    runner.close()
    failed, done = store.of(ME)
    assert (done.name, done.state, failed.state) == (left.name, "done", "failed")
    assert "33x32" in failed.message
    assert str(tmp_path) not in failed.message
    assert "negative_prompt has no effect at guidance_scale 1" in done.notices[0]
    given = ("source0.png", "--prompt", "a stone", "--steps", "2", "--seed", "4")
    assert cli(*given, "--guidance-scale", "1")[0] == 0
    name = "source0-translated.png"
    assert (done.folder / name).read_bytes() == (tmp_path / name).read_bytes()
    assert not (done.folder / "work").exists()
    assert store.get(over.name, ME) is None
    store.sweep(3600)
    assert len(store.all()) == 3
    store.sweep(0)
    assert store.all() == []


def test_a_drawn_mask_is_the_command_lines(
    models: Models, picture: Path, tmp_path: Path, cli: Cli
) -> None:
    layer = np.zeros((32, 48, 4), np.uint8)
    layer[8:24, 8:30] = 200
    drawn = mask_of({"layers": [layer, np.zeros_like(layer)]}, 10_000)
    assert drawn is not None
    np.testing.assert_array_equal(drawn == 255, layer[..., 3] > 0)
    editor = editor_of(pixels(picture), drawn)
    np.testing.assert_array_equal(mask_of(editor, 10_000), drawn)
    assert mask_of(editor_of(pixels(picture), None), 10_000) is None
    assert mask_of(None, 1) is None

    clip = write_clip([smooth_frames(3, 48, 32)], tmp_path / "a.mp4")
    store = JobStore(tmp_path / "jobs")
    values = {"prompt": ["a stone"], "steps": 2, "original_size": True}
    store.add("translate", ME, models.names[0], picture, values, drawn)
    store.add("mask", ME, models.names[0], clip, values | {"mask_motion": True}, drawn)
    runner = Runner(store, models, LIMITS)
    wait_until(lambda: runner.is_idle, 30)
    runner.close()
    moved, done = store.of(ME)
    assert (moved.state, done.state) == ("done", "done"), (moved.message, done.message)
    shown = read_clip(moved.folder / "view-1.mp4")
    first, white = np.split(shown.read(0, 1)[0].astype(int), 2, axis=1)
    redder = (first - smooth_frames(1, 48, 32)[0])[..., 0]
    assert len(shown) == 3
    assert white[drawn > 0].mean() > 200
    assert white[drawn == 0].mean() < 50
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


def test_visitors_choose_what_a_controlnet_follows(
    tiny_model: Path, picture: Path, tmp_path: Path, cli: Cli
) -> None:
    unet = UNet2DConditionModel.from_pretrained(tiny_model, subfolder="unet")
    random_controlnet(unet, (4, 8, 8)).save_pretrained(tmp_path / "lines")
    models = Models([str(tiny_model)], "cpu", str(tmp_path / "lines"))
    assert models.controlnet == "lines"
    store = JobStore(tmp_path / "jobs")
    values: dict[str, object] = {"prompt": ["a stone"], "steps": 2}
    store.add("translate", ME, models.names[0], picture, values)
    store.add("translate", ME, models.names[0], picture, values | {"control": "canny"})
    runner = Runner(store, models, LIMITS)
    wait_until(lambda: runner.is_idle, 60)
    runner.close()
    free, followed = sorted(store.of(ME), key=lambda job: "control" in job.values)
    assert (free.state, followed.state) == ("done", "done"), (free.message, followed.message)
    name = "source0-translated.png"
    assert "controlnet: lines" in (followed.folder / f"{name}.yaml").read_text()
    assert "controlnet" not in (free.folder / f"{name}.yaml").read_text()
    for done, more in ((free, ()), (followed, ("--controlnet", "lines", "--control", "canny"))):
        given = ("source0.png", "--prompt", "a stone", "--steps", "2", *more, "--overwrite")
        assert cli(*given)[0] == 0
        assert (done.folder / name).read_bytes() == (tmp_path / name).read_bytes()
    own = {"control", "control_scale", "control_end"}
    assert own <= offered(controlled=True)["Method"].keys()
    assert not own & offered()["Method"].keys()
    Controls(PnPOptions(), controlled=True).add("control")


def test_a_drawing_everywhere_is_refused(models: Models, picture: Path, tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs")
    runner = Runner(store, models, LIMITS)
    service = Service(store=store, runner=runner, models=models, limits=LIMITS, samples=[])
    given = picture, {"prompt": ["a stone"]}, np.full((32, 48), 255, np.uint8)
    with pytest.raises(InputError, match="all of the first frame is drawn on; draw only over what"):
        service.submit("translate", ME, models.names[0], *given)
    assert store.all() == []
    runner.close()


def test_thresholds_of_a_source_that_the_model_makes(models: Models, tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs")
    values = {"prompt": ["a stone"], "guidance_prompt": "a cat", "steps": 8}
    store.add("thresholds", ME, models.names[0], None, values)
    runner = Runner(store, models, LIMITS)
    wait_until(lambda: runner.is_idle, 30)
    runner.close()
    (done,) = store.all()
    assert (done.state, len(done.results)) == ("done", len(CELLS)), done.message
    cells = [pixels(done.folder / name) for name in done.results]
    assert np.any(cells[0] != cells[-1])


def test_previews_show_what_a_step_expects(models: Models, picture: Path, tmp_path: Path) -> None:
    """With noise of a step's own too, of which nothing is seen."""
    model = models.load(models.names[0])
    values = {"prompt": ["a stone"], "steps": 4, "seed": 3, "source": str(picture)}
    found: dict[float, list[Tensor]] = {0.0: [], 1.0: []}
    for eta, predicted in found.items():
        run(
            Settings.of(values | {"eta": eta, "output": str(tmp_path / f"{eta}.png")}),
            model,
            quiet=True,
            on_prediction=lambda _, clean, predicted=predicted: predicted.append(clean.clone()),
        )
    # Up to the noise of the first step both are the same; from then on, what is expected.
    assert torch.equal(found[0.0][0], found[1.0][0])
    watch = Watch(tmp_path / "preview.jpg")
    watch.expect(model, [])
    watch.on_prediction(0, found[1.0][0])
    assert not (tmp_path / "preview.jpg").exists()
    watch.on_prediction(1, found[1.0][1])
    expected = Watch(tmp_path / "expected.jpg")
    expected.show(next(decode(model, found[1.0][1][0], 1)))
    shown = (tmp_path / "preview.jpg").read_bytes()
    assert shown == (tmp_path / "expected.jpg").read_bytes()


def test_a_source_says_how_large_its_result_is(models: Models, tmp_path: Path) -> None:
    def text(width: int, height: int, models: Models = models) -> str:
        picture = tmp_path / "a.png"
        Image.new("RGB", (width, height)).save(picture)
        runner = Runner(store, models, LIMITS)
        service = Service(store=store, runner=runner, models=models, limits=LIMITS, samples=[])
        runner.close()
        return service.look_at(picture, {}).text

    store = JobStore(tmp_path / "jobs")
    tiny = str(models.settings(models.names[0])["model"])
    draw = PnPVideoPipeline.from_pretrained(tiny)
    drawn = draw("a stone", Image.new("RGB", (96, 72)), num_inference_steps=1, inversion_steps=1)
    width, height = drawn.frames[0][0].size
    said = f"the model draws it at {width} x {height}"
    assert text(96, 72) == f"a.png: 1 frame of 96 x 72; {said}"
    assert text(32, 32) == "a.png: 1 frame of 32 x 32"
    assert models.working_size(10**6, 1) is None  # It is refused when it is drawn.
    both = Models([tiny, "embedded"], "cpu")
    assert text(96, 72, both) == "a.png: 1 frame of 96 x 72"


def test_a_run_decodes_the_source_twice_to_list_its_frames(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an upload, and as the copy that the job keeps."""
    listed: list[Path] = []
    listing = list_frames._Listing

    def counted(path: Path, *others: object) -> object:
        listed.append(path)
        return listing(path, *others)

    monkeypatch.setattr(list_frames, "_Listing", counted)
    clip = make_video(tmp_path / "clip.mp4", "-c:v", "libx264", frames=3, size="48x32")
    store = JobStore(tmp_path / "jobs")
    runner = Runner(store, models, LIMITS)
    service = Service(store=store, runner=runner, models=models, limits=LIMITS, samples=[])
    service.look_at(clip, {})
    given = clip, {"prompt": ["a stone"], "steps": 2}
    job = service.submit("translate", ME, models.names[0], *given)
    wait_until(lambda: runner.is_idle, 60)
    runner.close()
    (done,) = store.all()
    assert done.state == "done", done.message
    assert [path for path in listed if path.name == "clip.mp4" and path.parent != job.folder] == [
        clip,
        job.folder / "source" / "clip.mp4",
    ]


def test_controls_come_from_the_declarations() -> None:
    controls, own = Controls(PnPOptions()), PnPOptions()
    options = [name for group in offered().values() for name in group]
    assert {"steps", "size", "background", "quality", "keyframes"} <= set(options)
    own_limits = {"reader", "max_pixels", "max_frames"}
    assert not {"source", "output", "job", "lora", "model_config", "device"} & set(options)
    assert not own_limits & set(options)
    for name in options:
        controls.add(name)
    shown = controls.shown({}, own)
    assert controls.given(shown, own) == {}
    given: dict[str, object] = {"size": "64x32", "tau_f": 0.25, "steps": 7, "noise_motion": True}
    assert controls.given(controls.shown(given, own), own) == given
    Settings.of(controls.given(controls.shown(given, own), own) | {"source": "a", "prompt": "b"})
    without = dict(zip(options, shown, strict=True)) | {"steps": None}
    with pytest.raises(InputError, match="steps is empty; give a whole number from 1 to 999"):
        controls.given(list(without.values()), own)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"login": "nobody.txt"}, "the login file nobody.txt cannot be read"),
        ({"login": "wrong.txt"}, "needs lines of NAME:PASSWORD"),
        ({"samples": "nowhere"}, "samples is nowhere, which is not a folder"),
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
    options = WebOptions(model=str(tiny_model), folder=str(folder / "served"), port=free_port())
    with pytest.raises(InputError, match="another server uses the folder"), serving(options):
        pass
