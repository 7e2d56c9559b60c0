"""The sampling loop: timestep by timestep, over all frames in chunks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from pnpvideo.models.batches import Batches
from pnpvideo.models.network import InjectionLayers, Network
from pnpvideo.options.method import PnPOptions
from pnpvideo.sampling.guidance import Guidance
from pnpvideo.sampling.inject import FeatureInjector, Predict
from pnpvideo.sampling.invert import Progress
from pnpvideo.sampling.match_tokens import matching_step
from pnpvideo.sampling.noise import step_noise
from pnpvideo.sampling.passes import InjectedBatch, Pass, plan_alone
from pnpvideo.sampling.schedule import NoiseSchedule, ddim_step, first_steps
from pnpvideo.sampling.share_keyframes import KeyframeSharing
from pnpvideo.sampling.skip_alike import skip_alike
from pnpvideo.sampling.skip_source import skip_source
from pnpvideo.storage.denoising_state import DenoisingState
from pnpvideo.storage.trajectory import Trajectory

AfterStep = Callable[[int, float, Tensor], Tensor]
"""Called with step, timestep and latents (prompts, frames, c, h, w); returns the latents."""


def source_steps(options: PnPOptions) -> int:
    """How many first steps read the source's latents."""
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
    stopped: Callable[[], bool] = lambda: False,
    progress: Progress = lambda count: None,
) -> Tensor:
    """Sample the target with injection from the source (Tumanyan et al. 2022, algorithm 1).

    start: x_T, (prompts, frames, c, h, w). The source branch reads the stored z_t, so its features
    do not drift (Ju et al. 2024), and serves all prompts. batch_size: frames in one pass of the
    network (keyframes that share attention: options.keyframe_window); the result does not depend on
    it. scenes: see `find_scenes`; None means one. origins: how shared noise moves, see
    `noise_origins`. span: sample these frames alone, as they come out among all; None: all.
    resume: a state to go on from in place of `start`. stopped: asked before each step whether it
    and all later ones are left out. Returns latents in the shape of `start`, clean in the span.
    """
    x, done, frame_count = start.clone(), 0, start.shape[1]
    span = range(frame_count) if span is None else span
    if resume is not None:
        x[:, resume.frames], done = resume.latents, resume.steps
        generator.set_state(resume.generator)
    keyframes = None
    if options.attention_sharing != "none" and frame_count > 1:
        # The seed, not the state: what is drawn at a step must be the same in a resumed run.
        seed = generator.initial_seed()
        scenes = scenes or (range(frame_count),)
        text = guidance.run_texts.source
        keyframes = KeyframeSharing(
            network, trajectory, text, options, scenes, seed=seed, span=span
        )
    batches = Batches(batch_size)
    with _injected(network, layers, sharing=keyframes is not None) as predict:
        stages = _Stages(
            predict=predict,
            device=network.device,
            schedule=schedule,
            trajectory=trajectory,
            guidance=guidance,
            options=options,
            keyframes=keyframes,
        )
        for i, timestep in list(enumerate(schedule.timesteps))[done:]:
            if stopped():
                break
            noise = step_noise(start[0], options, generator, origins) if options.eta > 0 else None
            if keyframes is None:
                passes: Iterator[Pass] = plan_alone(span, batches.size)
            else:
                passes = keyframes.plan(i, batches.size)
            for work in passes:
                advance = partial(stages.advance, x, i, noise, work)
                # Keyframes attend to one another, so they go together.
                whole = work.role == "keyframes"
                parts = [advance(slice(None))] if whole else batches.run(len(work.frames), advance)
                for count in parts:
                    progress(count)
            if after_step is not None:
                x = after_step(i, timestep, x)
    return x


@contextmanager
def _injected(network: Network, layers: InjectionLayers, *, sharing: bool) -> Iterator[Predict]:
    """The network with the source injected, and without the work that changes no result."""
    injector = FeatureInjector(network, layers)
    with injector.installed(sharing=sharing), skip_alike(network):
        yield skip_source(injector)


@dataclass(frozen=True, kw_only=True)
class _Stages:
    """What a step of one run is made of."""

    predict: Predict
    device: torch.device
    schedule: NoiseSchedule
    trajectory: Trajectory
    guidance: Guidance
    options: PnPOptions
    keyframes: KeyframeSharing | None

    def advance(self, x: Tensor, i: int, noise: Tensor | None, work: Pass, part: slice) -> int:
        """Take a part of the pass's frames of x through step i; returns how many they are."""
        work = work.part(part)
        frames = list(work.frames)
        target = x[:, frames].to(self.device)
        batch = self._batch(target, i, work)
        outputs = self.predict(batch)
        outputs = outputs.view(len(x), batch.alike, len(frames), *outputs.shape[1:])
        start, end = self.schedule.levels[i : i + 2]
        x[:, frames] = ddim_step(
            target,
            self.guidance.combine(i, outputs),
            start,
            end,
            self.schedule.prediction_type,
            eta=self.options.eta,
            noise=None if noise is None else noise[frames].to(self.device),
        ).to(x.device)
        return len(frames)

    def _batch(self, target: Tensor, i: int, work: Pass) -> InjectedBatch:
        """Step i's batch for the latents of a pass, (prompts, frames, c, h, w)."""
        options, texts, branches = self.options, self.guidance.texts(i), self.guidance.branches(i)
        features = i < first_steps(options.tau_f, options.steps)
        attention = i < first_steps(options.tau_a, options.steps)
        latents = target.repeat_interleave(branches, dim=0).flatten(0, 1)
        with_source = features or attention
        if with_source:
            source = self.trajectory.latents[i, list(work.frames)].to(latents)
            latents = torch.cat([source, latents])
        return InjectedBatch(
            latents=latents,
            timestep=self.schedule.timesteps[i],
            texts=texts if with_source else texts.rest,
            frames=work.frames,
            with_source=with_source,
            features=features,
            attention=attention,
            alike=branches,
            sharing=None if self.keyframes is None else self.keyframes.sharing(work),
        )
