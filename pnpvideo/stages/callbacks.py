"""Functions that the stages call while they run: progress, inversion, steps, stopping."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from torch import Tensor
from tqdm import tqdm

from pnpvideo.sampling.guidance import Guidance
from pnpvideo.sampling.steps import OnPrediction
from pnpvideo.stages.source import Source

Bars = Callable[..., "tqdm[NoReturn]"]
"""Makes a progress bar, from the keywords desc, total and initial of tqdm."""

_SHOWN = {
    "inverting": "reading the source",
    "translating": "drawing",
    "reconstructing": "drawing the source again",
}
"""By name of a stage, which scripts read: what people read of it, if it is something else."""


def shown_stage(stage: str) -> str:
    """Return a stage in plain words."""
    return _SHOWN.get(stage, stage)


class Bar(tqdm):  # type: ignore[type-arg]
    """A progress bar for people: the stage, and its time."""

    def __init__(self, *, desc: str, **config: Any) -> None:
        layout = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} so far, {remaining} left"
        super().__init__(**{"desc": shown_stage(desc), "bar_format": layout} | config)


GuidedStep = Callable[[int, float, Tensor, Guidance], Tensor]
"""Called with step, timestep, latents (prompts, pieces, c, h, w) and guidance; returns latents."""


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """Functions of the caller, each of which may raise to end the run.

    bars: makes progress bars, whose desc names the stage.
    stopped: returns whether the steps that are left are not made.
    after_inversion: called with the source once its trajectory is complete, before sampling.
    after_step: called after each step of sampling; what it returns is sampled on.
    on_prediction: called at each step with the clean latents that the network expects.
    """

    bars: Bars = Bar
    stopped: Callable[[], bool] = lambda: False
    after_inversion: Callable[[Source], None] = lambda source: None
    after_step: GuidedStep | None = None
    on_prediction: OnPrediction | None = None

    def bar(self, stage: str, total: int, done: int = 0) -> "tqdm[NoReturn]":
        """Start the progress bar of a stage, some of whose work an earlier run may have done."""
        return self.bars(desc=stage, total=total, initial=done)


def bars_of(bars: Bars | None = None, *, quiet: bool) -> Bars:
    """Return a kind of progress bar, by default `Bar`, that shows nothing if quiet."""
    kind: Bars = bars or Bar
    return partial(kind, disable=quiet)


QUIET = Callbacks(bars=bars_of(quiet=True))
"""No callbacks, and no progress bars."""
