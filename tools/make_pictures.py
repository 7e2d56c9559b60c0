"""Make the pictures of the README and the docs' start page from the bundled samples.

Every picture has the sources in its upper row and below each the result of its settings file.

python -m tools.make_pictures
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pnpvideo.clips.clip import Frames, Timing
from pnpvideo.clips.read import read_clip
from pnpvideo.clips.write import write_clip
from pnpvideo.options.settings import Settings
from pnpvideo.options.settings_file import read_settings
from pnpvideo.run.run import run

# The frames of each sample that the still picture shows.
STILLS = {
    "fox": (0, 5, 11),
    "rocket": (0, 11),
    "sailboat": (0, 15),
    "teapot": (0,),
    "castle": (0,),
}
MOVING = ("fox", "rocket", "sailboat")
FRAME_COUNT = 12
FRAME_RATE = Fraction(12)
HOLD = 8  # frames for which the last one stays before the picture starts again
QUALITY = 88
NEAR, FAR = 4, 12  # pixels between a source and its result, and between two samples

Pair = tuple[Path, Path]


def make_pictures(samples: Path, moving: Path, still: Path) -> None:
    """Run the settings of every sample once and write both pictures."""
    with TemporaryDirectory() as temporary:
        pairs = {name: translate(samples / f"{name}.yaml", Path(temporary)) for name in STILLS}
        columns = [in_step(pairs[name]) for name in MOVING]
        shown = Timing(frame_rate=FRAME_RATE)
        write_columns(columns, moving, gap=FAR, timing=shown)
        columns = [
            both(pairs[name], [number]) for name, numbers in STILLS.items() for number in numbers
        ]
        write_columns(columns, still, gap=NEAR)


def translate(settings: Path, folder: Path) -> Pair:
    """Run a settings file and return the paths of its source and its result."""
    values = read_settings(settings)
    source = Path(str(values["source"]))
    values["output"] = str(folder / f"{settings.stem}{source.suffix}")
    return source, run(Settings.of(values)).outputs[0]


def in_step(pair: Pair) -> Frames:
    """Return a pair as FRAME_COUNT frames spread over its length, and the last one held."""
    clip = read_clip(pair[0])
    try:
        last = len(clip) - 1
    finally:
        clip.close()
    numbers = [round(last * step / (FRAME_COUNT - 1)) for step in range(FRAME_COUNT)]
    return both(pair, numbers + [last] * HOLD)


def both(pair: Pair, numbers: Sequence[int]) -> Frames:
    """Return the numbered frames of a source above those of its result, shape (n, h, w, 4).

    The gap between the two is transparent, so that it suits a light and a dark page.
    """
    source, result = (opaque(read_frames(path, numbers)) for path in pair)
    return np.concatenate([np.pad(source, ((0, 0), (0, NEAR), (0, 0), (0, 0))), result], axis=1)


def read_frames(path: Path, numbers: Sequence[int]) -> Frames:
    """Return the numbered frames of a clip, shape (n, height, width, 3)."""
    clip = read_clip(path)
    try:
        return np.concatenate([clip.read(number, number + 1) for number in numbers])
    finally:
        clip.close()


def opaque(frames: Frames) -> Frames:
    """Add an opacity of 255."""
    return np.pad(frames, ((0, 0), (0, 0), (0, 0), (0, 1)), constant_values=255)


def write_columns(
    columns: Sequence[Frames], picture: Path, *, gap: int, timing: Timing | None = None
) -> None:
    """Write columns of equal size beside one another; without transparency, gaps are white."""
    spaced = [np.pad(column, ((0, 0), (0, 0), (0, gap), (0, 0))) for column in columns]
    frames = np.concatenate(spaced, axis=2)[:, :, :-gap]
    rgb, alpha = frames[..., :3], frames[..., 3]
    if picture.suffix == ".webp":
        write_clip([rgb], picture, alpha=[alpha], timing=timing, quality=QUALITY, overwrite=True)
    else:
        white = np.where(alpha[..., np.newaxis] == 0, np.uint8(255), rgb)
        write_clip([white], picture, overwrite=True)


if __name__ == "__main__":
    make_pictures(Path("samples"), Path("docs/translations.webp"), Path("docs/translations.jpg"))
