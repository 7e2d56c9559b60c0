"""A batch of many jobs takes time in proportion to their number, not to its square."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command import save_frames

from pnpvideo.batch.batch_folder import BatchFolder
from pnpvideo.batch.combine import combine
from pnpvideo.batch.job import Job, Record
from pnpvideo.batch.plan import plan
from pnpvideo.batch.queue import Piece, Queue
from pnpvideo.batch.read_jobs import JobEntry, read_jobs
from pnpvideo.batch.table import Table
from pnpvideo.options.settings import Settings
from pnpvideo.run.outputs import Outputs


def cost(work: Callable[[], object]) -> float:
    """The seconds of this process that some work takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def entries(count: int, source: str = "a.png", **values: object) -> list[JobEntry]:
    return [
        JobEntry(place=f"line {n}", values={"source": source, "output": f"{n}.png"} | values)
        for n in range(count)
    ]


def test_prompts_and_clips_are_combined(tmp_path: Path) -> None:
    def joined(count: int) -> list[JobEntry]:
        return combine(entries(count), {"prompt": ["a star"]}, "product")

    assert len(joined(1000)) == 1000
    # Of 10,000 jobs the square is 10 s.
    assert cost(lambda: joined(10_000)) < 2


def test_a_folder_of_many_files_is_listed(tmp_path: Path) -> None:
    for number in range(1500):
        (tmp_path / f"{number}.png").touch()
    assert cost(lambda: read_jobs(tmp_path, tmp_path / "out")) < 3


def test_a_source_of_many_jobs_is_opened_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that differ in their texts share it; one with other frames or options does not."""
    from pnpvideo.batch import plan as module

    opened = []
    real = module.read_inputs
    monkeypatch.setattr(module, "read_inputs", lambda *given: opened.append(1) or real(*given))
    frames = save_frames(tmp_path, 2)
    first, second = (str(frame) for frame in frames)
    jobs = entries(20, first, prompt="a star")
    jobs += [JobEntry(place=e.place, values=e.values | {"output": f"b{e.values['output']}"})
             for e in entries(3, second, prompt="a star")]  # fmt: skip
    jobs += [JobEntry(place="last", values=jobs[-1].values | {"stride": 2, "output": "c.png"})]
    planned = plan(jobs, BatchFolder(tmp_path / "out"))
    assert len(opened) == 3
    assert len({job.id for job in planned}) == 24
    assert len({job.inversion for job in planned}) == 3


def test_the_queue_looks_at_a_few_pieces() -> None:
    """Also with several models, spans, and pieces that are put back."""
    looks = 0

    def ready(piece: Piece) -> bool:
        nonlocal looks
        looks += 1
        return True

    for count in (1000, 10_000):
        looks = 0
        queue = Queue(lambda piece: f"model {piece.number % 3}")
        queue.add(Piece(number) for number in range(count))
        taken = []
        for step in range(count):
            piece = queue.take(f"model {step * 3 // count}", ready)
            assert piece is not None
            if step == 5:
                queue.put_first(piece)
                piece = queue.take(None, ready)
                assert piece is not None
            taken.append(piece)
        assert looks == count + 1
        assert not queue
        assert sorted(piece.number for piece in taken) == list(range(count))
        # A model's pieces come in order, and all of one before the next.
        assert [piece.number % 3 for piece in taken] == sorted(p.number % 3 for p in taken)


def test_the_queue_passes_over_what_is_not_ready() -> None:
    queue = Queue(lambda piece: "a" if piece.number < 2 else "b")
    queue.add([Piece(0), Piece(1, 0), Piece(1, 1), Piece(2)])
    assert queue.take("a", lambda piece: piece.number == 2) == Piece(2)
    assert queue.take("b", lambda piece: False) is None
    assert queue.take("b", lambda piece: True) == Piece(0)
    queue.remove([Piece(1, 0), Piece(7)])
    assert Piece(1, 0) not in queue
    assert Piece(1, 1) in queue
    assert queue.take(None, lambda piece: True) == Piece(1, 1)
    assert not queue


def job_of(number: int, folder: Path) -> Job:
    output = str(folder / f"{number}.png")
    return Job(
        id=str(number),
        place="",
        source="a.png",
        settings=Settings.of({"source": "a.png", "prompt": "b", "output": output}),
        outputs=Outputs(output=output, results=(output,), compares=(), record=folder / "r"),
        frames=1,
        inversion=None,
        model="m",
    )


def test_the_manifest_is_written_for_a_part_of_the_time(tmp_path: Path) -> None:
    """Each job begins and ends; the last state is written at the end, and when it is due."""
    count = 500
    jobs, records = [job_of(n, tmp_path) for n in range(count)], [Record() for _ in range(count)]
    table = Table(jobs, records, BatchFolder(tmp_path))
    table.write()
    once = cost(table.write)
    done = Record(state="done")

    def run() -> None:
        for number in range(count):
            table.begin(number, 0)
            table.end(number, done)

    # Written twice a job it would be 4000 times as long.
    assert cost(run) < max(100 * once, 5)
    manifest = tmp_path / "batch.json"
    for _ in range(200):
        table.write_if_due()
        if f'"done": {count}' in manifest.read_text():
            break
        time.sleep(0.1)
    assert f'"done": {count}' in manifest.read_text()
