"""The main job: read a source, run the pipeline, write the result."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pnpvideo.atomic_output import check_free
from pnpvideo.clips.clip import Clip, Frames
from pnpvideo.clips.compare import side_by_side
from pnpvideo.clips.read import read_clip
from pnpvideo.clips.read_ahead import read_ahead
from pnpvideo.clips.resize import resize_frames
from pnpvideo.clips.write import SINGLE_SUFFIXES, check_output, write_clip
from pnpvideo.errors import InputError, RunError
from pnpvideo.models.batches import is_out_of_memory
from pnpvideo.models.load import default_device, default_dtype
from pnpvideo.options.method import PnPOptions
from pnpvideo.options.settings import Settings, write_settings
from pnpvideo.pipeline import PnPVideoPipeline
from pnpvideo.storage.allocate import Storage
from pnpvideo.storage.job_folder import JobFolder
from pnpvideo.storage.trajectory import Trajectory

_KEPT_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".gif", ".webp", ".png", ".jpg", ".jpeg")


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """How near the source comes when it is sampled back: PSNR in dB, higher is nearer.

    reconstruction: of the frames sampled back from z_T; autoencoder: of frames only encoded and
    decoded, the most that any inversion can reach.
    """

    reconstruction: float
    autoencoder: float


@dataclass(frozen=True, kw_only=True)
class Translation:
    """What a run wrote. outputs: one for each prompt; compares: the same, source beside result."""

    outputs: tuple[Path, ...]
    compares: tuple[Path, ...]
    settings: Path
    inversion: Inversion | None


def translate(
    source: str | Path | None = None,
    prompt: str | list[str] | tuple[str, ...] = (),
    *,
    overwrite: bool = False,
    quiet: bool = False,
    **settings: object,
) -> Translation:
    """Translate a clip, a frame sequence or an image to what a prompt says.

    source, prompt, settings: the fields of `Settings`, which describes them. The full settings are
    written beside the result as NAME.yaml. overwrite: replace results that exist. quiet: no bars.
    Raises InputError for what the user gave, RunError for what failed.
    """
    values = {"source": source, "prompt": prompt} | settings
    return run(Settings.of(values), overwrite=overwrite, quiet=quiet)


def run(settings: Settings, *, overwrite: bool = False, quiet: bool = False) -> Translation:
    """`translate` for settings that are made already."""
    # 1. Check everything that costs nothing before anything that costs time
    device = _device(settings)
    dtype: torch.dtype | None = getattr(torch, settings.dtype or "", None)
    if settings.offload and device.type == "cpu":
        raise InputError("offload is for a GPU, and this run is on the CPU; leave it out")
    with contextlib.ExitStack() as open_things:
        clip = None
        if settings.source is not None:
            clip = read_clip(
                settings.source,
                start=settings.start,
                frames=settings.frame_count,
                stride=settings.stride,
                frame_rate=settings.frame_rate,
                allow_truncated=settings.allow_truncated,
            )
            open_things.callback(clip.close)
        output = settings.output or _default_output(settings, clip)
        outputs = _numbered(output, len(settings.prompt))
        compares = tuple(_beside(path, "-compare") for path in outputs) if settings.compare else ()
        for path in (*outputs, *compares):
            target = check_output(path, overwrite)
            if target.suffix.lower() in SINGLE_SUFFIXES and clip is not None and len(clip) > 1:
                raise InputError(
                    f"{path} is one image, and the source has {len(clip)} frames; "
                    "name a video or a folder, or give --frames 1"
                )
        record = Path(f"{output.rstrip('/')}.yaml")
        check_free(record, folder=False, overwrite=overwrite)
        if settings.compare and clip is None:
            raise InputError("a generated source has no file to compare with; leave out compare")
        storage = Storage(
            place=settings.trajectory_place,
            precision=settings.trajectory_precision,
            folder=_folder_above(output),
        )
        job = None if settings.job is None else open_things.enter_context(JobFolder(settings.job))

        # 2. Load the model
        pipeline = PnPVideoPipeline.from_pretrained(
            settings.model,
            torch_dtype=dtype or default_dtype(device),
            loras=settings.loras,
            config=settings.config_folder,
        )
        options = settings.resolve(pipeline.model_options)
        pipeline.set_progress_bar_config(disable=quiet)
        try:
            # 3. Read, invert, denoise
            if settings.offload:
                pipeline.enable_model_cpu_offload(device=device)
            else:
                pipeline.to(device)
            latents, trajectory = pipeline(
                settings.prompt,
                clip,
                guidance_prompt=settings.guidance_prompt,
                negative_prompt=settings.negative_prompt or None,
                inversion_prompt=settings.inversion_prompt,
                width=settings.size[0] if settings.size else None,
                height=settings.size[1] if settings.size else None,
                generator=torch.Generator().manual_seed(settings.seed),
                batch_size=settings.batch_size,
                storage=storage,
                job=job,
                output_type="latent",
                return_dict=False,
                options=options,
            )
            open_things.callback(trajectory.close)
            # 4. Decode and write
            for one, path in zip(latents, outputs, strict=True):
                frames = pipeline.decode_clip(
                    one, trajectory, clip, options.blend_radius, settings.batch_size
                )
                _write(frames, path, clip, settings, overwrite)
            for path, compare in zip(outputs, compares, strict=False):
                _write_compare(path, compare, clip, settings, overwrite)
            inversion = None
            if settings.check_inversion and clip is not None:
                size = pipeline.working_size(clip, settings.size)
                inversion = check_inversion(
                    pipeline, clip, trajectory, size, options, settings.batch_size
                )
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise RunError(
                f"the memory of {device} is not enough, even for one frame at a time; give a "
                "smaller --size"
            ) from None
        resolved = options.plain() | {"output": output}
        write_settings(settings, record, resolved, overwrite=overwrite)
    return Translation(
        outputs=tuple(map(Path, outputs)),
        compares=tuple(map(Path, compares)),
        settings=record,
        inversion=inversion,
    )


def _write(
    frames: Iterator[Frames], output: str, clip: Clip | None, settings: Settings, overwrite: bool
) -> None:
    frames = read_ahead(frames)
    if settings.original_size and clip is not None:
        frames = _resized(frames, clip.width, clip.height)
    write_clip(
        frames,
        output,
        timing=clip.timing if clip is not None else None,
        sound=clip.sound if clip is not None else None,
        quality=settings.quality,
        overwrite=overwrite,
    )


def _write_compare(
    output: str, compare: str, clip: Clip | None, settings: Settings, overwrite: bool
) -> None:
    assert clip is not None
    result = read_clip(output)
    try:
        write_clip(
            side_by_side(clip.batches(settings.batch_size), result.batches(settings.batch_size)),
            compare,
            timing=clip.timing,
            sound=clip.sound,
            quality=settings.quality,
            overwrite=overwrite,
        )
    finally:
        result.close()


def check_inversion(
    pipeline: PnPVideoPipeline,
    clip: Clip,
    trajectory: Trajectory,
    size: tuple[int, int],
    options: PnPOptions,
    batch_size: int,
) -> Inversion:
    """Sample a clip back from its trajectory, at the working (width, height) it was inverted at."""
    back = pipeline.reconstruct(trajectory, size, options, batch_size=batch_size)

    def psnr(latents: torch.Tensor) -> float:
        sources = _resized(clip.batches(batch_size), *size)
        decoded = pipeline.decode(latents, batch_size)
        errors = [
            np.square(a.astype(np.float32) - b).mean(axis=(1, 2, 3))
            for a, b in zip(sources, decoded, strict=True)
        ]
        return float(10 * np.log10(255**2 / max(np.concatenate(errors).mean(), 1e-10)))

    return Inversion(reconstruction=psnr(back), autoencoder=psnr(trajectory.clean))


def _resized(frames: Iterator[Frames], width: int, height: int) -> Iterator[Frames]:
    return (resize_frames(batch, width, height) for batch in frames)


def _device(settings: Settings) -> torch.device:
    if settings.device is None:
        return default_device()
    try:
        device = torch.device(settings.device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise InputError(
            f"the device {settings.device!r} is not there; give cuda, cuda:1, mps or cpu, "
            "or leave it out"
        ) from None
    return device


def _default_output(settings: Settings, clip: Clip | None) -> str:
    """In the current folder, named for the source, in its format where that can be written."""
    if clip is None or settings.source is None:
        return "generated-translated.png"
    source = Path(settings.source)
    suffix = source.suffix.lower()
    if clip.timing is None and len(clip) > 1:
        suffix = ""
    elif clip.timing is None and suffix not in SINGLE_SUFFIXES:
        suffix = ".png"
    elif clip.timing is not None and (suffix not in _KEPT_SUFFIXES or suffix in SINGLE_SUFFIXES):
        suffix = ".mp4"
    return f"{source.stem}-translated{suffix}"


def _numbered(output: str, count: int) -> tuple[str, ...]:
    if count == 1:
        return (output,)
    return tuple(_beside(output, f"-{i}") for i in range(1, count + 1))


def _folder_above(output: str) -> Path:
    """The folder that the result goes to, or the one in which that will be made."""
    above = Path(output).absolute().parent
    while not above.exists():
        above = above.parent
    return above


def _beside(output: str, ending: str) -> str:
    """The same name with an ending before its suffix."""
    path = Path(output)
    if output.endswith("/"):
        return f"{path}{ending}/"
    return str(path.with_name(f"{path.stem}{ending}{path.suffix}"))
