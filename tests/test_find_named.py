"""Maps of what a text names are spread by a self-attention that looks at similar places."""

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from pnpvideo.sampling.find_named import _chosen


class Layer:
    """A self-attention of one head whose places attend to those of the same token, or to all."""

    heads = 1

    def __init__(self, sharpness: float) -> None:
        self.sharpness = sharpness

    def query(self, tokens: Tensor) -> Tensor:
        return self.sharpness * tokens

    key = query

    def watched(self, see: Callable[[Tensor], None]) -> nullcontext[None]:
        return nullcontext()


class Grid:
    def grid(self, tokens: int, height: int, width: int) -> tuple[int, int]:
        side = round(tokens**0.5)
        return side, side


@pytest.mark.parametrize(
    ("sharpnesses", "place"),
    [((20, 20), 0), ((0, 20), 1), ((0, 0.01, 20), 2), ((0, 0), 0), ((20,), 0)],
)
def test_the_finest_layer_that_leaves_something_is_chosen(
    sharpnesses: tuple[float, ...], place: int
) -> None:
    maps = torch.full((1, 8, 8), 0.5)
    maps[:, :3, :3] = 4.0
    maps = maps / maps.mean()
    tokens = []
    for side in (8, 4, 2)[: len(sharpnesses)]:
        kinds = torch.nn.functional.adaptive_avg_pool2d(maps[:, None], side).flatten(1)
        tokens.append([torch.stack([kinds > 2, kinds <= 2], -1).float()])
    layers = [Layer(sharpness) for sharpness in sharpnesses]
    assert _chosen(Grid(), maps, layers, tokens) == place  # type: ignore[arg-type]
