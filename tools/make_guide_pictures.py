"""Make the moving pictures of the docs from the bundled samples: source and results in step.

python -m tools.make_guide_pictures [NAME ...]
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from PIL import Image

from pnpvideo.clips.clip import Frames, Timing
from pnpvideo.clips.read import read_clip
from pnpvideo.clips.write import write_clip
from pnpvideo.inside.draw import Cell, Picture, sheet
from pnpvideo.options.settings import Settings
from pnpvideo.options.settings_file import read_settings
from pnpvideo.run.opening import load_pipeline
from pnpvideo.run.run import run

FRAMES = 12
FRAME_RATE = Fraction(12)
SIDE = 200
QUALITY = 80
MASK = "mask.png"

Changes = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A moving picture of a sample beside its translations.

    columns: changes of the sample's settings by the caption of their result. A mask named `MASK` is
    white where the first frame differs from its corner.
    """

    sample: str
    columns: Mapping[str, Changes]


def _thresholds(value: float) -> Changes:
    return {"tau_f": value, "tau_a": value}


# No colour is named, so that each frame finds one of its own.
_SNOW: Changes = {"prompt": ["a 3D render of a fox in the snow"]}
_GOLDEN: Changes = {"prompt": ["a 3D render of a golden rocket on a green background"]}
_MASKED: Changes = {"mask": MASK, "mask_motion": True}

COMPARISONS = {
    "thresholds": Comparison(
        sample="fox",
        columns={f"tau {value:g}": _thresholds(value) for value in (0, 0.3, 0.6, 1)},
    ),
    "steady": Comparison(
        sample="fox",
        columns={
            "--blend-radius 0": {**_SNOW, "blend_radius": 0},
            "default": _SNOW,
            "--blend-radius 4": {**_SNOW, "blend_radius": 4},
            "propagate": {**_SNOW, "attention_sharing": "propagate"},
        },
    ),
    "local-edit": Comparison(
        sample="rocket",
        columns={
            "whole picture": _GOLDEN,
            "--mask --mask-motion": {**_GOLDEN, **_MASKED},
            "the same, --invert-mask": {**_GOLDEN, **_MASKED, "invert_mask": True},
        },
    ),
}


def make(comparison: Comparison, picture: Path) -> None:
    """Translate a sample in all ways and write source and results beside one another."""
    values = read_settings(Path("samples") / f"{comparison.sample}.yaml")
    pipeline = load_pipeline(Settings.of(values | {"output": "none.webp"}))
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clip = read_clip(str(values["source"]))
        save_mask(clip.read(0, 1)[0], folder / MASK)
        numbers = [round((len(clip) - 1) * i / (FRAMES - 1)) for i in range(FRAMES)]
        columns = {"source": [clip.read(number, number + 1)[0] for number in numbers]}
        clip.close()
        for place, (caption, changes) in enumerate(comparison.columns.items()):
            # In one job folder they share an inversion.
            own: dict[str, object] = {**values, **changes, "job": str(folder / "job")}
            own["output"] = str(folder / str(place))
            if own.get("mask") == MASK:
                own["mask"] = str(folder / MASK)
            (result,) = run(Settings.of(own), pipeline).outputs
            made = read_clip(result)
            columns[caption] = [made.read(number, number + 1)[0] for number in numbers]
            made.close()
    write(columns, picture)


def save_mask(frame: Picture, path: Path) -> None:
    """Save what differs from the colour in the corner of a picture, with a narrow margin."""
    differs = np.abs(frame.astype(int) - frame[0, 0].astype(int)).sum(-1) > 40
    white = differs.astype(np.uint8) * 255
    Image.fromarray(cv2.morphologyEx(white, cv2.MORPH_CLOSE, np.ones((9, 9)))).save(path)


def write(columns: Mapping[str, Sequence[Picture]], picture: Path) -> None:
    """Write columns of frames with captions as an animation that plays for ever."""
    frames: Frames = np.stack(
        [
            sheet(
                [[Cell(picture=pictures[number]) for pictures in columns.values()]],
                row_names=[""],
                column_names=list(columns),
                side=SIDE,
            )
            for number in range(FRAMES)
        ]
    )
    timing = Timing(frame_rate=FRAME_RATE)
    write_clip([frames], picture, timing=timing, quality=QUALITY, overwrite=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(COMPARISONS), metavar="NAME")
    for name in parser.parse_args().names:
        make(COMPARISONS[name], Path("docs") / f"{name}.webp")
