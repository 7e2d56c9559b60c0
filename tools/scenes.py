"""The procedural world of the embedded model: scenes that exist in every style, with ground truth.

A `Scene` is plain data: one to three shapes on a ground, under a light, seen by a camera, moving.
`render` draws the same layout as a sketch, a rough drawing, a cartoon or a photo, so the true
translation of every picture exists; change an attribute with `dataclasses.replace` and render
again. `optical_flow` gives exact motion. Everything is deterministic by the generator's seed.

Coordinates: the default camera sees x, y in [-1, 1], x to the right and y down. Angles are
radians. Time runs from 0 to 1 over a clip. Images are float tensors in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from tools.layout import (
    Camera,
    Layout,
    Object,
    Scene,
    camera_pose,
    distances,
    lay_out,
    object_poses,
    pixel_grid,
    similarity,
    to_local,
)
from tools.shapes import SHAPES
from tools.textures import sample

__all__ = [
    "COLOURS",
    "GROUNDS",
    "LIGHTS",
    "MATERIALS",
    "SHAPES",
    "STYLES",
    "VALUES",
    "Camera",
    "Object",
    "Scene",
    "object_masks",
    "optical_flow",
    "random_scene",
    "render",
    "visible_attributes",
]

STYLES = ("sketch", "rough drawing", "cartoon", "photo")
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.11, 0.10),
    "orange": (0.97, 0.50, 0.06),
    "yellow": (0.98, 0.86, 0.12),
    "green": (0.13, 0.64, 0.20),
    "turquoise": (0.10, 0.76, 0.76),
    "blue": (0.11, 0.27, 0.86),
    "purple": (0.52, 0.15, 0.74),
    "pink": (0.99, 0.52, 0.74),
    "white": (0.96, 0.96, 0.96),
    "black": (0.09, 0.09, 0.10),
}
MATERIALS = ("plastic", "wood", "metal", "stone")
GROUNDS = ("sand", "grass", "water", "snow", "wooden floor", "bricks", "gravel")
LIGHTS = ("day", "sunset", "night")

VALUES: dict[str, tuple[str, ...]] = {
    "shape": tuple(SHAPES),
    "colour": tuple(COLOURS),
    "material": MATERIALS,
    "light": LIGHTS,
    "ground": GROUNDS,
}

# Flat ground colour of cartoons.
_FLAT = {
    "sand": (0.95, 0.85, 0.62),
    "grass": (0.60, 0.84, 0.42),
    "water": (0.50, 0.76, 0.94),
    "snow": (0.94, 0.97, 1.00),
    "wooden floor": (0.80, 0.60, 0.38),
    "bricks": (0.77, 0.42, 0.33),
    "gravel": (0.67, 0.66, 0.65),
}
# Sun colour, ambient colour, height of the sun (radians), tint of cartoons.
_LIGHT = {
    "day": ((0.72, 0.70, 0.64), (0.42, 0.45, 0.50), 0.95, (1.0, 1.0, 1.0)),
    "sunset": ((0.86, 0.47, 0.20), (0.38, 0.29, 0.36), 0.55, (1.0, 0.78, 0.60)),
    "night": ((0.20, 0.29, 0.52), (0.13, 0.17, 0.31), 0.85, (0.36, 0.43, 0.72)),
}
# Highlight strength, its sharpness, share of the surface texture, share of its relief.
_SURFACE = {
    "plastic": (0.85, 40.0, 0.0, 0.0),
    "wood": (0.10, 8.0, 1.0, 0.25),
    "metal": (0.95, 14.0, 0.35, 0.15),
    "stone": (0.04, 6.0, 0.8, 1.0),
}
_PERIOD = 4.0  # length of a texture tile in world units


def visible_attributes(style: str) -> tuple[str, ...]:
    """What a picture of a style shows: pens show shapes alone, cartoons no material."""
    if style in ("sketch", "rough drawing"):
        return ("shape",)
    return tuple(name for name in VALUES if style == "photo" or name != "material")


def random_scene(generator: Generator, *, moving: bool = False) -> Scene:
    """Draw a scene; with `moving`, objects and camera move over time 0 to 1."""

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    def choose(options: Sequence[str]) -> str:
        return options[int(torch.randint(len(options), (), generator=generator))]

    share = uniform(0, 1)
    count = 1 if share < 0.65 else 2 if share < 0.92 else 3
    small, large = ((0.40, 0.66), (0.30, 0.46), (0.25, 0.35))[count - 1]
    objects: list[Object] = []
    while len(objects) < count:
        size = uniform(small, large)
        reach = 0.95 - size
        x, y = uniform(-reach, reach), uniform(-reach, reach)
        # Neighbours may touch, but each shape stays readable at time 0.
        if any(math.hypot(x - o.x, y - o.y) < 0.85 * (size + o.size) for o in objects):
            continue
        objects.append(
            Object(
                shape=choose(tuple(SHAPES)),
                colour=choose(tuple(COLOURS)),
                material=choose(MATERIALS),
                x=x,
                y=y,
                size=size,
                angle=uniform(-0.35, 0.35),
                dx=uniform(-0.5, 0.5) - 0.8 * x if moving else 0.0,
                dy=uniform(-0.3, 0.3) - 0.8 * y if moving else 0.0,
                bow=uniform(-0.15, 0.15) if moving else 0.0,
                spin=uniform(-1.2, 1.2) if moving else 0.0,
                growth=uniform(-0.25, 0.25) if moving else 0.0,
            )
        )
    camera = Camera(
        x=uniform(-0.08, 0.08),
        y=uniform(-0.08, 0.08),
        zoom=uniform(0.9, 1.15),
        roll=uniform(-0.12, 0.12),
        dx=uniform(-0.15, 0.15) if moving else 0.0,
        dy=uniform(-0.15, 0.15) if moving else 0.0,
        growth=uniform(-0.15, 0.15) if moving else 0.0,
        spin=uniform(-0.15, 0.15) if moving else 0.0,
    )
    light = uniform(0, 1)
    return Scene(
        objects=tuple(objects),
        ground=choose(GROUNDS),
        light="day" if light < 0.5 else "sunset" if light < 0.75 else "night",
        azimuth=uniform(-2.7, -1.2),
        camera=camera,
        marks=uniform(0, 1) < 0.5,
        offset_x=uniform(0, _PERIOD),
        offset_y=uniform(0, _PERIOD),
    )


def _hash(scene: Scene) -> float:
    """A number of the scene, for strokes that differ from picture to picture."""
    return 7.3 * scene.offset_x + 3.1 * scene.offset_y


def _smooth(value: Tensor, low: float, high: float) -> Tensor:
    t = ((value - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _cover(distance: Tensor, pixel: Tensor) -> Tensor:
    """Share of each pixel inside the outline: (M, 1, H, W) from (M, H, W) and (M,)."""
    return (0.5 - distance / pixel[:, None, None]).clamp(0, 1)[:, None]


def _unit(vectors: Tensor) -> Tensor:
    """Vectors (N, C, ...) at length 1; torch's own norm is slow where C is not the last."""
    return vectors / vectors.square().sum(1, keepdim=True).sqrt().clamp(min=1e-6)


