"""Answer what visitors type: hints, completions, and the pictures of words that a model knows."""

from html import escape

import gradio as gr

from pnpvideo.web.actions import Service
from pnpvideo.web.controls import lines
from pnpvideo.web.show import PageParts, Updates, note
from pnpvideo.web.source_events import Session
from pnpvideo.web.words import with_word

_AT_ONCE = 8
"""The most visitors whose typing is answered at the same time."""


class WordEvents:
    """The events of the prompt and of the pictures of words."""

    def __init__(self, service: Service, parts: PageParts, session: Session) -> None:
        self._service, self._parts, self._session = service, parts, session

    def connect(self, blocks: gr.Blocks) -> None:
        """Connect the components to the methods below."""
        parts = self._parts
        quiet = {
            "show_progress": "hidden",
            "api_visibility": "undocumented",
            "concurrency_limit": _AT_ONCE,
            "trigger_mode": "always_last",
        }
        written = [parts.prompt, parts.model, self._session.source]
        typed = [parts.chips, parts.hint]
        for changes in (parts.prompt.change, self._session.source.change):
            changes(self._typed, written, typed, **quiet)
        named = parts.controls.components["mask_from_prompt"]
        for changes in (named.change, parts.model.change):
            changes(self._named, [named, parts.model], [parts.part_hint], **quiet)
        parts.chips.click(self._take, [parts.chips], [parts.prompt], **quiet)
        searched = [parts.model, parts.word_kind, parts.word_part]
        for searching in (parts.word_part.change, parts.word_kind.input):
            searching(self._find, searched, [parts.known], **quiet)
        parts.known.select(self._add, [*searched, parts.prompt], [parts.prompt], **quiet)
        changed = [*typed, parts.word_kind, parts.known, parts.made]
        parts.model.change(self._model, written, changed, **quiet)

    def _typed(self, prompt: str, model: str, source: str | None) -> Updates:
        words, parts = self._service.words, self._parts
        # The examples are about the samples, not about a visitor's own source.
        chips = words.chips(model, prompt) if prompt.strip() or source is None else []
        notice = words.notice(model, lines(prompt))
        return {
            parts.chips: gr.Dataset(
                samples=[[text] for _, text in chips],
                sample_labels=[label for label, _ in chips],
                visible=bool(chips),
            ),
            parts.hint: note(notice) if notice else "",
        }

    def _named(self, name: str | None, model: str) -> str:
        notice = self._service.words.notice(model, lines(name))
        return note(notice) if notice else ""

    def _take(self, sample: list[str]) -> str:
        return sample[0]

    def _find(self, model: str, kind: str, part: str) -> object:
        words = self._service.words
        return words.pictures(model, words.find(model, kind, part))

    def _add(self, model: str, kind: str, part: str, prompt: str, event: gr.SelectData) -> str:
        entries = self._service.words.find(model, kind, part)
        number = event.index
        return with_word(prompt, entries[number].word) if number < len(entries) else prompt

    def _model(self, prompt: str, model: str, source: str | None) -> Updates:
        """Show the words of the model that was chosen."""
        words, parts = self._service.words, self._parts
        kinds = words.kinds(model)
        first = kinds[0] if kinds else ""
        return self._typed(prompt, model, source) | {
            parts.word_kind: gr.Radio(
                choices=[(escape(kind).capitalize(), kind) for kind in kinds], value=first or None
            ),
            parts.known: words.pictures(model, words.find(model, first, "")),
            parts.made: gr.Textbox(visible=words.makes_sources(model)),
        }
