"""Translate held-out moving scenes with each way of temporal sharing, and measure the results."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Generator, Tensor

from pnpvideo.clips.as_clip import as_clip
from pnpvideo.clips.clip import Clip
from pnpvideo.evaluation.clip_metrics import warp_error
from pnpvideo.options.method import PnPOptions
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from pnpvideo.stages.callbacks import QUIET
from pnpvideo.stages.edit import OpenEdit
from pnpvideo.stages.finish import finish
from pnpvideo.stages.request import Edit, seeded
from pnpvideo.storage.allocate import Storage
from tools.metrics import flicker
from tools.speed.peak_memory import peak_memory, reset_peak_memory
from tools.tables import Row, mean
from tools.train.appearance import Pixels
from tools.train.captions import full_caption
from tools.train.evaluate_scenes import FORMATS as SCENE_FORMATS
from tools.train.layout import Scene
from tools.train.motion import Motion, find_motion, frame_times
from tools.train.pool import run_jobs
from tools.train.scenes import render
from tools.train.sheets import write_sheet
from tools.train.tasks import GOAL, World, make_moving, open_world
from tools.train.translators import side_of

STYLES = ("cartoon", "line drawing")
"""Styles of the sources, in turn."""
_NOISE: dict[str, Any] = {"noise_share": 0.1}
MODES: dict[str, dict[str, Any]] = {
    "frame by frame": {"noise_share": 0.0, "attention_sharing": "none", "blend_radius": 0},
    "shared noise": _NOISE | {"attention_sharing": "none", "blend_radius": 0},
    "extended": _NOISE | {"attention_sharing": "extended", "blend_radius": 0},
    "propagate": _NOISE | {"attention_sharing": "propagate", "blend_radius": 0},
    "default": {},
    "shared noise, blended": _NOISE,
    "propagate, blended": _NOISE | {"attention_sharing": "propagate"},
}
FORMATS = {
    "seconds": ".2f",
    "GiB": ".2f",
    "warp": ".2f",
    "floor": ".2f",
    "flicker": ".2f",
    **SCENE_FORMATS,
}
"""Columns of the table: seconds of work a frame; peak memory of the process; warp error of the
result and, as the floor, of the true clip, both times 1000; flicker of the ground in percent of
full scale; then as for scenes.
"""


@dataclass(frozen=True, kw_only=True)
class Job:
    artwork: Path
    index: int
    frames: int
    steps: int | None
    modes: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A held-out clip: frames (n, size, size, 3) in [0, 1] of source and true translation."""

    index: int
    scene: Scene
    style: str
    frames: Pixels
    truth: Pixels
    motion: Motion


@dataclass(frozen=True, kw_only=True)
class Result:
    """A mode's result of clip `index`: frames (n, size, size, 3) in [0, 1], and the table's row."""

    index: int
    mode: str
    frames: Pixels
    row: Row


def make_source(world: World, index: int, count: int, size: int) -> Source:
    scene, style = make_moving(world, index), STYLES[index % len(STYLES)]

    def draw(style: str) -> Pixels:
        times = frame_times(count)
        return np.stack([render(scene, style, world.artwork, size=size, time=t) for t in times])

    return Source(
        index=index,
        scene=scene,
        style=style,
        frames=draw(style),
        truth=draw(GOAL),
        motion=find_motion(scene, world.artwork, count, size),
    )


class ModeSampler:
    """A translator of a clip in several modes; their common sampling is done once."""

    def __init__(self, pipeline: PnPVideoPipeline, clip: Clip, prompt: str, job: Job) -> None:
        self.pipeline, self.prompt, self.job = pipeline, prompt, job
        started = time.perf_counter()
        self.opened = invert(pipeline, clip, job.steps)
        self.inversion = time.perf_counter() - started
        self._sampled: dict[PnPOptions, tuple[Tensor, float, float]] = {}

    def frames(self, mode: str) -> tuple[Pixels, float, float]:
        """Return the mode's frames of the clip, its seconds in all and its peak memory in GiB."""
        options = self.pipeline.model_options.override(MODES[mode])
        # Blending follows sampling, which modes that differ only in blending share.
        sampling = options.override({"blend_radius": 0})
        if sampling not in self._sampled:
            self._sampled[sampling] = self._sample(mode)
        latents, seconds, memory = self._sampled[sampling]
        started = time.perf_counter()
        source, size = self.opened.source, self.opened.request.batch_size
        clip = finish(self.opened.model, latents, source, None, options.blend_radius, size)
        frames = np.asarray(np.concatenate(list(clip)) / 255, np.float32)
        return frames, self.inversion + seconds + time.perf_counter() - started, memory

    def _sample(self, mode: str) -> tuple[Tensor, float, float]:
        device = self.pipeline.device
        reset_peak_memory(device)
        started = time.perf_counter()
        output, _ = self.pipeline(
            self.prompt,
            trajectory=self.opened.source.trajectory,
            num_inference_steps=self.job.steps,
            generator=Generator().manual_seed(self.job.index),
            output_type="latent",
            return_dict=False,
            **MODES[mode],
        )
        return output[0], time.perf_counter() - started, peak_memory(device)


