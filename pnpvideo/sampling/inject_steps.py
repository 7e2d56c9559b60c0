"""The steps of method inject: the source's features and attention in the target's passes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pnpvideo.models.network import Batch
from pnpvideo.models.noise_schedule import Level, Middle
from pnpvideo.sampling.exact_source import missed
from pnpvideo.sampling.inject import FeatureInjector, Predict
from pnpvideo.sampling.passes import InjectedBatch, Pass
from pnpvideo.sampling.reading import Reading, Readings, room_on
from pnpvideo.sampling.rows import by_prompt, rows_of
from pnpvideo.sampling.schedule import clean_and_noise, ddim_step, first_steps, step_at
from pnpvideo.sampling.share_keyframes import KeyframeSharing
from pnpvideo.sampling.steps import Steps
from pnpvideo.sampling.velocity import move, straight, velocity


@dataclass(frozen=True, kw_only=True)
class InjectSteps(Steps):
    """The steps of algorithm 1 of Tumanyan et al. 2022.

    readings: of the source at a fixed level; None: it is read at each step's own. velocities: for
    solver fireflow, those at the middle of each piece's last step, kept from step to step.
    """

    injector: FeatureInjector
    predict: Predict
    keyframes: KeyframeSharing | None
    readings: Readings | None = None
    velocities: Tensor | None = None

    def of(self, span: range) -> "InjectSteps":
        """Return the steps of these pieces alone, which keep what they read of their source."""
        readings = None
        if self.options.feature_level < 1:
            readings = Readings(self._read, room_on(self.device))
        return replace(self, span=span, readings=readings)

    def passes(self, i: int) -> Iterator[Pass]:
        if self.keyframes is None:
            return super().passes(i)
        return self.keyframes.plan(i, self.batches.size)

    def step(self, target: Tensor, i: int, noise: Tensor | None, frame_pass: Pass) -> Tensor:
        if self.options.solver in ("midpoint", "fireflow"):
            return self._step_by_middle(target, i, frame_pass)
        output = self._output(target, i, frame_pass)
        start, end = self.schedule.levels[i : i + 2]
        self._expect(target, output, start, frame_pass)
        kind, eta = self.schedule.prediction_type, self.options.eta
        return ddim_step(target, output, start, end, kind, eta=eta, noise=noise)

    def _step_by_middle(self, target: Tensor, i: int, frame_pass: Pass) -> Tensor:
        """Take a step of solver midpoint or fireflow (see `Midpoint`).

        The source's latents at the middle are those halfway along the straight line of its step.
        """
        kind, middle = self.schedule.prediction_type, self.schedule.middles[i]
        start, end = self.schedule.levels[i : i + 2]
        kept, places = self.velocities, frame_pass.places
        if kept is None or i == step_at(self.options.start_level, self.options.steps):
            along = velocity(target, self._output(target, i, frame_pass), start, kind)
        else:
            along = kept[:, places].to(target)
        half = move(target, along, start, middle.level)
        output = self._output(half, i, frame_pass, middle)
        self._expect(half, output, middle.level, frame_pass)
        along = velocity(half, output, middle.level, kind)
        if kept is not None:
            kept[:, places] = along.to(kept)
        return move(target, along, start, end)

    def _expect(self, latents: Tensor, output: Tensor, level: Level, frame_pass: Pass) -> None:
        if self.predicted is not None:
            clean, _ = clean_and_noise(latents, output, level, self.schedule.prediction_type)
            self.expect(clean, frame_pass.places)

    def _output(
        self, target: Tensor, i: int, frame_pass: Pass, middle: Middle | None = None
    ) -> Tensor:
        """Return one prediction (prompts, pieces, c, h, w) at step i, or at its middle."""
        batch = self._batch(target, i, frame_pass, middle)
        outputs = by_prompt(self.predict(batch), len(target), frame_pass.count)
        return self.guidance.combine(i, batch.timestep, outputs)

    def _batch(
        self, target: Tensor, i: int, frame_pass: Pass, middle: Middle | None
    ) -> InjectedBatch:
        """Return the batch for the latents of a pass, (prompts, pieces, c, h, w)."""
        options, texts, branches = self.options, self.guidance.texts(i), self.guidance.branches(i)
        features, attention = (i < first_steps(tau, options.steps) for tau in options.thresholds)
        off: Tensor | None = None
        if options.exact_source:
            off = missed(self.trajectory, self.schedule, options.solver, i, frame_pass.places)
            off = off.to(target)
            target = target + off
        latents = rows_of(target.repeat_interleave(branches, dim=0))
        reading = Reading()
        with_source = features or attention
        if with_source and self.readings is not None and i <= self._level:
            reading, with_source = self.readings.of(frame_pass.frames), False
        if with_source:
            source = self._source(i, frame_pass.places, middle).to(latents)
            source = source if off is None else source + off
            latents = torch.cat([source, latents])
        return InjectedBatch(
            latents=latents,
            timestep=self.schedule.timesteps[i] if middle is None else middle.timestep,
            texts=texts if with_source else texts.rest,
            pieces=frame_pass.frames,
            with_source=with_source,
            features=features,
            attention=attention,
            reading=reading,
            branches_with_equal_latents=branches,
            sharing=None if self.keyframes is None else self.keyframes.sharing(frame_pass),
        )

    def _source(self, i: int, places: slice | Sequence[int], middle: Middle | None) -> Tensor:
        """Return the source's latents at the level of step i, or at its middle."""
        latents = self.trajectory.latents[i, places]
        if middle is None:
            return latents
        start, end = self.schedule.levels[i : i + 2]
        ends = latents.to(self.dtype), self.trajectory.latents[i + 1, places].to(self.dtype)
        return middle.level.sum * (straight(ends[0], start) + straight(ends[1], end)) / 2

    @property
    def _level(self) -> int:
        """The step at whose level the source is read, if that is fixed."""
        return step_at(self.options.feature_level, self.options.steps)

    def _read(self, frames: Sequence[int]) -> Reading:
        """Read the source's frames at the fixed level."""
        texts, (tau_f, tau_a) = self.guidance.run_texts, self.options.thresholds
        latents = self.trajectory.latents[self._level, list(frames)]
        batch = Batch(
            latents=latents.to(self.device, self.dtype),
            timestep=self.schedule.timesteps[self._level],
            texts=texts.source,
            pieces=tuple(frames),
        )
        return self.injector.read(
            batch,
            features=first_steps(tau_f, self.options.steps) > 0,
            attention=first_steps(tau_a, self.options.steps) > 0,
        )