def _over(canvas: Tensor, colour: Tensor, alpha: Tensor) -> Tensor:
    return canvas + (colour - canvas) * alpha


def _table(rows: Sequence[tuple[float, ...]], like: Tensor) -> Tensor:
    return torch.tensor(rows, device=like.device, dtype=like.dtype)


def _grouped(names: Sequence[str], places: Tensor) -> Tensor:
    """Sample texture `names[i]` at places[i]: (N, 6, H, W)."""
    out = places.new_empty(len(names), 6, *places.shape[1:3])
    for name in sorted(set(names)):
        rows = [row for row, other in enumerate(names) if other == name]
        out[rows] = sample(name, places[rows])
    return out


def _ground_texture(scenes: Sequence[Scene], layout: Layout) -> Tensor:
    offset = _table([(scene.offset_x, scene.offset_y) for scene in scenes], layout.ground)
    places = (layout.ground + offset[:, None, None]) / _PERIOD
    return _grouped([scene.ground for scene in scenes], places)


def _stack(canvas: Tensor, layout: Layout, paint: Callable[[Tensor, list[int]], Tensor]) -> Tensor:
    """Paint the objects from back to front: `paint(canvas of those scenes, object rows)`."""
    owners = layout.owner.tolist()
    ranks = [owners[:row].count(owner) for row, owner in enumerate(owners)]
    for rank in range(max(ranks) + 1):
        rows = [row for row, other in enumerate(ranks) if other == rank]
        scenes = [owners[row] for row in rows]
        canvas[scenes] = paint(canvas[scenes], rows)
    return canvas


