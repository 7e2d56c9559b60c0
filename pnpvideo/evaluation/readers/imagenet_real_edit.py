"""ImageNet-real-edit: a JSON list of image_name, soure_prompt (sic) and edit_prompt.

Measured by FlexIT's metrics (Couairon et al. 2022, arXiv 2203.04705): does a classifier see the
class that the prompt names?
"""

from pathlib import Path

from pydantic import AliasChoices, Field

from pnpvideo.errors import InputError
from pnpvideo.evaluation.items import (
    Benchmark,
    BenchmarkEntry,
    Collector,
    Item,
    ReadRequest,
    find_picture,
)
from pnpvideo.evaluation.readers.json_file import read_list


class _Entry(BenchmarkEntry):
    image_name: str
    edit_prompt: str
    source_prompt: str = Field(validation_alias=AliasChoices("soure_prompt", "source_prompt"))
    target_label: str = ""


def read(data: Path, request: ReadRequest) -> Benchmark:
    """Return the items of a JSON file, or of the only one in a folder, with pictures beside it."""
    path = data
    if data.is_dir():
        paths = sorted(data.glob("*.json"))
        if len(paths) != 1:
            raise InputError(f"{data} has {len(paths)} JSON files; give the benchmark's file")
        path = paths[0]
    collector = Collector()
    for number, value in enumerate(read_list(path)):
        with collector.entry(f"entry {number}"):
            entry = _Entry.model_validate(value)
            collector.add(
                Item(
                    id=f"{number} {Path(entry.image_name).stem}",
                    source=find_picture(path.parent, entry.image_name),
                    prompt=entry.edit_prompt,
                    source_prompt=entry.source_prompt,
                    label=entry.target_label or entry.edit_prompt,
                    result=f"{number}_{Path(entry.image_name).stem}",
                )
            )
    return collector.done()
