"""mkdocs' hooks: pages that are made when the documentation is built (see `mkdocs.yml`)."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# Pages that are copies of files outside the folder of the documentation.
COPIED = {
    "contributing.md": "CONTRIBUTING.md",
    "embedded-model.md": "pnpvideo/embedded/README.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside the folder of the documentation."""
    root = Path(config.config_file_path).parent
    for page, source in COPIED.items():
        content = (root / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Link to the copies: in the repository, where pages are read too, links are to the files."""
    for name, source in COPIED.items():
        markdown = markdown.replace(f"](../{source}", f"]({name}")
    return markdown
