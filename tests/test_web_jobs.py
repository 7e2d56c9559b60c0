"""The jobs of the page: no failure ends the queue, nothing half-made stays, and nothing grows."""

import io
import shutil
import struct
import sys
import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from page import files_of_at_most, wait_until
from PIL import Image

from pnpvideo.cli import main
from pnpvideo.errors import InputError, RunError

pytest.importorskip("gradio")

from gradio.data_classes import FileData

from pnpvideo.web.actions import Service
from pnpvideo.web.drawn_mask import LAYERS, Editor, drawing_editor, mask_of
from pnpvideo.web.housekeeping import ask_to_stop, kept_tidy, used_alone
from pnpvideo.web.jobs import JobKind, JobStore, Visitor, WebJob
from pnpvideo.web.limits import Limits
from pnpvideo.web.models import Models
from pnpvideo.web.runner import Runner
from pnpvideo.web.show import Show, state_box

ME, OTHER = Visitor(key="me", place="here"), Visitor(key="other", place="there")
LIMITS = Limits(pixels=10_000, frames=4, waiting=2, prompts=3, prompt_length=50)
TEXT: dict[str, object] = {"prompt": ["a stone"], "steps": 2}
LONG: dict[str, object] = {"prompt": ["a stone"], "steps": 900}


@pytest.fixture(scope="module")
def models(tiny_model: Path) -> Models:
    return Models([str(tiny_model)], "cpu")


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(tmp_path / "served" / "jobs")


@pytest.fixture
def service(store: JobStore, models: Models) -> Iterator[Service]:
    runner = Runner(store, models, LIMITS)
    yield Service(store=store, runner=runner, models=models, limits=LIMITS, samples=[])
    runner.close()


def outcome(store: JobStore, job: WebJob) -> WebJob:
    """The job as it is when it is over."""

    def now() -> WebJob:
        return next(one for one in store.all() if one.name == job.name)

    wait_until(lambda: now().is_over, 30)
    return now()


# 18. What fails


def lose_folder(job: WebJob) -> None:
    shutil.rmtree(job.folder)


def lose_source(job: WebJob) -> None:
    shutil.rmtree(job.folder / "source")


def lose_settings(job: WebJob) -> None:
    (job.folder / "settings.yaml").write_bytes(b"\xff{{")


def forbid_results(job: WebJob) -> None:
    (job.folder / "view-1-a.png").mkdir()


def forbid_record(job: WebJob) -> None:
    (job.folder / "job.json").unlink()
    (job.folder / "job.json").mkdir()
    (job.folder / "job.json" / "x").touch()


def test_the_queue_survives_failed_jobs(
    store: JobStore, models: Models, picture: Path, tmp_path: Path
) -> None:
    harms = {
        lose_folder: "failed",
        lose_source: "failed",
        lose_settings: "failed",
        forbid_results: "failed",
        forbid_record: "done",
    }
    harmed = [store.add("translate", ME, models.names[0], picture, TEXT) for _ in harms]
    for harm, job in zip(harms, harmed, strict=True):
        harm(job)
    last = store.add("translate", OTHER, models.names[0], picture, TEXT)
    runner = Runner(store, models, LIMITS)
    for job, state in zip(harmed, harms.values(), strict=True):
        over = outcome(store, job)
        assert over.state == state, over.message
        assert over.message
        assert str(tmp_path) not in over.message
    assert outcome(store, last).state == "done"
    wait_until(lambda: runner.is_idle, 5)
    runner.close()


def test_the_mask_that_words_find_is_among_the_results(store: JobStore) -> None:
    models, limits = Models(["embedded"], "cpu"), replace(LIMITS, pixels=100_000)
    fox = min((Path(__file__).parents[1] / "samples" / "fox").iterdir())
    given = {"prompt": ["a 3D render of a jade fox"], "mask_from_prompt": "the fox", "steps": 2}
    job = store.add("translate", ME, "embedded", fox, given)
    runner = Runner(store, models, limits)
    over = outcome(store, job)
    runner.close()
    assert over.state == "done", over.message
    (mask,) = (name for name in over.results if name.endswith("-mask.png"))
    show = object.__new__(Show)
    assert show._cells(over) == [(str(over.folder / mask), "\u201cthe fox\u201d")]


@pytest.mark.parametrize("kind", ["translate", "thresholds", "mask"])
def test_a_run_reads_within_the_limits(store: JobStore, models: Models, kind: JobKind) -> None:
    """Also what became larger after it was submitted, or was submitted to an earlier server."""
    source = store.folder.parent / "wide.png"
    Image.new("RGB", (200, 100)).save(source)
    mask = np.zeros((100, 200), np.uint8) if kind == "mask" else None
    job = store.add(kind, ME, models.names[0], source, TEXT, mask)
    runner = Runner(store, models, LIMITS)
    over = outcome(store, job)
    runner.close()
    assert over.state == "failed"
    assert "has 200x100 pixels, and the limit is 10000" in over.message


