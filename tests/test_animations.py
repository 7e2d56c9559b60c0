"""Animated images against an independent composer that lays frames over each other naively."""

import io
import struct
import zlib
from collections.abc import Sequence
from copy import deepcopy
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import all_frames
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image

from pnpvideo.clips.read import read_clip

WIDTH, HEIGHT = 9, 7
BACKGROUND = (30, 60, 200)
KEEP, CLEAR, RESTORE = 0, 1, 2  # As an animated PNG counts them.

Pixel = tuple[float, ...]
Canvas = list[list[Pixel]]


class Frame:
    """A random picture at a random place, or one that covers all. pixels: (h, w, 4)."""

    def __init__(self, rng: np.random.Generator, alphas: Sequence[int], *, whole: bool) -> None:
        self.left, self.top = (
            (0, 0) if whole else (2 * int(rng.integers(3)), 2 * int(rng.integers(2)))
        )
        width = WIDTH if whole else int(rng.integers(1, WIDTH - self.left + 1))
        height = HEIGHT if whole else int(rng.integers(1, HEIGHT - self.top + 1))
        colours = rng.integers(0, 256, (6, 4), np.uint8)
        colours[:, 3] = rng.choice(alphas, 6)
        self.pixels = colours[rng.integers(0, 6, (height, width))]
        self.after = int(rng.integers(3))
        self.over = bool(rng.integers(2))
        self.ticks = int(rng.integers(2, 30))  # Hundredths of a second.


