"""The sampling loop: timestep by timestep, over all frames in chunks."""

import math
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from pnpvideo.models.batches import Batches
from pnpvideo.models.network import Network
from pnpvideo.models.prompt import PromptEmbeddings, concatenate
from pnpvideo.options.method import NegativeSchedule, PnPOptions
from pnpvideo.sampling.inject import FeatureInjector
from pnpvideo.sampling.invert import Progress
from pnpvideo.sampling.match_tokens import matching_step
from pnpvideo.sampling.noise import common_noise, gaussian_noise, share_noise
from pnpvideo.sampling.passes import Pass, plan_alone
from pnpvideo.sampling.schedule import NoiseSchedule, ddim_step
from pnpvideo.sampling.share_keyframes import KeyframeSharing
from pnpvideo.storage.denoising_state import DenoisingState
from pnpvideo.storage.trajectory import Trajectory

AfterStep = Callable[[int, int, Tensor], Tensor]
"""Called with step, timestep and latents (prompts, frames, c, h, w); returns the latents."""


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The embeddings of one run.

    source: one, of the inversion prompt; targets, negatives: one for each prompt;
    unconditional: one, of the empty text, for a negative-prompt schedule.
    """

    source: PromptEmbeddings
    targets: PromptEmbeddings
    negatives: PromptEmbeddings
    unconditional: PromptEmbeddings

    def branches(self, *, guided: bool, scheduled: bool) -> PromptEmbeddings:
        """Texts of the branches of a pass, source first, then those of each prompt."""
        parts = [self.source]
        for i in range(len(self.targets)):
            one = slice(i, i + 1)
            if guided and scheduled:
                parts.append(self.unconditional)
            if guided:
                parts.append(self.negatives[one])
            parts.append(self.targets[one])
        return concatenate(parts)


def first_steps(share: float, steps: int) -> int:
    """How many steps a first share of T is, rounded down but for the rounding of floats."""
    return math.floor(round(share * steps, 9))


def source_steps(options: PnPOptions) -> int:
    """How many first steps read the source's latents."""
    steps = first_steps(max(options.tau_f, options.tau_a), options.steps)
    if options.attention_sharing == "propagate":
        steps = max(steps, matching_step(options.steps) + 1)
    return steps


def negative_weight(step: int, steps: int, alpha: float, schedule: NegativeSchedule) -> float:
    """a_i, the share of the empty prompt (Tumanyan et al. 2022, section 4.3 and its code)."""
    progress = step / (steps - 1) if steps > 1 else 0.0
    factors = {"constant": 1.0, "linear": 1 - progress, "exp": math.exp(-6 * progress)}
    return alpha * factors[schedule]


