"""What the embedded model is trained on: pictures of the world and their captions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor

from tools.captions import caption, full_caption
from tools.scenes import STYLES, VALUES, Scene, random_scene, render

SIZE = 128
SHARD = 2048  # images in one file
PICTURES = 3  # of an example: a drawing, the photo of the same scene, and an edited photo
DRAWING_WEIGHTS = {"sketch": 0.36, "rough drawing": 0.28, "cartoon": 0.36}
HELD_OUT = 10_000_000  # examples from this index on are never trained on
WORDINGS = 4  # captions of one image


def edit(scene: Scene, generator: Generator) -> Scene:
    """The same layout with other looks, now and then with another shape in front."""

    def redraw(share: float, old: str, name: str) -> str:
        if float(torch.rand((), generator=generator)) >= share:
            return old
        return VALUES[name][int(torch.randint(len(VALUES[name]), (), generator=generator))]

    front = len(scene.objects) - 1
    objects = tuple(
        replace(
            thing,
            shape=redraw(0.25 if index == front else 0.0, thing.shape, "shape"),
            colour=redraw(0.6, thing.colour, "colour"),
            material=redraw(0.6, thing.material, "material"),
        )
        for index, thing in enumerate(scene.objects)
    )
    ground, light = redraw(0.5, scene.ground, "ground"), redraw(0.5, scene.light, "light")
    return replace(scene, objects=objects, ground=ground, light=light)


def example(index: int) -> tuple[tuple[Scene, str], ...]:
    """The pictures of training example `index`, as scenes and styles: a drawing, the photo of the
    same scene, and the photo of an edited one.
    """
    generator = Generator().manual_seed(index)
    scene = random_scene(generator)
    weights = torch.tensor(list(DRAWING_WEIGHTS.values()))
    drawing = list(DRAWING_WEIGHTS)[int(torch.multinomial(weights, 1, generator=generator))]
    return (scene, drawing), (scene, "photo"), (edit(scene, generator), "photo")


def render_examples(first: int, count: int, picture: int) -> Tensor:
    """One of the pictures of `count` examples from `first` on: (count, 3, SIZE, SIZE) uint8."""
    images = torch.empty(count, 3, SIZE, SIZE, dtype=torch.uint8)
    pictures = [example(first + row)[picture] for row in range(count)]
    for style in STYLES:
        rows = [row for row, (_, other) in enumerate(pictures) if other == style]
        for chunk in (rows[start : start + 16] for start in range(0, len(rows), 16)):
            drawn = render([pictures[row][0] for row in chunk], style, SIZE)
            images[chunk] = (drawn * 255).round().byte()
    return images


def make_images(folder: Path, count: int) -> None:
    """Render `count` examples into shards of `SHARD`; shards that exist stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for first in range(0, count, SHARD):
        path = folder / f"images-{first // SHARD:05d}.safetensors"
        if not path.exists():
            partial = path.with_suffix(".partial")
            rendered = [render_examples(first, SHARD, picture) for picture in range(PICTURES)]
            save_file({"images": torch.stack(rendered, 1)}, partial)
            partial.rename(path)
            print(f"images: {first + SHARD} of {count}", flush=True)


def load_images(folder: Path, shards: int) -> Tensor:
    """The first shards' images, all of each example: (N, 3, SIZE, SIZE) uint8."""
    paths = sorted(folder.glob("images-*.safetensors"))[:shards]
    return torch.cat([load_file(path)["images"].flatten(0, 1) for path in paths])


def captions(index: int) -> list[str]:
    """`WORDINGS` captions of each picture of training example `index`, one of which names all."""
    texts = []
    for picture, (scene, style) in enumerate(example(index)):
        generator = Generator().manual_seed(index + HELD_OUT + picture)
        texts.append(full_caption(scene, style))
        texts += [caption(scene, style, generator) for _ in range(WORDINGS - 1)]
    return texts
