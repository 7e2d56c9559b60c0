"""`pnpvideo batch`: what it makes, what it makes again, and what it refuses."""

import csv
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from clips import make_video
from command import assert_refused, names, pixels, save_frames
from diffusers import UNet2DConditionModel
from forked import run_killed
from PIL import Image
from torch.nn.modules.module import register_module_forward_pre_hook

from pnpvideo.batch.resumed import resumed_text
from pnpvideo.batch.run_batch import plan_batch
from pnpvideo.cli import main
from pnpvideo.options.batch import BatchOptions
from pnpvideo.stages import invert

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs `pnpvideo batch ... -o out` in this process: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        given = ["-o", "out", "--model", str(tiny_model), "--steps", "2", "--quiet"]
        code = main(["batch", *given, *arguments])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def inversions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The frames of each inversion that is made."""
    made: list[int] = []
    real = invert.invert_into

    def counted(model, source, latents, *more, **options) -> None:  # type: ignore[no-untyped-def]
        made.append(len(latents))
        real(model, source, latents, *more, **options)

    monkeypatch.setattr(invert, "invert_into", counted)
    return made


def write_lines(path: Path, *jobs: object) -> Path:
    path.write_text("\n".join(job if isinstance(job, str) else json.dumps(job) for job in jobs))
    return path


def states(folder: Path) -> dict[str, str]:
    jobs = json.loads((folder / "batch.json").read_text())["jobs"]
    return {job["name"]: job["state"] for job in jobs}


def clips(folder: Path) -> Path:
    """A picture, a folder of three frames and something else."""
    save_frames(folder, 1)[0].rename(folder / "dot.png")
    save_frames(folder / "walk", 3)
    (folder / "notes.txt").write_text("x")
    return folder


def test_each_clip_with_each_prompt(run: Run, tmp_path: Path, inversions: list[int]) -> None:
    clips(tmp_path / "clips")
    prompts = ("--prompt", "a stone", "--prompt", "Two trees!")
    code, told, _ = run("clips", *prompts, "--combine", "product")
    assert code == 0
    assert told == f"{tmp_path}/out/batch.json lists all jobs, with their results and errors\n"
    expected = {"dot-a-stone.png", "dot-two-trees.png", "walk-a-stone", "walk-two-trees"}
    assert states(tmp_path / "out") == dict.fromkeys(expected, "done")
    assert sorted(inversions) == [1, 3]
    left = names(tmp_path / "out" / ".batch")
    assert {name.split("/")[0] for name in left} == {"records"}
    assert len(left) == 1 + len(expected)


def test_results_are_those_of_single_runs(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    """Bit for bit, with settings from every place that there is."""
    clips(tmp_path / "clips")
    with (tmp_path / "clips" / "jobs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["source", "prompt", "seed", "noise-share", "compare", "output"])
        writer.writerow(["walk", "a stone, grey", "3", "0.5", "yes", "first/"])
        writer.writerow([])
        writer.writerow(["dot.png", "a stone, grey", "", "0.2", "", "sub/second.png"])
    assert run("clips/jobs.csv", "--seed", "7", "--size", "32x32")[0] == 0
    common = ("--prompt", "a stone, grey", "--size", "32x32", "--steps", "2", "--quiet")
    model = ("--model", str(tiny_model))
    first = ("clips/walk", "--seed", "3", "--noise-share", "0.5", "--compare", "-o", "alone/")
    second = ("clips/dot.png", "--seed", "7", "--noise-share", "0.2", "-o", "alone.png")
    for own in (first, second):
        assert main(["translate", *own, *common, *model]) == 0
    pairs = [("first", "alone"), ("first-compare", "alone-compare")]
    found = [
        (tmp_path / "out" / ours / f"{i:06d}.png", tmp_path / alone / f"{i:06d}.png")
        for ours, alone in pairs
        for i in (1, 2, 3)
    ]
    for one, other in [*found, (tmp_path / "out/sub/second.png", tmp_path / "alone.png")]:
        np.testing.assert_array_equal(pixels(one), pixels(other))
    # Its settings repeat a job by itself.
    (tmp_path / "out" / "sub" / "second.png").unlink()
    record = str(tmp_path / "out" / "sub" / "second.png.yaml")
    assert main(["translate", "--config", record, "--quiet", "--overwrite"]) == 0
    assert names(tmp_path / "out" / "sub") == {"second.png", "second.png.yaml"}


def test_only_what_is_missing_is_made(run: Run, tmp_path: Path) -> None:
    clips(tmp_path / "clips")
    out = tmp_path / "out"
    batch = ("clips", "--prompt", "a stone", "--prompt", "a moon", "--combine", "pairs")
    assert run(*batch)[0] == 0
    dot, frame = out / "dot.png", out / "walk" / "000002.png"
    before = {path: path.stat().st_mtime_ns for path in (dot, frame)}
    assert run(*batch)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    frame.unlink()
    assert run(*batch)[0] == 0
    assert dot.stat().st_mtime_ns == before[dot]
    assert frame.exists()
    # What was only copied is read back, and stays.
    shutil.copy(dot, tmp_path / "copy.png")
    shutil.move(tmp_path / "copy.png", dot)
    changed = dot.stat().st_mtime_ns
    assert run(*batch)[0] == 0
    assert dot.stat().st_mtime_ns == changed
    # Another seed is another result, and nothing is replaced unasked.
    refused = run(*batch, "--seed", "2", "--eta", "1")
    assert_refused(refused, 2, "dot.png exists already")
    assert run(*batch, "--seed", "2", "--eta", "1", "--overwrite")[0] == 0
    assert dot.stat().st_mtime_ns > changed


def test_what_fails_is_told_and_the_rest_is_made(run: Run, tmp_path: Path) -> None:
    save_frames(tmp_path, 1)
    job = {"source": "source0.png", "prompt": "a stone"}
    gone = {"model": str(tmp_path / "gone"), "output": "b.png"}
    jobs = write_lines(
        tmp_path / "jobs.jsonl", job | gone, job | {"output": "a.png"}, job | gone | {"output": "c"}
    )
    code, told, error = run(str(jobs))
    assert code == 1
    assert told.startswith(f"{tmp_path}/out/batch.json lists all jobs")
    # Each failure is named once, as it happens.
    assert [line.partition(": ")[2][:12] for line in error.splitlines()[:2]] == [
        "b.png failed",
        "c failed: th",
    ]
    assert error.endswith("pnpvideo: 2 of 3 jobs are not done, such as b.png\n")
    assert "Traceback" not in error
    assert states(tmp_path / "out") == {"b.png": "failed", "a.png": "done", "c": "failed"}
    before = (tmp_path / "out" / "a.png").stat().st_mtime_ns
    write_lines(jobs, job | {"output": "b.png"}, job | {"output": "a.png"})
    assert run(str(jobs))[0] == 0
    assert (tmp_path / "out" / "a.png").stat().st_mtime_ns == before


def test_a_dry_run_makes_nothing_and_estimates(run: Run, tmp_path: Path) -> None:
    clips(tmp_path / "clips")
    before = names(tmp_path)
    code, told, _ = run("clips", "--prompt", "a stone", "--dry-run")
    assert code == 0
    assert names(tmp_path) == before
    lines = told.splitlines()
    assert lines[0] == "to do  dot.png  (1 frame of clips/dot.png: a stone)"
    assert lines[1].startswith("to do  walk  (3 frames of ")
    assert lines[2] == "2 of 2 jobs to do"
    assert lines[3].startswith("about 00:")
    assert run("clips", "--prompt", "a stone")[0] == 0
    code, told, _ = run("clips", "--prompt", "a stone", "--dry-run")
    assert told.splitlines()[-1] == "0 of 2 jobs to do"


def test_an_estimate_is_near(
    run: Run, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that counts what goes through the network, for jobs longer than the trial."""
    from pnpvideo.batch import dry_run
    from pnpvideo.batch.dry_run import estimate, measure
    from pnpvideo.batch.run_batch import plan_batch, run_batch
    from pnpvideo.options.batch import BatchOptions
    from pnpvideo.run.opening import open_model

    save_frames(tmp_path / "walk", 8)
    jobs = [{"source": "walk", "prompt": f"{number} trees"} for number in range(3)]
    options = BatchOptions(
        jobs=str(write_lines(tmp_path / "jobs.jsonl", *jobs)), output=str(tmp_path / "out")
    )
    plan = plan_batch(options, {"model": str(tiny_model), "steps": 20}, overwrite=False)
    model = open_model(plan.jobs[0].settings)
    passes = 0

    def count(module: object, arguments: tuple[object, ...]) -> None:
        nonlocal passes
        if isinstance(module, UNet2DConditionModel):
            passes += len(arguments[0])  # type: ignore[arg-type]

    with register_module_forward_pre_hook(count):
        with monkeypatch.context() as patch:
            patch.setattr(dry_run, "time", SimpleNamespace(monotonic=lambda: passes))
            estimated = estimate(list(plan.jobs), model, measure(plan.jobs[0], model))
        passes = 0
        assert not run_batch(plan, options, quiet=True).missing
    assert 0.9 < estimated / passes < 1.1


