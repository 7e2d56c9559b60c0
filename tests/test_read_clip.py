import gc
import io
import os
import random
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import all_frames, decode, ffmpeg, frame_times, make_video, samples
from PIL import Image, ImageCms, ImageFile

from pnpvideo import read_video
from pnpvideo.errors import InputError
from pnpvideo.read_clip import read_clip

H264 = ("-c:v", "libx264", "-g", "12", "-bf", "2")

FORMATS = {
    "h264.mp4": H264,
    "h264.mov": H264,
    "h264.mkv": H264,
    "h264.avi": H264,
    "h264.ts": H264,
    "hevc.mp4": ("-c:v", "libx265", "-x265-params", "log-level=error"),
    "ten_bits.mp4": ("-c:v", "libx264", "-pix_fmt", "yuv420p10le"),
    "av1.mp4": ("-c:v", "libsvtav1"),
    "vp8.webm": ("-c:v", "libvpx", "-auto-alt-ref", "1", "-lag-in-frames", "10"),
    "vp9.webm": (
        "-c:v",
        "libvpx-vp9",
    ),
    "mpeg4.avi": ("-c:v", "mpeg4", "-bf", "2"),
    "mjpeg.avi": ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p"),
    "prores.mov": ("-c:v", "prores_ks", "-pix_fmt", "yuv422p10le"),
    "ffv1.mkv": ("-c:v", "ffv1", "-pix_fmt", "bgr0"),
    "full_range.mp4": ("-c:v", "libx264", "-pix_fmt", "yuvj420p"),
    "yuv444.mp4": ("-c:v", "libx264", "-pix_fmt", "yuv444p"),
}


