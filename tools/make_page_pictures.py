"""Take the pictures of the page for docs/web.md: at rest, done, and in a narrow window.

python -m tools.make_page_pictures
"""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Page, ViewportSize, sync_playwright

from pnpvideo.options.web import WebOptions
from pnpvideo.web.serve import serving

PORT = 7869
SAMPLE = 4  # The one that is translated: a picture, the teapot.
QUALITY = 80
WIDE, NARROW = ViewportSize(width=1400, height=900), ViewportSize(width=420, height=1280)
MINUTES = 20 * 60_000


def make_pictures(docs: Path) -> None:
    """Serve the page of the bundled model, translate a sample, and take all pictures."""
    with (
        TemporaryDirectory() as folder,
        serving(WebOptions(folder=folder, port=PORT)) as server,
        sync_playwright() as playwright,
    ):
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        # Without motion, the picture at rest shows a half of the source and a half of the result.
        page = browser.new_page(viewport=WIDE, reduced_motion="reduce")
        page.goto(server.url)
        page.wait_for_selector("#samples img")
        page.wait_for_timeout(3000)
        take(page, docs / "page-rest.jpg")
        page.locator("#samples button.thumbnail-item").nth(SAMPLE).click()
        page.wait_for_selector("#first img")
        page.click("#translate")
        page.wait_for_selector("#slider img", timeout=MINUTES)
        page.wait_for_timeout(2000)
        take(page, docs / "page-done.jpg")
        page.set_viewport_size(NARROW)
        page.wait_for_timeout(2000)
        take(page, docs / "page-narrow.jpg")
        browser.close()


def take(page: Page, picture: Path) -> None:
    """Take a picture of what the window shows, from the top of the page."""
    page.mouse.move(0, 0)  # What is pointed at looks different.
    page.evaluate("window.scrollTo(0, 0)")
    page.screenshot(path=picture, type="jpeg", quality=QUALITY)


if __name__ == "__main__":
    make_pictures(Path("docs"))
