"""A command is one declaration: what it reads, in which order it works, and what it reports."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from pnpvideo.cli import COMMANDS, main
from pnpvideo.commands.command import Command
from pnpvideo.commands.notices import NoticeOptions, WriteOptions
from pnpvideo.errors import InputError
from pnpvideo.options.declared import Lifetime, Options, by_title, declared


class Numbers(Options, title="numbers"):
    first: Annotated[int, Lifetime.SAMPLING] = Field(
        description="the first", json_schema_extra={"positional": True, "missing": "a number"}
    )
    second: Annotated[int, Lifetime.SAMPLING] = Field(default=2, description="the second")


def command(events: list[object]) -> Command[Numbers, WriteOptions]:
    """A command that notes all that happens."""

    @contextlib.contextmanager
    def errors(call: WriteOptions) -> Iterator[None]:
        events.append(("begins", call.overwrite))
        try:
            yield
        except InputError as error:
            events.append(str(error))
            raise

    def work(numbers: Numbers, call: WriteOptions) -> None:
        events.append((numbers.first, numbers.second, call.quiet))
        logging.getLogger("pnpvideo").info("at work")

    return Command(
        name="add",
        summary="add two numbers",
        usage="FIRST [OPTION ...]",
        introduction="Adds.",
        examples="examples: none",
        groups=by_title(Numbers),
        call=WriteOptions,
        errors=errors,
        read=lambda given, _: Numbers.of(given),
        work=work,
    )


def test_options_of_the_call_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events: list[object] = []
    log = tmp_path / "log.txt"
    command(events).run(["5", "--second", "4", "--overwrite", "--log-file", str(log)])
    assert events == [("begins", True), (5, 4, False)]
    assert capsys.readouterr().err == "pnpvideo: at work\n"
    assert "INFO at work" in log.read_text()
    command(events).run(["5", "--quiet"])
    assert events[-1] == (5, 2, True)
    assert capsys.readouterr().err == ""


def test_errors_of_reading_are_reported_where_the_command_says() -> None:
    events: list[object] = []
    with pytest.raises(InputError, match="give a number"):
        command(events).run([])
    assert events == [("begins", False), "give a number"]


def test_the_help_has_all_sections(capsys: pytest.CaptureFixture[str]) -> None:
    for one in [*COMMANDS.values(), command([])]:
        with pytest.raises(SystemExit):
            one.run(["--help", "all"])
        out = capsys.readouterr().out
        assert one.introduction in out
        assert one.examples.splitlines()[-1] in out
        assert f"usage: pnpvideo {one.name} {one.usage}" in out
        for title, options in one.sections.items():
            assert f"\n{title}:\n" in out
            for name, schema in declared(options).items():
                flag = name.upper() if schema.get("positional") else f"--{name.replace('_', '-')}"
                assert flag in out


def test_the_list_of_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    for name, one in COMMANDS.items():
        assert one.name == name
        assert f"  {name:<12}{one.summary}\n" in out


def test_all_that_works_can_log_to_a_file() -> None:
    for name in set(COMMANDS) - {"completion", "words", "models"}:
        assert issubclass(COMMANDS[name].call, NoticeOptions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["batch"], "give a list of jobs (.jsonl, .csv or .yaml) or a folder of clips"),
        (["batch", "clips"], "give a folder for the results, with -o"),
        (["evaluate"], "give a benchmark, such as pie-bench"),
        (["evaluate", "pie-bench"], "give the folder of the benchmark's data"),
        (["evaluate", "pie-bench", "data"], "give a folder for results, with -o"),
        (["evaluate", "pi-bench", "data", "-o", "out"], "benchmark is 'pi-bench'; give pie-bench"),
        (["grid", "a.png", "--prompt", "x"], "give a folder for the results, with -o"),
        (["blocks"], "give a model with a transformer, such as flux2-klein or its folder"),
        (["blocks", "flux2-klein"], "give a folder for the measures, with -o"),
        (["visualize", "a.png"], "give a picture or video to write, such as -o inside.png"),
        (["completion"], "give a shell: bash"),
        (["translate", "--prompt", "x"], "give a source: a video"),
    ],
)
def test_what_is_required_is_asked_for(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"pnpvideo: {message}")