@pytest.fixture(params=["decord", "ffmpeg"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test with this runs with decord, and as where decord is not installed."""
    if request.param == "ffmpeg":
        monkeypatch.setattr(read_video, "decord", None)
    elif read_video.decord is None:
        pytest.skip("decord is not installed")
    return str(request.param)


@pytest.mark.parametrize("name", FORMATS)
def test_frames_are_those_that_ffmpeg_shows(tmp_path: Path, name: str, reader: str) -> None:
    path = make_video(tmp_path / name, *FORMATS[name], frames=30)
    clip = read_clip(path)
    frames = all_frames(clip, 7)
    assert (len(clip), clip.height, clip.width) == (30, 48, 64)
    assert frames.dtype == np.uint8
    assert frames.flags.c_contiguous
    assert np.array_equal(frames, decode(path))
    assert clip.timing is not None
    assert clip.timing.frame_rate == 25
    assert clip.timing.times is None
    assert clip.sound is None
    assert clip.name == path.stem
    rng = random.Random(name)
    for _ in range(2):  # Any range, forwards and backwards.
        start, stride = rng.randrange(25), rng.choice([1, 2, 3])
        count = rng.randrange(2, 9)
        some = read_clip(path, start=start, frames=count, stride=stride)
        wanted = frames[start::stride][:count]
        assert np.array_equal(some.read(len(some) - 1, len(some)), wanted[-1:])
        assert np.array_equal(all_frames(some, 2), wanted)
        some.close()
    clip.close()


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m", "bt2020nc"])
@pytest.mark.parametrize("levels", ["tv", "pc"])
def test_colours_are_right(tmp_path: Path, matrix: str, levels: str, reader: str) -> None:
    named = {"bt709": "bt709", "smpte170m": "bt601", "bt2020nc": "bt2020"}[matrix]
    convert = f"scale=out_color_matrix={named}:out_range={levels}:flags=accurate_rnd,format=yuv420p"
    source = tmp_path / "in.png"
    Image.new("RGB", (64, 48), (200, 60, 30)).save(source)
    path = tmp_path / "a.mp4"
    tags = ("-colorspace", matrix, "-color_primaries", "bt709", "-color_trc", "bt709")
    coding = ("-vf", convert, "-c:v", "libx264", "-qp", "1", "-color_range", levels)
    ffmpeg("-loop", "1", "-i", source, "-frames:v", "3", *coding, *tags, path)
    colour = all_frames(read_clip(path)).reshape(-1, 3).mean(0)
    assert np.abs(colour - (200, 60, 30)).max() < 3.5


def test_decord_reads_plain_clips_only(tmp_path: Path) -> None:
    if read_video.decord is None:
        pytest.skip("decord is not installed")
    plain = read_clip(make_video(tmp_path / "plain.mp4", *H264))
    large = read_clip(make_video(tmp_path / "large.mp4", *H264, size="1920x1080", frames=2))
    odd = read_clip(make_video(tmp_path / "odd.webm", "-c:v", "libvpx-vp9", size="63x47"))
    used = []
    for clip in (plain, large, odd):
        clip.read(0, 1)
        assert isinstance(clip.reader, read_video.VideoReader)
        used.append(clip.reader.through_decord)
        clip.close()
    assert used == [True, False, False]


def test_where_decord_fails_ffmpeg_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __getattr__(self, name: str) -> None:
            raise RuntimeError("decord is broken")

    monkeypatch.setattr(read_video, "decord", Broken())
    path = make_video(tmp_path / "a.mp4", *H264)
    assert np.array_equal(all_frames(read_clip(path)), decode(path))


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_rotated_video_comes_upright(tmp_path: Path, angle: int) -> None:
    flat = make_video(tmp_path / "flat.mp4", *H264)
    path = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", str(angle), "-i", flat, "-c", "copy", path)
    clip = read_clip(path)
    turned = np.rot90(decode(flat), angle // 90, axes=(1, 2))
    assert (clip.height, clip.width) == turned.shape[1:3]
    assert np.abs(all_frames(clip).astype(int) - turned).mean() < 3


@pytest.mark.parametrize(("ratio", "size"), [("4/3", (85, 48)), ("1/2", (64, 96)), ("1", (64, 48))])
def test_pixels_become_square(tmp_path: Path, ratio: str, size: tuple[int, int]) -> None:
    path = make_video(tmp_path / "a.mp4", *H264, "-vf", f"setsar={ratio}")
    clip = read_clip(path)
    assert (clip.width, clip.height) == size
    expected = decode(path, "-vf", f"scale={size[0]}:{size[1]}")
    assert np.array_equal(all_frames(clip), expected)
    ffmpeg("-display_rotation", "90", "-i", path, "-c", "copy", tmp_path / "turned.mp4")
    turned = read_clip(tmp_path / "turned.mp4")
    assert turned.read(0, 2).shape == (2, turned.height, turned.width, 3)
    assert (turned.height, turned.width) == size


@pytest.mark.parametrize("size", ["63x48", "64x47", "17x9", "3x1", "2x2"])
def test_odd_sizes(tmp_path: Path, size: str) -> None:
    path = make_video(tmp_path / "a.mkv", "-c:v", "ffv1", size=size, frames=3)
    assert np.array_equal(all_frames(read_clip(path)), decode(path))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".ts"])
@pytest.mark.parametrize("rate", ["30000/1001", "24000/1001", "12", "60", "25/2"])
def test_frame_rate_is_exact(tmp_path: Path, suffix: str, rate: str) -> None:
    path = make_video(tmp_path / f"a{suffix}", "-c:v", "mpeg4", rate=rate, frames=12)
    for stride in (1, 3):
        timing = read_clip(path, stride=stride).timing
        assert timing is not None
        assert timing.frame_rate == Fraction(rate) / stride
        assert timing.times is None


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_frame_rate_keeps_every_time(tmp_path: Path, suffix: str, reader: str) -> None:
    path = tmp_path / f"a{suffix}"
    uneven = "setpts='(N+0.4*mod(N,3)+floor(N/7))/25/TB'"
    make_video(
        path, *H264, "-vf", uneven, "-fps_mode", "vfr", "-enc_time_base", "1/1000", frames=20
    )
    times, end = frame_times(path)
    clip = read_clip(path)
    assert np.array_equal(all_frames(clip), decode(path))
    assert clip.timing is not None
    assert clip.timing.times == tuple(time - times[0] for time in times)
    assert len(clip) / clip.timing.frame_rate == end - times[0]
    some = read_clip(path, start=3, frames=4, stride=2)
    assert some.timing is not None
    assert some.timing.times == tuple(times[i] - times[3] for i in (3, 5, 7, 9))
    assert len(some) / some.timing.frame_rate == times[11] - times[3]


def test_edit_list_hides_frames(tmp_path: Path, reader: str) -> None:
    whole = make_video(tmp_path / "whole.mp4", *H264, "-g", "25", frames=50, sound=True)
    path = tmp_path / "edited.mp4"
    ffmpeg("-ss", "0.5", "-i", whole, "-c", "copy", path)
    shown = decode(path)
    clip = read_clip(path, start=2)
    assert len(clip) == len(shown) - 2
    assert len(shown) < 50
    assert np.array_equal(all_frames(clip), shown[2:])


def test_sound_is_that_of_the_chosen_range(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", *H264, "-c:a", "aac", frames=50, sound=True)
    sound = read_clip(path, start=5, frames=10, stride=2).sound
    assert sound is not None
    assert (sound.path, sound.start, sound.duration) == (path, Fraction(1, 5), Fraction(4, 5))
    late = tmp_path / "late.mkv"  # Pictures that start half a second after the sound.
    ffmpeg(
        "-i",
        path,
        "-itsoffset",
        "0.5",
        "-i",
        path,
        "-map",
        "0:a",
        "-map",
        "1:v",
        "-c",
        "copy",
        late,
    )
    sound = read_clip(late).sound
    assert sound is not None
    assert abs(sound.start - Fraction(1, 2)) < Fraction(1, 20)
    assert len(samples(path)) > 8000


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.avi"])
@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_damaged_video(tmp_path: Path, name: str, damage: str) -> None:
    codec = {"a.webm": ("-c:v", "libvpx-vp9"), "a.avi": ("-c:v", "mpeg4")}.get(name, H264)
    whole = make_video(tmp_path / name, *codec, "-movflags", "faststart", frames=60)
    content = bytearray(whole.read_bytes())
    middle = len(content) * 6 // 10
    intact = decode(whole)
    if damage == "cut":
        del content[middle:]
    else:
        content[middle : middle + 300] = random.Random(0).randbytes(300)
    path = tmp_path / f"bad-{name}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"its first \d+ frames can be read; --allow-truncated"):
        read_clip(path)
    clip = read_clip(path, allow_truncated=True)
    assert 10 < len(clip) < 60
    assert np.array_equal(all_frames(clip), intact[: len(clip)])
    assert np.array_equal(all_frames(read_clip(path, start=2, frames=3)), intact[2:5])


def test_cut_video_without_its_table(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", *H264)
    path.write_bytes(path.read_bytes()[:-200])
    for allowed in (False, True):
        with pytest.raises(InputError, match="cut off"):
            read_clip(path, allow_truncated=allowed)


def test_ffmpeg_does_not_outlive_its_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_video, "decord", None)
    path = make_video(tmp_path / "a.mp4", *H264, size="640x480", frames=60)

    def running() -> int:
        return sum(
            str(path).encode() in command.read_bytes()
            for command in Path("/proc").glob("[0-9]*/cmdline")
            if command.exists()
        )

    if not Path("/proc").is_dir():
        pytest.skip("needs /proc")
    for end in ("close", "forget"):
        clip = read_clip(path)
        clip.read(0, 1)
        assert running() == 1
        if end == "close":
            clip.close()
        del clip
        gc.collect()
        assert running() == 0


def test_names_and_contents_cannot_make_ffmpeg_open_other_files(tmp_path: Path) -> None:
    make_video(tmp_path / "target.mp4", *H264)
    (tmp_path / "list.txt").write_text("ffconcat version 1.0\nfile target.mp4\n")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\ntarget.mp4\n#EXT-X-ENDLIST\n")
    for name in ("list.txt", "list.m3u8"):
        with pytest.raises(InputError, match="not a video"):
            read_clip(tmp_path / name)
    for name in ("-i.mp4", "concat:x|y.mp4", "100%d.mp4", "a b'\"é.mp4"):
        odd = tmp_path / name
        odd.write_bytes((tmp_path / "target.mp4").read_bytes())
        assert len(read_clip(odd)) == 10


def bad_files(folder: Path) -> dict[str, str]:
    """Names of unusable sources in the folder -> what the message says."""
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no video\n" * 100)
    (folder / "text.png").write_text("no image\n" * 100)
    (folder / "noise.mkv").write_bytes(random.Random(0).randbytes(5000))
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.3", folder / "sound.mp3")
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.3", "-c:a", "aac", folder / "sound.mp4")
    make_video(folder / "zero.mkv", "-c:v", "ffv1", "-vf", "select=0")
    (folder / "folder").mkdir()
    (folder / "folder" / "notes.txt").write_text("no frames")
    os.mkfifo(folder / "pipe.mp4")
    return {
        "missing.mp4": "does not exist",
        "%04d.png": "no file is named like",
        "nowhere/*.png": "does not exist",
        "empty.mp4": "is empty",
        "text.mp4": "not a video",
        "text.png": "not an image",
        "noise.mkv": "not a video",
        "sound.mp3": "sound only",
        "sound.mp4": "sound only",
        "zero.mkv": "no frames",
        "folder": "no images",
        "pipe.mp4": "not a file",
    }


def test_bad_input_is_told_in_one_line(tmp_path: Path) -> None:
    for name, message in bad_files(tmp_path).items():
        with pytest.raises(InputError, match=message) as caught:
            read_clip(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value) or name.split("/")[0] in str(caught.value)


def test_bad_numbers(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", *H264)
    for options in ({"start": -1}, {"frames": 0}, {"stride": 0}):
        with pytest.raises(InputError, match=f"{next(iter(options))} is"):
            read_clip(path, **options)
    with pytest.raises(InputError, match=r"start at frame 10 .* has 10 frames"):
        read_clip(path, start=10)
    with pytest.raises(ValueError, match="the clip has 10"):
        read_clip(path).read(5, 11)


def test_unreadable_file(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", *H264)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(InputError, match="Permission denied"):
        read_clip(path)


def test_memory_does_not_grow_with_the_clip(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", "-c:v", "libx264", size="1920x1080", frames=40)
    script = (
        "import resource, sys; from pnpvideo.read_clip import read_clip\n"
        "clip = read_clip(sys.argv[1])\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "clip.read(0, 2); before = peak()\n"
        "for i in range(2, 40, 2): clip.read(i, i + 2)\n"
        "print(peak() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 40  # MiB; all frames have 237.


# Images


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


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_cut_image(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    image = noise_images(1)[0]
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
