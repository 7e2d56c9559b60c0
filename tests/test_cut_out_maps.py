"""Masks of attention maps end at the edges of the picture."""

import cv2
import numpy as np
import pytest

from pnpvideo.clips.clip import Frames
from pnpvideo.errors import InputError
from pnpvideo.pixels.cut_out_maps import Maps, NamedMaps, mask_of_maps
from pnpvideo.pixels.mask import Weights
from tools.metrics import iou


def named(maps: Maps, direct: Maps | None = None) -> NamedMaps:
    return NamedMaps(spread=maps, direct=maps if direct is None else direct)


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
        np.concatenate(
            list(mask_of_maps(map(named, (maps[:1], maps[1:])), [some[:1], some[1:]], "dog"))
        )
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
    (mask,) = next(mask_of_maps([named(maps)], [plain], "dog"))
    true = np.zeros((64, 64), bool)
    true[16:40, 8:32] = True
    assert mask[20:36, 12:28].all()
    assert not mask[~cv2.dilate(true.astype(np.uint8), np.ones((9, 9))).astype(bool)].any()


@pytest.mark.parametrize("level", [1.0, 2.0])
def test_maps_in_which_nothing_stands_out_are_refused(level: float) -> None:
    """Also if all of the picture does."""
    plain = np.full((1, 64, 64, 3), 99, np.uint8)
    maps = np.full((1, 8, 8), level, np.float32)
    with pytest.raises(InputError, match="'dog' is not found in the source"):
        next(mask_of_maps([named(maps)], [plain], "dog"))


def squares(*lefts: int) -> tuple[Frames, Maps]:
    """A frame with white squares that are spread alike, and their maps."""
    frame, maps = np.full((1, 64, 64, 3), 40, np.uint8), np.full((1, 16, 16), 0.3, np.float32)
    for left in lefts:
        frame[:, 24:40, left : left + 12] = 220
        maps[:, 6:10, left // 4 : left // 4 + 3] = 4.0
    return frame, maps


def direct_of(maps: Maps, shares: dict[int, float]) -> Maps:
    """Direct maps in which the square at a left edge has a share of the attention."""
    direct = maps.copy()
    for left, share in shares.items():
        direct[:, 6:10, left // 4 : left // 4 + 3] *= share
    return direct


def shown(mask: Weights, *lefts: int) -> list[bool]:
    return [bool(mask[32, left + 6] > 0) for left in lefts]


@pytest.mark.parametrize(
    ("shares", "kept"),
    [
        ({4: 1.0, 44: 0.5}, [True, False]),
        ({4: 0.5, 44: 1.0}, [False, True]),
        # Two of the same are both meant.
        ({4: 1.0, 44: 0.97}, [True, True]),
    ],
)
def test_of_several_things_the_one_that_is_named_is_kept(
    shares: dict[int, float], kept: list[bool]
) -> None:
    frame, maps = squares(4, 44)
    (mask,) = next(mask_of_maps([named(maps, direct_of(maps, shares))], [frame], "dog"))
    assert shown(mask, 4, 44) == kept


def test_a_mask_stays_on_the_same_thing_until_a_cut() -> None:
    """Frame by frame the words attend to one or the other a little more."""
    frame, maps = squares(4, 44)
    moved, moved_maps = squares(8, 44)
    first, other = {4: 1.0, 44: 0.7}, {8: 0.7, 44: 1.0}
    all_maps = [
        named(maps, direct_of(maps, first)),
        named(moved_maps, direct_of(moved_maps, other)),
        named(moved_maps, direct_of(moved_maps, other)),
    ]
    frames = [frame, moved, moved]
    masks = [mask for (mask,) in mask_of_maps(all_maps, frames, "dog", [range(2), range(2, 3)])]
    assert [shown(mask, 8, 44) for mask in masks] == [[True, False], [True, False], [False, True]]
    together = NamedMaps(
        spread=np.concatenate([one.spread for one in all_maps]),
        direct=np.concatenate([one.direct for one in all_maps]),
    )
    batch = [np.concatenate(frames)]
    (again,) = mask_of_maps([together], batch, "dog", [range(2), range(2, 3)])
    np.testing.assert_array_equal(again, np.stack(masks))
