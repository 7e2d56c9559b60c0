"""The attention processor against loops over branches, frames, heads and tokens, in float64."""

import math
from itertools import product
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor
from torch.nn import functional

from pnpvideo.models.prompt import PromptEmbeddings
from pnpvideo.models.stable_diffusion.unet import UNet
from pnpvideo.sampling.frame_attention import FrameAttention
from pnpvideo.sampling.match_tokens import nearest_tokens
from pnpvideo.sampling.passes import InjectedBatch, Sharing, plan_shared

FRAMES, TOKENS, CHANNELS, HEADS, TARGETS = 9, 6, 8, 2, 2
KEYFRAMES = (0, 3, 4, 8)
# Windows of two in a step where they end one earlier.
WINDOWS = ((0,), (3, 4), (8,))


def layer() -> Attention:
    torch.manual_seed(2)
    attention = Attention(CHANNELS, heads=HEADS, dim_head=CHANNELS // HEADS)
    return attention.double().requires_grad_(False)


def states(seed: int = 0) -> Tensor:
    """(branches, frames, tokens, channels), the source first, as far from each other as needed."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1 + TARGETS, FRAMES, TOKENS, CHANNELS)
    return 2 * torch.randn(shape, generator=generator, dtype=torch.float64)


def naive_attention(
    attn: Attention, hidden: Tensor, branch: int, frame: int, context: tuple[int, ...], inject: bool
) -> Tensor:
    guide = 0 if inject else branch
    query = attn.to_q(hidden[guide, frame])
    keys = [row for f in context for row in attn.to_k(hidden[guide, f])]
    values = [row for f in context for row in attn.to_v(hidden[branch, f])]
    output = torch.zeros(TOKENS, CHANNELS, dtype=torch.float64)
    width = CHANNELS // HEADS
    for token, head in product(range(TOKENS), range(HEADS)):
        part = slice(head * width, (head + 1) * width)
        scores = [float(query[token, part] @ key[part]) / math.sqrt(width) for key in keys]
        total = sum(map(math.exp, scores))
        for score, value in zip(scores, values, strict=True):
            output[token, part] += math.exp(score) / total * value[part]
    return attn.to_out[0](output)


def around(frame: int) -> tuple[int, int]:
    return max(k for k in KEYFRAMES if k < frame), min(k for k in KEYFRAMES if k > frame)


def naive(attn: Attention, hidden: Tensor, mode: str, inject: bool) -> Tensor:
    result = torch.empty_like(hidden)
    for frame in range(FRAMES):
        result[0, frame] = naive_attention(attn, hidden, 0, frame, (frame,), False)
    for branch in range(1, 1 + TARGETS):
        for window in WINDOWS:
            for frame in window:
                result[branch, frame] = naive_attention(attn, hidden, branch, frame, window, inject)
        for frame in set(range(FRAMES)) - set(KEYFRAMES):
            before, after = around(frame)
            if mode == "extended":
                context = (frame, before, after)
                result[branch, frame] = naive_attention(
                    attn, hidden, branch, frame, context, inject
                )
                continue
            near = (after - frame) / (after - before)
            for token in range(TOKENS):
                row = 0.0
                for keyframe, weight in ((before, near), (after, 1 - near)):
                    nearest = naive_nearest(hidden[0, frame, token], hidden[0, keyframe])
                    row = row + weight * result[branch, keyframe, nearest]
                result[branch, frame, token] = row
    return result


def naive_nearest(token: Tensor, others: Tensor) -> int:
    cosines = [float(functional.cosine_similarity(token, other, dim=0)) for other in others]
    return cosines.index(max(cosines))


def matches(hidden: Tensor) -> Tensor:
    result = torch.zeros(FRAMES, 2, TOKENS, dtype=torch.long)
    for frame in set(range(FRAMES)) - set(KEYFRAMES):
        for side, keyframe in enumerate(around(frame)):
            result[frame, side] = nearest_tokens(hidden[0, frame][None], hidden[0, keyframe])[0]
    return result


class Layer:
    """One attention layer that is all of a network, whose batch is set by hand."""

    def __init__(self, attn: Attention, *, injects: bool = True, shares: bool = True) -> None:
        self.network = UNet(torch.nn.ModuleDict({"layer": attn}), 8)
        (layer,) = self.network.attentions("layer")
        self.attention = FrameAttention(self.network, layer, injects=injects, shares=shares)

    def output(self, tokens: Tensor, **options: Any) -> Tensor:
        """tokens: (branches, frames, tokens, channels)."""
        branches, frames = tokens.shape[:2]
        self.network.batch = InjectedBatch(
            latents=torch.zeros(branches * frames, 1, 1, 1),
            timestep=0,
            texts=PromptEmbeddings(hidden=torch.zeros(branches, 1, 1)),
            **options,
        )
        return self.attention.compute(tokens.flatten(0, 1)).view_as(tokens)


@pytest.mark.parametrize("mode", ["extended", "propagate"])
@pytest.mark.parametrize("inject", [False, True])
@pytest.mark.parametrize("source", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_frame_equals_the_naive_reference(
    mode: str, inject: bool, source: bool, batch_size: int
) -> None:
    if inject and not source:
        return
    attn, hidden = layer(), states()
    ours = Layer(attn, injects=inject)
    result = torch.full_like(hidden, math.nan)
    first = 0 if source else 1
    for frame_pass in plan_shared(
        (range(FRAMES),), KEYFRAMES, window=2, step=1, batch_size=batch_size
    ):
        part = list(frame_pass.frames)
        shared = {TOKENS: matches(hidden)[part]}
        result[first:, part] = ours.output(
            hidden[first:, part],
            with_source=source,
            attention=inject,
            sharing=Sharing(mode=mode, frame_pass=frame_pass, matches=shared),
        )
        assert len(ours.attention.kept) <= 3
    expected = naive(attn, hidden, mode, inject)
    torch.testing.assert_close(result[first:], expected[first:], rtol=1e-8, atol=1e-12)


def test_a_keyframe_by_itself_attends_as_any_frame() -> None:
    attn, hidden = layer(), states()[:, :1]
    (frame_pass,) = plan_shared((range(1),), (0,), window=4, step=0, batch_size=1)
    plain = Layer(attn).output(hidden)
    for mode in ("extended", "propagate"):
        sharing = Sharing(mode=mode, frame_pass=frame_pass)
        output = Layer(attn).output(hidden, with_source=True, sharing=sharing)
        torch.testing.assert_close(output, plain, rtol=1e-13, atol=1e-13)


def test_a_layer_that_only_injects_does_not_share() -> None:
    attn, hidden = layer(), states()[:, :3]
    (frame_pass,) = plan_shared((range(3),), (0, 1, 2), window=4, step=0, batch_size=1)
    sharing = Sharing(mode="extended", frame_pass=frame_pass)
    output = Layer(attn, shares=False).output(
        hidden, with_source=True, attention=True, sharing=sharing
    )
    alone = Layer(attn).output(hidden, with_source=True, attention=True)
    assert torch.equal(output, alone)
