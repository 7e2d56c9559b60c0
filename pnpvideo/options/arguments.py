"""Flags of the command line, from declared options."""

import argparse
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from pnpvideo.errors import InputError
from pnpvideo.options.declared import Options, Schema, declared, unknown_option

_METAVARS = {"integer": "N", "number": "X", "array": "TEXT"}
_NUMBERS = {"integer": int, "number": float}


class Parser(argparse.ArgumentParser):
    """A parser that leaves out options that are not given, and raises InputError."""

    def __init__(self, prog: str, usage: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=prog,
            usage=f"{prog} {usage}",
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            argument_default=argparse.SUPPRESS,
            allow_abbrev=False,
        )
        self._takes_many = False

    def add_options(
        self, title: str, options: type[Options], own: Mapping[str, object] | None = None
    ) -> None:
        """Add the flags of options, as a section of the help text.

        own: a model's own defaults, by name.
        """
        known = declared(options).items()
        ordered = sorted(known, key=lambda item: not item[1].get("positional"))
        self.add_section(title, {name: (s, _help(s, (own or {}).get(name))) for name, s in ordered})

    def add_section(self, title: str, options: Mapping[str, tuple[Schema, str]]) -> None:
        """Add the flags of options with their help texts."""
        section = self.add_argument_group(title)
        for name, (schema, text) in options.items():
            kind, metavar = schema.get("type"), _metavar(schema)
            flag = f"--{name.replace('_', '-')}"
            flags = [schema["short"], flag] if "short" in schema else [flag]
            if schema.get("positional") and kind == "array":
                section.add_argument(name, nargs="*", metavar=name.upper(), help=text)
                self._takes_many = True
            elif schema.get("positional"):
                section.add_argument(
                    name, nargs="?", type=_Reader(schema), metavar=name.upper(), help=text
                )
            elif kind == "boolean":
                section.add_argument(*flags, action=argparse.BooleanOptionalAction, help=text)
            elif kind == "array":
                section.add_argument(*flags, action="append", metavar=metavar, help=text)
            else:
                section.add_argument(*flags, type=_Reader(schema), metavar=metavar, help=text)

    def parse(self, arguments: Sequence[str] | None) -> dict[str, object]:
        """Return the options that are given, by name."""
        # The plain way takes all of several arguments from one place among the flags.
        parse = self.parse_known_intermixed_args if self._takes_many else self.parse_known_args
        given, unknown = parse(arguments)
        flags = [text.partition("=")[0] for text in unknown if text.startswith("-")]
        if flags:
            self.error(str(unknown_option(flags[0], self._option_string_actions)))
        if unknown:
            hint = "a text of several words needs quotes"
            if any(flag == "-o" for flag in self._option_string_actions):
                hint += ", and the name of a result needs -o"
            if Path(unknown[0]).exists():
                hint = (
                    "give one source, and repeat the command for others (for frames: their folder, "
                    "or a pattern in quotes)"
                )
            elif "--prompt" in self._option_string_actions and not hasattr(given, "prompt"):
                hint = f"did you forget --prompt? Write --prompt {_quoted(unknown)}"
            self.error(f"{unknown[0]} is one argument too many; {hint}")
        return vars(given)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def _quoted(words: Sequence[str]) -> str:
    """Return a text as a shell takes it, or a stand-in for a long one."""
    text = shlex.quote(" ".join(words))
    return text if len(text) <= 80 else "TEXT"


class _Reader:
    """A reader of numbers. What is not a number stays text, and the declaration rejects it."""

    def __init__(self, schema: Schema) -> None:
        self._number = _NUMBERS.get(schema.get("type", ""))

    def __call__(self, text: str) -> str | float:
        try:
            return text if self._number is None else self._number(text)
        except ValueError:
            return text


def brief_help(schema: Schema, own: object = None) -> str:
    """Return the brief description of a main option with its default. own: a model's default."""
    return _with_default(schema["brief"], schema, own)


def _help(schema: Schema, own: object = None) -> str:
    """Return the description with the default, if that is a plain value."""
    return _with_default(schema["description"], schema, own)


def _with_default(text: str, schema: Schema, own: object) -> str:
    default = schema.get("default")
    if isinstance(default, int | float | str) and not isinstance(default, bool) and default != "":
        shown = _plain(default)
        if own is not None and own != default:
            shown = f"{_plain(own)} with this model, {shown} in the paper"
        text += f" ({shown})"
    return text.replace("%", "%%")


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _metavar(schema: Schema) -> str:
    if "enum" in schema:
        return f"{{{','.join(schema['enum'])}}}"
    return schema.get("metavar") or _METAVARS.get(schema.get("type", ""), "TEXT")
