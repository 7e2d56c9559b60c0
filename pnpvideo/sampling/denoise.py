"""The sampling loop: step by step, over all pieces in batches."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from pnpvideo.models.batches import Batches
from pnpvideo.models.network import Batch, InjectionLayers, Network
from pnpvideo.models.noise_schedule import NoiseSchedule
from pnpvideo.options.method import PnPOptions
from pnpvideo.sampling.guidance import Guidance
from pnpvideo.sampling.inject import FeatureInjector, Predict
from pnpvideo.sampling.invert import Progress
from pnpvideo.sampling.match_tokens import matching_step
from pnpvideo.sampling.noise import step_noise
from pnpvideo.sampling.passes import InjectedBatch, Pass, plan_alone
from pnpvideo.sampling.reading import Reading, Readings, room_on
from pnpvideo.sampling.rows import by_prompt, rows_of
from pnpvideo.sampling.schedule import clean_and_noise, ddim_step, first_steps, step_at
from pnpvideo.sampling.share_keyframes import KeyframeSharing
from pnpvideo.sampling.skip_alike import skip_alike
from pnpvideo.sampling.skip_source import skip_source
from pnpvideo.storage.denoising_state import DenoisingState
from pnpvideo.storage.trajectory import Trajectory

AfterStep = Callable[[int, float, Tensor, range], Tensor]
"""Called with step, timestep, latents (prompts, pieces, c, h, w) and the numbers of the pieces that
took the step; returns the latents."""

OnPrediction = Callable[[int, Tensor], None]
"""Called with step and the clean latents (prompts, pieces, c, h, w) that it expects."""

_SMALL = 0.1
"""The share of the room for readings that the latents of all pieces may take on the device."""


def source_steps(options: PnPOptions) -> int:
    """Return how many steps, from the first, read the source's latents."""
    steps = first_steps(max(options.tau_f, options.tau_a), options.steps)
    for level in (options.feature_level, options.start_level):
        if level < 1:
            steps = max(steps, step_at(level, options.steps) + 1)
    if options.attention_sharing == "propagate":
        steps = max(steps, matching_step(options.steps) + 1)
    return steps


@torch.no_grad()
def denoise_latents(
    network: Network,
    layers: InjectionLayers,
    schedule: NoiseSchedule,
    trajectory: Trajectory,
    start: Tensor,
    guidance: Guidance,
    options: PnPOptions,
    generator: torch.Generator,
    *,
    batch_size: int,
    scenes: Sequence[range] | None = None,
    origins: Tensor | None = None,
    span: range | None = None,
    pieces_at_once: int | None = None,
    resume: DenoisingState | None = None,
    after_step: AfterStep | None = None,
    on_prediction: OnPrediction | None = None,
    stopped: Callable[[], bool] = lambda: False,
    progress: Progress = lambda count: None,
) -> Tensor:
    """Sample the target with injection from the source (Tumanyan et al. 2022, algorithm 1).

    start: latents at the level that options.start_level says, (prompts, pieces, c, h, w). The
    source branch reads the stored z_t, so its features do not drift (Ju et al. 2024), and serves
    all prompts. With options.feature_level below 1 it is read at that level, once, until the target
    has passed it (Zhang et al. 2025, "RichControl", reads features at one level for all steps).
    batch_size: pieces in one pass of the network (keyframes that share attention:
    options.keyframe_window); the result does not depend on it. scenes: see `find_scenes`; None
    means one. origins: how shared noise moves, see `noise_origins`. span: sample only these pieces,
    with the result that they have among all; None: all. pieces_at_once: take so many pieces through
    all steps before the next ones, if they share nothing and eta is 0; None: all. resume: a state
    to continue from instead of `start`. stopped: called before each step; if it returns True, this
    step and all later ones are left out. on_prediction: called at each step before after_step.
    Returns latents in the shape of `start`, clean in the span.
    """
    x, first = _at_hand(start, network.device), step_at(options.start_level, options.steps)
    span = range(trajectory.piece_count) if span is None else span
    left = parts(span, pieces_at_once)
    done = first
    if resume is not None:
        x[:, resume.pieces], done = resume.latents, resume.steps
        generator.set_state(resume.generator)
        left = [resume.under_way, *parts(range(resume.under_way.stop, span.stop), pieces_at_once)]
    seed = generator.initial_seed()
    keyframes = _share_keyframes(network, trajectory, guidance, options, scenes, seed, span)
    with _injected(network, layers, sharing=keyframes is not None) as injector:
        whole = _StepRunner(
            injector=injector,
            predict=skip_source(injector),
            device=network.device,
            dtype=start.dtype,
            schedule=schedule,
            trajectory=trajectory,
            guidance=guidance,
            options=options,
            keyframes=keyframes,
            span=span,
            batches=Batches(batch_size),
            predicted=None if on_prediction is None else (start.clone(), on_prediction),
        )
        for part in left:
            runner = whole.of(part)
            for i, timestep in list(enumerate(schedule.timesteps))[done:]:
                if stopped():
                    return x.to(start.device)
                noise = (
                    step_noise(start[0], options, generator, origins) if options.eta > 0 else None
                )
                for count in runner.run(x, i, noise):
                    progress(count)
                if after_step is not None:
                    x = after_step(i, timestep, x, part)
            done = first
    return x.to(start.device)


