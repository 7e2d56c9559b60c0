"""The tags that a video has for its players: its colours, and what is transparent."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorTrc
from clips import decode, describe, ffmpeg, smooth_frames
from numpy.typing import NDArray

from pnpvideo.clips.clip import Colour, Timing
from pnpvideo.clips.read import read_clip
from pnpvideo.clips.write import write_clip
from pnpvideo.errors import InputError

RATE_25 = Timing(frame_rate=Fraction(25))


def opacity(count: int, width: int, height: int) -> NDArray[np.uint8]:
    """A ramp that moves from frame to frame."""
    ramp = (np.arange(width) * 255 // width).astype(np.uint8)
    return np.stack(
        [np.broadcast_to(ramp + np.uint8(20 * i), (height, width)) for i in range(count)]
    )


@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov", ".mkv", ".webm", "alpha.mov"])
@pytest.mark.parametrize(
    ("colour", "told"),
    [
        (None, "tv, bt709"),
        (Colour(primaries="bt2020", transfer="smpte2084"), "tv, bt709/bt2020/smpte2084"),
        (Colour(primaries="bt470bg", transfer="gamma28"), "tv, bt709/bt470bg/bt470bg"),
        (Colour(primaries="smpte432", transfer="iec61966-2-1"), "bt709/smpte432/iec61966-2-1"),
        (Colour(primaries="bt2020", transfer="arib-std-b67"), "bt709/bt2020/arib-std-b67"),
    ],
)
def test_colours_are_told(tmp_path: Path, suffix: str, colour: Colour | None, told: str) -> None:
    alpha = [opacity(2, 64, 48)] if "alpha" in suffix else None
    path = tmp_path / f"a{suffix}"
    write_clip([smooth_frames(2)], path, timing=RATE_25, colour=colour, alpha=alpha)
    assert told in describe(path)
    # ProRes frames know but the usual ones.
    if alpha is None or colour is None or colour.transfer in ("smpte2084", "arib-std-b67"):
        assert read_clip(path, hdr="keep").colour == (colour or Colour())


def test_every_colour_that_can_be_read_can_be_written(tmp_path: Path) -> None:
    left_out = ("UNSPECIFIED", "EBU3213")  # H.264 does not know the second.
    names = [
        *(("primaries", kind.name) for kind in ColorPrimaries if kind.name not in left_out),
        *(("transfer", kind.name) for kind in ColorTrc if kind.name not in left_out),
    ]
    for what, name in names:
        colour = Colour(**{what: name.lower().replace("_", "-")})
        path = write_clip([smooth_frames(1)], tmp_path / f"{what}-{name}.mkv", colour=colour)
        assert read_clip(path, hdr="keep").colour == colour
    with pytest.raises(InputError, match="'purple' is not a colour name that videos use"):
        write_clip([smooth_frames(1)], tmp_path / "a.mp4", colour=Colour(primaries="purple"))


@pytest.mark.parametrize("size", [(64, 48), (65, 49), (3, 5)])
@pytest.mark.parametrize("suffix", [".webm", ".mov"])
def test_transparency(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    frames, alpha = smooth_frames(5, *size), opacity(5, *size)
    path = tmp_path / f"a{suffix}"
    write_clip([frames[:2], frames[2:]], path, timing=RATE_25, alpha=[alpha[:2], alpha[2:]])
    # FFmpeg's own VP9 decoder knows no alpha.
    decoder = ("-c:v", "libvpx-vp9") if suffix == ".webm" else ()
    exact = ("-vf", "scale=flags=accurate_rnd+full_chroma_int+full_chroma_inp", "-pix_fmt", "rgba")
    raw = ffmpeg(*decoder, "-i", path, *exact, "-f", "rawvideo", "-")
    got = np.frombuffer(raw, np.uint8).reshape(5, size[1], size[0], 4).astype(int)
    # Of VP9 at quality 80; 16 bits of ProRes 4444 lose nothing.
    assert np.abs(got[..., 3] - alpha).max() <= (16 if suffix == ".webm" else 1)
    assert np.abs(got[..., :3] - frames).mean() < (32 if min(size) < 8 else 4)
    clip = read_clip(path)
    assert clip.has_alpha
    assert np.abs(clip.read_alpha(0, 5).astype(int) - got[..., 3]).max() <= 1


def test_transparency_with_its_own_times(tmp_path: Path) -> None:
    timing = Timing(frame_rate=Fraction(3), times=(Fraction(0), Fraction(1, 5), Fraction(1, 2)))
    for suffix in (".webm", ".mov"):
        path = tmp_path / f"a{suffix}"
        write_clip([smooth_frames(3)], path, timing=timing, alpha=[opacity(3, 64, 48)])
        back = read_clip(path).timing
        assert back is not None
        assert back.times == timing.times


@pytest.mark.parametrize("size", [(17000, 2), (2, 17000)])
def test_what_no_codec_takes_is_told(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    frames = np.zeros((1, height, width, 3), np.uint8)
    with pytest.raises(InputError, match=f"a.mp4 cannot hold pictures of {width}x{height}") as told:
        write_clip([frames], tmp_path / "a.mp4")
    assert "\n" not in str(told.value)
    assert not list(tmp_path.iterdir())
    assert decode(write_clip([frames], tmp_path / "a.webm")).shape == frames.shape
