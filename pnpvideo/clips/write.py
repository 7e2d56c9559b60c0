"""Writing of clips: frames -> video (sound and frame rate kept) | folder | animation | image."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from pnpvideo.clips.as_frames import Pictures, as_frames
from pnpvideo.clips.clip import Alpha, Colour, Frames, Sound, Timing
from pnpvideo.clips.stills.write_images import write_animation, write_folder, write_image
from pnpvideo.clips.video.write_video import CONTAINERS, write_video
from pnpvideo.errors import InputError
from pnpvideo.files.atomic_output import atomic_output, check_free
from pnpvideo.options.paths import check_path
from pnpvideo.options.settings import ResultSettings
from pnpvideo.options.values import DEFAULT_FRAME_RATE, DEFAULT_QUALITY, DEFAULT_TRACKS, Tracks

SINGLE_SUFFIXES = (".png", ".jpg", ".jpeg")
"""Suffixes of files that hold one frame."""
ALPHA_SUFFIXES = (".png", ".webp", ".webm", ".mov")
"""Suffixes of files that can be transparent; folders of frames can, too."""
SUFFIXES = (*CONTAINERS, ".webp", *SINGLE_SUFFIXES)
"""Suffixes of all files that can be written."""


def write_clip(
    frames: Iterable[Pictures],
    output: str | Path,
    *,
    timing: Timing | None = None,
    sound: Sound | None = None,
    tracks: Tracks = DEFAULT_TRACKS,
    colour: Colour | None = None,
    alpha: Iterable[Alpha] | None = None,
    quality: int = DEFAULT_QUALITY,
    overwrite: bool = False,
) -> Path:
    """Write frames as they arrive, in the format of the output's suffix; return the path.

    H.264 takes only even sizes: the last column or row of an odd width or height is repeated.
    The output appears when it is complete; on an error or Ctrl-C nothing is left, and an existing
    output is untouched.

    Args:
        frames: Batches of uint8 RGB, shape (n, height, width, 3), all of one size; or PIL images or
            arrays (height, width, 3), uint8 or 0 to 1. They are never all held in memory.
        output: .mp4, .mov, .m4v (H.264, AAC), .mkv (H.264), .webm (VP9, Opus), .gif, .webp
            (animated if there are several frames), .png, .jpg (one frame), or a name without a
            suffix or that ends with /: a folder of 000001.png and so on. Parent folders are
            created.
        timing: Written as exactly as the container can (GIF: hundredths of a second, at most 50
            frames per second; WebP, Matroska: milliseconds). None: DEFAULT_FRAME_RATE.
        sound: Copied if the container takes its codec, otherwise re-encoded; the frames alone set
            the duration of the result. Images, animations and folders have no sound. If sound
            cannot be read or written, a warning is logged, and the result has less or none.
        tracks: Of the sound. If the file marks no default track, the first that can be decoded.
        colour: The colour space of the frames, which is written into a video (BT.709 if None).
        alpha: Opacity, batches of uint8, shape (n, height, width), in step with the frames; for
            png, webp, webm (VP9), mov (ProRes 4444) and folders.
        quality: 1 to 100, for lossy formats.
        overwrite: Replace an existing output.

    Returns:
        The path of the output.

    Raises:
        InputError: If the output cannot be written as requested.
        RunError: If writing fails (a full disk).
    """
    ResultSettings.check("quality", quality)
    folder = _names_folder(output)
    path = check_output(output, overwrite, alpha=alpha is not None)
    shown = timing or Timing(frame_rate=DEFAULT_FRAME_RATE)
    batches = _batches(frames)
    if alpha is not None:
        batches = (_with_alpha(*pair) for pair in zip(batches, alpha, strict=True))
    batches = (batch for batch in batches if len(batch))
    with atomic_output(path, folder=folder, overwrite=overwrite) as part:
        suffix = path.suffix.lower()
        if folder:
            write_folder(batches, part)
        elif suffix in SINGLE_SUFFIXES:
            write_image(batches, part, quality=quality)
        elif suffix == ".webp":
            write_animation(batches, part, timing=shown, quality=quality)
        else:
            write_video(
                batches,
                part,
                output=path,
                timing=shown,
                sound=None if tracks == "none" else sound,
                tracks=tracks,
                colour=colour or Colour(),
                quality=quality,
            )
    return path


def _batches(frames: Iterable[Pictures]) -> Iterator[Frames]:
    if isinstance(frames, Image.Image) or (isinstance(frames, np.ndarray) and frames.ndim == 3):
        frames = [frames]
    for batch in frames:
        if isinstance(batch, np.ndarray) and batch.ndim == 4 and batch.dtype == np.uint8:
            yield batch
        else:
            yield as_frames(batch)


def _with_alpha(frames: Frames, alpha: Alpha) -> Frames:
    """Return RGBA of shape (n, height, width, 4)."""
    return np.concatenate([frames, alpha[..., np.newaxis]], axis=-1)


def check_output(output: str | Path, overwrite: bool = False, *, alpha: bool = False) -> Path:
    """Return the path; raise InputError unless `write_clip` could write there. Changes nothing.

    alpha: whether the frames may be transparent.
    """
    folder = _names_folder(output)
    path = Path(check_path(str(output)))
    if not folder and path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{output} has an unknown suffix; give {' '.join(SUFFIXES)}, or no suffix "
            "(or a / at the end) for a folder of frames"
        )
    if alpha and not folder and path.suffix.lower() not in ALPHA_SUFFIXES:
        raise InputError(
            f"{output} cannot hold transparency; give {', '.join(ALPHA_SUFFIXES)} or a folder, or "
            "omit keep_alpha"
        )
    check_free(path, folder=folder, overwrite=overwrite)
    return path


def _names_folder(output: str | Path) -> bool:
    # Path would drop a slash at the end.
    ends_with_slash = str(output).endswith(tuple(sep for sep in (os.sep, os.altsep) if sep))
    return ends_with_slash or not Path(output).suffix
