"""What commands beside `translate` have in common: reading options, telling, and late imports."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from pydantic import Field

from pnpvideo.commands.notices import NoticeOptions, kept_log, show_notices
from pnpvideo.options.arguments import Parser
from pnpvideo.options.declared import Options

S = TypeVar("S", bound=Options)


class WriteOptions(NoticeOptions):
    """What belongs to one call of a command, and not to the run that it describes."""

    overwrite: bool = Field(default=False, description="replace a result that exists")


def run_command(
    parser: Parser,
    groups: Mapping[str, type[Options]],
    settings: type[S],
    arguments: Sequence[str],
    work: Callable[[S, WriteOptions], None],
) -> None:
    """Read settings from arguments, and work with them, telling what is asked to be told."""
    for title, options in groups.items():
        parser.add_options(title, options)
    parser.add_options("this call", WriteOptions)
    given = parser.parse(arguments)
    call = WriteOptions.of({k: v for k, v in given.items() if k in WriteOptions.model_fields})
    chosen = settings.of({k: v for k, v in given.items() if k not in WriteOptions.model_fields})
    show_notices(quiet=call.quiet, verbose=call.verbose)
    with kept_log(call.log_file, list(arguments)):
        work(chosen, call)
