"""Translate held-out scenes whose true translation is known, and measure what came out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from pnpvideo.storage.trajectory import Trajectory
from tools.captions import full_caption
from tools.evaluation_pool import Row, run_jobs
from tools.layout import Scene
from tools.measure_scenes import OF_OBJECTS, Measures, measure, value_of, with_value
from tools.scenes import VALUES, random_scene, render

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
GUIDANCE_SCALE = 3.0  # of methods without injection: what the model wants from text alone
_PLAIN = {"tau_f": 0.0, "tau_a": 0.0, "noise_share": 0.0}
FROM_INVERSION: dict[str, dict[str, Any]] = {
    "pnp": {},
    "ddim": _PLAIN,
    "ddim guided": _PLAIN | {"guidance_scale": GUIDANCE_SCALE},
}
"""Methods that start from the inverted noise, with the options that replace the model's own."""
METHODS = ("truth", *FROM_INVERSION, *(f"sdedit {s}" for s in STRENGTHS), "generation")


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
    """What a method made of an example: picture (3, SIZE, SIZE) in [0, 1], and its measures.

    setting: the number of the setting among those of the evaluation.
    """

    example: Example
    method: str
    setting: int
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
        old = value_of(source, name, place)
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


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Options and injected layers that replace the model's own.

    negated: whether the source's caption is the negative prompt.
    """

    options: dict[str, Any] = field(default_factory=dict)
    layers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    negated: bool = False

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
    """Example `index` of tasks that have the same source, for several methods and settings."""

    tasks: Sequence[str]
    index: int
    methods: Sequence[str]
    steps: int
    settings: Sequence[Setting]


def work(pipeline: PnPVideoPipeline, job: Job) -> list[Result]:
    examples = [make_example(task, job.index) for task in job.tasks]
    translator = Translator(pipeline, examples, job.steps)
    results = []
    for number, setting in enumerate(job.settings):
        with setting.used_by(pipeline):
            for method in job.methods:
                pictures = translator.translate(method, negated=setting.negated)
                results += [
                    Result(
                        example=example,
                        method=method,
                        setting=number,
                        picture=picture,
                        measures=measure(picture, example.target, "photo"),
                    )
                    for example, picture in zip(examples, pictures, strict=True)
                ]
    return results


class Translator:
    """Makes pictures of examples that have the same source, which is inverted once for all."""

    def __init__(self, pipeline: PnPVideoPipeline, examples: Sequence[Example], steps: int) -> None:
        self.pipeline, self.examples = pipeline, examples
        self.source = render([examples[0].source], examples[0].style, SIZE)
        self.prompts = [example.prompt for example in examples]
        self.common: dict[str, Any] = {"num_inference_steps": steps, "output_type": "pt"}
        names = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
        self.parts = {name: pipeline.components[name] for name in names} | {
            "safety_checker": None,
            "feature_extractor": None,
            "requires_safety_checker": False,
        }
        self.trajectory: Trajectory | None = None

    def translate(self, method: str, *, negated: bool = False) -> Sequence[Tensor]:
        """A method's picture (3, SIZE, SIZE) of each example."""
        if method == "truth":
            return [render([example.target], "photo", SIZE)[0] for example in self.examples]
        generator = Generator().manual_seed(self.examples[0].index)
        if method in FROM_INVERSION:
            first = self.examples[0]
            negative = full_caption(first.source, first.style) if negated else None
            frames, self.trajectory = self.pipeline(
                self.prompts,
                video=self.source if self.trajectory is None else None,
                trajectory=self.trajectory,
                negative_prompt=negative,
                generator=generator,
                return_dict=False,
                **FROM_INVERSION[method],
                **self.common,
            )
            pictures: Tensor = frames[:, 0]
            return list(pictures)
        given: dict[str, Any] = self.common | {
            "guidance_scale": GUIDANCE_SCALE,
            "generator": generator,
        }
        if method == "generation":
            generate = StableDiffusionPipeline(**self.parts)
            generate.set_progress_bar_config(disable=True)
            return list(generate(self.prompts, **given).images.float())
        edit = StableDiffusionImg2ImgPipeline(**self.parts)
        edit.set_progress_bar_config(disable=True)
        sources = self.source.expand(len(self.prompts), -1, -1, -1)
        strength = float(method.removeprefix("sdedit "))
        return list(edit(self.prompts, sources, strength=strength, **given).images.float())


def evaluate_scenes(
    model: str,
    *,
    count: int,
    steps: int,
    tasks: Sequence[str] = TASKS,
    methods: Sequence[str] = METHODS,
    settings: Sequence[Setting] = (Setting(),),
    processes: int | None = None,
) -> list[Result]:
    """Results of all methods and settings on `count` held-out examples of each task."""
    # The tasks that edit a photo all edit the same one.
    groups: list[Sequence[str]] = [(task,) for task in tasks if task in DRAWINGS]
    groups.append([task for task in tasks if task not in DRAWINGS])
    jobs = [
        Job(tasks=group, index=index, methods=methods, steps=steps, settings=settings)
        for index in range(count)
        for group in groups
        if group
    ]
    return [result for results in run_jobs(work, jobs, model, processes) for result in results]


def make_sheet(results: Sequence[Result], path: Path, *, count: int = 24, columns: int = 4) -> None:
    """Source, result and truth of up to `count` translations, not chosen: the first scene with the
    first task, the second scene with the second task, and so on.
    """
    tasks = list(dict.fromkeys(result.example.task for result in results))
    shown = [
        result
        for result in results
        if result.method == "pnp"
        and result.example.task == tasks[result.example.index % len(tasks)]
    ][:count]
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
