"""Readers of the published formats: every field, every mask, and whatever may be broken in them."""

import json
from collections.abc import Callable
from pathlib import Path

import benchmarks as made
import numpy as np
import pytest
from PIL import Image

from pnpvideo.errors import InputError
from pnpvideo.evaluation.benchmarks import BENCHMARKS, choose, left_out_text
from pnpvideo.evaluation.items import Benchmark, Item, ReadRequest, find_result
from pnpvideo.evaluation.masks import MaskPictures, RunLengths
from pnpvideo.options.evaluation import BenchmarkName

MAKE: dict[BenchmarkName, Callable[[Path], Path]] = {
    "pie-bench": made.save_pie_bench,
    "imagenet-r-ti2i": made.save_ti2i,
    "wild-ti2i": made.save_ti2i,
    "emu-edit": made.save_emu_edit,
    "magicbrush": made.save_magicbrush,
    "imagenet-real-edit": made.save_imagenet_real_edit,
    "five-bench": made.save_five_bench,
    "manifest": made.save_manifest,
}


def read(name: BenchmarkName, data: Path, captions: Path | None = None) -> Benchmark:
    unpacked = (data if data.is_dir() else data.parent) / "unpacked"
    return BENCHMARKS[name].read(data, ReadRequest(captions=captions, unpacked=unpacked))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


# What each format gives


def by_id(benchmark: Benchmark) -> dict[str, Item]:
    return {item.id: item for item in benchmark.items}


def test_pie_bench(folder: Path) -> None:
    items = by_id(read("pie-bench", made.save_pie_bench(folder)))
    assert len(items) == 11
    first, second = items["000000000000"], items["second"]
    assert first.source_prompt == "a red star on grass"
    assert first.prompt == "a blue star on grass"
    assert first.result == "annotation_images/0_some_kind/00"
    assert first.group_key == second.group_key
    assert [item.edit_type for item in items.values()][:10] == [
        *("0 random", "1 change object", "2 add object", "3 delete object", "4 change content"),
        *("5 change pose", "6 change colour", "7 change material", "8 change background"),
        "9 change style",
    ]


def test_pie_bench_with_types_that_programs_write(folder: Path) -> None:
    made.save_pie_bench(folder, "0123")
    path = folder / "mapping_file.json"
    entries = json.loads(path.read_text())
    for entry, kind in zip(entries.values(), (0, 1.0, "2", 3, 0), strict=True):
        entry["editing_type_id"] = kind
    path.write_text(json.dumps(entries))
    found = read("pie-bench", folder)
    assert [item.edit_type[0] for item in found.items] == list("01230")
    for wrong in (True, 11, 1.5, None, "x", float("inf")):
        entries["second"]["editing_type_id"] = wrong
        path.write_text(json.dumps(entries))
        assert [left.id for left in read("pie-bench", folder).left_out] == ["second"]


def test_ti2i(folder: Path) -> None:
    found = read("imagenet-r-ti2i", made.save_ti2i(folder))
    assert [(item.prompt, item.source_prompt, item.edit_type) for item in found.items] == [
        ("a photo of a panda", "a cartoon of a panda", "panda"),
        ("a sketch of a panda", "a cartoon of a panda", "panda"),
        ("a statue", "", "data"),
    ]
    assert found.items[0].result == "panda/cartoon_30/0_a_photo_of_a_panda"
    assert left_out_text(found.left_out) == "entry 2: it names no picture"


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv", ".tsv"])
def test_emu_edit(folder: Path, suffix: str) -> None:
    found = read("emu-edit", made.save_emu_edit(folder, suffix))
    assert [(i.id, i.source_prompt, i.prompt, i.edit_type) for i in found.items] == [
        ("0", "a cat", "a dog", "local"),
        ("3", "a red house", "a blue house", "color"),
    ]
    assert [(left.id, left.reason, left.by_rule) for left in found.left_out] == [
        ("1", "its caption is a placeholder", True),
        ("2", "its two captions are the same", True),
    ]
    with Image.open(str(found.items[1].source)) as kept, Image.open(folder / "3.png") as given:
        assert np.array_equal(np.asarray(kept), np.asarray(given))


