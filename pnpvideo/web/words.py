"""Help visitors to find words that a model knows: hints, completions and pictures."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from pnpvideo.catalogue.known_words import Entry, KnownWords
from pnpvideo.catalogue.unknown_words import check_named, unknown_words
from pnpvideo.clips.clip import Frames

SHOWN = 60
"""The most pictures of words that are shown at once."""
_COMPLETIONS = 8
_SHORTEST = 2
"""Letters of a word from which it is completed."""
_LAST_WORD = re.compile(r"[^\W\d_]+$")

Chip = tuple[str, str]
"""The label of a chip, and the prompt that it gives."""


class WordHelp:
    """The page's hints about the words of prompts. Models without a list of words get none."""

    def __init__(self, known: Mapping[str, KnownWords | None], examples: Sequence[str]) -> None:
        """known: by the models' names on the page. examples: prompts for an empty box."""
        self._known, self._examples = known, tuple(dict.fromkeys(examples))
        self._pictures: dict[str, Frames] = {}

    @property
    def is_of_use(self) -> bool:
        """Whether any model lists its words."""
        return any(known is not None for known in self._known.values())

    def kinds(self, model: str) -> list[str]:
        """Return the kinds of words of a model, such as things; empty without a list."""
        known = self._known.get(model)
        return [] if known is None else list(known.kinds)

    def makes_sources(self, model: str) -> bool:
        """Return whether a model can make a source from words alone."""
        known = self._known.get(model)
        return known is None or known.makes_sources

    def notice(self, model: str, prompts: Sequence[str]) -> str | None:
        """Return a sentence about the words of prompts that a model does not know."""
        known = self._known.get(model)
        if known is None:
            return None
        found = {one.word: one for text in prompts for one in unknown_words(text, known)}
        if not found:
            return None
        hints = [
            f"“{one.word}”" + (f" (try “{one.nearest[0]}”)" if one.nearest else "")
            for one in [*found.values()][:_COMPLETIONS]
        ]
        return f"This model does not know {', '.join(hints)}. It {known.draws}."

    def check_named(self, model: str, text: str | None) -> None:
        """Raise InputError for a part of a source that a model cannot find by its name."""
        check_named(text, self._known.get(model))

    def chips(self, model: str, prompt: str) -> list[Chip]:
        """Return examples for an empty prompt; for another, completions of its last word."""
        if not prompt.strip():
            return [(text, text) for text in self._examples]
        known, last = self._known.get(model), _LAST_WORD.search(prompt)
        if known is None or last is None or len(last[0]) < _SHORTEST:
            return []
        begun = last[0].lower()
        if begun not in (one.word.lower() for one in unknown_words(prompt, known)):
            return []
        texts = [text for entry in known.entries for text in entry.texts]
        words = [
            text
            for text in dict.fromkeys(texts)
            if text.lower() != begun
            and any(word.startswith(begun) for word in text.lower().split())
        ]
        words.sort(key=lambda text: not text.lower().startswith(begun))
        before = prompt[: last.start()]
        return [(word, f"{before}{word} ") for word in words[:_COMPLETIONS]]

    def find(self, model: str, kind: str, part: str) -> list[Entry]:
        """Return the entries of a kind that contain a part of a word."""
        known = self._known.get(model)
        if known is None:
            return []
        part = part.strip().lower()
        if part:  # Whoever types a word need not know its kind.
            return [e for e in known.entries if any(part in text.lower() for text in e.texts)]
        return list(known.kinds.get(kind, ()))

    def pictures(self, model: str, entries: Sequence[Entry]) -> list[tuple[Frames, str]]:
        """Return the picture of each entry, (height, width, 3), with its word."""
        known = self._known.get(model)
        if known is None or known.sheet is None:
            return []
        if model not in self._pictures:
            with Image.open(known.sheet) as sheet:
                self._pictures[model] = np.asarray(sheet.convert("RGB"))
        sheet_pixels = self._pictures[model]
        shown = []
        for entry in entries[:SHOWN]:
            if entry.box is not None:
                left, top, right, bottom = entry.box
                shown.append((sheet_pixels[top:bottom, left:right], entry.word))
        return shown


def with_word(prompt: str, word: str) -> str:
    """Return a prompt with a word at its end."""
    return f"{prompt.rstrip()} {word}".lstrip()
