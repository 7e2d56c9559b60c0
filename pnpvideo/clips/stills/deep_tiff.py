"""TIFF pictures that Pillow cannot read: floating point, many bits or separate planes."""

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from pnpvideo.clips.refusals import check_memory, raw_photo
from pnpvideo.clips.stills.tiff_segments import check_segments
from pnpvideo.clips.stored import STORED, to_eight_bits
from pnpvideo.errors import InputError

_COLOURS = frozenset(
    (tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB)
)
_RAW = (tifffile.PHOTOMETRIC.CFA, tifffile.PHOTOMETRIC.LINEAR_RAW)
# Pillow's modes; a lower-case a means that colours are premultiplied by alpha.
_MODES: dict[tuple[int, int | None], str] = {
    (1, None): "L",
    (1, tifffile.EXTRASAMPLE.ASSOCALPHA): "La",
    (1, tifffile.EXTRASAMPLE.UNASSALPHA): "LA",
    (3, None): "RGB",
    (3, tifffile.EXTRASAMPLE.ASSOCALPHA): "RGBa",
    (3, tifffile.EXTRASAMPLE.UNASSALPHA): "RGBA",
}


def open_deep_tiff(path: Path, max_pixels: int) -> Image.Image | None:
    """Return the first picture of a TIFF, with 8 bits. Return None if the file is not a TIFF.

    Raise InputError if it is a TIFF that cannot be used.
    """
    with path.open("rb") as file:
        if file.read(4) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return None
    try:
        with tifffile.TiffFile(path) as tiff:
            return _picture(tiff.pages.first, path, max_pixels)
    except InputError:
        raise
    # tifffile's parsers and codecs raise many kinds of errors.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} is a TIFF that cannot be read: {reason}") from None


def _picture(page: tifffile.TiffPage, path: Path, max_pixels: int) -> Image.Image:
    if page.is_dng or page.photometric in _RAW:
        raise raw_photo(path)
    if page.photometric not in _COLOURS or page.ndim not in (2, 3):
        photometric = getattr(page.photometric, "name", page.photometric)
        raise InputError(
            f"{path} is a TIFF of an unsupported kind ({photometric}, {page.bitspersample} bits); "
            "save it as RGB"
        )
    # The values are scaled in float64.
    size, samples = (page.imagewidth, page.imagelength), max(3, page.samplesperpixel)
    check_memory(size, path, max_pixels, bytes_a_pixel=32 * samples)
    check_segments(page, path)
    values: NDArray[np.generic] = page.asarray()
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and values.ndim == 3:
        values = np.moveaxis(values, 0, -1)
    if values.ndim == 2:
        values = values[..., np.newaxis]
    pixels = to_eight_bits(values, path)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        pixels = 255 - pixels
    colours = 3 if page.photometric == tifffile.PHOTOMETRIC.RGB else 1
    extra = page.extrasamples[0] if page.extrasamples else None
    mode = _MODES.get((colours, extra), "L" if colours == 1 else "RGB")
    height, width, _ = pixels.shape
    used = np.ascontiguousarray(pixels[..., : len(mode)])
    image = Image.frombuffer(mode, (width, height), used.tobytes(), "raw", mode, 0, 1)
    if len(mode) == 1 and values.dtype != np.uint8:
        image.info[STORED] = values[..., 0]
    image.getexif()[0x0112] = page.tags.valueof(0x0112, default=1)
    profile = page.tags.valueof(34675)
    if profile is not None:
        image.info["icc_profile"] = bytes(profile)
    return image
