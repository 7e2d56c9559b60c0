import os
import re
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import all_frames, decode, describe, frame_times, make_video, samples, smooth_frames
from PIL import Image

from pnpvideo.clips.as_clip import as_clip
from pnpvideo.clips.clip import Frames, Sound, Timing, clip_of_frames
from pnpvideo.clips.read import read_clip
from pnpvideo.clips.write import check_output, write_clip
from pnpvideo.errors import InputError
from pnpvideo.options.values import DEFAULT_FRAME_RATE
from pnpvideo.pixels.resize import side_by_side

VIDEOS = [".mp4", ".mov", ".m4v", ".mkv", ".webm"]
ANIMATIONS = [".gif", ".webp"]
RATE_25 = Timing(frame_rate=Fraction(25))


@pytest.mark.parametrize("suffix", [*VIDEOS, *ANIMATIONS])
def test_frames_come_back(tmp_path: Path, suffix: str) -> None:
    frames = smooth_frames(11)
    path = write_clip([frames[:4], frames[4:]], tmp_path / f"a{suffix}", timing=RATE_25)
    assert path == tmp_path / f"a{suffix}"
    clip = read_clip(path)
    assert clip.timing is not None
    assert (len(clip), clip.timing.frame_rate, clip.timing.times) == (11, 25, None)
    error = all_frames(clip).astype(int) - frames
    assert np.abs(error).mean() < 4
    # Colours do not shift (ffmpeg's fast conversion to RGB rounds down by up to 1.5).
    assert np.abs(error.mean((0, 1, 2))).max() < 2
    assert list(tmp_path.iterdir()) == [path]


def test_colours_are_those_that_players_show(tmp_path: Path) -> None:
    frames = np.full((3, 48, 64, 3), (200, 60, 30), np.uint8)
    for suffix in (".mp4", ".webm"):
        path = write_clip([frames], tmp_path / f"a{suffix}")
        assert "yuv420p(tv, bt709" in describe(path)
        exact = ("-vf", "scale=flags=accurate_rnd+full_chroma_int+full_chroma_inp")
        assert np.abs(decode(path, *exact).mean((0, 1, 2)) - (200, 60, 30)).max() < 1.5


@pytest.mark.parametrize("size", [(65, 48), (64, 47), (33, 17), (3, 5), (16, 2)])
@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ".webp", ".png", ""])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int], suffix: str) -> None:
    width, height = size
    frame = smooth_frames(1, width, height)
    clip = read_clip(write_clip([frame], tmp_path / f"a{suffix}"))
    pad = suffix == ".mp4"  # H.264 has even sizes: the last column and row are repeated.
    assert clip.width == width + (width % 2 if pad else 0)
    assert clip.height == height + (height % 2 if pad else 0)
    got = clip.read(0, 1)
    if pad and width % 2 and width > 8:
        assert np.abs(got[:, :, -1].astype(int) - got[:, :, -2]).mean() < 8
    error = got[:, :height, :width].astype(int) - frame
    assert np.abs(error).mean() < (32 if min(size) < 8 else 8)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize("rate", ["30000/1001", "24000/1001", "8", "73/10", "120"])
def test_frame_rate_and_duration_are_kept(tmp_path: Path, suffix: str, rate: str) -> None:
    timing = Timing(frame_rate=Fraction(rate))
    path = write_clip([smooth_frames(13)], tmp_path / f"a{suffix}", timing=timing)
    times, end = frame_times(path)
    exact = suffix == ".mp4"
    tick = Fraction(0) if exact else Fraction(1, 1000)
    for i, shown in enumerate([*times, end]):
        assert abs(shown - times[0] - i / timing.frame_rate) <= tick
    back = read_clip(path).timing
    assert back is not None
    assert back.frame_rate == timing.frame_rate
    assert back.times is None


UNEVEN = tuple(Fraction(n, 60) for n in (0, 2, 6, 12, 15, 30, 33, 42, 45, 60))


