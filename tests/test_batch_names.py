"""The names of a batch's results, and lists of jobs in YAML."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
from command import assert_refused, save_frames

from pnpvideo.batch.batch_folder import MANIFEST, BatchFolder
from pnpvideo.batch.job import Job, Record
from pnpvideo.batch.plan import plan
from pnpvideo.batch.read_jobs import JobEntry, read_jobs
from pnpvideo.batch.run_batch import plan_batch
from pnpvideo.batch.table import Table
from pnpvideo.catalogue.known_words import words_of_model
from pnpvideo.catalogue.unknown_words import unknown_words
from pnpvideo.cli import main
from pnpvideo.clips.read import read_clip
from pnpvideo.errors import InputError
from pnpvideo.options.batch import BatchOptions
from pnpvideo.options.printed import cut
from pnpvideo.run.outputs import plan_outputs

Plan = Callable[..., list[Job]]
SAMPLES = Path(__file__).parents[1] / "samples"
A, B = {"prompt": "a stone"}, {"prompt": "Two moons!"}


@pytest.fixture
def planned(tmp_path: Path) -> Plan:
    """Plans jobs, given as (source, settings); sources are made in the folder `in`."""
    (first,) = save_frames(tmp_path / "one", 1)

    def call(*jobs: tuple[str, dict[str, Any]], out: str = "out", **how: Any) -> list[Job]:
        entries = []
        for number, (name, values) in enumerate(jobs):
            path = tmp_path / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists() and path.suffix:
                shutil.copy(first, path)
            elif not path.exists():
                save_frames(path, 2)
            entries.append(JobEntry(place=f"line {number}", values={"source": str(path)} | values))
        return plan(entries, BatchFolder(tmp_path / out), **how)

    return call


def names(jobs: list[Job], tmp_path: Path) -> list[str]:
    return [str(Path(job.outputs.output).relative_to(tmp_path / "out")) for job in jobs]


@pytest.mark.parametrize(
    ("jobs", "wanted"),
    [
        ([("car.png", A), ("walk", B)], ["car.png", "walk"]),
        ([("car.png", A), ("car.png", B), ("cat.png", A)],
         ["car-a-stone.png", "car-two-moons.png", "cat.png"]),
        ([("a/car.png", A), ("b/car.png", B)], ["car-a-stone.png", "car-two-moons.png"]),
        # On some disks it would be the same file.
        ([("a/Car.png", A), ("b/car.png", B)], ["Car-a-stone.png", "car-two-moons.png"]),
        ([("car.png", A | {"compare": True}), ("car-compare.png", A)],
         ["car-a-stone.png", "car-compare-a-stone.png"]),
        ([("car.png", {"prompt": ["a stone", "a moon"]})], ["car-a-stone.png"]),
        # What others name or read is in the way, too.
        ([("car.png", A), ("dot.png", B | {"output": "car.png"})], ["car-a-stone.png", "car.png"]),
        ([("walk", A), ("dot.png", B | {"output": "walk/a.png"})], ["walk-a-stone", "walk/a.png"]),
        ([("car.png", A | {"mask_from_prompt": "it"}), ("car-mask.png", B)],
         ["car-a-stone.png", "car-mask-two-moons.png"]),
    ],
)  # fmt: skip
def test_a_result_has_its_sources_name_if_nothing_is_in_the_way(
    planned: Plan, tmp_path: Path, jobs: list[tuple[str, dict[str, Any]]], wanted: list[str]
) -> None:
    assert names(planned(*jobs), tmp_path) == wanted


LONG = "x" * 200
E_ACUTE = "\u00e9", "e\u0301"


@pytest.mark.parametrize(
    "jobs",
    [
        [("A.png", A), ("a.PNG", A)],
        [("A.png", A), ("a.PNG", A), ("a.png", A), ("a.bmp", A)],
        [(f"{letter}.png", A) for letter in E_ACUTE],
        [(f"{letter}{case}.png", A) for letter in E_ACUTE for case in "kK"],
        [("Fox", A), ("fox", A)],
        [("car.png", A), ("car.png", {"prompt": "A  Stone?"}), ("car.png", {"prompt": "a stone!"})],
        [("A.png", A | {"compare": True}), ("a-COMPARE.png", A), ("a-compare-a-stone.png", A)],
        [("K.png", A), ("\u212a.png", A)],  # The sign of the kelvin.
        [("car.png", {"prompt": ["a", "b"]}), ("CAR-A-1.png", A), ("car.png", {"prompt": "a 1"})],
        [(f"{LONG}.png", A), (f"{LONG.upper()}.png", A), (f"{LONG}.png", B)],
    ],
)
def test_names_differ_on_every_disk(
    planned: Plan, tmp_path: Path, jobs: list[tuple[str, dict[str, Any]]]
) -> None:
    first = planned(*jobs)
    files = [file for job in first for file in job.files]
    folded = [normalize("NFC", normalize("NFC", str(file)).casefold()) for file in files]
    assert len(set(folded)) == len(files)
    # They depend neither on the order nor on what an earlier call has made.
    out = BatchFolder(tmp_path / "out")
    assert sorted(names(planned(*jobs[::-1]), tmp_path)) == sorted(names(first, tmp_path))
    out.write_manifest(first, [Record(state="done")] * len(first))
    assert [job.id for job in planned(*jobs)] == [job.id for job in first]
    for number in range(len(jobs)):
        assert planned(jobs[number])[0].id == first[number].id


@pytest.mark.parametrize(
    ("jobs", "how"),
    [
        ([("a.png", A | {"output": "x.png"}), ("b.png", A | {"output": "X.png"})], {}),
        ([("a.png", A | {"output": f"{letter}.png"}) for letter in E_ACUTE], {}),
        ([("a.png", A | {"output": "x/a.png"}), ("b.png", A | {"output": "X/A.png"})], {}),
        ([("A.png", A), ("a.png", A)], {"name": "{source}"}),
    ],
)
def test_names_that_are_given_and_differ_in_capitals_alone(
    planned: Plan, jobs: list[tuple[str, dict[str, Any]]], how: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match="which some disks take for one file; give one of them"):
        planned(*jobs, **how)


CJK = "\u6f22" * 83  # 249 bytes.


@pytest.mark.parametrize(
    ("source", "values"),
    [
        (f"{LONG}.png", A | {"prompt": f"{'a long prompt ' * 9}"}),
        (f"{LONG}{'y' * 46}.png", A),
        (f"{LONG}{'y' * 51}", {"prompt": ["a", "b"], "compare": True}),
        (f"{CJK}.png", {"prompt": "\u6f22\u5b57" * 60, "compare": True, "mask_from_prompt": "it"}),
        (f"{CJK}e\u0301.v2", A | {"compare": True}),
        (f"{LONG}.v2.b", {"prompt": ["a", "b"]}),
        (f"{LONG[:140]}{chr(0x1F98A) * 25}.png", {"prompt": ["a"] * 12, "compare": True}),
    ],
)
@pytest.mark.parametrize("template", [None, "{source}-{n}", "{source}{source}/{prompt}-{source}"])
def test_long_names_are_shortened(
    planned: Plan, tmp_path: Path, source: str, values: dict[str, Any], template: str | None
) -> None:
    values = {"model": str(tmp_path)} | values  # It lists no words.
    jobs = planned((source, values), (source, values | {"prompt": "other"}), name=template)
    for job in jobs:
        for file in job.files:
            assert max(len(part.encode()) for part in file.parts) <= 255
        settings = job.settings.model_copy(update={"output": None})
        clip = read_clip(str(settings.source))
        single = plan_outputs(settings, clip, overwrite=False)
        assert all(len(Path(file).name.encode()) <= 255 for file in single.files)
        clip.close()
    assert len({file for job in jobs for file in job.files}) == sum(len(job.files) for job in jobs)


def test_files_that_exist_are_in_the_way(planned: Plan, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "car.png").write_bytes(b"mine")
    assert names(planned(("car.png", A)), tmp_path) == ["car-a-stone.png"]
    assert names(planned(("car.png", A), overwrite=True), tmp_path) == ["car.png"]
    (tmp_path / "out" / "car.png").unlink()
    (tmp_path / "out" / "car.png.yaml").write_text("mine")
    assert names(planned(("car.png", A)), tmp_path) == ["car-a-stone.png"]
    # A source is not written over, whatever may be replaced.
    (job,) = planned(("car.png", A), out="in", overwrite=True)
    assert job.name == "car-a-stone.png"


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ("{source}-{prompt}-{n}", ["car-a-stone-1.png", "walk-two-moons-2"]),
        ("{n:03}_{seed}", ["001_7.png", "002_0"]),
        ("{prompt}/{source}", ["a-stone/car.png", "two-moons/walk"]),
        ("{source}.jpg", ["car.jpg"]),
        ("{n}/", ["1", "2"]),
        ("{{{n}}}.v2", ["{1}.v2.png", "{2}.v2"]),
    ],
)
def test_names_by_a_template(
    planned: Plan, tmp_path: Path, template: str, wanted: list[str]
) -> None:
    jobs = [("car.png", A | {"seed": 7}), ("walk", B)][: len(wanted)]
    assert names(planned(*jobs, name=template), tmp_path) == wanted


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{source}-{colour}", "{colour} is not one of its fields; give {source}, {prompt}, {n}"),
        ("{source!r}", "{source} is not one of its fields"),
        ("{source.parent}", "{source.parent} is not one of its fields"),
        ("{source:>9}", "{source:>9} is not one of its fields"),
        ("{n:{seed}}", "{n:{seed}} is not one of its fields"),
        ("{n:5000}", "{n:5000} is not one of its fields"),
        ("{}", "{} is not one of its fields"),
        ("{source", "expected '}' before end of string"),
        ("source}", "Single '}' encountered"),
        (" ", "name is empty"),
        ("{source}\n", "name is '{source}\\n', with a control character in it; leave that out"),
        ("a\tb", "with a control character in it"),
        ("\x1b[31m{n}", "with a control character in it"),
        ("{n}\u2028", "with a control character in it"),
        ("{n}\u202egnp", "with a control character in it"),
        ("{n}\x85", "with a control character in it"),
        ("../{source}", "the output ../source0.png is not in the folder of results"),
        ("all", "all.png; give one of them another output, or all of them a name with {n}"),
    ],
)
def test_templates_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], template: str, message: str
) -> None:
    save_frames(tmp_path / "in", 2)
    given = ("--prompt", "a stone", "-o", str(tmp_path / "out"), "--name", template)
    assert_refused(
        (main(["batch", str(tmp_path / "in"), *given]), *capsys.readouterr()), 2, message
    )
    assert not (tmp_path / "out").exists()


def test_a_batch_goes_on_under_the_names_that_it_has(planned: Plan, tmp_path: Path) -> None:
    """From a version that named all results by their prompts, and from an earlier list."""
    jobs, out = [("car.png", A), ("walk", B)], BatchFolder(tmp_path / "out")
    old = planned(*jobs, name="{source}-{prompt}")
    assert names(old, tmp_path) == ["car-a-stone.png", "walk-two-moons"]
    out.make("records")
    # It was stopped in its first job, and the manifest was deleted.
    out.keep(old[0], Record(state="running"))
    assert [job.id for job in planned(*jobs)][:1] == [old[0].id]
    assert names(planned(*jobs), tmp_path) == ["car-a-stone.png", "walk"]
    out.write_manifest(old, [Record(state="running"), Record()])
    assert [job.id for job in planned(*jobs)] == [job.id for job in old]
    # Other settings are another job of the same name; another prompt has another name.
    assert names(planned(("walk", B | {"seed": 2})), tmp_path) == ["walk-two-moons"]
    assert names(planned(("walk", A)), tmp_path) == ["walk"]
    (tmp_path / "out" / MANIFEST).write_text("[1")
    assert names(planned(*jobs), tmp_path) == ["car-a-stone.png", "walk"]


def test_a_longer_list_renames_nothing(planned: Plan, tmp_path: Path) -> None:
    out = BatchFolder(tmp_path / "out")
    first = planned(("car.png", A))
    assert names(first, tmp_path) == ["car.png"]
    out.write_manifest(first, [Record(state="done")])
    (tmp_path / "out" / "car.png").write_bytes(b"made")
    more = planned(("sub/car.png", A), ("car.png", B), ("car.png", A), overwrite=True)
    assert names(more[1:], tmp_path) == ["car-two-moons.png", "car.png"]


# Lists in YAML


def test_the_drawings_prompts_are_a_list_of_jobs() -> None:
    """In words that the bundled model knows."""
    known = words_of_model("embedded")
    assert known is not None
    path = SAMPLES / "drawings" / "prompts.yaml"
    jobs = read_jobs(path, Path("out"))
    assert len(jobs) == 9
    for job in jobs:
        assert set(job.values) == {"source", "prompt"}
        assert Path(str(job.values["source"])).is_file()
        assert not unknown_words(str(job.values["prompt"]), known)
    assert jobs[0].place == "prompts.yaml car.png"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a.png: a stone\n'2': a moon\n", [("a.png", "a stone"), ("2", "a moon")]),
        ("7: a stone\na.png:\n", [("7", "a stone"), ("a.png", None)]),
        ("a.png: [a stone, a moon]", [("a.png", ["a stone", "a moon"])]),
        ("a.png: {prompt: a stone, seed: 2}", [("a.png", "a stone")]),
        ("- {source: a.png, prompt: a stone}\n- Source: b.png\n",
         [("a.png", "a stone"), ("b.png", None)]),
        ("source: a.png\nprompt: [a stone]\ntau_f: 0.5\n", [("a.png", ["a stone"])]),
    ],
)  # fmt: skip
def test_jobs_in_yaml(tmp_path: Path, text: str, wanted: list[tuple[str, object]]) -> None:
    path = tmp_path / "jobs.yml"
    path.write_text(text)
    jobs = read_jobs(path, tmp_path / "out")
    found = [(str(job.values["source"]), job.values.get("prompt")) for job in jobs]
    assert found == [(str(tmp_path / name), prompt) for name, prompt in wanted]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "jobs.yaml has no jobs in it"),
        ("[]", "jobs.yaml has no jobs in it"),
        ("a.png: a stone\na.png: a moon\n", "jobs.yaml has a.png twice (line 2); give it once"),
        ("a.png: {promt: a stone}", "jobs.yaml a.png: there is no option promt; did you mean"),
        ("- a.png\n", "jobs.yaml entry 1 is not a job; write"),
        ("only a text", "jobs.yaml entry 1 is not a job; write"),
        ("a.png: [", "jobs.yaml is not YAML"),
    ],
)
def test_yaml_that_is_not_a_list_of_jobs(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "jobs.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        read_jobs(path, tmp_path / "out")
    assert str(refused.value).replace(f"{tmp_path}/", "").startswith(message)


@pytest.mark.parametrize(
    ("skip", "state", "end", "code"),
    [
        (("--skip-broken",), "skip  ", "; 2 broken ones are skipped", 0),
        ((), "broken", "", 2),
    ],
)
def test_a_dry_run_lists_what_is_broken(
    skip: tuple[str, ...],
    state: str,
    end: str,
    code: int,
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (good,) = save_frames(tmp_path, 1)
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:60])
    lines = [{"source": name, "prompt": "a stone"} for name in (good.name, "gone.mp4", "cut.png")]
    lines[0]["prompt"] = "\n".join(["a stone"] * 1000)
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text("\n".join(map(json.dumps, lines)))
    given = ("-o", str(tmp_path / "out"), "--model", str(tiny_model), "--quiet", "--dry-run")
    assert main(["batch", str(jobs), *given, *skip]) == code
    out, error = capsys.readouterr()
    told = out.splitlines()
    assert told[0].startswith(f"to do  source0.png  (1 frame of {good.name}: ")
    assert told[0].endswith(f": {'a stone ' * 7}a...)")
    assert told[1] == f"{state} jobs.jsonl line 2: gone.mp4 does not exist"
    assert told[2].startswith(f"{state} jobs.jsonl line 3: cut.png ")
    assert told[3] == f"1 of 3 jobs to do{end}"
    hint = "2 jobs cannot be made, as the list above says; --skip-broken makes the others"
    assert error.endswith(f"pnpvideo: {hint}\n") == bool(code)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "columns", "wanted"),
    [
        ("a stone", 7, "a stone"),
        ("a stone", 6, "a s..."),
        ("a  \n stone\x1b", 60, "a stone\\x1b"),
        ("\u6f22" * 4, 8, "\u6f22" * 4),
        ("\u6f22" * 5, 8, "\u6f22\u6f22..."),
        ("e\u0301" * 8, 8, "e\u0301" * 8),
        ("word " * 3000, 20, "word word word wo..."),
    ],
)
def test_texts_are_cut_to_fit_a_line(text: str, columns: int, wanted: str) -> None:
    assert cut(text, columns) == wanted


def test_a_broken_source_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In whatever list it stands."""
    folder = tmp_path / "in"
    (whole,) = save_frames(folder, 1)
    content = {
        "cut.png": whole.read_bytes()[:60],
        "no.mp4": b"no video" * 9,
        "empty.gif": b"",
        "web.webp": b"<html>",
        "bad.tif": b"II*\0",
    }
    whole.unlink()
    for name, data in content.items():
        (folder / name).write_bytes(data)
    # Clips in a folder are those with a known suffix; lists name any.
    (tmp_path / "a.jsonl").write_text(
        "\n".join(json.dumps({"source": f"in/{name}"}) for name in [*content, "gone.mkv"])
    )
    (tmp_path / "b.yaml").write_text("".join(f"in/{name}:\n" for name in [*content, "gone.mkv"]))
    for jobs in (folder, tmp_path / "a.jsonl", tmp_path / "b.yaml"):
        caplog.clear()
        with pytest.raises(InputError, match=r"\d jobs cannot be made, as the list above says$"):
            plan_batch(
                BatchOptions(jobs=jobs, output=tmp_path / "out"), {"prompt": "a"}, overwrite=False
            )
        for name in content:
            assert sum(name in line for line in caplog.messages) == 1


def test_real_files_are_logged(
    planned: Plan, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a job with several prompts there is no file without a number."""
    caplog.set_level(logging.INFO, "pnpvideo")
    several = [{"prompt": [f"a {word}" for word in "abcd"[:count]]} for count in (1, 2, 4)]
    jobs = planned(*((f"{count}.png", values) for count, values in enumerate(several)))
    table = Table(jobs, [Record()] * 3, BatchFolder(tmp_path / "out"))
    for number in range(3):
        table.end(number, Record(state="failed" if number == 2 else "done", error="why"))
    assert [record.getMessage() for record in caplog.records] == [
        "1 of 3 done: 0.png in 00:00",
        "2 of 3 done: 1-a-a-1.png and 1-a-a-2.png in 00:00",
        "2-a-a-1.png to 2-a-a-4.png failed: why",
    ]
