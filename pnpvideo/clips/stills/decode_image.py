"""One picture of any common mode -> RGB: upright, on a background, 8 bits, in sRGB."""

import contextlib
import io
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, ImageOps, PngImagePlugin, UnidentifiedImageError

from pnpvideo.clips.read_options import ReadOptions
from pnpvideo.clips.refusals import check_memory, is_raw_name, is_raw_preview, raw_photo
from pnpvideo.clips.silence import silenced
from pnpvideo.clips.stills.deep_tiff import open_deep_tiff, to_eight_bits
from pnpvideo.errors import InputError

# Formats known by their first bytes. Pillow would also claim some videos, and run Ghostscript.
_FORMATS = ["PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM", "JPEG2000", "ICO"]
_FORMATS += ["AVIF", "HEIF", "PSD", "PCX"]

BROKEN: tuple[type[Exception], ...] = (
    *(OSError, SyntaxError, EOFError, ValueError, IndexError, KeyError, TypeError, RuntimeError),
    *(struct.error, zlib.error, MemoryError, ArithmeticError),
)
"""All that decoders raise on broken files."""

_LONGEST_TEXT = 2**30

_switches = threading.Lock()


def open_image(path: Path) -> Image.Image | None:
    """The opened picture (headers only, to be closed by the caller), None where it is none.

    InputError where it is one that cannot be used.
    """
    if is_raw_name(path):
        raise raw_photo(path)
    image: Image.Image | None
    try:
        image = _open(path, tga=path.suffix.lower() == ".tga")
    except UnidentifiedImageError:
        image = open_deep_tiff(path)
    except BROKEN as error:
        raise InputError(f"{path} is cut off or damaged: {reason(error)}") from None
    if image is None:
        return None
    try:
        if image.format == "TIFF" and is_raw_preview(image, path):
            raise raw_photo(path)
        check_memory(image.size, path)
    except InputError:
        image.close()
        raise
    return image


def _open(file: Path | io.BytesIO, *, tga: bool = False) -> Image.Image:
    Image.init()
    if "HEIF" not in Image.OPEN:
        pillow_heif.register_heif_opener()
    formats = [*_FORMATS, "TGA"] if tga else _FORMATS
    with _own_limits():
        return Image.open(file, formats=[name for name in formats if name in Image.OPEN])


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height as shown, from the headers alone."""
    width, height = image.size
    if image.format == "TIFF":
        return width, height  # Pillow turns these itself.
    try:
        with _own_limits():  # A PNG may tell it at its end.
            turned = image.getexif().get(0x0112) in (5, 6, 7, 8)
    except BROKEN:
        turned = False
    return (height, width) if turned else (width, height)


def holds_several(image: Image.Image) -> bool:
    """Whether the opened file has pages or frames; other versions of one picture are none."""
    if image.format not in ("TIFF", "HEIF", "GIF", "PNG", "WEBP", "AVIF"):
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except BROKEN:
        return False


def can_be_transparent(image: Image.Image) -> bool:
    """Whether the picture's current frame has alpha, from the headers alone."""
    return image.mode in ("RGBA", "LA", "RGBa", "La", "PA") or "transparency" in image.info


def decode_image(image: Image.Image, path: Path, options: ReadOptions) -> NDArray[np.uint8]:
    """uint8 of shape (height, width, 3) from the open picture's current frame.

    InputError where it is damaged; with allow_truncated a cut one is used as far as it goes.
    """
    rgb, alpha = _decode(image, path, options.allow_truncated)
    if alpha is not None:
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, options.background), alpha)
    return np.array(rgb, np.uint8)


def decode_alpha(image: Image.Image, path: Path, options: ReadOptions) -> NDArray[np.uint8]:
    """The opacity of the open picture's current frame, uint8 of shape (height, width)."""
    rgb, alpha = _decode(image, path, options.allow_truncated)
    return np.array(alpha or Image.new("L", rgb.size, 255), np.uint8)


def has_transparent_parts(image: Image.Image) -> bool:
    """Whether any pixel of a loaded picture is not opaque."""
    if not can_be_transparent(image):
        return False
    return image.convert("RGBA").getchannel("A").getextrema() != (255, 255)


