"""mkdocs' hooks: pages that are made when the documentation is built (see `mkdocs.yml`)."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from tools.site.options_page import options_page

# Pages that are copies of files outside the folder of the documentation.
COPIED = {
    "contributing.md": "CONTRIBUTING.md",
    "embedded-model.md": "pnpvideo/embedded/README.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page of options, and the contributors' page from the project's folder."""
    files.append(File.generated(config, "options.md", content=options_page()))
    root = Path(config.config_file_path).parent
    for page, source in COPIED.items():
        content = (root / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=content))
    return files
