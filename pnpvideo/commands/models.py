"""`pnpvideo models`: the short names of models, and the models that are on this machine."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from pnpvideo.catalogue.find_model import find_model
from pnpvideo.catalogue.known_words import words_of_model
from pnpvideo.catalogue.short_names import short_names
from pnpvideo.catalogue.unknown_words import words_command
from pnpvideo.commands.command import Command
from pnpvideo.commands.printing import say
from pnpvideo.options.declared import Options
from pnpvideo.options.values import EMBEDDED_MODEL

_INTRODUCTION = """\
List what --model takes: the bundled model, short names of models on the Hugging Face hub, and the
models that are on this machine, in the hub's cache and in the current folder."""

_EXAMPLES = """\
examples:
  pnpvideo models

docs/models.md says what each needs and what it is good at, and how to get one without a network."""


def _work(_: Options, __: Options) -> None:
    from pnpvideo.catalogue.here import cached_models, models_in

    cached = {one.name: one for one in cached_models()}
    say("bundled")
    known = words_of_model(EMBEDDED_MODEL)
    does = "" if known is None else f"{known.draws}; '{words_command(known)}' lists what it knows"
    say(f"  {EMBEDDED_MODEL}  {does}".rstrip())
    say("short names")
    rows = []
    for name, model in short_names().items():
        found = find_model(name)
        if isinstance(found, Path):
            state = f"the folder or file {found} here goes first"
        elif model.id in cached:
            state = f"in the cache, {cached[model.id].state}"
        else:
            state = f"{model.download:g} GB to download"
        rows.append((name, model.is_called, model.id, state))
    for line in _aligned(rows):
        say(line)
    for title, models in (
        ("in the hub's cache", cached.values()),
        ("in this folder", models_in(Path())),
    ):
        if found_rows := [(one.name, f"{one.size / 1e9:.1f} GB", one.state) for one in models]:
            say(title)
            for line in _aligned(found_rows):
                say(line)


def _aligned(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Yield each row as a line, with columns of one width."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells).rstrip()}"


COMMAND = Command(
    name="models",
    summary="list short names of models, and the models on this machine",
    usage="",
    introduction=_INTRODUCTION,
    examples=_EXAMPLES,
    groups={},
    call=Options,
    read=lambda given, _: Options.of(given),
    work=_work,
)
