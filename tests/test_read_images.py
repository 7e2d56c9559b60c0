import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import all_frames
from PIL import Image, ImageCms, ImageFile

from pnpvideo.clips.clip import Timing
from pnpvideo.clips.read import read_clip
from pnpvideo.errors import InputError


def read_one(path: Path, **options: object) -> list[int]:
    clip = read_clip(path, **options)  # type: ignore[arg-type]
    assert clip.timing is None
    assert clip.sound is None
    assert len(clip) == 1
    colour: list[int] = clip.read(0, 1)[0, 2, 3].tolist()
    return colour


IMAGES = {
    "1": (1, "png", [255, 255, 255]),
    "L": (100, "png", [100, 100, 100]),
    "LA": ((100, 51), "png", [224, 224, 224]),
    "RGB": ((1, 2, 3), "bmp", [1, 2, 3]),
    "RGBA": ((200, 100, 0, 51), "png", [244, 224, 204]),
    "CMYK": ((0, 100, 200, 0), "tiff", [255, 155, 55]),
    "I;16": (40000, "png", [156, 156, 156]),
    "I": (40000, "tiff", [156, 156, 156]),
    "F": (0.5, "tiff", [128, 128, 128]),
    "YCbCr": ((100, 128, 128), "tiff", [100, 100, 100]),
}


@pytest.mark.parametrize("mode", IMAGES)
def test_image_of_any_mode(tmp_path: Path, mode: str) -> None:
    colour, suffix, expected = IMAGES[mode]
    path = tmp_path / f"a.{suffix}"
    Image.new(mode, (7, 5), colour).save(path)  # type: ignore[arg-type]
    assert read_one(path) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff", "gif", "ppm"])
def test_image_of_any_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (7, 5), (250, 120, 40)).save(path)
    clip = read_clip(path)
    assert (clip.width, clip.height) == (7, 5)
    assert read_one(path) == pytest.approx([250, 120, 40], abs=6)