def test_magicbrush(folder: Path) -> None:
    data = made.save_magicbrush(folder)
    items = by_id(read("magicbrush", data))
    single = [item for item in items.values() if item.edit_type == "single turn"]
    assert [item.result for item in single] == [
        *("7/7_1", "139/139_1", "139/139_inde_2", "139/139_inde_3")
    ]
    assert [Path(str(item.source)).name for item in single] == [
        *("7-input.png", "139-input.png", "139-output1.png", "139-output2.png")
    ]
    chain = [item for item in items.values() if item.edit_type == "multi turn"]
    assert [item.result for item in chain] == [
        *("7/7_1", "139/139_1", "139/139_iter_2", "139/139_iter_3")
    ]
    assert [item.scored for item in chain] == [True, False, False, True]
    assert [item.source is None for item in chain] == [False, False, True, True]
    assert chain[-1].after == chain[-2].id
    assert chain[-1].prompt == "a table with 3 cups"
    assert Path(str(chain[-1].reference)).name == "139-output3.png"
    hole = np.zeros((32, 48), bool)
    hole[8:16, 8:24] = True
    assert single[0].mask is not None
    assert np.array_equal(single[0].mask.read(1, 48, 32)[0], hole)
    # Another file of captions is for the measures.
    other = made.save_json(folder / "local.json", {"7": {"7-output1.png": "a cup"}})
    found = by_id(read("magicbrush", data, other))["7 turn 1"]
    assert (found.prompt, found.text) == ("a table with 1 cups", "a cup")
    # Without captions the instruction is all there is.
    (folder / "global_descriptions.json").unlink()
    assert by_id(read("magicbrush", data))["7 turn 1"].prompt == "add cup 1"


def test_imagenet_real_edit(folder: Path) -> None:
    items = read("imagenet-real-edit", made.save_imagenet_real_edit(folder)).items
    assert [(i.id, i.source_prompt, i.prompt, i.result) for i in items] == [
        ("0 n0", "a photo of a tabby", "a photo of a tiger cat", "0_n0"),
        ("1 n1", "a photo of a zebra", "a photo of a horse cart", "1_n1"),
    ]


def test_five_bench(folder: Path) -> None:
    items = read("five-bench", made.save_five_bench(folder)).items
    assert [item.edit_type[0] for item in items] == list("123456")
    assert items[1].prompt == "a blue bus 2"
    assert items[1].result == "0002_thing/2_blue_bus"
    assert items[1].source == folder / "images" / "0002_thing"
    assert items[1].mask is not None
    mask = items[1].mask.read(3, 48, 32)
    assert mask.shape == (3, 32, 48)
    # All that is not black, as its code has it: JPEG's ringing may add to it.
    assert mask[:, 4:12, 8:30].all()
    assert not mask[:, :, 40:].any()


def test_manifest(folder: Path) -> None:
    data = made.save_manifest(folder)
    for given in (data, data / "manifest.csv"):
        first, second = read("manifest", given).items
        assert (first.id, first.source_prompt, first.prompt) == ("first", "a cat", "a dog")
        assert (first.edit_type, first.reference) == ("animals", folder / "wanted.png")
        assert first.mask is not None
        assert first.mask.read(1, 48, 32).sum() == 24 * 32
        assert (second.mask, second.reference) == (None, None)


# Masks


def decoded_again(runs: list[int]) -> np.ndarray:
    """A second decoder, pixel by pixel, written from the benchmark's words."""
    side = made.PIE_SIDE
    edited = {
        place
        for start, length in zip(runs[::2], runs[1::2], strict=True)
        for place in range(start, min(start + length, side * side))
    }
    return np.array(
        [
            [
                y * side + x in edited or x in (0, side - 1) or y in (0, side - 1)
                for x in range(side)
            ]
            for y in range(side)
        ]
    )


@pytest.mark.parametrize("kind", made.RUNS)
def test_run_lengths(kind: str) -> None:
    found = RunLengths(runs=tuple(made.RUNS[kind])).read(2, made.PIE_SIDE, made.PIE_SIDE)
    expected = decoded_again(made.RUNS[kind])
    assert np.array_equal(found[0], expected)
    assert np.array_equal(found[1], expected)


