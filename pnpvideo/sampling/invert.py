"""Latents to their trajectory: by inversion, or by sampling if the model makes the source."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from pnpvideo.models.batches import Batches
from pnpvideo.models.model import Window
from pnpvideo.models.network import Batch, Network
from pnpvideo.models.noise_schedule import NoiseSchedule
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.sampling.guidance import Rescaled
from pnpvideo.sampling.rows import repeat_rows
from pnpvideo.sampling.solvers import DDIM, Solver
from pnpvideo.sampling.windows import Predict, in_windows
from pnpvideo.storage.trajectory import empty_latents

Progress = Callable[[int], object]
"""Called with the number of network passes of one piece since the last call."""

_DDIM = DDIM()


@torch.no_grad()
def invert_latents(
    network: Network,
    schedule: NoiseSchedule,
    latents: Tensor,
    text: PromptEmbeddings,
    *,
    solver: Solver = _DDIM,
    batches: Batches,
    first: int = 0,
    progress: Progress = lambda count: None,
) -> Tensor:
    """Invert a source without guidance, from the clean end to the noisiest level.

    latents: (pieces, c, h, w), clean; text: one embedding; first: the number of the first piece in
    the source. Pieces are independent of each other, so each batch runs through all levels before
    the next begins.
    Returns the latents at the sampling levels, (T + 1, pieces, c, h, w), noisiest first, on the
    device of `latents`.
    """

    def invert(part: slice) -> Tensor:
        z, numbers = latents[part].to(network.device), _numbers(first, part)
        # Copied to the host once, at the end: a GPU waits for each copy.
        trajectory = empty_latents(len(schedule.timesteps), z)
        levels = _levels(network.predict, schedule, z, text, solver, numbers, progress)
        for level, inverted in levels:
            trajectory[level] = inverted
        return trajectory.to(latents.device)

    return torch.cat(list(batches.run(len(latents), invert)), dim=1)


@torch.no_grad()
def invert_scene(
    network: Network,
    schedule: NoiseSchedule,
    latents: Tensor,
    text: PromptEmbeddings,
    *,
    solver: Solver = _DDIM,
    window: Window,
    first: int = 0,
    progress: Progress = lambda count: None,
) -> Iterator[tuple[int, Tensor]]:
    """Invert a scene for a video model, all pieces of which go together.

    The arguments are those of `invert_latents`. Yields the number of each sampling level and the
    latents there, (pieces, c, h, w), from the clean end to the noisiest, on the device of
    `latents`: all levels of a long scene at once may be too large for the memory.
    """
    predict, numbers = in_windows(network.predict, window), _numbers(first, slice(0, len(latents)))
    z = latents.to(network.device)
    yield len(schedule.timesteps), latents
    for level, inverted in _levels(predict, schedule, z, text, solver, numbers, progress):
        yield level, inverted.to(latents.device)


def _levels(
    whole: Predict,
    schedule: NoiseSchedule,
    z: Tensor,
    text: PromptEmbeddings,
    solver: Solver,
    numbers: tuple[int, ...],
    progress: Progress,
) -> Iterator[tuple[int, Tensor]]:
    """Yield the number of each sampling level except the clean one, and the inverted latents there.

    whole: predicts a batch. z: the clean latents. numbers: of the pieces.
    """
    rows = {place: row for row, place in enumerate(schedule.inversion_places)}

    def predict(z: Tensor, timestep: float) -> Tensor:
        output = whole(Batch(latents=z, timestep=timestep, texts=text, pieces=numbers))
        progress(len(z))
        return output

    advance = solver.begin(schedule, predict)
    for i in reversed(range(len(schedule.inversion_timesteps))):
        z = advance(z, i)
        if i in rows:
            yield rows[i], z


def _numbers(first: int, part: slice) -> tuple[int, ...]:
    """Return the numbers of the pieces in a part, if the first of the whole has number `first`."""
    return tuple(range(first + part.start, first + part.stop))


@torch.no_grad()
def reconstruct_latents(
    network: Network,
    schedule: NoiseSchedule,
    noise: Tensor,
    texts: PromptEmbeddings,
    *,
    guidance_scale: float = 1.0,
    rescaled: Rescaled | None = None,
    solver: Solver = _DDIM,
    batches: Batches,
    window: Window | None = None,
    first: int = 0,
    progress: Progress = lambda count: None,
) -> Tensor:
    """Sample from z_T without injection: the way back of `invert_latents` with the same solver.

    noise: (pieces, c, h, w); texts: the prompt, or (negative prompt, prompt) with guidance;
    rescaled: of guided predictions, by the family of models; window: for a video model, whose
    pieces are then those of one scene; first: the number of the first piece.
    Also makes the source of generated guidance (Tumanyan et al. 2022, section 4).
    Returns (T + 1, pieces, c, h, w), noisiest first, on the device of `noise`.
    """
    device, whole = network.device, in_windows(network.predict, window)

    def sample(part: slice) -> Tensor:
        x, numbers = noise[part].to(device), _numbers(first, part)

        def predict(x: Tensor, timestep: float) -> Tensor:
            rows = repeat_rows(x, len(texts))
            batch = Batch(latents=rows, timestep=timestep, texts=texts, pieces=numbers)
            output = whole(batch)
            if len(texts) == 2:
                negative, positive = output.chunk(2)
                output = negative + guidance_scale * (positive - negative)
                output = output if rescaled is None else rescaled(output, positive)
            progress(len(x))
            return output

        trajectory = empty_latents(len(schedule.timesteps), x)
        trajectory[0] = x
        advance = solver.begin_back(schedule, predict)
        for i in range(len(schedule.timesteps)):
            x = advance(x, i)
            trajectory[i + 1] = x
        return trajectory.to(noise.device)

    if window is not None:
        return sample(slice(0, len(noise)))
    return torch.cat(list(batches.run(len(noise), sample)), dim=1)
