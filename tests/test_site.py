"""The pages of the documentation: every option is there, and links lead somewhere."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pnpvideo.catalogue.known_words import words_of_model
from pnpvideo.catalogue.unknown_words import notice_of_unknown
from pnpvideo.cli import COMMANDS, main
from pnpvideo.options.declared import declared
from tools.site.options_page import options_page
from tools.train.words_page import words_page

README = Path(__file__).parent.parent / "README.md"
PAGES = [README, *README.parent.glob("docs/*.md")]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_the_help_is_on_the_page(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.suppress(SystemExit):
        main([command, "--help", "all"])
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


def test_examples_use_words_that_the_bundled_model_knows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = words_of_model("embedded")
    assert known is not None
    texts = {path.name: path.read_text(encoding="utf-8") for path in PAGES}
    for name in COMMANDS:
        with contextlib.suppress(SystemExit):
            main([name, "--help"])
        texts[f"{name} --help"] = capsys.readouterr().out
    checked = 0
    for name, text in texts.items():
        for prompt in example_prompts(text):
            assert notice_of_unknown([prompt], known) is None, f"{name}: {prompt}"
            checked += 1
    assert checked > 30


def example_prompts(text: str) -> Iterator[str]:
    """The prompts of a text's commands and code that use the bundled model."""
    call = re.compile(r"pnpvideo (?:translate|batch|grid|visualize)(?:[^\n]*\\\n)*[^\n]*")
    for command in call.findall(text):
        if "--model" not in command and "--benchmark" not in command:
            flag = r'--(?:prompt|negative-prompt|guidance-prompt|mask-from-prompt) "([^"]+)"'
            yield from re.findall(flag, command)
    yield from re.findall(r'"prompt": "([^"]+)"', text)
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        if "embedded" in code or "pnpvideo.translate(" in code:
            yield from re.findall(r'"(an? [^"]+)"', code)


def test_the_page_of_words_is_the_list() -> None:
    known = words_of_model("embedded")
    assert known is not None
    assert (README.parent / "docs" / "words.md").read_text(encoding="utf-8") == words_page(known)
    assert (README.parent / "docs" / "words.jpg").stat().st_size < 300_000