@pytest.mark.parametrize("suffix", [*VIDEOS, *ANIMATIONS])
def test_variable_frame_rate_keeps_every_time(tmp_path: Path, suffix: str) -> None:
    end = Fraction(5, 4)
    timing = Timing(frame_rate=len(UNEVEN) / end, times=UNEVEN)
    frames = smooth_frames(len(UNEVEN))
    path = write_clip([frames[:3], frames[3:]], tmp_path / f"a{suffix}", timing=timing)
    clip = read_clip(path)
    assert len(clip) == len(UNEVEN)
    assert clip.timing is not None
    assert clip.timing.times is not None
    tick = {".mkv": Fraction(1, 1000), ".webm": Fraction(1, 1000), ".webp": Fraction(1, 2000)}
    tick[".gif"] = Fraction(1, 200)
    allowed = tick.get(suffix, Fraction(0))
    for got, wanted in zip(clip.timing.times, UNEVEN, strict=True):
        assert abs(got - wanted) <= allowed
    assert abs(len(clip) / clip.timing.frame_rate - end) <= allowed
    if suffix != ".webp":  # ffmpeg reads no animated WebP.
        times, its_end = frame_times(path)
        assert [time - times[0] for time in times] == list(clip.timing.times)
        assert abs(its_end - times[0] - end) <= allowed


def test_fast_gif_plays_as_fast_as_viewers_allow(tmp_path: Path) -> None:
    timing = Timing(frame_rate=Fraction(120))
    path = write_clip([smooth_frames(10)], tmp_path / "a.gif", timing=timing)
    back = read_clip(path).timing
    assert back == Timing(frame_rate=Fraction(50))


def test_equal_frames_are_kept(tmp_path: Path) -> None:
    frames = np.repeat(smooth_frames(1), 6, axis=0)
    for suffix in (*VIDEOS, *ANIMATIONS):
        assert len(read_clip(write_clip([frames], tmp_path / f"a{suffix}"))) == 6


def test_without_timing_the_default_rate_holds(tmp_path: Path) -> None:
    back = read_clip(write_clip([smooth_frames(5)], tmp_path / "a.mp4")).timing
    assert back == Timing(frame_rate=DEFAULT_FRAME_RATE)


