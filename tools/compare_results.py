"""Check that this tree gives bit for bit the results of another commit.

    python -m tools.compare_results d56c1b7

Makes the same small runs with a temporary worktree of the commit and with this tree, each in its
own process, through the names that `pnpvideo` exports, and compares latents, trajectories and
frames. This tree also resumes the job folders of the commit's killed runs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
STEPS = 3
PROMPTS = ["a photo of a red star on sand", "a cartoon of a blue moon"]
MODELS = ("embedded", "tiny", "sdxl", "v_prediction")
RUNS: dict[str, dict[str, Any]] = {
    "image": {"frames": 1},
    "clip": {},
    "several prompts": {"prompt": PROMPTS, "negative_prompt": ["grey", "a sketch"]},
    "extended": {"attention_sharing": "extended", "keyframes": "random"},
    "propagate": {"attention_sharing": "propagate", "keyframes": "content"},
    "propagate, all injected": {"attention_sharing": "propagate", "tau_f": 1, "tau_a": 1},
    "negative schedule": {"negative_prompt": "grey", "negative_schedule": "linear"},
    "guidance in an interval": {"guidance_start": 0.25, "guidance_end": 0.75, "tau_a": 0.25},
    "no guidance": {"guidance_scale": 1.0},
    "noise": {"noise_share": 0.4, "noise_motion": True, "noise_source": "keyframe", "eta": 0.7},
    "iterated inversion": {"inversion_iterations": 2, "inversion_prompt": "a drawing"},
    "generated source": {"guidance_prompt": "a star", "frames": 0},
}
FEW = ("several prompts", "propagate")
"""The runs of models other than the embedded one."""
BROKEN: dict[str, Any] = {
    "prompt": PROMPTS,
    "eta": 0.5,
    "noise_share": 0.3,
    "attention_sharing": "extended",
}
"""The run that is killed in its second step and started again."""


def video(count: int, side: int) -> np.ndarray[Any, Any]:
    """Return moving gradients with a cut, (count, side, side, 3), uint8."""
    y, x = np.mgrid[:side, :side]
    frames = [
        np.stack([(x * 3 + 20 * i) % 256, y * 255 // side, np.full_like(x, 40 * i)], axis=-1)
        for i in range(count)
    ]
    for frame in frames[3:]:
        frame[:] = 255 - frame
    return np.stack(frames).astype(np.uint8)


def translate(pipeline: Any, side: int, *, frames: int = 5, **options: Any) -> dict[str, Tensor]:
    """Return one run's latents, trajectory and frames."""
    steps: list[Tensor] = []
    kill_at = options.pop("kill_at", None)

    def record(pipe: Any, step: int, timestep: int, given: dict[str, Tensor]) -> dict[str, Tensor]:
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        steps.append(given["latents"].clone())
        return {}

    result = pipeline(
        options.pop("prompt", PROMPTS[0]),
        video(frames, side) if frames else None,
        width=side,
        height=side,
        num_inference_steps=STEPS,
        keyframe_every=3,
        batch_size=2,
        generator=torch.Generator().manual_seed(3),
        output_type="np",
        callback_on_step_end=record,
        **options,
    )
    trajectory = torch.stack([result.trajectory.latents[i, :] for i in range(STEPS + 1)])
    # Slices of one tensor share memory, which safetensors refuses.
    return {
        "latents": steps[-1].contiguous(),
        "trajectory": trajectory.contiguous(),
        "frames": torch.from_numpy(result.frames.copy()),
    }


