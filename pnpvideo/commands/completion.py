"""`pnpvideo completion`: the script by which a shell completes commands and options."""

import argparse
from collections.abc import Sequence
from typing import Annotated

import shtab
from pydantic import AfterValidator, Field

from pnpvideo.commands.command import AnyCommand, Command
from pnpvideo.options.arguments import Parser
from pnpvideo.options.declared import Lifetime, Options, Schema, by_title, declared

_INTRODUCTION = (
    "Print a script that lets a shell complete commands, options and their values with the Tab key."
)

_EXAMPLES = """\
examples:
  eval "$(pnpvideo completion bash)"     in ~/.bashrc
  pnpvideo completion zsh > ~/.zfunc/_pnpvideo     a folder of fpath
  pnpvideo completion fish > ~/.config/fish/completions/pnpvideo.fish"""


def _supported(shell: str) -> str:
    if shell not in shtab.SUPPORTED_SHELLS:
        raise ValueError
    return shell


class ShellOptions(Options, title="shell"):
    """The shell that the script is for."""

    shell: Annotated[str, AfterValidator(_supported), Lifetime.NOTHING] = Field(
        description=", ".join(shtab.SUPPORTED_SHELLS),
        json_schema_extra={
            "positional": True,
            "enum": list(shtab.SUPPORTED_SHELLS),
            "missing": f"a shell: {', '.join(shtab.SUPPORTED_SHELLS)}",
        },
    )


def completion_of(others: Sequence[AnyCommand]) -> AnyCommand:
    """Return the command that prints the completion of other commands and of itself."""

    def work(options: ShellOptions, _: Options) -> None:
        print(shtab.complete(_parser_of([*others, command]), shell=options.shell))

    command = Command(
        name="completion",
        summary="print a script for completing commands and options in a shell",
        usage="SHELL",
        introduction=_INTRODUCTION,
        examples=_EXAMPLES,
        groups=by_title(ShellOptions),
        call=Options,
        read=lambda given, _: ShellOptions.of(given),
        work=work,
    )
    return command


def _parser_of(commands: Sequence[AnyCommand]) -> argparse.ArgumentParser:
    """Return one parser of all commands for shtab. It is never used to parse."""
    parsers = {command.name: command.parser() for command in commands}
    whole = argparse.ArgumentParser(prog="pnpvideo")
    added = whole.add_subparsers(  # type: ignore[call-overload]
        parser_class=lambda prog, **_: parsers[prog.rpartition(" ")[2]]
    )
    for command in commands:
        added.add_parser(command.name, help=command.summary)
        for options in command.sections.values():
            _complete(parsers[command.name], declared(options))
    return whole


def _complete(parser: Parser, known: dict[str, Schema]) -> None:
    """Add the completion of values: one of several choices by its name, a path by files."""
    for action in parser._actions:
        schema = known.get(action.dest)
        if schema is None:
            continue
        if "enum" in schema:
            action.choices = schema["enum"]
        elif schema.get("format", "").startswith("path"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
