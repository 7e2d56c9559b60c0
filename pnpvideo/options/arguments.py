"""Flags of the command line, from declared options."""

import argparse
from collections.abc import Sequence
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

    def add_options(self, title: str, options: type[Options]) -> None:
        """Add the flags of options, as a section of the help text."""
        section = self.add_argument_group(title)
        known = declared(options).items()
        for name, schema in sorted(known, key=lambda item: not item[1].get("positional")):
            kind, text, metavar = schema.get("type"), _help(schema), _metavar(schema)
            flag = f"--{name.replace('_', '-')}"
            flags = [schema["short"], flag] if "short" in schema else [flag]
            if schema.get("positional"):
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
        given, unknown = self.parse_known_args(arguments)
        flags = [text.partition("=")[0] for text in unknown if text.startswith("-")]
        if flags:
            self.error(str(unknown_option(flags[0], self._option_string_actions)))
        if unknown:
            hint = "a text of several words needs quotes"
            if Path(unknown[0]).exists():
                hint = (
                    "give one source, and repeat the command for others (for frames: their folder, "
                    "or a pattern in quotes)"
                )
            self.error(f"{unknown[0]} is one argument too many; {hint}")
        return vars(given)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


class _Reader:
    """A reader of numbers. What is not a number stays text, and the declaration rejects it."""

    def __init__(self, schema: Schema) -> None:
        self._number = _NUMBERS.get(schema.get("type", ""))

    def __call__(self, text: str) -> str | float:
        try:
            return text if self._number is None else self._number(text)
        except ValueError:
            return text


def _help(schema: Schema) -> str:
    """Return the description with the default, unless the description says what that means."""
    text, default = schema["description"], schema.get("default")
    if isinstance(default, float):
        text += f" ({default:g})"
    elif isinstance(default, int | str) and not isinstance(default, bool) and default != "":
        text += f" ({default})"
    return text.replace("%", "%%")


def _metavar(schema: Schema) -> str:
    if "enum" in schema:
        return f"{{{','.join(schema['enum'])}}}"
    return schema.get("metavar") or _METAVARS.get(schema.get("type", ""), "TEXT")
