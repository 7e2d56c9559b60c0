"""Make the cards of the page's samples: for each one, source and result side by side, in step.

python -m tools.make_cards [FOLDER]
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from pnpvideo.clips.sample_folder import PROJECT_SAMPLES
from pnpvideo.models.model import Model
from pnpvideo.options.model import ModelSettings
from pnpvideo.options.settings import Settings
from pnpvideo.run.opening import open_model
from pnpvideo.run.run import run
from pnpvideo.web.samples import Sample, card_of, find_samples

QUALITY = 80


def make_cards(folder: Path, model: Model) -> None:
    """Run the settings of all samples of a folder, and write the card of each."""
    for sample in find_samples(folder):
        card = card_of(sample.source)
        card.parent.mkdir(exist_ok=True)
        with TemporaryDirectory() as temporary:
            made = compared(sample, model, Path(temporary))
            still = getattr(Image.open(made), "n_frames", 1) == 1
            if still:
                Image.open(made).convert("RGB").save(card, quality=QUALITY)
            else:
                made.replace(card)


def compared(sample: Sample, model: Model, folder: Path) -> Path:
    """Run the settings of a sample and return the picture of its source and its result."""
    values = {
        **sample.values,
        "source": str(sample.source),
        "output": str(folder / f"{sample.source.stem}.webp"),
        "compare": True,
        "quality": QUALITY,
    }
    return run(Settings.of(values), model).compares[0]


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else PROJECT_SAMPLES
    make_cards(place, open_model(ModelSettings()))
