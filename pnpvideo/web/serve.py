"""Serve the page."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

from pnpvideo.errors import InputError
from pnpvideo.files.file_lock import take_lock
from pnpvideo.options.web import WebOptions
from pnpvideo.web.actions import Service
from pnpvideo.web.events import Events
from pnpvideo.web.jobs import SWEEP_SECONDS, JobStore, Visitors, swept
from pnpvideo.web.limits import Limits
from pnpvideo.web.models import Models
from pnpvideo.web.page import lay_out
from pnpvideo.web.runner import Runner
from pnpvideo.web.samples import PROJECT_SAMPLES, find_samples
from pnpvideo.web.style import REFUSE, STYLE, theme
from pnpvideo.web.uploads import LEADS_AWAY, PlainNames, delete_uploads

_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server. url: the page's address. runner: what runs its jobs."""

    url: str
    runner: Runner


@contextlib.contextmanager
def serving(options: WebOptions) -> Iterator[Server]:
    """Serve the page within this context. InputError, before that, for what cannot be used."""
    logins = _logins(options.login)
    samples_folder = Path(options.samples) if options.samples else PROJECT_SAMPLES
    if options.samples and not samples_folder.is_dir():
        raise InputError(
            f"samples is {options.samples}, which is not a folder; give one, or leave it out"
        )
    folder = Path(options.folder).expanduser().resolve()
    with _taken(folder):
        os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")
        delete_uploads(folder / "uploads")
        models = Models(options.model, options.device, options.controlnet)
        store = JobStore(folder / "jobs")
        seconds = options.keep_hours * 3600
        limits = Limits(
            pixels=options.max_pixels, frames=options.max_frames, waiting=options.max_waiting
        )
        service = Service(
            store=store,
            runner=Runner(store, models),
            models=models,
            limits=limits,
            samples=find_samples(samples_folder),
        )
        page = make_page(service, folder, seconds)
        try:
            with swept(store, seconds):
                yield Server(url=_launch(page, options, store, logins), runner=service.runner)
        finally:
            page.close(verbose=False)
            service.runner.close()


def make_page(service: Service, folder: Path, keep_seconds: float) -> gr.Blocks:
    """Return the page, which deletes old uploads."""
    age = max(1, round(keep_seconds))  # For Gradio, 0 means never.
    often = min(SWEEP_SECONDS, age)
    page = gr.Blocks(title="pnpvideo", analytics_enabled=False, delete_cache=(often, age))
    with page:
        Events(service, lay_out(service), Visitors(folder)).connect(page)
    return page


def _launch(
    page: gr.Blocks, options: WebOptions, store: JobStore, logins: list[tuple[str, str]]
) -> str:
    try:
        _, url, _ = page.launch(
            server_name=options.host,
            server_port=options.port,
            auth=logins or None,
            allowed_paths=[str(store.folder)],
            max_file_size=options.max_upload * _MIB,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            theme=theme(),
            css=STYLE,
            head=REFUSE % {"limit": options.max_upload, "leads_away": LEADS_AWAY},
            app_kwargs={"middleware": [Middleware(PlainNames)]},
            footer_links=[],
            ssr_mode=False,
            enable_monitoring=False,
        )
    except OSError:
        raise InputError(
            f"port {options.port} of {options.host} is taken, or not available; give another --port"
        ) from None
    return str(url)


@contextlib.contextmanager
def _taken(folder: Path) -> Iterator[None]:
    """Lock a folder within this context. InputError if another server uses it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+")
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be used: {error.strerror}") from None
    with lock:
        if not take_lock(lock):
            raise InputError(f"another server uses the folder {folder}; give another one")
        yield


def _logins(path: str | None) -> list[tuple[str, str]]:
    if path is None:
        return []
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the login file {path} cannot be read: {error}") from None
    pairs = [line.partition(":") for line in text.splitlines() if line.strip()]
    if not pairs or not all(name and password for name, _, password in pairs):
        raise InputError(f"the login file {path} needs lines of NAME:PASSWORD")
    return [(name, password) for name, _, password in pairs]
