"""Translate drawings from files, which have no ground truth, to look at the results.

A folder has the drawings and `prompts.yaml`: the name and the prompt of each.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import yaml
from PIL import Image

from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from tools.train.appearance import Pixels
from tools.train.pool import run_jobs
from tools.train.translators import Translator, side_of

PROMPTS = "prompts.yaml"

Job = tuple[Path, str, int | None]
"""A drawing, its prompt, and steps."""


def read_drawing(path: Path, size: int) -> Pixels:
    """Read a picture file onto a white square: (size, size, 3) in [0, 1]."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"), np.float32) / 255
    height, width = pixels.shape[:2]
    side = max(height, width)
    square = np.ones((side, side, 3), np.float32)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = pixels
    how = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(square, (size, size), interpolation=how).clip(0, 1))


def read_prompts(folder: Path) -> dict[Path, str]:
    """Read the prompt of each drawing in a folder."""
    prompts: dict[str, str] = yaml.safe_load((folder / PROMPTS).read_text("utf-8"))
    return {folder / name: prompt for name, prompt in prompts.items()}


def work(pipeline: PnPVideoPipeline, job: Job) -> tuple[Pixels, Pixels]:
    path, prompt, steps = job
    source = read_drawing(path, side_of(pipeline))
    return source, Translator(pipeline, source, steps=steps).translate([prompt], seed=0)[0]


def translate_drawings(
    model: str, folder: Path, *, steps: int | None, processes: int | None = None
) -> list[tuple[tuple[Pixels, Pixels], str]]:
    """Return source and result of every drawing, with its prompt: rows of a sheet."""
    prompts = read_prompts(folder)
    jobs = [(path, prompt, steps) for path, prompt in prompts.items()]
    pictures = run_jobs(work, jobs, model, processes)
    return list(zip(pictures, prompts.values(), strict=True))
