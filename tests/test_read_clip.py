import gc
import os
import random
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import all_frames, decode, ffmpeg, frame_times, make_video, samples
from command import run_script
from PIL import Image

from pnpvideo.clips.read import read_clip
from pnpvideo.clips.video import read_decord, read_video
from pnpvideo.errors import InputError

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


@pytest.fixture(params=["decord", "av"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test with this runs with decord, and as where decord is not installed."""
    if request.param == "av":
        monkeypatch.setattr(read_video, "has_decord", lambda: False)
    elif not read_decord.has_decord():
        pytest.skip("decord is not installed")
    return str(request.param)


@pytest.mark.parametrize("name", FORMATS)
def test_frames_are_those_that_ffmpeg_shows(tmp_path: Path, name: str) -> None:
    check_frames(tmp_path / name)


@pytest.mark.parametrize("name", ["h264.mp4", "h264.avi", "vp9.webm"])
def test_frames_without_decord(tmp_path: Path, name: str) -> None:
    check_frames(tmp_path / name, "av")


def check_frames(path: Path, reader: str = "decord") -> None:
    name = path.name
    make_video(path, *FORMATS[name], frames=30)
    clip = read_clip(path, reader=reader)
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
        some = read_clip(path, start=start, frames=count, stride=stride, reader=reader)
        wanted = frames[start::stride][:count]
        assert np.array_equal(some.read(len(some) - 1, len(some)), wanted[-1:])
        assert np.array_equal(all_frames(some, 2), wanted)
        some.close()
    clip.close()


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m", "bt2020nc"])
@pytest.mark.parametrize("levels", ["tv", "pc"])
def test_colours_are_right(tmp_path: Path, matrix: str, levels: str) -> None:
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


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
@pytest.mark.parametrize("rate", ["30000/1001", "24000/1001", "12", "25/2"])
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
    if (name, damage) != ("a.webm", "overwritten"):  # VP9 decodes any noise without complaint.
        assert np.array_equal(all_frames(clip), intact[: len(clip)])
    assert np.array_equal(all_frames(read_clip(path, start=2, frames=3)), intact[2:5])


def test_cut_video_without_its_table(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", *H264)
    path.write_bytes(path.read_bytes()[:-200])
    for allowed in (False, True):
        with pytest.raises(InputError, match="cut off"):
            read_clip(path, allow_truncated=allowed)


def test_no_file_outlives_its_clip(tmp_path: Path, reader: str) -> None:
    path = make_video(tmp_path / "a.mp4", *H264, size="640x480", frames=60)
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("needs /proc")

    def held() -> int:
        """How often this process, and those that it has started, have the file open."""
        threads = Path("/proc/self/task").glob("*/children")  # Each thread has children.
        children = " ".join(thread.read_text() for thread in threads).split()
        folders = [descriptors, *(Path(f"/proc/{child}/fd") for child in children)]
        links = [link for folder in folders if folder.exists() for link in folder.iterdir()]
        return sum(link.exists() and link.samefile(path) for link in links)

    for end in ("close", "forget"):
        clip = read_clip(path)
        clip.read(0, 1)
        assert held() == 1
        if end == "close":
            clip.close()
        del clip
        gc.collect()
        assert held() == 0


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
    make_video(folder / "zero.avi", "-c:v", "ffv1", "-vf", "select=0")
    (folder / "folder").mkdir()
    (folder / "folder" / "notes.txt").write_text("no frames")
    os.mkfifo(folder / "pipe.mp4")
    return {
        "missing.mp4": "does not exist",
        "%04d.png": "no file is named like",
        "nowhere/*.png": "does not exist",
        "empty.mp4": "is empty",
        "text.mp4": "is not an image and not a video, or it is cut off$",
        "text.png": "not an image",
        "noise.mkv": "not a video",
        "sound.mp3": "sound only",
        "sound.mp4": "sound only",
        "zero.avi": "no frames",
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
    for options in ({"start": -1}, {"frames": 0}, {"stride": 0}, {"background": (0, 0, 256)}):
        with pytest.raises(InputError, match=f"{next(iter(options))} is"):
            read_clip(path, **options)
    with pytest.raises(InputError, match=r"start is 10; give at most 9, as .* has 10 frames"):
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
        "import resource, sys; from pnpvideo.clips.read import read_clip\n"
        "clip = read_clip(sys.argv[1])\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "clip.read(0, 2); before = peak()\n"
        "for i in range(2, 40, 2): clip.read(i, i + 2)\n"
        "print(peak() - before)\n"
    )
    done = run_script(script, path)
    assert int(done.stdout) < 40  # MiB; all frames have 237.
