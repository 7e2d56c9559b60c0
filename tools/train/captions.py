"""Captions of scenes in several wordings; attributes that are not named are free."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tools.train.appearance import MATERIALS
from tools.train.layout import NATURAL, Object, Scene
from tools.train.scenes import PENS, PLAIN

STYLE_NAMES = {
    "line drawing": ("line drawing", "line drawing", "ink drawing", "sketch", "drawing"),
    "rough drawing": (
        "rough drawing",
        "rough drawing",
        "pencil drawing",
        "rough sketch",
        "scribble",
    ),
    "cartoon": ("cartoon", "cartoon", "flat cartoon", "flat drawing", "illustration"),
    "3D render": ("3D render", "3D render", "3D render", "realistic render", "photo"),
}
APPEARANCE_NAMES = {
    "gold": ("golden", "golden", "gold"),
    "silver": ("silver", "silver"),
    "bronze": ("bronze",),
    "chocolate": ("chocolate",),
    "jade": ("jade",),
    "ice": ("ice", "icy", "frozen"),
    "marble": ("marble",),
    "clay": ("clay", "clay", "terracotta"),
    "turquoise": ("turquoise", "turquoise", "teal"),
    "purple": ("purple", "purple", "violet"),
}
PLACE_NAMES = {
    "meadow": ("in a meadow", "in a meadow", "on grass", "on a lawn"),
    "desert": ("in the desert", "in the desert", "on sand"),
    "sea": ("in the sea", "in the sea", "on water"),
    "snow": ("in the snow", "in the snow", "on snow"),
    "room": ("in a room", "in a room", "on a wooden floor"),
}
LIGHT_NAMES = {
    "day": ("in daylight", "by day"),
    "sunset": ("at sunset", "at sunset", "in the evening"),
    "night": ("at night", "at night", "in moonlight"),
}


def with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def looks_of(thing: Object) -> tuple[str, ...]:
    """Return words for an appearance, the usual one first; none for natural colours."""
    if thing.appearance == NATURAL:
        return ()
    return APPEARANCE_NAMES.get(thing.appearance, (thing.appearance,))


def ground_names(ground: str) -> tuple[str, ...]:
    """Return words for a ground, the usual ones first."""
    if ground in PLAIN:
        return (f"on {with_article(ground)} background", f"on {ground}")
    return PLACE_NAMES[ground]


def caption(scene: Scene, style: str, generator: np.random.Generator) -> str:
    """Describe a scene drawn in `style`; pens show no colours, materials, ground or light."""

    def choose(options: Sequence[str]) -> str:
        return options[int(generator.integers(len(options)))]

    pen = style in PENS

    def describe(thing: Object) -> str:
        looks = looks_of(thing)
        named = looks and not pen and generator.random() < 0.9
        if named and thing.appearance in MATERIALS and generator.random() < 0.15:
            return f"{with_article(thing.name)} made of {thing.appearance}"
        return with_article(f"{choose(looks)} {thing.name}" if named else thing.name)

    order = generator.permutation(len(scene.objects))
    named = [describe(scene.objects[index]) for index in order]
    subject = named[0]
    if len(named) > 1:
        subject = ", ".join(named[:-1]) + choose((" and ", " and ", " next to ")) + named[-1]
    name = choose(STYLE_NAMES[style])
    wording = generator.random()
    if wording < 0.86:
        text = f"{with_article(name)} of {subject}"
    elif wording < 0.95:
        text = f"{subject}, {name}"
    else:
        text = subject
    if pen:
        return text
    if generator.random() < 0.85:
        text += f" {choose(ground_names(scene.ground))}"
    # Daylight is usually not mentioned.
    if generator.random() < (0.3 if scene.light == "day" else 0.9):
        text += f" {choose(LIGHT_NAMES[scene.light])}"
    return text


def full_caption(scene: Scene, style: str) -> str:
    """Return a caption of everything in a picture in `style`, in the first wording of each."""
    pen = style in PENS

    def describe(thing: Object) -> str:
        looks = () if pen else looks_of(thing)[:1]
        return with_article(" ".join((*looks, thing.name)))

    text = f"{with_article(style)} of {' and '.join(map(describe, scene.objects))}"
    if pen:
        return text
    return f"{text} {ground_names(scene.ground)[0]} {LIGHT_NAMES[scene.light][0]}"