def test_masks_at_another_size_and_from_transparency(tmp_path: Path) -> None:
    whole = RunLengths(runs=(0, made.PIE_SIDE * made.PIE_SIDE // 2))
    half = whole.read(1, 64, 64)[0]
    assert half[:32].all()
    assert not half[33:63, 1:63].any()
    drawn = np.full((4, 6, 4), 255, np.uint8)
    drawn[1:3, 2:4, 3] = 0
    photo = np.random.default_rng(0).integers(0, 256, (4, 6, 4), np.uint8)
    photo[..., 3] = drawn[..., 3]
    for pixels, masked, wanted in (
        (drawn, False, drawn[..., 3] > 0),
        (drawn, True, drawn[..., 3] > 0),
        (photo, False, drawn[..., 3] > 0),
        (photo, True, drawn[..., 3] == 0),  # As MagicBrush's authors give it.
    ):
        Image.fromarray(pixels).save(tmp_path / "hole.png")
        found = MaskPictures(path=tmp_path / "hole.png", masked=masked).read(1, 6, 4)[0]
        assert np.array_equal(found, wanted)


# Broken data


def changed(path: Path, change: Callable[[dict[str, dict[str, object]]], object]) -> None:
    entries = json.loads(path.read_text())
    change(entries)
    path.write_text(json.dumps(entries))


ONE = "100000000000"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda e: e[ONE].update(image_path="gone.png"), "the picture gone.png is missing"),
        (lambda e: e[ONE].update(editing_type_id="11"), "editing_type_id: Input should be '0', "),
        (lambda e: e[ONE].update(mask=[1, 2, 3]), "its mask has 3 numbers, which are not pairs"),
        (lambda e: e[ONE].update(mask=[512 * 512, 4]), "its mask has a run of 4 at 262144, out"),
        (lambda e: e[ONE].update(mask=[5, -4]), "its mask has a run of -4 at 5, outside"),
        (lambda e: e[ONE].update(mask="many"), "mask: Input should be a valid tuple"),
        (lambda e: e[ONE].update(editing_prompt=" [] "), "it has no prompt"),
        (lambda e: e[ONE].pop("editing_prompt"), "it has no editing_prompt"),
        (lambda e: e.update({ONE: ["a list"]}), "Input should be a valid dictionary"),
        (lambda e: e[ONE].update(image_path="../../a/b.png"), "the picture ../../a/b.png is miss"),
    ],
)
def test_a_broken_entry_is_left_out_by_name_or_refused(
    folder: Path, change: Callable[[dict[str, dict[str, object]]], object], reason: str
) -> None:
    made.save_pie_bench(folder, "012")
    changed(folder / "mapping_file.json", change)
    found = read("pie-bench", folder)
    assert [left.id for left in found.left_out] == [ONE]
    assert reason in found.left_out[0].reason
    assert len(choose(found, (), None, strict=False).items) == 3
    with pytest.raises(InputError, match=ONE):
        choose(found, (), None, strict=True)


def test_an_id_that_comes_twice(folder: Path) -> None:
    made.save_pie_bench(folder, "01")
    path = folder / "mapping_file.json"
    entry = json.dumps(made.pie_entry("0") | {"editing_prompt": "the later one"})
    path.write_text(path.read_text().rstrip("}") + '}, "000000000000": ' + entry + "}")
    found = read("pie-bench", folder)
    assert (
        left_out_text(found.left_out)
        == "000000000000: this id occurs twice; the first entry is used"
    )
    assert by_id(found)["000000000000"].prompt == "a blue star on grass"


def break_file(data: Path, name: str, content: bytes) -> None:
    (data / name).write_bytes(content)


