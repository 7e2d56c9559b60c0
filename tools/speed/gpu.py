"""Speed of edits on a GPU: of whole ones with each saving, and of single passes of the UNet.

    python -m tools.speed.gpu --out results/gpu
    python -m tools.speed.gpu --tiny --device cpu --dtype float32 --out results/tiny
    python -m tools.speed.gpu --models embedded --device cpu --dtype float32 --frames 24 \\
        --preparations --out results/cpu

The shapes of Stable Diffusion 1.5 at 512 x 512 and of SDXL at 1024 x 1024 with random weights, in
bfloat16, on 16 frames of moving noise; nothing is downloaded. edits.md: whole edits by the plain
method, by this package as it is (exact), and with one change to that in each row. passes.md: one
pass of the UNet for a batch of images, with channels_last and torch.compile (which an edit does not
use, as compiled code does not see hooks). Each is run once before it is measured. After --minutes
no further row is begun, and the missing ones are named.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pnpvideo.clips.clip import Frames
from pnpvideo.models.network import Batch
from pnpvideo.models.stable_diffusion.unet import UNet
from pnpvideo.options.method import DEFAULT_BATCH_SIZE, PnPOptions
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from tools.speed.benchmark import (
    TARGET,
    Clock,
    Method,
    count_flops,
    make_table,
    matmul_rate,
    random_frames,
    translate_once,
)
from tools.speed.peak_memory import peak_memory, reset_peak_memory
from tools.speed.random_models import make_pipeline
from tools.tables import Row, report

SIDES = {"sd15": 512, "sdxl": 1024, "embedded": 256, "tiny": 32}
"""Models, and the pixels a side of what they edit."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """A row of the table of edits: the method, with these changes to its options."""

    name: str
    method: Method = "best"
    options: dict[str, Any] = field(default_factory=dict)
    batch_size: int = DEFAULT_BATCH_SIZE


_EXACT = {"feature_level": 1.0}
_ONCE = {"feature_level": 0.4}
WAYS = (
    Way(name="plain", method="plain"),
    Way(name="exact"),
    Way(name="source read once", options=_ONCE),
    Way(name="read once, preset fast", method="fast", options=_ONCE),
    Way(name="read once, not inverted", options=_ONCE | {"start_from": "noised"}),
    Way(name="no guidance", options={"guidance_scale": 1.0}),
    Way(name="one frame a pass", batch_size=1),
    Way(name="twice the frames a pass", batch_size=2 * DEFAULT_BATCH_SIZE),
)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model with frames to edit, (n, size, size, 3). rate: FLOP a second of large products."""

    name: str
    pipeline: PnPVideoPipeline
    frames: Frames
    options: PnPOptions
    rate: float


def measure_edit(subject: Subject, way: Way) -> Row:
    """Return the row of a way to edit."""
    pipeline, frames, count = subject.pipeline, subject.frames, len(subject.frames)
    options = subject.options.override(_EXACT | way.options)
    once = options.override({"steps": 1})
    translate_once(pipeline, way.method, frames, once, way.batch_size)
    reset_peak_memory(pipeline.device)
    seconds = translate_once(pipeline, way.method, frames, options, way.batch_size).seconds
    memory, total = peak_memory(pipeline.device), sum(seconds.values())
    flops = count_flops(pipeline, way.method, frames[:1], options)
    return {
        "model": subject.name,
        "way": way.name,
        "size": frames.shape[1],
        "frames a second": count / total,
        **{f"{stage} s": value / count for stage, value in seconds.items()},
        "TFLOP a frame": flops / 1e12,
        "share of matmul rate": flops * count / total / subject.rate,
        "peak GiB": memory,
    }


def _eager(unet: Any) -> None:
    pass


def _channels_last(unet: Any) -> None:
    unet.to(memory_format=torch.channels_last)


def _compiled(unet: Any) -> None:
    unet.compile()


PREPARATIONS: dict[str, Sequence[Callable[[Any], None]]] = {
    "as it is": (_eager,),
    "channels_last": (_channels_last,),
    "torch.compile": (_compiled,),
    "both": (_channels_last, _compiled),
}


@contextmanager
def prepared(unet: Any, steps: Sequence[Callable[[Any], None]]) -> Iterator[None]:
    """Change a UNet within the context."""
    try:
        for step in steps:
            step(unet)
        yield
    finally:
        unet._compiled_call_impl = None
        unet.to(memory_format=torch.contiguous_format)


@torch.no_grad()
def measure_pass(subject: Subject, name: str, *, repeats: int = 5) -> Row:
    """Return the row of a preparation: the best of several passes for a batch of images."""
    pipeline, images = subject.pipeline, 3 * DEFAULT_BATCH_SIZE
    side = subject.frames.shape[1] // pipeline.model.autoencoder.factor
    channels = pipeline.unet.config.in_channels
    latents = torch.randn(images, channels, side, side).to(pipeline.device, pipeline.unet.dtype)
    network = UNet(pipeline.unet, pipeline.model.autoencoder.factor)
    batch = Batch(latents=latents, timestep=500, texts=pipeline.encode_texts([TARGET]))
    clock, seconds = Clock(pipeline.device), []
    with prepared(pipeline.unet, PREPARATIONS[name]):
        with clock.stage("first"):
            network.predict(batch)
        reset_peak_memory(pipeline.device)
        for _ in range(repeats):
            with clock.stage("pass"):
                network.predict(batch)
            seconds.append(clock.seconds["pass"])
    return {
        "model": subject.name,
        "UNet": name,
        "ms an image": 1e3 * min(seconds) / images,
        "peak GiB": peak_memory(pipeline.device),
        "first s": clock.seconds["first"],
    }


def subjects(arguments: argparse.Namespace) -> Iterator[Subject]:
    """Yield each model with its frames."""
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
    rate = matmul_rate(device, dtype)
    print(f"{rate / 1e12:.2f} TFLOP/s in large matrix products")
    for name in ("tiny",) if arguments.tiny else arguments.models:
        side = SIDES[name]
        pipeline = make_pipeline(name, device, dtype)
        yield Subject(
            name=name,
            pipeline=pipeline,
            frames=random_frames(arguments.frames, side),
            options=pipeline.model_options.override({"steps": arguments.steps}),
            rate=rate,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=SIDES, default=("sd15", "sdxl"))
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=7, help="when to begin no further row")
    parser.add_argument("--preparations", nargs="*", choices=PREPARATIONS, default=PREPARATIONS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to try the script")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    edits: list[Row] = []
    passes: list[Row] = []
    missing: list[str] = []
    for subject in subjects(arguments):
        rows = [(edits, partial(measure_edit, subject, way), way.name) for way in WAYS]
        rows += [
            (passes, partial(measure_pass, subject, name), name) for name in arguments.preparations
        ]
        for table, make, name in rows:
            if time.monotonic() > end:
                missing.append(f"{subject.name} {name}")
            else:
                table.append(make())
    for name, table in (("edits", edits), ("passes", passes)):
        if table:
            report(table, make_table(table), arguments.out, name)
    if missing:
        print(f"\nnot measured for lack of time: {', '.join(missing)}")


if __name__ == "__main__":
    main()
