"""Serve the page."""

import contextlib
import logging
import mimetypes
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import fastapi
import gradio as gr
from gradio.routes import App

from pnpvideo.clips.sample_folder import PROJECT_SAMPLES
from pnpvideo.errors import InputError
from pnpvideo.files.read_text import read_text
from pnpvideo.options.paths import expanded
from pnpvideo.options.web import WebOptions
from pnpvideo.web.actions import Service
from pnpvideo.web.addresses import Hosts, Proxies
from pnpvideo.web.doors import Doors, Rules
from pnpvideo.web.environment import own_environment
from pnpvideo.web.events import Events
from pnpvideo.web.housekeeping import SWEEP_SECONDS, kept_tidy, used_alone
from pnpvideo.web.jobs import JobStore
from pnpvideo.web.limits import Limits
from pnpvideo.web.listen import listening
from pnpvideo.web.logins import read_logins
from pnpvideo.web.models import Models
from pnpvideo.web.pace import Paces
from pnpvideo.web.page import Heading, lay_out
from pnpvideo.web.runner import Runner
from pnpvideo.web.samples import examples_of, find_samples
from pnpvideo.web.source_events import Session
from pnpvideo.web.style import FOLLOW, PLACE_DRAWINGS, REFUSE, STYLE, theme
from pnpvideo.web.uploads import LEADS_AWAY, Uploads, delete_uploads
from pnpvideo.web.visitors import Visitors
from pnpvideo.web.word_events import WordEvents
from pnpvideo.web.words import WordHelp

_log = logging.getLogger(__name__)

_MIB = 2**20

_EVENTS = 500
"""The most events of all visitors that may wait; more are refused."""

# A machine's own table may lack them, or say something else.
_TYPES = {
    ".gif": "image/gif",
    ".jpg": "image/jpeg",
    ".js": "text/javascript",
    ".css": "text/css",
    ".m4v": "video/mp4",
    ".mkv": "video/x-matroska",
    ".mov": "video/quicktime",
    ".mp4": "video/mp4",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webm": "video/webm",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server. url: the page's address. runner: what runs its jobs."""

    url: str
    runner: Runner


@contextlib.contextmanager
def serving(options: WebOptions, say: Callable[[str], None] = _log.debug) -> Iterator[Server]:
    """Serve the page within this context. InputError, before that, for what cannot be used.

    say: is called when a job begins and ends.
    """
    logins = None if options.login is None else read_logins(options.login)
    hosts = Hosts(options.host, options.allowed_host, options.root_path)
    proxies = Proxies(options.trusted_proxy)
    heading = _heading(options)
    samples_folder = Path(options.samples) if options.samples else PROJECT_SAMPLES
    if options.samples and not samples_folder.is_dir():
        raise InputError(
            f"samples is {options.samples}, which is not a folder; give one, or leave it out"
        )
    folder = expanded(options.folder).resolve()
    with contextlib.ExitStack() as open_things:
        open_things.enter_context(used_alone(folder))
        open_things.enter_context(own_environment(proxies=True))
        (folder / "uploads").mkdir(exist_ok=True)
        os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")
        delete_uploads(folder / "uploads")
        models = Models(options.model, options.device, options.controlnet)
        store = JobStore(folder / "jobs")
        store.delete_half_made()
        paces = Paces()
        limits = _limits(options)
        runner = Runner(store, models, limits, seconds=options.max_seconds, say=say, paces=paces)
        open_things.callback(runner.close)
        samples = find_samples(samples_folder)
        service = Service(
            store=store,
            runner=runner,
            models=models,
            limits=limits,
            samples=samples,
            words=WordHelp(models.known_words(), examples_of(samples)),
            paces=paces,
            previews=folder / "uploads",
        )
        seconds = options.keep_hours * 3600
        page = make_page(service, folder, seconds, heading)
        app, inner = _application(page, options, store, logins)
        rules = Rules(
            hosts=hosts,
            proxies=proxies,
            root_path=options.root_path,
            knows=None if logins is None else lambda cookies: _has_logged_in(inner, cookies),
            upload=options.max_upload * _MIB,
        )
        uploads = Uploads(
            app, folder / "uploads", options.max_upload * _MIB, page.upload_file_set.update
        )
        stop = lambda name: runner.stop(name, " by who runs the server")  # noqa: E731
        open_things.enter_context(kept_tidy(store, seconds, stop))
        open_things.callback(page.close, verbose=False)
        url = open_things.enter_context(
            listening(Doors(uploads, rules), options.host, options.port, inner.stop_event.set)
        )
        yield Server(url=url, runner=runner)


def _heading(options: WebOptions) -> Heading:
    """Return the title of the page and the text of its `about` file."""
    about = ""
    if options.about is not None:
        about = read_text(expanded(options.about), "the text about the page")
    return Heading(title=options.title, about=about)


def _limits(options: WebOptions) -> Limits:
    return Limits(
        pixels=options.max_pixels,
        frames=options.max_frames,
        waiting=options.max_waiting,
        prompts=options.max_prompts,
        prompt_length=options.max_prompt_length,
    )


def make_page(service: Service, folder: Path, keep_seconds: float, heading: Heading) -> gr.Blocks:
    """Return the page, which deletes old uploads."""
    age = max(1, round(keep_seconds))  # For Gradio, 0 means never.
    often = min(SWEEP_SECONDS, age)
    page = gr.Blocks(title=heading.title, analytics_enabled=False, delete_cache=(often, age))
    with page:
        parts = lay_out(service, heading)
        session = Session()
        Events(service, parts, session, Visitors(folder)).connect(page)
        WordEvents(service, parts, session).connect(page)
    return page.queue(max_size=_EVENTS)


def _application(
    page: gr.Blocks, options: WebOptions, store: JobStore, logins: Mapping[str, str] | None
) -> tuple[fastapi.FastAPI, App]:
    """Return an application that serves the page, and Gradio's own within it."""
    for suffix, kind in _TYPES.items():
        mimetypes.add_type(kind, suffix)
    app = gr.mount_gradio_app(
        fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page,
        path="/",
        auth=None if logins is None else list(logins.items()),
        root_path=options.root_path,
        allowed_paths=[str(store.folder)],
        show_error=False,
        max_file_size=options.max_upload * _MIB,
        theme=theme(),
        css=STYLE,
        head=REFUSE % {"limit": options.max_upload, "leads_away": LEADS_AWAY}
        + PLACE_DRAWINGS
        + FOLLOW,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
    )
    (inner,) = (route.app for route in app.routes if isinstance(getattr(route, "app", None), App))
    return app, inner


def _has_logged_in(app: App, cookies: Mapping[str, str]) -> bool:
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return any(cookies.get(name) in app.tokens for name in names)