def _photo(scenes: Sequence[Scene], layout: Layout) -> Tensor:
    lights = [_LIGHT[scene.light] for scene in scenes]
    sun = _table([light[0] for light in lights], layout.ground)[:, :, None, None]
    ambient = _table([light[1] for light in lights], layout.ground)[:, :, None, None]
    elevation = _table([(light[2],) for light in lights], layout.ground)[:, 0]
    azimuth = _table([(scene.azimuth,) for scene in scenes], layout.ground)[:, 0]
    flat = torch.stack((azimuth.cos(), azimuth.sin()), -1)
    to_sun = torch.cat((flat * elevation.cos()[:, None], elevation.sin()[:, None]), -1)

    def lit(normal: Tensor, rows: Tensor) -> Tensor:
        """Sunlight (N, 1, H, W) on unit normals (N, 3, H, W), as a share of level ground's."""
        towards = to_sun[rows][:, :, None, None]
        cosine = (normal * towards).sum(1, keepdim=True).clamp(min=0)
        return cosine / towards[:, 2:]

    everyone = torch.arange(len(scenes), device=layout.ground.device)
    ground = _ground_texture(scenes, layout)
    relief = torch.cat((-0.5 * ground[:, 3:5], torch.ones_like(ground[:, :1])), 1)
    share = lit(_unit(relief), everyone).clamp(max=1.6)
    canvas = ground[:, :3] * (ambient + sun * share)

    sizes = layout.sizes
    surface = _table([_SURFACE[thing.material] for thing in layout.objects], layout.ground)
    strength, sharpness, grain, bumps = surface.T[:, :, None, None, None]
    base = _table([COLOURS[thing.colour] for thing in layout.objects], layout.ground)
    base = base[:, :, None, None]
    seeds = _table([(thing.x, thing.y) for thing in layout.objects], layout.ground)
    texture = _grouped(
        [thing.material for thing in layout.objects],
        0.1 * layout.place + seeds[:, None, None],
    )
    # The body bulges: steep at the outline, level deep inside.
    inside = (-layout.distance / (0.5 * sizes[:, None, None])).clamp(0, 1)
    outward = _unit(torch.stack(torch.gradient(layout.distance, dim=(2, 1)), 1))
    tilt = (1.25 * (1 - inside) ** 1.2)[:, None]
    normal = torch.cat((outward * tilt.sin() - 0.4 * bumps * texture[:, 3:5], tilt.cos()), 1)
    normal = _unit(normal)
    owner = layout.owner
    half = _unit(to_sun + to_sun.new_tensor((0.0, 0.0, 1.0)))[owner]
    gloss = (normal * half[:, :, None, None]).sum(1, keepdim=True).clamp(min=0) ** sharpness
    metal = _table([(thing.material == "metal",) for thing in layout.objects], layout.ground)
    metal = metal[:, :, None, None]
    # A mirror-like body shows a bright sky, a dark horizon and the ground.
    height = -normal[:, 1:2] + 0.35 * layout.place[..., 1:2].movedim(-1, 1)
    mirror = 0.62 + 0.75 * torch.sin(2.6 * height + 0.9) * torch.cos(1.7 * height)
    tone = 1 + grain * (texture[:, :3] - 1)
    dull = base.mean(1, keepdim=True)
    stony = _table([(thing.material == "stone",) for thing in layout.objects], layout.ground)
    base = base + 0.22 * stony[:, :, None, None] * (dull - base)
    diffuse = ambient[owner] + sun[owner] * lit(normal, owner).clamp(max=1.35)
    body = base * tone * diffuse * (1 + metal * (mirror - 0.75))
    shine = strength * gloss * (sun[owner] + 0.25 * ambient[owner])
    body = body + shine * (1 - metal + metal * (0.35 + base))
    rim = (1 - normal[:, 2:]) ** 3
    body = body * (1 - 0.35 * rim)

    # Shadows: the outline moved away from the sun, soft, and a dark seam where the body stands.
    reach = 0.26 * sizes / elevation[owner].tan()
    moved = layout.ground[owner] + (reach[:, None] * flat[owner])[:, None, None]
    behind = distances(to_local(moved, layout.poses), layout.objects, sizes)
    soft = 0.14 * sizes[:, None, None]
    shade = 0.72 * (1 - _smooth(behind / soft, -1.0, 1.0))
    seam = 0.45 * torch.exp(-layout.distance.clamp(min=0) / (0.08 * sizes[:, None, None]))
    dark = (1 - (1 - shade) * (1 - seam))[:, None]
    cover = _cover(layout.distance, layout.pixel[owner])
    # Shaded places keep the ambient light.
    kept = (ambient / (ambient + sun))[owner] * 0.75

    def paint(under: Tensor, rows: list[int]) -> Tensor:
        under = under * (1 - dark[rows] * (1 - kept[rows]))
        return _over(under, body[rows], cover[rows])

    canvas = _stack(canvas, layout, paint)
    # A soft shoulder instead of clipped highlights.
    return torch.where(canvas > 0.8, 1 - 0.2 * torch.exp(-(canvas - 0.8) / 0.2), canvas)


