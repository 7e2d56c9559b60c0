"""What commands have in common: reading options, and telling."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from pydantic import Field

from pnpvideo.commands.notices import NoticeOptions, kept_log, show_notices
from pnpvideo.options.arguments import Parser
from pnpvideo.options.declared import Options, declared

S = TypeVar("S", bound=Options)
C = TypeVar("C", bound=NoticeOptions)


class WriteOptions(NoticeOptions):
    """What belongs to one call of a command, and not to the run that it describes."""

    overwrite: bool = Field(default=False, description="replace a result that exists")


def read_call(
    parser: Parser,
    groups: Mapping[str, type[Options]],
    call: type[C],
    arguments: Sequence[str],
) -> tuple[C, dict[str, object]]:
    """What belongs to the call, and what else is given, by name."""
    for title, options in groups.items():
        parser.add_options(title, options)
    parser.add_options("this call", call)
    given = parser.parse(arguments)
    own = {name: given.pop(name) for name in declared(call) if name in given}
    return call.of(own), given


@contextlib.contextmanager
def told(call: NoticeOptions, arguments: Sequence[str]) -> Iterator[None]:
    """Tell what the call wants told while it works."""
    show_notices(quiet=call.quiet, verbose=call.verbose)
    with kept_log(call.log_file, list(arguments)):
        yield


def run_command(
    parser: Parser,
    groups: Mapping[str, type[Options]],
    settings: type[S],
    arguments: Sequence[str],
    work: Callable[[S, WriteOptions], None],
) -> None:
    """Read settings from arguments, and work with them, telling what is asked to be told."""
    call, given = read_call(parser, groups, WriteOptions, arguments)
    chosen = settings.of(given)
    with told(call, arguments):
        work(chosen, call)
