"""PIE-Bench (Ju et al. 2024, "PnP Inversion", arXiv 2310.01506): 700 pictures of 512 pixels a side.

mapping_file.json    id -> image_path, original_prompt, editing_prompt, editing_type_id, mask
annotation_images/   the pictures
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator

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
from pnpvideo.evaluation.masks import RunLengths, check_runs
from pnpvideo.evaluation.readers.json_file import read_object
from pnpvideo.files.tables import number_as_text

EDIT_TYPES = {
    "0": "random",
    "1": "change object",
    "2": "add object",
    "3": "delete object",
    "4": "change content",
    "5": "change pose",
    "6": "change colour",
    "7": "change material",
    "8": "change background",
    "9": "change style",
}
IMAGES = "annotation_images"


class _Entry(BenchmarkEntry):
    image_path: str
    original_prompt: str
    editing_prompt: str
    editing_type_id: Annotated[
        Literal["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"], BeforeValidator(number_as_text)
    ]
    mask: tuple[int, ...]


def read(data: Path, request: ReadRequest) -> Benchmark:
    """Return the items of the published folder, in the file's order."""
    mapping = read_object(data / "mapping_file.json")
    if not (data / IMAGES).is_dir():
        raise InputError(f"{data} has no folder {IMAGES}; give its parent folder")
    collector = Collector()
    for name in mapping.repeated:
        with collector.entry(name):
            raise UnusableError("this id occurs twice; the first entry is used")
    for name, value in mapping.items():
        with collector.entry(name):
            collector.add(_item(data, name, _Entry.model_validate(value)))
    return collector.done()


def _item(data: Path, name: str, entry: _Entry) -> Item:
    if problem := check_runs(entry.mask):
        raise UnusableError(problem)
    image_path = Path(IMAGES) / entry.image_path
    return Item(
        id=name,
        source=find_picture(data / IMAGES, entry.image_path),
        prompt=without_brackets(entry.editing_prompt),
        source_prompt=without_brackets(entry.original_prompt),
        edit_type=f"{entry.editing_type_id} {EDIT_TYPES[entry.editing_type_id]}",
        mask=RunLengths(runs=entry.mask),
        result=image_path.with_suffix("").as_posix(),
    )


def without_brackets(prompt: str) -> str:
    """Return a prompt without the brackets around words that change."""
    return prompt.replace("[", "").replace("]", "")
