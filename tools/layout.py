"""Scenes of the procedural world as plain data, and their geometry at a moment.

Coordinates: the default camera sees x, y in [-1, 1], x to the right and y down. Angles are
radians. Time runs from 0 to 1 over a clip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tools.shapes import SHAPES


@dataclass(frozen=True, kw_only=True)
class Object:
    """One shape. `x`, `y`: place; `size`: radius; `angle`; then its motion over the clip.

    `dx`, `dy` (way made from time 0 to 1), `bow` (sideways swing of the path), `spin` (turn) and
    `growth` (logarithm of the change in size).
    """

    shape: str
    colour: str
    material: str
    x: float
    y: float
    size: float
    angle: float
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
    """Objects from back to front on a ground; `azimuth`: where the light comes from.

    `marks`: whether drawings have light pen marks for the ground; `offset_x`, `offset_y`: which
    part of the ground's endless texture lies at the origin.
    """

    objects: tuple[Object, ...]
    ground: str
    light: str
    azimuth: float
    camera: Camera
    marks: bool
    offset_x: float
    offset_y: float


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Geometry of a batch: `ground` (B, H, W, 2) world places of the pixels and `pixel` (B,), a
    pixel's width in world units; per object, flat over the batch (M objects): `place` (M, H, W, 2)
    in units of the object's size, `distance` (M, H, W) signed, in world units; `owner` (M,) the
    scene's index and `poses` (M, 4): x, y, size, angle; `objects`.
    """

    ground: Tensor
    pixel: Tensor
    place: Tensor
    distance: Tensor
    owner: Tensor
    poses: Tensor
    objects: list[Object]

    @property
    def sizes(self) -> Tensor:
        return self.poses[:, 2]


def _rotation(angle: Tensor) -> Tensor:
    """(N,) radians to (N, 2, 2) matrices that turn column vectors."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack((torch.stack((cos, -sin), -1), torch.stack((sin, cos), -1)), -2)


def similarity(poses: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 4) rows of x, y, scale, angle to matrices (N, 2, 2) and places (N, 2)."""
    return poses[:, 2, None, None] * _rotation(poses[:, 3]), poses[:, :2]


def object_pose(thing: Object, time: float) -> tuple[float, float, float, float]:
    swing = thing.bow * math.sin(math.pi * time)
    way = math.hypot(thing.dx, thing.dy) or 1.0
    return (
        thing.x + thing.dx * time - swing * thing.dy / way,
        thing.y + thing.dy * time + swing * thing.dx / way,
        thing.size * math.exp(thing.growth * time),
        thing.angle + thing.spin * time,
    )


def camera_pose(camera: Camera, time: float) -> tuple[float, float, float, float]:
    return (
        camera.x + camera.dx * time,
        camera.y + camera.dy * time,
        1 / (camera.zoom * math.exp(camera.growth * time)),
        camera.roll + camera.spin * time,
    )


def to_local(points: Tensor, poses: Tensor) -> Tensor:
    """World points (N, H, W, 2) in the frames of `poses` (N, 4)."""
    matrix, place = similarity(poses)
    return torch.einsum("nij,nhwj->nhwi", matrix.inverse(), points - place[:, None, None])


def distances(places: Tensor, objects: Sequence[Object], sizes: Tensor) -> Tensor:
    """Signed distance in world units (M, H, W) at `places` (M, H, W, 2) in object units."""
    distance = places.new_empty(places.shape[:-1])
    for shape in {thing.shape for thing in objects}:
        rows = [row for row, thing in enumerate(objects) if thing.shape == shape]
        distance[rows] = SHAPES[shape](places[rows])
    return distance * sizes[:, None, None]


def object_poses(objects: Sequence[Object], time: float, device: torch.device | str) -> Tensor:
    return torch.tensor([object_pose(thing, time) for thing in objects], device=device)


def pixel_grid(size: int, device: torch.device | str) -> Tensor:
    """Pixel centres (1, H, W, 2) in [-1, 1], x first."""
    line = (torch.arange(size, device=device) + 0.5) * (2 / size) - 1
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)[None]


def lay_out(scenes: Sequence[Scene], size: int, time: float, device: torch.device | str) -> Layout:
    views = torch.tensor([camera_pose(scene.camera, time) for scene in scenes], device=device)
    matrix, centre = similarity(views)
    world = torch.einsum("bij,xhwj->bhwi", matrix, pixel_grid(size, device)) + centre[:, None, None]
    objects = [thing for scene in scenes for thing in scene.objects]
    owner = torch.tensor(
        [row for row, scene in enumerate(scenes) for _ in scene.objects], device=device
    )
    poses = object_poses(objects, time, device)
    place = to_local(world[owner], poses)
    return Layout(
        ground=world,
        pixel=views[:, 2] * (2 / size),
        place=place,
        distance=distances(place, objects, poses[:, 2]),
        owner=owner,
        poses=poses,
        objects=objects,
    )
