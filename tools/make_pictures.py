"""Make the README's picture: the bundled samples above, what their settings make of them below.

python -m tools.make_pictures
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pnpvideo.clips.clip import Frames
from pnpvideo.clips.read import read_clip
from pnpvideo.clips.write import write_clip
from pnpvideo.options.settings import Settings
from pnpvideo.options.settings_file import read_settings
from pnpvideo.run.run import run

# Which frames of which sample are shown.
SHOWN = {
    "fox": (0, 5, 11),
    "rocket": (0, 11),
    "sailboat": (0, 15),
    "teapot": (0,),
    "castle": (0,),
}
GAP = 4


def chosen(source: Path, numbers: tuple[int, ...]) -> list[Frames]:
    """The named frames of a clip, each (1, height, width, 3)."""
    clip = read_clip(source)
    try:
        return [clip.read(number, number + 1) for number in numbers]
    finally:
        clip.close()


def make_picture(samples: Path, picture: Path) -> None:
    """Run the settings of every shown sample and write one picture of sources and results."""
    above: list[Frames] = []
    below: list[Frames] = []
    with TemporaryDirectory() as temporary:
        for name, numbers in SHOWN.items():
            values = read_settings(samples / f"{name}.yaml")
            source = Path(str(values["source"]))
            values["output"] = str(Path(temporary, f"{name}{source.suffix}"))
            result = run(Settings.of(values))
            above += chosen(source, numbers)
            below += chosen(result.outputs[0], numbers)
    rows = [np.concatenate([_framed(frame) for frame in row], axis=2) for row in (above, below)]
    write_clip([np.concatenate(rows, axis=1)], picture, overwrite=True)


def _framed(frame: Frames) -> Frames:
    margin = ((0, 0), (0, GAP), (0, GAP), (0, 0))
    return np.pad(frame, margin, constant_values=255)


if __name__ == "__main__":
    make_picture(Path("samples"), Path("docs/translations.jpg"))
