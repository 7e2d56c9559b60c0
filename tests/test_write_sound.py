"""A source's sound in a result: in step, whatever its offset, layout, codec and tracks."""

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import decode, describe, ffmpeg, make_video, samples, smooth_frames
from command import Cli
from numpy.typing import NDArray

from pnpvideo.clips.clip import Sound, Timing
from pnpvideo.clips.read import read_clip
from pnpvideo.clips.write import write_clip

CONTAINERS = [".mp4", ".mov", ".mkv", ".webm"]


def flash_and_beep(
    path: Path, *output: str, picture: float = 0, sound: float = 0, gap: str = "0", at: int = 1
) -> Path:
    """A video whose pictures and sound begin at different times, both cut from one clock.

    at: seconds by that clock, at which a frame is white and a tone begins. gap: where sound is
    missing, as an expression of ffmpeg's.
    """
    flash = f"color=black:s=64x48:r=25:d={at + 1},drawbox=c=white:t=fill:enable='eq(n,{25 * at})'"
    beep = f"aevalsrc='0.8*sin(2*PI*1000*t)*between(t,{at},{at}.1)':s=48000:d={at + 1}"
    ffmpeg(
        *("-copyts", "-f", "lavfi", "-i", f"{flash},trim=start={picture}"),
        *("-f", "lavfi", "-i", f"{beep},aselect='not({gap})',atrim=start={sound}"),
        *("-fps_mode", "passthrough", "-pix_fmt", "yuv420p", *output, path),
    )
    return path


def step(path: Path) -> tuple[float, float]:
    """Seconds from the first picture to the flash, and from the flash to the beep; 25 frames/s."""
    flash = int(np.argmax(decode(path).mean((1, 2, 3)))) / 25
    heard = np.abs(samples(path))
    return flash, int(np.argmax(heard > 0.2 * heard.max())) / 8000 - flash


def written(source: Path, path: Path, *, start: int = 0, tracks: str = "default") -> Path:
    clip = read_clip(source, start=start)
    write_clip(
        clip.batches(8),
        path,
        timing=clip.timing,
        sound=clip.sound,
        tracks=tracks,  # type: ignore[arg-type]
        overwrite=True,
    )
    return path


@pytest.mark.parametrize(
    ("name", "picture", "sound", "output"),
    [
        ("later.ts", 0, 0.48, ("-c:a", "aac")),
        ("earlier.ts", 0.48, 0, ("-c:a", "ac3")),
        ("later.mkv", 0, 0.48, ("-c:a", "libopus")),
        ("earlier.mkv", 0.48, 0, ("-c:a", "flac")),
        ("earlier.mov", 0.48, 0, ("-c:a", "pcm_s16le")),
        ("later.mp4", 0, 0.48, ("-c:a", "libmp3lame")),
        ("earlier.flv", 0.48, 0, ("-c:v", "flv1", "-c:a", "libmp3lame", "-ar", "44100")),
        ("later.mpg", 0, 0.48, ("-c:a", "mp2")),
        ("later.wmv", 0, 0.48, ("-c:v", "wmv2", "-c:a", "wmav2", "-ar", "44100")),
        ("same.webm", 0, 0, ("-c:v", "libvpx", "-c:a", "libvorbis")),
    ],
)
def test_offsets_survive(
    tmp_path: Path, name: str, picture: float, sound: float, output: tuple[str, ...]
) -> None:
    source = flash_and_beep(tmp_path / name, *output, picture=picture, sound=sound)
    for suffix in CONTAINERS:
        flash, late = step(written(source, tmp_path / f"result{suffix}"))
        assert flash == pytest.approx(1 - picture)
        assert abs(late) < 0.012, suffix


@pytest.mark.parametrize("start", [5, 20])
def test_offsets_survive_where_a_part_is_taken(tmp_path: Path, start: int) -> None:
    source = flash_and_beep(tmp_path / "a.ts", "-c:a", "aac", sound=0.48)
    for suffix in CONTAINERS:
        flash, late = step(written(source, tmp_path / f"result{suffix}", start=start))
        assert flash == pytest.approx(1 - start / 25)
        assert abs(late) < 0.012, suffix


