"""Keyframe sharing in whole runs: the batch size and the sole frame change nothing."""

from typing import Any

import pytest
import torch
from test_denoise import STEPS, Run, assert_close

from pnpvideo.sampling import share_keyframes
from pnpvideo.sampling.inject import FeatureInjector
from pnpvideo.sampling.match_tokens import match_clip
from pnpvideo.storage.denoising_state import DenoisingState

MODES = ("extended", "propagate")


@pytest.mark.parametrize("mode", MODES)
def test_one_frame_shares_with_nobody(mode: str) -> None:
    run = Run(frames=1)
    for mine, alone in zip(run.sample(attention_sharing=mode), run.sample(), strict=True):
        assert torch.equal(mine, alone)


@pytest.fixture(scope="module")
def seven() -> Run:
    return Run(frames=7)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("keyframes", "sizes"), [("uniform", (1, 3, 7)), ("random", (2, 7))])
def test_the_result_does_not_depend_on_the_batch_size(
    seven: Run, mode: str, keyframes: str, sizes: tuple[int, ...]
) -> None:
    options: dict[str, Any] = {
        "attention_sharing": mode,
        "keyframes": keyframes,
        "keyframe_every": 3,
        "keyframe_window": 2,
    }
    results = [seven.sample(batch_size=size, **options)[-1] for size in sizes]
    for result in results[1:]:
        assert_close(result, results[0], 1e-11)
    assert (results[0] - seven.sample()[-1]).abs().max() > 1e-3


@pytest.mark.parametrize("mode", MODES)
def test_frames_that_are_all_alike_stay_so(mode: str) -> None:
    """With one frame repeated, extended attention sees the same tokens again and again."""
    run = Run(frames=1)
    alone = run.sample()[-1]
    frames = [run.trajectory.latents[level, :].repeat(5, 1, 1, 1) for level in range(STEPS + 1)]
    run.trajectory = run.as_trajectory(torch.stack(frames))
    shared = run.sample(attention_sharing=mode, keyframe_every=2, keyframe_window=2)[-1]
    for frame in range(5):
        assert_close(shared[0, frame], alone[0, 0])


def test_where_outputs_are_propagated_the_source_is_not_missed(
    seven: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"attention_sharing": "propagate", "keyframe_every": 3}
    without = seven.sample(**options)
    monkeypatch.setattr(FeatureInjector, "reads_attention", lambda self, batch: batch.attention)
    for mine, other in zip(without, seven.sample(**options), strict=True):
        assert_close(mine, other, 1e-11)


def test_tokens_are_matched_anew_only_for_new_keyframes(
    seven: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, ...]] = []

    def count(*args: Any, **options: Any) -> Any:
        calls.append(args[-1])
        return match_clip(*args, **options)

    monkeypatch.setattr(share_keyframes, "match_clip", count)
    for keyframes, expected in (("uniform", 1), ("sliding", 5)):
        calls.clear()
        seven.sample(attention_sharing="propagate", keyframes=keyframes, keyframe_every=3)
        assert len(calls) == expected


@pytest.mark.parametrize("mode", MODES)
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(seven: Run, mode: str) -> None:
    options: dict[str, Any] = {
        "attention_sharing": mode,
        "keyframes": "random",
        "keyframe_every": 3,
        "keyframe_window": 2,
    }
    whole = seven.sample(**options)
    generator = torch.Generator().manual_seed(3)
    state = DenoisingState(steps=3, latents=whole[2].clone(), generator=generator.get_state())
    rest = seven.sample(resume=state, **options)
    assert len(rest) == 2
    assert torch.equal(rest[-1], whole[-1])
