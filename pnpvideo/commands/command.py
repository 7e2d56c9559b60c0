"""A command is one declaration, which the parser, the help text, completion and the documentation
read.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pnpvideo.catalogue.find_model import check_model
from pnpvideo.commands.notices import NoticeOptions, kept_log, show_notices
from pnpvideo.options.arguments import Parser
from pnpvideo.options.declared import Options, declared

S = TypeVar("S")
C = TypeVar("C", bound=Options)


def _unchanged(_: object) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


@dataclass(frozen=True, kw_only=True)
class Command(Generic[S, C]):
    """A command of the command line, in the order in which its parts are used.

    name, summary: its line in the list of commands. usage, introduction, examples: the rest of its
    help text. groups: the options that describe the work, by title. call: options of one call,
    which do not belong to the work, such as --quiet.
    errors: a context for reading and working, which may report errors in another way.
    read: makes settings from the options of the groups that are given, by name.
    work: does what the settings say; it and nothing before it may import torch.
    """

    name: str
    summary: str
    usage: str
    introduction: str
    examples: str
    groups: Mapping[str, type[Options]]
    call: type[C]
    read: Callable[[dict[str, object], C], S]
    work: Callable[[S, C], None]
    errors: Callable[[C], contextlib.AbstractContextManager[None]] = _unchanged

    @property
    def sections(self) -> dict[str, type[Options]]:
        """Return all options by the title of their section in a help text."""
        own = {"this call": self.call} if self.call.model_fields else {}
        return {**self.groups, **own}

    def parser(self) -> Parser:
        """Return a parser of all options."""
        parser = Parser(f"pnpvideo {self.name}", self.usage, self.introduction, self.examples)
        for title, options in self.sections.items():
            parser.add_options(title, options)
        return parser

    def run(self, arguments: Sequence[str]) -> None:
        """Run the command with the arguments that follow its name."""
        given = self.parser().parse(arguments)
        own = {name: given.pop(name) for name in declared(self.call) if name in given}
        call = self.call.of(own)
        with self.errors(call):
            settings = self.read(given, call)
            _check_models(given.get("model"))
            with logging_for(call, arguments):
                self.work(settings, call)


def _check_models(given: object) -> None:
    """Raise an error for a model, or one of several, that cannot be there; it needs no torch."""
    for model in given if isinstance(given, list) else [given]:
        if isinstance(model, str):
            check_model(model)


AnyCommand = Command[Any, Any]


@contextlib.contextmanager
def logging_for(call: Options, arguments: Sequence[str]) -> Iterator[None]:
    """Print and keep the log messages that a call asks for, within the context."""
    if not isinstance(call, NoticeOptions):
        yield
        return
    show_notices(quiet=call.quiet, verbose=call.verbose)
    with kept_log(call.log_file, list(arguments)):
        yield
