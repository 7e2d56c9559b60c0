"""The components of the page, and what they show of a job."""

from dataclasses import dataclass
from html import escape

import gradio as gr
from tqdm import tqdm

from pnpvideo.web.actions import Service
from pnpvideo.web.controls import Controls
from pnpvideo.web.jobs import Job
from pnpvideo.web.limits import Limits
from pnpvideo.web.runner import PREVIEW, Runner
from pnpvideo.web.thresholds import CELLS

Updates = dict[gr.components.Component, object]

IDLE = (
    '<div class="state idle">Give a picture or a clip, say what it is to show, and translate.</div>'
)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The components that events read and write."""

    upload: gr.File
    first: gr.Image
    facts: gr.HTML
    samples: gr.Gallery
    made: gr.Textbox
    editor: gr.ImageEditor
    move: gr.Button
    prompt: gr.Textbox
    negative: gr.Textbox
    preset: gr.Radio
    model: gr.Dropdown
    controls: Controls
    translate: gr.Button
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


def chosen(facts: str | None, limits: Limits) -> str:
    """What a source is; where there is none, what may be one."""
    return escape(facts or f"A picture or a clip of up to {limits.frames} frames, or one of these:")


def tell(job: Job | None, runner: Runner) -> str:
    if job is None:
        return IDLE
    progress, place = runner.progress(job.name), runner.place(job.name)
    if progress is not None and not job.is_over:
        left = ""
        if progress.remaining is not None:
            left = f", {tqdm.format_interval(progress.remaining)} left"
        said = f"{progress.stage}, {progress.share:.0%}{left}"
        return _box("running", said, job=job, share=progress.share)
    if place is not None:
        before = "next in line" if place == 0 else f"number {place + 1} in line"
        said = f"{before}: runs are done one after the other"
        return _box("waiting", said, job=job, share=0.0)
    words = {"done": "done", "failed": "this could not be done", "stopped": "stopped"}
    said = words.get(job.state, "in a moment")
    message = "" if job.message == said else f": {job.message}"
    return _box(job.state, f"{said}{message}", job=job)


def refused(error: Exception) -> str:
    return _box("failed", str(error))


def caption(job: Job) -> str:
    """A line below a picture in the history."""
    state = "" if job.state == "done" else f" ({job.state})"
    return f"{_title(job)}{state}"


def prompts_of(job: Job) -> list[str]:
    prompt = job.values.get("prompt", [])
    return [prompt] if isinstance(prompt, str) else [str(text) for text in prompt]  # type: ignore[attr-defined]


def _title(job: Job) -> str:
    if job.kind == "mask":
        return "how the mask moves"
    kind = "" if job.kind == "translate" else f"{job.kind}: "
    return kind + "; ".join(prompts_of(job))


def _box(state: str, text: str, *, job: Job | None = None, share: float | None = None) -> str:
    of = "" if job is None else f'<div class="of">{escape(_title(job))}</div>'
    bar = "" if share is None else f'<div class="bar"><div style="width:{share:.1%}"></div></div>'
    return f'<div class="state {state}" role="status">{escape(text)}{of}{bar}</div>'


class Show:
    """outputs: all components that it updates."""

    def __init__(self, service: Service, parts: Parts) -> None:
        self._service, self._parts = service, parts
        self.outputs = [
            parts.state, parts.stop, parts.preview, parts.cells, parts.which, parts.slider,
            parts.video, parts.files, parts.history, parts.again,
        ]  # fmt: skip

    def state(self, job: Job) -> Updates:
        """How far it is."""
        return {
            self._parts.state: tell(job, self._service.runner),
            self._parts.stop: gr.update(visible=not job.is_over),
        }

    def job(self, job: Job) -> Updates:
        """All else of it."""
        parts, preview = self._parts, job.folder / PREVIEW
        running = job.state == "running" and job.kind == "translate" and preview.exists()
        cells = [
            (str(path), "f {}, a {}".format(*CELLS[number]))
            for number, path in enumerate(job.files("cell-*.png"))
        ]
        results = [job.folder / name for name in job.results]
        wanted = [str(path) for path in results if job.kind == "translate"]
        count = len({path.name.split("-")[1].split(".")[0] for path in job.files("view-*.*")})
        shown: Updates = {
            parts.preview: gr.update(value=str(preview) if running else None, visible=running),
            parts.cells: gr.update(value=cells, visible=bool(cells)),
            parts.which: gr.update(
                choices=[(text, n) for n, text in enumerate(prompts_of(job), 1)],
                value=1,
                visible=count > 1,
            ),
            parts.files: gr.update(value=wanted or None, visible=bool(wanted)),
            parts.again: gr.update(visible=True),
        }
        return shown | self.result(job, 1)

    def result(self, job: Job, number: int) -> Updates:
        """One of several results, beside its source."""
        pictures = [str(path) for path in job.files(f"view-{number}-*.png")]
        video = next((str(path) for path in job.files(f"view-{number}.mp4")), None)
        if job.state != "done":
            pictures, video = [], None
        return {
            self._parts.slider: gr.update(
                value=tuple(pictures) if pictures else None, visible=bool(pictures)
            ),
            self._parts.video: gr.update(value=video, visible=video is not None),
        }

    def history(self, visitor: str) -> Updates:
        """The newest first, as `JobStore.of` has them."""
        items = []
        for job in self._service.store.of(visitor):
            items += [(str(path), caption(job)) for path in job.files("thumb.png")]
        return {self._parts.history: gr.update(value=items, visible=bool(items))}