@pytest.mark.parametrize(
    ("name", "broken", "message"),
    [
        ("pie-bench", "mapping_file.json", "is not JSON"),
        ("magicbrush", "edit_sessions.json", "is not JSON"),
        ("magicbrush", "global_descriptions.json", "is not JSON"),
        ("imagenet-real-edit", "ImageNet_real_edit.json", "is not JSON"),
        ("five-bench", "edit_prompt/edit3_FiVE.json", "is not JSON"),
        ("imagenet-r-ti2i", "imnetr-ti2i.yaml", "is not YAML"),
        ("emu-edit", "test-00000.parquet", "is not a parquet file"),
    ],
)
def test_a_broken_file_is_refused(
    folder: Path, name: BenchmarkName, broken: str, message: str
) -> None:
    MAKE[name](folder)
    break_file(folder, broken, b'{"a": [')
    with pytest.raises(InputError, match=message):
        read(name, folder)
    break_file(folder, broken, b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"UTF-8|parquet|YAML"):
        read(name, folder)
    (folder / broken).unlink()
    if broken not in ("global_descriptions.json", "edit_prompt/edit3_FiVE.json"):
        with pytest.raises(InputError, match=r"cannot be read|has 0|no table"):
            read(name, folder)


@pytest.mark.parametrize(
    ("name", "gone", "count", "reason"),
    [
        ("magicbrush", "images/139/139-output2.png", 2, "the picture 139-output2.png is missing"),
        ("imagenet-real-edit", "n1.JPEG", 1, "the picture val/n1.JPEG is missing"),
        ("imagenet-r-ti2i", "panda/cartoon_30.jpg", 1, "panda/cartoon_30.jpg is missing"),
        ("manifest", "1.png", 1, "1.png is missing"),
        ("manifest", "wanted.png", 1, "wanted.png is missing"),
        ("manifest", "mask.png", 1, "mask.png is missing"),
    ],
)
def test_a_missing_picture_is_named(
    folder: Path, name: BenchmarkName, gone: str, count: int, reason: str
) -> None:
    MAKE[name](folder)
    (folder / gone).unlink()
    found = read(name, folder)
    assert reason in left_out_text(found.left_out)
    assert len(found.items) == count


def test_a_table_with_wrong_columns_and_ids(folder: Path) -> None:
    made.save_picture(folder / "a.png", 1)
    (folder / "manifest.csv").write_text(
        "id,source,target_prompt\none,a.png,a dog\none,a.png,a cat\n../out,a.png,x\nfour,,x\n"
        "five,a.png\n"
    )
    found = read("manifest", folder)
    assert [item.id for item in found.items] == ["one"]
    assert [left.reason for left in found.left_out] == [
        "this id occurs twice; the first entry is used",
        "its name points outside the results' folder",
        "it has no source",
        "it has no target_prompt",
    ]


# Which items


def test_types_and_limit(folder: Path) -> None:
    found = read("magicbrush", made.save_magicbrush(folder))
    assert len(choose(found, ("single turn",), None, strict=False).items) == 4
    # The steps to an item come with it.
    multi = choose(found, ("multi turn",), 2, strict=False).items
    assert [(item.result, item.scored) for item in multi] == [
        ("7/7_1", True),
        ("139/139_1", False),
        ("139/139_iter_2", False),
        ("139/139_iter_3", True),
    ]
    assert len(choose(found, ("multi turn",), 1, strict=False).items) == 1
    with pytest.raises(InputError, match="no edit type 'x'; give one of single turn, multi turn"):
        choose(found, ("x",), None, strict=False)


def test_a_type_by_its_number(folder: Path) -> None:
    found = read("pie-bench", made.save_pie_bench(folder, "012"))
    for name in ("1", "1 change object"):
        assert [i.id for i in choose(found, (name,), None, strict=False).items] == [ONE]


# Results of any method


@pytest.mark.parametrize(
    "name",
    [
        "annotation_images/0_x/00.jpg",
        "0_x/00.png",
        "annotation_images/0_x/00/00001.png",
        "0_x/00.mp4",
    ],
)
def test_a_result_is_found_by_name(tmp_path: Path, name: str) -> None:
    assert find_result(tmp_path, "annotation_images/0_x/00") is None
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    expected = path.parent if path.parent.name == "00" else path
    assert find_result(tmp_path, "annotation_images/0_x/00") == expected
