"""Measures of a picture against the scene that it should show, by analysis by synthesis.

The scene is rendered with every value of one attribute; the attribute is right if the true value's
render is the nearest to the picture. Looks come first, the shape last, each in a scene that already
has the values found: an object of the wrong colour can have the right shape. No classifier is
trained, and the true picture itself scores 1 everywhere, which `tools/evaluate.py` prints as the
ceiling.
"""

from __future__ import annotations

import math
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
_IN_ORDER = ("light", "ground", "colour", "material", "shape")
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


def value_of(scene: Scene, attribute: str, index: int | None = None) -> str:
    """The value of one attribute, that of object `index` where objects have it."""
    value: str = getattr(scene if index is None else scene.objects[index], attribute)
    return value


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
    attributes, found = _find_attributes(picture, scene, style, time)
    with np.errstate(divide="ignore"):
        psnr = peak_signal_noise_ratio(true.numpy(), picture.numpy(), data_range=1)
    return Measures(
        psnr=float(psnr),
        ssim=float(
            structural_similarity(true.numpy(), picture.numpy(), data_range=1, channel_axis=0)
        ),
        style=float(STYLES[_nearest(picture, styles)] == style),
        attributes=attributes,
        iou=object_iou(picture, found, time=time) if style == "photo" else math.nan,
    )


@lru_cache(maxsize=64)
def _drawn(scenes: tuple[Scene, ...], style: str, size: int, time: float) -> Tensor:
    """`render`, remembered for the pictures of other methods that should show the same."""
    return render(scenes, style, size, time=time)


def _nearest(picture: Tensor, candidates: Tensor) -> int:
    return int((candidates - picture).square().mean((1, 2, 3)).argmin())


def _find_attributes(
    picture: Tensor, scene: Scene, style: str, time: float
) -> tuple[dict[str, float], Scene]:
    """The share of right values of each attribute, and the scene with the looks that were found."""
    right: dict[str, float] = {}
    looks = scene
    for name in (name for name in _IN_ORDER if name in visible_attributes(style)):
        places = range(len(scene.objects)) if name in OF_OBJECTS else (None,)
        hits = []
        for index in places:
            options = tuple(with_value(looks, name, value, index) for value in VALUES[name])
            nearest = _nearest(picture, _drawn(options, style, picture.shape[-1], time))
            hits.append(VALUES[name][nearest] == value_of(scene, name, index))
            if name != "shape":
                looks = options[nearest]
        right[name] = sum(hits) / len(hits)
    return right, looks


def _resized(scene: Scene, factor: float) -> Scene:
    def grown(thing: Object) -> Object:
        return replace(thing, size=thing.size * factor)

    return replace(scene, objects=tuple(map(grown, scene.objects)))


def object_iou(picture: Tensor, scene: Scene, *, time: float = 0.0) -> float:
    """Intersection over union of the objects' area in a photo (3, size, size) and in the scene.

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