@pytest.mark.parametrize("name", ["a.ts", "a.mkv", "a.mp4", "a.mpg"])
def test_sound_far_into_a_file(tmp_path: Path, name: str) -> None:
    source = flash_and_beep(tmp_path / name, "-g", "50", sound=0.3, at=9)
    for suffix in (".mp4", ".webm"):
        flash, late = step(written(source, tmp_path / f"result{suffix}", start=210))
        assert flash == pytest.approx(9 - 210 / 25)
        assert abs(late) < 0.012, suffix


@pytest.mark.parametrize("output", [("a.ts", "-c:a", "aac"), ("a.mkv", "-c:a", "pcm_s16le")])
def test_missing_sound_moves_nothing(tmp_path: Path, output: tuple[str, ...]) -> None:
    name, *codec = output
    source = flash_and_beep(tmp_path / name, *codec, gap="between(t,0.4,0.7)")
    for suffix in CONTAINERS:
        assert abs(step(written(source, tmp_path / f"result{suffix}"))[1]) < 0.012, suffix


def tones(path: Path, layout: str, *codec: str, rate: int = 48000) -> Path:
    """A second of sound, each channel with a tone of its own, low enough for an LFE channel's."""
    count = LAYOUTS[layout]
    waves = "|".join(f"0.2*sin(2*PI*{40 + 10 * i}*t)" for i in range(count))
    known = "" if layout.endswith("channels") else f":c={layout}"
    ffmpeg("-f", "lavfi", "-i", f"aevalsrc={waves}:s={rate}:d=1{known}", *codec, path)
    return path


LAYOUTS = {
    **{"mono": 1, "stereo": 2, "2.1": 3, "quad": 4, "4.0": 4, "5.0(side)": 5, "5.1": 6},
    **{"5.1(side)": 6, "6.1": 7, "7.1": 8, "22.2": 24, "ambisonic 1": 4, "11 channels": 11},
}


def pitches(path: Path, channels: int) -> list[int]:
    """The strongest tone of each channel in Hz, to 10; 0 where it is silent."""
    raw = ffmpeg("-i", path, "-map", "0:a:0", "-ar", "8000", "-f", "f32le", "-")
    heard: NDArray[np.float32] = np.frombuffer(raw, np.float32).reshape(-1, channels)[:8000]
    strength = np.abs(np.fft.rfft(heard, axis=0))
    found = np.argmax(strength, axis=0) * 8000 / len(heard)
    loud = strength.max(axis=0) > 0.05 * strength.max()
    return [
        round(hertz / 10) * 10 if there else 0 for hertz, there in zip(found, loud, strict=True)
    ]


@pytest.mark.parametrize(
    ("layout", "codec", "suffix", "heard", "order"),
    [
        # order: for each channel of the result, the source's; -1: silent.
        ("5.1(side)", ("-c:a", "ac3"), ".webm", "opus, 48000 Hz, 5.1", (0, 1, 2, 3, 4, 5)),
        ("5.1(side)", ("-c:a", "ac3"), ".mp4", "ac3 .*, 48000 Hz, 5.1(side)", (0, 1, 2, 3, 4, 5)),
        ("5.1(side)", ("-c:a", "dca", "-strict", "-2"), ".mp4", "aac .*5.1", (0, 1, 2, 3, 4, 5)),
        ("5.0(side)", ("-c:a", "flac"), ".webm", "opus, 48000 Hz, 5.1", (0, 1, 2, -1, 3, 4)),
        ("2.1", ("-c:a", "flac"), ".webm", "opus, 48000 Hz, 5.1", (0, 1, -1, 2, -1, -1)),
        ("quad", ("-c:a", "flac"), ".mp4", "aac .*5.0", (0, 1, -1, 2, 3)),
        ("4.0", ("-c:a", "pcm_s24le"), ".mp4", "aac .*4.0", (0, 1, 2, 3)),
        ("quad", ("-c:a", "flac"), ".webm", "opus, 48000 Hz, quad", (0, 1, 2, 3)),
        ("7.1", ("-c:a", "flac"), ".mov", "aac .*7.1", (0, 1, 2, 3, 4, 5, 6, 7)),
        ("7.1", ("-c:a", "flac"), ".mkv", "flac, 48000 Hz, 7.1", (0, 1, 2, 3, 4, 5, 6, 7)),
    ],
)
def test_layouts(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    layout: str,
    codec: tuple[str, ...],
    suffix: str,
    heard: str,
    order: tuple[int, ...],
) -> None:
    source = tones(tmp_path / "source.mkv", layout, *codec)
    path = with_sound(source, tmp_path / f"result{suffix}")
    assert re.search(f"Audio: {heard}".replace("(side)", r"\(side\)"), describe(path))
    assert pitches(path, len(order)) == [0 if i < 0 else 40 + 10 * i for i in order]
    assert not caplog.messages


