"""Comparison of ways to read a video: frames, exactness of pixels, time, memory.

    python -m tools.speed.video_readers FILE...

`av` is the package's reader, `decord` is decord with one thread, `process` is an ffmpeg that writes
raw frames to a pipe, and `list` is the listing on opening: all frames are decoded, none is kept.
Each reads each file in another process; times are CPU times, including ffmpeg's.
"""

import hashlib
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import decord
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from pnpvideo.clips.video.list_frames import ShownFrames, list_frames
from pnpvideo.clips.video.probe_video import VideoFacts, probe_video
from pnpvideo.clips.video.read_video import DecodedFrames

_BATCH = 8

Pictures = Iterator[NDArray[np.uint8]]


def _list(path: Path, facts: VideoFacts, _: ShownFrames) -> Pictures:
    list_frames(path, facts)
    yield from ()


def _through_av(path: Path, facts: VideoFacts, shown: ShownFrames) -> Pictures:
    count = len(shown.times)
    frames = DecodedFrames(path, facts, shown, range(count), tone_map=False)
    for start in range(0, count, _BATCH):
        yield from frames.read(start, min(start + _BATCH, count))


def _through_decord(path: Path, *_: object) -> Pictures:
    reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
    for start in range(0, len(reader), _BATCH):
        yield from reader.get_batch(range(start, min(start + _BATCH, len(reader)))).asnumpy()


def _through_process(path: Path, facts: VideoFacts, _: ShownFrames) -> Pictures:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", f"file:{path}"]
    command += ["-map", "0:V:0", "-fps_mode", "passthrough"]
    command += ["-vf", f"scale={facts.width}:{facts.height}", "-pix_fmt", "rgb24"]
    with subprocess.Popen([*command, "-f", "rawvideo", "-"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        picture = np.empty((facts.height, facts.width, 3), np.uint8)
        while process.stdout.readinto(picture.data.cast("B")) == picture.nbytes:  # type: ignore[attr-defined]
            yield picture


WAYS: dict[str, Callable[[Path, VideoFacts, ShownFrames], Pictures]] = {
    "list": _list,
    "av": _through_av,
    "decord": _through_decord,
    "process": _through_process,
}


def _used() -> tuple[float, float]:
    """Return the CPU seconds and peak MB so far, of this process and its children."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(use.ru_utime + use.ru_stime for use in uses)
    return seconds, sum(use.ru_maxrss for use in uses) / 1024


def _measure(way: str, path: Path) -> None:
    """Print the measures of one way and one file as JSON."""
    facts = probe_video(path)
    shown = list_frames(path, facts, None if way == "av" else 1)
    before, _ = _used()
    count = sum(1 for _ in WAYS[way](path, facts, shown))
    after, peak = _used()
    pixels = hashlib.sha256()
    for picture in WAYS[way](path, facts, shown):
        pixels.update(picture.tobytes())
    measures = {
        "frames": count,
        "seconds": after - before,
        "peak": peak,
        "pixels": pixels.hexdigest(),
    }
    print(json.dumps(measures))


def main(files: list[str]) -> None:
    print("| file | way | frames | pixels as of the process | s | MB |")
    print("|---|---|--:|---|--:|--:|")
    for file in files:
        found = {}
        for way in WAYS:
            command = [sys.executable, "-m", "tools.speed.video_readers", way, file]
            done = subprocess.run(command, capture_output=True, text=True)
            found[way] = json.loads(done.stdout) if done.returncode == 0 else None
        exact = found["process"] or {}
        for way, measures in found.items():
            row = f"| {Path(file).name} | {way} | "
            if measures is None:
                print(f"{row}fails | | | |")
                continue
            same = "yes" if measures["pixels"] == exact.get("pixels") else "no"
            frames = ("", "") if way == "list" else (measures["frames"], same)
            seconds, peak = measures["seconds"], measures["peak"]
            print(f"{row}{frames[0]} | {frames[1]} | {seconds:.3f} | {peak:.0f} |")


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in WAYS:
        _measure(sys.argv[1], Path(sys.argv[2]))
    else:
        main(sys.argv[1:])
