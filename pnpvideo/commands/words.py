"""`pnpvideo words`: what a model knows, for prompts."""

import shutil
import textwrap
from collections.abc import Iterator

from pnpvideo.catalogue.known_words import FILE, Entry, KnownWords, words_of_model
from pnpvideo.catalogue.unknown_words import nearest_words
from pnpvideo.commands.command import Command
from pnpvideo.commands.printing import say
from pnpvideo.errors import InputError
from pnpvideo.options.catalogue import GROUPS, WordsOptions
from pnpvideo.options.declared import Options

_INTRODUCTION = """\
List the words that a small model knows, for prompts: things, their looks, grounds, lights and
styles. Words in brackets mean the same. Large models list none, since they know far more."""

_EXAMPLES = """\
examples:
  pnpvideo words
  pnpvideo words looks
  pnpvideo words tree

docs/words.md shows a picture of each."""


def _work(options: WordsOptions, _: Options) -> None:
    known = words_of_model(options.model)
    if known is None:
        raise InputError(
            f"the model {options.model} does not list what it knows (in a file {FILE} in its "
            "folder); give a model that does"
        )
    for line in _lines(known, options.filter or ""):
        say(line)


def _lines(known: KnownWords, wanted: str) -> Iterator[str]:
    """Yield the lines to print. InputError, with what is nearest, if nothing is found."""
    wanted = " ".join(wanted.lower().split())
    chosen = {
        kind: [entry for entry in entries if wanted == kind or _contains(entry, wanted)]
        for kind, entries in known.kinds.items()
    }
    near = nearest_words(wanted, known, most=4)
    if not any(chosen.values()):
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise InputError(f"the model knows nothing with {wanted!r}{hint}")
    width = min(shutil.get_terminal_size().columns, 100)
    for kind, entries in chosen.items():
        if entries:
            yield f"{kind} ({len(entries)})"
            entries.sort(key=lambda entry: not _contains(entry, wanted, whole=True))
            text = ", ".join(map(_shown, entries))
            yield textwrap.fill(text, width, initial_indent="  ", subsequent_indent="  ")
    listed = {entry.word for entries in chosen.values() for entry in entries}
    others = [word for word in near if word not in listed]
    if others and wanted not in known.kinds:
        yield f"near to {wanted!r}: {', '.join(others)}"
    if not wanted:
        yield f"This model {known.draws}: {known.otherwise}."


def _contains(entry: Entry, wanted: str, *, whole: bool = False) -> bool:
    """Return whether an entry contains a text. whole: as whole words."""
    edge = " " if whole else ""
    texts = (f"{edge}{text.lower()}{edge}" for text in entry.texts)
    return any(f"{edge}{wanted}{edge}" in text for text in texts)


def _shown(entry: Entry) -> str:
    others = f" ({', '.join(entry.texts[1:])})" if len(entry.texts) > 1 else ""
    return f"{entry.word}{others}"


COMMAND = Command(
    name="words",
    summary="list the words that a small model knows",
    usage="[FILTER] [--model MODEL]",
    introduction=_INTRODUCTION,
    examples=_EXAMPLES,
    groups=GROUPS,
    call=Options,
    read=lambda given, _: WordsOptions.of(given),
    work=_work,
)
