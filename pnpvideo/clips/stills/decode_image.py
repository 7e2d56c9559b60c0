"""Decoding of one picture of any common mode -> RGB: upright, on a background, 8 bits, sRGB."""

import contextlib
import io
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, PngImagePlugin, UnidentifiedImageError

from pnpvideo.clips.clip import Colour, Picture
from pnpvideo.clips.read_options import ReadOptions
from pnpvideo.clips.refusals import (
    beyond_memory,
    check_memory,
    cut_picture,
    is_raw_name,
    is_raw_preview,
    raw_photo,
    reason,
    too_many_pixels,
)
from pnpvideo.clips.silence import silenced
from pnpvideo.clips.stills.colour_space import (
    CICP,
    find_cicp,
    is_srgb,
    profile_to_srgb,
    stated_space,
    to_srgb,
)
from pnpvideo.clips.stills.deep_pixels import deep_pixels
from pnpvideo.clips.stills.deep_tiff import open_deep_tiff
from pnpvideo.clips.stills.open_jxl import open_jxl
from pnpvideo.clips.stills.tiff_tags import check_tags
from pnpvideo.clips.stored import to_eight_bits
from pnpvideo.errors import InputError
from pnpvideo.options.values import DEFAULT_MAX_PIXELS

# Formats recognised by their first bytes. Pillow would also claim some videos, and run Ghostscript.
_FORMATS = ["PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM", "JPEG2000"]
_FORMATS += ["AVIF", "HEIF", "PSD", "PCX"]

DECODING_ERRORS: tuple[type[Exception], ...] = (
    *(OSError, SyntaxError, EOFError, ValueError, IndexError, KeyError, TypeError, RuntimeError),
    *(struct.error, zlib.error, MemoryError, ArithmeticError),
)
"""All errors that decoders raise on broken files."""

# Bytes of a PNG's text or colour profile when it is unpacked, and of all its texts. Some editors
# store their whole work in a picture: several millions.
_LONGEST_TEXT = 16 * 2**20
_LONGEST_TEXTS = 72 * 2**20

_settings_lock = threading.Lock()


def open_image(path: Path, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image | None:
    """Open a picture (headers only; the caller closes it). Return None if it is not a picture.

    Raise InputError if it is a picture that cannot be used, or has more pixels than allowed.
    """
    if is_raw_name(path):
        raise raw_photo(path)
    image: Image.Image | None
    try:
        check_tags(path, max_pixels)
        image = _open(path, max_pixels, tga=path.suffix.lower() == ".tga")
    except UnidentifiedImageError:
        image = open_deep_tiff(path, max_pixels)
        if image is None:
            image = open_jxl(path, max_pixels)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise _bomb(error, path, max_pixels) from None
    except MemoryError:
        raise beyond_memory(path) from None
    except DECODING_ERRORS as error:
        raise _refusal(path, error) from None
    if image is None:
        return None
    try:
        if image.format == "TIFF" and is_raw_preview(image, path):
            raise raw_photo(path)
        check_memory(image.size, path, max_pixels)
    except InputError:
        image.close()
        raise
    return image


def _open(file: Path | io.BytesIO, max_pixels: int, *, tga: bool = False) -> Image.Image:
    Image.init()
    if "HEIF" not in Image.OPEN:
        pillow_heif.register_heif_opener()
    known = [name for name in _FORMATS if name in Image.OPEN]
    try:
        with _pillow_limits(None):  # Only headers are read, so that the size can be reported.
            image = Image.open(file, formats=known)
    except UnidentifiedImageError:
        # An icon is decoded when it is opened.
        with _pillow_limits(max_pixels):
            image = Image.open(file, formats=["ICO", "TGA"] if tga else ["ICO"])
    image.info[CICP] = find_cicp(image, file)
    return image


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height as shown, from the headers alone."""
    width, height = image.size
    if image.format == "TIFF":
        return width, height  # Pillow rotates TIFFs itself.
    try:
        # A PNG may have its EXIF data at the end.
        with _pillow_limits(image.width * image.height):
            is_rotated = image.getexif().get(0x0112) in (5, 6, 7, 8)
    except DECODING_ERRORS:
        is_rotated = False
    return (height, width) if is_rotated else (width, height)


def has_several_pictures(image: Image.Image) -> bool:
    """Return whether the opened file has several pages or frames, not versions of one picture."""
    if image.format not in ("TIFF", "HEIF", "GIF", "PNG", "WEBP", "AVIF", "JXL"):
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except DECODING_ERRORS:
        return False


def can_be_transparent(image: Image.Image) -> bool:
    """Return whether the picture's current frame has alpha, from the headers alone."""
    return image.mode in ("RGBA", "LA", "RGBa", "La", "PA") or "transparency" in image.info


def decode_image(image: Image.Image, path: Path, options: ReadOptions) -> Picture:
    """Return the open picture's current frame as uint8 of shape (height, width, 3).

    Raise InputError if it is damaged; with allow_truncated, use what can be read of a cut file.
    """
    rgb, alpha = _decode(image, path, options)
    if alpha is not None:
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, options.background), alpha)
    return np.array(rgb, np.uint8)


