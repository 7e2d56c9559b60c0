"""Answer what visitors do to choose a source and its settings."""

from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr
from gradio.processing_utils import save_file_to_cache

from pnpvideo.errors import InputError
from pnpvideo.options.method import Preset
from pnpvideo.pixels.mask import Weights
from pnpvideo.web.actions import Service
from pnpvideo.web.drawn_mask import Editor, brush_radius, editor_of, mask_of
from pnpvideo.web.pace import about
from pnpvideo.web.page import brush, show_mask_label
from pnpvideo.web.samples import Sample
from pnpvideo.web.show import IDLE, READY, PageParts, Updates, chosen, nothing, refused, said

AT_ONCE = 4
"""The most visitors whose sources are looked at, at the same time."""

_FORGET_REFUSED_UPLOAD = "() => document.querySelector('#refused')?.remove()"

RELEASE = "() => release()"
"""Lets runs begin again, once what was clicked is there (see `FOLLOW`)."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """The state of an open page.

    source: the path of the chosen source. count: its number of frames. name: the name of the job
    that is shown. seen: the key of what was last shown of that job (see `Events`).
    """

    source: gr.State = field(default_factory=gr.State)
    count: gr.State = field(default_factory=lambda: gr.State(1))
    name: gr.State = field(default_factory=lambda: gr.State(""))
    seen: gr.State = field(default_factory=gr.State)


class SourceEvents:
    """The events that choose a source and its settings.

    outputs: all components that choosing a source updates. choices: those with the settings.
    """

    def __init__(self, service: Service, parts: PageParts, session: Session) -> None:
        self._service, self._parts, self._session = service, parts, session
        texts = [parts.prompt, parts.negative, parts.preset, parts.model]
        self.choices = [*texts, *parts.controls.components.values()]
        self.outputs = [
            parts.refusal, session.source, session.count, parts.facts, parts.first, parts.editor,
            parts.made, parts.clear_mask,
        ]  # fmt: skip

    @property
    def everything(self) -> list[gr.components.Component]:
        """All components that show what a run is given."""
        return [*self.outputs, self._parts.upload, *self.choices]

    def connect(self, blocks: gr.Blocks) -> None:
        """Connect the components to the methods below."""
        parts, session, source = self._parts, self._session, self.outputs
        quiet = {"show_progress": "hidden", "api_visibility": "undocumented"}
        # One slow clip does not keep other visitors waiting.
        several = {"concurrency_limit": AT_ONCE, **quiet}

        named = parts.controls.components["mask_from_prompt"]
        parts.upload.upload(self._uploaded, [parts.upload, named], source, **several)
        parts.upload.clear(self._cleared, [named], source, **quiet)
        session.source.change(
            self._play, [session.source, session.count], [parts.first, parts.clip], **several
        )
        session.source.change(
            self._next, [session.source, session.name], [parts.state, parts.hero], **quiet
        )
        # Gradio sends no "input" event for pasted text.
        parts.made.change(
            self._described,
            [parts.made, named],
            [*source, parts.upload],
            trigger_mode="always_last",
            **quiet,
        )
        for gallery, pick in ((parts.samples, self._sample), (parts.hero, self._shown_sample)):
            gallery.select(pick, [parts.model], self.everything, **quiet).then(
                None, js=RELEASE, **quiet
            )
            gallery.select(None, js=_FORGET_REFUSED_UPLOAD, **quiet)
        parts.model.input(
            self._model, [parts.model], [*parts.controls.components.values()], **quiet
        )
        # In an open section the mask is seen.
        parts.part.expand(lambda: self._masked(False), None, [parts.clear_mask], **quiet)
        parts.part.collapse(self.drawn, self.drawing, [parts.clear_mask], **several)
        for button in (parts.clear_mask, parts.clear_within):
            cleared = [session.source, *self.drawing]
            button.click(self._clear_mask, cleared, self.everything, **several).then(
                None, js=RELEASE, **quiet
            )
        session.count.change(show_mask_label, [session.count], [parts.move], **quiet)
        given = [parts.model, session.source, session.count, parts.preset]
        timed = [parts.preset, parts.translate]
        for changes in (
            *(session.source.change, session.count.change, session.seen.change),
            *(parts.model.change, parts.preset.change, blocks.load),
        ):
            changes(self._time, given, timed, trigger_mode="always_last", **quiet)

    def _uploaded(self, path: str | None, named: str) -> Updates:
        return self.chosen(None if path is None else Path(path), named=named)

    def _cleared(self, named: str) -> Updates:
        return self.chosen(None, named=named)

    def _described(self, text: str | None, named: str) -> Updates:
        """Let the model generate the source from a text."""
        if not (text or "").strip():
            return nothing()
        updates = self.chosen(None, named=named) | {self._parts.upload: None}
        del updates[self._parts.made]
        return updates

    def chosen(
        self, source: Path | None, mask: Weights | None = None, *, named: object, made: str = ""
    ) -> Updates:
        """Show the source of the next run, or the text that the model generates it from.

        named: the part to edit, in words.
        """
        parts, session = self._parts, self._session
        both: Updates = {parts.refusal: "", parts.made: made}
        none = {session.source: None, session.count: 1, parts.first: gr.update(visible=False)}
        none |= {parts.editor: None, **both, **self._masked(bool(named))}
        if source is None:
            return none | {parts.facts: chosen(None, self._service.limits)}
        try:
            facts = self._service.look_at(source, {})
        except Exception as error:
            return none | {parts.facts: refused(said(error))}
        (first,) = facts.first
        radius = brush_radius(first)
        both |= self._masked(mask is not None or bool(named))
        return both | {
            session.source: str(source),
            session.count: facts.count,
            parts.facts: chosen(facts.text, self._service.limits),
            parts.first: gr.update(value=first, visible=facts.count == 1),
            parts.editor: gr.update(
                value=editor_of(first, mask),
                brush=brush(radius),
                eraser=gr.Eraser(default_size=radius),
            ),
        }

    def _masked(self, masked: bool) -> Updates:
        """Show whether there is a mask, which is out of sight in a closed section."""
        return {self._parts.clear_mask: gr.update(visible=masked)}

    @property
    def drawing(self) -> list[gr.components.Component]:
        """The components that say which part is to be edited."""
        return [self._parts.editor, self._parts.controls.components["mask_from_prompt"]]

    def drawn(self, editor: Editor | None, named: str) -> Updates:
        """Show whether there is a mask, painted or named."""
        return self._masked(self._is_painted(editor) or bool(named))

    def _is_painted(self, editor: Editor | None) -> bool:
        try:
            return mask_of(editor, self._service.limits.pixels) is not None
        except InputError:  # It is refused when it is used.
            return True

    def _clear_mask(self, source: str | None, editor: Editor | None, named: str) -> Updates:
        """Clear what is painted; without that, what is named."""
        components = self._parts.controls.components
        kept = named if self._is_painted(editor) else ""
        updates = {components["mask_from_prompt"]: kept, components["invert_mask"]: False}
        if source is None:
            return updates | self._masked(False)
        return updates | self.chosen(Path(source), named=kept)

    def _next(self, source: str | None, name: str) -> Updates:
        """Show what is next as long as nothing has been made: an example, or what is to be done."""
        if name:
            return nothing()
        examples = any(sample.card for sample in self._service.samples)
        return {
            self._parts.state: IDLE if source is None else READY,
            self._parts.hero: gr.update(visible=examples and source is None),
        }

    def _play(self, source: str | None, count: int) -> Updates:
        """Show a clip as a video, and the first frame of what has none."""
        video = None if source is None or count == 1 else self._service.preview(Path(source))
        is_clip = video is not None
        return {
            self._parts.clip: gr.update(value=str(video) if is_clip else None, visible=is_clip),
            self._parts.first: gr.update(visible=source is not None and not is_clip),
        }

    def _time(self, model: str, source: str | None, count: int, preset: Preset) -> Updates:
        """Say how long each quality takes, and at the button the time of the chosen one."""
        own, paces = self._service.models.options[model], self._service.paces
        seconds = None if source is None else paces.seconds(model, own, preset, count)
        time = "" if seconds is None else f" ({about(seconds)})"
        return {
            self._parts.preset: gr.update(choices=paces.choices(model, own, count)),
            self._parts.translate: gr.update(value=f"Translate{time}"),
        }

    def _sample(self, model: str, event: gr.SelectData) -> Updates:
        return self._use(self._service.samples[event.index], model)

    def _shown_sample(self, model: str, event: gr.SelectData) -> Updates:
        """Use one of the samples that take turns, of which each has two pictures."""
        shown = [sample for sample in self._service.samples if sample.card is not None]
        return self._use(shown[event.index // 2], model)

    def _use(self, sample: Sample, model: str) -> Updates:
        named = sample.values.get("mask_from_prompt")
        updates = self.chosen(sample.source, named=named) | self.controls(sample.values, model)
        return updates | {self._parts.upload: self.offered(sample.source)}

    def offered(self, source: Path | None) -> str | None:
        """Return a file that stands for a source that was not uploaded now, to be taken away."""
        if source is None or not source.is_file():
            shown = None if source is None else self._service.preview(source)
            return None if shown is None else str(shown)
        # The page may show nothing but copies.
        return str(save_file_to_cache(source, self._parts.upload.GRADIO_CACHE))

    def controls(self, values: dict[str, object], model: str) -> Updates:
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
