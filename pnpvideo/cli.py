"""The command line: the table of commands, and errors as one line and an exit code."""

import contextlib
import sys
from collections.abc import Sequence

from pnpvideo import __version__
from pnpvideo.commands import (
    batch,
    blocks,
    evaluate,
    grid,
    models,
    translate,
    visualize,
    web,
    words,
)
from pnpvideo.commands.command import AnyCommand
from pnpvideo.commands.completion import completion_of
from pnpvideo.commands.printing import any_text_printed
from pnpvideo.commands.stopping import Stopped, stopped_by_signals
from pnpvideo.errors import InputError, RunError
from pnpvideo.options.arguments import Parser
from pnpvideo.options.declared import nearest
from pnpvideo.options.printed import one_line

_WORKING: list[AnyCommand] = [
    translate.COMMAND,
    batch.COMMAND,
    evaluate.COMMAND,
    grid.COMMAND,
    blocks.COMMAND,
    visualize.COMMAND,
    web.COMMAND,
    words.COMMAND,
    models.COMMAND,
]
COMMANDS = {command.name: command for command in (*_WORKING, completion_of(_WORKING))}
"""All commands by name, in the order of the help text."""

_COMMANDS_HELP = "\n".join(f"  {name:<12}{one.summary}" for name, one in COMMANDS.items())
_EPILOG = f"""\
commands:
{_COMMANDS_HELP}

'pnpvideo COMMAND --help' describes its options."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    with any_text_printed():
        return _run(sys.argv[1:] if arguments is None else arguments)


def _run(given: Sequence[str]) -> int:
    try:
        with stopped_by_signals():
            if given and given[0] in COMMANDS:
                COMMANDS[given[0]].run(given[1:])
            else:
                _answer(given)
    except InputError as error:
        return _fail(error, 2)
    except RunError as error:
        return _fail(error, 1)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else error, 1)
    except KeyboardInterrupt as stop:
        return _fail(str(stop) or "stopped", stop.exit_code if isinstance(stop, Stopped) else 130)
    return 0


def _answer(arguments: Sequence[str]) -> None:
    """Answer a call without a command: --help, --version, or an unknown name."""
    parser = Parser("pnpvideo", "[--version] COMMAND ...", translate.COMMAND.introduction, _EPILOG)
    parser.add_argument("--version", action="version", version=f"pnpvideo {__version__}")
    if arguments and not arguments[0].startswith("-"):
        parser.error(f"there is no command {arguments[0]}{nearest(arguments[0], COMMANDS)}")
    parser.parse(arguments)
    parser.print_help()


def _fail(error: object, code: int) -> int:
    with contextlib.suppress(OSError):  # The terminal may be closed.
        print(f"pnpvideo: {one_line(error)}", file=sys.stderr)
    return code