@pytest.mark.parametrize(
    ("layout", "name", "codec", "suffix", "result"),
    [
        ("22.2", "a.mov", ("-c:a", "pcm_s16le"), ".mp4", "7.1"),
        ("22.2", "a.mov", ("-c:a", "pcm_s16le"), ".webm", "7.1"),
        ("6.1", "a.mkv", ("-c:a", "flac"), ".mp4", "7.1"),
        ("4.0", "a.mkv", ("-c:a", "flac"), ".webm", "7.1"),
        ("ambisonic 1", "a.mkv", ("-c:a", "libopus", "-mapping_family", "2"), ".mp4", "stereo"),
        ("11 channels", "a.mov", ("-c:a", "pcm_s16le"), ".webm", "stereo"),
    ],
)
def test_more_channels_than_there_are_places_for(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    layout: str,
    name: str,
    codec: tuple[str, ...],
    suffix: str,
    result: str,
) -> None:
    source = tones(tmp_path / name, layout, *codec)
    path = with_sound(source, tmp_path / f"result{suffix}")
    assert f", 48000 Hz, {result}" in describe(path)
    # Nothing that is in front is lost.
    assert pitches(path, LAYOUTS.get(result, 0))[0] != 0
    (told,) = caplog.messages
    assert "is mixed down from" in told
    assert told.split(" to ")[1].startswith(result)


# Of these MP4, for example, does not take MP3 below 16 kHz, and AAC none above 96 kHz.
RATES = {
    "a.mov": ("pcm_s16be", (8000, 11025, 22050, 96000, 192000)),
    "a.mp3": ("libmp3lame", (8000, 11025, 12000, 16000, 24000, 48000)),
    "a.m4a": ("aac", (8000, 12000, 64000, 88200)),
    "a.flac": ("flac", (8000, 11025, 176400, 192000)),
    "b.mov": ("alac", (16000, 192000)),
    "a.ac3": ("ac3", (32000, 44100)),
    "a.ogg": ("libvorbis", (11025, 32000, 96000)),
    "a.wav": ("pcm_mulaw", (8000, 11025)),
}


@pytest.mark.parametrize("name", RATES)
def test_sample_rates(tmp_path: Path, name: str) -> None:
    codec, rates = RATES[name]
    for rate, other in zip(rates, 2 * [".mov", ".webm", ".mkv"], strict=False):
        source = tones(tmp_path / name, "stereo", "-c:a", codec, rate=rate)
        for suffix in (".mp4", other):
            path = with_sound(source, tmp_path / f"{rate}{suffix}")
            assert pitches(path, 2) == [40, 50], (rate, suffix)


# Codecs whose first packets only prepare the decoder, and so end before the first picture, and two
# of whose packets several have the same time.
PREPARED = {
    "a.webm": ("libvorbis", 48000),
    "b.webm": ("libvorbis", 32000),
    "c.webm": ("libopus", 48000),
    "a.mkv": ("libvorbis", 44100),
    "b.mkv": ("libmp3lame", 44100),
    "c.mkv": ("aac", 44100),
    "a.wmv": ("wmav2", 44100),
    "d.mkv": ("truehd", 48000),
    "e.mkv": ("mlp", 96000),
}


