"""Writing of frames to a video file with exact times, correct colours, sound and transparency."""

import contextlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError

from pnpvideo.clips.clip import Colour, Frames, Sound, Timing
from pnpvideo.clips.sound.write_sound import SoundWriter
from pnpvideo.clips.video.encode_pictures import Clock, PictureEncoder
from pnpvideo.errors import InputError, RunError
from pnpvideo.options.values import Tracks

# FFmpeg's name of the container for each suffix.
CONTAINERS = {
    **{".mp4": "mp4", ".m4v": "mp4", ".mov": "mov"},
    **{".mkv": "matroska", ".webm": "webm", ".gif": "gif"},
}


def write_video(
    frames: Iterator[Frames],
    part: Path,
    *,
    output: Path,
    timing: Timing,
    sound: Sound | None,
    tracks: Tracks,
    colour: Colour,
    quality: int,
) -> None:
    """Write `part` in the format of its suffix; errors name `output`, its final name.

    frames: RGB or RGBA. Other parameters are as in `write_clip`.
    """
    container = CONTAINERS[part.suffix.lower()]
    first = next(frames, None)
    if first is None:
        raise InputError("there are no frames to write")
    shape = first.shape[1:]
    frames = chain((first,), frames)
    del first
    with _opened(part, container, output) as file:
        clock = Clock(timing, gif=container == "gif")
        pictures = PictureEncoder(file, container, shape, clock, colour, quality, output)
        written_sound = None if container == "gif" else sound
        with contextlib.closing(
            SoundWriter(file, container, written_sound, tracks)
        ) as sound_writer:
            number = 0
            for batch in frames:
                if batch.shape[1:] != shape or batch.dtype != np.uint8:
                    raise ValueError(
                        f"frames must be uint8 of shape (n, {', '.join(map(str, shape))}), not "
                        f"{batch.dtype} of shape {batch.shape}"
                    )
                for frame in batch:
                    file.mux(pictures.encode(frame, number))
                    number += 1
                    sound_writer.write_until(timing.start_of(number))
            for packet in pictures.flush():
                file.mux(packet)
            sound_writer.finish()


@contextlib.contextmanager
def _opened(part: Path, container: str, output: Path) -> Iterator[OutputContainer]:
    """Open a file for writing, and complete it at the end. Raise RunError if writing fails."""
    # MP4's index is moved to the front at the end, so that players can start at once.
    options = {"movflags": "+faststart"} if container in ("mp4", "mov") else {}
    try:
        file = av.open(f"file:{part}", "w", format=container, container_options=options)
        try:
            yield file
            file.close()
        except BaseException:
            # Unlink first: then closing does not spend time on moving the index.
            part.unlink(missing_ok=True)
            with contextlib.suppress(FFmpegError):
                file.close()
            raise
    except FFmpegError as error:
        if isinstance(error, OSError):  # A disk error, which `atomic_output` handles.
            raise
        raise RunError(f"{output} cannot be written: {error.strerror}") from None