def decode_alpha(image: Image.Image, path: Path, options: ReadOptions) -> NDArray[np.uint8]:
    """Return the opacity of the picture's current frame, uint8 of shape (height, width)."""
    rgb, alpha = _decode(image, path, options)
    return np.array(alpha or Image.new("L", rgb.size, 255), np.uint8)


def has_transparent_parts(image: Image.Image) -> bool:
    """Return whether any pixel of a loaded picture is not opaque."""
    if not can_be_transparent(image):
        return False
    return image.convert("RGBA").getchannel("A").getextrema() != (255, 255)


def to_rgba(file: io.BytesIO, path: Path, max_pixels: int) -> Image.Image:
    """Decode the picture in a part of a file. Raise one of DECODING_ERRORS if it is damaged."""
    with _open(file, max_pixels) as image:
        check_memory(image.size, path, max_pixels)
        with _pillow_limits(max_pixels):
            image.load()
        space = stated_space(image)
        needs_depth = space is not None and space.needs_depth
        deep = deep_pixels(image, file.getvalue()) if needs_depth else None
        rgb, alpha = _to_rgb(image, path, deep=deep)
    rgb.putalpha(alpha or Image.new("L", rgb.size, 255))
    return rgb


def _decode(
    image: Image.Image, path: Path, options: ReadOptions
) -> tuple[Image.Image, Image.Image | None]:
    """Return the picture as RGB, and its opacity if it has one."""
    with decoding(image, path, options):
        space, deep = stated_space(image), None
        if options.hdr == "keep" and space is not None and space.high_range is not None:
            return _to_rgb(image, path, keep=True)
        if space is not None and space.needs_depth and not has_several_pictures(image):
            deep = deep_pixels(image, path.read_bytes())
        return _to_rgb(image, path, deep=deep)


def kept_colour(image: Image.Image, options: ReadOptions) -> Colour:
    """Return the colour space of an opened picture's frames as `decode_image` returns them."""
    space = stated_space(image) if options.hdr == "keep" else None
    return Colour() if space is None or space.high_range is None else space.colour


@contextlib.contextmanager
def decoding(image: Image.Image, path: Path, options: ReadOptions) -> Iterator[None]:
    """Load an opened picture. Raise InputError if it, or what is done within, shows damage."""
    # The decoder would return a black picture for a cut HEIC.
    lenient = image.format != "HEIF"
    try:
        # Pillow's TIFF library also prints errors to the terminal.
        quiet = silenced() if image.format == "TIFF" else contextlib.nullcontext()
        with _pillow_limits(options.max_pixels, lenient=lenient and options.allow_truncated), quiet:
            image.load()
        yield
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise _bomb(error, path, options.max_pixels) from None
    except MemoryError:
        raise beyond_memory(path) from None
    except DECODING_ERRORS as error:
        if lenient and not options.allow_truncated:
            raise cut_picture(path, error) from None
        raise _refusal(path, error) from None


@contextlib.contextmanager
def _pillow_limits(max_pixels: int | None, *, lenient: bool = False) -> Iterator[None]:
    """Set Pillow's global size limits, and its switch for truncated files, within the context.

    The limits also hold for what a header does not state, such as the pictures in an ICO file.
    """
    settings = (
        # Pillow warns of more pixels, and refuses twice as many.
        (Image, "MAX_IMAGE_PIXELS", max_pixels and max_pixels / 2),
        (PngImagePlugin, "MAX_TEXT_CHUNK", _LONGEST_TEXT),
        (PngImagePlugin, "MAX_TEXT_MEMORY", _LONGEST_TEXTS),
        (ImageFile, "LOAD_TRUNCATED_IMAGES", lenient),
    )
    with _settings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        before = [getattr(module, name) for module, name, _ in settings]
        for module, name, value in settings:
            setattr(module, name, value)
        try:
            yield
        finally:
            for (module, name, _), value in zip(settings, before, strict=True):
                setattr(module, name, value)


