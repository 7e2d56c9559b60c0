"""Measures of results, kept by item: what was measured by the same network is not done again."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pnpvideo.errors import InputError
from pnpvideo.evaluation.columns import PIXEL_SHIFT, Column
from pnpvideo.evaluation.items import Item, find_result
from pnpvideo.evaluation.load_networks import NONE
from pnpvideo.evaluation.networks import Networks
from pnpvideo.evaluation.pixel_metrics import Each
from pnpvideo.evaluation.run_folder import Measured, RunFolder
from pnpvideo.evaluation.samples import FrameRange, Sample, read_sample

_log = logging.getLogger(__name__)

Folders = Mapping[str, Path]
"""Each method's results."""


class Measurer:
    """Fills the columns of items. pooled: whether to keep the features of SFID, too."""

    def __init__(
        self,
        folder: RunFolder,
        methods: Folders,
        columns: Sequence[Column],
        networks: Networks,
        frames: FrameRange,
        *,
        crop: bool,
        pooled: bool,
    ) -> None:
        self._folder, self._methods, self._columns = folder, methods, columns
        self._networks, self._frames = networks, frames
        self._crop, self._pooled = crop, pooled

    def is_done(self, item: Item) -> bool:
        """Whether all methods' results of an item are measured, as far as networks are there."""
        return all(self._is_done(method, item) for method in self._methods)

    def _is_done(self, method: str, item: Item) -> bool:
        known = self._folder.read_measured(method, item.id)
        if known.reason is not None:
            return find_result(self._methods[method], item.result) is None
        return not self._missing(known) and not self._lacks_features(known)

    def measure(self, item: Item, items: Mapping[str, Item], reasons: Mapping[str, str]) -> None:
        """Measure all methods' results of an item. reasons: why an item has no result of ours."""
        for method, place in self._methods.items():
            known = self._folder.read_measured(method, item.id)
            result = find_result(place, item.result)
            if result is None:
                reason = reasons.get(item.id, "there is no result")
                self._folder.write_measured(method, item.id, Measured(reason=reason))
                continue
            todo = [] if known.reason is None else list(self._columns)
            todo = todo or self._missing(known)
            if not todo and not self._lacks_features(known):
                continue
            known.reason = None
            try:
                sample = read_sample(
                    item,
                    self._source(item, items, place),
                    result,
                    self._frames,
                    crop=self._crop,
                )
                self._fill(known, sample, todo)
            except InputError as error:
                known = Measured(reason=str(error))
            self._folder.write_measured(method, item.id, known)

    def _source(self, item: Item, items: Mapping[str, Item], place: Path) -> Path:
        """The source that it was made of; of a method without steps, what the chain began with."""
        while item.source is None:
            item = items[str(item.after)]
            if (before := find_result(place, item.result)) is not None:
                return before
        return item.source

    def _missing(self, known: Measured) -> list[Column]:
        return [
            column
            for column in self._columns
            if known.made_with.get(column.name) != self._made_with(column)
            and all(self._may_be_there(role) for role in column.roles)
        ]

    def _lacks_features(self, known: Measured) -> bool:
        return self._pooled and known.features is None and self._may_be_there("features")

    def _may_be_there(self, role: str) -> bool:
        """Not whether it can be loaded: that is tried only when something is to be measured."""
        place = self._networks.places[role]
        return place not in (None, NONE) and role not in self._networks.missing

    def _made_with(self, column: Column) -> str:
        frames = f"every {self._frames.stride}. frame" if self._frames.stride > 1 else ""
        return ", ".join(
            [*map(self._networks.name, column.roles), *filter(None, [column.how, frames])]
        )

    def _fill(self, known: Measured, sample: Sample, columns: Sequence[Column]) -> None:
        for column in columns:
            if not all(self._has(role) for role in column.roles):
                continue
            value = mean_of(column.measure(sample, self._networks))
            known.values[column.name] = value
            known.made_with[column.name] = self._made_with(column)
            known.fingerprints |= {role: self._networks.identities[role] for role in column.roles}
            if column is PIXEL_SHIFT:
                known.shift = sample.shifts.evidence.values
        if self._pooled and self._networks.has("features"):
            known.features = self._networks.pooled(sample.result[:1])[0].tolist()

    def _has(self, role: str) -> bool:
        """Whether a network is there; if not, what is left out is told once."""
        told = role in self._networks.missing
        there = self._networks.has(role)
        if not there and not told:
            titles = [column.title for column in self._columns if role in column.roles]
            why = self._networks.missing[role]
            _log.warning("not measured: %s, as %s", ", ".join(titles), why)
        return there


def mean_of(values: Each) -> float | None:
    """Mean over the frames that have a value, as FiVE-Bench's code; None where none has."""
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    mean = float(known.mean())
    return mean if math.isfinite(mean) else None
