"""Memory and time are bounded by what a file declares, before anything is decoded."""

import json
import struct
import sys
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import imagecodecs
import numpy as np
import pytest
from clips import all_frames, make_video, smooth_frames
from command import run_script
from PIL import Image

from pnpvideo.clips.read import read_clip
from pnpvideo.errors import InputError
from pnpvideo.files import read_text

ROOT = Path(__file__).parents[1]
# As on the page.
LIMITS = {"max_pixels": 8_300_000, "max_frames": 240}
# Beyond what it takes to read a picture of a few pixels. What the files declare is 1 GiB and more.
MOST_MIB = 350

# One process for all files: reads each and writes it, and prints by how much its peak has grown.
SCRIPT = """
import json, resource, sys, time
from pathlib import Path
from pnpvideo.clips.read import read_clip
from pnpvideo.clips.write import write_clip
from pnpvideo.errors import InputError

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

for path, options in json.load(sys.stdin):
    before, began = peak(), time.process_time()
    try:
        clip = read_clip(path, **options)
        if clip.timing and clip.sound:
            out = Path(path).with_suffix(".out.mp4")
            write_clip(clip.batches(4), out, timing=clip.timing, sound=clip.sound)
        else:
            clip.read(0, len(clip))
        outcome = f"{len(clip)} frames"
    except InputError as error:
        outcome = str(error)
    print(json.dumps([outcome, peak() - before, time.process_time() - began]), flush=True)
"""


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, *chunks: bytes, rows: int | None = None) -> bytes:
    """A black PNG, with chunks before its pixels. rows: how many of them there are (all)."""
    head = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((width + 1) * (height if rows is None else rows)), 1)
    body = png_chunk(b"IHDR", head) + b"".join(chunks) + png_chunk(b"IDAT", pixels)
    return b"\x89PNG\r\n\x1a\n" + body + png_chunk(b"IEND", b"")


def text_bombs(count: int, mib: int) -> bytes:
    packed = zlib.compress(bytes(mib * 2**20), 1)
    return b"".join(png_chunk(b"zTXt", b"t%d\0\0" % i + packed) for i in range(count))


def apng(count: int, width: int = 2, height: int = 2) -> bytes:
    """An animation on a canvas of 2 x 2 pixels. width, height: of the second frame and later."""
    pixels = zlib.compress(bytes(6))
    body = [png_chunk(b"acTL", struct.pack(">2I", count, 0))]
    for number in range(count):
        size = (2, 2) if number == 0 else (width, height)
        control = struct.pack(">I4I2H2B", 2 * number, *size, 0, 0, 1, 10, 0, 0)
        body.append(png_chunk(b"fcTL", control))
        if number == 0:
            body.append(png_chunk(b"IDAT", pixels))
        else:
            body.append(png_chunk(b"fdAT", struct.pack(">I", 2 * number + 1) + pixels))
    head = png_chunk(b"IHDR", struct.pack(">2I5B", 2, 2, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(body) + png_chunk(b"IEND", b"")


def gif(count: int, width: int = 2, height: int = 2) -> bytes:
    """An animation on a canvas of 2 x 2 pixels. width, height: of its frames."""
    head = b"GIF89a" + struct.pack("<2H3B", 2, 2, 0x80, 0, 0) + bytes(6)
    place = struct.pack("<4HB", 0, 0, width, height, 0)
    frame = b"!\xf9\x04\0\x0a\0\0\0" + b"," + place + b"\x02\x03\x84\x84\x05\0"
    return head + frame * count + b";"


def webp(width: int, height: int) -> bytes:
    """An animation on a canvas of 2 x 2 pixels, with frames that claim another size."""
    claim = (width - 1) | (height - 1) << 14
    picture = b"VP8L" + struct.pack("<I", 10) + b"\x2f" + struct.pack("<I", claim) + bytes(5)
    body = bytes(12) + b"\x64\0\0\0" + picture
    frame = b"ANMF" + struct.pack("<I", len(body)) + body
    head = b"VP8X" + struct.pack("<I", 10) + b"\x02" + bytes(3) + b"\1\0\0\1\0\0"
    chunks = b"WEBP" + head + b"ANIM" + struct.pack("<I", 6) + bytes(6) + 2 * frame
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def tiff(tags: dict[int, tuple[int, int, int]], more: bytes = b"") -> bytes:
    """A TIFF with the tags {number: (type, count, value)} and then some bytes."""
    entries = b"".join(struct.pack("<HHII", tag, *tags[tag]) for tag in sorted(tags))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + more


def tiff_of(
    width: int, height: int, samples: int = 1, tile: tuple[int, int] | None = None
) -> bytes:
    tags = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1)}
    tags |= {262: (3, 1, 1), 277: (3, 1, samples), 273: (4, 1, 8), 279: (4, 1, 100)}
    if tile:
        tags |= {322: (4, 1, tile[0]), 323: (4, 1, tile[1])}
        tags |= {324: (4, 1, 8), 325: (4, 1, 100)}
    return tiff(tags)


