"""Noise that all frames of a clip share."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from pnpvideo.options.method import PnPOptions
from pnpvideo.pixels.flow import Flow


def gaussian_noise(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Draw standard normal noise on the generator's device, in float32 whatever the dtype.

    So a seed gives the same picture on every device and in every precision.
    """
    noise = torch.randn(shape, generator=generator, device=generator.device)
    return noise.to(like.device, like.dtype)


def common_noise(
    own: Tensor,
    generator: torch.Generator,
    origins: Tensor | None = None,
    scenes: Sequence[range] = (),
    *,
    each: bool = False,
) -> Tensor:
    """Return the noise n that pieces share: of one piece, (c, h, w), or in the shape of own.

    own: (pieces, c, h, w), z_T. origins: how n moves, from `noise_origins`; None: it stands still.
    scenes: take the noise of the first frame of each of these, instead of drawing one noise for
    all; another scene's noise would bring in that scene's picture. each: draw noise for each piece,
    as video models were trained with.
    """
    if each:
        return gaussian_noise(tuple(own.shape), generator, own)
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
    """Return x_T of all pieces, from their z_T (pieces, c, h, w).

    scenes: for options.noise_source "keyframe", whose noise is that of each scene's first frame.
    origins: how shared noise moves, from `noise_origins`; None: it stands still.
    """
    from_keyframe = options.noise_source == "keyframe"
    common = common_noise(inverted, generator, origins, scenes if from_keyframe else ())
    return share_noise(inverted, common, options.noise_share, independent=not from_keyframe)


def step_noise(
    like: Tensor,
    options: PnPOptions,
    generator: torch.Generator,
    origins: Tensor | None,
    *,
    each: bool = False,
) -> Tensor | None:
    """Draw the noise of a step that takes noise; all prompts share it.

    like: (pieces, c, h, w). With eta, each piece has noise of its own, (pieces, c, h, w); methods
    that edit clean latents take the same for all pieces, (c, h, w), or noise that moves with them.
    each: always draw noise for each piece.
    """
    if options.edits_clean:
        return common_noise(like, generator, origins, each=each)
    if options.eta == 0:
        return None
    own = gaussian_noise(tuple(like.shape), generator, like)
    if each:
        return own
    shared = common_noise(like, generator, origins)
    return share_noise(own, shared, options.noise_share)


def share_noise(own: Tensor, shared: Tensor, share: float, *, independent: bool = True) -> Tensor:
    """Return x_T(i) = sqrt(1 - s) z_T(i) + sqrt(s) n.

    own: (pieces, c, h, w), each piece's noise; shared: n, (c, h, w), or in the shape of own; share:
    s, 0 to 1. At 0 the result is `own`, bit for bit.
    independent: False if n may resemble z_T, such as another frame's; then each piece is scaled to
    the variance that the sum of independent noises has.
    """
    if share == 0:
        return own
    mixed: Tensor = (1 - share) ** 0.5 * own + share**0.5 * shared
    if not independent:
        wanted = (1 - share) * own.square() + share * shared.square()
        piece_axes = tuple(range(1, own.ndim))
        powers = [x.mean(dim=piece_axes, keepdim=True) for x in (wanted, mixed.square())]
        mixed = mixed * (powers[0] / powers[1]).sqrt()
    return mixed


def noise_origins(
    motion: Iterable[Flow], scenes: Sequence[range], shape: tuple[int, int]
) -> Tensor:
    """Return where each pixel of each frame has its noise from: (frames, height * width), int32.

    The entry frame * height * width + pixel stands for the noise drawn at that place. Every value
    moves with the motion, keeps its exact place, which need not be a pixel's centre, and appears in
    the pixel that contains it. Of several in one pixel the nearest to its centre remains; a pixel
    without any gets the noise drawn there. So no value appears twice in a frame, and as the choice
    does not depend on the values, the noise stays white: of variance 1 and without correlation
    between pixels. It is the nearest-neighbour case of transporting noise (Chang et al. 2024, "How
    I Warped Your Noise", has finer ones).
    motion: from each frame to the next. shape: (height, width) of latents. Every scene begins with
    noise of its own.
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
        # Not rint, which moves two neighbours halfway between pixels to the same one.
        nearest = np.floor(moved + 0.5)
        column, row = nearest.astype(np.int64).T
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        distance = np.square(moved - nearest).sum(axis=1)
        # The last value assigned to a pixel remains, so the nearest comes last.
        order = np.argsort(-distance, kind="stable")
        order = order[inside[order]]
        target = row[order] * width + column[order]
        origins[frame, target] = origins[frame - 1, order]
        places = centres.copy()
        places[target] = moved[order]
    return torch.from_numpy(origins)


def carry_noise(drawn: Tensor, origins: Tensor) -> Tensor:
    """Move noise (frames, channels, height, width) as its origins say (see `noise_origins`)."""
    pixels = drawn.movedim(1, -1).flatten(0, 2)
    carried = torch.empty_like(drawn)
    for frame, origin in enumerate(origins.to(drawn.device).long()):
        carried[frame] = pixels[origin].T.reshape(drawn.shape[1:])
    return carried
