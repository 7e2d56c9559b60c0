"""Write the list of what the model knows, `words.json`, with a sheet of small pictures.

    python -m tools.train.words WORK/artwork pnpvideo/embedded --docs docs

The entries are what captions say (`captions`) of the things that training sees, but for promises
that the model cannot keep: it draws no photos. Words that people type and captions do not say lead
to the nearest entries by `NEAR`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from pnpvideo.catalogue.known_words import FILE, read_known_words
from tools.train.appearance import LIGHTS, PALETTES
from tools.train.artwork import Artwork
from tools.train.captions import APPEARANCE_NAMES, LIGHT_NAMES, PLACE_NAMES, STYLE_NAMES
from tools.train.layout import NATURAL, Object, Scene
from tools.train.scenes import PLAIN, STYLES, render
from tools.train.words_page import write_page

DRAWS = "draws designs of things, not photos"
OTHERWISE = "for photos, use --model sd15"
SHEET = "words.jpg"
SIDE, COLUMNS, QUALITY = 64, 20, 80
NOT_KEPT = frozenset(("photo",))
"""Words of captions for 3D renders that describe something the model does not make."""
ALSO = {"grey background": ("gray background", "on gray")}
"""Other spellings of an entry."""
SHOWN = "fox"
"""The thing that shows looks, grounds, lights and styles."""

NEAR: dict[str, tuple[str, ...]] = {
    # styles
    **dict.fromkeys(("photo", "photograph", "photography"), ("3D render",)),
    **dict.fromkeys(("photorealistic", "realistic", "realism", "footage"), ("3D render",)),
    **dict.fromkeys(("cgi", "rendering", "render", "claymation", "figurine"), ("3D render",)),
    **dict.fromkeys(("painting", "watercolor", "watercolour", "oil"), ("cartoon",)),
    **dict.fromkeys(("anime", "comic", "manga", "poster", "logo"), ("cartoon",)),
    **dict.fromkeys(("charcoal", "crayon"), ("rough drawing",)),
    # looks
    **dict.fromkeys(("wooden", "wood", "rusty", "copper", "brass"), ("bronze", "clay")),
    **dict.fromkeys(("stone", "granite", "rock", "statue", "sculpture"), ("marble", "clay")),
    **dict.fromkeys(("metal", "metallic", "steel", "iron", "chrome"), ("silver", "bronze")),
    **dict.fromkeys(("glass", "crystal", "transparent"), ("ice",)),
    **dict.fromkeys(("ceramic", "porcelain", "plaster", "lego", "plastic"), ("clay", "marble")),
    **dict.fromkeys(("emerald", "olive"), ("jade", "green")),
    **dict.fromkeys(("cyan", "aqua"), ("turquoise",)),
    **dict.fromkeys(("magenta",), ("pink", "purple")),
    **dict.fromkeys(("white",), ("silver", "white background")),
    **dict.fromkeys(("black", "grey", "gray"), ("silver", "grey background")),
    **dict.fromkeys(("brown",), ("chocolate", "brown background")),
    # grounds and lights
    **dict.fromkeys(("forest", "woods", "field", "park", "garden", "countryside"), ("meadow",)),
    **dict.fromkeys(("ocean", "lake", "river", "beach", "underwater"), ("sea",)),
    **dict.fromkeys(("winter", "arctic", "glacier"), ("snow",)),
    **dict.fromkeys(("dune", "beach"), ("desert",)),
    **dict.fromkeys(("house interior", "kitchen", "studio", "table", "floor"), ("room",)),
    **dict.fromkeys(("space", "sky"), ("black background", "blue background")),
    **dict.fromkeys(("dawn", "dusk", "sunrise"), ("sunset",)),
    **dict.fromkeys(("dark", "midnight"), ("night",)),
    **dict.fromkeys(("noon", "sunny", "morning"), ("daylight",)),
    # things
    **dict.fromkeys(("animal", "creature", "pet"), ("fox", "rabbit")),
    **dict.fromkeys(("money", "cash"), ("coin",)),
    **dict.fromkeys(("food", "meal", "dish"), ("pizza", "hamburger")),
    **dict.fromkeys(("fruit",), ("red apple", "pear")),
    **dict.fromkeys(("vegetable",), ("carrot", "tomato")),
    **dict.fromkeys(("vehicle",), ("automobile", "bus")),
    **dict.fromkeys(("instrument",), ("guitar", "violin")),
    **dict.fromkeys(("tool",), ("hammer", "axe")),
    **dict.fromkeys(("toy",), ("teddy bear", "nesting dolls")),
    **dict.fromkeys(("door", "window", "roof", "wall"), ("house", "castle")),
    **dict.fromkeys(("car", "sedan", "taxi"), ("automobile", "racing car")),
    **dict.fromkeys(("truck", "lorry", "van"), ("delivery truck", "pickup truck")),
    **dict.fromkeys(("train", "locomotive", "railway"), ("tram car",)),
    **dict.fromkeys(("plane", "airplane", "aeroplane", "jet"), ("small airplane", "rocket")),
    **dict.fromkeys(("boat", "ship", "yacht", "canoe"), ("sailboat", "motor boat")),
    **dict.fromkeys(("bike", "bicycle", "motorbike"), ("motorcycle", "motor scooter")),
    **dict.fromkeys(("cat", "kitten"), ("cat face",)),
    **dict.fromkeys(("puppy",), ("dog", "dog face")),
    **dict.fromkeys(("mouse", "rat"), ("mouse face", "hamster")),
    **dict.fromkeys(("tiger", "leopard", "panther", "cheetah"), ("tiger face", "lion")),
    **dict.fromkeys(("bird", "pigeon", "swan", "seagull"), ("dove", "parrot")),
    **dict.fromkeys(("duck", "goose", "hen", "flamingo"), ("rooster", "turkey")),
    **dict.fromkeys(("owl", "hawk", "falcon"), ("eagle",)),
    **dict.fromkeys(("elephant",), ("rhinoceros", "hippopotamus")),
    **dict.fromkeys(("panda",), ("bear", "polar bear")),
    **dict.fromkeys(("bison", "cattle", "ox", "bull", "buffalo"), ("cow", "moose")),
    **dict.fromkeys(("dinosaur",), ("t rex", "sauropod")),
    **dict.fromkeys(("dragon",), ("dragon face", "crocodile")),
    **dict.fromkeys(("bee", "bug", "insect"), ("honeybee", "lady beetle")),
    **dict.fromkeys(("ladybug", "ladybird", "beetle"), ("lady beetle",)),
    **dict.fromkeys(("flower", "daisy"), ("tulip", "sunflower")),
    **dict.fromkeys(("tree", "oak", "pine"), ("palm tree", "christmas tree")),
    **dict.fromkeys(("plant", "leaf"), ("potted plant", "seedling")),
    **dict.fromkeys(("apple",), ("red apple", "pear")),
    **dict.fromkeys(("watermelon",), ("melon",)),
    **dict.fromkeys(("orange fruit", "mandarin"), ("tangerine",)),
    **dict.fromkeys(("cake", "pie"), ("birthday cake", "shortcake")),
    **dict.fromkeys(("burger",), ("hamburger",)),
    **dict.fromkeys(("coffee", "tea", "cup", "mug"), ("hot beverage", "beer mug")),
    **dict.fromkeys(("bottle", "wine"), ("wine glass", "bottle with popping cork")),
    **dict.fromkeys(("moon",), ("crescent moon",)),
    **dict.fromkeys(("mountain", "hill"), ("snow capped mountain", "volcano")),
    **dict.fromkeys(("building", "church", "tower", "city"), ("castle", "classical building")),
    **dict.fromkeys(("cottage", "home", "hut"), ("house", "house with garden")),
    **dict.fromkeys(("sofa", "couch"), ("couch and lamp", "chair")),
    **dict.fromkeys(("bag", "backpack"), ("handbag", "clutch bag")),
    **dict.fromkeys(("shoe", "sneaker", "boot"), ("running shoe", "hiking boot")),
    **dict.fromkeys(("hat",), ("top hat", "womans hat")),
    **dict.fromkeys(("shirt",), ("t shirt",)),
    **dict.fromkeys(("ball", "football"), ("soccer ball", "basketball")),
    **dict.fromkeys(("gift", "present"), ("wrapped gift",)),
    **dict.fromkeys(("lamp", "lantern"), ("light bulb", "red paper lantern")),
    **dict.fromkeys(("clock", "watch"), ("alarm clock",)),
    **dict.fromkeys(("heart",), ("heart suit", "heart decoration")),
    **dict.fromkeys(("ufo", "spaceship", "spacecraft"), ("flying saucer", "rocket")),
    **dict.fromkeys(("lock", "padlock"), ("locked",)),
    **dict.fromkeys(("dice",), ("game die",)),
    **dict.fromkeys(("pumpkin",), ("jack o lantern",)),
    **dict.fromkeys(("shell", "seashell"), ("spiral shell",)),
    **dict.fromkeys(("diamond", "jewel", "ruby"), ("gem stone",)),
    **dict.fromkeys(("man", "woman", "person", "people", "face"), ("robot", "snowman")),
    **dict.fromkeys(("boy", "girl", "child", "dancer"), ("robot", "teddy bear")),
}
"""By words that people type: the nearest entries."""


def entries(known: tuple[str, ...]) -> dict[str, list[list[str]]]:
    """Return the texts of all entries by their kind. known: the things."""
    styles = [texts for style in STYLES if (texts := [style, *STYLE_NAMES[style]])]
    looks = [list(APPEARANCE_NAMES.get(look, (look,))) for look in PALETTES]
    for look, texts in zip(PALETTES, looks, strict=True):
        texts.append(look)
    plain = [[f"{ground} background", f"on {ground}"] for ground in PLAIN]
    places = [[place, *map(_place, PLACE_NAMES[place])] for place in PLACE_NAMES]
    lights = [["daylight" if light == "day" else light, *map(_light, LIGHT_NAMES[light])]
              for light in LIGHTS]  # fmt: skip
    kinds = {
        "things": [[name] for name in known],
        "looks": looks,
        "grounds": [*plain, *places],
        "lights": lights,
        "styles": styles,
    }
    return {
        kind: [
            [t for t in dict.fromkeys((*texts, *ALSO.get(texts[0], ()))) if t not in NOT_KEPT]
            for texts in lists
        ]
        for kind, lists in kinds.items()
    }


def _place(text: str) -> str:
    """Return "wooden floor" for "on a wooden floor"."""
    return text.split(" ", 1)[1].removeprefix("the ").removeprefix("a ")


def _light(text: str) -> str:
    """Return "evening" for "in the evening"; "by day" stays, as a day is not a light."""
    return text if text == "by day" else _place(text)


def scenes(known: tuple[str, ...]) -> list[tuple[Scene, str]]:
    """Return the scene and the style of each entry's picture, in the order of the entries."""

    def scene(name: str = SHOWN, look: str = NATURAL, ground: str = "white", light: str = "day",
              ) -> Scene:  # fmt: skip
        thing = Object(name=name, x=0, y=0, size=0.8, appearance=look)
        return Scene(objects=(thing,), ground=ground, light=light)

    made = [(scene(name), "3D render") for name in known]
    made += [(scene(look=look), "3D render") for look in PALETTES]
    made += [(scene(ground=ground), "3D render") for ground in (*PLAIN, *PLACE_NAMES)]
    made += [(scene(ground="meadow", light=light), "3D render") for light in LIGHTS]
    return made + [(scene(), style) for style in STYLES]


