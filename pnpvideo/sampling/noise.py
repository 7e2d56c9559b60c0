"""The noise that all frames have in common."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from pnpvideo.options.method import PnPOptions
from pnpvideo.pixels.flow import Flow


def gaussian_noise(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Standard normal noise, drawn on the generator's device in float32 whatever the dtype.

    So one seed gives one picture on every device and in every precision.
    """
    noise = torch.randn(shape, generator=generator, device=generator.device)
    return noise.to(like.device, like.dtype)


def common_noise(
    own: Tensor,
    generator: torch.Generator,
    origins: Tensor | None = None,
    scenes: Sequence[range] = (),
) -> Tensor:
    """The noise n that frames have in common: (channels, height, width), or in the shape of own.

    own: (frames, channels, height, width), z_T. origins: how n moves, from `noise_origins`; None:
    it stands still. scenes: for each of these take its first frame's own noise, instead of drawing
    one noise for all; no scene has another's, which would bring in that one's picture.
    """
    if origins is None and scenes:
        return own[[scene.start for scene in scenes for _ in scene]]
    if origins is None:
        return gaussian_noise(tuple(own.shape[1:]), generator, own)
    drawn = gaussian_noise(tuple(own.shape), generator, own)
    for scene in scenes:
        drawn[scene.start] = own[scene.start]
    return carry_noise(drawn, origins)


def starting_noise(
    inverted: Tensor,
    generator: torch.Generator,
    options: PnPOptions,
    scenes: Sequence[range] = (),
    origins: Tensor | None = None,
) -> Tensor:
    """x_T of all frames, from their z_T (frames, channels, height, width).

    scenes: where noise is a keyframe's. origins: where it moves, from `noise_origins`.
    """
    from_keyframe = options.noise_source == "keyframe"
    common = common_noise(inverted, generator, origins, scenes if from_keyframe else ())
    return share_noise(inverted, common, options.noise_share, independent=not from_keyframe)


def step_noise(
    like: Tensor, options: PnPOptions, generator: torch.Generator, origins: Tensor | None
) -> Tensor:
    """The noise of one step for all frames and prompts: (frames, channels, height, width)."""
    own = gaussian_noise(tuple(like.shape), generator, like)
    shared = common_noise(like, generator, origins)
    return share_noise(own, shared, options.noise_share)


def share_noise(own: Tensor, shared: Tensor, share: float, *, independent: bool = True) -> Tensor:
    """x_T(i) = sqrt(1 - s) z_T(i) + sqrt(s) n.

    own: (frames, channels, height, width), each frame's noise; shared: (channels, height, width),
    or the shape of own; share: s, 0 to 1. At 0 the result is `own`, bit for bit.
    independent: False where n may be like z_T, such as another frame's; then each frame is
    scaled to the variance that the sum of independent noises has.
    """
    if share == 0:
        return own
    mixed: Tensor = (1 - share) ** 0.5 * own + share**0.5 * shared
    if not independent:
        wanted = (1 - share) * own.square() + share * shared.square()
        powers = [x.mean(dim=(-3, -2, -1), keepdim=True) for x in (wanted, mixed.square())]
        mixed = mixed * (powers[0] / powers[1]).sqrt()
    return mixed


def noise_origins(
    motion: Iterable[Flow], scenes: Sequence[range], shape: tuple[int, int]
) -> Tensor:
    """From where each pixel of each frame has its noise: (frames, height * width), int32.

    The entry frame * height * width + pixel stands for the noise drawn at that place. Every value
    travels with the motion, at its exact place, which need not be a pixel's centre, and is seen in
    the pixel where it is. Of several in one pixel the nearest to its centre stays; a pixel
    without any gets the noise drawn there. So no frame shows a value twice, and as the choice does
    not look at the values, the noise stays white: of variance 1 and without correlation between
    pixels. It is the nearest-neighbour case of transporting noise (Chang et al. 2024, "How I Warped
    Your Noise", has finer ones).
    motion: from each frame to the next. shape: (height, width). Every scene starts anew.
    """
    height, width = shape
    cells = height * width
    y, x = np.divmod(np.arange(cells), width)
    centres = np.stack([x, y], axis=1).astype(np.float64)
    count, starts = scenes[-1].stop, {scene.start for scene in scenes}
    origins = np.empty((count, cells), dtype=np.int32)
    origins[0], places = np.arange(cells), centres
    for frame, flow in zip(range(1, count), motion, strict=True):
        origins[frame] = frame * cells + np.arange(cells)
        if frame in starts:
            places = centres
            continue
        moved = places + flow.reshape(cells, 2)
        # Not rint, which takes neighbours halfway between pixels to the same one.
        nearest = np.floor(moved + 0.5)
        column, row = nearest.astype(np.int64).T
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        distance = np.square(moved - nearest).sum(axis=1)
        # The last assignment to a pixel counts, so the nearest comes last.
        order = np.argsort(-distance, kind="stable")
        order = order[inside[order]]
        target = row[order] * width + column[order]
        origins[frame, target] = origins[frame - 1, order]
        places = centres.copy()
        places[target] = moved[order]
    return torch.from_numpy(origins)


def carry_noise(drawn: Tensor, origins: Tensor) -> Tensor:
    """Noise (frames, channels, height, width) put where its origins say (see `noise_origins`)."""
    pixels = drawn.movedim(1, -1).flatten(0, 2)
    carried = torch.empty_like(drawn)
    for frame, origin in enumerate(origins.to(drawn.device).long()):
        carried[frame] = pixels[origin].T.reshape(drawn.shape[1:])
    return carried
