"""`pnpvideo completion`: the script by which a shell completes commands and options."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import shtab

from pnpvideo.commands import batch, calls, evaluate, grid, notices, translate, visualize, web
from pnpvideo.errors import InputError
from pnpvideo.options import batch as batch_options
from pnpvideo.options import evaluation, settings
from pnpvideo.options import grid as grid_options
from pnpvideo.options import visualize as visualize_options
from pnpvideo.options import web as web_options
from pnpvideo.options.arguments import Parser
from pnpvideo.options.declared import Options, declared

INTRODUCTION = (
    "Print what lets a shell complete commands, options and their values with the Tab key."
)

_EXAMPLES = """\
examples:
  eval "$(pnpvideo completion bash)"     in ~/.bashrc
  pnpvideo completion zsh > ~/.zfunc/_pnpvideo     a folder of fpath
  pnpvideo completion fish > ~/.config/fish/completions/pnpvideo.fish"""

_OPTIONS: dict[str, tuple[str, Mapping[str, type[Options]], type[Options]]] = {
    "translate": (translate.INTRODUCTION, settings.GROUPS, translate.CallOptions),
    "batch": (batch.INTRODUCTION, batch_options.GROUPS, calls.WriteOptions),
    "evaluate": (evaluate.INTRODUCTION, evaluation.GROUPS, notices.NoticeOptions),
    "grid": (grid.INTRODUCTION, grid_options.GROUPS, calls.WriteOptions),
    "visualize": (visualize.INTRODUCTION, visualize_options.GROUPS, calls.WriteOptions),
    "web": (web.INTRODUCTION, {}, web_options.WebOptions),
}
"""By command: what it does, its groups of options, and those of a call."""


def main(arguments: Sequence[str]) -> None:
    """Run the command with the arguments that stand after its name."""
    parser = Parser("pnpvideo completion", "SHELL", INTRODUCTION, _EXAMPLES)
    shells = ", ".join(shtab.SUPPORTED_SHELLS)
    parser.add_argument("shell", nargs="?", metavar="SHELL", help=shells)
    shell = parser.parse(arguments).get("shell")
    if shell not in shtab.SUPPORTED_SHELLS:
        raise InputError(f"the shell is {shell!r}; give one of {shells}")
    print(shtab.complete(_whole(), shell=str(shell)))


def _whole() -> argparse.ArgumentParser:
    """One parser of all commands, which knows the options and reads nothing."""
    whole = argparse.ArgumentParser(prog="pnpvideo")
    commands = whole.add_subparsers(parser_class=_parser)  # type: ignore[call-overload]
    for name, (text, groups, call) in _OPTIONS.items():
        parser = commands.add_parser(name, help=text.partition("\n")[0])
        for title, options in {**groups, "this call": call}.items():
            parser.add_options(title, options)
            _complete(parser, declared(options))
    commands.add_parser("completion", help=INTRODUCTION).add_argument(
        "shell", choices=shtab.SUPPORTED_SHELLS
    )
    return whole


def _parser(prog: str, **_: object) -> Parser:
    return Parser(prog, "", "", "")


def _complete(parser: Parser, known: Mapping[str, Any]) -> None:
    """Let values be completed: one of several by its name, a path by files."""
    for action in parser._actions:
        schema = known.get(action.dest, {})
        if "enum" in schema:
            action.choices = schema["enum"]
        elif schema.get("format", "").startswith("path"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
