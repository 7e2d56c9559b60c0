"""Pictures as phones, cameras, editors and renderers save them."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageFile, PngImagePlugin

from pnpvideo.clips.read import read_clip
from pnpvideo.errors import InputError

pillow_heif.register_heif_opener()

BLOCKS = np.kron(
    np.array(
        [[[200, 60, 30], [10, 10, 10], [90, 90, 90]], [[0, 0, 0], [255, 255, 255], [20, 200, 90]]]
    ),
    np.ones((16, 16, 1)),
).astype(np.uint8)
"""Three by two blocks of 16 pixels, no two alike, which codecs keep well."""


def read(path: Path, **options: object) -> NDArray[np.uint8]:
    clip = read_clip(path, **options)
    assert (len(clip), clip.timing) == (1, None)
    frame = clip.read(0, 1)[0]
    assert frame.shape[:2] == (clip.height, clip.width)
    return frame


def turned(picture: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Upright, by what EXIF says of each value (the corner where row and column 0 are)."""
    flipped = {2, 4, 5, 7}
    upright = picture[:, ::-1] if orientation in flipped else picture
    return np.rot90(upright, {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: -1, 7: -1, 8: 1}[orientation])


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.tif", "float.tif", "a.heic", "a.avif", "a.jpg", "a.webp"])
def test_pictures_are_upright(tmp_path: Path, name: str, orientation: int) -> None:
    path = tmp_path / name
    if path.suffix == ".tif":
        values = BLOCKS / np.float32(255) if "float" in name else BLOCKS
        tag = (0x0112, 3, 1, orientation, False)
        tifffile.imwrite(path, values, photometric="rgb", extratags=[tag])
    else:
        Image.fromarray(BLOCKS).save(path, exif=exif(orientation), quality=100)
    error = np.abs(read(path) - turned(BLOCKS, orientation).astype(int))
    assert np.median(error) <= 2
    assert error.mean() < 4


@pytest.mark.parametrize("tile", [0, 32])
def test_a_phones_picture(tmp_path: Path, tile: int) -> None:
    """Of tiles, turned, with a thumbnail, and under whatever name it came."""
    large = np.kron(BLOCKS, np.ones((3, 3, 1), np.uint8))
    path = tmp_path / "a.heic"
    Image.fromarray(large).save(path, quality=-1, tile_size=tile, thumbnails=[64], exif=exif(6))
    upright = np.rot90(large, -1)
    assert np.abs(read(path) - upright.astype(int)).max() <= 2
    assert np.abs(read(path.rename(tmp_path / "b.jpg")) - upright.astype(int)).max() <= 2


def test_a_cut_heic_is_not_black(tmp_path: Path) -> None:
    path = tmp_path / "a.heic"
    Image.fromarray(BLOCKS).save(path)
    path.write_bytes(path.read_bytes()[:-50])
    for cut in (False, True):
        with pytest.raises(InputError, match=r"a\.heic is cut off or damaged") as refused:
            read_clip(path, allow_truncated=cut)
        assert "allow-truncated" not in str(refused.value)


def test_transparent_heic(tmp_path: Path) -> None:
    alpha = np.where(BLOCKS[..., 2] > 100, 0, 255).astype(np.uint8)
    both = np.concatenate([BLOCKS, alpha[..., np.newaxis]], axis=-1)
    Image.fromarray(both).save(tmp_path / "a.heic", quality=-1)
    clip = read_clip(tmp_path / "a.heic", background="white")
    assert clip.has_alpha
    assert np.abs(clip.read_alpha(0, 1)[0] - alpha.astype(int)).max() <= 1
    assert clip.read(0, 1)[0][alpha == 0].min() >= 254


# 4 by 3 pixels, each channel with its own values.
SHARES = np.arange(36, dtype=np.float64).reshape(3, 4, 3) / 35
EIGHT = np.rint(SHARES * 255)


