"""Latents to their trajectory: by inversion, or by sampling if the model makes the source."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from pnpvideo.models.batches import Batches
from pnpvideo.models.network import Batch, Network
from pnpvideo.models.noise_schedule import NoiseSchedule
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.sampling.guidance import Rescaled
from pnpvideo.sampling.rows import repeat_rows
from pnpvideo.sampling.solvers import DDIM, Solver
from pnpvideo.sampling.windows import InWindows, Predict, Scenes
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
    scenes: Scenes | None = None,
    first: int = 0,
    progress: Progress = lambda count: None,
) -> Tensor:
    """Invert a source without guidance, from the clean end to the noisiest level.

    latents: (pieces, c, h, w), clean; text: one embedding; scenes: those of a video model, whose
    pieces go together; first: the number of the first piece in the source. Each batch, or each
    scene, runs through all levels before the next begins, as it is independent of the others.
    Returns the latents at the sampling levels, (T + 1, pieces, c, h, w), noisiest first, on the
    device of `latents`.
    """
    rows = {place: row for row, place in enumerate(schedule.inversion_places)}
    whole = _predict(network, scenes)

    def invert(part: slice) -> Tensor:
        z = latents[part].to(network.device)
        numbers = _numbers(first, part)

        def predict(z: Tensor, timestep: float) -> Tensor:
            batch = Batch(latents=z, timestep=timestep, texts=text, pieces=numbers)
            output = whole(batch)
            progress(len(z))
            return output

        # Copied to the host once, at the end: a GPU waits for each copy. A scene is too large.
        trajectory = empty_latents(len(schedule.timesteps), z if scenes is None else latents[part])
        advance = solver.begin(schedule, predict)
        for i in reversed(range(len(schedule.inversion_timesteps))):
            z = advance(z, i)
            if i in rows:
                trajectory[rows[i]] = z
        return trajectory.to(latents.device)

    return torch.cat(list(_run(batches, len(latents), invert, scenes, first)), dim=1)


def _predict(network: Network, scenes: Scenes | None) -> Predict:
    return network.predict if scenes is None else InWindows(network.predict, scenes.window)


def _run(
    batches: Batches,
    count: int,
    work: Callable[[slice], Tensor],
    scenes: Scenes | None,
    first: int,
) -> Iterator[Tensor]:
    """Yield the results of `work` on all pieces, in batches or scene by scene.

    first: the number of the first piece.
    """
    if scenes is None:
        yield from batches.run(count, work)
        return
    for scene in scenes.within(range(first, first + count)):
        yield work(slice(scene.start - first, scene.stop - first))


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
    scenes: Scenes | None = None,
    first: int = 0,
    progress: Progress = lambda count: None,
) -> Tensor:
    """Sample from z_T without injection: the way back of `invert_latents` with the same solver.

    noise: (pieces, c, h, w); texts: the prompt, or (negative prompt, prompt) with guidance;
    rescaled: of guided predictions, by the family of models; scenes: those of a video model; first:
    the number of the first piece.
    Also makes the source of generated guidance (Tumanyan et al. 2022, section 4).
    Returns (T + 1, pieces, c, h, w), noisiest first, on the device of `noise`.
    """
    device, whole = network.device, _predict(network, scenes)

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

    return torch.cat(list(_run(batches, len(noise), sample, scenes, first)), dim=1)
