"""Show jobs in the components of the page."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import gradio as gr
from tqdm import tqdm

from pnpvideo.errors import InputError, RunError
from pnpvideo.stages.callbacks import shown_stage
from pnpvideo.web.actions import Service
from pnpvideo.web.controls import Controls, in_page_words, label_of
from pnpvideo.web.jobs import Visitor, WebJob
from pnpvideo.web.limits import Limits
from pnpvideo.web.runner import PREVIEW, Runner, disk_error, job_cells
from pnpvideo.web.view import THUMBNAIL

_LISTED = 60
"""The most runs in a visitor's history, so that it costs the same after any number."""

_log = logging.getLogger(__name__)

CELLS_LABEL = "Click one to use its values"
_FOUND = "The part found by its name, in white; for a clip, some frames with the mask in red"

Updates = dict[gr.components.Component, object]

IDLE = (
    '<div class="state idle">Give a picture or a clip, or pick a sample; say what the result '
    "should show, and click Translate.</div>"
)
READY = (
    '<div class="state idle">The source is ready; say what the result should show, and click '
    "Translate.</div>"
)


@dataclass(frozen=True, kw_only=True)
class PageParts:
    """The components that events read and write."""

    upload: gr.File
    first: gr.Image
    clip: gr.Video
    facts: gr.HTML
    hero: gr.Gallery
    samples: gr.Gallery
    made: gr.Textbox
    part: gr.Accordion
    editor: gr.ImageEditor
    part_hint: gr.HTML
    clear_mask: gr.Button
    clear_within: gr.Button
    move: gr.Button
    prompt: gr.Textbox
    chips: gr.Dataset
    hint: gr.HTML
    negative: gr.Textbox
    preset: gr.Radio
    model: gr.Dropdown
    controls: Controls
    translate: gr.Button
    translate_below: gr.Button
    refusal: gr.HTML
    thresholds: gr.Button
    state: gr.HTML
    stop: gr.Button
    preview: gr.Image
    cells: gr.Gallery
    which: gr.Radio
    slider: gr.ImageSlider
    video: gr.Video
    files: gr.File
    history: gr.Gallery
    again: gr.Button
    word_part: gr.Textbox
    word_kind: gr.Radio
    known: gr.Gallery


def chosen(facts: str | None, limits: Limits) -> str:
    """Return a source's description; without a source, what can be one."""
    return escape(
        facts or f"Give a picture or a clip of up to {limits.frames} frames, or pick a sample."
    )


def state_box(job: WebJob, runner: Runner, notices: Sequence[str] = ()) -> str:
    """Return how far a job is, as HTML. notices: what else there is to say about it."""
    progress, place = runner.progress(job.name), runner.place(job.name)
    if progress is not None and not job.is_over:
        left = ""
        if progress.remaining is not None:
            left = f", {tqdm.format_interval(progress.remaining)} left"
        said = f"{shown_stage(progress.stage)}, {progress.share:.0%}{left}"
        return _box("running", said, job=job, share=progress.share)
    if place is not None:
        before = "next in line" if place == 0 else f"number {place + 1} in line"
        said = f"{before}: the server makes one run at a time"
        return _box("waiting", said, job=job, share=0.0)
    words = {"done": "done", "failed": "failed", "stopped": "stopped"}
    said = words.get(job.state, "starting")
    message = "" if job.message == said else f": {in_page_words(job.message)}"
    notices = [in_page_words(notice) for notice in notices]
    return _box(job.state, f"{said}{message}", job=job, notices=notices)


def note(text: str) -> str:
    """Return what a visitor is to know, as HTML."""
    return _box("note", text)


def refused(text: str) -> str:
    """Return why something is refused, as HTML."""
    return _box("failed", text)


def said(error: Exception) -> str:
    """Return what a visitor is shown of an error; an unexpected one is logged."""
    if isinstance(error, InputError | RunError):
        return in_page_words(str(error))
    _log.error("an unexpected error", exc_info=error)
    if isinstance(error, OSError):
        return f"the server cannot do this: {disk_error(error)}"
    return "an unexpected error; the cause is in the log of this server"


def caption(job: WebJob, models: Sequence[str]) -> str:
    """Return the line below a picture in the history. models: all that there are."""
    state = "" if job.state == "done" else f"{job.state.capitalize()}: "
    chosen = [*([job.model] if len(models) > 1 else []), *_choices(job)]
    return " · ".join([f"{state}{_title(job)}", *([", ".join(chosen)] if chosen else [])])


def _choices(job: WebJob) -> list[str]:
    """Return what tells a run from others with the same text: the options that were chosen."""
    try:
        values = job.values
    except InputError:
        return []
    left_out = ("source", "prompt", "mask_motion")
    shown = {"mask": "painted part"} if "mask" in values else {}
    for name, value in values.items():
        if name not in (*left_out, "mask") and value not in ([], None):
            shown[name] = label_of(name) if value is True else f"{label_of(name)}: {_short(value)}"
    return list(shown.values())


def _short(value: object) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def prompts_of(job: WebJob) -> list[str]:
    """Return the prompts of a job, one for each result. Empty if its files are gone."""
    try:
        prompt = job.values.get("prompt", [])
    except InputError:
        return []
    return [prompt] if isinstance(prompt, str) else [str(text) for text in prompt]  # type: ignore[attr-defined]