def to_rgba(file: io.BytesIO, path: Path) -> Image.Image:
    """The picture that a part of a file holds. One of BROKEN where it is damaged."""
    with _open(file) as image:
        check_memory(image.size, path)
        with _own_limits():
            image.load()
        rgb, alpha = _to_rgb(image, path)
    rgb.putalpha(alpha or Image.new("L", rgb.size, 255))
    return rgb


def _decode(
    image: Image.Image, path: Path, allow_truncated: bool
) -> tuple[Image.Image, Image.Image | None]:
    """The picture as RGB and, where it has one, its opacity."""
    # Of a cut HEIC, the decoder would give a black picture.
    lenient = image.format != "HEIF"
    try:
        # Of damage, Pillow's TIFF library tells the terminal too.
        quiet = silenced() if image.format == "TIFF" else contextlib.nullcontext()
        with _own_limits(lenient=lenient and allow_truncated), quiet:
            image.load()
        return _to_rgb(image, path)
    except InputError:
        raise
    except BROKEN as error:
        if lenient and not allow_truncated:
            raise cut_picture(path, error) from None
        raise InputError(f"{path} is cut off or damaged: {reason(error)}") from None


@contextlib.contextmanager
def _own_limits(*, lenient: bool = False) -> Iterator[None]:
    """Pillow's limits of size, and its switch for cut files, are global: they are ours meanwhile.

    Large pictures and long texts are the user's choice; the memory alone limits them.
    """
    ours = (
        (Image, "MAX_IMAGE_PIXELS", None),
        (PngImagePlugin, "MAX_TEXT_CHUNK", _LONGEST_TEXT),
        (PngImagePlugin, "MAX_TEXT_MEMORY", _LONGEST_TEXT),
        (ImageFile, "LOAD_TRUNCATED_IMAGES", lenient),
    )
    with _switches:
        before = [getattr(module, name) for module, name, _ in ours]
        for module, name, value in ours:
            setattr(module, name, value)
        try:
            yield
        finally:
            for (module, name, _), value in zip(ours, before, strict=True):
                setattr(module, name, value)


def _to_rgb(image: Image.Image, path: Path) -> tuple[Image.Image, Image.Image | None]:
    profile = image.info.get("icc_profile")
    # Of few bits, Pillow itself turns what a TIFF counts from white.
    negative = getattr(image, "tag_v2", {}).get(262) == 0
    image = with_eight_bits(ImageOps.exif_transpose(image), path, negative=negative)
    alpha: Image.Image | None = None
    if image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("RGBa", "La"):
        image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
    if image.mode in ("RGBA", "LA"):
        alpha = image.getchannel("A")
        image = image.convert("RGB" if image.mode == "RGBA" else "L")
    return _to_srgb(image, profile), alpha


def with_eight_bits(image: Image.Image, path: Path | str, *, negative: bool = False) -> Image.Image:
    """Pillow's own conversion of deep modes clips; this scales. Others are returned as they are.

    negative: whether values count from white. path: what to call the picture.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    values: NDArray[np.generic] = np.asarray(image)
    # Both "I;16" and "I" hold 16 bits in practice; more only where a value says so.
    if image.mode != "F" and values.max(initial=0) < 65536:
        values = np.maximum(values, 0).astype(np.uint16)
    eight = to_eight_bits(values, path)
    if negative:
        eight = 255 - eight
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return Image.fromarray(eight)
    alpha = np.where(values == key, 0, 255).astype(np.uint8)
    return Image.merge("LA", (Image.fromarray(eight), Image.fromarray(alpha)))


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB in sRGB; by the colour profile where there is a fitting one."""
    if image.mode == "1":
        image = image.convert("L")
    if profile and image.mode in ("RGB", "L", "CMYK"):
        # A broken profile, or one for another mode, is as good as none.
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if image.mode == "RGB" and "sRGB" in ImageCms.getProfileDescription(source):
                return image
            converted = ImageCms.profileToProfile(
                image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            if converted is not None:
                return converted
    return image.convert("RGB")


def cut_picture(path: Path, error: Exception) -> InputError:
    """The error for a picture of which a part may still be read."""
    return InputError(
        f"{path} is cut off or damaged: {reason(error)}; --allow-truncated uses what can be read"
    )


def reason(error: Exception) -> str:
    """An exception's message, on one line."""
    if isinstance(error, MemoryError | OverflowError):  # A number that damage has made large.
        return "it asks for more memory than there is"
    return (str(error).splitlines() or [type(error).__name__])[0]
