"""The evaluation's HTML page: means by edit type, and every item with its pictures and values."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

import jinja2

from pnpvideo.clips.clip import Frames
from pnpvideo.errors import InputError
from pnpvideo.evaluation.items import Benchmark, Item, find_result
from pnpvideo.evaluation.measure_results import MethodFolders
from pnpvideo.evaluation.page_media import mask_picture, picture, slice_over_time, video
from pnpvideo.evaluation.run_folder import RunFolder
from pnpvideo.evaluation.samples import FrameRange, read_frames
from pnpvideo.evaluation.summary import Row, Summary, value_text

PAGE = "report.html"


class Figure(TypedDict):
    """One picture or clip of an item, as data URLs, and its name. slice: of a clip over time."""

    name: str
    image: str
    video: str
    slice: str


def write_page(
    summary: Summary,
    benchmark: Benchmark,
    methods: MethodFolders,
    folder: RunFolder,
    frames: FrameRange,
) -> Path:
    """Write the self-contained page. Raise RunError if it cannot be written."""
    by_item: dict[str, list[Row]] = {}
    for row in summary.rows:
        by_item.setdefault(row.item.id, []).append(row)
    items = {item.id: item for item in benchmark.items}
    cards = [
        {
            "item": items[name],
            "figures": _figures(items[name], items, methods, rows, frames),
            "rows": rows,
            # The page sorts by these values.
            "values": json.dumps({row.method: dict(row.values) for row in rows}),
        }
        for name, rows in by_item.items()
    ]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pnpvideo.evaluation", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    text = environment.get_template("report.html.jinja").render(
        summary=summary, cards=cards, shown=value_text, json=json, types=_types(summary)
    )
    path = folder.path / PAGE
    folder.write_text(path, text)
    return path


def _types(summary: Summary) -> list[str]:
    return sorted({row.item.edit_type for row in summary.rows} - {""})


def _figures(
    item: Item,
    items: Mapping[str, Item],
    methods: MethodFolders,
    rows: list[Row],
    frames: FrameRange,
) -> list[Figure]:
    """Return figures of source, mask and reference, then of each method's result."""
    start = item
    while start.source is None:
        start = items[str(start.after)]
    figures = []
    source = _read(start.source, frames)
    if source is not None:
        figures.append(_figure("source", source))
    if item.mask is not None and source is not None:
        _, height, width, _ = source.shape
        try:
            mask = mask_picture(item.mask.read(1, width, height))
            figures.append(Figure(name="mask", image=mask, video="", slice=""))
        except InputError:
            pass  # The reason is listed with the left-out entries.
    if item.reference is not None and (reference := _read(item.reference, frames)) is not None:
        figures.append(_figure("reference", reference))
    for row in rows:
        path = find_result(methods[row.method], item.result)
        if path is not None and (result := _read(path, frames)) is not None:
            figures.append(_figure(row.method, result))
    return figures


def _read(path: Path, frames: FrameRange) -> Frames | None:
    try:
        return read_frames(path, frames)
    except InputError:
        return None


def _figure(name: str, frames: Frames) -> Figure:
    if len(frames) == 1:
        return Figure(name=name, image=picture(frames), video="", slice="")
    return Figure(
        name=name, image=picture(frames), video=video(frames), slice=slice_over_time(frames)
    )