def test_a_full_disk_ends_a_job_and_not_the_queue(
    store: JobStore, models: Models, picture: Path
) -> None:
    added = [store.add("translate", ME, models.names[0], picture, TEXT) for _ in range(2)]
    with files_of_at_most(10):
        runner = Runner(store, models, LIMITS)
        states = {outcome(store, job).state for job in added}
        message = outcome(store, added[0]).message
    assert states == {"failed"}
    assert "File too large" in message
    # What the disk did not take is as if it had not been: a later server repeats it.
    assert {job.state for job in JobStore(store.folder).all()} == {"waiting"}
    runner.submit(last := store.add("translate", ME, models.names[0], picture, TEXT))
    assert outcome(store, last).state == "done"
    runner.close()


@pytest.mark.parametrize("size", [0, 10, 200])
def test_a_job_that_cannot_be_kept_leaves_nothing(
    service: Service, store: JobStore, picture: Path, size: int
) -> None:
    mask = np.zeros((32, 48), np.uint8)
    mask[4:9] = 255
    with files_of_at_most(size), pytest.raises(RunError, match="cannot keep this run: ") as error:
        service.submit("translate", ME, service.models.names[0], picture, TEXT, mask)
    assert "/" not in str(error.value)
    assert list(store.folder.iterdir()) == []
    assert store.all() == []
    assert service.runner.is_idle


def test_folders_of_jobs_half_made_go_at_the_start(store: JobStore, picture: Path) -> None:
    kept = store.add("translate", ME, "m", picture, TEXT)
    half = store.folder / f"{1:013d}-{'a' * 24}"
    (half / "source").mkdir(parents=True)
    mine = store.folder / "mine"
    mine.mkdir()
    link = store.folder / f"{2:013d}-{'a' * 24}"
    link.symlink_to(mine)
    again = JobStore(store.folder)
    again.delete_half_made()
    assert again.all() == [kept]
    assert set(store.folder.iterdir()) == {kept.folder, mine, link}


def test_what_a_visitor_sees_costs_the_same_after_any_number_of_jobs(store: JobStore) -> None:
    for number in range(400):
        folder = store.folder / f"{number:013d}-{'b' * 24}"
        folder.mkdir(parents=True)
        (folder / "job.json").write_text(
            '{"visitor": "x", "kind": "translate", "model": "m", "state": "done", "created": 0,'
            ' "message": "", "results": []}'
        )
    store = JobStore(store.folder)
    assert len(store.all()) == 400
    mine = store.add("translate", ME, "m", None, TEXT)
    touched, watched = [], threading.get_ident()

    def note(event: str, _: object) -> None:
        if event in ("open", "os.listdir", "os.scandir") and threading.get_ident() == watched:
            touched.append(event)

    sys.addaudithook(note)
    assert store.get(mine.name, ME) == mine
    assert store.get(mine.name, OTHER) is None
    assert (store.of(ME), store.of(ME, 1), store.of(OTHER)) == ([mine], [mine], [])
    assert (store.waiting(ME), store.waiting(OTHER), store.unfinished()) == (1, 0, [mine])
    watched = -1
    assert touched == []


# 20. How much one visitor may ask for


