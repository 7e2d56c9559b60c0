"""Measures of results, stored by item; measures by the same network are not repeated."""

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
from pnpvideo.evaluation.pixel_metrics import FrameValues
from pnpvideo.evaluation.run_folder import MeasuredItem, RunFolder
from pnpvideo.evaluation.samples import FrameRange, ItemFrames, read_item_frames

_log = logging.getLogger(__name__)

MethodFolders = Mapping[str, Path]
"""The folder of each method's results."""


class Measurer:
    """A measurer of results for all columns. pooled: whether to store SFID's features, too."""

    def __init__(
        self,
        folder: RunFolder,
        methods: MethodFolders,
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
        """Return whether all methods' results of an item are measured by the available networks."""
        return all(self._is_done(method, item) for method in self._methods)

    def _is_done(self, method: str, item: Item) -> bool:
        measured = self._folder.read_measured(method, item.id)
        if measured.reason is not None:
            return find_result(self._methods[method], item.result) is None
        return not self._missing(measured) and not self._lacks_features(measured)

    def measure(self, item: Item, items: Mapping[str, Item], reasons: Mapping[str, str]) -> None:
        """Measure all methods' results of an item. reasons: why results are missing, by id."""
        for method, place in self._methods.items():
            measured = self._folder.read_measured(method, item.id)
            result = find_result(place, item.result)
            if result is None:
                reason = reasons.get(item.id, "there is no result")
                self._folder.write_measured(method, item.id, MeasuredItem(reason=reason))
                continue
            columns = [] if measured.reason is None else list(self._columns)
            columns = columns or self._missing(measured)
            if not columns and not self._lacks_features(measured):
                continue
            measured.reason = None
            try:
                sample = read_item_frames(
                    item,
                    self._source(item, items, place),
                    result,
                    self._frames,
                    crop=self._crop,
                )
                self._fill(measured, sample, columns)
            except InputError as error:
                measured = MeasuredItem(reason=str(error))
            self._folder.write_measured(method, item.id, measured)

    def _source(self, item: Item, items: Mapping[str, Item], place: Path) -> Path:
        """Return an item's source: the previous step's result, or the chain's first source."""
        while item.source is None:
            item = items[str(item.after)]
            if (previous := find_result(place, item.result)) is not None:
                return previous
        return item.source

    def _missing(self, measured: MeasuredItem) -> list[Column]:
        return [
            column
            for column in self._columns
            if measured.made_with.get(column.name) != self._made_with(column)
            and all(self._may_be_available(role) for role in column.roles)
        ]

    def _lacks_features(self, measured: MeasuredItem) -> bool:
        return self._pooled and measured.features is None and self._may_be_available("features")

    def _may_be_available(self, role: str) -> bool:
        """Return whether a network may be available; loading is tried only for a measurement."""
        place = self._networks.places[role]
        return place not in (None, NONE) and role not in self._networks.missing

    def _made_with(self, column: Column) -> str:
        frames = f"every {self._frames.stride}. frame" if self._frames.stride > 1 else ""
        return ", ".join(
            [*map(self._networks.name, column.roles), *filter(None, [column.how, frames])]
        )

    def _fill(self, measured: MeasuredItem, sample: ItemFrames, columns: Sequence[Column]) -> None:
        for column in columns:
            if not all(self._has(role) for role in column.roles):
                continue
            value = mean_of(column.measure(sample, self._networks))
            measured.values[column.name] = value
            measured.made_with[column.name] = self._made_with(column)
            measured.fingerprints |= {
                role: self._networks.identities[role] for role in column.roles
            }
            if column is PIXEL_SHIFT:
                measured.shift = sample.shifts.evidence.values
        if self._pooled and self._networks.has("features"):
            measured.features = self._networks.pooled(sample.result[:1])[0].tolist()

    def _has(self, role: str) -> bool:
        """Return whether a network is available; if not, log once what is left out."""
        already_logged = role in self._networks.missing
        available = self._networks.has(role)
        if not available and not already_logged:
            titles = [column.title for column in self._columns if role in column.roles]
            reason = self._networks.missing[role]
            _log.warning("not measured: %s, because %s", ", ".join(titles), reason)
        return available


def mean_of(values: FrameValues) -> float | None:
    """Return the mean over frames with a value, as in FiVE-Bench's code; None if none has one."""
    valid = values[~np.isnan(values)]
    if not len(valid):
        return None
    mean = float(valid.mean())
    return mean if math.isfinite(mean) else None
