"""Where a source shows what a text names, read from the cross-attention of its inverted latents
(Tang et al. 2023, "What the DAAM", section 3; Hertz et al. 2023, "Prompt-to-Prompt", section 3),
spread over what its self-attention holds for alike (Nguyen et al. 2023, "Dataset Diffusion",
equation 5).
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pnpvideo.clips.mask import Weights
from pnpvideo.errors import InputError
from pnpvideo.models.network import Batch, Network, SelfAttention
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.sampling.attend import attend, split_heads
from pnpvideo.storage.trajectory import Trajectory

# Of the sampling steps, those at whose noise levels the source is looked at: with less noise than
# there the layers tell edges more than things.
_PROGRESS = (0.5, 0.65, 0.8)
STANDS_OUT = 1.4
"""How much of the average the most attended place has at least where something is found."""


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
    """How much each latent of each frame attends to words: (n, h, w), 1 on average in a frame.

    words: numbers of the text's tokens. The mean of all layers and of a few noise levels. spread:
    each place has the mean of the places that it attends to, so that things are whole.
    """
    steps, count = len(trajectory.timesteps), trajectory.latents.shape[1]
    height, width = trajectory.latents.shape[-2:]
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
            for layer in network.crossings:
                stack.enter_context(layer.watched(see))
            finest = network.observed[-1]
            stack.enter_context(finest.watched(tokens.append))
            for progress in _PROGRESS:
                step = round(progress * (steps - 1))
                latents = trajectory.latents[step, frames].to(network.device)
                timestep = trajectory.timesteps[step]
                batch = Batch(latents=latents, timestep=timestep, texts=text, frames=tuple(frames))
                network.predict(batch)
        maps = torch.stack(seen).mean(0)
        if spread:
            grid = network.grid(tokens[0].shape[1], height, width)
            maps = _even(torch.stack([_spread(maps, grid, finest, one) for one in tokens]).mean(0))
        yield maps.cpu()


def _spread(maps: Tensor, grid: tuple[int, int], layer: SelfAttention, tokens: Tensor) -> Tensor:
    """Maps (n, h, w) as a layer's own attention passes them on among its tokens, of this grid."""
    small = functional.adaptive_avg_pool2d(maps[:, None], grid)
    query, key = (
        split_heads(part, layer.heads).float() for part in (layer.query(tokens), layer.key(tokens))
    )
    # As values of the queries' width, which fused attention wants.
    value = small.view(len(maps), 1, -1, 1).expand_as(query).contiguous()
    passed = attend(query, key, value).mean(2).view(-1, 1, *grid)
    return functional.interpolate(passed, maps.shape[1:], mode="bilinear")[:, 0]


def _even(maps: Tensor) -> Tensor:
    return maps / maps.mean((1, 2), keepdim=True)


def mask_of_maps(maps: Iterator[Tensor], name: str, size: tuple[int, int]) -> Iterator[Weights]:
    """Attention maps (n, h, w) as masks at (width, height): white above Otsu's threshold.

    InputError where no part stands out in the first frames.
    """
    for number, batch in enumerate(maps):
        large = np.stack(
            [cv2.resize(one.numpy(), size, interpolation=cv2.INTER_CUBIC) for one in batch]
        )
        if number == 0 and large.max() < STANDS_OUT:
            raise InputError(
                f"{name!r} is not found in the source; name something that it shows, or give a mask"
            )
        grey = np.rint(large.clip(0) * (255 / large.max())).astype(np.uint8)
        yield np.stack([cv2.threshold(one, 0, 255, cv2.THRESH_OTSU)[1] for one in grey])