def invert(pipeline: PnPVideoPipeline, clip: Clip, steps: int | None) -> OpenEdit:
    """Open and invert a clip, once for all modes."""
    request = Edit(
        source=clip,
        options=pipeline.model_options.override({"steps": steps}),
        generators=seeded(0),
        storage=Storage(place="memory"),
    )
    opened = OpenEdit(pipeline.model, request, QUIET)
    opened.invert()
    return opened


def work(pipeline: PnPVideoPipeline, job: Job) -> list[Result]:
    world = open_world(job.artwork)
    source = make_source(world, job.index, job.frames, side_of(pipeline))
    prompt = full_caption(source.scene, GOAL)
    sampler = ModeSampler(pipeline, as_clip(source.frames), prompt, job)
    results = []
    for mode in job.modes:
        frames, seconds, memory = sampler.frames(mode)
        row = {
            "mode": mode,
            "index": job.index,
            "source": source.style,
            "seconds": seconds / job.frames,
            "GiB": memory,
            **measure_clip(frames, source, world),
            "prompt": prompt,
        }
        results.append(Result(index=job.index, mode=mode, frames=frames, row=row))
    return results


def measure_clip(frames: Pixels, source: Source, world: World) -> Row:
    """Return the measures of a translated clip by the columns of FORMATS."""
    times, motion = frame_times(len(frames)), source.motion
    # Attributes are the same in every frame; three frames are measured.
    looked_at = sorted({0, len(frames) // 2, len(frames) - 1})
    rows = [
        world.judge.measure(frames[i], source.scene, GOAL, time=times[i]).row() for i in looked_at
    ]
    still = motion.visible & motion.ground
    return {
        "warp": 1000 * warp_error(frames, motion.flow, motion.visible),
        "floor": 1000 * warp_error(source.truth, motion.flow, motion.visible),
        "flicker": 100 * flicker(frames, motion.flow, still),
        **{name: mean(row[name] for row in rows) for name in rows[0]},
    }


def evaluate_clips(
    model: str,
    artwork: Path,
    *,
    count: int,
    frames: int,
    steps: int | None,
    modes: Sequence[str] = tuple(MODES),
    processes: int | None = None,
) -> list[Result]:
    """Return the results of all modes on `count` held-out clips."""
    jobs = [
        Job(artwork=artwork, index=index, frames=frames, steps=steps, modes=modes)
        for index in range(count)
    ]
    return [result for results in run_jobs(work, jobs, model, processes) for result in results]


def make_sheet(results: Sequence[Result], artwork: Path, path: Path, *, shown: int = 6) -> None:
    """Write frames of source, truth and every mode for the clip with the largest warp error.

    Each row ends with its x-t slice: the middle row of pixels over time, downwards.
    """
    worst = max(results, key=lambda result: float(result.row["warp"]))
    mine = [result for result in results if result.index == worst.index]
    count, size = mine[0].frames.shape[:2]
    source = make_source(open_world(artwork), worst.index, count, size)
    clips = {"source": source.frames, "truth": source.truth}
    clips |= {result.mode: result.frames for result in mine}
    numbers = [round(i * (count - 1) / (shown - 1)) for i in range(shown)]
    rows = []
    for name, frames in clips.items():
        times = np.arange(size) * count // size
        slices = frames[times, size // 2].repeat(2, axis=1)
        rows.append(((*frames[numbers], slices), name))
    write_sheet(rows, path, columns=1)
