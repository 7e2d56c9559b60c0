"""Maps of where a source shows what a text names, read from the cross-attention of its inverted
latents (Tang et al. 2023, "What the DAAM", section 3; Hertz et al. 2023, "Prompt-to-Prompt",
section 3) and spread over what its self-attention finds similar (Nguyen et al. 2023, "Dataset
Diffusion", equation 5). `pixels.cut_out_maps` makes masks of them.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor
from torch.nn import functional

from pnpvideo.models.network import Batch, Network, SelfAttention, UNetNetwork, as_unet
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.pixels.cut_out_maps import STANDS_OUT
from pnpvideo.sampling.attend import attend, split_heads
from pnpvideo.storage.trajectory import Trajectory

# The noise levels at which the source is read, as shares of the sampling steps: with more noise the
# layers see less of an object's shape.
_PROGRESS = (0.65, 0.8, 0.9)
# How often maps are spread over similar places: once leaves holes in objects of several colours.
_SPREADS = 2


@torch.no_grad()
def attention_maps(
    network: Network,
    trajectory: Trajectory,
    text: PromptEmbeddings,
    words: Sequence[int],
    *,
    batch_size: int,
) -> Iterator[Tensor]:
    """Yield how much each latent of a frame attends to words: (n, h, w), with mean 1 in a frame.

    words: numbers of the text's tokens. The mean of all layers and of a few noise levels. The maps
    are in the computer's memory.
    """
    for direct, _ in named_maps(
        network, trajectory, text, words, batch_size=batch_size, spread=False
    ):
        yield direct


@torch.no_grad()
def named_maps(
    network: Network,
    trajectory: Trajectory,
    text: PromptEmbeddings,
    words: Sequence[int],
    *,
    batch_size: int,
    spread: bool = True,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the maps of `attention_maps`, and the same spread over similar places.

    Spreading replaces each place by the mean of the places that it attends to, twice, so that
    objects are covered without holes. This is done by the finest self-attention that looks at
    similar places: some models have fine layers that look everywhere, which would leave nothing
    that stands out. spread: without it, both are the same.
    """
    network = as_unet(network, "finding what a text names")
    steps, count = len(trajectory.timesteps), trajectory.piece_count
    height, width = trajectory.shape.piece[-2:]
    layers = list(reversed(network.matching_layers)) if spread else []
    for first in range(0, count, batch_size):
        frames = list(range(first, min(first + batch_size, count)))
        seen: list[Tensor] = []
        tokens: list[list[Tensor]] = [[] for _ in layers]

        def see(attended: Tensor, count: int = len(frames), seen: list[Tensor] = seen) -> None:
            one = attended[..., list(words)].sum(-1).float()
            grid = one.view(count, 1, *network.grid(one.shape[1], height, width))
            large = functional.interpolate(grid, (height, width), mode="bilinear")[:, 0]
            seen.append(_even(large))

        with ExitStack() as stack:
            for crossing in network.cross_attentions:
                stack.enter_context(crossing.watched(see))
            for layer, own in zip(layers, tokens, strict=True):
                stack.enter_context(layer.watched(own.append))
            for progress in _PROGRESS:
                step = round(progress * (steps - 1))
                latents = trajectory.latents[step, frames].to(network.device)
                timestep = trajectory.timesteps[step]
                batch = Batch(latents=latents, timestep=timestep, texts=text, pieces=tuple(frames))
                network.predict(batch)
        direct = maps = torch.stack(seen).mean(0)
        if spread:
            if len(layers) > 1:  # Chosen by the first frame alone, whatever the batch size.
                place = _chosen(network, maps[:1], layers, [[x[:1] for x in own] for own in tokens])
                layers, tokens = [layers[place]], [tokens[place]]
            maps = _spread_often(network, maps, layers[0], tokens[0])
        yield direct.cpu(), maps.cpu()


def _chosen(
    network: UNetNetwork,
    maps: Tensor,
    layers: Sequence[SelfAttention],
    tokens: Sequence[Sequence[Tensor]],
) -> int:
    """Return the place of the first layer that leaves something that stands out; 0 if none does."""
    for place, (layer, own) in enumerate(zip(layers, tokens, strict=True)):
        if _spread_often(network, maps, layer, own).max() >= STANDS_OUT:
            return place
    return 0


def _spread_often(
    network: UNetNetwork, maps: Tensor, layer: SelfAttention, tokens: Sequence[Tensor]
) -> Tensor:
    """Spread maps by a layer's attention at several noise levels, again and again."""
    grid = network.grid(tokens[0].shape[1], *maps.shape[1:])
    for _ in range(_SPREADS):
        maps = _even(torch.stack([_spread(maps, grid, layer, one) for one in tokens]).mean(0))
    return maps


def _spread(maps: Tensor, grid: tuple[int, int], layer: SelfAttention, tokens: Tensor) -> Tensor:
    """Spread maps (n, h, w) by a layer's own attention among its tokens, which have this grid."""
    small = functional.adaptive_avg_pool2d(maps[:, None], grid)
    query, key = (
        split_heads(part, layer.heads).float() for part in (layer.query(tokens), layer.key(tokens))
    )
    # As values of the queries' width, as fused attention needs.
    value = small.view(len(maps), 1, -1, 1).expand_as(query).contiguous()
    passed = attend(query, key, value).mean(2).view(-1, 1, *grid)
    return functional.interpolate(passed, maps.shape[1:], mode="bilinear")[:, 0]


def _even(maps: Tensor) -> Tensor:
    """Return maps (n, h, w) scaled to a mean of 1 in each."""
    return maps / maps.mean((1, 2), keepdim=True)
