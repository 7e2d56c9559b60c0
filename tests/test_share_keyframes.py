"""Keyframe sharing in whole runs: equal to a naive reference, whatever the batch size."""

from typing import Any

import pytest
import torch
from test_denoise_latents import Run, assert_close

from pnpvideo.options import KeyframeStrategy

MODES = ("extended", "propagate")


@pytest.mark.parametrize("mode", MODES)
def test_one_frame_shares_with_nobody(mode: str) -> None:
    run = Run(frames=1)
    for mine, alone in zip(run.sample(attention_sharing=mode), run.sample(), strict=True):
        assert torch.equal(mine, alone)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("keyframes", ["uniform", "random"])
def test_the_result_does_not_depend_on_the_batch_size(mode: str, keyframes: str) -> None:
    run = Run(frames=9)
    options: dict[str, Any] = {
        "attention_sharing": mode,
        "keyframes": keyframes,
        "keyframe_every": 3,
        "keyframe_window": 2,
    }
    results = [run.sample(batch_size=size, **options)[-1] for size in (1, 2, 3, 5, 9)]
    for result in results[1:]:
        assert_close(result, results[0], 1e-10)
    assert (results[0] - run.sample()[-1]).abs().max() > 1e-3
