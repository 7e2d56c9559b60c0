"""Lists of jobs and manifests as spreadsheets, pandas and other programs write them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command import save_frames

from pnpvideo.batch.read_jobs import read_jobs
from pnpvideo.errors import InputError
from pnpvideo.evaluation.items import ReadRequest, find_result
from pnpvideo.evaluation.readers import manifest, pie_bench
from pnpvideo.files.tables import read_table
from pnpvideo.options.settings import Settings

WANTED = [
    {"source": "a.png", "prompt": "a jade teapot", "seed": "1"},
    {"source": "b.png", "prompt": "a red teapot, big", "seed": "2"},
]
PLAIN = 'source,prompt,seed\na.png,a jade teapot,1\nb.png,"a red teapot, big",2\n'
SEMICOLONS = "source;prompt;seed\r\na.png;a jade teapot;1\r\nb.png;a red teapot, big;2\r\n"
TABS = SEMICOLONS.replace(";", "\t")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", PLAIN.encode()),
        ("bom.csv", PLAIN.encode("utf-8-sig")),
        ("utf16.csv", PLAIN.encode("utf-16")),
        ("utf16_le_no_mark.csv", PLAIN.encode("utf-16-le")),
        ("utf16_be_no_mark.csv", PLAIN.encode("utf-16-be")),
        ("utf32.csv", PLAIN.encode("utf-32")),
        ("old_mac.csv", PLAIN.replace("\n", "\r").encode()),
        ("semicolons.csv", SEMICOLONS.encode("utf-8-sig")),
        ("tabs.csv", TABS.encode("utf-16")),
        ("tabs.tsv", TABS.encode()),
        ("commas.tsv", PLAIN.encode()),
        ("bars.csv", SEMICOLONS.replace(";", "|").encode()),
        ("sep.csv", b"sep=,\r\n" + PLAIN.encode()),
        ("sep_bom.csv", ("\ufeffSEP=;\r\n" + SEMICOLONS).encode()),
        ("sep_filled.csv", b"sep=,,,\r\n" + PLAIN.encode()),
        ("sep_quoted.csv", b'"sep=;"\n' + SEMICOLONS.encode()),
        ("sep_tab.csv", b"sep=\t\n" + TABS.encode()),
        ("capitals.csv", PLAIN.replace("source,prompt,seed", "SOURCE,Prompt,Seed").encode()),
        ("spaces.csv", PLAIN.replace("source,prompt,seed", " source , prompt ,seed ").encode()),
        ("space_after.csv", PLAIN.replace(",", ", ").replace("t,  b", "t, b").encode()),
        ("trailing.csv", PLAIN.replace("\n", ",,\n").encode()),
        ("trailing_rows.csv", PLAIN.replace("1\n", "1,,,,\n").encode() + b",,,\n\n,\n"),
        ("numbered.csv", b",source,prompt,seed\n0,a.png,a jade teapot,1\n"
         b'1,b.png,"a red teapot, big",2\n'),
        ("renumbered.csv", b"Unnamed: 0,source,prompt,seed\n0,a.png,a jade teapot,1\n"
         b'1,b.png,"a red teapot, big",2\n'),
    ],
)  # fmt: skip
def test_cells(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert [dict(row.values) for row in read_table(tmp_path / name)] == WANTED


def test_places_count_all_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('sep=;\n\nid;text\n1;"two\nlines"\n\n2;b\n')
    assert [row.place for row in read_table(tmp_path / "a.csv")] == ["a.csv line 5", "a.csv line 7"]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x1c", "\x0b", "\x0c"])
def test_marks_within_a_json_line(tmp_path: Path, mark: str) -> None:
    """They end a line for `str.splitlines`, and JSON allows most of them within a text."""
    text = f"a red{mark}teapot"
    escaped = mark if mark > "\x1f" else json.dumps(mark)[1:-1]
    line = f'{{"id": "x", "prompt": "a red{escaped}teapot"}}'
    for name, end in {"unix": "\n", "dos": "\r\n", "mac": "\r"}.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_bytes((line + end + end + line + end).encode())
        assert [row.values["prompt"] for row in read_table(path)] == [text, text]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"source": "a.png", "Target Prompt": "x", "seed": null, "mask": NaN}'),
        ("a.ndjson", '{"source":"a.png","target-prompt":"x"}\n\n'),
        ("list.jsonl", '[{"source": "a.png", "TARGET_PROMPT": "x", "mask": null}]'),
        ("list.jsonl", '\n [\n {"source": "a.png",\n "target_prompt": "x"}\n]\n'),
    ],
)
def test_json_lines(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    (row,) = read_table(tmp_path / name)
    assert row.values == {"source": "a.png", "target_prompt": "x"}


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "Source": ["a.png", "b.png"],
        "prompt": ["x", "y"],
        "seed": [1.0, float("nan")],
        "__index_level_0__": [5, 6],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    jobs = read_jobs(tmp_path / "a.parquet", tmp_path / "out")
    assert [(job.place, job.values.get("seed")) for job in jobs] == [
        ("a.parquet row 1", 1),
        ("a.parquet row 2", None),
    ]


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"seed": 1.0, "steps": "2.0"}, {"seed": 1, "steps": 2}),
        ({"seed": "7", "tau_f": "0,5"}, {"seed": 7, "tau_f": 0.5}),
        ({"seed": "9007199254740993"}, {"seed": 9007199254740993}),
        ({"seed": None, "steps": "NaN", "tau_f": "null", "compare": "None"}, {}),
        ({"prompt": 7, "negative_prompt": 2.0}, {"prompt": "7", "negative_prompt": "2"}),
        ({"prompt": ["a", 7]}, {"prompt": ["a", "7"]}),
        ({"compare": 1, "keep-alpha": 0.0}, {"compare": True, "keep_alpha": False}),
        ({"Compare": "TRUE", "KEEP ALPHA": "No"}, {"compare": True, "keep_alpha": False}),
        ({"frame_rate": 24, "size": "640x384"}, {"frame_rate": "24", "size": "640x384"}),
        ({"frame_rate": 23.976}, {"frame_rate": "23.976"}),
        ({"frame_count": 3}, {"frames": 3}),
        ({"config_folder": "x"}, {"model_config": "{folder}/x"}),
        ({"output": 5}, {"output": "5"}),
    ],
)  # fmt: skip
def test_values_of_jobs(tmp_path: Path, row: dict[str, object], wanted: dict[str, object]) -> None:
    (tmp_path / "jobs.jsonl").write_text(json.dumps({"source": 1, "prompt": "a"} | row))
    (job,) = read_jobs(tmp_path / "jobs.jsonl", tmp_path / "out")
    placed = {
        name: value.replace("{folder}", str(tmp_path)) if isinstance(value, str) else value
        for name, value in wanted.items()
    }
    assert job.values == {"source": str(tmp_path / "1"), "prompt": "a"} | placed
    Settings.of(job.values)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "source,Source\n", "a.csv line 1: there are two columns source"),
        ("a.csv", "source,prompt\n,,x\n", "line 2 has 3 cells for 2 columns"),
        ("a.csv", "source,,prompt\na,b,c\n", "line 2 has 'b' in a column without a name"),
        ("a.csv", ",source\nx,b\n", "line 2 has 'x' in a column without a name"),
        ("a.csv", "sep=;\nsource;prompt\n\na;b;c\n", "line 4 has 3 cells"),
        ("a.jsonl", '{"source": "a", "Source": "b"}', "line 1: there are two columns source"),
        ("a.jsonl", '{"source": "a", "source": "b"}', "line 1 has source twice"),
        ("a.jsonl", "{}\n[1]\n", "line 2 is not a JSON object"),
        ("a.jsonl", "[1]", "entry 1 is not a JSON object"),
        ("a.jsonl", "[" * 100_000, "nested too deeply"),
        ("a.jsonl", '{"a":' * 100 + "1" + "}" * 100, "line 1 is nested too deeply"),
        ("a.jsonl", '{"a": %s}' % ("9" * 5000), "line 1 is not JSON"),
        ("a.parquet", "PAR1", "is not a parquet file"),
        ("a.json", "{}", "is not a table; give .csv, .tsv,"),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        list(read_table(tmp_path / name))


@pytest.mark.parametrize("content", [b"a,caf\xe9\n", b"\xff\xfea", b"\x00a\xd8"])
def test_another_encoding(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match="is not text in UTF-8 or UTF-16; save it as UTF-8"):
        list(read_table(tmp_path / "a.csv"))


@pytest.mark.parametrize("names", ["frames,frame_count", "frame-count,Frames"])
def test_one_option_under_two_names(tmp_path: Path, names: str) -> None:
    (tmp_path / "jobs.csv").write_text(f"source,{names}\na.png,1,1\n")
    with pytest.raises(InputError, match="are the same option"):
        read_jobs(tmp_path / "jobs.csv", tmp_path / "out")


# Benchmarks


def by_id(path: Path) -> dict[str, tuple[str, str]]:
    found = manifest.read(path, ReadRequest(unpacked=path.parent / "unpacked"))
    assert not found.left_out
    return {item.id: (item.prompt, item.edit_type) for item in found.items}


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("i.jsonl", '{"id":1,"source":"a.png","target_prompt":"x","type":2}', {"1": ("x", "2")}),
        ("f.jsonl", '{"id":1.0,"source":"a.png","target_prompt":5}', {"1": ("5", "")}),
        ("n.jsonl", '{"id":null,"source":"a.png","target_prompt":"x","mask":null,"label":NaN}',
         {"00001": ("x", "")}),
        ("s.csv", "Source;Target Prompt\na.png;x, y\n", {"00001": ("x, y", "")}),
        ("t.csv", "source,target_prompt,type,,\na.png,x,,,\n", {"00001": ("x", "")}),
        ("ls.jsonl", '{"source":"a.png","target_prompt":"x\u2028y"}', {"00001": ("x\u2028y", "")}),
    ],
)  # fmt: skip
def test_manifests(
    tmp_path: Path, name: str, text: str, wanted: dict[str, tuple[str, str]]
) -> None:
    save_frames(tmp_path, 1)[0].rename(tmp_path / "a.png")
    (tmp_path / name).write_text(text)
    assert by_id(tmp_path / name) == wanted


@pytest.mark.parametrize("kind", ["3", 3, 3.0])
def test_type_ids_of_pie_bench(tmp_path: Path, kind: object) -> None:
    pictures = tmp_path / pie_bench.IMAGES
    save_frames(pictures, 1)
    entry = {
        "image_path": "source0.png",
        "original_prompt": "a",
        "editing_prompt": "b",
        "editing_type_id": kind,
        "mask": [],
        "blended_word": None,
    }
    (tmp_path / "mapping_file.json").write_text(json.dumps({"0": entry}))
    (item,) = pie_bench.read(tmp_path, ReadRequest(unpacked=tmp_path)).items
    assert item.edit_type == "3 delete object"


@pytest.mark.parametrize(
    "name", ["x.PNG", "x.Jpg", "x.JPEG", "x.avif", "x.HEIC", "x.Tif", "x.gif", "x.MP4", "x.WebM"]
)
def test_a_result_with_any_suffix(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.txt").write_text("x")
    assert find_result(tmp_path, "set/x") is None
    (tmp_path / name).write_bytes(b"x")
    assert find_result(tmp_path, "set/x") == tmp_path / name


def with_an_empty_folder(folder: Path) -> None:
    (folder / "theirs").mkdir()


def with_another_name(folder: Path) -> None:
    with_an_empty_folder(folder)
    (folder / "theirs" / "y.png").write_bytes(b"x")


def with_a_damaged_picture(folder: Path) -> None:
    with_an_empty_folder(folder)
    (folder / "theirs" / "x.PNG").write_bytes(b"x")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            with_an_empty_folder,
            "the method theirs has no result in .*theirs; they are called x",
        ),
        (with_another_name, "the method theirs has no result in .*theirs; they are called x"),
        (with_a_damaged_picture, "nothing could be measured: theirs: x: "),
    ],
)
def test_a_table_without_a_row(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    from pnpvideo.errors import RunError
    from pnpvideo.evaluation.evaluate import evaluate
    from pnpvideo.options.evaluation import EvaluationSettings

    save_frames(tmp_path, 1)[0].rename(tmp_path / "a.png")
    (tmp_path / "manifest.csv").write_text("id,source,target_prompt\nx,a.png,a stone\n")
    make(tmp_path)
    settings = EvaluationSettings.of(
        {
            "benchmark": "manifest",
            "data": str(tmp_path),
            "output": str(tmp_path / "out"),
            "ours": False,
            "theirs": [f"theirs={tmp_path / 'theirs'}"],
            "network": [f"{role}=none" for role in ("clip", "structure")],
        }
    )
    with pytest.raises((InputError, RunError), match=message):
        evaluate(settings, quiet=True)
    assert not (tmp_path / "out" / "report.html").exists()
