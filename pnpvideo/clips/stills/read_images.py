"""Reading of image files -> Clip: a single image, or many images as frames."""

import logging
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pnpvideo.clips.clip import Alpha, Clip, FrameReader, Frames
from pnpvideo.clips.find_images import are_unrelated, fixed_folder, images_in, images_like
from pnpvideo.clips.read_options import ReadOptions
from pnpvideo.clips.stills.decode_image import (
    can_be_transparent,
    decode_alpha,
    decode_image,
    has_several_pictures,
    kept_colour,
    open_image,
    upright_size,
)
from pnpvideo.clips.stills.decode_stored import decode_stored
from pnpvideo.clips.stills.read_animation import is_animation, read_animation
from pnpvideo.clips.stored import Stored
from pnpvideo.errors import InputError

_log = logging.getLogger(__name__)

Decode = Callable[[Image.Image, Path, ReadOptions], NDArray[np.uint8]]


def read_folder(folder: Path, options: ReadOptions) -> Clip:
    """Return a clip of the images in a folder (see `images_in`)."""
    paths = images_in(folder)
    if are_unrelated(paths):
        _log.warning(
            "%s: its %d images are taken for the frames of one clip, and their names are not in a "
            "sequence; for separate pictures use 'pnpvideo batch %s'",
            *(folder, len(paths), shlex.quote(str(folder))),
        )
    return _clip(paths, folder.resolve().name, folder, options)


def read_pattern(pattern: Path, options: ReadOptions) -> Clip:
    """Return a clip of the images that match a pattern (see `images_like`)."""
    return _clip(images_like(pattern), fixed_folder(pattern).resolve().name, pattern, options)


def read_image(image: Image.Image, path: Path, options: ReadOptions) -> Clip:
    """Return a clip of an opened image, and close the image. An animation gives several frames."""
    with image:
        clip = read_animation(image, path, options) if is_animation(image) else None
        if clip is not None:
            return clip
        if has_several_pictures(image):
            _warn_several_pictures(path)
        options.choose(1, path)
        transparent, colour = can_be_transparent(image), kept_colour(image, options)
        # So that damage is found before the expensive work.
        height, width, _ = decode_image(image, path, options).shape
    return Clip(
        reader=ImageReader([path], (width, height), options),
        width=width,
        height=height,
        has_alpha=transparent,
        colour=colour,
        name=path.stem,
    )


class ImageReader(FrameReader):
    """A reader of frames from image files of one size."""

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

    def read_stored(self, number: int) -> Stored:
        with _open(self._paths[number], self._options) as image:
            return decode_stored(image, self._paths[number], self._options)

    def _fill(self, pictures: NDArray[np.uint8], start: int, decode: Decode) -> None:
        paths = self._paths[start : start + len(pictures)]
        for picture, path in zip(pictures, paths, strict=True):
            with _open(path, self._options) as image:
                decoded = decode(image, path, self._options)
            if decoded.shape != picture.shape:
                (height, width), expected = decoded.shape[:2], picture.shape[:2]
                raise InputError(
                    f"{path} is damaged: it holds {width}x{height} pixels, and its header says "
                    f"{expected[1]}x{expected[0]}"
                )
            picture[:] = decoded


def _clip(paths: list[Path], name: str, source: Path, options: ReadOptions) -> Clip:
    chosen = [paths[i] for i in options.choose(len(paths), source)]
    size: tuple[int, int] | None = None
    transparent, has_several, colours = False, False, set()
    for path in chosen:
        with _open(path, options) as image:
            image_size = upright_size(image)
            transparent = transparent or can_be_transparent(image)
            colours.add(kept_colour(image, options))
            if not has_several and has_several_pictures(image):
                has_several = True
                _warn_several_pictures(path)
        if size is not None and image_size != size:
            raise InputError(
                f"{source} has images of different sizes: {chosen[0].name} has "
                f"{size[0]}x{size[1]}, {path.name} has {image_size[0]}x{image_size[1]}; "
                "make them the same, or use 'pnpvideo batch' for separate pictures"
            )
        size = image_size
    assert size is not None
    if len(colours) > 1:
        raise InputError(
            f"{source} has images in different colour spaces, which hdr keep cannot keep in one "
            "result; leave it out"
        )
    return Clip(
        reader=ImageReader(chosen, size, options),
        width=size[0],
        height=size[1],
        has_alpha=transparent,
        colour=colours.pop(),
        name=name,
    )


def _warn_several_pictures(path: Path) -> None:
    _log.warning("%s holds several pictures; only one is read", path)


def _open(path: Path, options: ReadOptions) -> Image.Image:
    image = open_image(path, options.max_pixels)
    if image is None:
        raise InputError(f"{path} is not an image, or is damaged")
    return image
