"""Tokens find the most similar ones of the keyframes around them, in any batches."""

import pytest
import torch
from test_denoise_latents import Run
from torch import Tensor
from torch.nn import functional

from pnpvideo import match_tokens
from pnpvideo.inject_features import FeatureInjector
from pnpvideo.match_tokens import match_clip, matching_step, nearest_tokens


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_nearest_by_cosine_in_parts_of_any_size(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(3, 7, 5, generator=generator).to(dtype)
    others = torch.randn(4, 5, generator=generator).to(dtype)
    expected = [
        [
            max(range(4), key=lambda j: functional.cosine_similarity(a, others[j].double(), dim=0))
            for a in frame
        ]
        for frame in tokens.double()
    ]
    for similarities in (1, 9, 2**22):
        monkeypatch.setattr(match_tokens, "_SIMILARITIES", similarities)
        assert nearest_tokens(tokens, others).tolist() == expected


def test_a_moved_picture_is_found_where_it_went() -> None:
    tokens = torch.randn(1, 64, 16, generator=torch.Generator().manual_seed(1))
    order = torch.randperm(64, generator=torch.Generator().manual_seed(2))
    assert torch.equal(nearest_tokens(3 * tokens[:, order], tokens[0])[0], order)


def test_frames_match_both_keyframes_of_their_scene() -> None:
    run = Run(frames=7)
    scenes, keyframes = (range(5), range(5, 7)), (0, 3, 4, 5, 6)
    injector = FeatureInjector(run.unet)
    with injector.installed(sharing=True):
        results = [
            match_clip(
                run.network,
                injector,
                run.trajectory,
                run.source,
                scenes,
                keyframes,
                batch_size=size,
            )
            for size in (1, 2)
        ]
    step = matching_step(len(run.schedule.timesteps))
    tokens = [last_tokens(run, step, frame) for frame in range(7)]
    assert set(results[0]) == set(tokens[0]) == {128, 32, 8, 2}
    for size in tokens[0]:
        assert torch.equal(results[0][size], results[1][size])
        for frame in (1, 2):
            for side, keyframe in enumerate((0, 3)):
                cosines = functional.normalize(tokens[frame][size], dim=-1) @ functional.normalize(
                    tokens[keyframe][size], dim=-1
                ).transpose(-1, -2)
                assert torch.equal(results[0][size][frame, side].long(), cosines[0].argmax(-1))


def last_tokens(run: Run, step: int, frame: int) -> dict[int, Tensor]:
    """What goes into the last self-attention of each resolution, seen by hooks."""
    seen: dict[int, Tensor] = {}
    hooks = [
        module.register_forward_pre_hook(lambda m, x: seen.update({x[0].shape[1]: x[0]}))
        for name, module in run.unet.named_modules()
        if name.endswith("attn1")
    ]
    latents = run.trajectory.latents[step, [frame]]
    run.network.predict(latents, run.schedule.timesteps[step], run.source, 1)
    for hook in hooks:
        hook.remove()
    return seen
