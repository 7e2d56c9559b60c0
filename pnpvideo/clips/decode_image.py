"""One picture of any common mode -> RGB: upright, on a background, 8 bits, in sRGB."""

import contextlib
import io
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

from pnpvideo.clips.read_options import ReadOptions
from pnpvideo.errors import InputError

IMAGE_SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff"),
    *(".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".j2k", ".ico", ".avif", ".psd"),
)

# Formats known by their first bytes. Pillow would also claim some videos, and run Ghostscript.
_FORMATS = ["PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM", "JPEG2000", "ICO"]
_FORMATS += ["AVIF", "PSD", "PCX"]

BROKEN: tuple[type[Exception], ...] = (
    *(OSError, SyntaxError, EOFError, ValueError, IndexError, KeyError, TypeError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)
"""All that Pillow's decoders raise on broken files."""

_lenient_lock = threading.Lock()


def open_image(path: Path) -> Image.Image | None:
    """The opened picture (headers only, to be closed by the caller), None where it is none."""
    formats = [*_FORMATS, "TGA"] if path.suffix.lower() == ".tga" else _FORMATS
    Image.init()
    known = [name for name in formats if name in Image.OPEN]  # AVIF is not in every Pillow.
    try:
        with warnings.catch_warnings():
            # Large pictures are the user's choice; absurd ones are an error all the same.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(path, formats=known)
    except UnidentifiedImageError:
        return None
    except BROKEN as error:
        raise InputError(f"{path} is cut off or damaged: {reason(error)}") from None


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height as shown, from the headers alone."""
    width, height = image.size
    try:
        turned = image.getexif().get(0x0112) in (5, 6, 7, 8)
    except BROKEN:
        turned = False
    return (height, width) if turned else (width, height)


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


def _decode(
    image: Image.Image, path: Path, allow_truncated: bool
) -> tuple[Image.Image, Image.Image | None]:
    """The picture as RGB and, where it has one, its opacity."""
    try:
        with _lenient() if allow_truncated else contextlib.nullcontext():
            image.load()
        return _to_rgb(image)
    except InputError:
        raise
    except BROKEN as error:
        message = f"{path} is cut off or damaged: {reason(error)}"
        if not allow_truncated:
            message += "; --allow-truncated uses what can be read"
        raise InputError(message) from None


@contextlib.contextmanager
def _lenient() -> Iterator[None]:
    """Pillow's switch for cut files is global: it is held only while one file is decoded."""
    with _lenient_lock:
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before


def _to_rgb(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    profile = image.info.get("icc_profile")
    image = _with_eight_bits(ImageOps.exif_transpose(image))
    alpha: Image.Image | None = None
    if image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("RGBa", "La"):
        image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
    if image.mode in ("RGBA", "LA"):
        alpha = image.getchannel("A")
        image = image.convert("RGB" if image.mode == "RGBA" else "L")
    return _to_srgb(image, profile), alpha


def _with_eight_bits(image: Image.Image) -> Image.Image:
    """Pillow's own conversion of deep modes clips; this scales. Others are returned as they are."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image).astype(np.float64)
    if image.mode == "F":
        # Floating point pictures count from 0 to 1, or from 0 to 255.
        values = np.nan_to_num(values) * (255 if np.nanmax(values, initial=0) <= 1 else 1)
    else:
        # Both "I;16" and "I" hold 16 bits in practice; more only where a value says so.
        values = values / 257 if values.max(initial=0) < 65536 else values / (2**31 - 1) * 255
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


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


def reason(error: Exception) -> str:
    """An exception's message, on one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]
