"""decord reads plain local videos in a process of its own, and cannot harm this one."""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from clips import all_frames, decode, make_video

from pnpvideo.clips.clip import Clip
from pnpvideo.clips.read import read_clip
from pnpvideo.clips.video import read_decord, read_video
from pnpvideo.errors import InputError

pytestmark = pytest.mark.skipif(not read_decord.has_decord(), reason="decord is not installed")

H264 = ("-c:v", "libx264", "-g", "5")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("plain") / "plain.mp4", *H264)


@pytest.fixture
def no_spare() -> Iterator[None]:
    """Each test with this starts and leaves without a process."""
    _end_spare()
    yield
    _end_spare()


def _end_spare() -> None:
    while read_decord._spare:
        read_decord._spare.pop().end()


def uses_decord(clip: Clip) -> bool:
    assert isinstance(clip.reader, read_video.VideoReader)
    return clip.reader.uses_decord


def process_ids() -> set[int]:
    """The processes of decord that this process has started, also those that have just ended."""
    listed = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(os.getpid())],
        capture_output=True,
        text=True,
    )
    lines = [line for line in listed.stdout.splitlines() if "decord_process" in line]
    return {int(line.split()[0]) for line in lines}


def test_decord_reads_plain_clips_only(tmp_path: Path, plain: Path) -> None:
    large = make_video(tmp_path / "large.mp4", *H264, size="1920x1080", frames=2)
    odd = make_video(tmp_path / "odd.webm", "-c:v", "libvpx-vp9", size="63x47")
    used = []
    for path, reader in ((plain, "decord"), (large, "decord"), (odd, "decord"), (plain, "av")):
        clip = read_clip(path, reader=reader)
        clip.read(0, 1)
        used.append(uses_decord(clip))
        clip.close()
    assert used == [True, False, False, False]


@pytest.mark.usefixtures("no_spare")
@pytest.mark.skipif(sys.platform != "linux", reason="needs ps")
def test_a_process_starts_for_the_first_frame_and_serves_the_next_clip(plain: Path) -> None:
    by_av = read_clip(plain, reader="av")
    expected = all_frames(by_av)
    opened = read_clip(plain)
    assert process_ids() == set()
    assert np.array_equal(all_frames(opened), expected)
    first = process_ids()
    assert len(first) == 1
    again = read_clip(plain, start=2, stride=3)
    assert np.array_equal(all_frames(again, 2), expected[2::3])
    assert process_ids() == first
    both = read_clip(plain), read_clip(plain)  # One takes the spare process.
    assert all(np.array_equal(clip.read(0, 2), expected[:2]) for clip in both)
    assert len(process_ids()) == 2
    for clip in both:
        clip.close()
    assert len(process_ids()) == 1


def crash(process: subprocess.Popen[bytes]) -> None:
    process.kill()


def hang(process: subprocess.Popen[bytes]) -> None:
    os.kill(process.pid, 19)  # SIGSTOP.


@pytest.mark.usefixtures("no_spare")
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("harm", [crash, hang])
def test_where_its_process_ends_av_goes_on(
    plain: Path,
    harm: Callable[[subprocess.Popen[bytes]], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clip = read_clip(plain)
    frames = [clip.read(0, 3)]
    assert isinstance(clip.reader, read_video.VideoReader)
    assert clip.reader._decord is not None
    process = clip.reader._decord._process
    assert process is not None
    harm(process._process)
    monkeypatch.setattr(read_decord, "_TIME_OUT_SECONDS", 0.3)
    frames.append(clip.read(3, 10))
    assert np.array_equal(np.concatenate(frames), decode(plain))
    assert not uses_decord(clip)
    (message,) = caplog.messages
    why = {crash: "its process has ended", hang: "no answer in 0.3 s"}[harm]
    assert message == f"{plain}: decord failed ({why}), so PyAV reads it"
    assert process_ids() == set()


def with_byte(content: bytes, atom: bytes, offset: int, value: int) -> bytes:
    at = content.index(atom) + offset
    return content[:at] + bytes([value]) + content[at + 1 :]


# Numbers of entries and samples in an MP4's tables, of which the highest byte is changed.
@pytest.mark.parametrize(
    ("atom", "offset", "value"),
    [
        (b"stts", 12, 0xFF),
        (b"stts", 12, 0x80),
        (b"stts", 8, 0xFF),
        (b"stsz", 12, 0xFF),
        (b"stsz", 8, 0x7F),
        (b"ctts", 12, 0x80),
        (b"stsc", 12, 0xFF),
        (b"stco", 12, 0x40),
        (b"elst", 16, 0x80),
        (b"mdhd", 16, 0x01),
    ],
)
def test_a_changed_byte_does_no_harm(
    plain: Path,
    tmp_path: Path,
    atom: bytes,
    offset: int,
    value: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where decord crashes (as of the first two), the result is that of PyAV."""
    path = tmp_path / "a.mp4"
    path.write_bytes(with_byte(plain.read_bytes(), atom, offset, value))
    try:
        clip = read_clip(path, allow_truncated=True, reader="av")
    except InputError:
        with pytest.raises(InputError):
            read_clip(path, allow_truncated=True)
        return
    expected = all_frames(clip)
    caplog.clear()
    assert np.array_equal(all_frames(read_clip(path, allow_truncated=True)), expected)
    if (atom, offset) == (b"stts", 12):
        assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_name_is_never_a_protocol(plain: Path, tmp_path: Path) -> None:
    """Relative names that decord's FFmpeg would take for addresses or for lists of files."""
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        for name in ("concat:a.mp4|b.mp4", "subfile,,start,0,end,0,,:a.mp4", "http:a.mp4"):
            Path(name).write_bytes(plain.read_bytes())
            clip = read_clip(Path(name))
            assert np.array_equal(all_frames(clip), decode(plain))
            assert uses_decord(clip)
            clip.close()
    finally:
        os.chdir(here)


@pytest.mark.parametrize("head", [b"#EXTM3U\n", b"ffconcat", b"RIFF\0\0\0\0", b""])
def test_only_what_begins_as_mp4_or_matroska(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(head)
    with pytest.raises(read_decord.DecordError, match="does not begin"):
        read_decord._check_head(path)


@pytest.mark.usefixtures("no_spare")
def test_its_process_imports_no_torch_and_ends_with_this_one(plain: Path) -> None:
    script = (
        "import json, os, sys, time\n"
        "from pnpvideo.clips.read import read_clip\n"
        "from pnpvideo.clips.video import read_decord\n"
        f"clip = read_clip({str(plain)!r})\n"
        "clip.read(0, 2)\n"
        "process = clip.reader._decord._process._process\n"
        "maps = open(f'/proc/{process.pid}/maps').read()\n"
        "loaded = 'torch' in sys.modules or 'decord' in sys.modules\n"
        "found = [process.pid, 'libdecord' in maps, 'torch' in maps, loaded]\n"
        "print(json.dumps(found), flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    if not Path("/proc/self/maps").exists():
        pytest.skip("needs /proc")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    pid, has_decord, has_torch, loaded_here = json.loads(done.stdout)
    assert (has_decord, has_torch, loaded_here) == (True, False, False)
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            break
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
