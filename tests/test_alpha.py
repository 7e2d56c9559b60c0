"""Transparency: what it lies on, and how the source's goes back onto the result."""

from pathlib import Path

import numpy as np
import pytest
from clips import all_frames, smooth_frames
from command import SHORT, Cli, assert_refused
from numpy.typing import NDArray
from PIL import Image

from pnpvideo.batch.run_batch import plan_batch
from pnpvideo.clips.clip import Clip
from pnpvideo.clips.read import read_clip
from pnpvideo.clips.read_ahead import read_ahead
from pnpvideo.clips.write import write_clip
from pnpvideo.errors import InputError
from pnpvideo.options.batch import BatchOptions
from pnpvideo.options.settings import ReadSettings

BACKGROUND = (10, 200, 90)


def opacity(count: int, width: int = 48, height: int = 32) -> NDArray[np.uint8]:
    """Steps of transparency that move from frame to frame, (count, height, width)."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([(x * 7 + y * 5 + 40 * i) % 256 for i in range(count)]).astype(np.uint8)


def on(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The picture on the background."""
    share = alpha[..., np.newaxis] / 255
    return rgb * share + np.array(BACKGROUND) * (1 - share)


def save(path: Path, count: int = 1) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Save transparent pictures as the name says: what is to be seen, and how opaque it is."""
    rgb, alpha = smooth_frames(count, 48, 32), opacity(count)
    both = np.concatenate([rgb, alpha[..., np.newaxis]], axis=-1)
    pictures = [Image.fromarray(picture) for picture in both]
    if "grey" in path.name:
        pictures = [picture.convert("LA") for picture in pictures]
        rgb = np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])
    elif "palette" in path.name or path.suffix == ".gif":
        # A column of one colour is the transparent one.
        alpha = np.where(np.arange(48) % 3 == 0, 0, 255)[np.newaxis, np.newaxis]
        alpha = np.broadcast_to(alpha, rgb.shape[:3]).astype(np.uint8)
        index = np.where(alpha[0] == 0, 7, np.arange(32)[:, np.newaxis] % 5).astype(np.uint8)
        palette = [int(part) for i in range(8) for part in (30 * i, 255 - 20 * i, 9 * i)]
        rgb = np.array(palette, np.uint8).reshape(8, 3)[index][np.newaxis]
        paletted = Image.fromarray(index)
        paletted.putpalette(palette)
        paletted.save(path, transparency=7)
        return rgb, alpha
    elif "key" in path.name:
        # One colour is transparent.
        alpha = np.where((rgb == rgb[0, 5, 5]).all(-1), 0, 255).astype(np.uint8)
        Image.fromarray(rgb[0]).save(path, transparency=tuple(rgb[0, 5, 5].tolist()))
        return rgb, alpha
    lossless = {"lossless": True, "exact": True} if path.suffix == ".webp" else {}
    if path.suffix == ".ico":
        lossless = {"sizes": [(48, 32)]}
    if count > 1:
        lossless |= {"save_all": True, "append_images": pictures[1:], "duration": 100}
    pictures[0].save(path, **lossless)
    return rgb, alpha


PICTURES = ["a.png", "a.webp", "a.tiff", "a.gif", "grey.png", "palette.png", "key.png", "a.ico"]


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_lie_on_the_background_and_tell_their_opacity(tmp_path: Path, name: str) -> None:
    rgb, alpha = save(tmp_path / name)
    clip = read_clip(tmp_path / name, background=BACKGROUND)
    assert clip.has_alpha
    assert np.array_equal(clip.read_alpha(0, 1), alpha)
    assert np.abs(clip.read(0, 1) - on(rgb, alpha)).max() <= 1


@pytest.mark.parametrize("name", ["a.webp", "a.png"])
def test_animations_do_so_too(tmp_path: Path, name: str) -> None:
    rgb, alpha = save(tmp_path / name, 3)
    clip = read_clip(tmp_path / name, background="rgb(10, 200, 90)")
    assert len(clip) == 3
    assert clip.has_alpha
    assert np.array_equal(clip.read_alpha(1, 3), alpha[1:])
    assert np.abs(all_frames(clip) - on(rgb, alpha)).max() <= 1


def test_opaque_sources_are_opaque_everywhere(tmp_path: Path) -> None:
    Image.new("RGB", (7, 5), (1, 2, 3)).save(tmp_path / "a.png")
    clip = read_clip(tmp_path / "a.png")
    assert not clip.has_alpha
    assert np.array_equal(clip.read_alpha(0, 1), np.full((1, 5, 7), 255))
    with pytest.raises(ValueError, match="the clip has 1"):
        clip.read_alpha(0, 2)


@pytest.mark.parametrize(
    ("given", "colour"),
    [
        ("white", (255, 255, 255)),
        ("#ff8000", (255, 128, 0)),
        ("rgb(1, 2, 3)", (1, 2, 3)),
        ([1, 2, 3], (1, 2, 3)),
    ],
)
def test_colours_of_a_background(given: object, colour: tuple[int, int, int]) -> None:
    assert ReadSettings(background=given).background == colour
    text = ReadSettings(background=given).plain()["background"]
    assert ReadSettings(background=text).background == colour


@pytest.mark.parametrize(
    "given", ["whit", "", 5, [1, 2], [1, 2, 256], "#ff800080", [1.0, 0.0, 0.0]]
)
def test_what_is_no_background(given: object) -> None:
    with pytest.raises(InputError, match=r"background is .*; give a colour, such as white"):
        ReadSettings(background=given)


def read_rgba(path: Path) -> tuple[NDArray[np.uint8], Clip]:
    clip = read_clip(path, background=BACKGROUND)
    return clip.read_alpha(0, len(clip)), clip


@pytest.mark.parametrize("output", ["a.png", "a.webp", "frames", "many.webp"])
def test_alpha_is_written(tmp_path: Path, output: str) -> None:
    count = 1 if output.startswith("a.") else 3
    rgb, alpha = smooth_frames(count, 48, 32), opacity(count)
    cut = [slice(0, 2), slice(2, 3)][: count // 3 + 1]
    frames = (rgb[part] for part in cut)
    write_clip(frames, tmp_path / output, alpha=(alpha[part] for part in cut), quality=100)
    written, clip = read_rgba(tmp_path / output)
    assert np.array_equal(written, alpha)
    assert np.abs(all_frames(clip) - on(rgb, alpha)).mean() < (2 if "webp" in output else 0.6)


@pytest.mark.parametrize("output", ["a.jpg", "a.gif", "a.mp4"])
def test_formats_without_alpha_refuse_it(tmp_path: Path, output: str) -> None:
    with pytest.raises(InputError, match=r"cannot hold transparency; give \.png, \.webp"):
        write_clip([smooth_frames(1)], tmp_path / output, alpha=[opacity(1)])
    assert list(tmp_path.iterdir()) == []


def test_the_sources_alpha_comes_back(tmp_path: Path, cli: Cli) -> None:
    _, alpha = save(tmp_path / "a.png")
    assert cli("a.png", *SHORT, "--keep-alpha", "--original-size", "-o", "b.png")[0] == 0
    assert np.array_equal(read_rgba(tmp_path / "b.png")[0], alpha)
    with Image.open(tmp_path / "b.png") as image:
        assert image.mode == "RGBA"
    # At the working size it is resized, and of an animation each frame has its own.
    _, alpha = save(tmp_path / "c.webp", 3)
    more = ("--keep-alpha", "--compare", "--background", "black", "--size", "32x16")
    assert cli("c.webp", *SHORT, *more)[0] == 0
    written, clip = read_rgba(tmp_path / "c-translated.webp")
    assert (clip.width, clip.height, len(clip)) == (32, 16, 3)
    for ours, theirs in zip(written, alpha, strict=True):
        # Each pixel is the mean of two rows and one and a half columns.
        mean = np.repeat(theirs, 2, axis=1).reshape(16, 2, 32, 3).mean(axis=(1, 3))
        assert np.abs(ours - mean).max() <= 1
    assert read_clip(tmp_path / "c-translated-compare.webp").width == 24 + 32


def test_what_has_no_transparency_needs_no_format_for_it(tmp_path: Path, cli: Cli) -> None:
    """Alone, and in a folder with what has some."""
    (tmp_path / "in").mkdir()
    Image.new("RGB", (48, 32)).save(tmp_path / "in" / "a.jpg")
    assert cli("in/a.jpg", *SHORT, "--keep-alpha")[0] == 0
    save(tmp_path / "in" / "b.webp", 2)
    Image.new("P", (48, 32)).save(tmp_path / "in" / "c.gif")
    common = {"keep_alpha": True, "prompt": "a stone", "model": str(tmp_path)}
    plan = plan_batch(BatchOptions(jobs="in", output="out"), common, overwrite=False)
    assert [job.name for job in plan.jobs] == ["a.jpg", "b.webp", "c.png"]


def test_it_is_refused_before_the_work(tmp_path: Path, cli: Cli) -> None:
    save(tmp_path / "a.png")
    refused = cli("a.png", *SHORT, "--keep-alpha", "-o", "b.mp4")
    assert_refused(
        refused, 2, "b.mp4 cannot hold transparency; give .png, .webp, .webm, .mov or a folder"
    )
    refused = cli("--guidance-prompt", "a", *SHORT, "--keep-alpha")
    assert_refused(refused, 2, "a generated source has no transparency to keep")
    assert_refused(cli("a.png", *SHORT, "--background", "no"), 2, "background is 'no'; give a")
    # A name that nobody gave is one of a format that can.
    save(tmp_path / "c.gif")
    assert cli("c.gif", *SHORT, "--keep-alpha")[0] == 0
    assert read_clip(tmp_path / "c-translated.png").has_alpha


@pytest.mark.parametrize("suffix", [".webm", ".webp"])
def test_two_threads_read_one_clip(tmp_path: Path, suffix: str) -> None:
    """One decoder serves both; where they met in it, it crashed."""
    path = tmp_path / f"clear{suffix}"
    write_clip([smooth_frames(24, 48, 32)], path, alpha=[opacity(24)])
    clip = read_clip(path)
    frames, alpha = clip.read(0, 24), clip.read_alpha(0, 24)
    for _ in range(4):
        ahead = read_ahead(clip.batches(2))
        for start, batch in zip(range(0, 24, 2), ahead, strict=True):
            np.testing.assert_array_equal(clip.read_alpha(start, start + 2), alpha[start:][:2])
            np.testing.assert_array_equal(batch, frames[start:][:2])
    clip.close()
