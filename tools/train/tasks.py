"""Held-out examples of the model's tasks: a source, a prompt and the true translation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from tools.train.appearance import COLOURS, LIGHTS, MATERIALS
from tools.train.artwork import Artwork, look_alikes
from tools.train.captions import full_caption
from tools.train.layout import Camera, Scene
from tools.train.measure import Judge, with_object
from tools.train.scenes import GROUNDS, random_scene

DRAWINGS = ("line drawing", "rough drawing", "cartoon")
EDITS = ("class", "colour", "material", "light", "ground")
TASKS = (*DRAWINGS, *EDITS)
"""A drawing becomes a 3D render, or one attribute of a 3D render changes."""
GOAL = "3D render"
HELD_OUT = 20_000_000  # seeds of still scenes; training uses smaller ones
MOVING = 30_000_000  # seeds of moving scenes
_LOOK_ALIKES = 3  # number of similar things among which another class is chosen


@dataclass(frozen=True, kw_only=True)
class Example:
    """A source in `style` that should become a 3D render of `target`, as `prompt` says."""

    task: str
    index: int
    source: Scene
    style: str
    target: Scene
    prompt: str


@dataclass(frozen=True, kw_only=True)
class World:
    """The artwork and judge of examples. alike: similar things for each known thing."""

    artwork: Artwork
    known: Sequence[str]
    held_out: Sequence[str]
    alike: Mapping[str, Sequence[str]]
    judge: Judge


@lru_cache(maxsize=1)
def open_world(folder: Path) -> World:
    """Open the world of a folder of artwork, once in each process."""
    artwork = Artwork(folder)
    known = artwork.names(held_out=False)
    return World(
        artwork=artwork,
        known=known,
        held_out=artwork.names(held_out=True),
        alike=look_alikes(artwork, known, _LOOK_ALIKES),
        judge=Judge(artwork),
    )


def make_example(world: World, task: str, index: int) -> Example:
    """Return held-out example `index` of a task; edits of objects change the front object.

    A changed class has nearly the same outline.
    """
    generator = np.random.default_rng(HELD_OUT + index)
    source = random_scene(generator, world.known)
    target = source if task in DRAWINGS else _edited(world, source, task, generator)
    return Example(
        task=task,
        index=index,
        source=source,
        style=task if task in DRAWINGS else GOAL,
        target=target,
        prompt=full_caption(target, GOAL),
    )


def make_thing(world: World, style: str, index: int) -> Example:
    """Return an example of held-out thing `index` alone, from `style` to a 3D render."""
    name = world.held_out[index % len(world.held_out)]
    generator = np.random.default_rng(HELD_OUT + index)
    scene = random_scene(generator, (name,))
    while len(scene.objects) > 1:
        scene = random_scene(generator, (name,))
    prompt = full_caption(scene, GOAL)
    return Example(task=style, index=index, source=scene, style=style, target=scene, prompt=prompt)


def make_moving(world: World, index: int) -> Scene:
    """Return a held-out moving scene. In every fifth, one thing crosses in front of another."""
    generator = np.random.default_rng(MOVING + index)
    scene = random_scene(generator, world.known, moving=True)
    if index % 5 != 4:
        return scene
    while len(scene.objects) < 2:
        scene = random_scene(generator, world.known, moving=True)
    behind, front = scene.objects[:2]
    pair = (
        replace(behind, x=-0.42, y=0.1, size=0.48, dx=0.84, dy=0.0),
        replace(front, x=0.42, y=-0.1, size=0.42, dx=-0.84, dy=0.0),
    )
    return replace(scene, objects=pair, camera=Camera(dx=0.1))


def _edited(world: World, scene: Scene, task: str, generator: np.random.Generator) -> Scene:
    def another(values: Sequence[str], old: str) -> str:
        others = [value for value in values if value != old]
        return others[int(generator.integers(len(others)))]

    if task == "light":
        return replace(scene, light=another(tuple(LIGHTS), scene.light))
    if task == "ground":
        return replace(scene, ground=another(GROUNDS, scene.ground))
    place = len(scene.objects) - 1
    front = scene.objects[place]
    if task == "class":
        changed = replace(front, name=another(world.alike[front.name], front.name))
    else:
        looks = tuple(COLOURS if task == "colour" else MATERIALS)
        changed = replace(front, appearance=another(looks, front.appearance))
    return with_object(scene, place, changed)
