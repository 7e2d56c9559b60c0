"""Reading of an animated image -> Clip, with frames composed as browsers do."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import accumulate, islice
from pathlib import Path

import numpy as np
from PIL import Image

from pnpvideo.clips.clip import Alpha, Clip, FrameReader, Frames
from pnpvideo.clips.read_options import ReadOptions
from pnpvideo.clips.refusals import check_bytes, cut_picture, damaged, reason
from pnpvideo.clips.stills.decode_image import (
    DECODING_ERRORS,
    decode_alpha,
    decode_image,
    has_transparent_parts,
    open_image,
    to_rgba,
    upright_size,
)
from pnpvideo.clips.stills.decode_stored import decode_stored
from pnpvideo.clips.stills.split_animation import SPLIT, After, Part
from pnpvideo.clips.stored import Stored
from pnpvideo.clips.video.frame_timing import find_timing
from pnpvideo.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A composed frame and how long it is shown."""

    picture: Image.Image
    seconds: Fraction


def is_animation(image: Image.Image) -> bool:
    """Return whether an opened image has frames, not pages, sizes or views (TIFF, ICO)."""
    if image.format == "PNG":  # A single frame may lie behind a picture for other viewers.
        return "default_image" in image.info or getattr(image, "is_animated", False)
    # Only the end of a GIF shows whether it is animated.
    return image.format == "GIF" or (
        image.format in ("WEBP", "AVIF") and getattr(image, "is_animated", False)
    )


def read_animation(image: Image.Image, path: Path, options: ReadOptions) -> Clip | None:
    """Return a clip of an opened animated image; with a single frame it has no timing.

    Return None if no frame is complete and the caller accepts a truncated first frame.
    """
    split = SPLIT.get(image.format)
    parts: Callable[[], Iterator[Part]] | None = None
    moments: Callable[[], Iterator[Moment]] = partial(_moments_of_sequence, path, options)
    if split is not None:
        check_bytes(path.stat().st_size, path, options.max_pixels, "is an animation; reading it")
        parts = partial(split, path.read_bytes())
        moments = partial(_compose, parts, image, path, options.max_pixels)
    durations, transparent = _look_through(moments, parts, path, options)
    if not durations:
        return None
    chosen = options.choose(len(durations), path)
    timing = None
    if len(durations) > 1:
        times = list(accumulate(durations, initial=Fraction(0)))
        until = min(chosen[-1] + options.stride, len(durations))
        # Animated images state milliseconds or hundredths, and these are exact.
        timing = find_timing(
            times[options.start : until],
            times[until],
            tick=Fraction(1, 10**9),
            stride=options.stride,
        )
    width, height = upright_size(image)
    return Clip(
        reader=AnimationReader(moments, path, (width, height), chosen, options),
        width=width,
        height=height,
        has_alpha=transparent,
        timing=timing,
        name=path.stem,
    )


def _compose(
    parts: Callable[[], Iterator[Part]], image: Image.Image, path: Path, max_pixels: int
) -> Iterator[Moment]:
    """Yield the canvas after each part. It starts transparent; the file's background is ignored."""
    # Pillow finds the orientation in these.
    tags = ("exif", "xmp", "XML:com.adobe.xmp")
    canvas = Image.new("RGBA", image.size)
    for part in parts():
        picture, corner = to_rgba(io.BytesIO(part.picture), path, max_pixels), part.box[:2]
        previous = canvas.copy()
        if part.over:
            canvas.alpha_composite(picture, corner)
        else:
            canvas.paste(picture, corner)
        composed = canvas.copy()
        composed.info = {tag: image.info[tag] for tag in tags if tag in image.info}
        yield Moment(picture=composed, seconds=part.seconds)
        if part.after is After.CLEAR:
            canvas.paste((0, 0, 0, 0), part.box)
        elif part.after is After.RESTORE:
            canvas = previous


def _moments_of_sequence(path: Path, options: ReadOptions) -> Iterator[Moment]:
    """Yield the frames of a file whose frames are whole pictures."""
    image = open_image(path, options.max_pixels)
    assert image is not None
    with image:
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            image.load()
            milliseconds = Fraction(image.info.get("duration", 0)).limit_denominator(10_000)
            yield Moment(picture=image, seconds=milliseconds / 1000)