def tiff_of_tags() -> bytes:
    """A TIFF whose many tags all refer to the same million of bytes."""
    tags = {256: (4, 1, 1), 257: (4, 1, 1), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1)}
    tags |= {273: (4, 1, 8), 279: (4, 1, 1)}
    return tiff(tags | {40_000 + i: (1, 2**20, 3000) for i in range(200)}, bytes(2**20 + 5000))


def tiff_holding(compression: int, picture: bytes, *, tiled: bool) -> bytes:
    """A TIFF of 16 x 16 pixels whose only tile or strip is a picture of another format."""
    tags = {256: (4, 1, 16), 257: (4, 1, 16), 258: (3, 1, 8), 259: (3, 1, compression)}
    tags |= {262: (3, 1, 1), 277: (3, 1, 1)}
    at, count = 14 + 12 * (len(tags) + (4 if tiled else 3)), len(picture)
    if tiled:
        tags |= {322: (4, 1, 16), 323: (4, 1, 16), 324: (4, 1, at), 325: (4, 1, count)}
    else:
        tags |= {278: (4, 1, 16), 273: (4, 1, at), 279: (4, 1, count)}
    return tiff(tags, picture)


def wide_jxl() -> bytes:
    """The header of a picture of 60000 x 60000 pixels, all else as by default."""
    side = 60_000 - 1
    bits = 0 | 2 << 1 | side << 3 | 1 << 21 | 1 << 24  # Its width is its height.
    return b"\xff\x0a" + bits.to_bytes(8, "little") + bytes(100)


def wide_jpeg() -> bytes:
    return b"\xff\xd8\xff\xc1" + struct.pack(">HBHHB", 11, 12, 60_000, 60_000, 1) + bytes(100)


def wide_jp2() -> bytes:
    content: bytes = imagecodecs.jpeg2k_encode(np.zeros((16, 16), np.uint8), codecformat="j2k")
    return content[:8] + struct.pack(">2I", 60_000, 60_000) + content[16:]


def icon(picture: bytes) -> bytes:
    head = struct.pack("<3H4B2H2I", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(picture), 22)
    return head + picture


VAST = "pixels, and the limit is 8300000 (--max-pixels)"
MEMORY = "of memory, and the limit is 1.5 GiB"
TEXTS = "unpack to more than 16 MiB"
WIDER = "a part of 16x16 pixels holds a larger picture"
MANY = "has more than 240 frames, which is the limit (--max-frames)"
PICTURES: dict[str, tuple[Callable[[], bytes], str]] = {
    "samples.tif": (lambda: tiff_of(4000, 2000, samples=800), MEMORY),
    "wide.tif": (lambda: tiff_of(60_000, 60_000), VAST),
    "tiles.tif": (lambda: tiff_of(1, 1, tile=(60_000, 60_000)), MEMORY),
    "tags.tif": (tiff_of_tags, MEMORY),
    **{
        f"{kind}-{tiled}.tif": (lambda n=n, make=make, t=tiled: tiff_holding(n, make(), tiled=t), m)
        for kind, n, make, m in (
            ("png", 34933, lambda: png(60_000, 60_000, rows=1), WIDER),
            ("jxl", 50002, wide_jxl, WIDER),
            ("jpeg", 7, wide_jpeg, "e"),
            ("jp2", 34712, wide_jp2, WIDER),
            ("jxr", 22610, lambda: b"II\xbc\x01" + bytes(100), "of an unsupported kind"),
        )
        for tiled in (False, True)
    },
    "wide.png": (lambda: png(60_000, 60_000, rows=1), VAST),
    "text.png": (lambda: png(2, 2, text_bombs(1, 200)), TEXTS),
    "texts.png": (lambda: png(2, 2, text_bombs(20, 15)), TEXTS),
    "profile.png": (
        lambda: png(2, 2, png_chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(200 * 2**20), 1))),
        TEXTS,
    ),
    "many.png": (lambda: apng(20_000), MANY),
    "wide-frame.png": (lambda: apng(3, 60_000, 60_000), VAST),
    "many.gif": (lambda: gif(100_000), MANY),
    "wide-frame.gif": (lambda: gif(3, 65_535, 65_535), VAST),
    "wide-frame.webp": (lambda: webp(16_000, 16_000), "cut off or damaged"),
    "wide.ico": (lambda: icon(png(20_000, 20_000, rows=1)), VAST),
    "wide.ppm": (lambda: b"P6 60000 60000 255\n", VAST),
    "wide.bmp": (
        lambda: b"BM" + struct.pack("<4I2i2H6I", 90, 0, 54, 40, 60_000, 60_000, 1, 24, *[0] * 6),
        VAST,
    ),
    "wide.psd": (
        lambda: struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, 30_000, 30_000, 8, 3) + bytes(14),
        VAST,
    ),
}