def test_transparency_shows_the_background(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGBA", (7, 5), (200, 100, 0, 0)).save(path)
    assert read_one(path) == [255, 255, 255]
    assert read_one(path, background=(1, 2, 3)) == [1, 2, 3]
    paletted = Image.new("P", (7, 5), 1)
    paletted.putpalette([9, 9, 9, 20, 30, 40])
    paletted.save(tmp_path / "p.png")
    assert read_one(tmp_path / "p.png") == [20, 30, 40]
    paletted.save(tmp_path / "t.png", transparency=1)
    assert read_one(tmp_path / "t.png", background=(4, 5, 6)) == [4, 5, 6]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_camera_rotation_is_applied(tmp_path: Path, orientation: int) -> None:
    grid = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(grid).save(path, exif=exif)
    upright = {
        1: grid,
        2: grid[:, ::-1],
        3: grid[::-1, ::-1],
        4: grid[::-1],
        5: grid.T,
        6: np.rot90(grid, -1),
        7: grid[::-1, ::-1].T,
        8: np.rot90(grid, 1),
    }[orientation]
    clip = read_clip(path)
    assert (clip.height, clip.width) == upright.shape
    assert np.array_equal(clip.read(0, 1)[0, :, :, 0], upright)


def test_colour_profile_is_applied(tmp_path: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    path = tmp_path / "a.tiff"
    # Grey of lightness 50 is 119 in sRGB.
    Image.new("LAB", (7, 5), (128, 128, 128)).save(path, icc_profile=lab.tobytes())
    assert read_one(path) == pytest.approx([119, 119, 119], abs=2)
    for profile in (b"broken", lab.tobytes()):  # Unusable ones change nothing.
        Image.new("RGB", (7, 5), (10, 20, 30)).save(tmp_path / "b.png", icc_profile=profile)
        assert read_one(tmp_path / "b.png") == [10, 20, 30]


def noise_images(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)) for _ in range(count)]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_animated_image(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    images = noise_images(5)
    extra = {"lossless": True} if suffix == "webp" else {}
    shown = [40, 80, 120, 40, 200]
    images[0].save(path, save_all=True, append_images=images[1:], duration=shown, **extra)
    clip = read_clip(path)
    assert (len(clip), clip.width, clip.height) == (5, 32, 24)
    assert clip.timing is not None
    assert clip.timing.times == tuple(Fraction(sum(shown[:i]), 1000) for i in range(5))
    assert len(clip) / clip.timing.frame_rate == Fraction(480, 1000)
    frames = all_frames(clip, 2)
    error = np.abs(frames.astype(int) - np.stack([np.array(i) for i in images])).mean()
    assert error < (20 if suffix == "gif" else 0.01)
    some = read_clip(path, start=1, stride=2)
    assert some.timing is not None
    assert some.timing.times == (0, Fraction(1, 5))
    for i in (1, 0, 1):
        assert np.array_equal(some.read(i, i + 1)[0], frames[1 + 2 * i])
    some.close()


@pytest.mark.parametrize("suffix", ["gif", "png"])
def test_animated_image_at_a_constant_rate_and_cut(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    images = noise_images(6)
    images[0].save(path, save_all=True, append_images=images[1:], duration=50)
    timing = read_clip(path).timing
    assert timing is not None
    assert (timing.frame_rate, timing.times) == (20, None)
    frames = all_frames(read_clip(path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    with pytest.raises(InputError, match=r"first \d frames can be read; --allow-truncated"):
        read_clip(path)
    clip = read_clip(path, allow_truncated=True)
    assert 1 < len(clip) < 6
    assert np.array_equal(all_frames(clip), frames[: len(clip)])


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif"])
def test_cut_image(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    image = noise_images(1)[0].resize((160, 120))
    image.save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 4 // 5])
    with pytest.raises(InputError, match=r"cut off or damaged.*--allow-truncated"):
        read_clip(path)
    frame = read_clip(path, allow_truncated=True).read(0, 1)[0]
    assert np.abs(frame[:6].astype(int) - np.array(image)[:6]).mean() < 30
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


# Folders


def fill(folder: Path, names: list[str], size: tuple[int, int] = (8, 6)) -> Path:
    folder.mkdir(exist_ok=True)
    for i, name in enumerate(names):
        Image.new("RGB", size, (10 * i, 0, 0)).save(folder / name)
    return folder


def test_folder_in_natural_order(tmp_path: Path) -> None:
    folder = fill(tmp_path / "frames", ["f1.png", "f2.png", "f9.png", "f10.png", "f100.png"])
    (folder / "notes.txt").write_text("ignored")
    (folder / ".hidden.png").write_text("ignored")
    clip = read_clip(folder)
    assert (clip.timing, clip.sound, clip.name) == (None, None, "frames")
    assert all_frames(clip, 2)[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40]
    some = read_clip(folder, start=1, frames=2, stride=2)
    assert all_frames(some)[:, 0, 0, 0].tolist() == [10, 30]


def test_folder_with_a_frame_rate(tmp_path: Path) -> None:
    folder = fill(tmp_path / "frames", ["1.png", "2.png", "3.png"])
    clip = read_clip(folder, stride=2, frame_rate=Fraction(24000, 1001))
    assert clip.timing == Timing(frame_rate=Fraction(12000, 1001))
    with pytest.raises(InputError, match=r"frame rate is for a folder.*1\.png is a file"):
        read_clip(folder / "1.png", frame_rate=Fraction(12))


@pytest.mark.parametrize("pattern", ["%04d.png", "%d.png", "0*.png", "000?.png"])
def test_numbered_pattern(tmp_path: Path, pattern: str) -> None:
    folder = fill(tmp_path / "frames", ["0003.png", "0004.png", "0008.png"])
    fill(folder, ["other.png"], size=(3, 3))
    clip = read_clip(folder / pattern)
    assert all_frames(clip)[:, 0, 0, 0].tolist() == [0, 10, 20]


def test_folder_with_differing_sizes(tmp_path: Path) -> None:
    folder = fill(tmp_path / "frames", ["1.png", "2.png"])
    fill(folder, ["3.png", "4.png"], size=(9, 6))
    with pytest.raises(InputError, match=r"1\.png has 8x6, 3\.png has 9x6"):
        read_clip(folder)
    assert len(read_clip(folder, frames=2)) == 2


def test_folder_with_a_damaged_image(tmp_path: Path) -> None:
    folder = fill(tmp_path / "frames", ["1.png", "2.png"])
    memory = io.BytesIO()
    noise_images(1)[0].resize((8, 6)).save(memory, "PNG")
    (folder / "2.png").write_bytes(memory.getvalue()[:120])
    with pytest.raises(InputError, match=r"2\.png is cut off"):
        all_frames(read_clip(folder))
    assert len(all_frames(read_clip(folder, allow_truncated=True))) == 2
