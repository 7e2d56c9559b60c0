"""Measures of a picture against the scene that it should show, by analysis by synthesis.

The scene is rendered with every value of one attribute; the attribute is right if the true value's
render is the nearest to the picture. No classifier is trained, and the true picture itself scores 1
everywhere, which `tools/evaluate.py` prints as the ceiling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor
from torch.nn import functional

from tools.layout import Object, Scene
from tools.scenes import STYLES, VALUES, object_masks, render, visible_attributes

OF_OBJECTS = ("shape", "colour", "material")
_GROWTH = 1.4  # how much larger than true an object may come out and still be found


@dataclass(frozen=True, kw_only=True)
class Measures:
    """psnr (dB) and ssim against the true picture; style: whether the true style's render is the
    nearest; attributes: share of the values found right (over the objects, where they have it);
    iou: of the objects' area found in the picture with the true area; not a number but for photos.
    """

    psnr: float
    ssim: float
    style: float
    attributes: dict[str, float]
    iou: float

    def row(self) -> dict[str, float]:
        """All of them by name, for a table."""
        return {
            "psnr": self.psnr,
            "ssim": self.ssim,
            "style": self.style,
            **self.attributes,
            "iou": self.iou,
        }


def with_value(scene: Scene, attribute: str, value: str, index: int | None = None) -> Scene:
    """The scene with one attribute changed, that of object `index` where objects have it."""
    if index is None:
        return replace(scene, **{attribute: value})  # type: ignore[arg-type]
    objects = list(scene.objects)
    objects[index] = replace(objects[index], **{attribute: value})  # type: ignore[arg-type]
    return replace(scene, objects=tuple(objects))


def measure(picture: Tensor, scene: Scene, style: str, *, time: float = 0.0) -> Measures:
    """Measure a picture (3, size, size) in [0, 1] that should show `scene` in `style` at a time."""
    size = picture.shape[-1]
    true = _drawn((scene,), style, size, time)[0]
    styles = torch.cat([_drawn((scene,), other, size, time) for other in STYLES])
    with np.errstate(divide="ignore"):
        psnr = peak_signal_noise_ratio(true.numpy(), picture.numpy(), data_range=1)
    return Measures(
        psnr=float(psnr),
        ssim=float(
            structural_similarity(true.numpy(), picture.numpy(), data_range=1, channel_axis=0)
        ),
        style=float(STYLES[_nearest(picture, styles)] == style),
        attributes={
            name: _attribute_right(picture, scene, style, name, time)
            for name in visible_attributes(style)
        },
        iou=object_iou(picture, scene, time=time) if style == "photo" else math.nan,
    )


@lru_cache(maxsize=64)
def _drawn(scenes: tuple[Scene, ...], style: str, size: int, time: float) -> Tensor:
    """`render`, remembered for the pictures of other methods that should show the same."""
    return render(scenes, style, size, time=time)


def _nearest(picture: Tensor, candidates: Tensor) -> int:
    return int((candidates - picture).square().mean((1, 2, 3)).argmin())


def _attribute_right(picture: Tensor, scene: Scene, style: str, name: str, time: float) -> float:
    places: Sequence[int | None] = (None,)
    if name in OF_OBJECTS:
        places = range(len(scene.objects))
    right = 0
    for index in places:
        true = getattr(scene if index is None else scene.objects[index], name)
        options = tuple(with_value(scene, name, value, index) for value in VALUES[name])
        nearest = _nearest(picture, _drawn(options, style, picture.shape[-1], time))
        right += VALUES[name][nearest] == true
    return right / len(places)


def _resized(scene: Scene, factor: float) -> Scene:
    def grown(thing: Object) -> Object:
        return replace(thing, size=thing.size * factor)

    return replace(scene, objects=tuple(map(grown, scene.objects)))


def object_iou(picture: Tensor, scene: Scene, *, time: float = 0.0) -> float:
    """Intersection over union of the objects' area in a photo (3, size, size) and in truth.

    A pixel is an object's where the picture is nearer, in a window of 3 pixels, to the objects'
    look than to the ground's; outside the true area that look is of the same objects grown.
    """
    size = picture.shape[-1]

    def area(one: Scene) -> Tensor:
        return object_masks(one, size, time=time).sum(0) > 0.5

    grown, tiny = _resized(scene, _GROWTH), _resized(scene, 1e-3)
    true, large, bare = _drawn((scene, grown, tiny), "photo", size, time)
    inside = area(scene)
    # A ring grown does not cover the ring.
    reach = inside | area(grown)
    objects = torch.where(inside, true, large)
    ground = torch.where(inside, bare, true)

    def error(look: Tensor) -> Tensor:
        squared = (picture - look).square().mean(0, keepdim=True)
        return functional.avg_pool2d(squared, 3, 1, 1, count_include_pad=False)[0]

    found = reach & (error(objects) < error(ground))
    return float((found & inside).sum() / (found | inside).sum())
