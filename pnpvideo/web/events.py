"""Answer what visitors do on the page, and update it once a second."""

from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image

from pnpvideo.errors import InputError
from pnpvideo.pixels.mask import Weights
from pnpvideo.web.actions import Service
from pnpvideo.web.controls import lines
from pnpvideo.web.drawn_mask import brush_radius, editor_of, mask_of
from pnpvideo.web.jobs import JobKind, Visitor, WebJob
from pnpvideo.web.page import brush
from pnpvideo.web.runner import PREVIEW
from pnpvideo.web.show import PageParts, Show, chosen, refused, said
from pnpvideo.web.thresholds import CELLS
from pnpvideo.web.visitors import Visitors

Updates = dict[gr.components.Component, object]

_AT_ONCE = 4
"""The most visitors whose sources are looked at, at the same time."""

# In a narrow window the messages are far from the button.
_SHOW_WHAT_IS_SAID = """() => (document.querySelector('#refusal .state') ??
  document.querySelector('#state')).scrollIntoView({block: 'nearest'})"""


@dataclass(frozen=True, kw_only=True)
class Session:
    """The state of an open page.

    source: the path of the chosen source. name: the name of the job that is shown. seen: the key
    (see `_last_shown_key`) of what was last shown of that job.
    """

    source: gr.State
    name: gr.State
    seen: gr.State


