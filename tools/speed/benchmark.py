"""Time, work and memory of a translation.

    python -m tools.speed.benchmark models --models embedded --frames 1 16 64 256 --out results
    python -m tools.speed.benchmark files --frames 16 64 256 1024 --out results
    python -m tools.speed.benchmark profile --models embedded --out results

`models` measures this method, by itself and with each preset, against the plain method, in one
process; `files` measures whole runs of the command line, which gets the options after --; `profile`
shows which of PyTorch's operations take the time.

The plain method is the same mathematics without this package's savings: stock diffusers modules
with fused attention, the source, negative and target branches in one batch at every step, the same
precision and frames in a pass. All run in turn, `--repeats` times each, and the best time of each
stage counts. Stable Diffusion models have random weights here, which take as much time as trained
ones.

Prints a table and writes it as NAME.md, and except for `profile` as NAME.csv; `models` also draws
a plot.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pnpvideo.clips.clip import Frames, clip_of_frames
from pnpvideo.evaluation.summary import markdown
from pnpvideo.options.method import DEFAULT_BATCH_SIZE, PRESETS, PnPOptions, Preset
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from pnpvideo.stages.callbacks import QUIET
from pnpvideo.stages.edit import OpenEdit
from pnpvideo.stages.invert import invert_into
from pnpvideo.stages.latents import decode, encode
from pnpvideo.stages.request import Edit, seeded
from pnpvideo.storage.allocate import Storage
from tools.speed.benchmark_files import measure_files
from tools.speed.peak_memory import peak_memory, reset_peak_memory
from tools.speed.plain_method import plain_denoise, plain_invert
from tools.speed.random_models import MODELS, make_pipeline
from tools.tables import Row, report

Method = Literal["plain"] | Preset
METHODS: tuple[Method, ...] = ("plain", *reversed(PRESETS))
"""`plain`, then this method at each preset; `best` is exact, with the same steps as `plain`."""
SOURCE, TARGET, NEGATIVE = "a drawing", "a photo of a stone", "grey"
"""The texts, all different: equal texts would save work that real runs do."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Seconds by stage, and the result: clean latents of the target."""

    seconds: dict[str, float]
    latents: Tensor


def random_frames(count: int, size: int) -> Frames:
    """Return smooth moving noise, (count, size, size, 3)."""
    coarse = torch.randn(1, 3, 12, 12, generator=Generator().manual_seed(2))
    wide = functional.interpolate(coarse, (size + count, size + count), mode="bicubic")
    moving = torch.cat([wide[..., i : i + size, i : i + size] for i in range(count)])
    pixels = ((moving.clamp(-1, 1) + 1) * 127.5).byte()
    return np.ascontiguousarray(pixels.movedim(1, -1).numpy())