def wide_motion_jpeg(path: Path) -> Path:
    """A video whose container declares a small size, and its JPEG pictures a vast one."""
    make_video(path, "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", frames=3)
    content = path.read_bytes()
    size = struct.pack(">BHH", 8, 48, 64)
    path.write_bytes(content.replace(size, struct.pack(">BHH", 8, 65_500, 65_500)))
    return path


def late_sound(path: Path, *, pictures_too: bool) -> Path:
    """Ten frames and a moment of sound, of which the second half comes 22 hours later."""
    late = 22 * 3600
    with av.open(str(path), "w") as file:
        video = file.add_stream("mpeg4", rate=25)
        video.width, video.height, video.time_base = 64, 48, Fraction(1, 1000)
        sound = file.add_stream("pcm_s16le", rate=48_000, layout="stereo")
        for number, picture in enumerate(smooth_frames(10)):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts = 40 * number + (1000 * late if pictures_too and number == 9 else 0)
            frame.time_base = Fraction(1, 1000)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        for number in range(2):
            heard = av.AudioFrame.from_ndarray(
                np.full((1, 2 * 9600), 1000, np.int16), "s16", "stereo"
            )
            heard.sample_rate, heard.pts = 48_000, 9600 * number + number * 48_000 * late
            heard.time_base = Fraction(1, 48_000)
            file.mux(sound.encode(heard))
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
def test_what_a_file_declares_costs_nothing(tmp_path: Path) -> None:
    """Each is refused with the limit in the message, or read, within a little memory and time."""
    cases: dict[str, tuple[Path, dict[str, int], str]] = {}
    for name, (content, message) in PICTURES.items():
        path = tmp_path / name
        path.write_bytes(content())
        cases[name] = (path, LIMITS, message)
    some = LIMITS | {"frames": 3}
    cases["some of many.gif"] = (tmp_path / "many.gif", some, "3 frames")
    cases["some of many.png"] = (tmp_path / "many.png", some, "3 frames")
    wide = wide_motion_jpeg(tmp_path / "wide.avi")
    cases["wide.avi"] = (wide, LIMITS, "cut off or damaged")
    stretched = make_video(tmp_path / "a.mkv", "-c:v", "ffv1", "-vf", "setsar=40/1", frames=2)
    cases["stretched"] = (stretched, {"max_pixels": 100_000}, "has 2560x48 pixels, and the limit")
    large = make_video(tmp_path / "b.mp4", "-c:v", "mpeg4", size="640x480", frames=2)
    cases["large video"] = (large, {"max_pixels": 307_199}, "has 640x480 pixels")
    long = make_video(tmp_path / "c.mp4", "-c:v", "mpeg4", size="16x16", frames=300)
    cases["long video"] = (long, LIMITS, MANY)
    cases["the end of a long video"] = (long, LIMITS | {"start": 280, "frames": 5}, MANY)
    cases["some of a long video"] = (long, some, "3 frames")
    for both in (False, True):
        path = late_sound(tmp_path / f"late{both}.mkv", pictures_too=both)
        cases[f"late sound, pictures too: {both}"] = (path, {}, "10 frames")
    given = json.dumps([[str(path), options] for path, options, _ in cases.values()])
    done = run_script(SCRIPT, input=given, cwd=ROOT)
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    for (name, (_, _, message)), (outcome, mib, seconds) in zip(
        cases.items(), outcomes, strict=True
    ):
        assert message in outcome, name
        assert mib < MOST_MIB, (name, mib)
        assert seconds < 10, (name, seconds)
    assert "gap of 22.0 hours" in done.stderr