def _cartoon(scenes: Sequence[Scene], layout: Layout) -> Tensor:
    tint = _table([_LIGHT[scene.light][3] for scene in scenes], layout.ground)[:, :, None, None]
    flat = _table([_FLAT[scene.ground] for scene in scenes], layout.ground)[:, :, None, None]
    canvas = (flat * tint).expand(-1, -1, *layout.ground.shape[1:3]).clone()
    base = _table([COLOURS[thing.colour] for thing in layout.objects], layout.ground)
    fill = base[:, :, None, None] * tint[layout.owner]
    ink = fill.new_tensor((0.08, 0.07, 0.10))[:, None, None] * tint[layout.owner]
    pixel = layout.pixel[layout.owner]
    outer = _cover(layout.distance - 0.022, pixel)
    inner = _cover(layout.distance + 0.022, pixel)

    def paint(under: Tensor, rows: list[int]) -> Tensor:
        return _over(_over(under, ink[rows], outer[rows]), fill[rows], inner[rows])

    return _stack(canvas, layout, paint)


def _sketch(scenes: Sequence[Scene], layout: Layout) -> Tensor:
    marks = _table([(0.4 * scene.marks,) for scene in scenes], layout.ground)[:, :, None, None]
    paper = layout.ground.new_tensor((0.99, 0.99, 0.98))[:, None, None]
    ink = layout.ground.new_tensor((0.10, 0.10, 0.13))[:, None, None]
    canvas = _over(paper, ink, marks * _ground_texture(scenes, layout)[:, 5:])
    sizes = layout.sizes[:, None, None]
    pixel = layout.pixel[layout.owner]
    outline = _cover(layout.distance.abs() - 0.02, pixel)
    cover = _cover(layout.distance, pixel)
    azimuth = _table([(scene.azimuth,) for scene in scenes], layout.ground)[layout.owner]
    away = -torch.cat((azimuth.cos(), azimuth.sin()), 1)
    world = layout.ground[layout.owner]
    stripes = (world.sum(-1) * 8.0).frac().sub(0.5).abs() / 8.0 / math.sqrt(2)
    strokes = _cover(stripes - 0.009, pixel)
    # Hatching grows from the shaded side of the body.
    centre = layout.poses[:, :2]
    side = ((world - centre[:, None, None]) * away[:, None, None]).sum(-1) / sizes
    hatch = strokes * _smooth(side, -0.25, 0.15)[:, None] * cover

    def paint(under: Tensor, rows: list[int]) -> Tensor:
        under = _over(under, paper, cover[rows])
        return _over(under, ink, torch.maximum(outline[rows], 0.85 * hatch[rows]))

    return _stack(canvas, layout, paint)


