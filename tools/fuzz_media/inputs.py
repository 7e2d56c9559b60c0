"""The files that a run reads besides its source: masks, lists of jobs, settings and job folders.

Each case is a folder that holds one damaged file among sound ones.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from pnpvideo.batch.batch_folder import BatchFolder
from pnpvideo.batch.combine import combine
from pnpvideo.batch.plan import plan
from pnpvideo.batch.read_jobs import read_jobs
from pnpvideo.clips.write import write_clip
from pnpvideo.options.settings import Settings
from pnpvideo.options.settings_file import read_settings
from pnpvideo.run.opening import read_inputs
from pnpvideo.storage.denoising_state import DenoisingState
from pnpvideo.storage.job_files import JOURNAL, STATE, TRAJECTORY
from pnpvideo.storage.job_folder import JobFolder
from pnpvideo.storage.trajectory import Trajectory
from tools.fuzz_media.pictures import HEIGHT, WIDTH, frames

SOURCE = "source.png"
_ROWS: tuple[dict[str, object], ...] = (
    {"source": SOURCE, "prompt": "a star", "output": "a.png", "seed": 3, "tau_f": 0.5},
    {"source": SOURCE, "prompt": "a moon", "output": "b.png", "compare": True, "steps": 9},
    {"source": SOURCE, "prompt": "a rose", "output": "c/d.png", "size": "64x32", "quality": 90},
)
_SHAPE, _TIMESTEPS = (2, 4, 8, 8), (981, 481)
_IDENTITY = {"source": "a", "model": "b"}

Seeds = Iterator[tuple[str, bytes]]


def mask_seeds() -> Seeds:
    """Yield masks of every kind: names of files, and contents."""
    square = np.zeros((HEIGHT, WIDTH), np.uint8)
    square[8:20, 4:30] = 1
    palette = Image.fromarray(square * 2).convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    clear = Image.fromarray(frames(1)[0]).convert("RGBA")
    clear.putalpha(Image.fromarray(255 * square))
    yield "palette.png", _png(palette)
    yield "ones.png", _png(Image.fromarray(square))
    yield "grey.png", _png(Image.linear_gradient("L").resize((WIDTH, HEIGHT)))
    yield "bits.png", _png(Image.fromarray(255 * square).convert("1"))
    yield "clear.png", _png(clear)
    yield "colours.png", _png(palette.convert("RGB"))
    yield "labels.tiff", _saved(Image.fromarray(square * 2), "TIFF")
    shown = np.repeat(255 * square[None, :, :, None], 3, axis=3)
    with TemporaryDirectory() as folder:
        for suffix in (".mkv", ".gif"):
            path = f"{folder}/mask{suffix}"
            write_clip([shown], path)
            yield f"mask{suffix}", Path(path).read_bytes()


def table_seeds() -> Seeds:
    """Yield lists of jobs as people and programs write them."""
    names = list(dict.fromkeys(name for row in _ROWS for name in row))
    rows = [names, *([str(row.get(name, "")) for name in names] for row in _ROWS)]
    for mark, name in ((",", "jobs.csv"), (";", "semicolons.csv")):
        yield name, "\r\n".join(mark.join(row) for row in rows).encode()
    yield "wide.csv", "\r\n".join("\t".join(row) for row in rows).encode("utf-16")
    lines = "".join(json.dumps(row) + "\n" for row in _ROWS)
    yield "jobs.jsonl", lines.encode()
    yield "escaped.jsonl", lines.replace("a star", "\\u2028 \\ud83d\\ude00 \\\\").encode()


def settings_seeds() -> Seeds:
    """Yield settings of a run."""
    values: dict[str, object] = {"source": SOURCE, "prompt": ["a star", "a moon"]}
    values |= {"frame_rate": "24000/1001", "background": "#ff8000", "tau_f": 0.5, "steps": 20}
    yield "run.yaml", "".join(f"{k}: {json.dumps(v)}\n" for k, v in values.items()).encode()
    yield "alias.yaml", b"source: &a source.png\nprompt: [*a, x]\nlora: []\nseed: 0x10\n"
    yield "blocks.yaml", b"source: source.png\nprompt:\n- |\n  a star\n  and a moon\n- >-\n  b\n"


def job_seeds() -> Seeds:
    """Yield the files of a job folder that a run left in the middle of sampling."""
    with TemporaryDirectory() as place:
        folder = Path(place) / "job"
        generator = torch.Generator().manual_seed(0)
        with JobFolder(folder, keep_state=True) as job:
            with _trajectory(job) as trajectory:
                trajectory.write(0, torch.randn(3, *_SHAPE, generator=generator))
            job.state(_IDENTITY)
            latents = torch.randn(1, *_SHAPE, generator=generator)
            job.save(DenoisingState(steps=1, latents=latents, generator=generator.get_state()))
        for name in (TRAJECTORY, JOURNAL, STATE):
            yield name, (folder / name).read_bytes()


def lay_out(kind: str, name: str, content: bytes, folder: Path, sound: Mapping[str, bytes]) -> None:
    """Write a case to a new folder: the damaged file, and what it needs beside it.

    sound: the undamaged files of its kind.
    """
    folder.mkdir()
    if kind == "jobs":
        for other, whole in sound.items():
            (folder / other).write_bytes(whole)
        (folder / "lock").touch()
    else:
        (folder / SOURCE).write_bytes(_png(Image.fromarray(frames(1)[0])))
    (folder / name).write_bytes(content)


def read_mask(folder: Path, name: str, output: Path) -> str:
    """Read a source with its mask, as a run does. Returns what was read, in words."""
    options = {"source": str(folder / SOURCE), "prompt": "x", "mask": str(folder / name)}
    with ExitStack() as open_things:
        area = read_inputs(Settings.of(options), open_things).area
        assert area is not None
        assert area.mask is not None
        return f"{sum(len(batch) for batch in area.mask.batches(4))} frames of a mask"


def read_table(folder: Path, name: str, output: Path) -> str:
    """Read and check a list of jobs, as a batch does."""
    jobs = plan(combine(read_jobs(folder / name, output), {}, None), BatchFolder(output))
    return f"{len(jobs)} jobs"


def read_run(folder: Path, name: str, output: Path) -> str:
    """Read and check the settings of a run."""
    return f"{len(Settings.of(read_settings(folder / name)).prompt)} prompts"


def read_job(folder: Path, name: str, output: Path) -> str:
    """Continue a job: what is damaged is made again."""
    with JobFolder(folder) as job:
        with _trajectory(job) as trajectory:
            left = trajectory.unfinished(4, range(_SHAPE[0]))
            for part in left:
                trajectory.write(part.start, torch.zeros(3, part.stop - part.start, *_SHAPE[1:]))
            for level in range(len(_TIMESTEPS) + 1):
                assert trajectory.latents[level, :].isfinite().all()
        state = job.state(_IDENTITY)
        return f"{len(left)} parts again, state {None if state is None else state.steps}"


READERS: dict[str, tuple[Callable[[], Seeds], Callable[[Path, str, Path], str]]] = {
    "masks": (mask_seeds, read_mask),
    "tables": (table_seeds, read_table),
    "settings": (settings_seeds, read_run),
    "jobs": (job_seeds, read_job),
}
"""By kind of input: its sound files, and how a run reads one."""


def _trajectory(job: JobFolder) -> "closing[Trajectory]":
    return closing(job.trajectory(_IDENTITY, _SHAPE, _TIMESTEPS, "", torch.float32))


def _png(picture: Image.Image) -> bytes:
    return _saved(picture, "PNG")


def _saved(picture: Image.Image, kind: str) -> bytes:
    memory = io.BytesIO()
    picture.save(memory, kind)
    return memory.getvalue()
