"""Colour spaces of pictures, as files state them: CICP, nclx and ICC profiles."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pillow_heif
import pytest
from clips import all_frames, ffmpeg
from numpy.typing import NDArray
from PIL import Image, ImageCms

from pnpvideo.clips.as_clip import as_clip
from pnpvideo.clips.read import read_clip

RAMP = np.array(
    [[(200, 40, 40), (40, 200, 40), (40, 60, 220), (128, 128, 128)],
     [(250, 250, 250), (3, 3, 3), (120, 90, 60), (255, 0, 255)]], np.uint8,
)  # fmt: skip
PICTURE = np.kron(RAMP, np.ones((32, 32, 1), np.uint8))

# From linear RGB to linear sRGB, as published (D65; Lindbloom, W3C's CSS Color 4).
TO_SRGB = {
    "srgb": np.eye(3),
    "p3": [[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]],
    "adobe": [[1.3984, -0.3984, 0.0], [0.0, 1.0, 0.0], [0.0, -0.0429, 1.0429]],
    "2020": [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
}
# Red, green and blue as XYZ, adapted to ICC's D50.
COLORANTS = {
    "srgb": [(0.43607, 0.22250, 0.01393), (0.38506, 0.71688, 0.09710), (0.14308, 0.06062, 0.71417)],
    "p3": [(0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)],
    "adobe": [(0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)],
    "2020": [(0.6735, 0.2790, -0.0019), (0.1657, 0.6753, 0.0300), (0.1250, 0.0456, 0.7969)],
}  # fmt: skip


def srgb_light(code: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def pq_light(code: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of 10,000 cd/m2."""
    p = code ** (32 / 2523)
    return (np.maximum(p - 0.8359375, 0) / (18.8515625 - 18.6875 * p)) ** (16384 / 2610)


def hlg_light(code: NDArray[np.float64]) -> NDArray[np.float64]:
    high = (np.exp((code - 0.55991073) / 0.17883277) + 0.28466892) / 12
    return np.where(code <= 0.5, code**2 / 3, high)


def expected(
    pixels: NDArray[np.generic], primaries: str, light: Callable[..., object]
) -> NDArray[np.float64]:
    """sRGB's codes, pixel by pixel, in float64."""
    scale = np.iinfo(pixels.dtype).max
    linear = np.asarray(light(pixels / scale)) @ np.array(TO_SRGB[primaries]).T
    linear = np.clip(linear, 0, 1)
    codes = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return 255 * codes