@pytest.mark.parametrize(
    "method", [("flowedit", "0"), ("flowalign", "0.5"), ("uniedit", "0.01"), ("steerflow", "0")]
)
def test_an_estimate_of_methods_that_take_few_steps(
    run: Run, tmp_path: Path, method: tuple[str, str]
) -> None:
    save_frames(tmp_path / "clips", 1)
    name, strength = method
    given = ("--method", name, "--strength", strength, "--prompt", "a stone", "--dry-run")
    code, told, errors = run("clips", *given)
    assert (code, errors) == (0, "")
    assert "1 of 1 jobs to do\nabout 00:0" in told


@pytest.mark.slow
@pytest.mark.parametrize("after", [9, 33])
def test_killed_and_started_again(
    run: Run, tiny_model: Path, tmp_path: Path, after: int, inversions: list[int]
) -> None:
    """In the first job, and after some are done."""
    clips(tmp_path / "clips")
    batch = ("clips", "--prompt", "a stone", "--prompt", "a moon", "--combine", "product")
    settings = ("-o", "out", "--model", str(tiny_model), "--steps", "2", "--quiet")
    code, told = run_killed(*batch, *settings, cwd=tmp_path, after=after, command="batch")
    assert code == -9, told
    done = {
        job["name"]: (tmp_path / "out" / job["name"]).stat().st_mtime_ns
        for job in json.loads((tmp_path / "out" / "batch.json").read_text())["jobs"]
        if job["state"] == "done"
    }
    assert bool(done) == (after == 33)
    plans = BatchOptions(jobs="clips", output="out", combine="product")
    common = {"model": str(tiny_model), "steps": 2, "prompt": ["a stone", "a moon"]}
    other = resumed_text(plan_batch(plans, common | {"tau_f": 0.5}, overwrite=True))
    assert str(other).endswith("not using unfinished work on 1 job with other settings or sources")
    code, _, told = run(*batch, "--no-quiet")
    kept = {
        9: "0 of 4 done, continuing dot-a-stone.png after the inversion of 1 of 1 frames, using a "
        "finished inversion for dot-a-moon.png, starting walk-a-stone, walk-a-moon from the ",
        33: "2 of 4 done, continuing walk-a-stone after the inversion of 3 of 3 frames, starting "
        "walk-a-moon from the ",
    }[after]
    assert f"going on with this batch: {kept}beginning\n" in told
    assert code == 0
    assert set(states(tmp_path / "out").values()) == {"done"}
    for name, written in done.items():
        assert (tmp_path / "out" / name).stat().st_mtime_ns == written
    for name in ("dot-a-stone.png", "dot-a-moon.png", "walk-a-stone", "walk-a-moon"):
        assert (tmp_path / "out" / name).exists()
    # What was inverted is not inverted again.
    assert inversions.count(1) <= (after == 9)