@pytest.mark.parametrize(
    ("name", "values", "more", "expected"),
    [
        ("float32", SHARES.astype(np.float32), {}, EIGHT),
        ("float16", SHARES.astype(np.float16), {}, EIGHT),
        ("float64", SHARES, {"compression": "zlib"}, EIGHT),
        ("predictor", SHARES.astype(np.float32), {"compression": "zlib", "predictor": 3}, EIGHT),
        ("lzw", SHARES.astype(np.float32), {"compression": "lzw"}, EIGHT),
        ("to 255", (SHARES * 255).astype(np.float32), {}, EIGHT),
        (
            "beyond 1",
            (SHARES * 1.5).astype(np.float32),
            {},
            np.minimum(np.rint(SHARES * 382.5), 255),
        ),
        ("planes", np.moveaxis(SHARES, -1, 0).astype(np.float32), {"planarconfig": 2}, EIGHT),
        ("16 bits", np.rint(SHARES * 65535).astype(np.uint16), {}, EIGHT),
        ("32 bits", np.rint(SHARES * (2**32 - 1)).astype(np.uint32), {}, EIGHT),
        ("grey float", SHARES[..., 0].astype(np.float32), {}, EIGHT[..., :1]),
        ("grey half", SHARES[..., 0].astype(np.float16), {}, EIGHT[..., :1]),
        ("grey 16", np.rint(SHARES[..., 0] * 65535).astype(np.uint16), {}, EIGHT[..., :1]),
        (
            "from white",
            np.rint(SHARES[..., 0] * 65535).astype(np.uint16),
            {"photometric": "miniswhite"},
            255 - EIGHT[..., :1],
        ),
        ("big", EIGHT.astype(np.uint8), {"bigtiff": True}, EIGHT),
    ],
)
def test_deep_tiff(
    tmp_path: Path,
    name: str,
    values: NDArray[np.generic],
    more: dict[str, object],
    expected: NDArray[np.float64],
) -> None:
    photometric = "rgb" if values.ndim == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", values, **{"photometric": photometric} | more)
    # Pillow keeps the upper 8 of 16 bits of a colour, where the nearest value may be one off.
    assert np.abs(read(tmp_path / "a.tif") - expected).max() <= (name in ("16 bits", "beyond 1"))


def test_deep_tiff_with_transparency(tmp_path: Path) -> None:
    alpha = np.linspace(0, 1, 12).reshape(3, 4, 1)
    for kind, values in (("unassalpha", SHARES), ("assocalpha", SHARES * alpha)):
        path = tmp_path / f"{kind}.tif"
        both = np.concatenate([values, alpha], axis=-1).astype(np.float32)
        tifffile.imwrite(path, both, photometric="rgb", extrasamples=[kind])
        clip = read_clip(path, background="black")
        assert np.abs(clip.read_alpha(0, 1)[0] - alpha[..., 0] * 255).max() <= 1
        assert np.abs(clip.read(0, 1)[0] - SHARES * alpha * 255).max() <= 2


