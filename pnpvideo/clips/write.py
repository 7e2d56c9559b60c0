"""Writing of clips: frames -> video (sound and frame rate kept) | folder | animation | image."""

import os
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import get_args

import numpy as np

from pnpvideo.clips.as_clip import Video, batches_of
from pnpvideo.clips.clip import Alpha, Colour, Frames, Sound, Timing
from pnpvideo.clips.stills.write_images import write_animation, write_folder, write_image
from pnpvideo.clips.video.write_video import CONTAINERS, write_video
from pnpvideo.errors import InputError
from pnpvideo.files.atomic_output import atomic_output, check_free
from pnpvideo.options.declared import one_of, shown
from pnpvideo.options.paths import check_path
from pnpvideo.options.settings import ResultSettings
from pnpvideo.options.values import DEFAULT_FRAME_RATE, DEFAULT_QUALITY, DEFAULT_TRACKS, Tracks

SINGLE_SUFFIXES = (".png", ".jpg", ".jpeg")
"""Suffixes of files that hold one frame."""
ALPHA_SUFFIXES = (".png", ".webp", ".webm", ".mov")
"""Suffixes of files that can be transparent; folders of frames can, too."""
SUFFIXES = (*CONTAINERS, ".webp", *SINGLE_SUFFIXES)
"""Suffixes of all files that can be written."""
_TYPES: Mapping[str, tuple[type, str]] = {
    "timing": (Timing, "a Timing, such as Timing(frame_rate=Fraction(24))"),
    "sound": (Sound, "the sound of a clip, such as read_clip(path).sound"),
    "colour": (Colour, "the colour space of a clip, such as read_clip(path).colour"),
    "alpha": (Iterable, "batches of uint8 of shape (n, height, width)"),
}


def write_clip(
    frames: Video | Iterable[Video],
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
        frames: One clip in any form of `Video`, such as `frames` of a pipeline's output for one
            prompt; or an iterator of pictures or batches, such as uint8 RGB of shape (n, height,
            width, 3), all of one size, which are never all held in memory.
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
    if tracks not in get_args(Tracks):
        raise InputError(f"tracks is {shown(tracks)}; give {one_of(get_args(Tracks))}")
    _check_types(timing=timing, sound=sound, colour=colour, alpha=alpha)
    path = check_output(output, overwrite, alpha=alpha is not None)
    folder = _names_folder(output)
    timing = timing or Timing(frame_rate=DEFAULT_FRAME_RATE)
    batches = batches_of(frames)
    if alpha is not None:
        batches = (_with_alpha(*pair) for pair in zip_longest(batches, alpha))
    batches = (batch for batch in batches if len(batch))
    with atomic_output(path, folder=folder, overwrite=overwrite) as part:
        suffix = path.suffix.lower()
        if folder:
            write_folder(batches, part)
        elif suffix in SINGLE_SUFFIXES:
            write_image(batches, part, quality=quality)
        elif suffix == ".webp":
            write_animation(batches, part, timing=timing, quality=quality)
        else:
            write_video(
                batches,
                part,
                output=path,
                timing=timing,
                sound=None if tracks == "none" else sound,
                tracks=tracks,
                colour=colour or Colour(),
                quality=quality,
            )
    return path


def _check_types(**values: object) -> None:
    """Raise InputError for a value of another type than its keyword has; None is not given."""
    for name, (kind, wanted) in _TYPES.items():
        value = values[name]
        if value is not None and not isinstance(value, kind):
            raise InputError(f"{name} is {shown(value)}; give {wanted}")


def _with_alpha(frames: Frames | None, alpha: Alpha | None) -> Frames:
    """Return RGBA of shape (n, height, width, 4). InputError if one is missing, or they differ."""
    if frames is None or alpha is None:
        fewer, more = ("frames", "alpha") if frames is None else ("alpha", "frames")
        raise InputError(f"{fewer} end before {more}; give them in batches of the same frames")
    if not isinstance(alpha, np.ndarray) or alpha.dtype != np.uint8:
        raise InputError("alpha is not of uint8 arrays; give batches of shape (n, height, width)")
    if alpha.shape != frames.shape[:3]:
        raise InputError(
            f"alpha has shape {alpha.shape} where the frames have {frames.shape}; give batches of "
            f"shape {frames.shape[:3]}"
        )
    return np.concatenate([frames, alpha[..., np.newaxis]], axis=-1)


def check_output(output: str | Path, overwrite: bool = False, *, alpha: bool = False) -> Path:
    """Return the path; raise InputError unless `write_clip` could write there. Changes nothing.

    alpha: whether the frames may be transparent.
    """
    if not isinstance(output, str | Path):
        raise InputError(f"output is {shown(output)}; give the path of a file or folder")
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