def bad_jobs(folder: Path) -> dict[tuple[str, ...], str]:
    """Makes lists that cannot be used; the arguments with a part of what is said of them."""
    save_frames(folder / "frames", 3)
    make_video(folder / "clip.mp4", "-c:v", "libx264", frames=2)
    (folder / "empty").mkdir()
    clips(folder / "clips")
    good = {"source": "clip.mp4", "prompt": "a stone"}
    image = {"source": "frames/source0.png", "prompt": "a stone"}
    lists: dict[str, tuple[object, ...]] = {
        "broken": (good, '{"source": "clip.mp4", "prompt"'),
        "no_object": (good, "", '["clip.mp4"]'),
        "mistyped": ({**good, "promt": "a"},),
        "range": ({**good, "tau_f": 2},),
        "kind": ({**good, "steps": "many"},),
        "missing": (good, {**good, "source": "gone.mp4"}),
        "no_prompt": ({"source": "clip.mp4"},),
        "no_source": ({"prompt": "a stone"},),
        "own_job": ({**good, "job": "here"},),
        "twice": (good, {**good, "seed": 2}),
        "same": ({**good, "output": "a.mp4"}, {**image, "output": "./a.mp4"}),
        "inside": ({**good, "output": "a/"}, {**image, "output": "a/1.png"}),
        "over": ({**image, "output": "clip.mp4"}, good),
        "outside": ({**good, "output": "../a.mp4"},),
        "suffix": ({**good, "output": "a.xyz"},),
        "one": ({**good, "output": "a.png"},),
        "mask": ({**good, "mask": "gone.png"},),
        "address": ({**good, "output": "https://example.com/a.mp4"},),
        "nothing": (),
    }
    for name, jobs in lists.items():
        write_lines(folder / f"{name}.jsonl", *jobs)
    tables = {
        "column": "source,promt\nclip.mp4,a\n",
        "columns": "source,prompt,prompt\nclip.mp4,a,b\n",
        "comma": "source,prompt\nclip.mp4,a stone, grey\n",
        "quote": 'source,prompt\nclip.mp4,"a stone\n',
        "cell": "source,prompt,seed\nclip.mp4,a,one\n",
        "truth": "source,prompt,compare\nclip.mp4,a,maybe\n",
        "header": "source,prompt\n",
    }
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text(text)
    (folder / "latin.csv").write_bytes(b"source,prompt\nclip.mp4,caf\xe9\n")
    (folder / "jobs.txt").write_text("x")
    two = ("--prompt", "a", "--prompt", "b")
    return {
        ("broken.jsonl",): "broken.jsonl line 2 is not JSON",
        ("no_object.jsonl",): "no_object.jsonl line 3 is not a JSON object; write",
        ("mistyped.jsonl",): "mistyped.jsonl line 1: there is no option promt; did you mean",
        ("range.jsonl",): "range.jsonl line 1: tau_f is 2; give a number from 0 to 1",
        ("kind.jsonl",): "kind.jsonl line 1: steps is 'many'; give a whole number",
        ("missing.jsonl",): "missing.jsonl line 2: gone.mp4 does not exist; --skip-broken",
        ("no_prompt.jsonl",): "no_prompt.jsonl line 1: give a prompt",
        ("no_source.jsonl",): "no_source.jsonl line 1: give a source: a video",
        ("own_job.jsonl",): "own_job.jsonl line 1: a batch keeps finished steps by itself",
        ("twice.jsonl",): "twice.jsonl line 2 and twice.jsonl line 1 would both write",
        ("same.jsonl",): "same.jsonl line 2 and same.jsonl line 1 would both write",
        ("inside.jsonl",): "inside.jsonl line 2 and inside.jsonl line 1 would both write",
        ("over.jsonl", "-o", "."): "clip.mp4, the source of over.jsonl line 2",
        (
            "outside.jsonl",
        ): "outside.jsonl line 1: the output ../a.mp4 is not in the folder of results",
        ("suffix.jsonl",): "suffix.jsonl line 1: ",
        ("one.jsonl",): "one.jsonl line 1: ",
        ("mask.jsonl",): "mask.jsonl line 1: ",
        ("address.jsonl",): "address.jsonl line 1: https://example.com/a.mp4 is an address",
        ("nothing.jsonl",): "nothing.jsonl has no jobs in it",
        ("column.csv",): "column.csv line 1: there is no option promt",
        ("columns.csv",): "columns.csv line 1: there are two columns prompt",
        ("comma.csv",): "comma.csv line 2 has 3 cells for 2 columns",
        ("quote.csv",): "is not CSV",
        ("cell.csv",): "cell.csv line 2: seed is 'one'",
        ("truth.csv",): "truth.csv line 2: compare is 'maybe'; give true or false",
        ("header.csv",): "header.csv has no jobs in it",
        ("latin.csv",): "latin.csv is not text in UTF-8",
        ("jobs.txt",): "jobs.txt is not a list of jobs",
        ("gone.jsonl",): "gone.jsonl does not exist; did you mean one.jsonl?",
        ("empty", *two): "empty has no clips",
        ("clips",): "dot.png: give a prompt",
        ("clips", *two): "2 clips and 2 prompts: give --combine product for all 4",
        ("frames", *two, "--combine", "pairs"): "3 clips and 2 prompts cannot be paired",
        ("frames", "--prompt", "a", "--combine", "pairs"): "3 clips and 1 prompt cannot be paired",
        ("clips", "--prompt", "a", "--prompt", "a", "--combine", "product"): "twice",
        ("range.jsonl", *two): "every job has its own prompt",
        ("clips", "--prompt", "a", "--workers", "0"): "workers is 0; give a whole number",
        ("clips", "--prompt", "a", "--combine", "both"): "combine is 'both'; give product or pairs",
        ("clips", "--prompt", "a", "--job", "here"): "there is no option --job",
        ("clips", "--prompt", "a", "-o", "clip.mp4"): "clip.mp4 is a file; give a folder",
        (): "give a list of jobs",
    }