def _at_hand(latents: Tensor, device: torch.device) -> Tensor:
    """Return a copy of latents on the network's device, or if they are large, where they are.

    A copy to the host at each step would make a GPU wait for it.
    """
    small = latents.nbytes <= _SMALL * room_on(device)
    return latents.to(device if small else latents.device, copy=True)


def parts(span: range, size: int | None) -> list[range]:
    """Cut pieces into parts of at most this many; None: do not cut them."""
    size = size or len(span)
    return [span[first : first + size] for first in range(0, len(span), max(size, 1))]


def _share_keyframes(
    network: Network,
    trajectory: Trajectory,
    guidance: Guidance,
    options: PnPOptions,
    scenes: Sequence[range] | None,
    seed: int,
    span: range,
) -> KeyframeSharing | None:
    """Return the keyframes of a run, or None if its frames share no attention.

    seed: not a generator's state, as a step's keyframes must be the same in a resumed run.
    """
    count = trajectory.piece_count
    if options.attention_sharing == "none" or count == 1:
        return None
    text, scenes = guidance.run_texts.source, scenes or (range(count),)
    return KeyframeSharing(network, trajectory, text, options, scenes, seed=seed, span=span)


@contextmanager
def _injected(
    network: Network, layers: InjectionLayers, *, sharing: bool
) -> Iterator[FeatureInjector]:
    """Inject the source into a network, and skip the work on branches that are alike."""
    injector = FeatureInjector(network, layers)
    with injector.installed(sharing=sharing), skip_alike(network):
        yield injector


