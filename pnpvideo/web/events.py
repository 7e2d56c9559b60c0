"""Answer what visitors do on the page, and update it once a second."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image

from pnpvideo.errors import InputError
from pnpvideo.options.mask import MaskSettings
from pnpvideo.web.actions import Service
from pnpvideo.web.controls import lines
from pnpvideo.web.drawn_mask import mask_of
from pnpvideo.web.jobs import JobKind, Visitor, WebJob
from pnpvideo.web.kept import keeping, restored
from pnpvideo.web.runner import PREVIEW, job_cells
from pnpvideo.web.show import PageParts, Show, Updates, note, nothing, refused, said
from pnpvideo.web.source_events import AT_ONCE, RELEASE, Session, SourceEvents
from pnpvideo.web.visitors import Shown, Visitors

# In a narrow window the messages are far from the button.
_SHOW_WHAT_IS_SAID = """() => {
  document.querySelector('#refusal').classList.remove('out-of-date');
  if (!document.querySelector('#refusal .state')) notRun.clear();
  (document.querySelector('#refusal .state') ??
  document.querySelector('#state')).scrollIntoView({block: 'nearest'});
}"""


class Events:
    """The events of a page, connected to a service."""

    def __init__(
        self, service: Service, parts: PageParts, session: Session, visitors: Visitors
    ) -> None:
        self._service, self._parts, self._visitors = service, parts, visitors
        self._session = session
        self._source = SourceEvents(service, parts, self._session)
        self._show = Show(service, parts)
        self._timer = gr.Timer(1.0, active=False)

    def connect(self, blocks: gr.Blocks) -> None:
        """Connect all components to the methods below."""
        parts, session, key = self._parts, self._session, self._visitors.key
        shown = [parts.refusal, session.name, session.seen, self._timer, *self._show.outputs]
        quiet = {"show_progress": "hidden", "api_visibility": "undocumented"}
        self._source.connect(blocks)
        self._connect_jobs(shown, quiet)
        kept, names = [*self._source.choices, parts.made], self._service.models.names
        everything = [*shown, *self._source.everything[1:]]  # Without `refusal`, which is in both.
        blocks.load(self._visitors.greet, [key], [key], **quiet).then(
            self._newest, [key, self._visitors.unmasked], everything, **quiet
        ).then(None, kept, kept, js=restored(names), **quiet).then(
            self._source.drawn, self._source.drawing, [parts.clear_mask], **quiet
        )
        gr.on([one.change for one in kept], None, kept, js=keeping(names), **quiet)
        # A page can be closed and opened again at any time, so it asks, and nothing is pushed.
        ticked = [session.name, session.seen, key]
        self._timer.tick(
            self._tick, ticked, shown[1:], concurrency_limit=None, trigger_mode="once", **quiet
        )

    def _connect_jobs(
        self, shown: list[gr.components.Component], quiet: Mapping[str, object]
    ) -> None:
        parts, session, key = self._parts, self._session, self._visitors.key
        own = [session.name, key]
        inputs = [*self._source.choices, parts.made, session.source, parts.editor, key]
        for button, kind in (
            (parts.translate, "translate"),
            (parts.translate_below, "translate"),
            (parts.thresholds, "thresholds"),
            (parts.move, "mask"),
        ):
            button.click(
                self._submit(kind),  # type: ignore[arg-type]
                inputs,
                shown,
                concurrency_limit=AT_ONCE,
                **quiet,
            ).then(None, js=_SHOW_WHAT_IS_SAID, **quiet)
        for button in (parts.clear_mask, parts.clear_within):
            button.click(self._unmask, [key], [self._visitors.unmasked], **quiet)
        parts.stop.click(self._stop, own, None, **quiet)
        tau = [parts.controls.components[name] for name in ("tau_f", "tau_a")]
        parts.cells.select(self._choose, own, [parts.refusal, *tau], **quiet)
        parts.history.select(self._open, [key], shown, **quiet)
        which = [session.name, parts.which, key]
        parts.which.input(self._pick, which, self._show.outputs, **quiet)
        parts.again.click(self._again, own, self._source.everything, **quiet).then(
            None, js=RELEASE, **quiet
        )
        session.source.change(self._sourced, [session.source, key], None, **quiet)
        # What was refused is out of date once something else is asked for.
        for changes in (parts.prompt.change, parts.negative.change):
            changes(None, js="() => ''", outputs=[parts.refusal], **quiet)

    # Jobs

    def _submit(self, kind: JobKind) -> object:
        def submit(request: gr.Request, *given: object) -> Updates:
            *shown, made, source, editor, key = given
            prompt, negative, preset, model, *options = shown
            parts, session = self._parts, self._session
            visitor = self._visitors.visitor(key, request)
            try:
                values = self._values(prompt, negative, preset, str(model), options)
                path = None if source is None else Path(str(source))
                mask = mask_of(editor, self._service.limits.pixels)  # type: ignore[arg-type]
                if text := str(made or "").strip():
                    values, path, mask = values | {"guidance_prompt": text}, None, None
                job = self._service.submit(kind, visitor, str(model), path, values, mask)
            except Exception as error:
                return {parts.refusal: refused(said(error))}
            self._begun(visitor, job, source)
            return {parts.refusal: "", session.name: job.name} | self._all_of(job, visitor)

        return submit

    def _values(
        self, prompt: object, negative: object, preset: object, model: str, options: list[object]
    ) -> dict[str, object]:
        names = self._service.models.names
        own = self._service.models.options[model if model in names else names[0]]
        values = {"prompt": lines(prompt), "negative_prompt": lines(negative)}
        speed = {} if preset in (None, "best") else {"preset": preset}
        return {**values, **speed, **self._parts.controls.given(options, own)}

    def _stop(self, name: str, key: object, request: gr.Request) -> None:
        self._service.stop(name, self._visitors.visitor(key, request))

    def _choose(self, name: str, key: object, event: gr.SelectData, request: gr.Request) -> Updates:
        """Use the thresholds of a cell, and say what is next."""
        job = self._service.store.get(name, self._visitors.visitor(key, request))
        if job is None or job.kind != "thresholds":
            return nothing()
        cells, _ = job_cells(job, self._service.models, self._service.limits)
        components = self._parts.controls.components
        tau_f, tau_a = cells[event.index]
        text = (
            f"“Keep shapes” is {tau_f:g} now, and “Keep outlines” {tau_a:g}. Translate to see the "
            "whole result."
        )
        return {
            components["tau_f"]: tau_f,
            components["tau_a"]: tau_a,
            self._parts.refusal: note(text),
        }

    def _open(self, key: object, event: gr.SelectData, request: gr.Request) -> Updates:
        visitor = self._visitors.visitor(key, request)
        jobs = self._show.listed(visitor)
        if event.index >= len(jobs):
            return nothing()
        job = jobs[event.index]
        opened = {self._parts.refusal: "", self._session.name: job.name}
        return opened | self._all_of(job, visitor)

    def _pick(self, name: str, which: int, key: object, request: gr.Request) -> Updates:
        job = self._service.store.get(name, self._visitors.visitor(key, request))
        return nothing() if job is None else self._show.result(job, which)

    def _again(self, name: str, key: object, request: gr.Request) -> Updates:
        visitor = self._visitors.visitor(key, request)
        job = self._service.store.get(name, visitor)
        if job is None:
            return nothing()
        updates = self._given(job)
        self._begun(visitor, job, updates.get(self._session.source))
        return updates

    def _given(self, job: WebJob, *, masked: bool = True) -> Updates:
        """Show everything that a job was given, to be used again; nothing if it is gone.

        masked: whether with its mask.
        """
        try:
            values = job.values
            if not masked:
                values = {k: v for k, v in values.items() if k not in MaskSettings.model_fields}
            drawn = values.pop("mask", None)
            mask = None if drawn is None else np.asarray(Image.open(str(drawn)).convert("L"))
        except (InputError, OSError):
            return {}
        source = Path(str(path)) if (path := values.pop("source", None)) else None
        made = str(values.pop("guidance_prompt", ""))
        model = job.model if job.model in self._service.models.names else None
        model = model or self._service.models.names[0]
        named = values.get("mask_from_prompt")
        updates = self._source.chosen(source, mask, named=named, made=made)
        updates |= self._source.controls(values, model)
        offered = self._source.offered(source)
        return updates | {self._parts.upload: offered, self._parts.model: model}

    # What is shown

    def _job_shown(self, visitor: Visitor) -> WebJob | None:
        """Return the run whose settings the page shows, or else the newest."""
        shown = self._visitors.shown(visitor)
        job = None if shown is None else self._service.store.get(shown.job, visitor)
        return job or next(iter(self._service.store.of(visitor, 1)), None)

    def _unmask(self, key: object, request: gr.Request) -> str:
        """Return the run whose mask would come back with a reload."""
        job = self._job_shown(self._visitors.visitor(key, request))
        return "" if job is None else job.name

    def _sourced(self, source: str | None, key: object, request: gr.Request) -> None:
        visitor = self._visitors.visitor(key, request)
        self._visitors.show(
            visitor, replace(self._visitors.shown(visitor) or Shown(), source=source)
        )

    def _newest(self, key: object, unmasked: object, request: gr.Request) -> Updates:
        """Show the newest run, and what the page had for the next one."""
        visitor = self._visitors.visitor(key, request)
        jobs, shown = self._service.store.of(visitor, 1), self._visitors.shown(visitor)
        job = self._job_shown(visitor)
        updates: Updates = {}
        if job is not None:
            updates |= {self._session.name: jobs[0].name} | self._all_of(jobs[0], visitor)
            updates |= self._given(job, masked=job.name != unmasked)
        if shown is None or shown.source == shown.of_job:
            if job is not None:
                self._begun(visitor, job, updates.get(self._session.source))
            return updates or nothing()
        path = None if shown.source is None else Path(shown.source)
        path = path if path is not None and path.exists() else None
        named = None if job is None else job.values.get("mask_from_prompt")
        updates |= self._source.chosen(path, named=named)
        return updates | {self._parts.upload: self._source.offered(path)}

    def _begun(self, visitor: Visitor, job: WebJob, source: object) -> None:
        """Remember that the page shows the settings of a job, with this source."""
        path = None if source is None else str(source)
        self._visitors.show(visitor, Shown(job=job.name, of_job=path, source=path))

    def _tick(self, name: str, seen: object, key: object, request: gr.Request) -> Updates:
        if not name:
            return nothing()
        visitor = self._visitors.visitor(key, request)
        job = self._service.store.get(name, visitor)
        if job is None:
            return {self._session.name: "", self._timer: gr.Timer(active=False)}
        if job.is_over and seen == self._last_shown_key(job):
            return nothing()
        updates: Updates = self._show.state(job)
        if seen != self._last_shown_key(job):
            updates = self._all_of(job, visitor)
        return updates

    def _all_of(self, job: WebJob, visitor: Visitor) -> Updates:
        shown = self._show.state(job) | self._show.job(job) | self._show.history(visitor)
        shown |= {self._timer: gr.Timer(active=not job.is_over)}
        return {self._session.seen: self._last_shown_key(job)} | shown

    def _last_shown_key(self, job: WebJob) -> tuple[str, str, float, int]:
        """Return a key that changes when there is something new to show of a job."""
        preview = job.folder / PREVIEW
        changed = preview.stat().st_mtime if preview.exists() else 0.0
        return (job.name, job.state, changed, len(job.files("cell-*.png")))
