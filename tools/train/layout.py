"""Scenes of the world as plain data, and the positions of their things over time.

Coordinates: the default camera sees x, y in [-1, 1], x to the right and y down. Angles are in
radians. Time runs from 0 to 1 over a clip. Transforms are 3 x 3 matrices (homogeneous coordinates).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.floating]

NATURAL = "natural"
"""The appearance of a thing in its natural colours."""


@dataclass(frozen=True, kw_only=True)
class Object:
    """One thing in a scene.

    `x`, `y`: position; `size`: half of its square's side; `angle`; `flipped` left to right;
    `appearance`: `NATURAL`, a colour or a material. Its motion over the clip: `dx`, `dy`
    (displacement from time 0 to 1), `bow` (sideways swing of the path), `spin` (rotation) and
    `growth` (logarithm of the change in size).
    """

    name: str
    x: float
    y: float
    size: float
    angle: float = 0.0
    flipped: bool = False
    appearance: str = NATURAL
    dx: float = 0.0
    dy: float = 0.0
    bow: float = 0.0
    spin: float = 0.0
    growth: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Camera:
    """The view: centre, zoom (1 sees [-1, 1]), roll, and their change from time 0 to 1."""

    x: float = 0.0
    y: float = 0.0
    zoom: float = 1.0
    roll: float = 0.0
    dx: float = 0.0
    dy: float = 0.0
    growth: float = 0.0
    spin: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Things from back to front on a ground, in a light; `hand`: the seed of a rough drawing."""

    objects: tuple[Object, ...]
    ground: str
    light: str = "day"
    camera: Camera = Camera()
    hand: int = 0


def similarity(x: float, y: float, scale: float, angle: float, *, flipped: bool = False) -> Matrix:
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    side = -1.0 if flipped else 1.0
    return np.array([[side * cos, -sin, x], [side * sin, cos, y], [0, 0, 1]])


def object_to_world(thing: Object, time: float) -> Matrix:
    """Return the transform from a thing's square, [-1, 1] on both axes, to the world."""
    swing = thing.bow * math.sin(math.pi * time)
    way = math.hypot(thing.dx, thing.dy) or 1.0
    return similarity(
        thing.x + thing.dx * time - swing * thing.dy / way,
        thing.y + thing.dy * time + swing * thing.dx / way,
        thing.size * math.exp(thing.growth * time),
        thing.angle + thing.spin * time,
        flipped=thing.flipped,
    )


def world_to_view(camera: Camera, time: float) -> Matrix:
    """Return the transform from the world to the camera's view, [-1, 1] on both axes."""
    view = similarity(
        camera.x + camera.dx * time,
        camera.y + camera.dy * time,
        1 / (camera.zoom * math.exp(camera.growth * time)),
        camera.roll + camera.spin * time,
    )
    return np.linalg.inv(view)


def square_to_pixels(size: int) -> Matrix:
    """Return the transform from [-1, 1] on both axes to pixels, whose centres are integers."""
    half = size / 2
    return np.array([[half, 0, half - 0.5], [0, half, half - 0.5], [0, 0, 1]])


def object_to_pixels(thing: Object, camera: Camera, time: float, size: int) -> Matrix:
    return square_to_pixels(size) @ world_to_view(camera, time) @ object_to_world(thing, time)
