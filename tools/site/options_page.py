"""The page of every option of every command, made from the declarations of the options.

python -m tools.site.options_page
"""

from collections.abc import Iterator
from pathlib import Path

from pnpvideo.cli import COMMANDS
from pnpvideo.options.declared import Options, Schema, accepted, declared
from pnpvideo.options.method_settings import MethodSettings
from pnpvideo.options.visualize import ShowSettings

PAGE = Path(__file__).parent.parent.parent / "docs" / "options.md"

_INTRODUCTION = """\
# Every option

This page is built from the declarations that the program itself checks.

A flag such as `--tau-f` is `tau_f` in a settings file and in Python. Flags without a value have an
opposite: `--no-compare` undoes a `compare: true` in a settings file. Values out of range are
rejected before any work, with a line that says what to give.
"""

_PICTURES: dict[type[Options], str] = {
    MethodSettings: """\
![Results of one drawing for values of guidance_scale and of tau_f, and a plot](inside-grid.jpg)

`tau_f` and `guidance_scale` on one drawing: more `tau_f` keeps more of the structure, more guidance
follows the text more ([choosing thresholds](thresholds.md)).

![A row of frames for each way to steady a clip](steady-clips.jpg)

`blend_radius`, `attention_sharing` and `noise_share` on a clip ([steady clips](steady-clips.md)).
""",
    ShowSettings: """\
![Two line drawings and their renders, as the model's features](inside-features.jpg)

`--show features --beside` ([seeing inside](inside.md)).
""",
}


def options_page() -> str:
    """Return the page in Markdown. A group that an earlier command has too is a link to it."""
    parts = [_INTRODUCTION]
    places: dict[type[Options], str] = {}
    for name, command in COMMANDS.items():
        parts.append(f"## pnpvideo {name}\n\n{_sentence(command.summary)}\n")
        for title, options in command.sections.items():
            if options in places:
                parts.append(
                    f"**{title}**: as in [{places[options]}](#{_anchor(places[options])}).\n"
                )
                continue
            places[options] = f"{name}: {title.partition(' (')[0]}"
            parts += [f"### {places[options]}\n", *_table(options)]
            if options in _PICTURES:
                parts.append(_PICTURES[options])
    return "\n".join(parts)


def _table(options: type[Options]) -> Iterator[str]:
    yield "| option | default | what it does |"
    yield "|---|---|---|"
    known = declared(options).items()
    for name, schema in sorted(known, key=lambda item: not item[1].get("positional")):
        text = schema["description"].replace("|", "\\|")
        yield f"| {_names(name, schema)} | {_default(schema)} | {_sentence(text)} |"
    yield ""


def _names(name: str, schema: Schema) -> str:
    if schema.get("positional"):
        return f"`{name.upper()}`"
    flag = f"--{name.replace('_', '-')}"
    names = f"`{schema['short']}`, `{flag}`" if "short" in schema else f"`{flag}`"
    if "_" in name:  # Also findable by the name in a settings file and in Python.
        names += f"<br><small>{name}</small>"
    return names if schema.get("type") == "boolean" else f"{names}<br>{_accepted(schema)}"


def _accepted(schema: Schema) -> str:
    if schema.get("type") == "array":
        return "a text; can be repeated"
    if schema.get("format") == "path":
        return "a path"
    return accepted(schema).replace("|", "\\|")


def _default(schema: Schema) -> str:
    default = schema.get("default")
    # The description names colours.
    if default in (None, "", []) or (schema.get("type") == "string" and isinstance(default, list)):
        return ""
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, list):
        return ", ".join(f"`{one}`" for one in default)
    return f"`{default}`"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _anchor(title: str) -> str:
    return title.lower().replace(": ", "-").replace(" ", "-")


if __name__ == "__main__":
    PAGE.write_text(options_page(), encoding="utf-8")
