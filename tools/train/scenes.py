"""The world of the embedded model: scenes that exist in every style, with ground truth.

A `Scene` is plain data: one to three things on a ground, in a light, seen by a camera, moving.
`render` draws the same layout as line drawing, rough drawing, cartoon or 3D render, so the true
translation of every picture exists; change an attribute with `dataclasses.replace` and render
again. `optical_flow` gives exact motion. Everything is deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from tools.train.appearance import COLOURS, LIGHTS, MATERIALS, Pixels, lit, recoloured, smooth_noise
from tools.train.artwork import LAYER, Artwork, Layer
from tools.train.layout import (
    NATURAL,
    Camera,
    Object,
    Scene,
    object_to_pixels,
    square_to_pixels,
    world_to_view,
)

STYLES = ("line drawing", "rough drawing", "cartoon", "3D render")
PENS = ("line drawing", "rough drawing")
"""Styles that show only outlines."""
SIZE = 256

PLAIN: dict[str, tuple[float, float, float]] = {
    "white": (0.96, 0.96, 0.95),
    "red": (0.84, 0.30, 0.27),
    "orange": (0.93, 0.60, 0.26),
    "yellow": (0.96, 0.83, 0.40),
    "green": (0.46, 0.71, 0.40),
    "turquoise": (0.36, 0.74, 0.73),
    "blue": (0.38, 0.59, 0.88),
    "purple": (0.58, 0.44, 0.78),
    "pink": (0.94, 0.64, 0.75),
    "brown": (0.56, 0.41, 0.31),
    "grey": (0.58, 0.58, 0.60),
    "black": (0.17, 0.17, 0.20),
}
"""Plain grounds."""
PLACES: dict[str, tuple[tuple[float, float, float], ...]] = {
    "meadow": ((0.55, 0.78, 0.96), (0.80, 0.92, 0.99), (0.52, 0.76, 0.34), (0.36, 0.62, 0.24)),
    "desert": ((0.62, 0.82, 0.93), (0.97, 0.90, 0.76), (0.93, 0.78, 0.52), (0.83, 0.62, 0.36)),
    "sea": ((0.62, 0.84, 0.98), (0.88, 0.96, 1.00), (0.20, 0.58, 0.80), (0.08, 0.36, 0.64)),
    "snow": ((0.70, 0.80, 0.90), (0.88, 0.93, 0.97), (0.97, 0.98, 1.00), (0.84, 0.90, 0.97)),
    "room": ((0.93, 0.86, 0.76), (0.89, 0.80, 0.69), (0.66, 0.45, 0.30), (0.53, 0.34, 0.22)),
}
"""Grounds with a horizon: colours from the top to the horizon, and from there to the bottom."""
GROUNDS = (*PLAIN, *PLACES)
APPEARANCES = (NATURAL, *COLOURS, *MATERIALS)
HORIZON = 0.12  # y of the horizon in the world
_PAPER = {"line drawing": (0.99, 0.988, 0.975), "rough drawing": (0.955, 0.94, 0.905)}
_PENCIL = np.array((0.20, 0.19, 0.21), np.float32)


def random_scene(
    generator: np.random.Generator, names: Sequence[str], *, moving: bool = False
) -> Scene:
    """Return a random scene of the named things; with `moving`, they and the camera move."""

    def uniform(low: float, high: float) -> float:
        return float(generator.uniform(low, high))

    share = generator.random()
    count = 1 if share < 0.65 else 2 if share < 0.92 else 3
    small, large = ((0.58, 0.88), (0.42, 0.56), (0.33, 0.42))[count - 1]
    objects: list[Object] = []
    while len(objects) < count:
        size = uniform(small, large)
        reach = 1.02 - size
        x, y = uniform(-reach, reach), uniform(-reach, reach)
        # Neighbours may touch, but each thing must be recognisable at time 0.
        if any(
            math.hypot(x - other.x, y - other.y) < 0.95 * (size + other.size) for other in objects
        ):
            if generator.random() < 0.02:
                objects.clear()
            continue
        objects.append(
            Object(
                name=names[int(generator.integers(len(names)))],
                appearance=random_appearance(generator),
                x=x,
                y=y,
                size=size,
                angle=uniform(-0.3, 0.3),
                flipped=generator.random() < 0.3,
                dx=uniform(-0.5, 0.5) - 0.8 * x if moving else 0.0,
                dy=uniform(-0.3, 0.3) - 0.8 * y if moving else 0.0,
                bow=uniform(-0.15, 0.15) if moving else 0.0,
                spin=uniform(-1.2, 1.2) if moving else 0.0,
                growth=uniform(-0.25, 0.25) if moving else 0.0,
            )
        )
    camera = Camera(
        x=uniform(-0.06, 0.06),
        y=uniform(-0.06, 0.06),
        zoom=uniform(0.92, 1.1),
        roll=uniform(-0.06, 0.06),
        dx=uniform(-0.15, 0.15) if moving else 0.0,
        dy=uniform(-0.15, 0.15) if moving else 0.0,
        growth=uniform(-0.15, 0.15) if moving else 0.0,
        spin=uniform(-0.15, 0.15) if moving else 0.0,
    )
    return Scene(
        objects=tuple(objects),
        ground=random_ground(generator),
        light=random_light(generator),
        camera=camera,
        hand=int(generator.integers(1 << 30)),
    )


def random_appearance(generator: np.random.Generator) -> str:
    share = generator.random()
    if share < 0.5:
        return NATURAL
    kinds = tuple(COLOURS if share < 0.75 else MATERIALS)
    return kinds[int(generator.integers(len(kinds)))]


def random_ground(generator: np.random.Generator) -> str:
    kinds = tuple(PLAIN if generator.random() < 0.65 else PLACES)
    return kinds[int(generator.integers(len(kinds)))]


def random_light(generator: np.random.Generator) -> str:
    return tuple(LIGHTS)[int(generator.choice(3, p=(0.6, 0.2, 0.2)))]


def render(
    scene: Scene, style: str, artwork: Artwork, *, size: int = SIZE, time: float = 0.0
) -> Pixels:
    """Draw a scene in a style: (size, size, 3) in [0, 1]."""
    if style not in STYLES:
        raise ValueError(f"unknown style {style!r}; choose from {', '.join(STYLES)}")
    if style in PENS:
        ink = _draw_ink(scene, artwork, size, time)
        return _pencil(ink, scene.hand) if style == "rough drawing" else _pen(ink)
    picture = _draw_ground(scene, style, size, time)
    for thing in scene.objects:
        looks = _looks(artwork, thing.name, thing.appearance, style)
        layer = _place(looks, thing, scene.camera, time, size)
        if style == "3D render":
            picture = picture * (1 - _shadow(layer[..., 3], thing, scene.camera, size))[..., None]
        picture = picture * (1 - layer[..., 3:]) + layer[..., :3]
    return np.clip(lit(picture, scene.light), 0, 1)


def object_masks(scene: Scene, artwork: Artwork, *, size: int = SIZE, time: float = 0.0) -> Pixels:
    """Return each object's visible share of pixels, (N, size, size) in [0, 1], back to front."""
    masks: list[Pixels] = []
    for thing in scene.objects:
        layer = artwork.layer(thing.name, "cartoon")
        cover = _place(layer, thing, scene.camera, time, size)[..., 3]
        masks = [*(mask * (1 - cover) for mask in masks), cover]
    return np.stack(masks)


