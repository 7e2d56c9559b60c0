"""mkdocs' hooks: pages that are made when the documentation is built (see `mkdocs.yml`)."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from tools.site.options_page import options_page


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page of options, and the contributors' page from the project's folder."""
    files.append(File.generated(config, "options.md", content=options_page()))
    contributing = Path(config.config_file_path).with_name("CONTRIBUTING.md")
    files.append(
        File.generated(config, "contributing.md", content=contributing.read_text(encoding="utf-8"))
    )
    return files
