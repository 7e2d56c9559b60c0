"""Small pictures and animations of every supported kind, made with the package's dependencies."""

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pillow_heif
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

from pnpvideo.clips.clip import Frames
from pnpvideo.clips.write import write_clip

WIDTH, HEIGHT = 48, 32


def frames(count: int) -> Frames:
    """Return gradients on which a square moves, with a little grain: (count, height, width, 3)."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    grain = np.random.default_rng(0).integers(0, 24, (count, HEIGHT, WIDTH, 3))
    plain = np.stack([x * 4, y * 6, (x + y) * 2], axis=-1) + grain
    for number in range(count):
        plain[number, 8:20, 4 + 3 * number : 16 + 3 * number] = (220, 40, 60)
    return plain.clip(0, 255).astype(np.uint8)


def picture_seeds() -> Iterator[tuple[str, bytes]]:
    """Yield file names with the format's suffix, and contents."""
    pillow_heif.register_heif_opener()
    picture = Image.fromarray(frames(1)[0])
    yield from _by_pillow(picture)
    yield from _tiffs(frames(1)[0])
    yield "layers.psd", _psd(frames(1)[0])
    yield from _animations([Image.fromarray(frame) for frame in frames(4)])
    yield from _own(frames(4))


def _by_pillow(picture: Image.Image) -> Iterator[tuple[str, bytes]]:
    clear = picture.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(picture.size))
    deep = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    turned = Image.Exif()
    turned[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    yield "plain.png", _saved(picture, "PNG")
    yield "clear.png", _saved(clear, "PNG")
    yield "deep.png", _saved(deep, "PNG")
    yield "palette.png", _saved(picture.quantize(16), "PNG")
    yield "bits.png", _saved(picture.convert("1"), "PNG")
    yield "profile.png", _saved(picture, "PNG", icc_profile=profile, exif=turned)
    yield "plain.jpg", _saved(picture, "JPEG")
    yield "progressive.jpg", _saved(picture, "JPEG", progressive=True, exif=turned)
    yield "profile.jpg", _saved(picture, "JPEG", icc_profile=profile)
    yield "print.jpg", _saved(picture.convert("CMYK"), "JPEG")
    yield "grey.jpg", _saved(picture.convert("L"), "JPEG")
    yield "views.mpo", _saved(picture, "MPO", save_all=True, append_images=[picture])
    yield "plain.webp", _saved(picture, "WEBP")
    yield "lossless.webp", _saved(clear, "WEBP", lossless=True, exif=turned)
    yield "plain.bmp", _saved(picture, "BMP")
    yield "palette.bmp", _saved(picture.quantize(16), "BMP")
    yield "plain.dib", _saved(picture, "DIB")
    yield "plain.gif", _saved(picture, "GIF")
    for mode in ("RGB", "L", "1"):
        yield f"plain-{mode}.ppm", _saved(picture.convert(mode), "PPM")
    yield "plain.jp2", _saved(picture, "JPEG2000")
    yield "plain.j2k", _saved(clear, "JPEG2000", no_jp2=True)
    yield "plain.ico", _saved(clear, "ICO", sizes=[(16, 16), (32, 32)])
    yield "bitmap.ico", _saved(clear, "ICO", sizes=[(16, 16)], bitmap_format="bmp")
    yield "plain.avif", _saved(clear, "AVIF")
    yield "plain.heic", _saved(picture, "HEIF")
    yield "clear.heic", _saved(clear, "HEIF")
    yield "plain.pcx", _saved(picture, "PCX")
    yield "plain.tga", _saved(clear, "TGA")
    yield "packed.tga", _saved(picture, "TGA", compression="tga_rle")


def _tiffs(pixels: NDArray[np.uint8]) -> Iterator[tuple[str, bytes]]:
    picture = Image.fromarray(pixels)
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits", "group4"):
        kind = picture.convert("1") if compression == "group4" else picture
        yield f"{compression}.tiff", _saved(kind, "TIFF", compression=compression)
    unit = (pixels / 255).astype(np.float32)
    yield "floating.tiff", _tiff(unit)
    yield "half.tiff", _tiff(unit.astype(np.float16), compression="zlib", predictor=True)
    yield "deep.tiff", _tiff(pixels.astype(np.uint16) * 257, compression="zstd")
    yield (
        "planes.tiff",
        _tiff(np.moveaxis(pixels.astype(np.uint16) * 257, -1, 0), planarconfig="separate"),
    )
    yield "tiles.tiff", _tiff(unit, tile=(16, 16), compression="lzw")
    yield "large.tiff", _tiff(pixels.astype(np.uint32), bigtiff=True, photometric="rgb")


def _tiff(pixels: NDArray[np.generic], *, bigtiff: bool = False, **options: object) -> bytes:
    memory = io.BytesIO()
    given = {"photometric": "rgb"} | options
    tifffile.imwrite(memory, pixels, bigtiff=bigtiff, **given)  # type: ignore[arg-type]
    return memory.getvalue()


def _psd(pixels: NDArray[np.uint8]) -> bytes:
    """Return a PSD file with only its merged picture (Photoshop's specification, five sections)."""
    height, width, channels = pixels.shape
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, channels, height, width, 8, 3)
    return head + b"\0" * 12 + b"\0\0" + np.moveaxis(pixels, -1, 0).tobytes()


def _animations(pictures: list[Image.Image]) -> Iterator[tuple[str, bytes]]:
    clear = [picture.convert("RGBA") for picture in pictures]
    for number, picture in enumerate(clear):
        picture.putalpha(Image.linear_gradient("L").resize(picture.size).rotate(90 * number))
    for name, these in (("moving", pictures), ("clear", clear)):
        first, rest = these[0], these[1:]
        for suffix, form in (("gif", "GIF"), ("png", "PNG"), ("webp", "WEBP"), ("avif", "AVIF")):
            saved = _saved(first, form, save_all=True, append_images=rest, duration=80)
            yield f"{name}-animation.{suffix}", saved
    # With a still picture for viewers that cannot show the animation behind it.
    yield (
        "hidden-animation.png",
        _saved(pictures[0], "PNG", save_all=True, append_images=pictures[1:], default_image=True),
    )
    yield (
        "disposed-animation.gif",
        _saved(pictures[0], "GIF", save_all=True, append_images=pictures[1:], disposal=2),
    )


def _own(moving: Frames) -> Iterator[tuple[str, bytes]]:
    """Yield the formats that the package writes."""
    with TemporaryDirectory() as folder:
        for name, count in (("own.png", 1), ("own.jpg", 1), ("own.webp", 4), ("own.gif", 4)):
            yield name, write_clip([moving[:count]], Path(folder, name)).read_bytes()


def _saved(picture: Image.Image, form: str, **options: object) -> bytes:
    memory = io.BytesIO()
    picture.save(memory, form, **options)
    return memory.getvalue()
