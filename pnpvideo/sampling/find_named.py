"""Where a source shows what a text names, read from the cross-attention of its inverted latents
(Tang et al. 2023, "What the DAAM", section 3; Hertz et al. 2023, "Prompt-to-Prompt", section 3),
spread over what its self-attention holds for alike (Nguyen et al. 2023, "Dataset Diffusion",
equation 5), and cut out along the edges that the picture itself has.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pnpvideo.clips.clip import Frames
from pnpvideo.errors import InputError
from pnpvideo.models.network import Batch, Network, SelfAttention
from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.pixels.mask import Weights, cut_out
from pnpvideo.sampling.attend import attend, split_heads
from pnpvideo.storage.trajectory import Trajectory

# Of the sampling steps, those at whose noise levels the source is looked at: with more noise the
# layers see less of things' shape.
_PROGRESS = (0.65, 0.8, 0.9)
# How often maps are spread over what is alike: one time leaves holes in things of several colours.
_SPREADS = 2
# Above and below so many times the threshold, attention alone says what is shown.
_SURELY, _SURELY_NOT = 1.6, 0.4
_CUTS = 3
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
    each place has the mean of the places that it attends to, twice, so that things are whole.
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
            for _ in range(_SPREADS):
                passed = [_spread(maps, grid, finest, one) for one in tokens]
                maps = _even(torch.stack(passed).mean(0))
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


def mask_of_maps(maps: Iterable[Tensor], batches: Iterable[Frames], name: str) -> Iterator[Weights]:
    """Attention maps (n, h, w) of frames (n, height, width, 3), some at a time, as masks of these:
    white above Otsu's threshold, and where attention is near that, as the frame's own edges say.

    InputError where no part stands out in the first frames.
    """
    for number, (some, frames) in enumerate(zip(maps, batches, strict=True)):
        height, width = frames.shape[1:3]
        large = np.stack(
            [
                cv2.resize(one.numpy(), (width, height), interpolation=cv2.INTER_CUBIC)
                for one in some
            ]
        )
        if number == 0 and not large.max() >= STANDS_OUT:
            raise InputError(
                f"{name!r} is not found in the source; name something that it shows, or give a mask"
            )
        grey = np.rint(large.clip(0) * (255 / large.max())).astype(np.uint8)
        yield np.stack([_cut_out(frame, one) for frame, one in zip(frames, grey, strict=True)])


def _cut_out(frame: Frames, attended: Weights) -> Weights:
    """A mask of one frame and how much its pixels attend."""
    threshold, mask = cv2.threshold(attended, 0, 255, cv2.THRESH_OTSU)
    likely = mask > 0
    if likely.any() and not likely.all():
        sure = (attended > _SURELY * threshold) | (attended <= _SURELY_NOT * threshold)
        found = cut_out(frame, likely, sure, iterations=_CUTS)
        mask = np.where(found, 255, 0).astype(np.uint8) if found.any() else mask
    return np.asarray(mask)
