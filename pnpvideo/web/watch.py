"""Follow a run: how far it is, what its result looks like so far, and whether to stop it."""

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from PIL import Image
from torch import Tensor
from torch.nn.modules.module import register_module_forward_pre_hook
from tqdm import tqdm

from pnpvideo.clips.clip import Frames
from pnpvideo.errors import RunError
from pnpvideo.files.atomic_output import renamed
from pnpvideo.models.model import Model
from pnpvideo.stages.latents import decode
from pnpvideo.web.view import SHOWN, contact_strip

_PREVIEW_SHARE = 0.1
"""The share of a run's time that previews may take."""
_FINISHING = 0.05
"""Roughly the time of decoding and writing, as a share of the time before it."""


class StoppedError(Exception):
    """The signal that somebody stopped the run, as the message says, or that the server ends."""


class TimeUpError(Exception):
    """The signal that a run took longer than the server allows."""


@dataclass(frozen=True, kw_only=True)
class RunProgress:
    """The progress of a run.

    share: the part of the work that is done, 0 to 1. remaining: in seconds; None if not known yet.
    """

    stage: str
    share: float
    remaining: float | None


class Watch:
    """The progress of one run. `stop` ends the run at the network's next layer, from any thread."""

    def __init__(self, preview: Path, seconds: float | None = None) -> None:
        """preview: the file to write previews to. seconds: after which the run ends."""
        self._preview = preview
        self._stopped: str | None = None
        self._until = math.inf if seconds is None else time.monotonic() + seconds
        self._next, self._before, self._began = 0, 0.0, time.monotonic()
        self._first: float | None = None
        self._next_preview = 0.0
        self.progress = RunProgress(stage="preparing", share=0.0, remaining=None)

    def stop(self, why: str = "stopped") -> None:
        """End the run. why: the message of its StoppedError."""
        self._stopped = why

    def check(self, *_: object) -> None:
        """Raise StoppedError or TimeUpError if the run is to end."""
        if self._stopped is not None:
            raise StoppedError(self._stopped)
        if time.monotonic() > self._until:
            raise TimeUpError

    def expect(self, model: Model, stages: Sequence[tuple[str, float]]) -> None:
        """Prepare for a run of a model.

        stages: the names of its progress bars, in their order, each with its cost.
        """
        self._model, self._stages = model, stages
        self._whole = sum(cost for _, cost in stages) * (1 + _FINISHING)

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Let `stop` end the work within this context."""
        # Check before each layer of any module: a batch may take longer than people wait.
        with register_module_forward_pre_hook(self.check):
            yield

    def begin(self, stage: str) -> float:
        """Record that a progress bar began; return its cost."""
        names = [name for name, _ in self._stages]
        at = names.index(stage, self._next) if stage in names[self._next :] else len(names)
        self._before = sum(cost for _, cost in self._stages[:at])
        self._next = at + 1
        return self._stages[at][1] if at < len(names) else 0.0

    def advance(self, stage: str, cost: float, share: float) -> None:
        """Record that a bar is at this share of its own work."""
        self.check()
        now, done = time.monotonic(), (self._before + cost * share) / self._whole
        if self._first is None:  # An earlier run did the work up to here.
            self._first, self._began = done, now
        remaining = None
        if done - self._first > 0.01:
            remaining = (now - self._began) * (1 - done) / (done - self._first)
        self.progress = RunProgress(stage=stage, share=done, remaining=remaining)

    def on_prediction(self, step: int, predicted: Tensor) -> None:
        """Write, now and then, the clean frames that a step expects of the first result.

        predicted: clean latents (prompts, pieces, c, h, w).
        """
        self.check()
        began = time.monotonic()
        if step == 0 or began < self._next_preview:  # The first step expects next to nothing yet.
            return
        last = predicted.shape[1] - 1
        shown = sorted({round(i * last / max(1, SHOWN - 1)) for i in range(SHOWN)})
        if self._model.window is not None:
            shown = [0]  # Only where a scene begins can a latent be decoded without those before.
        batches = decode(self._model, predicted[0, shown], len(shown))
        self.show([frame for batch in batches for frame in batch])
        took = time.monotonic() - began
        self._next_preview = began + took + max(1.0, took / _PREVIEW_SHARE)

    def show(self, frames: Sequence[Frames]) -> None:
        """Write the preview. A full disk only means that there is none."""
        part = self._preview.with_suffix(".part")
        with contextlib.suppress(RunError), renamed(part, self._preview):
            Image.fromarray(contact_strip(frames)).save(part, format="JPEG", quality=85)

    def bars(self) -> "type[tqdm[NoReturn]]":
        """Return a class of progress bars that prints nothing and reports to this object."""
        watch = self

        class Bar(tqdm):  # type: ignore[type-arg]
            def __init__(self, *, desc: str, total: int, initial: int, **config: object) -> None:
                super().__init__(**config)  # type: ignore[call-overload]
                self._stage, self._done, self._all = desc, float(initial), total
                self._cost = watch.begin(self._stage)

            def update(self, n: float | None = 1) -> None:
                self._done += n or 0
                watch.advance(self._stage, self._cost, self._done / self._all)

        return Bar
