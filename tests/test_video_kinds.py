"""Videos as cameras, phones, editors and messengers make them, each read to the right pixel."""

import logging
import math
from pathlib import Path

import numpy as np
import pytest
from clips import all_frames, crop_container, decode, ffmpeg, make_video, samples
from numpy.typing import NDArray
from PIL import Image

from pnpvideo.clips.clip import Colour
from pnpvideo.clips.read import read_clip
from pnpvideo.clips.write import write_clip
from pnpvideo.errors import InputError

H264 = ("-c:v", "libx264", "-g", "6", "-bf", "2")


def raw_video(folder: Path, frames: NDArray[np.generic], form: str, rate: int = 25) -> list[str]:
    """ffmpeg's arguments that take frames (count, height, width, channels) as they are."""
    path = folder / "frames.raw"
    path.write_bytes(np.ascontiguousarray(frames).tobytes())
    _, height, width, _ = frames.shape
    size = f"{width}x{height}"
    return [*("-f", "rawvideo", "-pix_fmt", form, "-s", size, "-r", str(rate)), "-i", str(path)]


# Crop, applied once: left, right, top, bottom.


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
@pytest.mark.parametrize("crop", [(8, 10, 4, 6), (1, 0, 3, 2), (0, 0, 8, 8)])
def test_a_containers_crop_is_applied_once(
    tmp_path: Path, suffix: str, crop: tuple[int, int, int, int]
) -> None:
    form = "yuv444p" if 1 in crop else "yuv420p"  # Elsewhere, colours lie on each second pixel.
    whole = make_video(tmp_path / "whole.mp4", *H264, "-pix_fmt", form, frames=8)
    path = crop_container(whole, tmp_path / f"cropped{suffix}", crop)
    left, right, top, bottom = crop
    expected = decode(whole)[:, top : 48 - bottom, left : 64 - right]
    clip = read_clip(path)
    assert (clip.height, clip.width) == expected.shape[1:3]
    assert np.array_equal(all_frames(clip), expected)


def test_crop_comes_before_rotation_and_square_pixels(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "whole.mp4", *H264, frames=3)
    cropped = crop_container(whole, tmp_path / "cropped.mkv", (8, 10, 4, 6))
    turned = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", "90", "-i", cropped, "-c", "copy", turned)
    expected = np.rot90(decode(whole)[:, 4:42, 8:54], axes=(1, 2))
    frames = all_frames(read_clip(turned))
    assert frames.shape == expected.shape
    assert np.abs(frames.astype(int) - expected).mean() < 3


# High dynamic range.

LIGHTS = {  # cd/m2 of BT.709's red, green and blue.
    "black": (0.0, 0.0, 0.0),
    "white": (203.0, 203.0, 203.0),
    "grey": (36.0, 36.0, 36.0),
    "skin": (95.0, 52.0, 36.0),
    "red": (113.0, 6.8, 2.0),
    "sun": (1000.0, 1000.0, 1000.0),
    "sky": (90.0, 180.0, 420.0),
}


def pq(light: float) -> float:
    """SMPTE ST 2084, as it is printed there: cd/m2 to 0 to 1."""
    power = (light / 10000) ** 0.1593017578125
    return float(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def pq_light(code: float) -> float:
    root = code ** (1 / 78.84375)
    inner = max(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)
    return float(10000 * inner ** (1 / 0.1593017578125))


def to_bt2020(light: tuple[float, ...]) -> list[float]:
    """BT.2087, table 2."""
    rows = ((0.6274, 0.3293, 0.0433), (0.0691, 0.9195, 0.0114), (0.0164, 0.0880, 0.8956))
    return [sum(a * b for a, b in zip(row, light, strict=True)) for row in rows]


def hlg_signal(light: list[float]) -> list[float]:
    """BT.2100, table 5: light of a display of 1000 cd/m2 to the signal."""
    luma = 0.2627 * light[0] + 0.678 * light[1] + 0.0593 * light[2]
    if luma == 0:
        return [0.0, 0.0, 0.0]
    scene = [part / 1000 * (luma / 1000) ** (1 / 1.2 - 1) for part in light]
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return [
        math.sqrt(3 * part) if part <= 1 / 12 else a * math.log(12 * part - b) + c for part in scene
    ]


def tone_mapped(light: tuple[float, ...], peak: float) -> list[int]:
    """Return a light as in BT.709: BT.2390, 5.4.1, of the strongest part, white at 203."""
    wide = to_bt2020(light)
    strongest = max(wide)
    low, top = pq(203) / pq(peak), pq(peak)
    knee, given = 1.5 * low - 0.5, min(pq(strongest) / top, 1)
    if given >= knee and knee < 1:
        t = (given - knee) / (1 - knee)
        given = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee)
        given += (-2 * t**3 + 3 * t**2) * low
    scale = pq_light(given * top) / strongest if strongest else 0
    values = [min(max(part * scale / 203, 0), 1) for part in light]
    return [round(255 * value ** (1 / 2.4)) for value in values]


