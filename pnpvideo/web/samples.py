"""Find sample sources: those in a folder that have settings beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pnpvideo.clips.clip import Frames
from pnpvideo.clips.read import read_clip
from pnpvideo.errors import InputError
from pnpvideo.files.read_text import parse_yaml, read_text
from pnpvideo.options.settings_file import read_settings


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A source to choose. first: its first frame (height, width, 3). values: its settings."""

    source: Path
    first: Frames
    values: dict[str, object]

    @property
    def card(self) -> Path | None:
        """The picture of source and result side by side, which may move; None without one."""
        card = card_of(self.source)
        return card if card.is_file() else None

    @property
    def moves(self) -> bool:
        """Whether its card is a moving picture."""
        if self.card is None:
            return False
        with Image.open(self.card) as card:
            return getattr(card, "n_frames", 1) > 1

    @property
    def prompt(self) -> str:
        """The text of its first result; empty without one."""
        prompt = self.values.get("prompt", ())
        texts = [prompt] if isinstance(prompt, str) else prompt
        return str(texts[0]) if isinstance(texts, list | tuple) and texts else ""


def examples_of(samples: Sequence[Sample], most: int = 4) -> list[str]:
    """Return a few prompts to begin with."""
    return list(dict.fromkeys(sample.prompt for sample in samples if sample.prompt))[:most]


def card_of(source: Path) -> Path:
    """Return the path of a sample's card (see `Sample.card`)."""
    return source.parent / "cards" / f"{source.stem}.webp"


def find_samples(folder: Path) -> list[Sample]:
    """Return the sources of all NAME.yaml files, and the pictures of all prompts.yaml files.

    Those with a card that moves come first, as the page opens with the first one.
    """
    found = []
    for path in sorted(folder.glob("*.yaml")):
        values = read_settings(path)
        if "source" in values:
            found.append(_sample(Path(str(values.pop("source"))), values))
    for path in sorted(folder.glob("*/prompts.yaml")):
        prompts = parse_yaml(read_text(path), path)
        if not isinstance(prompts, dict):
            raise InputError(f"{path} has no 'picture: prompt' lines")
        found += [_sample(path.parent / name, {"prompt": [t]}) for name, t in prompts.items()]
    return sorted(found, key=lambda sample: not sample.moves)


def _sample(source: Path, values: dict[str, object]) -> Sample:
    try:
        clip = read_clip(source, frames=1)
    except InputError as error:
        raise InputError(f"the sample {source} cannot be used: {error}") from None
    try:
        return Sample(source=source, first=clip.read(0, 1)[0], values=values)
    finally:
        clip.close()
