"""Captions of procedural scenes in several wordings; what is not named stays free."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator

from tools.scenes import Object, Scene

STYLE_NAMES = {
    "sketch": ("sketch", "sketch", "ink drawing", "ink sketch", "line drawing", "drawing"),
    "rough drawing": (
        "rough drawing",
        "rough drawing",
        "rough sketch",
        "pencil drawing",
        "scribble",
    ),
    "cartoon": ("cartoon", "cartoon", "flat cartoon", "comic", "illustration"),
    "photo": ("photo", "photo", "photo", "photograph", "realistic photo", "detailed photo"),
}
SHAPE_NAMES = {
    "circle": ("circle", "ball", "disc"),
    "square": ("square", "square", "block"),
    "triangle": ("triangle",),
    "star": ("star",),
    "heart": ("heart",),
    "moon": ("moon", "crescent", "crescent moon"),
    "cross": ("cross", "cross", "plus sign"),
    "ring": ("ring", "ring", "donut"),
    "hexagon": ("hexagon",),
    "drop": ("drop", "teardrop", "droplet"),
    "flower": ("flower", "flower", "blossom"),
    "leaf": ("leaf",),
}
COLOUR_NAMES = {
    "purple": ("purple", "purple", "violet"),
    "turquoise": ("turquoise", "teal", "cyan"),
}
MATERIAL_NAMES = {
    "plastic": ("plastic",),
    "wood": ("wooden", "wood"),
    "metal": ("metal", "metallic"),
    "stone": ("stone",),
}
GROUND_NAMES = {
    "sand": ("on sand", "on sand", "on the beach"),
    "grass": ("on grass", "on grass", "on a lawn", "in a meadow"),
    "water": ("on water", "in water", "in the sea"),
    "snow": ("on snow", "in the snow"),
    "wooden floor": ("on a wooden floor", "on a wooden floor", "on wooden boards"),
    "bricks": ("on bricks", "on a brick wall"),
    "gravel": ("on gravel", "on pebbles", "on cobblestones"),
}
LIGHT_NAMES = {
    "day": ("in daylight", "by day", "in sunshine"),
    "sunset": ("at sunset", "at sunset", "in the evening"),
    "night": ("at night", "at night", "in moonlight"),
}


def caption(scene: Scene, style: str, generator: Generator) -> str:
    """Describe a scene drawn in `style`; drawings show no colours, materials or light."""

    def chance(share: float) -> bool:
        return float(torch.rand((), generator=generator)) < share

    def choose(options: Sequence[str]) -> str:
        return options[int(torch.randint(len(options), (), generator=generator))]

    pen = style in ("sketch", "rough drawing")
    with_colour = chance(0.8) and not pen
    with_material = chance(0.55) and style == "photo"

    def describe(thing: Object) -> str:
        words = [choose(SHAPE_NAMES[thing.shape])]
        material = choose(MATERIAL_NAMES[thing.material])
        if with_material and chance(0.15):
            words.append(f"made of {thing.material}")
        elif with_material:
            words.insert(0, material)
        if with_colour:
            words.insert(0, choose(COLOUR_NAMES.get(thing.colour, (thing.colour,))))
        article = "an" if words[0][0] in "aeiou" else "a"
        return " ".join((article, *words))

    order = torch.randperm(len(scene.objects), generator=generator).tolist()
    named = [describe(scene.objects[index]) for index in order]
    subject = named[0]
    if len(named) > 1:
        subject = ", ".join(named[:-1]) + choose((" and ", " and ", " next to ")) + named[-1]
    name = choose(STYLE_NAMES[style])
    article = "an" if name[0] in "aeiou" else "a"
    wording = torch.rand((), generator=generator)
    if wording < 0.80:
        text = f"{article} {name} of {subject}"
    elif wording < 0.90:
        text = f"{name} of {subject}"
    elif wording < 0.96:
        text = f"{subject}, {name}"
    else:
        text = subject
    # Pens draw the ground only where there are marks.
    if chance(0.4 if pen else 0.8) and (scene.marks or not pen):
        text += f" {choose(GROUND_NAMES[scene.ground])}"
    # Day goes without saying more often than not.
    if chance(0.35 if scene.light == "day" else 0.8) and not pen:
        text += f" {choose(LIGHT_NAMES[scene.light])}"
    return text


def full_caption(scene: Scene, style: str) -> str:
    """Name all that a picture in `style` shows, in the first wording of each."""
    pen = style in ("sketch", "rough drawing")

    def describe(thing: Object) -> str:
        words = [SHAPE_NAMES[thing.shape][0]]
        if style == "photo":
            words.insert(0, MATERIAL_NAMES[thing.material][0])
        if not pen:
            words.insert(0, thing.colour)
        return " ".join(("an" if words[0][0] in "aeiou" else "a", *words))

    text = f"a {style} of {' and '.join(map(describe, scene.objects))}"
    if pen:
        return text
    return f"{text} {GROUND_NAMES[scene.ground][0]} {LIGHT_NAMES[scene.light][0]}"