def optical_flow(
    scene: Scene, artwork: Artwork, t0: float, t1: float, *, size: int = SIZE
) -> tuple[Pixels, npt.NDArray[np.bool_]]:
    """Return the motion from time t0 to t1 and the visibility at t1.

    Flow is (2, size, size) in pixels, x first; visibility is (size, size), True if the same surface
    is visible at t1.
    A pixel moves with the object that covers half of it or more, or with the ground; shadows are
    ignored.
    """
    rows, columns = np.indices((size, size), np.float64)
    here = np.stack((columns, rows, np.ones_like(rows)))
    pixels = square_to_pixels(size)
    ground = [pixels @ world_to_view(scene.camera, time) for time in (t0, t1)]
    moves = [ground[1] @ np.linalg.inv(ground[0])]
    for thing in scene.objects:
        before, after = (object_to_pixels(thing, scene.camera, time, size) for time in (t0, t1))
        moves.append(after @ np.linalg.inv(before))
    owner, later = (_owners(scene, artwork, size, time) for time in (t0, t1))
    flow = np.zeros((2, size, size), np.float32)
    for number, move in enumerate(moves):
        there = np.einsum("ij,jhw->ihw", move, here)[:2]
        flow = np.where(owner == number, there - here[:2], flow).astype(np.float32)
    x, y = (np.rint(here[i] + flow[i]).astype(int) for i in range(2))
    inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
    visible = inside & (later[y.clip(0, size - 1), x.clip(0, size - 1)] == owner)
    return flow, visible


def _owners(scene: Scene, artwork: Artwork, size: int, time: float) -> npt.NDArray[np.int64]:
    """Return the number of the front object that covers half of a pixel; 0 for the ground."""
    owner = np.zeros((size, size), np.int64)
    for number, thing in enumerate(scene.objects, 1):
        layer = artwork.layer(thing.name, "cartoon")
        owner[_place(layer, thing, scene.camera, time, size)[..., 3] >= 0.5] = number
    return owner


@lru_cache(maxsize=256)
def _looks(artwork: Artwork, name: str, appearance: str, style: str) -> Layer:
    layer = artwork.layer(name, style)
    return layer if appearance == NATURAL else recoloured(layer, appearance)


