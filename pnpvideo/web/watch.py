"""How far a run is, what it will look like, and how it is stopped."""

import contextlib
import threading
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
from pnpvideo.files.atomic_output import renamed
from pnpvideo.models.model import Model
from pnpvideo.options.method import PnPOptions
from pnpvideo.stages.latents import decode
from pnpvideo.web.view import SHOWN, contact_strip, predicted_clean

# Of the time of a run that previews may take.
_PREVIEW_SHARE = 0.1
_FINISHING = 0.05
"""What decoding and writing take of a run, roughly."""


class StoppedError(Exception):
    """A visitor has stopped the run, or the server ends."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """share: of the work that is done, 0 to 1. remaining: seconds, None while nobody knows."""

    stage: str
    share: float
    remaining: float | None


class Watch:
    """Watches one run. `stop` ends it at the next layer of the network, from any thread."""

    def __init__(self, preview: Path) -> None:
        """preview: the picture to write."""
        self._preview = preview
        self._stopped = threading.Event()
        self._next, self._before, self._began = 0, 0.0, time.monotonic()
        self._first: float | None = None
        self._last: tuple[int, Tensor] | None = None
        self._quiet_until = 0.0
        self.progress = Progress(stage="preparing", share=0.0, remaining=None)

    def stop(self) -> None:
        self._stopped.set()

    def check(self, *_: object) -> None:
        """StoppedError where the run is to end."""
        if self._stopped.is_set():
            raise StoppedError

    def use(self, model: Model, options: PnPOptions, stages: Sequence[tuple[str, float]]) -> None:
        """What the run will be. stages: what its bars are named, in the order in which they come,
        each with its part of the work."""
        self._model, self._options, self._stages = model, options, stages
        self._whole = sum(cost for _, cost in stages) * (1 + _FINISHING)

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Let the run be stopped within."""
        # Before each layer of any module: a batch may take longer than people wait.
        with register_module_forward_pre_hook(self.check):
            yield

    def begin(self, stage: str) -> float:
        """A bar has begun. Returns its part of the work."""
        names = [name for name, _ in self._stages]
        at = names.index(stage, self._next) if stage in names[self._next :] else len(names)
        self._before = sum(cost for _, cost in self._stages[:at])
        self._next = at + 1
        return self._stages[at][1] if at < len(names) else 0.0

    def advance(self, stage: str, cost: float, share: float) -> None:
        """A bar is at this share of its own work."""
        self.check()
        now, done = time.monotonic(), (self._before + cost * share) / self._whole
        if self._first is None:  # What was there before has taken no time.
            self._first, self._began = done, now
        remaining = None
        if done - self._first > 0.01:
            remaining = (now - self._began) * (1 - done) / (done - self._first)
        self.progress = Progress(stage=stage, share=done, remaining=remaining)

    def after_step(self, step: int, timestep: float, every: Tensor) -> None:
        """Write what the first result looks like so far, now and then."""
        self.check()
        latents, model = every[0], self._model
        count = len(latents)
        shown = sorted({round(i * (count - 1) / max(1, SHOWN - 1)) for i in range(SHOWN)})
        now, last = latents[shown].clone(), self._last
        self._last = (step, now)
        began = time.monotonic()
        if last is None or last[0] != step - 1 or began < self._quiet_until:
            return
        size = model.autoencoder.size_of(now.shape)
        levels = model.schedule(self._options, size).levels
        clean = predicted_clean(last[1], now, levels[step], levels[step + 1])
        self.show([frame for batch in decode(model, clean, len(clean)) for frame in batch])
        took = time.monotonic() - began
        self._quiet_until = began + took + max(1.0, took / _PREVIEW_SHARE)

    def show(self, frames: Sequence[Frames]) -> None:
        part = self._preview.with_suffix(".part")
        with renamed(part, self._preview):
            Image.fromarray(contact_strip(frames)).save(part, format="JPEG", quality=85)

    def bars(self) -> "type[tqdm[NoReturn]]":
        """Return the kind of progress bar that this watch reads."""
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


def stages_of(options: PnPOptions, prompts: int, *, made: bool) -> list[tuple[str, float]]:
    """The bars of a run with their parts of the work: the passes of one frame. made: whether the
    model makes the source."""
    texts = 2 if options.is_guided else 1
    first = "inverting", options.inversion_step_count * options.inversion_iterations
    if made:
        first = "generating the source", options.steps * texts
    branches = 1 + prompts * texts
    return [first, ("translating", options.steps * branches)]
