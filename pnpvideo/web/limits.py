"""Check a visitor's source and texts against the limits of the server."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pnpvideo.clips.clip import Clip, Frames, frame_count_text
from pnpvideo.clips.read import read_clip
from pnpvideo.errors import InputError
from pnpvideo.options.declared import check_text
from pnpvideo.options.settings import ReadSettings


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of what the server accepts.

    pixels: of a frame. frames: of a run. waiting: runs of a visitor in the queue.
    prompts, prompt_length: of a run, and the characters of each text.
    """

    pixels: int
    frames: int
    waiting: int
    prompts: int
    prompt_length: int

    @property
    def reading(self) -> dict[str, object]:
        """Return the options with which everything that a visitor gives is read: by PyAV alone,
        within the limits."""
        # Frames before the first that is used, and those that a stride skips, count too.
        return {"reader": "av", "max_pixels": self.pixels, "max_frames": 50 * self.frames}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A description of a source. first: its first frame, (1, height, width, 3)."""

    first: Frames
    count: int
    text: str


def check_source(source: Path, reading: ReadSettings, limits: Limits) -> Facts:
    """Describe a source. InputError unless it can be read and is within the limits.

    reading: which of its frames a run reads.
    """
    clip = open_source(source, reading, limits)
    try:
        if len(clip) > limits.frames:
            raise InputError(
                f"{source.name} has more than {limits.frames} frames, which is the limit here; "
                "take fewer with the options of the source, or cut it"
            )
        frames = frame_count_text(len(clip))
        rate = f", {float(clip.timing.frame_rate):.4g} a second" if clip.timing else ""
        sound = ", with sound" if clip.sound else ""
        text = f"{source.name}: {frames} of {clip.width} x {clip.height}{rate}{sound}"
        return Facts(first=clip.read(0, 1), count=len(clip), text=text)
    finally:
        clip.close()


def open_source(source: Path, reading: ReadSettings, limits: Limits) -> Clip:
    """Open a source up to one frame more than the limit. InputError unless it can be read."""
    wanted = reading.frame_count or limits.frames + 1
    how = reading.part(ReadSettings) | {
        "frames": min(wanted, limits.frames + 1),
        "reader": "av",
        "max_pixels": limits.pixels,
        # Also those before the first that is used, and those that a stride skips.
        "max_frames": 50 * limits.frames,
    }
    return read_clip(source, **how)


def check_size(size: tuple[int, int] | None, limits: Limits) -> None:
    """Raise InputError for a working size beyond the limits."""
    if size is not None and size[0] * size[1] > limits.pixels:
        raise InputError(
            f"size is {size[0]}x{size[1]}; give at most {limits.pixels} pixels, the limit here"
        )


def check_texts(values: Mapping[str, object], limits: Limits) -> None:
    """Raise InputError for too many texts, a text that is too long, or one that is not Unicode."""
    for name, value in values.items():
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list | tuple):
            continue
        if len(texts) > limits.prompts:
            raise InputError(
                f"{name} has {len(texts)} lines, and the limit here is {limits.prompts}; give fewer"
            )
        for text in texts:
            if not isinstance(text, str):
                continue
            if len(text) > limits.prompt_length:
                raise InputError(
                    f"{name} has {len(text)} characters, and the limit here is "
                    f"{limits.prompt_length}; give a shorter one"
                )
            try:
                check_text(text)
            except InputError:
                raise InputError(
                    f"{name} has characters that are not text; type it again"
                ) from None
