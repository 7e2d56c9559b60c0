"""FiVE-Bench (Li et al. 2025, arXiv 2503.13684): 420 edits of clips in six files.

edit_prompt/edit1_FiVE.json ... edit6_FiVE.json    video_name, save_dir, source_prompt, ...
images/CLIP/00001.jpg  bmasks/CLIP/00001.jpg       frames, and masks of the part to edit
videos/CLIP.mp4                                    the same frames
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
)
from pnpvideo.evaluation.masks import MaskPictures
from pnpvideo.evaluation.readers.json_file import read_list
from pnpvideo.evaluation.readers.pie_bench import without_brackets
from pnpvideo.files.shared_folder import file_name

EDIT_TYPES = {
    "1": "replace rigid object",
    "2": "replace non-rigid object",
    "3": "change colour",
    "4": "change material",
    "5": "add object",
    "6": "remove object",
}


class _Entry(BenchmarkEntry):
    video_name: str
    source_prompt: str
    target_prompt: str
    save_dir: str = ""


def read(data: Path, request: ReadRequest) -> Benchmark:
    """Return the items of those of the six files that exist."""
    collector, found_any = Collector(), False
    for number, text in EDIT_TYPES.items():
        path = data / "edit_prompt" / f"edit{number}_FiVE.json"
        if not path.is_file():
            continue
        found_any = True
        for index, value in enumerate(read_list(path)):
            with collector.entry(f"edit{number} entry {index}"):
                _add(
                    collector,
                    data,
                    f"{number} {text}",
                    f"edit{number}",
                    _Entry.model_validate(value),
                )
    if not found_any:
        raise InputError(f"{data} has no edit_prompt/edit1_FiVE.json to edit6_FiVE.json")
    return collector.done()


def _add(collector: Collector, data: Path, edit_type: str, kind: str, entry: _Entry) -> None:
    source, video = data / "images" / entry.video_name, data / "videos" / f"{entry.video_name}.mp4"
    if not source.is_dir():
        source = video
    if not source.exists():
        raise UnusableError(f"the clip {entry.video_name} is missing")
    masks = data / "bmasks" / entry.video_name
    if not masks.is_dir():
        raise UnusableError(f"the masks {masks} are missing")
    directory = entry.save_dir or file_name(entry.target_prompt)
    collector.add(
        Item(
            id=f"{kind} {entry.video_name} {directory}",
            source=source,
            prompt=without_brackets(entry.target_prompt),
            source_prompt=without_brackets(entry.source_prompt),
            edit_type=edit_type,
            # The benchmark's evaluation counts all pixels that are not black.
            mask=MaskPictures(path=masks, above=0),
            result=f"{entry.video_name}/{directory}",
        )
    )
