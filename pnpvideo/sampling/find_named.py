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

from pnpvideo.models.network import Batch, Network, SelfAttention, as_unet
from pnpvideo.models.prompt import PromptEmbeddings
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
    spread: bool = False,
) -> Iterator[Tensor]:
    """Yield how much each latent of a frame attends to words: (n, h, w), with mean 1 in a frame.

    words: numbers of the text's tokens. The mean of all layers and of a few noise levels. spread:
    replace each place by the mean of the places that it attends to, twice, so that objects are
    covered without holes. The maps are in the computer's memory.
    """
    network = as_unet(network, "finding what a text names")
    steps, count = len(trajectory.timesteps), trajectory.piece_count
    height, width = trajectory.shape.piece[-2:]
    for first in range(0, count, batch_size):
        frames = list(range(first, min(first + batch_size, count)))
        seen: list[Tensor] = []
        tokens: list[Tensor] = []

        def see(attended: Tensor, count: int = len(frames), seen: list[Tensor] = seen) -> None:
            one = attended[..., list(words)].sum(-1).float()
            grid = one.view(count, 1, *network.grid(one.shape[1], height, width))
            large = functional.interpolate(grid, (height, width), mode="bilinear")[:, 0]
            seen.append(_even(large))

        with ExitStack() as stack:
            for layer in network.cross_attentions:
                stack.enter_context(layer.watched(see))
            finest = network.matching_layers[-1]
            stack.enter_context(finest.watched(tokens.append))
            for progress in _PROGRESS:
                step = round(progress * (steps - 1))
                latents = trajectory.latents[step, frames].to(network.device)
                timestep = trajectory.timesteps[step]
                batch = Batch(latents=latents, timestep=timestep, texts=text, pieces=tuple(frames))
                network.predict(batch)
        maps = torch.stack(seen).mean(0)
        if spread:
            grid = network.grid(tokens[0].shape[1], height, width)
            for _ in range(_SPREADS):
                passed = [_spread(maps, grid, finest, one) for one in tokens]
                maps = _even(torch.stack(passed).mean(0))
        yield maps.cpu()


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
