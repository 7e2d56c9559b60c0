"""Maps of where a source shows what a text names, read from the cross-attention of its inverted
latents (Tang et al. 2023, "What the DAAM", section 3; Hertz et al. 2023, "Prompt-to-Prompt",
section 3) and spread over what its self-attention finds similar (Nguyen et al. 2023, "Dataset
Diffusion", equation 5). `pixels.cut_out_maps` makes masks of them.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from pnpvideo.models.network import (
    Batch,
    CrossAttentionNetwork,
    Network,
    QueriesAndKeys,
    as_cross_attention,
)
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.pixels.cut_out_maps import STANDS_OUT
from pnpvideo.sampling.attend import attend, split_heads
from pnpvideo.sampling.spans import parts
from pnpvideo.sampling.windows import Scenes, as_clip, blend_weights, cut_into_windows
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
    """Yield how much each latent of a piece attends to words: (n, h, w), with mean 1 in a piece.

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
    scenes: Scenes | None = None,
    spread: bool = True,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the maps of `attention_maps`, and the same spread over similar places.

    They are those of the pieces of `parts_of`, one after the other. scenes: for a video model,
    whose pieces go through it as in sampling: those of a scene together, in windows that overlap,
    whose maps are blended.
    Spreading replaces each place by the mean of the places of its piece that it attends to, twice,
    so that objects are covered without holes. This is done by the finest self-attention that looks
    at similar places: some models have fine layers that look everywhere, which would leave nothing
    that stands out. spread: without it, both are the same.
    """
    network = as_cross_attention(network, "finding what a text names")
    layers = list(reversed(network.matching_layers)) if spread else []
    whole = range(trajectory.piece_count)
    for group in parts(whole, batch_size) if scenes is None else scenes.scenes:
        windows = [range(len(group))]
        if scenes is not None:
            windows = cut_into_windows(len(group), scenes.window)
        found: list[tuple[Tensor, Tensor]] = []
        for window in windows:
            pieces = group[window.start : window.stop]
            together = scenes is not None
            direct, tokens = _look(network, trajectory, text, words, layers, pieces, together)
            maps = direct
            if layers:
                if len(layers) > 1:  # Chosen by the first piece alone, whatever the batch size.
                    first = [[x[:1] for x in own] for own in tokens]
                    place = _chosen(network, direct[:1], layers, first)
                    layers, tokens = [layers[place]], [tokens[place]]
                maps = _spread_often(network, direct, layers[0], tokens[0], batch_size)
            found.append((direct, maps))
        blended = [_blended(windows, each) for each in zip(*found, strict=True)]
        direct, maps = (one.cpu() for one in blended)
        for part in parts(range(len(group)), batch_size):
            some = slice(part.start, part.stop)
            yield direct[some], maps[some]


def parts_of(piece_count: int, batch_size: int, scenes: Scenes | None) -> list[range]:
    """Return the pieces whose maps `named_maps` yields at a time: some of one scene."""
    groups = (range(piece_count),) if scenes is None else scenes.scenes
    return [part for group in groups for part in parts(group, batch_size)]


def _look(
    network: CrossAttentionNetwork,
    trajectory: Trajectory,
    text: PromptEmbeddings,
    words: Sequence[int],
    layers: Sequence[QueriesAndKeys],
    pieces: range,
    together: bool,
) -> tuple[Tensor, list[list[Tensor]]]:
    """Return how much each place of some pieces attends to words, (n, h, w), and tokens of layers.

    together: whether the pieces are one clip. The tokens, of each layer and noise level, are in the
    computer's memory: a video model has many.
    """
    height, width = trajectory.shape.piece[-2:]
    seen: list[Tensor] = []
    tokens: list[list[Tensor]] = [[] for _ in layers]

    def see(attended: Tensor) -> None:
        grid = network.grid(attended.shape[1], height, width)
        one = attended.float().view(len(pieces), 1, *grid)
        large = functional.interpolate(one, (height, width), mode="bilinear")[:, 0]
        seen.append(_even(large))

    with ExitStack() as stack:
        for crossing in network.cross_attentions:
            stack.enter_context(crossing.watched(words, see))
        for layer, own in zip(layers, tokens, strict=True):
            stack.enter_context(layer.watched(partial(_keep, own)))
        for progress in _PROGRESS:
            step = round(progress * (len(trajectory.timesteps) - 1))
            latents = trajectory.latents[step, list(pieces)].to(network.device)
            batch = Batch(
                latents=as_clip(latents) if together else latents,
                timestep=trajectory.timesteps[step],
                texts=text,
                pieces=tuple(pieces),
            )
            network.predict(batch)
    return torch.stack(seen).mean(0), tokens


def _keep(own: list[Tensor], tokens: Tensor) -> None:
    own.append(tokens.cpu())


def _blended(windows: Sequence[range], maps: Sequence[Tensor]) -> Tensor:
    """Return the maps of all pieces of windows, (n, h, w), from those of each window."""
    total = maps[0].new_zeros(windows[-1].stop, *maps[0].shape[1:])
    for window, weights, own in zip(windows, blend_weights(windows), maps, strict=True):
        total[window.start : window.stop] += weights.to(own)[:, None, None] * own
    return total


def _chosen(
    network: CrossAttentionNetwork,
    maps: Tensor,
    layers: Sequence[QueriesAndKeys],
    tokens: Sequence[Sequence[Tensor]],
) -> int:
    """Return the place of the first layer that leaves something that stands out; 0 if none does."""
    for place, (layer, own) in enumerate(zip(layers, tokens, strict=True)):
        if _spread_often(network, maps, layer, own, len(maps)).max() >= STANDS_OUT:
            return place
    return 0


def _spread_often(
    network: CrossAttentionNetwork,
    maps: Tensor,
    layer: QueriesAndKeys,
    tokens: Sequence[Tensor],
    at_once: int,
) -> Tensor:
    """Spread maps by a layer's attention at several noise levels, again and again.

    at_once: how many pieces are spread together.
    """
    grid = network.grid(tokens[0].shape[1], *maps.shape[1:])
    some = [slice(part.start, part.stop) for part in parts(range(len(maps)), at_once)]
    for _ in range(_SPREADS):
        spread = [
            torch.cat(
                [_spread(maps[part], grid, layer, own[part].to(maps.device)) for part in some]
            )
            for own in tokens
        ]
        maps = _even(torch.stack(spread).mean(0))
    return maps


def _spread(maps: Tensor, grid: tuple[int, int], layer: QueriesAndKeys, tokens: Tensor) -> Tensor:
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