def test_bad_input(run: Run, tmp_path: Path) -> None:
    cases = bad_jobs(tmp_path)
    before = names(tmp_path)
    for arguments, message in cases.items():
        assert_refused(run(*arguments), 2, message)
        assert names(tmp_path) == before, arguments


def test_broken_files_are_listed_at_once_and_can_be_left_out(run: Run, tmp_path: Path) -> None:
    save_frames(tmp_path, 1)
    (tmp_path / "cut.png").write_bytes((tmp_path / "source0.png").read_bytes()[:60])
    (tmp_path / "text.mp4").write_text("not a video")
    good = {"source": "source0.png", "prompt": "a stone"}
    broken = [
        {"source": "gone.mp4", "prompt": "a moon"},
        {"source": "cut.png", "prompt": ["a", "b"]},
        {"source": "text.mp4", "prompt": "a star"},
        good | {"mask": "no_mask.png", "output": "masked.png"},
    ]
    jobs = str(write_lines(tmp_path / "jobs.jsonl", good, *broken))
    refused = run(jobs)
    assert refused[:2] == (2, "")
    *listed, last = refused[2].splitlines()
    hint = "; --skip-broken makes the others"
    assert last == f"pnpvideo: 4 jobs cannot be made, as the list above says{hint}"
    names = ("gone.mp4", "cut.png", "text.mp4", "no_mask.png")
    for number, (line, name) in enumerate(zip(listed, names, strict=True), 2):
        assert line.startswith(f"pnpvideo: broken: jobs.jsonl line {number}: {name} ")
    # Without another job there is nothing to go on with; other mistakes are never left out.
    rest = str(write_lines(tmp_path / "rest.jsonl", *broken))
    assert run(rest, "--skip-broken")[2].endswith("made, as the list above says\n")
    mistake = str(write_lines(tmp_path / "mistake.jsonl", good, broken[0], good | {"tau_f": 2}))
    assert_refused(run(mistake, "--skip-broken"), 2, "tau_f is 2")
    code, _, error = run(jobs, "--skip-broken")
    assert code == 1
    assert error.endswith("pnpvideo: 4 broken jobs were left out\n")
    assert error.count("jobs.jsonl line 2: gone.mp4 does not exist") == 1
    kept = json.loads((tmp_path / "out" / "batch.json").read_text())
    assert [job["state"] for job in kept["jobs"]] == ["done", *["skipped"] * 4]
    assert (kept["done"], kept["skipped"]) == (1, 4)
    assert "gone.mp4" in kept["jobs"][1]["error"]
    assert datetime.fromisoformat(kept["jobs"][0]["finished"]).tzinfo is UTC


