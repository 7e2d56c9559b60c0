"""The pages of the documentation: every option is there, and links lead somewhere."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from page import in_a_browser

from pnpvideo.catalogue.known_words import words_of_model
from pnpvideo.catalogue.unknown_words import notice_of_unknown
from pnpvideo.cli import COMMANDS, main
from pnpvideo.options.declared import declared
from tools.site.options_page import PAGE, options_page
from tools.train.words_page import words_page

README = Path(__file__).parent.parent / "README.md"
CODE_BEYOND_THE_EDGE = """[...document.querySelectorAll("pre > code")].some(
    code => code.scrollWidth > code.clientWidth + 1
)"""
PAGES = [README, *README.parent.glob("docs/*.md")]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_the_help_is_on_the_page(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.suppress(SystemExit):
        main([command, "--help", "all"])
    helped = capsys.readouterr().out
    flags = set(re.findall(r"^  (?:-\w(?: \S+)?, )?--([a-z0-9-]+)", helped, re.MULTILINE)) - {
        "help"
    }
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
            for flag in re.findall(r" (--[a-z][a-z0-9-]+)", called):
                assert flag == "--help" or f"`{flag}`" in page, f"{path.name}: {flag}"


def test_pictures_of_pages_exist() -> None:
    for path in PAGES:
        for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).is_file(), f"{path.name}: {target}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_of_pages_lead_to_files_and_headings_of_the_repository(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"(?<!!)\[[^]]*\]\(([^)]+)\)", text):
        if not target.startswith("https://"):
            name, _, anchor = target.partition("#")
            linked = path.parent / name if name else path
            assert linked.exists(), target
            assert not anchor or anchor in anchors(linked), target


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as mkdocs and code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_page_of_options_is_the_declarations() -> None:
    assert PAGE.read_text(encoding="utf-8") == options_page()


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
    samples = README.parent / "samples"
    texts |= {path.name: sample_commands(path) for path in samples.glob("*.yaml")}
    checked = 0
    for name, text in texts.items():
        for prompt in example_prompts(text):
            assert notice_of_unknown([prompt], known) is None, f"{name}: {prompt}"
            checked += 1
    assert checked > 30


def sample_commands(path: Path) -> str:
    """The prompts of a settings file, as a command."""
    prompts = yaml.safe_load(path.read_text(encoding="utf-8"))["prompt"]
    return "pnpvideo translate " + " ".join(f'--prompt "{prompt}"' for prompt in prompts)


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


@pytest.mark.slow
@in_a_browser
@pytest.mark.parametrize("width", [1400, 420])
def test_pages_from_disk_fit_and_can_be_searched_without_a_network(
    width: int, browser: Any, built_site: Path
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
    page = context.new_page()
    for name in ("options", "guide", "api", "troubleshooting"):
        page.goto((built_site / f"{name}.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        assert not page.evaluate(CODE_BEYOND_THE_EDGE), name
    if width < 960:
        page.click(".md-header__button[for=__search]")
    else:
        page.click(".md-search__input")
    for name in ("keyframe_window", "keyframe-window", "tau_f"):
        # All at once: results for the first letters would be taken for those of the name.
        page.fill(".md-search__input", name)
        page.locator(".md-search__input").press("End")
        title = page.locator("h1", has_text="Every option")
        found = page.locator(".md-search-result__item").filter(has=title)
        found.first.wait_for(timeout=10_000)
        page.fill(".md-search__input", "")
        found.first.wait_for(state="detached", timeout=10_000)
    context.close()


@pytest.fixture(scope="module")
def built_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built as `make docs` builds it."""
    build = pytest.importorskip("mkdocs.commands.build")
    config = pytest.importorskip("mkdocs.config")
    folder = tmp_path_factory.mktemp("site")
    loaded = config.load_config(str(README.parent / "mkdocs.yml"), site_dir=str(folder))
    loaded.plugins.on_startup(command="build", dirty=False)
    build.build(loaded)
    return folder