def _place(layer: Layer, thing: Object, camera: Camera, time: float, size: int) -> Pixels:
    """Return the layer as the camera sees it: (size, size, 4) in [0, 1]."""
    matrix = object_to_pixels(thing, camera, time, size)
    shrunk = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2])))) * 2 / LAYER
    side = LAYER
    # Average it first if it shrinks a lot, so that thin lines do not fall between the pixels.
    while shrunk < 0.7 and side > 32:
        layer = cv2.resize(layer, (side // 2, side // 2), interpolation=cv2.INTER_AREA)
        side, shrunk = side // 2, shrunk * 2
    full = matrix @ np.linalg.inv(square_to_pixels(side))
    placed = cv2.warpAffine(layer, full[:2], (size, size), flags=cv2.INTER_LINEAR)
    shares: Pixels = placed.astype(np.float32) / 255
    return shares


def _draw_ground(scene: Scene, style: str, size: int, time: float) -> Pixels:
    camera = np.linalg.inv(square_to_pixels(size) @ world_to_view(scene.camera, time))
    columns, rows = np.meshgrid(np.arange(size), np.arange(size))
    height = (camera[1, 0] * columns + camera[1, 1] * rows + camera[1, 2])[..., None]
    soft = style == "3D render"
    if scene.ground in PLAIN:
        colour = np.array(PLAIN[scene.ground], np.float32)
        shade = np.clip(0.97 - 0.11 * height, 0.8, 1.12) if soft else np.ones_like(height)
        return np.asarray(np.clip(colour * shade + 0.03 * (1 - shade), 0, 1), np.float32)
    top, far, near, bottom = np.array(PLACES[scene.ground], np.float32)
    if not soft:
        edge = np.clip((height - HORIZON) * size / 2 + 0.5, 0, 1)
        return np.asarray((top + far) / 2 * (1 - edge) + (near + bottom) / 2 * edge, np.float32)
    up = np.clip((HORIZON - height) / 1.1, 0, 1)
    down = np.clip((height - HORIZON) / 0.9, 0, 1)
    edge = np.clip((height - HORIZON) / 0.06 + 0.5, 0, 1)
    sky, floor = far + (top - far) * up, near + (bottom - near) * down
    return np.asarray(sky * (1 - edge) + floor * edge, np.float32)


def _shadow(cover: Pixels, thing: Object, camera: Camera, size: int) -> Pixels:
    """Return a soft shadow below the thing and to its right, as the share of light that is lost."""
    reach = thing.size * camera.zoom * size / 2
    move = np.array([[1, 0, 0.06 * reach], [0, 1, 0.11 * reach]])
    moved = cv2.warpAffine(cover, move, (size, size))
    soft = cv2.GaussianBlur(moved, (0, 0), 0.10 * reach)
    return np.asarray(0.42 * soft, np.float32)


def _draw_ink(scene: Scene, artwork: Artwork, size: int, time: float) -> Pixels:
    """Return how dark the pen makes each pixel, in [0, 1]; front things hide those behind."""
    ink = np.zeros((size, size), np.float32)
    for thing in scene.objects:
        layer = artwork.layer(thing.name, "line drawing")
        placed = _place(layer, thing, scene.camera, time, size)
        dark = placed[..., 3] - placed[..., 1]
        ink = ink * (1 - placed[..., 3]) + dark
    return ink / 0.9  # a line's ink is not quite black


def _pen(ink: Pixels) -> Pixels:
    paper = np.array(_PAPER["line drawing"], np.float32)
    return np.clip(paper * (1 - 0.9 * np.clip(ink, 0, 1)[..., None]), 0, 1)


@lru_cache(maxsize=64)
def _strokes(size: int, hand: int) -> tuple[tuple[Pixels, Pixels, Pixels], ...]:
    """Return for two strokes the coordinates to sample, x and y, and the pencil's pressure."""
    rows, columns = np.indices((size, size), np.float32)
    strokes = []
    for stroke, (wobble, force) in enumerate(((0.006, 0.95), (0.009, 0.65))):
        seed = 8 * (hand % (1 << 28)) + 4 * stroke
        x, y, pressure = (smooth_noise(size, n, seed=seed + i) for i, n in enumerate((9, 9, 7)))
        press = force * (0.25 + 0.75 * np.clip(0.5 + (pressure + 0.9) / 0.8, 0, 1))
        strokes.append((columns + wobble * size * x, rows + wobble * size * y, press))
    return tuple(strokes)


def _pencil(ink: Pixels, hand: int) -> Pixels:
    """Draw the same strokes twice, wobbling and with uneven pressure, so that lines break."""
    drawn = np.zeros_like(ink)
    for x, y, press in _strokes(len(ink), hand):
        stroke = cv2.remap(ink, x, y, cv2.INTER_LINEAR)
        drawn = np.maximum(drawn, press * np.clip(stroke, 0, 1) ** 1.6)
    paper = np.array(_PAPER["rough drawing"], np.float32)
    return paper + drawn[..., None] * (_PENCIL - paper)


__all__ = [
    "APPEARANCES",
    "COLOURS",
    "GROUNDS",
    "LIGHTS",
    "MATERIALS",
    "PENS",
    "SIZE",
    "STYLES",
    "Camera",
    "Object",
    "Scene",
    "object_masks",
    "optical_flow",
    "random_scene",
    "render",
]
