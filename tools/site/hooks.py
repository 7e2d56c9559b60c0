"""mkdocs' hooks: pages that are made and not written (see `mkdocs.yml`)."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from tools.site.options_page import options_page


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    files.append(File.generated(config, "options.md", content=options_page()))
    contributing = Path(config.config_file_path).with_name("CONTRIBUTING.md")
    files.append(
        File.generated(config, "contributing.md", content=contributing.read_text(encoding="utf-8"))
    )
    return files