@pytest.mark.parametrize("name", PREPARED)
@pytest.mark.parametrize("suffix", [".webm", ".mkv", ".mp4"])
def test_no_sound_is_shifted(tmp_path: Path, name: str, suffix: str) -> None:
    """By cross-correlation of noise with the source's own, for which 1 sample is 1/8 ms."""
    codec, rate = PREPARED[name]
    original = tmp_path / "a.wav"
    ffmpeg("-f", "lavfi", "-i", f"anoisesrc=d=1:c=brown:seed=1:r={rate}", original)
    source = tmp_path / name
    pictures = ("-f", "lavfi", "-i", "color=gray:s=64x48:r=25:d=1")
    ffmpeg(*pictures, "-i", original, "-c:a", codec, "-strict", "-2", source)
    wanted, heard = samples(original), samples(written(source, tmp_path / f"out{suffix}"))
    count = min(len(wanted), len(heard))
    assert count > 7500
    alike = np.correlate(heard[:count], wanted[:count], "full")
    assert abs(int(np.argmax(alike)) - (count - 1)) <= 16


def with_sound(source: Path, path: Path, tracks: str = "default") -> Path:
    """A second of pictures with a file's sound."""
    sound = Sound(path=source, start=Fraction(0), duration=Fraction(1))
    timing = Timing(frame_rate=Fraction(8))
    frames = [smooth_frames(8)]
    write_clip(frames, path, timing=timing, sound=sound, tracks=tracks)  # type: ignore[arg-type]
    assert len(read_clip(path)) == 8
    return path


def two_tracks(path: Path, *output: str) -> Path:
    """One at 500 Hz, in German, and one at 900 Hz, in English."""
    inputs = [("-f", "lavfi", "-i", f"sine={hertz}:r=48000:d=1") for hertz in (500, 900)]
    languages = ("-metadata:s:a:0", "language=ger", "-metadata:s:a:1", "language=eng")
    ffmpeg(*inputs[0], *inputs[1], "-map", "0", "-map", "1", *languages, *output, path)
    return path


def spoil(path: Path, number: int | None) -> Path:
    """Make the codec of one track, or of both, unknown, as spatial sound of new phones is."""
    head, *tracks = path.read_bytes().split(b"mp4a")
    assert len(tracks) == 2
    for i, track in enumerate(tracks):
        unknown = number in (None, i)
        head += b"apac" + track.replace(b"esds", b"dapa", 1) if unknown else b"mp4a" + track
    path.write_bytes(head)
    return path


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_a_track_that_cannot_be_decoded_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str
) -> None:
    source = spoil(two_tracks(tmp_path / "a.mp4", "-c:a", "aac"), 0)
    path = with_sound(source, tmp_path / f"result{suffix}")
    assert pitches(path, 1) == [900]
    assert describe(path).count("Audio:") == 1
    (told,) = caplog.messages
    assert told.endswith("cannot be decoded: track 2 is used")


def test_damaged_sound_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = two_tracks(tmp_path / "a.mkv", "-c:a:0", "ac3", "-c:a:1", "aac")
    content = source.read_bytes()
    source.write_bytes(content.replace(b"\x0b\x77", b"\x99\x99"))  # The mark of each AC-3 packet.
    path = with_sound(source, tmp_path / "result.mkv")
    assert pitches(path, 1) == [900]
    assert "track 1 (ac3)" in caplog.messages[0]


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("loss", ["unknown", "gone", "none"])
def test_no_sound_costs_no_picture(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, loss: str
) -> None:
    source = two_tracks(tmp_path / "a.mp4", "-c:a", "aac")
    if loss == "unknown":
        spoil(source, None)
    elif loss == "gone":
        source.unlink()
    else:
        source = make_video(tmp_path / "silent.mp4")
    path = with_sound(source, tmp_path / f"result{suffix}")
    assert "Audio:" not in describe(path)
    told = {"unknown": "the result has no sound", "gone": "left out: No such file", "none": None}
    assert [told[loss]] == [None] if not caplog.messages else told[loss] in caplog.messages[0]