@pytest.mark.parametrize("kind", ["folder", "pattern", "picture", "gif", "video"])
def test_limits_are_exact(tmp_path: Path, kind: str) -> None:
    """Every reader reads what is at a limit, and refuses what is beyond it."""
    pictures = [Image.fromarray(frame) for frame in smooth_frames(4, 20, 10)]
    source, count = tmp_path, 4
    if kind in ("folder", "pattern"):
        for number, picture in enumerate(pictures):
            picture.save(tmp_path / f"{number}.png")
        source = tmp_path if kind == "folder" else tmp_path / "%d.png"
    elif kind == "picture":
        source, count = tmp_path / "a.png", 1
        pictures[0].save(source)
    elif kind == "gif":
        source = tmp_path / "a.gif"
        pictures[0].save(source, save_all=True, append_images=pictures[1:])
    else:
        source = make_video(tmp_path / "a.mkv", "-c:v", "ffv1", size="20x10", frames=4)
    clip = read_clip(source, max_pixels=200, max_frames=count)
    assert len(all_frames(clip)) == count
    with pytest.raises(InputError, match=r"has 20x10 pixels, and the limit is 199 \(--max-pixels"):
        read_clip(source, max_pixels=199)
    if count == 4:
        with pytest.raises(InputError, match=r"has more than 3 frames, .*--max-frames"):
            read_clip(source, max_frames=3)
        assert len(read_clip(source, max_frames=3, frames=3)) == 3
        assert len(read_clip(source, max_frames=3, frames=2, stride=2)) == 2


def doubling(item: str, count: int) -> str:
    """YAML in which each of some values repeats the one before ten times."""
    lines = ["a0: &a0 {x: 1}"]
    for number in range(1, count):
        again = ", ".join(10 * [f"*a{number - 1}"])
        lines.append(f"a{number}: &a{number} {item.format(again)}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (doubling("[{}]", 30), "more than 10000 values"),
        (doubling("{{b: [{}]}}", 10), "more than 10000 values"),
        (doubling("{{<<: [{}]}}", 20), "more than 10000 values"),
        ("a: &a {<<: *a}", "nested too deeply"),
        ("a: " + 5_000_000 * "x", "the limit for YAML is 4000000"),
    ],
    ids=["lists", "mappings", "merged", "merged with itself", "long"],
)
def test_aliases_of_yaml(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_text, "_VALUES", 10_000)
    with pytest.raises(InputError, match=message):
        read_text.parse_yaml(text, "it")


def test_long_texts_of_editors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(2, 2, text_bombs(3, 15)))
    assert len(read_clip(path)) == 1


# Reads each file where there is little memory for it, and prints what it is told.
SCARCE = """
import resource, sys
from pathlib import Path
from pnpvideo.clips.read import read_clip
from pnpvideo.errors import InputError

used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20,) * 2)
for path in sys.argv[1:]:
    for allowed in (False, True):
        try:
            read_clip(path, allow_truncated=allowed).read(0, 1)
        except InputError as error:
            print(error)
"""


def test_pictures_that_are_allowed_and_do_not_fit_in_memory(tmp_path: Path) -> None:
    """Within --max-pixels: what they declare is 600 MB, and most of it is missing."""
    side, tall = 14_000, 4_194_336
    head = struct.pack("<IiiHHIIiiII", 40, 48, tall, 1, 24, *6 * [0])
    bitmap = b"BM" + struct.pack("<IHHI", 54 + 144 * tall, 0, 0, 54) + head
    targa = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, side, side, 24, 0)
    files = {
        "a.bmp": bitmap + bytes(999),
        "a.ppm": b"P6 %d %d 255\n" % (side, side) + bytes(999),
        "a.tga": targa + bytes(999),
        "a.png": png(side, side, rows=9),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    paths = [str(tmp_path / name) for name in files]
    done = run_script(SCARCE, *paths)
    wanted = "{} cannot be read: it needs more memory than there is; give a smaller one"
    assert done.stdout.splitlines() == [wanted.format(path) for path in paths for _ in range(2)]