@dataclass(frozen=True, kw_only=True)
class _StepRunner:
    """The steps of one run, each taken for some of its pieces at a time.

    predicted: receives the clean latents that each step expects, (prompts, pieces, c, h, w), and is
    given to its function; outside the span it stays as it is. readings: of the source at a fixed
    level; None: it is read at each step's own.
    """

    injector: FeatureInjector
    predict: Predict
    device: torch.device
    dtype: torch.dtype
    schedule: NoiseSchedule
    trajectory: Trajectory
    guidance: Guidance
    options: PnPOptions
    keyframes: KeyframeSharing | None
    span: range
    batches: Batches
    predicted: tuple[Tensor, OnPrediction] | None
    readings: Readings | None = None

    def of(self, span: range) -> "_StepRunner":
        """Return the runner of these pieces alone, which keeps what it reads of their source."""
        readings = None
        if self.options.feature_level < 1:
            readings = Readings(self._read, room_on(self.device))
        return replace(self, span=span, readings=readings)

    def run(self, x: Tensor, i: int, noise: Tensor | None) -> Iterator[int]:
        """Take x through step i, in place; yields how many pieces are done, some at a time.

        x: (prompts, pieces, c, h, w). noise: the step's, (pieces, c, h, w), for eta above 0.
        """
        if self.keyframes is None:
            passes: Iterator[Pass] = plan_alone(self.span, self.batches.size)
        else:
            passes = self.keyframes.plan(i, self.batches.size)
        for frame_pass in passes:
            advance = partial(self._advance, x, i, noise, frame_pass)
            if frame_pass.role == "keyframes":
                # They attend to one another, so they go together.
                yield advance(slice(None))
            else:
                yield from self.batches.run(len(frame_pass.frames), advance)
        if self.predicted is not None:
            clean, show = self.predicted
            show(i, clean)

    def _advance(
        self, x: Tensor, i: int, noise: Tensor | None, frame_pass: Pass, part: slice
    ) -> int:
        """Take part of a pass's pieces through the step; returns how many they are."""
        frame_pass = frame_pass.part(part)
        pieces = frame_pass.places
        target = x[:, pieces].to(self.device)
        outputs = by_prompt(
            self.predict(self._batch(target, i, frame_pass)), len(x), frame_pass.count
        )
        output, kind = self.guidance.combine(i, outputs), self.schedule.prediction_type
        start, end = self.schedule.levels[i : i + 2]
        if self.predicted is not None:
            all_clean, _ = self.predicted
            clean, _ = clean_and_noise(target, output, start, kind)
            all_clean[:, pieces] = clean.to(all_clean)
        x[:, pieces] = ddim_step(
            target,
            output,
            start,
            end,
            kind,
            eta=self.options.eta,
            noise=None if noise is None else noise[pieces].to(self.device),
        ).to(x.device)
        return frame_pass.count

    def _batch(self, target: Tensor, i: int, frame_pass: Pass) -> InjectedBatch:
        """Return step i's batch for the latents of a pass, (prompts, pieces, c, h, w)."""
        options, texts, branches = self.options, self.guidance.texts(i), self.guidance.branches(i)
        features = i < first_steps(options.tau_f, options.steps)
        attention = i < first_steps(options.tau_a, options.steps)
        latents = rows_of(target.repeat_interleave(branches, dim=0))
        reading = Reading()
        with_source = features or attention
        if with_source and self.readings is not None and i <= self._level:
            reading, with_source = self.readings.of(frame_pass.frames), False
        if with_source:
            source = self.trajectory.latents[i, frame_pass.places].to(latents)
            latents = torch.cat([source, latents])
        return InjectedBatch(
            latents=latents,
            timestep=self.schedule.timesteps[i],
            texts=texts if with_source else texts.rest,
            pieces=frame_pass.frames,
            with_source=with_source,
            features=features,
            attention=attention,
            reading=reading,
            branches_with_equal_latents=branches,
            sharing=None if self.keyframes is None else self.keyframes.sharing(frame_pass),
        )

    @property
    def _level(self) -> int:
        """The step at whose level the source is read, if that is fixed."""
        return step_at(self.options.feature_level, self.options.steps)

    def _read(self, frames: Sequence[int]) -> Reading:
        """Read the source's frames at the fixed level."""
        options, texts = self.options, self.guidance.run_texts
        latents = self.trajectory.latents[self._level, list(frames)]
        batch = Batch(
            latents=latents.to(self.device, self.dtype),
            timestep=self.schedule.timesteps[self._level],
            texts=texts.source,
            pieces=tuple(frames),
        )
        return self.injector.read(
            batch,
            features=first_steps(options.tau_f, options.steps) > 0,
            attention=first_steps(options.tau_a, options.steps) > 0,
        )
