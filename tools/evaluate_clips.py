"""Translate held-out moving scenes with each way of temporal sharing, and measure what came out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Generator, Tensor

from pnpvideo.clips.as_clip import as_clip
from pnpvideo.options.method import DEFAULT_BATCH_SIZE, PnPOptions
from pnpvideo.pipeline import PnPVideoPipeline
from pnpvideo.storage.trajectory import Trajectory
from tools.captions import full_caption
from tools.evaluate_scenes import FORMATS as SCENE_FORMATS
from tools.evaluation_pool import Row, run_jobs
from tools.layout import Camera, Scene
from tools.measure_clips import find_motion, frame_times, ground_flicker, warp_error
from tools.measure_scenes import Measures, measure
from tools.scenes import random_scene, render
from tools.speed.peak_memory import peak_memory, reset_peak_memory

SIZE = 128
HELD_OUT = 30_000_000  # seeds of these scenes; training uses smaller ones
STYLES = ("cartoon", "sketch")  # of the sources, in turn
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
    **{name: how for name, how in SCENE_FORMATS.items() if name != "iou"},
    "iou": ".3f",
}
"""Columns of the table: seconds of work a frame; peak memory of the process; warp error of the
result and, as the floor, of the true clip, both times 1000; flicker of the ground in percent of
full scale; then as for scenes.
"""


@dataclass(frozen=True, kw_only=True)
class Job:
    index: int
    frames: int
    steps: int
    modes: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a mode made of clip `index`: frames (n, 3, SIZE, SIZE) in [0, 1]; the table's row."""

    index: int
    mode: str
    frames: Tensor
    row: Row


def make_scene(index: int) -> Scene:
    """Held-out moving scene. In every fifth one object crosses in front of another."""
    generator = Generator().manual_seed(HELD_OUT + index)
    scene = random_scene(generator, moving=True)
    while index % 5 == 4 and len(scene.objects) < 2:
        scene = random_scene(generator, moving=True)
    if index % 5 != 4:
        return scene
    behind, front = scene.objects[:2]
    pair = (
        replace(behind, x=-0.45, y=0.1, size=0.4, dx=0.9, dy=0.0),
        replace(front, x=0.45, y=-0.1, size=0.35, dx=-0.9, dy=0.0),
    )
    return replace(scene, objects=pair, camera=Camera(dx=0.1))


def draw(scene: Scene, style: str, frames: int) -> Tensor:
    """The scene over time: (frames, 3, SIZE, SIZE) in [0, 1]."""
    return torch.cat([render([scene], style, SIZE, time=t) for t in frame_times(frames)])


def work(pipeline: PnPVideoPipeline, job: Job) -> list[Result]:
    scene = make_scene(job.index)
    style = STYLES[job.index % len(STYLES)]
    source, truth = draw(scene, style, job.frames), draw(scene, "photo", job.frames)
    prompt = full_caption(scene, "photo")
    motion = find_motion(scene, job.frames, SIZE)
    results = []
    trajectory, inversion = invert(pipeline, source, job.steps)
    sampled: dict[PnPOptions, tuple[Tensor, float, float]] = {}
    for mode in job.modes:
        options = pipeline.model_options.override(MODES[mode])
        # Blending comes after sampling, which modes that differ in it alone have in common.
        sampling = replace(options, blend_radius=0)
        if sampling not in sampled:
            reset_peak_memory(pipeline.device)
            started = time.perf_counter()
            output, _ = pipeline(
                prompt,
                trajectory=trajectory,
                num_inference_steps=job.steps,
                generator=Generator().manual_seed(job.index),
                output_type="latent",
                return_dict=False,
                **MODES[mode],
            )
            taken = time.perf_counter() - started
            sampled[sampling] = output[0], taken, peak_memory(pipeline.device)
        latents, taken, memory = sampled[sampling]
        started = time.perf_counter()
        clip = pipeline.decode_clip(latents, trajectory, as_clip(source), options.blend_radius)
        frames = torch.from_numpy(np.concatenate(list(clip))).movedim(-1, 1).float() / 255
        seconds = (inversion + taken + time.perf_counter() - started) / job.frames
        # Attributes are the same in every frame; three of them are looked at.
        times = frame_times(job.frames)
        looked_at = sorted({0, job.frames // 2, job.frames - 1})
        measures = [measure(frames[i], scene, "photo", time=times[i]) for i in looked_at]
        row = {
            "mode": mode,
            "index": job.index,
            "source": style,
            "seconds": seconds,
            "GiB": memory,
            "warp": 1000 * warp_error(frames, motion),
            "floor": 1000 * warp_error(truth, motion),
            "flicker": 100 * ground_flicker(frames, motion),
            **_means(measures),
            "prompt": prompt,
        }
        results.append(Result(index=job.index, mode=mode, frames=frames, row=row))
    return results


@torch.no_grad()
def invert(pipeline: PnPVideoPipeline, source: Tensor, steps: int) -> tuple[Trajectory, float]:
    """The trajectory of a clip (frames, 3, SIZE, SIZE), the same for all modes, and its seconds."""
    started = time.perf_counter()
    clip = as_clip(source)
    size = pipeline.working_size(clip)
    options = pipeline.model_options.override({"steps": steps})
    latents = pipeline.encode_clip(clip, size, DEFAULT_BATCH_SIZE)
    return pipeline.invert(latents, size, options), time.perf_counter() - started


def _means(measures: Sequence[Measures]) -> Row:
    rows = [one.row() for one in measures]
    return {name: fmean(row[name] for row in rows) for name in rows[0]}


def evaluate_clips(
    model: str,
    *,
    count: int,
    frames: int,
    steps: int,
    modes: Sequence[str] = tuple(MODES),
    processes: int | None = None,
) -> list[Result]:
    """Results of all modes on `count` held-out clips."""
    jobs = [Job(index=index, frames=frames, steps=steps, modes=modes) for index in range(count)]
    return [result for results in run_jobs(work, jobs, model, processes) for result in results]


def make_sheet(results: Sequence[Result], path: Path, *, shown: int = 6) -> None:
    """Of the clip with the greatest warp error frames of source, truth and every mode in rows, each
    with its x-t slice: the middle row of pixels over time, downwards.
    """
    worst = max(results, key=lambda result: float(result.row["warp"]))
    mine = [result for result in results if result.index == worst.index]
    scene, count = make_scene(mine[0].index), len(mine[0].frames)
    rows = {
        "source": draw(scene, mine[0].row["source"], count),
        "truth": draw(scene, "photo", count),
    } | {result.mode: result.frames for result in mine}
    numbers = [round(i * (count - 1) / (shown - 1)) for i in range(shown)]
    height = SIZE + 14
    sheet = Image.new("RGB", ((shown + 2) * SIZE, height * len(rows)), "white")
    pen = ImageDraw.Draw(sheet)
    for line, (name, frames) in enumerate(rows.items()):
        pen.text((2, line * height), name, fill="black")
        slices = frames[:, :, SIZE // 2].movedim(0, 1)[None]
        tall = torch.nn.functional.interpolate(slices, (SIZE, 2 * SIZE), mode="nearest")[0]
        picture = torch.cat([*frames[numbers], tall], 2).movedim(0, -1)
        array = (picture * 255).round().numpy().astype(np.uint8)
        sheet.paste(Image.fromarray(array), (0, line * height + 14))
    sheet.save(path)
