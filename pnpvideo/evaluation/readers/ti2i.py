"""Wild-TI2I and ImageNet-R-TI2I, by the authors of Plug-and-Play Diffusion Features (Tumanyan et
al. 2022, arXiv 2211.12572, section 5): a YAML file, a list of init_img and target_prompts.

Paths in it begin above the folder that the file lies in (/ImageNetR-TI2I/panda/cartoon_30.jpg).
"""

from pathlib import Path

import yaml

from pnpvideo.errors import InputError
from pnpvideo.evaluation.items import (
    Benchmark,
    Collector,
    Entry,
    Item,
    ReadRequest,
    UnusableError,
    find_picture,
)
from pnpvideo.evaluation.readers.json_file import read_text
from pnpvideo.files.shared_folder import file_name


class _Entry(Entry):
    target_prompts: tuple[str, ...]
    init_img: str | None = None
    source_prompt: str = ""


def read(data: Path, request: ReadRequest) -> Benchmark:
    """The items of a YAML file, or of the only one in a folder."""
    path = _file(data)
    try:
        entries = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {error}") from None
    if not isinstance(entries, list):
        raise InputError(f"{path} holds no list of pictures with their prompts")
    collector = Collector()
    for number, value in enumerate(entries):
        with collector.entry(f"entry {number}"):
            _add(collector, path.parent, _Entry.model_validate(value))
    return collector.done()


def _file(data: Path) -> Path:
    if data.is_file():
        return data
    found = sorted([*data.glob("*.yaml"), *data.glob("*.yml")])
    if len(found) != 1:
        raise InputError(f"{data} has {len(found)} YAML files; give the one of the benchmark")
    return found[0]


def _add(collector: Collector, folder: Path, entry: _Entry) -> None:
    if entry.init_img is None:
        # The sets of generated pictures name a prompt and a seed of the authors' own model.
        raise UnusableError("it names no picture")
    picture = find_picture(folder, entry.init_img)
    inside = picture.relative_to(folder).with_suffix("")
    for number, prompt in enumerate(entry.target_prompts):
        name = f"{inside.as_posix()}/{number}_{file_name(prompt)}"
        with collector.entry(name):
            collector.add(
                Item(
                    id=name,
                    source=picture,
                    prompt=prompt,
                    source_prompt=entry.source_prompt,
                    edit_type=inside.parent.name,
                    result=name,
                )
            )
