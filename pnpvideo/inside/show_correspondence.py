"""Show where frames, and other sources, match the first frame."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pnpvideo.clips.clip import Frames
from pnpvideo.inside.draw import Picture, mixed
from pnpvideo.inside.subject import Strip, Subject
from pnpvideo.models.network import as_unet
from pnpvideo.sampling.match_tokens import matching_step, nearest_tokens, see_tokens
from pnpvideo.stages.edit import OpenEdit

Places = NDArray[np.int64]
"""(n, height, width, 2): the row and column of the first frame's nearest token, by token."""


def show_correspondence(subject: Subject, shares: tuple[float, ...]) -> list[Strip]:
    """Show each token in the colour of its match in the first frame, and with the pixels there.

    They are the tokens by which keyframes' attention is propagated (see `describe_tokens`).
    """
    steps = subject.steps(shares) if shares else [matching_step(subject.options.steps)]
    strips = []
    for step in steps:
        places, grid = find_places(subject, step)
        chart = place_chart(*grid)
        frames = [subject.frames(source) for source in subject.sources]
        first = frames[0][0]
        by_colour, moved = [], []
        for some, found in zip(frames, places, strict=True):
            colours = chart[found[..., 0], found[..., 1]]
            pairs = zip(some, colours, strict=True)
            by_colour.append(np.stack([mixed(one, _as_large(over, one)) for one, over in pairs]))
            moved.append(np.stack([moved_pixels(first, grid, at) for at in found]))
        name = subject.level_name(step)
        strips += [
            Strip(row=name, column="the place that is matched", pictures=tuple(by_colour)),
            Strip(row=name, column="the first frame's pixels there", pictures=tuple(moved)),
        ]
    return strips


def find_places(subject: Subject, step: int) -> tuple[list[Places], tuple[int, int]]:
    """Return each source's matches, and the (height, width) of the first frame's tokens."""
    text, first = subject.text, subject.edits[0]
    with subject.network_of(first) as any_network:
        network = as_unet(any_network, "correspondence")
        tokens = see_tokens(network, first.source.trajectory, text, step, [0])
        size = max(tokens)
        grid = network.grid(size, *first.source.trajectory.latents.shape[-2:])
    places = [_places_of(subject, opened, step, tokens[size][0], grid) for opened in subject.edits]
    return places, grid


def _places_of(
    subject: Subject, opened: OpenEdit, step: int, others: Tensor, grid: tuple[int, int]
) -> Places:
    """Match every token of a source to others (tokens, channels), which lie on this grid."""
    trajectory, parts = opened.source.trajectory, []
    with subject.network_of(opened) as any_network:
        network = as_unet(any_network, "correspondence")
        for piece in range(trajectory.piece_count):
            seen = see_tokens(network, trajectory, subject.text, step, [piece])
            nearest = nearest_tokens(seen[max(seen)], others).cpu()
            here = network.grid(max(seen), *trajectory.latents.shape[-2:])
            both = torch.stack([nearest // grid[1], nearest % grid[1]], dim=-1)
            parts.append(both.view(-1, *here, 2).numpy())
    return np.concatenate(parts)


def place_chart(height: int, width: int) -> Picture:
    """Return a colour for each place, interpolated between one for each corner."""
    corners = np.array([[(230, 60, 60), (245, 200, 50)], [(60, 90, 230), (50, 190, 110)]], float)
    down, across = (np.linspace(0, 1, n)[:, None] for n in (height, width))
    left, right = ((1 - down) * corners[0, x] + down * corners[1, x] for x in (0, 1))
    chart = (1 - across)[None] * left[:, None] + across[None] * right[:, None]
    return np.asarray(np.rint(chart).astype(np.uint8))


def moved_pixels(picture: Picture, grid: tuple[int, int], places: NDArray[np.int64]) -> Picture:
    """Return a picture whose tokens show the content of `picture` at given places.

    grid: (height, width) of the tokens of `picture`. places: (height, width, 2), row and column.
    """
    high, wide = picture.shape[0] // grid[0], picture.shape[1] // grid[1]
    tiles: Picture = picture.reshape(grid[0], high, grid[1], wide, 3).swapaxes(1, 2)
    moved = tiles[places[..., 0], places[..., 1]].swapaxes(1, 2)
    return np.asarray(moved.reshape(len(places) * high, places.shape[1] * wide, 3))


def _as_large(colours: Frames, frame: Picture) -> Picture:
    """Enlarge colours to squares that fill a frame."""
    rows, columns = (
        np.arange(whole) * part // whole
        for whole, part in zip(frame.shape[:2], colours.shape[:2], strict=True)
    )
    return np.asarray(colours[rows[:, None], columns])
