"""Measures of a picture against the scene that it should show, through analysis by synthesis.

The scene is rendered with every value of one attribute; the attribute is right if the render with
the true value is the closest to the picture. Appearances come first, the class last, each in a
scene with the values found so far: a thing in the wrong colour can be the right thing. No
classifier is trained, and the true picture scores 1 everywhere, which `tools.train.evaluate` prints
as the upper bound.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from tools.metrics import iou, psnr, ssim
from tools.tables import mean
from tools.train.appearance import COLOURS, LIGHTS, Pixels
from tools.train.artwork import Artwork, look_alikes
from tools.train.layout import NATURAL, Object, Scene
from tools.train.scenes import APPEARANCES, GROUNDS, PENS, STYLES, object_masks, render

ATTRIBUTES = ("natural", "colour", "material", "light", "ground", "class")
"""`natural`, `colour` and `material` are kinds of appearance, each for the things that have it."""
SIZE = 128  # pixels a side at which pictures are compared with renders
ALIKE, UNLIKE = 6, 5  # other things with which a class is compared, similar and not
_GROWTH = 1.4  # how much larger than the truth an object may be and still be found


@dataclass(frozen=True, kw_only=True)
class Measures:
    """The measures of a picture.

    psnr (dB) and ssim: against the true picture. style: whether the true style's render is the
    closest. attributes: the share of right values over the objects that have the attribute, NaN if
    none has it. iou: of the objects' area in the picture with the true area. Drawings do not show
    attributes, and their area is not measured.
    """

    psnr: float
    ssim: float
    style: float
    attributes: dict[str, float]
    iou: float

    def row(self) -> dict[str, float]:
        """Return all measures by name, for a table."""
        first = {"psnr": self.psnr, "ssim": self.ssim, "style": self.style}
        return first | self.attributes | {"iou": self.iou}


def kind_of(appearance: str) -> str:
    """Return the one of the first three ATTRIBUTES to which an appearance belongs."""
    if appearance == NATURAL:
        return "natural"
    return "colour" if appearance in COLOURS else "material"


def with_object(scene: Scene, index: int, thing: Object) -> Scene:
    """Return the scene with object `index` replaced."""
    return replace(scene, objects=(*scene.objects[:index], thing, *scene.objects[index + 1 :]))


class Judge:
    """A judge of pictures of a world that consists of `artwork`."""

    def __init__(self, artwork: Artwork) -> None:
        self.artwork = artwork
        self._alike = look_alikes(artwork, artwork.names(), ALIKE)

    def classes(self, name: str) -> tuple[str, ...]:
        """Return the thing and others to compare: the most similar in outline, and some more."""
        alike = self._alike[name]
        others = [other for other in self.artwork.names() if other not in (name, *alike)]
        chosen = np.random.default_rng(zlib.crc32(name.encode())).permutation(others)[:UNLIKE]
        return (name, *alike, *map(str, chosen))

    def measure(self, picture: Pixels, scene: Scene, style: str, *, time: float = 0.0) -> Measures:
        """Measure a picture (size, size, 3) that should show `scene` in `style` at a time."""
        true = render(scene, style, self.artwork, size=len(picture), time=time)
        small = shrunk(picture)
        styles = [self._drawn(scene, other, time) for other in STYLES]
        attributes, area = dict.fromkeys(ATTRIBUTES, np.nan), np.nan
        if style not in PENS:
            attributes, found = self._find_attributes(small, scene, style, time)
            area = self._object_iou(small, found, style, time)
        return Measures(
            psnr=psnr(picture, true),
            ssim=ssim(picture, true),
            style=float(STYLES[_nearest(small, styles)] == style),
            attributes=attributes,
            iou=area,
        )

    def _drawn(self, scene: Scene, style: str, time: float) -> Pixels:
        return _drawn(self.artwork, scene, style, time)

    def _find_attributes(
        self, picture: Pixels, scene: Scene, style: str, time: float
    ) -> tuple[dict[str, float], Scene]:
        """Return the share of right values of each attribute, and the scene with those found."""

        def found(options: Sequence[Scene]) -> Scene:
            return options[_nearest(picture, [self._drawn(one, style, time) for one in options])]

        looks = found([replace(scene, light=light) for light in LIGHTS])
        looks = found([replace(looks, ground=ground) for ground in GROUNDS])
        hits: dict[str, list[float]] = {name: [] for name in ATTRIBUTES}
        hits["light"].append(looks.light == scene.light)
        hits["ground"].append(looks.ground == scene.ground)
        for index, thing in enumerate(scene.objects):
            looks = found(
                [with_object(looks, index, replace(thing, appearance=a)) for a in APPEARANCES]
            )
            right = looks.objects[index].appearance == thing.appearance
            hits[kind_of(thing.appearance)].append(right)
        for index, thing in enumerate(looks.objects):
            names = self.classes(thing.name)
            chosen = found([with_object(looks, index, replace(thing, name=n)) for n in names])
            hits["class"].append(chosen.objects[index].name == thing.name)
        return {name: mean(values) for name, values in hits.items()}, looks

    def _object_iou(self, picture: Pixels, scene: Scene, style: str, time: float) -> float:
        """Return the intersection over union of the objects' area in the picture and the scene.

        A pixel belongs to an object if the picture is closer, in a window of 3 pixels, to the
        objects' render than to the ground's. Outside the true area, that render has larger objects.
        """
        grown = replace(
            scene, objects=tuple(replace(one, size=_GROWTH * one.size) for one in scene.objects)
        )

        def area(one: Scene) -> npt.NDArray[np.bool_]:
            masks = object_masks(one, self.artwork, size=SIZE, time=time)
            return np.asarray(masks.sum(0) > 0.5)

        def error(look: Pixels) -> Pixels:
            squared = np.square(picture - look).mean(-1)
            return np.asarray(cv2.blur(squared, (3, 3), borderType=cv2.BORDER_REFLECT))

        true, large, bare = (
            self._drawn(one, style, time) for one in (scene, grown, replace(scene, objects=()))
        )
        inside = area(scene)
        mask = inside[..., None]
        nearer = error(np.where(mask, true, large)) < error(np.where(mask, bare, true))
        # An enlarged object need not cover its original area.
        return iou((inside | area(grown)) & nearer, inside)


def shrunk(picture: Pixels) -> Pixels:
    """Return a picture at SIZE, each pixel the mean of those that it covers."""
    if len(picture) == SIZE:
        return picture
    how = cv2.INTER_AREA if len(picture) > SIZE else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (SIZE, SIZE), interpolation=how))


@lru_cache(maxsize=512)
def _drawn(artwork: Artwork, scene: Scene, style: str, time: float) -> Pixels:
    """Call `render` at SIZE, cached for other methods' pictures of the same scene."""
    return render(scene, style, artwork, size=SIZE, time=time)


def _nearest(picture: Pixels, candidates: Sequence[Pixels]) -> int:
    return int(np.argmin([np.square(one - picture).mean() for one in candidates]))
