"""The sampling loop: step by step, over all pieces in batches."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from pnpvideo.models.batches import Batches
from pnpvideo.models.model import Window
from pnpvideo.models.network import InjectionLayers, Network
from pnpvideo.models.noise_schedule import NoiseSchedule
from pnpvideo.options.method import PnPOptions
from pnpvideo.sampling.guidance import Guidance
from pnpvideo.sampling.inject import FeatureInjector
from pnpvideo.sampling.inject_steps import InjectSteps
from pnpvideo.sampling.invert import Progress
from pnpvideo.sampling.match_tokens import matching_step
from pnpvideo.sampling.noise import step_noise
from pnpvideo.sampling.reading import room_on
from pnpvideo.sampling.schedule import first_step, first_steps, step_at
from pnpvideo.sampling.share_keyframes import KeyframeSharing
from pnpvideo.sampling.skip_alike import skip_alike
from pnpvideo.sampling.skip_source import skip_source
from pnpvideo.sampling.spans import parts
from pnpvideo.sampling.steps import Common, OnPrediction, Steps
from pnpvideo.sampling.velocity_steps import VelocitySteps
from pnpvideo.sampling.windows import Scenes, in_windows
from pnpvideo.storage.denoising_state import DenoisingState
from pnpvideo.storage.trajectory import Trajectory

AfterStep = Callable[[int, float, Tensor, range], Tensor]
"""Called with step, timestep, latents (prompts, pieces, c, h, w) and the numbers of the pieces that
took the step; returns the latents."""

_SMALL = 0.1
"""The share of the room for readings that the latents of all pieces may take on the device."""


def source_steps(options: PnPOptions) -> int:
    """Return how many steps, from the first, read the source's latents."""
    if options.reads_differences or options.solver in ("midpoint", "fireflow"):
        return options.steps
    if not options.injects:
        return first_step(options) + 1
    steps = first_steps(max(options.thresholds), options.steps)
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
    window: Window | None = None,
    packing: int = 1,
    origins: Tensor | None = None,
    span: range | None = None,
    pieces_at_once: int | None = None,
    resume: DenoisingState | None = None,
    velocities: Tensor | None = None,
    after_step: AfterStep | None = None,
    on_prediction: OnPrediction | None = None,
    stopped: Callable[[], bool] = lambda: False,
    progress: Progress = lambda count: None,
) -> Tensor:
    """Sample the target from the source by a method (see `InjectSteps` and `VelocitySteps`).

    start: latents at the level of `first_step`, or clean ones for methods that edit these,
    (prompts, pieces, c, h, w). With method inject, the source branch reads the stored z_t, so its
    features do not drift (Ju et al. 2024), and serves all prompts. With options.feature_level below
    1 it is read at that level, once, until the target has passed it (Zhang et al. 2025,
    "RichControl", reads features at one level for all steps).
    batch_size: pieces in one pass of the network (keyframes that share attention:
    options.keyframe_window); the result does not depend on it. scenes: the piece numbers of each
    scene; None means one. window: for a video model, how the pieces of a scene go together.
    packing: see `Model.packing`. origins: how shared noise moves, see `noise_origins`. span:
    sample only these pieces, with the result that they have among all; None: all. pieces_at_once:
    take so many pieces through all steps before the next ones, if they share nothing and eta is 0;
    None: all. resume: a state to continue from instead of `start`. velocities: room for solver
    fireflow, in the shape of `start`, for what one step leaves to the next. stopped: called before
    each step; if it returns True, this step and all later ones are left out. on_prediction: called
    at each step before after_step.
    Returns latents in the shape of `start`, clean in the span.
    """
    x, first = _at_hand(start, network.device), first_step(options)
    span = range(trajectory.piece_count) if span is None else span
    left = parts(span, pieces_at_once)
    done = first
    if resume is not None:
        x[:, resume.pieces], done = resume.latents, resume.steps
        if velocities is not None and resume.velocities is not None:
            velocities[:, resume.pieces] = resume.velocities
        generator.set_state(resume.generator)
        left = [resume.under_way, *parts(range(resume.under_way.stop, span.stop), pieces_at_once)]
    seed = generator.initial_seed()
    common = Common(
        device=network.device,
        dtype=start.dtype,
        schedule=schedule,
        trajectory=trajectory,
        guidance=guidance,
        options=options,
        span=span,
        batches=Batches(batch_size),
        scenes=None if window is None else Scenes(scenes=scenes or (span,), window=window),
        predicted=None if on_prediction is None else (start.clone(), on_prediction),
    )
    with _steps_of(common, network, layers, scenes, seed, velocities, packing) as whole:
        for part in left:
            steps = whole.of(part)
            for i, timestep in list(enumerate(schedule.timesteps))[done:]:
                if stopped():
                    return x.to(start.device)
                noise = step_noise(start[0], options, generator, origins, each=window is not None)
                for count in steps.run(x, i, noise):
                    progress(count)
                if after_step is not None:
                    x = after_step(i, timestep, x, part)
            done = first
    return x.to(start.device)


def _at_hand(latents: Tensor, device: torch.device) -> Tensor:
    """Return a copy of latents on the network's device; large latents stay on their own device.

    A copy to the host at each step would make a GPU wait for it.
    """
    small = latents.nbytes <= _SMALL * room_on(device)
    return latents.to(device if small else latents.device, copy=True)


def _share_keyframes(
    common: Common, network: Network, scenes: Sequence[range] | None, seed: int
) -> KeyframeSharing | None:
    """Return the keyframes of a run, or None if its frames share no attention.

    seed: not a generator's state, as a step's keyframes must be the same in a resumed run.
    """
    trajectory, options = common.trajectory, common.options
    count = trajectory.piece_count
    if options.attention_sharing == "none" or count == 1:
        return None
    text, scenes = common.guidance.run_texts.source, scenes or (range(count),)
    return KeyframeSharing(network, trajectory, text, options, scenes, seed=seed, span=common.span)


@contextmanager
def _steps_of(
    common: Common,
    network: Network,
    layers: InjectionLayers,
    scenes: Sequence[range] | None,
    seed: int,
    velocities: Tensor | None,
    packing: int,
) -> Iterator[Steps]:
    """Prepare a network for the steps of a run's method, and leave it as it was."""
    window = None if common.scenes is None else common.scenes.window
    if not common.options.injects:
        with skip_alike(network):
            predict = in_windows(network.predict, window)
            yield VelocitySteps(**vars(common), predict=predict, packing=packing)
        return
    keyframes = _share_keyframes(common, network, scenes, seed)
    injector = FeatureInjector(network, layers)
    with injector.installed(sharing=keyframes is not None), skip_alike(network):
        yield InjectSteps(
            **vars(common),
            injector=injector,
            predict=in_windows(skip_source(injector), window, injector.read),
            keyframes=keyframes,
            velocities=velocities,
        )
