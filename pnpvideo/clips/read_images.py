"""Image files -> Clip: one image, an animated image, or many images that are frames."""

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pnpvideo.clips.clip import Alpha, Clip, FrameReader, Frames
from pnpvideo.clips.damage import damaged
from pnpvideo.clips.decode_image import (
    BROKEN,
    can_be_transparent,
    decode_alpha,
    decode_image,
    open_image,
    reason,
    upright_size,
)
from pnpvideo.clips.frame_timing import find_timing
from pnpvideo.clips.read_options import ReadOptions
from pnpvideo.errors import InputError

FRAME_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""What counts as a frame in a folder."""


def read_folder(folder: Path, options: ReadOptions) -> Clip:
    """The png, jpg and webp files of a folder in natural order."""
    paths = [p for p in _files(folder) if p.suffix.lower() in FRAME_SUFFIXES]
    if not paths:
        raise InputError(f"{folder} holds no images (png, jpg or webp) to use as frames")
    name = folder.resolve().name
    return _clip(paths, name, folder, options)


def read_pattern(pattern: Path, options: ReadOptions) -> Clip:
    """The images that a numbered pattern (%04d) or a glob (* and ?) names.

    Numbers need not start at 0 or 1, and may have gaps.
    """
    folder = pattern.parent
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist (looking for {pattern.name} in it)")
    number = re.search(r"%0?(\d*)d", pattern.name)
    if number is not None:
        digits = rf"\d{{{int(number[1])},}}" if number[1] else r"\d+"
        before, after = pattern.name[: number.start()], pattern.name[number.end() :]
        form = re.compile(re.escape(before) + digits + re.escape(after))
        paths = [p for p in _files(folder) if form.fullmatch(p.name)]
    else:
        named = set(folder.glob(pattern.name))
        paths = [p for p in _files(folder) if p in named]
    if not paths:
        raise InputError(f"no file is named like {pattern}")
    name = folder.resolve().name
    return _clip(paths, name, pattern, options)


def read_image(image: Image.Image, path: Path, options: ReadOptions) -> Clip:
    """Clip of an opened image: animated where it has several frames.

    The image is closed here, or by the clip where it is animated.
    """
    try:
        durations, transparent = _durations(image, path, options.allow_truncated)
    except BaseException:
        image.close()
        raise
    if len(durations) == 1:
        with image:  # Decoded now, so that damage is found before the expensive work.
            decode_image(image, path, options)
        return _clip([path], path.stem, path, options)
    chosen = options.choose(len(durations), path)
    times = [sum(durations[:i], Fraction(0)) for i in range(len(durations) + 1)]
    until = min(chosen[-1] + options.stride, len(durations))
    width, height = upright_size(image)
    # Animated images count in milliseconds or hundredths, and mean them.
    exact = Fraction(1, 10**9)
    return Clip(
        reader=AnimationReader(image, path, chosen, options),
        width=width,
        height=height,
        has_alpha=transparent,
        timing=find_timing(
            times[options.start : until], times[until], tick=exact, stride=options.stride
        ),
        name=path.stem,
    )


Decode = Callable[[Image.Image, Path, ReadOptions], NDArray[np.uint8]]


class ImageReader(FrameReader):
    """Frames from image files of one size."""

    def __init__(
        self,
        paths: Sequence[Path],
        size: tuple[int, int],
        options: ReadOptions,
    ) -> None:
        self._paths = paths
        self._size = size
        self._options = options

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, start: int, stop: int) -> Frames:
        width, height = self._size
        frames = np.empty((stop - start, height, width, 3), np.uint8)
        self._fill(frames, start, decode_image)
        return frames

    def read_alpha(self, start: int, stop: int) -> Alpha:
        width, height = self._size
        alpha = np.empty((stop - start, height, width), np.uint8)
        self._fill(alpha, start, decode_alpha)
        return alpha

    def _fill(self, pictures: NDArray[np.uint8], start: int, decode: Decode) -> None:
        paths = self._paths[start : start + len(pictures)]
        for picture, path in zip(pictures, paths, strict=True):
            with _open(path) as image:
                picture[:] = decode(image, path, self._options)


class AnimationReader(FrameReader):
    """Frames `chosen` of an animated image, which stays open."""

    def __init__(
        self,
        image: Image.Image,
        path: Path,
        chosen: range,
        options: ReadOptions,
    ) -> None:
        self._image = image
        self._path = path
        self._chosen = chosen
        self._options = options

    def __len__(self) -> int:
        return len(self._chosen)

    def read(self, start: int, stop: int) -> Frames:
        width, height = upright_size(self._image)
        frames = np.empty((stop - start, height, width, 3), np.uint8)
        self._fill(frames, start, decode_image)
        return frames

    def read_alpha(self, start: int, stop: int) -> Alpha:
        width, height = upright_size(self._image)
        alpha = np.empty((stop - start, height, width), np.uint8)
        self._fill(alpha, start, decode_alpha)
        return alpha

    def _fill(self, pictures: NDArray[np.uint8], start: int, decode: Decode) -> None:
        first = _first_frame(self._image)
        chosen = self._chosen[start : start + len(pictures)]
        for picture, number in zip(pictures, chosen, strict=True):
            if first + number < self._image.tell():
                # Pillow cannot always go back in a PNG whose end it has seen.
                self._image.close()
                self._image = _open(self._path)
            try:
                self._image.seek(first + number)
            except BROKEN as error:
                raise InputError(f"{self._path} is damaged: {reason(error)}") from None
            picture[:] = decode(self._image, self._path, self._options)

    def close(self) -> None:
        self._image.close()


def _clip(paths: list[Path], name: str, source: Path, options: ReadOptions) -> Clip:
    chosen = [paths[i] for i in options.choose(len(paths), source)]
    size: tuple[int, int] | None = None
    transparent = False
    for path in chosen:
        with _open(path) as image:
            its = upright_size(image)
            transparent = transparent or can_be_transparent(image)
        if size is not None and its != size:
            raise InputError(
                f"{source} has images of differing sizes: {chosen[0].name} has "
                f"{size[0]}x{size[1]}, {path.name} has {its[0]}x{its[1]}; make them the same"
            )
        size = its
    assert size is not None
    return Clip(
        reader=ImageReader(chosen, size, options),
        width=size[0],
        height=size[1],
        has_alpha=transparent,
        name=name,
    )


def _open(path: Path) -> Image.Image:
    image = open_image(path)
    if image is None:
        raise InputError(f"{path} is not an image, or is damaged")
    return image


def _files(folder: Path) -> list[Path]:
    """The folder's files, but for hidden ones, in natural order: frame2 before frame10."""
    try:
        files = [p for p in folder.iterdir() if not p.name.startswith(".") and p.is_file()]
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from None
    return sorted(files, key=_natural)


