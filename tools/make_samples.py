"""Make `samples/`: short clips, a sketch sequence and single images, with settings to run them.

    python -m tools.make_samples [FOLDER]

Everything is drawn by the procedural world of `scenes.py`; the sound is made here too.
"""

import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import imageio_ffmpeg
import numpy as np
import yaml

from pnpvideo.clips.clip import Frames, Sound, Timing
from pnpvideo.clips.write import write_clip
from tools.layout import Camera, Object, Scene
from tools.scenes import render

SIZE = 128

ROLLING_STAR = Scene(
    objects=(
        Object(
            shape="star",
            colour="red",
            material="plastic",
            x=-0.1,
            y=0.0,
            size=0.66,
            angle=-0.3,
            dx=0.2,
            bow=-0.05,
            spin=0.9,
        ),
    ),
    ground="sand",
    light="day",
    azimuth=-2.2,
    camera=Camera(zoom=1.0),
    marks=False,
    offset_x=1.0,
    offset_y=2.0,
)
PASSING = Scene(
    objects=(
        Object(
            shape="heart",
            colour="green",
            material="plastic",
            x=-0.45,
            y=-0.3,
            size=0.38,
            angle=0.1,
            dx=0.8,
            spin=-0.3,
        ),
        Object(
            shape="circle",
            colour="yellow",
            material="metal",
            x=0.45,
            y=0.4,
            size=0.36,
            angle=0.0,
            dx=-0.8,
            bow=0.1,
        ),
    ),
    ground="water",
    light="day",
    azimuth=-1.9,
    camera=Camera(zoom=1.0),
    marks=False,
    offset_x=0.3,
    offset_y=1.2,
)
FLOWER = Scene(
    objects=(
        Object(
            shape="flower",
            colour="pink",
            material="plastic",
            x=0.0,
            y=0.0,
            size=0.5,
            angle=0.0,
            spin=1.0,
            growth=0.25,
        ),
    ),
    ground="grass",
    light="day",
    azimuth=-2.0,
    camera=Camera(zoom=1.0, dx=0.1),
    marks=False,
    offset_x=2.0,
    offset_y=0.4,
)
MOON = Scene(
    objects=(
        Object(
            shape="moon",
            colour="orange",
            material="wood",
            x=0.1,
            y=-0.05,
            size=0.62,
            angle=0.2,
        ),
    ),
    ground="wooden floor",
    light="day",
    azimuth=-2.2,
    camera=Camera(zoom=1.0),
    marks=False,
    offset_x=0.7,
    offset_y=0.2,
)


def drawn(scene: Scene, style: str, frames: int) -> Iterator[Frames]:
    """A scene over time as uint8 frames (1, SIZE, SIZE, 3)."""
    for i in range(frames):
        image = render([scene], style, SIZE, time=i / max(frames - 1, 1))
        yield (image.movedim(1, -1).numpy() * 255).round().astype(np.uint8)


def make_sound(path: Path, seconds: Fraction) -> Sound:
    """A rising tone that beats twice a second, in a file of its own."""
    tone = "aevalsrc='0.3*sin(2*PI*(330+110*t)*t)*(0.5+0.5*cos(4*PI*t))':s=48000"
    blank = "color=size=16x16:rate=15"
    sources = [part for source in (blank, tone) for part in ("-f", "lavfi", "-i", source)]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *sources, "-t", str(float(seconds))]
    subprocess.run([*command, path], check=True)
    return Sound(path=path, start=Fraction(0), duration=seconds)


def write_run(folder: Path, source: str, prompt: str, **settings: object) -> None:
    """The settings file of a sample."""
    values = {"source": source, "prompt": [prompt]} | settings
    (folder / f"{Path(source).stem}.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def make_samples(folder: Path) -> None:
    """Write every sample into the folder, replacing those that are there."""
    folder.mkdir(parents=True, exist_ok=True)
    write_clip(drawn(ROLLING_STAR, "sketch", 12), folder / "sketches", overwrite=True)
    write_run(folder, "sketches", "a photo of a red star on sand", frame_rate=12)

    write_clip(
        drawn(FLOWER, "cartoon", 12),
        folder / "animation.mp4",
        timing=Timing(frame_rate=Fraction(12)),
        overwrite=True,
    )
    write_run(folder, "animation.mp4", "a photo of a blue flower on sand")

    frame_rate = Fraction(15000, 1001)
    with TemporaryDirectory() as temporary:
        write_clip(
            drawn(PASSING, "cartoon", 16),
            folder / "with-sound.mp4",
            timing=Timing(frame_rate=frame_rate),
            sound=make_sound(Path(temporary, "tone.mp4"), 16 / frame_rate),
            overwrite=True,
        )
    write_run(folder, "with-sound.mp4", "a photo of a red heart and a red circle on sand")

    write_clip(drawn(MOON, "sketch", 1), folder / "moon.png", overwrite=True)
    write_run(folder, "moon.png", "a photo of a purple moon on a wooden floor")
    write_clip(drawn(FLOWER, "cartoon", 1), folder / "flower.jpg", overwrite=True, quality=95)
    write_run(folder, "flower.jpg", "a photo of a red flower on gravel at sunset")


if __name__ == "__main__":
    make_samples(Path(sys.argv[1] if len(sys.argv) > 1 else "samples"))
