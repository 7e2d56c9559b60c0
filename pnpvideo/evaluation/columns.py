"""The columns of each benchmark's table: the measure, its networks and its unit."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from pnpvideo.clips.clip import Frames
from pnpvideo.evaluation import feature_metrics, pixel_metrics
from pnpvideo.evaluation.clip_metrics import estimated_warp_error
from pnpvideo.evaluation.networks import Networks
from pnpvideo.evaluation.pixel_metrics import FrameValues, blackened, distance_on_unedited
from pnpvideo.evaluation.prepare import resized_bicubic
from pnpvideo.evaluation.samples import ItemFrames

Measure = Callable[[ItemFrames, Networks], FrameValues]
"""A measure that returns a value for each frame; the column's value is their mean."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table.

    name: in CSV and JSON. title: in tables for people. factor: the usual multiplier of the value in
    the literature; unit: the name of that multiplier. roles: the networks that the measure needs.
    best: whether high or low values are better. how: the variant of the measure, if it has several.
    """

    name: str
    title: str
    measure: Measure
    best: Literal["high", "low"]
    factor: float = 1
    unit: str = ""
    roles: tuple[str, ...] = ()
    how: str = ""

    @property
    def heading(self) -> str:
        """Return the title with its unit and an arrow for the better direction."""
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.title}{unit} {'↑' if self.best == 'high' else '↓'}"


def _no_values(sample: ItemFrames) -> FrameValues:
    return np.full(len(sample.source), np.nan)


def _as_array(values: Tensor) -> FrameValues:
    return np.asarray(values.double().numpy())


def _structure(sample: ItemFrames, networks: Networks) -> FrameValues:
    keys = (networks.keys(frames) for frames in (sample.source, sample.resized_result))
    return _as_array(feature_metrics.structure_distance(*keys))


def _on_unedited(distance: pixel_metrics.Distance) -> Measure:
    def measure(sample: ItemFrames, networks: Networks) -> FrameValues:
        if sample.mask is None:
            return _no_values(sample)
        return distance_on_unedited(distance, sample.resized_result, sample.source, sample.mask)

    return measure


def _lpips_on_unedited(sample: ItemFrames, networks: Networks) -> FrameValues:
    def distance(frames: Frames, others: Frames) -> FrameValues:
        return _as_array(networks.lpips("lpips-squeeze", frames, others))

    return _on_unedited(distance)(sample, networks)


def _clip_score(role: str) -> Measure:
    def measure(sample: ItemFrames, networks: Networks) -> FrameValues:
        pictures = networks.clip_pictures(role, sample.result)
        return _as_array(
            feature_metrics.clip_score(pictures, networks.clip_text(role, sample.item.text))
        )

    return measure


def _edited_clip_score(sample: ItemFrames, networks: Networks) -> FrameValues:
    if sample.mask is None:
        return _no_values(sample)
    edited = blackened(sample.resized_result, ~sample.mask)
    pictures = networks.clip_pictures("clip-large", edited)
    text = networks.clip_text("clip-large", sample.item.text)
    values = _as_array(feature_metrics.clip_score(pictures, text))
    return np.where(sample.mask.any(axis=(1, 2)), values, np.nan)


def _clip_text(sample: ItemFrames, networks: Networks) -> FrameValues:
    pictures = networks.clip_pictures("clip", sample.result)
    return _as_array(
        feature_metrics.similarity(pictures, networks.clip_text("clip", sample.item.text))
    )


def _clip_direction(sample: ItemFrames, networks: Networks) -> FrameValues:
    if not sample.item.source_prompt:
        return _no_values(sample)
    pictures = (networks.clip_pictures("clip", x) for x in (sample.source, sample.result))
    texts = (networks.clip_text("clip", x) for x in (sample.item.source_prompt, sample.item.prompt))
    return _as_array(feature_metrics.direction(*pictures, *texts))


def _clip_to_source(sample: ItemFrames, networks: Networks) -> FrameValues:
    pictures = (networks.clip_pictures("clip", x) for x in (sample.result, sample.source))
    return _as_array(feature_metrics.similarity(*pictures))


def _dino_to_source(sample: ItemFrames, networks: Networks) -> FrameValues:
    return _as_array(
        feature_metrics.similarity(*map(networks.dino, (sample.result, sample.source)))
    )


def _to_source(distance: pixel_metrics.Distance) -> Measure:
    return lambda sample, networks: distance(sample.resized_result, sample.source)


def _to_reference(distance: pixel_metrics.Distance) -> Measure:
    def measure(sample: ItemFrames, networks: Networks) -> FrameValues:
        if sample.reference is None:
            return _no_values(sample)
        _, height, width, _ = sample.reference.shape
        return distance(resized_bicubic(sample.result, width, height), sample.reference)

    return measure


def _clip_to_reference(sample: ItemFrames, networks: Networks) -> FrameValues:
    if sample.reference is None:
        return _no_values(sample)
    pictures = (networks.clip_pictures("clip", x) for x in (sample.result, sample.reference))
    return _as_array(feature_metrics.similarity(*pictures))


def _dino_to_reference(sample: ItemFrames, networks: Networks) -> FrameValues:
    if sample.reference is None:
        return _no_values(sample)
    return _as_array(
        feature_metrics.similarity(*map(networks.dino, (sample.result, sample.reference)))
    )


def _frame_consistency(sample: ItemFrames, networks: Networks) -> FrameValues:
    pictures = networks.clip_pictures("clip", sample.result)
    return np.array([feature_metrics.frame_consistency(pictures)])


def _warp_error(sample: ItemFrames, networks: Networks) -> FrameValues:
    return np.array([estimated_warp_error(sample.resized_result, sample.source)])


def _column(
    name: str,
    title: str,
    measure: Measure,
    best: Literal["high", "low"],
    factor: float = 1,
    *roles: str,
    how: str = "",
) -> Column:
    unit = {1e2: "x10^2", 1e3: "x10^3", 1e4: "x10^4"}.get(factor, "")
    return Column(
        name=name,
        title=title,
        measure=measure,
        best=best,
        factor=factor,
        unit=unit,
        roles=roles,
        how=how,
    )


STRUCTURE = _column("structure_distance", "structure", _structure, "low", 1e3, "structure")
CLIP_TEXT = _column("clip_text", "CLIP text", _clip_text, "high", 1, "clip")
CLIP_DIRECTION = _column("clip_direction", "CLIP direction", _clip_direction, "high", 1, "clip")
CLIP_SOURCE = _column("clip_source", "CLIP to source", _clip_to_source, "high", 1, "clip")
DINO_SOURCE = _column("dino_source", "DINO to source", _dino_to_source, "high", 1, "dino")
L1_SOURCE = _column("l1_source", "L1 to source", _to_source(pixel_metrics.l1), "low")
_EDGES = "local energy"
PIXEL_SHIFT = _column(
    "pixel_shift", "pixel shift", lambda sample, _: sample.shifts.distance, "low", how=_EDGES
)
SHIFT = (
    PIXEL_SHIFT,
    _column(
        "pixel_shift_error", "its error", lambda sample, _: sample.shifts.error, "low", how=_EDGES
    ),
)

PIE_BENCH = (
    STRUCTURE,
    _column("psnr_unedited", "PSNR", _on_unedited(pixel_metrics.psnr), "high"),
    _column("lpips_unedited", "LPIPS", _lpips_on_unedited, "low", 1e3, "lpips-squeeze"),
    _column("mse_unedited", "MSE", _on_unedited(pixel_metrics.mse), "low", 1e4),
    _column("ssim_unedited", "SSIM", _on_unedited(pixel_metrics.ssim), "high", 1e2),
    _column("clip_whole", "CLIP whole", _clip_score("clip-large"), "high", 1, "clip-large"),
    _column("clip_edited", "CLIP edited", _edited_clip_score, "high", 1, "clip-large"),
    *SHIFT,
)
TI2I = (STRUCTURE, CLIP_TEXT, CLIP_DIRECTION, DINO_SOURCE, *SHIFT)
EMU_EDIT = (CLIP_DIRECTION, CLIP_SOURCE, CLIP_TEXT, L1_SOURCE, DINO_SOURCE, *SHIFT)
TO_REFERENCE = (
    _column("l1_reference", "L1", _to_reference(pixel_metrics.l1), "low"),
    _column("l2_reference", "L2", _to_reference(pixel_metrics.mse), "low"),
    _column("clip_reference", "CLIP-I", _clip_to_reference, "high", 1, "clip"),
    _column("dino_reference", "DINO", _dino_to_reference, "high", 1, "dino"),
)
MAGICBRUSH = (
    *TO_REFERENCE,
    _column("clip_text", "CLIP-T", _clip_text, "high", 1, "clip"),
    *SHIFT,
)
CLIPS = (
    _column("frame_consistency", "frame consistency", _frame_consistency, "high", 1, "clip"),
    _column("warp_error", "warp error", _warp_error, "low", 1e3),
    CLIP_TEXT,
)
FIVE_BENCH = (*PIE_BENCH, *CLIPS)
MANIFEST = (
    *FIVE_BENCH,
    CLIP_DIRECTION,
    CLIP_SOURCE,
    DINO_SOURCE,
    L1_SOURCE,
    *TO_REFERENCE,
)
