"""Time, work and memory of a translation.

    python -m tools.speed.benchmark models --models embedded --frames 1 16 64 256 --out results
    python -m tools.speed.benchmark files --frames 16 64 256 1024 --out results
    python -m tools.speed.benchmark profile --models embedded --out results

`models` measures this method, by itself and with each preset, beside the plain one, in one process;
`files` measures whole runs of the command line, which gets the options after --; `profile` says
which of PyTorch's operations the time goes to.

The plain method is the same mathematics without our savings: stock diffusers modules with fused
attention, the source, negative and target branches in one batch at every step, the same precision
and frames in a pass. All run in turn, `--repeats` times each, and the best time of each stage
counts. Stable Diffusion models have random weights here, which cost as much time as trained ones.

Prints a table and writes it as NAME.md, and but for `profile` as NAME.csv; `models` also draws a
plot.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Generator, Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pnpvideo.evaluation.tables import Row, markdown, report
from pnpvideo.models.autoencoder import encode_frames, vae_factor
from pnpvideo.models.batches import Batches
from pnpvideo.models.decode_latents import decode_latents
from pnpvideo.models.network import InjectionLayers
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.models.unet import UNet, default_layers
from pnpvideo.options.method import BRANCHES, DEFAULT_BATCH_SIZE, PRESETS, PnPOptions, Preset
from pnpvideo.pipeline import PnPVideoPipeline
from pnpvideo.sampling.denoise import denoise_latents
from pnpvideo.sampling.guidance import Texts
from pnpvideo.sampling.invert import invert_latents
from pnpvideo.sampling.schedule import make_schedule
from pnpvideo.storage.trajectory import Trajectory
from tools.speed.benchmark_files import measure_files
from tools.speed.peak_memory import peak_memory, reset_peak_memory
from tools.speed.plain_method import plain_denoise

# What Stable Diffusion's configurations say, where it is not diffusers' default.
_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
_UNETS: dict[str, dict[str, Any]] = {
    "sd15": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "sd21": {
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
    },
    "sdxl": {
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
MODELS = ("embedded", *_UNETS)
Method = Literal["plain"] | Preset
METHODS: tuple[Method, ...] = ("plain", *reversed(PRESETS))
"""The last ones are ours at each preset; `best` is the exact one, at the same steps as `plain`."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model to measure. words: tokens and channels of a text's embedding."""

    name: str
    unet: Any
    vae: Any
    scheduler_config: Any
    layers: InjectionLayers
    options: PnPOptions
    words: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Seconds by stage, and what came out: clean latents of the target."""

    seconds: dict[str, float]
    latents: Tensor


def make_subject(name: str, device: torch.device, dtype: torch.dtype) -> Subject:
    if name == "embedded":
        own = PnPVideoPipeline.from_pretrained("embedded", torch_dtype=dtype)
        unet, vae, config = own.unet, own.vae, own.scheduler.config
        layers, options = own.layers, own.model_options
        words = own.tokenizer.model_max_length
    else:
        torch.manual_seed(0)
        with torch.device(device):
            unet = UNet2DConditionModel(sample_size=64, **_UNETS[name])
            vae = AutoencoderKL(**_VAE)
        scheduler = DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            prediction_type="v_prediction" if name == "sd21" else "epsilon",
        )
        config, layers, options, words = scheduler.config, default_layers(unet), PnPOptions(), 77
    unet.to(device, dtype).eval()
    vae.to(device, dtype).eval()
    return Subject(
        name=name,
        unet=unet,
        vae=vae,
        scheduler_config=config,
        layers=layers,
        options=options,
        words=(words, unet.config.cross_attention_dim),
    )


def random_texts(subject: Subject, device: torch.device, dtype: torch.dtype) -> Texts:
    generator = Generator().manual_seed(1)

    def text() -> PromptEmbeddings:
        hidden = torch.randn(1, *subject.words, generator=generator)
        pooled = torch.randn(1, 1280, generator=generator) if subject.name == "sdxl" else None
        return PromptEmbeddings(hidden=hidden, pooled=pooled).to(device, dtype)

    return Texts(source=text(), targets=text(), negatives=text(), unconditional=text())


def random_frames(count: int, size: int) -> Tensor:
    """Smooth moving noise, (count, 3, size, size) in [-1, 1]."""
    coarse = torch.randn(1, 3, 12, 12, generator=Generator().manual_seed(2))
    wide = functional.interpolate(coarse, (size + count, size + count), mode="bicubic")
    return torch.cat([wide[..., i : i + size, i : i + size] for i in range(count)]).clamp(-1, 1)


class Clock:
    """Seconds of named stages, the device's queue emptied around each."""

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