def _to_rgb(
    image: Image.Image,
    path: Path | str,
    *,
    deep: NDArray[np.uint16] | None = None,
    keep: bool = False,
) -> tuple[Image.Image, Image.Image | None]:
    """Return a loaded picture as RGB in sRGB, upright, and its opacity if it has one.

    deep: its colours with all bits, upright. keep: whether its values stay in their own space.
    """
    space, profile = stated_space(image), image.info.get("icc_profile")
    negative = counts_from_white(image)
    image = with_eight_bits(ImageOps.exif_transpose(image), path, negative=negative)
    alpha: Image.Image | None = None
    if image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("RGBa", "La"):
        image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
    if image.mode in ("RGBA", "LA"):
        alpha = image.getchannel("A")
        image = image.convert("RGB" if image.mode == "RGBA" else "L")
    if keep or (space is not None and is_srgb(space)):
        return image.convert("RGB"), alpha
    if space is not None:
        pixels = np.array(image.convert("RGB"), np.uint8) if deep is None else deep
        return Image.fromarray(to_srgb(pixels, space)), alpha
    return _by_profile(image, profile), alpha


def loaded_to_rgb(image: Image.Image, name: str) -> tuple[Image.Image, Image.Image | None]:
    """Return a picture in memory as RGB, upright and in sRGB, and its opacity if it has one.

    name: the picture's name in errors.
    """
    upright: Image.Image = ImageOps.exif_transpose(image)
    if image.format is not None and (file := getattr(image, "filename", "")):
        # The file may be gone, but the picture is there.
        with contextlib.suppress(OSError):
            upright.info[CICP] = find_cicp(image, Path(file))
    return _to_rgb(upright, name)


def counts_from_white(image: Image.Image) -> bool:
    """Return whether a TIFF of many bits counts from white. Of few, Pillow itself inverts it."""
    return getattr(image, "tag_v2", {}).get(262) == 0


def with_eight_bits(image: Image.Image, path: Path | str, *, negative: bool = False) -> Image.Image:
    """Scale pictures of more than 8 bits (Pillow would clip them); return others unchanged.

    negative: whether values count from white. path: the picture's name in errors.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    values: NDArray[np.generic] = np.asarray(image)
    # Both "I;16" and "I" hold 16 bits in practice, unless a value is higher.
    if image.mode != "F" and values.max(initial=0) < 65536:
        values = np.maximum(values, 0).astype(np.uint16)
    scaled = to_eight_bits(values, path)
    if negative:
        scaled = 255 - scaled
    transparent_value = image.info.get("transparency")
    if not isinstance(transparent_value, int):
        return Image.fromarray(scaled)
    alpha = np.where(values == transparent_value, 0, 255).astype(np.uint8)
    return Image.merge("LA", (Image.fromarray(scaled), Image.fromarray(alpha)))


def _by_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert to sRGB, with the colour profile if it fits the mode."""
    if image.mode == "1":
        image = image.convert("L")
    if profile and image.mode in ("RGB", "L", "CMYK"):
        converted = profile_to_srgb(image, profile)
        if converted is not None:
            return converted
    return image.convert("RGB")


def _bomb(error: Image.DecompressionBombError, path: Path, max_pixels: int) -> InputError:
    found = re.search(r"\((\d+) pixels\)", str(error))
    return too_many_pixels(path, found[1] if found else "too many", max_pixels)


def _refusal(path: Path, error: Exception) -> InputError:
    """Return the error for a picture that cannot be opened."""
    if "MAX_TEXT" in str(error) or "text chunks" in str(error):  # Pillow's words.
        return InputError(
            f"{path} has texts or a colour profile that unpack to more than "
            f"{_LONGEST_TEXT // 2**20} MiB, or {_LONGEST_TEXTS // 2**20} MiB together, which are "
            "the limits; save it without them"
        )
    return InputError(f"{path} is cut off or damaged: {reason(error)}")
