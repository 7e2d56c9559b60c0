"""Methods to translate a picture: this one, and those that it is compared with, on one model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from torch import Generator, Tensor

from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from pnpvideo.storage.trajectory import Trajectory
from tools.train.appearance import Pixels

STRENGTHS = (0.4, 0.6, 0.8)
GUIDANCE_SCALE = 3.0  # of methods without injection: the model's best value for text alone
_PLAIN = {"tau_f": 0.0, "tau_a": 0.0, "noise_share": 0.0}
FROM_INVERSION: dict[str, dict[str, Any]] = {
    "pnp": {},
    "ddim": _PLAIN,
    "ddim guided": _PLAIN | {"guidance_scale": GUIDANCE_SCALE},
}
"""Methods that start from the inverted noise, with the options that replace the model's."""
METHODS = ("truth", *FROM_INVERSION, *(f"sdedit {s}" for s in STRENGTHS), "generation")
"""All methods; the others are measured against `truth`."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Options and injected layers that replace the model's.

    negated: whether the source's caption is the negative prompt.
    """

    options: dict[str, Any] = field(default_factory=dict)
    layers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    negated: bool = False

    @contextmanager
    def used_by(self, pipeline: PnPVideoPipeline) -> Iterator[None]:
        options, layers = pipeline.model_options, pipeline.layers
        pipeline.model_options = options.override(self.options)
        own: dict[str, Any] = {place: tuple(names) for place, names in self.layers.items()}
        pipeline.layers = replace(layers, **own)
        try:
            yield
        finally:
            pipeline.model_options, pipeline.layers = options, layers


def side_of(pipeline: PnPVideoPipeline) -> int:
    """Return the pixels a side of the pictures that a model was trained for."""
    width, _ = pipeline.model.default_size
    return width


class Translator:
    """A translator of one picture (size, size, 3), inverted once for all prompts and methods."""

    def __init__(self, pipeline: PnPVideoPipeline, source: Pixels, *, steps: int | None) -> None:
        self.pipeline = pipeline
        self.source = torch.from_numpy(source).movedim(-1, 0)[None]
        # This method uses the model's steps by default; the others need a number.
        self.steps = pipeline.model_options.steps if steps is None else steps
        names = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
        self._parts = {name: pipeline.components[name] for name in names} | {
            "safety_checker": None,
            "feature_extractor": None,
            "requires_safety_checker": False,
        }
        self._trajectory: Trajectory | None = None

    def translate(
        self, prompts: Sequence[str], method: str = "pnp", *, seed: int, negative: str | None = None
    ) -> list[Pixels]:
        """Return a method's picture for each prompt; `negative`: the negative prompt."""
        generator = Generator().manual_seed(seed)
        common: dict[str, Any] = {"num_inference_steps": self.steps, "output_type": "pt"}
        if method in FROM_INVERSION:
            frames, self._trajectory = self.pipeline(
                list(prompts),
                video=self.source if self._trajectory is None else None,
                trajectory=self._trajectory,
                negative_prompt=negative,
                generator=generator,
                return_dict=False,
                **FROM_INVERSION[method],
                **common,
            )
            return _pictures(frames[:, 0])
        common |= {"guidance_scale": GUIDANCE_SCALE, "generator": generator}
        if method == "generation":
            generate = StableDiffusionPipeline(**self._parts)
            generate.set_progress_bar_config(disable=True)
            return _pictures(generate(list(prompts), **common).images)
        edit = StableDiffusionImg2ImgPipeline(**self._parts)
        edit.set_progress_bar_config(disable=True)
        sources = self.source.expand(len(prompts), -1, -1, -1)
        strength = float(method.removeprefix("sdedit "))
        return _pictures(edit(list(prompts), sources, strength=strength, **common).images)


def _pictures(images: Tensor) -> list[Pixels]:
    return list(images.float().clamp(0, 1).movedim(1, -1).numpy().astype(np.float32))
