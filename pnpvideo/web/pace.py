"""Estimate how long runs take, from one at the start and from those that visitors make."""

import time
from collections.abc import Mapping

import numpy as np

from pnpvideo.clips.clip import Clip, clip_of_frames
from pnpvideo.models.model import Model
from pnpvideo.options.method import PRESETS, PnPOptions, Preset
from pnpvideo.stages.callbacks import QUIET
from pnpvideo.stages.cost import cost_of
from pnpvideo.stages.edit import OpenEdit
from pnpvideo.stages.latents import decode
from pnpvideo.stages.request import Edit, seeded

_STEPS = 2
"""The steps of the run that is made at the start."""
_SHORT = 20.0
"""Seconds up to which that run is made twice."""
_OTHER_WORK = frozenset(("size", "mask_from_prompt", "ip_adapter_image"))
"""Options with which a frame takes another time."""


class Paces:
    """The seconds that one pass of a frame through the network takes, for each model."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def measure(self, name: str, model: Model) -> None:
        """Translate one grey picture in few steps, unless the pace of this model is known."""
        if name in self._seconds:
            return
        width, height = model.default_size
        few = {"steps": _STEPS, "inversion_steps": None, "inversion_iterations": 1}
        options = model.defaults.of(model.defaults.plain() | few)
        grey = clip_of_frames(np.full((1, height, width, 3), 128, np.uint8))
        took = _time_of(model, grey, options)
        if took < _SHORT:  # The first run in a process takes longer than others.
            took = min(took, _time_of(model, grey, options))
        self._learn(name, options, 1, 1, took)

    def learn(
        self,
        name: str,
        values: Mapping[str, object],
        options: PnPOptions,
        *,
        frames: int,
        results: int,
        seconds: float,
    ) -> None:
        """Learn from a run of a model. values: the settings that the visitor gave."""
        if not _OTHER_WORK & values.keys():
            self._learn(name, options, frames, results, seconds)

    def seconds(self, name: str, own: PnPOptions, preset: Preset, frames: int) -> float | None:
        """Return the seconds of a run with one result; None if no run has been seen.

        own: the options of the model.
        """
        pace = self._seconds.get(name)
        return None if pace is None else pace * frames * _passes(own.at(preset), 1)

    def choices(self, name: str, own: PnPOptions, frames: int) -> list[tuple[str, Preset]]:
        """Return the qualities to choose from, the fastest first, each in words and by its name."""
        words: dict[Preset, str] = {"fast": "Draft", "balanced": "Good", "best": "Best"}
        found = []
        for preset in PRESETS:
            seconds = self.seconds(name, own, preset, frames)
            time = "" if seconds is None else f", {about(seconds)}"
            found.append((f"{words[preset]}{time}", preset))
        return found

    def _learn(
        self, name: str, options: PnPOptions, frames: int, results: int, seconds: float
    ) -> None:
        self._seconds[name] = seconds / (frames * _passes(options, results))


def about(seconds: float) -> str:
    """Return a time in words, rounded to what an estimate is worth."""
    if seconds < 90:
        return f"about {max(1, round(seconds, None if seconds < 20 else -1)):.0f} s"
    if seconds < 90 * 60:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.0f} h"


def _time_of(model: Model, source: Clip, options: PnPOptions) -> float:
    """Return the seconds of one translation."""
    began = time.monotonic()
    request = Edit(source=source, prompt="", options=options, generators=seeded(0))
    with OpenEdit(model, request, QUIET) as opened:
        for _ in decode(model, opened.sample().latents[0], 1):
            pass
    return time.monotonic() - began


def _passes(options: PnPOptions, results: int) -> int:
    cost = cost_of(options, results, generated=False)
    return cost.source + cost.sampling
