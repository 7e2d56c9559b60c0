"""Matching of tokens: those of the source's keyframes that show the same as a frame's tokens."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from pnpvideo.models.device import exact_dtype
from pnpvideo.models.network import Batch, Network, as_unet
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.storage.trajectory import Trajectory

Matches = dict[int, Tensor]
"""By the number of tokens of a layer: indices (frames, 2, tokens) of the matching tokens in the
keyframes before and after each frame; int32. The entries of keyframes themselves are unused."""

_MATCHING_PROGRESS = 0.8
_SIMILARITIES = 2**22


def matching_step(steps: int) -> int:
    """Return the sampling step at whose noise level the source's tokens are compared.

    It is late enough for the tokens to describe the picture rather than its noise.
    """
    return round(_MATCHING_PROGRESS * (steps - 1))


@torch.no_grad()
def match_clip(
    network: Network,
    trajectory: Trajectory,
    text: PromptEmbeddings,
    scenes: Sequence[range],
    keyframes: Sequence[int],
    *,
    batch_size: int,
) -> Matches:
    """Match every frame to the keyframes before and after it.

    As in Geyer et al. 2023, but at one noise level for all steps, and once for all layers of a
    resolution. text: the source's, one embedding. The network runs on the source alone, a batch at
    a time; tokens of two keyframes and one batch are in memory.
    """
    steps = len(trajectory.timesteps)
    step, count = matching_step(steps), trajectory.piece_count
    matches: Matches = {}

    def tokens_of(frames: Sequence[int]) -> dict[int, Tensor]:
        return see_tokens(network, trajectory, text, step, frames)

    for scene in scenes:
        ends = [k for k in keyframes if k in scene]
        sides = [tokens_of(ends[:1])] if len(ends) > 1 else []
        for before, after in pairwise(ends):
            sides = [sides[-1], tokens_of([after])]
            for first in range(before + 1, after, batch_size):
                frames = list(range(first, min(first + batch_size, after)))
                for size, tokens in tokens_of(frames).items():
                    if size not in matches:
                        matches[size] = torch.zeros((count, 2, size), dtype=torch.int32)
                    for side in range(2):
                        nearest = nearest_tokens(tokens, sides[side][size][0])
                        matches[size][frames, side] = nearest.int().cpu()
    return matches


@torch.no_grad()
def see_tokens(
    network: Network,
    trajectory: Trajectory,
    text: PromptEmbeddings,
    step: int,
    frames: Sequence[int],
) -> dict[int, Tensor]:
    """Return the tokens (see `describe_tokens`) of a source's frames at a step's level."""
    network = as_unet(network, "matching the tokens of frames")
    latents = trajectory.latents[step, frames].to(network.device)
    tokens: dict[int, Tensor] = {}

    def record(seen: Tensor) -> None:
        tokens[seen.shape[1]] = seen

    with ExitStack() as stack:
        for layer in network.matching_layers:
            stack.enter_context(layer.watched(record))
        timestep = trajectory.timesteps[step]
        batch = Batch(latents=latents, timestep=timestep, texts=text, pieces=tuple(frames))
        network.predict(batch)
    height, width = latents.shape[-2:]
    return describe_tokens(tokens, lambda count: network.grid(count, height, width))


def describe_tokens(
    tokens: dict[int, Tensor], grid_of: Callable[[int], tuple[int, int]]
) -> dict[int, Tensor]:
    """Join the tokens of each resolution with all coarser tokens at the same place.

    Coarse tokens say which part of an object it is, fine ones where exactly: on scenes with known
    motion this halved the number of wrongly matched fine tokens. tokens: (frames, tokens, channels)
    by the number of tokens; grid_of: returns the (height, width) for that number. Returns the same
    with more channels; the part of each resolution has length 1.
    """
    grids: dict[int, Tensor] = {}
    for size, some in tokens.items():
        grid = functional.normalize(some.to(exact_dtype(some.dtype)), dim=-1).transpose(1, 2)
        grids[size] = grid.reshape(*grid.shape[:2], *grid_of(size))
    return {
        size: torch.cat(
            [
                functional.interpolate(other, size=grid.shape[-2:], mode="bilinear")
                for coarse, other in grids.items()
                if coarse <= size
            ],
            dim=1,
        )
        .flatten(2)
        .transpose(1, 2)
        for size, grid in grids.items()
    }


def nearest_tokens(tokens: Tensor, others: Tensor) -> Tensor:
    """Return the index of the token with the largest cosine.

    tokens: (frames, tokens, channels); others: (tokens of the other frame, channels). Returns
    (frames, tokens). The similarities are computed a few million at a time.
    """
    dtype = exact_dtype(tokens.dtype)
    rows = functional.normalize(tokens.to(dtype), dim=-1).flatten(0, 1)
    columns = functional.normalize(others.to(dtype), dim=-1).T
    part = max(1, _SIMILARITIES // len(others))
    nearest = torch.cat([(some @ columns).argmax(dim=1) for some in torch.split(rows, part)])
    return nearest.view(tokens.shape[:2])
