"""Small pictures of what a model knows."""

from PIL import Image

from pnpvideo.catalogue.known_words import Entry, KnownWords


def picture_of(entry: Entry, known: KnownWords) -> Image.Image | None:
    """Return the picture of an entry, cut out of the model's sheet; None if there is none."""
    if known.sheet is None or entry.box is None:
        return None
    with Image.open(known.sheet) as sheet:
        return sheet.convert("RGB").crop(entry.box)