def hdr_video(path: Path, transfer: str, *coding: str) -> Path:
    """A patch of 16x16 for each of LIGHTS."""
    signals = []
    for light in LIGHTS.values():
        wide = to_bt2020(light)
        signals.append(hlg_signal(wide) if transfer == "arib-std-b67" else list(map(pq, wide)))
    row = np.repeat(np.rint(np.array(signals) * 65535).astype(np.uint16), 16, axis=0)
    frames = np.broadcast_to(row, (2, 16, *row.shape))
    matrix = "gbr" if "ffv1" in coding else "bt2020nc"
    tags = f"setparams=color_primaries=bt2020:color_trc={transfer}:colorspace={matrix}"
    scale = "scale=out_color_matrix=bt2020:flags=accurate_rnd+full_chroma_int+full_chroma_inp"
    form = "gbrp12le" if "ffv1" in coding else "yuv420p10le"
    source = raw_video(path.parent, frames, "rgb48le")
    ffmpeg(*source, "-vf", f"{scale},format={form},{tags}", *coding, path)
    return path


X265 = ("-c:v", "libx265", "-x265-params")
HDR = {
    "pq.mkv": ("smpte2084", 1000, ("-c:v", "ffv1")),
    "hlg.mkv": ("arib-std-b67", 1000, ("-c:v", "ffv1")),
    "phone.mp4": ("arib-std-b67", 1000, (*X265, "log-level=error:lossless=1")),
    "camera.mov": ("smpte2084", 1000, (*X265, "log-level=error:lossless=1")),
    "peak.mp4": ("smpte2084", 600, (*X265, "log-level=error:lossless=1:hdr10=1:max-cll=600,100")),
    "display.mp4": (
        "smpte2084",
        1000,
        (
            *X265,
            "log-level=error:lossless=1:hdr10=1:master-display="
            "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(40000000,50)",
        ),
    ),
    "web.webm": ("smpte2084", 1000, ("-c:v", "libvpx-vp9", "-lossless", "1")),
}


