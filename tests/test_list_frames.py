"""How often a video file is decoded only to list its frames."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from clips import make_video

from pnpvideo.clips.read import read_clip
from pnpvideo.clips.video import list_frames as module
from pnpvideo.errors import InputError

H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose frames are decoded to be listed, once for each time."""
    names: list[str] = []
    listing = module._Listing

    def counted(path: Path, *how: Any) -> module._Listing:
        names.append(path.name)
        return listing(path, *how)

    monkeypatch.setattr(module, "_Listing", counted)
    return names


def length(path: Path, **options: object) -> int:
    clip = read_clip(path, **options)
    clip.close()
    return len(clip)


def test_a_file_is_listed_once(tmp_path: Path, decoded: list[str]) -> None:
    path = make_video(tmp_path / "a.mp4", *H264, frames=6)
    assert [length(path) for _ in range(3)] == [6, 6, 6]
    # As many frames as there are, or more, are known too; fewer are not.
    assert length(path, frames=100) == 6
    assert decoded == ["a.mp4"]
    assert [length(path, frames=2) for _ in range(2)] == [2, 2]
    assert decoded == ["a.mp4"] * 2


def test_a_file_that_was_changed_is_listed_again(tmp_path: Path, decoded: list[str]) -> None:
    path = make_video(tmp_path / "a.mp4", *H264, frames=6)
    other = make_video(tmp_path / "b.mp4", *H264, frames=4)
    times = path.stat()
    assert length(path) == 6
    # Replaced by another one, with the old one's time; then written over.
    shutil.copy(other, tmp_path / "c.mp4")
    os.utime(tmp_path / "c.mp4", ns=(times.st_atime_ns, times.st_mtime_ns))
    (tmp_path / "c.mp4").replace(path)
    assert length(path) == 4
    longer = make_video(tmp_path / "d.mp4", *H264, frames=8)
    path.write_bytes(longer.read_bytes())
    assert length(path) == 8
    assert len(decoded) == 3


def test_only_some_files_are_remembered(
    tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 2)
    paths = [make_video(tmp_path / f"{i}.mp4", *H264, frames=2) for i in range(3)]
    for path in [*paths, *reversed(paths)]:
        assert length(path) == 2
    assert decoded == ["0.mp4", "1.mp4", "2.mp4", "0.mp4"]


def test_damage_is_remembered(tmp_path: Path, decoded: list[str]) -> None:
    path = make_video(tmp_path / "a.mkv", *H264, frames=12)
    path.write_bytes(path.read_bytes()[:-400])
    messages, counts = [], []
    for _ in range(2):
        with pytest.raises(InputError) as error:
            read_clip(path)
        messages.append(str(error.value))
        counts.append(len(decoded))
    assert messages[0] == messages[1]
    assert counts[0] == counts[1] <= 2  # A doubtful listing is made a second time.
