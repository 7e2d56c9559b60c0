"""Damaged files, as `tools.fuzz_media` found them: they are read, or refused in one line."""

import gc
import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pillow_heif
import pytest
from clips import all_frames, make_video
from PIL import Image

from pnpvideo.clips.read import read_clip
from pnpvideo.clips.write import write_clip
from pnpvideo.errors import InputError
from pnpvideo.files.read_text import parse_yaml
from tools.fuzz_media.__main__ import make_case, make_input
from tools.fuzz_media.inputs import READERS, lay_out
from tools.fuzz_media.pictures import picture_seeds
from tools.fuzz_media.read_one import Case, read_one


@pytest.mark.parametrize("end", [b"00:00\x1000.400", b"00:00.00000.400", b"00:00:00.4\x7f\xff0"])
def test_a_matroskas_broken_duration(tmp_path: Path, end: bytes) -> None:
    path = make_video(tmp_path / "a.mkv", "-c:v", "ffv1")
    content = path.read_bytes()
    assert content.count(b"00:00:00.400") == 1
    path.write_bytes(content.replace(b"00:00:00.400", end.ljust(12, b"0")[:12]))
    assert len(all_frames(read_clip(path))) == 10


def test_a_frame_ten_thousand_years_late(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.ivf", "-c:v", "libvpx")
    content = bytearray(path.read_bytes())
    at, last = 32, 0
    while at < len(content):
        last, at = at, at + 12 + int.from_bytes(content[at : at + 4], "little")
    content[last + 4 : last + 12] = struct.pack("<Q", 2**43)
    path.write_bytes(content)
    clip = read_clip(path, allow_truncated=True)
    assert clip.timing is not None
    assert (len(clip), clip.timing.times, clip.timing.frame_rate) == (10, None, 25)
    written = write_clip(clip.batches(4), tmp_path / "a.mp4", timing=clip.timing)
    assert len(read_clip(written)) == 10


def test_an_icon_with_a_vast_bitmap(tmp_path: Path) -> None:
    path = tmp_path / "a.ico"
    Image.new("RGBA", (16, 16)).save(path, sizes=[(16, 16)], bitmap_format="bmp")
    content = bytearray(path.read_bytes())
    assert content[22:26] == struct.pack("<I", 40)
    content[26:34] = struct.pack("<2i", 2**31 - 1, 2**31 - 2)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.ico has \d+ pixels, and the limit is 250000000"):
        read_clip(path)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg"])
def test_nothing_is_printed_of_a_damaged_tiff(
    tmp_path: Path, compression: str, capfd: pytest.CaptureFixture[str]
) -> None:
    picture = Image.effect_noise((64, 48), 90).convert("RGB")
    picture.save(tmp_path / "a.tif", compression=compression)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[8:400] = bytes(392)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.tif is cut off or damaged"):
        all_frames(read_clip(tmp_path / "a.tif"))
    assert capfd.readouterr() == ("", "")


def test_nothing_is_printed_of_a_picture_read_as_a_video(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Image.effect_noise((64, 48), 90).convert("RGB").save(tmp_path / "a.avif")
    content = (tmp_path / "a.avif").read_bytes()
    (tmp_path / "a.avif").write_bytes(content.replace(b"pict", b"tict"))
    assert len(all_frames(read_clip(tmp_path / "a.avif"))) == 1
    assert capfd.readouterr() == ("", "")


def test_a_frame_of_another_size_than_its_header_tells(tmp_path: Path) -> None:
    pillow_heif.register_heif_opener()
    for name in ("0.heic", "1.heic"):
        Image.effect_noise((48, 32), 90).convert("RGB").save(tmp_path / name)
    content = bytearray((tmp_path / "1.heic").read_bytes())
    content[content.index(b"clap") + 30] ^= 1  # A part of the crop.
    (tmp_path / "1.heic").write_bytes(content)
    clip = read_clip(tmp_path)
    with pytest.raises(InputError, match=r"1\.heic is damaged: it holds 48x64 pixels"):
        all_frames(clip)


def test_the_tool_tells_each_outcome(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.fuzz_media", "--kind", "pictures"]
    command += ["--only", "animation.", "--count", "60", "--keep", str(tmp_path / "kept")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "60 files of 10 kinds, seed 0: " in done.stdout
    assert " read" in done.stdout
    assert " refused" in done.stdout
    assert not (tmp_path / "kept").exists()


def test_a_hang_is_stopped_and_kept(tmp_path: Path) -> None:
    # So short a limit that every file is too slow.
    command = [sys.executable, "-m", "tools.fuzz_media", "--kind", "pictures"]
    command += ["--only", "own.gif", "--count", "1", "--keep", str(tmp_path / "kept")]
    command += ["--seconds", "1e-4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert "own.gif is undamaged, but gave: " in done.stderr
    assert "hang" in done.stderr


def test_damage_is_the_same_each_time(tmp_path: Path) -> None:
    seeds = dict(picture_seeds())
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    made = [make_case(seeds, 7, 3, tmp_path / folder) for folder in ("one", "two")]
    assert made[0][1:] == made[1][1:]
    assert made[0][0].options == made[1][0].options
    contents = [case.source.read_bytes() for case, _, _ in made]
    assert contents[0] == contents[1] != seeds[made[0][1]]


def test_what_one_reading_does(tmp_path: Path) -> None:
    seeds = {"plain.png": dict(picture_seeds())["plain.png"]}
    case, name, _ = make_case(seeds, 0, 0, tmp_path)
    case.source.write_bytes(seeds[name])
    (tmp_path / "results").mkdir()
    assert read_one(case, tmp_path / "results").kind == "read"
    assert len(list((tmp_path / "results").iterdir())) == 1
    case.source.write_bytes(seeds[name][:100])
    outcome = read_one(case, tmp_path / "results")
    assert outcome.kind == "refused"
    assert "is cut off or damaged" in json.dumps(outcome.message)


@pytest.fixture
def _frozen() -> Iterator[None]:
    """Each case collects garbage, and need not search all modules for it."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("_frozen")
@pytest.mark.parametrize("kind", READERS)
def test_what_is_read_beside_a_source(tmp_path: Path, kind: str) -> None:
    """Undamaged, each file is read; damaged, it is read or refused in one line."""
    (tmp_path / "results").mkdir()
    seeds = dict(READERS[kind][0]())
    for name, content in seeds.items():
        folder = tmp_path / f"sound-{name}"
        lay_out(kind, name, content, folder, seeds)
        case = Case(source=folder, options={}, kind=kind, name=name)
        assert read_one(case, tmp_path / "results").kind == "read", name
    for number in range(15):
        case, _, how = make_input(seeds, number, 1, tmp_path, kind)
        outcome = read_one(case, tmp_path / "results")
        assert outcome.kind in ("read", "refused"), how
        assert "\n" not in outcome.message
    assert not list((tmp_path / "results").iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2\nb: 3\n", r"expected ',' or '\]', but got ':' \(line 2\)"),
        ("a: b: c\n", r"mapping values are not allowed here \(line 1\)"),
        ("\n\n- *x\n", r"found undefined alias 'x' \(line 3\)"),
        ("a: \x00", "special characters are not allowed"),
    ],
)
def test_errors_of_yaml_are_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        parse_yaml(text, "here")
    assert "\n" not in str(raised.value)
