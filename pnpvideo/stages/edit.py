"""The recipe, once: open a source, embed the prompts, invert, sample, and finish the frames."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Generator, Tensor

from pnpvideo.clips.clip import Frames
from pnpvideo.errors import InputError
from pnpvideo.models.model import Control, Model
from pnpvideo.options.method import PnPOptions
from pnpvideo.stages.callbacks import Callbacks, GuidedStep
from pnpvideo.stages.control import find_control
from pnpvideo.stages.finish import finish
from pnpvideo.stages.invert import invert, reconstruct
from pnpvideo.stages.mask import Mask, find_mask
from pnpvideo.stages.open import check_source, open_source
from pnpvideo.stages.prompts import Prompts, embed_prompts
from pnpvideo.stages.request import Edit
from pnpvideo.stages.sample import SampleRun, Start, find_resume, find_spans, find_start, sample
from pnpvideo.stages.source import Source


@dataclass(frozen=True, kw_only=True)
class EditResult:
    """The result of an edit.

    latents: clean latents (results, pieces, c, h, w), prompt by prompt. mask: the part of the
    source that was edited. It can be used while its `OpenEdit` is open.
    """

    model: Model
    latents: Tensor
    source: Source
    prompts: Prompts
    mask: Mask | None
    options: PnPOptions
    batch_size: int

    def __len__(self) -> int:
        return len(self.latents)

    def frames(self, index: int) -> Iterator[Frames]:
        """Return the frames of one result, some at a time: uint8 (n, height, width, 3)."""
        return finish(
            self.model,
            self.latents[index],
            self.source,
            self.mask,
            self.options.blend_radius,
            self.batch_size,
        )

    def all_frames(self, index: int) -> Frames:
        """Return the frames of one result together."""
        return np.concatenate(list(self.frames(index)))


class OpenEdit:
    """A source with its prompts, of which any number of results can be sampled.

    The source is inverted once, and its mask and control pictures are found once. Use it as a
    context, at whose end source and trajectory are closed.
    """

    @torch.no_grad()
    def __init__(self, model: Model, request: Edit, callbacks: Callbacks | None = None) -> None:
        """Check, embed the prompts if there are any, and open the source.

        InputError for what cannot be used, before any prompt is embedded.
        """
        self.model, self.request = model, request
        self._callbacks = callbacks or Callbacks()
        check_source(model, request)
        self.prompts: Prompts | None = None
        if request.prompt is not None:
            self.prompts = embed_prompts(
                model,
                request.prompt,
                request.negative_prompt,
                picture=request.picture,
                options=request.options,
            )
        self.source = open_source(model, request, request.generators[0], self._callbacks)
        self._mask: Mask | None = None
        self._is_inverted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close_frames()
        if self.source.trajectory is not self.request.source:
            self.source.trajectory.close()

    def close_frames(self) -> None:
        """Close all but the trajectory, which may serve other edits."""
        if self._mask is not None:
            self._mask.frames.close()
        self.source.close()

    @property
    def control(self) -> Control | None:
        """Return the pictures that a ControlNet follows; None without one."""
        request = self.request
        return find_control(self.model, self.source, request.options, batch_size=request.batch_size)

    @torch.no_grad()
    def invert(self, span: range | None = None) -> None:
        """Complete the trajectory of the source, or of a span of its pieces."""
        request = self.request
        invert(
            self.model,
            self.source,
            request.options,
            batch_size=request.batch_size,
            control=self.control,
            span=span,
            callbacks=self._callbacks,
        )

    @torch.no_grad()
    def sample(
        self,
        options: PnPOptions | None = None,
        *,
        generators: Sequence[Generator] | None = None,
        span: range | None = None,
        after_step: GuidedStep | None = None,
    ) -> EditResult:
        """Sample every result, after inverting what is missing of the source.

        options: others of the same inversion. generators: by default those of the request, in the
        state that they are in. span: sample these pieces alone, one of `spans`. after_step: in
        place of that of the callbacks.
        """
        request, options = self.request, options or self.request.options
        if options.inverts and not self.source.trajectory.timesteps:
            raise InputError(
                f"method {options.method} needs an inverted source, and this one is not inverted"
            )
        if request.source is None:
            # What the model makes is sampled, not inverted, so no step of it missed anything.
            options = options.override({"exact_source": False})
        if self.prompts is None:
            raise InputError("give a prompt that says what the result is to show")
        generators = generators or request.generators
        callbacks = self._callbacks
        if after_step is not None:
            callbacks = replace(callbacks, after_step=after_step)
        prompts, each = self.prompts, request.results_per_prompt
        if len(generators) > 1:
            single = [prompts.one(i) for i in range(len(prompts)) for _ in range(each)]
            pairs = zip(single, generators, strict=True)
            rounds = [self._round(one, options, g, span, callbacks) for one, g in pairs]
            latents = torch.cat(rounds)
        else:
            (generator,) = generators
            rounds = [
                self._round(prompts, options, generator, span, callbacks) for _ in range(each)
            ]
            latents = rounds[0] if each == 1 else torch.stack(rounds, dim=1).flatten(0, 1)
        return EditResult(
            model=self.model,
            latents=latents,
            source=self.source,
            prompts=prompts,
            mask=self._mask,
            options=options,
            batch_size=request.batch_size,
        )

    def _round(
        self,
        prompts: Prompts,
        options: PnPOptions,
        generator: Generator,
        span: range | None,
        callbacks: Callbacks,
    ) -> Tensor:
        """Sample one result for each prompt."""
        model, request, source = self.model, self.request, self.source
        resume = None
        if request.job is not None:
            resume = find_resume(model, source, prompts, options, generator, request.job)
        self.invert(span)
        if span is None and not self._is_inverted:
            self._is_inverted = True
            callbacks.after_inversion(source)
        run = SampleRun(
            source=source,
            prompts=prompts,
            options=options,
            generator=generator,
            batch_size=request.batch_size,
            mask=self.find_mask(),
            control=self.control,
            span=span,
            job=request.job,
            resume=resume,
        )
        return sample(model, run, callbacks)

    @torch.no_grad()
    def find_mask(self) -> Mask | None:
        """Find the part of the inverted source that is edited, once; None: all."""
        if self._mask is None:
            self._mask = find_mask(
                self.model,
                self.source,
                self.request.options,
                batch_size=self.request.batch_size,
                control=self.control,
            )
        return self._mask

    def start(self, generator: Generator, options: PnPOptions | None = None) -> Start:
        """Return the start of sampling with this generator, after inverting the source.

        options: by default those of the request.
        """
        options = options or self.request.options
        size = self.request.batch_size
        return find_start(self.model, self.source, options, generator, size)

    def spans(self, count: int) -> tuple[range, ...]:
        """Return at most `count` spans of the pieces that can be sampled one by one."""
        return find_spans(self.source, self.request.options, count, self.request.batch_size)

    @torch.no_grad()
    def reconstruct(self) -> Tensor:
        """Sample the inverted source back to clean latents (pieces, c, h, w)."""
        return reconstruct(
            self.model,
            self.source,
            self.request.options,
            batch_size=self.request.batch_size,
            control=self.control,
            callbacks=self._callbacks,
        )


@contextmanager
def edit(model: Model, request: Edit, callbacks: Callbacks | None = None) -> Iterator[EditResult]:
    """Edit a source: the whole recipe. The frames are made when they are asked for, within.

    For several rounds of sampling from one source use `OpenEdit`.
    """
    with OpenEdit(model, request, callbacks) as opened:
        yield opened.sample()
