"""Make `samples/`: short clips, a drawing sequence and single images, with settings to run them.

    python -m tools.make_samples [FOLDER]

All are scenes of `tools/train/scenes.py`; the sound is made here too. The drawings in
`samples/drawings` were drawn by hand.
"""

import shutil
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
from tools.train.artwork import SMALL, Artwork
from tools.train.layout import Camera, Object, Scene
from tools.train.motion import frame_times
from tools.train.scenes import render

HOPPING_FOX = Scene(
    objects=(
        Object(name="fox", x=-0.3, y=0.24, size=0.62, angle=-0.12, dx=0.6, bow=-0.5, spin=0.24),
    ),
    ground="white",
)
RISING_ROCKET = Scene(
    objects=(
        Object(name="rocket", x=-0.26, y=0.3, size=0.6, dx=0.5, dy=-0.56, spin=-0.25, growth=0.1),
    ),
    ground="blue",
    camera=Camera(spin=-0.08),
)
AT_SEA = Scene(
    objects=(
        Object(name="sailboat", x=-0.42, y=-0.3, size=0.5, angle=-0.1, dx=0.36, bow=0.06, spin=0.2),
        Object(name="whale", x=0.5, y=0.42, size=0.44, angle=0.08, dx=-0.6, bow=0.16, spin=-0.16),
    ),
    ground="sea",
    camera=Camera(dx=0.06),
)
TEAPOT = Scene(
    objects=(Object(name="teapot", x=0.0, y=0.02, size=0.82, angle=-0.06),), ground="white"
)
CASTLE = Scene(
    objects=(
        Object(name="castle", x=0.08, y=-0.06, size=0.74),
        Object(name="snail", x=-0.62, y=0.58, size=0.3, flipped=True),
    ),
    ground="meadow",
)  # fmt: skip


def drawn(scene: Scene, style: str, frames: int) -> Iterator[Frames]:
    """Yield a scene over time as uint8 frames (1, height, width, 3)."""
    artwork = Artwork()
    for time in frame_times(frames):
        picture = render(scene, style, artwork, time=time)
        yield (255 * picture[None]).round().astype(np.uint8)


def make_sound(path: Path, seconds: Fraction) -> Sound:
    """Write a rising tone that beats twice a second to a file."""
    tone = "aevalsrc='0.3*sin(2*PI*(330+110*t)*t)*(0.5+0.5*cos(4*PI*t))':s=48000"
    blank = "color=size=16x16:rate=15"
    sources = [part for source in (blank, tone) for part in ("-f", "lavfi", "-i", source)]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *sources, "-t", str(float(seconds))]
    subprocess.run([*command, path], check=True)
    return Sound(path=path, start=Fraction(0), duration=seconds)


def write_run(folder: Path, source: str, prompt: str, **settings: object) -> None:
    """Write the settings file of a sample."""
    values = {"source": source, "prompt": [prompt]} | settings
    (folder / f"{Path(source).stem}.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def make_samples(folder: Path) -> None:
    """Write every sample into the folder, replacing existing ones."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(SMALL / "LICENSE", folder / "LICENSE")
    write_clip(drawn(HOPPING_FOX, "line drawing", 12), folder / "fox", overwrite=True)
    write_run(folder, "fox", "a 3D render of a golden fox on a blue background", frame_rate=12)

    write_clip(
        drawn(RISING_ROCKET, "cartoon", 12),
        folder / "rocket.mp4",
        timing=Timing(frame_rate=Fraction(12)),
        overwrite=True,
    )
    write_run(folder, "rocket.mp4", "a 3D render of a rocket on a purple background")

    frame_rate = Fraction(15000, 1001)
    with TemporaryDirectory() as temporary:
        write_clip(
            drawn(AT_SEA, "cartoon", 16),
            folder / "sailboat.mp4",
            timing=Timing(frame_rate=frame_rate),
            sound=make_sound(Path(temporary, "tone.mp4"), 16 / frame_rate),
            overwrite=True,
        )
    write_run(folder, "sailboat.mp4", "a 3D render of a sailboat and a whale in the sea at sunset")

    write_clip(drawn(TEAPOT, "line drawing", 1), folder / "teapot.png", overwrite=True)
    write_run(folder, "teapot.png", "a 3D render of a jade teapot on a pink background")
    write_clip(drawn(CASTLE, "cartoon", 1), folder / "castle.jpg", overwrite=True, quality=95)
    write_run(folder, "castle.jpg", "a 3D render of a castle and a snail in the snow")


if __name__ == "__main__":
    make_samples(Path(sys.argv[1] if len(sys.argv) > 1 else "samples"))
