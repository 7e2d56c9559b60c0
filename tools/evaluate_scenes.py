"""Translate held-out scenes whose true translation is known, and measure what came out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from PIL import Image, ImageDraw
from torch import Generator, Tensor

from pnpvideo.pipeline import PnPVideoPipeline
from tools.captions import full_caption
from tools.evaluation_pool import Row, run_jobs
from tools.layout import Scene
from tools.measure_scenes import OF_OBJECTS, VALUES, Measures, measure, with_value
from tools.scenes import random_scene, render

SIZE = 128
HELD_OUT = 20_000_000  # seeds of these scenes; training uses smaller ones
DRAWINGS = ("sketch", "rough drawing", "cartoon")
FORMATS = {
    "psnr": ".1f",
    "ssim": ".3f",
    "style": ".3f",
    **dict.fromkeys(VALUES, ".3f"),
    "iou": ".3f",
}
TASKS = (*DRAWINGS, "class", "colour", "material", "light", "ground")
STRENGTHS = (0.4, 0.6, 0.8)
METHODS = ("truth", "pnp", "ddim", *(f"sdedit {s}" for s in STRENGTHS), "generation")


@dataclass(frozen=True, kw_only=True)
class Example:
    """`source` drawn in `style` is to become a photo of `target`, as `prompt` says."""

    task: str
    index: int
    source: Scene
    style: str
    target: Scene
    prompt: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a method made of an example: picture (3, SIZE, SIZE) in [0, 1], and its measures."""

    example: Example
    method: str
    picture: Tensor
    measures: Measures

    def row(self) -> Row:
        return {
            "method": self.method,
            "task": self.example.task,
            "index": self.example.index,
            **self.measures.row(),
            "prompt": self.example.prompt,
        }


def make_example(task: str, index: int) -> Example:
    """Held-out example `index` of a task: a drawing becomes a photo, or a photo another one in
    which one attribute (of the front object, where objects have it) has changed.
    """
    generator = Generator().manual_seed(HELD_OUT + index)
    source = random_scene(generator)
    if task in DRAWINGS:
        style, target = task, source
    else:
        style = "photo"
        name = "shape" if task == "class" else task
        place = len(source.objects) - 1 if name in OF_OBJECTS else None
        old = getattr(source if place is None else source.objects[place], name)
        others = [value for value in VALUES[name] if value != old]
        new = others[int(torch.randint(len(others), (), generator=generator))]
        target = with_value(source, name, new, place)
    return Example(
        task=task,
        index=index,
        source=source,
        style=style,
        target=target,
        prompt=full_caption(target, "photo"),
    )


def translations(
    pipeline: PnPVideoPipeline, example: Example, methods: Sequence[str], steps: int
) -> Iterator[tuple[str, Tensor]]:
    """The pictures (3, SIZE, SIZE) that the methods make, with the methods' names."""
    source = render([example.source], example.style, SIZE)

    def seeded() -> Generator:
        return Generator().manual_seed(example.index)

    common: dict[str, Any] = {"num_inference_steps": steps, "output_type": "pt"}
    parts = {
        name: pipeline.components[name]
        for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
    } | {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    guided: dict[str, Any] = common | {"guidance_scale": pipeline.model_options.guidance_scale}
    trajectory = None
    for method in methods:
        if method == "truth":
            yield method, render([example.target], "photo", SIZE)[0]
        elif method in ("pnp", "ddim"):
            # The method without injection, from the same inverted noise.
            plain: dict[str, Any] = {}
            if method == "ddim":
                plain = {"tau_f": 0.0, "tau_a": 0.0, "noise_share": 0.0}
            given: dict[str, Any] = (
                {"video": source} if trajectory is None else {"trajectory": trajectory}
            )
            frames, trajectory = pipeline(
                example.prompt, generator=seeded(), return_dict=False, **given, **plain, **common
            )
            yield method, frames[0][0]
        elif method == "generation":
            generate = StableDiffusionPipeline(**parts)
            generate.set_progress_bar_config(disable=True)
            result = generate(example.prompt, generator=seeded(), **guided)
            yield method, result.images[0].float()
        else:
            edit = StableDiffusionImg2ImgPipeline(**parts)
            edit.set_progress_bar_config(disable=True)
            strength = float(method.removeprefix("sdedit "))
            result = edit(example.prompt, source, generator=seeded(), strength=strength, **guided)
            yield method, result.images[0].float()


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Options and injected layers that replace the model's own."""

    options: dict[str, Any] = field(default_factory=dict)
    layers: dict[str, Sequence[str]] = field(default_factory=dict)

    @contextmanager
    def used_by(self, pipeline: PnPVideoPipeline) -> Iterator[None]:
        options, layers = pipeline.model_options, pipeline.layers
        pipeline.model_options = options.override(self.options)
        pipeline.layers = replace(
            layers, **{place: tuple(names) for place, names in self.layers.items()}
        )
        try:
            yield
        finally:
            pipeline.model_options, pipeline.layers = options, layers


@dataclass(frozen=True, kw_only=True)
class Job:
    """One example for several methods."""

    task: str
    index: int
    methods: Sequence[str]
    steps: int
    setting: Setting


def work(pipeline: PnPVideoPipeline, job: Job) -> list[Result]:
    example = make_example(job.task, job.index)
    with job.setting.used_by(pipeline):
        return [
            Result(
                example=example,
                method=method,
                picture=picture,
                measures=measure(picture, example.target, "photo"),
            )
            for method, picture in translations(pipeline, example, job.methods, job.steps)
        ]


def evaluate_scenes(
    model: str,
    *,
    count: int,
    steps: int,
    tasks: Sequence[str] = TASKS,
    methods: Sequence[str] = METHODS,
    setting: Setting | None = None,
    processes: int | None = None,
) -> list[Result]:
    """Results of all methods on `count` held-out examples of each task."""
    jobs = [
        Job(task=task, index=index, methods=methods, steps=steps, setting=setting or Setting())
        for index in range(count)
        for task in tasks
    ]
    return [result for results in run_jobs(work, jobs, model, processes) for result in results]


def make_sheet(results: Sequence[Result], path: Path, *, count: int = 24, columns: int = 4) -> None:
    """Source, result and truth of the first `count` translations, which are random scenes."""
    shown = [result for result in results if result.method == "pnp"][:count]
    width, height = 3 * SIZE + 12, SIZE + 30
    sheet = Image.new("RGB", (columns * width, -(-len(shown) // columns) * height), "white")
    draw = ImageDraw.Draw(sheet)
    for number, result in enumerate(shown):
        left, top = number % columns * width, number // columns * height
        example = result.example
        source = render([example.source], example.style, SIZE)[0]
        truth = render([example.target], "photo", SIZE)[0]
        pictures = torch.cat((source, result.picture, truth), 2).movedim(0, -1)
        array = (pictures * 255).round().numpy().astype(np.uint8)
        sheet.paste(Image.fromarray(array), (left, top))
        words = example.prompt.split()
        middle = len(words) // 2
        lines = (" ".join(words[:middle]), " ".join(words[middle:]))
        draw.multiline_text((left, top + SIZE + 2), "\n".join(lines), fill="black", spacing=0)
    sheet.save(path)