def compose(frames: list[Frame]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the picture on the background after each frame, and the opacity, pixel by pixel."""
    canvas: Canvas = [[(0.0, 0.0, 0.0, 0.0)] * WIDTH for _ in range(HEIGHT)]
    shown = []
    for frame in frames:
        before = deepcopy(canvas)
        places = [
            (y + frame.top, x + frame.left, tuple(map(float, frame.pixels[y, x])))
            for y in range(frame.pixels.shape[0])
            for x in range(frame.pixels.shape[1])
            if y + frame.top < HEIGHT and x + frame.left < WIDTH
        ]
        for y, x, pixel in places:
            canvas[y][x] = blend(pixel, canvas[y][x]) if frame.over else pixel
        shown.append(deepcopy(canvas))
        for y, x, _ in places:
            if frame.after == CLEAR:
                canvas[y][x] = (0.0, 0.0, 0.0, 0.0)
            elif frame.after == RESTORE:
                canvas[y][x] = before[y][x]
    both = np.array(shown)
    share = both[..., 3:] / 255
    return both[..., :3] * share + np.array(BACKGROUND) * (1 - share), both[..., 3]


def blend(above: Pixel, below: Pixel) -> Pixel:
    a, b = above[3] / 255, below[3] / 255
    alpha = a + b * (1 - a)
    if alpha == 0:
        return (0.0, 0.0, 0.0, 0.0)
    colours = ((x * a + y * b * (1 - a)) / alpha for x, y in zip(above[:3], below[:3], strict=True))
    return (*colours, alpha * 255)


def write_gif(path: Path, frames: list[Frame]) -> None:
    # A global palette and a colour of it as background, which browsers do not show.
    data = (
        b"GIF89a" + struct.pack("<2H3B", WIDTH, HEIGHT, 0x80, 1, 0) + bytes([9, 99, 9, 200, 0, 0])
    )
    for number, frame in enumerate(frames):
        flat = frame.pixels.reshape(-1, 4)
        colours, index = np.unique(flat[:, :3], axis=0, return_inverse=True)
        index = np.where(flat[:, 3] == 0, len(colours), index)
        picture = Image.fromarray(index.reshape(frame.pixels.shape[:2]).astype(np.uint8))
        picture.putpalette([*colours.ravel().tolist(), 1, 2, 3])
        # Method 4 means the same as 3.
        method = {KEEP: number % 2, CLEAR: 2, RESTORE: 3 + number % 2}[frame.after]
        pieces = GifImagePlugin.getdata(
            picture,
            (frame.left, frame.top),
            disposal=method,
            duration=10 * frame.ticks,
            transparency=len(colours),
            include_color_table=True,
        )
        data += b"".join(pieces)
    path.write_bytes(data + b";")


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def write_png(path: Path, frames: list[Frame], *, kind: str, hidden: bool) -> None:
    """kind: rgba, rgb or palette. hidden: a picture that is no frame comes first."""
    colour = {"rgba": 6, "rgb": 2, "palette": 3}[kind]
    everything = np.concatenate([frame.pixels.reshape(-1, 4) for frame in frames])
    palette = np.unique(everything, axis=0)
    data = b"\x89PNG\r\n\x1a\n"
    data += chunk(b"IHDR", struct.pack(">2I5B", WIDTH, HEIGHT, 8, colour, 0, 0, 0))
    data += chunk(b"acTL", struct.pack(">2I", len(frames), 0))
    if kind == "palette":
        data += chunk(b"PLTE", palette[:, :3].tobytes()) + chunk(b"tRNS", palette[:, 3].tobytes())
    sequence = 0
    if hidden:
        size = {"rgba": 4, "rgb": 3, "palette": 1}[kind] * WIDTH
        data += chunk(b"IDAT", zlib.compress((b"\0" + b"\1" * size) * HEIGHT))
    for number, frame in enumerate(frames):
        height, width = frame.pixels.shape[:2]
        control = struct.pack(">5I", sequence, width, height, frame.left, frame.top)
        control += struct.pack(">2H2B", frame.ticks, 100, frame.after, frame.over)
        data += chunk(b"fcTL", control)
        if kind == "palette":
            rows = (frame.pixels[:, :, None] == palette).all(-1).argmax(-1).astype(np.uint8)
        else:
            rows = frame.pixels[..., : 4 if kind == "rgba" else 3]
        content = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
        sequence += 1
        if number == 0 and not hidden:
            data += chunk(b"IDAT", content)
            continue
        for part in (content[:10], content[10:]):  # In pieces, as some writers do.
            data += chunk(b"fdAT", struct.pack(">I", sequence) + part)
            sequence += 1
    path.write_bytes(data + chunk(b"IEND", b""))


def write_webp(path: Path, frames: list[Frame], *, flags: int, lossless: bool) -> None:
    """flags: 18 for an animation with transparency, 2 for one without. Lossy: opacity is exact."""
    size = struct.pack("<I", WIDTH - 1)[:3] + struct.pack("<I", HEIGHT - 1)[:3]
    chunks = [(b"VP8X", bytes([flags, 0, 0, 0]) + size), (b"ANIM", b"\xff\0\0\xff\0\0")]
    for frame in frames:
        file = io.BytesIO()
        picture = Image.fromarray(frame.pixels)
        opaque = frame.pixels[..., 3].min() == 255
        if opaque:
            picture = picture.convert("RGB")
        picture.save(file, "WEBP", lossless=lossless, exact=True, quality=100)
        content = file.getvalue()[12:]
        if content[:4] == b"VP8X":
            content = content[18:]
        height, width = frame.pixels.shape[:2]
        fields = (frame.left // 2, frame.top // 2, width - 1, height - 1, 10 * frame.ticks)
        body = b"".join(struct.pack("<I", field)[:3] for field in fields)
        body += bytes([(not frame.over) * 2 + (frame.after == CLEAR)])
        chunks.append((b"ANMF", body + content))
    data = b"WEBP" + b"".join(
        name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
        for name, body in chunks
    )
    path.write_bytes(b"RIFF" + struct.pack("<I", len(data)) + data)


def save(path: Path, seed: int) -> list[Frame]:
    """Save a random animation of the kind that the name says."""
    rng = np.random.default_rng(seed)
    name = path.stem
    kind = name.removesuffix("-hidden")
    alphas = {"gif": (0, 255), "rgb": (255,), "opaque": (255,)}.get(kind, (0, 80, 200, 255))
    frames = [Frame(rng, alphas, whole=False) for _ in range(8)]
    if path.suffix == ".gif":
        frames[3].left, frames[3].top = 6, 4  # It may reach out of the canvas.
        for frame in frames:
            frame.over = True
        write_gif(path, frames)
    elif path.suffix == ".png":
        if "hidden" not in name:
            frames[0] = Frame(rng, alphas, whole=True)
        write_png(path, frames, kind=kind, hidden="hidden" in name)
    else:
        for frame in frames:
            frame.after = frame.after if frame.after != RESTORE else CLEAR
        flags = 2 if name == "opaque" else 18
        write_webp(path, frames, flags=flags, lossless=name != "lossy")
    return frames


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "name",
    [
        *("gif.gif", "rgba.png", "rgb.png", "palette.png", "rgba-hidden.png", "rgb-hidden.png"),
        *("alpha.webp", "opaque.webp"),
    ],
)
def test_frames_are_laid_over_each_other_as_browsers_do(
    tmp_path: Path, name: str, seed: int
) -> None:
    frames = save(tmp_path / name, seed)
    seen, alpha = compose(frames)
    clip = read_clip(tmp_path / name, background=BACKGROUND)
    assert (len(clip), clip.width, clip.height) == (len(frames), WIDTH, HEIGHT)
    assert clip.has_alpha == bool(alpha.min() < 255)
    # What is rounded in one frame lies under the next.
    assert np.abs(all_frames(clip) - seen).max() <= 2
    assert np.abs(clip.read_alpha(0, len(clip)) - alpha).max() <= 2
    assert clip.timing is not None
    starts = [Fraction(sum(frame.ticks for frame in frames[:i]), 100) for i in range(len(frames))]
    assert [clip.timing.start_of(i) for i in range(len(frames))] == starts
    # In any order, and some of them.
    for number in (5, 2, 2, 7):
        assert np.abs(clip.read(number, number + 1)[0] - seen[number]).max() <= 2
    some = read_clip(tmp_path / name, background=BACKGROUND, start=1, stride=3)
    assert np.abs(all_frames(some) - seen[1::3]).max() <= 2


def test_lossy_frames_with_transparency(tmp_path: Path) -> None:
    frames = save(tmp_path / "lossy.webp", 3)
    alpha = compose(frames)[1]
    clip = read_clip(tmp_path / "lossy.webp")
    assert np.abs(clip.read_alpha(0, len(clip)) - alpha).max() <= 2


def test_an_animation_of_one_frame_is_a_picture(tmp_path: Path) -> None:
    frame = Frame(np.random.default_rng(0), (0, 255), whole=False)
    frame.over = True
    write_gif(tmp_path / "a.gif", [frame])
    write_png(tmp_path / "a.png", [frame], kind="rgba", hidden=True)
    for name in ("a.gif", "a.png"):
        clip = read_clip(tmp_path / name, background=BACKGROUND)
        assert (len(clip), clip.timing) == (1, None)
        assert np.abs(clip.read(0, 1) - compose([frame])[0]).max() <= 1