class Clock:
    """Seconds of named stages; the device is synchronised before and after each."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._wait()
        start = time.perf_counter()
        yield
        self._wait()
        self.seconds[name] = time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@torch.no_grad()
def translate_once(
    pipeline: PnPVideoPipeline,
    method: Method,
    frames: Frames,
    options: PnPOptions,
    batch_size: int,
) -> Run:
    """Run the pipeline's stages on `frames` (n, size, size, 3), by one of METHODS.

    options: those of `best`.
    """
    clip, size = clip_of_frames(frames), (frames.shape[2], frames.shape[1])
    plain, model = method == "plain", pipeline.model
    options = options.at(None if method == "plain" else method)
    clock = Clock(pipeline.device)
    with clock.stage("encode"):
        request = Edit(
            source=clip,
            inversion_prompt=SOURCE,
            size=size,
            options=options,
            generators=seeded(0),
            batch_size=batch_size,
            storage=Storage(place="memory"),
        )
        source = OpenEdit(model, request, QUIET).source
        latents = encode(model, source, batch_size)
    with clock.stage("invert"):
        trajectory = source.trajectory
        if plain:
            trajectory = plain_invert(pipeline, latents, options, SOURCE, batch_size)
        elif options.inverts:
            invert_into(model, source, latents, options, batch_size=batch_size, callbacks=QUIET)
        else:
            trajectory.write(0, latents[None])
    with clock.stage("denoise"):
        if plain:
            result = plain_denoise(pipeline, trajectory, options, TARGET, NEGATIVE, batch_size)
        else:
            results, _ = pipeline(
                TARGET,
                trajectory=trajectory,
                negative_prompt=NEGATIVE,
                options=options,
                generator=Generator().manual_seed(0),
                batch_size=batch_size,
                output_type="latent",
                return_dict=False,
            )
            result = results[0]
    with clock.stage("decode"):
        for _ in decode(model, result, batch_size):
            pass
    return Run(seconds=clock.seconds, latents=result)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return FLOP per second of large matrix products, the device's practical maximum."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    clock = Clock(device)
    best = float("inf")
    for _ in range(5):
        with clock.stage("product"):
            a @ b
        best = min(best, clock.seconds["product"])
    return 2 * side**3 / best


def fastest(runs: Sequence[Run]) -> dict[str, float]:
    """Return the best time of each stage."""
    return {name: min(run.seconds[name] for run in runs) for name in runs[0].seconds}


def count_flops(
    pipeline: PnPVideoPipeline, method: Method, frame: Frames, options: PnPOptions
) -> int:
    """Count the FLOP of one frame (1, size, size, 3)."""
    # Torch does not count the work of the CPU's fused attention.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        translate_once(pipeline, method, frame, options, 1)
    flops: int = counter.get_total_flops()
    return flops


def measure(
    name: str,
    pipeline: PnPVideoPipeline,
    frames: Frames,
    options: PnPOptions,
    *,
    batch_size: int,
    repeats: int,
    flops: Mapping[Method, int],
    rate: float,
) -> list[Row]:
    """Return a row for each method in `flops`, which has its FLOP a frame and includes "plain"."""
    count, device = len(frames), pipeline.device
    runs: dict[Method, list[Run]] = {method: [] for method in flops}
    memory: dict[Method, float] = {}
    for _ in range(repeats):
        for method, done in runs.items():
            reset_peak_memory(device)
            done.append(translate_once(pipeline, method, frames, options, batch_size))
            memory[method] = peak_memory(device)
    reference, plain = runs["plain"][0].latents, fastest(runs["plain"])
    rows = []
    for method, done in runs.items():
        best = fastest(done)
        seconds = sum(best.values()) / count
        difference = (done[0].latents - reference).norm() / reference.norm()
        rows.append(
            {
                "model": name,
                "size": frames.shape[1],
                "frames": count,
                "method": method,
                "seconds a frame": seconds,
                **{f"{name} s": value / count for name, value in best.items()},
                "TFLOP a frame": flops[method] / 1e12,
                "share of matmul rate": flops[method] / seconds / rate,
                "peak GiB": memory[method],
                "difference": float(difference),
                "times faster": sum(plain.values()) / sum(best.values()),
            }
        )
    return rows


def make_table(rows: Sequence[Row]) -> str:
    def cell(value: object) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    names = list(rows[0])
    return markdown(names, [[cell(row[name]) for name in names] for row in rows], words=1)


def draw_plot(rows: Sequence[Row], path: Path) -> None:
    """Draw bars of the seconds for each frame."""
    longest = max(float(row["seconds a frame"]) for row in rows)
    picture = np.full((34 * len(rows) + 10, 900, 3), 255, np.uint8)
    for line, row in enumerate(rows):
        top = 34 * line + 8
        name = f"{row['model']} {row['size']}px x{row['frames']} {row['method']}"
        width = max(1, round(480 * float(row["seconds a frame"]) / longest))
        colour = (150, 150, 150) if row["method"] == "plain" else (200, 120, 40)
        cv2.rectangle(picture, (300, top), (300 + width, top + 24), colour, -1)
        for text, left in ((name, 8), (f"{row['seconds a frame']:.3g} s", 308 + width)):
            cv2.putText(
                picture, text, (left, top + 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1,
                cv2.LINE_AA,
            )  # fmt: skip
    cv2.imwrite(str(path), picture)


def models(
    arguments: argparse.Namespace,
) -> Iterator[tuple[str, PnPVideoPipeline, PnPOptions, int]]:
    """Yield each model of the command line with its options and its pixels a side."""
    for name in arguments.models:
        pipeline = make_pipeline(name, torch.device(arguments.device), _dtype(arguments))
        options = pipeline.model_options.override(
            {"steps": arguments.steps, "tau_f": arguments.tau_f, "tau_a": arguments.tau_a}
        )
        side, _ = pipeline.model.default_size
        yield name, pipeline, options, arguments.size or side


def _dtype(arguments: argparse.Namespace) -> torch.dtype:
    default = "float32" if arguments.device == "cpu" else "bfloat16"
    dtype: torch.dtype = getattr(torch, arguments.dtype or default)
    return dtype


def run_models(arguments: argparse.Namespace) -> None:
    rate = matmul_rate(torch.device(arguments.device), _dtype(arguments))
    rows: list[Row] = []
    for name, pipeline, options, size in models(arguments):
        frame = random_frames(1, size)
        flops = {
            method: count_flops(pipeline, method, frame, options)
            for method in METHODS
            if method == "plain" or method in arguments.presets
        }
        for count in arguments.frames:
            rows += measure(
                name,
                pipeline,
                random_frames(count, size),
                options,
                batch_size=arguments.batch_size,
                repeats=arguments.repeats,
                flops=flops,
                rate=rate,
            )
    print(f"{rate / 1e12:.2f} TFLOP/s in large matrix products")
    report(rows, make_table(rows), arguments.out, "models")
    draw_plot(rows, arguments.out / "models.png")


def run_profile(arguments: argparse.Namespace) -> None:
    tables = []
    for name, pipeline, options, size in models(arguments):
        frames = random_frames(arguments.frames[0], size)
        translate_once(
            pipeline, "best", frames, options.override({"steps": 1}), arguments.batch_size
        )
        with torch.profiler.profile() as profiler:
            translate_once(pipeline, "best", frames, options, arguments.batch_size)
        sort = "self_cpu_time_total" if arguments.device == "cpu" else "self_device_time_total"
        table = profiler.key_averages().table(sort_by=sort, row_limit=12, max_name_column_width=40)
        tables.append(f"{name}, {size} px\n\n```\n{table}\n```\n")
    print("\n".join(tables))
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "profile.md").write_text("\n".join(tables))


def run_files(arguments: argparse.Namespace) -> None:
    rows = measure_files(arguments.frames, arguments.options)
    report(rows, make_table(rows), arguments.out, "files")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    models = commands.add_parser("models", help="beside the plain method, by stage")
    models.add_argument("--frames", type=int, nargs="+", default=[1, 16, 64, 256])
    models.add_argument("--repeats", type=int, default=3)
    models.add_argument(
        "--presets", nargs="*", choices=tuple(PRESETS), default=tuple(PRESETS), help="all"
    )
    models.set_defaults(run=run_models)
    profile = commands.add_parser("profile", help="which operations the time goes to")
    profile.add_argument("--frames", type=int, nargs=1, default=[4])
    profile.set_defaults(run=run_profile)
    for command in (models, profile):
        command.add_argument("--models", nargs="+", choices=MODELS, default=["embedded"])
        command.add_argument("--size", type=int, help="pixels a side; the model's own by default")
        command.add_argument("--steps", type=int, help="the model's own by default")
        command.add_argument("--tau-f", type=float, help="the model's own by default")
        command.add_argument("--tau-a", type=float, help="the model's own by default")
        command.add_argument("--batch-size", type=int, default=DEFAULT_BATCH_SIZE)
        command.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
        command.add_argument("--dtype", choices=("float32", "bfloat16", "float16", "float64"))
    files = commands.add_parser("files", help="the command line, from file to file")
    files.add_argument("--frames", type=int, nargs="+", default=[16, 64, 256, 1024])
    files.add_argument("options", nargs="*", help="options of pnpvideo translate, after --")
    files.set_defaults(run=run_files)
    for command in (models, profile, files):
        command.add_argument("--out", type=Path, required=True, help="folder of the results")
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
