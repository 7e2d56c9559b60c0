"""Wild-TI2I and ImageNet-R-TI2I: a YAML list of init_img and target_prompts.

By the authors of Plug-and-Play Diffusion Features (Tumanyan et al. 2022, arXiv 2211.12572, section
5). Paths in it start above the file's folder (/ImageNetR-TI2I/panda/cartoon_30.jpg).
"""

from pathlib import Path

from pnpvideo.errors import InputError
from pnpvideo.evaluation.items import (
    Benchmark,
    BenchmarkEntry,
    Collector,
    Item,
    ReadRequest,
    UnusableError,
    find_picture,
)
from pnpvideo.files.read_text import parse_yaml, read_text
from pnpvideo.files.shared_folder import file_name


class _Entry(BenchmarkEntry):
    target_prompts: tuple[str, ...]
    init_img: str | None = None
    source_prompt: str = ""


def read(data: Path, request: ReadRequest) -> Benchmark:
    """Return the items of a YAML file, or of the only one in a folder."""
    path = _file(data)
    entries = parse_yaml(read_text(path), path)
    if not isinstance(entries, list):
        raise InputError(f"{path} does not hold a list of pictures with their prompts")
    collector = Collector()
    for number, value in enumerate(entries):
        with collector.entry(f"entry {number}"):
            _add(collector, path.parent, _Entry.model_validate(value))
    return collector.done()


def _file(data: Path) -> Path:
    if data.is_file():
        return data
    paths = sorted([*data.glob("*.yaml"), *data.glob("*.yml")])
    if len(paths) != 1:
        raise InputError(f"{data} has {len(paths)} YAML files; give the benchmark's file")
    return paths[0]


def _add(collector: Collector, folder: Path, entry: _Entry) -> None:
    if entry.init_img is None:
        # The sets of generated pictures give a prompt and a seed for the authors' model.
        raise UnusableError("it names no picture")
    picture = find_picture(folder, entry.init_img)
    relative_path = picture.relative_to(folder).with_suffix("")
    for number, prompt in enumerate(entry.target_prompts):
        name = f"{relative_path.as_posix()}/{number}_{file_name(prompt)}"
        with collector.entry(name):
            collector.add(
                Item(
                    id=name,
                    source=picture,
                    prompt=prompt,
                    source_prompt=entry.source_prompt,
                    edit_type=relative_path.parent.name,
                    result=name,
                )
            )
