"""An animated image -> Clip, its frames laid over each other as browsers do."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from pnpvideo.clips.clip import Alpha, Clip, FrameReader, Frames
from pnpvideo.clips.read_options import ReadOptions
from pnpvideo.clips.refusals import damaged
from pnpvideo.clips.stills.decode_image import (
    BROKEN,
    cut_picture,
    decode_alpha,
    decode_image,
    has_transparent_parts,
    open_image,
    reason,
    to_rgba,
    upright_size,
)
from pnpvideo.clips.stills.split_animation import SPLIT, After, Part
from pnpvideo.clips.video.frame_timing import find_timing
from pnpvideo.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A frame as it is seen, and for how long."""

    seen: Image.Image
    seconds: Fraction


def is_animation(image: Image.Image) -> bool:
    """Whether an opened image has frames. Several pages, sizes or views are none (TIFF, ICO)."""
    if image.format == "PNG":  # One frame may hide behind a picture for other viewers.
        return "default_image" in image.info or getattr(image, "is_animated", False)
    # Of a GIF only its end tells.
    return image.format == "GIF" or (
        image.format in ("WEBP", "AVIF") and getattr(image, "is_animated", False)
    )


def read_animation(image: Image.Image, path: Path, options: ReadOptions) -> Clip | None:
    """Clip of an opened image that has frames; one with a single frame is a picture.

    None where none of them is whole, and what there is of the first is wanted.
    """
    split = SPLIT.get(image.format)
    moments: Callable[[], Iterator[Moment]] = partial(_moments_of_sequence, path)
    if split is not None:
        moments = partial(_compose, partial(split, path.read_bytes()), image, path)
    durations, transparent = _look_through(moments, path, options.allow_truncated)
    if not durations:
        return None
    chosen = options.choose(len(durations), path)
    timing = None
    if len(durations) > 1:
        times = [sum(durations[:i], Fraction(0)) for i in range(len(durations) + 1)]
        until = min(chosen[-1] + options.stride, len(durations))
        # Animated images count in milliseconds or hundredths, and mean them.
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
    parts: Callable[[], Iterator[Part]], image: Image.Image, path: Path
) -> Iterator[Moment]:
    """The canvas after each part. It is transparent first, whatever background the file names."""
    # Which way up it is, Pillow finds in these.
    tags = ("exif", "xmp", "XML:com.adobe.xmp")
    canvas = Image.new("RGBA", image.size)
    for part in parts():
        picture, corner = to_rgba(io.BytesIO(part.picture), path), part.place[:2]
        before = canvas.copy()
        if part.over:
            canvas.alpha_composite(picture, corner)
        else:
            canvas.paste(picture, corner)
        seen = canvas.copy()
        seen.info = {tag: image.info[tag] for tag in tags if tag in image.info}
        yield Moment(seen=seen, seconds=part.seconds)
        if part.after is After.CLEAR:
            canvas.paste((0, 0, 0, 0), part.place)
        elif part.after is After.RESTORE:
            canvas = before


def _moments_of_sequence(path: Path) -> Iterator[Moment]:
    """Of a file whose frames are whole pictures."""
    image = open_image(path)
    assert image is not None
    with image:
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            image.load()
            milliseconds = Fraction(image.info.get("duration", 0)).limit_denominator(10_000)
            yield Moment(seen=image, seconds=milliseconds / 1000)


def _look_through(
    moments: Callable[[], Iterator[Moment]], path: Path, allow_truncated: bool
) -> tuple[list[Fraction], bool]:
    """Seconds for which each frame is shown, and whether any is transparent in parts.

    All are decoded, so that damage is found before the expensive work.
    """
    durations: list[Fraction] = []
    transparent = False
    try:
        for moment in moments():
            # As browsers do: a frame shown for next to no time is one without a stated time.
            stated = moment.seconds > Fraction(1, 100)
            durations.append(moment.seconds if stated else Fraction(1, 10))
            transparent = transparent or has_transparent_parts(moment.seen)
    except InputError:
        raise
    except BROKEN as error:
        if not allow_truncated and durations:
            raise damaged(path, reason(error), len(durations)) from None
        if not allow_truncated:
            raise cut_picture(path, error) from None
    return durations, transparent


class AnimationReader(FrameReader):
    """Frames `chosen` of an animated image."""

    def __init__(
        self,
        moments: Callable[[], Iterator[Moment]],
        path: Path,
        size: tuple[int, int],
        chosen: range,
        options: ReadOptions,
    ) -> None:
        """moments: begins at the first frame. size: width and height as shown."""
        self._begin = moments
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
            frame[:] = decode_image(self._seen(number), self._path, self._options)
        return frames

    def read_alpha(self, start: int, stop: int) -> Alpha:
        width, height = self._size
        alpha = np.empty((stop - start, height, width), np.uint8)
        for frame, number in zip(alpha, self._chosen[start:stop], strict=True):
            frame[:] = decode_alpha(self._seen(number), self._path, self._options)
        return alpha

    def _seen(self, number: int) -> Image.Image:
        """A frame of the file. What is seen hangs on the frames before: there is no way back."""
        if self._last is not None and number < self._last[0]:
            self._moments, self._last = self._begin(), None
        done = -1 if self._last is None else self._last[0]
        try:
            for at in range(done + 1, number + 1):
                moment = next(self._moments, None)
                if moment is None:
                    raise InputError(f"{self._path} has fewer frames than when it was opened")
                self._last = (at, moment)
        except InputError:
            raise
        except BROKEN as error:
            raise InputError(f"{self._path} is damaged: {reason(error)}") from None
        assert self._last is not None
        return self._last[1].seen

    def close(self) -> None:
        self._moments, self._last = iter(()), None