def test_grey_png_of_16_bits_with_a_transparent_value(tmp_path: Path) -> None:
    values = np.array([[0, 40000], [40000, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png", transparency=40000)
    clip = read_clip(tmp_path / "a.png", background="rgb(1, 2, 3)")
    assert clip.read_alpha(0, 1)[0].tolist() == [[255, 0], [0, 255]]
    assert clip.read(0, 1)[0, 0].tolist() == [[0, 0, 0], [1, 2, 3]]


@pytest.mark.parametrize(
    ("values", "more", "message"),
    [
        (SHARES.astype(np.float32) * 60000, {}, "floating-point values up to 60000; save it"),
        (
            SHARES[..., [0, 1, 2, 0]].astype(np.float32),
            {"photometric": "separated"},
            "SEPARATED, 32",
        ),
    ],
)
def test_tiff_that_is_not_read(
    tmp_path: Path, values: NDArray[np.generic], more: dict[str, object], message: str
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", values, **{"photometric": "rgb"} | more)
    with pytest.raises(InputError, match=message):
        read_clip(tmp_path / "a.tif")


def test_a_cut_tiff(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", SHARES.astype(np.float32), photometric="rgb")
    whole = (tmp_path / "a.tif").read_bytes()
    for size in (len(whole) - 40, 100, 9):
        (tmp_path / "a.tif").write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"a\.tif (is|holds)"):
            read_clip(tmp_path / "a.tif")


# Photos that are no pictures yet


def save_dng(path: Path, *, preview: bool) -> None:
    """A raw photo as cameras and Adobe's converter write it, with or without a preview first."""
    raw = np.arange(24, dtype=np.uint16).reshape(4, 6)
    version = (50706, 1, 4, b"\1\4\0\0", True)
    with tifffile.TiffWriter(path) as tiff:
        if preview:
            small = BLOCKS[::4, ::4]
            tiff.write(small, photometric="rgb", subifds=1, subfiletype=1, extratags=[version])
        tiff.write(raw, photometric=32803, extratags=[] if preview else [version])


@pytest.mark.parametrize(
    "name", ["a.dng", "preview.tif", "bare.tif", "nikon.tif", "canon.tif", "a.CR3"]
)
def test_raw_photos_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name in ("a.dng", "preview.tif", "bare.tif"):
        save_dng(path, preview=name != "bare.tif")
    elif name == "nikon.tif":  # Of no DNG: the first picture says that it is a smaller one.
        tifffile.imwrite(path, BLOCKS, photometric="rgb", subfiletype=1)
    elif name == "canon.tif":
        data = io.BytesIO()
        Image.fromarray(BLOCKS).save(data, "TIFF")
        head, rest = data.getvalue()[:4], data.getvalue()
        # Canon's mark stands before the tags, which move behind the picture.
        path.write_bytes(head + struct.pack("<I", 16) + b"CR\2\0" + bytes(4) + moved(rest, 8))
    else:
        path.write_bytes(b"\0\0\0\x18ftypcrx " + bytes(64))
    with pytest.raises(InputError, match="is a raw camera photo, which must be developed first"):
        read_clip(path)


def moved(tiff: bytes, by: int) -> bytes:
    """All of a TIFF after its head of 8 bytes, for a place so many bytes later."""
    data = bytearray(tiff)
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, length, value = struct.unpack_from("<HHII", data, entry)
        if sizes[kind] * length > 4 or tag == 273:  # Where the pixels are.
            struct.pack_into("<I", data, entry + 8, value + by)
    return bytes(data[8:])


# What is large


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


# More than Pillow takes of one compressed text, and of all together.
@pytest.mark.parametrize(
    ("kind", "size", "place"),
    [
        (b"tEXt", 70_000_000, "before"),
        *((kind, 3_000_000, place) for kind in (b"zTXt", b"iTXt") for place in ("before", "after")),
    ],
)
def test_long_texts_in_a_png(tmp_path: Path, kind: bytes, size: int, place: str) -> None:
    memory = io.BytesIO()
    Image.fromarray(BLOCKS).save(memory, "PNG")
    png = memory.getvalue()
    text = b"w" * size
    body = {
        b"tEXt": b"workflow\0" + text,
        b"zTXt": b"workflow\0\0" + zlib.compress(text, 1),
        b"iTXt": b"workflow\0\1\0\0\0" + zlib.compress(text, 1),
    }[kind]
    at = 33 if place == "before" else len(png) - 12
    (tmp_path / "a.png").write_bytes(png[:at] + png_chunk(kind, body) + png[at:])
    assert np.array_equal(read(tmp_path / "a.png"), BLOCKS)


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "gif", "jpg"])
def test_large_pictures(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(BLOCKS).save(path)
    # Pillow calls what is twice as large a bomb.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", 10)
    assert np.abs(read(path) - BLOCKS.astype(int)).mean() < 12
    limits = (Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK)
    assert (*limits, ImageFile.LOAD_TRUNCATED_IMAGES) == (100, 10, False)


def test_a_picture_that_the_memory_does_not_hold(tmp_path: Path) -> None:
    side = 1_000_000
    head = struct.pack(">2I5B", side, side, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", zlib.compress(b"\0"))
    (tmp_path / "a.png").write_bytes(png + png_chunk(b"IEND", b""))
    with pytest.raises(
        InputError, match=r"has 1000000x1000000 pixels; reading it takes .* are free"
    ):
        read_clip(tmp_path / "a.png", max_pixels=2**40)
    with pytest.raises(InputError, match="has 1000000x1000000 pixels"):
        read_clip(tmp_path)  # The default limit.
    values = np.broadcast_to(np.float32(0), (1, 8, 3))
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    at = data.index(struct.pack("<HHI", 256, 4, 1)) + 8  # The entry of its width, then its height.
    data[at : at + 4] = data[at + 12 : at + 16] = struct.pack("<I", side)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(InputError, match="has 1000000x1000000 pixels"):
        read_clip(tmp_path / "a.tif", max_pixels=2**40)
