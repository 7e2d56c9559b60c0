"""Latents to their trajectory: DDIM inversion, or sampling where the model makes the source."""

from collections.abc import Callable

import torch
from torch import Tensor, linalg

from pnpvideo.models.batches import Batches
from pnpvideo.models.network import Batch, Network
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.sampling.schedule import NoiseSchedule, ddim_step, undo_ddim_step
from pnpvideo.storage.trajectory import empty_latents

Progress = Callable[[int], object]
"""Told how many network passes of one frame are done since the last call."""


@torch.no_grad()
def invert_latents(
    network: Network,
    schedule: NoiseSchedule,
    latents: Tensor,
    text: PromptEmbeddings,
    *,
    iterations: int = 1,
    batches: Batches,
    first: int = 0,
    progress: Progress = lambda count: None,
) -> Tensor:
    """DDIM inversion (Song et al. 2021, section 4.3; Tumanyan et al. 2022, section 3).

    latents: (frames, c, h, w), clean; text: one embedding; first: the number of the first frame in
    the source. No guidance.
    Going from the level of z_{t-1} to t the network is evaluated at (z_{t-1}, t). With more
    iterations it is evaluated at the z_t found so far, again and again, which nears the exact
    inverse of a sampling step: a fixed-point iteration with Anderson acceleration (Pan et al. 2023,
    "Effective real image editing with accelerated iterative diffusion inversion", section 3). It
    starts from the last step's output, so that only the first step needs a pass at z_{t-1}.
    Frames are independent, so each batch runs through all timesteps before the next begins.
    Returns (T + 1, frames, c, h, w) where the latents lie, noisiest first.
    """
    levels, kind = schedule.inversion_levels, schedule.prediction_type
    kept = {timestep: place for place, timestep in enumerate(schedule.timesteps)}

    def invert(part: slice) -> Tensor:
        z = latents[part].to(network.device)
        frames = _numbers(first, part)

        def predict(z: Tensor, timestep: float) -> Tensor:
            batch = Batch(latents=z, timestep=timestep, texts=text, frames=frames)
            return network.predict(batch)

        trajectory = empty_latents(len(schedule.timesteps), latents[part])
        output: Tensor | None = None
        for i, timestep in reversed(list(enumerate(schedule.inversion_timesteps))):
            before, passes = z, iterations
            if output is None or iterations == 1:
                output = predict(before, timestep)
                passes -= 1
            z = ddim_step(before, output, levels[i + 1], levels[i], kind)
            iteration = _Anderson()
            for _ in range(passes):
                output = predict(z, timestep)
                found = undo_ddim_step(before, output, levels[i], levels[i + 1], kind)
                z = iteration.next(z, found)
            progress(len(z) * iterations)
            if timestep in kept:
                trajectory[kept[timestep]] = z.to(trajectory.device)
        return trajectory

    return torch.cat(list(batches.run(len(latents), invert)), dim=1)


def _numbers(first: int, part: slice) -> tuple[int, ...]:
    """Of the frames of a part, where the first of the whole has the number `first`."""
    return tuple(range(first + part.start, first + part.stop))


class _Anderson:
    """Fixed-point iteration with Anderson acceleration of depth 1 (Walker and Ni 2011, section 1).

    Each frame has its own weight, so that it does not depend on the frames beside it.
    """

    def __init__(self) -> None:
        self.last: tuple[Tensor, Tensor] | None = None

    def next(self, latents: Tensor, found: Tensor) -> Tensor:
        """Where to evaluate next, after `found` came out at `latents`: (frames, c, h, w)."""
        change, result = found - latents, found
        if self.last is not None:
            last_found, last_change = self.last
            turn = change - last_change
            size = linalg.vecdot(turn.flatten(1), turn.flatten(1)).clamp_min(1e-30)
            weight = linalg.vecdot(change.flatten(1), turn.flatten(1)) / size
            result = found - weight[:, None, None, None] * (found - last_found)
        self.last = found, change
        return result


@torch.no_grad()
def reconstruct_latents(
    network: Network,
    schedule: NoiseSchedule,
    noise: Tensor,
    texts: PromptEmbeddings,
    *,
    guidance_scale: float = 1.0,
    batches: Batches,
    first: int = 0,
    progress: Progress = lambda count: None,
) -> Tensor:
    """DDIM sampling from z_T without injection: the way back of `invert_latents`.

    noise: (frames, c, h, w); texts: the prompt, or (negative prompt, prompt) with guidance; first:
    the number of the first frame. Also makes the source of generated guidance (Tumanyan et al.
    2022, section 4).
    Returns (T + 1, frames, c, h, w) where the noise lies, noisiest first.
    """
    steps = len(schedule.timesteps)
    device = network.device

    def sample(part: slice) -> Tensor:
        x, frames = noise[part].to(device), _numbers(first, part)
        trajectory = empty_latents(steps, noise[part])
        trajectory[0] = noise[part]
        for i, timestep in enumerate(schedule.timesteps):
            branches = x.repeat(len(texts), 1, 1, 1)
            batch = Batch(latents=branches, timestep=timestep, texts=texts, frames=frames)
            output = network.predict(batch)
            if len(texts) == 2:
                negative, positive = output.chunk(2)
                output = negative + guidance_scale * (positive - negative)
            start, end = schedule.levels[i : i + 2]
            x = ddim_step(x, output, start, end, schedule.prediction_type)
            trajectory[i + 1] = x.to(trajectory.device)
            progress(len(x))
        return trajectory

    return torch.cat(list(batches.run(len(noise), sample)), dim=1)