def write_words(artwork: Artwork, folder: Path) -> None:
    """Write the list and the sheet into a model's folder."""
    known = tuple(sorted(artwork.names(held_out=False)))
    pictures = scenes(known)
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (SIDE * COLUMNS, SIDE * rows), "white")
    for number, (scene, style) in enumerate(pictures):
        pixels = (255 * render(scene, style, artwork)).round().astype(np.uint8)
        small = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        sheet.paste(small, (number % COLUMNS * SIDE, number // COLUMNS * SIDE))
    sheet.save(folder / SHEET, quality=QUALITY, optimize=True)
    words = entries(known)
    assert sum(map(len, words.values())) == len(pictures)
    names = {texts[0] for lists in words.values() for texts in lists}
    near = {word: [text for text in texts if text in names] for word, texts in NEAR.items()}
    content = {
        "draws": DRAWS,
        "otherwise": OTHERWISE,
        "makes_sources": False,
        "reads_photos": False,
        "words": words,
        "near": {word: texts for word, texts in near.items() if texts},
        "sheet": {"file": SHEET, "side": SIDE, "columns": COLUMNS},
    }
    lines = json.dumps(content, indent=1, ensure_ascii=False)
    (folder / FILE).write_text(lines + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artwork", type=Path)
    parser.add_argument("folder", type=Path, help="folder of the model")
    parser.add_argument("--docs", type=Path, help="also write the page of all words there")
    arguments = parser.parse_args()
    write_words(Artwork(arguments.artwork), arguments.folder)
    known = read_known_words(arguments.folder)
    if arguments.docs is not None and known is not None:
        write_page(known, arguments.docs)


if __name__ == "__main__":
    main()