def _rough(scenes: Sequence[Scene], layout: Layout) -> Tensor:
    paper = layout.ground.new_tensor((0.965, 0.95, 0.915))[:, None, None]
    pencil = layout.ground.new_tensor((0.20, 0.19, 0.20))[:, None, None]
    marks = _table([(0.3 * scene.marks,) for scene in scenes], layout.ground)[:, :, None, None]
    owner, pixel = layout.owner, layout.pixel[layout.owner]
    hashes = _table([(_hash(scene),) for scene in scenes], layout.ground)[owner][:, :, None, None]
    world = layout.ground[owner] - layout.poses[:, None, None, :2] + hashes.movedim(1, -1)
    shifts = 0.013 * sample("wobble", world / _PERIOD)
    canvas = _over(paper, pencil, marks * _ground_texture(scenes, layout)[:, 5:])
    lines = torch.zeros_like(layout.distance)[:, None]
    cover = _cover(layout.distance, pixel)
    for stroke, (width, force) in enumerate(((0.016, 0.95), (0.011, 0.7))):
        shift = shifts[:, 2 * stroke : 2 * stroke + 2].movedim(1, -1)
        drawn = layout.ground[owner] + shift + 0.012 * stroke
        distance = distances(to_local(drawn, layout.poses), layout.objects, layout.sizes)
        pressure = sample("pressure", world / _PERIOD + 0.37 * stroke)
        broken = 0.15 + 0.85 * _smooth(pressure, -1.0, -0.2)
        lines = torch.maximum(lines, force * broken * _cover(distance.abs() - width, pixel))

    def paint(under: Tensor, rows: list[int]) -> Tensor:
        return _over(_over(under, paper, cover[rows]), pencil, lines[rows])

    return _stack(canvas, layout, paint)


_PAINTERS = {"sketch": _sketch, "rough drawing": _rough, "cartoon": _cartoon, "photo": _photo}


def render(
    scenes: Sequence[Scene],
    style: str,
    size: int = 128,
    *,
    time: float = 0.0,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw scenes in a style: (B, 3, size, size) in [0, 1]."""
    if style not in STYLES:
        raise ValueError(f"unknown style {style!r}; choose from {', '.join(STYLES)}")
    layout = lay_out(scenes, size, time, device)
    return _PAINTERS[style](scenes, layout).clamp(0, 1)


def object_masks(
    scene: Scene, size: int = 128, *, time: float = 0.0, device: torch.device | str = "cpu"
) -> Tensor:
    """The visible share of each pixel by object: (N, size, size) in [0, 1], back to front."""
    layout = lay_out([scene], size, time, device)
    cover = _cover(layout.distance, layout.pixel[layout.owner])[:, 0]
    hidden = (1 - cover).flip(0).cumprod(0).flip(0)
    return cover * torch.cat((hidden[1:], torch.ones_like(cover[:1])))


def optical_flow(
    scene: Scene, t0: float, t1: float, size: int = 128, *, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Motion of what time t0 shows: flow (2, size, size) in pixels, x first, and a visibility map
    (size, size), true where the same surface is in sight at t1.

    A pixel moves with the object that owns its centre, or with the ground; shadows are ignored.
    """

    def owners(distance: Tensor) -> Tensor:
        """Index of the front object, -1 for the ground."""
        order = torch.arange(len(distance), device=device).view(-1, *[1] * (distance.ndim - 1))
        return torch.where(distance < 0, order, -1).amax(0)

    before = lay_out([scene], size, t0, device)
    after = object_poses(scene.objects, t1, device)
    owner = owners(before.distance)
    world = before.ground[0]
    matrix, place = similarity(after)
    moved = torch.einsum("nij,nhwj->nhwi", matrix, before.place) + place[:, None, None]
    for index in range(len(scene.objects)):
        world = torch.where((owner == index)[..., None], moved[index], world)
    distance = distances(
        to_local(world.expand(len(after), -1, -1, -1), after), scene.objects, after[:, 2]
    )
    view = torch.tensor([camera_pose(scene.camera, t1)], device=device)
    seen = to_local(world[None], view)[0]
    visible = (owners(distance) == owner) & (seen.abs() < 1).all(-1)
    flow = (seen - pixel_grid(size, device)[0]) * (size / 2)
    return flow.movedim(-1, 0), visible
