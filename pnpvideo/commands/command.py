"""A command is one declaration, which the parser, the help text, completion and the documentation
read.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pnpvideo.catalogue.find_model import check_model
from pnpvideo.catalogue.own_options import own_options
from pnpvideo.clips.find_images import check_there
from pnpvideo.commands.notices import NoticeOptions, kept_log, show_notices
from pnpvideo.options.arguments import Parser, brief_help
from pnpvideo.options.declared import Options, declared
from pnpvideo.options.values import EMBEDDED_MODEL

S = TypeVar("S")
C = TypeVar("C", bound=Options)


def _unchanged(_: object) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def _nothing_to_say(_settings: object, _call: object) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class Command(Generic[S, C]):
    """A command of the command line, in the order in which its parts are used.

    name, summary: its line in the list of commands. usage, introduction, examples: the rest of its
    help text. groups: the options that describe the work, by title. call: options of one call,
    which do not belong to the work, such as --quiet.
    has_short_help: whether --help shows the main options alone, and --help all shows all. others:
    some of the options that --help leaves out, which its last line names.
    errors: a context for reading and working, which may report errors in another way.
    read: makes settings from the options of the groups that are given, by name.
    sources: returns the files that have to exist before the work begins. None stands for a file
    that was not given.
    work: does what the settings say; it and nothing before it may import torch.
    when_stopped: returns what is kept if the work is stopped, and how to go on, unless the work
    itself says so with its KeyboardInterrupt; '' for nothing to say. It must not import anything,
    as the stop may have come while Python imported it.
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
    sources: Callable[[S], Iterable[str | None]] = lambda _: ()
    when_stopped: Callable[[S, C], str] = _nothing_to_say
    has_short_help: bool = False
    others: Sequence[str] = ()
    errors: Callable[[C], contextlib.AbstractContextManager[None]] = _unchanged

    @property
    def sections(self) -> dict[str, type[Options]]:
        """Return all options by the title of their section in a help text."""
        own = {"this call": self.call} if self.call.model_fields else {}
        return {**self.groups, **own}

    def parser(self, own: Mapping[str, object] | None = None) -> Parser:
        """Return a parser of all options. own: a model's own defaults, for the help text."""
        parser = Parser(f"pnpvideo {self.name}", self.usage, self.introduction, self.examples)
        for title, options in self.sections.items():
            parser.add_options(title, options, own)
        return parser

    def help(self, arguments: Sequence[str]) -> str:
        """Return the help text that arguments with --help ask for."""
        own = own_options(_value_of("--model", arguments) or EMBEDDED_MODEL)
        if not self.has_short_help or _value_of("--help", arguments, "-h") == "all":
            return self.parser(own).format_help()
        more = f", such as {', '.join(self.others)}" if self.others else ""
        parser = Parser(
            f"pnpvideo {self.name}",
            self.usage,
            self.introduction,
            f"{self.examples}\n\n'pnpvideo {self.name} --help all' describes every option{more}.",
        )
        known = {k: v for options in self.sections.values() for k, v in declared(options).items()}
        main = {name: schema for name, schema in known.items() if "brief" in schema}
        texts = {name: (schema, brief_help(schema, own.get(name))) for name, schema in main.items()}
        parser.add_section("main options", texts)
        return parser.format_help()

    def run(self, arguments: Sequence[str]) -> None:
        """Run the command with the arguments that follow its name."""
        if "--help" in arguments or "-h" in arguments:
            print(self.help(arguments), end="")
            raise SystemExit(0)
        given = self.parser().parse(arguments)
        own = {name: given.pop(name) for name in declared(self.call) if name in given}
        call = self.call.of(own)
        with self.errors(call):
            settings = self.read(given, call)
            # What cannot be there is refused before the work imports torch.
            _check_models(given.get("model"))
            for source in filter(None, self.sources(settings)):
                check_there(source)
            with logging_for(call, arguments):
                self._work(settings, call)

    def _work(self, settings: S, call: C) -> None:
        """Do the work. If it is stopped, the KeyboardInterrupt says what is kept."""
        try:
            self.work(settings, call)
        except KeyboardInterrupt as stop:
            if not stop.args and (kept := self.when_stopped(settings, call)):
                stop.args = (f"stopped; {kept}",)
            raise


def _value_of(flag: str, arguments: Sequence[str], short: str | None = None) -> str | None:
    """Return the value of a flag among arguments; None without one."""
    for one, following in zip(arguments, [*arguments[1:], None], strict=True):
        if one in (flag, short):
            return following
        if one.startswith(f"{flag}="):
            return one.partition("=")[2]
    return None


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