def translate_once(
    subject: Subject, method: Method, frames: Tensor, options: PnPOptions, batch_size: int
) -> Run:
    """All stages on `frames` (n, 3, size, size), by one of METHODS.

    options: those of `best`.
    """
    if method != "plain":
        options = options.at(method)
    unet, vae = subject.unet, subject.vae
    device, dtype = unet.device, unet.dtype
    clock = Clock(device)
    inversion = options.inversion_steps or options.steps
    schedule = make_schedule(subject.scheduler_config, options.steps, inversion)
    texts = random_texts(subject, device, dtype)
    network = UNet(unet, vae_factor(vae))
    latent_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    with torch.no_grad(), clock.stage("encode"):
        parts = [
            encode_frames(vae, part).to("cpu", latent_dtype) for part in torch.split(frames, 4)
        ]
    with clock.stage("invert"):
        latents = invert_latents(
            network,
            schedule,
            torch.cat(parts),
            texts.source,
            iterations=options.inversion_iterations,
            batches=Batches(batch_size if method == "plain" else BRANCHES * batch_size),
        )
    trajectory = Trajectory(latents=latents, timesteps=schedule.timesteps)
    with clock.stage("denoise"):
        if method == "plain":
            result = plain_denoise(
                network, subject.layers, schedule, trajectory, texts, options, batch_size
            )
        else:
            result = denoise_latents(
                network,
                subject.layers,
                schedule,
                trajectory,
                trajectory.noise[None],
                texts,
                options,
                Generator().manual_seed(0),
                batch_size=batch_size,
            )[0]
    with torch.no_grad(), clock.stage("decode"):
        for part in torch.split(result, 4):
            decode_latents(vae, part)
    return Run(seconds=clock.seconds, latents=result)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP a second of large matrix products: what the device can do at best."""
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
    """The best time of each stage."""
    return {name: min(run.seconds[name] for run in runs) for name in runs[0].seconds}


def count_flops(subject: Subject, method: Method, frame: Tensor, options: PnPOptions) -> int:
    """The work of one frame (1, 3, size, size)."""
    # Torch counts no work of the CPU's fused attention.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        translate_once(subject, method, frame, options, 1)
    flops: int = counter.get_total_flops()
    return flops


def measure(
    subject: Subject,
    frames: Tensor,
    options: PnPOptions,
    *,
    batch_size: int,
    repeats: int,
    flops: Mapping[Method, int],
    rate: float,
) -> list[Row]:
    """One row for each method in flops, which has its work for a frame, "plain" among them."""
    count, device = len(frames), subject.unet.device
    runs: dict[Method, list[Run]] = {method: [] for method in flops}
    memory: dict[Method, float] = {}
    for _ in range(repeats):
        for method, done in runs.items():
            reset_peak_memory(device)
            done.append(translate_once(subject, method, frames, options, batch_size))
            memory[method] = peak_memory(device)
    reference, plain = runs["plain"][0].latents, fastest(runs["plain"])
    rows = []
    for method, done in runs.items():
        best = fastest(done)
        seconds = sum(best.values()) / count
        difference = (done[0].latents - reference).norm() / reference.norm()
        rows.append(
            {
                "model": subject.name,
                "size": frames.shape[-1],
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
    """Bars of the seconds a frame."""
    longest = max(row["seconds a frame"] for row in rows)
    picture = np.full((34 * len(rows) + 10, 900, 3), 255, np.uint8)
    for line, row in enumerate(rows):
        top = 34 * line + 8
        name = f"{row['model']} {row['size']}px x{row['frames']} {row['method']}"
        width = max(1, round(480 * row["seconds a frame"] / longest))
        colour = (150, 150, 150) if row["method"] == "plain" else (200, 120, 40)
        cv2.rectangle(picture, (300, top), (300 + width, top + 24), colour, -1)
        for text, left in ((name, 8), (f"{row['seconds a frame']:.3g} s", 308 + width)):
            cv2.putText(
                picture, text, (left, top + 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1,
                cv2.LINE_AA,
            )  # fmt: skip
    cv2.imwrite(str(path), picture)


def subjects(arguments: argparse.Namespace) -> Iterator[tuple[Subject, PnPOptions, int]]:
    """Each model of the command line with its options and its pixels a side."""
    for name in arguments.models:
        device = torch.device(arguments.device)
        subject = make_subject(name, device, _dtype(arguments))
        options = subject.options.override(
            {"steps": arguments.steps, "tau_f": arguments.tau_f, "tau_a": arguments.tau_a}
        )
        size = arguments.size or subject.unet.config.sample_size * vae_factor(subject.vae)
        yield subject, options, size


def _dtype(arguments: argparse.Namespace) -> torch.dtype:
    default = "float32" if arguments.device == "cpu" else "bfloat16"
    dtype: torch.dtype = getattr(torch, arguments.dtype or default)
    return dtype


def run_models(arguments: argparse.Namespace) -> None:
    rate = matmul_rate(torch.device(arguments.device), _dtype(arguments))
    rows: list[Row] = []
    for subject, options, size in subjects(arguments):
        frame = random_frames(1, size)
        flops = {
            method: count_flops(subject, method, frame, options)
            for method in METHODS
            if method == "plain" or method in arguments.presets
        }
        for count in arguments.frames:
            rows += measure(
                subject,
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
    for subject, options, size in subjects(arguments):
        frames = random_frames(arguments.frames[0], size)
        translate_once(
            subject, "best", frames, options.override({"steps": 1}), arguments.batch_size
        )
        with torch.profiler.profile() as profiler:
            translate_once(subject, "best", frames, options, arguments.batch_size)
        sort = "self_cpu_time_total" if arguments.device == "cpu" else "self_device_time_total"
        table = profiler.key_averages().table(sort_by=sort, row_limit=12, max_name_column_width=40)
        tables.append(f"{subject.name}, {size} px\n\n```\n{table}\n```\n")
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
    files.add_argument("options", nargs="*", help="of pnpvideo translate, after --")
    files.set_defaults(run=run_files)
    for command in (models, profile, files):
        command.add_argument("--out", type=Path, required=True, help="folder of the results")
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
