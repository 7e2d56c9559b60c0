"""The examples of training: pairs of one layout, drawn from their number, never held-out things."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer

from tools.train.artwork import Artwork
from tools.train.examples import HELD_OUT, SOURCES, UNSEEN, Pairs, Picture, draw, make_pair
from tools.train.layout import NATURAL, Scene
from tools.train.model import TEXT_LENGTH, make_tokenizer
from tools.train.scenes import (
    APPEARANCES,
    GROUNDS,
    LIGHTS,
    PENS,
    SIZE,
    STYLES,
    object_masks,
    render,
)
from tools.train.tasks import HELD_OUT as EVALUATED

ARTWORK = Artwork()
KNOWN = ARTWORK.names(held_out=False)


def layout(scene: Scene) -> Scene:
    """The scene without its looks."""
    objects = tuple(replace(thing, appearance=NATURAL) for thing in scene.objects)
    return replace(scene, objects=objects, ground="white", light="day")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    captions = [picture.caption for n in range(300) for picture in make_pair(n, KNOWN)]
    make_tokenizer(folder, captions)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    return Pairs(ARTWORK, tokenizer, start=100, count=40)


def test_pairs_have_one_layout_and_known_things() -> None:
    made = [make_pair(number, KNOWN) for number in range(800)]
    for number, (source, target) in enumerate(made):
        assert make_pair(number, KNOWN) == (source, target)
        assert layout(source.scene) == layout(target.scene)
        assert {thing.name for thing in source.scene.objects} <= set(KNOWN)
        assert "3D render" in (source.style, target.style)
    shares = {style: np.mean([pair[0].style == style for pair in made]) for style in SOURCES}
    for style in SOURCES:
        assert shares[style] == pytest.approx(SOURCES[style], abs=0.06)
    edited = np.mean([source.scene != target.scene for source, target in made])
    assert 0.3 < edited < 0.7


def test_training_and_evaluation_have_other_numbers() -> None:
    assert HELD_OUT < EVALUATED
    assert make_pair(0, KNOWN)[0].scene != make_pair(HELD_OUT, KNOWN)[0].scene


def test_no_training_pair_shows_a_held_out_thing(pairs: Pairs) -> None:
    assert set(pairs.names) == set(KNOWN)
    assert set(pairs.names).isdisjoint(ARTWORK.names(held_out=True))


def test_pictures_are_drawn_as_the_world_draws_them(pairs: Pairs) -> None:
    for index in (0, 7):
        both = make_pair(100 + index, KNOWN)
        for picture, shown in zip(both, pairs[index]["pictures"], strict=True):
            assert shown.dtype == torch.uint8
            truth = render(picture.scene, picture.style, ARTWORK)
            np.testing.assert_allclose(shown.movedim(0, -1).numpy() / 255, truth, atol=0.5001 / 255)
            assert torch.equal(shown, draw(picture, ARTWORK))


def test_the_truth_says_what_is_where(pairs: Pairs) -> None:
    side = SIZE // 8
    for index in range(len(pairs)):
        row, both = pairs[index], make_pair(100 + index, KNOWN)
        assert row["tokens"].shape == (2, TEXT_LENGTH)
        assert row["cover"].shape == row["thing"].shape == (2, side, side)
        for i, picture in enumerate(both):
            check_truth({name: value[i] for name, value in row.items()}, picture, pairs)


def test_words_are_held_to_what_they_name(pairs: Pairs) -> None:
    for index in range(len(pairs)):
        row = pairs[index]
        for i, picture in enumerate(make_pair(100 + index, KNOWN)):
            shown = object_masks(picture.scene, ARTWORK, size=SIZE // 4)
            names = [thing.name for thing in picture.scene.objects]
            for words, mask, name in zip(row["words"][i], row["masks"][i], names, strict=False):
                said = pairs.tokenizer.decode(row["tokens"][i][words]).split()
                assert said == picture.caption.lower().count(name) * name.split()
                same = sum(shown[k] for k, other in enumerate(names) if other == name)
                naive = same.reshape(SIZE // 8, 2, SIZE // 8, 2).mean((1, 3))
                np.testing.assert_allclose(mask.numpy(), naive, atol=1e-6)
            assert not row["words"][i][len(names) :].any()
            assert not row["masks"][i][len(names) :].any()


def check_truth(row: dict[str, torch.Tensor], picture: Picture, pairs: Pairs) -> None:
    scene, pen = picture.scene, picture.style in PENS
    covered = row["cover"] > 0.5
    assert covered.any()
    assert (row["thing"][~covered] == UNSEEN).all()
    things = {pairs.numbers[thing.name] for thing in scene.objects}
    assert set(row["thing"][covered].tolist()) <= things
    looks = {UNSEEN} if pen else {APPEARANCES.index(thing.appearance) for thing in scene.objects}
    assert set(row["appearance"][covered].tolist()) <= looks
    assert STYLES[row["style"]] == picture.style
    if pen:
        assert row["ground"] == row["light"] == UNSEEN
    else:
        assert GROUNDS[row["ground"]] == scene.ground
        assert tuple(LIGHTS)[row["light"]] == scene.light
