"""Where a source shows what a text names, read from the cross-attention of its inverted latents
(Tang et al. 2023, "What the DAAM", section 3; Hertz et al. 2023, "Prompt-to-Prompt", section 3).
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
from pnpvideo.models.network import Batch, Network
from pnpvideo.models.prompt import PromptEmbeddings
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
) -> Iterator[Tensor]:
    """How much each latent of each frame attends to words: (n, h, w), 1 on average in a frame.

    words: numbers of the text's tokens. The mean of all layers and of a few noise levels.
    """
    steps, count = len(trajectory.timesteps), trajectory.latents.shape[1]
    height, width = trajectory.latents.shape[-2:]
    for first in range(0, count, batch_size):
        frames = list(range(first, min(first + batch_size, count)))
        seen: list[Tensor] = []

        def see(attended: Tensor, count: int = len(frames), seen: list[Tensor] = seen) -> None:
            one = attended[..., list(words)].sum(-1).float()
            grid = one.view(count, 1, *network.grid(one.shape[1], height, width))
            large = functional.interpolate(grid, (height, width), mode="bilinear")[:, 0]
            seen.append(large / large.mean((1, 2), keepdim=True))

        with ExitStack() as stack:
            for layer in network.crossings:
                stack.enter_context(layer.watched(see))
            for progress in _PROGRESS:
                step = round(progress * (steps - 1))
                latents = trajectory.latents[step, frames].to(network.device)
                timestep = trajectory.timesteps[step]
                network.predict(Batch(latents=latents, timestep=timestep, texts=text))
        yield torch.stack(seen).mean(0).cpu()


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