@pytest.mark.parametrize("name", HDR)
def test_high_dynamic_range_becomes_bt709(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    transfer, peak, coding = HDR[name]
    path = hdr_video(tmp_path / name, transfer, *coding)
    with caplog.at_level(logging.INFO, "pnpvideo"):
        clip = read_clip(path)
    assert [record.getMessage() for record in caplog.records] == [
        f"{path} has a high dynamic range ({transfer}): tone-mapped to BT.709"
    ]
    assert clip.colour == Colour(primaries="bt709", transfer="bt709")
    found = clip.read(0, 1)[0, 8, 8::16].astype(int)
    expected = np.array([tone_mapped(light, peak) for light in LIGHTS.values()])
    # Ten bits of brightness and colour are not as exact as twelve of red, green and blue.
    assert np.abs(found - expected).max() <= (2 if name.endswith(".mkv") else 6), found
    assert found[1].min() > 228  # White, not the grey of 146 that its signal looks like.
    kept = read_clip(path, hdr="keep")
    assert kept.colour == Colour(primaries="bt2020", transfer=transfer)
    assert np.array_equal(all_frames(kept), decode(path))


def test_what_of_high_dynamic_range_is_told(tmp_path: Path) -> None:
    for value in ("yes", "sdr", 1):
        with pytest.raises(InputError, match=r"hdr is .*; give map or keep"):
            read_clip(tmp_path, hdr=value)


# Files that do not tell their matrix.


@pytest.mark.parametrize(
    ("size", "suffix", "matrix"),
    [
        ("1280x720", ".mp4", "bt709"),
        ("1920x1080", ".mkv", "bt709"),
        ("720x1280", ".avi", "bt709"),
        ("854x480", ".mp4", "bt601"),
        ("720x576", ".mkv", "bt601"),
    ],
)
def test_an_untold_matrix_is_guessed_by_the_lines(
    tmp_path: Path, size: str, suffix: str, matrix: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"untagged{suffix}"
    colour = f"color=#c83c1e:s={size}:r=25,format=gbrp"
    scale = f"scale=out_color_matrix={matrix}:out_range=tv:flags=accurate_rnd,format=yuv444p"
    untold = "setparams=colorspace=unknown:color_primaries=unknown:color_trc=unknown:range=unknown"
    coding = ("-frames:v", "1", "-c:v", "ffv1" if suffix != ".mp4" else "libx264", "-qp", "0")
    ffmpeg("-f", "lavfi", "-i", colour, "-vf", f"{scale},{untold}", *coding, path)
    with caplog.at_level(logging.DEBUG, "pnpvideo"):
        frame = read_clip(path).read(0, 1)
    assert np.abs(frame.astype(int) - (200, 60, 30)).max() <= 2, frame[0, 0, 0]
    assert f"{path} does not state its colour matrix: assuming {matrix}" in caplog.messages


# Transparency.

ALPHA = {
    "vp9.webm": (("-c:v", "libvpx-vp9", "-lossless", "1"), "yuva420p"),
    "vp8.webm": (("-c:v", "libvpx", "-auto-alt-ref", "0", "-crf", "4", "-b:v", "2M"), "yuva420p"),
    "prores.mov": (("-c:v", "prores_ks", "-profile:v", "4444"), "yuva444p10le"),
    "animation.mov": (("-c:v", "qtrle"), "argb"),
    "png.mov": (("-c:v", "png"), "rgba"),
    "ffv1.mkv": (("-c:v", "ffv1"), "bgra"),
}


@pytest.mark.parametrize("name", ALPHA)
def test_transparent_videos_lie_on_the_background(tmp_path: Path, name: str) -> None:
    coding, form = ALPHA[name]
    frames = np.zeros((6, 48, 64, 4), np.uint8)
    frames[..., :3] = (200, 60, 30)
    frames[..., 3] = np.arange(64) // 16 * 85
    frames[:, 24:, :, :3] = (30, 90, 180)
    frames[3:, :, :, 3] = 255 - frames[3:, :, :, 3]
    source = raw_video(tmp_path, frames, "rgba")
    scale = f"scale=out_color_matrix=bt601:flags=accurate_rnd,format={form}"
    ffmpeg(*source, "-vf", scale, *coding, path := tmp_path / name)
    opacity = frames[..., 3:] / 255
    for background in ((255, 255, 255), (0, 128, 255)):
        clip = read_clip(path, background=background)
        assert clip.has_alpha
        expected = frames[..., :3] * opacity + np.array(background) * (1 - opacity)
        inner = np.s_[:, 4:20, 4:12]  # Away from edges, where colours of pixels are shared.
        for part in (inner, np.s_[:, 4:20, 20:28], np.s_[:, 28:44, 36:44], np.s_[:, 28:44, 52:60]):
            assert np.abs(all_frames(clip)[part] - expected[part]).max() < 7
        assert np.abs(clip.read_alpha(2, 5).astype(int) - frames[2:5, ..., 3]).max() <= 6
        assert np.array_equal(clip.read_alpha(4, 6)[1], clip.read_alpha(5, 6)[0])
        clip.close()


def test_a_video_that_could_be_transparent_and_is_not(tmp_path: Path) -> None:
    clip = read_clip(make_video(tmp_path / "opaque.webm", "-c:v", "libvpx-vp9"))
    assert not clip.has_alpha
    assert clip.read_alpha(0, 2).min() == 255


# Contents and names.


@pytest.mark.parametrize(
    ("suffix", "container", "coding"),
    [
        (".gif", "mp4", H264),
        (".jpg", "mov", H264),
        (".png", "webm", ("-c:v", "libvpx")),
        (".webp", "matroska", H264),
        (".mp4", "mpegts", H264),
        (".txt", "avi", ("-c:v", "mpeg4")),
    ],
)
def test_the_contents_say_what_a_file_is(
    tmp_path: Path, suffix: str, container: str, coding: tuple[str, ...]
) -> None:
    path = make_video(tmp_path / f"named{suffix}", *coding, "-f", container)
    right = tmp_path / "right.mkv"
    right.write_bytes(path.read_bytes())
    assert np.array_equal(all_frames(read_clip(path)), decode(right))


def test_a_picture_with_a_videos_name(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), (1, 2, 3)).save(tmp_path / "a.mp4", "PNG")
    assert read_clip(tmp_path / "a.mp4").read(0, 1)[0, 0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("name", ["camera.mjpeg", "camera.mjpg", "camera.jpg"])
def test_a_raw_motion_jpeg_has_all_its_frames(tmp_path: Path, name: str) -> None:
    made = make_video(tmp_path / "made.mjpeg", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", frames=12)
    expected = decode(made)
    path = made.rename(tmp_path / name)
    clip = read_clip(path)
    assert (len(clip), clip.timing.frame_rate if clip.timing else 0) == (12, 25)
    assert np.array_equal(all_frames(clip), expected)


def test_a_jpeg_with_something_behind_it_stays_a_picture(tmp_path: Path) -> None:
    picture, path = tmp_path / "picture.jpg", tmp_path / "phone.jpg"
    Image.radial_gradient("L").convert("RGB").save(picture)
    small = tmp_path / "small.jpg"
    Image.new("RGB", (16, 16)).save(small)
    movie = make_video(tmp_path / "movie.mp4", *H264)
    for behind in (b"trailer" * 50, small.read_bytes(), movie.read_bytes()):
        path.write_bytes(picture.read_bytes() + behind)
        clip = read_clip(path)
        assert (len(clip), clip.timing) == (1, None)
        assert np.array_equal(clip.read(0, 1)[0], np.asarray(Image.open(picture)))


# Interlaced footage.

INTERLACED = {
    "camera.mts": ("-c:v", "libx264", "-x264-params", "tff=1", "-g", "4", "-bf", "2"),
    "tape.mpg": ("-c:v", "mpeg2video", "-flags", "+ilme+ildct", "-b:v", "4M"),
    "edit.mov": ("-c:v", "prores_ks", "-pix_fmt", "yuv422p10le", "-flags", "+ildct"),
    "phone.mp4": ("-c:v", "libx264", "-x264-params", "tff=1", "-g", "4", "-bf", "2"),
}


@pytest.mark.parametrize("name", INTERLACED)
def test_interlaced_footage_is_deinterlaced(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = ("-f", "lavfi", "-i", "testsrc=s=64x48:r=50:d=1,scroll=h=0.05,format=yuv420p")
    whole = decode_lavfi(source[-1])
    path = tmp_path / name
    fields = "interlace=scan=tff:lowpass=0,setfield=tff"
    ffmpeg(*source, "-vf", fields, "-frames:v", "12", *INTERLACED[name], path)
    with caplog.at_level(logging.INFO, "pnpvideo"):
        clip = read_clip(path)
    assert f"{path} is interlaced: its frames are deinterlaced" in caplog.messages
    frames = all_frames(clip)
    assert clip.timing is not None
    assert (len(frames), clip.timing.frame_rate) == (12, 25)
    # Versions of the filter differ in the first frame, which has none before it, and at edges.
    expected = decode(path, "-vf", "bwdif=mode=send_frame")
    assert np.array_equal(frames[1:, 4:44], expected[1:, 4:44])
    first, second = (whole[begin:24:2].astype(int) for begin in (0, 1))  # As the flags say.
    truth = min(first, second, key=lambda one: float(np.abs(frames - one).mean()))
    assert np.abs(frames - truth).mean() < 0.7 * np.abs(decode(path) - truth).mean()
    for start, stride in ((1, 1), (5, 1), (4, 3)):  # Each has its neighbours, wherever it begins.
        some = read_clip(path, start=start, stride=stride)
        assert np.array_equal(all_frames(some, 3), frames[start::stride])
        assert np.array_equal(some.read(1, 2), frames[start::stride][1:2])


def decode_lavfi(graph: str) -> NDArray[np.uint8]:
    raw = ffmpeg("-f", "lavfi", "-i", graph, "-pix_fmt", "rgb24", "-f", "rawvideo", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, 48, 64, 3)


def test_progressive_footage_is_left_alone(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mts", *H264)
    assert np.array_equal(all_frames(read_clip(path)), decode(path))


# Transport streams, joined from parts.

PARTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "the clock starts anew": (H264, H264, H264),
    "the clock jumps on": (H264, (*H264, "-output_ts_offset", "100")),
    "the clock jumps back": ((*H264, "-output_ts_offset", "100"), H264),
    "MPEG-2": (("-c:v", "mpeg2video", "-bf", "2"),) * 2,
    "HEVC": (("-c:v", "libx265", "-x265-params", "log-level=error"),) * 2,
}


@pytest.mark.parametrize("kind", PARTS)
@pytest.mark.parametrize("sound", [False, True])
def test_joined_transport_streams_are_read_to_their_end(
    tmp_path: Path, kind: str, sound: bool
) -> None:
    parts = [
        make_video(tmp_path / f"{i}.ts", *coding, "-c:a", "aac", frames=10 + i, sound=sound)
        for i, coding in enumerate(PARTS[kind])
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    clip = read_clip(path)
    assert clip.timing is not None
    assert (clip.timing.frame_rate, clip.timing.times) == (25, None)
    assert np.array_equal(all_frames(clip), np.concatenate(list(map(decode, parts))))


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize("kind", ["the clock starts anew", "the clock jumps on"])
def test_the_sound_of_joined_transport_streams_stays_in_step(
    tmp_path: Path, kind: str, suffix: str
) -> None:
    parts = [
        make_video(tmp_path / f"{i}.ts", *coding, "-c:a", "aac", frames=25, sound=True)
        for i, coding in enumerate(PARTS[kind])
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    clip = read_clip(path)
    written = write_clip(
        clip.batches(8), tmp_path / f"out{suffix}", timing=clip.timing, sound=clip.sound
    )
    heard = samples(written)
    assert abs(len(heard) / 8000 - len(parts)) < 0.04
    for second in range(len(parts)):
        for begin in (0.1, 0.5, 0.85):  # The pitch is 300 Hz at first and rises by 800 a second.
            at = round((second + begin) * 8000)
            window = heard[at : at + 800] * np.hanning(800)
            pitch = 10 * int(np.abs(np.fft.rfft(window)).argmax())
            assert abs(pitch - (300 + 800 * (begin + 0.05))) <= 25  # 0.03 s.


def test_parts_of_another_size_are_brought_to_that_of_the_first(tmp_path: Path) -> None:
    first = make_video(tmp_path / "1.ts", *H264, frames=5)
    second = make_video(tmp_path / "2.ts", *H264, frames=5, size="32x24")
    path = tmp_path / "joined.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    expected = [decode(first), decode(second, "-vf", "scale=64:48")]
    assert np.array_equal(all_frames(read_clip(path)), np.concatenate(expected))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of one video track each: a short one, a longer one and a picture."""
    folder, codec = tmp_path_factory.mktemp("parts"), ("-c:v", "mpeg2video")
    still = ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p")
    return {
        "short": make_video(folder / "short.mkv", *codec, frames=5),
        "long": make_video(folder / "long.mkv", *codec, frames=30, size="32x24"),
        "still": make_video(folder / "still.mkv", *still, frames=1),
    }


BOTH = ("-map", "0", "-map", "1", "-c", "copy")
SECOND_IS_DEFAULT = ("-disposition:0", "0", "-disposition:1", "default")
BOTH_ARE_DEFAULT = ("-disposition:0", "default", "-disposition:1", "default")
TRACKS: dict[str, tuple[str, tuple[str, ...], int]] = {
    # The first of two tracks, ffmpeg's options for both, and the number of the one to read.
    "plain.mkv": ("short", (), 1),
    "plain.mp4": ("short", (), 1),
    "plain.mov": ("short", (), 1),
    "plain.ts": ("short", (), 1),
    "plain.avi": ("short", (), 1),
    "default.mkv": ("short", SECOND_IS_DEFAULT, 2),
    "default.mp4": ("short", SECOND_IS_DEFAULT, 2),
    "both are default.mkv": ("short", BOTH_ARE_DEFAULT, 1),
    "thumbnail.mkv": ("still", SECOND_IS_DEFAULT, 2),
    "thumbnail, both are default.mkv": ("still", BOTH_ARE_DEFAULT, 2),
    "thumbnail, none is default.mkv": ("still", ("-disposition:v", "0"), 2),
    "thumbnail.mp4": ("still", (), 2),
    "thumbnail.avi": ("still", (), 2),
}


@pytest.mark.parametrize("name", TRACKS)
def test_of_several_tracks_the_main_one_is_read(
    tmp_path: Path, parts: dict[str, Path], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    part, how, main = TRACKS[name]
    path, files = tmp_path / name, [parts[part], parts["long"]]
    ffmpeg("-i", files[0], "-i", files[1], *BOTH, *how, path)
    with caplog.at_level(logging.INFO, "pnpvideo"):
        clip = read_clip(path)
        frames = all_frames(clip)
    assert np.array_equal(frames, decode(files[main - 1]))
    which = "the first" if main == 1 else "number 2"
    assert caplog.messages == [f"{path} has 2 video streams: reading {which}"]
    last = read_clip(path, start=len(clip) - 1)
    assert np.array_equal(last.read(0, 1), frames[-1:])


def test_a_cover_is_no_track(
    tmp_path: Path, parts: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.mp4"
    cover = ("-disposition:0", "attached_pic")
    ffmpeg("-i", parts["still"], "-i", parts["long"], *BOTH, *cover, path)
    with caplog.at_level(logging.INFO, "pnpvideo"):
        assert np.array_equal(all_frames(read_clip(path)), decode(parts["long"]))
    assert caplog.messages == []


def test_a_single_picture_in_a_video_is_read(parts: dict[str, Path]) -> None:
    assert np.array_equal(all_frames(read_clip(parts["still"])), decode(parts["still"]))


def test_a_hole_in_a_transport_stream_is_damage(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "whole.ts", *H264, frames=40)
    content = whole.read_bytes()
    path = tmp_path / "hole.ts"
    middle = len(content) // 188 // 2 * 188
    path.write_bytes(content[:middle] + content[middle + 5 * 188 :])
    with pytest.raises(InputError, match="is cut off or damaged"):
        read_clip(path)
    clip = read_clip(path, allow_truncated=True)
    assert 5 < len(clip) < 40
    assert np.array_equal(all_frames(clip), decode(whole)[: len(clip)])


def test_no_reader_prints(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = make_video(tmp_path / "whole.mp4", *H264, frames=20)
    cropped = crop_container(whole, tmp_path / "cropped.mkv", (8, 8, 4, 4))
    edited, stream, cut = (tmp_path / name for name in ("edited.mp4", "a.obu", "cut.mkv"))
    ffmpeg("-ss", "0.3", "-i", whole, "-c", "copy", edited)
    make_video(stream, "-c:v", "libsvtav1")
    cut.write_bytes(cropped.read_bytes()[:-300])
    capfd.readouterr()
    for path in (whole, cropped, edited, stream, cut):
        assert len(all_frames(read_clip(path, allow_truncated=True)))
    assert capfd.readouterr() == ("", "")
