"""The source is read once, whatever is done with it, and gives the same frames each time."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from clips import make_video, smooth_frames
from test_run import settings

from pnpvideo.clips.clip import Clip, Frames, clip_of_frames
from pnpvideo.errors import RunError
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from pnpvideo.pixels.resize import resize_frames
from pnpvideo.pixels.scenes import find_scenes
from pnpvideo.run.run import run
from pnpvideo.stages.source import ClipFrames
from pnpvideo.storage.allocate import Storage
from pnpvideo.storage.frame_store import FrameStore


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many frames were read of each clip, by its name."""
    counts: Counter[str] = Counter()
    read = Clip.read

    def counted(clip: Clip, start: int, stop: int) -> Frames:
        counts[clip.name] += stop - start
        return read(clip, start, stop)

    monkeypatch.setattr(Clip, "read", counted)
    return counts


@pytest.mark.parametrize(
    ("more", "decodes"),
    [
        ({}, 1),
        ({"prompt": ["a stone", "two trees"]}, 1),
        ({"size": (32, 32), "blend_radius": 0}, 1),
        (
            {
                "prompt": ["a stone", "two trees"],
                "job": "job",
                "attention_sharing": "extended",
                "noise_share": 0.3,
                "noise_motion": True,
                "compare": True,
                "check_inversion": True,
            },
            3,
        ),
    ],
)
def test_a_clip_is_decoded_as_seldom_as_can_be(
    pipeline: PnPVideoPipeline,
    tiny_model: Path,
    tmp_path: Path,
    reads: Counter[str],
    more: dict[str, object],
    decodes: int,
) -> None:
    """Beside its opening: once, and once for each picture beside its result."""
    video = make_video(tmp_path / "in.mp4", frames=5, size="48x32")
    if "job" in more:
        more = more | {"job": tmp_path / "job"}
    made = settings(tmp_path, tiny_model, "out.mp4", **{"source": video, **more})
    run(made, pipeline, quiet=True)
    name = next(name for name in reads if name.startswith("in"))
    assert reads[name] == decodes * 5


@pytest.mark.parametrize("place", ["memory", "disk"])
@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_a_source_gives_its_frames_again_and_again(
    tmp_path: Path, reads: Counter[str], place: str, batch_size: int
) -> None:
    frames = smooth_frames(7)
    frames[4:] = 255 - frames[4:]
    storage = Storage(place=place, folder=tmp_path)  # type: ignore[arg-type]
    source = ClipFrames(clip_of_frames(frames), (32, 24), storage, 3)
    expected = resize_frames(frames, 32, 24)
    known = source.fingerprint
    for _ in range(2):
        batches = list(source.batches(batch_size))
        assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
        np.testing.assert_array_equal(np.concatenate(batches), expected)
    assert source.scenes == find_scenes([expected]) == (range(4), range(4, 7))
    assert source.fingerprint == known
    assert reads == {"clip": 7}
    source.close()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_while_frames_are_kept() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        store = FrameStore(full, Path("/tmp"), (8, 8, 3))
        with pytest.raises(RunError, match="the disk is full"):
            list(store.write_all([np.zeros((1, 8, 8, 3), np.uint8)]))