@pytest.mark.parametrize("suffix", [".mp4", ".webp"])
def test_the_same_frames_give_the_same_file(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 28, (24, 120, 200, 1), np.uint8)
    frames = smooth_frames(24, 200, 120) // 2 + noise
    contents = set()
    for number in range(4):
        # Memory that is used again holds something else each time.
        np.full(2_000_000, number, np.uint8).tolist()
        path = write_clip([frames], tmp_path / f"{number}{suffix}", timing=RATE_25)
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_mp4_can_be_streamed(tmp_path: Path) -> None:
    content = write_clip([smooth_frames(5)], tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


@pytest.fixture(scope="module", params=["aac", "libopus", "pcm_s16le"])
def heard_source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 frames with sound; the file is named for the sound's codec."""
    codec: str = request.param
    ending = {"libopus": "mkv", "pcm_s16le": "mov"}.get(codec, "mp4")
    name = f"{codec.removeprefix('lib')}.{ending}"
    folder = tmp_path_factory.mktemp("sound")
    return make_video(folder / name, "-c:a", codec, frames=60, sound=True)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_sound_is_kept_in_step(tmp_path: Path, suffix: str, heard_source: Path) -> None:
    source, name = heard_source, heard_source.stem
    clip = read_clip(source, start=13, frames=35)
    assert clip.sound is not None
    path = write_clip(
        clip.batches(8), tmp_path / f"a{suffix}", timing=clip.timing, sound=clip.sound
    )
    back = read_clip(path)
    assert (len(back), back.timing) == (35, clip.timing)
    heard = re.search(r"Audio: (\w+)", describe(path))
    assert heard is not None
    taken = {".mp4": {"aac"}, ".mov": {"aac", "pcm_s16le"}, ".webm": {"opus"}}
    if name in taken.get(suffix, {name}):
        assert heard[1] == name  # Copied.
    else:
        assert heard[1] == ("opus" if suffix == ".webm" else "aac")
    length = re.search(r"Duration: 00:00:([\d.]+)", describe(path))
    assert length is not None
    # Matroska counts the codec's lead-in, of 23 ms at most, into the duration.
    allowed = 0.03 if suffix in (".mkv", ".webm") else 0.011
    assert abs(float(length[1]) - 35 / 25) <= allowed
    ours, theirs = samples(path), samples(source)[round(13 / 25 * 8000) :]
    window = slice(4000, 8000)
    shifts = range(-240, 241, 8)
    fits = [float(np.dot(ours[4000 + k : 8000 + k], theirs[window])) for k in shifts]
    assert abs(shifts[int(np.argmax(fits))]) <= 160  # 20 ms.


@pytest.mark.parametrize("heard", [0.5, 3])
def test_sound_changes_no_duration(tmp_path: Path, heard: float) -> None:
    source = make_video(tmp_path / "source.mp4", "-c:a", "aac", frames=60, sound=True)
    sound = Sound(path=source, start=Fraction(0), duration=Fraction(heard))
    if heard > 1:
        sound = Sound(path=source, start=Fraction(0), duration=Fraction(1))
    for suffix in (".mp4", ".mkv", ".webm"):
        path = tmp_path / f"a{suffix}"
        write_clip([smooth_frames(25)], path, timing=RATE_25, sound=sound)
        times, end = frame_times(path)
        assert (len(times), end - times[0]) == (25, 1)


def test_no_sound_where_there_is_no_place_or_none(tmp_path: Path) -> None:
    silent = make_video(tmp_path / "silent.mp4")
    source = make_video(tmp_path / "source.mp4", "-c:a", "aac", sound=True)
    for path, name in ((silent, "a.mp4"), (source, "a.gif"), (source, "a.webp"), (source, "a")):
        sound = Sound(path=path, start=Fraction(0), duration=Fraction(1, 5))
        write_clip([smooth_frames(5)], tmp_path / name, timing=RATE_25, sound=sound)
        assert len(read_clip(tmp_path / name)) == 5


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".webp", ".jpg"])
def test_quality_tells(tmp_path: Path, suffix: str) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (1, 48, 64, 3), np.uint8)
    sizes = [
        write_clip([frames], tmp_path / f"{quality}{suffix}", quality=quality).stat().st_size
        for quality in (1, 50, 100)
    ]
    assert sizes == sorted(set(sizes))


def test_folder_of_frames(tmp_path: Path) -> None:
    frames = smooth_frames(12)
    for name in ("frames", "deep/er/frames", "dotted.name/"):
        folder = write_clip([frames[:5], frames[5:]], str(tmp_path / "x")[:-1] + name)
        names = sorted(path.name for path in folder.iterdir())
        assert names == [f"{i:06d}.png" for i in range(1, 13)]
        assert np.array_equal(all_frames(read_clip(folder)), frames)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg", ".webp", ".PNG"])
def test_single_image(tmp_path: Path, suffix: str) -> None:
    frame = smooth_frames(1)
    path = write_clip([frame], tmp_path / f"a{suffix}", timing=RATE_25)
    clip = read_clip(path)
    assert (len(clip), clip.timing) == (1, None)
    assert np.abs(clip.read(0, 1).astype(int) - frame).mean() < 3


