"""What the page shows of a job."""

import gradio as gr

from pnpvideo.web.actions import Service
from pnpvideo.web.jobs import Job
from pnpvideo.web.page import Parts
from pnpvideo.web.runner import PREVIEW
from pnpvideo.web.tell import caption, prompts_of, tell
from pnpvideo.web.thresholds import CELLS

Updates = dict[gr.components.Component, object]


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
