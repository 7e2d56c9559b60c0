"""A hint at the start of a long run, which a job folder would let go on after a stop."""

import logging
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from pnpvideo.stages.callbacks import Bar
from pnpvideo.stages.cost import RunCost

_log = logging.getLogger(__name__)

_LONG = 300.0
"""Seconds from which a run is long."""
_SETTLED = 10.0
"""Seconds after which the pace of a bar says how long it takes: the first steps are slower."""


class JobHint:
    """The hint of one run, which is given once at most. `expect` and `bars` are for the run."""

    def __init__(self, name: str) -> None:
        """name: for the job folder."""
        self._name, self._cost = name, RunCost(source_stage="", source=0, sampling=0)
        self._is_decided = False

    def expect(self, cost: RunCost) -> None:
        """Take what the run costs."""
        self._cost = cost

    def consider(self, stage: str, bar: Mapping[str, Any]) -> None:
        """Give the hint if the bar of a stage shows that the run is long. bar: tqdm's values."""
        if self._is_decided or bar["elapsed"] < _SETTLED or not bar["rate"]:
            return
        steps = bar["total"] - bar["n"]
        if stage == self._cost.source_stage and self._cost.source:
            steps += bar["total"] * self._cost.sampling / self._cost.source
        self._is_decided = True
        if (seconds := steps / bar["rate"]) > _LONG:
            left = tqdm.format_interval(seconds)
            _log.info("about %s left; add `--job %s` to go on after a stop", left, self._name)

    def bars(self) -> type[Bar]:
        """Return the kind of progress bar that gives the hint."""
        hint = self

        class HintingBar(Bar):
            def __init__(self, *, desc: str, **config: Any) -> None:
                super().__init__(desc=desc, **config)
                self._stage = desc

            def update(self, n: float | None = 1) -> bool | None:
                is_drawn = super().update(n)
                if is_drawn:
                    hint.consider(self._stage, self.format_dict)
                return is_drawn

        return HintingBar
