"""The columns of each benchmark's table: what is measured, by which network, in which unit."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from pnpvideo.clips.clip import Frames
from pnpvideo.evaluation import feature_metrics, pixel_metrics
from pnpvideo.evaluation.clip_metrics import estimated_warp_error
from pnpvideo.evaluation.networks import Networks
from pnpvideo.evaluation.pixel_metrics import Each, blacked, of_unedited
from pnpvideo.evaluation.prepare import fitted
from pnpvideo.evaluation.samples import Sample

Measure = Callable[[Sample, Networks], Each]
"""A value a frame; the column's value is their mean."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """name: in CSV and JSON. title: in tables for people. factor: by which the field multiplies the
    value; unit: what it calls that. roles: the networks that it needs. best: which end is better.
    how: by which of several ways it is measured.
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
        """The title with its unit and the direction that is better."""
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.title}{unit} {'↑' if self.best == 'high' else '↓'}"


def _nothing(sample: Sample) -> Each:
    return np.full(len(sample.source), np.nan)


def _plain(values: Tensor) -> Each:
    return np.asarray(values.double().numpy())


def _structure(sample: Sample, networks: Networks) -> Each:
    keys = (networks.keys(frames) for frames in (sample.source, sample.fitted))
    return _plain(feature_metrics.structure_distance(*keys))


def _unedited(distance: pixel_metrics.Distance) -> Measure:
    def measure(sample: Sample, networks: Networks) -> Each:
        if sample.mask is None:
            return _nothing(sample)
        return of_unedited(distance, sample.fitted, sample.source, sample.mask)

    return measure


def _unedited_lpips(sample: Sample, networks: Networks) -> Each:
    def distance(one: Frames, other: Frames) -> Each:
        return _plain(networks.lpips("lpips-squeeze", one, other))

    return _unedited(distance)(sample, networks)


def _clip_score(role: str) -> Measure:
    def measure(sample: Sample, networks: Networks) -> Each:
        pictures = networks.clip_pictures(role, sample.result)
        return _plain(
            feature_metrics.clip_score(pictures, networks.clip_text(role, sample.item.text))
        )

    return measure


def _edited_clip_score(sample: Sample, networks: Networks) -> Each:
    if sample.mask is None:
        return _nothing(sample)
    edited = blacked(sample.fitted, ~sample.mask)
    pictures = networks.clip_pictures("clip-large", edited)
    text = networks.clip_text("clip-large", sample.item.text)
    values = _plain(feature_metrics.clip_score(pictures, text))
    return np.where(sample.mask.any(axis=(1, 2)), values, np.nan)


def _clip_text(sample: Sample, networks: Networks) -> Each:
    pictures = networks.clip_pictures("clip", sample.result)
    return _plain(
        feature_metrics.similarity(pictures, networks.clip_text("clip", sample.item.text))
    )


def _clip_direction(sample: Sample, networks: Networks) -> Each:
    if not sample.item.source_prompt:
        return _nothing(sample)
    pictures = (networks.clip_pictures("clip", x) for x in (sample.source, sample.result))
    texts = (networks.clip_text("clip", x) for x in (sample.item.source_prompt, sample.item.prompt))
    return _plain(feature_metrics.direction(*pictures, *texts))


def _clip_to_source(sample: Sample, networks: Networks) -> Each:
    pictures = (networks.clip_pictures("clip", x) for x in (sample.result, sample.source))
    return _plain(feature_metrics.similarity(*pictures))


def _dino_to_source(sample: Sample, networks: Networks) -> Each:
    return _plain(feature_metrics.similarity(*map(networks.dino, (sample.result, sample.source))))


def _to_source(distance: pixel_metrics.Distance) -> Measure:
    return lambda sample, networks: distance(sample.fitted, sample.source)


def _to_reference(distance: pixel_metrics.Distance) -> Measure:
    def measure(sample: Sample, networks: Networks) -> Each:
        if sample.reference is None:
            return _nothing(sample)
        _, height, width, _ = sample.reference.shape
        return distance(fitted(sample.result, width, height), sample.reference)

    return measure


def _clip_to_reference(sample: Sample, networks: Networks) -> Each:
    if sample.reference is None:
        return _nothing(sample)
    pictures = (networks.clip_pictures("clip", x) for x in (sample.result, sample.reference))
    return _plain(feature_metrics.similarity(*pictures))


def _dino_to_reference(sample: Sample, networks: Networks) -> Each:
    if sample.reference is None:
        return _nothing(sample)
    return _plain(
        feature_metrics.similarity(*map(networks.dino, (sample.result, sample.reference)))
    )


def _frame_consistency(sample: Sample, networks: Networks) -> Each:
    pictures = networks.clip_pictures("clip", sample.result)
    return np.array([feature_metrics.frame_consistency(pictures)])


def _warp_error(sample: Sample, networks: Networks) -> Each:
    return np.array([estimated_warp_error(sample.fitted, sample.source)])


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
    _column("psnr_unedited", "PSNR", _unedited(pixel_metrics.psnr), "high"),
    _column("lpips_unedited", "LPIPS", _unedited_lpips, "low", 1e3, "lpips-squeeze"),
    _column("mse_unedited", "MSE", _unedited(pixel_metrics.mse), "low", 1e4),
    _column("ssim_unedited", "SSIM", _unedited(pixel_metrics.ssim), "high", 1e2),
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
