"""The pages of the documentation: every option is there, and links lead somewhere."""

import contextlib
import re
from pathlib import Path

import pytest

from pnpvideo.cli import COMMANDS, main
from pnpvideo.options.declared import declared
from tools.site.options_page import options_page

README = Path(__file__).parent.parent / "README.md"
PAGES = [README, *README.parent.glob("docs/*.md")]


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


def test_pages_name_only_options_that_exist() -> None:
    page = options_page()
    command = re.compile(rf"pnpvideo (?:{'|'.join(COMMANDS)})(?:[^\n]*\\\n)*[^\n]*")
    for path in PAGES:
        for called in command.findall(path.read_text(encoding="utf-8")):
            for flag in re.findall(r" (--[a-z][a-z-]+)", called):
                assert flag == "--help" or f"`{flag}`" in page, f"{path.name}: {flag}"


def test_pictures_of_pages_exist() -> None:
    for path in PAGES:
        for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).is_file(), f"{path.name}: {target}"


def test_links_of_the_readme_lead_to_files_and_headings() -> None:
    text = README.read_text(encoding="utf-8")
    for target in re.findall(r"(?<!!)\[[^]]*\]\(([^)]+)\)", text):
        if not target.startswith("https://"):
            name, _, anchor = target.partition("#")
            page = (README.parent / name).read_text(encoding="utf-8")
            headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
            slugs = {
                re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings
            }
            assert not anchor or anchor in slugs, target
