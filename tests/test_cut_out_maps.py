"""Masks of attention maps end at the edges of the picture."""

import cv2
import numpy as np
import pytest

from pnpvideo.errors import InputError
from pnpvideo.pixels.cut_out_maps import mask_of_maps
from tools.metrics import iou


def test_a_mask_of_maps_ends_at_the_edges_of_the_picture() -> None:
    """Maps that see one side of a disc half as well, and it too far left, are corrected."""
    places = np.dstack(np.meshgrid(np.arange(128), np.arange(128)))
    discs = [np.linalg.norm(places - centre, axis=-1) < 30 for centre in ((50, 70), (80, 50))]
    rng = np.random.default_rng(0)
    frames = np.stack([np.where(disc[..., None], (200, 60, 40), (60, 140, 70)) for disc in discs])
    frames = (frames + rng.integers(-20, 21, frames.shape)).clip(0, 255).astype(np.uint8)
    maps = np.full((2, 16, 16), 0.3, np.float32)
    for one, disc in zip(maps, discs, strict=True):
        moved = np.roll(disc, -3, 1).astype(np.float32)
        small = cv2.resize(moved, (16, 16), interpolation=cv2.INTER_AREA)
        one += 3 * small * np.linspace(0.5, 1, 16)
    blind, seeing = (
        np.concatenate(list(mask_of_maps([maps[:1], maps[1:]], [some[:1], some[1:]], "dog")))
        for some in (np.zeros_like(frames), frames)
    )
    for disc, without, mask in zip(discs, blind, seeing, strict=True):
        assert set(np.unique(mask)) == {0, 255}
        assert iou(mask > 0, disc) > 0.98
        assert iou(without > 0, disc) < 0.9


def test_a_mask_of_maps_where_the_picture_says_nothing() -> None:
    plain = np.full((1, 64, 64, 3), 99, np.uint8)
    maps = np.full((1, 8, 8), 0.5, np.float32)
    maps[0, 2:5, 1:4] = 4.0
    (mask,) = next(mask_of_maps([maps], [plain], "dog"))
    true = np.zeros((64, 64), bool)
    true[16:40, 8:32] = True
    assert mask[20:36, 12:28].all()
    assert not mask[~cv2.dilate(true.astype(np.uint8), np.ones((9, 9))).astype(bool)].any()
    (mask,) = next(mask_of_maps([np.full((1, 8, 8), 2.0, np.float32)], [plain], "dog"))
    assert mask.min() == mask.max()


def test_maps_in_which_nothing_stands_out_are_refused() -> None:
    plain = np.full((1, 64, 64, 3), 99, np.uint8)
    maps = np.full((1, 8, 8), 1.0, np.float32)
    with pytest.raises(InputError, match="'dog' is not found in the source"):
        next(mask_of_maps([maps], [plain], "dog"))