@pytest.mark.parametrize("batches", [[2], [1, 1]])
def test_several_frames_are_no_image(tmp_path: Path, batches: list[int]) -> None:
    frames = (smooth_frames(count) for count in batches)
    with pytest.raises(InputError, match="give a folder"):
        write_clip(frames, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp", "a.png", "a"])
def test_no_frames(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="no frames"):
        write_clip([], tmp_path / name)
    assert not list(tmp_path.iterdir())


TWO = smooth_frames(2)
RESULT = np.stack([TWO, TWO[::-1]])
SHARES = torch.from_numpy(TWO).movedim(-1, 1) / 255
KINDS: dict[str, Any] = {
    "a list": list(map(Image.fromarray, TWO)),
    "result.frames": [list(map(Image.fromarray, TWO))],
    "result.frames, np": TWO[None].astype(np.float32) / 255,
    "result.frames, pt": SHARES[None],
    "uint8, channels first": SHARES.mul(255).byte().numpy(),
    "a frame as a tensor": SHARES[0],
    "frames as tensors": list(SHARES),
    "batches of tensors": [SHARES[:1], SHARES[1:]],
    "a clip": clip_of_frames(TWO),
    "a path": str(Path(__file__).parents[1] / "samples" / "teapot.png"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_what_a_pipeline_takes(tmp_path: Path, kind: str) -> None:
    clip = as_clip(KINDS[kind])
    for frames in (KINDS[kind], iter([KINDS[kind]])):
        write_clip(frames, tmp_path / "frames", overwrite=True)
        written = read_clip(tmp_path / "frames")
        np.testing.assert_array_equal(all_frames(written), all_frames(clip))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"frames": [list(map(Image.fromarray, one)) for one in RESULT]}, "there are 2 clips; give"),
    ({"frames": RESULT}, "there are 2 clips; give each in a call of its own"),
    ({"frames": torch.from_numpy(RESULT).movedim(-1, 2) / 255}, "there are 2 clips; give each"),
    ({"frames": None}, "frames are of type NoneType; give pictures or batches"),
    ({"frames": [None]}, "frames"),
    ({"timing": 24}, "timing is 24; give a Timing"),
    ({"sound": "file"}, "sound is 'file'; give the sound of a clip"),
    ({"tracks": "some"}, "tracks is 'some'; give default, all or none"),
    ({"colour": "bt709"}, "colour is 'bt709'; give the colour space of a clip"),
    ({"output": 5}, "output is 5; give the path"),
    ({"alpha": 5}, "alpha is 5; give batches of uint8"),
    ({"alpha": [5]}, "alpha is not of uint8 arrays"),
    ({"alpha": []}, "alpha end before frames"),
    ({"alpha": [np.zeros(TWO.shape[:3], np.uint8)] * 2}, "frames end before alpha"),
    ({"alpha": [np.zeros((1, *TWO.shape[1:3]), np.uint8)]}, "alpha has shape"),
    ({"alpha": [np.zeros((2, 8, 8), np.uint8)]}, r"alpha has shape \(2, 8, 8\) where the frames"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_cannot_be_written(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    given = {"frames": [TWO], "output": tmp_path / "new" / "a.webm"} | changes
    with pytest.raises(InputError, match=message) as refused:
        write_clip(given.pop("frames"), given.pop("output"), **given)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp", "a"])
def test_never_all_frames_in_memory(tmp_path: Path, name: str) -> None:
    alive: list[weakref.ref[Frames]] = []

    def batches() -> Iterator[Frames]:
        for i in range(12):
            batch = np.full((2, 48, 64, 3), i * 20, np.uint8)
            alive.append(weakref.ref(batch))
            yield batch
            del batch
            assert sum(ref() is not None for ref in alive) <= 2

    write_clip(batches(), tmp_path / name)
    assert len(read_clip(tmp_path / name)) == 24


def failing(error: BaseException) -> Iterator[Frames]:
    yield smooth_frames(3)
    raise error


@pytest.mark.parametrize("name", ["new/a.mp4", "new/a.gif", "new/a.webp", "new/a"])
@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt()])
def test_an_error_leaves_nothing(tmp_path: Path, name: str, error: BaseException) -> None:
    with pytest.raises(type(error)):
        write_clip(failing(error), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.mp4", "a"])
def test_what_was_there_stays_until_the_new_is_complete(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_clip([smooth_frames(3)], path)
    with pytest.raises(InputError, match=r"exist.*overwrite"):
        write_clip([smooth_frames(5)], path)
    with pytest.raises(ZeroDivisionError):
        write_clip(failing(ZeroDivisionError()), path, overwrite=True)
    assert len(read_clip(path)) == 3
    write_clip([smooth_frames(5)], path, overwrite=True)
    assert len(read_clip(path)) == 5
    assert list(tmp_path.iterdir()) == [path]


def test_output_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here first")
    (tmp_path / "film.mp4").mkdir()
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "thesis.pdf").write_text("dear")
    (tmp_path / "empty").mkdir()
    for name, message in {
        "a.xyz": "unknown suffix",
        "a.v2": "unknown suffix",
        "film.mp4": "is a folder",
        "file": "is a file",
        "file/a.mp4": "is not a folder",
        "holiday": "not replaced",
    }.items():
        for act in (
            check_output,
            lambda path, overwrite: write_clip([], path, overwrite=overwrite),
        ):
            with pytest.raises(InputError, match=message) as caught:
                act(tmp_path / name, True)
            assert "\n" not in str(caught.value)
    assert check_output(tmp_path / "empty") == tmp_path / "empty"
    assert check_output(tmp_path / "new" / "a.mp4") == tmp_path / "new" / "a.mp4"
    assert not (tmp_path / "new").exists()
    for quality in (0, 101):
        with pytest.raises(InputError, match="quality"):
            write_clip([smooth_frames(1)], tmp_path / "a.mp4", quality=quality)


def test_folder_without_permission(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    if os.access(tmp_path / "closed", os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(InputError, match="no permission"):
        check_output(tmp_path / "closed" / "a.mp4")


WRITE_NOISE = """
import resource, signal, sys, time
import numpy as np
from pnpvideo.clips.write import write_clip
def noise(pause):
    rng = np.random.default_rng(0)
    for _ in range(200):
        time.sleep(pause)
        yield rng.integers(0, 256, (2, 240, 320, 3), np.uint8)
        print("written", flush=True)
"""


@pytest.mark.parametrize("name", ["a.mp4", "a.webp", "a"])
def test_file_that_may_not_grow(tmp_path: Path, name: str) -> None:
    # A full disk behaves alike; this can be had without one.
    limit = 100_000
    script = (
        f"{WRITE_NOISE}resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "from pnpvideo.errors import RunError\n"
        f"try: write_clip(noise(0), {str(tmp_path / name)!r})\n"
        "except RunError as error: sys.exit(f'RunError {error}')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    message = done.stderr.strip()
    assert message.startswith("RunError"), message
    assert name in message
    assert "\n" not in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.mp4", "a"])
def test_ctrl_c_leaves_nothing(tmp_path: Path, name: str) -> None:
    script = f"{WRITE_NOISE}write_clip(noise(0.05), {str(tmp_path / name)!r})\n"
    run = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # A shell that runs the tests in the background lets them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert run.stdout is not None
    run.stdout.readline()
    time.sleep(0.2)
    os.killpg(run.pid, signal.SIGINT)  # As a terminal does: to all processes of the group.
    _, errors = run.communicate(timeout=30)
    assert errors.decode().strip().endswith("KeyboardInterrupt")
    assert not list(tmp_path.iterdir())


def test_frames_of_differing_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be uint8 of shape"):
        write_clip([smooth_frames(1), smooth_frames(1, 32, 32)], tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


def test_side_by_side() -> None:
    left, right = smooth_frames(5, 32, 24), smooth_frames(5, 64, 48)
    pairs = list(side_by_side([left[:1], left[1:]], [right[:3], right[3:]]))
    assert [pair.shape for pair in pairs] == [(3, 48, 128, 3), (2, 48, 128, 3)]
    whole = np.concatenate(pairs)
    assert whole.dtype == np.uint8
    assert np.array_equal(whole[:, :, 64:], right)
    assert np.abs(whole[:, :, :64].astype(int) - right).mean() < 4
    same = np.concatenate(list(side_by_side([right], [right])))
    assert np.array_equal(same[:, :, :64], right)
    for ours, theirs in ((left, right[:4]), (left[:4], right)):
        with pytest.raises(ValueError, match="different numbers"):
            list(side_by_side([ours], [theirs]))


def test_round_trip_of_an_image_with_pillow(tmp_path: Path) -> None:
    path = write_clip([smooth_frames(1)], tmp_path / "a.jpg", quality=95)
    with Image.open(path) as image:
        assert (image.format, image.size, image.mode) == ("JPEG", (64, 48), "RGB")
