"""Tokens find the most similar ones of the keyframes around them, in any batches."""

import pytest
import reference_pnp as reference
import torch
from test_denoise import Run
from torch import Tensor
from torch.nn import functional

from pnpvideo.models.network import Batch
from pnpvideo.models.stable_diffusion.unet import UNet
from pnpvideo.sampling import match_tokens
from pnpvideo.sampling.match_tokens import (
    describe_tokens,
    match_clip,
    matching_step,
    nearest_tokens,
)


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
    results = [
        match_clip(run.network, run.trajectory, run.source, scenes, keyframes, batch_size=size)
        for size in (1, 2)
    ]
    step = matching_step(len(run.schedule.timesteps))
    tokens = [naive_description(run, step, frame) for frame in range(7)]
    assert set(results[0]) == set(tokens[0]) == {128, 32, 8, 2}
    for size in tokens[0]:
        assert torch.equal(results[0][size], results[1][size])
        for frame in (1, 2):
            for side, keyframe in enumerate((0, 3)):
                nearest = nearest_tokens(tokens[frame][size], tokens[keyframe][size][0])
                assert torch.equal(results[0][size][frame, side].long(), nearest[0])


def naive_description(run: Run, step: int, frame: int) -> dict[int, Tensor]:
    """Tokens of the first layer of each level, with those of coarser levels, seen by hooks."""
    seen: dict[str, Tensor] = {}
    names = ["mid_block.attentions.0", *(f"up_blocks.{b}.attentions.0" for b in (1, 2, 3))]
    hooks = [
        run.unet.get_submodule(f"{name}.transformer_blocks.0.attn1").register_forward_pre_hook(
            lambda m, x, name=name: seen.update({name: x[0]})
        )
        for name in names
    ]
    latents = run.trajectory.latents[step, [frame]]
    timestep = run.schedule.timesteps[step]
    run.network.predict(Batch(latents=latents, timestep=timestep, texts=run.source))
    for hook in hooks:
        hook.remove()
    result = {}
    sides = [(1, 2), (2, 4), (4, 8), (8, 16)]
    for place, (height, width) in enumerate(sides):
        parts = []
        for name, (h, w) in zip(names[: place + 1], sides, strict=False):
            tokens = seen[name][0]
            grid = (tokens / tokens.norm(dim=1, keepdim=True)).T.reshape(1, -1, h, w)
            grid = functional.interpolate(grid, (height, width), mode="bilinear")
            parts.append(grid[0].flatten(1).T)
        result[height * width] = torch.cat(parts, dim=1)[None]
    return result


def test_levels_of_odd_sides_have_their_shapes() -> None:
    tokens = {n: torch.randn(2, n, 3) for n in (9 * 13, 5 * 7, 3 * 4, 2 * 2)}
    network = UNet(reference.tiny_unet(), 8)
    described = describe_tokens(tokens, lambda count: network.grid(count, 9, 13))
    assert {n: x.shape for n, x in described.items()} == {
        117: (2, 117, 12), 35: (2, 35, 9), 12: (2, 12, 6), 4: (2, 4, 3)
    }  # fmt: skip
    torch.testing.assert_close(described[4], functional.normalize(tokens[4], dim=-1))