def results(models: Path, jobs: Path) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield every run with its name. jobs: the folder for the killed runs of the first process."""
    from pnpvideo import JobFolder, PnPVideoPipeline

    for model in MODELS:
        for dtype in (torch.float32, torch.float64):
            pipeline = PnPVideoPipeline.from_pretrained(str(models / model), torch_dtype=dtype)
            pipeline.set_progress_bar_config(disable=True)
            # Float64 is slow, and the tiny models cannot make larger pictures.
            side = 64 if model == "embedded" and dtype == torch.float32 else 32
            kind = f"{model} {str(dtype).removeprefix('torch.')}"
            for name in RUNS if model == "embedded" else FEW:
                yield f"{kind}: {name}", translate(pipeline, side, **RUNS[name])
            yield f"{kind}: unbroken", translate(pipeline, side, **BROKEN)
            with tempfile.TemporaryDirectory() as name:
                broken = Path(name, "job")
                kill(pipeline, side, broken)
                if not (jobs / kind).exists():
                    shutil.copytree(broken, jobs / kind)
                for path, label in ((broken, "resumed"), (jobs / kind, "the commit's job resumed")):
                    job = shutil.copytree(path, Path(name, "copy"), dirs_exist_ok=True)
                    with JobFolder(job) as folder:
                        yield f"{kind}: {label}", translate(pipeline, side, job=folder, **BROKEN)


def kill(pipeline: Any, side: int, job: Path) -> None:
    """Make a run in a process that is killed before it has saved its second step."""
    from pnpvideo import JobFolder

    process = os.fork()
    if not process:
        with JobFolder(job) as folder:
            translate(pipeline, side, job=folder, kill_at=1, **BROKEN)
    _, status = os.waitpid(process, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


def files(models: Path) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the command line's results for a folder of images."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as name:
        source, output = Path(name, "source"), Path(name, "out")
        source.mkdir()
        for i, frame in enumerate(video(3, 64)):
            Image.fromarray(frame).save(source / f"{i}.png")
        command = [
            *(sys.executable, "-m", "pnpvideo", "translate", str(source), "--quiet", "--compare"),
            *("--prompt", PROMPTS[0], "--steps", "2", "--model", str(models / "embedded")),
            *("--size", "64x64", "-o", f"{output}/"),
        ]
        # The order of sums depends on the number of threads, so on the machine's cores.
        one = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=one)
        pictures = sorted([*output.glob("*.png"), *Path(f"{output}-compare").glob("*.png")])
        assert len(pictures) == 6
        pixels = {
            str(path.relative_to(name)): torch.from_numpy(np.asarray(Image.open(path)).copy())
            for path in pictures
        }
        yield "command line", pixels


def make_models(folder: Path) -> None:
    """Write the embedded model of this process's tree, and the tiny random models of its tests."""
    import pnpvideo

    models = importlib.import_module("models")  # Of its tests.
    shutil.copytree(Path(pnpvideo.__file__).parent / "embedded", folder / "embedded")
    models.save_tiny_model(folder / "tiny")
    models.save_tiny_sdxl(folder / "sdxl")
    models.save_tiny_model(folder / "v_prediction")
    config = folder / "v_prediction" / "scheduler" / "scheduler_config.json"
    values = json.loads(config.read_text()) | {"prediction_type": "v_prediction"}
    config.write_text(json.dumps(values))


def work(folder: Path, into: Path) -> None:
    """Make all runs in one process. folder: the models and jobs, which the first process makes."""
    import diffusers
    import transformers

    import pnpvideo

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    assert Path(pnpvideo.__file__).is_relative_to(Path.cwd()), pnpvideo.__file__
    logging.basicConfig(format="  %(message)s", stream=sys.stdout)
    logging.getLogger("pnpvideo").setLevel(logging.INFO)
    torch.set_num_threads(1)  # So that forks do not hang, and sums have one order.
    if not (folder / "models").exists():
        (folder / "models").mkdir()
        make_models(folder / "models")
    (folder / "jobs").mkdir(exist_ok=True)
    into.mkdir()
    for source in (results(folder / "models", folder / "jobs"), files(folder / "models")):
        for name, tensors in source:
            save_file(tensors, into / f"{name}.safetensors")


def compare(base: Path, ours: Path) -> int:
    """Print each run with its differences; return the number of runs that differ."""
    differing = 0
    names = sorted({path.name for folder in (base, ours) for path in folder.iterdir()})
    for name in names:
        before, after = load_file(base / name), load_file(ours / name)
        other = [
            f"{part} by {(before[part].double() - after[part].double()).abs().max():.2g}"
            for part in before
            if before[part].dtype != after[part].dtype or not torch.equal(before[part], after[part])
        ]
        differing += bool(other)
        print(f"{name.removesuffix('.safetensors')}: {', '.join(other) or 'same'}")
    print(f"{len(names)} runs, {differing} differ")
    return differing


def run_in(tree: Path, folder: Path, into: Path) -> None:
    """Make all runs with the package of a tree, in another process."""
    print(f"{tree}:", flush=True)
    path = {"PYTHONPATH": f"{tree}:{tree / 'tests'}", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, __file__, "-", "--work", str(folder), str(into)]
    subprocess.run(command, cwd=tree, env=os.environ | path, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commit", help="the commit to compare with")
    parser.add_argument(
        "--keep", type=Path, help="a folder for the commit's results; used again if it exists"
    )
    parser.add_argument("--work", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(*arguments.work)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.keep or Path(name)
        folder.mkdir(exist_ok=True)
        if not (folder / "before").exists():
            base = Path(name, "base")
            git = ("git", "-C", str(ROOT), "worktree")
            subprocess.run([*git, "add", "--detach", "-q", str(base), arguments.commit], check=True)
            try:
                run_in(base, folder, folder / "before")
            finally:
                subprocess.run([*git, "remove", "--force", str(base)], check=True)
        run_in(ROOT, folder, Path(name, "after"))
        sys.exit(bool(compare(folder / "before", Path(name, "after"))))


if __name__ == "__main__":
    main()
