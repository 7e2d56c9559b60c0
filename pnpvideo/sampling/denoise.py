"""The sampling loop: step by step, over all pieces in batches."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from pnpvideo.models.batches import Batches
from pnpvideo.models.network import InjectionLayers, Network
from pnpvideo.models.noise_schedule import NoiseSchedule
from pnpvideo.options.method import PnPOptions
from pnpvideo.sampling.guidance import Guidance
from pnpvideo.sampling.inject import FeatureInjector, Predict
from pnpvideo.sampling.invert import Progress
from pnpvideo.sampling.match_tokens import matching_step
from pnpvideo.sampling.noise import step_noise
from pnpvideo.sampling.passes import InjectedBatch, Pass, plan_alone
from pnpvideo.sampling.rows import by_prompt, rows_of
from pnpvideo.sampling.schedule import clean_and_noise, ddim_step, first_steps
from pnpvideo.sampling.share_keyframes import KeyframeSharing
from pnpvideo.sampling.skip_alike import skip_alike
from pnpvideo.sampling.skip_source import skip_source
from pnpvideo.storage.denoising_state import DenoisingState
from pnpvideo.storage.trajectory import Trajectory

AfterStep = Callable[[int, float, Tensor], Tensor]
"""Called with step, timestep and latents (prompts, pieces, c, h, w); returns the latents."""

OnPrediction = Callable[[int, Tensor], None]
"""Called with step and the clean latents (prompts, pieces, c, h, w) that it expects."""


def source_steps(options: PnPOptions) -> int:
    """Return how many steps, from the first, read the source's latents."""
    steps = first_steps(max(options.tau_f, options.tau_a), options.steps)
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
    resume: DenoisingState | None = None,
    after_step: AfterStep | None = None,
    on_prediction: OnPrediction | None = None,
    stopped: Callable[[], bool] = lambda: False,
    progress: Progress = lambda count: None,
) -> Tensor:
    """Sample the target with injection from the source (Tumanyan et al. 2022, algorithm 1).

    start: x_T, (prompts, pieces, c, h, w). The source branch reads the stored z_t, so its features
    do not drift (Ju et al. 2024), and serves all prompts. batch_size: pieces in one pass of the
    network (keyframes that share attention: options.keyframe_window); the result does not depend on
    it. scenes: see `find_scenes`; None means one. origins: how shared noise moves, see
    `noise_origins`. span: sample only these pieces, with the result that they have among all; None:
    all. resume: a state to continue from instead of `start`. stopped: called before each step; if
    it returns True, this step and all later ones are left out. on_prediction: called at each step
    before after_step. Returns latents in the shape of `start`, clean in the span.
    """
    x, done = start.clone(), 0
    span = range(trajectory.piece_count) if span is None else span
    if resume is not None:
        x[:, resume.pieces], done = resume.latents, resume.steps
        generator.set_state(resume.generator)
    seed = generator.initial_seed()
    keyframes = _share_keyframes(network, trajectory, guidance, options, scenes, seed, span)
    with _injected(network, layers, sharing=keyframes is not None) as predict:
        runner = _StepRunner(
            predict=predict,
            device=network.device,
            schedule=schedule,
            trajectory=trajectory,
            guidance=guidance,
            options=options,
            keyframes=keyframes,
            span=span,
            batches=Batches(batch_size),
            predicted=None if on_prediction is None else (start.clone(), on_prediction),
        )
        for i, timestep in list(enumerate(schedule.timesteps))[done:]:
            if stopped():
                break
            noise = step_noise(start[0], options, generator, origins) if options.eta > 0 else None
            for count in runner.run(x, i, noise):
                progress(count)
            if after_step is not None:
                x = after_step(i, timestep, x)
    return x


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
def _injected(network: Network, layers: InjectionLayers, *, sharing: bool) -> Iterator[Predict]:
    """Inject the source into a network, and skip the work that changes no result."""
    injector = FeatureInjector(network, layers)
    with injector.installed(sharing=sharing), skip_alike(network):
        yield skip_source(injector)


@dataclass(frozen=True, kw_only=True)
class _StepRunner:
    """The steps of one run, each taken for some of its pieces at a time.

    predicted: receives the clean latents that each step expects, (prompts, pieces, c, h, w), and is
    given to its function; outside the span it stays as it is.
    """

    predict: Predict
    device: torch.device
    schedule: NoiseSchedule
    trajectory: Trajectory
    guidance: Guidance
    options: PnPOptions
    keyframes: KeyframeSharing | None
    span: range
    batches: Batches
    predicted: tuple[Tensor, OnPrediction] | None

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
        pieces = list(frame_pass.frames)
        target = x[:, pieces].to(self.device)
        outputs = by_prompt(self.predict(self._batch(target, i, frame_pass)), len(x), len(pieces))
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
        return len(pieces)

    def _batch(self, target: Tensor, i: int, frame_pass: Pass) -> InjectedBatch:
        """Return step i's batch for the latents of a pass, (prompts, pieces, c, h, w)."""
        options, texts, branches = self.options, self.guidance.texts(i), self.guidance.branches(i)
        features = i < first_steps(options.tau_f, options.steps)
        attention = i < first_steps(options.tau_a, options.steps)
        latents = rows_of(target.repeat_interleave(branches, dim=0))
        with_source = features or attention
        if with_source:
            source = self.trajectory.latents[i, list(frame_pass.frames)].to(latents)
            latents = torch.cat([source, latents])
        return InjectedBatch(
            latents=latents,
            timestep=self.schedule.timesteps[i],
            texts=texts if with_source else texts.rest,
            pieces=frame_pass.frames,
            with_source=with_source,
            features=features,
            attention=attention,
            branches_with_equal_latents=branches,
            sharing=None if self.keyframes is None else self.keyframes.sharing(frame_pass),
        )