@torch.no_grad()
def denoise_latents(
    network: Network,
    schedule: NoiseSchedule,
    trajectory: Trajectory,
    start: Tensor,
    texts: Texts,
    options: PnPOptions,
    injector: FeatureInjector,
    generator: torch.Generator,
    *,
    batch_size: int,
    scenes: Sequence[range] | None = None,
    origins: Tensor | None = None,
    resume: DenoisingState | None = None,
    after_step: AfterStep | None = None,
    progress: Progress = lambda count: None,
) -> Tensor:
    """Sample the target with injection from the source (Tumanyan et al. 2022, algorithm 1).

    start: x_T, (prompts, frames, c, h, w). The source branch reads the stored z_t, so its features
    do not drift (Ju et al. 2024), and serves all prompts. batch_size: frames in one pass of the
    network (keyframes that share attention: options.keyframe_window); the result does not depend on
    it. scenes: see `find_scenes`; None means one. origins: how shared noise moves, see
    `noise_origins`. resume: a state to go on from in place of `start`. Returns the clean latents in
    the shape of `start`.
    """
    steps, device = len(schedule.timesteps), network.device
    feature_steps = first_steps(options.tau_f, steps)
    attention_steps = first_steps(options.tau_a, steps)
    guidance_steps: Container[int] = ()
    if options.guidance_scale != 1:
        ends = (options.guidance_start, options.guidance_end)
        guidance_steps = range(*(first_steps(share, steps) for share in ends))
    scheduled = options.negative_schedule is not None
    guided_text, unguided_text = (
        texts.branches(guided=guided, scheduled=scheduled) for guided in (True, False)
    )
    prompts, count = start.shape[:2]
    x, done = start.clone(), 0
    if resume is not None:
        x, done = resume.latents, resume.steps
        generator.set_state(resume.generator)
    keyframes = None
    if options.attention_sharing != "none" and count > 1:
        keyframes = KeyframeSharing(
            network,
            trajectory,
            texts.source,
            options,
            injector,
            scenes or (range(count),),
            # Not its state: what is drawn at a step must be the same in a resumed run.
            seed=generator.initial_seed(),
        )

    def advance(work: Pass, i: int, noise: Tensor | None, part: slice) -> None:
        """Take a part of the pass's frames through step i."""
        work = work.part(part)
        frames, count = list(work.frames), len(work.frames)
        sharing = None if keyframes is None else keyframes.sharing(work)
        features = i < feature_steps
        attention = i < attention_steps and injector.takes_attention(sharing)
        guided = i in guidance_steps
        text = guided_text if guided else unguided_text
        per_prompt = (len(text) - 1) // prompts
        target, timestep = x[:, frames].to(device), schedule.timesteps[i]
        batch = target.repeat_interleave(per_prompt, dim=0).flatten(0, 1)
        # For its features alone, the source goes first and only as far as they are made. Without
        # injection nothing reads it: its branch would change no result.
        with_source = attention
        if features or attention:
            source = trajectory.latents[i, frames].to(batch)
            if with_source:
                batch = torch.cat([source, batch])
            else:
                with injector.keeping(count):
                    network.predict(source, timestep, text[:1], count)
        with injector.injecting(
            count,
            features=features,
            attention=attention,
            source=with_source,
            alike=per_prompt,
            sharing=sharing,
        ):
            branches = text if with_source else text[1:]
            output = network.predict(batch, timestep, branches, count)
        output = output[count:] if with_source else output
        output = output.view(prompts, per_prompt, count, *output.shape[1:])
        prediction = output[:, -1]
        if guided:
            base = output[:, -2]
            if options.negative_schedule is not None:
                weight = negative_weight(
                    i, steps, options.negative_alpha, options.negative_schedule
                )
                base = weight * output[:, 0] + (1 - weight) * base
            prediction = base + options.guidance_scale * (prediction - base)
        x[:, frames] = ddim_step(
            target,
            prediction,
            schedule.alphas[i],
            schedule.alphas[i + 1],
            schedule.prediction_type,
            eta=options.eta,
            noise=None if noise is None else noise[frames].to(device),
        ).to(x.device)
        progress(count)

    batches = Batches(batch_size)
    for i, timestep in list(enumerate(schedule.timesteps))[done:]:
        noise = _step_noise(start[0], options, generator, origins) if options.eta > 0 else None
        if keyframes is None:
            passes: Iterable[Pass] = plan_alone(count, batches.size)
        else:
            passes = keyframes.plan(i, batches.size)
        for work in passes:
            if work.role == "keyframes":  # they attend to one another
                advance(work, i, noise, slice(None))
                continue
            for _ in batches.run(len(work.frames), partial(advance, work, i, noise)):
                pass
        if after_step is not None:
            x = after_step(i, timestep, x)
    return x


def _step_noise(
    like: Tensor, options: PnPOptions, generator: torch.Generator, origins: Tensor | None
) -> Tensor:
    """The noise of one step for all frames and prompts: (frames, c, h, w)."""
    own = gaussian_noise(tuple(like.shape), generator, like)
    shared = common_noise(like, generator, origins)
    return share_noise(own, shared, options.noise_share)
