"""Captions say what is true, pens name no looks, and the tokenizer knows every word."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import CLIPTokenizer

from tools.train.appearance import LIGHTS
from tools.train.artwork import Artwork
from tools.train.captions import (
    APPEARANCE_NAMES,
    LIGHT_NAMES,
    STYLE_NAMES,
    caption,
    full_caption,
    ground_names,
    with_article,
)
from tools.train.layout import NATURAL, Object, Scene
from tools.train.model import TEXT_LENGTH, make_tokenizer
from tools.train.scenes import APPEARANCES, GROUNDS, PENS, STYLES, random_scene
from tools.train.train import vocabulary

NAMES = Artwork().names()
LOOKS = {
    appearance: set(APPEARANCE_NAMES.get(appearance, (appearance,)))
    for appearance in APPEARANCES
    if appearance != NATURAL
}


def draw_scenes(count: int) -> list[Scene]:
    generator = np.random.default_rng(8)
    return [random_scene(generator, NAMES) for _ in range(count)]


@pytest.mark.parametrize("style", STYLES)
def test_captions_name_only_what_is_true(style: str) -> None:
    generator = np.random.default_rng(5)
    others = {name for kind in STYLES if kind != style for name in STYLE_NAMES[kind]}
    for scene in draw_scenes(120):
        text = caption(scene, style, generator)
        for thing in scene.objects:
            assert thing.name in text
        for name in set(NAMES) - {thing.name for thing in scene.objects}:
            longer = any(name in thing.name for thing in scene.objects)
            assert longer or f" {name}" not in text
        said = {place for place in GROUNDS if any(f" {g}" in text for g in ground_names(place))}
        assert said <= {scene.ground}
        assert {n for n, words in LIGHT_NAMES.items() if any(w in text for w in words)} <= {
            scene.light
        }
        assert not any(re.search(rf"^an? {name} of|, {name}\b", text) for name in others)
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text)


@pytest.mark.parametrize("style", PENS)
def test_pens_name_no_looks(style: str) -> None:
    generator = np.random.default_rng(5)
    words = set().union(*LOOKS.values())
    for scene in draw_scenes(150):
        for text in (caption(scene, style, generator), full_caption(scene, style)):
            left = text
            for thing in scene.objects:  # A green apple is called so.
                left = left.replace(thing.name, "")
            assert not words & set(re.findall(r"\w+", left))
            assert "background" not in left
            assert not any(name in left for names in LIGHT_NAMES.values() for name in names)


def test_a_full_caption_names_all() -> None:
    fox = Object(name="fox", x=0, y=0, size=0.5, appearance="gold")
    owl = Object(name="owl", x=0, y=0, size=0.5)
    scene = Scene(objects=(fox, owl), ground="blue", light="sunset")
    assert full_caption(scene, "3D render") == (
        "a 3D render of a golden fox and an owl on a blue background at sunset"
    )
    assert full_caption(replace(scene, ground="sea", light="day"), "cartoon") == (
        "a cartoon of a golden fox and an owl in the sea in daylight"
    )
    assert full_caption(scene, "line drawing") == "a line drawing of a fox and an owl"
    assert with_article("owl") == "an owl"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(folder, vocabulary(Artwork(), pairs=3000))
    return CLIPTokenizer.from_pretrained(folder)


def test_every_word_of_the_world_is_one_token(tokenizer: CLIPTokenizer) -> None:
    for number, name in enumerate(NAMES):
        scene = Scene(
            objects=tuple(
                Object(name=name, x=0, y=0, size=0.5, appearance=APPEARANCES[(number + i) % 17])
                for i in (0, 5, 11)
            ),
            ground=GROUNDS[number % len(GROUNDS)],
            light=tuple(LIGHTS)[number % 3],
        )
        for style in STYLES:
            text = full_caption(scene, style)
            words = re.findall(r"\d|[a-z]+", text.lower())
            tokens = tokenizer.tokenize(text)
            assert tokens == [f"{word}</w>" for word in words]
            assert len(tokens) + 2 <= TEXT_LENGTH


def test_other_text_is_spelled(tokenizer: CLIPTokenizer) -> None:
    ids = tokenizer("Schrödinger's zyzzyva").input_ids
    assert tokenizer.unk_token_id not in ids[1:-1]
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == (
        "schrödinger'szyzzyva"
    )