def test_a_damaged_moment_moves_nothing(tmp_path: Path) -> None:
    source = flash_and_beep(tmp_path / "a.ts", "-c:a", "ac3")
    clip = read_clip(source)
    frames = list(clip.batches(8))
    content = bytearray(source.read_bytes())
    # Packets of 188 bytes, those of the sound named 0x101; they are of one size in AC-3.
    sound = [
        i for i in range(0, len(content), 188) if content[i + 1 : i + 3] in (b"\x01\x01", b"A\x01")
    ]
    for packet in sound[len(sound) // 8 : len(sound) // 3]:
        content[packet + 3 : packet + 188] = bytes(185)
    source.write_bytes(content)
    for suffix in CONTAINERS:
        path = tmp_path / f"result{suffix}"
        write_clip(frames, path, timing=clip.timing, sound=clip.sound)
        # The first whole AC-3 packet after the damage may be told to be the one before.
        assert abs(step(path)[1]) < 0.033, suffix


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_of_several_tracks_the_default_one(tmp_path: Path, suffix: str) -> None:
    flags = ("-disposition:a:0", "0", "-disposition:a:1", "default")
    source = two_tracks(tmp_path / "a.mkv", "-c:a", "libopus", *flags)
    path = with_sound(source, tmp_path / f"one{suffix}")
    assert pitches(path, 1) == [900]
    path = with_sound(source, tmp_path / f"all{suffix}", tracks="all")
    assert re.findall(r"\((\w+)\): Audio", describe(path)) == ["ger", "eng"]
    assert pitches(path, 1) == [500]
    assert "Audio" not in describe(with_sound(source, tmp_path / f"none{suffix}", tracks="none"))


def test_all_that_can_be_decoded(tmp_path: Path) -> None:
    source = spoil(two_tracks(tmp_path / "a.mp4", "-c:a", "aac"), 1)
    path = with_sound(source, tmp_path / "result.mp4", tracks="all")
    assert describe(path).count("Audio:") == 1
    assert pitches(path, 1) == [500]


def test_copied_bit_for_bit(tmp_path: Path) -> None:
    def packets(path: Path) -> list[str]:
        text = ffmpeg("-i", path, "-map", "0:a", "-c", "copy", "-f", "framemd5", "-").decode()
        return [line.split(",")[5] for line in text.splitlines() if not line.startswith("#")]

    for codec, suffix in (("aac", ".mp4"), ("aac", ".mov"), ("ac3", ".mkv"), ("libopus", ".webm")):
        source = make_video(tmp_path / "source.mkv", "-c:a", codec, frames=50, sound=True)
        path = written(source, tmp_path / f"result{suffix}")
        theirs, ours = packets(source), packets(path)
        assert len(theirs) - len(ours) <= (1 if suffix in (".mkv", ".webm") else 0)
        assert ours == theirs[len(theirs) - len(ours) :]


def test_the_command_line(tmp_path: Path, cli: Cli) -> None:
    source = make_video(tmp_path / "a.mkv", "-c:a", "aac", frames=2, size="32x32", sound=True)
    sounds = two_tracks(tmp_path / "sounds.mkv", "-c:a", "aac")
    ffmpeg("-i", source, "-i", sounds, "-map", "0:v", "-map", "1", "-c", "copy", tmp_path / "b.mkv")
    for tracks, count in (("all", 2), ("none", 0)):
        code, _, told = cli(
            *("b.mkv", "--prompt", "x", "--steps", "1", "--size", "32x32"),
            *("-o", f"{tracks}.mp4", "--sound", tracks),
        )
        assert code == 0, told
        assert describe(tmp_path / f"{tracks}.mp4").count("Audio:") == count