def test_runs_are_counted_by_address(service: Service, picture: Path) -> None:
    keys = [Visitor(key=f"key {number}", place="address 9.9.9.9") for number in range(4)]
    results = []

    def ask(visitor: Visitor) -> None:
        try:
            service.submit("translate", visitor, service.models.names[0], picture, LONG)
            results.append("taken")
        except InputError as error:
            results.append(str(error))

    threads = [threading.Thread(target=ask, args=[key]) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count("taken") == 2
    assert sum("2 of your runs are already waiting" in result for result in results) == 2
    service.submit("translate", OTHER, service.models.names[0], picture, TEXT)
    for job in service.store.all():
        service.runner.stop(job.name)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"prompt": ["a"] * 4}, "prompt has 4 lines, and the limit here is 3; give fewer"),
        ({"prompt": ["a" * 51]}, "prompt has 51 characters, and the limit here is 50"),
        ({"prompt": ["a"], "negative_prompt": ["b"] * 4}, "negative_prompt has 4 lines"),
        ({"prompt": ["a"], "guidance_prompt": "b" * 51}, "guidance_prompt has 51 characters"),
        ({"prompt": ["a"], "inversion_prompt": "b" * 51}, "inversion_prompt has 51 characters"),
        ({"prompt": ["\ud800"]}, "prompt has characters that are not text"),
        ({"prompt": ["a\0b"]}, "prompt has characters that are not text"),
        ({"prompt": ["a"], "steps": 10**9}, "steps"),
        ({"prompt": ["a"], "size": "8000x8000"}, "limit here"),
    ],
)
def test_what_is_asked_for_is_limited(
    service: Service, picture: Path, values: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        service.submit("translate", ME, service.models.names[0], picture, values)
    assert service.store.all() == []


# 17. How a run ends


def test_the_stage_of_a_run_is_in_plain_words(
    store: JobStore, models: Models, picture: Path
) -> None:
    job = store.add("translate", ME, models.names[0], picture, LONG | {"steps": 150})
    runner = Runner(store, models, LIMITS)
    wait_until(lambda: "reading the source, " in state_box(job, runner), 30)
    wait_until(lambda: "drawing, " in state_box(job, runner), 60)
    runner.stop(job.name)
    outcome(store, job)
    runner.close()


def test_a_run_ends_after_its_time(store: JobStore, models: Models, picture: Path) -> None:
    said: list[str] = []
    job = store.add("translate", ME, models.names[0], picture, LONG)
    runner = Runner(store, models, LIMITS, seconds=0.3, say=said.append)
    over = outcome(store, job)
    assert over.state == "failed"
    assert "it took more than 0.3 seconds, the limit here; give fewer frames or" in over.message
    runner.submit(after := store.add("translate", ME, models.names[0], picture, TEXT))
    outcome(store, after)
    runner.close()
    assert said[0] == f"job {job.name} begins"
    assert said[1].startswith(f"job {job.name} is over: failed, it took more than")


def test_who_serves_can_stop_a_job(
    store: JobStore, models: Models, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = store.folder.parent
    with pytest.raises(InputError, match="no server uses the folder"):
        ask_to_stop(folder, "all")
    added = [store.add("translate", ME, models.names[0], picture, LONG) for _ in range(3)]
    with used_alone(folder):
        runner = Runner(store, models, LIMITS)
        with kept_tidy(store, 3600, lambda name: runner.stop(name, " by who runs the server")):
            with pytest.raises(InputError, match=f"no job x to stop.*{added[2].name}"):
                ask_to_stop(folder, "x")
            assert main(["web", "--folder", str(folder), "--stop", added[1].name]) == 0
            assert capsys.readouterr().out == f"stopped {added[1].name}\n"
            assert ask_to_stop(folder, "all") == [added[0].name, added[2].name]
        messages = {job.message for job in store.all()}
        assert messages == {
            "stopped by who runs the server",
            "stopped by who runs the server before it began",
        }
        runner.close()


# 16. Drawings


def layer(width: int, height: int, *, whole: bool = True, mode: str = "RGBA") -> bytes:
    """A picture whose upper half is drawn on; all but its first bytes are missing if not whole."""
    if not whole:
        head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
        parts = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(100)))]
        chunks = [
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in parts
        ]
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
    picture = Image.new("RGBA", (width, height))
    picture.paste((255, 0, 0, 90), (0, 0, width, height // 2))
    file = io.BytesIO()
    picture.convert(mode).save(file, "PNG" if mode != "CMYK" else "TIFF")
    return file.getvalue()


def test_drawings_are_read_within_limits(tmp_path: Path) -> None:
    def sent(layers: list[bytes]) -> Editor:
        files = [tmp_path / f"{number}.png" for number in range(len(layers))]
        for file, content in zip(files, layers, strict=True):
            file.write_bytes(content)
        return {"layers": files}

    for given in (layer(20, 10), layer(20, 10, mode="LA")):
        mask = mask_of(sent([given]), 200)
        assert mask is not None
        assert mask.shape == (10, 20)
        assert mask[:5].min() == 255
        assert mask[5:].max() == 0
    assert mask_of(sent([layer(20, 0 + 1)]), 200) is None
    for layers, words in (
        # Nothing of them is decoded: there is nothing to decode.
        ([layer(13_000, 13_000, whole=False)], "more than 200 pixels, the limit here"),
        ([layer(201, 1, whole=False)], "more than 200 pixels"),
        ([layer(65_000, 65_000, whole=False)], "more than 200 pixels"),
        ([layer(10, 10, whole=False)], "cannot be read"),
        ([layer(10, 10)] * (LAYERS + 1), "more than 4 layers"),
        ([layer(10, 10), layer(20, 10)], "layers of different sizes"),
        ([b"GIF89a"], "cannot be read"),
        ([layer(10, 10, mode="CMYK")], "cannot be read"),
    ):
        with pytest.raises(InputError, match=words):
            mask_of(sent(layers), 200)
    with pytest.raises(InputError, match="cannot be read"):
        mask_of({"layers": [tmp_path / "missing.png"]}, 200)


def test_only_the_files_of_layers_are_taken(tmp_path: Path) -> None:
    """What a page sends after each stroke is dropped, so nobody can fill the memory with it."""
    editor = drawing_editor()
    files = [FileData(path=str(tmp_path / f"{number}.png")) for number in range(LAYERS + 3)]
    taken = editor.preprocess(editor.data_model(layers=files))["layers"]
    assert taken == [Path(file.path) for file in files[: LAYERS + 1]]
    data = {"type": "layer", "index": "0", "id": "a"}
    editor.accept_blobs(type("Sent", (), {"data": data, "files": [("x", bytes(10))]})())
    assert editor.preprocess(editor.data_model(id="a")) == {"layers": []}
    assert not editor.blob_storage