def _title(job: WebJob) -> str:
    if job.kind == "mask":
        return "how the mask moves" if _moves(job) else "what will be edited"
    kind = "" if job.kind == "translate" else "shapes and outlines: "
    return kind + "; ".join(prompts_of(job))


def _moves(job: WebJob) -> bool:
    try:
        return bool(job.values.get("mask_motion"))
    except InputError:
        return False


def _box(
    state: str,
    text: str,
    *,
    job: WebJob | None = None,
    share: float | None = None,
    notices: Sequence[str] = (),
) -> str:
    of = "" if job is None else f'<div class="of">{escape(_title(job))}</div>'
    bar = "" if share is None else f'<div class="bar"><div style="width:{share:.1%}"></div></div>'
    said = "".join(f"<li>{escape(notice)}</li>" for notice in notices)
    listed = f'<ul class="notices">{said}</ul>' if said else ""
    return f'<div class="state {state}" role="status">{escape(text)}{of}{bar}{listed}</div>'


def nothing() -> Updates:
    """Leave the page as it is."""
    skipped: Updates = gr.skip()
    return skipped


class Show:
    """The display of jobs in a page's components. outputs: all components that it updates."""

    def __init__(self, service: Service, parts: PageParts) -> None:
        self._service, self._parts = service, parts
        self.outputs = [
            parts.state, parts.stop, parts.preview, parts.cells, parts.which, parts.slider,
            parts.video, parts.files, parts.history, parts.again, parts.hero,
        ]  # fmt: skip

    def state(self, job: WebJob) -> Updates:
        """Return the updates that show how far a job is."""
        unknown = None
        if job.kind != "mask":
            unknown = self._service.words.notice(job.model, prompts_of(job))
        notices = (*job.notices, *([unknown] if unknown else []))
        return {
            self._parts.state: state_box(job, self._service.runner, notices),
            self._parts.stop: gr.update(visible=not job.is_over),
        }

    def job(self, job: WebJob) -> Updates:
        """Return the updates that show everything else of a job."""
        parts, preview = self._parts, job.folder / PREVIEW
        running = job.state == "running" and job.kind == "translate" and preview.exists()
        cells = self._cells(job)
        results = [job.folder / name for name in job.results]
        wanted = [str(path) for path in results if job.kind == "translate"]
        count = len({path.name.split("-")[1].split(".")[0] for path in job.files("view-*.*")})
        shown: Updates = {
            parts.preview: gr.update(value=str(preview) if running else None, visible=running),
            parts.cells: gr.update(
                value=cells,
                visible=bool(cells),
                label=_FOUND if job.kind == "translate" else CELLS_LABEL,
            ),
            parts.hero: gr.update(visible=False),
            parts.which: gr.update(
                choices=[(text, n) for n, text in enumerate(prompts_of(job), 1)],
                value=1,
                visible=count > 1,
            ),
            parts.files: gr.update(value=wanted or None, visible=bool(wanted)),
            parts.again: gr.update(visible=job.is_over),
        }
        return shown | self.result(job, 1)

    def _cells(self, job: WebJob) -> list[tuple[str, str]]:
        """Return the pictures of a sheet that are there, each with its thresholds; or the mask that
        words found.
        """
        if (name := job.values.get("mask_from_prompt")) and job.kind == "translate":
            return [(str(path), f"“{name}”") for path in job.files("*-mask.png")]
        if not (paths := job.files("cell-*.png")):
            return []
        cells, present = job_cells(job, self._service.models, self._service.limits)
        return [
            (
                str(path),
                f"{'Yours: ' if cell == present else ''}shapes {cell[0]:g}, outlines {cell[1]:g}",
            )
            for path, cell in zip(paths, cells, strict=False)
        ]

    def result(self, job: WebJob, number: int) -> Updates:
        """Return the updates that show one of several results beside its source."""
        pictures = [str(path) for path in job.files(f"view-{number}-*.png")]
        video = next((str(path) for path in job.files(f"view-{number}.mp4")), None)
        if job.state != "done":
            pictures, video = [], None
        label = "The mask, in red and as it is" if job.kind == "mask" else "Source and result"
        return {
            self._parts.slider: gr.update(
                value=tuple(pictures) if pictures else None,
                visible=bool(pictures),
                label=label,
                slider_position=100 if job.kind == "mask" else 50,
            ),
            self._parts.video: gr.update(value=video, visible=video is not None, label=label),
        }

    def listed(self, visitor: Visitor) -> list[WebJob]:
        """Return the runs in a visitor's history, the newest first."""
        jobs = self._service.store.of(visitor, _LISTED)
        return [job for job in jobs if (job.folder / THUMBNAIL).exists()]

    def history(self, visitor: Visitor) -> Updates:
        """Return the updates that show the latest runs of a visitor, the newest first."""
        names = self._service.models.names
        items = [(str(job.folder / THUMBNAIL), caption(job, names)) for job in self.listed(visitor)]
        return {self._parts.history: gr.update(value=items, visible=bool(items))}
