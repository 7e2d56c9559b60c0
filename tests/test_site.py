"""The pages of the documentation: every option is there, and links lead somewhere."""

import contextlib
import re
from pathlib import Path

import pytest

from pnpvideo.cli import COMMANDS, main
from pnpvideo.options.declared import declared
from tools.site.options_page import options_page

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_the_help_is_on_the_page(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.suppress(SystemExit):
        main([command, "--help"])
    helped = capsys.readouterr().out
    flags = set(re.findall(r"^  (?:-\w(?: \S+)?, )?--([a-z-]+)", helped, re.MULTILINE)) - {"help"}
    names = {
        name.replace("_", "-")
        for options in COMMANDS[command].sections.values()
        for name, schema in declared(options).items()
        if not schema.get("positional")
    }
    assert flags == names
    page = options_page()
    for name in names:
        assert f"`--{name}`" in page


def test_pages_name_only_options_that_there_are() -> None:
    page = options_page()
    command = re.compile(rf"pnpvideo (?:{'|'.join(COMMANDS)})(?:[^\n]*\\\n)*[^\n]*")
    for path in DOCS.glob("*.md"):
        for called in command.findall(path.read_text(encoding="utf-8")):
            for flag in re.findall(r" (--[a-z][a-z-]+)", called):
                assert flag == "--help" or f"`{flag}`" in page, f"{path.name}: {flag}"


def test_pictures_of_pages_are_there() -> None:
    for path in DOCS.glob("*.md"):
        for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
            assert (DOCS / target).is_file(), f"{path.name}: {target}"
