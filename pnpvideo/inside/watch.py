"""Recording of layers' tokens while a network reads a source: (n, height, width, channels)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor
from torch.nn import functional

from pnpvideo.errors import InputError
from pnpvideo.models.network import Batch, Network, SelfAttention, as_unet
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.sampling.attend import split_heads
from pnpvideo.storage.trajectory import Trajectory

Seen = dict[str, Tensor]
"""By the name of a module: its tokens."""
Watch = Callable[[Network, str, Seen], ExitStack]

# A map of more cells is as large as the square of a picture's tokens, and shows nothing more.
_CELLS = 32


def watch_features(network: Network, name: str, seen: Seen) -> ExitStack:
    """Record the residual features that a block makes (the injected ones) within the context."""

    def keep(output: Tensor) -> Tensor:
        seen[name] = output.movedim(1, -1)
        return output

    stack = ExitStack()
    stack.enter_context(network.feature(name).changed(lambda tensor: tensor, keep))
    return stack


def watch_attention(network: Network, name: str, seen: Seen) -> ExitStack:
    """Record the maps of a module's first self-attention (see `attended`) within the context."""
    layers = network.attentions(name)
    if not layers:
        raise InputError(f"{name!r} has no self-attention")

    def keep(tokens: Tensor) -> None:
        assert network.batch is not None
        unet = as_unet(network, "showing attention")
        grid = unet.grid(tokens.shape[1], *network.batch.latents.shape[-2:])
        seen[name] = attended(layers[0], tokens, grid)

    stack = ExitStack()
    stack.enter_context(layers[0].watched(keep))
    return stack


def attended(layer: SelfAttention, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return softmax(q k^T / sqrt(d)), the mean of all heads: (n, height, width, cells).

    A cell is one place of the grid, or in a large grid the sum over several adjacent places, so
    that there are at most 32 cells per side (Tumanyan et al. 2022, figure 6, shows all).
    """
    height, width = grid
    cells = min(height, _CELLS), min(width, _CELLS)
    query, key = (split_heads(x, layer.heads) for x in (layer.query(tokens), layer.key(tokens)))
    total = torch.zeros((), device=tokens.device)
    for head in range(layer.heads):  # One at a time: all would be as many times as large.
        scores = query[:, head].float() @ key[:, head].float().mT * query.shape[-1] ** -0.5
        maps = scores.softmax(-1).view(*tokens.shape[:2], height, width)
        pooled = functional.adaptive_avg_pool2d(maps, cells).flatten(2)
        total = total + pooled * (height * width / (cells[0] * cells[1]))
    return (total / layer.heads).view(len(tokens), height, width, -1)


@contextmanager
def watched(network: Network, watch: Watch, names: Sequence[str]) -> Iterator[Seen]:
    """Yield the tokens of the named modules in the network's latest prediction."""
    seen: Seen = {}
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(watch(network, name, seen))
        yield seen


@torch.no_grad()
def look(
    network: Network,
    trajectory: Trajectory,
    text: PromptEmbeddings,
    step: int,
    watch: Watch,
    names: Sequence[str],
    *,
    batch_size: int,
) -> Iterator[Seen]:
    """Yield modules' tokens for a source's frames at a step's noise level, batch after batch."""
    count = trajectory.piece_count
    with watched(network, watch, names) as seen:
        for first in range(0, count, batch_size):
            part = slice(first, min(first + batch_size, count))
            latents = trajectory.latents[step, part].to(network.device)
            timestep = trajectory.timesteps[step]
            pieces = tuple(range(part.start, part.stop))
            batch = Batch(latents=latents, timestep=timestep, texts=text, pieces=pieces)
            network.predict(batch)
            yield dict(seen)