def test_truncated_sources_are_made_after_the_others(run: Run, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for name in ("whole.png", "cut.png"):
        noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "clips" / name)
    cut = tmp_path / "clips" / "cut.png"
    cut.write_bytes(cut.read_bytes()[:2000])
    batch = ("clips", "--prompt", "a stone", "--no-quiet")
    assert "--allow-truncated" in run(*batch, "--skip-broken")[2]
    whole = (tmp_path / "out" / "whole.png").stat()
    code, _, error = run(*batch, "--allow-truncated")
    assert code == 0
    assert "going on with this batch: 1 of 2 done" in error
    assert (tmp_path / "out" / "cut.png").exists()
    assert (tmp_path / "out" / "whole.png").stat() == whole


def test_a_rerun_says_that_all_are_done(run: Run, tmp_path: Path) -> None:
    clips(tmp_path / "clips")
    batch = ("clips", "--prompt", "a stone", "--no-quiet")
    new = run(*batch)[2]
    assert "done already" not in new
    assert "going on" not in new
    assert "all 2 are done already" in run(*batch)[2]


def test_two_batches_do_not_meet(run: Run, tmp_path: Path) -> None:
    from pnpvideo.batch.batch_folder import BatchFolder

    clips(tmp_path / "clips")
    with BatchFolder(tmp_path / "out").taken():
        refused = run("clips", "--prompt", "a stone")
        assert_refused(refused, 2, "another batch is running in")
    assert run("clips", "--prompt", "a stone")[0] == 0