def icc(
    primaries: str,
    light: Callable[..., object],
    name: str = "a profile",
    cicp: tuple[int, ...] = (),
) -> bytes:
    """A profile of three colorants and a curve of 1024 samples."""
    samples = np.rint(np.asarray(light(np.arange(1024) / 1023)) * 65535).astype(">u2").tobytes()
    curve = b"curv" + bytes(4) + struct.pack(">I", 1024) + samples

    def xyz(*values: float) -> bytes:
        return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * v) for v in values))

    text = name.encode("utf-16-be")
    described = (
        b"mluc" + bytes(4) + struct.pack(">2I2s2s2I", 1, 12, b"en", b"US", len(text), 28) + text
    )
    tags = {b"desc": described, b"cprt": described, b"wtpt": xyz(0.96420, 1, 0.82491)}
    for letter, values in zip("rgb", COLORANTS[primaries], strict=True):
        tags |= {f"{letter}XYZ".encode(): xyz(*values), f"{letter}TRC".encode(): curve}
    if cicp:
        tags[b"cicp"] = b"cicp" + bytes(4) + bytes(cicp)
    table, body, at = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for tag, content in tags.items():
        table += struct.pack(">4s2I", tag, at + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(
        ">I4sI4s4s4s12s4s4s",
        at + len(body),
        bytes(4),
        0x04400000,
        b"mntr",
        b"RGB ",
        b"XYZ ",
        bytes(12),
        b"acsp",
        bytes(4),
    )
    head += bytes(24) + struct.pack(">3i", 63190, 65536, 54061) + bytes(48)
    return head[:128] + table + body


def with_cicp(png: bytes, *numbers: int) -> bytes:
    body = b"cICP" + bytes(numbers)
    return png[:33] + struct.pack(">I", 4) + body + struct.pack(">I", zlib.crc32(body)) + png[33:]


def save_png(path: Path, pixels: NDArray[np.generic], *numbers: int, profile: bytes = b"") -> None:
    if pixels.dtype == np.uint16:
        png = imagecodecs.png_encode(pixels)
    else:
        memory = io.BytesIO()
        Image.fromarray(pixels).save(memory, "PNG", icc_profile=profile or None)
        png = memory.getvalue()
    path.write_bytes(with_cicp(png, *numbers, 0, 1) if numbers else png)


def save_coded(
    path: Path, pixels: NDArray[np.generic], *numbers: int, profile: bytes = b""
) -> None:
    """A PNG, AVIF or HEIC that states primaries and transfer function by number."""
    primaries, transfer = numbers
    if path.suffix == ".png":
        save_png(path, pixels, *numbers, profile=profile)
    elif path.suffix == ".avif":
        bits = {} if pixels.dtype == np.uint8 else {"bitspersample": 10}
        values = pixels if pixels.dtype == np.uint8 else (pixels >> 6).astype(np.uint16)
        path.write_bytes(
            imagecodecs.avif_encode(
                values,
                100,
                speed=10,
                primaries=primaries,
                transfer=transfer,
                matrix=0,
                pixelformat=1,
                **bits,
            )
        )
    else:
        height, width, _ = pixels.shape
        mode = "RGB" if pixels.dtype == np.uint8 else "RGB;16"
        pillow_heif.encode(
            mode, (width, height), pixels.tobytes(), path, quality=-1, chroma="444",
            save_nclx_profile=True, color_primaries=primaries, transfer_characteristics=transfer,
            matrix_coefficients=0,
        )  # fmt: skip


def read(path: Path, **options: object) -> NDArray[np.int64]:
    return read_clip(path, **options).read(0, 1)[0].astype(int)


# The file's rounding to 8 bits, and ours.
@pytest.mark.parametrize("suffix", [".png", ".avif", ".heic"])
@pytest.mark.parametrize(
    ("numbers", "primaries", "light"),
    [
        ((1, 13), "srgb", srgb_light),
        ((1, 1), "srgb", srgb_light),
        ((2, 2), "srgb", srgb_light),
        ((1, 6), "srgb", srgb_light),
        ((12, 13), "p3", srgb_light),
        ((12, 2), "p3", srgb_light),
        ((9, 14), "2020", srgb_light),
        ((12, 1), "p3", srgb_light),
        ((1, 4), "srgb", lambda code: code**2.2),
        ((1, 8), "srgb", lambda code: code),
        ((12, 8), "p3", lambda code: code),
    ],
)
def test_cicp(
    tmp_path: Path,
    suffix: str,
    numbers: tuple[int, int],
    primaries: str,
    light: Callable[..., object],
) -> None:
    path = tmp_path / f"a{suffix}"
    save_coded(path, PICTURE, *numbers)
    found = read(path)
    if primaries == "srgb" and light is srgb_light:
        assert np.abs(found - PICTURE).max() <= (1 if suffix == ".heic" else 0)
        return
    # Dark colours of a curve without a slope are far apart.
    assert np.abs(found - expected(PICTURE, primaries, light)).max() <= (
        4 if suffix == ".heic" else 2
    )
    # A folder of such frames, and what a PIL user opened, are the same.
    assert np.array_equal(read(tmp_path), found)
    with Image.open(path) as image:
        assert np.array_equal(as_clip(image).read(0, 1)[0], found)


def test_the_case_of_the_report(tmp_path: Path) -> None:
    save_coded(tmp_path / "p3.avif", np.full((32, 32, 3), (200, 40, 40), np.uint8), 12, 13)
    assert np.abs(read(tmp_path / "p3.avif")[0, 0] - (218, 0, 26)).max() <= 2


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif", ".heic"])
def test_profiles_of_standard_range(tmp_path: Path, suffix: str, mode: str) -> None:
    if (suffix, mode) not in {(".png", "RGBA"), (".png", "P"), (suffix, "RGB")}:
        pytest.skip("the format has no such mode")
    wide = [
        ("p3", srgb_light),
        ("adobe", lambda c: c**2.19921875),
        ("srgb", lambda c: c),
        ("2020", lambda c: c),
    ]
    for primaries, light in wide if suffix == ".png" else wide[:1]:
        path = tmp_path / f"a{suffix}"
        # Linear light with the primaries of sRGB is called sRGB too.
        profile = icc(primaries, light, "linear sRGB" if primaries == "srgb" else primaries)
        image = (
            Image.fromarray(PICTURE).convert(mode)
            if mode != "P"
            else Image.fromarray(PICTURE).quantize(16)
        )
        more = {
            ".jpg": {"quality": 100, "subsampling": 0},
            ".webp": {"lossless": True},
            ".heic": {"quality": -1},
            ".avif": {"quality": 100, "subsampling": "4:4:4"},
        }
        image.save(path, icc_profile=profile, **more.get(suffix, {}))
        with Image.open(path) as opened:
            stored = np.asarray(opened.convert("RGB"))
            given = as_clip(opened).read(0, 1)[0]
        found = read(path)
        assert np.array_equal(given, found)
        wanted = expected(stored, primaries, light)
        assert np.abs(found - wanted)[wanted > 20].max() <= 3


def test_srgb_profiles_change_nothing(tmp_path: Path) -> None:
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (made, icc("srgb", srgb_light, "sRGB IEC61966-2.1")):
        save_png(tmp_path / "a.png", PICTURE, profile=profile)
        assert np.array_equal(read(tmp_path / "a.png"), PICTURE)
    # In a PNG, numbers decide over a profile, which is for older readers.
    save_png(tmp_path / "b.png", PICTURE, 1, 13, profile=icc("p3", srgb_light))
    assert np.array_equal(read(tmp_path / "b.png"), PICTURE)


def grey_steps(transfer: int) -> NDArray[np.uint16]:
    """Colours and greys of a high dynamic range, with 16 bits."""
    shares = np.array(
        [(0.3,) * 3, (0.58,) * 3, (0.5, 0.3, 0.3), (0.2, 0.45, 0.3), (0.75,) * 3, (0.1, 0.2, 0.5)]
    )
    return np.kron(np.rint(shares * 65535).reshape(2, 3, 3), np.ones((32, 32, 1))).astype(np.uint16)


def as_video(folder: Path, pixels: NDArray[np.uint16], transfer: str) -> NDArray[np.int64]:
    """The same colours in a video, as it is tone-mapped."""
    height, width, _ = pixels.shape
    (folder / "raw").write_bytes(pixels.tobytes())
    tags = f"setparams=color_primaries=bt2020:color_trc={transfer}:colorspace=bt2020nc"
    ffmpeg(
        *("-f", "rawvideo", "-pix_fmt", "rgb48le", "-s", f"{width}x{height}", "-i", folder / "raw"),
        *("-vf", f"scale=out_color_matrix=bt2020:out_range=tv,format=yuv444p12le,{tags}"),
        *("-c:v", "libx265", "-x265-params", "lossless=1:log-level=error", folder / "video.mkv"),
    )
    return all_frames(read_clip(folder / "video.mkv"))[0].astype(int)


@pytest.mark.parametrize(("transfer", "name"), [(16, "smpte2084"), (18, "arib-std-b67")])
def test_high_range_is_as_in_a_video(tmp_path: Path, transfer: int, name: str) -> None:
    pixels = grey_steps(transfer)
    wanted = as_video(tmp_path, pixels, name)
    (tmp_path / "in").mkdir()
    for suffix in (".png", ".avif", ".heic"):
        path = tmp_path / "in" / f"a{suffix}"
        save_coded(path, pixels, 9, transfer)
        assert np.abs(read(path) - wanted).max() <= 3, suffix
        kept = read_clip(path, hdr="keep")
        assert (kept.colour.primaries, kept.colour.transfer) == ("bt2020", name)
        assert np.abs(kept.read(0, 1)[0] - pixels / 257).max() <= 2
    # 8 bits have to do where there are no more.
    eight = np.rint(pixels / 257).astype(np.uint8)
    save_coded(tmp_path / "in" / "b.png", eight, 9, transfer)
    assert np.abs(read(tmp_path / "in" / "b.png") - wanted).max() <= 6
    assert np.abs(all_frames(read_clip(tmp_path / "in" / "*.png")) - wanted).max() <= 6
    # A profile says the same by its tag, or by its curve alone.
    light = pq_light if transfer == 16 else hlg_light
    for cicp in ((9, transfer, 0, 1), ()):
        save_png(tmp_path / "c.png", eight, profile=icc("2020", light, cicp=cicp))
        assert np.abs(read(tmp_path / "c.png") - wanted).max() <= 6
        with Image.open(tmp_path / "c.png") as opened:
            assert np.array_equal(as_clip(opened).read(0, 1)[0], read(tmp_path / "c.png"))


def test_high_range_of_other_primaries(tmp_path: Path) -> None:
    """A colour of P3 is the same light in BT.2020."""
    to_2020 = np.linalg.inv(TO_SRGB["2020"]) @ np.array(TO_SRGB["p3"])
    pixels = grey_steps(16)
    light = pq_light(pixels / 65535) @ to_2020.T
    p = np.maximum(light, 0) ** (2610 / 16384)
    codes = ((0.8359375 + 18.8515625 * p) / (1 + 18.6875 * p)) ** (2523 / 32)
    save_png(tmp_path / "p3.png", pixels, 12, 16)
    save_png(tmp_path / "2020.png", np.rint(codes * 65535).astype(np.uint16), 9, 16)
    assert np.abs(read(tmp_path / "p3.png") - read(tmp_path / "2020.png")).max() <= 1


def test_an_animated_png_with_numbers(tmp_path: Path) -> None:
    frames = [Image.fromarray(PICTURE), Image.fromarray(PICTURE[::-1].copy())]
    memory = io.BytesIO()
    frames[0].save(memory, "PNG", save_all=True, append_images=frames[1:], duration=100)
    (tmp_path / "a.png").write_bytes(with_cicp(memory.getvalue(), 12, 13, 0, 1))
    clip = read_clip(tmp_path / "a.png")
    assert len(clip) == 2
    assert np.abs(clip.read(0, 1)[0] - expected(PICTURE, "p3", srgb_light)).max() <= 1


def test_pictures_in_memory_are_upright() -> None:
    wide = Image.fromarray(PICTURE)
    for orientation, turned in (
        (3, np.rot90(PICTURE, 2)),
        (6, np.rot90(PICTURE, -1)),
        (8, np.rot90(PICTURE)),
    ):
        wide.getexif()[0x0112] = orientation
        memory = io.BytesIO()
        wide.save(memory, "PNG", exif=wide.getexif())
        for image in (wide, Image.open(memory)):
            assert np.array_equal(as_clip(image).read(0, 1)[0], turned)
            assert image.size == wide.size  # The user's image stays as it is.
