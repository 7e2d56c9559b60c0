"""The set like PIE-Bench that is made from the world: readable, of every type, with right masks."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pnpvideo.evaluation.items import ReadRequest, find_result
from pnpvideo.evaluation.masks import RunLengths
from pnpvideo.evaluation.readers import pie_bench
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from tools.train.artwork import SMALL
from tools.train.pie_bench import SIDE, Job, make_edit, make_set, run_lengths, work
from tools.train.tasks import open_world


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make_set(open_world(SMALL), folder, 10)
    return folder


def test_every_type_is_there_and_readable(data: Path) -> None:
    found = pie_bench.read(data, ReadRequest(unpacked=data))
    assert found.left_out == ()
    assert [item.edit_type[0] for item in found.items] == list("0123456789")
    assert all(find_result(data / "truth", item.result) for item in found.items)


def test_what_changes_lies_in_the_mask(data: Path) -> None:
    for item in pie_bench.read(data, ReadRequest(unpacked=data)).items:
        assert item.source is not None
        assert item.mask is not None
        true = find_result(data / "truth", item.result)
        pictures = [np.asarray(Image.open(path), int) for path in (item.source, str(true))]
        mask = item.mask.read(1, SIDE, SIDE)[0]
        outside = np.abs(pictures[0] - pictures[1])[~mask]
        assert np.abs(pictures[0] - pictures[1])[mask].max() > 30, item.id
        if outside.size and item.edit_type[0] != "8":  # Things on another ground have its shadow.
            assert (outside > 40).mean() < 0.02, item.id


def test_run_lengths_come_back() -> None:
    mask = np.random.default_rng(0).random((SIDE, SIDE)) < 0.3
    mask[[0, -1]] = mask[:, [0, -1]] = True
    found = RunLengths(runs=tuple(run_lengths(mask))).read(1, SIDE, SIDE)[0]
    assert np.array_equal(found, mask)


def test_edits_of_things() -> None:
    world = open_world(SMALL)
    more, fewer, content = (make_edit(world, kind, 1) for kind in "234")
    assert len(more.target.objects) == len(more.source.objects) + 1
    assert len(fewer.source.objects) == len(fewer.target.objects) + 1
    assert content.source.objects[0].name != content.target.objects[0].name
    assert content.source.objects[1:] == content.target.objects[1:]


def test_methods_write_in_the_same_layout(data: Path, tiny_model: Path) -> None:
    pipeline = PnPVideoPipeline.from_pretrained(str(tiny_model))
    pipeline.set_progress_bar_config(disable=True)
    item = pie_bench.read(data, ReadRequest(unpacked=data)).items[0]
    methods = ("ddim", "sdedit 0.6", "generation")
    work(pipeline, Job(item=item, methods=methods, steps=5, out=data))
    for name in ("ddim", "sdedit-0.6", "generation"):
        path = find_result(data / name, item.result)
        assert path is not None
        with Image.open(path) as picture:
            assert picture.size == (SIDE, SIDE)
    assert json.loads((data / "mapping_file.json").read_text())