def _natural(path: Path) -> tuple[list[tuple[str, int]], str]:
    """Text as text and digits as numbers; the name itself settles what is then equal."""
    parts = re.findall(r"(\D*)(\d*)", path.name.lower())
    return [(text, int(digits or -1)) for text, digits in parts], path.name


def _durations(
    image: Image.Image, path: Path, allow_truncated: bool
) -> tuple[list[Fraction], bool]:
    """Seconds for which each frame of an animation is shown, and whether any has alpha.

    One entry where it is none.
    """
    first = _first_frame(image)
    try:
        # Several pages, sizes or views (TIFF, ICO, MPO) are not an animation.
        animated = image.format in ("GIF", "WEBP", "PNG", "AVIF")
        count = getattr(image, "n_frames", 1) if animated else 1
    except BROKEN:
        image.seek(first)
        count = 1_000_000  # A cut GIF cannot be counted: it is read as far as it goes.
    if count - first <= 1:
        return [Fraction(0)], can_be_transparent(image)
    durations: list[Fraction] = []
    transparent = False
    for number in range(first, count):
        try:
            image.seek(number)
            image.load()  # WebP tells a frame's duration only then. It finds damage, too.
        except BROKEN as error:
            if allow_truncated and durations:
                return durations, transparent
            raise damaged(path, reason(error), len(durations)) from None
        transparent = transparent or can_be_transparent(image)
        milliseconds = Fraction(image.info.get("duration", 0)).limit_denominator(10_000)
        # As browsers do: a frame shown for next to no time is one without a stated time.
        durations.append((milliseconds if milliseconds > 10 else Fraction(100)) / 1000)
    if image.format == "GIF" and not allow_truncated and not _has_trailer(path):
        raise damaged(path, "its end is missing", len(durations))
    return durations, transparent


def _first_frame(image: Image.Image) -> int:
    """Number of the animation's first frame."""
    # A PNG may hold a picture for viewers that cannot animate before the animation.
    return int(bool(image.info.get("default_image")))


def _has_trailer(path: Path) -> bool:
    """Whether a GIF has its closing byte: Pillow takes the end of the file for the end of it."""
    with path.open("rb") as file:
        file.seek(-min(64, path.stat().st_size), 2)
        return b"\x3b" in file.read()
