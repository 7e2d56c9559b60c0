"""The command line: a table of commands, errors to one line and an exit code."""

import contextlib
import sys
from collections.abc import Callable, Sequence

from pnpvideo import __version__
from pnpvideo.commands import batch, completion, evaluate, grid, translate, visualize, web
from pnpvideo.commands.stopping import Stopped, stopped_by_signals
from pnpvideo.errors import InputError, RunError
from pnpvideo.options.arguments import Parser
from pnpvideo.options.declared import nearest

COMMANDS: dict[str, tuple[Callable[[Sequence[str]], None], str]] = {
    "translate": (translate.main, "translate a video, a frame sequence or an image"),
    "batch": (batch.main, "translate many, one after the other or at once"),
    "evaluate": (evaluate.main, "make and measure a benchmark's results"),
    "grid": (grid.main, "find the thresholds that suit a source"),
    "visualize": (visualize.main, "show what happens inside the model"),
    "web": (web.main, "serve a page that translates, for a browser"),
    "completion": (completion.main, "print what completes commands and options in a shell"),
}

_COMMANDS_HELP = "\n".join(f"  {name:<12}{text}" for name, (_, text) in COMMANDS.items())
_EPILOG = f"""\
commands:
{_COMMANDS_HELP}

'pnpvideo COMMAND --help' describes its options."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        with stopped_by_signals():
            if given and given[0] in COMMANDS:
                COMMANDS[given[0]][0](given[1:])
            else:
                _answer(given)
    except InputError as error:
        return _fail(error, 2)
    except RunError as error:
        return _fail(error, 1)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else error, 1)
    except KeyboardInterrupt as stop:
        return _fail("stopped", stop.exit_code if isinstance(stop, Stopped) else 130)
    return 0


def _answer(arguments: Sequence[str]) -> None:
    """What is asked of no command: --help, --version, or a name that no command has."""
    parser = Parser("pnpvideo", "[--version] COMMAND ...", translate.INTRODUCTION, _EPILOG)
    parser.add_argument("--version", action="version", version=f"pnpvideo {__version__}")
    if arguments and not arguments[0].startswith("-"):
        parser.error(f"there is no command {arguments[0]}{nearest(arguments[0], COMMANDS)}")
    parser.parse(arguments)
    parser.print_help()


def _fail(error: object, code: int) -> int:
    with contextlib.suppress(OSError):  # The terminal may be closed.
        print(f"pnpvideo: {' '.join(str(error).split())}", file=sys.stderr)
    return code
