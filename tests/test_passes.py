"""Every frame goes through once a step, after the keyframes that it needs."""

import pytest

from pnpvideo.sampling.passes import plan_alone, plan_shared


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
@pytest.mark.parametrize("window", [1, 2, 5])
@pytest.mark.parametrize("step", [0, 1, 2])
def test_every_frame_once_with_its_own_keyframes_at_hand(
    batch_size: int, window: int, step: int
) -> None:
    scenes = (range(17), range(17, 18), range(18, 30))
    keyframes = (0, 3, 4, 9, 16, 17, 18, 25, 29)
    seen: list[int] = []
    held: set[int] = set()
    for work in plan_shared(scenes, keyframes, window=window, step=step, batch_size=batch_size):
        seen += work.frames
        (scene,) = (scene for scene in scenes if work.frames[0] in scene)
        assert set(work.frames) | held <= set(scene) or work.role == "keyframes"
        if work.role == "keyframes":
            held = set(work.kept) | set(work.frames)
            assert len(work.frames) <= window
            assert len(held) <= window + 1
            assert held <= set(scene)
            continue
        assert len(work.frames) <= batch_size
        for frame, (before, after) in zip(work.frames, work.neighbours, strict=True):
            assert {before, after} <= held
            assert before < frame < after
            assert not any(before < k < after for k in keyframes)
    assert sorted(seen) == list(range(30))


def test_windows_move_and_a_few_keyframes_are_always_together() -> None:
    def windows(count: int, step: int) -> list[tuple[int, ...]]:
        keyframes = tuple(range(count))
        passes = plan_shared((range(count),), keyframes, window=3, step=step, batch_size=1)
        return [work.frames for work in passes]

    assert windows(7, 0) == [(0, 1, 2), (3, 4, 5), (6,)]
    assert windows(7, 1) == [(0, 1), (2, 3, 4), (5, 6)]
    assert windows(7, 2) == [(0,), (1, 2, 3), (4, 5, 6)]
    assert windows(7, 3) == windows(7, 0)
    assert all(windows(3, step) == [(0, 1, 2)] for step in range(3))


def test_alone_frames_go_in_order() -> None:
    assert [work.frames for work in plan_alone(range(1, 6), 2)] == [(1, 2), (3, 4), (5,)]
