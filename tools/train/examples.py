"""Training examples: pairs of pictures of one layout with captions, made from the pair's number.

The source is a drawing, a cartoon or a 3D render; the target shows the same things at the same
places, usually as a 3D render and sometimes edited.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import CLIPTokenizer

from tools.train.artwork import Artwork
from tools.train.captions import caption
from tools.train.model import TEXT_LENGTH
from tools.train.scenes import (
    APPEARANCES,
    GROUNDS,
    LIGHTS,
    PENS,
    SIZE,
    STYLES,
    Scene,
    object_masks,
    random_appearance,
    random_ground,
    random_light,
    random_scene,
    render,
)

SOURCES = {"line drawing": 0.32, "rough drawing": 0.23, "cartoon": 0.27, "3D render": 0.18}
"""The frequency of each style as the source."""
EDITED = 0.4  # share of the drawings' targets whose appearance is edited
BACK = 0.04  # share of the pairs from a 3D render to a drawing
HELD_OUT = 10_000_000  # pairs from this number on are not used in training
OBJECTS = 3  # in a scene, at most
UNSEEN = -1  # class of attributes that a picture does not show


@dataclass(frozen=True, kw_only=True)
class Picture:
    scene: Scene
    style: str
    caption: str


def edit(scene: Scene, generator: np.random.Generator) -> Scene:
    """Return the same layout with other appearances."""

    def other(share: float, old: str, new: str) -> str:
        return new if generator.random() < share else old

    objects = tuple(
        replace(thing, appearance=other(0.7, thing.appearance, random_appearance(generator)))
        for thing in scene.objects
    )
    return replace(
        scene,
        objects=objects,
        ground=other(0.5, scene.ground, random_ground(generator)),
        light=other(0.5, scene.light, random_light(generator)),
    )


def make_pair(number: int, names: tuple[str, ...]) -> tuple[Picture, Picture]:
    """Return source and target of pair `number`."""
    generator = np.random.default_rng(number)
    scene = random_scene(generator, names)
    style = list(SOURCES)[int(generator.choice(len(SOURCES), p=list(SOURCES.values())))]
    render_of = "3D render"
    edited = style == render_of or generator.random() < EDITED
    target = edit(scene, generator) if edited else scene
    pair = [(scene, style), (target, render_of)]
    if generator.random() < BACK:
        pair = [(scene, render_of), (scene, style)]
    source, goal = (
        Picture(scene=shown, style=kind, caption=caption(shown, kind, generator))
        for shown, kind in pair
    )
    return source, goal


class Pairs(Dataset[dict[str, Tensor]]):
    """Pairs from number `start` on, as tensors.

    `pictures` (2, 3, SIZE, SIZE) uint8, `tokens` (2, TEXT_LENGTH); the truth for the heads, at the
    latents' size: `cover` (2, h, w) in [0, 1] and classes (2, h, w) of `thing` and `appearance`,
    (2,) of `ground`, `light` and `style`, `UNSEEN` if the picture does not show them; and for
    cross-attention: `words` (2, OBJECTS, TEXT_LENGTH), the tokens that name an object, and `masks`
    (2, OBJECTS, h, w) in [0, 1] of all objects of that name.
    """

    def __init__(self, artwork: Artwork, tokenizer: CLIPTokenizer, *, start: int, count: int):
        self.artwork, self.tokenizer, self.start, self.count = artwork, tokenizer, start, count
        self.names = artwork.names(held_out=False)
        self.numbers = {name: number for number, name in enumerate(self.names)}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        pair = make_pair(self.start + index, self.names)
        truths = [self._truth(picture) | self._named(picture) for picture in pair]
        return {
            "pictures": torch.stack([draw(picture, self.artwork) for picture in pair]),
            "tokens": tokenize(self.tokenizer, [picture.caption for picture in pair]),
            **{name: torch.stack([truth[name] for truth in truths]) for name in truths[0]},
        }

    def _masks(self, scene: Scene) -> Tensor:
        masks = torch.from_numpy(object_masks(scene, self.artwork, size=SIZE // 4))
        return torch.nn.functional.avg_pool2d(masks[None], 2)[0]

    def _named(self, picture: Picture) -> dict[str, Tensor]:
        seen, tokens = self._masks(picture.scene), tokenize(self.tokenizer, [picture.caption])[0]
        masks = torch.zeros(OBJECTS, *seen.shape[1:])
        words = torch.zeros(OBJECTS, TEXT_LENGTH, dtype=torch.bool)
        names = [thing.name for thing in picture.scene.objects]
        for number, name in enumerate(names):
            masks[number] = seen[[other == name for other in names]].sum(0)
            ids = torch.tensor(self.tokenizer(name, add_special_tokens=False).input_ids)
            for start in (tokens.unfold(0, len(ids), 1) == ids).all(1).nonzero().flatten():
                words[number, start : start + len(ids)] = True
        return {"masks": masks, "words": words}

    def _truth(self, picture: Picture) -> dict[str, Tensor]:
        scene, pen = picture.scene, picture.style in PENS
        masks = self._masks(scene)
        cover, front = masks.sum(0).clamp(0, 1), masks.argmax(0)

        def of_objects(classes: list[int]) -> Tensor:
            return torch.where(cover > 0.5, torch.tensor(classes)[front], UNSEEN)

        things = [self.numbers.get(thing.name, UNSEEN) for thing in scene.objects]
        looks = [APPEARANCES.index(thing.appearance) for thing in scene.objects]
        return {
            "cover": cover,
            "thing": of_objects(things),
            "appearance": of_objects([UNSEEN] * len(looks) if pen else looks),
            "ground": torch.tensor(UNSEEN if pen else GROUNDS.index(scene.ground)),
            "light": torch.tensor(UNSEEN if pen else list(LIGHTS).index(scene.light)),
            "style": torch.tensor(STYLES.index(picture.style)),
        }


def draw(picture: Picture, artwork: Artwork) -> Tensor:
    """Draw a picture, (3, SIZE, SIZE) uint8."""
    drawn: npt.NDArray[np.float32] = render(picture.scene, picture.style, artwork)
    return torch.from_numpy((255 * drawn).round().astype(np.uint8)).movedim(-1, 0)


def scaled(pictures: Tensor) -> Tensor:
    """Convert uint8 to the range of the autoencoder, [-1, 1]."""
    return pictures.float() / 127.5 - 1


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Return token ids (N, TEXT_LENGTH)."""
    ids: Tensor = tokenizer(
        texts,
        padding="max_length",
        truncation=True,
        max_length=TEXT_LENGTH,
        return_tensors="pt",
    ).input_ids
    return ids