class Events:
    """The events of a page, connected to a service."""

    def __init__(self, service: Service, parts: PageParts, visitors: Visitors) -> None:
        self._service, self._parts, self._visitors = service, parts, visitors
        self._session = Session(source=gr.State(), name=gr.State(""), seen=gr.State())
        self._show = Show(service, parts)

    def connect(self, blocks: gr.Blocks) -> None:
        """Connect all components to the methods below."""
        parts, session, key = self._parts, self._session, self._visitors.key
        all_controls = self._choices()
        inputs = [*all_controls, parts.made, session.source, parts.editor, key]
        shown = [session.name, session.seen, *self._show.outputs]
        source = [session.source, parts.facts, parts.first, parts.editor, parts.made]
        quiet = {"show_progress": "hidden", "api_visibility": "undocumented"}

        # One slow clip does not keep other visitors waiting.
        several = {"concurrency_limit": _AT_ONCE, **quiet}
        parts.upload.upload(self._uploaded, [parts.upload], source, **several)
        parts.upload.clear(self._cleared, None, source, **quiet)
        # Gradio sends no "input" event for pasted text.
        parts.made.change(
            self._described,
            [parts.made],
            [*source[:-1], parts.upload],
            trigger_mode="always_last",
            **quiet,
        )
        parts.samples.select(
            self._sample, [parts.model], [*source, parts.upload, *all_controls], **quiet
        )
        parts.model.input(self._model, [parts.model], [*all_controls[4:]], **quiet)
        for button, kind in (
            (parts.translate, "translate"),
            (parts.thresholds, "thresholds"),
            (parts.move, "mask"),
        ):
            button.click(
                self._submit(kind),  # type: ignore[arg-type]
                inputs,
                [parts.refusal, *shown],
                **several,
            ).then(None, js=_SHOW_WHAT_IS_SAID, **quiet)
        parts.stop.click(self._stop, [session.name, key], None, **quiet)
        tau = [parts.controls.components[name] for name in ("tau_f", "tau_a")]
        parts.cells.select(self._choose, None, tau, **quiet)
        parts.history.select(self._open, [key], shown, **quiet)
        parts.which.input(self._pick, [session.name, parts.which, key], shown[2:], **quiet)
        again = [*source, parts.upload, *all_controls]
        parts.again.click(self._again, [session.name, key], again, **quiet)
        blocks.load(self._visitors.greet, [key], [key], **quiet).then(
            self._newest, [key], [*shown, *again], **quiet
        )
        # A page can be closed and opened again at any time, so it asks, and nothing is pushed.
        ticked = [session.name, session.seen, key]
        gr.Timer(1.0).tick(
            self._tick, ticked, shown, concurrency_limit=None, trigger_mode="once", **quiet
        )

    def _choices(self) -> list[gr.components.Component]:
        parts = self._parts
        texts = [parts.prompt, parts.negative, parts.preset, parts.model]
        return [*texts, *parts.controls.components.values()]

    # The source

    def _uploaded(self, path: str | None) -> Updates:
        return self._chosen(None if path is None else Path(path))

    def _cleared(self) -> Updates:
        return self._chosen(None)

    def _described(self, text: str) -> Updates:
        """Let the model generate the source from a text."""
        if not text.strip():
            return _nothing()
        updates = self._chosen(None) | {self._parts.upload: None}
        del updates[self._parts.made]
        return updates

    def _chosen(self, source: Path | None, mask: Weights | None = None, made: str = "") -> Updates:
        """Show the source of the next run, or the text that the model generates it from."""
        parts, session = self._parts, self._session
        none = {session.source: None, parts.first: gr.update(visible=False), parts.editor: None}
        if source is None:
            return none | {parts.facts: chosen(None, self._service.limits), parts.made: made}
        try:
            facts = self._service.look_at(source, {})
        except Exception as error:
            return none | {parts.facts: refused(said(error)), parts.made: made}
        (first,) = facts.first
        radius = brush_radius(first)
        return {
            session.source: str(source),
            parts.facts: chosen(facts.text, self._service.limits),
            parts.first: gr.update(value=first, visible=True),
            parts.editor: gr.update(
                value=editor_of(first, mask),
                brush=brush(radius),
                eraser=gr.Eraser(default_size=radius),
            ),
            parts.made: made,
        }

    def _sample(self, model: str, event: gr.SelectData) -> Updates:
        sample = self._service.samples[event.index]
        updates = self._chosen(sample.source) | self._controls(sample.values, model)
        return updates | {self._parts.upload: None}

    def _controls(self, values: dict[str, object], model: str) -> Updates:
        """Show settings in the controls, and defaults in those that the settings leave out."""
        parts, own = self._parts, self._service.models.options[model]
        prompt, negative = (
            "\n".join([text] if isinstance(text := values.get(name, []), str) else text)  # type: ignore[arg-type]
            for name in ("prompt", "negative_prompt")
        )
        texts: Updates = {
            parts.prompt: prompt,
            parts.negative: negative,
            parts.preset: values.get("preset") or "best",
        }
        shown = parts.controls.shown(values, own)
        return texts | dict(zip(parts.controls.components.values(), shown, strict=True))

    def _model(self, model: str) -> Updates:
        """Show the own options of the model that was chosen."""
        components = self._parts.controls.components
        shown = self._parts.controls.shown({}, self._service.models.options[model])
        own = set(type(self._service.models.options[model]).model_fields)
        both = zip(components.items(), shown, strict=True)
        return {component: value for (name, component), value in both if name in own}

    # Jobs

    def _submit(self, kind: JobKind) -> object:
        def submit(request: gr.Request, *given: object) -> Updates:
            *shown, made, source, editor, key = given
            prompt, negative, preset, model, *options = shown
            parts, session = self._parts, self._session
            visitor = self._visitors.visitor(key, request)
            try:
                values = self._values(str(prompt), str(negative), str(preset), str(model), options)
                path = None if source is None else Path(str(source))
                mask = mask_of(editor, self._service.limits.pixels)  # type: ignore[arg-type]
                if text := str(made or "").strip():
                    values, path, mask = values | {"guidance_prompt": text}, None, None
                job = self._service.submit(kind, visitor, str(model), path, values, mask)
            except Exception as error:
                return {parts.refusal: refused(said(error))}
            return {parts.refusal: "", session.name: job.name} | self._all_of(job, visitor)

        return submit

    def _values(
        self, prompt: str, negative: str, preset: str, model: str, options: list[object]
    ) -> dict[str, object]:
        names = self._service.models.names
        own = self._service.models.options[model if model in names else names[0]]
        values = {"prompt": lines(prompt), "negative_prompt": lines(negative)}
        speed = {} if preset == "best" else {"preset": preset}
        return {**values, **speed, **self._parts.controls.given(options, own)}

    def _stop(self, name: str, key: object, request: gr.Request) -> None:
        self._service.stop(name, self._visitors.visitor(key, request))

    def _choose(self, event: gr.SelectData) -> tuple[float, float]:
        return CELLS[event.index]

    def _open(self, key: object, event: gr.SelectData, request: gr.Request) -> Updates:
        visitor = self._visitors.visitor(key, request)
        jobs = self._show.listed(visitor)
        if event.index >= len(jobs):
            return _nothing()
        job = jobs[event.index]
        return {self._session.name: job.name} | self._all_of(job, visitor)

    def _pick(self, name: str, which: int, key: object, request: gr.Request) -> Updates:
        job = self._service.store.get(name, self._visitors.visitor(key, request))
        return _nothing() if job is None else self._show.result(job, which)

    def _again(self, name: str, key: object, request: gr.Request) -> Updates:
        job = self._service.store.get(name, self._visitors.visitor(key, request))
        return _nothing() if job is None else self._given(job)

    def _given(self, job: WebJob) -> Updates:
        """Show everything that a job was given, to be used again; nothing if it is gone."""
        try:
            values = job.values
            drawn = values.pop("mask", None)
            mask = None if drawn is None else np.asarray(Image.open(str(drawn)).convert("L"))
        except (InputError, OSError):
            return {}
        source = Path(str(path)) if (path := values.pop("source", None)) else None
        made = str(values.pop("guidance_prompt", ""))
        model = job.model if job.model in self._service.models.names else None
        model = model or self._service.models.names[0]
        updates = self._chosen(source, mask, made) | self._controls(values, model)
        return updates | {self._parts.upload: None, self._parts.model: model}

    # What is shown

    def _newest(self, key: object, request: gr.Request) -> Updates:
        visitor = self._visitors.visitor(key, request)
        jobs = self._service.store.of(visitor, 1)
        if not jobs:
            return _nothing()
        shown = {self._session.name: jobs[0].name} | self._all_of(jobs[0], visitor)
        return shown | self._given(jobs[0])

    def _tick(self, name: str, seen: object, key: object, request: gr.Request) -> Updates:
        if not name:
            return _nothing()
        visitor = self._visitors.visitor(key, request)
        job = self._service.store.get(name, visitor)
        if job is None:
            return {self._session.name: ""}
        if job.is_over and seen == self._last_shown_key(job):
            return _nothing()
        updates: Updates = self._show.state(job)
        if seen != self._last_shown_key(job):
            updates = self._all_of(job, visitor)
        return updates

    def _all_of(self, job: WebJob, visitor: Visitor) -> Updates:
        shown = self._show.state(job) | self._show.job(job) | self._show.history(visitor)
        return {self._session.seen: self._last_shown_key(job)} | shown

    def _last_shown_key(self, job: WebJob) -> tuple[str, str, float, int]:
        """Return a key that changes when there is something new to show of a job."""
        preview = job.folder / PREVIEW
        changed = preview.stat().st_mtime if preview.exists() else 0.0
        return (job.name, job.state, changed, len(job.files("cell-*.png")))


def _nothing() -> Updates:
    """Leave the page as it is."""
    skipped: Updates = gr.skip()
    return skipped
