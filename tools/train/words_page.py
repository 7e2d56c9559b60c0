"""The page of the docs with all that the embedded model knows, and its sheet of pictures."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pnpvideo.catalogue.known_words import Entry, KnownWords
from pnpvideo.catalogue.pictures import picture_of

PAGE, SHEET = "words.md", "words.jpg"
SIDE, COLUMNS, LETTER, QUALITY = 64, 12, 10, 60
WIDTH, HEIGHT = 92, SIDE + 2 * LETTER + 8

_INTRODUCTION = """\
# What the bundled model knows

The [bundled model](models.md#the-bundled-model) is small. It knows {things} things, in {looks}
looks, on {grounds} grounds, in {lights} lights and {styles} styles, and it {draws}
([other models](models.md#short-names) know far more).

Before a run, the words of the prompts that it does not know are named, with the nearest that it
knows:

    pnpvideo: the model does not know 'car' (nearest: automobile); ...

The run goes on: such words change little, or something else than you meant. `pnpvideo words`
prints this list, `pnpvideo words tree` what contains "tree", and `pnpvideo words looks` one kind.
Plurals count as their singulars, and words such as "a", "of" and "with" are not looked up.

A good prompt has a style, a look, a thing, a ground and a light: "a 3D render of a golden fox in
a meadow at sunset".

![A small picture of each thing, look, ground, light and style, with its name](words.jpg)

## As a list

Words in brackets mean the same.
"""

_OWN_MODEL = """\
## A list of your own

Any model folder can hold such a list, `words.json`, and is then asked in the same way; models
without one are not asked. `words` has the entries of each kind, each a list of texts that mean
the same; `draws` and `otherwise` end the notice; `makes_sources` says whether `--guidance-prompt`
is allowed; with `reads_photos: false`, a notice names sources that look like photos; `near` names
what is nearest to words that are not known; and `sheet` is a picture with a cell for each entry,
row by row. With `--lora` or `--embedding`, which teach a model more,
nothing is asked.
"""


def words_page(known: KnownWords) -> str:
    """Return the page in Markdown."""
    counts = {kind: str(len(entries)) for kind, entries in known.kinds.items()}
    parts = [_INTRODUCTION.format(draws=known.draws, **counts)]
    for kind, entries in known.kinds.items():
        parts.append(f"**{kind.capitalize()}**: {', '.join(map(_listed, entries))}.\n")
    return "\n".join([*parts, _OWN_MODEL])


def _listed(entry: Entry) -> str:
    others = f" ({', '.join(entry.texts[1:])})" if len(entry.texts) > 1 else ""
    return f"{entry.word}{others}"


def draw_sheet(known: KnownWords) -> Image.Image:
    """Return a sheet of all entries with their names below."""
    rows = -(-len(known.entries) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * WIDTH, rows * HEIGHT), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(LETTER)
    for number, entry in enumerate(known.entries):
        left, top = number % COLUMNS * WIDTH, number // COLUMNS * HEIGHT
        picture = picture_of(entry, known)
        if picture is not None:
            sheet.paste(picture.resize((SIDE, SIDE)), (left + (WIDTH - SIDE) // 2, top))
        place = (left + WIDTH // 2, top + SIDE + 2)
        text = _broken(entry.word, font)
        pen.multiline_text(place, text, "black", font, anchor="ma", align="center", spacing=1)
    return sheet


def _broken(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """Return a name in two lines if one is not wide enough, as even as possible."""
    words = text.split()
    if len(words) == 1 or font.getlength(text) <= WIDTH - 4:
        return text
    halves = [(" ".join(words[:n]), " ".join(words[n:])) for n in range(1, len(words))]
    return "\n".join(min(halves, key=lambda half: max(map(font.getlength, half))))


def write_page(known: KnownWords, folder: Path) -> None:
    """Write the page and its sheet into the folder of the docs."""
    (folder / PAGE).write_text(words_page(known), encoding="utf-8")
    draw_sheet(known).save(folder / SHEET, quality=QUALITY, optimize=True)