def _look_through(
    moments: Callable[[], Iterator[Moment]],
    parts: Callable[[], Iterator[Part]] | None,
    path: Path,
    options: ReadOptions,
) -> tuple[list[Fraction], bool]:
    """Return the seconds that each frame is shown, and whether any has transparent parts.

    All frames up to the last that can be chosen are decoded, so that damage is found before the
    expensive work. parts: the stored frames, which are counted before any is decoded.
    """
    stop = options.most_looked_at
    damage: Exception | None = None
    if parts is not None:
        durations, damage = _durations(islice(parts(), stop))
        options.check_count(len(durations), path)
        stop = min(stop, options.stop or stop)
    decoded: list[Fraction] = []
    transparent = False
    try:
        for moment in islice(moments(), stop):
            decoded.append(_shown_seconds(moment.seconds))
            transparent = transparent or has_transparent_parts(moment.picture)
    except InputError:
        raise
    except DECODING_ERRORS as error:
        durations, damage = decoded, error
    if parts is None:
        durations = decoded
    if damage is not None and not options.allow_truncated:
        if not durations:
            raise cut_picture(path, damage) from None
        if options.stop is None or len(durations) < options.stop:
            raise damaged(path, reason(damage), len(durations))
    return durations, transparent


def _durations(parts: Iterator[Part]) -> tuple[list[Fraction], Exception | None]:
    """Return the seconds that each stored frame is shown, up to damage, and the damage."""
    durations: list[Fraction] = []
    try:
        for part in parts:
            durations.append(_shown_seconds(part.seconds))
    except DECODING_ERRORS as error:
        return durations, error
    return durations, None


def _shown_seconds(stated: Fraction) -> Fraction:
    """Return for how long browsers show a frame: almost no time counts as having no time."""
    return stated if stated > Fraction(1, 100) else Fraction(1, 10)


class AnimationReader(FrameReader):
    """A reader of the chosen frames of an animated image."""

    def __init__(
        self,
        moments: Callable[[], Iterator[Moment]],
        path: Path,
        size: tuple[int, int],
        chosen: range,
        options: ReadOptions,
    ) -> None:
        """Take `moments`, which starts at the first frame, and `size`: (width, height) as shown."""
        self._restart = moments
        self._path = path
        self._size = size
        self._chosen = chosen
        self._options = options
        self._moments = moments()
        self._last: tuple[int, Moment] | None = None

    def __len__(self) -> int:
        return len(self._chosen)

    def read(self, start: int, stop: int) -> Frames:
        width, height = self._size
        frames = np.empty((stop - start, height, width, 3), np.uint8)
        for frame, number in zip(frames, self._chosen[start:stop], strict=True):
            frame[:] = decode_image(self._frame(number), self._path, self._options)
        return frames

    def read_alpha(self, start: int, stop: int) -> Alpha:
        width, height = self._size
        alpha = np.empty((stop - start, height, width), np.uint8)
        for frame, number in zip(alpha, self._chosen[start:stop], strict=True):
            frame[:] = decode_alpha(self._frame(number), self._path, self._options)
        return alpha

    def read_stored(self, number: int) -> Stored:
        picture = self._frame(self._chosen[number])
        return decode_stored(picture, self._path, self._options)

    def _frame(self, number: int) -> Image.Image:
        """Return a frame of the file. It depends on previous frames: going back starts over."""
        if self._last is not None and number < self._last[0]:
            self._moments, self._last = self._restart(), None
        last_number = -1 if self._last is None else self._last[0]
        try:
            for i in range(last_number + 1, number + 1):
                moment = next(self._moments, None)
                if moment is None:
                    raise InputError(f"{self._path} has fewer frames than when it was opened")
                self._last = (i, moment)
        except InputError:
            raise
        except DECODING_ERRORS as error:
            raise InputError(f"{self._path} is damaged: {reason(error)}") from None
        assert self._last is not None
        return self._last[1].picture

    def close(self) -> None:
        self._moments, self._last = iter(()), None
